//! The structure that the code promises: import levels, file headings, where arc-swap is named.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below `directory`, with its text.
fn sources(directory: &Path) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            files.push((path, text));
        }
    }
    files
}

/// Module to level, from the `/// N: ...` in front of each `pub mod` in lib.rs.
fn levels() -> BTreeMap<String, u32> {
    let text = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let mut levels = BTreeMap::new();
    let mut level = None;
    for line in text.lines() {
        if let Some(doc) = line.strip_prefix("/// ") {
            level = level.or_else(|| doc.split(':').next().and_then(|number| number.parse().ok()));
        } else if let Some(name) = line.strip_prefix("pub mod ").map(|rest| rest.trim_end_matches(';')) {
            levels.insert(name.to_owned(), level.take().unwrap_or_else(|| panic!("{name} has no level")));
        }
    }
    levels
}

/// The text without comments and without what stands in quotes.
fn code(text: &str) -> String {
    let without_comments = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    let mut code = String::new();
    let mut quoted = false;
    let mut before = ' ';
    for character in without_comments.flat_map(|line| line.chars().chain(['\n'])) {
        if character == '"' && before != '\\' && before != '\'' {
            quoted = !quoted;
        } else if !quoted {
            code.push(character);
        }
        before = if before == '\\' { ' ' } else { character };
    }
    code
}

/// The top-level modules that a text names: after `crate::`, alone or in braces.
fn imports(code: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, path) in code.match_indices("crate::") {
        if code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_' || before == '$') {
            continue;
        }
        let rest = &code[at + path.len()..];
        match rest.strip_prefix('{') {
            Some(group) => names.extend(first_names(group)),
            None => names.extend([name(rest)]),
        }
    }
    names
}

/// The first name of each entry of a brace group, up to its closing brace.
fn first_names(group: &str) -> Vec<String> {
    let mut depth = 0;
    let mut entries = vec![String::new()];
    for character in group.chars() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => entries.push(String::new()),
            _ => entries.last_mut().unwrap().push(character),
        }
    }
    entries.iter().map(|entry| name(entry.trim())).filter(|name| !name.is_empty()).collect()
}

fn name(text: &str) -> String {
    text.chars().take_while(|character| character.is_alphanumeric() || *character == '_').collect()
}

/// The top-level module that a file belongs to.
fn module(file: &Path) -> String {
    let inside = file.strip_prefix(root().join("src")).unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

#[test]
fn the_reader_of_imports_sees_each_form() {
    let text = r#"
        use crate::http::Body; // crate::comment
        use crate::{net::{self, Address}, drain, router::Router};
        fn f() { crate::service::g("crate::quoted"); $crate::not(); }
    "#;
    let expected = ["drain", "http", "net", "router", "service"].map(String::from);
    assert_eq!(imports(&code(text)), BTreeSet::from(expected));
}

#[test]
fn a_module_imports_only_from_lower_levels() {
    let levels = levels();
    assert!(levels.len() >= 15, "{levels:?}");
    let mut wrong = Vec::new();
    for (file, text) in sources(&root().join("src")) {
        let from = module(&file);
        let Some(level) = levels.get(&from) else { continue }; // lib.rs and main.rs
        for to in imports(&code(&text)).into_iter().filter(|to| *to != from) {
            match levels.get(&to) {
                Some(lower) if lower < level => {}
                other => wrong.push(format!("{} ({level}) names {to} ({other:?})", file.display())),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_module_of_the_source_tree_has_a_level() {
    let levels = levels();
    for (file, _) in sources(&root().join("src")) {
        let module = module(&file);
        assert!(levels.contains_key(&module) || module == "lib" || module == "main", "{}", file.display());
    }
}

#[test]
fn every_file_opens_with_what_it_is_for() {
    for directory in ["src", "tests"] {
        for (file, text) in sources(&root().join(directory)) {
            assert!(text.starts_with("//! "), "{}", file.display());
        }
    }
}

#[test]
fn no_file_outgrows_500_lines() {
    for directory in ["src", "tests"] {
        for (file, text) in sources(&root().join(directory)) {
            let lines = text.lines().count();
            assert!(lines <= 500, "{} has {lines}", file.display());
        }
    }
}

#[test]
fn only_published_names_arc_swap() {
    for (file, text) in sources(&root().join("src")) {
        let named = code(&text).contains("arc_swap");
        assert!(!named || file.ends_with("src/published.rs"), "{}", file.display());
    }
}

#[test]
fn tables_of_contents_hold_no_logic() {
    for (file, text) in sources(&root().join("src")) {
        if file.ends_with("mod.rs") || file.ends_with("lib.rs") {
            assert!(!code(&text).contains("fn "), "{}", file.display());
        }
    }
}

#[test]
fn the_readme_shows_two_commands_of_set_up() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let block = readme.split("```").nth(1).expect("a block of commands");
    let commands = block.lines().skip(1).filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    let commands: Vec<&str> = commands.collect();
    assert_eq!(commands.len(), 2, "{commands:?}");
    assert!(commands.iter().all(|command| command.contains("cargo") || command.contains("towpath")));
}
