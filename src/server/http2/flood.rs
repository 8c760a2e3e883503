//! What a caller may send on an HTTP/2 connection besides requests: counts per second, pure.
//!
//! # What h2 0.4 bounds by itself, and what it does not
//! CONTINUATION frames of one head (a quarter more than its size needs, at least five), the decoded size of a head, DATA frames that are
//! empty (100 in a connection's life) or tiny and unread, streams that are reset before they are accepted. It says GOAWAY
//! `ENHANCE_YOUR_CALM` with a word about it, which is read here on its way out. It does not bound PING, SETTINGS, PRIORITY, WINDOW_UPDATE
//! and unknown frames, nor streams that are opened and reset once they run (CVE-2023-44487); and it bounds the resets that a caller
//! provokes (CVE-2025-8671) over a connection's whole life, which one between nodes reaches in weeks without any harm. These are
//! counted here.
//!
//! # What is nobody's flood
//! A client acknowledges what it gets: WINDOW_UPDATE for the stream and for the connection, PING to measure the way (gRPC does after each
//! DATA frame). So every frame of an answer earns some, and only what is beyond that takes from what is allowed each second. A
//! WINDOW_UPDATE of fewer bytes than the smallest gRPC message earns no pardon: it asks for an answer in crumbs (CVE-2019-9511).

use tokio::time::Instant;

use super::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, FrameHeads, GOAWAY, HEADERS, PADDED, RST_STREAM,
    WINDOW_UPDATE,
};

/// As many seconds' worth may come at once: five times a hundred resets is the number after which Envoy looks at them.
const BURST: u64 = 5;
/// Of frames that are taken in before others have their turn. h2 reads as long as there is something to read: a caller that sent ten
/// thousand heads and went away kept its worker for as long as they took, and what they provoked was never sent, nor counted.
const TURN: u32 = 128;
/// Of frames that were earned and not sent. More than a window of 1 GiB in the smallest full DATA frames.
const MOST_EARNED: u32 = 1 << 16;
/// What a request's head earns: PRIORITY and WINDOW_UPDATE for the new stream.
const FOR_REQUEST: u32 = 2;
/// What a frame of an answer earns: WINDOW_UPDATE for the stream and the connection, and PING.
const FOR_ANSWER: u32 = 3;
/// The smallest gRPC message.
const CRUMB: usize = 5;
const ENHANCE_YOUR_CALM: u32 = 11;
/// PROTOCOL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED, FRAME_SIZE_ERROR: what a caller did.
const PROVOKED: [u32; 4] = [1, 3, 5, 6];
/// Of the client's preface, which is no frame.
const PREFACE: usize = 24;

/// What there was too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flood {
    /// Streams that ended in a reset (`limits.http2_resets`).
    Resets,
    /// Frames that carry nothing (`limits.http2_control_frames`).
    ControlFrames,
    /// CONTINUATION frames of one head.
    Continuations,
    /// A head far over `limits.header_bytes` once it is decoded.
    HeaderList,
}

impl Flood {
    /// As the metric and the log name it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Resets => "resets",
            Self::ControlFrames => "control_frames",
            Self::Continuations => "continuations",
            Self::HeaderList => "header_list",
        }
    }

    /// By what h2 says in its GOAWAY.
    fn said(by: &[u8]) -> Self {
        match by {
            b"too_many_continuations" => Self::Continuations,
            b"header_list_way_too_large" => Self::HeaderList,
            b"too_many_data_frames" => Self::ControlFrames,
            _ => Self::Resets,
        }
    }
}

/// A connection's conduct.
pub(super) struct Conduct {
    received: FrameHeads,
    sent: FrameHeads,
    counts: Counts,
}

struct Counts {
    resets: Bucket,
    control: Bucket,
    earned: u32,
    /// The last stream that was opened.
    last_stream: u32,
    has_reset: bool,
    /// The frame after this must be a CONTINUATION.
    block_open: bool,
    /// Since when a head has been coming.
    head_since: Option<Instant>,
    /// Frames since the connection's turn began, those with content aside.
    turn: u32,
    /// Resets to be sent that are an endpoint's doing and look like the caller's.
    excused: u32,
    flood: Option<Flood>,
}

