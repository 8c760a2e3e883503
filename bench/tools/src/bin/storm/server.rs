//! Endpoints that fail as they are told: a thread for each connection.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU8, AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::load::below;

/// How often a thread that waits looks what it is told.
const LOOK: Duration = Duration::from_millis(50);
/// Connections are many, and need little.
const STACK: usize = 64 * 1024;

/// What an endpoint does.
#[derive(Clone, Copy, PartialEq)]
#[repr(u8)]
pub enum Does {
    /// Answers.
    Serve,
    /// Answers with 503.
    Fail,
    /// Listens no more, and has closed its connections.
    Refuse,
    /// Answers, and closes each connection that is idle for up to 2 ms, by chance.
    CloseIdle,
    /// Answers after its work, for which it has so many hands.
    Work,
}

/// A server on one address; it runs to the end of the process.
pub struct Endpoint {
    state: Arc<State>,
}

struct State {
    address: SocketAddr,
    does: AtomicU8,
    requests: AtomicU64,
    hands: Mutex<usize>,
    free: Condvar,
}

/// Of one endpoint that works.
pub const HANDS: usize = 4;
/// Of one request.
pub const WORK: Duration = Duration::from_millis(10);

impl Endpoint {
    /// The first `count` of them.
    pub fn several(count: u8, port: u16, does: Does) -> Vec<Self> {
        (1..=count).map(|number| Self::start((Ipv4Addr::new(127, 0, 1, number), port).into(), does)).collect()
    }

    fn start(address: SocketAddr, does: Does) -> Self {
        let state = Arc::new(State {
            address,
            does: AtomicU8::new(does as u8),
            requests: AtomicU64::new(0),
            hands: Mutex::new(HANDS),
            free: Condvar::new(),
        });
        let listener = TcpListener::bind(address).unwrap_or_else(|error| panic!("{address}: {error}"));
        let listening = state.clone();
        thread::spawn(move || listen(&listening, listener));
        Self { state }
    }

    pub fn does(&self, does: Does) {
        self.state.does.store(does as u8, SeqCst);
    }

    /// Requests that it has read.
    pub fn requests(&self) -> u64 {
        self.state.requests.load(SeqCst)
    }
}

impl State {
    fn is(&self, does: Does) -> bool {
        self.does.load(SeqCst) == does as u8
    }
}

/// Accepts, but for the times when it is told to refuse.
fn listen(state: &Arc<State>, first: TcpListener) {
    let mut listener = Some(first);
    loop {
        if state.is(Does::Refuse) {
            listener = None;
            thread::sleep(Duration::from_millis(5));
        } else if let Some(open) = &listener {
            if readable(open, LOOK / 10)
                && let Ok((stream, _)) = open.accept()
            {
                let state = state.clone();
                let _ = thread::Builder::new().stack_size(STACK).spawn(move || serve(&state, stream));
            }
        } else {
            listener = TcpListener::bind(state.address).ok();
        }
    }
}

/// One connection. That it goes away, on either side, is its end and nothing more.
fn serve(state: &State, mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let mut buffer = [0; 4096];
    let mut filled = 0;
    let mut served = false;
    loop {
        let racing = served && state.is(Does::CloseIdle);
        let patience = if racing { Duration::from_micros(below(2000)) } else { LOOK };
        if !readable(&stream, patience) {
            match racing || state.is(Does::Refuse) {
                true => return,
                false => continue,
            }
        }
        match stream.read(&mut buffer[filled..]) {
            Ok(size) if size > 0 => filled += size,
            _ => return,
        }
        if !buffer[..filled].ends_with(b"\r\n\r\n") {
            continue;
        }
        (filled, served) = (0, true);
        state.requests.fetch_add(1, SeqCst);
        if answer(state, &mut stream).is_none() {
            return;
        }
    }
}

fn answer(state: &State, stream: &mut TcpStream) -> Option<()> {
    if state.is(Does::Refuse) {
        return None;
    }
    if state.is(Does::Work) {
        work(state);
    }
    let text: &[u8] = match state.is(Does::Fail) {
        true => b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\nno",
        false => b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    };
    stream.write_all(text).ok()
}

/// Waits for a hand, and keeps it as long as the work takes.
fn work(state: &State) {
    let mut hands = state.hands.lock().expect("nobody panics with it");
    while *hands == 0 {
        hands = state.free.wait(hands).expect("nobody panics with it");
    }
    *hands -= 1;
    drop(hands);
    thread::sleep(WORK);
    *state.hands.lock().expect("nobody panics with it") += 1;
    state.free.notify_one();
}

fn readable(socket: &impl std::os::fd::AsFd, patience: Duration) -> bool {
    let wait = Timespec { tv_sec: 0, tv_nsec: i64::from(patience.subsec_nanos()) };
    let mut sockets = [PollFd::new(socket, PollFlags::IN)];
    matches!(poll(&mut sockets, Some(&wait)), Ok(ready) if ready > 0)
}
