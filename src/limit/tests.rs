//! Places, tickets and the adaptive limit under random use, by several threads, and against a model of a server.

use std::{
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use proptest::prelude::*;

use super::*;
use crate::config::{Concurrency, Priority};

fn limits(max_requests: u32, max_pending: u32) -> Concurrency {
    Concurrency { max_requests, max_pending, pending_timeout: Duration::from_secs(1), adaptive: false }
}

fn gates(workers: usize, config: &Concurrency) -> (Arc<Places>, Vec<Rc<Gate>>) {
    let places = Arc::new(Places::new(workers, config));
    let gates = (0..workers).map(|worker| Gate::new(places.clone(), worker)).collect();
    (places, gates)
}

fn enter(gate: &Rc<Gate>, priority: Priority) -> Entry {
    gate.enter(priority, || 7)
}

fn place(gate: &Rc<Gate>) -> Permit {
    match enter(gate, Priority::Normal) {
        Entry::Place(permit) => permit,
        Entry::Waits(_) | Entry::Full => panic!("there is a place"),
    }
}

fn waits(gate: &Rc<Gate>, priority: Priority) -> Ticket {
    match enter(gate, priority) {
        Entry::Waits(ticket) => ticket,
        Entry::Place(_) | Entry::Full => panic!("it is to wait"),
    }
}

/// What a ticket has become.
fn poll(ticket: &mut Ticket) -> Option<Result<Permit, Refused>> {
    match Pin::new(ticket).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => Some(outcome),
        Poll::Pending => None,
    }
}

#[test]
fn a_place_that_is_given_back_goes_to_who_waits_on_another_worker() {
    let (places, gates) = gates(2, &limits(1, 1));
    let permit = place(&gates[0]);
    let mut ticket = waits(&gates[1], Priority::Normal);
    assert!(poll(&mut ticket).is_none());
    assert!(matches!(enter(&gates[0], Priority::Normal), Entry::Full));
    assert_eq!((places.running(), places.pending(), places.refusing_since()), (1, 1, Some(7)));
    drop(permit);
    assert!(matches!(enter(&gates[0], Priority::Normal), Entry::Waits(_)), "nobody overtakes who waits");
    let permit = poll(&mut ticket).unwrap().unwrap();
    assert_eq!((places.running(), places.pending()), (1, 0));
    drop(permit);
    assert_eq!(places.running(), 0);
}

#[test]
fn a_place_that_comes_for_a_ticket_which_is_dropped_unheard_goes_to_the_next() {
    let (places, gates) = gates(1, &limits(1, 2));
    let permit = place(&gates[0]);
    let (first, mut second) = (waits(&gates[0], Priority::Normal), waits(&gates[0], Priority::Normal));
    drop(permit);
    assert!(poll(&mut second).is_none());
    drop(first);
    assert!(matches!(poll(&mut second), Some(Ok(_))));
    drop(second);
    assert_eq!((places.running(), places.pending()), (0, 0));
}

#[test]
fn a_higher_priority_displaces_the_last_of_the_lowest() {
    let (_, gates) = gates(1, &limits(1, 2));
    let permit = place(&gates[0]);
    let (mut first, mut second) = (waits(&gates[0], Priority::Low), waits(&gates[0], Priority::Low));
    let mut high = waits(&gates[0], Priority::High);
    assert!(matches!(poll(&mut second), Some(Err(Refused))));
    drop(permit);
    assert!(poll(&mut first).is_none());
    let permit = poll(&mut high).unwrap();
    drop(permit);
    assert!(matches!(poll(&mut first), Some(Ok(_))));
}

#[test]
fn a_lower_limit_lets_finish_what_runs_and_a_higher_one_serves_who_waits() {
    let (places, gates) = gates(2, &limits(4, 4));
    let mut permits: Vec<_> = (0..4).map(|worker| place(&gates[worker % 2])).collect();
    places.configure(&limits(2, 4));
    assert_eq!((places.limit(), places.running()), (2, 4));
    permits.truncate(2);
    let mut tickets: Vec<_> = (0..3).map(|_| waits(&gates[0], Priority::Normal)).collect();
    assert_eq!(places.running(), 2);
    places.configure(&limits(4, 4));
    let served: Vec<_> = tickets.iter_mut().map(poll).collect();
    assert!(matches!(&served[..], [Some(Ok(_)), Some(Ok(_)), None]));
    assert_eq!((places.running(), places.pending()), (4, 1));
}

#[test]
fn refusing_is_told_once_when_it_begins_and_once_when_it_ends() {
    let (places, gates) = gates(1, &limits(1, 0));
    assert_eq!(places.sweep(), None);
    let permit = place(&gates[0]);
    assert!(matches!(enter(&gates[0], Priority::High), Entry::Full));
    assert_eq!((places.sweep(), places.sweep()), (Some(Breaking::Begins), None));
    assert_eq!((places.is_full(), places.refusing_since()), (true, Some(7)));
    drop(permit);
    assert_eq!((places.sweep(), places.sweep()), (Some(Breaking::Ends), None));
    assert_eq!((places.is_full(), places.refusing_since(), places.refused()), (false, None, 1));
}

