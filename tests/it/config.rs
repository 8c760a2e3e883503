//! The configuration file as users meet it: golden problems, generated files, examples, and input gone wrong.
//!
//! `UPDATE_GENERATED=1` rewrites the generated files and the expected problems; review the difference before a commit.

// Helpers of tests may fail like tests, which clippy's own exception does not know.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::Duration,
};

use towpath::config::{
    self, BackendTarget, Balancer, Config, Environment, HashKey, HostPattern, LogPath, PathMatch, Protocol,
    Source, ValueMatch,
};
use towpath::net::Address;

const OUTGOING: &str =
    "[[listeners]]\nname = \"outgoing\"\nkind = \"outgoing\"\nlisten = \"127.0.0.1:4140\"\n";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn environment() -> Environment {
    Environment {
        node_name: None,
        node_zone: Some("zone-of-env".to_owned()),
        host_name: "host-of-env".to_owned(),
        cpus: NonZeroUsize::new(3).unwrap(),
        memory: Some(1000 << 20),
    }
}

fn read(text: &str) -> Result<Config, String> {
    config::parse_in(text, Path::new("/etc/towpath/t.toml"), &environment())
        .map_err(|wrong| wrong.to_string())
}

/// A file with one outgoing listener and `more`.
fn with(more: &str) -> Result<Config, String> {
    read(&format!("{more}\n{OUTGOING}"))
}

fn files(directory: &str, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(directory)).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|found| found == extension));
    files.sort();
    assert!(!files.is_empty(), "{directory} has no .{extension} files");
    files
}

/// Compares a committed file with what it should hold, or rewrites it.
fn assert_committed(file: &Path, expected: &str) {
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        fs::write(file, expected).unwrap();
    }
    let found = fs::read_to_string(file).unwrap_or_default();
    assert_eq!(found, expected, "{} is stale; UPDATE_GENERATED=1 rewrites it", file.display());
}

#[test]
fn each_faulty_file_gets_exactly_its_problems() {
    for file in files("tests/it/config", "toml") {
        let text = fs::read_to_string(&file).unwrap();
        let name = Path::new(file.file_name().unwrap());
        let problems =
            config::parse_in(&text, name, &environment()).expect_err(&format!("{name:?} has no problem"));
        assert_committed(&file.with_extension("txt"), &format!("{problems}\n"));
    }
}

#[test]
fn generated_files_are_what_the_definition_yields() {
    assert_committed(&root().join("config/full.toml"), &config::full_toml());
    assert_committed(&root().join("docs/configuration.md"), &config::reference_markdown());
}

#[test]
fn the_files_that_users_start_from_load() {
    let mut starts = files("config/examples", "toml");
    starts.push(root().join("config/minimal.toml"));
    starts.push(root().join("config/full.toml"));
    for file in starts {
        config::load(&file).unwrap_or_else(|problems| panic!("{problems}"));
    }
}

#[test]
fn every_built_key_stands_in_the_full_file_with_its_default() {
    let schema: serde_json::Value = serde_json::from_str(&config::schema()).unwrap();
    let full = config::full_toml();
    let mut keys = Vec::new();
    collect(&schema, &mut keys);
    assert!(keys.len() > 50);
    for key in keys {
        let shown = |form: &str| full.contains(&format!("{form}{key} ="));
        let headed = full.contains(&format!("{key}]")) || full.contains(&format!("[{key}."));
        assert!(headed || shown("\n") || shown("\n# ") || shown("{ "), "{key}");
    }
}

/// The names of all properties.
fn collect(schema: &serde_json::Value, keys: &mut Vec<String>) {
    for (name, value) in schema["properties"].as_object().into_iter().flatten() {
        keys.push(name.clone());
        collect(value, keys);
    }
    for below in ["items", "additionalProperties"] {
        if schema[below].is_object() {
            collect(&schema[below], keys);
        }
    }
    schema["anyOf"].as_array().into_iter().flatten().for_each(|form| collect(form, keys));
}

#[test]
fn what_the_full_file_says_is_what_silence_means() {
    let silent = with("").unwrap();
    let full =
        config::parse_in(&config::full_toml(), Path::new("/etc/towpath/t.toml"), &environment()).unwrap();
    let node_wide =
        |config: &Config| Config { routes: vec![], services: Default::default(), ..config.clone() };
    assert_eq!(node_wide(&full), node_wide(&silent));
}

