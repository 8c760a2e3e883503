//! `host[:port]` as it stands in `Host` and `:authority` (RFC 3986 3.2, RFC 9110 7.2).
//!
//! Routing compares hosts, so what is let through here decides what two parsers could read differently: user
//! information, spaces, commas, percent-encoding tricks and empty hosts are refused, never repaired.

/// Splits `host[:port]`; an IPv6 literal keeps its brackets out of the host.
///
/// `None` when the text is no authority that towpath forwards.
pub fn split(authority: &str) -> Option<(&str, Option<u16>)> {
    let (host, rest) = match authority.strip_prefix('[') {
        Some(literal) => {
            let (host, rest) = literal.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, rest)
        }
        None => {
            let end = authority.find(':').unwrap_or(authority.len());
            let (host, rest) = authority.split_at(end);
            (is_name(host).then_some(host)?, rest)
        }
    };
    match rest.strip_prefix(':') {
        None if rest.is_empty() => Some((host, None)),
        // An empty port means the scheme's default (RFC 3986 3.2.3).
        Some("") => Some((host, None)),
        Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => {
            let port = port.parse().ok().filter(|port| *port != 0)?;
            Some((host, Some(port)))
        }
        _ => None,
    }
}

/// Whether two authorities name the same host and port.
pub fn same(a: &str, b: &str, default_port: u16) -> bool {
    match (split(a), split(b)) {
        (Some((host_a, port_a)), Some((host_b, port_b))) => {
            host_a.eq_ignore_ascii_case(host_b)
                && port_a.unwrap_or(default_port) == port_b.unwrap_or(default_port)
        }
        _ => false,
    }
}

/// The characters of DNS names and IPv4 addresses, and the underscore that service names use.
fn is_name(host: &str) -> bool {
    !host.is_empty()
        && host.len() <= 255
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_come_apart() {
        for (text, expected) in [
            ("reviews", Some(("reviews", None))),
            ("Reviews.internal:80", Some(("Reviews.internal", Some(80)))),
            ("reviews:", Some(("reviews", None))),
            ("10.0.0.1:8080", Some(("10.0.0.1", Some(8080)))),
            ("[::1]:80", Some(("::1", Some(80)))),
            ("[::1]", Some(("::1", None))),
        ] {
            assert_eq!(split(text), expected, "{text}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for text in [
            "",
            ":80",
            "a b",
            "a,b",
            "user@host",
            "a/b",
            "a:80:80",
            "a:8x",
            "a:99999",
            "a:0",
            "[::1",
            "[x]",
            "a%2eb",
            "a\\b",
        ] {
            assert_eq!(split(text), None, "{text}");
        }
    }

    #[test]
    fn sameness_ignores_case_and_spelt_out_default_ports() {
        assert!(same("Reviews", "reviews:80", 80));
        assert!(!same("reviews", "reviews:8080", 80));
        assert!(!same("reviews", "ratings", 80));
    }
}
