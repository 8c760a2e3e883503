//! One request on an HTTP/1.1 connection.

use http::{Request, Response, StatusCode};
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
            Ok(response) => Ok(response.map(Body::Http1)),
            Err(mut error) => {
                let unsent = error.take_message().is_some();
                Err(classify(&error.into_error(), unsent, reused))
            }
        }
    }
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
