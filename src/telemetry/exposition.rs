//! The lines of metrics as OpenMetrics 1.0.0 has them, which the `prometheus` crate does not write, and what tells that form from the
//! other one, which is in `classic.rs`: a counter's family is named without `_total`, units are announced, bounds of buckets are
//! fractions, and a last line says so, by which a cut off answer is known. Which series there are is left to `render.rs`.

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
}

/// What announces a family.
pub(super) fn head(text: &mut String, declared: &Declared) {
    let family = declared.name.strip_suffix("_total").unwrap_or(declared.name);
    let kind = declared.kind.as_str();
    line(text, format_args!("# HELP {family} "));
    escape(text, declared.help);
    line(text, format_args!("\n# TYPE {family} {kind}\n"));
    let unit = UNITS.iter().find(|unit| family.strip_suffix(**unit).is_some_and(|rest| rest.ends_with('_')));
    if let Some(unit) = unit {
        line(text, format_args!("# UNIT {family} {unit}\n"));
    }
}

/// The upper bounds of a histogram's buckets, given in microseconds, as `le` has them in seconds.
pub(super) fn bounds(kind: Kind) -> Vec<String> {
    let Kind::Histogram(bounds) = kind else { return Vec::new() };
    let seconds = |bound: &u64| {
        let seconds = (*bound as f64 / 1e6).to_string();
        if seconds.contains('.') { seconds } else { seconds + ".0" }
    };
    bounds.iter().map(seconds).collect()
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
        escape(text, value.as_ref());
        text.push('"');
    }
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("writing to a string does not fail");
}

fn escape(text: &mut String, value: &str) {
    if !value.contains(['\\', '\n', '"']) {
        return text.push_str(value);
    }
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '"' => text.push_str("\\\""),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::declared::{Id, TABLE};

    fn announced(id: Id) -> String {
        let mut text = String::new();
        head(&mut text, &TABLE[id as usize]);
        text
    }

    #[test]
    fn a_counter_is_named_without_total_and_its_unit_is_told() {
        let cpu = announced(Id::ProcessCpu);
        assert!(cpu.starts_with("# HELP process_cpu_seconds "), "{cpu}");
        let end = "\n# TYPE process_cpu_seconds counter\n# UNIT process_cpu_seconds seconds\n";
        assert!(cpu.ends_with(end), "{cpu}");
        let none = announced(Id::Connections);
        assert!(none.ends_with("# TYPE towpath_connections gauge\n"), "{none}");
    }

    #[test]
    fn bounds_are_fractions() {
        assert_eq!(bounds(Kind::Histogram(&[10, 1_000_000, 2_500_000])), ["0.00001", "1.0", "2.5"]);
    }

    #[test]
    fn values_of_labels_and_texts_are_escaped() {
        let mut text = String::new();
        labels(&mut text, &["a", "b"], &["x\"y", "\\\n"]);
        assert_eq!(text, r#"a="x\"y",b="\\\n""#);
        let mut help = String::new();
        escape(&mut help, "a \"b\"\n");
        assert_eq!(help, "a \\\"b\\\"\\n");
    }
}
