//! An open-loop HTTP/1.1 client: requests are due at a fixed rate, whatever the answers do.
//!
//! `openloop --requests FILE --rate N --seconds N --connections N --out FILE`
//!
//! A line of the requests file is `ADDRESS:PORT HOST PATH`; requests take the lines in turn. Every address has its own
//! connections. Latency counts from the moment a request was due, not from when it could be sent: a stall delays, and is
//! charged to, all requests that fell due in it (no coordinated omission). The out file has two little-endian
//! u32 for each request: microseconds from the start to when it was due, and its latency in microseconds (`u32::MAX`: failed).
//! A connection that the server closed while it was idle is opened again and is no failure.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU64;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};

const FAILED: u32 = u32::MAX;
/// How long answers may take after the last request was due.
const PATIENCE: Duration = Duration::from_secs(5);

struct Options {
    requests: String,
    out: String,
    rate: u64,
    seconds: u64,
    connections: usize,
}

/// Which target, and the bytes to send.
type Line = (usize, Vec<u8>);

struct Connection {
    stream: TcpStream,
    target: usize,
    /// The number of the request that runs here.
    running: Option<usize>,
    received: Vec<u8>,
}

struct Target {
    address: SocketAddr,
    idle: Vec<usize>,
    due: VecDeque<usize>,
}

struct Client {
    epoll: rustix::fd::OwnedFd,
    started: Instant,
    interval_ns: u64,
    /// Taken in turn.
    lines: Vec<Line>,
    targets: Vec<Target>,
    connections: Vec<Connection>,
    latencies: Vec<u32>,
    /// How late requests were sent that found an idle connection: the client's own delay.
    lag: Vec<u32>,
    finished: usize,
    failed: usize,
}

fn options() -> Option<Options> {
    let mut given = std::collections::HashMap::new();
    let mut arguments = std::env::args().skip(1);
    while let (Some(name), Some(value)) = (arguments.next(), arguments.next()) {
        given.insert(name, value);
    }
    Some(Options {
        requests: given.remove("--requests")?,
        out: given.remove("--out")?,
        rate: given.remove("--rate")?.parse().ok().filter(|rate| *rate > 0)?,
        seconds: given.remove("--seconds")?.parse().ok()?,
        connections: given.remove("--connections")?.parse().ok().filter(|count| *count > 0)?,
    })
}

