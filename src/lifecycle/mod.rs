//! How a node stops: signals, drain, deadline.

mod shutdown;
mod signals;

pub use shutdown::shut_down;
pub use signals::Signals;
