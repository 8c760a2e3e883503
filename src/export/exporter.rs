//! The exporter: a thread of its own that gathers requests, and sends their spans in batches.
//!
//! # What waits
//! Requests wait in a bounded queue. While the collector is slow or away the batch in hand is tried again, and the queue fills; what
//! finds it full is dropped by the worker. So a dead collector costs memory up to a bound, and no request anything.
//!
//! # Ends
//! A reload that replaces the exporter lets it go on for [`FLUSH`], in which requests that began before may end; at the end of the process
//! what waits is sent within the same time. Each batch then gets one try.

use std::{
    io,
    sync::{Arc, LazyLock},
    thread,
    time::Duration,
};

use bytes::Bytes;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::InstrumentationScope,
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};

use super::{
    answer::Verdict,
    attributes::Attributes,
    batch::Batch,
    collector::Collector,
    facts::Facts,
    spans,
    standing::{Standing, Watched},
};
use crate::{
    config::{Config, Otlp},
    published::Published,
    telemetry::{Finished, SpanSeries},
    tls::Keeper,
};

/// Requests that wait: about 1 KiB each, a few at most.
const QUEUE: usize = 4096;
/// A batch that is not full goes after this.
const AGE: Duration = Duration::from_secs(1);
/// How often the queue is looked at while a batch is gathered: a worker wakes the thread once for each batch, not for each request.
const TICK: Duration = Duration::from_millis(50);
/// For what waits at the end.
const FLUSH: Duration = Duration::from_secs(2);
/// Before a batch is sent again: the first time, and at most. Each is twice the one before, less up to half by chance.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));
/// A collector that asks for more time than this is asked again all the same.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A batch that has been tried for so long is given up: what is newer is worth more.
const GIVE_UP: Duration = Duration::from_secs(120);

/// Whether there could be an exporter to this collector; nothing is sent.
///
/// # Errors
/// The key of the configuration, and what is wrong with it.
pub fn check(otlp: &Otlp, keeper: &Keeper) -> Result<(), String> {
    Collector::new(otlp, keeper).map(drop).map_err(|error| format!("tracing.{error}"))
}

/// A running exporter. Dropped, it ends when its queue does.
pub struct Exporter {
    ending: watch::Sender<Option<Ending>>,
    facts: Published<Facts>,
    watched: Arc<Watched>,
    /// Nothing is ever sent; closed when the thread has ended.
    ended: watch::Receiver<()>,
}

#[derive(Clone, Copy)]
struct Ending {
    deadline: Instant,
    /// More may come until then.
    waits: bool,
}

impl Exporter {
    /// Starts the thread. What is to be exported goes to the sender.
    ///
    /// # Errors
    /// The key of the configuration, and what is wrong with it; the thread cannot be started.
    pub fn start(
        otlp: &Otlp,
        config: &Config,
        series: SpanSeries,
        keeper: &Keeper,
    ) -> Result<(Self, mpsc::Sender<Finished>), String> {
        let collector = Collector::new(otlp, keeper).map_err(|error| format!("tracing.{error}"))?;
        let (sender, queue) = mpsc::channel(QUEUE);
        let (ending, told) = watch::channel(None);
        let (running, ended) = watch::channel(());
        let facts = Published::new(Arc::new(Facts::of(config)));
        let watched = Arc::new(Watched::new(&otlp.url));
        let work = Work {
            queue,
            ending: told,
            collector,
            facts: facts.clone(),
            series,
            watched: watched.clone(),
            complaint: String::new(),
        };
        let thread = thread::Builder::new().name("spans".into()).spawn(move || run(work, running));
        thread.map_err(|error| format!("tracing: cannot start a thread: {error}"))?;
        Ok((Self { ending, facts, watched, ended }, sender))
    }

    /// `config` is in force from now on.
    pub fn follow(&self, config: &Config) {
        self.facts.publish(Arc::new(Facts::of(config)));
    }

    /// How it goes with the collector.
    pub fn standing(&self) -> Standing {
        self.watched.get()
    }

    /// Another takes over: what still comes is sent for a moment, then it ends.
    pub fn retire(&self) {
        self.end(true);
    }

    /// Sends what waits, and ends. Over when that is done, after [`FLUSH`] at the latest. Whoever awaits this stays free to obey signals.
    pub async fn finish(&self) {
        self.end(false);
        let mut ended = self.ended.clone();
        // A little more, so that the thread can say what it could not send.
        if timeout(FLUSH + TICK, ended.changed()).await.is_err() {
            tracing::warn!("spans that wait for the collector are lost");
        }
    }

    fn end(&self, waits: bool) {
        let deadline = Instant::now() + FLUSH;
        self.ending.send_replace(Some(Ending { deadline, waits }));
    }
}

/// The thread. Whoever waits for its end waits for `_running` to be dropped.
fn run(work: Work, _running: watch::Sender<()>) {
    match runtime() {
        Ok(runtime) => {
            runtime.block_on(work.run());
            // A name that is still being resolved is not waited for.
            runtime.shutdown_background();
        }
        Err(error) => tracing::error!(%error, "spans cannot be exported"),
    }
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build()
}

