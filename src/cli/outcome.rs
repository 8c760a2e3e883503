//! What a command came to: its output, or why it failed and with which exit status.

use std::{
    io::{self, Write},
    process::ExitCode,
};

/// Why a command failed.
#[derive(Debug)]
pub(super) struct Failure {
    /// For standard error; may have several lines.
    pub(super) text: String,
    code: u8,
}

/// What a command prints when it succeeds.
pub(super) type Outcome = Result<String, Failure>;

impl Failure {
    /// Failed while running: exit status 1.
    pub(super) fn running(text: impl Into<String>) -> Self {
        Self { text: text.into(), code: 1 }
    }

    /// Bad usage or configuration: exit status 2.
    pub(super) fn usage(text: impl Into<String>) -> Self {
        Self { text: text.into(), code: 2 }
    }
}

/// Prints the outcome and gives its exit status.
pub(super) fn finish(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(text) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Err(failure) => {
            // Where standard error is gone, nobody can be told.
            let _ = writeln!(io::stderr(), "{}", failure.text);
            ExitCode::from(failure.code)
        }
    }
}

/// To standard output. A reader that has seen enough (`| head`) is no error.
pub(super) fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
