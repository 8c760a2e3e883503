//! Free places, spread over lanes: each worker takes from its own and gives back to it, so that a request writes no cache
//! line that another worker writes. One that finds its lane empty takes from the others.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

/// More workers than this share lanes: a service would else take a cache line for each of them.
const MOST: usize = 8;
/// Of a lane's places, this part moves to a worker that finds its own empty, or one, so that it does not come again at once. One
/// only where there are few: places on their way are seen by nobody.
const PART: u32 = 8;

/// A cache line of its own.
#[repr(align(64))]
#[derive(Default)]
struct Lane(AtomicU32);

impl Lane {
    /// Takes what `of` says of the number that is there.
    fn take(&self, of: impl Fn(u32) -> u32) -> u32 {
        let taken = self.0.fetch_update(SeqCst, SeqCst, |free| {
            let taken = of(free);
            (taken > 0).then(|| free - taken)
        });
        taken.map_or(0, of)
    }
}

/// All free places.
pub(super) struct Lanes(Box<[Lane]>);

impl Lanes {
    pub(super) fn new(workers: usize, free: u32) -> Self {
        let lanes = Self((0..workers.clamp(1, MOST)).map(|_| Lane::default()).collect());
        lanes.spread(free);
        lanes
    }

    /// The lane of a worker.
    pub(super) fn of(&self, worker: usize) -> usize {
        worker % self.0.len()
    }

    /// A place from the lane, if it has any.
    pub(super) fn take(&self, lane: usize) -> bool {
        self.0[lane].take(|free| free.min(1)) == 1
    }

    /// A place from any other lane, and some more for this one. Says how many came to this lane besides.
    pub(super) fn take_elsewhere(&self, lane: usize) -> Option<u32> {
        let (before, from) = self.0.split_at(lane);
        for other in from.iter().chain(before) {
            let taken = other.take(|free| if free == 0 { 0 } else { (free / PART).max(1) });
            if taken > 0 {
                self.0[lane].0.fetch_add(taken - 1, SeqCst);
                return Some(taken - 1);
            }
        }
        None
    }

    /// Up to `most` places, from wherever they are.
    pub(super) fn take_up_to(&self, most: u32) -> u32 {
        let mut left = most;
        for lane in &self.0 {
            if left > 0 {
                left -= lane.take(|free| free.min(left));
            }
        }
        most - left
    }

    pub(super) fn give(&self, lane: usize) {
        self.0[lane].0.fetch_add(1, SeqCst);
    }

    /// Adds places, as many to each lane as to the others, or almost.
    pub(super) fn spread(&self, places: u32) {
        let lanes = self.0.len() as u32;
        for (index, lane) in (0..).zip(&self.0) {
            lane.0.fetch_add(places / lanes + u32::from(index < places % lanes), SeqCst);
        }
    }

    /// How many there are.
    pub(super) fn free(&self) -> u32 {
        self.0.iter().map(|lane| lane.0.load(SeqCst)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_finds_every_place_wherever_it_is() {
        let lanes = Lanes::new(4, 10);
        let mut taken = 0;
        while lanes.take(1) || lanes.take_elsewhere(1).is_some() {
            taken += 1;
        }
        assert_eq!((taken, lanes.free()), (10, 0));
    }

    #[test]
    fn a_worker_without_places_gets_more_than_one_from_a_lane_that_has_many() {
        let lanes = Lanes::new(2, 160);
        while lanes.take(0) {}
        assert_eq!(lanes.take_elsewhere(0), Some(9));
        assert_eq!(lanes.free(), 79);
    }

    #[test]
    fn no_more_is_taken_than_there_is() {
        let lanes = Lanes::new(3, 7);
        assert_eq!((lanes.take_up_to(5), lanes.take_up_to(5), lanes.take_up_to(5)), (5, 2, 0));
    }
}
