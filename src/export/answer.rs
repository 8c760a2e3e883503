//! What a collector's answer means for the spans that were sent (<https://opentelemetry.io/docs/specs/otlp/#otlphttp-response>).

use std::time::{Duration, SystemTime};

use base64::{Engine, alphabet, engine::general_purpose::GeneralPurpose};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header::RETRY_AFTER};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;

/// What has become of spans that were sent.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// The collector has them, but for some.
    Taken {
        /// How many it does not want.
        rejected: u64,
        /// What it says to that, or warns of.
        message: String,
    },
    /// It may take them later.
    Later {
        /// Why not now.
        error: String,
        /// Not before.
        after: Option<Duration>,
    },
    /// It never will.
    Never {
        /// Why not.
        error: String,
    },
}

/// Of an answer over HTTP.
pub(super) fn of_http(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Verdict {
    match status.as_u16() {
        200..=299 => taken(body),
        429 | 502 | 503 | 504 => {
            Verdict::Later { error: format!("it answers {status}"), after: retry_after(headers) }
        }
        404 | 405 => Verdict::Never { error: format!("it answers {status}: the path is usually /v1/traces") },
        _ => Verdict::Never { error: format!("it answers {status}") },
    }
}

/// Of an answer over gRPC. Its status stands in the trailers, or in the headers where there is nothing else.
pub(super) fn of_grpc(
    status: StatusCode,
    headers: &HeaderMap,
    trailers: &HeaderMap,
    body: &Bytes,
) -> Verdict {
    let fields = if trailers.contains_key("grpc-status") { trailers } else { headers };
    let code = fields.get("grpc-status").and_then(|code| code.to_str().ok()?.parse::<u32>().ok());
    let Some(code) = code else {
        let error = format!(
            "it answers {status} without a gRPC status: it may want OTLP over HTTP (a path such as /v1/traces, port 4318)"
        );
        let later = matches!(status.as_u16(), 429 | 502 | 503 | 504);
        return if later {
            Verdict::Later { error, after: retry_after(headers) }
        } else {
            Verdict::Never { error }
        };
    };
    if code == 0 {
        // One message, not compressed: a flag and four bytes of length.
        return taken(body.get(5..).unwrap_or_default());
    }
    let message = fields.get("grpc-message").map_or(&b""[..], |message| message.as_bytes());
    let message = percent_encoding::percent_decode(message).decode_utf8_lossy();
    let (error, after) = (format!("it answers with gRPC status {code} {message}"), retry_info(fields));
    match code {
        // CANCELLED, DEADLINE_EXCEEDED, ABORTED, OUT_OF_RANGE, UNAVAILABLE, DATA_LOSS
        1 | 4 | 10 | 11 | 14 | 15 => Verdict::Later { error, after },
        // RESOURCE_EXHAUSTED passes only where the collector says when.
        8 if after.is_some() => Verdict::Later { error, after },
        12 => Verdict::Never { error: format!("{error}: no OTLP receiver for traces is there") },
        _ => Verdict::Never { error },
    }
}

fn taken(body: &[u8]) -> Verdict {
    // What cannot be read says no less than the status did.
    let partial = ExportTraceServiceResponse::decode(body).ok().and_then(|answer| answer.partial_success);
    let partial = partial.unwrap_or_default();
    let rejected = u64::try_from(partial.rejected_spans).unwrap_or_default();
    Verdict::Taken { rejected, message: partial.error_message }
}

/// Seconds, or a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(SystemTime::now()).ok(),
    }
}

