//! An HTTP/1.1 server that keeps what it got, byte for byte, and trusts nobody: each connection's bytes must be requests to a
//! strict reader, one behind the other.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::task::{JoinHandle, JoinSet};

use super::strict::{self, Message, Read};
use crate::support::{Raw, RawServer};

/// The server.
pub struct Recorder {
    pub address: SocketAddr,
    log: Arc<Mutex<Log>>,
    serving: JoinHandle<()>,
}

#[derive(Default)]
struct Log {
    heard: Vec<Heard>,
    /// What each connection holds that is no whole request yet.
    parts: Vec<Vec<u8>>,
}

/// What came on a connection.
#[derive(Clone, Debug)]
pub enum Heard {
    /// A request.
    Whole(Message, Vec<u8>),
    /// What may become one.
    Part(Vec<u8>),
    /// What no strict reader takes.
    Wrong(String, Vec<u8>),
}

impl Heard {
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Whole(_, bytes) | Self::Part(bytes) | Self::Wrong(_, bytes) => bytes,
        }
    }
}

impl Recorder {
    pub async fn start() -> Self {
        let server = RawServer::start().await;
        let log = Arc::<Mutex<Log>>::default();
        let (address, shared) = (server.address, log.clone());
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok(connection) = server.try_accept().await {
                connections.spawn(serve(connection, shared.clone()));
            }
        });
        Self { address, log, serving }
    }

    /// All that has come so far.
    pub fn heard(&self) -> Vec<Heard> {
        let log = self.log.lock().unwrap();
        let parts = log.parts.iter().filter(|part| !part.is_empty());
        log.heard.iter().cloned().chain(parts.cloned().map(Heard::Part)).collect()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(mut connection: Raw, log: Arc<Mutex<Log>>) {
    let number = {
        let parts = &mut log.lock().unwrap().parts;
        parts.push(Vec::new());
        parts.len() - 1
    };
    let (mut bytes, mut continued) = (Vec::new(), false);
    loop {
        match strict::request(&bytes) {
            Ok(Read::Whole(request, length)) => {
                let rest = bytes.split_off(length);
                check_with_httparse(&request, &bytes);
                let body = if request.word(0) == "HEAD" { "" } else { "ok" };
                let whole = Heard::Whole(request, std::mem::replace(&mut bytes, rest));
                log.lock().unwrap().heard.push(whole);
                continued = false;
                let _ =
                    connection.try_send(format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{body}")).await;
                continue;
            }
            Ok(Read::Incomplete(true)) if !continued => {
                continued = true;
                if bytes.to_ascii_lowercase().windows(12).any(|text| text == b"100-continue") {
                    let _ = connection.try_send("HTTP/1.1 100 Continue\r\n\r\n").await;
                }
            }
            Ok(Read::Incomplete(_)) => {}
            Err(what) => return log.lock().unwrap().heard.push(Heard::Wrong(what, bytes)),
        }
        log.lock().unwrap().parts[number].clone_from(&bytes);
        match connection.try_read_exact(1).await {
            Some(byte) => bytes.extend(byte.into_iter().chain(connection.take_buffered())),
            None => return,
        }
    }
}

/// A reader that many servers have must take it the same way.
fn check_with_httparse(request: &Message, bytes: &[u8]) {
    let mut fields = [httparse::EMPTY_HEADER; 256];
    let mut parsed = httparse::Request::new(&mut fields);
    parsed.parse(bytes).expect("httparse takes what the strict reader takes");
    assert_eq!(parsed.method, Some(request.word(0)));
    assert_eq!(parsed.path, Some(request.word(1)));
    assert_eq!(parsed.headers.len(), request.fields.len());
}
