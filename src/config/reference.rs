//! The definition -> `docs/configuration.md`.

use super::{
    definition::{Choice, Key, Kind, Need, TableDef, Text},
    keys, wording,
};

const HEAD: &str = "\
# Configuration

<!-- Made from the definition of the keys in src/config/keys/: do not edit. -->

One TOML file, by default `/etc/towpath/towpath.toml`. Unknown keys are errors, and so are keys of features that are
not built yet. `towpath check FILE` prints every problem at once, a line each:
`FILE:LINE:COL: key.path: what is wrong; what is allowed`. `towpath schema` prints a JSON Schema for editors.

[`config/minimal.toml`](../config/minimal.toml) is the smallest useful file, [`config/full.toml`](../config/full.toml)
shows every key, and [`config/examples/`](../config/examples) has files for common tasks.

- Durations are strings of a whole number and a unit: `\"250ms\"`, `\"2s\"`, `\"5m\"`, `\"1h\"`; at most a year.
- Sizes likewise: `\"512B\"`, `\"64KiB\"`, `\"1MiB\"`.
- Paths are relative to the directory of the file.
- Regular expressions have the [syntax of the regex crate](https://docs.rs/regex/latest/regex/#syntax) and are anchored
  at both ends.
- In the headings, `[]` is any entry of an array, and `NAME` any name.
";

/// The text of `docs/configuration.md`.
pub fn reference_markdown() -> String {
    let mut tables: Vec<(Vec<String>, &'static TableDef)> = Vec::new();
    collect(&keys::ROOT, "", &mut tables);
    let mut out = HEAD.to_owned();
    let mut refused = Vec::new();
    for (paths, def) in &tables {
        section(&mut out, paths, def);
        let path = paths.first().map(String::as_str).unwrap_or_default();
        refused.extend(def.all().filter_map(|key| key.refused.map(|why| (join(path, key.name), why))));
        refused.extend(def.built().flat_map(|key| refused_words(key, path)));
    }
    out.push_str("\n## Not built yet\n\nThese are refused with the reason.\n\n");
    for (path, why) in refused {
        out.push_str(&format!("- `{path}`: {why}\n"));
    }
    out
}

/// Every table once, under all the paths where it stands.
fn collect(def: &'static TableDef, path: &str, tables: &mut Vec<(Vec<String>, &'static TableDef)>) {
    match tables.iter_mut().find(|(_, seen)| std::ptr::eq(*seen, def)) {
        Some((paths, _)) => paths.push(path.to_owned()),
        None => tables.push((vec![path.to_owned()], def)),
    }
    for key in def.built() {
        if let Some((path, below)) = below(&key.kind, &join(path, key.name)) {
            collect(below, &path, tables);
        }
    }
}

fn below(kind: &Kind, path: &str) -> Option<(String, &'static TableDef)> {
    match kind {
        Kind::Table(def) | Kind::Or(_, def) => Some((path.to_owned(), def)),
        Kind::List { item, .. } => below(item, &format!("{path}[]")),
        Kind::Map { value, .. } => below(value, &format!("{path}.NAME")),
        _ => None,
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn section(out: &mut String, paths: &[String], def: &TableDef) {
    if def.built().next().is_none() {
        return;
    }
    let names: Vec<String> = paths.iter().map(|path| format!("`{path}`")).collect();
    let heading = if paths[0].is_empty() { "Top level".to_owned() } else { names.join(", ") };
    out.push_str(&format!("\n## {heading}\n\n{}\n\n", def.doc));
    if let Some(choose) = &def.choose {
        let built = choose.keys.iter().filter(|name| def.built().any(|key| key.name == **name));
        let keys: Vec<String> = built.map(|name| format!("`{name}`")).collect();
        let how = if choose.required { "Exactly one" } else { "At most one" };
        out.push_str(&format!("{how} of {}.\n\n", keys.join(", ")));
    }
    out.push_str("| key | takes | default | meaning |\n|---|---|---|---|\n");
    def.built().for_each(|key| out.push_str(&row(key)));
}

fn row(key: &Key) -> String {
    let silence = wording::silence(key.need);
    let silence = match key.need {
        Need::Default(_) => format!("`{silence}`"),
        _ => silence,
    };
    format!(
        "| `{}` | {} | {} | {} |\n",
        key.name,
        cell(&wording::brief(&key.kind)),
        cell(&silence),
        cell(key.doc)
    )
}

fn words(kind: &Kind) -> &'static [Choice] {
    match kind {
        Kind::Text(Text::Choice(words)) | Kind::Or(Text::Choice(words), _) => words,
        _ => &[],
    }
}

fn refused_words(key: &Key, path: &str) -> Vec<(String, &'static str)> {
    let path = join(path, key.name);
    let refused = words(&key.kind).iter().filter_map(|word| word.refused.map(|why| (word.word, why)));
    refused.map(|(word, why)| (format!("{path} = \"{word}\""), why)).collect()
}

/// A bar would end the cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
