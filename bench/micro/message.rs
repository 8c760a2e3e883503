//! What is done to one HTTP/1.1 message: its head is found and read, its fields are rewritten, a head is written.

use std::hint::black_box;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header::VIA};
use towpath::{
    http::{
        hop_by_hop,
        http1::{
            HeadLimits, encode,
            head::{find_end, parse},
        },
    },
    telemetry::{self, TraceContext},
};

use super::Case;

/// What a service's HTTP client sends: nine fields, one of them about the connection.
const REQUEST: &[u8] = b"GET /api/v2/items/17?expand=price HTTP/1.1\r\n\
    host: reviews.prod.internal\r\n\
    user-agent: python-requests/2.32.3\r\n\
    accept: application/json\r\n\
    accept-encoding: gzip, deflate\r\n\
    connection: keep-alive\r\n\
    authorization: Bearer 0123456789abcdef0123456789abcdef\r\n\
    x-tenant: gold\r\n\
    cookie: session=0123456789abcdef\r\n\
    cache-control: no-cache\r\n\r\n";
const LIMITS: HeadLimits = HeadLimits { bytes: 64 * 1024, fields: 100, target: 16 * 1024 };

/// All cases.
pub fn cases() -> Vec<Case> {
    let request = Bytes::from_static(REQUEST);
    vec![
        Case::new("head/read", move || {
            let request = request.clone();
            move || {
                let mut scanned = 0;
                black_box(find_end(black_box(&request), &mut scanned, LIMITS).is_ok());
                black_box(parse(black_box(&request), LIMITS).is_ok());
            }
        }),
        Case::consuming("headers/rewrite", request_fields, rewrite),
        Case::new("head/write", || {
            let headers = request_fields();
            let mut buffer = Vec::with_capacity(1024);
            move || {
                buffer.clear();
                encode::status_line(&mut buffer, black_box(StatusCode::OK));
                encode::fields(&mut buffer, black_box(&headers));
                encode::end(&mut buffer);
                black_box(&buffer);
            }
        }),
    ]
}

fn request_fields() -> HeaderMap {
    let head = parse(&Bytes::from_static(REQUEST), LIMITS).expect("the request is valid");
    head.parts.headers
}

/// What `proxy` does to a request's fields on the way to an endpoint, and at last their end.
fn rewrite(mut headers: HeaderMap) {
    hop_by_hop::remove(&mut headers);
    headers.append(VIA, HeaderValue::from_static("1.1 towpath-node-7"));
    black_box(TraceContext::pass(&mut headers, [1, 2, 3]));
    black_box(telemetry::ensure_request_id(&mut headers, [4, 5]));
    black_box(&headers);
}
