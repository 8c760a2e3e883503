//! Names in certificates, and where nodes are, as written.

use std::net::IpAddr;

use super::{checked::NodeOf, hosts};

/// `spiffe://DOMAIN/PATH`, the path with `*` (SPIFFE-ID, section 2).
pub(super) fn spiffe(text: &str) -> Result<(), String> {
    let Some(rest) = text.strip_prefix("spiffe://") else {
        return Err(format!("\"{text}\" is not a SPIFFE id"));
    };
    let (domain, path) = rest.split_once('/').unwrap_or((rest, ""));
    let in_domain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.');
    if domain.is_empty() || !domain.bytes().all(in_domain) {
        return Err(format!(
            "\"{domain}\" is not a trust domain: lower case letters, digits, \"-\", \"_\", \".\""
        ));
    }
    let in_path = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/' | b'*');
    match path.bytes().find(|byte| !in_path(*byte)) {
        Some(wrong) => Err(format!("'{}' cannot stand in a SPIFFE id", char::from(wrong))),
        None => Ok(()),
    }
}

/// A host name in lower case, or an IP address.
pub(super) fn server_name(text: &str) -> Result<String, String> {
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(address.to_string()),
        Err(_) => hosts::name(text),
    }
}

/// Where the node of an endpoint is.
pub(super) fn node_of(text: &str) -> Result<NodeOf, String> {
    if text == "same-address" {
        return Ok(NodeOf::SameAddress);
    }
    if let Some(length) = text.strip_prefix("subnet/") {
        let length = length.parse().ok().filter(|length| (1..=128).contains(length));
        return length.map(NodeOf::Subnet).ok_or_else(|| format!("\"{text}\" has no length from 1 to 128"));
    }
    let lower = text.to_ascii_lowercase();
    let (prefix, suffix) =
        lower.split_once("{address}").ok_or_else(|| format!("\"{text}\" is none of the three"))?;
    let suffix = suffix.strip_suffix('.').unwrap_or(suffix);
    hosts::name(&format!("{prefix}1{suffix}"))?;
    Ok(NodeOf::Name { prefix: prefix.to_owned(), suffix: suffix.to_owned() })
}

/// A path, or an https URL.
pub(super) fn file_or_url(text: &str) -> Result<(), String> {
    let Some((scheme, rest)) = text.split_once("://") else { return Ok(()) };
    if !scheme.eq_ignore_ascii_case("https") {
        return Err(format!("keys that come by {scheme} can be anybody's"));
    }
    match text.parse::<http::Uri>() {
        Ok(uri) if uri.host().is_some_and(|host| !host.is_empty()) && !rest.contains('@') => Ok(()),
        _ => Err(format!("\"{text}\" is not a URL")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spiffe_ids_have_a_trust_domain_and_only_the_characters_of_one() {
        for right in ["spiffe://prod/ns/shop/sa/checkout", "spiffe://prod/node/*", "spiffe://a.b-c"] {
            assert_eq!(spiffe(right), Ok(()), "{right}");
        }
        for wrong in [
            "",
            "prod/a",
            "spiffe://",
            "spiffe:///a",
            "spiffe://Prod/a",
            "spiffe://*/a",
            "spiffe://a/b c",
            "https://a/b",
        ] {
            assert!(spiffe(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn nodes_are_where_one_of_the_three_forms_says() {
        assert_eq!(node_of("same-address"), Ok(NodeOf::SameAddress));
        assert_eq!(node_of("subnet/24"), Ok(NodeOf::Subnet(24)));
        let named = NodeOf::Name { prefix: String::new(), suffix: ".nodes.internal".into() };
        assert_eq!(node_of("{Address}.nodes.internal."), Ok(named));
        for wrong in ["", "subnet/0", "subnet/129", "subnet", "node", "{address}{address}", "{address}..a"] {
            assert!(node_of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn keys_come_from_files_or_by_https() {
        for right in ["keys/a.json", "/etc/a", "https://id.example/keys", "https://[::1]:8443/keys"] {
            assert_eq!(file_or_url(right), Ok(()), "{right}");
        }
        for wrong in ["http://id.example/keys", "ftp://a", "https://", "https://user@host/a"] {
            assert!(file_or_url(wrong).is_err(), "{wrong}");
        }
    }
}
