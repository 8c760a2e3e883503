//! What must hold for every input of towpath's own parsers: run by the fuzz targets, and by `cargo test` with random inputs and
//! damaged seeds. Each panics when it does not hold.

pub mod strict;
pub mod trace;

use std::{path::Path, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method};
use towpath::{
    config,
    http::{
        authority, grpc, hop_by_hop,
        http1::{
            Chunk, ChunkedDecoder, Content, Framing, Head, HeadLimits, ResponseHead,
            head::{find_end, parse},
            take_response,
        },
    },
};

const LIMITS: HeadLimits = HeadLimits { bytes: 16 * 1024, fields: 100, target: 8 * 1024 };

/// A request's head: found at the same place however it arrives; what is taken a strict reader takes the same way, and
/// nothing of it that ends here is left.
pub fn request_head(bytes: &[u8]) {
    let whole = find_end(bytes, &mut 0, LIMITS);
    let mut scanned = 0;
    let mut pieces = (0..=bytes.len()).map(|length| find_end(&bytes[..length], &mut scanned, LIMITS));
    let first = pieces.find(|end| *end != Ok(None)).unwrap_or(Ok(None));
    let Ok(Some(end)) = whole else { return };
    assert_eq!(first, whole, "in pieces and at once");
    if let Ok(head) = parse(&Bytes::copy_from_slice(&bytes[..end]), LIMITS) {
        agrees(&head, &bytes[..end]);
        forwards(head.parts.headers);
    }
}

fn agrees(head: &Head, bytes: &[u8]) {
    let target = head.parts.uri.path_and_query().map_or("", |target| target.as_str());
    if head.parts.uri.authority().is_some() || head.parts.method == Method::CONNECT {
        return; // the strict reader is behind the proxy, where no target has an authority
    }
    let (message, length, declared) =
        strict::request_head(bytes).expect("what is taken is strict").expect("whole");
    assert_eq!(length, bytes.len());
    assert_eq!(message.word(0), head.parts.method.as_str());
    assert_eq!(message.word(1), target);
    assert_eq!(message.fields.len(), head.parts.headers.len());
    let framing = match declared {
        None if message.all("transfer-encoding").is_empty() => Framing::None,
        None => Framing::Chunked,
        Some(0) => Framing::None,
        Some(length) => Framing::Length(length as u64),
    };
    assert_eq!(framing, head.framing);
}

fn forwards(mut headers: HeaderMap) {
    let hosts = headers.get_all("host").iter().count();
    hop_by_hop::remove(&mut headers);
    for name in
        ["connection", "transfer-encoding", "upgrade", "keep-alive", "proxy-connection", "http2-settings"]
    {
        assert!(!headers.contains_key(name), "{name}");
    }
    assert_eq!(headers.get_all("host").iter().count(), hosts);
}

/// A response's head: found and understood the same however it arrives; a length that is taken is the only one.
pub fn response_head(bytes: &[u8]) {
    let (whole, pieces) = (read_response(bytes, bytes.len().max(1)), read_response(bytes, 1));
    assert_eq!(format!("{whole:?}"), format!("{pieces:?}"), "in pieces and at once");
    if let Some(ResponseHead { content: Content::Length(length), .. }) = whole {
        assert_eq!(strict::response_length(bytes), Ok(usize::try_from(length).ok()));
    }
}

/// The head, when there is one.
fn read_response(bytes: &[u8], step: usize) -> Option<ResponseHead> {
    let (mut buffer, mut scanned) = (BytesMut::new(), 0);
    for piece in bytes.chunks(step) {
        buffer.extend_from_slice(piece);
        if let Some(head) = take_response(&mut buffer, &mut scanned, false).ok()? {
            return Some(head);
        }
    }
    None
}