/// What a property does next.
#[derive(Clone, Debug)]
enum Step {
    Enter(usize, Priority),
    Finish(prop::sample::Index),
    Cancel(prop::sample::Index),
    Configure(u32, u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let priority = prop_oneof![Just(Priority::Low), Just(Priority::Normal), Just(Priority::High)];
    let step = prop_oneof![
        6 => (0..3usize, priority).prop_map(|(gate, priority)| Step::Enter(gate, priority)),
        4 => any::<prop::sample::Index>().prop_map(Step::Finish),
        2 => any::<prop::sample::Index>().prop_map(Step::Cancel),
        1 => (1..40u32, 0..6u32).prop_map(|(requests, pending)| Step::Configure(requests, pending)),
    ];
    prop::collection::vec(step, 0..300)
}

proptest! {
    #[test]
    fn never_more_than_the_limit_begin_and_nobody_waits_while_there_is_a_place(steps in steps(), max in 1..40u32) {
        let (places, gates) = gates(3, &limits(max, 3));
        let (mut permits, mut tickets) = (Vec::new(), Vec::new());
        let mut answered = 0;
        for step in steps {
            let before = permits.len();
            match step {
                Step::Enter(gate, priority) => match enter(&gates[gate], priority) {
                    Entry::Place(permit) => permits.push(permit),
                    Entry::Waits(ticket) => tickets.push(ticket),
                    Entry::Full => {
                        prop_assert!(permits.len() >= places.limit() as usize);
                        answered += 1;
                    }
                },
                Step::Finish(which) if !permits.is_empty() => drop(permits.swap_remove(which.index(before))),
                Step::Cancel(which) if !tickets.is_empty() => drop(tickets.remove(which.index(tickets.len()))),
                Step::Configure(requests, pending) => places.configure(&limits(requests, pending)),
                Step::Finish(_) | Step::Cancel(_) => {}
            }
            tickets.retain_mut(|ticket| match poll(ticket) {
                None => true,
                Some(outcome) => {
                    answered += 1;
                    permits.extend(outcome);
                    false
                }
            });
            prop_assert!(permits.len() <= before.max(places.limit() as usize));
            prop_assert_eq!(places.running() as usize, permits.len());
            prop_assert_eq!(places.pending() as usize, tickets.len());
            prop_assert!(tickets.is_empty() || permits.len() >= places.limit() as usize, "a place lies idle");
        }
        let waiting = tickets.len();
        permits.clear();
        let served = tickets.iter_mut().filter_map(poll).filter(Result::is_ok).count();
        prop_assert!(served >= waiting.min(places.limit() as usize), "{served} of {waiting}, {answered} before");
        tickets.clear();
        prop_assert_eq!((places.running(), places.pending()), (0, 0));
    }
}

#[test]
fn threads_never_exceed_the_limit_and_every_waiter_is_served() {
    const LIMIT: u32 = 3;
    let places = Arc::new(Places::new(4, &limits(LIMIT, 1000)));
    let running = AtomicI64::new(0);
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let (places, running) = (places.clone(), &running);
            scope.spawn(move || {
                let gate = Gate::new(places, worker);
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let request = async |number: u32| {
                        let permit = match enter(&gate, Priority::Normal) {
                            Entry::Place(permit) => permit,
                            // Some leave before they are served.
                            Entry::Waits(ticket) if number.is_multiple_of(5) => {
                                tokio::task::yield_now().await;
                                return drop(ticket);
                            }
                            Entry::Waits(ticket) => ticket.await.unwrap_or_else(|_| panic!("displaced")),
                            Entry::Full => panic!("all may wait"),
                        };
                        assert!(running.fetch_add(1, SeqCst) < i64::from(LIMIT));
                        tokio::task::yield_now().await;
                        running.fetch_sub(1, SeqCst);
                        drop(permit);
                    };
                    let served = async {
                        for number in 0..2000 {
                            tokio::join!(request(number), request(number + 1), request(number + 2));
                        }
                    };
                    tokio::time::timeout(Duration::from_secs(20), served)
                        .await
                        .expect("somebody is forgotten");
                });
            });
        }
    });
    assert_eq!((places.running(), places.pending()), (0, 0));
}

/// A server that answers `capacity` requests at a time, each in `service` seconds, in the order in which they come; and a gate
/// before it with an adaptive limit.
struct Model {
    random: fastrand::Rng,
    capacity: usize,
    service: f64,
    gate: Rc<Gate>,
    now: f64,
    /// When each of its places is free.
    busy: Vec<f64>,
    /// When those that run are answered, and when they came and began.
    running: Vec<(f64, f64, f64, Permit)>,
    /// Since when they wait.
    waiting: std::collections::VecDeque<(f64, Ticket)>,
    /// What callers waited for their answers.
    took: Vec<f64>,
}

