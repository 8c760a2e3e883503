//! A limit that follows latency: Gradient2 of Netflix's concurrency-limits (`limit/Gradient2Limit.java`), with three changes.
//!
//! The limit is multiplied by how much longer answers usually take than they take now, and gets a little on top. While a callee keeps
//! up it grows; once requests queue inside the callee, it falls to where the queue is short.
//!
//! # What is different, and why
//! - *What answers usually take* is not a plain average of the last minutes: under an overload that lasts, it would rise to
//!   what answers take in the queue, and the limit with it. It rises only while the limit is not in use, or so low that queueing
//!   is not the reason ([`CORNER`]).
//! - *It looks.* After some time in use the limit halves for a moment ([`LOOK`]): a callee in which requests queue answers no fewer for
//!   it, and shows what it takes without the queue (BBR's ProbeRTT). So a limit that began under load finds down as well.
//! - *Drops count*: each share of requests that timed out takes half of itself off the limit.
//!
//! The tolerance is 1.25 in place of 1.5, and the room on top is the square root of the limit in place of 4, half of it while answers take
//! longer than usual: requests wait in the queue on this side as well, and both waits together are to stay under three times an answer.

use std::{
    cell::Cell,
    sync::{
        Mutex, PoisonError,
        atomic::{
            AtomicU32, AtomicU64,
            Ordering::{AcqRel, Relaxed},
        },
    },
    time::Duration,
};

use super::concurrency::Gate;

/// Never lower: one request at a time says nothing about the next.
const LEAST: f64 = 4.0;
/// Answers may take this much longer than usual before the limit falls.
const TOLERANCE: f64 = 1.25;
/// How far one window moves the limit towards where it wants it: up, and down. Netflix's is 0.2 for both, which takes seconds to
/// come from a limit that nobody used to the one that an overload needs.
const SMOOTHING: [f64; 2] = [0.3, 0.4];
/// At this limit, long answers are not the queue's doing.
const CORNER: f64 = 2.0 * LEAST;
/// Windows in use before the limit looks for the first time, and from then on.
const LOOK: [u32; 2] = [10, 100];
/// For so many windows it looks; the first still has requests from before.
const LOOKING: u32 = 3;

/// What a window of time has shown.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Window {
    /// Answers.
    pub count: u32,
    /// The mean time to their heads, in seconds.
    pub mean: f64,
    /// Requests that were not answered in time.
    pub drops: u32,
    /// That run at its end.
    pub running: u32,
}

/// Finds the limit.
#[derive(Clone, Debug)]
pub struct Gradient {
    limit: f64,
    /// What answers usually take, in seconds; 0 before the first.
    usual: f64,
    /// Windows until it looks.
    look_in: u32,
    /// Windows for which it still looks.
    looking: u32,
}

impl Gradient {
    /// Begins at `limit`.
    pub fn new(limit: u32) -> Self {
        Self { limit: f64::from(limit), usual: 0.0, look_in: LOOK[0], looking: 0 }
    }

    /// The limit after `window`; at most `most`.
    pub fn update(&mut self, window: &Window, most: u32) -> u32 {
        if self.looking > 0 {
            self.look(window);
        } else {
            let in_use = f64::from(window.running) >= self.limit / 2.0;
            self.learn(window, in_use);
            self.limit = self.next(window, in_use).clamp(LEAST, f64::from(most).max(LEAST));
            self.plan_look(in_use);
        }
        let now = if self.looking > 0 { self.limit / 2.0 } else { self.limit };
        (now.max(1.0) as u32).min(most)
    }

    fn next(&self, window: &Window, in_use: bool) -> f64 {
        let all = f64::from(window.count + window.drops);
        if all == 0.0 {
            return self.limit;
        }
        let slower = if window.count > 0 { TOLERANCE * self.usual / window.mean } else { 1.0 };
        let dropped = 1.0 - f64::from(window.drops) / all / 2.0;
        let gradient = slower.clamp(0.5, 1.0) * dropped;
        if !in_use && gradient >= 1.0 {
            return self.limit;
        }
        let room = if gradient < 1.0 { self.limit.sqrt() / 2.0 } else { self.limit.sqrt() };
        let change = self.limit * gradient + room - self.limit;
        self.limit + change * SMOOTHING[usize::from(change < 0.0)]
    }

