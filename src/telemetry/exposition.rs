//! The lines of metrics as text: Prometheus 0.0.4 and OpenMetrics 1.0.0.
//!
//! They differ in little: OpenMetrics names a counter's family without `_total`, announces units, writes the bounds of
//! buckets as fractions, and ends with a line that says so, by which a cut off answer is known. Which series there are is
//! left to `render.rs`.

use std::fmt::Write;

use super::{
    declared::{Declared, Kind},
    series::Distribution,
};

/// A text form of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus 0.0.4, which everything reads.
    Prometheus,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

/// Units that OpenMetrics knows, as names end in them.
const UNITS: [&str; 2] = ["seconds", "bytes"];

impl Format {
    /// Its `content-type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// What comes behind the last family.
    pub(super) fn end(self) -> &'static str {
        match self {
            Self::Prometheus => "",
            Self::OpenMetrics => "# EOF\n",
        }
    }

    fn family(self, declared: &Declared) -> &'static str {
        match self {
            Self::Prometheus => declared.name,
            Self::OpenMetrics => declared.name.strip_suffix("_total").unwrap_or(declared.name),
        }
    }

    /// What announces a family.
    pub(super) fn head(self, text: &mut String, declared: &Declared) {
        let family = self.family(declared);
        let kind = declared.kind.as_str();
        line(text, format_args!("# HELP {family} "));
        escape(text, declared.help, self == Self::OpenMetrics);
        line(text, format_args!("\n# TYPE {family} {kind}\n"));
        let unit =
            UNITS.iter().find(|unit| family.strip_suffix(**unit).is_some_and(|rest| rest.ends_with('_')));
        if let (Self::OpenMetrics, Some(unit)) = (self, unit) {
            line(text, format_args!("# UNIT {family} {unit}\n"));
        }
    }

    /// The upper bounds of a histogram's buckets, given in microseconds, as `le` has them in seconds.
    pub(super) fn bounds(self, kind: Kind) -> Vec<String> {
        let Kind::Histogram(bounds) = kind else { return Vec::new() };
        let seconds = |bound: &u64| {
            let seconds = (*bound as f64 / 1e6).to_string();
            if self == Self::OpenMetrics && !seconds.contains('.') { seconds + ".0" } else { seconds }
        };
        bounds.iter().map(seconds).collect()
    }
}

/// One number; `labels` are as [`labels`] writes them.
pub(super) fn number(text: &mut String, name: &str, labels: &str, value: f64) {
    if labels.is_empty() {
        line(text, format_args!("{name} {value}\n"));
    } else {
        line(text, format_args!("{name}{{{labels}}} {value}\n"));
    }
}

/// One histogram.
pub(super) fn histogram(text: &mut String, name: &str, labels: &str, bounds: &[String], read: &Distribution) {
    let comma = if labels.is_empty() { "" } else { "," };
    for (bound, (_, count)) in bounds.iter().zip(&read.buckets) {
        line(text, format_args!("{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {count}\n"));
    }
    line(text, format_args!("{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {}\n", read.count));
    for (end, value) in [("_sum", read.sum), ("_count", read.count as f64)] {
        if labels.is_empty() {
            line(text, format_args!("{name}{end} {value}\n"));
        } else {
            line(text, format_args!("{name}{end}{{{labels}}} {value}\n"));
        }
    }
}

/// Adds `name="value"` for each label, with commas between.
pub(super) fn labels(text: &mut String, names: &[&str], values: &[impl AsRef<str>]) {
    for (index, (name, value)) in names.iter().zip(values).enumerate() {
        let comma = if index == 0 { "" } else { "," };
        line(text, format_args!("{comma}{name}=\""));
        escape(text, value.as_ref(), true);
        text.push('"');
    }
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("writing to a string does not fail");
}

fn escape(text: &mut String, value: &str, quotes: bool) {
    if !value.contains(['\\', '\n', '"']) {
        return text.push_str(value);
    }
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '"' if quotes => text.push_str("\\\""),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::declared::{Id, TABLE};

    fn head(format: Format, id: Id) -> String {
        let mut text = String::new();
        format.head(&mut text, &TABLE[id as usize]);
        text
    }

    #[test]
    fn open_metrics_names_a_counter_without_total_and_its_unit() {
        let [prometheus, open] =
            [Format::Prometheus, Format::OpenMetrics].map(|format| head(format, Id::ProcessCpu));
        assert!(prometheus.ends_with("\n# TYPE process_cpu_seconds_total counter\n"), "{prometheus}");
        assert!(open.starts_with("# HELP process_cpu_seconds "), "{open}");
        let end = "\n# TYPE process_cpu_seconds counter\n# UNIT process_cpu_seconds seconds\n";
        assert!(open.ends_with(end), "{open}");
        let none = head(Format::OpenMetrics, Id::Connections);
        assert!(none.ends_with("# TYPE towpath_connections gauge\n"), "{none}");
    }

    #[test]
    fn bounds_are_fractions_in_open_metrics() {
        let kind = Kind::Histogram(&[10, 1_000_000, 2_500_000]);
        assert_eq!(Format::Prometheus.bounds(kind), ["0.00001", "1", "2.5"]);
        assert_eq!(Format::OpenMetrics.bounds(kind), ["0.00001", "1.0", "2.5"]);
    }

    #[test]
    fn values_of_labels_and_texts_are_escaped() {
        let mut text = String::new();
        labels(&mut text, &["a", "b"], &["x\"y", "\\\n"]);
        assert_eq!(text, r#"a="x\"y",b="\\\n""#);
        let mut help = String::new();
        escape(&mut help, "a \"b\"\n", false);
        assert_eq!(help, "a \"b\"\\n");
    }
}
