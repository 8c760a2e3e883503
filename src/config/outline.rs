//! The statements and brackets of a TOML text, also of one that is broken.
//!
//! The tree has no place for what could not be read, so this says which key a place belongs to, and which bracket or
//! quote was opened and never closed. What else is wrong with the text is left to the parser.

use std::{collections::HashMap, ops::Range};

/// Where statements begin, and what is not closed.
#[derive(Debug, Default)]
pub(super) struct Outline<'a> {
    /// In the order of the text; none inside of brackets.
    statements: Vec<Statement>,
    /// The first bracket or multi-line quote without an end. Whatever stands behind it is inside of it.
    pub unclosed: Option<Unclosed<'a>>,
}

#[derive(Debug)]
struct Statement {
    at: usize,
    /// The table that it opens, or that it stands in.
    table: String,
    /// Empty for a header, and for what does not look like a key.
    key: String,
    header: bool,
}

/// Something opened and never closed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unclosed<'a> {
    /// Its first byte.
    pub at: usize,
    /// `[`, `{`, `"""` or `'''`.
    pub opening: &'a str,
}

impl<'a> Outline<'a> {
    /// Of this text.
    pub(super) fn of(text: &'a str) -> Self {
        let mut scan = Scan { text, at: 0, outline: Self::default(), arrays: HashMap::new() };
        let mut table = String::new();
        while scan.outline.unclosed.is_none() && scan.skip_to_statement() {
            scan.statement(&mut table);
        }
        scan.outline
    }

    /// The path of the key that a place belongs to.
    pub(super) fn path_at(&self, at: usize) -> String {
        match self.index_at(at).map(|index| &self.statements[index]) {
            Some(Statement { table, key, .. }) if table.is_empty() || key.is_empty() => {
                format!("{table}{key}")
            }
            Some(Statement { table, key, .. }) => format!("{table}.{key}"),
            None => String::new(),
        }
    }

    /// The statement that a place belongs to.
    pub(super) fn statement(&self, at: usize) -> Range<usize> {
        self.range(at, |_| true)
    }

    /// Places that a syntax error at `at` makes a guess of: its statement, and behind a header that cannot be read
    /// its table.
    pub(super) fn reach(&self, at: usize) -> Range<usize> {
        let in_header = self.index_at(at).is_some_and(|index| self.statements[index].header);
        self.range(at, |next| next.header || !in_header)
    }

    /// From the statement at a place to the first one behind it that ends the range.
    fn range(&self, at: usize, ends: impl Fn(&Statement) -> bool) -> Range<usize> {
        let Some(index) = self.index_at(at) else { return at..at + 1 };
        let end = self.statements[index + 1..].iter().find(|next| ends(next));
        self.statements[index].at..end.map_or(usize::MAX, |next| next.at)
    }

    fn index_at(&self, at: usize) -> Option<usize> {
        self.statements.partition_point(|statement| statement.at <= at).checked_sub(1)
    }
}

struct Scan<'a> {
    text: &'a str,
    at: usize,
    outline: Outline<'a>,
    /// Entries of arrays of tables so far, by path.
    arrays: HashMap<String, usize>,
}

impl<'a> Scan<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// Leaves out blank lines and comments; false at the end of the text.
    fn skip_to_statement(&mut self) -> bool {
        loop {
            let bare = self.rest().trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n']);
            self.at = self.text.len() - bare.len();
            if !bare.starts_with('#') {
                return !bare.is_empty();
            }
            self.skip_line();
        }
    }

    fn skip_line(&mut self) {
        self.at += self.rest().find('\n').unwrap_or(self.rest().len());
    }

    /// A header or a key with its value; ends at a line's end or behind what is not closed.
    fn statement(&mut self, table: &mut String) {
        let (at, line) = (self.at, self.rest().lines().next().unwrap_or_default());
        let header = line.starts_with('[');
        if header {
            *table = self.table_path(line);
            self.skip_line();
        }
        let key = if header { "" } else { key_of(line) };
        self.outline.statements.push(Statement { at, table: table.clone(), key: key.to_owned(), header });
        if !header {
            self.value();
        }
    }

    /// Up to the end of the line on which no bracket is open.
    fn value(&mut self) {
        let mut open: Vec<(usize, u8)> = Vec::new();
        let mut before = b' ';
        while let Some(&byte) = self.text.as_bytes().get(self.at) {
            match byte {
                b'\n' if open.is_empty() => return,
                b'#' => {
                    self.skip_line();
                    continue;
                }
                b'"' | b'\'' if !self.quoted() => return,
                b'"' | b'\'' => {}
                // Outside of brackets only what follows "=" is a value; the parser leaves out the rest of the line.
                b'[' | b'{' if !open.is_empty() || before == b'=' => open.push((self.at, byte)),
                b']' | b'}' if self.closed(byte, &mut open) => return,
                _ => {}
            }
            if !matches!(byte, b' ' | b'\t') {
                before = byte;
            }
            // `quoted` has gone on already.
            self.at += usize::from(!matches!(byte, b'"' | b'\''));
        }
        if let Some((at, _)) = open.first() {
            self.never_closed(*at, 1);
        }
    }

    /// Takes a closing bracket; true when it shows that another one inside of it was never closed.
    fn closed(&mut self, byte: u8, open: &mut Vec<(usize, u8)>) -> bool {
        let opening = if byte == b']' { b'[' } else { b'{' };
        let Some(index) = open.iter().rposition(|(_, bracket)| *bracket == opening) else { return false };
        if let Some((at, _)) = open.get(index + 1) {
            self.never_closed(*at, 1);
            return true;
        }
        open.truncate(index);
        false
    }

    /// Goes behind a string; false when it has three quotes in front and none behind.
    fn quoted(&mut self) -> bool {
        let (at, rest) = (self.at, self.rest());
        let quote = &rest[..1];
        let long = rest.starts_with(&quote.repeat(3));
        let end = string_end(rest.as_bytes(), rest.as_bytes()[0], long);
        self.at += end.unwrap_or(rest.len());
        if end.is_none() && long {
            self.never_closed(at, 3);
        }
        end.is_some() || !long
    }

    fn never_closed(&mut self, at: usize, length: usize) {
        self.outline.unclosed = Some(Unclosed { at, opening: &self.text[at..at + length] });
    }

    /// `[[routes]]` for the second time is `routes[1]`; a table below it starts with that.
    fn table_path(&mut self, header: &str) -> String {
        let inner = header.trim_start_matches('[').split([']', '#']).next().unwrap_or_default();
        let names: Vec<&str> = inner.split('.').map(str::trim).filter(|name| !name.is_empty()).collect();
        let mut path = String::new();
        for (index, name) in names.iter().enumerate() {
            path = if index == 0 { (*name).to_owned() } else { format!("{path}.{name}") };
            if header.starts_with("[[") && index + 1 == names.len() {
                *self.arrays.entry(path.clone()).or_default() += 1;
            }
            if let Some(count) = self.arrays.get(&path) {
                path = format!("{path}[{}]", count - 1);
            }
        }
        path
    }
}

