//! How a node stops: signals, drain, deadline.

mod shutdown;
mod signals;

pub use shutdown::{Requests, shut_down};
pub use signals::Signals;
