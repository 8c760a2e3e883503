//! Writing heads and chunks into a connection's buffer.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use crate::http::body::is_forbidden_trailer;

/// A chunk's size line needs at most this: sixteen digits and CRLF.
const SIZE_LINE: usize = 18;

/// Writes `HTTP/1.1 STATUS REASON`.
pub fn status_line(buffer: &mut Vec<u8>, status: StatusCode) {
    buffer.extend_from_slice(b"HTTP/1.1 ");
    buffer.extend_from_slice(status.as_str().as_bytes());
    buffer.push(b' ');
    buffer.extend_from_slice(status.canonical_reason().unwrap_or("").as_bytes());
    buffer.extend_from_slice(b"\r\n");
}

/// Writes `METHOD TARGET HTTP/1.1`.
pub fn request_line(buffer: &mut Vec<u8>, method: &Method, target: &str) {
    buffer.extend_from_slice(method.as_str().as_bytes());
    buffer.push(b' ');
    buffer.extend_from_slice(target.as_bytes());
    buffer.extend_from_slice(b" HTTP/1.1\r\n");
}

/// Writes the fields, a line each.
pub fn fields(buffer: &mut Vec<u8>, headers: &HeaderMap) {
    for (name, value) in headers {
        field(buffer, name, value);
    }
}

/// Writes the fields but those of this name.
pub fn fields_without(buffer: &mut Vec<u8>, headers: &HeaderMap, left_out: &HeaderName) {
    for (name, value) in headers.iter().filter(|(name, _)| *name != left_out) {
        field(buffer, name, value);
    }
}

/// Writes one field.
pub fn field(buffer: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    raw_field(buffer, name.as_str(), value.as_bytes());
}

/// Writes one field whose name and value are known to be valid.
pub fn raw_field(buffer: &mut Vec<u8>, name: &str, value: &[u8]) {
    buffer.extend_from_slice(name.as_bytes());
    buffer.extend_from_slice(b": ");
    buffer.extend_from_slice(value);
    buffer.extend_from_slice(b"\r\n");
}

/// Writes the empty line that ends a head or a trailer section.
pub fn end(buffer: &mut Vec<u8>) {
    buffer.extend_from_slice(b"\r\n");
}

/// Writes one chunk. An empty one would end the body, so it is left out.
pub fn chunk(buffer: &mut Vec<u8>, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    buffer.reserve(data.len() + SIZE_LINE + 2);
    size_line(buffer, data.len());
    buffer.extend_from_slice(data);
    buffer.extend_from_slice(b"\r\n");
}

/// Writes the size line of a chunk whose data follows elsewhere.
pub fn size_line(buffer: &mut Vec<u8>, length: usize) {
    let digits = (usize::BITS - length.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        buffer.push(b"0123456789abcdef"[length >> (digit * 4) & 15]);
    }
    buffer.extend_from_slice(b"\r\n");
}

/// Writes the last chunk and the trailers, without those that a recipient could take for the head's.
pub fn last_chunk(buffer: &mut Vec<u8>, trailers: Option<&HeaderMap>) {
    buffer.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten() {
        if !is_forbidden_trailer(name) {
            field(buffer, name, value);
        }
    }
    end(buffer);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_written_line_by_line() {
        let mut buffer = Vec::new();
        let mut headers = HeaderMap::new();
        headers.insert("x-a", HeaderValue::from_static("1"));
        status_line(&mut buffer, StatusCode::OK);
        fields(&mut buffer, &headers);
        end(&mut buffer);
        assert_eq!(buffer, b"HTTP/1.1 200 OK\r\nx-a: 1\r\n\r\n");
    }

    #[test]
    fn chunk_sizes_are_hexadecimal() {
        for length in [1, 9, 10, 15, 16, 255, 256, 65_535, 1_000_000] {
            let mut buffer = Vec::new();
            size_line(&mut buffer, length);
            assert_eq!(buffer, format!("{length:x}\r\n").into_bytes());
        }
    }

    #[test]
    fn an_empty_piece_does_not_end_the_body() {
        let mut buffer = Vec::new();
        chunk(&mut buffer, b"");
        assert!(buffer.is_empty());
        chunk(&mut buffer, b"abc");
        last_chunk(&mut buffer, None);
        assert_eq!(buffer, b"3\r\nabc\r\n0\r\n\r\n");
    }
}
