//! The command line: the real binary, what it prints and how it exits.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    thread,
};

use serde_json::Value;
use tempfile::TempDir;

const GOOD: &str = r#"
[node]
name = "node-7"
workers = 1
[admin]
listen = "127.0.0.1:0"
[drain]
timeout = "1s"
[[listeners]]
name = "outgoing"
kind = "outgoing"
listen = "127.0.0.1:0"
[[routes]]
name = "reviews"
hosts = ["reviews"]
backends = [{ service = "v2", weight = 10 }, { service = "v1", weight = 90 }]
[[routes]]
name = "rest"
backends = [{ dns = "{host}" }]
[services.v1]
endpoints = ["127.0.0.1:1"]
[services.v2]
endpoints = ["127.0.0.1:2"]
"#;

fn towpath(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_towpath")).args(args).stdin(Stdio::null()).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A file of this text, and the directory that goes away with the test.
fn file(text: &str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("towpath.toml");
    fs::write(&path, text).unwrap();
    (directory, path)
}

#[test]
fn check_counts_what_a_good_file_has() {
    let (_directory, path) = file(GOOD);
    let path = path.to_str().unwrap();
    let output = towpath(&["check", path]);
    assert_eq!(out(&output), format!("{path}: ok (1 listener, 2 routes, 2 services)\n"));
    assert_eq!((output.status.code(), err(&output).as_str()), (Some(0), ""));
}

#[test]
fn check_prints_every_problem_with_its_place_and_exits_2() {
    let bad = GOOD.replace("hosts =", "hots =").replace("service = \"v1\"", "service = \"v3\"");
    let (_directory, path) = file(&bad);
    let path = path.to_str().unwrap();
    let output = towpath(&["check", path]);
    assert_eq!((output.status.code(), out(&output).as_str()), (Some(2), ""));
    let text = err(&output);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines[0].starts_with(&format!("{path}:15:1: ")) && lines[0].contains("\"hosts\""), "{text}");
    assert!(lines[1].starts_with(&format!("{path}:16:")) && lines[1].contains("v3"), "{text}");
}

#[test]
fn check_warns_of_certificates_that_are_not_there_and_refuses_those_that_cannot_be_used() {
    let tls = "kind = \"outgoing\"\ntls = { cert = \"node.crt\", key = \"node.key\" }";
    let open = "tls = { server_name = \"a.test\", verify = \"none\" }\n";
    let text = format!("{}{open}", GOOD.replace("kind = \"outgoing\"", tls));
    let (directory, path) = file(&text);
    let path = path.to_str().unwrap();
    let output = towpath(&["check", path]);
    assert_eq!((output.status.code(), err(&output).as_str()), (Some(0), ""));
    let lines = out(&output);
    let lines: Vec<_> = lines.lines().collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[0].starts_with(&format!("{path}: warning: listeners[0].tls: cannot read ")), "{lines:?}");
    assert!(lines[1].contains("warning: anybody may answer for v2"), "{lines:?}");
    for name in ["node.crt", "node.key"] {
        fs::write(directory.path().join(name), "nothing").unwrap();
    }
    let output = towpath(&["check", path]);
    assert_eq!(output.status.code(), Some(2));
    let expected = format!("{path}: listeners[0].tls: {}", directory.path().join("node.crt").display());
    assert_eq!(err(&output), format!("{expected} holds no certificate in PEM form\n"));
}

