//! One request on an HTTP/1.1 connection.

use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode,
    header::{CONTENT_LENGTH, TRANSFER_ENCODING},
};
use hyper::{client::conn::http1::SendRequest, ext::on_informational};
use tokio::time::Instant;

use super::error::{CallerFault, SendError, Sent, chain, describe};
use crate::{
    http::{Body, BodyError, Interim},
    net::SharedStream,
};

/// A connection that carries at most one request at a time.
pub(super) struct Http1Connection {
    pub(super) sender: SendRequest<Body>,
    /// To look at the socket itself.
    pub(super) stream: SharedStream,
    pub(super) opened: Instant,
}

impl Http1Connection {
    /// Sends `request`; the response's head has arrived when this returns.
    pub(super) async fn send(
        &mut self,
        mut request: Request<Body>,
        interim: &Interim,
        reused: bool,
    ) -> Result<Response<Body>, SendError> {
        let interim = interim.clone();
        on_informational(&mut request, move |answer| interim.push(answer.status(), answer.headers().clone()));
        match self.sender.try_send_request(request).await {
            // No upgrade is asked for, so what would follow is nothing that the caller could read.
            Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                Err(SendError::endpoint(Sent::Some, "it switched protocols without being asked to"))
            }
            Ok(mut response) => match mend_framing(response.headers_mut()) {
                Ok(()) => Ok(response.map(Body::Http1)),
                Err(what) => Err(SendError::endpoint(Sent::Some, what)),
            },
            Err(mut error) => {
                let unsent = error.take_message().is_some();
                Err(classify(&error.into_error(), unsent, reused))
            }
        }
    }
}

/// Leaves at most one plain `Content-Length`, as hyper understood the message (RFC 9112 6.3): what is passed on must not be
/// understood in another way.
fn mend_framing(headers: &mut HeaderMap) -> Result<(), &'static str> {
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
        return Ok(());
    }
    let mut lengths =
        headers.get_all(CONTENT_LENGTH).iter().flat_map(|value| value.as_bytes().split(|b| *b == b','));
    let Some(first) = lengths.next().map(<[u8]>::trim_ascii) else { return Ok(()) };
    if first.is_empty() || !first.iter().all(u8::is_ascii_digit) {
        return Err("its Content-Length is not a number");
    }
    if !lengths.all(|other| other.trim_ascii() == first) {
        return Err("its Content-Lengths contradict each other");
    }
    let length = HeaderValue::from_bytes(first).map_err(|_| "its Content-Length is not a number")?;
    headers.insert(CONTENT_LENGTH, length);
    Ok(())
}

fn classify(error: &hyper::Error, unsent: bool, reused: bool) -> SendError {
    if let Some(body) = chain(error).find_map(|cause| cause.downcast_ref::<BodyError>()) {
        return SendError::caller(CallerFault::of(body));
    }
    let sent = match (unsent, reused) {
        (true, _) => Sent::Nothing,
        (false, true) if ended_without_response(error) => Sent::Maybe,
        _ => Sent::Some,
    };
    SendError::endpoint(sent, describe(error))
}

/// The connection ended before a byte of response: hyper calls the end of the stream an incomplete message, and
/// passes a reset on as the I/O error that it is.
fn ended_without_response(error: &hyper::Error) -> bool {
    error.is_incomplete_message()
        || error.is_canceled()
        || chain(error).filter_map(|cause| cause.downcast_ref::<std::io::Error>()).any(|io| {
            matches!(io.kind(), std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mended(fields: &[(&'static str, &'static str)]) -> Result<Vec<String>, &'static str> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        mend_framing(&mut headers)?;
        Ok(headers.get_all(CONTENT_LENGTH).iter().map(|length| length.to_str().unwrap().to_owned()).collect())
    }

    #[test]
    fn at_most_one_plain_length_is_passed_on() {
        assert_eq!(mended(&[]), Ok(vec![]));
        assert_eq!(mended(&[("content-length", "5")]), Ok(vec!["5".to_owned()]));
        assert_eq!(mended(&[("content-length", "5, 5"), ("content-length", "5")]), Ok(vec!["5".to_owned()]));
        assert_eq!(mended(&[("content-length", "abc"), ("transfer-encoding", "chunked")]), Ok(vec![]));
        for bad in ["abc", "+5", "", "5, 6"] {
            assert!(mended(&[("content-length", bad)]).is_err(), "{bad}");
        }
    }
}
