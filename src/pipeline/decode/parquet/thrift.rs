//! As much of Thrift's compact protocol as it takes to look at what a file claims before a library believes it.
//!
//! Nothing is allocated and nothing is called recursively deeper than [`DEEPEST`]; every claim is held against the
//! bytes that are there. What a reader of this module accepts, the library reads in the same way: the types of fields
//! that matter are checked, not assumed.

/// Deepest nesting of structures; the format's own are some six levels deep.
const DEEPEST: u32 = 32;

/// Types of the protocol.
pub(super) const I32: u8 = 5;
pub(super) const LIST: u8 = 9;
pub(super) const STRUCT: u8 = 12;

/// The bytes are not what the protocol writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

type Result<T> = std::result::Result<T, Malformed>;

/// Reads on from where it stands.
#[derive(Clone)]
pub(super) struct Compact<'a> {
    rest: &'a [u8],
}

/// A field's type and number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag {
    pub(super) kind: u8,
    pub(super) id: i16,
}

impl<'a> Compact<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes not read yet.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    fn byte(&mut self) -> Result<u8> {
        let (first, rest) = self.rest.split_first().ok_or(Malformed)?;
        self.rest = rest;
        Ok(*first)
    }

    fn jump(&mut self, bytes: u64) -> Result<()> {
        let bytes = usize::try_from(bytes).map_err(|_too_many| Malformed)?;
        self.rest = self.rest.get(bytes..).ok_or(Malformed)?;
        Ok(())
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    /// A whole number of 32 bits.
    pub(super) fn i32(&mut self) -> Result<i32> {
        let raw = self.varint()?;
        let value = (raw >> 1).cast_signed() ^ -(raw & 1).cast_signed();
        i32::try_from(value).map_err(|_too_large| Malformed)
    }

    /// The next field of a structure; `None` at its end.
    pub(super) fn field(&mut self, last: i16) -> Result<Option<Tag>> {
        let head = self.byte()?;
        let (delta, kind) = (i16::from(head >> 4), head & 0x0f);
        if kind == 0 {
            return Ok(None);
        }
        let id = if delta == 0 {
            i16::try_from(self.i32()?).map_err(|_too_large| Malformed)?
        } else {
            last.checked_add(delta).ok_or(Malformed)?
        };
        Ok(Some(Tag { kind, id }))
    }

    /// Type of a list's elements and their number, which is no more than there are bytes: each takes one.
    pub(super) fn list(&mut self) -> Result<(u8, usize)> {
        let head = self.byte()?;
        let count = match head >> 4 {
            15 => self.varint()?,
            count => u64::from(count),
        };
        let count = usize::try_from(count).map_err(|_too_many| Malformed)?;
        if count > self.left() { Err(Malformed) } else { Ok((head & 0x0f, count)) }
    }

    /// Passes over a value.
    pub(super) fn skip(&mut self, kind: u8) -> Result<()> {
        self.skip_at(kind, 0)
    }

    fn skip_at(&mut self, kind: u8, depth: u32) -> Result<()> {
        if depth > DEEPEST {
            return Err(Malformed);
        }
        match kind {
            // A boolean that is a field stands in its tag.
            1 | 2 if depth == 0 => Ok(()),
            1..=3 => self.byte().map(drop),
            4..=6 => self.varint().map(drop),
            7 => self.jump(8),
            8 => {
                let length = self.varint()?;
                self.jump(length)
            }
            LIST | 10 => {
                let (element, count) = self.list()?;
                (0..count).try_for_each(|_| self.skip_at(element, depth + 1))
            }
            11 => {
                let count = self.varint()?;
                if count > self.left() as u64 {
                    return Err(Malformed);
                }
                if count > 0 {
                    let kinds = self.byte()?;
                    for _ in 0..count {
                        self.skip_at(kinds >> 4, depth + 1)?;
                        self.skip_at(kinds & 0x0f, depth + 1)?;
                    }
                }
                Ok(())
            }
            STRUCT => {
                let mut last = 0;
                while let Some(tag) = self.field(last)? {
                    last = tag.id;
                    if !matches!(tag.kind, 1 | 2) {
                        self.skip_at(tag.kind, depth + 1)?;
                    }
                }
                Ok(())
            }
            _ => Err(Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_cannot_claim_more_elements_than_there_are_bytes() {
        assert_eq!(Compact::new(&[0x35, 1, 2, 3]).list(), Ok((5, 3)));
        assert_eq!(Compact::new(&[0x35, 1, 2]).list(), Err(Malformed));
        assert_eq!(Compact::new(&[0xf5, 0x80, 0x80, 0x80, 0x80, 0x08, 1]).list(), Err(Malformed));
    }

    #[test]
    fn numbers_and_structures_end_where_their_bytes_do() {
        assert_eq!(Compact::new(&[0x01]).i32(), Ok(-1));
        assert_eq!(Compact::new(&[0xff, 0xff, 0xff, 0xff, 0x0f]).i32(), Ok(i32::MIN));
        assert_eq!(Compact::new(&[0xff, 0xff, 0xff, 0xff, 0x1f]).i32(), Err(Malformed));
        assert_eq!(Compact::new(&[0xff]).i32(), Err(Malformed));
        let mut nested = Compact::new(&[0x1c, 0x15, 2, 0, 0x11, 0, 9]);
        assert_eq!((nested.skip(STRUCT), nested.left()), (Ok(()), 1));
        assert_eq!(Compact::new(&[0x1c; 40]).skip(STRUCT), Err(Malformed));
        assert_eq!(Compact::new(&[0x19; 100]).skip(STRUCT), Err(Malformed));
    }
}
