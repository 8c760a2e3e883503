//! Which command is done by whom.

use std::{ffi::OsString, process::ExitCode};

use clap::Parser;

use super::{
    args::{Cli, Command},
    ca, check, demo, file,
    outcome::{Outcome, finish},
    remote, run, tap, top,
};

/// Runs towpath with these arguments, the program's name first. The exit status is 0 when all went well, 1 when
/// something failed while running, 2 for bad usage or configuration.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    match Cli::try_parse_from(args) {
        Ok(cli) => finish(perform(cli.command)),
        Err(error) => {
            // Help goes to standard output; where that is gone, nobody can be told.
            let _ = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
        }
    }
}

fn perform(command: Command) -> Outcome {
    match command {
        Command::Run(args) => run::run(args),
        Command::Check { file } => check::check(&file),
        Command::Explain(args) => file::explain(&args),
        Command::Demo { once } => demo::demo(once),
        Command::Status(args) => remote::status(&args),
        Command::Reload(args) => remote::reload(&args),
        Command::Drain(args) => remote::drain(&args),
        Command::Tap(args) => tap::tap(&args),
        Command::Top(args) => top::top(&args),
        Command::Ca(command) => ca::perform(command),
        Command::Schema => Ok(file::schema()),
        Command::Completions { shell } => Ok(file::completions(shell)),
    }
}
