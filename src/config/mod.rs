//! Configuration: typed (as written) -> checked (as meant).
//!
//! `keys/` defines every key once. From that definition come the reading of a file (`tree.rs`), its defaults
//! (`section.rs`), the JSON Schema, `config/full.toml` and `docs/configuration.md`. `meaning.rs` turns what was read
//! into the types of `checked.rs`, which is all that the rest of the program sees. Large files are read block by block,
//! and again only where they changed (`piecewise.rs`).

mod access_log;
mod addresses;
mod blocks;
mod cgroup;
mod check;
pub mod checked;
mod definition;
mod environment;
mod full;

mod hosts;
mod identities;
mod keys;
mod load;
mod log_template;
mod matching;
mod meaning;
mod observability;
mod observability_meaning;
mod otlp;
mod outline;
mod pattern;
mod piecewise;
mod problems;
mod reference;
mod resilience;
mod resilience_meaning;

mod route_meaning;

mod schema;
mod section;
mod security;
mod security_check;
mod security_meaning;
mod service_meaning;
mod suggest;
mod syntax;
mod tree;
mod values;
mod wording;

pub use checked::*;
pub use environment::Environment;

pub use full::full_toml;
pub use load::{load, parse, parse_in, reload, reparse};
pub use pattern::is_like;
pub use piecewise::Memory;
pub use problems::Problems;
pub use reference::reference_markdown;
pub use schema::schema;
