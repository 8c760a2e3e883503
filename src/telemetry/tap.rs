//! Tap: requests as they happen, for whoever looks on through the admin API.
//!
//! While nobody looks on, a request reads one flag that nobody writes. Who does gets the lines of the JSON access log, whatever the
//! format of the log itself; what is too much for him is dropped and counted, and no worker waits.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{Metrics, Record, access_line, record_filter, series::Counter};
use crate::{config::RecordFilter, published::Published};

/// Who may look on at a time.
const MOST: usize = 8;
/// Records that wait for one who looks on.
const WAITING: usize = 1024;
/// Their bytes: a caller chooses how long its record is.
const WAITING_BYTES: usize = 256 << 10;

/// Where those look on who watch this node's requests.
pub struct Tap {
    active: AtomicBool,
    watchers: Published<Vec<Arc<Watcher>>>,
    /// Held while the watchers change; by the control thread alone.
    changing: Mutex<()>,
    sent: Counter,
    dropped: Counter,
}

/// One who looks on, as workers see him.
struct Watcher {
    filter: RecordFilter,
    /// Records each second.
    rate: u32,
    since: Instant,
    /// The second that counts now, and how many records it had: 32 bits each.
    second: AtomicU64,
    queue: mpsc::Sender<Bytes>,
    /// In the queue.
    bytes: AtomicUsize,
    dropped: AtomicU64,
}

/// One look at this node's requests; dropping it ends it.
pub struct Watch {
    tap: Arc<Tap>,
    watcher: Arc<Watcher>,
    records: mpsc::Receiver<Bytes>,
}

impl Tap {
    /// At which nobody looks on yet.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            active: AtomicBool::new(false),
            watchers: Published::new(Arc::default()),
            changing: Mutex::default(),
            sent: metrics.tap_sent.clone(),
            dropped: metrics.tap_dropped.clone(),
        }
    }

    /// Whether anybody looks on.
    pub fn is_active(&self) -> bool {
        self.active.load(Relaxed)
    }

    /// How many look on.
    pub fn watchers(&self) -> usize {
        self.watchers.get().len()
    }

    /// Shows the requests that `filter` holds for, at most `rate` of them each second; none where too many look on already.
    pub fn watch(self: &Arc<Self>, filter: RecordFilter, rate: u32) -> Option<Watch> {
        let (queue, records) = mpsc::channel(WAITING);
        let (second, bytes, dropped) = (AtomicU64::new(0), AtomicUsize::new(0), AtomicU64::new(0));
        let since = Instant::now();
        let watcher = Arc::new(Watcher { filter, rate, since, second, queue, bytes, dropped });
        let _changing = self.changing();
        let mut all = (*self.watchers.get()).clone();
        if all.len() >= MOST {
            return None;
        }
        all.push(watcher.clone());
        self.publish(all);
        Some(Watch { tap: self.clone(), watcher, records })
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, watchers: Vec<Arc<Watcher>>) {
        let active = !watchers.is_empty();
        self.watchers.publish(Arc::new(watchers));
        self.active.store(active, Relaxed);
    }

    /// A request that is over.
    pub fn offer(&self, record: &Record<'_>) {
        let mut line = None;
        for watcher in
            self.watchers.get().iter().filter(|watcher| record_filter::holds(&watcher.filter, record))
        {
            let taken = watcher.may_have_one(Instant::now()) && {
                let line = line.get_or_insert_with(|| formatted(record)).clone();
                watcher.takes(line)
            };
            if taken {
                self.sent.inc();
            } else {
                self.dropped.inc();
                watcher.dropped.fetch_add(1, Relaxed);
            }
        }
    }
}

fn formatted(record: &Record<'_>) -> Bytes {
    let mut line = Vec::new();
    access_line::write(&mut line, record);
    line.into()
}

impl Watcher {
    /// Counts one more record of this second, unless there were as many as the rate.
    fn may_have_one(&self, now: Instant) -> bool {
        let second = now.duration_since(self.since).as_secs();
        let next = |last: u64| {
            let had = if last >> 32 == second { last & u64::from(u32::MAX) } else { 0 };
            (had < u64::from(self.rate)).then_some(second << 32 | (had + 1))
        };
        self.second.fetch_update(Relaxed, Relaxed, next).is_ok()
    }

    /// Leaves a record in the queue, if there is room.
    fn takes(&self, line: Bytes) -> bool {
        let length = line.len();
        let room = self.bytes.fetch_add(length, Relaxed) + length <= WAITING_BYTES;
        let taken = room && self.queue.try_send(line).is_ok();
        if !taken {
            self.bytes.fetch_sub(length, Relaxed);
        }
        taken
    }
}

