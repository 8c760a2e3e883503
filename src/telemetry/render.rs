//! All metrics as text, piece by piece: a node of a hundred thousand endpoints is scraped with the memory of one piece and of one
//! metric's list of series. How a line looks is left to `classic.rs` and
//! `exposition.rs`.

use std::{sync::Arc, vec};

use super::{
    arena::Block,
    classic::{self, Shown},
    declared::{Id, Kind},
    exposition::{self, Format},
    family::{Family, Labels},
    log,
    process::{self, Process, Threads},
    series::{Counter, Gauge, Histogram, Level},
};

/// Bytes of a piece, about: a few milliseconds of one thread.
const PIECE: usize = 64 << 10;

/// One scrape that is being answered: the families by name, each with its series by labels; one without a series is left out.
pub struct Rendering {
    format: Format,
    /// As they stand in the table.
    all: Vec<Arc<Family>>,
    /// By name; the last is the next.
    to_come: Vec<Arc<Family>>,
    process: Process,
    /// CPU seconds of each worker's thread.
    workers: Vec<(usize, f64)>,
    present: Option<Present>,
}

/// The family whose series are being written.
struct Present {
    family: Arc<Family>,
    format: Format,
    /// Of buckets, as OpenMetrics has them.
    bounds: Vec<String>,
    /// The next series is its first.
    is_first: bool,
    samples: vec::IntoIter<Sample>,
}

/// One series.
enum Sample {
    Counted(Labels, Arc<Block>),
    /// A number that is found out when it is asked for, with the value of its only label if it has one.
    Found(Option<String>, f64),
}

/// A part of the text.
pub struct Piece {
    /// Whole lines.
    pub text: String,
    /// Nothing comes behind it.
    pub is_last: bool,
}

impl Rendering {
    pub(super) fn new(families: &[Arc<Family>], threads: &Threads, format: Format) -> Self {
        let mut to_come = families.to_vec();
        to_come.sort_by(|a, b| b.declared.name.cmp(a.declared.name));
        let (all, process, workers) = (families.to_vec(), process::read(), threads.cpu_seconds());
        Self { format, all, to_come, process, workers, present: None }
    }

    /// The next part. Takes locks and much of a processor: for a thread that nobody waits for.
    pub fn piece(&mut self) -> Piece {
        let mut text = String::with_capacity(PIECE + PIECE / 8);
        while text.len() < PIECE {
            if let Some(present) = &mut self.present
                && let Some(sample) = present.samples.next()
            {
                present.write(&mut text, sample);
            } else if !self.next_family(&mut text) {
                text.push_str(self.format.end());
                return Piece { text, is_last: true };
            }
        }
        Piece { text, is_last: false }
    }

    /// Begins the next family, if there is one.
    fn next_family(&mut self, text: &mut String) -> bool {
        let Some(family) = self.to_come.pop() else { return false };
        let samples = self.samples(&family).into_iter();
        let mut bounds = Vec::new();
        if samples.len() > 0 && self.format == Format::OpenMetrics {
            exposition::head(text, family.declared);
            bounds = exposition::bounds(family.declared.kind);
        }
        self.present = Some(Present { family, format: self.format, bounds, is_first: true, samples });
        true
    }

    fn samples(&self, family: &Family) -> Vec<Sample> {
        let one = |value: Option<f64>| value.map(|value| Sample::Found(None, value)).into_iter().collect();
        let of = &self.process;
        match family.declared.id {
            Id::MetricsOverflow => {
                let labelled = self.all.iter().filter(|of| !of.declared.labels.is_empty());
                labelled
                    .map(|of| Sample::Found(Some(of.declared.name.into()), of.overflow() as f64))
                    .collect()
            }
            Id::ProcessCpu => one(of.cpu_seconds),
            Id::ProcessFds => one(of.open_fds),
            Id::ProcessMaxFds => one(of.max_fds),
            Id::ProcessMemory => one(of.resident_bytes),
            Id::ProcessStart => one(of.start_seconds),
            Id::ProcessVirtualMemory => one(of.virtual_bytes),
            Id::LogSuppressed => one(Some(log::suppressed() as f64)),
            Id::WorkerCpu => {
                let told = self.workers.iter();
                told.map(|(worker, seconds)| Sample::Found(Some(worker.to_string()), *seconds)).collect()
            }
            _ => {
                let series = family.snapshot().into_iter();
                series.map(|(labels, block)| Sample::Counted(labels, block)).collect()
            }
        }
    }
}

