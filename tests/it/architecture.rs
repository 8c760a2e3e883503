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
    let mut code = String::new();
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let skipped = skipped(rest, code.chars().next_back());
        if skipped == 0 {
            code.push(character);
        }
        rest = &rest[skipped.max(character.len_utf8())..];
    }
    code
}

/// The length of the comment, string or character that a text starts with; 0 for anything else.
fn skipped(text: &str, before: Option<char>) -> usize {
    let in_word = before.is_some_and(|before| before.is_alphanumeric() || before == '_');
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if let Some(body) = text.strip_prefix("/*") {
        return body.find("*/").map_or(text.len(), |end| end + 4);
    }
    if let Some(body) = text.strip_prefix('"') {
        return 1 + behind_quote(body, '"');
    }
    if let Some(body) = text.strip_prefix('\'').filter(|body| is_character(body)) {
        return 1 + behind_quote(body, '\'');
    }
    let hashes = text.strip_prefix('r').map_or(0, |raw| raw.len() - raw.trim_start_matches('#').len());
    match text.get(1 + hashes..).filter(|body| text.starts_with('r') && body.starts_with('"') && !in_word) {
        Some(body) => {
            let end = format!("\"{}", "#".repeat(hashes));
            let length = body[1..].find(&end).map_or(body.len(), |at| 1 + at + end.len());
            1 + hashes + length
        }
        None => 0,
    }
}

/// The length up to behind the next quote that no backslash stands in front of.
fn behind_quote(body: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, character) in body.char_indices() {
        if character == quote && !escaped {
            return at + 1;
        }
        escaped = character == '\\' && !escaped;
    }
    body.len()
}

/// Whether what follows a single quote is a character, not a lifetime.
fn is_character(body: &str) -> bool {
    body.starts_with('\\') || body.chars().nth(1) == Some('\'')
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
fn the_reader_of_code_leaves_out_strings_comments_and_characters_alone() {
    let kept = |text: &str| code(text).split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(kept("a(\"http://x\"); b // \"c\nd"), "a(); b d");
    assert_eq!(kept("f('\"', '\\'', b'\"', '\\\\'); g::<'a>(&'b c)"), "f(, , b, ); g::<'a>(&'b c)");
    assert_eq!(kept("a(r#\"x\"y//\"#, \"\\\\\", r\"\\\"); b /* \" */ c"), "a(, , ); b c");
    assert_eq!(kept("// it's \"\na"), "a");
    let text = "let url = \"http://x\";\nuse crate::admin::A;\nlet s = \"crate::server\";";
    assert_eq!(imports(&code(text)), BTreeSet::from(["admin".to_owned()]));
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
            assert_eq!(logic(&code(&text)), None, "{}", file.display());
        }
    }
}

/// The first word that a table of contents has no use for.
fn logic(code: &str) -> Option<&str> {
    let words = code.split(|character: char| !character.is_alphanumeric() && character != '_');
    words.into_iter().find(|word| ["fn", "struct", "enum", "trait", "impl", "macro_rules"].contains(word))
}

#[test]
fn logic_in_a_table_of_contents_is_seen() {
    assert_eq!(logic("mod a;\npub use a::{fn_b, Structure};"), None);
    for (code, word) in
        [("pub struct A;", "struct"), ("impl<T> A<T> {}", "impl"), ("macro_rules! m {}", "macro_rules")]
    {
        assert_eq!(logic(code), Some(word));
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
