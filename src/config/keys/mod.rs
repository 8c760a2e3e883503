//! Every key of the configuration file, once: name, syntax, default, meaning, and whether it is built.
//!
//! The parser, the schema, `config/full.toml` and `docs/configuration.md` all follow from these tables. To build a
//! refused feature, replace its `Key::refused` by a real key and read it in `meaning.rs` or its neighbours.

mod node;
mod observability;
mod resilience;
mod root;
mod route;
mod security;
mod service;

pub use node::*;
pub use observability::*;
pub use resilience::*;
pub use root::*;
pub use route::*;
pub use security::*;
pub use service::*;