impl Present {
    fn write(&mut self, text: &mut String, sample: Sample) {
        match sample {
            Sample::Counted(values, block) => {
                let shown = shown(self.family.declared.kind, block);
                self.lines(text, &values, shown);
            }
            Sample::Found(label, value) => self.lines(text, label.as_slice(), Shown::Number(value)),
        }
    }

    fn lines(&mut self, text: &mut String, values: &[impl AsRef<str>], shown: Shown) {
        let declared = self.family.declared;
        if self.format == Format::Prometheus {
            let is_first = std::mem::take(&mut self.is_first);
            return classic::series(text, declared, is_first, (values, shown));
        }
        let mut labels = String::new();
        exposition::labels(&mut labels, declared.labels, values);
        match shown {
            Shown::Number(value) => exposition::number(text, declared.name, &labels, value),
            Shown::Distribution(read) => {
                exposition::histogram(text, declared.name, &labels, &self.bounds, &read);
            }
        }
    }
}

fn shown(kind: Kind, block: Arc<Block>) -> Shown {
    Shown::Number(match kind {
        Kind::Counter => Counter::new(block).get() as f64,
        Kind::Gauge => Gauge::new(block).get() as f64,
        Kind::Level => Level::new(block).get(),
        Kind::Histogram(bounds) => return Shown::Distribution(Histogram::new(block, bounds).read()),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use regex::Regex;

    use super::*;
    use crate::telemetry::{AttemptOutcome, Metrics, declared::TABLE};

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

    #[test]
    fn open_metrics_has_the_same_series_under_families_without_total_and_an_end() {
        let metrics = busy();
        let [prometheus, open] =
            [Format::Prometheus, Format::OpenMetrics].map(|format| metrics.render_as(format));
        assert!(!prometheus.contains("# EOF") && !prometheus.contains("# UNIT"));
        assert!(open.ends_with("\n# EOF\n"), "{open}");
        for line in [
            "# TYPE towpath_requests counter",
            "# TYPE towpath_request_duration_seconds histogram",
            "# UNIT towpath_request_duration_seconds seconds",
            "# UNIT process_resident_memory_bytes bytes",
            "towpath_accept_errors_total 0",
        ] {
            assert!(open.lines().any(|written| written == line), "no line {line} in\n{open}");
        }
        let series = |text: &str| -> Vec<String> {
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            let named = lines.map(|line| line.rsplit_once(' ').unwrap().0.replace(".0\"}", "\"}"));
            let mut all: Vec<String> = named.collect();
            all.sort();
            all
        };
        assert_eq!(series(&open), series(&prometheus));
    }

    #[test]
    fn no_sample_is_named_as_one_of_another_family_might_be() {
        let names: Vec<&str> = TABLE.iter().map(|declared| declared.name).collect();
        for declared in TABLE {
            let family = declared.name.strip_suffix("_total").unwrap_or(declared.name);
            for end in ["", "_total", "_created", "_bucket", "_sum", "_count", "_info"] {
                let reserved = format!("{family}{end}");
                assert!(reserved == declared.name || !names.contains(&&*reserved), "{reserved}");
            }
        }
    }

    #[test]
    fn pieces_are_small_and_together_are_the_whole() {
        let metrics = Metrics::new(1);
        let held: Vec<_> =
            (0..5_000).map(|n| metrics.endpoint_series("s", &format!("10.0.0.1:{n}"))).collect();
        held.iter().for_each(|endpoint| endpoint.request(AttemptOutcome::Success));
        let mut rendering = metrics.rendering(Format::Prometheus);
        let mut pieces = Vec::new();
        loop {
            let Piece { text, is_last } = rendering.piece();
            assert!(text.ends_with('\n') && text.len() < PIECE + 1024, "{}", text.len());
            pieces.push(text);
            if is_last {
                break;
            }
        }
        assert!(pieces.len() > 10, "{}", pieces.len());
        let whole = pieces.concat();
        let of = |name: &str| whole.lines().filter(|line| line.starts_with(name)).count();
        assert_eq!(of("towpath_endpoint_requests_total{"), 5_000);
        assert_eq!(of("towpath_endpoint_available{"), 5_000);
        assert_eq!(of("# TYPE towpath_endpoint_available "), 1);
    }
}
