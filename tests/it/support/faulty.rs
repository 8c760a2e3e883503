//! Servers that fail on purpose, on real sockets: what they do can be changed while they run, and they count what they saw.
//!
//! [`Faulty`] speaks HTTP/1.1, [`Faulty2`] HTTP/2 by its frames. Neither looks at what it is asked.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use socket2::{Domain, Socket, Type};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::timeout};

use super::{
    Raw, eventually,
    frames::{DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, RST_STREAM},
};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Longer than any test.
const FOR_EVER: Duration = Duration::from_secs(3600);

/// What an HTTP/1.1 server does with a request that it has read, and with its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Answers `200` and `ok`.
    None,
    /// Answers with this status.
    Status(u16),
    /// Accepts, reads, and never answers.
    Silent,
    /// Resets the connection before a byte of the answer.
    ResetBeforeHead,
    /// Sends half a head, and resets.
    ResetInHead,
    /// Sends the head and half of the body, and resets.
    ResetInBody,
    /// So long before the first byte.
    SlowHead(Duration),
    /// So long between the bytes of the body.
    SlowBody(Duration),
    /// Closes before the body is as long as its `content-length` says.
    ShortLength,
    /// Closes before the last chunk.
    ShortChunks,
    /// Answers well, and ends its sending half without having said so; goes on reading.
    HalfCloses,
    /// Answers well, and closes a connection that has been idle for up to 2 ms, by chance.
    ClosesIdle,
}

/// A server of HTTP/1.1; it ends with its connections when this is dropped.
pub struct Faulty {
    pub address: SocketAddr,
    seen: Arc<Seen>,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

/// What is told to a server, and what it has seen.
struct Seen {
    fault: watch::Sender<Fault>,
    /// Whose head came to its end.
    requests: AtomicU64,
    connections: AtomicU64,
    /// That are open.
    tasks: Mutex<tokio::task::JoinSet<()>>,
}

impl Faulty {
    pub async fn start(fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen {
            fault: watch::Sender::new(fault),
            requests: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            tasks: Mutex::default(),
        });
        let accepting = Mutex::new(Some(tokio::spawn(accept(listener, seen.clone()))));
        Self { address, seen, accepting }
    }

    /// So many, all with the same fault.
    pub async fn several(count: usize, fault: Fault) -> Vec<Self> {
        let mut servers = Vec::new();
        for _ in 0..count {
            servers.push(Self::start(fault).await);
        }
        servers
    }

    /// From the next request on.
    pub fn does(&self, fault: Fault) {
        self.seen.fault.send_replace(fault);
    }

    /// Requests that it has read the head of.
    pub fn requests(&self) -> u64 {
        self.seen.requests.load(Ordering::SeqCst)
    }

    /// Connections that it has accepted.
    pub fn connections(&self) -> u64 {
        self.seen.connections.load(Ordering::SeqCst)
    }

    /// Ends every connection and listens no more: whoever connects is refused.
    pub async fn refuses(&self) {
        let accepting = self.accepting.lock().unwrap().take();
        if let Some(accepting) = accepting {
            accepting.abort();
            let _ = accepting.await; // the listener is closed by then
        }
        self.seen.tasks.lock().unwrap().abort_all();
    }

    /// Listens again, after [`Self::refuses`].
    pub async fn listens(&self) {
        let mut listener = None;
        eventually("the address is free again", async || {
            listener = TcpListener::bind(self.address).await.ok();
            listener.is_some()
        })
        .await;
        let accepting = tokio::spawn(accept(listener.expect("it is bound"), self.seen.clone()));
        *self.accepting.lock().unwrap() = Some(accepting);
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        if let Some(accepting) = self.accepting.lock().unwrap().take() {
            accepting.abort();
        }
        // A task that holds the set holds itself: what it waits for ends it.
        self.seen.tasks.lock().unwrap().abort_all();
    }
}

async fn accept(listener: TcpListener, seen: Arc<Seen>) {
    while let Ok((stream, _)) = listener.accept().await {
        seen.connections.fetch_add(1, Ordering::SeqCst);
        let mut tasks = seen.tasks.lock().unwrap();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(serve(Raw::over(stream), seen.clone()));
    }
}

/// One connection, until a fault ends it.
async fn serve(mut connection: Raw, seen: Arc<Seen>) {
    let mut patience = FOR_EVER;
    while timeout(patience, connection.skip_past("\r\n\r\n")).await == Ok(true) {
        seen.requests.fetch_add(1, Ordering::SeqCst);
        let fault = *seen.fault.borrow();
        let Some(open) = answer(connection, fault).await else { return };
        connection = open;
        patience = if fault == Fault::ClosesIdle { Duration::from_millis(below(3)) } else { FOR_EVER };
    }
}

/// A number below `bound`, by chance.
pub fn below(bound: u64) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(bound) % bound
}

