//! A bounded queue by priority: the highest first, of one priority the first that came.
//!
//! When it is full, one of a higher priority takes the place of the last of the lowest. What is waited for, and how, is the
//! caller's matter.

use std::{cmp::Reverse, collections::BTreeMap};

use crate::config::Priority;

/// Where something stands in a [`Queue`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position(Reverse<Priority>, u64);

/// What became of somebody who wants to wait.
#[derive(Debug, PartialEq, Eq)]
pub enum Pushed<T> {
    /// It waits.
    Waits(Position),
    /// It waits in the place of this one.
    Displaces(Position, T),
    /// There is no place for it.
    Refused(T),
}

/// Who waits.
#[derive(Debug)]
pub struct Queue<T> {
    waiting: BTreeMap<Position, T>,
    /// Counts all that ever waited.
    next: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), next: 0 }
    }
}

impl<T> Queue<T> {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether one of this priority may wait where `max` may.
    pub fn admits(&self, priority: Priority, max: usize) -> bool {
        let lower = || self.waiting.last_key_value().is_some_and(|(last, _)| last.0.0 < priority);
        self.len() < max || lower()
    }

    /// Lets `item` wait, if it may where `max` may.
    pub fn push(&mut self, priority: Priority, item: T, max: usize) -> Pushed<T> {
        if !self.admits(priority, max) {
            return Pushed::Refused(item);
        }
        let displaced = if self.len() < max { None } else { self.waiting.pop_last() };
        let position = Position(Reverse(priority), self.next);
        self.next += 1;
        self.waiting.insert(position, item);
        match displaced {
            Some((_, displaced)) => Pushed::Displaces(position, displaced),
            None => Pushed::Waits(position),
        }
    }

    /// Who is next.
    pub fn pop(&mut self) -> Option<T> {
        self.waiting.pop_first().map(|(_, item)| item)
    }

    /// Takes out who no longer wants to wait, if it still does.
    pub fn remove(&mut self, position: Position) -> Option<T> {
        self.waiting.remove(&position)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use Priority::{High, Low, Normal};

    fn drain(queue: &mut Queue<u32>) -> Vec<u32> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn the_highest_priority_goes_first_and_of_one_the_first_that_came() {
        let mut queue = Queue::default();
        for (item, priority) in [(1, Low), (2, Normal), (3, High), (4, Normal), (5, High)] {
            queue.push(priority, item, 10);
        }
        assert_eq!(drain(&mut queue), [3, 5, 2, 4, 1]);
    }

    #[test]
    fn a_full_queue_gives_a_higher_priority_the_place_of_the_last_of_the_lowest() {
        let mut queue = Queue::default();
        for (item, priority) in [(1, Low), (2, Low), (3, Normal)] {
            queue.push(priority, item, 3);
        }
        assert_eq!(queue.push(Low, 4, 3), Pushed::Refused(4));
        assert!(matches!(queue.push(Normal, 5, 3), Pushed::Displaces(_, 2)));
        assert!(matches!(queue.push(High, 6, 3), Pushed::Displaces(_, 1)));
        assert_eq!(queue.push(Normal, 7, 3), Pushed::Refused(7));
        assert!(matches!(queue.push(High, 8, 3), Pushed::Displaces(_, 5)));
        assert_eq!(drain(&mut queue), [6, 8, 3]);
    }

    #[test]
    fn who_leaves_is_not_served_and_leaves_room() {
        let mut queue = Queue::default();
        let Pushed::Waits(first) = queue.push(Normal, 1, 2) else { panic!("there is room") };
        queue.push(Normal, 2, 2);
        assert_eq!((queue.remove(first), queue.remove(first)), (Some(1), None));
        assert!(matches!(queue.push(Normal, 3, 2), Pushed::Waits(_)));
        assert_eq!(drain(&mut queue), [2, 3]);
    }

    proptest! {
        #[test]
        fn everybody_is_served_displaced_refused_or_leaves_exactly_once(
            steps in prop::collection::vec((0..5u8, 0..3usize, any::<prop::sample::Index>()), 0..200),
            max in 0..8usize,
        ) {
            let mut queue = Queue::default();
            let mut inside: Vec<(Position, usize)> = Vec::new();
            let mut ends = std::collections::BTreeMap::<usize, u32>::new();
            for (item, (step, priority, which)) in steps.into_iter().enumerate() {
                let mut end = |item: usize| *ends.entry(item).or_default() += 1;
                match step {
                    0 => queue.pop().into_iter().for_each(&mut end),
                    1 if !inside.is_empty() => {
                        let (position, _) = inside[which.index(inside.len())];
                        queue.remove(position).into_iter().for_each(&mut end);
                    }
                    _ => match queue.push([Low, Normal, High][priority], item, max) {
                        Pushed::Waits(position) => inside.push((position, item)),
                        Pushed::Displaces(position, other) => {
                            inside.push((position, item));
                            end(other);
                        }
                        Pushed::Refused(item) => end(item),
                    },
                }
                prop_assert!(queue.len() <= max);
            }
            let left = std::iter::from_fn(|| queue.pop()).collect::<Vec<_>>();
            left.into_iter().for_each(|item| *ends.entry(item).or_default() += 1);
            prop_assert!(ends.values().all(|times| *times == 1), "{ends:?}");
            prop_assert!(inside.iter().all(|(_, item)| ends.contains_key(item)), "somebody is lost");
        }
    }
}
