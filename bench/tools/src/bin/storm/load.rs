//! Callers, each a thread with a connection of its own, and what became of their requests.

use std::{
    cell::Cell,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

/// A caller that has waited for so long counts its request as failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// What callers do.
#[derive(Clone, Copy)]
pub struct Load<'a> {
    pub proxy: SocketAddr,
    pub method: &'a str,
    /// The service that is meant.
    pub host: &'a str,
    pub callers: usize,
    pub pace: Pace,
    pub end: End,
}

/// When a caller's next request goes out.
#[derive(Clone, Copy)]
pub enum Pace {
    /// After up to so many microseconds since the last answer, by chance.
    Pause(u64),
    /// All callers together send so many a second, whatever the answers do.
    Rate(f64),
}

#[derive(Clone, Copy)]
pub enum End {
    /// So many requests in all.
    Requests(usize),
    /// No request begins after this time.
    After(Duration),
}

/// A request, and its end.
#[derive(Clone, Copy)]
pub struct Sample {
    /// Since the load began.
    pub begun: Duration,
    pub took: Duration,
    /// 0 when there was no answer.
    pub status: u16,
}

impl Sample {
    pub fn is_good(&self) -> bool {
        self.status == 200
    }

    pub fn ended(&self) -> Duration {
        self.begun + self.took
    }
}

/// Runs the load to its end, on the way calling `meanwhile` with the moment when it began.
pub fn run(load: &Load<'_>, meanwhile: impl FnOnce(Instant)) -> Vec<Sample> {
    let start = Instant::now();
    thread::scope(|scope| {
        let callers: Vec<_> = (0..load.callers).map(|number| scope.spawn(move || call(load, number, start))).collect();
        meanwhile(start);
        callers.into_iter().flat_map(|caller| caller.join().expect("callers do not panic")).collect()
    })
}

/// One caller.
fn call(load: &Load<'_>, number: usize, start: Instant) -> Vec<Sample> {
    let (mut samples, mut connection) = (Vec::new(), None);
    for turn in 0.. {
        match load.pace {
            Pace::Pause(0) => {}
            Pace::Pause(most) => thread::sleep(Duration::from_micros(below(most))),
            Pace::Rate(rate) => {
                let due = Duration::from_secs_f64((turn * load.callers + number) as f64 / rate);
                thread::sleep(due.saturating_sub(start.elapsed()));
            }
        }
        let begun = start.elapsed();
        let over = match load.end {
            End::Requests(all) => turn >= all / load.callers,
            End::After(time) => begun >= time,
        };
        if over {
            break;
        }
        let status = ask(load, &mut connection).unwrap_or(0);
        samples.push(Sample { begun, took: start.elapsed() - begun, status });
    }
    samples
}

/// One request; the connection is kept when it can carry another.
fn ask(load: &Load<'_>, connection: &mut Option<TcpStream>) -> io::Result<u16> {
    let mut stream = match connection.take() {
        Some(open) => open,
        None => connect(load.proxy)?,
    };
    let length = if load.method == "GET" { "" } else { "content-length: 0\r\n" };
    write!(&stream, "{} / HTTP/1.1\r\nhost: {}\r\n{length}\r\n", load.method, load.host)?;
    let (status, keeps) = read_answer(&mut stream, &mut String::new())?;
    *connection = keeps.then_some(stream);
    Ok(status)
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// The status, and whether the connection stays. The body is added to `text`.
fn read_answer(stream: &mut TcpStream, text: &mut String) -> io::Result<(u16, bool)> {
    let mut bytes = Vec::with_capacity(1024);
    let mut buffer = [0; 16 * 1024];
    let mut expected = usize::MAX;
    let (mut status, mut keeps, mut head_ends) = (0, true, 0);
    while bytes.len() < expected {
        let size = stream.read(&mut buffer)?;
        if size == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&buffer[..size]);
        if expected == usize::MAX
            && let Some(at) = bytes.windows(4).position(|end| end == b"\r\n\r\n")
        {
            let head = String::from_utf8_lossy(&bytes[..at]).to_ascii_lowercase();
            status = head.get(9..12).and_then(|code| code.parse().ok()).unwrap_or(0);
            keeps = !head.contains("connection: close");
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            head_ends = at + 4;
            expected = head_ends + length.and_then(|length| length.parse().ok()).unwrap_or(0);
        }
    }
    text.push_str(&String::from_utf8_lossy(&bytes[head_ends..]));
    Ok((status, keeps))
}

/// The sum of the series of `towpath_<name>` that carry this text; nothing counts as 0.
pub fn metric(admin: SocketAddr, name: &str, carries: &str) -> f64 {
    let page = page_of_metrics(admin).unwrap_or_else(|error| panic!("metrics: {error}"));
    page.lines()
        .filter(|line| line.strip_prefix("towpath_").is_some_and(|line| line.starts_with(name)) && line.contains(carries))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

fn page_of_metrics(admin: SocketAddr) -> io::Result<String> {
    let mut stream = connect(admin)?;
    write!(&stream, "GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n")?;
    let mut page = String::new();
    read_answer(&mut stream, &mut page)?;
    Ok(page)
}

/// A number below `bound`, by chance (xorshift64*).
pub fn below(bound: u64) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    thread_local!(static STATE: Cell<u64> = Cell::new(RandomState::new().hash_one(0) | 1));
    STATE.with(|state| {
        let mut x = state.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        state.set(x);
        (x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound.max(1)
    })
}
