//! A file or a text -> a checked configuration, or every problem.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    Config, Environment, Problems, keys, meaning,
    problems::{Lines, Report},
    section::Section,
    syntax, tree,
};

/// Reads and checks a file.
///
/// # Errors
/// Every problem, or that the file cannot be read.
pub fn load(path: &Path) -> Result<Config, Problems> {
    let text = fs::read_to_string(path).map_err(|error| Problems::unreadable(path, &error.to_string()))?;
    parse(&text, path)
}

/// Checks a text; `file` stands in messages, and paths in the text are relative to its directory.
///
/// # Errors
/// Every problem.
pub fn parse(text: &str, file: &Path) -> Result<Config, Problems> {
    parse_in(text, file, &Environment::of_process())
}

/// Like [`parse`], in surroundings of the caller's choice.
///
/// # Errors
/// Every problem.
pub fn parse_in(text: &str, file: &Path, environment: &Environment) -> Result<Config, Problems> {
    let mut broken = Report::default();
    let tree = syntax::read(text, &mut broken);
    let mut report = Report::default();
    let root = tree::read(&keys::ROOT, &tree, &mut report);
    if !broken.is_empty() {
        return Err(with_syntax_errors(broken, report, text).finish(file, text));
    }
    let config =
        meaning::config(Section::new(&keys::ROOT, &root), &directory(file), environment, &mut report);
    if report.is_empty() { Ok(config) } else { Err(report.finish(file, text)) }
}

/// After a syntax error, what the rest means is a guess: a line that is broken has no second problem, and nothing
/// is called missing, since it may stand where reading stopped.
fn with_syntax_errors(mut broken: Report, mut report: Report, text: &str) -> Report {
    let lines = Lines::of(text);
    report.forget_missing();
    let broken_lines: Vec<usize> = broken.places().map(|at| lines.line(at)).collect();
    report.forget(|at| broken_lines.contains(&lines.line(at)));
    broken.extend(report);
    broken
}

fn directory(file: &Path) -> PathBuf {
    let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    absolute.parent().map(Path::to_owned).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_file_means_its_defaults() {
        let text = r#"
            [[listeners]]
            name = "outgoing"
            kind = "outgoing"
            listen = "127.0.0.1:4140"
            [[routes]]
            name = "everything"
            backends = [{ dns = "{host}" }]
        "#;
        let config = parse(text, Path::new("t.toml")).map_err(|problems| problems.to_string()).unwrap();
        assert_eq!(config.limits.header_bytes, 65536);
        assert_eq!(config.routes[0].listeners, [0]);
        assert_eq!(config.admin.listen, "127.0.0.1:9990".parse().unwrap());
    }
}
