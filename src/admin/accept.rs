//! Which text form of metrics a scraper wants, by its `accept` header (RFC 9110 12.5.1).
//!
//! A more specific range counts before a less specific one, wherever it stands. Who names OpenMetrics and wants it no less than
//! plain text gets it; everybody else gets plain text, also who accepts neither: a scraper can say what it cannot read better than a 406.

use axum::http::{HeaderMap, header};

use crate::telemetry::Format;

/// Thousandths; how specific the range was that says so. None: not accepted by any range.
type Quality = Option<(u8, u16)>;

/// The form to answer in.
pub(super) fn format(headers: &HeaderMap) -> Format {
    let (mut open, mut plain): (Quality, Quality) = (None, None);
    for value in headers.get_all(header::ACCEPT) {
        for range in value.to_str().unwrap_or_default().split(',') {
            let Some(range) = Range::read(range) else { continue };
            open = open.max(range.quality_of("application", "openmetrics-text", "1.0.0"));
            plain = plain.max(range.quality_of("text", "plain", "0.0.4"));
        }
    }
    let quality = |of: Quality| of.map_or(0, |(_, thousandths)| thousandths);
    let is_named = open.is_some_and(|(specific, _)| specific >= 2);
    if is_named && quality(open) > 0 && quality(open) >= quality(plain) {
        Format::OpenMetrics
    } else {
        Format::Prometheus
    }
}

/// One media range.
struct Range<'a> {
    kind: &'a str,
    subtype: &'a str,
    version: Option<&'a str>,
    thousandths: u16,
}

impl<'a> Range<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let (kind, subtype) = parts.next()?.split_once('/')?;
        let mut range = Self { kind, subtype, version: None, thousandths: 1000 };
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            let value = value.trim().trim_matches('"');
            match name.trim() {
                name if name.eq_ignore_ascii_case("q") => range.thousandths = thousandths(value)?,
                name if name.eq_ignore_ascii_case("version") => range.version = Some(value),
                _ => {}
            }
        }
        Some(range)
    }

    fn quality_of(&self, kind: &str, subtype: &str, version: &str) -> Quality {
        let is = |own: &str, name: &str| own == "*" || own.eq_ignore_ascii_case(name);
        let fits =
            is(self.kind, kind) && is(self.subtype, subtype) && self.version.is_none_or(|own| own == version);
        let specific = match (self.kind, self.subtype, self.version) {
            ("*", ..) => 0,
            (_, "*", _) => 1,
            (.., None) => 2,
            (.., Some(_)) => 3,
        };
        fits.then_some((specific, self.thousandths))
    }
}

/// 0 to 1 with at most three digits behind the point.
fn thousandths(value: &str) -> Option<u16> {
    let quality: f64 = value.parse().ok()?;
    (0.0..=1.0).contains(&quality).then_some((quality * 1000.0).round() as u16)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn of(accept: &[&'static str]) -> Format {
        let mut headers = HeaderMap::new();
        for value in accept {
            headers.append(header::ACCEPT, HeaderValue::from_static(value));
        }
        format(&headers)
    }

    #[test]
    fn prometheus_gets_open_metrics_as_each_of_its_versions_asks() {
        for accept in [
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            "application/OpenMetrics-Text",
        ] {
            assert_eq!(of(&[accept]), Format::OpenMetrics, "{accept}");
        }
        assert_eq!(of(&["text/plain;q=0.5", "application/openmetrics-text;q=0.6"]), Format::OpenMetrics);
    }

    #[test]
    fn who_does_not_ask_for_open_metrics_or_wants_it_less_gets_plain_text() {
        for accept in [
            "",
            "*/*",
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "application/*",
            "text/plain;version=0.0.4;q=0.9,application/openmetrics-text;version=1.0.0;q=0.3",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=2",
            "application/openmetrics-text;q=0,*/*",
            "application/openmetrics-text;version=2.0.0,*/*;q=0.1",
            "image/png",
            "nonsense",
        ] {
            assert_eq!(of(&[accept]), Format::Prometheus, "{accept}");
        }
        assert_eq!(of(&[]), Format::Prometheus);
    }
}
