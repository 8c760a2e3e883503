//! The chunked coding (RFC 9112 7.1), read strictly and piece by piece.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::http::{BodyError, body::is_forbidden_trailer};

/// A size line may carry extensions that nobody uses; more than this is an attack (CVE-2023-39326 and its kin).
const MAX_LINE: usize = 256;
/// All trailer fields together.
const MAX_TRAILERS: usize = 16 * 1024;
/// Trailer fields.
const MAX_TRAILER_FIELDS: usize = 64;

/// Where in the coding the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    Size,
    /// Inside a chunk: this many bytes of it are still to come.
    Data(u64),
    /// The CRLF behind a chunk.
    DataEnd,
    Trailers,
    End,
}

/// Reads one chunked body.
#[derive(Debug)]
pub struct ChunkedDecoder {
    position: Position,
}

/// What the decoder found next.
#[derive(Debug)]
pub enum Chunk {
    /// Content; never empty.
    Data(Bytes),
    /// The trailer fields; the body has ended.
    Trailers(HeaderMap),
    /// The body has ended.
    End,
    /// The buffer holds no whole piece.
    NeedMore,
}

impl ChunkedDecoder {
    /// Stands before the first chunk.
    pub fn new() -> Self {
        Self { position: Position::Size }
    }

    /// Takes the next piece out of `buffer`.
    ///
    /// # Errors
    /// [`BodyError::Malformed`] at the first byte that breaks the coding.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Chunk, BodyError> {
        loop {
            match self.position {
                Position::Size => match take_line(buffer, MAX_LINE)? {
                    None => return Ok(Chunk::NeedMore),
                    Some(line) => self.position = after_size(chunk_size(&line)?),
                },
                Position::Data(_) if buffer.is_empty() => return Ok(Chunk::NeedMore),
                Position::Data(left) => return Ok(Chunk::Data(self.take_data(buffer, left))),
                Position::DataEnd => match take_line(buffer, 0)? {
                    None => return Ok(Chunk::NeedMore),
                    Some(_) => self.position = Position::Size,
                },
                Position::Trailers => return self.take_trailers(buffer),
                Position::End => return Ok(Chunk::End),
            }
        }
    }

    fn take_data(&mut self, buffer: &mut BytesMut, left: u64) -> Bytes {
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let left = left - length as u64;
        self.position = if left == 0 { Position::DataEnd } else { Position::Data(left) };
        buffer.split_to(length).freeze()
    }

    fn take_trailers(&mut self, buffer: &mut BytesMut) -> Result<Chunk, BodyError> {
        let Some(end) = trailers_end(buffer)? else {
            let over = buffer.len() > MAX_TRAILERS;
            return if over {
                Err(BodyError::Malformed("trailers are too long"))
            } else {
                Ok(Chunk::NeedMore)
            };
        };
        if end > MAX_TRAILERS {
            return Err(BodyError::Malformed("trailers are too long"));
        }
        self.position = Position::End;
        let block = buffer.split_to(end).freeze();
        if block.len() == 2 {
            return Ok(Chunk::End);
        }
        Ok(Chunk::Trailers(trailers(&block)?))
    }
}

impl Default for ChunkedDecoder {
    fn default() -> Self {
        Self::new()
    }
}

fn after_size(size: u64) -> Position {
    if size == 0 { Position::Trailers } else { Position::Data(size) }
}

/// A line of at most `max` bytes before its CRLF; `None` while it is not whole.
fn take_line(buffer: &mut BytesMut, max: usize) -> Result<Option<Bytes>, BodyError> {
    match memchr::memchr(b'\n', buffer) {
        Some(newline) if newline > max + 1 => Err(BodyError::Malformed("a chunk's line is too long")),
        Some(newline) if newline > 0 && buffer[newline - 1] == b'\r' => {
            let mut line = buffer.split_to(newline + 1);
            line.truncate(newline - 1);
            Ok(Some(line.freeze()))
        }
        Some(_) => Err(BodyError::Malformed("a chunk's line ends in LF without CR")),
        None if buffer.len() > max + 1 => Err(BodyError::Malformed("a chunk's line is too long")),
        None => Ok(None),
    }
}

/// The size in front of optional extensions. Sixteen hexadecimal digits would overflow sums that others make.
fn chunk_size(line: &[u8]) -> Result<u64, BodyError> {
    let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    let rest = &line[digits..];
    // No other white space: a CR before an extension ends the line for some readers.
    let white = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let extension = &rest[white..];
    let known = extension.is_empty() && digits == line.len() || extension.first() == Some(&b';');
    if digits == 0 || digits > 15 || !known || extension.iter().any(|b| b.is_ascii_control() && *b != b'\t') {
        return Err(BodyError::Malformed("a chunk's size is not a hexadecimal number"));
    }
    let value = |digit: &u8| u64::from(char::from(*digit).to_digit(16).unwrap_or(0));
    Ok(line[..digits].iter().fold(0, |size, digit| size * 16 + value(digit)))
}

