//! The definition -> `config/full.toml`: every built key with its default, its unit and its meaning.
//!
//! A key stands live when it has a default or must be there, and as a comment when silence means something else or
//! another key excludes it. So the file always loads.

use super::{
    definition::{Key, Kind, Need, TableDef},
    keys, wording,
};

const HEAD: &str = "\
# Every key of towpath's configuration. Keys with a default show it; keys in comments are silent by default.
# Durations are whole numbers of ms, s, m or h; sizes of B, KiB, MiB or GiB. Paths are relative to this file.
# Made from the definition of the keys in src/config/keys/: do not edit.
";

/// Without these a file would do nothing.
const LIVE: [&str; 2] = ["routes", "services"];

/// The text of `config/full.toml`.
pub fn full_toml() -> String {
    let mut out = HEAD.to_owned();
    table(&mut out, &keys::ROOT, "");
    out
}

/// Plain keys first: whatever follows a header belongs to that header's table.
fn table(out: &mut String, def: &'static TableDef, path: &str) {
    let (tables, plain): (Vec<_>, Vec<_>) = def.built().partition(|key| header(key, path).is_some());
    for key in plain {
        line(out, def, key);
    }
    for key in tables {
        let Some((header, path, below)) = header(key, path) else { continue };
        out.push_str(&format!("\n# {}\n", key.doc));
        let mut text = String::new();
        if below.built().any(|key| self::header(key, &path).is_none()) {
            text.push_str(&format!("{header}\n"));
        }
        table(&mut text, below, &path);
        let silent = matches!(key.need, Need::Optional(_)) && !LIVE.contains(&key.name);
        out.push_str(&if silent { commented(&text) } else { text });
    }
}

/// A table that means something by being there.
fn commented(text: &str) -> String {
    let line = |line: &str| {
        if line.is_empty() || line.starts_with('#') { format!("{line}\n") } else { format!("# {line}\n") }
    };
    text.lines().map(line).collect()
}

/// The header, path and definition of what gets a table of its own.
fn header(key: &Key, above: &str) -> Option<(String, String, &'static TableDef)> {
    let path = if above.is_empty() { key.name.to_owned() } else { format!("{above}.{}", key.name) };
    match key.kind {
        Kind::Table(def) => Some((format!("[{path}]"), path, def)),
        Kind::List { item: Kind::Table(def), .. } => Some((format!("[[{path}]]"), path, def)),
        Kind::Map { value: Kind::Table(def), example, .. } => {
            let path = format!("{path}.{example}");
            Some((format!("[{path}]"), path, def))
        }
        _ => None,
    }
}

fn line(out: &mut String, def: &TableDef, key: &Key) {
    out.push_str(&format!("# {} Takes {}. {}.\n", key.doc, wording::brief(&key.kind), silence(key)));
    for inner in long_form(&key.kind).into_iter().flat_map(TableDef::built) {
        let takes = wording::brief(&inner.kind);
        let line = format!(
            "#   {{ {} = {} }}: {} Takes {takes}. {}.\n",
            inner.name,
            inner.example,
            inner.doc,
            silence(inner)
        );
        out.push_str(&line);
    }
    let comment = if is_live(def, key) { "" } else { "# " };
    out.push_str(&format!("{comment}{} = {}\n", key.name, key.example));
}

fn silence(key: &Key) -> String {
    match key.need {
        Need::Required => "Required".to_owned(),
        need => format!("Default: {}", wording::silence(need)),
    }
}

/// The table that an entry may be in place of a string.
fn long_form(kind: &Kind) -> Option<&'static TableDef> {
    match kind {
        Kind::Or(_, def) => Some(def),
        Kind::List { item, .. } => long_form(item),
        Kind::Map { value, .. } => long_form(value),
        _ => None,
    }
}

fn is_live(def: &TableDef, key: &Key) -> bool {
    let chosen = def.choose.as_ref().is_some_and(|choose| choose.required && choose.keys[0] == key.name);
    chosen || !matches!(key.need, Need::Optional(_))
}
