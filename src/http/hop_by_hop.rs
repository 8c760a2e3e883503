//! Fields that concern one connection only, and are therefore not forwarded (RFC 9110 7.6.1).

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{self, CONNECTION, TE},
};

/// Fields that a sender may not have removed by naming them in `Connection`: towpath or the next hop relies on them
/// ("must not be sent ... for a field that is intended for all recipients", RFC 9110 7.6.1; the trick is known as
/// hop-by-hop header abuse).
const PROTECTED: [HeaderName; 29] = [
    header::AGE,
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::COOKIE,
    header::DATE,
    header::ETAG,
    header::EXPECT,
    header::EXPIRES,
    header::FORWARDED,
    header::HOST,
    header::LAST_MODIFIED,
    header::LOCATION,
    header::MAX_FORWARDS,
    header::ORIGIN,
    header::RANGE,
    header::RETRY_AFTER,
    header::SET_COOKIE,
    header::STRICT_TRANSPORT_SECURITY,
    header::TRAILER,
    header::VARY,
    header::VIA,
    header::WWW_AUTHENTICATE,
    HeaderName::from_static("b3"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("uber-trace-id"),
    HeaderName::from_static("x-frame-options"),
    HeaderName::from_static("x-real-ip"),
    HeaderName::from_static("x-request-id"),
];

/// As [`PROTECTED`], all that begin like this.
const PROTECTED_FAMILIES: [&str; 7] =
    ["access-control-", "content-", "grpc-", "if-", "towpath-", "x-b3-", "x-forwarded-"];

/// Removes the hop-by-hop fields of a request or response. `TE: trailers` stays: it says what the far end can take,
/// and gRPC servers insist on it.
pub fn remove(headers: &mut HeaderMap) {
    // Most messages have one at most. One pass over the few names they have is cheaper than a look-up for each of ours.
    while let Some(name) = headers.keys().find(|name| is_hop_by_hop(name)) {
        if name == CONNECTION {
            remove_named_in_connection(headers);
        } else {
            let name = name.clone();
            headers.remove(name);
        }
    }
    if let Some(te) = headers.get(TE) {
        let trailers = accepts_trailers(te);
        headers.remove(TE);
        if trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
    }
}

/// Never forwarded, named in `Connection` or not. Those with `_` are what CGI and its heirs take for the fields that frame a
/// message or come from nodes: they write `_` for each `-`.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    let name = name.as_str();
    match name.len() {
        7 => name == "upgrade",
        10 => name == "connection" || name == "keep-alive",
        // Who the caller is, from one node to the next: of anybody else it is a lie, and for nobody else.
        14 => matches!(name, "http2-settings" | "content_length" | "towpath-caller" | "towpath_caller"),
        15 => name == "towpath_service",
        16 => name == "proxy-connection" || name == "towpath_endpoint",
        17 => name == "transfer-encoding" || name == "transfer_encoding",
        // A node's word to another about its own answer, read before this: no endpoint's.
        18 => name == "proxy-authenticate" || name == "towpath-peer-error",
        _ => false,
    }
}

fn remove_named_in_connection(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|token| HeaderName::from_bytes(token.trim_ascii()).ok())
        .filter(|name| name != TE && !is_protected(name))
        .collect();
    headers.remove(CONNECTION);
    for name in named {
        headers.remove(name);
    }
}

fn is_protected(name: &HeaderName) -> bool {
    PROTECTED.contains(name) || PROTECTED_FAMILIES.iter().any(|family| name.as_str().starts_with(family))
}

fn accepts_trailers(te: &HeaderValue) -> bool {
    te.to_str().is_ok_and(|te| te.split(',').any(|part| part.trim().eq_ignore_ascii_case("trailers")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    fn left(fields: &[(&'static str, &'static str)]) -> Vec<String> {
        let mut headers = headers(fields);
        remove(&mut headers);
        let mut names: Vec<_> = headers.keys().map(ToString::to_string).collect();
        names.sort();
        names
    }

    #[test]
    fn connection_and_what_it_names_is_removed() {
        assert_eq!(
            left(&[("connection", "close, X-Secret"), ("x-secret", "1"), ("accept", "*/*")]),
            ["accept"]
        );
        assert!(left(&[("keep-alive", "5"), ("proxy-connection", "x"), ("upgrade", "h2c")]).is_empty());
    }

    #[test]
    fn what_cgi_takes_for_a_field_of_framing_or_of_nodes_is_removed() {
        let names = [
            "transfer-encoding",
            "transfer_encoding",
            "content_length",
            "http2-settings",
            "proxy-authenticate",
            "towpath-caller",
            "towpath_caller",
            "towpath_service",
            "towpath_endpoint",
            "towpath-peer-error",
        ];
        for name in names {
            assert_eq!(left(&[(name, "1"), ("accept", "*/*")]), ["accept"], "{name}");
        }
    }

    #[test]
    fn what_the_next_hop_relies_on_cannot_be_named_away() {
        let fields =
            [("connection", "host, authorization, content-length"), ("host", "a"), ("authorization", "b")];
        assert_eq!(left(&fields), ["authorization", "host"]);
        let fields = [("connection", "towpath-deadline, cookie"), ("towpath-deadline", "1"), ("cookie", "b")];
        assert_eq!(left(&fields), ["cookie", "towpath-deadline"]);
    }

    #[test]
    fn only_trailers_is_left_of_te() {
        let mut headers = headers(&[("te", "gzip, Trailers"), ("connection", "te")]);
        remove(&mut headers);
        assert_eq!(headers.get(TE).map(HeaderValue::as_bytes), Some(&b"trailers"[..]));
        assert!(left(&[("te", "gzip")]).is_empty());
    }
}
