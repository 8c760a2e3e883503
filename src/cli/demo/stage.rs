//! What the play is played with: sample services, a node, the trickle, and a clock that Ctrl-C ends.

use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, TcpListener},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use http::Method;
use tokio::{
    runtime::{Builder, Handle},
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
};

use super::{
    sample::Sample,
    traffic::{Counts, trickle},
};
use crate::{
    app::{Node, Reloaded, Source},
    cli::http_client::Connection,
    net::Address,
};

/// The sample services.
pub(super) struct Samples {
    pub(super) reviews_v1: Sample,
    pub(super) reviews_v2: Sample,
    pub(super) ratings_a: Sample,
    pub(super) ratings_b: Sample,
}

/// Ends the runtime's thread, and the trickle with it.
type Runs = (oneshot::Sender<()>, JoinHandle<()>);

/// Everything that runs.
pub(super) struct Stage {
    pub(super) samples: Samples,
    pub(super) proxy: SocketAddr,
    pub(super) admin: Address,
    pub(super) began: Instant,
    node: Node,
    /// Where the node was told to listen; kept through reloads.
    listen: [SocketAddr; 2],
    counts: Counts,
    runtime: Handle,
    runs: Runs,
    interrupt: Signal,
    terminate: Signal,
}

impl Stage {
    /// Starts everything.
    ///
    /// # Errors
    /// What could not be started.
    pub(super) fn set() -> Result<Self, String> {
        let samples = Samples::start().map_err(|error| format!("cannot start a sample service: {error}"))?;
        let listen = [free(4140), free(9990)];
        let source = Source::Text { name: "demo.toml".to_owned(), text: samples.toml(listen, [90, 10]) };
        let node = Node::start(source)?;
        let proxy = match node.listener("outgoing") {
            Some(Address::Tcp(address)) => address,
            _ => return Err("the listener is not open".to_owned()),
        };
        let (runtime, runs) = runtime().map_err(|error| format!("cannot make a runtime: {error}"))?;
        let signals = || Ok((signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?));
        let entered = runtime.enter();
        let (interrupt, terminate) =
            signals().map_err(|error: io::Error| format!("cannot handle signals: {error}"))?;
        drop(entered);
        let counts = Counts::default();
        runtime.spawn(trickle(proxy, counts.clone()));
        let (admin, began) = (node.admin().clone(), Instant::now());
        Ok(Self { samples, proxy, admin, began, node, listen, counts, runtime, runs, interrupt, terminate })
    }

    /// Waits. False: Ctrl-C was pressed.
    pub(super) fn pause(&mut self, time: Duration) -> bool {
        let (interrupt, terminate) = (&mut self.interrupt, &mut self.terminate);
        self.runtime.block_on(async {
            tokio::select! {
                () = tokio::time::sleep(time) => true,
                _ = interrupt.recv() => false,
                _ = terminate.recv() => false,
            }
        })
    }

    /// Answers since the last call, by who gave them.
    pub(super) fn take_counts(&self) -> BTreeMap<String, u64> {
        self.counts.take()
    }

    /// Reloads with other weights of reviews-v1 and reviews-v2.
    ///
    /// # Errors
    /// Why the node refused.
    pub(super) fn reload(&self, weights: [u32; 2]) -> Result<u64, String> {
        match self.node.reload(Some(&self.samples.toml(self.listen, weights)))? {
            Reloaded::Applied { generation } | Reloaded::Unchanged { generation } => Ok(generation),
        }
    }

    /// Attempts of the node that could not connect, as its metrics say.
    ///
    /// # Errors
    /// When the admin API does not answer.
    pub(super) fn connect_failures(&self) -> Result<u64, String> {
        let admin = self.admin.to_string();
        let read = async {
            let mut connection = Connection::open(&admin).await?;
            connection.ask(Method::GET, &admin, "/metrics").await
        };
        let answer = self.runtime.block_on(read).map_err(|error| format!("the admin API: {error}"))?;
        let series = "towpath_attempts_total{service=\"ratings\",outcome=\"connect_failed\"} ";
        let value = answer.body.lines().find_map(|line| line.strip_prefix(series));
        Ok(value.and_then(|value| value.parse().ok()).unwrap_or(0))
    }

    /// Ends the trickle, drains the node, stops the samples.
    pub(super) fn clear(mut self) {
        let (stop, thread) = self.runs;
        let _ = stop.send(());
        let _ = thread.join();
        self.node.drain();
        self.node.join();
        self.samples.stop();
    }
}

impl Samples {
    fn start() -> io::Result<Self> {
        Ok(Self {
            reviews_v1: Sample::start("reviews-v1")?,
            reviews_v2: Sample::start("reviews-v2")?,
            ratings_a: Sample::start("ratings-a")?,
            ratings_b: Sample::start("ratings-b")?,
        })
    }

    fn stop(&mut self) {
        for sample in [&mut self.reviews_v1, &mut self.reviews_v2, &mut self.ratings_a, &mut self.ratings_b] {
            sample.stop();
        }
    }

    /// The node's configuration.
    fn toml(&self, [proxy, admin]: [SocketAddr; 2], [v1, v2]: [u32; 2]) -> String {
        format!(
            r#"
[node]
name = "demo"

[admin]
listen = "{admin}"

[[listeners]]
name   = "outgoing"
kind   = "outgoing"
listen = "{proxy}"

[[routes]]
name     = "reviews"
hosts    = ["reviews"]
backends = [{{ service = "reviews-v1", weight = {v1} }}, {{ service = "reviews-v2", weight = {v2} }}]

[[routes]]
name     = "ratings"
hosts    = ["ratings"]
backends = [{{ service = "ratings" }}]

[services.reviews-v1]
endpoints = ["{}"]

[services.reviews-v2]
endpoints = ["{}"]

[services.ratings]
endpoints = ["{}", "{}"]
balancer  = "round-robin"
ejection  = {{ backoff = ["500ms", "1s"] }}
"#,
            self.reviews_v1.address, self.reviews_v2.address, self.ratings_a.address, self.ratings_b.address,
        )
    }
}

/// The usual port, or any when that is taken.
fn free(port: u16) -> SocketAddr {
    let usual = SocketAddr::from(([127, 0, 0, 1], port));
    if TcpListener::bind(usual).is_ok() { usual } else { SocketAddr::from(([127, 0, 0, 1], 0)) }
}

/// A runtime on a thread of its own, which runs until the sender is used or dropped.
fn runtime() -> io::Result<(Handle, Runs)> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let (stop, stopped) = oneshot::channel::<()>();
    let body = move || drop(runtime.block_on(stopped));
    let thread = thread::Builder::new().name("traffic".to_owned()).spawn(body)?;
    Ok((handle, (stop, thread)))
}
