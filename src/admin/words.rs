//! Values in the words of the configuration file, for every answer alike.

use std::time::{Duration, SystemTime};

use crate::{
    balance::Place,
    config::{
        Balancer, HashKey, HostPattern, HostTemplate, ListenerKind, Prefer, Protocol, ServerTls, Source,
    },
    telemetry,
};

/// As the file writes it, in the largest unit that leaves no fraction.
pub(super) fn duration(value: Duration) -> String {
    let millis = value.as_millis();
    let units = [("h", 3_600_000), ("m", 60_000), ("s", 1000)];
    let whole = units.iter().find(|(_, unit)| millis >= *unit && millis.is_multiple_of(*unit));
    whole.map_or_else(|| format!("{millis}ms"), |(name, unit)| format!("{}{name}", millis / unit))
}

/// As the file writes it, in the largest unit that leaves no fraction.
pub(super) fn size(bytes: usize) -> String {
    let units = [("GiB", 1usize << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let whole = units.iter().find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit));
    whole.map_or_else(|| format!("{bytes}B"), |(name, unit)| format!("{}{name}", bytes / unit))
}

/// RFC 3339 in UTC.
pub(super) fn time(time: SystemTime) -> String {
    let mut text = String::new();
    // A string takes everything.
    let _ = telemetry::write_time(&mut text, time);
    text
}

pub(super) fn kind(kind: ListenerKind) -> &'static str {
    match kind {
        ListenerKind::Outgoing => "outgoing",
        ListenerKind::Incoming => "incoming",
    }
}

pub(super) fn tls(tls: Option<&ServerTls>) -> &'static str {
    match tls {
        None => "plain",
        Some(ServerTls { client_ca: None, .. }) => "tls",
        Some(ServerTls { client_required: true, .. }) => "mutual",
        Some(_) => "optional",
    }
}

pub(super) fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Auto => "auto",
        Protocol::Http1 => "http1",
        Protocol::Http2 => "http2",
    }
}

pub(super) fn balancer(balancer: &Balancer) -> String {
    match balancer {
        Balancer::LeastRequest => "least-request".to_owned(),
        Balancer::PeakEwma { .. } => "peak-ewma".to_owned(),
        Balancer::RoundRobin => "round-robin".to_owned(),
        Balancer::Hash(key) => format!("hash {}", hash_key(key)),
    }
}

/// As the file writes it.
pub(super) fn hash_key(key: &HashKey) -> String {
    match key {
        HashKey::Header(name) => format!("header:{name}"),
        HashKey::Cookie(name) => format!("cookie:{name}"),
        HashKey::Source => "source".to_owned(),
        HashKey::Path => "path".to_owned(),
    }
}

/// As the file writes it.
pub(super) fn prefer(prefer: Prefer) -> &'static str {
    match prefer {
        Prefer::Node => "node",
        Prefer::Zone => "zone",
        Prefer::None => "none",
    }
}

pub(super) fn host(pattern: &HostPattern) -> String {
    match pattern {
        HostPattern::Exact(name) => name.clone(),
        HostPattern::Suffix(suffix) => format!("*.{suffix}"),
        HostPattern::Any => "*".to_owned(),
    }
}

pub(super) fn template(template: &HostTemplate) -> String {
    let port = template.port.map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}{{host}}{}{port}", template.prefix, template.suffix)
}

/// How near an endpoint is.
pub(super) fn place(place: Place) -> &'static str {
    match place {
        Place::Node => "node",
        Place::Zone => "zone",
        Place::Elsewhere => "elsewhere",
    }
}

/// The key under which a source is written, but for a fixed one.
pub(super) fn kind_of_source(source: &Source) -> &'static str {
    match source {
        Source::Dns { .. } => "dns",
        Source::Srv(_) => "srv",
        Source::File(_) => "file",
        Source::Fixed(_) => "fixed",
    }
}

/// Where a service's endpoints come from.
pub(super) fn source(source: &Source) -> String {
    match source {
        Source::Dns { host, port } => format!("dns {host}:{port}"),
        Source::Srv(name) => format!("srv {name}"),
        Source::File(path) => format!("file {}", path.display()),
        Source::Fixed(endpoints) => {
            let list: Vec<String> = endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect();
            format!("endpoints {}", list.join(", "))
        }
    }
}

/// The share of each weight, in percent.
pub(super) fn percentages(weights: impl Iterator<Item = u32> + Clone) -> Vec<f64> {
    let sum: f64 = weights.clone().map(f64::from).sum();
    weights.map(|weight| if sum > 0.0 { f64::from(weight) * 100.0 / sum } else { 0.0 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_written_as_the_file_takes_them() {
        for (millis, text) in [(250, "250ms"), (2000, "2s"), (1500, "1500ms"), (300_000, "5m"), (0, "0ms")] {
            assert_eq!(duration(Duration::from_millis(millis)), text);
        }
        for (bytes, text) in [(65_536, "64KiB"), (1000, "1000B"), (1 << 20, "1MiB")] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn percentages_are_shares_of_the_sum() {
        assert_eq!(percentages([10, 90].into_iter()), [10.0, 90.0]);
        assert_eq!(percentages([1, 0, 3].into_iter()), [25.0, 0.0, 75.0]);
    }
}