#[test]
fn silence_takes_the_defaults_of_the_contract() {
    let config = with("").unwrap();
    assert_eq!(&*config.node.name, "host-of-env");
    assert_eq!(config.node.zone.as_deref(), Some("zone-of-env"));
    assert_eq!(config.node.workers.get(), 3);
    assert_eq!(config.admin.listen.to_string(), "127.0.0.1:9990");
    assert_eq!(config.drain.timeout, Duration::from_secs(30));
    assert_eq!(config.limits.max_streams, 256);
    assert!(config.dns.servers.is_empty());
    assert_eq!(config.access_log, None);
    assert_eq!(config.host_services.max, 1024);
}

#[test]
fn the_environment_names_a_node_that_the_file_does_not() {
    let named = Environment { node_name: Some("env".to_owned()), ..environment() };
    let name = |text: &str| {
        let config = config::parse_in(&format!("{text}{OUTGOING}"), Path::new("t"), &named).unwrap();
        config.node.name.to_string()
    };
    assert_eq!(name(""), "env");
    assert_eq!(name("[node]\nname = \"file\"\n"), "file");
}

#[test]
fn an_unreadable_file_is_a_problem() {
    let problems = config::load(Path::new("/nonexistent/towpath.toml")).unwrap_err();
    assert!(problems.to_string().starts_with("/nonexistent/towpath.toml: cannot be read: "), "{problems}");
}

#[test]
fn a_file_that_is_no_text_tells_where() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("t.toml");
    fs::write(&file, b"# \xc3\xa9\n# \xc3\xa9\xff\n").unwrap();
    let problems = config::load(&file).unwrap_err().to_string();
    let expected = "t.toml:2:4: the byte 0xff is not valid UTF-8; must be UTF-8 text";
    assert!(problems.ends_with(expected), "{problems}");
}

#[test]
fn relative_paths_start_at_the_file() {
    let text = "[access_log]\npath = \"log/access\"\n[[listeners]]\nname = \"u\"\nkind = \"outgoing\"\nlisten = \"unix:t.sock\"\n";
    let config = read(text).unwrap();
    assert_eq!(config.listeners[0].address, Address::Unix("/etc/towpath/t.sock".into()));
    assert_eq!(config.access_log.unwrap().path, LogPath::File("/etc/towpath/log/access".into()));
}

#[test]
fn a_service_takes_key_by_key_what_it_is_silent_about_from_the_defaults() {
    let config = with(
        r#"
        [defaults.service]
        balancer = "round-robin"
        connect_timeout = "3s"
        pool = { max_idle = 1, idle_timeout = "7s" }
        [defaults.route]
        timeout = "9s"
        [services.a]
        dns = "A.internal.:80"
        connect_timeout = "4s"
        pool = { max_idle = 2 }
        [[routes]]
        name = "one"
        backends = [{ service = "a" }, { dns = "{host}.b:81" }]
        [[routes]]
        name = "two"
        timeout = "1s"
        backends = [{ service = "a", weight = 0 }, { dns = "{host}" }]
    "#,
    )
    .unwrap();
    let policy = &config.services["a"].policy;
    assert_eq!(config.services["a"].source, Source::Dns { host: "a.internal".into(), port: 80 });
    assert_eq!((&policy.balancer, policy.protocol), (&Balancer::RoundRobin, Protocol::Auto));
    assert_eq!(policy.connect_timeout, Duration::from_secs(4));
    assert_eq!((policy.pool.max_idle, policy.pool.idle_timeout), (2, Duration::from_secs(7)));
    assert_eq!(config.routes[0].timeout, Some(Duration::from_secs(9)));
    assert_eq!(config.routes[1].timeout, Some(Duration::from_secs(1)));
    assert_eq!(config.routes[1].backends[0].weight, 0);
    let BackendTarget::PerHost(template) = &config.routes[0].backends[1].target else { panic!("a template") };
    assert_eq!((template.suffix.as_str(), template.port), (".b", Some(81)));
    assert_eq!(template.policy.pool.max_idle, 1);
}

#[test]
fn an_address_in_place_of_a_dns_name_needs_no_resolver() {
    let config = with("[services.a]\ndns = \"[::1]:80\"").unwrap();
    let Source::Fixed(endpoints) = &config.services["a"].source else { panic!("fixed") };
    assert_eq!(endpoints[0].address, "[::1]:80".parse().unwrap());
}

