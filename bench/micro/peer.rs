//! The other side of the request cases: one caller and five endpoints, as a process of its own, which is not counted.
//!
//! Caller and endpoints wait for each message, so that one request is on its way at any time and the proxy finds the
//! same state at each step. What they say over HTTP/2 is in `peer_http2.rs`.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStdin, Command, Stdio},
    thread,
};

use super::peer_http2;

const ENDPOINTS: usize = 5;
/// Of a POST.
pub const BODY: usize = 1024;
/// What endpoints answer with.
pub const ANSWER: &[u8] = br#"{"id":17,"title":"towpath","stars":5,"text":"one process per node"}"#;

/// What is asked, over which protocol on both sides.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// HTTP/1.1, no body.
    Get,
    /// The same, by a route and to a service that use all of resilience, which has nothing to do.
    Guarded,
    /// HTTP/1.1, no body, and each request has a line in an access log.
    Logged,
    /// HTTP/1.1, no body, and one in a hundred requests has spans for a collector that nobody runs.
    Traced,
    /// HTTP/1.1, 1 KiB of body.
    Post,
    /// HTTP/2, no body.
    Http2,
}

impl Load {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Get, Self::Guarded, Self::Logged, Self::Traced, Self::Post, Self::Http2];

    /// On the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "http1-get",
            Self::Guarded => "http1-get-guarded",
            Self::Logged => "http1-get-logged",
            Self::Traced => "http1-get-traced",
            Self::Post => "http1-post-1KiB",
            Self::Http2 => "http2-get",
        }
    }

    /// Whether both sides speak HTTP/2.
    pub fn is_http2(self) -> bool {
        self == Self::Http2
    }
}

/// The running process.
pub struct Peer {
    /// What it was started with.
    pub load: Load,
    /// Where its endpoints listen.
    pub endpoints: Vec<String>,
    process: Child,
    orders: ChildStdin,
}

impl Peer {
    /// Starts it; its caller will make `requests` requests.
    pub fn start(load: Load, requests: u64) -> Self {
        let program = std::env::current_exe().expect("the program is a file");
        let mut command = Command::new(program);
        command.args(["--peer", load.name(), &requests.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("the peer can be started");
        let orders = process.stdin.take().expect("it is piped");
        let mut line = String::new();
        let output = process.stdout.take().expect("it is piped");
        BufReader::new(output).read_line(&mut line).expect("the peer says where it listens");
        let endpoints = line.split_whitespace().map(ToOwned::to_owned).collect();
        Self { load, endpoints, process, orders }
    }

    /// Lets its caller connect.
    pub fn connect_to(&mut self, address: &str) {
        writeln!(self.orders, "{address}").expect("the peer takes orders");
    }

    /// Lets its caller begin.
    pub fn go(&mut self) {
        writeln!(self.orders, "go").expect("the peer takes orders");
    }

    /// Waits for its end, which must be a good one.
    pub fn join(mut self) {
        let status = self.process.wait().expect("the peer was started");
        assert!(status.success(), "the peer failed: {status}");
    }
}

/// The process itself.
pub fn run(load: Load, requests: u64) {
    let listeners: Vec<TcpListener> =
        (0..ENDPOINTS).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port is free")).collect();
    let addresses = listeners.iter().map(|listener| listener.local_addr().expect("it is bound").to_string());
    println!("{}", addresses.collect::<Vec<_>>().join(" "));
    let mut orders = std::io::stdin().lines().map(|line| line.expect("the proxy gives orders"));
    if load.is_http2() {
        return peer_http2::run(listeners, orders, requests);
    }
    for listener in listeners {
        thread::spawn(move || {
            listener.incoming().flatten().for_each(|stream| drop(thread::spawn(|| answer(stream))))
        });
    }
    let stream = TcpStream::connect(orders.next().expect("an address")).expect("the proxy listens");
    orders.next().expect("the word to go");
    ask(stream, load, requests);
}

fn ask(mut stream: TcpStream, load: Load, requests: u64) {
    stream.set_nodelay(true).expect("it is a TCP socket");
    let request = request(load);
    let mut buffer = Vec::new();
    for _ in 0..requests {
        stream.write_all(&request).expect("the proxy reads");
        assert!(read_message(&mut stream, &mut buffer), "the proxy answers");
        assert!(buffer.starts_with(b"HTTP/1.1 200 ") && buffer.ends_with(ANSWER), "the endpoint's answer");
    }
}

fn request(load: Load) -> Vec<u8> {
    let fields =
        "host: reviews\r\nuser-agent: micro/1\r\naccept: application/json\r\naccept-encoding: gzip\r\n";
    match load {
        Load::Post => {
            let head = format!("POST /v2/items HTTP/1.1\r\n{fields}content-length: {BODY}\r\n\r\n");
            [head.into_bytes(), vec![b'x'; BODY]].concat()
        }
        Load::Get | Load::Guarded | Load::Logged | Load::Traced | Load::Http2 => {
            format!("GET /v2/items/17 HTTP/1.1\r\n{fields}\r\n").into_bytes()
        }
    }
}

fn answer(mut stream: TcpStream) {
    stream.set_nodelay(true).expect("it is a TCP socket");
    let head = format!(
        "HTTP/1.1 200 OK\r\nserver: micro\r\ndate: Fri, 20 Nov 2026 12:00:00 GMT\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        ANSWER.len()
    );
    let response = [head.as_bytes(), ANSWER].concat();
    let mut buffer = Vec::new();
    while read_message(&mut stream, &mut buffer) && stream.write_all(&response).is_ok() {}
}

/// Reads one message, which is all that is on its way; false at the end of the stream.
fn read_message(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> bool {
    let mut piece = [0; 4096];
    buffer.clear();
    while !is_whole(buffer) {
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => return false,
            Ok(length) => buffer.extend_from_slice(&piece[..length]),
        }
    }
    true
}

fn is_whole(message: &[u8]) -> bool {
    let text = String::from_utf8_lossy(message);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    body.len() == length.unwrap_or(0)
}
