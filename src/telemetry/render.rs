//! Metrics as text for Prometheus; the `prometheus` crate writes it.

use std::sync::Arc;

use prometheus::{
    TextEncoder,
    proto::{self, LabelPair, Metric, MetricFamily, MetricType},
};

use super::{
    arena::Block,
    declared::{Declared, Id, Kind},
    family::Family,
    process::Process,
    series::{Counter, Gauge, Histogram, Level},
};

/// Families sorted by name; one without a series is left out.
pub(super) fn text(families: &[Arc<Family>], process: &Process) -> String {
    let written = |family: &Arc<Family>| write_family(family.declared, samples(family, families, process));
    let mut all: Vec<_> =
        families.iter().map(written).filter(|family| !family.get_metric().is_empty()).collect();
    all.sort_by(|a, b| a.name().cmp(b.name()));
    TextEncoder::new().encode_to_string(&all).expect("every family has a name and a series")
}

fn samples(family: &Family, families: &[Arc<Family>], process: &Process) -> Vec<Metric> {
    let declared = family.declared;
    let one =
        |value: Option<f64>| value.map(|value| number(declared.kind, vec![], value)).into_iter().collect();
    match declared.id {
        Id::MetricsOverflow => {
            families.iter().filter(|of| !of.declared.labels.is_empty()).map(overflow).collect()
        }
        Id::ProcessCpu => one(process.cpu_seconds),
        Id::ProcessFds => one(process.open_fds),
        Id::ProcessMemory => one(process.resident_bytes),
        _ => family.snapshot().into_iter().map(|(labels, block)| sample(declared, &labels, block)).collect(),
    }
}

fn overflow(of: &Arc<Family>) -> Metric {
    number(Kind::Counter, vec![pair("metric", of.declared.name)], of.overflow() as f64)
}

fn sample(declared: &Declared, values: &[Box<str>], block: Arc<Block>) -> Metric {
    let labels = declared.labels.iter().zip(values).map(|(name, value)| pair(name, value)).collect();
    let value = match declared.kind {
        Kind::Counter => Counter::new(block).get() as f64,
        Kind::Gauge => Gauge::new(block).get() as f64,
        Kind::Level => Level::new(block).get(),
        Kind::Histogram(bounds) => return histogram(labels, &Histogram::new(block, bounds)),
    };
    number(declared.kind, labels, value)
}

fn number(kind: Kind, labels: Vec<LabelPair>, value: f64) -> Metric {
    let mut metric = Metric::from_label(labels);
    if kind == Kind::Counter {
        let mut counter = proto::Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    } else {
        let mut gauge = proto::Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    }
    metric
}

fn histogram(labels: Vec<LabelPair>, histogram: &Histogram) -> Metric {
    let read = histogram.read();
    let bucket = |(bound, count)| {
        let mut bucket = proto::Bucket::default();
        bucket.set_upper_bound(bound);
        bucket.set_cumulative_count(count);
        bucket
    };
    let mut written = proto::Histogram::default();
    written.set_bucket(read.buckets.into_iter().map(bucket).collect());
    written.set_sample_count(read.count);
    written.set_sample_sum(read.sum);
    let mut metric = Metric::from_label(labels);
    metric.set_histogram(written);
    metric
}

fn pair(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}

fn write_family(declared: &Declared, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(declared.name.to_owned());
    family.set_help(declared.help.to_owned());
    family.set_field_type(match declared.kind {
        Kind::Counter => MetricType::COUNTER,
        Kind::Gauge | Kind::Level => MetricType::GAUGE,
        Kind::Histogram(_) => MetricType::HISTOGRAM,
    });
    family.set_metric(metrics);
    family
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use regex::Regex;

    use crate::telemetry::{AttemptOutcome, Metrics};

    fn busy() -> std::sync::Arc<Metrics> {
        let metrics = Metrics::new(2);
        let requests = metrics.request_series("outgoing", "a \"quoted\\ \n route", "b");
        for (code, millis) in [(200, 1), (200, 70_000), (503, 2)] {
            requests.record(code, Duration::from_millis(millis));
        }
        let service = metrics.service_series("b");
        service.in_flight.inc();
        service.attempt(AttemptOutcome::Reset);
        service.discovery_age.set(1.5);
        metrics.error("no_route", None);
        metrics
    }

    #[test]
    fn every_line_is_a_sample_of_the_family_that_was_announced_last() {
        let head = Regex::new(r"^# (HELP|TYPE) ([a-z_]+) (.+)$").unwrap();
        let label = r#"[a-z]+="([^"\\]|\\["\\n])*""#;
        let sample = format!(r#"^([a-z_]+)(\{{{label}(,{label})*\}})? (-?[0-9]+(\.[0-9]+)?)$"#);
        let sample = Regex::new(&sample).unwrap();
        let (mut family, mut kind, mut families) = (String::new(), String::new(), vec![]);
        for line in busy().render().lines() {
            if let Some(head) = head.captures(line) {
                if &head[1] == "HELP" {
                    family = head[2].to_owned();
                    families.push(family.clone());
                } else {
                    assert_eq!(&head[2], family);
                    kind = head[3].to_owned();
                }
                continue;
            }
            let name = sample.captures(line).unwrap_or_else(|| panic!("not a sample: {line}"))[1].to_owned();
            let suffix = name.strip_prefix(&family).unwrap_or_else(|| panic!("{name} under {family}"));
            let suffixes: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            assert!(suffixes.contains(&suffix), "{line}");
        }
        assert!(families.is_sorted() && families.len() > 15, "{families:?}");
    }

    #[test]
    fn samples_carry_labels_and_values() {
        let text = busy().render();
        let route = r#"route="a \"quoted\\ \n route",service="b""#;
        let duration = "towpath_request_duration_seconds";
        for line in [
            format!(r#"towpath_requests_total{{listener="outgoing",{route},code="200"}} 2"#),
            format!(r#"towpath_requests_total{{listener="outgoing",{route},code="503"}} 1"#),
            format!(r#"{duration}_bucket{{{route},le="0.0005"}} 0"#),
            format!(r#"{duration}_bucket{{{route},le="0.001"}} 1"#),
            format!(r#"{duration}_bucket{{{route},le="0.0025"}} 2"#),
            format!(r#"{duration}_bucket{{{route},le="60"}} 2"#),
            format!(r#"{duration}_bucket{{{route},le="+Inf"}} 3"#),
            format!(r#"{duration}_sum{{{route}}} 70.003"#),
            format!(r#"{duration}_count{{{route}}} 3"#),
            r#"towpath_requests_in_flight{service="b"} 1"#.to_owned(),
            r#"towpath_attempts_total{service="b",outcome="reset"} 1"#.to_owned(),
            r#"towpath_discovery_age_seconds{service="b"} 1.5"#.to_owned(),
            r#"towpath_errors_total{reason="no_route"} 1"#.to_owned(),
            r#"towpath_metrics_overflow_total{metric="towpath_requests_total"} 0"#.to_owned(),
            "# TYPE towpath_accept_errors_total counter".to_owned(),
            "towpath_accept_errors_total 0".to_owned(),
        ] {
            assert!(text.lines().any(|written| written == line), "no line {line} in\n{text}");
        }
    }
}
