//! TOML text -> tree with positions, and its syntax errors.
//!
//! Which key a place belongs to is left to `outline.rs`, and what keys mean to `tree.rs`.

use std::{collections::BTreeSet, ops::Range};

use toml::de::{DeTable, Error};

use super::{
    outline::{Outline, Unclosed},
    problems::{Lines, Report},
};

/// Where what was read is a guess, because the text is broken there: ranges in order, none touching the next.
#[derive(Debug, Default)]
pub(super) struct Damage(Vec<Range<usize>>);

impl Damage {
    /// Whether a place is among it.
    pub(super) fn covers(&self, at: usize) -> bool {
        let behind = self.0.partition_point(|range| range.start <= at);
        behind.checked_sub(1).is_some_and(|index| self.0[index].contains(&at))
    }

    /// Adds a range that begins no earlier than those before it.
    fn add(&mut self, range: Range<usize>) {
        match self.0.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => self.0.push(range),
        }
    }
}

/// The tree as far as it can be read; syntax errors and duplicate keys go to `report`.
pub(super) fn read<'a>(text: &'a str, report: &mut Report) -> (DeTable<'a>, Damage) {
    let (tree, errors) = DeTable::parse_recoverable(text);
    let damage = if errors.is_empty() { Damage::default() } else { add(text, &errors, report) };
    (tree.into_inner(), damage)
}

/// Adds what users can act upon: one error for each line, and none inside of a bracket that has no end.
fn add(text: &str, errors: &[Error], report: &mut Report) -> Damage {
    let (outline, lines) = (Outline::of(text), Lines::of(text));
    let mut errors: Vec<_> =
        errors.iter().map(|error| (error.span().map_or(text.len(), |span| span.start), error)).collect();
    errors.sort_by_key(|(at, _)| *at);
    let end = outline.unclosed.as_ref().map_or(usize::MAX, |unclosed| unclosed.at);
    let (mut damage, mut broken_lines) = (Damage::default(), BTreeSet::new());
    for (at, error) in errors.into_iter().filter(|(at, _)| *at < end) {
        if broken_lines.contains(&lines.line(at)) {
            continue;
        }
        report.add(at, &outline.path_at(at), message(text, error));
        if is_duplicate(error) {
            damage.add(outline.statement(at));
        } else {
            damage.add(outline.reach(at));
            broken_lines.insert(lines.line(at));
        }
    }
    if let Some(Unclosed { at, opening }) = &outline.unclosed {
        let text = format!("not valid TOML: `{opening}` opened here is not closed");
        report.add(*at, &outline.path_at(*at), text);
        damage.add(outline.statement(*at).start..usize::MAX);
    }
    damage
}

fn is_duplicate(error: &Error) -> bool {
    error.message().starts_with("duplicate key")
}

fn message(text: &str, error: &Error) -> String {
    let said = error.message();
    let quoted = error.span().and_then(|span| text.get(span)).unwrap_or_default();
    if is_duplicate(error) {
        return format!("duplicate key {quoted}; it may stand only once");
    }
    // The toml crate says this of unquoted strings, and of nothing at all behind "=".
    if said.starts_with("string values must be quoted") && quoted.is_empty() {
        return "not valid TOML: the value is missing".to_owned();
    }
    format!("not valid TOML: {said}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> String {
        let mut report = Report::default();
        read(text, &mut report);
        report.finish(std::path::Path::new("t"), text).to_string()
    }

    #[test]
    fn an_open_bracket_is_one_problem_however_much_follows() {
        let text = format!("[a]\nb = [{{ c = 1 }}\n{}", "[[d]]\ne = 1\nf = [\"x\"]\n".repeat(50));
        assert_eq!(problems(&text), "t:2:5: a.b: not valid TOML: `[` opened here is not closed");
    }

    #[test]
    fn a_line_has_one_syntax_error_and_lines_before_an_open_bracket_keep_theirs() {
        let found = problems("a = = = ]\nb = 1 2 3\nc = [\nd = 1\n");
        let places: Vec<&str> = found.lines().map(|line| &line[..4]).collect();
        assert_eq!(places, ["t:1:", "t:2:", "t:3:"], "{found}");
    }
}
