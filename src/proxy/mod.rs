//! One request, from head to record. Begin with `handle.rs`: it names the phases in order.

mod admission;
mod affinity;
mod attempt;
mod authorize;
mod caller;
mod cause;
mod deadline;
mod exchange;
mod failover;
mod failure;
mod fault;
mod forbidden;
mod handle;
mod head;
mod headers;
mod hedge;
mod idle;
mod race;
mod report;
mod request_body;
mod requeue;
mod response_body;
mod retry;
mod target;
mod worker;

pub use caller::Named;
pub use cause::Cause;
pub use exchange::Caller;
pub use failure::{Failure, Reason};
pub use forbidden::Forbidden;
pub use handle::{handle, refuse};
pub use response_body::ResponseBody;
pub use worker::Worker;
