//! The lines of metrics as Prometheus 0.0.4 has them, which everything reads. The `prometheus` crate writes them, one series after the
//! other: its form of a whole page is a tree of all series, tens of MiB on a node with many endpoints.

use prometheus::{
    TextEncoder,
    proto::{self, LabelPair, Metric, MetricFamily, MetricType},
};

use super::{
    declared::{Declared, Kind},
    series::Distribution,
};

/// What a series shows.
pub(super) enum Shown {
    Number(f64),
    Distribution(Distribution),
}

/// Adds the lines of one series of `declared`; in front of its family's first, what announces the family.
pub(super) fn series(
    text: &mut String,
    declared: &Declared,
    is_first: bool,
    (values, shown): (&[impl AsRef<str>], Shown),
) {
    let mut family = MetricFamily::default();
    family.set_name(declared.name.to_owned());
    family.set_field_type(kind(declared.kind));
    family.set_metric(vec![metric(declared, values, shown)]);
    if is_first {
        family.set_help(declared.help.to_owned());
    }
    let begin = text.len();
    TextEncoder::new().encode_utf8(&[family], text).expect("the family has a name and a series");
    if !is_first {
        // The type, which stands there already.
        let end = text[begin..].find('\n').map_or(begin, |end| begin + end + 1);
        text.replace_range(begin..end, "");
    }
}

fn kind(kind: Kind) -> MetricType {
    match kind {
        Kind::Counter => MetricType::COUNTER,
        Kind::Gauge | Kind::Level => MetricType::GAUGE,
        Kind::Histogram(_) => MetricType::HISTOGRAM,
    }
}

fn metric(declared: &Declared, values: &[impl AsRef<str>], shown: Shown) -> Metric {
    let labels = declared.labels.iter().zip(values).map(|(name, value)| pair(name, value.as_ref()));
    let mut metric = Metric::from_label(labels.collect());
    match shown {
        Shown::Distribution(read) => metric.set_histogram(histogram(read)),
        Shown::Number(value) if declared.kind == Kind::Counter => {
            let mut counter = proto::Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        }
        Shown::Number(value) => {
            let mut gauge = proto::Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
    }
    metric
}

fn histogram(read: Distribution) -> proto::Histogram {
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
    written
}

fn pair(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}
