//! Replays of what attackers send over HTTP/2: each ends its own connection with GOAWAY `ENHANCE_YOUR_CALM`, is counted by its kind, leaves
//! nothing running, and others are served meanwhile.

use std::time::{Duration, Instant};

use crate::support::{
    Backend, Client, Daemon, Raw, RawServer, Speaks, client,
    daemon::one_service,
    eventually,
    frames::{
        ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, PING, RST_STREAM,
        SETTINGS, WINDOW_UPDATE, block, frame, request,
    },
    get, within,
};

const ENHANCE_YOUR_CALM: u32 = 11;
const PRIORITY: u8 = 2;
const WHOLE: u8 = END_STREAM | END_HEADERS;
/// Of frames; far more than any limit.
const MANY: u32 = 4000;

async fn started(limits: &str) -> (Daemon, Backend) {
    let backend = Backend::start("one").await;
    let toml = format!("[limits]\n{limits}\n{}", one_service("http1", &[backend.address]));
    (Daemon::start(&toml), backend)
}

/// Sends what `bytes` makes again and again, until the daemon has had enough; what it says then.
async fn flood(daemon: &Daemon, first: &[u8], bytes: impl Fn(u32) -> Vec<u8>) -> Vec<u32> {
    let mut client = Frames::connect(daemon.address()).await;
    client.send(SETTINGS, ACK, 0, &[]).await;
    client.raw.send(first).await;
    for number in 0..MANY / 50 {
        let piece: Vec<u8> = (0..50).flat_map(|index| bytes(50 * number + index)).collect();
        if client.raw.try_send(piece).await.is_err() {
            break;
        }
    }
    let mut said = Vec::new();
    while let Some(frame) = within("the end", client.try_next()).await {
        if frame.kind == GOAWAY {
            said.push(frame.code());
        }
    }
    said
}

