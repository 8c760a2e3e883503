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
    heard: Arc<Mutex<Vec<Heard>>>,
    /// Held by each connection.
    open: Arc<()>,
    serving: JoinHandle<()>,
}

/// What came on a connection.
#[derive(Clone, Debug)]
pub enum Heard {
    /// A request.
    Whole(Message, Vec<u8>),
    /// What the connection ended in.
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
        let heard = Arc::default();
        let (address, all) = (server.address, Arc::clone(&heard));
        let open = Arc::new(());
        let held = open.clone();
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok(connection) = server.try_accept().await {
                let (all, held) = (Arc::clone(&all), held.clone());
                connections.spawn(async move {
                    serve(connection, all).await;
                    drop(held);
                });
            }
        });
        Self { address, heard, open, serving }
    }

    /// Whether every connection has ended.
    pub fn is_alone(&self) -> bool {
        // This one and the acceptor's.
        Arc::strong_count(&self.open) == 2
    }

    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(mut connection: Raw, heard: Arc<Mutex<Vec<Heard>>>) {
    let mut bytes = Vec::new();
    let mut continued = false;
    loop {
        let read = strict::request(&bytes);
        match read {
            Ok(Read::Whole(request, length)) => {
                let rest = bytes.split_off(length);
                check_with_httparse(&request, &bytes);
                let body = if request.word(0) == "HEAD" { "" } else { "ok" };
                heard.lock().unwrap().push(Heard::Whole(request, std::mem::replace(&mut bytes, rest)));
                continued = false;
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{body}");
                if connection.try_send(answer).await.is_err() {
                    return;
                }
                continue;
            }
            Ok(Read::Incomplete(true)) if !continued => {
                continued = true;
                if bytes.to_ascii_lowercase().windows(12).any(|text| text == b"100-continue") {
                    let _ = connection.try_send("HTTP/1.1 100 Continue\r\n\r\n").await;
                }
            }
            Ok(Read::Incomplete(_)) => {}
            Err(what) => return heard.lock().unwrap().push(Heard::Wrong(what, bytes)),
        }
        match connection.try_read_exact(1).await {
            Some(byte) => bytes.extend(byte.into_iter().chain(connection.take_buffered())),
            None if bytes.is_empty() => return,
            None => return heard.lock().unwrap().push(Heard::Part(bytes)),
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