/// `google.rpc.Status`, of which only the details matter here.
#[derive(Clone, PartialEq, Message)]
struct Details {
    #[prost(message, repeated, tag = "3")]
    details: Vec<Detail>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Detail {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Delay>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// With padding or without: gRPC allows both.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    base64::engine::GeneralPurposeConfig::new()
        .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
);

fn retry_info(fields: &HeaderMap) -> Option<Duration> {
    let text = fields.get("grpc-status-details-bin")?.as_bytes();
    let details = Details::decode(&*BASE64.decode(text).ok()?).ok()?.details;
    let info = details.iter().find(|detail| detail.type_url.ends_with("/google.rpc.RetryInfo"))?;
    let delay = RetryInfo::decode(&*info.value).ok()?.retry_delay.unwrap_or_default();
    Some(Duration::new(u64::try_from(delay.seconds).ok()?, u32::try_from(delay.nanos).ok()?))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess;

    use super::*;

    fn fields(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let value = |text: &str| HeaderValue::from_str(text).unwrap();
        pairs.iter().map(|(name, text)| (http::HeaderName::from_static(name), value(text))).collect()
    }

    fn http(status: u16, pairs: &[(&'static str, &str)]) -> Verdict {
        of_http(StatusCode::from_u16(status).unwrap(), &fields(pairs), b"")
    }

    fn details(delay: Delay) -> String {
        let info = RetryInfo { retry_delay: Some(delay) }.encode_to_vec();
        let type_url = "type.googleapis.com/google.rpc.RetryInfo".to_owned();
        let details = Details { details: vec![Detail { type_url, value: info }] };
        BASE64.encode(details.encode_to_vec())
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        for (status, later) in
            [(400, false), (401, false), (404, false), (500, false), (429, true), (503, true)]
        {
            assert_eq!(matches!(http(status, &[]), Verdict::Later { .. }), later, "{status}");
        }
        for (code, later) in
            [("1", true), ("3", false), ("8", false), ("12", false), ("14", true), ("16", false)]
        {
            let verdict =
                of_grpc(StatusCode::OK, &fields(&[("grpc-status", code)]), &HeaderMap::new(), &Bytes::new());
            assert_eq!(matches!(verdict, Verdict::Later { .. }), later, "{code}");
        }
    }

    #[test]
    fn a_collector_says_when_to_come_back() {
        let after = |verdict| match verdict {
            Verdict::Later { after, .. } => after,
            other => panic!("{other:?}"),
        };
        assert_eq!(after(http(503, &[("retry-after", "7")])), Some(Duration::from_secs(7)));
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(100));
        let waits = after(http(429, &[("retry-after", &date)])).unwrap();
        assert!((95..=100).contains(&waits.as_secs()), "{waits:?}");
        assert_eq!(after(http(429, &[("retry-after", "soon")])), None);
        let told = details(Delay { seconds: 2, nanos: 500_000_000 });
        for text in [told.as_str(), told.trim_end_matches('=')] {
            let trailers = fields(&[("grpc-status", "8"), ("grpc-status-details-bin", text)]);
            let verdict = of_grpc(StatusCode::OK, &HeaderMap::new(), &trailers, &Bytes::new());
            assert_eq!(after(verdict), Some(Duration::from_millis(2500)));
        }
    }

    #[test]
    fn a_collector_may_take_a_part() {
        let partial = ExportTracePartialSuccess { rejected_spans: 3, error_message: "too long".into() };
        let body = ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec();
        let expected = Verdict::Taken { rejected: 3, message: "too long".into() };
        assert_eq!(of_http(StatusCode::OK, &HeaderMap::new(), &body), expected);
        let framed = Bytes::from([&[0, 0, 0, 0, body.len() as u8], &*body].concat());
        let trailers = fields(&[("grpc-status", "0")]);
        assert_eq!(of_grpc(StatusCode::OK, &HeaderMap::new(), &trailers, &framed), expected);
        let whole = Verdict::Taken { rejected: 0, message: String::new() };
        assert_eq!(of_http(StatusCode::OK, &HeaderMap::new(), b"\xff not protobuf"), whole);
    }

    #[test]
    fn whoever_speaks_no_grpc_is_told_apart() {
        let verdict = of_grpc(StatusCode::NOT_FOUND, &HeaderMap::new(), &HeaderMap::new(), &Bytes::new());
        assert!(matches!(verdict, Verdict::Never { error } if error.contains("/v1/traces")));
    }
}
