//! How many attempts beyond the first the requests of a service may cause: a share of the requests of the last ten seconds,
//! and some per second besides.
//!
//! Finagle's `RetryBudget` with its leaky `TokenBucket`
//! (<https://github.com/twitter/finagle/blob/develop/finagle-core/src/main/scala/com/twitter/finagle/service/RetryBudget.scala>).
//! Each request puts in, each attempt takes out, and both are forgotten with their second when that is ten seconds old. The share
//! bounds what retries add to a service that is failing anyway; the reserve lets a service with few requests have any.
//!
//! # What holds
//! Of ten slices of a second, those up to a withdrawal: attempts that were taken are at most `percent` of the requests that were
//! put in, and ten times `min_per_second`. A second in which nobody calls [`Budget::tick`] is as long as that takes.
//!
//! # Who writes
//! Workers put requests in by the batch, and take out only when an attempt has failed, so the one cache line that they share is
//! quiet. Only the control thread tells slices apart. A batch may be counted in the slice after the one it came in.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use crate::config::RetryBudget;

/// What one attempt costs, in what a request puts in for one percent.
const COST: i64 = 100;
/// Seconds that are remembered, the present one included.
const SLICES: u32 = 10;
const SLICE: Duration = Duration::from_secs(1);

/// The budget of one service, for one purpose. What it allows is asked with the policy, so that it outlives a change of that.
pub struct Budget {
    /// What was put in less what was taken out, in all slices that are remembered.
    balance: AtomicI64,
    slices: Mutex<Slices>,
}

struct Slices {
    /// When the present one began.
    since: Instant,
    /// The balance as it was then.
    start: i64,
    /// What each earlier one added to the balance, the oldest first; one less than are remembered.
    past: VecDeque<i64>,
}

impl Budget {
    /// Nothing has happened yet.
    pub fn new(now: Instant) -> Self {
        let slices = Slices { since: now, start: 0, past: VecDeque::new() };
        Self { balance: AtomicI64::new(0), slices: Mutex::new(slices) }
    }

    /// So many requests have come.
    pub fn deposit(&self, requests: u32, policy: RetryBudget) {
        let amount = i64::from(requests) * i64::from(policy.percent);
        if amount > 0 {
            self.balance.fetch_add(amount, Relaxed);
        }
    }

    /// Takes one attempt out, if there is one left.
    pub fn withdraw(&self, policy: RetryBudget) -> bool {
        let reserve = reserve(policy);
        let paid = |balance: i64| (balance + reserve >= COST).then_some(balance - COST);
        self.balance.fetch_update(Relaxed, Relaxed, paid).is_ok()
    }

    /// Attempts that are left.
    pub fn available(&self, policy: RetryBudget) -> u64 {
        let left = (self.balance.load(Relaxed) + reserve(policy)) / COST;
        u64::try_from(left).unwrap_or(0)
    }

    /// Forgets the slices that have become too old. To be called about once a second, by one thread.
    pub fn tick(&self, now: Instant) {
        let mut slices = self.slices.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = now.saturating_duration_since(slices.since).as_secs().min(u64::from(SLICES));
        for _ in 0..passed {
            self.end_slice(&mut slices);
        }
        if passed == u64::from(SLICES) {
            slices.since = now;
        } else {
            slices.since += SLICE * passed as u32;
        }
    }

    fn end_slice(&self, slices: &mut Slices) {
        let full = slices.past.len() as u32 == SLICES - 1;
        let oldest = if full { slices.past.pop_front().unwrap_or(0) } else { 0 };
        // Workers go on meanwhile: what they add before this belongs to the slice that ends, the rest to the next.
        let before = self.balance.fetch_sub(oldest, Relaxed);
        slices.past.push_back(before - slices.start);
        slices.start = before - oldest;
    }
}

