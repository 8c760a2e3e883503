//! Bytes as a peer really sends them: a connection to read from and write to by hand, on either side of the daemon.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::within;

/// One TCP connection.
pub struct Raw {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// A server whose test writes every byte.
pub struct RawServer {
    listener: TcpListener,
    pub address: SocketAddr,
}

/// The head of a message.
#[derive(Clone, Debug)]
pub struct Head {
    /// Request line or status line.
    pub first: String,
    /// As they came; names in lower case.
    pub fields: Vec<(String, String)>,
}

/// A whole answer.
#[derive(Debug)]
pub struct RawResponse {
    pub status: u16,
    pub head: Head,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    /// The 1xx answers before it.
    pub interim: Vec<(u16, Head)>,
}

impl Head {
    /// All values of a field, joined by `, `; empty when it is not there.
    pub fn field(&self, name: &str) -> String {
        let values: Vec<&str> =
            self.fields.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect();
        values.join(", ")
    }

    pub fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|(key, _)| key == name)
    }

    fn status(&self) -> u16 {
        let status = self.first.split(' ').nth(1).unwrap_or_default();
        status.parse().unwrap_or_else(|_| panic!("not a status line: {:?}", self.first))
    }
}

impl RawResponse {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn reason(&self) -> String {
        self.head.field("towpath-error")
    }
}

impl RawServer {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self { listener, address }
    }

    /// Waits for a connection as long as it takes.
    pub async fn try_accept(&self) -> io::Result<Raw> {
        self.listener.accept().await.map(|(stream, _)| Raw::over(stream))
    }

    pub async fn accept(&self) -> Raw {
        let (stream, _) = within("accept", self.listener.accept()).await.unwrap();
        Raw::over(stream)
    }

    /// Whether nobody connects for a while.
    pub async fn stays_alone(&self, time: Duration) -> bool {
        tokio::time::timeout(time, self.listener.accept()).await.is_err()
    }

    /// Connections that were accepted by the kernel only: a server that is stuck.
    pub fn stuck(self) -> TcpListener {
        self.listener
    }
}

impl Raw {
    pub async fn connect(address: SocketAddr) -> Self {
        Self::over(within("connect", TcpStream::connect(address)).await.unwrap())
    }

