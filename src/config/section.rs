//! One table as `meaning.rs` reads it: what is written, else what `[defaults]` says, else the definition's default.

use std::{borrow::Cow, cell::RefCell, net::SocketAddr, time::Duration};

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::{
    definition::{Key, Kind, Need, TableDef},
    problems::Report,
    tree::{self, Data, Node},
};
use crate::net::Address;

thread_local! {
    /// The defaults that were read so far, by where their definition lies. Most values of most files are defaults.
    static DEFAULTS: RefCell<HashMap<*const Key, Option<Data>, RandomState>> = RefCell::default();
}

/// A table, with a second one for where it is silent. A value that was wrong reads like a silent one: its problem
/// is in the report, and a configuration with problems is never used.
#[derive(Clone, Copy)]
pub(super) struct Section<'a> {
    def: &'static TableDef,
    own: Option<&'a Node>,
    fallback: Option<&'a Node>,
}

impl<'a> Section<'a> {
    /// A table that was read with `def`.
    pub(super) fn new(def: &'static TableDef, own: &'a Node) -> Self {
        Self { def, own: Some(own), fallback: None }
    }

    /// The same, silent where `fallback` speaks.
    pub(super) fn or(self, fallback: Section<'a>) -> Self {
        Self { fallback: fallback.own, ..self }
    }

    /// The same without a second one.
    pub(super) fn alone(self) -> Self {
        Self { fallback: None, ..self }
    }

    /// Its first byte.
    pub(super) fn at(&self) -> usize {
        self.own.map_or(0, |node| node.at)
    }

    /// Its path.
    pub(super) fn path(&self) -> &'a str {
        self.own.map_or("", |node| &node.path)
    }

    /// What is written under `name`.
    pub(super) fn written(&self, name: &str) -> Option<&'a Node> {
        let entry = |table: Option<&'a Node>| table.and_then(|table| table.entry(name));
        entry(self.own).or_else(|| entry(self.fallback))
    }

    fn value(&self, name: &str) -> Option<Cow<'a, Data>> {
        if let Some(node) = self.written(name) {
            return Some(Cow::Borrowed(&node.data));
        }
        let key = self.def.key(name).expect("whatever is read is defined");
        default(key).map(Cow::Owned)
    }

    /// The table under `name`, which the definition must know as one.
    pub(super) fn table(&self, name: &str) -> Section<'a> {
        let Some(Kind::Table(def)) = self.def.key(name).map(|key| &key.kind) else {
            unreachable!("{name} is defined as a table")
        };
        let entry = |table: Option<&'a Node>| table.and_then(|table| table.entry(name));
        Section { def, own: entry(self.own), fallback: entry(self.fallback) }
    }

    /// The entries of the array under `name`.
    pub(super) fn list(&self, name: &str) -> &'a [Node] {
        match self.written(name).map(|node| &node.data) {
            Some(Data::List(nodes)) => nodes,
            _ => &[],
        }
    }

    /// The entries of the map under `name`.
    pub(super) fn map(&self, name: &str) -> impl Iterator<Item = (&'a String, &'a Node)> + use<'a> {
        let entries = match self.written(name).map(|node| &node.data) {
            Some(Data::Map(entries)) => Some(entries),
            _ => None,
        };
        entries.into_iter().flatten()
    }

    /// The entries of the array under `name`, in a table that may not know it.
    pub(super) fn list_if_defined(&self, name: &str) -> &'a [Node] {
        if self.def.key(name).is_some() { self.list(name) } else { &[] }
    }

    /// The string under `name`, in a table that may not know it.
    pub(super) fn text_if_defined(&self, name: &str) -> Option<String> {
        self.def.key(name).and_then(|_| self.text(name))
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        match self.value(name)?.into_owned() {
            Data::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The strings of the array under `name`.
    pub(super) fn texts(&self, name: &str) -> Vec<String> {
        let text = |node: &Node| match &node.data {
            Data::Text(text) => Some(text.clone()),
            _ => None,
        };
        self.list(name).iter().filter_map(text).collect()
    }

    pub(super) fn number(&self, name: &str) -> Option<u64> {
        match *self.value(name)? {
            Data::Number(number) => Some(number),
            _ => None,
        }
    }

    /// A number that is bounded to less than this by its definition.
    pub(super) fn count<N: TryFrom<u64> + Default>(&self, name: &str) -> N {
        self.number(name).and_then(|number| N::try_from(number).ok()).unwrap_or_default()
    }

    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        match *self.value(name)? {
            Data::Flag(flag) => Some(flag),
            _ => None,
        }
    }

    pub(super) fn duration(&self, name: &str) -> Option<Duration> {
        match *self.value(name)? {
            Data::Duration(duration) => Some(duration),
            _ => None,
        }
    }

    pub(super) fn address(&self, name: &str) -> Option<Address> {
        match self.value(name)?.as_ref() {
            Data::Address(address) => Some(address.clone()),
            _ => None,
        }
    }

    pub(super) fn socket(&self, name: &str) -> Option<SocketAddr> {
        match *self.value(name)? {
            Data::Socket(address) => Some(address),
            _ => None,
        }
    }
}

fn default(key: &'static Key) -> Option<Data> {
    let Need::Default(text) = key.need else { return None };
    DEFAULTS.with_borrow_mut(|read| {
        // Tests read every default; none has a problem.
        let first = || tree::read_own(&key.kind, text, "", &mut Report::default()).map(|node| node.data);
        read.entry(std::ptr::from_ref(key)).or_insert_with(first).clone()
    })
}
