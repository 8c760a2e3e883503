//! A file or a text -> a checked configuration, or every problem.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    Config, Environment, Problems, keys, meaning,
    problems::Report,
    section::Section,
    syntax::{self, Damage},
    tree::{self, Node, Paths},
};

/// Reads and checks a file.
///
/// # Errors
/// Every problem, or that the file cannot be read.
pub fn load(path: &Path) -> Result<Config, Problems> {
    let bytes = fs::read(path).map_err(|error| Problems::unreadable(path, &error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|error| not_text(path, error.as_bytes()))?;
    parse(&text, path)
}

/// Says where the first byte stands that is no UTF-8.
fn not_text(file: &Path, bytes: &[u8]) -> Problems {
    let sound = bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    let wrong = bytes.get(sound.len()).copied().unwrap_or_default();
    let mut report = Report::default();
    report.add(sound.len(), "", format!("the byte 0x{wrong:02x} is not valid UTF-8; must be UTF-8 text"));
    report.finish(file, sound)
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
    let (tree, damage) = syntax::read(text, &mut broken);
    let read = |paths| {
        let mut report = Report::default();
        let root = tree::read(&keys::ROOT, &tree, paths, &mut report);
        (root, report)
    };
    if !broken.is_empty() {
        let (_, report) = read(Paths::Named);
        return Err(with_syntax_errors(broken, report, &damage).finish(file, text));
    }
    let directory = directory(file);
    let check = |(root, mut report): (Node, Report)| {
        let root = Section::new(&keys::ROOT, &root);
        let config = meaning::config(root, &directory, environment, &mut report);
        if report.is_empty() { Ok(config) } else { Err(report) }
    };
    let checked = check(read(Paths::Unnamed)).or_else(|_| check(read(Paths::Named)));
    checked.map_err(|report| report.finish(file, text))
}

/// After a syntax error, what the rest means is a guess: a statement that is broken has no second problem, and
/// nothing is called missing, since it may stand where reading stopped.
fn with_syntax_errors(mut broken: Report, mut report: Report, damage: &Damage) -> Report {
    report.forget_missing();
    report.forget(|at| damage.covers(at));
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