#[test]
fn a_file_that_is_not_there_exits_2_and_is_named() {
    for args in [
        &["check", "/nowhere/t.toml"][..],
        &["run", "--config", "/nowhere/t.toml"],
        &["explain", "--config", "/nowhere/t.toml", "GET", "http://a/"],
    ] {
        let output = towpath(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(err(&output).contains("/nowhere/t.toml"), "{}", err(&output));
    }
}

#[test]
fn bad_usage_exits_2_and_help_0() {
    for args in [
        &[][..],
        &["fly"],
        &["check"],
        &["explain", "GET", "http://a/"],
        &["status", "--admin", "nonsense"],
        &["run", "--log-format", "xml"],
        &["completions", "cobol"],
    ] {
        let output = towpath(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(!err(&output).is_empty(), "{args:?}");
    }
    let help = towpath(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    for command in ["run", "check", "explain", "demo", "status", "reload", "drain", "schema", "completions"] {
        assert!(out(&help).contains(&format!("\n  {command} ")), "{command}");
    }
}

#[test]
fn explain_tells_the_winner_and_why_the_others_are_not() {
    let (_directory, path) = file(GOOD);
    let path = path.to_str().unwrap();
    let ask = |more: &[&str]| {
        let output = towpath(&[&["explain", "--config", path], more].concat());
        assert_eq!(output.status.code(), Some(0), "{}", err(&output));
        out(&output)
    };
    let text = ask(&["GET", "http://reviews/x"]);
    for part in ["route     reviews\n", " 90.0 %  v1 ", "rest  matches too, but `reviews` takes precedence"] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    let json: Value = serde_json::from_str(&ask(&["--json", "GET", "/", "-H", "host: other:8080"])).unwrap();
    assert_eq!(json["route"]["name"], "rest");
    assert_eq!(json["route"]["backends"][0]["service"], "other:8080");
    assert_eq!(json["others"][0]["name"], "reviews");
    assert_eq!(json["others"][0]["matches"], false);
}

#[test]
fn explain_without_a_route_is_an_answer_too() {
    let narrow = GOOD.replace("name = \"rest\"", "name = \"rest\"\nhosts = [\"*.local\"]");
    let (_directory, path) = file(&narrow);
    let path = path.to_str().unwrap();
    let text = towpath(&["explain", "--config", path, "GET", "http://nobody/"]);
    assert!(text.status.success() && out(&text).contains("no_route"), "{}", out(&text));
    let json = towpath(&["explain", "--config", path, "--json", "GET", "http://nobody/"]);
    let json: Value = serde_json::from_str(&out(&json)).unwrap();
    assert!(json["route"].is_null() && json["others"].as_array().unwrap().len() == 2);
}

#[test]
fn explain_refuses_what_it_cannot_answer() {
    let (_directory, path) = file(GOOD);
    let path = path.to_str().unwrap();
    for (more, why) in [
        (&["GET", "http://a/", "--body", path][..], "body rules are not built yet"),
        (&["GET", "http://a/", "--listener", "x"], "there is no listener `x`; there are: outgoing"),
        (&["GET", "/a"], "names no host"),
        (&["GET", "http://a/", "-H", "nonsense"], "`nonsense` is no header"),
    ] {
        let output = towpath(&[&["explain", "--config", path], more].concat());
        assert_eq!(output.status.code(), Some(2), "{more:?}");
        assert!(err(&output).contains(why), "{}", err(&output));
    }
}

#[test]
fn schema_is_json_and_completions_name_the_commands() {
    let schema: Value = serde_json::from_slice(&towpath(&["schema"]).stdout).unwrap();
    assert!(schema["properties"]["listeners"].is_object());
    for shell in ["bash", "zsh", "fish"] {
        let script = out(&towpath(&["completions", shell]));
        assert!(script.contains("towpath") && script.contains("explain"), "{shell}");
    }
}

#[test]
fn a_daemon_that_does_not_answer_is_said_to_be_out_of_reach() {
    for command in ["status", "reload", "drain"] {
        let output = towpath(&[command, "--admin", "http://127.0.0.1:1"]);
        assert_eq!(output.status.code(), Some(1), "{command}");
        let text = err(&output);
        assert!(text.contains("cannot reach") && text.contains("http://127.0.0.1:1"), "{text}");
    }
}

/// A daemon as its own process; ended with the test.
struct Running {
    child: Child,
    admin: String,
}

impl Running {
    fn start(config: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_towpath"))
            .args(["run", "--config", config])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let admin = lines
            .find_map(|line| {
                let line = line.unwrap();
                let (_, admin) = line.split_once("admin=")?;
                Some(format!("http://{}", admin.split_whitespace().next()?))
            })
            .expect("a line that names the admin API");
        // A daemon whose log nobody reads would stop at a full pipe.
        thread::spawn(move || lines.for_each(drop));
        Self { child, admin }
    }

    fn command(&self, command: &str) -> Output {
        towpath(&[command, "--admin", &self.admin])
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn status_reload_and_drain_speak_to_a_running_daemon() {
    let (_directory, path) = file(GOOD);
    let mut daemon = Running::start(path.to_str().unwrap());
    let status = daemon.command("status");
    assert!(status.status.success(), "{}", err(&status));
    for part in
        ["node-7: towpath", "running, generation 1, 1 worker", "outgoing  outgoing  127.0.0.1:", "v2 "]
    {
        assert!(out(&status).contains(part), "no {part:?} in\n{}", out(&status));
    }

    assert_eq!(out(&daemon.command("reload")), "unchanged: generation 1 stays in force\n");
    fs::write(&path, GOOD.replace("90", "80")).unwrap();
    assert_eq!(out(&daemon.command("reload")), "applied: generation 2 is in force\n");
    fs::write(&path, GOOD.replace("hosts =", "hots =").replace("127.0.0.1:1\"", "nowhere\"")).unwrap();
    let refused = daemon.command("reload");
    assert_eq!((refused.status.code(), err(&refused).lines().count()), (Some(1), 2), "{}", err(&refused));
    let status = out(&daemon.command("status"));
    assert!(status.contains("generation 2") && status.contains("rejected\n  "), "{status}");

    assert!(daemon.command("drain").status.success());
    assert_eq!(daemon.child.wait().unwrap().code(), Some(0));
}

#[test]
fn an_address_that_is_taken_exits_2_and_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let config = GOOD.replace(
        "kind = \"outgoing\"\nlisten = \"127.0.0.1:0\"",
        &format!("kind = \"outgoing\"\nlisten = \"{address}\""),
    );
    let (_directory, path) = file(&config);
    let output = towpath(&["run", "--config", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains(&address), "{}", err(&output));
}

#[test]
fn the_demonstration_shows_a_split_a_failure_and_a_reload_without_a_failed_request() {
    let output = towpath(&["demo", "--once"]);
    let text = out(&output);
    assert!(output.status.success(), "{text}{}", err(&output));
    let counts: Vec<(&str, u64, u64, u64)> = text.lines().filter_map(counts).collect();
    assert_eq!(counts.len(), 13, "{text}");
    assert!(counts.iter().all(|(_, _, _, failed)| *failed == 0), "{text}");
    let sum =
        |lines: &[(&str, u64, u64, u64)]| lines.iter().fold((0, 0), |(a, b), line| (a + line.1, b + line.2));
    let (split, failing, recovered, even) =
        (sum(&counts[..3]), sum(&counts[5..7]), sum(&counts[7..9]), sum(&counts[10..]));
    assert!(split.0 > 3 * split.1 && split.1 > 0, "{text}");
    // A busy machine is told late that it has begun to fail, which counts[4] may show.
    assert!(failing.0 > 0 && failing.1 == 0, "{text}");
    assert!(recovered.1 > 0, "{text}");
    assert!(even.0 < 3 * even.1 && even.1 < 3 * even.0, "{text}");
    assert!(text.contains("generation 2 is in force") && text.contains(" connects were refused"), "{text}");
}

/// Of a line such as `1.0s  reviews-v1  45   reviews-v2   5   failed 0`.
fn counts(line: &str) -> Option<(&str, u64, u64, u64)> {
    match line.split_whitespace().collect::<Vec<_>>()[..] {
        [_, a, of_a, _, of_b, "failed", failed] => {
            Some((a, of_a.parse().ok()?, of_b.parse().ok()?, failed.parse().ok()?))
        }
        _ => None,
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_towpath"))
        .arg("schema")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!((child.wait().unwrap().code(), text.as_str()), (Some(0), ""));
}
