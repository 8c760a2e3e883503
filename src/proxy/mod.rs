//! One request, from head to record. Begin with `handle.rs`: it names the phases in order.

mod admission;
mod affinity;
mod attempt;
mod cause;
mod deadline;
mod exchange;
mod failover;
mod failure;
mod fault;
mod handle;
mod head;
mod headers;
mod hedge;
mod idle;
mod lawful;
mod race;
mod report;
mod request_body;
mod requeue;
mod response_body;
mod retry;
mod target;
mod worker;

pub use cause::Cause;
pub use exchange::Caller;
pub use failure::{Failure, Reason};
pub use handle::{handle, refuse};
pub use response_body::ResponseBody;
pub use worker::Worker;
