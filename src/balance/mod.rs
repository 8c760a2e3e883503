//! Pure choice of an endpoint out of a set, by number.
//!
//! A balancer knows neither addresses nor health: the caller says how loaded an endpoint is and whether it may be
//! used. Endpoint sets, load counters and the worker-local state's place are left to `service/`.

mod least_request;
mod queue;
mod round_robin;
mod weights;

pub use least_request::least_request;
pub use round_robin::RoundRobin;
pub use weights::Weights;
