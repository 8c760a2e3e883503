//! What is wrong with a configuration: every problem, with its place in the file.
//!
//! Nothing here knows what a problem is about; texts are made where it is found.

use std::{
    fmt,
    path::{Path, PathBuf},
};

/// Every problem of one file, in the order of the file. Displayed as a line each:
/// `FILE:LINE:COL: key.path: what is wrong; what is allowed`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    file: PathBuf,
    all: Vec<Placed>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Placed {
    /// From 1; none when the file could not be read.
    place: Option<(usize, usize)>,
    path: String,
    text: String,
}

impl Problems {
    /// The file itself could not be read.
    pub(super) fn unreadable(file: &Path, reason: &str) -> Self {
        let text = format!("cannot be read: {reason}");
        Self { file: file.to_owned(), all: vec![Placed { place: None, path: String::new(), text }] }
    }

    /// How many there are; at least one.
    pub fn count(&self) -> usize {
        self.all.len()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.all.iter().enumerate() {
            let end = if index == 0 { "" } else { "\n" };
            write!(f, "{end}{}:", self.file.display())?;
            if let Some((line, column)) = problem.place {
                write!(f, "{line}:{column}:")?;
            }
            if !problem.path.is_empty() {
                write!(f, " {}:", problem.path)?;
            }
            write!(f, " {}", problem.text)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Collects problems while a file is read.
#[derive(Debug, Default)]
pub(super) struct Report {
    found: Vec<(usize, String, String)>,
    /// What is not there, which only a file without syntax errors can tell.
    missing: Vec<(usize, String, String)>,
}

impl Report {
    /// Adds a problem of the key `path` at byte `at`.
    pub(super) fn add(&mut self, at: usize, path: &str, text: impl Into<String>) {
        self.found.push((at, path.to_owned(), one_line(&text.into())));
    }

    /// Adds that something is not there.
    pub(super) fn add_missing(&mut self, at: usize, path: &str, text: impl Into<String>) {
        self.missing.push((at, path.to_owned(), one_line(&text.into())));
    }

    /// Whether nothing was found so far.
    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty() && self.missing.is_empty()
    }

    /// Whether anything was found at `path` or below.
    pub(super) fn has_below(&self, path: &str) -> bool {
        self.found.iter().any(|(_, found, _)| found.starts_with(path))
    }

    /// Drops what is not there.
    pub(super) fn forget_missing(&mut self) {
        self.missing.clear();
    }

    /// Drops what was found at places that `unwanted` holds for.
    pub(super) fn forget(&mut self, unwanted: impl Fn(usize) -> bool) {
        self.found.retain(|(at, _, _)| !unwanted(*at));
    }

    /// Takes over what another report found.
    pub(super) fn extend(&mut self, other: Report) {
        self.found.extend(other.found);
    }

    /// Sorts by place and turns bytes into lines and columns.
    pub(super) fn finish(mut self, file: &Path, text: &str) -> Problems {
        self.found.append(&mut self.missing);
        self.found.sort();
        self.found.dedup();
        let lines = Lines::of(text);
        let placed = |(at, path, message)| Placed { place: Some(lines.place(text, at)), path, text: message };
        Problems { file: file.to_owned(), all: self.found.into_iter().map(placed).collect() }
    }
}

/// A problem is a line of a log: whatever it quotes must not break it.
fn one_line(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(plain).collect()
}

/// Where the lines of a text begin.
pub(super) struct Lines(Vec<usize>);

impl Lines {
    /// Of this text.
    pub(super) fn of(text: &str) -> Self {
        let after_newlines =
            text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self(std::iter::once(0).chain(after_newlines).collect())
    }

    /// The line of byte `at`, from 0.
    pub(super) fn line(&self, at: usize) -> usize {
        self.0.partition_point(|start| *start <= at).saturating_sub(1)
    }

    /// Line and column of byte `at`, from 1; columns count characters.
    fn place(&self, text: &str, at: usize) -> (usize, usize) {
        let at = at.min(text.len());
        let line = self.line(at);
        let start = self.0[line];
        let before = text.get(start..at).map_or(at - start, |before| before.chars().count());
        (line + 1, before + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_stand_in_the_order_of_the_file_and_columns_count_characters() {
        let mut report = Report::default();
        report.add(9, "b", "second");
        report.add(5, "a", "first\nstill first");
        let problems = report.finish(Path::new("t.toml"), "\"öö\"\nx = 1\n");
        assert_eq!(problems.to_string(), "t.toml:1:4: a: first still first\nt.toml:2:3: b: second");
    }
}