/// Hands the connection back when it goes on.
async fn answer(mut connection: Raw, fault: Fault) -> Option<Raw> {
    match fault {
        Fault::None | Fault::ClosesIdle => connection.try_send(OK).await.ok()?,
        Fault::Status(status) => {
            let head = format!("HTTP/1.1 {status} As Asked\r\ncontent-length: 0\r\n\r\n");
            connection.try_send(head).await.ok()?;
        }
        Fault::Silent => {
            connection.skip_past("what nobody sends").await;
            return None;
        }
        Fault::ResetBeforeHead => return broken(connection, "").await,
        Fault::ResetInHead => return broken(connection, "HTTP/1.1 200 OK\r\ncontent-").await,
        Fault::ResetInBody => {
            return broken(connection, "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
        }
        Fault::SlowHead(wait) => {
            tokio::time::sleep(wait).await;
            connection.try_send(OK).await.ok()?;
        }
        Fault::SlowBody(wait) => {
            connection.try_send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n").await.ok()?;
            for byte in ["o", "k"] {
                tokio::time::sleep(wait).await;
                connection.try_send(byte).await.ok()?;
            }
        }
        Fault::ShortLength => {
            let _ = connection.try_send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
            return None;
        }
        Fault::ShortChunks => {
            let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n";
            let _ = connection.try_send(chunked).await;
            return None;
        }
        Fault::HalfCloses => {
            connection.try_send(OK).await.ok()?;
            connection.finish().await;
        }
    }
    Some(connection)
}

/// Sends this much, and resets. What was sent would be lost with the reset if both came at once.
async fn broken(mut connection: Raw, part: &str) -> Option<Raw> {
    if !part.is_empty() && connection.try_send(part).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    connection.reset();
    None
}

/// What an HTTP/2 server does with a request whose head it has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault2 {
    /// Answers `200` without a body.
    None,
    /// Never answers.
    Silent,
    /// REFUSED_STREAM.
    Refuses,
    /// RST_STREAM with INTERNAL_ERROR, before the head.
    ResetsStream,
    /// The head and half of a body, then RST_STREAM.
    ResetsInBody,
    /// GOAWAY that excludes the request (its last id is 0), and the end of the connection.
    LeavesAtOnce,
    /// GOAWAY that includes the request, in the middle of its answer, which goes on to its end.
    LeavesInBody,
    /// GOAWAY that includes the request, and the end of the connection without an answer.
    LeavesUnanswered,
}

/// A server of HTTP/2.
pub struct Faulty2 {
    pub address: SocketAddr,
    fault: Arc<Mutex<Fault2>>,
    requests: Arc<AtomicU64>,
    accepting: JoinHandle<()>,
}

impl Faulty2 {
    pub async fn start(fault: Fault2) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (fault, requests) = (Arc::new(Mutex::new(fault)), Arc::<AtomicU64>::default());
        let (faults, count) = (fault.clone(), requests.clone());
        let accepting = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve2(Raw::over(stream), faults.clone(), count.clone()));
            }
        });
        Self { address, fault, requests, accepting }
    }

    /// From the next request on.
    pub fn does(&self, fault: Fault2) {
        *self.fault.lock().unwrap() = fault;
    }

    /// Requests that it has read the head of.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Faulty2 {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve2(raw: Raw, faults: Arc<Mutex<Fault2>>, requests: Arc<AtomicU64>) {
    let mut connection = Frames::serve(raw).await;
    while let Some(frame) = connection.try_next().await {
        if frame.kind != HEADERS {
            continue;
        }
        requests.fetch_add(1, Ordering::SeqCst);
        let fault = *faults.lock().unwrap();
        if answer2(&mut connection, frame.stream, fault).await == Then::Closes {
            // Closing with bytes unread would reset, and the reset could overtake the GOAWAY.
            connection.raw.finish().await;
            while connection.try_next().await.is_some() {}
            return;
        }
    }
}

#[derive(PartialEq)]
enum Then {
    GoesOn,
    Closes,
}

/// `:status: 200`.
const HEAD: &[u8] = &[0x88];
const NO_ERROR: u32 = 0;
const INTERNAL_ERROR: u32 = 2;
const REFUSED_STREAM: u32 = 7;

async fn answer2(connection: &mut Frames, stream: u32, fault: Fault2) -> Then {
    let reset = |code: u32| code.to_be_bytes();
    match fault {
        Fault2::None => connection.send(HEADERS, END_STREAM | END_HEADERS, stream, HEAD).await,
        Fault2::Silent => {}
        Fault2::Refuses => connection.send(RST_STREAM, 0, stream, &reset(REFUSED_STREAM)).await,
        Fault2::ResetsStream => connection.send(RST_STREAM, 0, stream, &reset(INTERNAL_ERROR)).await,
        Fault2::ResetsInBody => {
            connection.send(HEADERS, END_HEADERS, stream, HEAD).await;
            connection.send(DATA, 0, stream, b"half").await;
            connection.send(RST_STREAM, 0, stream, &reset(INTERNAL_ERROR)).await;
        }
        Fault2::LeavesAtOnce => {
            connection.send(GOAWAY, 0, 0, &goaway(0)).await;
            return Then::Closes;
        }
        Fault2::LeavesInBody => {
            connection.send(HEADERS, END_HEADERS, stream, HEAD).await;
            connection.send(DATA, 0, stream, b"half").await;
            connection.send(GOAWAY, 0, 0, &goaway(stream)).await;
            connection.send(DATA, END_STREAM, stream, b"whole").await;
        }
        Fault2::LeavesUnanswered => {
            connection.send(GOAWAY, 0, 0, &goaway(stream)).await;
            return Then::Closes;
        }
    }
    Then::GoesOn
}

fn goaway(last: u32) -> Vec<u8> {
    [last.to_be_bytes(), NO_ERROR.to_be_bytes()].concat()
}

/// An address from which nothing comes back, not even to say that nobody listens: a listener whose queue is full, so that the
/// kernel drops the SYN of whoever else connects.
pub struct BlackHole {
    pub address: SocketAddr,
    _listener: Socket,
    _fills_the_queue: std::net::TcpStream,
}

impl BlackHole {
    pub fn open() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let first = std::net::TcpStream::connect(address).unwrap();
        Self { address, _listener: listener, _fills_the_queue: first }
    }
}
