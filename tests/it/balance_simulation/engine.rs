//! A discrete-event simulation: nodes with the real balancers send requests to endpoints that queue.
//!
//! Everything follows from the seed. Requests arrive at random (Poisson) at a node, on a random worker. An endpoint works
//! on as many requests at once as it has slots, the rest waits in line.

use std::{cell::RefCell, cmp::Reverse, collections::BinaryHeap, time::Duration};

use towpath::balance::{
    Group, Latency, Plan, Ring, RoundRobin, Shares, Weights, hash_key, least_request, peak_ewma,
};

/// Microseconds since the start.
pub type Micros = u64;

pub const SECOND: Micros = 1_000_000;
/// Finagle's default.
pub const DECAY: Duration = Duration::from_secs(10);
const WORKERS: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Balancer {
    RoundRobin,
    LeastRequest,
    PeakEwma,
    Hash,
}

impl Balancer {
    pub const FAIR: [Self; 3] = [Self::RoundRobin, Self::LeastRequest, Self::PeakEwma];

    pub fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "round-robin",
            Self::LeastRequest => "least-request",
            Self::PeakEwma => "peak-ewma",
            Self::Hash => "hash",
        }
    }
}

/// What an endpoint does.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    /// The mean of its service times, which are exponential.
    pub mean: Micros,
    pub slots: usize,
    /// While it answers everything with an error, after a tenth of a millisecond.
    pub failing: (Micros, Micros),
}

impl Server {
    pub fn new(mean: Micros, slots: usize) -> Self {
        Self { mean, slots, failing: (0, 0) }
    }
}

/// A node: who sends how much where. The plan's numbers are those of the servers.
pub struct Client {
    pub rate: f64,
    pub plan: Plan,
    pub shares: Shares,
    /// By server.
    pub usable: Vec<bool>,
    /// For the hash balancer: the ring and the weights of all.
    pub ring: Option<(Ring, Weights)>,
}

/// An answered request.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    pub at: Micros,
    pub took: Micros,
    pub server: usize,
    pub client: usize,
    pub failed: bool,
}

struct Node {
    client: Client,
    load: Vec<u32>,
    latency: Vec<Latency>,
    /// By worker and group.
    turns: Vec<Vec<RefCell<RoundRobin>>>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival { node: usize },
    Answered { node: usize, server: usize, sent: Micros, failed: bool },
}

pub struct Simulation {
    balancer: Balancer,
    servers: Vec<Server>,
    /// When each slot is free.
    slots: Vec<BinaryHeap<Reverse<Micros>>>,
    nodes: Vec<Node>,
    events: BinaryHeap<Reverse<(Micros, u64, Event)>>,
    count: u64,
    random: RefCell<fastrand::Rng>,
}

impl Simulation {
    pub fn new(balancer: Balancer, servers: Vec<Server>, clients: Vec<Client>) -> Self {
        let slots = servers.iter().map(|server| (0..server.slots).map(|_| Reverse(0)).collect()).collect();
        let random = RefCell::new(fastrand::Rng::with_seed(42));
        let node = |client: Client| {
            let worker = |_| {
                client
                    .plan
                    .all_groups()
                    .map(|group| RefCell::new(RoundRobin::new(&group.weights, random.borrow_mut().u64(..))))
                    .collect()
            };
            Node {
                load: vec![0; servers.len()],
                latency: servers.iter().map(|_| Latency::new()).collect(),
                turns: (0..WORKERS).map(worker).collect(),
                client,
            }
        };
        let nodes: Vec<Node> = clients.into_iter().map(node).collect();
        Self { balancer, servers, slots, nodes, events: BinaryHeap::new(), count: 0, random }
    }

    /// The answers to everything that arrives until `end`.
    pub fn run(mut self, end: Micros) -> Vec<Answer> {
        for node in 0..self.nodes.len() {
            self.arrive_later(node, 0);
        }
        let mut answers = Vec::new();
        while let Some(Reverse((now, _, event))) = self.events.pop() {
            match event {
                Event::Arrival { node } if now < end => self.send(node, now),
                Event::Arrival { .. } => {}
                Event::Answered { node, server, sent, failed } => {
                    self.answered(node, server, now, now - sent, failed);
                    answers.push(Answer { at: sent, took: now - sent, server, client: node, failed });
                }
            }
        }
        answers
    }