fn main() -> ExitCode {
    let Some(options) = options() else {
        eprintln!("usage: openloop --requests FILE --rate N --seconds N --connections N --out FILE");
        return ExitCode::from(2);
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("openloop: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> io::Result<()> {
    // 50 us is the default, of the order of what is measured.
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
    let (targets, lines) = read_requests(&options.requests)?;
    let total = usize::try_from(options.rate * options.seconds).map_err(io::Error::other)?;
    let mut client = Client {
        epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
        started: Instant::now(),
        interval_ns: 1_000_000_000 / options.rate,
        lines,
        targets,
        connections: Vec::new(),
        latencies: vec![FAILED; total],
        lag: Vec::with_capacity(total),
        finished: 0,
        failed: 0,
    };
    client.connect(options.connections)?;
    client.work(total)?;
    fs::write(&options.out, client.records())?;
    client.lag.sort_unstable();
    let lag = client.lag.get(client.lag.len() * 99 / 100).copied().unwrap_or(0);
    let failed = client.failed + (total - client.finished);
    println!("requests {total} failed {failed} lag_p99_us {lag}");
    Ok(())
}

fn read_requests(path: &str) -> io::Result<(Vec<Target>, Vec<Line>)> {
    let (mut targets, mut lines) = (Vec::<Target>::new(), Vec::new());
    for line in fs::read_to_string(path)?.lines() {
        let [address, host, path] = line.split(' ').collect::<Vec<_>>()[..] else {
            return Err(io::Error::other(format!("not ADDRESS:PORT HOST PATH: {line}")));
        };
        let address = address.parse().map_err(io::Error::other)?;
        let target = targets.iter().position(|target| target.address == address).unwrap_or_else(|| {
            targets.push(Target { address, idle: Vec::new(), due: VecDeque::new() });
            targets.len() - 1
        });
        lines.push((target, format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n").into_bytes()));
    }
    if lines.is_empty() { Err(io::Error::other("no requests")) } else { Ok((targets, lines)) }
}

impl Client {
    /// Opens `each` connections to each target.
    fn connect(&mut self, each: usize) -> io::Result<()> {
        for target in 0..self.targets.len() {
            for _ in 0..each {
                let number = self.connections.len();
                let stream = self.open(target, number)?;
                self.connections.push(Connection { stream, target, running: None, received: Vec::new() });
                self.targets[target].idle.push(number);
            }
        }
        Ok(())
    }

    fn open(&self, target: usize, number: usize) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(self.targets[target].address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let data = epoll::EventData::new_u64(number as u64);
        epoll::add(&self.epoll, &stream, data, epoll::EventFlags::IN)?;
        Ok(stream)
    }

    fn work(&mut self, total: usize) -> io::Result<()> {
        self.started = Instant::now();
        let end = Duration::from_nanos(self.interval_ns * total as u64) + PATIENCE;
        let (mut next, mut events) = (0, Vec::with_capacity(1024));
        while self.finished < total && self.started.elapsed() < end {
            let now = self.started.elapsed();
            while next < total && self.due(next) <= now {
                let target = self.lines[next % self.lines.len()].0;
                self.targets[target].due.push_back(next);
                self.dispatch(target)?;
                next += 1;
            }
            let wake = if next < total { self.due(next) } else { end };
            let wait = wake.saturating_sub(self.started.elapsed());
            let wait = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&wait)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for number in events.iter().map(|event| event.data.u64() as usize) {
                self.readable(number)?;
            }
        }
        Ok(())
    }

    fn due(&self, request: usize) -> Duration {
        Duration::from_nanos(self.interval_ns * request as u64)
    }

    /// Sends what is due at this target as long as a connection is idle.
    fn dispatch(&mut self, target: usize) -> io::Result<()> {
        while !self.targets[target].due.is_empty() {
            let Some(number) = self.targets[target].idle.pop() else { return Ok(()) };
            let Some(request) = self.targets[target].due.pop_front() else { return Ok(()) };
            let late = self.started.elapsed().saturating_sub(self.due(request));
            self.lag.push(micros(late));
            let bytes = &self.lines[request % self.lines.len()].1;
            self.connections[number].running = Some(request);
            // A request is smaller than a socket's buffer: it is taken whole, or the connection is broken.
            if self.connections[number].stream.write(bytes).ok() != Some(bytes.len()) {
                self.reopen(number)?;
            }
        }
        Ok(())
    }

    fn readable(&mut self, number: usize) -> io::Result<()> {
        let connection = &mut self.connections[number];
        let mut chunk = [0; 4096];
        match connection.stream.read(&mut chunk) {
            Ok(0) => return self.reopen(number),
            Ok(length) => connection.received.extend_from_slice(&chunk[..length]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(_) => return self.reopen(number),
        }
        match answer(&connection.received) {
            Answer::Incomplete => Ok(()),
            Answer::Whole { good, closes } => {
                connection.received.clear();
                self.finish(number, good);
                if closes { self.reopen(number) } else { self.release(number) }
            }
            Answer::Broken => self.reopen(number),
        }
    }

    fn finish(&mut self, number: usize, good: bool) {
        let Some(request) = self.connections[number].running.take() else { return };
        self.finished += 1;
        self.failed += usize::from(!good);
        if good {
            let latency = self.started.elapsed().saturating_sub(self.due(request));
            self.latencies[request] = micros(latency);
        }
    }

    fn release(&mut self, number: usize) -> io::Result<()> {
        let target = self.connections[number].target;
        self.targets[target].idle.push(number);
        self.dispatch(target)
    }

    /// A new connection in the place of one that is over; a request that ran on it has failed.
    fn reopen(&mut self, number: usize) -> io::Result<()> {
        self.finish(number, false);
        let target = self.connections[number].target;
        self.targets[target].idle.retain(|idle| *idle != number);
        self.connections[number].received.clear();
        self.connections[number].stream = self.open(target, number)?;
        self.release(number)
    }

    fn records(&self) -> Vec<u8> {
        let pairs = self.latencies.iter().enumerate();
        pairs
            .flat_map(|(request, latency)| [micros(self.due(request)), *latency])
            .flat_map(u32::to_le_bytes)
            .collect()
    }
}

fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(FAILED - 1)
}

enum Answer {
    Incomplete,
    Whole { good: bool, closes: bool },
    Broken,
}

/// The answer at the start of these bytes; its length must stand in `content-length`, as the backend writes it.
fn answer(received: &[u8]) -> Answer {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut fields);
    let Ok(status) = head.parse(received) else { return Answer::Broken };
    let httparse::Status::Complete(start) = status else { return Answer::Incomplete };
    let value =
        |name: &str| head.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name)).map(|f| f.value);
    let length =
        value("content-length").and_then(|value| std::str::from_utf8(value).ok()?.parse::<usize>().ok());
    let Some(length) = length else { return Answer::Broken };
    if received.len() < start + length {
        return Answer::Incomplete;
    }
    let closes = value("connection").is_some_and(|value| value.eq_ignore_ascii_case(b"close"));
    Answer::Whole { good: head.code == Some(200), closes }
}
