//! What must hold for every input of towpath's own parsers: run by the fuzz targets, and by `cargo test` with random inputs and
//! damaged seeds. Each panics when it does not hold.

pub mod strict;