/// A number for this process (`service.instance.id`), whatever becomes of exporters: a random UUID.
static INSTANCE: LazyLock<String> = LazyLock::new(|| {
    let random = fastrand::u128(..) & !(0xf << 76 | 0x3 << 62) | 4 << 76 | 2 << 62;
    let hex = format!("{random:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
});

/// What the thread works with.
struct Work {
    queue: mpsc::Receiver<Finished>,
    ending: watch::Receiver<Option<Ending>>,
    collector: Collector,
    facts: Published<Facts>,
    series: SpanSeries,
    watched: Arc<Watched>,
    /// What the collector said last of spans that it did not want.
    complaint: String,
}

impl Work {
    async fn run(mut self) {
        while let Some(batch) = self.gather().await {
            self.deliver(batch).await;
        }
        self.queue.close();
        while let Ok(left) = self.queue.try_recv() {
            self.series.dropped.add(left.spans() as u64);
        }
    }

    /// The next batch; none when it is over.
    async fn gather(&mut self) -> Option<Vec<Span>> {
        let first = self.first().await?;
        let due = Instant::now() + AGE;
        let mut batch = Batch::default();
        batch.add(spans::of(&first, &self.facts.get()));
        loop {
            while !batch.is_full()
                && let Ok(next) = self.queue.try_recv()
            {
                // A reload may have come in between.
                batch.add(spans::of(&next, &self.facts.get()));
            }
            if batch.is_full() || Instant::now() >= due || self.ending.borrow().is_some() {
                return Some(batch.into_spans());
            }
            tokio::select! {
                () = sleep(TICK) => {}
                Ok(()) = self.ending.changed() => {}
            }
        }
    }

    /// Waits for a request; none when there will be no more.
    async fn first(&mut self) -> Option<Finished> {
        loop {
            let ending = *self.ending.borrow_and_update();
            match ending {
                Some(Ending { deadline, .. }) if Instant::now() >= deadline => return None,
                Some(Ending { deadline, waits: true }) => {
                    return timeout_at(deadline, self.queue.recv()).await.ok().flatten();
                }
                Some(_) => return self.queue.try_recv().ok(),
                None => {}
            }
            tokio::select! {
                first = self.queue.recv() => return first,
                Ok(()) = self.ending.changed() => {}
            }
        }
    }

    /// Sends a batch, again and again while that may help.
    async fn deliver(&mut self, batch: Vec<Span>) {
        let count = batch.len() as u64;
        let body = self.body(batch);
        let (begun, mut pause) = (Instant::now(), PAUSE.0);
        let mut ending = self.ending.clone();
        loop {
            let verdict = tokio::select! {
                verdict = self.collector.send(&body) => verdict,
                () = deadline(&mut ending) => {
                    Verdict::Never { error: "no answer before towpath let go of it".to_owned() }
                }
            };
            let (error, after) = match verdict {
                Verdict::Taken { rejected, message } => return self.taken(count, rejected, message),
                Verdict::Never { error } => (error, None),
                Verdict::Later { error, after } => {
                    let jitter = 0.5 + fastrand::f64() / 2.0;
                    (error, Some(after.map_or(pause.mul_f64(jitter), |after| after.min(LONGEST_PAUSE))))
                }
            };
            self.watched.fails(&error);
            let over = ending.borrow().is_some() || begun.elapsed() >= GIVE_UP;
            let Some(wait) = after.filter(|_| !over) else {
                self.series.failed.add(count);
                return;
            };
            tokio::select! {
                () = sleep(wait) => {}
                // One more try, and that is it.
                Ok(()) = ending.changed() => {}
            }
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    fn taken(&mut self, count: u64, rejected: u64, message: String) {
        let rejected = rejected.min(count);
        self.series.exported.add(count - rejected);
        self.series.failed.add(rejected);
        self.watched.works();
        if message != self.complaint {
            if rejected > 0 || !message.is_empty() {
                tracing::warn!(rejected, message, "the collector does not want all spans");
            }
            self.complaint = message;
        }
    }

    fn body(&self, spans: Vec<Span>) -> Bytes {
        let scope = InstrumentationScope {
            name: "towpath".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let scope_spans = ScopeSpans { scope: Some(scope), spans, schema_url: String::new() };
        let resource_spans = ResourceSpans {
            resource: Some(self.resource()),
            scope_spans: vec![scope_spans],
            schema_url: String::new(),
        };
        self.collector.frame(&ExportTraceServiceRequest { resource_spans: vec![resource_spans] })
    }

    /// Who tells all this.
    fn resource(&self) -> Resource {
        let facts = self.facts.get();
        let mut attributes = Attributes::default();
        attributes.text("service.name", "towpath");
        attributes.text("service.version", env!("CARGO_PKG_VERSION"));
        attributes.text("service.instance.id", &**INSTANCE);
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname");
        attributes.maybe("host.name", host.ok().map(|host| host.trim().to_owned()));
        attributes.text("towpath.node", &*facts.node);
        attributes.maybe("cloud.availability_zone", facts.zone.as_deref());
        Resource { attributes: attributes.0, ..Resource::default() }
    }
}

/// When an end that has been told, or will be, is due.
async fn deadline(ending: &mut watch::Receiver<Option<Ending>>) {
    loop {
        let told = *ending.borrow_and_update();
        if let Some(Ending { deadline, .. }) = told {
            return sleep_until(deadline).await;
        }
        if ending.changed().await.is_err() {
            // Nobody can tell any more.
            return sleep(FLUSH).await;
        }
    }
}
