//! A towpath node in this process, from TOML text, on ports that the kernel chooses.

use std::{net::SocketAddr, path::Path, time::Duration};

use tokio::task::block_in_place;
use towpath::{
    app::{Node, Reloaded, Source},
    net::Address,
};

use super::{Answer, Speaks, call, client, eventually, wait};

/// A running node; it drains and ends when this is dropped.
pub struct Daemon {
    node: Option<Node>,
}

/// What every test needs and few care about. A section that `toml` has itself is left to it.
pub fn complete(toml: &str) -> String {
    let sections = [
        ("[node]", "[node]\nname = \"test\"\nworkers = 2\n"),
        ("[admin]", "[admin]\nlisten = \"127.0.0.1:0\"\n"),
        ("[drain]", "[drain]\ntimeout = \"1s\"\n"),
        (
            "[[listeners]]",
            "[[listeners]]\nname = \"outgoing\"\nkind = \"outgoing\"\nlisten = \"127.0.0.1:0\"\n",
        ),
    ];
    let mut text = String::new();
    for (name, section) in sections {
        if !toml.contains(name) {
            text.push_str(section);
        }
    }
    text.push_str(toml);
    text
}

/// One route for every host to one service `echo` with these endpoints.
pub fn one_service(protocol: &str, endpoints: &[SocketAddr]) -> String {
    format!(
        "[[routes]]\nname = \"all\"\nhosts = [\"*\"]\nbackends = [{{ service = \"echo\" }}]\n{}",
        service("echo", protocol, endpoints)
    )
}

/// A service of fixed endpoints. Further keys of it may be appended.
pub fn service(name: &str, protocol: &str, endpoints: &[SocketAddr]) -> String {
    let endpoints: Vec<String> = endpoints.iter().map(|address| format!("\"{address}\"")).collect();
    format!("[services.{name}]\nprotocol = \"{protocol}\"\nendpoints = [{}]\n", endpoints.join(", "))
}

impl Daemon {
    /// Starts from `toml`, completed by [`complete`].
    pub fn start(toml: &str) -> Self {
        Self::try_start(toml).unwrap_or_else(|problems| panic!("{problems}"))
    }

    pub fn try_start(toml: &str) -> Result<Self, String> {
        Self::run(Source::Text { name: "test.toml".into(), text: complete(toml) })
    }

    pub fn from_file(path: &Path) -> Self {
        Self::run(Source::File(path.to_owned())).unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn run(source: Source) -> Result<Self, String> {
        let node = block_in_place(|| Node::start(source))?;
        Ok(Self { node: Some(node) })
    }

    fn node(&self) -> &Node {
        self.node.as_ref().expect("only join and drop take it")
    }

    /// Where the listener `outgoing` is.
    pub fn address(&self) -> SocketAddr {
        self.listener("outgoing").expect("a listener named outgoing")
    }

    /// Where a TCP listener is.
    pub fn listener(&self, name: &str) -> Option<SocketAddr> {
        match self.node().listener(name)? {
            Address::Tcp(address) => Some(address),
            Address::Unix(path) => panic!("{name} is at {}", path.display()),
        }
    }

    pub fn admin(&self) -> SocketAddr {
        match self.node().admin() {
            Address::Tcp(address) => *address,
            Address::Unix(path) => panic!("the admin API is at {}", path.display()),
        }
    }

    /// Reloads from the source as it stands, or from `toml`, completed by [`complete`].
    pub fn reload(&self, toml: Option<&str>) -> Result<Reloaded, String> {
        let text = toml.map(complete);
        block_in_place(|| self.node().reload(text.as_deref()))
    }

    pub fn drain(&self) {
        block_in_place(|| self.node().drain());
    }

    /// Drains, and waits until every thread of the node has ended; says how long that took.
    pub fn join(mut self) -> Duration {
        let node = self.node.take().expect("only join and drop take it");
        stop(node)
    }

    pub async fn admin_get(&self, path: &str) -> Answer {
        client::ask(self.admin(), Speaks::Http1, call("GET", "localhost", path)).await
    }

    pub async fn admin_post(&self, path: &str) -> Answer {
        client::ask(self.admin(), Speaks::Http1, call("POST", "localhost", path)).await
    }

    /// The sum of the series of `towpath_<name>` that carry these labels; nothing counts as 0.
    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        sum_of_series(&self.admin_get("/metrics").await.text(), &format!("towpath_{name}"), labels)
    }

    /// Waits until [`Self::metric`] has this value.
    pub async fn metric_becomes(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        let what = format!("towpath_{name}{labels:?} is {value}");
        eventually(&what, async || (self.metric(name, labels).await - value).abs() < f64::EPSILON).await;
    }

    /// The number of the configuration in force.
    pub async fn generation(&self) -> u64 {
        let status = self.admin_get("/api/status").await.json();
        status["generation"].as_u64().unwrap_or_else(|| panic!("no generation in {status}"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(node) = self.node.take() {
            stop(node);
        }
    }
}

/// On a thread of its own, so that a node that does not end fails its test instead of hanging the suite.
fn stop(node: Node) -> Duration {
    let start = std::time::Instant::now();
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        node.drain();
        node.join();
        let _ = done.send(());
    });
    let outcome = block_in_place(|| ended.recv_timeout(3 * wait::BOUND));
    if !std::thread::panicking() {
        assert!(outcome.is_ok(), "the node did not end");
    }
    start.elapsed()
}

/// The sum of the series of a metric that carry these labels, in a page of metrics; nothing counts as 0.
pub fn sum_of_series(text: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let carries = |series: &str| {
        labels.iter().all(|(key, value)| {
            let pair = format!("{key}=\"{value}\"");
            series.split(['{', ',', '}']).any(|part| part == pair)
        })
    };
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.rsplit_once(' '))
        .filter(|(series, _)| series.split('{').next() == Some(name) && carries(series))
        .map(|(_, value)| value.parse::<f64>().unwrap())
        .fold(0.0, |sum, value| sum + value)
}
