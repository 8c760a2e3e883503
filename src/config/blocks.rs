//! A text -> the blocks of its routes and services, and the rest.
//!
//! A block is `[[routes]]` or `[services.NAME]` with what belongs to it, up to the next header. Headers are looked for
//! at the beginnings of lines alone, which a string of several lines can deceive: whether a cut was sound is proven when
//! the pieces are read (`piecewise.rs`), so this may be naive.

use std::ops::Range;

/// What stands in the rest where blocks were taken out. An empty route is legal where a statement begins and nowhere
/// else, and can be counted.
pub(super) const SEAM: &str = "[[routes]]\n";

/// A text in pieces.
#[derive(Debug, PartialEq)]
pub(super) struct Pieces {
    /// Everything but the blocks, with [`SEAM`] where some were.
    pub(super) rest: String,
    /// How often.
    pub(super) seams: usize,
    /// In the order of the text.
    pub(super) blocks: Vec<Block>,
}

/// Where a block stands, and what it is by its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) at: Range<usize>,
    pub(super) is_route: bool,
}

/// What a line that begins with a bracket does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Header<'t> {
    Route,
    /// A table within the route above.
    OfRoute,
    /// A service, or a table within it.
    Service(&'t str),
    Other,
}

impl<'t> Header<'t> {
    fn of(line: &'t str) -> Self {
        if line.starts_with("[[routes]]") {
            return Self::Route;
        }
        if line.starts_with("[routes.") || line.starts_with("[[routes.") {
            return Self::OfRoute;
        }
        line.strip_prefix("[services.").and_then(name).map_or(Self::Other, Self::Service)
    }

    /// Whether what follows belongs to the block that `self` began.
    fn continues_with(self, next: Self) -> bool {
        match self {
            Self::Route => next == Self::OfRoute,
            Self::Service(_) => self == next,
            Self::OfRoute | Self::Other => false,
        }
    }

    fn begins_block(self) -> bool {
        matches!(self, Self::Route | Self::Service(_))
    }
}

/// The name that a header goes on with, as it is written.
fn name(rest: &str) -> Option<&str> {
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let end = match rest.strip_prefix('"') {
        Some(quoted) => quoted.find(['"', '\n'])? + 2,
        None => rest.find(|c| !bare(c))?,
    };
    (end > 0).then(|| &rest[..end])
}

/// Cuts a text. What is no block is in the rest.
pub(super) fn cut(text: &str) -> Pieces {
    let mut pieces = Pieces { rest: String::new(), seams: 0, blocks: Vec::new() };
    let (mut start, mut header) = (0, Header::Other);
    for at in headers(text) {
        let next = Header::of(&text[at..]);
        if header.continues_with(next) {
            continue;
        }
        pieces.add(text, start..at, header);
        (start, header) = (at, next);
    }
    pieces.add(text, start..text.len(), header);
    pieces
}

/// The lines that begin with a bracket.
fn headers(text: &str) -> impl Iterator<Item = usize> {
    let first = text.starts_with('[').then_some(0);
    first.into_iter().chain(memchr::memmem::find_iter(text.as_bytes(), b"\n[").map(|newline| newline + 1))
}

impl Pieces {
    fn add(&mut self, text: &str, at: Range<usize>, header: Header<'_>) {
        if !header.begins_block() {
            self.rest.push_str(&text[at]);
            return;
        }
        let follows_block = self.blocks.last().is_some_and(|last| last.at.end == at.start);
        if !follows_block {
            self.rest.push_str(SEAM);
            self.seams += 1;
        }
        self.blocks.push(Block { at, is_route: header == Header::Route });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_keep_their_tables_and_the_rest_keeps_its_order() {
        let text = "a = 1\n[[routes]]\nx = 1\n[routes.y]\n[services.s]\n[services.s.pool]\n[services.\"t.u\"]\n[node]\n[[routes]]\n";
        let pieces = cut(text);
        assert_eq!(pieces.rest, "a = 1\n[[routes]]\n[node]\n[[routes]]\n");
        assert_eq!(pieces.seams, 2);
        let blocks: Vec<&str> = pieces.blocks.iter().map(|block| &text[block.at.clone()]).collect();
        let expected = [
            "[[routes]]\nx = 1\n[routes.y]\n",
            "[services.s]\n[services.s.pool]\n",
            "[services.\"t.u\"]\n",
            "[[routes]]\n",
        ];
        assert_eq!(blocks, expected);
    }

    #[test]
    fn a_text_without_blocks_is_all_rest() {
        for text in ["", "[", "  [[routes]]\n", "x = 1\n[services]\na = 1\n[services. a]\n"] {
            assert_eq!(cut(text), Pieces { rest: text.to_owned(), seams: 0, blocks: Vec::new() });
        }
    }
}
