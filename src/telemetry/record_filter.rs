//! Which requests are told of: the filter of the access log and of those who look on.

use super::Record;
use crate::config::{self, EVERY, Name, RecordFilter};

/// Whether `filter` holds for a request. The cheapest questions come first.
pub(super) fn holds(filter: &RecordFilter, record: &Record<'_>) -> bool {
    let status = &filter.status;
    (status.is_empty() || status.iter().any(|range| range.has(record.status)))
        && filter.slower_than.is_none_or(|least| record.duration > least)
        && is_one_of(&filter.routes, record.route)
        && is_one_of(&filter.services, record.service)
        && is_one_of(&filter.callers, Some(record.caller))
        && (filter.sample_ppm == EVERY || is_sampled(filter.sample_ppm, record))
}

fn is_one_of(names: &[Name], name: Option<&str>) -> bool {
    names.is_empty() || name.is_some_and(|name| names.iter().any(|like| config::is_like(name, like)))
}

/// By what travels with a request, so that all nodes that it crosses choose alike: its trace, or else its id. A caller that makes
/// these up may thereby choose.
fn is_sampled(ppm: u32, record: &Record<'_>) -> bool {
    let hash = match record.trace {
        Some(trace) => mix((trace.trace_id >> 64) as u64 ^ trace.trace_id as u64),
        // FNV-1a: the same on every node, unlike the hashes that are seeded.
        None => mix(record.request_id.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        })),
    };
    ((hash >> 32) * 1_000_000) >> 32 < u64::from(ppm)
}

/// Spreads a number over all bits (the end of SplitMix64): ids that count up are sampled as evenly as random ones.
fn mix(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{config::StatusRange, telemetry::record::samples::sample};

    #[test]
    fn all_that_is_written_must_hold() {
        let slow = Record { status: 503, duration: Duration::from_millis(251), ..sample() };
        let filter = RecordFilter {
            status: vec![StatusRange::read("404").unwrap(), StatusRange::read("5xx").unwrap()],
            slower_than: Some(Duration::from_millis(250)),
            routes: vec!["r".into()],
            services: vec!["a".into(), "s*".into()],
            callers: vec!["unk*".into()],
            sample_ppm: EVERY,
        };
        assert!(holds(&filter, &slow));
        let duration = Duration::from_millis(250);
        for other in [
            Record { status: 200, ..slow },
            Record { status: 403, ..slow },
            Record { duration, ..slow },
            Record { route: None, ..slow },
            Record { service: Some("b"), ..slow },
            Record { caller: "shop", ..slow },
        ] {
            assert!(!holds(&filter, &other));
        }
        assert!(holds(&RecordFilter::default(), &Record { route: None, service: None, ..sample() }));
    }

    #[test]
    fn a_sample_is_as_large_as_asked_for_and_the_same_everywhere() {
        let chosen = |ppm: u32| {
            let filter = RecordFilter { sample_ppm: ppm, ..RecordFilter::default() };
            let ids = (0..20_000).map(|n| format!("request-{n}"));
            ids.filter(|id| holds(&filter, &Record { request_id: id.as_bytes(), ..sample() }))
                .collect::<Vec<_>>()
        };
        let (tenth, half) = (chosen(100_000), chosen(500_000));
        assert!((1_800..2_200).contains(&tenth.len()), "{}", tenth.len());
        assert!((9_600..10_400).contains(&half.len()), "{}", half.len());
        assert!(tenth.iter().all(|id| half.contains(id)), "a larger sample has all of a smaller one");
        assert_eq!((chosen(0).len(), chosen(EVERY).len()), (0, 20_000));
    }
}
