//! One case: something that can be done again and again, timed by criterion or counted under callgrind.

use std::time::{Duration, Instant};

/// Inputs that exist at once, when each call uses one up.
const BATCH: u64 = 1000;
/// Calls before those that count: lazily made values are there, and the allocator has its pages.
const WARM_UP: u64 = 100;

/// A case.
pub struct Case {
    /// `part/variant/size`.
    pub name: String,
    /// Makes the operation ready to be called this often.
    prepare: Box<dyn Fn(u64) -> Operation>,
}

type Operation = Box<dyn FnMut()>;

impl Case {
    /// A case whose calls need nothing but what `prepare` made once.
    pub fn new<O: FnMut() + 'static>(name: impl Into<String>, prepare: impl Fn() -> O + 'static) -> Self {
        Self { name: name.into(), prepare: Box::new(move |_| Box::new(prepare())) }
    }

    /// A case whose calls use up an input each; making the inputs does not count.
    pub fn consuming<I: 'static>(
        name: impl Into<String>,
        input: impl Fn() -> I + 'static,
        operation: impl Fn(I) + Clone + 'static,
    ) -> Self {
        let prepare = move |calls: u64| -> Operation {
            let mut inputs: Vec<I> = (0..calls).map(|_| input()).collect();
            let operation = operation.clone();
            Box::new(move || operation(inputs.pop().expect("as many were made as there are calls")))
        };
        Self { name: name.into(), prepare: Box::new(prepare) }
    }

    /// How long `calls` calls take.
    pub fn time(&self, calls: u64) -> Duration {
        let mut taken = Duration::ZERO;
        for first in (0..calls).step_by(BATCH as usize) {
            let batch = BATCH.min(calls - first);
            let mut operation = (self.prepare)(batch);
            let start = Instant::now();
            (0..batch).for_each(|_| operation());
            taken += start.elapsed();
        }
        taken
    }

    /// Makes `calls` calls inside [`counted`].
    pub fn count(&self, calls: u64) {
        let mut operation = (self.prepare)(WARM_UP + calls);
        (0..WARM_UP).for_each(|_| operation());
        counted(&mut *operation, calls);
    }
}

/// What callgrind collects: `bench/instructions` knows this function by name.
#[inline(never)]
pub fn counted(operation: &mut dyn FnMut(), calls: u64) {
    for _ in 0..calls {
        operation();
    }
}
