//! Bodies that begin again, are taken back, are had twice, and wait.

use http_body::Body as _;

use super::*;
use crate::http::body::next_frame;

/// A body that yields the given pieces.
struct Pieces(std::collections::VecDeque<Bytes>);

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }
}

fn body(pieces: &[usize]) -> RequestBody {
    let pieces = pieces.iter().map(|length| Bytes::from(vec![b'x'; *length])).collect();
    RequestBody::new(Body::other(Pieces(pieces)), false, KEPT)
}

async fn read(mut body: Body, frames: usize) -> usize {
    let mut length = 0;
    for _ in 0..frames {
        match next_frame(&mut body).await {
            Some(Ok(frame)) => length += frame.data_ref().map_or(0, Bytes::len),
            Some(Err(_)) | None => break,
        }
    }
    length
}

#[tokio::test]
async fn a_small_body_begins_again_from_whatever_was_read() {
    let body = body(&[1, 2, 3]);
    assert_eq!(read(body.begin(), 2).await, 3);
    assert!(body.can_begin_again());
    assert_eq!(read(body.begin(), 9).await, 6);
    assert_eq!(read(body.begin(), 9).await, 6);
    assert_eq!(body.bytes(), 6);
}

#[tokio::test]
async fn a_large_body_is_sent_once_and_not_kept() {
    let body = body(&[KEPT, 1, 1]);
    let mut attempt = body.begin();
    for _ in 0..2 {
        next_frame(&mut attempt).await.unwrap().unwrap();
    }
    assert!(!body.can_begin_again());
    assert!(body.0.borrow().kept.is_empty());
    assert_eq!(read(attempt, 9).await, 1, "the running attempt goes on");
}

#[tokio::test]
async fn an_attempt_that_was_given_up_gets_nothing_more() {
    let body = body(&[1, 2]);
    let mut first = body.begin();
    let _second = body.begin();
    assert!(matches!(next_frame(&mut first).await, Some(Err(_))));
}

#[tokio::test]
async fn what_was_recalled_reads_no_more_and_the_next_has_all_of_it() {
    let body = body(&[1, KEPT, 1]);
    let mut first = body.begin();
    next_frame(&mut first).await.unwrap().unwrap();
    body.recall();
    assert!(matches!(next_frame(&mut first).await, Some(Err(BodyError::Incomplete))));
    assert!(body.can_begin_again());
    assert_eq!(read(body.begin(), 9).await, KEPT + 2);
}

#[tokio::test]
async fn a_body_that_cannot_begin_again_is_never_begun_in_the_middle() {
    let body = body(&[KEPT, 1, 1]);
    read(body.begin(), 2).await;
    let mut next = body.begin();
    assert!(!next.is_end_stream(), "it is no empty body either");
    assert!(matches!(next_frame(&mut next).await, Some(Err(BodyError::Incomplete))));
}

#[tokio::test]
async fn a_body_in_very_small_pieces_is_not_kept_for_ever() {
    let body = body(&[1; KEPT_PIECES + 1]);
    assert_eq!(read(body.begin(), KEPT_PIECES + 1).await, KEPT_PIECES + 1);
    assert!(!body.can_begin_again());
}

#[tokio::test]
async fn a_policy_decides_how_much_is_kept() {
    for (limit, kept) in [(2, false), (3, true), (10 * KEPT, true)] {
        let pieces = [Bytes::from_static(b"x"), Bytes::from_static(b"yz")].into();
        let body = RequestBody::new(Body::other(Pieces(pieces)), false, limit);
        read(body.begin(), 9).await;
        assert_eq!(body.can_begin_again(), kept, "{limit}");
    }
}

#[tokio::test]
async fn a_body_that_was_read_can_be_had_twice_at_a_time() {
    let body = body(&[1, 2]);
    let mut first = body.begin();
    next_frame(&mut first).await.unwrap().unwrap();
    assert!(!body.is_kept(), "there is more to come");
    next_frame(&mut first).await.unwrap().unwrap();
    assert!(next_frame(&mut first).await.is_none());
    assert!(body.is_kept());
    assert_eq!(read(body.copy(), 9).await, 3);
    assert!(next_frame(&mut first).await.is_none(), "the first attempt still has its own");
}

#[tokio::test]
async fn a_copy_of_what_is_not_there_is_no_empty_body() {
    let body = body(&[KEPT, 1]);
    read(body.begin(), 9).await;
    assert!(!body.is_kept());
    assert!(matches!(next_frame(&mut body.copy()).await, Some(Err(_))));
}

#[tokio::test]
async fn who_waits_for_a_body_that_is_stopped_is_told() {
    let body = RequestBody::new(Body::Full(Bytes::from_static(b"x")), true, KEPT);
    let mut attempt = body.begin();
    let waiting = next_frame(&mut attempt);
    let (frame, ()) = tokio::join!(waiting, async { body.stop() });
    assert!(matches!(frame, Some(Err(BodyError::Incomplete))));
}

#[tokio::test]
async fn nothing_is_read_before_the_gate_opens() {
    let body = RequestBody::new(Body::Full(Bytes::from_static(b"x")), true, KEPT);
    let mut attempt = body.begin();
    let waker = Waker::noop();
    let poll = Pin::new(&mut attempt).poll_frame(&mut Context::from_waker(waker));
    assert!(poll.is_pending());
    body.open();
    assert_eq!(read(attempt, 1).await, 1);
}
