//! What the results of an endpoint's health checks make of it: pure, one result after the other.
//!
//! # The first result
//! It decides at once about an endpoint that is new, in either direction: nothing else is known of it. Later ones need their
//! threshold. An endpoint that requests went to before it was checked is taken for well: it needs the threshold from the beginning.

use crate::config::HealthCheck;

/// One endpoint as its checks see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    status: Status,
    passed: bool,
    row: u32,
}

/// What an endpoint is by its checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is new and was not checked yet.
    New,
    /// It was used before it was checked.
    Known,
    /// Its checks pass, or have not failed often enough.
    Healthy,
    /// Its checks fail, or have not passed often enough.
    Unhealthy,
}

impl Status {
    /// As the admin API names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New | Self::Known => "unknown",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

impl Check {
    /// Of an endpoint that is [`Status::New`] or [`Status::Known`].
    pub fn new(status: Status) -> Self {
        Self { status, passed: false, row: 0 }
    }

    /// What it is now.
    pub fn status(&self) -> Status {
        self.status
    }

    /// How many of the last results were alike.
    pub fn row(&self) -> u32 {
        self.row
    }

    /// Takes a result in. The status, if it is another one now.
    pub fn observe(&mut self, passed: bool, policy: &HealthCheck) -> Option<Status> {
        self.row = if self.passed == passed { self.row.saturating_add(1) } else { 1 };
        self.passed = passed;
        let status = match (self.status, passed) {
            (Status::New | Status::Known, true) => Status::Healthy,
            (Status::New, false) => Status::Unhealthy,
            (Status::Known | Status::Healthy, false) if self.row >= policy.unhealthy => Status::Unhealthy,
            (Status::Unhealthy, true) if self.row >= policy.healthy => Status::Healthy,
            (status, _) => status,
        };
        (std::mem::replace(&mut self.status, status) != status).then_some(status)
    }

    /// Another probe or other thresholds hold from now on: the row begins anew.
    pub fn begin_row(&mut self) {
        self.row = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::config::HealthProbe;

    fn policy(healthy: u32, unhealthy: u32) -> HealthCheck {
        let (interval, timeout) = (Duration::from_secs(5), Duration::from_secs(1));
        let probe = HealthProbe::Tcp;
        HealthCheck { probe, interval, timeout, healthy, unhealthy, port: None, first_pass: false }
    }

    /// The status after each result, `+` or `-`.
    fn after(from: Status, results: &str) -> Vec<&'static str> {
        let mut check = Check::new(from);
        let policy = policy(2, 3);
        let mut observe = |result| {
            let before = check.status();
            let change = check.observe(result == '+', &policy);
            assert_eq!(change, (check.status() != before).then_some(check.status()));
            check.status().as_str()
        };
        results.chars().map(&mut observe).collect()
    }

    #[test]
    fn the_first_result_of_a_new_endpoint_decides() {
        assert_eq!(after(Status::New, "+"), ["healthy"]);
        assert_eq!(after(Status::New, "-"), ["unhealthy"]);
    }

    #[test]
    fn later_results_need_their_threshold_in_a_row() {
        assert_eq!(
            after(Status::New, "+--+---+-++"),
            [
                "healthy",
                "healthy",
                "healthy",
                "healthy",
                "healthy",
                "healthy",
                "unhealthy",
                "unhealthy",
                "unhealthy",
                "unhealthy",
                "healthy"
            ]
        );
    }

    #[test]
    fn an_endpoint_that_was_used_before_is_not_dropped_at_the_first_failure() {
        assert_eq!(after(Status::Known, "--+"), ["unknown", "unknown", "healthy"]);
        assert_eq!(after(Status::Known, "---"), ["unknown", "unknown", "unhealthy"]);
    }

    #[test]
    fn the_row_counts_results_that_are_alike() {
        let mut check = Check::new(Status::New);
        let mut rows = Vec::new();
        for passed in [false, false, true, true, true, false] {
            check.observe(passed, &policy(2, 3));
            rows.push(check.row());
        }
        assert_eq!(rows, [1, 2, 1, 2, 3, 1]);
        check.begin_row();
        assert_eq!(check.row(), 0);
    }

    proptest! {
        #[test]
        fn a_change_comes_after_a_row_as_long_as_its_threshold(
            results in prop::collection::vec(any::<bool>(), 1..100),
            healthy in 1..5u32,
            unhealthy in 1..5u32,
        ) {
            let (mut check, policy) = (Check::new(Status::New), policy(healthy, unhealthy));
            for (number, passed) in results.iter().enumerate() {
                let change = check.observe(*passed, &policy);
                let row = results[..=number].iter().rev().take_while(|other| *other == passed).count();
                prop_assert_eq!(check.row() as usize, row);
                let enough = number == 0 || row >= (if *passed { healthy } else { unhealthy }) as usize;
                let expected = if *passed { Status::Healthy } else { Status::Unhealthy };
                prop_assert!(change.is_none_or(|status| status == expected && enough));
                prop_assert!(!enough || check.status() == expected);
            }
        }
    }
}
