//! One value that the control thread publishes and workers read: the only file that names arc-swap.
//!
//! A worker reads through its own [`Reader`], which keeps the last value it saw. A request that finds the value
//! unchanged (nearly all do) reads one pointer that is written only by a publication, and touches no reference count
//! that another worker touches. No guard outlives a call, so nothing is held across an await.

use std::{cell::RefCell, ops::Deref, rc::Rc, sync::Arc};

#[allow(clippy::disallowed_types)] // the one place
use arc_swap::{ArcSwap, Cache};

/// The publishing side. Cheap to clone; clones share the value.
#[derive(Debug)]
pub struct Published<T>(Arc<ArcSwap<T>>);

impl<T> Clone for Published<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Published<T> {
    /// Starts with `value`.
    pub fn new(value: Arc<T>) -> Self {
        Self(Arc::new(ArcSwap::new(value)))
    }

    /// Replaces the value. Readers see the old or the new one, never a mixture.
    pub fn publish(&self, value: Arc<T>) {
        self.0.store(value);
    }

    /// The value now, for threads that read rarely.
    pub fn get(&self) -> Arc<T> {
        self.0.load_full()
    }

    /// A reader for one worker.
    pub fn reader(&self) -> Reader<T> {
        let mut cache = Cache::new(self.0.clone());
        let seen = Current(Rc::new(cache.load().clone()));
        Reader(RefCell::new(ReaderState { cache, seen }))
    }
}

/// One worker's view of a [`Published`] value.
#[derive(Debug)]
pub struct Reader<T>(RefCell<ReaderState<T>>);

#[derive(Debug)]
struct ReaderState<T> {
    cache: Cache<Arc<ArcSwap<T>>, Arc<T>>,
    /// What the last call returned.
    seen: Current<T>,
}

impl<T> Reader<T> {
    /// The value now.
    pub fn get(&self) -> Current<T> {
        let mut state = self.0.borrow_mut();
        let ReaderState { cache, seen } = &mut *state;
        let now = cache.load();
        if !Arc::ptr_eq(now, &seen.0) {
            *seen = Current(Rc::new(now.clone()));
        }
        seen.clone()
    }
}

/// A published value in a worker's hands. Cloning raises a count of this worker's own; the one that all workers share
/// is raised once per worker and publication.
#[derive(Debug)]
#[allow(clippy::redundant_allocation)] // two counts for two circles of owners
pub struct Current<T>(Rc<Arc<T>>);

impl<T> Clone for Current<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Deref for Current<T> {
    type Target = Arc<T>;

    fn deref(&self) -> &Arc<T> {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_sees_the_last_published_value() {
        let published = Published::new(Arc::new(1));
        let reader = published.reader();
        assert_eq!(**reader.get(), 1);
        published.publish(Arc::new(2));
        assert_eq!(**reader.get(), 2);
        assert_eq!(*published.get(), 2);
    }

    #[test]
    fn an_unchanged_value_is_not_counted_again() {
        let published = Published::new(Arc::new(1));
        let reader = published.reader();
        let before = Arc::strong_count(&reader.get());
        let _held: Vec<_> = (0..10).map(|_| reader.get()).collect();
        assert_eq!(Arc::strong_count(&reader.get()), before);
    }
}
