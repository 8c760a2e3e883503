//! The command line: see `src/cli/`.

use std::process::ExitCode;

/// A request allocates some fifteen small things and frees them: see docs/decisions/0006-allocator.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Of a huge page, a small process uses a part and pays for all: see docs/decisions/0009-memory.md. A kernel without
    // them has nothing to refuse.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    towpath::cli::main(std::env::args_os())
}
