//! The TOML tree -> values with positions, as the definition says.
//!
//! Everything that one key alone can get wrong is found here: unknown and refused keys, missing keys, keys that
//! exclude each other, types, syntax, ranges, empty lists. What concerns several keys is left to `check.rs`.
//!
//! # Paths
//! Only problems name the paths of keys. Writing them was a quarter of the time that a sound file takes, so it is read
//! without them; one with problems is read again (`load.rs`).

use std::{collections::BTreeMap, net::SocketAddr, ops::Range, time::Duration};

use regex::Regex;
use toml::{
    Spanned,
    de::{DeInteger, DeTable, DeValue},
};

use super::{
    checked::{HashKey, HostPattern, NodeOf},
    definition::{Choose, Key, Kind, Need, TableDef, Text},
    problems::Report,
    suggest, values, wording,
};
use crate::net::{Address, Subnet};

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Its first byte.
    pub at: usize,
    /// Its key, from the root; empty under [`Paths::Unnamed`].
    pub path: String,
    /// What it is.
    pub data: Data,
}

/// What a value is, by its syntax.
#[derive(Clone, Debug)]
pub(super) enum Data {
    Text(String),
    /// Also sizes, in bytes, and shares, in parts of a million.
    Number(u64),
    Flag(bool),
    Duration(Duration),
    Host(HostPattern),
    Regex(Regex),
    Address(Address),
    Socket(SocketAddr),
    Subnet(Subnet),
    HashKey(HashKey),
    NodeOf(NodeOf),
    DnsName {
        host: String,
        port: u16,
    },
    Template {
        prefix: String,
        suffix: String,
        port: Option<u16>,
    },
    /// Without the items that were wrong.
    List(Vec<Node>),
    /// Without the entries that were wrong. Few enough to be searched one by one.
    Table(Entries),
    /// By names of the user's choice, those that were wrong included.
    Map(BTreeMap<String, Node>),
    /// An entry of a map whose name or value was wrong: whoever names it names something that is there.
    Wrong,
}

/// The entries of a table, under the names of their definitions.
pub(super) type Entries = Vec<(&'static str, Node)>;

impl Node {
    /// What stands under `name`, if this is a table.
    pub(super) fn entry(&self, name: &str) -> Option<&Node> {
        let Data::Table(entries) = &self.data else { return None };
        entries.iter().find(|(key, _)| *key == name).map(|(_, node)| node)
    }
}

/// Whether nodes are told their paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paths {
    /// For a report that is to be shown.
    Named,
    /// For finding out whether there is anything to report.
    Unnamed,
}

/// Reads values and reports what is wrong with them.
struct Reader<'r> {
    report: &'r mut Report,
    paths: Paths,
}

/// Reads the whole file. Values that are wrong are in the report and not in the result.
pub(super) fn read(def: &'static TableDef, tree: &DeTable<'_>, paths: Paths, report: &mut Report) -> Node {
    let entries = Reader { report, paths }.table(def, tree, 0, "");
    Node { at: 0, path: String::new(), data: Data::Table(entries) }
}

/// Reads the value of one key, without paths.
pub(super) fn read_entry(
    key: &'static Key,
    value: &Spanned<DeValue<'_>>,
    report: &mut Report,
) -> Option<Node> {
    Reader { report, paths: Paths::Unnamed }.value(&key.kind, value, "")
}

/// Reads a value that the definition itself holds: a default or an example.
pub(super) fn read_own(kind: &'static Kind, text: &str, path: &str, report: &mut Report) -> Option<Node> {
    let value = DeValue::parse(text).ok()?;
    Reader { report, paths: Paths::Named }.value(kind, &value, path)
}

