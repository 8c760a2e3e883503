//! Which requests get spans, and the way of those from workers to the exporter.
//!
//! # Which
//! Those of sampled traces. Of the others those that failed or were slow, within a rate for each of both: it is known only at their end, so
//! what the endpoints of such a request did is in nobody's trace but this node's own spans.
//!
//! Slow is what took long to begin to answer: a stream that goes on for hours is none. Even so failures have a share of their own, so
//! that no number of slow requests uses it up.
//!
//! # What it costs
//! A request that gets none pays for a few comparisons. One that gets some is copied once and handed over without waiting; what finds
//! the queue full is dropped and counted.

use tokio::sync::mpsc::Sender;

use super::{
    Finished, Record, SpanSeries, TraceContext,
    keep_rate::KeepRate,
    record::{CALLER_GONE, NO_ANSWER, was_sent},
};
use crate::config::Tracing;

/// Decides about spans, and hands them on.
pub struct Tracer {
    wanted: Tracing,
    failed: KeepRate,
    slow: KeepRate,
    series: SpanSeries,
    /// None where spans go nowhere.
    exporter: Option<Sender<Finished>>,
}

impl Tracer {
    /// As `wanted`; requests that get spans go to `exporter`.
    pub fn new(wanted: Tracing, series: SpanSeries, exporter: Option<Sender<Finished>>) -> Self {
        let [failed, slow] = [wanted.keep.per_second; 2].map(KeepRate::new);
        Self { wanted, failed, slow, series, exporter }
    }

    /// One that does as `wanted`, with the exporter of this.
    pub fn with(&self, wanted: Tracing) -> Self {
        Self::new(wanted, self.series.clone(), self.exporter.clone())
    }

    /// What is configured.
    pub fn wanted(&self) -> &Tracing {
        &self.wanted
    }

    /// Whether a new trace is sampled; `random` is uniform.
    pub fn samples(&self, random: u64) -> bool {
        // The upper half, scaled: no division, no bias that matters at a millionth.
        ((random >> 32) * 1_000_000) >> 32 < u64::from(self.wanted.sample_ppm)
    }

    /// A request that is over.
    pub fn finish(&self, record: &Record<'_>) {
        let (Some(exporter), Some(trace)) = (&self.exporter, record.trace) else { return };
        let failed = has_failed(record);
        if !self.wants(record, trace, failed) {
            return;
        }
        // The place first: while the queue is full nothing is copied.
        match exporter.try_reserve() {
            Ok(place) => place.send(Finished::new(record, *trace, failed)),
            Err(_) => self.series.dropped.add(1 + record.notes.len() as u64),
        }
    }

    fn wants(&self, record: &Record<'_>, trace: &TraceContext, failed: bool) -> bool {
        if trace.sampled || trace.debug {
            return true;
        }
        let kept = if failed {
            self.failed.take()
        } else if record.phases.answered.unwrap_or(record.duration) >= self.wanted.keep.slower_than {
            self.slow.take()
        } else {
            return false;
        };
        if !kept {
            self.series.not_kept.add(1 + record.notes.len() as u64);
        }
        kept
    }
}

/// Whether the server side is at fault: a 5xx or what is one in gRPC, or an answer that broke off. A caller that goes away has
/// not been failed.
fn has_failed(record: &Record<'_>) -> bool {
    match (record.status, record.grpc_status) {
        (CALLER_GONE, _) => false,
        // That of an endpoint is a 4xx like others.
        (NO_ANSWER, _) => !was_sent(record.status, record.notes),
        (500.., _) => true,
        (_, Some(code)) if record.is_grpc => is_grpc_failure(code),
        // Its head was fine, so the reason came behind it.
        (status, _) => status < 400 && record.reason.is_some(),
    }
}

/// UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS: what OpenTelemetry's conventions count against a server.
fn is_grpc_failure(code: u32) -> bool {
    matches!(code, 2 | 4 | 12..=15)
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, time::Duration};

    use tokio::sync::mpsc::{Receiver, channel};

    use super::*;
    use crate::{
        config::{Keep, TraceFormats},
        net::Address,
        telemetry::{
            AttemptNote, Metrics, Phases,
            record::samples::{attempt, sample},
        },
    };

    fn record<'a>(peer: &'a Address, trace: &'a TraceContext) -> Record<'a> {
        Record { peer, trace: Some(trace), duration: Duration::from_millis(1), ..sample() }
    }

    fn trace(sampled: bool) -> TraceContext {
        TraceContext { sampled, ..TraceContext::take(&mut http::HeaderMap::new(), || false, [1, 2, 3]) }
    }

    fn tracer(per_second: u32) -> (Tracer, Receiver<Finished>, SpanSeries) {
        let wanted = Tracing {
            otlp: None,
            sample_ppm: 0,
            propagate: TraceFormats::default(),
            keep: Keep { slower_than: Duration::from_secs(1), per_second },
        };
        let series = Metrics::new(1).span_series();
        let (sender, receiver) = channel(8);
        (Tracer::new(wanted, series.clone(), Some(sender)), receiver, series)
    }

    fn answered(ms: u64) -> Phases {
        Phases { answered: Some(Duration::from_millis(ms)), ..Phases::default() }
    }

    fn peer() -> Address {
        Address::Tcp(SocketAddr::from(([127, 0, 0, 1], 5000)))
    }

    #[test]
    fn what_is_not_sampled_is_kept_when_it_failed_or_was_slow() {
        let (peer, trace) = (peer(), trace(false));
        let plain = || record(&peer, &trace);
        let own_444 = [AttemptNote { status: Some(444), ..attempt() }];
        for (record, kept) in [
            (plain(), false),
            (Record { status: 499, reason: Some("x"), ..plain() }, false),
            (Record { status: 404, reason: Some("no_route"), ..plain() }, false),
            (Record { status: 503, ..plain() }, true),
            (Record { status: 444, reason: Some("fault_injected"), ..plain() }, true),
            (Record { reason: Some("upstream_reset"), ..plain() }, true),
            (Record { duration: Duration::from_secs(1), ..plain() }, true),
            (Record { duration: Duration::from_secs(9), phases: answered(999), ..plain() }, false),
            (Record { duration: Duration::from_secs(9), phases: answered(1000), ..plain() }, true),
            (Record { status: 444, notes: &own_444, ..plain() }, false),
            (Record { status: 499, notes: &own_444, ..plain() }, false),
            (Record { status: 444, notes: &[attempt()], ..plain() }, true),
            (Record { is_grpc: true, grpc_status: Some(13), ..plain() }, true),
            (Record { is_grpc: true, grpc_status: Some(5), ..plain() }, false),
            (Record { is_grpc: true, grpc_status: Some(7), reason: Some("denied"), ..plain() }, false),
            (Record { is_grpc: true, reason: Some("upstream_reset"), ..plain() }, true),
            (Record { trace: None, status: 503, ..plain() }, false),
        ] {
            let (tracer, mut waiting, _) = tracer(10);
            tracer.finish(&record);
            assert_eq!(waiting.try_recv().is_ok(), kept, "{} {:?}", record.status, record.reason);
        }
    }

    #[test]
    fn sampled_requests_go_by_no_rate_and_what_is_refused_is_counted() {
        let (peer, sampled, other) = (peer(), trace(true), trace(false));
        let (tracer, mut waiting, series) = tracer(0);
        tracer.finish(&Record { status: 503, ..record(&peer, &other) });
        assert_eq!(series.not_kept.get(), 1);
        tracer.finish(&record(&peer, &sampled));
        assert!(waiting.try_recv().is_ok());
    }

    #[test]
    fn slow_requests_leave_failures_their_share() {
        let (peer, other) = (peer(), trace(false));
        let (tracer, mut waiting, series) = tracer(2);
        let slow = || Record { duration: Duration::from_secs(5), ..record(&peer, &other) };
        (0..1000).for_each(|_| tracer.finish(&slow()));
        while waiting.try_recv().is_ok() {}
        let before = series.not_kept.get();
        tracer.finish(&Record { status: 503, ..slow() });
        assert!(waiting.try_recv().is_ok_and(|kept| kept.failed));
        assert!(before >= 990 && series.not_kept.get() == before);
    }

    #[test]
    fn what_is_wanted_changes_and_the_queue_stays() {
        let (peer, other) = (peer(), trace(false));
        let (old, mut waiting, _) = tracer(0);
        let keep = Keep { slower_than: Duration::from_secs(1), per_second: 1 };
        let new = old.with(Tracing { keep, ..old.wanted().clone() });
        drop(old);
        new.finish(&Record { status: 503, ..record(&peer, &other) });
        assert!(waiting.try_recv().is_ok());
    }

    #[test]
    fn what_finds_the_queue_full_is_dropped_and_counted() {
        let (peer, sampled) = (peer(), trace(true));
        let (tracer, waiting, series) = tracer(0);
        (0..20).for_each(|_| tracer.finish(&record(&peer, &sampled)));
        assert_eq!((waiting.len(), series.dropped.get()), (8, 12));
        drop(waiting);
        tracer.finish(&record(&peer, &sampled));
        assert_eq!(series.dropped.get(), 13);
    }

    #[test]
    fn what_waits_is_bounded_whatever_callers_write() {
        let (peer, sampled, path) = (peer(), trace(true), [b'x'; 100_000]);
        let (tracer, mut waiting, _) = tracer(0);
        let (method, service) = ("M".repeat(65_536), "\u{e9}".repeat(65_536));
        let (service, method) = (Some(&*service), &*method);
        tracer.finish(&Record { path: &path, host: &path, method, service, ..record(&peer, &sampled) });
        let finished = waiting.try_recv().unwrap();
        assert!(finished.path.len() < 4096 && finished.host.len() < 4096);
        assert!(finished.method.len() == 64 && finished.service.unwrap().len() < 4096);
    }
}
