//! Hosts, DNS names and `{host}` templates.

use std::net::Ipv6Addr;

use super::checked::HostPattern;

/// What a host pattern may be.
pub(super) const ALLOWED_PATTERN: &str = "a host such as \"reviews\", \"*.example.com\" or \"*\"";

/// A pattern of a route's `hosts`.
pub(super) fn pattern(text: &str) -> Result<HostPattern, String> {
    if text == "*" {
        return Ok(HostPattern::Any);
    }
    if let Some(suffix) = text.strip_prefix("*.") {
        return name(suffix).map(HostPattern::Suffix);
    }
    if text.contains('*') {
        return Err("\"*\" stands only alone or as the first label".to_owned());
    }
    if let Some(address) = ipv6(text) {
        return Ok(HostPattern::Exact(address));
    }
    name(text).map(HostPattern::Exact)
}

/// An IPv6 literal with or without brackets, in the canonical spelling.
fn ipv6(text: &str) -> Option<String> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    bare.parse::<Ipv6Addr>().ok().map(|address| address.to_string())
}

/// A host or DNS name: lower-cased, without trailing dot.
pub(super) fn name(text: &str) -> Result<String, String> {
    let lower = text.to_ascii_lowercase();
    let name = lower.strip_suffix('.').unwrap_or(&lower);
    if name.is_empty() {
        return Err("a host is empty".to_owned());
    }
    if name.contains(':') {
        return Err("a host stands without a port".to_owned());
    }
    if name.len() > 253 {
        return Err("a host has at most 253 characters".to_owned());
    }
    name.split('.').try_for_each(label)?;
    Ok(name.to_owned())
}

/// Underscores are no host names by RFC 1123, but real services have them.
fn label(label: &str) -> Result<(), String> {
    if label.is_empty() {
        return Err("a label between dots is empty".to_owned());
    }
    if label.len() > 63 {
        return Err(format!("the label \"{label}\" has more than 63 characters"));
    }
    match label.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_')) {
        Some(wrong) => Err(format!("'{wrong}' cannot stand in a host")),
        None => Ok(()),
    }
}

/// What a DNS name with a port may be.
pub(super) const ALLOWED_DNS_NAME: &str = "NAME:PORT such as \"reviews.internal:8080\"";

/// `NAME:PORT`, where the name may be an IP literal (canonical, without brackets).
pub(super) fn name_and_port(text: &str) -> Result<(String, u16), String> {
    if text.contains("//") {
        return Err("a URL is no DNS name: host and port stand alone".to_owned());
    }
    let (host, port) = text.rsplit_once(':').ok_or("there is no port")?;
    if host.starts_with('[') {
        return Ok((ipv6(host).ok_or("the IPv6 address is not valid")?, super::addresses::port(port)?));
    }
    if host.contains(':') {
        return Err("an IPv6 address stands in brackets, in front of a port".to_owned());
    }
    Ok((name(host)?, super::addresses::port(port)?))
}

/// What the name of SRV records may be.
pub(super) const ALLOWED_SRV: &str = "a DNS name without port such as \"_http._tcp.reviews.internal\"";

/// The name of SRV records, lower-cased: they tell the port themselves.
pub(super) fn srv_name(text: &str) -> Result<String, String> {
    match text.rsplit_once(':') {
        Some((_, port)) if port.parse::<u16>().is_ok() => {
            Err("SRV records tell the port themselves".to_owned())
        }
        _ => name(text),
    }
}

/// What a template may be.
pub(super) const ALLOWED_TEMPLATE: &str =
    "a DNS name with \"{host}\" in it, such as \"{host}\" or \"{host}.svc.local:8080\"";

/// `prefix{host}suffix[:port]`, lower-cased.
pub(super) fn template(text: &str) -> Result<(String, String, Option<u16>), String> {
    let lower = text.to_ascii_lowercase();
    let (prefix, rest) = lower.split_once("{host}").ok_or_else(|| {
        let fixed = "one fixed name belongs into [services.NAME] as dns = \"NAME:PORT\", and here { service = \"NAME\" }";
        format!("there is no \"{{host}}\" in it; {fixed}")
    })?;
    let (suffix, port) = match rest.rsplit_once(':') {
        Some((suffix, port)) => (suffix, Some(super::addresses::port(port)?)),
        None => (rest, None),
    };
    let suffix = suffix.strip_suffix('.').unwrap_or(suffix);
    // The template is sound when it is with the shortest host in it.
    name(&format!("{prefix}h{suffix}"))?;
    Ok((prefix.to_owned(), suffix.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_lose_case_and_trailing_dot() {
        assert_eq!(pattern("Reviews.Internal."), Ok(HostPattern::Exact("reviews.internal".into())));
        assert_eq!(pattern("*.Internal"), Ok(HostPattern::Suffix("internal".into())));
        assert_eq!(pattern("*"), Ok(HostPattern::Any));
    }

    #[test]
    fn ipv6_hosts_lose_their_brackets() {
        assert_eq!(pattern("[::1]"), Ok(HostPattern::Exact("::1".into())));
        assert_eq!(pattern("0:0::1"), Ok(HostPattern::Exact("::1".into())));
    }

    #[test]
    fn ports_and_stray_stars_are_refused() {
        for wrong in ["reviews:80", "a.*", "*a.b", "a..b", "", ".", "a b", "*.", "[::1]:80", "https://a"] {
            assert!(pattern(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn templates_keep_what_surrounds_the_host() {
        assert_eq!(template("{host}"), Ok((String::new(), String::new(), None)));
        let whole = template("a-{HOST}.svc.local.:8080");
        assert_eq!(whole, Ok(("a-".into(), ".svc.local".into(), Some(8080))));
    }

    #[test]
    fn templates_without_a_host_or_with_two_are_refused() {
        for wrong in ["reviews", "{host}{host}", "{host}..a", "{host}:0", "{host}:x", "{name}", "{host}:"] {
            assert!(template(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_name_needs_its_port() {
        assert_eq!(name_and_port("A.b:80"), Ok(("a.b".into(), 80)));
        assert_eq!(name_and_port("[::1]:80"), Ok(("::1".into(), 80)));
        for wrong in ["a", "a:", "a:0", "a:65536", "::1:80", ":80", "a:+8"] {
            assert!(name_and_port(wrong).is_err(), "{wrong}");
        }
    }
}
