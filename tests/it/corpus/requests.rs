//! Requests, over both protocols, before a server that records.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use tokio::task::JoinSet;

use super::{
    format::{self, Case},
    recorder::{Heard, Recorder},
    strict::{self, Message, Read},
};
use crate::support::{
    Daemon, Raw,
    daemon::one_service,
    frames::{DATA, END_STREAM, Frame, Frames, GOAWAY, HEADERS, RST_STREAM},
};

pub const FILES: &[&str] = &["coding", "length", "chunks", "line", "host", "fields", "connection", "behind"];
pub const HTTP2_FILES: &[&str] = &["http2_head", "http2_content", "http2_frames"];
/// For a case.
const PATIENCE: Duration = Duration::from_secs(5);
/// Added by towpath to every request.
const ADDED: [&str; 4] = ["via", "x-request-id", "traceparent", "tracestate"];

/// How a caller fared.
#[derive(Debug, Default)]
struct Saw {
    /// The statuses of the answers, and their reasons where they are towpath's own.
    answers: Vec<(u16, String)>,
    /// `reset` or `goaway`, over HTTP/2.
    end: &'static str,
    /// What nobody could read.
    odd: String,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_ambiguous_request_is_forwarded() {
    let (recorder, daemon) = started().await;
    let cases = format::load(FILES, 0);
    let saw = all(&daemon, &cases, |address, case| async move { send(address, &case).await }).await;
    judge(&daemon, &recorder, &cases, &saw).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_ambiguous_request_of_http2_is_forwarded() {
    let (recorder, daemon) = started().await;
    let cases = format::load(HTTP2_FILES, 0);
    let saw = all(&daemon, &cases, |address, case| async move { send_frames(address, &case).await }).await;
    judge(&daemon, &recorder, &cases, &saw).await;
}

async fn started() -> (Recorder, Daemon) {
    let recorder = Recorder::start().await;
    let daemon = Daemon::start(&one_service("http1", &[recorder.address]));
    (recorder, daemon)
}

/// Has every case sent, some at a time.
async fn all<F: Future<Output = Saw> + Send + 'static>(
    daemon: &Daemon,
    cases: &[Case],
    send: fn(std::net::SocketAddr, Case) -> F,
) -> HashMap<String, Saw> {
    let (mut running, mut saw) = (JoinSet::new(), HashMap::new());
    for case in cases {
        if running.len() >= 64 {
            let (tag, outcome) = running.join_next().await.unwrap().unwrap();
            saw.insert(tag, outcome);
        }
        let (case, sending) = (case.clone(), send(daemon.address(), case.clone()));
        running.spawn(async move {
            let odd = || Saw { odd: "nothing, for seconds".to_owned(), ..Saw::default() };
            (case.tag, tokio::time::timeout(PATIENCE, sending).await.unwrap_or_else(|_| odd()))
        });
    }
    saw.extend(running.join_all().await);
    saw
}

async fn send(address: std::net::SocketAddr, case: &Case) -> Saw {
    let mut client = Raw::connect(address).await;
    // It may close before it has all of them.
    let _ = client.try_send(case.bytes()).await;
    let mut bytes = Vec::new();
    let served = served(&case.verdict);
    if !refuses(&case.verdict) {
        while statuses(&bytes, &case.method).answers.len() < served {
            match client.try_read_exact(1).await {
                Some(byte) => bytes.extend(byte.into_iter().chain(client.take_buffered())),
                None => break,
            }
        }
        let _ = client.try_finish().await;
    }
    bytes.extend(client.read_to_close().await);
    statuses(&bytes, &case.method)
}

/// The answers in `bytes`.
fn statuses(bytes: &[u8], method: &str) -> Saw {
    let (mut rest, mut saw) = (bytes, Saw::default());
    while !rest.is_empty() {
        match strict::response(rest, method) {
            Ok(Read::Whole(answer, length)) => {
                let status = answer.word(1).parse().unwrap_or(0);
                if status >= 200 {
                    saw.answers.push((status, reason(&answer)));
                }
                rest = &rest[length..];
            }
            Ok(Read::Incomplete(_)) => break,
            Err(what) => {
                saw.odd = what;
                break;
            }
        }
    }
    saw
}

fn reason(answer: &Message) -> String {
    let reasons = answer.all("towpath-error");
    reasons.first().map(|reason| String::from_utf8_lossy(reason).into_owned()).unwrap_or_default()
}

async fn send_frames(address: std::net::SocketAddr, case: &Case) -> Saw {
    let mut client = Frames::connect(address).await;
    let _ = client.raw.try_send(case.frames()).await;
    let (mut saw, mut ended) = (Saw::default(), HashSet::new());
    let wanted = served(&case.verdict).max(1);
    while let Some(frame) = client.try_next().await {
        see(&frame, &mut saw, &mut ended);
        if frame.kind == GOAWAY || ended.len() >= wanted {
            break;
        }
    }
    saw
}

fn see(frame: &Frame, saw: &mut Saw, ended: &mut HashSet<u32>) {
    match frame.kind {
        HEADERS if !ended.contains(&frame.stream) => {
            saw.answers.push((status(&frame.payload), String::new()))
        }
        RST_STREAM if !ended.contains(&frame.stream) => saw.end = "reset",
        GOAWAY if frame.code() != 0 => saw.end = "goaway",
        _ => {}
    }
    let over =
        frame.kind == RST_STREAM || ([DATA, HEADERS].contains(&frame.kind) && frame.flags & END_STREAM != 0);
    if over {
        ended.insert(frame.stream);
    }
}

/// `:status`, which stands first: one of HPACK's static table, or three digits, which may be in Huffman's code.
fn status(block: &[u8]) -> u16 {
    match block {
        [0x88, ..] => 200,
        [0x89, ..] => 204,
        [0x8b, ..] => 304,
        [0x8c, ..] => 400,
        [0x8d, ..] => 404,
        [0x8e, ..] => 500,
        [0x48, 3, digits @ ..] => String::from_utf8_lossy(&digits[..3]).parse().unwrap_or(0),
        [0x48, 0x82 | 0x83, digits @ ..] => huffman(u32::from_be_bytes([digits[0], digits[1], digits[2], 0])),
        _ => 0,
    }
}

/// Three digits: `0` to `2` have five bits, the others six (RFC 7541 B).
fn huffman(mut bits: u32) -> u16 {
    (0..3).fold(0, |status, _| {
        let (digit, length) = match bits >> 27 {
            small @ 0..3 => (small, 5),
            _ => ((bits >> 26) - 22, 6),
        };
        bits <<= length;
        status * 10 + u16::try_from(digit).unwrap_or(0)
    })
}

/// How many requests are to be answered by the server.
fn served(verdict: &str) -> usize {
    let words = verdict.split(", ").find_map(|part| part.strip_prefix("served "));
    words.map_or(0, |number| number.parse().unwrap())
}

/// Whether the connection is to be closed by towpath.
fn refuses(verdict: &str) -> bool {
    verdict.contains("refused")
}

/// Compares what callers and server saw with the verdicts.
async fn judge(daemon: &Daemon, recorder: &Recorder, cases: &[Case], saw: &HashMap<String, Saw>) {
    daemon.metric_becomes("requests_in_flight", &[], 0.0).await;
    let counted = daemon.metric("attempts_total", &[("outcome", "success")]).await;
    let mut wrong = Vec::new();
    let mut heard: HashMap<String, Vec<Heard>> = HashMap::new();
    let all = recorder.heard();
    let whole = all.iter().filter(|one| matches!(one, Heard::Whole(..))).count();
    for one in all {
        match tag(one.bytes()).filter(|tag| saw.contains_key(tag)) {
            Some(tag) => heard.entry(tag).or_default().push(one),
            None => wrong.push(format!("nobody's: {:?}", String::from_utf8_lossy(one.bytes()))),
        }
    }
    for case in cases {
        let heard = heard.get(&case.tag).map_or(&[][..], Vec::as_slice);
        if let Err(what) = verdict(case, &saw[&case.tag], heard) {
            let heard: Vec<_> = heard.iter().map(|one| String::from_utf8_lossy(one.bytes())).collect();
            wrong.push(format!(
                "{}: {} (= {})\n    {what}\n    {:?}\n    {heard:?}",
                case.file, case.name, case.verdict, saw[&case.tag]
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert_eq!(whole as f64, counted, "requests that the server got, and that towpath counted");
}

/// Whose request it is: the first `cNNN` behind a `/`, a `=` or a space.
fn tag(bytes: &[u8]) -> Option<String> {
    let at = bytes.windows(5).position(|text| {
        matches!(text[0], b'/' | b'=' | b' ') && text[1] == b'c' && text[2..].iter().all(u8::is_ascii_digit)
    })?;
    Some(String::from_utf8_lossy(&bytes[at + 1..at + 5]).into_owned())
}

fn verdict(case: &Case, saw: &Saw, heard: &[Heard]) -> Result<(), String> {
    if !saw.odd.is_empty() {
        return Err(format!("the caller got an odd answer: {}", saw.odd));
    }
    let mut requests = Vec::new();
    for one in heard {
        match one {
            Heard::Whole(request, _) => requests.push(request),
            Heard::Part(_) if case.verdict.contains("cut") => {}
            Heard::Part(_) => return Err("the server got a part of a request".to_owned()),
            Heard::Wrong(what, _) => return Err(format!("the server got what is no request: {what}")),
        }
    }
    let served = served(&case.verdict);
    if requests.len() != served {
        return Err(format!("{} requests reached the server", requests.len()));
    }
    answers(case, saw, served)?;
    match (case.expected(), requests.first()) {
        (Some(expected), Some(request)) => same(&expected, request),
        _ => Ok(()),
    }
}

fn answers(case: &Case, saw: &Saw, served: usize) -> Result<(), String> {
    let good = saw.answers.iter().take_while(|(status, _)| *status == 200).count();
    let rest = &saw.answers[good..];
    let last = case.verdict.rsplit(", ").next().unwrap_or_default();
    let expected = match last.split_once(' ') {
        Some(("refused", "any")) => !saw.end.is_empty() || matches!(rest, [(400, _)]),
        Some(("refused", status)) => {
            let reason = if status == "431" { "headers_too_large" } else { "bad_request" };
            matches!(rest, [(got, why)] if got.to_string() == status && (why.is_empty() || why == reason))
        }
        Some(("served", _)) => rest.is_empty() && saw.end.is_empty(),
        _ if last == "cut" => rest.iter().all(|(status, _)| *status == 400),
        _ if last == "closed" => rest.is_empty(),
        _ => return Err(format!("a verdict that is none: {last}")),
    };
    if good != served || !expected { Err("not answered so".to_owned()) } else { Ok(()) }
}

/// Whether the server got what was expected, but for what towpath adds.
fn same(expected: &[u8], request: &Message) -> Result<(), String> {
    let expected = match strict::request(expected) {
        Ok(Read::Whole(expected, _)) => expected,
        other => return Err(format!("the case expects no request: {other:?}")),
    };
    let plain = |message: &Message| {
        let mut message = message.clone();
        message.fields.retain(|(name, _)| !ADDED.contains(&name.as_str()));
        message.fields.sort();
        message.trailers.sort();
        message
    };
    if plain(&expected) == plain(request) {
        return Ok(());
    }
    Err(format!("the server got {:?}", plain(request)))
}
