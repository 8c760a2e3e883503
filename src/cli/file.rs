//! The commands that need a configuration file at most: explain, schema, completions.

use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use super::{
    args::{Cli, Explain},
    outcome::{Failure, Outcome},
};
use crate::{
    admin::explain::{self, Question},
    config::{self, Config},
};

fn load(file: &Path) -> Result<Config, Failure> {
    config::load(file).map_err(|problems| Failure::usage(problems.to_string()))
}

pub(super) fn explain(args: &Explain) -> Outcome {
    if args.body.is_some() {
        return Err(Failure::usage("--body: body rules are not built yet"));
    }
    let config = load(&args.config)?;
    let listener = explain::listener(&config, args.listener.as_deref()).map_err(Failure::usage)?;
    let question = Question::read(&args.method, &args.url, &args.headers)
        .map_err(Failure::usage)?
        .asked_by(args.caller.as_deref());
    let answer = explain::offline(&config, listener, &question);
    if args.json {
        let json =
            serde_json::to_string_pretty(&answer).map_err(|error| Failure::running(error.to_string()))?;
        return Ok(json + "\n");
    }
    Ok(answer.to_string())
}

pub(super) fn schema() -> String {
    let schema = config::schema();
    format!("{}\n", schema.trim_end())
}

pub(super) fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "towpath", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}
