//! The content of one message, taken out of a connection's buffer as its framing says (RFC 9112 6.3).

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};

use super::{Chunk, ChunkedDecoder};
use crate::http::BodyError;

/// How far the present message's content has been read.
#[derive(Debug)]
pub enum Content {
    /// To its end.
    Done,
    /// This many bytes are still to come; never 0.
    Length(u64),
    /// The last chunk has not come.
    Chunked(ChunkedDecoder),
    /// It ends with the connection.
    UntilClose,
    /// Nothing behind it can be trusted.
    Broken,
}

impl Content {
    /// `length` bytes.
    pub fn length(length: u64) -> Self {
        if length == 0 { Self::Done } else { Self::Length(length) }
    }

    /// Chunks, the first still to come.
    pub fn chunked() -> Self {
        Self::Chunked(ChunkedDecoder::new())
    }

    /// Whether it has been read to its end.
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }

    /// The most that is still to be read from the socket for it.
    pub fn wanted(&self) -> u64 {
        if let Self::Length(left) = self { *left } else { u64::MAX }
    }

    /// Takes the next piece out of `buffer`; None when it holds none, or the content is done.
    ///
    /// # Errors
    /// When the framing is broken; from then on it stays so.
    pub fn next_frame(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame<Bytes>>, BodyError> {
        match self {
            Self::Done => Ok(None),
            Self::Broken => Err(BodyError::Incomplete),
            Self::Length(_) | Self::UntilClose if buffer.is_empty() => Ok(None),
            Self::UntilClose => Ok(Some(Frame::data(buffer.split().freeze()))),
            Self::Length(left) => {
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
                *left -= length as u64;
                if *left == 0 {
                    *self = Self::Done;
                }
                Ok(Some(Frame::data(buffer.split_to(length).freeze())))
            }
            Self::Chunked(decoder) => {
                let chunk = decoder.decode(buffer);
                self.chunk(chunk)
            }
        }
    }

    fn chunk(&mut self, chunk: Result<Chunk, BodyError>) -> Result<Option<Frame<Bytes>>, BodyError> {
        match chunk {
            Ok(Chunk::Data(data)) => Ok(Some(Frame::data(data))),
            Ok(Chunk::NeedMore) => Ok(None),
            Ok(Chunk::End) => {
                *self = Self::Done;
                Ok(None)
            }
            Ok(Chunk::Trailers(trailers)) => {
                *self = Self::Done;
                Ok(Some(Frame::trailers(trailers)))
            }
            Err(error) => {
                *self = Self::Broken;
                Err(error)
            }
        }
    }

    /// The connection has ended.
    ///
    /// # Errors
    /// Unless that is how the content ends.
    pub fn ended(&mut self) -> Result<(), BodyError> {
        match self {
            Self::Done | Self::UntilClose => {
                *self = Self::Done;
                Ok(())
            }
            _ => {
                *self = Self::Broken;
                Err(BodyError::Incomplete)
            }
        }
    }

    /// What is known of the size of what is still to come.
    pub fn size_hint(&self) -> SizeHint {
        match self {
            Self::Done => SizeHint::with_exact(0),
            Self::Length(left) => SizeHint::with_exact(*left),
            Self::Chunked(_) | Self::UntilClose | Self::Broken => SizeHint::default(),
        }
    }
}
