//! The URL of an OpenTelemetry collector.

use http::Uri;

use super::observability::Otlp;

/// What is allowed, in words.
pub(super) const ALLOWED: &str =
    "a URL such as \"http://127.0.0.1:4317\" (gRPC) or \"http://127.0.0.1:4318/v1/traces\" (HTTP)";
/// Of OTLP over gRPC and over HTTP (opentelemetry.io/docs/specs/otlp).
const PORTS: [u16; 2] = [4317, 4318];

/// Reads `url`. `ca` is for the caller to fill in.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read(url: &str) -> Result<Otlp, String> {
    let uri: Uri = url.parse().map_err(|error| format!("\"{url}\" is no URL: {error}"))?;
    let scheme = uri.scheme_str().filter(|scheme| matches!(*scheme, "http" | "https"));
    let scheme = scheme.ok_or_else(|| format!("\"{url}\" does not begin with http:// or https://"))?;
    let authority = uri.authority().ok_or_else(|| format!("\"{url}\" names no host"))?;
    if authority.as_str().contains('@') {
        return Err(format!("\"{url}\" has a user in it"));
    }
    if uri.query().is_some() {
        return Err(format!("\"{url}\" has a query"));
    }
    let (host, path) = (authority.host(), uri.path());
    let grpc = path == "/";
    let port = authority.port_u16().unwrap_or(PORTS[usize::from(!grpc)]);
    let path = if grpc { "" } else { path };
    Ok(Otlp { url: format!("{scheme}://{host}:{port}{path}"), grpc, ca: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_tells_http_from_grpc_and_the_port_follows() {
        for (url, expected, grpc) in [
            ("http://127.0.0.1:4317", "http://127.0.0.1:4317", true),
            ("http://collector", "http://collector:4317", true),
            ("http://collector/", "http://collector:4317", true),
            ("https://[::1]/v1/traces", "https://[::1]:4318/v1/traces", false),
            ("http://127.0.0.1:9/x", "http://127.0.0.1:9/x", false),
        ] {
            assert_eq!(read(url), Ok(Otlp { url: expected.into(), grpc, ca: None }), "{url}");
        }
    }

    #[test]
    fn what_is_no_collector_is_refused() {
        for url in ["", "x", "127.0.0.1:4317", "grpc://a:1", "http://u@a:1", "http://a:1/x?y", "http://"] {
            assert!(read(url).is_err(), "{url}");
        }
    }
}
