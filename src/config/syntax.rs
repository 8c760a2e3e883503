//! TOML text -> tree with positions, and its syntax errors.
//!
//! What keys mean is left to `tree.rs`.

use std::collections::HashMap;

use toml::de::{DeTable, Error};

use super::problems::{Lines, Report};

/// The tree as far as it can be read; syntax errors and duplicate keys go to `report`.
pub(super) fn read<'a>(text: &'a str, report: &mut Report) -> DeTable<'a> {
    let (tree, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let outline = Outline::of(text);
        for error in errors {
            let at = error.span().map_or(text.len(), |span| span.start);
            report.add(at, &outline.path_at(at), message(text, &error));
        }
    }
    tree.into_inner()
}

fn message(text: &str, error: &Error) -> String {
    let said = error.message();
    let quoted = error.span().and_then(|span| text.get(span)).unwrap_or_default();
    if said.starts_with("duplicate key") {
        return format!("duplicate key {quoted}; it may stand only once");
    }
    // The toml crate says this of unquoted strings, and of nothing at all behind "=".
    if said.starts_with("string values must be quoted") && quoted.is_empty() {
        return "not valid TOML: the value is missing".to_owned();
    }
    format!("not valid TOML: {said}")
}

/// Which key a place belongs to, judged by lines alone: the tree has no place for what could not be read.
struct Outline<'a> {
    starts: Lines,
    lines: Vec<&'a str>,
    /// The lines of headers, from 0, with the paths of their tables.
    tables: Vec<(usize, String)>,
}

impl<'a> Outline<'a> {
    fn of(text: &'a str) -> Self {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let mut arrays = HashMap::new();
        let mut tables = Vec::new();
        for (number, line) in lines.iter().enumerate().filter(|(_, line)| line.starts_with('[')) {
            tables.push((number, table_path(line, &mut arrays)));
        }
        Self { starts: Lines::of(text), lines, tables }
    }

    fn path_at(&self, at: usize) -> String {
        let number = self.starts.line(at);
        let line = self.lines.get(number).copied().unwrap_or_default();
        let key = if line.starts_with('[') { "" } else { key_of(line) };
        let above = self.tables.partition_point(|(header, _)| *header <= number).checked_sub(1);
        let table = above.map_or("", |index| self.tables[index].1.as_str());
        match (table, key) {
            ("", _) => key.to_owned(),
            (_, "") => table.to_owned(),
            _ => format!("{table}.{key}"),
        }
    }
}

/// What stands in front of `=`, when it looks like a key.
fn key_of(line: &str) -> &str {
    let key = line.split_once('=').map_or("", |(key, _)| key.trim());
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '"');
    if key.chars().all(plain) { key } else { "" }
}

/// `[[routes]]` for the second time is `routes[1]`; a table below it starts with that.
fn table_path<'a>(header: &'a str, arrays: &mut HashMap<&'a str, usize>) -> String {
    let inner = header.trim_start_matches('[').split(']').next().unwrap_or_default().trim();
    let first = inner.split('.').next().unwrap_or_default();
    if header.starts_with("[[") && inner == first {
        *arrays.entry(first).or_default() += 1;
    }
    let index = arrays.get(first).map(|count| format!("[{}]", count - 1)).unwrap_or_default();
    format!("{first}{index}{}", &inner[first.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_the_path_of_its_table_and_key() {
        let text = "a = 1\n[[routes]]\n[[routes]]\nname = 2\n[routes.match]\nx = 1\n";
        let path = |needle: &str| Outline::of(text).path_at(text.find(needle).unwrap());
        assert_eq!(path("a = 1"), "a");
        assert_eq!(path("name"), "routes[1].name");
        assert_eq!(path("x = 1"), "routes[1].match.x");
    }
}