    pub fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        within("send", self.stream.write_all(bytes.as_ref())).await.unwrap();
    }

    /// Sends what the peer will take: an error means that it has closed already.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        within("send", self.stream.write_all(bytes.as_ref())).await
    }

    /// Ends the sending half.
    pub async fn finish(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Ends the sending half, unless the peer has closed already.
    pub async fn try_finish(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    /// Ends the connection with a RST.
    pub fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    async fn fill(&mut self) -> io::Result<usize> {
        within("bytes to read", self.stream.read_buf(&mut self.buffer)).await
    }

    /// Reads to `end`, as long as it takes; false when the peer closes or resets before it.
    pub async fn skip_past(&mut self, end: &str) -> bool {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|window| window == end.as_bytes()) {
                self.buffer.drain(..at + end.len());
                return true;
            }
            if !matches!(self.stream.read_buf(&mut self.buffer).await, Ok(size) if size > 0) {
                return false;
            }
        }
    }

    /// Up to and including `end`.
    pub async fn read_until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|window| window == end.as_bytes()) {
                let bytes: Vec<u8> = self.buffer.drain(..at + end.len()).collect();
                return String::from_utf8_lossy(&bytes).into_owned();
            }
            let read = self.fill().await;
            let so_far = String::from_utf8_lossy(&self.buffer);
            assert!(matches!(read, Ok(size) if size > 0), "{read:?} before {end:?}, after {so_far:?}");
        }
    }

    pub async fn read_exact(&mut self, size: usize) -> Vec<u8> {
        while self.buffer.len() < size {
            let read = self.fill().await;
            assert!(matches!(read, Ok(size) if size > 0), "{read:?} after {} of {size}", self.buffer.len());
        }
        self.buffer.drain(..size).collect()
    }

    /// As [`Raw::read_exact`], as long as it takes; None when the peer closes or resets before it.
    pub async fn try_read_exact(&mut self, size: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < size {
            if !matches!(self.stream.read_buf(&mut self.buffer).await, Ok(size) if size > 0) {
                return None;
            }
        }
        Some(self.buffer.drain(..size).collect())
    }

    /// What has been read and not taken yet.
    pub fn take_buffered(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }

    /// Everything until the peer closes or resets.
    pub async fn read_to_close(&mut self) -> Vec<u8> {
        while matches!(self.fill().await, Ok(size) if size > 0) {}
        std::mem::take(&mut self.buffer)
    }

    /// Everything until the peer ends the connection, and whether it did so cleanly.
    pub async fn read_to_end(&mut self) -> (Vec<u8>, io::Result<()>) {
        let end = loop {
            match self.fill().await {
                Ok(0) => break Ok(()),
                Ok(_) => {}
                Err(error) => break Err(error),
            }
        };
        (std::mem::take(&mut self.buffer), end)
    }

    /// The peer closes without a further byte.
    pub async fn closes(&mut self) {
        let rest = self.read_to_close().await;
        assert!(rest.is_empty(), "bytes before the close: {:?}", String::from_utf8_lossy(&rest));
    }

    /// Whether the peer sends nothing and keeps the connection for a while.
    pub async fn stays_silent(&mut self, time: Duration) -> bool {
        self.buffer.is_empty()
            && tokio::time::timeout(time, self.stream.read_buf(&mut self.buffer)).await.is_err()
    }

    pub async fn read_head(&mut self) -> Head {
        let text = self.read_until("\r\n\r\n").await;
        let mut lines = text.trim_end_matches("\r\n").split("\r\n");
        let first = lines.next().unwrap_or_default().to_owned();
        Head { first, fields: lines.map(field).collect() }
    }

    /// A request's head and its whole body.
    pub async fn read_request(&mut self) -> (Head, Vec<u8>) {
        let head = self.read_head().await;
        let body = if head.field("transfer-encoding") == "chunked" {
            self.read_chunked().await.0
        } else {
            self.read_exact(head.field("content-length").parse().unwrap_or(0)).await
        };
        (head, body)
    }

    pub async fn read_chunked(&mut self) -> (Vec<u8>, Vec<(String, String)>) {
        let mut body = Vec::new();
        loop {
            let line = self.read_until("\r\n").await;
            let size = line.trim_end().split(';').next().unwrap_or_default();
            let size = usize::from_str_radix(size, 16).unwrap_or_else(|_| panic!("chunk size {line:?}"));
            if size == 0 {
                return (body, self.read_trailers().await);
            }
            body.extend(self.read_exact(size).await);
            assert_eq!(self.read_exact(2).await, b"\r\n");
        }
    }

    async fn read_trailers(&mut self) -> Vec<(String, String)> {
        let mut trailers = Vec::new();
        loop {
            let line = self.read_until("\r\n").await;
            match line.trim_end_matches("\r\n") {
                "" => return trailers,
                line => trailers.push(field(line)),
            }
        }
    }

    pub async fn read_response(&mut self) -> RawResponse {
        self.read_response_to("GET").await
    }

    /// The answer to a request with this method.
    pub async fn read_response_to(&mut self, method: &str) -> RawResponse {
        let mut interim = Vec::new();
        loop {
            let head = self.read_head().await;
            let status = head.status();
            if (100..200).contains(&status) && status != 101 {
                interim.push((status, head));
                continue;
            }
            let (body, trailers) = self.read_body(method, status, &head).await;
            return RawResponse { status, head, body, trailers, interim };
        }
    }

    async fn read_body(
        &mut self,
        method: &str,
        status: u16,
        head: &Head,
    ) -> (Vec<u8>, Vec<(String, String)>) {
        if method == "HEAD" || status == 204 || status == 304 {
            return (Vec::new(), Vec::new());
        }
        if head.field("transfer-encoding") == "chunked" {
            return self.read_chunked().await;
        }
        match head.field("content-length").parse() {
            Ok(length) => (self.read_exact(length).await, Vec::new()),
            Err(_) => (self.read_to_close().await, Vec::new()),
        }
    }
}

fn field(line: &str) -> (String, String) {
    let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("not a field: {line:?}"));
    (name.to_ascii_lowercase(), value.trim().to_owned())
}
