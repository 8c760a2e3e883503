//! Responses, from servers that write them by hand, to callers of both protocols.

use std::{
    fmt::Write,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::task::{JoinHandle, JoinSet};

use super::{
    format::{self, Case},
    strict::{self, Message, Read},
};
use crate::support::{
    Client, Daemon, Raw, RawServer, Speaks, call,
    daemon::service,
    frames::{END_HEADERS, END_STREAM, Frames, HEADERS},
};

pub const FILES: &[&str] = &["answer_head", "answer_framing", "answer_behind"];
pub const HTTP2_FILES: &[&str] = &["answer_http2"];
const AFTER: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx-after: 1\r\n\r\nafter";
/// For both requests of a case.
const PATIENCE: Duration = Duration::from_secs(5);
/// Of an answer: what differs with the protocol or the day.
const VARIES: [&str; 5] = ["date", "transfer-encoding", "connection", "content-length", "via"];

/// What a caller got.
#[derive(Debug)]
enum Got {
    Answer(Message),
    /// No whole answer.
    Cut,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_ambiguous_answer_is_forwarded_to_http1() {
    judge(Speaks::Http1, FILES, "http1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_ambiguous_answer_is_forwarded_to_http2() {
    judge(Speaks::Http2, FILES, "http1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_ambiguous_answer_of_http2_is_forwarded_to_http1() {
    judge(Speaks::Http1, HTTP2_FILES, "http2").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_ambiguous_answer_of_http2_is_forwarded_to_http2() {
    judge(Speaks::Http2, HTTP2_FILES, "http2").await;
}

/// A server for one case: its first connection answers as the case says, whatever comes later gets [`AFTER`].
struct Server {
    address: SocketAddr,
    /// Requests on the first connection.
    first: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(case: Case, protocol: &str) -> Server {
    let server = RawServer::start().await;
    let (address, first, http2) = (server.address, Arc::<AtomicUsize>::default(), protocol == "http2");
    let counted = first.clone();
    let serving = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        let mut next = Some((case, counted));
        while let Ok(connection) = server.try_accept().await {
            let next = next.take();
            if http2 {
                connections.spawn(answer_frames(connection, next));
            } else {
                connections.spawn(answer(connection, next));
            }
        }
    });
    Server { address, first, serving }
}

async fn answer(mut connection: Raw, mut case: Option<(Case, Arc<AtomicUsize>)>) {
    let mut counted: Option<Arc<AtomicUsize>> = None;
    while connection.skip_past("\r\n\r\n").await {
        if let Some(counted) = &counted {
            counted.fetch_add(1, Ordering::Relaxed);
        }
        let Some((case, first)) = case.take() else {
            let _ = connection.try_send(AFTER).await;
            continue;
        };
        first.fetch_add(1, Ordering::Relaxed);
        counted = Some(first);
        let _ = connection.try_send(case.bytes()).await;
        if case.closes {
            let _ = connection.try_finish().await;
        }
    }
}

async fn answer_frames(connection: Raw, case: Option<(Case, Arc<AtomicUsize>)>) {
    let mut connection = Frames::serve(connection).await;
    let mut case = case;
    while let Some(frame) = connection.try_next().await {
        if frame.kind != HEADERS {
            continue;
        }
        match case.take() {
            Some((case, first)) => {
                first.fetch_add(1, Ordering::Relaxed);
                let _ = connection.raw.try_send(case.frames()).await;
            }
            None => {
                let flags = END_STREAM | END_HEADERS;
                let frame = crate::support::frames::frame(HEADERS, flags, frame.stream, &[0x88]);
                let _ = connection.raw.try_send(frame).await;
            }
        }
    }
}

async fn judge(speaks: Speaks, files: &[&str], protocol: &str) {
    let cases = format::load(files, 0);
    let mut servers = Vec::new();
    // One worker, so that the second request could be sent over the first one's connection.
    let mut toml = "[node]\nname = \"test\"\nworkers = 1\n".to_owned();
    for case in &cases {
        let server = serve(case.clone(), protocol).await;
        let tag = &case.tag;
        let _ = write!(
            toml,
            "[[routes]]\nname = \"{tag}\"\nhosts = [\"{tag}\"]\nbackends = [{{ service = \"{tag}\" }}]\n{}",
            service(tag, protocol, &[server.address])
        );
        servers.push(server);
    }
    let daemon = Daemon::start(&toml);
    let mut running = JoinSet::new();
    for (number, case) in cases.iter().cloned().enumerate() {
        let (address, first) = (daemon.address(), servers[number].first.clone());
        running.spawn(async move {
            let name = format!("{}: {}", case.file, case.name);
            let looking = tokio::time::timeout(PATIENCE, look(speaks, address, case, first));
            looking.await.unwrap_or_else(|_| Err(format!("{name}: no end")))
        });
    }
    let wrong: Vec<String> = running.join_all().await.into_iter().filter_map(Result::err).collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// Asks twice: the second answer must not be made of what came behind the first.
async fn look(
    speaks: Speaks,
    address: SocketAddr,
    case: Case,
    first: Arc<AtomicUsize>,
) -> Result<(), String> {
    let wrong = |what: String| Err(format!("{}: {} (= {})\n    {what}", case.file, case.name, case.verdict));
    let (got, after) = match speaks {
        Speaks::Http1 => ask_http1(address, &case).await,
        Speaks::Http2 => ask_http2(address, &case).await,
    };
    if let Err(what) = verdict(&case, &got) {
        return wrong(format!("{what}: {got:?}"));
    }
    match after {
        Got::Answer(answer)
            if answer.word(1) == "200" && (answer.body == b"after" || answer.body.is_empty()) => {}
        other => return wrong(format!("the next answer is {other:?}")),
    }
    let reused = first.load(Ordering::Relaxed) > 1;
    if reused && !case.verdict.contains("passed, reused") {
        return wrong("the connection was used again".to_owned());
    }
    Ok(())
}

async fn ask_http1(address: SocketAddr, case: &Case) -> (Got, Got) {
    let tag = &case.tag;
    let mut client = Raw::connect(address).await;
    client.send(format!("{} /{tag} HTTP/1.1\r\nhost: {tag}\r\n\r\n", case.method)).await;
    let got = read(&mut client, &case.method).await;
    let mut client = Raw::connect(address).await;
    client.send(format!("GET /after HTTP/1.1\r\nhost: {tag}\r\nconnection: close\r\n\r\n")).await;
    (got, read(&mut client, "GET").await)
}

/// The final answer: what follows it would be somebody else's.
async fn read(client: &mut Raw, method: &str) -> Got {
    let mut bytes = Vec::new();
    loop {
        match strict::response(&bytes, method) {
            Ok(Read::Whole(answer, length)) if answer.word(1).starts_with('1') => drop(bytes.drain(..length)),
            Ok(Read::Whole(answer, length)) => {
                assert_eq!(length, bytes.len(), "bytes behind an answer: {bytes:?}");
                return Got::Answer(answer);
            }
            Ok(Read::Incomplete(_)) => match client.try_read_exact(1).await {
                Some(byte) => bytes.extend(byte.into_iter().chain(client.take_buffered())),
                None => return Got::Cut,
            },
            Err(what) => panic!("an answer that no strict reader takes: {what}: {bytes:?}"),
        }
    }
}

async fn ask_http2(address: SocketAddr, case: &Case) -> (Got, Got) {
    let tag: &'static str = case.tag.clone().leak();
    let method: &'static str = case.method.clone().leak();
    let mut client = Client::connect(address, Speaks::Http2).await;
    let got = message(client.try_ask(call(method, tag, "/first")).await);
    let mut client = Client::connect(address, Speaks::Http2).await;
    (got, message(client.try_ask(call("GET", tag, "/after")).await))
}

fn message<E>(answer: Result<crate::support::Answer, E>) -> Got {
    let Ok(answer) = answer else { return Got::Cut };
    let fields = answer.headers.iter();
    Got::Answer(Message {
        first: format!("HTTP/1.1 {} ", answer.status),
        fields: fields.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect(),
        body: answer.body.to_vec(),
        trailers: Vec::new(),
    })
}

fn verdict(case: &Case, got: &Got) -> Result<(), String> {
    let word = case.verdict.split(", ").next().unwrap_or_default();
    match (word, got) {
        ("refused", Got::Answer(answer)) if answer.word(1) == "502" => {
            let reason = answer.all("towpath-error");
            if reason == [b"upstream_reset"] { Ok(()) } else { Err("another reason".to_owned()) }
        }
        ("cut" | "harmless", Got::Cut) => Ok(()),
        ("passed" | "harmless", Got::Answer(answer)) => same(case, answer),
        _ => Err("not answered so".to_owned()),
    }
}

fn same(case: &Case, answer: &Message) -> Result<(), String> {
    let Some(expected) = case.expected() else { return Err("the case does not say what passes".to_owned()) };
    let expected = match strict::response(&expected, &case.method) {
        Ok(Read::Whole(expected, _)) => expected,
        other => return Err(format!("the case expects no answer: {other:?}")),
    };
    let plain = |message: &Message| {
        let mut fields = message.fields.clone();
        fields.retain(|(name, _)| !VARIES.contains(&name.as_str()));
        fields.sort();
        (message.word(1).to_owned(), fields, message.body.clone())
    };
    if plain(&expected) == plain(answer) { Ok(()) } else { Err("another answer".to_owned()) }
}