fn reserve(policy: RetryBudget) -> i64 {
    i64::from(policy.min_per_second) * i64::from(SLICES) * COST
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy(percent: u32, min_per_second: u32) -> RetryBudget {
        RetryBudget { percent, min_per_second }
    }

    fn taken(budget: &Budget, policy: RetryBudget) -> usize {
        (0..10_000).take_while(|_| budget.withdraw(policy)).count()
    }

    #[test]
    fn a_share_of_the_requests_may_be_repeated_and_some_besides() {
        let budget = Budget::new(Instant::now());
        let default = policy(20, 10);
        assert_eq!(budget.available(default), 100);
        budget.deposit(1000, default);
        assert_eq!(budget.available(default), 300);
        assert_eq!(taken(&budget, default), 300);
        assert_eq!(budget.available(default), 0);
    }

    #[test]
    fn without_a_share_there_is_the_reserve_and_without_both_nothing() {
        let budget = Budget::new(Instant::now());
        budget.deposit(1000, policy(0, 0));
        assert!(!budget.withdraw(policy(0, 0)));
        assert_eq!(taken(&budget, policy(0, 1)), 10);
    }

    #[test]
    fn requests_and_repetitions_are_forgotten_after_ten_seconds() {
        let start = Instant::now();
        let budget = Budget::new(start);
        let share = policy(50, 0);
        budget.deposit(100, share);
        assert_eq!(taken(&budget, share), 50);
        budget.tick(start + Duration::from_millis(9999));
        budget.deposit(10, share);
        assert_eq!(budget.available(share), 5, "the others are spent");
        budget.tick(start + Duration::from_secs(10));
        assert_eq!(budget.available(share), 5, "gone with what they paid for");
        budget.tick(start + Duration::from_secs(18));
        assert_eq!(budget.available(share), 5);
        budget.tick(start + Duration::from_secs(19));
        assert_eq!(budget.available(share), 0);
    }

    #[test]
    fn a_clock_that_stood_still_forgets_everything_at_once() {
        let start = Instant::now();
        let budget = Budget::new(start);
        budget.deposit(100, policy(100, 0));
        budget.tick(start + Duration::from_secs(3600));
        assert_eq!(budget.available(policy(100, 0)), 0);
    }

    #[test]
    fn workers_that_draw_at_the_same_time_get_no_more_than_there_is() {
        let budget = Budget::new(Instant::now());
        let share = policy(20, 10);
        budget.deposit(10_000, share);
        let all: usize = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4).map(|_| scope.spawn(|| taken(&budget, share))).collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).sum()
        });
        assert_eq!(all, 2100);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Requests(u32),
        Attempts(u32),
        Seconds(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0u32..500).prop_map(Step::Requests),
            (1u32..200).prop_map(Step::Attempts),
            (1u64..13).prop_map(Step::Seconds),
        ]
    }

    proptest! {
        /// In ten seconds up to any withdrawal no more is taken than the share of what was put in, and the reserve; and
        /// what is refused would have been more.
        #[test]
        fn a_budget_is_never_exceeded_and_never_withheld(
            steps in prop::collection::vec(step(), 1..60),
            percent in 0u32..200,
            min_per_second in 0u32..5,
        ) {
            let (start, policy) = (Instant::now(), policy(percent, min_per_second));
            let budget = Budget::new(start);
            let mut second = 0;
            // By second: requests and attempts.
            let mut seconds = vec![(0i64, 0i64)];
            for step in steps {
                match step {
                    Step::Requests(count) => {
                        budget.deposit(count, policy);
                        seconds[second].0 += i64::from(count);
                    }
                    Step::Seconds(count) => {
                        second += count as usize;
                        seconds.resize(second + 1, (0, 0));
                        budget.tick(start + Duration::from_secs(second as u64));
                    }
                    Step::Attempts(count) => for _ in 0..count {
                        let window = &seconds[second.saturating_sub(9)..];
                        let (requests, attempts) =
                            window.iter().fold((0, 0), |sum, slice| (sum.0 + slice.0, sum.1 + slice.1));
                        let allowed = requests * i64::from(percent) + i64::from(min_per_second) * 1000;
                        let granted = budget.withdraw(policy);
                        prop_assert_eq!(granted, (attempts + 1) * 100 <= allowed);
                        seconds[second].1 += i64::from(granted);
                    },
                }
            }
        }
    }
}