impl Conduct {
    /// Of a connection on which so many resets and frames that carry nothing are allowed each second.
    pub(super) fn new(resets: u32, control_frames: u32, now: Instant) -> Self {
        let counts = Counts {
            resets: Bucket::new(u64::from(resets), now),
            control: Bucket::new(u64::from(control_frames), now),
            earned: 0,
            last_stream: 0,
            has_reset: false,
            block_open: false,
            head_since: None,
            turn: 0,
            excused: 0,
            flood: None,
        };
        Self { received: FrameHeads::behind(PREFACE), sent: FrameHeads::new(), counts }
    }

    /// The caller has sent these bytes.
    pub(super) fn received(&mut self, bytes: &[u8], now: impl Fn() -> Instant) {
        let Self { received, counts, .. } = self;
        received.read(bytes, |frame| counts.received(frame, &now));
        let coming = counts.block_open || matches!(received.unfinished(), Some(HEADERS | CONTINUATION));
        match counts.head_since {
            None if coming => counts.head_since = Some(now()),
            Some(_) if !coming => counts.head_since = None,
            _ => {}
        }
    }

    /// These bytes have gone to the caller.
    pub(super) fn sent(&mut self, bytes: &[u8], now: impl Fn() -> Instant) {
        let Self { sent, counts, .. } = self;
        sent.read(bytes, |frame| counts.sent(frame, &now));
    }

    /// The connection is looked at again.
    pub(super) fn begin_turn(&mut self) {
        self.counts.turn = 0;
    }

    /// Whether it is others' turn: what this one has sent is to be answered first, or counted.
    pub(super) fn has_had_its_turn(&self) -> bool {
        self.counts.turn >= TURN
    }

    /// What there has been too much of.
    pub(super) fn flood(&self) -> Option<Flood> {
        self.counts.flood
    }

    /// Since when a head has been coming.
    pub(super) fn head_since(&self) -> Option<Instant> {
        self.counts.head_since
    }

    /// Whether the caller has ever reset a stream.
    pub(super) fn has_reset(&self) -> bool {
        self.counts.has_reset
    }

    /// A reset with this code goes out because of an endpoint.
    pub(super) fn excuse(&mut self, code: u32) {
        self.counts.excused += u32::from(PROVOKED.contains(&code));
    }
}

impl Counts {
    fn received(&mut self, frame: &Frame<'_>, now: &impl Fn() -> Instant) {
        self.turn += u32::from(frame.kind != DATA || frame.length == 0);
        match frame.kind {
            HEADERS => {
                self.block_open = frame.flags & END_HEADERS == 0;
                // Trailers open nothing.
                if frame.stream > self.last_stream {
                    self.last_stream = frame.stream;
                    self.earn(FOR_REQUEST);
                }
            }
            CONTINUATION => self.block_open = frame.flags & END_HEADERS == 0,
            DATA if !is_empty(frame) || frame.flags & END_STREAM != 0 => {}
            RST_STREAM => {
                self.has_reset = true;
                self.reset(now);
            }
            WINDOW_UPDATE if (frame.word(0) & 0x7fff_ffff) < CRUMB as u32 => self.control(now),
            _ if self.earned > 0 => self.earned -= 1,
            _ => self.control(now),
        }
    }

    fn sent(&mut self, frame: &Frame<'_>, now: &impl Fn() -> Instant) {
        if matches!(frame.kind, HEADERS | DATA) && frame.flags & END_STREAM != 0 {
            // Each stream that is answered to its end makes up for one that is reset: so half of all may be. Opening one does not
            // count: those beyond max_streams are refused at once.
            self.resets.give(1);
        }
        match frame.kind {
            HEADERS => self.earn(FOR_ANSWER),
            DATA if frame.length >= CRUMB => self.earn(FOR_ANSWER),
            RST_STREAM if PROVOKED.contains(&frame.word(0)) => match self.excused {
                0 => self.reset(now),
                _ => self.excused -= 1,
            },
            GOAWAY if frame.word(4) == ENHANCE_YOUR_CALM => {
                self.flood.get_or_insert(Flood::said(frame.payload.get(8..).unwrap_or_default()));
            }
            _ => {}
        }
    }