/// The first byte behind a string that starts here. A short one ends with its line at the latest.
fn string_end(bytes: &[u8], quote: u8, long: bool) -> Option<usize> {
    let mut at = if long { 3 } else { 1 };
    while let Some(&byte) = bytes.get(at) {
        if byte == b'\\' && quote == b'"' && bytes.get(at + 1) != Some(&b'\n') {
            at += 2;
        } else if long && bytes[at..].starts_with(&[quote; 3]) {
            // Up to two quotes may stand inside, right before the end.
            let quotes = bytes[at..].iter().take(5).take_while(|byte| **byte == quote).count();
            return Some(at + quotes);
        } else if !long && byte == quote {
            return Some(at + 1);
        } else if !long && byte == b'\n' {
            return Some(at);
        } else {
            at += 1;
        }
    }
    None
}

/// What stands in front of `=`, when it looks like a key.
fn key_of(line: &str) -> &str {
    let key = line.split_once('=').map_or("", |(key, _)| key.trim());
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '"');
    if key.chars().all(plain) { key } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unclosed(text: &str) -> Option<(usize, &str)> {
        Outline::of(text).unclosed.map(|unclosed| (unclosed.at, unclosed.opening))
    }

    #[test]
    fn a_place_has_the_path_of_its_table_and_key() {
        let text = "a = 1\n[[routes]]\n[[routes]]\nname = 2\n[[routes.match]]\nx = 1\n[[routes.match]]\ny = [\n z = 1,\n [3]]\n";
        let path = |needle: &str| Outline::of(text).path_at(text.find(needle).unwrap());
        assert_eq!(path("a = 1"), "a");
        assert_eq!(path("name"), "routes[1].name");
        assert_eq!(path("x = 1"), "routes[1].match[0].x");
        assert_eq!(path("z = 1"), "routes[1].match[1].y");
        assert_eq!(path("[3]"), "routes[1].match[1].y");
    }

    #[test]
    fn the_bracket_without_an_end_is_found_whatever_follows() {
        assert_eq!(unclosed("a = [1\n[t]\nb = [1]\n[[u]]\nc = { d = [] }\n"), Some((4, "[")));
        assert_eq!(unclosed("a = [{ b = 1 ]\nc = 1\n"), Some((5, "{")));
        assert_eq!(unclosed("a = [{ b = [1 }]\nc = 1\n"), Some((11, "[")));
        assert_eq!(unclosed("a = { b = 1\nc = 1\n"), Some((4, "{")));
        assert_eq!(unclosed("a = \"\"\"x\nc = 1\n"), Some((4, "\"\"\"")));
        assert_eq!(unclosed("a = 1 [\nb = [ # ]\n"), Some((12, "[")));
    }

    #[test]
    fn brackets_in_strings_comments_headers_and_rubbish_open_nothing() {
        for text in [
            "a = [\"[\", '{', 'a\\', \"\\\"[\"] # [\n",
            "[t\n[[u]\nb = 1\n",
            "a = \"x[\nb = 'y{\n",
            "a = 1 [\nfoo {\n",
            "a = [\n [1, 2],\n # ]\n [3] ]\n",
            "a = \"\"\"[ \\\"\"\" {\"\"\"\"\"\nb = '''['''\n",
            "a = [1}]\nb = ]\n",
        ] {
            assert_eq!(unclosed(text), None, "{text}");
        }
    }

    #[test]
    fn no_text_is_too_strange_to_be_scanned() {
        let strange = [
            "",
            "\u{feff}",
            "=",
            "[",
            "\"",
            "'''",
            "a = \"\\",
            "a = 'é",
            "ü = \"\\é",
            "a = [\"\"\"é",
            "[[",
            "# x",
        ];
        for text in strange {
            assert!(Outline::of(text).path_at(text.len()).len() <= text.len());
        }
    }

    #[test]
    fn an_error_in_a_header_reaches_to_the_next_one() {
        let text = "[a\nb = 1\nc = 1\n[d]\ne = 1\n";
        let outline = Outline::of(text);
        assert_eq!(outline.reach(1), 0..text.find("[d]").unwrap());
        assert_eq!(outline.reach(4), 3..9);
    }
}
