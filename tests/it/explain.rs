//! `explain` tells where the daemon really sends a request: over the admin API and from the file alone.

use std::process::Command;

use serde_json::Value;

use crate::support::{
    Answer, Backend, Client, Daemon, Speaks, call,
    daemon::{complete, service},
    get,
};

/// Routes that take requests from each other in every way that precedence knows.
const ROUTES: &[(&str, &str)] = &[
    ("any", "hosts = [\"*\"]\nmatch = [{ path_prefix = \"/open\" }]"),
    ("suffix", "hosts = [\"*.test\"]"),
    ("deep-suffix", "hosts = [\"*.b.test\"]\nmatch = [{ methods = [\"GET\", \"POST\"] }]"),
    ("exact", "hosts = [\"svc\", \"A.b.test\"]"),
    ("path", "hosts = [\"svc\"]\nmatch = [{ path = \"/v2/one\" }]"),
    ("prefix", "hosts = [\"svc\"]\nmatch = [{ path_prefix = \"/v2\" }]"),
    ("longer", "hosts = [\"svc\"]\nmatch = [{ path_prefix = \"/v2/deep\" }]"),
    ("regex", "hosts = [\"svc\"]\nmatch = [{ path_regex = \"/[0-9]+/.*\" }]"),
    ("method", "hosts = [\"svc\"]\nmatch = [{ path_prefix = \"/v2\", methods = [\"DELETE\"] }]"),
    ("header", "hosts = [\"svc\"]\nmatch = [{ headers = { client = \"Android\" } }]"),
    (
        "headers",
        "hosts = [\"svc\"]\nmatch = [{ headers = { client = { regex = \"And.*\" }, beta = { present = true } } }]",
    ),
    ("query", "hosts = [\"svc\"]\nmatch = [{ query = { debug = \"1\" } }]"),
    ("absent", "hosts = [\"absent\"]\nmatch = [{ headers = { user = { absent = true } } }]"),
    ("twin", "hosts = [\"svc\"]\nmatch = [{ path = \"/v2/one\" }]"),
];

/// Method, host, path and headers.
type Asked = (&'static str, &'static str, &'static str, &'static [(&'static str, &'static str)]);

const REQUESTS: &[Asked] = &[
    ("GET", "svc", "/", &[]),
    ("GET", "SVC", "/", &[]),
    ("GET", "svc:8080", "/", &[]),
    ("GET", "svc.", "/", &[]),
    ("GET", "svc", "/v2", &[]),
    ("GET", "svc", "/v2/", &[]),
    ("GET", "svc", "/v20", &[]),
    ("GET", "svc", "/v2/one", &[]),
    ("GET", "svc", "/v2/one?debug=1", &[]),
    ("GET", "svc", "/v2/deep/er", &[]),
    ("GET", "svc", "/v2/deeper", &[]),
    ("GET", "svc", "/%762/one", &[]),
    ("GET", "svc", "/V2/one", &[]),
    ("DELETE", "svc", "/v2/one", &[]),
    ("DELETE", "svc", "/v2/two", &[]),
    ("GET", "svc", "/12/x", &[]),
    ("GET", "svc", "/12", &[]),
    ("GET", "svc", "/", &[("client", "Android")]),
    ("GET", "svc", "/", &[("Client", "android")]),
    ("GET", "svc", "/", &[("client", "Android"), ("beta", "x")]),
    ("GET", "svc", "/", &[("client", "Androids"), ("beta", "x")]),
    ("GET", "svc", "/?debug=1", &[]),
    ("GET", "svc", "/?debug=%31", &[]),
    ("GET", "svc", "/?debug=2&debug=1", &[]),
    ("GET", "svc", "/?debug=1", &[("client", "Android")]),
    ("GET", "a.b.test", "/", &[]),
    ("GET", "x.b.test", "/", &[]),
    ("PUT", "x.b.test", "/", &[]),
    ("GET", "b.test", "/", &[]),
    ("GET", "test", "/", &[]),
    ("GET", "nobody", "/open/x", &[]),
    ("GET", "nobody", "/opened", &[]),
    ("GET", "absent", "/", &[]),
    ("GET", "absent", "/", &[("user", "")]),
    ("GET", "127.0.0.1:80", "/open", &[]),
    ("GET", "[::1]:80", "/open", &[]),
];