#[test]
fn conditions_are_read_in_every_form() {
    let config = with(
        r#"
        [[routes]]
        name = "r"
        hosts = ["Reviews.", "*.B", "[::1]"]
        backends = [{ dns = "{host}" }]
        [[routes.match]]
        path_prefix = "/v2/"
        methods = ["POST", "GET"]
        headers = { X-A = "1", b = { regex = "x|y" }, c = { present = true }, d = { present = false } }
        query = { E = { absent = true } }
        [[routes.match]]
        path_regex = "/a|/b"
    "#,
    )
    .unwrap();
    let route = &config.routes[0];
    let hosts = [
        HostPattern::Exact("reviews".into()),
        HostPattern::Suffix("b".into()),
        HostPattern::Exact("::1".into()),
    ];
    assert_eq!(route.hosts, hosts);
    let entry = &route.matches[0];
    assert_eq!(entry.path, Some(PathMatch::Prefix("/v2".into())));
    assert_eq!(entry.methods, ["GET", "POST"]);
    let names: Vec<&str> = entry.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["b", "c", "d", "x-a"]);
    let ValueMatch::Regex(regex) = &entry.headers[0].1 else { panic!("a regex") };
    assert!(regex.is_match("x") && !regex.is_match("xy"));
    assert_eq!(entry.headers[1].1, ValueMatch::Present);
    assert_eq!(entry.headers[2].1, ValueMatch::Absent);
    assert_eq!(entry.headers[3].1, ValueMatch::Exact("1".into()));
    assert_eq!(entry.query, [("E".to_owned(), ValueMatch::Absent)]);
    let Some(PathMatch::Regex(regex)) = &route.matches[1].path else { panic!("a regex") };
    assert!(regex.is_match("/b") && !regex.is_match("/a/b"));
}

#[test]
fn a_silent_route_takes_every_outgoing_listener() {
    let text = format!(
        "[[listeners]]\nname = \"in\"\nkind = \"incoming\"\nlisten = \"0.0.0.0:4141\"\n{OUTGOING}\
         [[routes]]\nname = \"a\"\nbackends = [{{ dns = \"{{host}}\" }}]\n\
         [[routes]]\nname = \"b\"\nlisteners = [\"in\"]\nbackends = [{{ dns = \"{{host}}\" }}]\n"
    );
    let config = read(&text).unwrap();
    assert_eq!(config.routes[0].listeners, [1]);
    assert_eq!(config.routes[1].listeners, [0]);
}

#[test]
fn the_same_file_means_the_same_configuration() {
    let text = config::full_toml() + "[[routes.match]]\npath_regex = \"/x\"\n";
    assert_eq!(read(&text).map_err(|_| ()), read(&text).map_err(|_| ()));
    assert_ne!(with("").unwrap(), with("[drain]\ntimeout = \"1s\"").unwrap());
}

fn assert_policies(config: &Config) {
    let reviews = &config.routes[1];
    assert_eq!(reviews.failover.services, ["reviews-dr".into()]);
    let retry = reviews.retry.as_ref().unwrap();
    assert_eq!((retry.attempts, retry.methods.len()), (3, 4));
    assert!(retry.on.connect_failure && retry.on.reset && retry.on.server_error && !retry.on.gateway_error);
    let fault = reviews.fault.as_ref().unwrap();
    assert_eq!((fault.delay_share.ppm, fault.abort_share.ppm), (100_000, 10_000));
    assert_eq!(fault.delay, Some((Duration::from_millis(100), Duration::from_millis(100))));
    let policy = &config.services["reviews-v1"].policy;
    assert_eq!((policy.breaker.max_connections, policy.breaker.requests.max_requests), (1024, 4096));
    let check = policy.health_check.as_ref().unwrap();
    assert_eq!((check.interval, check.healthy, check.unhealthy), (Duration::from_secs(5), 2, 3));
    assert_eq!(config.services["reviews-v2"].policy.health_check, None);
}