impl Reader<'_> {
    fn table(&mut self, def: &'static TableDef, tree: &DeTable<'_>, at: usize, path: &str) -> Entries {
        let mut entries = Vec::with_capacity(tree.len());
        for (name, value) in tree {
            let path = self.join(path, name.get_ref());
            let Some(key) = self.known_key(def, name.get_ref(), name.span().start, &path) else { continue };
            entries.extend(self.value(&key.kind, value, &path).map(|node| (key.name, node)));
        }
        self.missing_keys(def, tree, at, path);
        if let Some(choose) = &def.choose {
            self.one_of(choose, tree, at, path);
        }
        entries
    }

    /// The definition of a key, unless it is unknown or refused.
    fn known_key(
        &mut self,
        def: &'static TableDef,
        name: &str,
        at: usize,
        path: &str,
    ) -> Option<&'static Key> {
        match def.key(name) {
            Some(Key { refused: Some(why), .. }) => {
                self.report.add(at, path, format!("{why}; remove the key"))
            }
            None => {
                let instead =
                    suggest::instead(name, def.all().map(|key| key.name), def.built().map(|key| key.name));
                self.report.add(at, path, format!("unknown key; {instead}"));
            }
            known => return known,
        }
        None
    }

    fn missing_keys(&mut self, def: &'static TableDef, tree: &DeTable<'_>, at: usize, path: &str) {
        let required = def.all().filter(|key| matches!(key.need, Need::Required));
        for key in required.filter(|key| !tree.contains_key(key.name)) {
            self.report.add_missing(at, &join(path, key.name), format!("missing; add {}", sample(key)));
        }
    }

    fn one_of(&mut self, choose: &Choose, tree: &DeTable<'_>, at: usize, path: &str) {
        let present = choose.keys.iter().filter_map(|key| tree.get_key_value(*key));
        let present: Vec<_> = present.map(|(key, _)| (key.get_ref().as_ref(), key.span().start)).collect();
        let names = |keys: &[&str]| keys.join(", ");
        match present.as_slice() {
            [] if choose.required => {
                self.report.add_missing(
                    at,
                    path,
                    format!("one of these keys is missing: {}", names(choose.keys)),
                );
            }
            [(first, _), others @ ..] => {
                for (other, at) in others {
                    let text = format!("excludes {first}; only one may stand of {}", names(choose.keys));
                    self.report.add(*at, &join(path, other), text);
                }
            }
            [] => {}
        }
    }

    fn value(&mut self, kind: &'static Kind, value: &Spanned<DeValue<'_>>, path: &str) -> Option<Node> {
        let span = value.span();
        let data = match (kind, value.get_ref()) {
            (Kind::Text(syntax) | Kind::Or(syntax, _), DeValue::String(text)) => {
                self.text((*syntax, kind), text, &span, path)
            }
            (Kind::Number { min, max }, DeValue::Integer(number)) => {
                self.number(number, *min..=*max, &span, path)
            }
            (Kind::NumberOr(kind, _), DeValue::Integer(_)) => {
                return self.value(kind, value, path);
            }
            (Kind::NumberOr(_, syntax), DeValue::String(text)) => {
                self.text((*syntax, kind), text, &span, path)
            }
            (Kind::Percent, DeValue::Integer(number)) => self.share(number.as_str(), &span, path),
            (Kind::Percent, DeValue::Float(number)) => self.share(number.as_str(), &span, path),
            (Kind::Flag | Kind::True, DeValue::Boolean(true)) => Some(Data::Flag(true)),
            (Kind::Flag, DeValue::Boolean(false)) => Some(Data::Flag(false)),
            (Kind::List { item, empty }, DeValue::Array(items)) => {
                if items.is_empty() && !empty {
                    self.report.add(span.start, path, "is empty; must have at least one entry");
                }
                Some(Data::List(self.list(item, items, path)))
            }
            (Kind::Or(syntax, def), DeValue::Table(tree)) if def.built().next().is_none() => {
                self.form_to_come(*syntax, def, tree, span.start, path);
                None
            }
            (Kind::Table(def) | Kind::Or(_, def), DeValue::Table(tree)) => {
                Some(Data::Table(self.table(def, tree, span.start, path)))
            }
            (Kind::Map { name, value: kind, .. }, DeValue::Table(tree)) => {
                Some(Data::Map(self.map(*name, kind, tree, path)))
            }
            (_, other) => {
                let text = format!("{} is the wrong type; must be {}", found(other), wording::kind(kind));
                self.report.add(span.start, path, text);
                None
            }
        };
        data.map(|data| Node { at: span.start, path: path.to_owned(), data })
    }

    /// A table of which no key is built yet, where a string would do.
    fn form_to_come(&mut self, syntax: Text, def: &TableDef, tree: &DeTable<'_>, at: usize, path: &str) {
        let allowed = wording::syntax(syntax);
        let refused = |(name, _): (&Spanned<std::borrow::Cow<'_, str>>, _)| {
            let why = def.key(name.get_ref())?.refused?;
            Some((name.span().start, join(path, name.get_ref()), why))
        };
        match tree.iter().find_map(refused) {
            Some((at, path, why)) => self.report.add(at, &path, format!("{why}; must be {allowed}")),
            None => self.report.add(at, path, format!("a table is the wrong type; must be {allowed}")),
        }
    }

    fn text(
        &mut self,
        (syntax, kind): (Text, &Kind),
        text: &str,
        span: &Range<usize>,
        path: &str,
    ) -> Option<Data> {
        let read = values::read(syntax, text);
        read.map_err(|wrong| {
            self.report.add(span.start, path, format!("{wrong}; must be {}", wording::kind(kind)))
        })
        .ok()
    }

    fn number(
        &mut self,
        written: &DeInteger<'_>,
        range: std::ops::RangeInclusive<u64>,
        span: &Range<usize>,
        path: &str,
    ) -> Option<Data> {
        let number = u64::from_str_radix(written.as_str(), written.radix()).ok();
        let sound = number.filter(|number| range.contains(number));
        if sound.is_none() {
            let allowed = format!("must be a whole number from {} to {}", range.start(), range.end());
            self.report.add(span.start, path, format!("{written} is out of range; {allowed}"));
        }
        sound.map(Data::Number)
    }

    /// A percentage, in parts of a million.
    fn share(&mut self, written: &str, span: &Range<usize>, path: &str) -> Option<Data> {
        let percent = written.parse::<f64>().ok().filter(|percent| (0.0..=100.0).contains(percent));
        if percent.is_none() {
            let allowed = wording::kind(&Kind::Percent);
            self.report.add(span.start, path, format!("{written} is out of range; must be {allowed}"));
        }
        percent.map(|percent| Data::Number((percent * 10_000.0).round() as u64))
    }

    fn list(&mut self, item: &'static Kind, items: &[Spanned<DeValue<'_>>], path: &str) -> Vec<Node> {
        let mut nodes = Vec::with_capacity(items.len());
        for (index, entry) in items.iter().enumerate() {
            let path = self.path(|| format!("{path}[{index}]"));
            nodes.extend(self.value(item, entry, &path));
        }
        nodes
    }

    fn join(&self, path: &str, name: &str) -> String {
        self.path(|| join(path, name))
    }

    fn path(&self, path: impl FnOnce() -> String) -> String {
        if self.paths == Paths::Named { path() } else { String::new() }
    }

    fn map(
        &mut self,
        syntax: Text,
        kind: &'static Kind,
        tree: &DeTable<'_>,
        path: &str,
    ) -> BTreeMap<String, Node> {
        let mut entries = BTreeMap::new();
        for (name, value) in tree {
            let path = self.join(path, name.get_ref());
            let read = self.text((syntax, &Kind::Text(syntax)), name.get_ref(), &name.span(), &path);
            let node = self.value(kind, value, &path);
            let (Some(Data::Text(name_read)), Some(node)) = (read, node) else {
                let node = Node { at: name.span().start, path, data: Data::Wrong };
                entries.entry(name.get_ref().to_string()).or_insert(node);
                continue;
            };
            if entries.insert(name_read, node).is_some() {
                self.report.add(
                    name.span().start,
                    &path,
                    "stands twice, in other letter case; keep one of them",
                );
            }
        }
        entries
    }
}

