//! TOML text -> tree with positions, and its syntax errors.
//!
//! What keys mean is left to `tree.rs`.

use toml::de::{DeTable, Error};

use super::problems::{Lines, Report};

/// The tree as far as it can be read; syntax errors and duplicate keys go to `report`.
pub(super) fn read<'a>(text: &'a str, report: &mut Report) -> DeTable<'a> {
    let (tree, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let at = error.span().map_or(text.len(), |span| span.start);
        report.add(at, &path_at(text, at), message(text, &error));
    }
    tree.into_inner()
}

fn message(text: &str, error: &Error) -> String {
    let said = error.message();
    if !said.starts_with("duplicate key") {
        return format!("not valid TOML: {said}");
    }
    let name = error.span().and_then(|span| text.get(span)).unwrap_or_default();
    format!("duplicate key {name}; it may stand only once")
}

/// The key that byte `at` belongs to, judged by lines alone: the tree has no place for what could not be read.
fn path_at(text: &str, at: usize) -> String {
    let line_of_at = Lines::of(text).line(at);
    let mut headers: Vec<&str> = Vec::new();
    let mut key = "";
    for (number, line) in text.lines().enumerate().take(line_of_at + 1) {
        let line = line.trim();
        if line.starts_with('[') {
            headers.push(line);
        }
        key = if number == line_of_at && !line.starts_with('[') { key_of(line) } else { "" };
    }
    let table = headers.last().map(|last| table_path(last, &headers)).unwrap_or_default();
    match (table.is_empty(), key.is_empty()) {
        (true, _) => key.to_owned(),
        (false, true) => table,
        (false, false) => format!("{table}.{key}"),
    }
}

/// What stands in front of `=`, when it looks like a key.
fn key_of(line: &str) -> &str {
    let key = line.split_once('=').map_or("", |(key, _)| key.trim());
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '"');
    if key.chars().all(plain) { key } else { "" }
}

/// `[[routes]]` for the second time is `routes[1]`; a table below it starts with that.
fn table_path(header: &str, headers: &[&str]) -> String {
    let name = name_of(header);
    let (first, rest) = name.split_once('.').map_or((name, None), |(first, rest)| (first, Some(rest)));
    let array = format!("[[{first}]]");
    let nth = headers.iter().filter(|other| other.starts_with(&array)).count();
    let first = if nth == 0 { first.to_owned() } else { format!("{first}[{}]", nth - 1) };
    rest.map_or(first.clone(), |rest| format!("{first}.{rest}"))
}

fn name_of(header: &str) -> &str {
    let inner = header.trim_start_matches('[');
    inner.split(']').next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_the_path_of_its_table_and_key() {
        let text = "a = 1\n[[routes]]\n[[routes]]\nname = 2\n[routes.match]\nx = 1\n";
        let path = |needle: &str| path_at(text, text.find(needle).unwrap());
        assert_eq!(path("a = 1"), "a");
        assert_eq!(path("name"), "routes[1].name");
        assert_eq!(path("x = 1"), "routes[1].match.x");
    }
}