/// It was cut as a flood of this kind, and nothing is left of it.
async fn assert_cut(daemon: &Daemon, backend: &Backend, kind: &str, said: &[u32]) {
    assert_eq!(said, [ENHANCE_YOUR_CALM], "{kind}");
    daemon.metric_becomes("http2_floods_total", &[("kind", kind)], 1.0).await;
    assert_eq!(client::ask(daemon.address(), Speaks::Http2, get("svc", "/")).await.status, 200);
    daemon.metric_becomes("connections", &[], 0.0).await;
    daemon.metric_becomes("requests_in_flight", &[], 0.0).await;
    eventually("the server has nothing left to do", async || backend.running() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn streams_that_are_opened_and_reset_at_once() {
    let (daemon, backend) = started("").await;
    let head = request("GET", "/hang", &[]);
    let said = flood(&daemon, &[], |number| {
        let stream = 2 * number + 1;
        [frame(HEADERS, WHOLE, stream, &head), frame(RST_STREAM, 0, stream, &8u32.to_be_bytes())].concat()
    })
    .await;
    assert_cut(&daemon, &backend, "resets", &said).await;
}

/// The frames of one stream.
type Way<'a> = &'a dyn Fn(u32) -> Vec<u8>;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn streams_that_the_daemon_is_made_to_reset() {
    let overflow = 0x7fff_ffffu32.to_be_bytes();
    let (get, post) = (request("GET", "/hang", &[]), request("POST", "/hang", &[("content-length", "1")]));
    let ways: [(&str, Way<'_>); 3] = [
        ("a window that overflows", &|stream| {
            [frame(HEADERS, WHOLE, stream, &get), frame(WINDOW_UPDATE, 0, stream, &overflow)].concat()
        }),
        ("a stream that depends on itself", &|stream| {
            let own = [&stream.to_be_bytes()[..], &[1]].concat();
            [frame(HEADERS, WHOLE, stream, &get), frame(PRIORITY, 0, stream, &own)].concat()
        }),
        ("more content than was declared", &|stream| {
            [frame(HEADERS, END_HEADERS, stream, &post), frame(DATA, 0, stream, b"long")].concat()
        }),
    ];
    for (name, way) in ways {
        let (daemon, backend) = started("").await;
        let said = flood(&daemon, &[], |number| way(2 * number + 1)).await;
        assert_eq!(said, [ENHANCE_YOUR_CALM], "{name}");
        assert_cut(&daemon, &backend, "resets", &said).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn frames_that_carry_nothing() {
    // A server that does not read the content may not see that its client has gone.
    let open = frame(HEADERS, END_HEADERS, 1, &request("POST", "/count", &[]));
    let ways = [
        ("PING", frame(PING, 0, 0, &[0; 8])),
        ("PING that answers nothing", frame(PING, ACK, 0, &[0; 8])),
        ("SETTINGS", frame(SETTINGS, 0, 0, &[])),
        ("PRIORITY", frame(PRIORITY, 0, 3, &[0, 0, 0, 0, 1])),
        ("empty DATA", frame(DATA, 0, 1, &[])),
        ("padded DATA", frame(DATA, 8, 1, &[3, 0, 0, 0])),
        ("WINDOW_UPDATE of one byte", frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("unknown", frame(0xbe, 0, 0, b"whatever")),
    ];
    for (name, bytes) in ways {
        let (daemon, backend) = started("").await;
        let said = flood(&daemon, &open, |_| bytes.clone()).await;
        assert_eq!(said, [ENHANCE_YOUR_CALM], "{name}");
        assert_cut(&daemon, &backend, "control_frames", &said).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_head_in_continuations_without_end() {
    for payload in [&[][..], &block(&[("x", "y")])] {
        let (daemon, backend) = started("").await;
        let open = frame(HEADERS, END_STREAM, 1, &request("GET", "/", &[]));
        let said = flood(&daemon, &open, |_| frame(CONTINUATION, 0, 1, payload)).await;
        assert_cut(&daemon, &backend, "continuations", &said).await;
        assert_eq!(backend.requests(), 1, "that of another");
    }
}

/// A field of 4000 bytes that goes into the table, and how it is named from there.
fn bomb(times: usize) -> Vec<u8> {
    // A literal with incremental indexing; 4000 is 127 and 3873 (RFC 7541 5.1).
    let mut block = request("GET", "/", &[]);
    block.extend([0x40, 1, b'x', 0x7f, 0xa1, 0x1e]);
    block.extend([b'y'; 4000]);
    block.extend(std::iter::repeat_n(0x80 | 62, times));
    block
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_small_head_that_becomes_a_large_one_costs_no_more_than_the_limit() {
    let (daemon, backend) = started("").await;
    let mut client = Frames::connect(daemon.address()).await;
    client.send(HEADERS, WHOLE, 1, &bomb(12_000)).await;
    assert_eq!(client.next_of(&[GOAWAY]).await.code(), ENHANCE_YOUR_CALM);
    daemon.metric_becomes("http2_floods_total", &[("kind", "header_list")], 1.0).await;
    // Over the limit by less, it is refused by itself.
    let mut client = Frames::connect(daemon.address()).await;
    client.send(HEADERS, WHOLE, 1, &bomb(16)).await;
    let answer = client.next_of(&[HEADERS, GOAWAY]).await;
    assert_eq!(answer.kind, HEADERS, "{answer:?}");
    assert_eq!(backend.requests(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn stream_numbers_that_go_back_end_the_connection() {
    let (daemon, backend) = started("").await;
    let mut client = Frames::connect(daemon.address()).await;
    let head = request("GET", "/hang", &[]);
    client.send(HEADERS, WHOLE, 5, &head).await;
    client.send(HEADERS, WHOLE, 3, &head).await;
    assert_ne!(client.next_of(&[GOAWAY]).await.code(), 0);
    eventually("nothing runs", async || backend.running() == 0).await;
}

/// Closed in its time, and not much earlier.
async fn assert_closes_after(raw: &mut Raw, time: Duration) {
    let start = Instant::now();
    raw.read_to_close().await;
    assert!(start.elapsed() >= time / 2, "at once: {:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_head_that_does_not_end_is_cut_by_its_time_though_streams_run() {
    let (daemon, backend) = started("head_timeout = \"400ms\"").await;
    let head = request("GET", "/hang", &[]);
    let parts = [
        ("half a frame", frame(HEADERS, WHOLE, 3, &head)[..12].to_vec()),
        ("a frame that is not the last", frame(HEADERS, END_STREAM, 3, &head)),
    ];
    for (name, part) in parts {
        let mut client = Frames::connect(daemon.address()).await;
        client.send(HEADERS, WHOLE, 1, &head).await;
        eventually("a stream runs", async || backend.running() == 1).await;
        client.raw.send(part).await;
        within(name, assert_closes_after(&mut client.raw, Duration::from_millis(400))).await;
        eventually("nothing runs", async || backend.running() == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn half_a_preface_is_cut_by_the_time_of_a_head() {
    let (daemon, _backend) = started("head_timeout = \"300ms\"").await;
    let mut raw = Raw::connect(daemon.address()).await;
    raw.send("PRI * HTTP/2.0\r\n").await;
    assert_closes_after(&mut raw, Duration::from_millis(300)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_head_that_trickles_is_cut_by_its_time() {
    let (daemon, backend) = started("head_timeout = \"300ms\"").await;
    let mut raw = Raw::connect(daemon.address()).await;
    raw.send("GET / HTTP/1.1\r\nhost: svc\r\n").await;
    let start = Instant::now();
    while raw.try_send("x: y\r\n").await.is_ok() {
        assert!(start.elapsed() < Duration::from_secs(5), "each line gives it new time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(backend.requests(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_caller_that_gives_up_half_of_what_it_asks_for_is_served() {
    let (daemon, backend) = started("").await;
    let mut client = Frames::connect(daemon.address()).await;
    client.send(SETTINGS, ACK, 0, &[]).await;
    client.send(WINDOW_UPDATE, 0, 0, &[0x3f, 0, 0, 0]).await;
    let (hang, get) = (request("GET", "/hang", &[]), request("GET", "/", &[]));
    for round in 0..800u32 {
        let (first, second) = (4 * round + 1, 4 * round + 3);
        let piece = [
            frame(HEADERS, WHOLE, first, &hang),
            frame(RST_STREAM, 0, first, &8u32.to_be_bytes()),
            frame(PING, 0, 0, &[0; 8]),
            frame(HEADERS, WHOLE, second, &get),
        ];
        client.raw.send(piece.concat()).await;
        loop {
            let answer = client.next_of(&[HEADERS, GOAWAY]).await;
            assert_eq!(answer.kind, HEADERS, "round {round}: {answer:?}");
            if answer.stream == second {
                break;
            }
        }
    }
    daemon.metric_becomes("http2_floods_total", &[], 0.0).await;
    eventually("nothing runs", async || backend.running() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_caller_whose_uploads_are_refused_before_they_have_come_is_not_cut() {
    let (daemon, backend) = started("").await;
    let mut client = Frames::connect(daemon.address()).await;
    client.send(SETTINGS, ACK, 0, &[]).await;
    client.send(WINDOW_UPDATE, 0, 0, &[0x3f, 0, 0, 0]).await;
    let refused = request("POST", "/", &[("expect", "magic")]);
    for round in 0..8u32 {
        let streams: Vec<u32> = (0..100).map(|index| 2 * (100 * round + index) + 1).collect();
        let heads: Vec<u8> =
            streams.iter().flat_map(|stream| frame(HEADERS, END_HEADERS, *stream, &refused)).collect();
        client.raw.send(heads).await;
        let mut answered = 0;
        while answered < streams.len() {
            let answer = client.next_of(&[HEADERS, GOAWAY]).await;
            assert_eq!(answer.kind, HEADERS, "round {round}: {answer:?}");
            answered += 1;
        }
        // What was on its way.
        let late: Vec<u8> =
            streams.iter().flat_map(|stream| frame(DATA, 0, *stream, &[b'x'; 100]).repeat(4)).collect();
        client.raw.send(late).await;
    }
    client.send(HEADERS, WHOLE, 2001, &request("GET", "/", &[])).await;
    loop {
        let answer = client.next_of(&[HEADERS, GOAWAY]).await;
        assert_eq!(answer.kind, HEADERS, "{answer:?}");
        if answer.stream == 2001 {
            break;
        }
    }
    daemon.metric_becomes("http2_floods_total", &[], 0.0).await;
    assert_eq!(backend.requests(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_busy_caller_that_gives_up_a_third_is_not_cut() {
    let (daemon, backend) = started("").await;
    let client = Client::connect(daemon.address(), Speaks::Http2).await;
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..60 {
        let mut client = client.same_connection();
        all.spawn(async move {
            // In turn, so that however slow the machine is two are answered for each that is given up.
            for _ in 0..20 {
                assert_eq!(client.ask(get("svc", "/bytes?n=40000")).await.body.len(), 40_000);
                assert_eq!(client.ask(get("svc", "/")).await.status, 200);
                let hanging = client.try_send(get("svc", "/hang"));
                let gives_up = tokio::time::timeout(Duration::from_millis(5), hanging).await;
                assert!(gives_up.is_err(), "{gives_up:?}");
            }
        });
    }
    while let Some(done) = within("all of them", all.join_next()).await {
        done.unwrap();
    }
    eventually("nothing runs", async || backend.running() == 0).await;
    daemon.metric_becomes("http2_floods_total", &[], 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_is_compressed_passes_as_it_is() {
    let server = RawServer::start().await;
    let daemon = Daemon::start(&one_service("http1", &[server.address]));
    let mut client = Raw::connect(daemon.address()).await;
    client.send("GET / HTTP/1.1\r\nhost: svc\r\naccept-encoding: gzip\r\n\r\n").await;
    let mut upstream = server.accept().await;
    assert_eq!(upstream.read_head().await.field("accept-encoding"), "gzip");
    // What would be many megabytes if anybody unpacked it, or nothing: it is not even gzip.
    let body = b"\x1f\x8b\x08not really";
    let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", body.len());
    upstream.send([head.as_bytes(), body].concat()).await;
    let answer = client.read_response().await;
    assert_eq!(
        (answer.head.field("content-encoding"), answer.body.as_slice()),
        ("gzip".to_owned(), &body[..])
    );
}
