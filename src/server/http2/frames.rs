//! The heads of HTTP/2 frames, read from bytes as they pass in whatever pieces.
//!
//! It only looks: what the frames mean is h2's business, and what is allowed `flood.rs`'s.

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
pub(super) const PADDED: u8 = 8;

/// Of a frame's head (RFC 9113 4.1).
const HEAD: usize = 9;
/// What RST_STREAM and WINDOW_UPDATE say.
const WORD: usize = 4;
/// No kind of frame: the client's preface.
const PREFACE: u8 = 0xff;

/// A frame whose head has passed.
pub(super) struct Frame<'b> {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) length: usize,
    pub(super) stream: u32,
    /// What is at hand of it: of RST_STREAM and WINDOW_UPDATE at least the first word.
    pub(super) payload: &'b [u8],
}

impl Frame<'_> {
    /// The word at this place of the payload; 0 when it is not at hand.
    pub(super) fn word(&self, at: usize) -> u32 {
        let word = self.payload.get(at..at + WORD).and_then(|word| word.try_into().ok());
        word.map_or(0, u32::from_be_bytes)
    }
}

/// One direction of a connection.
pub(super) struct FrameHeads {
    /// A head that has not come whole.
    held: [u8; HEAD + WORD],
    filled: usize,
    /// The kind of the frame that is passing.
    kind: u8,
    /// Of its payload.
    left: usize,
}

impl FrameHeads {
    /// From the beginning of the first frame.
    pub(super) fn new() -> Self {
        Self { held: [0; HEAD + WORD], filled: 0, kind: PREFACE, left: 0 }
    }

    /// Behind this many bytes that are no frame.
    pub(super) fn behind(left: usize) -> Self {
        Self { left, ..Self::new() }
    }

    /// The bytes that follow; each frame is `seen` as soon as its head is there.
    pub(super) fn read(&mut self, mut bytes: &[u8], mut seen: impl FnMut(&Frame<'_>)) {
        loop {
            let skipped = self.left.min(bytes.len());
            self.left -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return;
            }
            if self.filled == 0 && bytes.len() >= HEAD + WORD {
                let frame = frame(bytes);
                (self.kind, self.left) = (frame.kind, frame.length);
                seen(&frame);
                bytes = &bytes[HEAD..];
            } else {
                bytes = self.piece(bytes, &mut seen);
            }
        }
    }

    /// Takes what it lacks of a head that comes in pieces; gives back the rest.
    fn piece<'b>(&mut self, bytes: &'b [u8], seen: &mut impl FnMut(&Frame<'_>)) -> &'b [u8] {
        for (index, byte) in bytes.iter().enumerate() {
            self.held[self.filled] = *byte;
            self.filled += 1;
            if self.filled < HEAD || self.filled < wanted(&self.held) {
                continue;
            }
            let frame = frame(&self.held[..self.filled]);
            (self.kind, self.left) = (frame.kind, frame.length - (self.filled - HEAD));
            seen(&frame);
            self.filled = 0;
            return &bytes[index + 1..];
        }
        &[]
    }

    /// The kind of the frame that has come in part.
    pub(super) fn unfinished(&self) -> Option<u8> {
        match (self.left, self.filled) {
            (1.., _) => Some(self.kind),
            // As soon as it is told.
            (0, 4..) => Some(self.held[3]),
            _ => None,
        }
    }
}

fn length(head: &[u8]) -> usize {
    usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2])
}

/// How many bytes are looked at together.
fn wanted(head: &[u8]) -> usize {
    let has_word = matches!(head[3], RST_STREAM | WINDOW_UPDATE) && length(head) >= WORD;
    if has_word { HEAD + WORD } else { HEAD }
}

/// The frame that begins here; its head is there.
fn frame(bytes: &[u8]) -> Frame<'_> {
    let length = length(bytes);
    Frame {
        kind: bytes[3],
        flags: bytes[4],
        length,
        stream: u32::from_be_bytes([bytes[5] & 0x7f, bytes[6], bytes[7], bytes[8]]),
        payload: &bytes[HEAD..bytes.len().min(HEAD + length)],
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes_of(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    /// What is told of a frame, however it came.
    fn told(frame: &Frame<'_>) -> (u8, u8, usize, u32, u32) {
        let has_word = matches!(frame.kind, RST_STREAM | WINDOW_UPDATE);
        (frame.kind, frame.flags, frame.length, frame.stream, if has_word { frame.word(0) } else { 0 })
    }

    fn any_frame() -> impl Strategy<Value = (u8, u8, u32, Vec<u8>)> {
        (0..12u8, any::<u8>(), 0..1u32 << 31, prop::collection::vec(any::<u8>(), 0..40))
    }

    proptest! {
        #[test]
        fn frames_are_the_same_in_whatever_pieces_they_come(
            frames in prop::collection::vec(any_frame(), 1..12),
            cuts in prop::collection::vec(1..30usize, 1..40),
        ) {
            let mut bytes = b"preface".to_vec();
            for (kind, flags, stream, payload) in &frames {
                bytes.extend(bytes_of(*kind, *flags, *stream, payload));
            }
            let (mut heads, mut seen) = (FrameHeads::behind(7), Vec::new());
            let (mut rest, mut cuts) = (&bytes[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (piece, next) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
                heads.read(piece, |frame| seen.push(told(frame)));
                rest = next;
            }
            let expected: Vec<_> = frames
                .iter()
                .map(|(kind, flags, stream, payload)| {
                    let frame = Frame {
                        kind: *kind, flags: *flags, stream: *stream, length: payload.len(), payload,
                    };
                    told(&frame)
                })
                .collect();
            prop_assert_eq!(seen, expected);
            prop_assert_eq!(heads.unfinished(), None);
        }
    }

    #[test]
    fn a_frame_that_has_come_in_part_is_unfinished() {
        let mut heads = FrameHeads::new();
        let bytes = bytes_of(HEADERS, 0, 1, b"block");
        heads.read(&bytes[..3], |_| panic!("its kind is not told yet"));
        assert_eq!(heads.unfinished(), None);
        heads.read(&bytes[3..5], |_| panic!("its head is not there yet"));
        assert_eq!(heads.unfinished(), Some(HEADERS));
        heads.read(&bytes[5..11], |_| {});
        assert_eq!(heads.unfinished(), Some(HEADERS));
        heads.read(&bytes[11..], |_| panic!("there is no other"));
        assert_eq!(heads.unfinished(), None);
    }
}
