//! What the requests of one listener, route and service count with, on one worker.
//!
//! With a hundred thousand routes in use, what a request reads here is in no cache. So the slots that nearly every request
//! adds to stand beside each other in one small piece of memory; the rest is elsewhere. The series come into being with
//! the first request: a hundred thousand routes of which a hundred are in use cost a hundred routes' series.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use super::{
    arena::{Arena, Place},
    declared::REQUEST_BOUNDS,
    family::Family,
    series::{Counter, Histogram, record_at},
};

/// The requests of one listener that matched one route and went to one service, as one worker counts them. Clones count in the
/// same series.
#[derive(Clone)]
pub struct RequestSeries {
    arena: Arc<Arena>,
    /// None before the first request.
    duration: Cell<Option<Place>>,
    /// The status that was counted last, and where.
    last: Cell<(u16, Option<Place>)>,
    rest: Rc<Rest>,
}

/// What most requests need not look at.
struct Rest {
    requests: Arc<Family>,
    durations: Arc<Family>,
    /// Listener, route and service.
    names: [Box<str>; 3],
    /// Keep the slots.
    duration: RefCell<Option<Histogram>>,
    codes: RefCell<Vec<(u16, Counter)>>,
}

impl RequestSeries {
    pub(super) fn new(
        arena: Arc<Arena>,
        requests: Arc<Family>,
        durations: Arc<Family>,
        names: [&str; 3],
    ) -> Self {
        let rest = Rest {
            requests,
            durations,
            names: names.map(Into::into),
            duration: RefCell::default(),
            codes: RefCell::default(),
        };
        Self { arena, duration: Cell::new(None), last: Cell::new((0, None)), rest: Rc::new(rest) }
    }

    /// Whether these are the listener, route and service whose requests count here.
    pub fn is_of(&self, names: [&str; 3]) -> bool {
        self.rest.names.iter().zip(names).all(|(own, name)| **own == *name)
    }

    /// One more request: the status that the caller got, and the time from its head to the response's end.
    pub fn record(&self, code: u16, duration: Duration) {
        let histogram = self.duration.get().unwrap_or_else(|| self.first());
        record_at(&self.arena, histogram, REQUEST_BOUNDS, duration);
        let counter = match self.last.get() {
            (last, Some(place)) if last == code => place,
            _ => self.counter(code),
        };
        self.arena.add_at(counter, 0, 1);
    }

    fn first(&self) -> Place {
        let [_, route, service] = &self.rest.names;
        let histogram = self.rest.durations.histogram(&[route, service]);
        let place = histogram.place();
        self.rest.duration.replace(Some(histogram));
        self.duration.set(Some(place));
        place
    }

    fn counter(&self, code: u16) -> Place {
        let mut codes = self.rest.codes.borrow_mut();
        let known = codes.iter().find(|(known, _)| *known == code).map(|(_, counter)| counter.place());
        let place = known.unwrap_or_else(|| {
            let [listener, route, service] = &self.rest.names;
            let counter =
                self.rest.requests.counter(&[listener, route, service, itoa::Buffer::new().format(code)]);
            let place = counter.place();
            codes.push((code, counter));
            place
        });
        self.last.set((code, Some(place)));
        place
    }
}
