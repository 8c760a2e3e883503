//! How much may go on at a time, and again: pure counting and choosing. Who waits, and for how long, is decided above.
//!
//! `concurrency.rs` holds the places that all workers share, `queue.rs` who waits for one, `gradient.rs` how many there are when
//! the limit follows latency, `connections.rs` the places of connections, `callers.rs` what each caller has, `memory.rs` the memory ceiling, `budget.rs` how many attempts
//! beyond the first a service's requests may cause, `quantile.rs` as long as a share of the latest answers took, `occasional.rs` keeps
//! what happens often from being said as often, `handshakes.rs` the places of TLS handshakes.

mod budget;
mod callers;
mod concurrency;
mod connections;
mod gradient;
mod handshakes;
mod lanes;
mod memory;
mod occasional;
mod quantile;
mod queue;
mod ticket;

pub use budget::Budget;
pub use callers::{CallerConnection, CallerKey, CallerRequest, CallerState, Callers};
pub use concurrency::{Breaking, Gate, Places};
pub use connections::{Connections, HeldConnection};
pub use gradient::{Gradient, Window};
pub use handshakes::{Handshakes, Handshaking};
pub use memory::{MemoryChange, MemoryWatch};
pub use occasional::Occasional;
pub use quantile::Quantile;
pub use queue::{Pushed, Queue};
pub use ticket::{Entry, Permit, Refused, Ticket};

#[cfg(test)]
mod tests;