/// A chunked body: the same content however it arrives; what is taken a strict reader takes the same way.
pub fn chunked(bytes: &[u8]) {
    let Some((step, bytes)) = bytes.split_first() else { return };
    let whole = decode(bytes, bytes.len().max(1));
    let pieces = decode(bytes, usize::from(*step).max(1));
    assert_eq!(whole, pieces, "in pieces and at once");
    let Some((content, left)) = whole else { return };
    let head = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    let message = [&head[..], bytes].concat();
    match strict::request(&message) {
        Ok(strict::Read::Whole(read, length)) => {
            assert_eq!(read.body, content);
            assert_eq!(message.len() - length, left, "what is the next request's");
        }
        other => panic!("taken, but {other:?}"),
    }
}

/// The content, and how much was left behind it; none when it is malformed or incomplete.
fn decode(bytes: &[u8], step: usize) -> Option<(Vec<u8>, usize)> {
    let (mut decoder, mut buffer, mut content) = (ChunkedDecoder::new(), BytesMut::new(), Vec::new());
    let mut rest = bytes;
    loop {
        match decoder.decode(&mut buffer).ok()? {
            Chunk::Data(data) => content.extend_from_slice(&data),
            Chunk::End | Chunk::Trailers(_) => return Some((content, buffer.len() + rest.len())),
            Chunk::NeedMore if rest.is_empty() => return None,
            Chunk::NeedMore => {
                let (piece, left) = rest.split_at(step.min(rest.len()));
                buffer.extend_from_slice(piece);
                rest = left;
            }
        }
    }
}

/// An authority: what is taken names one host, and is the same as itself.
pub fn authority(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some((host, port)) = authority::split(text) {
        assert!(!host.is_empty() && text.contains(host) && port != Some(0));
        assert!(!host.contains(['@', '/', '?', '#', ',', ' ', '\\', '%', '[', ']']), "{host}");
        assert!(authority::same(text, text, 80));
    }
}

/// A configuration file: read again after another one, it means what it means at first.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let file = Path::new("/etc/towpath/t.toml");
    let plain =
        |read: Result<config::Config, config::Problems>| read.map_err(|problems| problems.to_string());
    let mut memory = config::Memory::default();
    let half = text.floor_char_boundary(text.len() / 2);
    let _ = config::reparse(&text[..half], file, &mut memory);
    let first = plain(config::reparse(text, file, &mut memory));
    assert_eq!(first, plain(config::parse(text, file)), "after its first half");
    assert_eq!(first, plain(config::reparse(text, file, &mut memory)), "after itself");
}

/// `grpc-timeout`: a number of at most eight digits and a unit, or nothing.
pub fn grpc_timeout(bytes: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
    if let Some(time) = grpc::parse_timeout(&value) {
        assert!(bytes.len() <= 9 && bytes[..bytes.len() - 1].iter().all(u8::is_ascii_digit));
        let again = grpc::parse_timeout(&grpc::format_timeout(time)).expect("what is written can be read");
        assert!(again <= time.max(Duration::from_micros(1)), "{again:?} of {time:?}");
    }
}

/// Patterns with `*`, against the plainest way to compare them. Text and pattern are separated by a line end.
pub fn pattern(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(&bytes[..bytes.len().min(80)]) else { return };
    let Some((text, pattern)) = text.split_once('\n') else { return };
    assert_eq!(
        config::is_like(text, pattern),
        is_like(text.as_bytes(), pattern.as_bytes()),
        "{text} {pattern}"
    );
}

/// Row by row: whether the first bytes of the text are like the first bytes of the pattern.
fn is_like(text: &[u8], pattern: &[u8]) -> bool {
    let mut row = vec![false; text.len() + 1];
    row[0] = true;
    for byte in pattern {
        let mut next = vec![false; text.len() + 1];
        for at in 0..=text.len() {
            next[at] = match byte {
                b'*' => row[at] || (at > 0 && next[at - 1]),
                _ => at > 0 && row[at - 1] && text[at - 1] == *byte,
            };
        }
        row = next;
    }
    row[text.len()]
}
