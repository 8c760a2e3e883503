//! Configuration: typed (as written) -> checked (as meant).
//!
//! `keys.rs` defines every key once. From that definition come the reading of a file (`tree.rs`), its defaults
//! (`section.rs`), the JSON Schema, `config/full.toml` and `docs/configuration.md`. `meaning.rs` turns what was read
//! into the types of `checked.rs`, which is all that the rest of the program sees.

mod addresses;
mod check;
pub mod checked;
mod definition;
mod environment;

mod hosts;
mod keys;
mod load;
mod meaning;
mod problems;

mod route_meaning;

mod section;
mod service_meaning;
mod suggest;
mod syntax;
mod tree;
mod values;

pub use checked::*;
pub use environment::Environment;

pub use load::{load, parse, parse_in};
pub use problems::Problems;