/// A line that would add the key.
fn sample(key: &Key) -> String {
    let Kind::List { item: Kind::Table(def), .. } = key.kind else {
        return format!("{} = {}", key.name, key.example);
    };
    let required: Vec<String> =
        def.all().filter(|key| matches!(key.need, Need::Required)).map(sample).collect();
    match required.split_last() {
        Some((last, others)) => format!("[[{}]] with {} and {last}", key.name, others.join(", ")),
        None => format!("{} = {}", key.name, key.example),
    }
}

/// What a value is, as the user sees it.
fn found(value: &DeValue<'_>) -> String {
    match value {
        DeValue::Integer(number) => format!("the number {number}"),
        DeValue::Float(number) => format!("the number {number}"),
        DeValue::Boolean(flag) => format!("{flag}"),
        DeValue::String(_) => "a string".to_owned(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "an array".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// `path.name`, with the name in quotes where TOML needs them.
fn join(path: &str, name: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let name = if !name.is_empty() && name.bytes().all(bare) { name.to_owned() } else { format!("{name:?}") };
    if path.is_empty() { name } else { format!("{path}.{name}") }
}

#[cfg(test)]
mod tests {
    use super::{super::keys, *};

    /// Every key's example, in this table and below.
    fn check_examples(def: &'static TableDef, checked: &mut usize) {
        for key in def.built() {
            let mut report = Report::default();
            let needs_entries = matches!(key.kind, Kind::List { empty: false, .. }) && key.example == "[]";
            assert!(
                needs_entries || read_own(&key.kind, key.example, "", &mut report).is_some(),
                "{}",
                key.name
            );
            assert!(needs_entries || report.is_empty(), "{} = {}: {report:?}", key.name, key.example);
            *checked += 1;
            below(&key.kind).into_iter().for_each(|def| check_examples(def, checked));
        }
    }

    fn below(kind: &'static Kind) -> Option<&'static TableDef> {
        match kind {
            Kind::Table(def) | Kind::Or(_, def) => Some(def),
            Kind::List { item: kind, .. } | Kind::Map { value: kind, .. } => below(kind),
            _ => None,
        }
    }

    #[test]
    fn every_example_and_default_of_the_definition_is_valid() {
        let mut checked = 0;
        check_examples(&keys::ROOT, &mut checked);
        assert!(checked > 50, "{checked}");
    }
}