    fn schedule(&mut self, at: Micros, event: Event) {
        self.count += 1;
        self.events.push(Reverse((at, self.count, event)));
    }

    fn exponential(&self, mean: f64) -> Micros {
        (-(1.0 - self.random.borrow_mut().f64()).ln() * mean) as Micros
    }

    fn arrive_later(&mut self, node: usize, now: Micros) {
        let pause = self.exponential(SECOND as f64 / self.nodes[node].client.rate);
        self.schedule(now + pause, Event::Arrival { node });
    }

    fn send(&mut self, node: usize, now: Micros) {
        let server = self.pick(node, now).expect("one is usable");
        self.nodes[node].load[server] += 1;
        let Server { mean, failing, .. } = self.servers[server];
        let failed = (failing.0..failing.1).contains(&now);
        let done = if failed { now + 100 } else { self.serve(server, now, mean) };
        self.schedule(done, Event::Answered { node, server, sent: now, failed });
        self.arrive_later(node, now);
    }

    /// When a request that comes now is done.
    fn serve(&mut self, server: usize, now: Micros, mean: Micros) -> Micros {
        let time = self.exponential(mean as f64).max(1);
        let Reverse(free) = self.slots[server].pop().expect("a slot");
        let done = free.max(now) + time;
        self.slots[server].push(Reverse(done));
        done
    }

    fn answered(&mut self, node: usize, server: usize, now: Micros, took: Micros, failed: bool) {
        let node = &mut self.nodes[node];
        node.load[server] -= 1;
        let (now, took) = ((now / 1000) as u32, Duration::from_micros(took));
        match failed {
            true => node.latency[server].fail(now, took, DECAY),
            false => node.latency[server].observe(now, took, DECAY),
        }
    }

    fn pick(&self, node: usize, now: Micros) -> Option<usize> {
        let Node { client, load, latency, turns } = &self.nodes[node];
        let worker = &turns[self.random.borrow_mut().usize(..WORKERS)];
        let random = || self.random.borrow_mut().u64(..);
        let of_group = |group: &Group| {
            let usable = |member| client.usable[group.endpoint(member)];
            let load = |member| load[group.endpoint(member)];
            let member = match self.balancer {
                Balancer::RoundRobin => worker[group.number].borrow_mut().pick(usable),
                Balancer::LeastRequest => least_request(&group.weights, random, load, usable),
                Balancer::PeakEwma => {
                    let cost = |member, each| {
                        latency[group.endpoint(member)].cost((now / 1000) as u32, DECAY, load(member), each)
                    };
                    peak_ewma(&group.weights, random, cost, usable)
                }
                Balancer::Hash => {
                    let (ring, weights) = client.ring.as_ref()?;
                    // A thousand users; one of them sends a sixth of the requests.
                    let user = (1000.0 * self.random.borrow_mut().f64().powi(4)) as u64;
                    let total = (0..weights.len()).map(|member| u64::from(load(member))).sum();
                    ring.pick(hash_key(&user.to_le_bytes()), total, load, weights, usable)
                }
            };
            member.map(|member| group.endpoint(member))
        };
        client.plan.choose(&client.shares, random(), |server| load[server], of_group)
    }
}

/// The latency that this part of the answers (0 to 1) does not exceed, in milliseconds.
pub fn quantile(answers: &[Answer], part: f64) -> f64 {
    let mut took: Vec<Micros> =
        answers.iter().filter(|answer| !answer.failed).map(|answer| answer.took).collect();
    took.sort_unstable();
    took[((took.len() - 1) as f64 * part) as usize] as f64 / 1e3
}

/// Requests per server.
pub fn counts(answers: &[Answer], servers: usize) -> Vec<f64> {
    let mut counts = vec![0.0; servers];
    answers.iter().for_each(|answer| counts[answer.server] += 1.0);
    counts
}