impl Model {
    fn new(capacity: usize, most: u32) -> Self {
        let config = Concurrency { adaptive: true, ..limits(most, 1024) };
        Self {
            random: fastrand::Rng::with_seed(5),
            capacity,
            service: 0.02,
            gate: gates(1, &config).1.remove(0),
            now: 0.0,
            busy: vec![0.0; capacity],
            running: Vec::new(),
            waiting: Default::default(),
            took: Vec::new(),
        }
    }

    fn begin(&mut self, came: f64, permit: Permit) {
        let free = self.busy.iter_mut().min_by(|a, b| a.total_cmp(b)).unwrap();
        let service = self.service * (0.5 + self.random.f64());
        *free = free.max(self.now) + service;
        self.running.push((*free, came, self.now, permit));
    }

    /// Requests come at `load` times what the server can answer.
    fn run(&mut self, seconds: f64, load: f64) {
        self.took.clear();
        let end = self.now + seconds;
        let mut next = self.now;
        while self.now < end {
            let first =
                (0..self.running.len()).min_by(|a, b| self.running[*a].0.total_cmp(&self.running[*b].0));
            match first.filter(|first| self.running[*first].0 <= next) {
                Some(first) => {
                    let (answered, came, began, permit) = self.running.swap_remove(first);
                    self.now = answered;
                    self.took.push(answered - came);
                    self.gate
                        .sample(Some(Duration::from_secs_f64(answered - began)), (self.now * 1000.0) as u64);
                    drop(permit);
                    self.serve_waiting();
                }
                None => {
                    self.now = next;
                    let between = self.service / self.capacity as f64 / load;
                    next += -between * (1.0 - self.random.f64()).ln();
                    match enter(&self.gate, Priority::Normal) {
                        Entry::Place(permit) => self.begin(self.now, permit),
                        Entry::Waits(ticket) => self.waiting.push_back((self.now, ticket)),
                        Entry::Full => {}
                    }
                }
            }
        }
    }

    fn serve_waiting(&mut self) {
        while let Some((came, ticket)) = self.waiting.front_mut() {
            let Some(permit) = poll(ticket) else { return };
            let came = *came;
            self.waiting.pop_front();
            self.begin(came, permit.unwrap());
        }
    }

    /// Answers per second, of the most that can be.
    fn goodput(&self, seconds: f64) -> f64 {
        self.took.len() as f64 / seconds / (self.capacity as f64 / self.service)
    }

    fn p99(&self) -> f64 {
        let mut took = self.took.clone();
        took.sort_by(f64::total_cmp);
        took[took.len() * 99 / 100]
    }
}

#[test]
fn under_three_times_the_load_an_adaptive_limit_keeps_goodput_and_latency() {
    for capacity in [8, 40] {
        let mut model = Model::new(capacity, 10_000);
        model.run(20.0, 0.7);
        let usual = model.p99();
        model.run(10.0, 3.0); // it finds its limit
        model.run(40.0, 3.0);
        let (goodput, p99) = (model.goodput(40.0), model.p99());
        assert!(goodput > 0.9, "capacity {capacity}: goodput {goodput}");
        assert!(p99 < 3.0 * usual, "capacity {capacity}: {p99} after {usual}");
    }
}

#[test]
fn a_limit_that_begins_under_overload_finds_down() {
    let mut model = Model::new(8, 10_000);
    model.run(60.0, 3.0);
    model.run(30.0, 3.0);
    let (goodput, p99) = (model.goodput(30.0), model.p99());
    assert!(goodput > 0.9 && p99 < 3.0 * 0.03, "{goodput}, {p99}");
}

#[test]
fn a_callee_that_becomes_slower_for_good_gets_its_requests_again() {
    let mut model = Model::new(100, 10_000);
    model.run(30.0, 0.15);
    model.service *= 4.0;
    // As many requests as before: now four times as many run, which the callee can take.
    model.run(30.0, 0.6);
    model.run(20.0, 0.6);
    assert!(model.goodput(20.0) > 0.57, "{}, limit {}", model.goodput(20.0), model.gate.places().limit());
}

#[test]
fn requests_that_are_not_answered_in_time_shrink_the_limit() {
    let mut gradient = Gradient::new(100);
    let window = Window { count: 50, mean: 0.01, drops: 0, running: 100 };
    gradient.update(&window, 1000);
    let before = gradient.update(&window, 1000);
    let after = (0..5).map(|_| gradient.update(&Window { drops: 50, ..window }, 1000)).last().unwrap();
    assert!(before > 100 && f64::from(after) < 0.85 * f64::from(before), "{before} -> {after}");
}

#[test]
fn a_limit_that_is_not_in_use_does_not_grow() {
    let mut gradient = Gradient::new(100);
    let window = Window { count: 50, mean: 0.01, drops: 0, running: 10 };
    assert_eq!((0..100).map(|_| gradient.update(&window, 1000)).last(), Some(100));
}
