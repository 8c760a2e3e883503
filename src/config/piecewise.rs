//! A sound text -> a checked configuration, block by block; blocks that stood in the text before are not read again.
//!
//! Routes and services are most of a large file. Read one at a time, their trees take the memory of one, and a reload
//! costs what was changed. The result is exactly that of reading the whole (`load.rs`); wherever that is in doubt, and
//! wherever anything is wrong, the answer is none, and the whole is read.
//!
//! # Why this is the same
//! TOML is read statement by statement, and each piece is sound on its own: it begins and ends between two
//! statements. That the rest does so at each cut is shown by the seams, which are found again as empty routes.
//! A block holds one route, or one service, and nothing else; no other piece says anything of that service, nor the rest
//! of routes or services.

use std::{path::Path, sync::Arc};

use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Environment,
    blocks::{self, Block, Pieces},
    check,
    checked::{BackendTarget, Config, Name, Route, Service},
    keys, meaning,
    problems::Report,
    route_meaning::Routes,
    section::Section,
    security_check, service_meaning,
    tree::{self, Data, Node, Paths},
};

/// What the last text said, block by block.
#[derive(Debug, Default)]
pub struct Memory {
    text: String,
    rest: String,
    blocks: Vec<(Block, Part)>,
    services: Vec<Name>,
}

/// What a block means.
#[derive(Clone, Debug)]
enum Part {
    Route(Arc<Route>),
    Service(Name, Arc<Service>),
}

/// Reads a text; None when it has to be read as a whole.
pub(super) fn read(
    text: &str,
    directory: &Path,
    environment: &Environment,
    memory: &mut Memory,
) -> Option<Config> {
    let pieces = blocks::cut(text);
    if pieces.blocks.is_empty() {
        return None;
    }
    let mut report = Report::default();
    let root = rest(&pieces, &mut report)?;
    let root = Section::new(&keys::ROOT, &root);
    let mut config = meaning::config(root, directory, environment, &mut report);
    let known = Remembered::of(memory, &pieces.rest);
    let mut parts: Vec<Option<Part>> = known.parts(text, &pieces.blocks);
    read_services(text, &pieces.blocks, (root, directory), &mut parts, &mut config, &mut report)?;
    let names: Vec<Name> = config.services.keys().cloned().collect();
    let known = || check::Known::of(root).with_services(names.iter().map(|name| &**name));
    read_routes(text, &pieces.blocks, (root, directory, known()), &mut parts, &mut config, &mut report)?;
    security_check::policies(root, known(), &mut report);
    if !report.is_empty() || !services_are_there(memory, &config) || !names_differ(&config.routes) {
        return None;
    }
    let parts = pieces.blocks.into_iter().zip(parts.into_iter().flatten()).collect();
    *memory = Memory { text: text.to_owned(), rest: pieces.rest, blocks: parts, services: names };
    Some(config)
}

/// The tree of the rest, if it shows every seam and speaks neither of routes nor of services.
fn rest(pieces: &Pieces, report: &mut Report) -> Option<Node> {
    let mut tree = DeTable::parse(&pieces.rest).ok()?.into_inner();
    let seams = tree.remove("routes")?;
    let DeValue::Array(seams) = seams.get_ref() else { return None };
    let empty =
        |seam: &Spanned<DeValue<'_>>| matches!(seam.get_ref(), DeValue::Table(table) if table.is_empty());
    if seams.len() != pieces.seams || !seams.iter().all(empty) || tree.contains_key("services") {
        return None;
    }
    Some(tree::read(&keys::ROOT, &tree, Paths::Unnamed, report))
}

/// What a block says under the only key that it may have.
fn block(text: &str, key: &str, report: &mut Report) -> Option<Data> {
    let tree = DeTable::parse(text).ok()?.into_inner();
    let (name, value) = tree.iter().next().filter(|_| tree.len() == 1)?;
    if name.get_ref() != key {
        return None;
    }
    tree::read_entry(keys::ROOT.key(key)?, value, report).map(|node| node.data)
}

