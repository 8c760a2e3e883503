//! A file or a text -> a checked configuration, or every problem.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    Config, Environment, Memory, Problems, keys, meaning, piecewise,
    problems::Report,
    section::Section,
    syntax::{self, Damage},
    tree::{self, Node, Paths},
};

/// Reads and checks a file.
///
/// # Errors
/// Every problem, or that the file cannot be read.
pub fn load(path: &Path) -> Result<Config, Problems> {
    reload(path, &mut Memory::default())
}

/// Like [`load`]; what `memory` holds from the last time is not read again. It is kept when there are problems.
///
/// # Errors
/// Every problem, or that the file cannot be read.
pub fn reload(path: &Path, memory: &mut Memory) -> Result<Config, Problems> {
    let bytes = fs::read(path).map_err(|error| Problems::unreadable(path, &error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|error| not_text(path, error.as_bytes()))?;
    reparse(&text, path, memory)
}

/// Says where the first byte stands that is no UTF-8.
fn not_text(file: &Path, bytes: &[u8]) -> Problems {
    let sound = bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    let wrong = bytes.get(sound.len()).copied().unwrap_or_default();
    let mut report = Report::default();
    report.add(sound.len(), "", format!("the byte 0x{wrong:02x} is not valid UTF-8; must be UTF-8 text"));
    report.finish(file, sound)
}

/// Checks a text; `file` stands in messages, and paths in the text are relative to its directory.
///
/// # Errors
/// Every problem.
pub fn parse(text: &str, file: &Path) -> Result<Config, Problems> {
    parse_in(text, file, &Environment::of_process())
}

/// Like [`parse`]; what `memory` holds from the last time is not read again. It is kept when there are problems.
///
/// # Errors
/// Every problem.
pub fn reparse(text: &str, file: &Path, memory: &mut Memory) -> Result<Config, Problems> {
    remembering(text, file, &Environment::of_process(), memory)
}

/// Like [`parse`], in surroundings of the caller's choice.
///
/// # Errors
/// Every problem.
pub fn parse_in(text: &str, file: &Path, environment: &Environment) -> Result<Config, Problems> {
    remembering(text, file, environment, &mut Memory::default())
}

fn remembering(
    text: &str,
    file: &Path,
    environment: &Environment,
    memory: &mut Memory,
) -> Result<Config, Problems> {
    let directory = directory(file);
    match piecewise::read(text, &directory, environment, memory) {
        Some(config) => Ok(config),
        None => whole(text, file, &directory, environment),
    }
}

/// Reads everything at once, and tells every problem.
fn whole(text: &str, file: &Path, directory: &Path, environment: &Environment) -> Result<Config, Problems> {
    let mut broken = Report::default();
    let (tree, damage) = syntax::read(text, &mut broken);
    let read = |paths| {
        let mut report = Report::default();
        let root = tree::read(&keys::ROOT, &tree, paths, &mut report);
        (root, report)
    };
    if !broken.is_empty() {
        let (_, report) = read(Paths::Named);
        return Err(with_syntax_errors(broken, report, &damage).finish(file, text));
    }
    let check = |(root, mut report): (Node, Report)| {
        let root = Section::new(&keys::ROOT, &root);
        let config = meaning::whole(root, directory, environment, &mut report);
        if report.is_empty() { Ok(config) } else { Err(report) }
    };
    let checked = check(read(Paths::Unnamed)).or_else(|_| check(read(Paths::Named)));
    checked.map_err(|report| report.finish(file, text))
}

/// After a syntax error, what the rest means is a guess: a statement that is broken has no second problem, and
/// nothing is called missing, since it may stand where reading stopped.
fn with_syntax_errors(mut broken: Report, mut report: Report, damage: &Damage) -> Report {
    report.forget_missing();
    report.forget(|at| damage.covers(at));
    broken.extend(report);
    broken
}

fn directory(file: &Path) -> PathBuf {
    let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    absolute.parent().map(Path::to_owned).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use proptest::prelude::*;

    use super::*;

    const LISTENER: &str =
        "[[listeners]]\nname = \"out\"\nkind = \"outgoing\"\nlisten = \"127.0.0.1:4140\"\n";

    fn route(name: &str, service: &str) -> String {
        format!("[[routes]]\nname = \"{name}\"\nbackends = [{{ service = \"{service}\" }}]\n")
    }

    fn service(name: &str) -> String {
        format!("[services.{name}]\nendpoints = [\"127.0.0.1:80\"]\n")
    }

    fn again(text: &str, memory: &mut Memory) -> Result<Config, String> {
        reparse(text, Path::new("t"), memory).map_err(|problems| problems.to_string())
    }

    /// Statements that stand in the middle of blocks, end them, or hide them.
    const ODD: &[&str] = &[
        "[defaults.route]\ntimeout = \"3s\"\n",
        "[defaults.service]\nbalancer = \"round-robin\"\n",
        "[node]\nname = \"\"\"\n",
        "\"\"\"\n",
        "x = '''\n",
        "[node]\n",
        "]\n",
        "[limits]\nx = [\n",
        "# [\n",
        "\n",
        "[services]\n",
        "[routes]\n",
        "routes = []\n",
        "services.a.dns = \"x:1\"\n",
        " [node]\n",
        "timeout = \"1s\"\n",
        "[[routes]] # empty\n",
        "[drain]\r\ntimeout = \"1s\"\r\n",
        "[services.a]",
        "hosts = [\"a\",\n\"b\"]\n",
    ];

    /// A block that is none: it stands in a string.
    fn quoted(block: &str) -> String {
        format!("[access_log]\npath = \"\"\"\n{block}[node]\n\"\"\"\n")
    }

    fn statement() -> impl Strategy<Value = String> {
        let names = || prop::sample::select(vec!["a", "b", "c", "d", "e", "f"]);
        prop_oneof![
            8 => (names(), names()).prop_map(|(name, to)| route(name, to)),
            8 => names().prop_map(service),
            2 => names().prop_map(|name| format!("[services.\"{name}\"]\ndns = \"x:1\"\n")),
            2 => names().prop_map(|name| quoted(&route(name, "z"))),
            2 => names().prop_map(|name| quoted(&service(name))),
            2 => names().prop_map(|name| format!("[services.{name}.pool]\nmax_idle = 3\n")),
            4 => Just("[[routes.match]]\npath = \"/a\"\n".to_owned()),
            6 => prop::sample::select(ODD.to_vec()).prop_map(str::to_owned),
        ]
    }

    fn text() -> impl Strategy<Value = String> {
        let sound = prop::collection::btree_set(0..6_usize, 0..5).prop_map(|names| {
            let routes = names.into_iter().map(|name| route(["g", "h", "i", "j", "k", "l"][name], "z"));
            routes.collect::<String>()
        });
        let odd = prop::collection::vec(statement(), 0..4).prop_map(|all| all.concat());
        (sound, odd).prop_map(|(sound, odd)| format!("{LISTENER}{sound}{}{odd}", service("z")))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn reading_by_blocks_with_any_memory_says_what_reading_the_whole_says(
            texts in prop::collection::vec(text(), 1..5),
        ) {
            let (mut memory, environment) = (Memory::default(), Environment::of_process());
            for text in texts {
                let whole = whole(&text, Path::new("t"), &directory(Path::new("t")), &environment);
                let whole = whole.map_err(|problems| problems.to_string());
                prop_assert_eq!(again(&text, &mut memory), whole, "{}", text);
            }
        }
    }

    #[test]
    fn a_block_in_a_string_is_a_string() {
        let text = format!("{LISTENER}{}{}{}", route("a", "s"), service("s"), quoted(&route("b", "s")));
        let config = again(&text, &mut Memory::default()).unwrap();
        assert_eq!(config.routes.len(), 1);
    }

    #[test]
    fn blocks_that_stay_are_not_read_again() {
        let mut memory = Memory::default();
        let old = format!("{LISTENER}{}{}{}", route("a", "s"), route("b", "s"), service("s"));
        let old = again(&old, &mut memory).unwrap();
        let new = format!("{LISTENER}{}{}{}{}", service("s"), route("c", "s"), route("b", "s"), service("t"));
        let new = again(&new, &mut memory).unwrap();
        assert!(Arc::ptr_eq(&old.routes[1], &new.routes[1]));
        assert!(Arc::ptr_eq(&old.services["s"], &new.services["s"]));
        assert_eq!((&*new.routes[0].name, new.services.len()), ("c", 2));
    }

    #[test]
    fn all_blocks_are_read_again_when_defaults_change() {
        let mut memory = Memory::default();
        let text = format!("{LISTENER}{}{}", route("a", "s"), service("s"));
        assert_eq!(again(&text, &mut memory).unwrap().routes[0].timeout, None);
        let text = format!("{text}[defaults.route]\ntimeout = \"9s\"\n");
        assert_eq!(again(&text, &mut memory).unwrap().routes[0].timeout, Some(Duration::from_secs(9)));
    }

    #[test]
    fn a_route_that_stays_is_refused_when_its_service_goes() {
        let mut memory = Memory::default();
        let sound = format!("{LISTENER}{}{}{}", route("a", "s"), service("s"), service("t"));
        again(&sound, &mut memory).unwrap();
        let problems = again(&sound.replace("[services.s]", "[services.u]"), &mut memory).unwrap_err();
        assert!(problems.starts_with("t:7:"), "{problems}");
        again(&sound, &mut memory).unwrap();
    }

    #[test]
    fn the_smallest_file_means_its_defaults() {
        let text = r#"
            [[listeners]]
            name = "outgoing"
            kind = "outgoing"
            listen = "127.0.0.1:4140"
            [[routes]]
            name = "everything"
            backends = [{ dns = "{host}" }]
        "#;
        let config = parse(text, Path::new("t.toml")).map_err(|problems| problems.to_string()).unwrap();
        assert_eq!(config.limits.header_bytes, 65536);
        assert_eq!(config.routes[0].listeners, [0]);
        assert_eq!(config.admin.listen.to_string(), "127.0.0.1:9990");
    }
}
