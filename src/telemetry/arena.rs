//! Sharded numbers: each worker adds to memory that only it writes; a reader sums over all shards.
//!
//! A request's addition is a relaxed load and store of a cache line that belongs to the worker: no lock, no atomic
//! read-modify-write. Threads that are not workers share one more shard and pay for a real atomic addition there.
//! What a number means (counter, gauge, histogram) is left to `series.rs`.

use std::{
    cell::Cell,
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// Slots of a chunk: 8 KiB, so that an idle shard costs little and a busy one few allocations.
const CHUNK: usize = 1024;
/// Chunks of a shard: a million slots, three times what all families may hold at their bound.
const CHUNKS: usize = 1024;
/// The shard of every thread that is not a worker.
const SHARED: usize = 0;

thread_local! {
    static SHARD: Cell<usize> = const { Cell::new(SHARED) };
}

/// Makes the calling thread worker `index` (from 0) for every metric that it adds to from now on.
///
/// Of one node's threads only one may be worker `index` at a time: two would lose each other's additions.
pub fn enter_worker(index: usize) {
    SHARD.set(index + 1);
}

/// The calling thread's number as a worker; 0 for a thread that is none.
pub fn present_worker() -> usize {
    SHARD.get().saturating_sub(1)
}

/// Aligned so that no two shards share a cache line, nor the pair of lines that a prefetcher takes.
#[repr(align(128))]
struct Chunk([AtomicU64; CHUNK]);

impl Chunk {
    fn zeroed() -> Box<Self> {
        Box::new(Self([const { AtomicU64::new(0) }; CHUNK]))
    }
}

type Shard = Box<[OnceLock<Box<Chunk>>]>;

/// All numbers of one node.
pub(super) struct Arena {
    /// The shared shard, then one per worker.
    shards: Box<[Shard]>,
    free: Mutex<Free>,
}

/// Slots that nobody owns. Every one of them is zero in every shard.
#[derive(Default)]
struct Free {
    /// Slots from here on were never used.
    next: usize,
    /// First slots of used blocks, by length.
    returned: BTreeMap<usize, Vec<usize>>,
}

impl Arena {
    pub(super) fn new(workers: usize) -> Arc<Self> {
        let shard = || (0..CHUNKS).map(|_| OnceLock::new()).collect();
        let shards = (0..=workers).map(|_| shard()).collect();
        Arc::new(Self { shards, free: Mutex::default() })
    }

    /// How many workers it is made for.
    pub(super) fn workers(&self) -> usize {
        self.shards.len() - 1
    }

    /// `len` neighbouring slots of one chunk, all zero; none when the arena is full.
    pub(super) fn allocate(self: &Arc<Self>, len: usize) -> Option<Block> {
        debug_assert!(len > 0 && len <= CHUNK);
        let mut free = self.free();
        let start = match free.returned.get_mut(&len).and_then(Vec::pop) {
            Some(start) => start,
            None => free.fresh(len)?,
        };
        Some(Block { arena: self.clone(), start, len })
    }

    fn free(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cell(&self, shard: usize, slot: usize) -> &AtomicU64 {
        let chunk = self.shards[shard][slot / CHUNK].get_or_init(Chunk::zeroed);
        &chunk.0[slot % CHUNK]
    }

    /// `slot` of each shard that has ever been written near it.
    fn cells(&self, slot: usize) -> impl Iterator<Item = &AtomicU64> {
        self.shards.iter().filter_map(move |shard| Some(&shard[slot / CHUNK].get()?.0[slot % CHUNK]))
    }

    /// As [`Block::add`], to a block that the caller keeps.
    pub(super) fn add_at(&self, place: Place, offset: usize, n: u64) {
        self.add(place.0 as usize + offset, n);
    }

    fn add(&self, slot: usize, n: u64) {
        let shard = SHARD.get();
        if shard == SHARED || shard >= self.shards.len() {
            self.cell(SHARED, slot).fetch_add(n, Relaxed);
        } else {
            // The only writer is this thread, so that nothing can come between the load and the store.
            let cell = self.cell(shard, slot);
            cell.store(cell.load(Relaxed).wrapping_add(n), Relaxed);
        }
    }
}

impl Free {
    fn fresh(&mut self, len: usize) -> Option<usize> {
        let left = CHUNK - self.next % CHUNK;
        if left < len {
            // A block never crosses chunks; the rest of this one serves single slots.
            self.returned.entry(1).or_default().extend(self.next..self.next + left);
            self.next += left;
        }
        let start = self.next;
        if start + len > CHUNK * CHUNKS {
            return None;
        }
        self.next += len;
        Some(start)
    }
}

/// The first slot of a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place(u32);

/// Slots that belong together. Dropping it zeroes them and gives them back.
pub(super) struct Block {
    arena: Arc<Arena>,
    start: usize,
    len: usize,
}

impl Block {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Place of the first slot.
    #[cfg(test)]
    pub(super) fn start(&self) -> usize {
        self.start
    }

    /// Adds to the calling thread's shard; wraps, so that a negative number can be added as its two's complement.
    pub(super) fn add(&self, offset: usize, n: u64) {
        debug_assert!(offset < self.len);
        self.arena.add(self.start + offset, n);
    }

    /// Where the slots are, for adding without a look at this block. Good for as long as the block is.
    pub(super) fn place(&self) -> Place {
        Place(self.start as u32)
    }

    /// Over all shards.
    pub(super) fn sum(&self, offset: usize) -> u64 {
        self.arena.cells(self.start + offset).fold(0, |sum, cell| sum.wrapping_add(cell.load(Relaxed)))
    }

    /// Replaces the shared shard's part, whichever thread calls: for numbers that are set and never added to.
    pub(super) fn set(&self, offset: usize, n: u64) {
        self.arena.cell(SHARED, self.start + offset).store(n, Relaxed);
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let slots = self.start..self.start + self.len;
        slots.flat_map(|slot| self.arena.cells(slot)).for_each(|cell| cell.store(0, Relaxed));
        self.arena.free().returned.entry(self.len).or_default().push(self.start);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn nothing_is_lost_when_workers_and_other_threads_add_at_once() {
        let arena = Arena::new(3);
        let block = arena.allocate(2).unwrap();
        thread::scope(|scope| {
            for thread in 0..6 {
                let block = &block;
                scope.spawn(move || {
                    if thread < 3 {
                        enter_worker(thread);
                    }
                    (0..50_000).for_each(|_| block.add(1, 2));
                });
            }
        });
        assert_eq!((block.sum(0), block.sum(1)), (0, 600_000));
    }

    #[test]
    fn a_worker_writes_its_own_shard_and_an_unknown_one_the_shared_shard() {
        let arena = Arena::new(2);
        let block = arena.allocate(1).unwrap();
        thread::scope(|scope| {
            for worker in [0, 1, 7] {
                let block = &block;
                scope.spawn(move || {
                    enter_worker(worker);
                    block.add(0, 10 + worker as u64);
                });
            }
        });
        let shards = [0, 1, 2].map(|shard| arena.cell(shard, block.start).load(Relaxed));
        assert_eq!(shards, [17, 10, 11]);
    }

    #[test]
    fn a_dropped_block_is_zero_when_it_is_given_out_again() {
        let arena = Arena::new(1);
        let block = arena.allocate(3).unwrap();
        block.add(2, 5);
        thread::scope(|scope| {
            scope.spawn(|| {
                enter_worker(0);
                block.add(2, 5);
            });
        });
        let start = block.start;
        drop(block);
        let again = arena.allocate(3).unwrap();
        assert_eq!((again.start, again.sum(2)), (start, 0));
    }

    #[test]
    fn blocks_never_overlap_nor_cross_chunks_and_the_arena_ends() {
        let arena = Arena::new(0);
        let blocks: Vec<_> = std::iter::from_fn(|| arena.allocate(20)).collect();
        assert_eq!(blocks.len(), CHUNK / 20 * CHUNKS);
        assert!(blocks.iter().all(|block| block.start / CHUNK == (block.start + 19) / CHUNK));
        let rest: Vec<_> = std::iter::from_fn(|| arena.allocate(1)).collect();
        assert_eq!(rest.len(), CHUNK % 20 * CHUNKS);
        let mut all: Vec<_> =
            blocks.iter().chain(&rest).flat_map(|block| block.start..block.start + block.len).collect();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..CHUNK * CHUNKS));
    }
}
