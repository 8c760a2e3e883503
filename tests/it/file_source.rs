//! Services whose endpoints a file tells: changes are in force within a second however they are made, and what is wrong
//! with the file changes nothing.

use std::{
    collections::BTreeSet,
    fs,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

use crate::support::{
    Backend, Client, Daemon, Process, Speaks, client, eventually, get, wait::HEAVY, within,
};

/// After this, no request goes to an endpoint that was removed.
const PROMISE: Duration = Duration::from_secs(1);

/// A directory, and the configuration of one service whose file is `endpoints` in it.
struct Place {
    directory: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn toml(&self, balancer: &str) -> String {
        let path = self.path("endpoints");
        format!(
            "[[routes]]\nname = \"all\"\nhosts = [\"*\"]\nbackends = [{{ service = \"listed\" }}]\n\
             [services.listed]\nprotocol = \"http1\"\nbalancer = \"{balancer}\"\nfile = \"{}\"\n",
            path.display()
        )
    }

    fn replace(&self, name: &str, text: &str) {
        fs::write(self.path("new"), text).unwrap();
        fs::rename(self.path("new"), self.path(name)).unwrap();
    }
}

/// A line for each.
fn lines<'a>(addresses: impl IntoIterator<Item = &'a SocketAddr>) -> String {
    addresses.into_iter().map(|address| format!("{address}\n")).collect()
}

async fn state(daemon: &Daemon) -> Value {
    daemon.admin_get("/api/services").await.json()["services"][0].clone()
}

/// Requests without pause over some connections. Each answer is handed to `answered`, with when its request was sent.
struct Load {
    stop: watch::Sender<bool>,
    running: Vec<JoinHandle<u64>>,
}

impl Load {
    fn start(to: SocketAddr, answered: impl Fn(&str, Instant) + Clone + Send + 'static) -> Self {
        let stop = watch::Sender::new(false);
        let one = |_| {
            let (stopped, answered) = (stop.subscribe(), answered.clone());
            tokio::spawn(async move {
                let mut client = Client::connect(to, Speaks::Http1).await;
                let mut count = 0;
                while !*stopped.borrow() {
                    let sent = Instant::now();
                    let answer = client.ask(get("svc", "/")).await;
                    assert_eq!(answer.status, 200, "{answer:?}");
                    answered(answer.backend(), sent);
                    count += 1;
                }
                count
            })
        };
        Self { running: (0..6).map(one).collect(), stop }
    }

