//! Where a value ends, found without understanding it.
//!
//! Documents are read value by value, so that none is held whole. Brackets are counted and texts passed over, nothing
//! else: whether the value is JSON is for the parser to say, which gets exactly these bytes.

use tokio::io::AsyncRead;

use super::super::{DecodeError, Failure};
use super::fault::Fault;
use super::input::Input;
use super::{fault_of, walk};

/// Looks for the end of one value.
#[derive(Debug)]
struct Frame {
    kind: Kind,
    /// Brackets that are open.
    depth: u64,
    in_text: bool,
    /// Bytes looked at.
    seen: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Nested,
    Text,
    /// A number or word, or what is none.
    Bare,
}

impl Frame {
    const fn new(first: u8) -> Self {
        let (kind, in_text) = match first {
            b'{' | b'[' => (Kind::Nested, false),
            b'"' => (Kind::Text, true),
            _ => (Kind::Bare, false),
        };
        Self { kind, depth: 0, in_text, seen: if in_text { 1 } else { 0 } }
    }

    /// The length of the value these bytes begin with, where they hold its end. Called with more bytes it goes on
    /// where it was.
    fn end(&mut self, bytes: &[u8]) -> Option<usize> {
        if self.kind == Kind::Bare {
            let is_part = |byte: &u8| !matches!(byte, b' '..=b'"' | b',' | b'[' | b']' | b'{' | b'}' | b'\t'..=b'\r');
            // The first byte belongs to it whatever it is: something must be taken.
            let more = bytes.get(self.seen.max(1)..)?.iter().take_while(|byte| is_part(byte)).count();
            self.seen = self.seen.max(1) + more;
            return (self.seen < bytes.len()).then_some(self.seen);
        }
        loop {
            let rest = bytes.get(self.seen..)?;
            let is_over = if self.in_text { self.pass_text(rest)? } else { self.pass_bracket(rest)? };
            if is_over {
                return Some(self.seen);
            }
        }
    }

    /// Goes on to the end of a text, or behind what a backslash takes away; nothing where the bytes do not suffice.
    fn pass_text(&mut self, rest: &[u8]) -> Option<bool> {
        let Some(at) = memchr::memchr2(b'"', b'\\', rest) else {
            self.seen += rest.len();
            return None;
        };
        if rest.get(at) == Some(&b'"') {
            self.seen += at + 1;
            self.in_text = false;
            return Some(self.depth == 0);
        }
        // What it takes away may not be there yet: then the backslash is looked at again.
        self.seen += if at + 1 < rest.len() { at + 2 } else { at };
        (at + 1 < rest.len()).then_some(false)
    }

    /// Goes on behind the next bracket or into the next text.
    fn pass_bracket(&mut self, rest: &[u8]) -> Option<bool> {
        let Some(at) = rest.iter().position(|byte| matches!(byte, b'"' | b'{' | b'[' | b'}' | b']')) else {
            self.seen += rest.len();
            return None;
        };
        self.seen += at + 1;
        match rest.get(at) {
            Some(b'"') => self.in_text = true,
            Some(b'{' | b'[') => self.depth += 1,
            _ => self.depth = self.depth.saturating_sub(1),
        }
        Some(!self.in_text && self.depth == 0)
    }
}

/// The length of the value with which the rest of the input begins; all of it is read.
pub(super) async fn value<R: AsyncRead + Send + Unpin>(input: &mut Input<R>) -> Result<usize, Failure> {
    let mut frame = Frame::new(input.rest().first().copied().unwrap_or_default());
    loop {
        let found = frame.end(input.rest());
        let length = found.unwrap_or(input.rest().len());
        if !input.is_within_cap(length) {
            // An object that lost a bracket has no end: the place of the mistake says more than the cap.
            refuse_broken(input)?;
            input.check(length)?;
        }
        if found.is_some() {
            return Ok(length);
        }
        if !input.more().await? {
            if frame.kind == Kind::Bare {
                return Ok(length);
            }
            refuse_broken(input)?;
            return Err(ends(input).into());
        }
    }
}

/// Refuses a value whose end was not found, where what there is of it cannot be the beginning of one.
fn refuse_broken<R: AsyncRead + Send + Unpin>(input: &Input<R>) -> Result<(), DecodeError> {
    match walk::check_beginning(input.within_cap(input.rest())) {
        Some(fault) => Err(fault_of(input.place(), &fault)),
        None => Ok(()),
    }
}

/// The data ended before the document did.
pub(super) fn ends<R: AsyncRead + Send + Unpin>(input: &Input<R>) -> DecodeError {
    fault_of(input.place(), &Fault::Ends)
}