/// Each route to a server of the same name.
async fn configured() -> (String, Vec<Backend>) {
    let (mut toml, mut services, mut backends) = (String::new(), String::new(), Vec::new());
    for (name, rest) in ROUTES {
        toml += &format!("[[routes]]\nname = \"{name}\"\nbackends = [{{ service = \"{name}\" }}]\n{rest}\n");
        let backend = Backend::start(name).await;
        services += &service(name, "http1", &[backend.address]);
        backends.push(backend);
    }
    (complete(&(toml + &services)), backends)
}

/// The route that an explanation names; `-`: none.
fn named(explanation: &Value) -> String {
    explanation["route"]["name"].as_str().unwrap_or("-").to_owned()
}

/// Where the daemon sent it; `-`: nowhere.
fn went(answer: &Answer) -> String {
    if answer.reason() == "no_route" { "-".to_owned() } else { answer.backend().to_owned() }
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

async fn over_the_api(daemon: &Daemon, (method, host, path, headers): Asked) -> Value {
    let url = encoded(&format!("http://{host}{path}"));
    let mut query = format!("/api/explain?method={method}&url={url}");
    for (name, value) in headers {
        query += &format!("&header={}", encoded(&format!("{name}: {value}")));
    }
    let answer = daemon.admin_get(&query).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

fn from_the_file(config: &std::path::Path, (method, host, path, headers): Asked) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_towpath"));
    command.args(["explain", "--json", "--config"]).arg(config);
    command.args([method, &format!("http://{host}{path}")]);
    for (name, value) in headers {
        command.args(["-H", &format!("{name}: {value}")]);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn explain_names_the_route_that_the_daemon_takes() {
    let (toml, _backends) = configured().await;
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("towpath.toml");
    std::fs::write(&config, &toml).unwrap();
    let daemon = Daemon::from_file(&config);
    let mut one = Client::connect(daemon.address(), Speaks::Http1).await;
    let mut two = Client::connect(daemon.address(), Speaks::Http2).await;
    let mut taken = std::collections::BTreeSet::new();
    for asked @ (method, host, path, headers) in REQUESTS.iter().copied() {
        let (online, offline) = (over_the_api(&daemon, asked).await, from_the_file(&config, asked));
        assert_eq!(online, offline, "{asked:?}");
        for client in [&mut one, &mut two] {
            let request = headers
                .iter()
                .fold(call(method, host, path), |request, (name, value)| request.header(name, value));
            let answer = client.ask(request).await;
            assert_eq!(named(&online), went(&answer), "{asked:?}: {answer:?}");
        }
        let others = online["others"].as_array().unwrap().len();
        assert_eq!(others + usize::from(named(&online) != "-"), ROUTES.len(), "every route is accounted for");
        taken.insert(named(&online));
    }
    let never: Vec<&str> =
        ROUTES.iter().map(|(name, _)| *name).filter(|name| !taken.contains(*name)).collect();
    assert_eq!(never, ["twin"], "the table leaves out all but the route that another always precedes");
    assert!(taken.contains("-"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_api_explains_what_is_in_force_after_a_reload() {
    let (toml, _backends) = configured().await;
    let daemon = Daemon::start(&toml);
    let asked: Asked = ("GET", "svc", "/v2/one", &[]);
    assert_eq!(named(&over_the_api(&daemon, asked).await), "path");
    let without = toml.replace("path = \"/v2/one\"", "path = \"/v2/other\"");
    daemon.reload(Some(&without)).unwrap();
    let now = named(&over_the_api(&daemon, asked).await);
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    assert_eq!(now, went(&client.ask(get("svc", "/v2/one")).await));
    assert_eq!(now, "prefix");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_question_that_cannot_be_read_is_400_and_says_why() {
    let (toml, _backends) = configured().await;
    let daemon = Daemon::start(&toml);
    for (query, reason) in [
        ("", "url"),
        ("?url=http%3A%2F%2Fsvc%2F&listener=none", "outgoing"),
        ("?url=http%3A%2F%2Fsvc%2F&metod=GET", "metod"),
        ("?url=%2Fpath", "host"),
        ("?url=http%3A%2F%2Fsvc%2F&header=nocolon", "nocolon"),
    ] {
        let answer = daemon.admin_get(&format!("/api/explain{query}")).await;
        assert_eq!(answer.status, 400, "{query}: {answer:?}");
        assert!(answer.text().contains(reason), "{query}: {}", answer.text());
    }
}
