//! HTTP/2 by hand: a connection whose test writes and reads every frame, on either side of the daemon.

use std::net::SocketAddr;

use super::{Raw, RawServer, within};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

const PREFACE: &str = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection that sends and reads frames.
pub struct Frames {
    pub raw: Raw,
}

#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// The bytes of a frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A header block of literals without indexing and without Huffman coding.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// A lawful request's fields, and more.
pub fn request<'a>(method: &'a str, path: &'a str, more: &[(&'a str, &'a str)]) -> Vec<u8> {
    let mut fields = vec![(":method", method), (":scheme", "http"), (":path", path), (":authority", "svc")];
    fields.extend(more);
    block(&fields)
}

impl Frame {
    /// The error code of a RST_STREAM or GOAWAY.
    pub fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

impl Frames {
    /// A caller, with the settings that the protocol starts with.
    pub async fn connect(address: SocketAddr) -> Self {
        Self::with_settings(address, &[]).await
    }

    /// A caller with these settings.
    pub async fn with_settings(address: SocketAddr, settings: &[u8]) -> Self {
        let mut raw = Raw::connect(address).await;
        raw.send(PREFACE).await;
        raw.send(frame(SETTINGS, 0, 0, settings)).await;
        Self { raw }
    }

    /// The next connection of a server.
    pub async fn accept(server: &RawServer) -> Self {
        Self::serve(server.accept().await).await
    }

    /// A server's end of this connection.
    pub async fn serve(mut raw: Raw) -> Self {
        assert_eq!(raw.read_exact(PREFACE.len()).await, PREFACE.as_bytes());
        raw.send(frame(SETTINGS, 0, 0, &[])).await;
        Self { raw }
    }

    pub async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.raw.send(frame(kind, flags, stream, payload)).await;
    }

    pub async fn next(&mut self) -> Frame {
        within("a frame", self.try_next()).await.expect("a frame before the end of the connection")
    }

    /// The next frame, as long as it takes; None at the end of the connection.
    pub async fn try_next(&mut self) -> Option<Frame> {
        let head = self.raw.try_read_exact(9).await?;
        let size = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        Some(Frame { kind: head[3], flags: head[4], stream, payload: self.raw.try_read_exact(size).await? })
    }

    /// The next frame of one of these kinds.
    pub async fn next_of(&mut self, kinds: &[u8]) -> Frame {
        loop {
            let frame = self.next().await;
            if kinds.contains(&frame.kind) {
                return frame;
            }
        }
    }
}