/// Where the trailer section ends, its last empty line included.
fn trailers_end(buffer: &[u8]) -> Result<Option<usize>, BodyError> {
    let mut line_start = 0;
    while let Some(at) = memchr::memchr(b'\n', &buffer[line_start..]) {
        let newline = line_start + at;
        if newline == 0 || buffer[newline - 1] != b'\r' {
            return Err(BodyError::Malformed("a trailer's line ends in LF without CR"));
        }
        if newline - line_start == 1 {
            return Ok(Some(newline + 1));
        }
        line_start = newline + 1;
    }
    Ok(None)
}

fn trailers(block: &Bytes) -> Result<HeaderMap, BodyError> {
    let bad = || BodyError::Malformed("a trailer field is not valid");
    let mut fields = [httparse::EMPTY_HEADER; MAX_TRAILER_FIELDS];
    let (_, fields) = match httparse::parse_headers(block, &mut fields) {
        Ok(httparse::Status::Complete(parsed)) => parsed,
        Ok(httparse::Status::Partial) | Err(_) => return Err(bad()),
    };
    let mut trailers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| bad())?;
        let value = HeaderValue::from_maybe_shared(block.slice_ref(field.value)).map_err(|_| bad())?;
        if !is_forbidden_trailer(&name) {
            trailers.append(name, value);
        }
    }
    Ok(trailers)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes `text` in pieces of `step` bytes.
    fn decode(text: &[u8], step: usize) -> Result<(Vec<u8>, HeaderMap), BodyError> {
        let (mut decoder, mut buffer) = (ChunkedDecoder::new(), BytesMut::new());
        let (mut content, mut pieces) = (Vec::new(), text.chunks(step));
        loop {
            match decoder.decode(&mut buffer)? {
                Chunk::Data(data) => content.extend_from_slice(&data),
                Chunk::Trailers(trailers) => return Ok((content, trailers)),
                Chunk::End => return Ok((content, HeaderMap::new())),
                Chunk::NeedMore => match pieces.next() {
                    Some(piece) => buffer.extend_from_slice(piece),
                    None => return Err(BodyError::Incomplete),
                },
            }
        }
    }

    #[test]
    fn content_and_trailers_are_read_however_they_arrive() {
        let text = b"5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\nX-Sum: 1\r\nContent-Length: 3\r\n\r\n";
        for step in 1..text.len() + 1 {
            let (content, trailers) = decode(text, step).expect("valid");
            assert_eq!(content, b"hello world", "{step}");
            assert_eq!(trailers.len(), 1, "framing fields are not trailers");
            assert_eq!(trailers["x-sum"], "1");
        }
    }

    #[test]
    fn every_deviation_is_malformed() {
        for text in [
            &b"x\r\n"[..],
            b"\r\n",
            b"-1\r\n",
            b"0x5\r\nhello\r\n",
            b"5 5\r\nhello\r\n",
            b"5\nhello\r\n0\r\n\r\n",
            b"5\r\nhello0\r\n\r\n",
            b"5\r\nhello\n0\r\n\r\n",
            b"5\r\nhelloXX0\r\n\r\n",
            b"FFFFFFFFFFFFFFFF\r\n",
            b"10000000000000000\r\n",
            b"0\r\nX: 1\n\r\n",
            b"0\r\nX : 1\r\n\r\n",
            b"0\r\nnot a field\r\n\r\n",
            b"5;a\x01\r\nhello\r\n0\r\n\r\n",
            b"5\r;a\r\nhello\r\n0\r\n\r\n",
            b"5\x0c;a\r\nhello\r\n0\r\n\r\n",
        ] {
            assert!(matches!(decode(text, 1000), Err(BodyError::Malformed(_))), "{text:?}");
        }
    }

    #[test]
    fn endless_lines_and_trailers_are_cut_off() {
        let line = [b"5;".to_vec(), vec![b'a'; 1000]].concat();
        assert!(matches!(decode(&line, 7), Err(BodyError::Malformed(_))));
        let trailers = [b"0\r\n".to_vec(), b"X: aaaaaaaaaa\r\n".repeat(2000)].concat();
        assert!(matches!(decode(&trailers, 1000), Err(BodyError::Malformed(_))));
    }

    #[test]
    fn a_body_that_stops_early_is_incomplete() {
        assert!(matches!(decode(b"5\r\nhel", 1000), Err(BodyError::Incomplete)));
    }
}