    /// How many requests were answered, all of them well.
    async fn end(self) -> u64 {
        self.stop.send_replace(true);
        let mut sum = 0;
        for task in self.running {
            sum += within("the last answers", task).await.unwrap();
        }
        sum
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn endpoints_of_a_file_are_used_by_their_weights_and_shown_with_their_zones() {
    let (light, heavy) = (Backend::start("light").await, Backend::start("heavy").await);
    let place = Place::new();
    place.replace("endpoints", &format!("{}\n{} weight=3 zone=eu-1b\n", light.address, heavy.address));
    let daemon = Daemon::start(&place.toml("round-robin"));
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    let mut of_light = 0;
    for _ in 0..100 {
        of_light += u32::from(client.ask(get("svc", "/")).await.backend() == "light");
    }
    assert!((24..=26).contains(&of_light), "{of_light} of 100 at a weight of 1 to 3");
    let service = state(&daemon).await;
    assert_eq!(service["source"], format!("file {}", place.path("endpoints").display()));
    let shown = service["endpoints"].as_array().unwrap();
    let heavy = shown.iter().find(|endpoint| endpoint["address"] == heavy.address.to_string()).unwrap();
    assert_eq!((&heavy["weight"], &heavy["zone"]), (&Value::from(3), &Value::from("eu-1b")), "{service}");
}

/// The traffic moves from one endpoint to the other and back under load, without a failed request.
async fn moves(prepare: impl FnOnce(&Place, &str), change: impl Fn(&Place, &str, u32)) {
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    let place = Place::new();
    prepare(&place, &lines([&one.address]));
    let daemon = Daemon::start(&place.toml("least-request"));
    let last = Arc::new(Mutex::new([None; 2]));
    let noted = last.clone();
    let load = Load::start(daemon.address(), move |backend, sent| {
        let last = &mut noted.lock().unwrap()[usize::from(backend == "two")];
        *last = (*last).max(Some(sent));
    });
    let (mut from, mut to) = (0, 1);
    for round in 0..4 {
        let text = lines([&[&one, &two][to].address]);
        let changed = Instant::now();
        change(&place, &text, round);
        eventually("the traffic has moved", async || {
            let last = *last.lock().unwrap();
            last[to] > Some(changed)
                && last[from].is_none_or(|last| last.elapsed() > Duration::from_millis(100))
        })
        .await;
        let late =
            last.lock().unwrap()[from].map_or(Duration::ZERO, |last| last.saturating_duration_since(changed));
        assert!(late < PROMISE, "round {round}: a request {late:?} after the endpoint was removed");
        (from, to) = (to, from);
    }
    assert!(load.end().await > 100);
    daemon.metric_becomes("endpoint_available", &[("service", "listed")], 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_file_that_is_replaced_moves_the_traffic() {
    let replace = |place: &Place, text: &str| place.replace("endpoints", text);
    moves(replace, |place, text, _| replace(place, text)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_file_that_is_rewritten_in_place_moves_the_traffic() {
    let rewrite = |place: &Place, text: &str| fs::write(place.path("endpoints"), text).unwrap();
    moves(rewrite, |place, text, _| rewrite(place, text)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_file_behind_a_swapped_symlink_moves_the_traffic() {
    let swap = |place: &Place, text: &str, round: u32| {
        let data = format!("..data-{round}");
        fs::create_dir(place.path(&data)).unwrap();
        fs::write(place.path(&data).join("endpoints"), text).unwrap();
        symlink(&data, place.path("..data_tmp")).unwrap();
        fs::rename(place.path("..data_tmp"), place.path("..data")).unwrap();
    };
    let prepare = |place: &Place, text: &str| {
        swap(place, text, 1000);
        symlink("..data/endpoints", place.path("endpoints")).unwrap();
    };
    moves(prepare, swap).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_bad_line_keeps_the_endpoints_and_is_told_with_its_position() {
    let one = Backend::start("one").await;
    let place = Place::new();
    place.replace("endpoints", &lines([&one.address]));
    let process = Process::start(&place.toml("least-request"));
    let address = process.address().await;
    let ask = || client::ask(address, Speaks::Http1, get("svc", "/"));
    assert_eq!(ask().await.backend(), "one");
    place.replace("endpoints", "10.0.0.1:80 weight=0\nreviews.test:80\n");
    let service = async || process.admin_get("/api/services").await.json()["services"][0].clone();
    eventually("it fails", async || service().await["state"] == "failing").await;
    let shown = service().await;
    let message = shown["message"].as_str().unwrap();
    let file = place.path("endpoints").display().to_string();
    for (position, wrong) in [("1:13", "weight \"0\" is out of range"), ("2:1", "\"reviews.test\" is a name")]
    {
        let told = format!("{file}:{position}: {wrong}");
        assert!(message.contains(&told), "{message}");
        assert!(process.log().contains(&told), "{}", process.log());
    }
    assert_eq!(shown["endpoints"][0]["address"], one.address.to_string(), "{shown}");
    assert_eq!(ask().await.backend(), "one");
    let failed = [("service", "listed"), ("result", "failed")];
    let count = process.metric("discovery_updates_total", &failed).await;
    assert!((count - 1.0).abs() < f64::EPSILON, "{count}");
    place.replace("endpoints", &lines([&one.address]));
    eventually("it is in order again", async || service().await["state"] == "current").await;
    assert!(process.log().contains("in order again"), "{}", process.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_missing_file_is_no_endpoints_and_its_creation_heals() {
    let one = Backend::start("one").await;
    let place = Place::new();
    let daemon = Daemon::start(&place.toml("least-request"));
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    let answer = client.ask(get("svc", "/")).await;
    assert_eq!((answer.status, answer.reason()), (503, "no_endpoints"), "{answer:?}");
    let error = answer.json()["error"]["message"].as_str().unwrap().to_owned();
    let told = format!("{}: cannot be read: No such file", place.path("endpoints").display());
    assert!(error.contains(&told), "{error}");
    fs::write(place.path("endpoints"), lines([&one.address])).unwrap();
    let created = Instant::now();
    eventually("it is served", async || client.ask(get("svc", "/")).await.status == 200).await;
    assert!(created.elapsed() < PROMISE, "{:?}", created.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_emptied_file_takes_every_endpoint_away() {
    let one = Backend::start("one").await;
    let place = Place::new();
    place.replace("endpoints", &lines([&one.address]));
    let daemon = Daemon::start(&place.toml("least-request"));
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    assert_eq!(client.ask(get("svc", "/")).await.backend(), "one");
    fs::write(place.path("endpoints"), "").unwrap();
    let emptied = Instant::now();
    eventually("there are none", async || client.ask(get("svc", "/")).await.reason() == "no_endpoints").await;
    assert!(emptied.elapsed() < PROMISE, "{:?}", emptied.elapsed());
    assert_eq!(state(&daemon).await["state"], "current", "the file says so");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_relative_path_starts_at_the_configuration_file_and_a_reload_may_name_another() {
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    let place = Place::new();
    fs::create_dir(place.path("lists")).unwrap();
    fs::write(place.path("lists/one"), lines([&one.address])).unwrap();
    fs::write(place.path("lists/two"), lines([&two.address])).unwrap();
    let absolute = place.path("endpoints").display().to_string();
    let configure = |file: &str| {
        let toml = place.toml("least-request").replace(&absolute, file);
        fs::write(place.path("towpath.toml"), crate::support::daemon::complete(&toml)).unwrap();
    };
    configure("lists/one");
    let daemon = Daemon::from_file(Path::new(&place.path("towpath.toml")));
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    assert_eq!(client.ask(get("svc", "/")).await.backend(), "one");
    configure("./lists/two");
    daemon.reload(None).unwrap();
    eventually("the other list", async || client.ask(get("svc", "/")).await.backend() == "two").await;
    fs::write(place.path("lists/one"), "nonsense\n").unwrap();
    fs::write(place.path("lists/two"), lines([&one.address])).unwrap();
    eventually("the new file is followed", async || client.ask(get("svc", "/")).await.backend() == "one")
        .await;
    assert_eq!(state(&daemon).await["state"], "current", "the old file is nobody's business");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_example_of_an_endpoint_file_is_in_order() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples");
    let place = Place::new();
    fs::copy(examples.join("endpoints/payments"), place.path("endpoints")).unwrap();
    let daemon = Daemon::start(&place.toml("least-request"));
    eventually("it is read", async || state(&daemon).await["state"] == "current").await;
    assert_eq!(state(&daemon).await["endpoints"].as_array().unwrap().len(), 4);
    assert!(
        fs::read_to_string(examples.join("endpoint-file.toml")).unwrap().contains("\"endpoints/payments\"")
    );
}

/// One server at every address of 127.0.0.0/8; the address that a request came to is in `x-backend`.
async fn everywhere() -> (u16, JoinHandle<()>) {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let accepting = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    });
    (port, accepting)
}

/// Requests have no body, and come one after the other.
async fn answer(mut stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let here = stream.local_addr().unwrap();
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx-backend: {here}\r\n\r\n");
    let mut seen = Vec::new();
    let mut piece = [0; 2048];
    while let Ok(1..) = stream.read(&mut piece).await.inspect(|size| seen.extend_from_slice(&piece[..*size]))
    {
        if seen.ends_with(b"\r\n\r\n") {
            seen.clear();
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

/// Which endpoints the file lists, and since when each is in it or not.
struct Listed {
    since: Vec<(SocketAddr, bool, Instant)>,
    /// The longest time from a removal to a request that still went to the endpoint.
    latest: Duration,
}

impl Listed {
    /// Notes that a request which was sent then went to `backend`.
    fn answered(&mut self, backend: &str, sent: Instant) {
        let backend: SocketAddr = backend.parse().unwrap();
        let (_, listed, since) = self.since.iter().find(|(address, ..)| *address == backend).unwrap();
        if !listed {
            self.latest = self.latest.max(sent.saturating_duration_since(*since));
        }
    }

    fn addresses(&self) -> BTreeSet<SocketAddr> {
        self.since.iter().filter(|(_, listed, _)| *listed).map(|(address, ..)| *address).collect()
    }

    /// Takes some in and some out; the first few stay. Says how many.
    fn change(&mut self, random: &mut fastrand::Rng) -> usize {
        let mut changes = 0;
        for (_, listed, since) in self.since.iter_mut().skip(4) {
            if random.f32() < 0.7 {
                (*listed, *since) = (!*listed, Instant::now());
                changes += 1;
            }
        }
        changes
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_ten_thousand_changes_under_load_no_request_failed_or_went_to_a_removed_endpoint() {
    let _alone = HEAVY.lock().await;
    let (port, accepting) = everywhere().await;
    let address = |n: u8| SocketAddr::from(([127, 0, 1, n], port));
    let since = (1..=64).map(|n| (address(n), true, Instant::now())).collect();
    let listed = Arc::new(Mutex::new(Listed { since, latest: Duration::ZERO }));
    let place = Place::new();
    let write = || place.replace("endpoints", &lines(&listed.lock().unwrap().addresses()));
    write();
    let daemon = Daemon::start(&place.toml("least-request"));
    let noted = listed.clone();
    let load =
        Load::start(daemon.address(), move |backend, sent| noted.lock().unwrap().answered(backend, sent));
    let mut admin = Client::connect(daemon.admin(), Speaks::Http1).await;
    let mut random = fastrand::Rng::with_seed(4);
    let mut changes = 0;
    while changes < 10_000 {
        changes += listed.lock().unwrap().change(&mut random);
        write();
        let wanted = listed.lock().unwrap().addresses();
        let written = Instant::now();
        while shown(&mut admin).await != wanted {
            assert!(written.elapsed() < PROMISE, "not in force after {:?}", written.elapsed());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let left = listed.lock().unwrap().addresses();
    let last = Instant::now();
    let answered = {
        tokio::time::sleep(PROMISE + Duration::from_millis(300)).await;
        load.end().await
    };
    assert!(answered > 1000, "{answered} requests");
    let latest = listed.lock().unwrap().latest;
    assert!(latest < PROMISE, "a request {latest:?} after its endpoint was removed");
    assert!(last.elapsed() > PROMISE && left == shown(&mut admin).await);
    accepting.abort();
}

/// The endpoints in force.
async fn shown(admin: &mut Client) -> BTreeSet<SocketAddr> {
    let services = admin.ask(get("localhost", "/api/services")).await.json();
    let endpoints = services["services"][0]["endpoints"].as_array().unwrap();
    endpoints.iter().map(|endpoint| endpoint["address"].as_str().unwrap().parse().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_request_that_waits_for_a_connection_does_not_go_to_an_endpoint_that_was_removed_meanwhile() {
    for (protocol, speaks) in [("http1", Speaks::Http1), ("http2", Speaks::Http2)] {
        let (one, two) = (Backend::with_streams("one", 1).await, Backend::start("two").await);
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("endpoints");
        std::fs::write(&file, format!("{}\n", one.address)).unwrap();
        let daemon = Daemon::start(&format!(
            "[node]\nname = \"test\"\nworkers = 1\n[[routes]]\nname = \"all\"\nhosts = [\"*\"]\n\
             backends = [{{ service = \"listed\" }}]\n[services.listed]\nprotocol = \"{protocol}\"\n\
             pool = {{ max_connections = 1 }}\nfile = \"{}\"\n",
            file.display()
        ));
        let address = daemon.address();
        assert_eq!(client::ask(address, speaks, get("svc", "/")).await.backend(), "one");
        let running = tokio::spawn(client::ask(address, speaks, get("svc", "/slow?ms=4000")));
        eventually("the only connection is taken", async || one.running() == 1).await;
        let waiting = tokio::spawn(client::ask(address, speaks, get("svc", "/")));
        eventually("the second waits", async || {
            daemon.metric("requests_in_flight", &[("service", "listed")]).await > 1.5
        })
        .await;
        let new = directory.path().join("new");
        std::fs::write(&new, format!("{}\n", two.address)).unwrap();
        std::fs::rename(new, &file).unwrap();
        let answer = waiting.await.unwrap();
        assert_eq!((answer.status, answer.backend()), (200, "two"), "{protocol}: {answer:?}");
        assert_eq!(running.await.unwrap().backend(), "one", "what runs finishes");
    }
}
