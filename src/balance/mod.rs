//! Pure choice of an endpoint out of a set, by number.
//!
//! A balancer knows neither addresses nor health: the caller says how loaded an endpoint is and whether it may be
//! used. Endpoint sets, load counters and the worker-local state's place are left to `service/`. Nothing here has a clock:
//! `now` is an argument, and so are random numbers, uniform over all 64-bit numbers.
//!
//! - `tiers`: which part of the set. A [`Plan`] is made once for each set, [`Shares`] for each change of health,
//!   [`Plan::choose`] runs once for each request. It calls a balancer for a [`Group`], which numbers its members from 0
//!   ([`Group::endpoint`] tells their numbers in the set).
//! - Balancers, for a set or a group: [`least_request`], [`peak_ewma`] over each endpoint's [`Latency`], [`RoundRobin`]
//!   (one for each worker and group), [`Ring`] with [`hash_key`] (one for each set, shared by all workers; a key's
//!   endpoint comes before any preference for a zone, so it is not for groups).
//! - [`aperture`], which [`Plan`] applies: the part of a large set that a node uses.
//! - [`warmth`] and [`accept`]: whether a new endpoint takes a request that it is offered. Part of the caller's
//!   `usable`; where that leaves nobody, to be asked again without it.
//!
//! docs/balancing.md compares the balancers by simulation.

mod aperture;
mod candidates;
mod least_request;
mod peak_ewma;
mod queue;
mod ring;
mod round_robin;
mod slow_start;
mod stable_hash;
mod tiers;
mod weights;

pub use aperture::{Coordinate, aperture};
pub use least_request::least_request;
pub use peak_ewma::{Latency, peak_ewma};
pub use ring::Ring;
pub use round_robin::RoundRobin;
pub use slow_start::{accept, warmth};
pub use stable_hash::hash_key;
pub use tiers::{Group, Member, Options, Place, Plan, Prefer, Shares};
pub use weights::Weights;