/// Services come first: routes name them.
fn read_services(
    text: &str,
    blocks: &[Block],
    (root, directory): (Section<'_>, &Path),
    parts: &mut [Option<Part>],
    config: &mut Config,
    report: &mut Report,
) -> Option<()> {
    let defaults = service_meaning::defaults(root);
    for (at, part) in blocks.iter().zip(parts).filter(|(block, _)| !block.is_route) {
        if part.is_none() {
            let Data::Map(entries) = block(&text[at.at.clone()], "services", report)? else { return None };
            let (name, node) = entries.first_key_value().filter(|_| entries.len() == 1)?;
            let service = service_meaning::service(node, defaults, directory, report)?;
            *part = Some(Part::Service(name.as_str().into(), Arc::new(service)));
        }
        if let Some(Part::Service(name, service)) = part
            && config.services.insert(name.clone(), service.clone()).is_some()
        {
            return None;
        }
    }
    Some(())
}

fn read_routes(
    text: &str,
    blocks: &[Block],
    (root, directory, known): (Section<'_>, &Path, check::Known<'_>),
    parts: &mut [Option<Part>],
    config: &mut Config,
    report: &mut Report,
) -> Option<()> {
    let routes = Routes::new(root, &config.listeners, directory, known);
    for (at, part) in blocks.iter().zip(parts).filter(|(block, _)| block.is_route) {
        if part.is_none() {
            let Data::List(nodes) = block(&text[at.at.clone()], "routes", report)? else { return None };
            let [node] = nodes.as_slice() else { return None };
            *part = Some(Part::Route(Arc::new(routes.read(node, report))));
        }
        if let Some(Part::Route(route)) = part {
            config.routes.push(route.clone());
        }
    }
    Some(())
}

/// Routes that were not read again may name a service that went.
fn services_are_there(memory: &Memory, config: &Config) -> bool {
    let there = |name: &Name| config.services.contains_key(name);
    if memory.services.iter().all(there) {
        return true;
    }
    let target = |target: &BackendTarget| match target {
        BackendTarget::Service(name) => there(name),
        BackendTarget::PerHost(_) => true,
    };
    let sound = |route: &Arc<Route>| {
        route.backends.iter().all(|backend| target(&backend.target))
            && route.failover.services.iter().all(there)
            && route.authorize.iter().all(|authorize| there(&authorize.service))
    };
    config.routes.iter().all(sound)
}

fn names_differ(routes: &[Arc<Route>]) -> bool {
    let mut seen: HashSet<&str, RandomState> =
        HashSet::with_capacity_and_hasher(routes.len(), RandomState::default());
    routes.iter().all(|route| seen.insert(&route.name))
}

/// A memory that can be asked for blocks.
struct Remembered<'m> {
    text: &'m str,
    blocks: &'m [(Block, Part)],
}

impl<'m> Remembered<'m> {
    /// Whatever the rest says may change what a block means: with another rest, nothing is remembered.
    fn of(memory: &'m Memory, rest: &str) -> Self {
        let blocks: &[_] = if memory.rest == rest { &memory.blocks } else { &[] };
        Self { text: &memory.text, blocks }
    }

    /// The meaning of each block that is known. Most follow the one that they followed before.
    fn parts(&self, text: &str, blocks: &[Block]) -> Vec<Option<Part>> {
        let mut index: Option<HashMap<&str, usize, RandomState>> = None;
        let mut next = 0;
        let mut part = |block: &Block| {
            let wanted = &text[block.at.clone()];
            if self.blocks.get(next).is_none_or(|known| self.text_of(known) != wanted) {
                next = *index.get_or_insert_with(|| self.index()).get(wanted)?;
            }
            next += 1;
            Some(self.blocks[next - 1].1.clone())
        };
        blocks.iter().map(&mut part).collect()
    }

    fn text_of(&self, known: &(Block, Part)) -> &'m str {
        &self.text[known.0.at.clone()]
    }

    fn index(&self) -> HashMap<&'m str, usize, RandomState> {
        self.blocks.iter().enumerate().map(|(at, known)| (self.text_of(known), at)).collect()
    }
}
