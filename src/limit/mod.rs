//! How much may go on at a time, and again: pure counting and choosing. Who waits, and for how long, is decided above.
//!
//! `concurrency.rs` holds the places that all workers share, `queue.rs` who waits for one, `gradient.rs` how many there are when
//! the limit follows latency, `connections.rs` the places of connections, `memory.rs` the memory ceiling.

mod concurrency;
mod connections;
mod gradient;
mod lanes;
mod memory;
mod queue;
mod ticket;

pub use concurrency::{Breaking, Gate, Places};
pub use connections::{Connections, HeldConnection};
pub use gradient::{Gradient, Window};
pub use memory::{MemoryChange, MemoryWatch};
pub use queue::{Pushed, Queue};
pub use ticket::{Entry, Permit, Refused, Ticket};

#[cfg(test)]
mod tests;
