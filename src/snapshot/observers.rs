//! Who is told of requests: the access log, traces, and whoever looks on.
//!
//! What is configured alike stays open over reloads. What is replaced is dropped by the control thread, which may wait for a writer.

use std::sync::Arc;

use crate::{
    config::Config,
    export::Exporter,
    telemetry::{AccessLog, Metrics, Record, Tap, Tracer},
    tls::Keeper,
};

/// Who is told of requests.
#[derive(Clone)]
pub struct Observers {
    /// Open when it is configured.
    pub access_log: Option<Arc<AccessLog>>,
    /// There when tracing is configured.
    pub tracer: Option<Arc<Tracer>>,
    /// There when the tracer's spans go somewhere.
    pub exporter: Option<Arc<Exporter>>,
    /// Shared by all snapshots.
    pub tap: Arc<Tap>,
}

impl Observers {
    /// Those that `config` wants; the ones of `previous` where they are the same.
    ///
    /// # Errors
    /// What could not be opened, for people.
    pub(super) fn open(
        config: &Config,
        previous: Option<(&Config, &Self)>,
        metrics: &Metrics,
        keeper: &Keeper,
    ) -> Result<Self, String> {
        let access_log = access_log(config, previous, metrics);
        let tracing = tracing(config, previous, (metrics, keeper));
        let (access_log, (tracer, exporter)) = match (access_log, tracing) {
            (Ok(access_log), Ok(tracing)) => (access_log, tracing),
            (access_log, tracing) => {
                let problems = [access_log.err(), tracing.err()];
                return Err(problems.into_iter().flatten().collect::<Vec<_>>().join("\n"));
            }
        };
        Ok(Self {
            access_log,
            tracer,
            exporter,
            tap: previous.map_or_else(|| Arc::new(Tap::new(metrics)), |(_, previous)| previous.tap.clone()),
        })
    }

    /// Whether anybody wants to know of requests.
    pub fn any(&self) -> bool {
        self.access_log.is_some() || self.tracer.is_some() || self.tap.is_active()
    }

    /// What of these is not in `next`.
    pub(super) fn replaced_by(&self, next: &Self) -> Self {
        fn other<T>(old: &Option<Arc<T>>, new: &Option<Arc<T>>) -> Option<Arc<T>> {
            let same = |old: &Arc<T>| new.as_ref().is_some_and(|new| Arc::ptr_eq(old, new));
            old.clone().filter(|old| !same(old))
        }
        Self {
            access_log: other(&self.access_log, &next.access_log),
            tracer: other(&self.tracer, &next.tracer),
            exporter: None,
            tap: self.tap.clone(),
        }
    }

    /// `config` is in force, with these in place of `previous`: what the exporter of those still has, it sends now.
    pub(super) fn in_force(&self, config: &Config, previous: &Self) {
        if let Some(exporter) = &self.exporter {
            exporter.follow(config);
        }
        if let Some(old) = &previous.exporter
            && !self.exporter.as_ref().is_some_and(|new| Arc::ptr_eq(old, new))
        {
            old.retire();
        }
    }

    /// Sends what waits for the collector; returns when that is done, or has taken too long.
    pub(super) async fn finish(&self) {
        if let Some(exporter) = &self.exporter {
            exporter.finish().await;
        }
    }

    /// Whether anybody but the control thread has what is open here.
    pub(super) fn is_used(&self) -> bool {
        self.access_log.as_ref().is_some_and(|log| Arc::strong_count(log) > 1)
            || self.tracer.as_ref().is_some_and(|tracer| Arc::strong_count(tracer) > 1)
    }

    /// Tells everybody of a request that is over.
    pub fn tell(&self, record: &Record<'_>) {
        if let Some(log) = &self.access_log {
            log.record(record);
        }
        if let Some(tracer) = &self.tracer {
            tracer.finish(record);
        }
        if self.tap.is_active() {
            self.tap.offer(record);
        }
    }
}

fn access_log(
    config: &Config,
    previous: Option<(&Config, &Observers)>,
    metrics: &Metrics,
) -> Result<Option<Arc<AccessLog>>, String> {
    let Some(wanted) = &config.access_log else { return Ok(None) };
    if let Some((_, previous)) = previous.filter(|(config, _)| config.access_log.as_ref() == Some(wanted)) {
        return Ok(previous.access_log.clone());
    }
    AccessLog::open(wanted, metrics)
        .map(|log| Some(Arc::new(log)))
        .map_err(|error| format!("access_log.path: cannot open {}: {error}", wanted.path))
}

/// Who decides about spans, and who sends them.
type Tracing = (Option<Arc<Tracer>>, Option<Arc<Exporter>>);

fn tracing(
    config: &Config,
    previous: Option<(&Config, &Observers)>,
    (metrics, keeper): (&Metrics, &Keeper),
) -> Result<Tracing, String> {
    let Some(wanted) = &config.tracing else { return Ok((None, None)) };
    if let Some((before, previous)) = previous
        && let Some((before, tracer)) = before.tracing.as_ref().zip(previous.tracer.as_ref())
        && before.otlp == wanted.otlp
    {
        // The collector is the same: what waits for it stays where it is, whatever else has changed.
        let tracer = if before == wanted { tracer.clone() } else { Arc::new(tracer.with(wanted.clone())) };
        return Ok((Some(tracer), previous.exporter.clone()));
    }
    let series = metrics.span_series();
    let started = wanted.otlp.as_ref().map(|otlp| Exporter::start(otlp, config, series.clone(), keeper));
    let (exporter, queue) = started.transpose()?.unzip();
    let tracer = Tracer::new(wanted.clone(), series, queue);
    Ok((Some(Arc::new(tracer)), exporter.map(Arc::new)))
}
