//! What is simulated: who serves how fast, who sends how much, and what goes wrong.

use std::net::SocketAddr;

use towpath::balance::{Coordinate, Member, Options, Place, Plan, Prefer, Ring, Weights};

use super::engine::{Answer, Balancer, Client, Micros, SECOND, Server, Simulation};

/// Not counted: until the averages are what they will be.
const WARM_UP: Micros = 5 * SECOND;
/// A healthy endpoint's mean service time.
const MEAN: Micros = 10_000;

pub fn address(number: usize) -> SocketAddr {
    SocketAddr::from(([10, 3, (number >> 8) as u8, number as u8], 80))
}

/// The plan of a node without preferences.
fn flat(weights: &[u32]) -> Plan {
    let member = |(number, weight): (usize, &u32)| Member {
        address: address(number),
        weight: *weight,
        priority: 0,
        place: Place::Elsewhere,
        zone: 0,
    };
    let members: Vec<Member> = weights.iter().enumerate().map(member).collect();
    Plan::new(&members, Options { prefer: Prefer::None, aperture: None, spill: 0 })
}

fn client(weights: &[u32], rate: f64) -> Client {
    let plan = flat(weights);
    let shares = plan.shares(|_| true);
    let ring = Ring::new(weights.iter().enumerate().map(|(number, weight)| (address(number), *weight)));
    let weights = Weights::new(weights.iter().copied());
    Client { rate, plan, shares, usable: vec![true; weights.len()], ring: Some((ring, weights)) }
}

/// The answers after the warm-up of one node that sends `rate` requests a second.
pub fn one_node(
    balancer: Balancer,
    servers: Vec<Server>,
    weights: &[u32],
    rate: f64,
    seconds: u64,
) -> Vec<Answer> {
    let simulation = Simulation::new(balancer, servers, vec![client(weights, rate)]);
    let mut answers = simulation.run(WARM_UP + seconds * SECOND);
    answers.retain(|answer| answer.at >= WARM_UP);
    answers
}

/// Ten endpoints of 32 slots, 1,000 requests a second; `slow` of them take twenty times as long.
pub fn slow(balancer: Balancer, slow: usize) -> Vec<Answer> {
    let mean = |number| if number < slow { 20 * MEAN } else { MEAN };
    let servers = (0..10).map(|number| Server::new(mean(number), 32)).collect();
    one_node(balancer, servers, &[1; 10], 1000.0, 60)
}

/// When the failing endpoint is well again.
pub const WELL_AGAIN: Micros = 40 * SECOND;

/// Ten endpoints, one of which fails fast from the tenth second to the fortieth; the whole run.
pub fn failing(balancer: Balancer, rate: f64) -> Vec<Answer> {
    let mut servers = vec![Server::new(MEAN, 32); 10];
    servers[0].failing = (10 * SECOND, WELL_AGAIN);
    Simulation::new(balancer, servers, vec![client(&[1; 10], rate)]).run(70 * SECOND)
}

/// Five endpoints of eight slots and five of two, at seven tenths of what they can do together.
pub fn unequal(balancer: Balancer, weights_known: bool) -> Vec<Answer> {
    let servers = (0..10).map(|number| Server::new(MEAN, if number < 5 { 8 } else { 2 })).collect();
    let weights = if weights_known { [4, 4, 4, 4, 4, 1, 1, 1, 1, 1] } else { [1; 10] };
    one_node(balancer, servers, &weights, 0.7 * 50.0 * 100.0, 20)
}

/// A thousand endpoints of four slots at six tenths of what they can do, 20 of which take ten times as long.
pub fn thousand(balancer: Balancer, slow: usize) -> Vec<Answer> {
    let mean = |number| if number < slow { 10 * MEAN } else { MEAN };
    let servers = (0..1000).map(|number| Server::new(mean(number), 4)).collect();
    one_node(balancer, servers, &[1; 1000], 30_000.0, 5)
}

/// Ten endpoints at six tenths of what they can do, requests hashed by user: one user sends a sixth of the requests.
pub fn popular_user() -> Vec<Answer> {
    one_node(Balancer::Hash, vec![Server::new(MEAN, 8); 10], &[1; 10], 0.6 * 80.0 * 100.0, 10)
}

/// Forty nodes, of which each uses ten or so of 210 endpoints, at half of what they can do.
pub fn apertures(balancer: Balancer) -> Vec<Answer> {
    let client = |node| {
        let aperture = Some((10, Coordinate::of_peer(node, 40)));
        let members: Vec<Member> =
            (0..210).map(|number| Member { priority: 0, ..member(number, 0, false) }).collect();
        let plan = Plan::new(&members, Options { prefer: Prefer::None, aperture, spill: 0 });
        let shares = plan.shares(|_| true);
        Client { rate: 210.0 * 200.0 / 40.0, plan, shares, usable: vec![true; 210], ring: None }
    };
    Simulation::new(balancer, vec![Server::new(MEAN, 4); 210], (0..40).map(client).collect()).run(5 * SECOND)
}

/// Three zones with ten endpoints and three nodes each.
pub struct Zones {
    /// Of the first zone's endpoints, how many are lost.
    pub lost: usize,
    /// Whether discovery has removed them; else they are only known to be unhealthy.
    pub removed: bool,
    /// The demand of the first zone, in terms of another's.
    pub demand: f64,
    /// What every endpoint does, on average, while all are there and demand is equal.
    pub utilization: f64,
    pub spill: u32,
}

pub const ZONES: usize = 3;
pub const PER_ZONE: usize = 10;
const NODES: usize = 3;
const SLOTS: usize = 16;

impl Zones {
    pub fn losing(lost: usize, removed: bool) -> Self {
        Self { lost, removed, demand: 1.0, utilization: 0.5, spill: 20 }
    }

    pub fn run(&self, balancer: Balancer, seconds: u64) -> Vec<Answer> {
        let servers = vec![Server::new(MEAN, SLOTS); ZONES * PER_ZONE];
        let clients = (0..ZONES * NODES).map(|node| self.client(node / NODES)).collect();
        let mut answers = Simulation::new(balancer, servers, clients).run(SECOND + seconds * SECOND);
        answers.retain(|answer| answer.at >= SECOND);
        answers
    }

    pub fn zone_of_client(client: usize) -> usize {
        client / NODES
    }

    /// A node of this zone. Endpoints that are removed have no place in its plan, so its numbers are the last ones.
    fn client(&self, zone: usize) -> Client {
        let first = if self.removed { self.lost } else { 0 };
        let members: Vec<Member> =
            (0..ZONES * PER_ZONE).map(|number| member(number, zone, number < first)).collect();
        let options = Options { prefer: Prefer::Zone, aperture: None, spill: self.spill };
        let plan = Plan::new(&members, options);
        let usable: Vec<bool> = (0..ZONES * PER_ZONE).map(|number| number >= self.lost).collect();
        let shares = plan.shares(|number| usable[number]);
        let capacity = (PER_ZONE * SLOTS) as f64 * SECOND as f64 / MEAN as f64;
        let demand = if zone == 0 { self.demand } else { 1.0 };
        Client { rate: capacity * self.utilization * demand / NODES as f64, plan, shares, usable, ring: None }
    }
}

/// An endpoint as a node of this zone sees it; a removed one is only a number, at a priority that is never reached.
fn member(number: usize, zone: usize, removed: bool) -> Member {
    Member {
        address: address(number),
        weight: 1,
        priority: u16::from(removed),
        place: if number / PER_ZONE == zone { Place::Zone } else { Place::Elsewhere },
        zone: 1 + (number / PER_ZONE) as u32,
    }
}
