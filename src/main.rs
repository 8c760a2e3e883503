//! The command line: see `src/cli/`.

use std::process::ExitCode;

fn main() -> ExitCode {
    towpath::cli::main(std::env::args_os())
}
