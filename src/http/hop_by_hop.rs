//! Fields that concern one connection only, and are therefore not forwarded (RFC 9110 7.6.1).

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{self, CONNECTION, TE},
};

/// Never forwarded, named in `Connection` or not. Those with `_` are what CGI and its heirs take for the fields that frame a
/// message: they write `_` for each `-`.
const ALWAYS: [HeaderName; 13] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHENTICATE,
    HeaderName::from_static("http2-settings"),
    HeaderName::from_static("transfer_encoding"),
    HeaderName::from_static("content_length"),
    // Who the caller is, from one node to the next: of anybody else it is a lie, and for nobody else.
    HeaderName::from_static("towpath-caller"),
    // What CGI and its heirs take for these fields of nodes.
    HeaderName::from_static("towpath_caller"),
    HeaderName::from_static("towpath_service"),
    HeaderName::from_static("towpath_endpoint"),
    // A node's word to another about its own answer, read before this: no endpoint's.
    HeaderName::from_static("towpath-peer-error"),
];

/// Fields that a sender may not have removed by naming them in `Connection`: towpath or the next hop relies on them
/// ("must not be sent ... for a field that is intended for all recipients", RFC 9110 7.6.1; the trick is known as
/// hop-by-hop header abuse).
const PROTECTED: [HeaderName; 27] = [
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
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("x-frame-options"),
    HeaderName::from_static("x-real-ip"),
    HeaderName::from_static("x-request-id"),
];

/// As [`PROTECTED`], all that begin like this.
const PROTECTED_FAMILIES: [&str; 6] =
    ["access-control-", "content-", "grpc-", "if-", "towpath-", "x-forwarded-"];

/// Removes the hop-by-hop fields of a request or response. `TE: trailers` stays: it says what the far end can take,
/// and gRPC servers insist on it.
pub fn remove(headers: &mut HeaderMap) {
    // Most messages have none. One pass over the few names they have is cheaper than a look-up for each of ours.
    if headers.keys().any(is_concerned) {
        remove_present(headers);
    }
}

fn is_concerned(name: &HeaderName) -> bool {
    let named = |text: &str| name.as_str() == text;
    let ends = |text: &str| name.as_str().starts_with("towpath") && name.as_str().ends_with(text);
    match name.as_str().len() {
        2 => named("te"),
        7 => named("upgrade"),
        10 => named("connection") || named("keep-alive"),
        14 => named("http2-settings") || named("content_length") || ends("caller"),
        15 => ends("service"),
        16 => named("proxy-connection") || ends("endpoint"),
        17 => named("transfer-encoding") || named("transfer_encoding"),
        18 => named("proxy-authenticate") || named("towpath-peer-error"),
        _ => false,
    }
}

fn remove_present(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        remove_named_in_connection(headers);
    }
    for name in &ALWAYS {
        headers.remove(name);
    }
    if let Some(te) = headers.get(TE) {
        let trailers = accepts_trailers(te);
        headers.remove(TE);
        if trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
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
    fn the_quick_look_misses_none_of_them() {
        assert!(ALWAYS.iter().chain([&CONNECTION, &TE]).all(is_concerned));
        assert!(!is_concerned(&header::ACCEPT));
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