impl Watch {
    /// Waits for records, and takes up to `most` of them.
    pub async fn next(&mut self, records: &mut Vec<Bytes>, most: usize) {
        let before = records.len();
        self.records.recv_many(records, most).await;
        let taken = records[before..].iter().map(Bytes::len).sum();
        self.watcher.bytes.fetch_sub(taken, Relaxed);
    }

    /// How many were dropped since this was asked last.
    pub fn dropped(&self) -> u64 {
        self.watcher.dropped.swap(0, Relaxed)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _changing = self.tap.changing();
        let mut all = (*self.tap.watchers.get()).clone();
        all.retain(|watcher| !Arc::ptr_eq(watcher, &self.watcher));
        self.tap.publish(all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::record::samples::sample;

    fn tap() -> Arc<Tap> {
        Arc::new(Tap::new(&Metrics::new(1)))
    }

    fn taken(watch: &mut Watch) -> Vec<Bytes> {
        std::iter::from_fn(|| watch.records.try_recv().ok()).collect()
    }

    #[test]
    fn whoever_looks_on_sees_what_his_filter_wants_and_nobody_else_is_asked() {
        let tap = tap();
        assert!(!tap.is_active());
        let mut all = tap.watch(RecordFilter::default(), 100).unwrap();
        let routes = vec!["other".into()];
        let mut none = tap.watch(RecordFilter { routes, ..RecordFilter::default() }, 100).unwrap();
        assert!(tap.is_active());
        tap.offer(&sample());
        let lines = taken(&mut all);
        let line: serde_json::Value = serde_json::from_slice(&lines[0]).unwrap();
        assert_eq!((lines.len(), &line["route"]), (1, &serde_json::json!("r")));
        assert!(taken(&mut none).is_empty());
        drop((all, none));
        assert!(!tap.is_active());
    }

    #[test]
    fn beyond_the_rate_records_are_dropped_and_counted_until_the_next_second() {
        let tap = tap();
        let watch = tap.watch(RecordFilter::default(), 2).unwrap();
        let (watcher, start) = (&watch.watcher, watch.watcher.since);
        let allowed = |millis: u64| {
            (0..5).filter(|_| watcher.may_have_one(start + std::time::Duration::from_millis(millis))).count()
        };
        assert_eq!([allowed(0), allowed(999), allowed(1000), allowed(5000)], [2, 0, 2, 2]);
        let mut other = tap.watch(RecordFilter::default(), 1).unwrap();
        (0..3).for_each(|_| tap.offer(&sample()));
        assert!(taken(&mut other).len() as u64 + other.dropped() == 3);
        assert_eq!(other.dropped(), 0, "each is told once");
    }

    #[test]
    fn one_who_does_not_read_loses_records() {
        let tap = tap();
        let watch = tap.watch(RecordFilter::default(), 1_000_000).unwrap();
        let taken = (0..WAITING + 5).filter(|_| watch.watcher.takes(Bytes::from_static(b"{}"))).count();
        assert_eq!((taken, watch.watcher.bytes.load(Relaxed)), (WAITING, 2 * WAITING));
        (0..5).for_each(|_| tap.offer(&sample()));
        assert_eq!((watch.dropped(), tap.sent.get(), tap.dropped.get()), (5, 0, 5));
    }

    #[tokio::test]
    async fn records_that_wait_are_bounded_in_bytes_until_they_are_taken() {
        let tap = tap();
        let mut watch = tap.watch(RecordFilter::default(), 1).unwrap();
        let long = Bytes::from(vec![b'x'; WAITING_BYTES / 4]);
        let taken = |watch: &Watch| (0..9).filter(|_| watch.watcher.takes(long.clone())).count();
        assert_eq!(taken(&watch), 4);
        let mut records = Vec::new();
        watch.next(&mut records, 3).await;
        assert_eq!((records.len(), taken(&watch)), (3, 3));
    }

    #[test]
    fn only_so_many_look_on_at_a_time() {
        let tap = tap();
        let mut watches: Vec<_> = (0..MOST).map(|_| tap.watch(RecordFilter::default(), 1).unwrap()).collect();
        assert!(tap.watch(RecordFilter::default(), 1).is_none());
        watches.pop();
        assert!(tap.watch(RecordFilter::default(), 1).is_some());
    }
}
