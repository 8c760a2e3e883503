//! The last configurations that were read, for those who ask why the node does what it does.

use std::{collections::VecDeque, time::SystemTime};

use super::reload::{Attempt, Reloaded};

/// How many are kept.
const KEPT: usize = 20;
/// Of a refusal's text: a file of ten thousand routes can have as many problems.
const LONGEST: usize = 16 << 10;

/// The last attempts, oldest first. The first of a node is its start.
#[derive(Clone, Debug, Default)]
pub struct Attempts(VecDeque<Attempt>);

impl Attempts {
    /// Those of `self` and the one that has just been made.
    pub(super) fn and(&self, outcome: &Result<Reloaded, String>, generation: u64) -> Self {
        let mut kept = self.0.clone();
        let outcome = outcome.clone().map_err(short);
        kept.push_back(Attempt { at: SystemTime::now(), outcome, generation });
        if kept.len() > KEPT {
            kept.pop_front();
        }
        Self(kept)
    }

    /// The last first.
    pub fn latest_first(&self) -> impl Iterator<Item = &Attempt> {
        self.0.iter().rev()
    }
}

fn short(mut problems: String) -> String {
    if problems.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|at| problems.is_char_boundary(*at)).unwrap_or_default();
        problems.truncate(end);
        problems.push_str("\n...");
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_twenty_are_kept_and_none_is_endless() {
        let mut attempts = Attempts::default();
        for generation in 1..=25 {
            attempts = attempts.and(&Ok(Reloaded::Applied { generation }), generation);
        }
        attempts = attempts.and(&Err("é".repeat(LONGEST)), 25);
        let generations: Vec<u64> = attempts.latest_first().map(|attempt| attempt.generation).collect();
        assert_eq!((generations.len(), generations[0], generations[1], generations[19]), (KEPT, 25, 25, 7));
        let error = attempts.latest_first().next().unwrap().outcome.clone().unwrap_err();
        assert!(error.len() < LONGEST + 10 && error.ends_with("é\n..."));
    }
}
