//! The reading side of a connection: responses, one after the other.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::{
    http::{
        Body, BodyError, Interim,
        http1::{Content, ResponseHead, take_response},
    },
    net::{ReadSize, SharedStream, poll_read_some},
};

/// What a connection has received.
pub(super) struct Reading {
    stream: SharedStream,
    buffer: BytesMut,
    /// How far `buffer` has been searched for the end of a head.
    scanned: usize,
    content: Content,
    size: ReadSize,
    /// The endpoint keeps the connection after the present response.
    keep: bool,
    /// Interim answers to the present request have come.
    interim_came: bool,
}

/// Why there is no response.
pub(super) enum NoResponse {
    /// The endpoint closed the connection, before (`false`) or within (`true`) a head.
    Closed(bool),
    /// As [`NoResponse::Closed`], in the kernel's words.
    Failed(bool, io::Error),
    /// What it sent is not one.
    Malformed(&'static str),
}

impl Reading {
    pub(super) fn new(stream: SharedStream) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
            scanned: 0,
            content: Content::Done,
            size: ReadSize::default(),
            keep: true,
            interim_came: false,
        }
    }

    /// The head of the response to the request that was sent last; those before it go to `interim`.
    pub(super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        to_head: bool,
        interim: &Interim,
    ) -> Poll<Result<ResponseHead, NoResponse>> {
        loop {
            while let Some(head) = self.take_head(to_head).map_err(NoResponse::Malformed)? {
                if !head.parts.status.is_informational() {
                    self.interim_came = false;
                    return Poll::Ready(Ok(head));
                }
                if head.parts.status == http::StatusCode::SWITCHING_PROTOCOLS {
                    let what = "it switched protocols without being asked to";
                    return Poll::Ready(Err(NoResponse::Malformed(what)));
                }
                self.interim_came = true;
                interim.push(head.parts.status, head.parts.headers);
            }
            let any = self.interim_came || !self.buffer.is_empty();
            match ready!(poll_read_some(&self.stream, cx, &mut self.buffer)) {
                Ok(0) => return Poll::Ready(Err(NoResponse::Closed(any))),
                Err(error) => return Poll::Ready(Err(NoResponse::Failed(any, error))),
                Ok(_) => {}
            }
        }
    }

    fn take_head(&mut self, to_head: bool) -> Result<Option<ResponseHead>, &'static str> {
        let Some(mut head) = take_response(&mut self.buffer, &mut self.scanned, to_head)? else {
            return Ok(None);
        };
        self.keep = head.keep_alive;
        self.content = std::mem::replace(&mut head.content, Content::Done);
        self.give_memory_back();
        Ok(Some(head))
    }

    /// What was cut out of the buffer keeps its memory alive; the connection, which may be idle for long, does not.
    fn give_memory_back(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }

    /// The present response's content, when all of it is here already.
    fn take_whole(&mut self) -> Option<Body> {
        match self.content {
            Content::Done => Some(Body::Empty),
            Content::Length(length) if length <= self.buffer.len() as u64 => {
                self.content = Content::Done;
                let content = self.buffer.split_to(usize::try_from(length).ok()?).freeze();
                self.give_memory_back();
                Some(Body::Full(content))
            }
            _ => None,
        }
    }

    /// Whether the present response has been read to its end, and the connection can carry another request.
    pub(super) fn is_over(&self) -> bool {
        self.content.is_done() && self.keep && self.buffer.is_empty()
    }

    /// Whether an idle connection is still open and silent, as far as the runtime knows: that is as old as its last look
    /// at the sockets, and costs nothing.
    pub(super) fn is_quiet(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        self.buffer.is_empty() && poll_read_some(&self.stream, &mut cx, &mut self.buffer).is_pending()
    }

    fn poll_content(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            match self.content.next_frame(&mut self.buffer) {
                Ok(Some(frame)) => {
                    self.give_memory_back();
                    return Poll::Ready(Some(Ok(frame)));
                }
                Ok(None) if self.content.is_done() => return Poll::Ready(None),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
            let wanted = self.content.wanted();
            match ready!(self.size.poll_read(&self.stream, cx, &mut self.buffer, wanted)) {
                Ok(0) => self.content.ended()?,
                Ok(_) => {}
                Err(error) => {
                    self.content = Content::Broken;
                    return Poll::Ready(Some(Err(BodyError::Transport(error.into()))));
                }
            }
        }
    }
}

/// The content of the response whose head was last read.
pub(super) fn body(reading: &Rc<RefCell<Reading>>) -> Body {
    let whole = reading.borrow_mut().take_whole();
    whole.unwrap_or_else(|| Body::other(ResponseContent { reading: reading.clone(), over: false }))
}

/// Content that is still arriving.
struct ResponseContent {
    reading: Rc<RefCell<Reading>>,
    /// All of it has been taken: what `reading` holds from now on is another request's.
    over: bool,
}

impl HttpBody for ResponseContent {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if this.over {
            return Poll::Ready(None);
        }
        let mut reading = this.reading.borrow_mut();
        let poll = reading.poll_content(cx);
        this.over = reading.content.is_done();
        poll
    }

    fn is_end_stream(&self) -> bool {
        self.over
    }

    fn size_hint(&self) -> SizeHint {
        if self.over { SizeHint::with_exact(0) } else { self.reading.borrow().content.size_hint() }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::{
        http::body::next_frame,
        net::{Socket, Stream},
    };

    async fn head(reading: &Rc<RefCell<Reading>>) -> ResponseHead {
        let interim = Interim::default();
        let head = std::future::poll_fn(|cx| reading.borrow_mut().poll_head(cx, false, &interim)).await;
        head.unwrap_or_else(|_| panic!("no response"))
    }

    #[tokio::test]
    async fn a_body_that_is_over_takes_nothing_of_the_next_response() {
        let (near, far) = tokio::net::UnixStream::pair().unwrap();
        let mut far = far.into_std().unwrap();
        let reading =
            Rc::new(RefCell::new(Reading::new(SharedStream::new(Stream::Plain(Socket::Unix(near))))));
        far.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfi").unwrap();
        head(&reading).await;
        let mut first = body(&reading);
        far.write_all(b"rst").unwrap();
        let mut length = 0;
        while length < 5 {
            length += next_frame(&mut first).await.unwrap().unwrap().data_ref().unwrap().len();
        }
        far.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nsec").unwrap();
        head(&reading).await;
        assert!(first.is_end_stream());
        assert!(next_frame(&mut first).await.is_none());
        let mut second = body(&reading);
        assert_eq!(second.size_hint().exact(), Some(9));
        let frame = next_frame(&mut second).await.unwrap().unwrap();
        assert_eq!(frame.data_ref().map(|data| &data[..]), Some(&b"sec"[..]));
    }
}