    fn earn(&mut self, frames: u32) {
        self.earned = (self.earned + frames).min(MOST_EARNED);
    }

    fn reset(&mut self, now: &impl Fn() -> Instant) {
        if !self.resets.take(1, now) {
            self.flood.get_or_insert(Flood::Resets);
        }
    }

    fn control(&mut self, now: &impl Fn() -> Instant) {
        if !self.control.take(1, now) {
            self.flood.get_or_insert(Flood::ControlFrames);
        }
    }
}

/// Whether a DATA frame carries nothing, or padding only.
fn is_empty(frame: &Frame<'_>) -> bool {
    let padding = frame.payload.first().map_or(0, |padding| usize::from(*padding));
    frame.length == 0 || (frame.flags & PADDED != 0 && frame.length == padding + 1)
}

/// So many each second, [`BURST`] seconds' worth at once. Looks at the clock only when it is empty, which most never are.
struct Bucket {
    level: u64,
    rate: u64,
    filled: Instant,
}

impl Bucket {
    fn new(rate: u64, now: Instant) -> Self {
        Self { level: rate * BURST, rate, filled: now }
    }

    fn give(&mut self, count: u64) {
        self.level = (self.level + count).min(self.rate * BURST);
    }

    fn take(&mut self, count: u64, now: &impl Fn() -> Instant) -> bool {
        if self.level < count {
            let now = now();
            let passed = now.saturating_duration_since(self.filled).as_millis() as u64;
            self.filled = now;
            self.give(passed.saturating_mul(self.rate) / 1000);
        }
        let enough = self.level >= count;
        if enough {
            self.level -= count;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PING: u8 = 6;

    /// A connection at a time that the test sets.
    struct Watched {
        conduct: Conduct,
        now: Instant,
    }

    fn watched() -> Watched {
        let now = Instant::now();
        let mut conduct = Conduct::new(100, 200, now);
        conduct.received(&[b'P'; PREFACE], || now);
        Watched { conduct, now }
    }

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    impl Watched {
        fn gets(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
            let now = self.now;
            self.conduct.received(&frame(kind, flags, stream, payload), || now);
        }

        fn sends(&mut self, kind: u8, stream: u32, payload: &[u8]) {
            let now = self.now;
            let flags = if kind == HEADERS { END_STREAM | END_HEADERS } else { 0 };
            self.conduct.sent(&frame(kind, flags, stream, payload), || now);
        }

        fn passes(&mut self, time: Duration) {
            self.now += time;
        }

        /// How many times it can be done before it is a flood, up to a hundred thousand.
        fn until_flood(&mut self, mut once: impl FnMut(&mut Self, u32)) -> (u32, Option<Flood>) {
            for number in 0..100_000 {
                once(self, number);
                if self.conduct.flood().is_some() {
                    return (number, self.conduct.flood());
                }
            }
            (100_000, None)
        }
    }

    #[test]
    fn frames_that_carry_nothing_are_a_flood_after_five_seconds_worth() {
        for (kind, flags, stream, payload) in [
            (PING, 0, 0, &[0; 8][..]),
            (PING, 1, 0, &[0; 8]),
            (4, 0, 0, &[]),
            (2, 0, 3, &[0, 0, 0, 0, 1]),
            (DATA, 0, 1, &[]),
            (DATA, PADDED, 1, &[3, 0, 0, 0]),
            (WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
            (WINDOW_UPDATE, 0, 0, &[0, 1, 0, 0]),
            (0xbe, 0, 0, b"whatever"),
        ] {
            let (count, flood) = watched().until_flood(|it, _| it.gets(kind, flags, stream, payload));
            assert_eq!((count, flood), (1000, Some(Flood::ControlFrames)), "kind {kind}");
        }
    }

    #[test]
    fn less_each_second_than_is_allowed_is_never_a_flood() {
        let (_, flood) = watched().until_flood(|it, _| {
            it.gets(PING, 0, 0, &[0; 8]);
            it.passes(Duration::from_micros(5050));
        });
        assert_eq!(flood, None);
    }

    #[test]
    fn what_acknowledges_answers_is_no_flood_and_crumbs_are() {
        let (_, flood) = watched().until_flood(|it, _| {
            it.sends(DATA, 1, &[0; 16]);
            it.gets(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 16]);
            it.gets(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 16]);
            it.gets(PING, 0, 0, &[0; 8]);
        });
        assert_eq!(flood, None);
        let (count, flood) = watched().until_flood(|it, _| {
            it.gets(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]);
            it.sends(DATA, 1, &[0; 1]);
        });
        assert_eq!((count, flood), (1000, Some(Flood::ControlFrames)));
    }

