//! `grpc.health.v1.Health/Check`: <https://github.com/grpc/grpc/blob/master/doc/health-checking.md>.
//!
//! Its messages have one field each, so that they are read and written here by hand.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use h2::RecvStream;
use http::{HeaderMap, Request, StatusCode, header};

use super::probe::{Seen, USER_AGENT, beside, broken};
use crate::{http::grpc, net::Stream};

/// An answer has two bytes. More than this is no answer to what was asked.
const MAX_ANSWER: usize = 16 << 10;
/// The length-prefixed message of gRPC: a flag and four bytes of length.
const PREFIX: usize = 5;

/// Asks `server` (scheme and authority) for the health of `service`; empty: of the server as a whole.
pub(super) async fn check(
    stream: Stream,
    server: &str,
    service: &str,
    limit: Duration,
) -> Result<Seen, String> {
    let request = Request::post(format!("{server}/grpc.health.v1.Health/Check"))
        .version(http::Version::HTTP_2)
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .header(header::USER_AGENT, USER_AGENT)
        .header("grpc-timeout", grpc::format_timeout(limit))
        .body(());
    let request = request.map_err(|error| error.to_string())?;
    let (sender, connection) = h2::client::handshake(stream).await.map_err(broken)?;
    let exchange = async {
        let mut sender = sender.ready().await.map_err(broken)?;
        let (response, mut body) = sender.send_request(request, false).map_err(broken)?;
        body.send_data(question(service), true).map_err(broken)?;
        let (head, body) = response.await.map_err(broken)?.into_parts();
        if head.status != StatusCode::OK {
            return Ok(Seen::fail(format!("HTTP {}", head.status.as_u16())));
        }
        if head.headers.contains_key("grpc-status") {
            return Ok(verdict(&head.headers, &[]));
        }
        let (answer, trailers) = read(body).await?;
        Ok(verdict(&trailers, &answer))
    };
    beside(exchange, connection).await
}

async fn read(mut body: RecvStream) -> Result<(BytesMut, HeaderMap), String> {
    let mut answer = BytesMut::new();
    while let Some(data) = body.data().await {
        answer.extend_from_slice(&data.map_err(broken)?);
        if answer.len() > MAX_ANSWER {
            return Err("the answer is too long to be one".to_owned());
        }
    }
    Ok((answer, body.trailers().await.map_err(broken)?.unwrap_or_default()))
}

/// `HealthCheckRequest { service: 1 }` with its prefix.
fn question(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.put_u8(length as u8 | 0x80);
            length >>= 7;
        }
        message.put_u8(length as u8);
        message.put_slice(service.as_bytes());
    }
    let mut framed = BytesMut::with_capacity(PREFIX + message.len());
    framed.put_u8(0);
    framed.put_u32(message.len() as u32);
    framed.put_slice(&message);
    framed.freeze()
}

fn verdict(trailers: &HeaderMap, answer: &[u8]) -> Seen {
    let status = trailers.get("grpc-status").and_then(|status| status.to_str().ok()?.parse::<u8>().ok());
    match status {
        Some(0) => {}
        Some(12) => {
            return Seen::fail("gRPC status 12 (unimplemented): it does not serve grpc.health.v1.Health");
        }
        Some(5) => return Seen::fail("gRPC status 5 (not found): it does not know that service"),
        Some(status) => {
            let name = grpc::name(status).unwrap_or("no such code");
            return Seen::fail(format!("gRPC status {status} ({name})"));
        }
        None => return Seen::fail("no gRPC status"),
    }
    match serving_status(answer) {
        Some(1) => Seen::pass("SERVING"),
        Some(0) => Seen::fail("UNKNOWN"),
        Some(2) => Seen::fail("NOT_SERVING"),
        Some(3) => Seen::fail("SERVICE_UNKNOWN"),
        Some(other) => Seen::fail(format!("serving status {other}")),
        None => Seen::fail("not an answer of grpc.health.v1.Health"),
    }
}

/// `HealthCheckResponse { status: 1 }`; 0 when it is left out.
fn serving_status(answer: &[u8]) -> Option<u64> {
    let (prefix, message) = answer.split_at_checked(PREFIX)?;
    let length = u32::from_be_bytes(prefix[1..].try_into().ok()?);
    let mut rest = message.get(..length as usize).filter(|_| prefix[0] == 0)?;
    let mut status = 0;
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        match tag & 7 {
            0 => {
                let value = varint(&mut rest)?;
                status = if tag >> 3 == 1 { value } else { status };
            }
            1 => rest = rest.get(8..)?,
            2 => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                rest = rest.get(length..)?;
            }
            5 => rest = rest.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, behind) = rest.split_first()?;
        *rest = behind;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(message: &[u8]) -> Vec<u8> {
        [&[0, 0, 0, 0, message.len() as u8], message].concat()
    }

    #[test]
    fn the_question_names_the_service_or_nothing() {
        assert_eq!(&question("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&question("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let long = "x".repeat(300);
        assert_eq!(&question(&long)[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 2], "a length of two bytes");
    }

    #[test]
    fn the_answer_is_read_whatever_stands_beside_the_status() {
        let beside = [0x12, 2, 9, 9, 0x1d, 1, 2, 3, 4, 0x21, 1, 2, 3, 4, 5, 6, 7, 8, 0x08, 1, 0x10, 7];
        for (message, status) in [
            (&[0x08, 1][..], Some(1)),
            (&[], Some(0)),
            (&[0x08, 0x82, 1], Some(130)),
            (&beside, Some(1)),
            (&[0x08], None),
            (&[0x0f, 1], None),
            (&[0x12, 9, 1], None),
        ] {
            assert_eq!(serving_status(&answer(message)), status, "{message:?}");
        }
        assert_eq!(serving_status(&[0, 0, 0, 0, 3, 8, 1]), None, "cut short");
        assert_eq!(serving_status(&[1, 0, 0, 0, 2, 8, 1]), None, "compressed");
    }

    #[test]
    fn only_serving_passes() {
        let with = |status: &'static str| {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", status.parse().unwrap());
            trailers
        };
        assert_eq!(verdict(&with("0"), &answer(&[8, 1])), Seen::pass("SERVING"));
        assert_eq!(verdict(&with("0"), &answer(&[8, 2])), Seen::fail("NOT_SERVING"));
        assert_eq!(verdict(&with("0"), &[]), Seen::fail("not an answer of grpc.health.v1.Health"));
        assert_eq!(verdict(&with("13"), &answer(&[8, 1])), Seen::fail("gRPC status 13 (internal)"));
        assert_eq!(verdict(&HeaderMap::new(), &answer(&[8, 1])), Seen::fail("no gRPC status"));
        assert!(verdict(&with("12"), &[]).text.contains("grpc.health.v1.Health"));
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(answer in prop::collection::vec(any::<u8>(), 0..64)) {
            serving_status(&answer);
        }
    }
}