    fn learn(&mut self, window: &Window, in_use: bool) {
        if window.count == 0 {
            return;
        }
        let change = window.mean - self.usual;
        let part = match (self.usual == 0.0, change < 0.0) {
            (true, _) => 1.0,
            (false, true) => 0.05,
            (false, false) if self.limit <= CORNER => 0.2,
            (false, false) if in_use => 0.0,
            (false, false) => 0.01,
        };
        self.usual += change * part;
    }

    fn plan_look(&mut self, in_use: bool) {
        self.look_in -= u32::from(in_use);
        if self.look_in == 0 {
            self.look_in = LOOK[1];
            self.looking = LOOKING;
        }
    }

    fn look(&mut self, window: &Window) {
        let settled = self.looking < LOOKING;
        self.looking -= 1;
        if settled && window.count > 0 && window.mean < self.usual {
            if window.mean < 0.8 * self.usual {
                // There may be more to find.
                self.look_in = LOOK[0];
            }
            self.usual = window.mean;
        }
    }
}

/// A window is over after so long, in milliseconds, when it has so many answers.
const OVER: [(u64, u32); 2] = [(100, 50), (1000, 10)];
/// A worker keeps its samples to itself up to this many.
const BATCH: u32 = 64;
/// And for so long, in milliseconds.
const KEEP: u64 = 100;

/// What one worker has seen and not yet told.
#[derive(Default)]
pub(super) struct Samples {
    count: Cell<u32>,
    drops: Cell<u32>,
    micros: Cell<u64>,
    since: Cell<u64>,
}

/// What all workers have seen, and what comes of it.
pub(super) struct Adaptive {
    count: AtomicU32,
    drops: AtomicU32,
    micros: AtomicU64,
    /// When the window began.
    since: AtomicU64,
    gradient: Mutex<Gradient>,
}

impl Adaptive {
    /// Where a limit begins, unless less is configured.
    pub(super) const FIRST: u32 = 64;

    pub(super) fn new(limit: u32) -> Self {
        Self {
            count: AtomicU32::new(0),
            drops: AtomicU32::new(0),
            micros: AtomicU64::new(0),
            since: AtomicU64::new(0),
            gradient: Mutex::new(Gradient::new(limit)),
        }
    }

    /// Forgets what it knew.
    pub(super) fn restart(&self, limit: u32) {
        *self.gradient.lock().unwrap_or_else(PoisonError::into_inner) = Gradient::new(limit);
    }

    /// Whether the window is over, and the caller the one to close it.
    fn is_over(&self, now: u64) -> bool {
        let since = self.since.load(Relaxed);
        let seen = self.count.load(Relaxed) + self.drops.load(Relaxed);
        let over = OVER.iter().any(|(after, least)| now.saturating_sub(since) >= *after && seen >= *least);
        over && self.since.compare_exchange(since, now, AcqRel, Relaxed).is_ok()
    }

    fn take_window(&self, running: u32) -> Window {
        let (count, drops) = (self.count.swap(0, Relaxed), self.drops.swap(0, Relaxed));
        let micros = self.micros.swap(0, Relaxed);
        let mean = micros.max(1) as f64 / f64::from(count.max(1)) / 1e6;
        Window { count, mean, drops, running }
    }
}

impl Gate {
    /// Whether anybody wants to know what requests take.
    pub fn is_adaptive(&self) -> bool {
        self.places.is_adaptive()
    }

    /// A request took so long to its response's head, and the time is `now`, in milliseconds. None: it was not answered in time.
    pub fn sample(&self, took: Option<Duration>, now: u64) {
        let mine = &self.samples;
        match took {
            Some(took) => {
                mine.count.set(mine.count.get() + 1);
                mine.micros
                    .set(mine.micros.get() + u64::try_from(took.as_micros()).unwrap_or(u64::MAX >> 20));
            }
            None => mine.drops.set(mine.drops.get() + 1),
        }
        let enough = mine.count.get() + mine.drops.get() >= BATCH;
        if !enough && now.saturating_sub(mine.since.get()) < KEEP {
            return;
        }
        let all = &self.places.adaptive;
        all.count.fetch_add(mine.count.take(), Relaxed);
        all.drops.fetch_add(mine.drops.take(), Relaxed);
        all.micros.fetch_add(mine.micros.take(), Relaxed);
        mine.since.set(now);
        if all.is_over(now) {
            self.places.adapt(|running, most| {
                let mut gradient = all.gradient.lock().unwrap_or_else(PoisonError::into_inner);
                gradient.update(&all.take_window(running), most)
            });
        }
    }
}