#[test]
fn the_contract_without_later_features_loads() {
    let config = read(
        r#"
        [node]
        name    = "node-7"
        zone    = "eu-1a"
        workers = 2
        [admin]
        listen = "127.0.0.1:9990"
        [[listeners]]
        name   = "outgoing"
        kind   = "outgoing"
        listen = "127.0.0.1:4140"
        [[listeners]]
        name   = "incoming"
        kind   = "incoming"
        listen = "0.0.0.0:4141"
        [[routes]]
        name      = "reviews-android"
        listeners = ["outgoing"]
        hosts     = ["reviews", "*.reviews.internal"]
        match     = [{ path_prefix = "/v2", methods = ["GET"], headers = { client = "Android" } }]
        backends  = [{ service = "reviews-android" }]
        [[routes]]
        name     = "reviews"
        hosts    = ["reviews"]
        backends = [{ service = "reviews-v2", weight = 10 }, { service = "reviews-v1", weight = 90 }]
        failover = ["reviews-dr"]
        timeout  = "2s"
        attempt_timeout = "500ms"
        retry    = { on = ["connect-failure", "reset", "5xx"], attempts = 3, methods = ["GET", "HEAD", "PUT", "DELETE"] }
        fault    = { delay = "100ms", delay_percent = 10, abort = 503, abort_percent = 1 }
        [[routes]]
        name     = "everything-else"
        hosts    = ["*"]
        backends = [{ dns = "{host}" }]
        [services.reviews-v1]
        dns      = "reviews-v1.prod.svc.cluster.local:8080"
        protocol = "auto"
        balancer = "peak-ewma"
        breaker  = { max_connections = 1024, max_requests = 4096, max_pending = 1024 }
        ejection = { consecutive_failures = 5, backoff = ["5s", "5m"], max_percent = 50 }
        health_check = { http = "/healthz", interval = "5s", timeout = "1s", healthy = 2, unhealthy = 3 }
        [services.reviews-v2]
        srv = "_http._tcp.reviews-v2.prod.svc.cluster.local"
        balancer = { hash = "header:x-user" }
        [services.reviews-android]
        endpoints = ["10.0.0.1:8080", { address = "10.0.0.2:8080", weight = 2, zone = "eu-1b" }]
        [services.reviews-dr]
        file = "endpoints/reviews-dr"
        [defaults.service]
        connect_timeout = "1s"
        [defaults.route]
    "#,
    )
    .unwrap();
    assert_eq!((config.listeners.len(), config.routes.len(), config.services.len()), (2, 3, 4));
    assert_eq!(config.routes[1].backends[1].weight, 90);
    assert_policies(&config);
    let Source::Fixed(endpoints) = &config.services["reviews-android"].source else { panic!("fixed") };
    assert_eq!((endpoints[1].weight, endpoints[1].zone.as_deref()), (2, Some("eu-1b")));
    let balancer = |name: &str| &config.services[name].policy.balancer;
    assert_eq!(*balancer("reviews-v1"), Balancer::PeakEwma { decay: Duration::from_secs(10) });
    assert_eq!(*balancer("reviews-v2"), Balancer::Hash(HashKey::Header("x-user".into())));
    let Source::File(file) = &config.services["reviews-dr"].source else { panic!("file") };
    assert!(file.is_absolute() && file.ends_with("endpoints/reviews-dr"), "{}", file.display());
}

#[test]
fn numbers_may_be_written_in_every_way_of_toml() {
    let limits =
        |number: &str| with(&format!("[limits]\nheader_count = {number}")).map(|config| config.limits);
    for number in ["1_000", "0x3e8", "+1000", "0b1111101000"] {
        assert_eq!(limits(number).unwrap().header_count, 1000, "{number}");
    }
    assert!(limits("99999999999999999999999").unwrap_err().contains("out of range"));
}

#[test]
fn a_file_with_very_many_faults_is_still_answered_at_once() {
    let text = "a = 1\n".repeat(20_000) + &"[[routes]]\nx = 1\n".repeat(5_000);
    let started = std::time::Instant::now();
    assert!(read(&text).unwrap_err().lines().count() > 20_000);
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }
}

#[test]
fn no_damage_to_a_file_makes_the_parser_panic() {
    let examples: Vec<String> =
        files("tests/it/config", "toml").iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    let mut texts = vec![
        config::full_toml().lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n"),
    ];
    texts.extend(examples);
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    for round in 0..6000 {
        let mut bytes = texts[round % texts.len()].clone().into_bytes();
        for _ in 0..=dice.below(4) {
            damage(&mut bytes, &mut dice);
        }
        let text = String::from_utf8_lossy(&bytes);
        if let Err(problems) = read(&text) {
            assert!(problems.lines().all(|line| line.starts_with("/etc/towpath/t.toml:")), "{problems}");
        }
    }
}

fn damage(bytes: &mut Vec<u8>, dice: &mut Dice) {
    if bytes.is_empty() {
        return;
    }
    let at = dice.below(bytes.len());
    match dice.below(5) {
        0 => bytes.truncate(at),
        1 => drop(bytes.drain(at..(at + 1 + dice.below(20)).min(bytes.len()))),
        2 => bytes[at] = b"[]{}=.,\"'\n#\\0a\xff\x00-"[dice.below(17)],
        3 => bytes.insert(at, b"[]{}=.,\"'\n#\\0a\xff\x00-"[dice.below(17)]),
        _ => {
            let line: Vec<u8> = bytes[at..].split(|byte| *byte == b'\n').nth(1).unwrap_or_default().to_vec();
            let to = dice.below(bytes.len());
            bytes.splice(to..to, [&b"\n"[..], &line, b"\n"].concat());
        }
    }
}
