//! What a page of metrics says of each service, and what two of them say of the time between.

use std::collections::BTreeMap;

/// What is known of all services, by name.
pub(super) type Page = BTreeMap<String, Counts>;

/// What one page says of a service. Counters since the daemon started; the rest is now.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Counts {
    requests: f64,
    /// Of them, those that got a 5xx.
    failed: f64,
    retries: f64,
    /// How many took at most so many seconds. Bounds go up; the last is infinite.
    buckets: Vec<(f64, f64)>,
    pub(super) in_flight: f64,
    pub(super) endpoints: usize,
    pub(super) usable: usize,
}

/// What happened between two pages.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Figures {
    /// Requests a second.
    pub(super) rate: f64,
    /// Percent that got no 5xx; none where there were no requests.
    pub(super) success: Option<f64>,
    /// Retries a second.
    pub(super) retries: f64,
    buckets: Vec<(f64, f64)>,
}

/// Reads a page in the Prometheus text format.
pub(super) fn read(text: &str) -> Page {
    let mut page = Page::new();
    for series in text.lines().filter_map(series) {
        if let Some(service) = series.label("service") {
            page.entry(service.to_owned()).or_default().take(&series);
        }
    }
    page.values_mut().for_each(|counts| counts.buckets.sort_by(|a, b| a.0.total_cmp(&b.0)));
    page
}

impl Counts {
    fn take(&mut self, series: &Series<'_>) {
        let value = series.value;
        match series.name {
            "towpath_requests_total" => {
                self.requests += value;
                if series.label("code").is_some_and(|code| code.starts_with('5')) {
                    self.failed += value;
                }
            }
            "towpath_retries_total" => self.retries += value,
            "towpath_requests_in_flight" => self.in_flight += value,
            "towpath_endpoint_available" => {
                self.endpoints += 1;
                self.usable += usize::from(value > 0.0);
            }
            "towpath_request_duration_seconds_bucket" => {
                let Some(bound) = series.label("le").and_then(|bound| bound.parse::<f64>().ok()) else {
                    return;
                };
                match self.buckets.iter_mut().find(|(known, _)| *known == bound) {
                    // Of another route.
                    Some((_, count)) => *count += value,
                    None => self.buckets.push((bound, value)),
                }
            }
            _ => {}
        }
    }

    /// What happened since `before`, so many seconds ago.
    pub(super) fn since(&self, before: Option<&Self>, seconds: f64) -> Figures {
        let nothing = Self::default();
        let before = before.unwrap_or(&nothing);
        // What has fallen was set back: the daemon was started anew.
        let grown = |now: f64, before: f64| if now < before { now } else { now - before };
        let requests = grown(self.requests, before.requests);
        let failed = grown(self.failed, before.failed).min(requests);
        let was = |bound: f64| {
            before.buckets.iter().find(|(known, _)| *known == bound).map_or(0.0, |(_, was)| *was)
        };
        Figures {
            rate: requests / seconds,
            success: (requests > 0.0).then(|| 100.0 * (requests - failed) / requests),
            retries: grown(self.retries, before.retries) / seconds,
            buckets: self.buckets.iter().map(|(bound, count)| (*bound, grown(*count, was(*bound)))).collect(),
        }
    }
}

impl Figures {
    /// Seconds within which this part of the requests ended, as Prometheus' `histogram_quantile` has it; none where there were none.
    pub(super) fn quantile(&self, part: f64) -> Option<f64> {
        let total = self.buckets.last().map(|(_, count)| *count).filter(|count| *count > 0.0)?;
        let rank = part * total;
        let at = self.buckets.iter().position(|(_, count)| *count >= rank)?;
        let (bound, count) = self.buckets[at];
        let (start, below) = at.checked_sub(1).map_or((0.0, 0.0), |before| self.buckets[before]);
        if bound.is_infinite() {
            return Some(start);
        }
        Some(start + (bound - start) * (rank - below) / (count - below).max(f64::MIN_POSITIVE))
    }
}

/// One line of a page.
struct Series<'a> {
    name: &'a str,
    labels: Vec<(&'a str, String)>,
    value: f64,
}

impl Series<'_> {
    fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str())
    }
}

/// None of a comment, of what has no labels, and of what is no series.
fn series(line: &str) -> Option<Series<'_>> {
    let (name, mut rest) = line.split_once('{')?;
    if name.starts_with('#') {
        return None;
    }
    let mut labels = Vec::new();
    while !rest.starts_with('}') {
        let (key, quoted) = rest.split_once("=\"")?;
        let (value, after) = unquoted(quoted)?;
        labels.push((key, value));
        rest = after.strip_prefix(',').unwrap_or(after);
    }
    let value = rest[1..].split_whitespace().next()?.parse().ok()?;
    Some(Series { name, labels, value })
}

/// A label's value, and what comes after its quote.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    loop {
        match chars.next()? {
            (at, '"') => return Some((value, &text[at + 1..])),
            (_, '\\') => value.push(match chars.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            (_, c) => value.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = r#"# HELP towpath_requests_total x{service="no"} 1
towpath_requests_total{listener="o",route="a",service="s",code="200"} 10
towpath_build_info 1
"#;
    const AFTER: &str = r#"towpath_requests_total{listener="o",route="a",service="s",code="200"} 100
towpath_requests_total{listener="o",route="b",service="s",code="503"} 10
towpath_request_duration_seconds_bucket{route="a",service="s",le="0.1"} 50
towpath_request_duration_seconds_bucket{route="a",service="s",le="0.2"} 80
towpath_request_duration_seconds_bucket{route="a",service="s",le="+Inf"} 90
towpath_request_duration_seconds_bucket{route="b",service="s",le="0.1"} 0
towpath_request_duration_seconds_bucket{route="b",service="s",le="0.2"} 10
towpath_request_duration_seconds_bucket{route="b",service="s",le="+Inf"} 10
towpath_requests_in_flight{service="s"} 3
towpath_retries_total{service="s",reason="5xx"} 5
towpath_endpoint_available{service="s",endpoint="a,\"}\\"} 1
towpath_endpoint_available{service="s",endpoint="b"} 0 1700000000
"#;

    #[test]
    fn two_pages_tell_what_happened_between_them() {
        let (before, after) = (read(BEFORE), read(AFTER));
        assert_eq!(before.len(), 1);
        let now = &after["s"];
        assert_eq!((now.in_flight, now.usable, now.endpoints), (3.0, 1, 2));
        let figures = now.since(before.get("s"), 10.0);
        assert_eq!((figures.rate, figures.success, figures.retries), (10.0, Some(90.0), 0.5));
        // 50 of 100 took at most 0.1 s, 90 at most 0.2 s.
        let quantile = |part| figures.quantile(part).unwrap();
        assert!((quantile(0.25) - 0.05).abs() < 1e-9, "{}", quantile(0.25));
        assert!((quantile(0.7) - 0.15).abs() < 1e-9, "{}", quantile(0.7));
        assert!((quantile(0.99) - 0.2).abs() < 1e-9, "above every bound: the greatest, {}", quantile(0.99));
    }

    #[test]
    fn where_nothing_happened_there_is_no_success_nor_latency() {
        let page = read(AFTER);
        let figures = page["s"].since(page.get("s"), 1.0);
        assert_eq!((figures.rate, figures.success, figures.quantile(0.5)), (0.0, None, None));
    }

    #[test]
    fn a_daemon_that_was_started_anew_counts_from_nothing() {
        let (before, after) = (read(AFTER), read(BEFORE));
        assert_eq!(after["s"].since(before.get("s"), 1.0).rate, 10.0);
    }
}