    #[test]
    fn a_turn_ends_after_so_many_frames_and_content_is_not_counted() {
        let mut it = watched();
        for number in 0..TURN {
            assert!(!it.conduct.has_had_its_turn());
            it.gets(DATA, 0, 1, b"content");
            it.gets(HEADERS, END_HEADERS, 2 * number + 1, &[0x82]);
        }
        assert!(it.conduct.has_had_its_turn());
        it.conduct.begin_turn();
        assert!(!it.conduct.has_had_its_turn());
    }

    #[test]
    fn half_of_the_streams_may_be_reset_and_not_all() {
        let open = |it: &mut Watched, stream| it.gets(HEADERS, END_HEADERS, stream, &[0x82]);
        let (_, flood) = watched().until_flood(|it, number| {
            open(it, 4 * number + 1);
            open(it, 4 * number + 3);
            it.gets(RST_STREAM, 0, 4 * number + 1, &[0, 0, 0, 8]);
            it.sends(HEADERS, 4 * number + 3, &[0x88]);
        });
        assert_eq!(flood, None);
        let (count, flood) = watched().until_flood(|it, number| {
            open(it, 2 * number + 1);
            it.gets(RST_STREAM, 0, 2 * number + 1, &[0, 0, 0, 8]);
        });
        assert_eq!((count, flood), (500, Some(Flood::Resets)));
    }

    #[test]
    fn resets_that_the_caller_provokes_count_and_an_endpoints_do_not() {
        let provoked = |it: &mut Watched, number: u32| {
            it.gets(HEADERS, END_HEADERS, 2 * number + 1, &[0x82]);
            it.sends(RST_STREAM, 2 * number + 1, &[0, 0, 0, 1]);
        };
        assert_eq!(watched().until_flood(provoked).1, Some(Flood::Resets));
        let excused = |it: &mut Watched, number: u32| {
            it.conduct.excuse(1);
            provoked(it, number);
        };
        assert_eq!(watched().until_flood(excused).1, None);
        let cancelled = |it: &mut Watched, number: u32| it.sends(RST_STREAM, 2 * number + 1, &[0, 0, 0, 8]);
        assert_eq!(watched().until_flood(cancelled).1, None);
    }

    #[test]
    fn a_head_is_coming_from_its_first_byte_to_the_end_of_its_last_frame() {
        let mut it = watched();
        let (begun, block) = (it.now, frame(HEADERS, 0, 1, &[0x82, 0x86]));
        it.conduct.received(&block[..5], || begun);
        assert_eq!(it.conduct.head_since(), Some(begun));
        it.passes(Duration::from_secs(3));
        let now = it.now;
        it.conduct.received(&block[5..], || now);
        it.gets(CONTINUATION, 0, 1, &[]);
        assert_eq!(it.conduct.head_since(), Some(begun));
        it.gets(CONTINUATION, END_HEADERS, 1, &[0x84]);
        assert_eq!(it.conduct.head_since(), None);
    }

    #[test]
    fn what_h2_itself_finds_too_much_is_known_by_its_goaway() {
        for (said, flood) in [
            ("too_many_continuations", Some(Flood::Continuations)),
            ("header_list_way_too_large", Some(Flood::HeaderList)),
            ("too_many_data_frames", Some(Flood::ControlFrames)),
            ("too_many_resets", Some(Flood::Resets)),
        ] {
            let mut it = watched();
            it.sends(GOAWAY, 0, &[&[0, 0, 0, 1, 0, 0, 0, 11], said.as_bytes()].concat());
            assert_eq!(it.conduct.flood(), flood);
        }
        let mut it = watched();
        it.sends(GOAWAY, 0, &[0, 0, 0, 1, 0, 0, 0, 0]);
        assert_eq!(it.conduct.flood(), None);
    }
}
