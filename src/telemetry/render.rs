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
        Kind::Histogram => return histogram(labels, &Histogram::new(block)),
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
        Kind::Histogram => MetricType::HISTOGRAM,
    });
    family.set_metric(metrics);
    family
}
