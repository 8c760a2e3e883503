//! Socket addresses, as written.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use crate::net::{Address, Subnet};

/// A port that can be connected to.
pub(super) fn port(text: &str) -> Result<u16, String> {
    match any_port(text)? {
        0 => Err("port 0 cannot be connected to".to_owned()),
        port => Ok(port),
    }
}

fn any_port(text: &str) -> Result<u16, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.parse().ok().filter(|_| digits);
    port.ok_or_else(|| format!("\"{text}\" is not a port; ports are 1 to 65535"))
}

/// `IP:PORT` with whatever port.
fn socket(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address);
    }
    if text.parse::<IpAddr>().is_ok() {
        return Err("there is no port".to_owned());
    }
    let (host, port) = text.rsplit_once(':').ok_or("there is no port")?;
    any_port(port)?;
    Err(format!("\"{host}\" is not an IP address"))
}

/// What a range of addresses may be.
pub(super) const ALLOWED_SUBNET: &str = "ADDRESS/LENGTH such as \"10.1.0.0/16\" or \"fd00:1::/32\"";

/// `ADDRESS/LENGTH`; an address alone is a range of one.
pub(super) fn subnet(text: &str) -> Result<Subnet, String> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| format!("\"{address}\" is not an IP address"))?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let length = length.map_or(Ok(most), str::parse);
    let subnet = length.ok().and_then(|length| Subnet::new(address, length));
    subnet.ok_or_else(|| format!("\"{text}\" has no length from 0 to {most}"))
}

/// What a listener's address may be.
pub(super) const ALLOWED_LISTEN: &str =
    "IP:PORT such as \"127.0.0.1:4140\" or \"[::]:4141\", or \"unix:PATH\"";

/// `IP:PORT` or `unix:PATH`; the path is still as written.
pub(super) fn listen(text: &str) -> Result<Address, String> {
    let Some(path) = text.strip_prefix("unix:") else { return socket(text).map(Address::Tcp) };
    // The kernel's sun_path holds 108 bytes with a final zero. A relative path is measured again once absolute.
    match path.len() {
        0 => Err("the path is empty".to_owned()),
        1..=107 if !path.contains('\0') => Ok(Address::Unix(PathBuf::from(path))),
        _ => Err("the path of a Unix socket has at most 107 bytes, none of them zero".to_owned()),
    }
}

/// What an endpoint's address may be.
pub(super) const ALLOWED_ENDPOINT: &str = "IP:PORT such as \"10.0.0.1:8080\" or \"[fd00::1]:8080\"";

/// `IP:PORT` with a port that can be connected to.
pub(super) fn endpoint(text: &str) -> Result<SocketAddr, String> {
    match socket(text) {
        Ok(address) if address.port() == 0 => Err("port 0 cannot be connected to".to_owned()),
        Err(reason) if super::hosts::name_and_port(text).is_ok() => {
            Err(format!("{reason}; for a name, use dns = \"{text}\" in place of endpoints"))
        }
        other => other,
    }
}

/// What a DNS server's address may be.
pub(super) const ALLOWED_DNS_SERVER: &str =
    "an IP address, with a port or without, such as \"10.96.0.10\" or \"127.0.0.1:5353\"";

/// `IP` or `IP:PORT`; port 53 where none is given.
pub(super) fn dns_server(text: &str) -> Result<SocketAddr, String> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if text.contains("//") {
        return Err("a URL is no address: IP and port stand alone".to_owned());
    }
    match bare.parse::<IpAddr>() {
        Ok(ip) => Ok(SocketAddr::new(ip, 53)),
        Err(_) if !text.contains(':') => Err(format!("\"{text}\" is not an IP address")),
        Err(_) => socket(text).and_then(|address| port(&address.port().to_string()).map(|_| address)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_may_leave_the_port_to_the_kernel_but_endpoints_may_not() {
        assert!(listen("127.0.0.1:0").is_ok());
        assert!(listen("[::1]:0").is_ok());
        assert!(endpoint("127.0.0.1:0").is_err());
        assert!(dns_server("127.0.0.1:0").is_err());
    }

    #[test]
    fn a_name_as_an_endpoint_is_told_of_dns() {
        assert!(endpoint("reviews:8080").unwrap_err().contains("dns = \"reviews:8080\""));
        assert!(!endpoint("10.0.0.1:x").unwrap_err().contains("dns"));
    }

    #[test]
    fn a_dns_server_has_port_53_by_default() {
        for text in ["::1", "[::1]", "[::1]:53"] {
            assert_eq!(dns_server(text), Ok("[::1]:53".parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn a_name_as_a_dns_server_is_not_told_of_ports() {
        assert_eq!(dns_server("x"), Err("\"x\" is not an IP address".to_owned()));
        assert_eq!(dns_server("x:53"), Err("\"x\" is not an IP address".to_owned()));
        assert!(dns_server("10.0.0.1:x").unwrap_err().contains("not a port"));
    }

    #[test]
    fn addresses_without_port_or_with_a_bad_one_are_refused() {
        for wrong in
            ["127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "::1", "unix:", "4140", "", ":4140", "1.2.3:4"]
        {
            assert!(listen(wrong).is_err(), "{wrong}");
        }
    }
}
