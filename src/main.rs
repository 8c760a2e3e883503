//! The command line: see `src/cli/`.

use std::process::ExitCode;

/// A request allocates some thirty small things and frees them: see docs/decisions/0006-allocator.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    towpath::cli::main(std::env::args_os())
}
