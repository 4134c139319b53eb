//! Values in Avro's binary form.
//!
//! Read here rather than by the library: it makes a tree of every record, takes a text that is cut off for NULL, and
//! caps allocations for the whole process alike. Here nothing is allocated on a claim, every read is held against the
//! bytes of the block, and every value costs a step, so that what takes no bytes does not go on without end.

use super::super::spell::{Moment, Scalar, Spelt, digits_of, string};
use super::shape::{Shape, Spelling};

/// Why a value cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// The bytes are not what the schema says.
    Damaged(&'static str),
    /// The record is longer than it may be.
    Long,
}

type Result<T> = std::result::Result<T, Fault>;

/// Stands in a block.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
    /// Values that may still be read.
    steps: u64,
}

impl<'a> Cursor<'a> {
    /// May read so many values.
    pub(super) const fn new(bytes: &'a [u8], steps: u64) -> Self {
        Self { rest: bytes, steps }
    }

    /// Bytes not read yet.
    pub(super) const fn left(&self) -> usize {
        self.rest.len()
    }

    fn step(&mut self) -> Result<()> {
        self.steps = self.steps.checked_sub(1).ok_or(Fault::Long)?;
        Ok(())
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) =
            self.rest.split_at_checked(length).ok_or(Fault::Damaged("a value ends behind its block"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let taken = self.take(N)?;
        taken.try_into().map_err(|_impossible| Fault::Damaged("a value ends behind its block"))
    }

    /// A whole number.
    pub(super) fn long(&mut self) -> Result<i64> {
        let mut raw = 0_u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            if shift == 63 && byte > 1 {
                break;
            }
            raw |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed());
            }
        }
        Err(Fault::Damaged("a number has more than 64 bits"))
    }

    fn int(&mut self) -> Result<i32> {
        i32::try_from(self.long()?).map_err(|_too_large| Fault::Damaged("a number has more than 32 bits"))
    }

    /// Bytes with their length in front.
    fn bytes(&mut self) -> Result<&'a [u8]> {
        let length = self.long()?;
        self.take(usize::try_from(length).map_err(|_negative| Fault::Damaged("a length is negative"))?)
    }

    /// The number of values in the next part of an array or map; zero at its end.
    fn part(&mut self) -> Result<u64> {
        let count = self.long()?;
        if count < 0 {
            // The part's length in bytes, for those who want to pass over it.
            self.long()?;
        }
        Ok(count.unsigned_abs())
    }

    fn index(&mut self, most: usize) -> Result<usize> {
        let index = usize::try_from(self.long()?).unwrap_or(usize::MAX);
        if index < most { Ok(index) } else { Err(Fault::Damaged("an enum or union has no such member")) }
    }
}

/// The type that a union's value has; other types as they are.
fn settle<'s>(shape: &'s Shape, cursor: &mut Cursor<'_>) -> Result<&'s Shape> {
    cursor.step()?;
    let Shape::Union(variants) = shape else { return Ok(shape) };
    let index = cursor.index(variants.len())?;
    variants.get(index).map(AsRef::as_ref).ok_or(Fault::Damaged("an enum or union has no such member"))
}

/// A value that holds no others; `None` of those that do.
fn scalar<'a>(shape: &'a Shape, cursor: &mut Cursor<'a>) -> Result<Option<Scalar<'a>>> {
    Ok(Some(match shape {
        Shape::Null => Scalar::Null,
        Shape::Bool => match cursor.array()? {
            [0] => Scalar::Bool(false),
            [1] => Scalar::Bool(true),
            _ => return Err(Fault::Damaged("a boolean is neither true nor false")),
        },
        Shape::Int => Scalar::Signed(cursor.int()?.into()),
        Shape::Long => Scalar::Signed(cursor.long()?),
        Shape::Float => Scalar::Single(f32::from_le_bytes(cursor.array()?)),
        Shape::Double => Scalar::Double(f64::from_le_bytes(cursor.array()?)),
        Shape::Bytes => Scalar::Bytes(cursor.bytes()?),
        Shape::Text | Shape::Uuid(Spelling::Text) => Scalar::Text(cursor.bytes()?),
        Shape::Fixed(size) => Scalar::Bytes(cursor.take(*size)?),
        Shape::Enum(symbols) => {
            let index = cursor.index(symbols.len())?;
            Scalar::Text(symbols.get(index).map_or(&[], |symbol| symbol.as_bytes()))
        }
        Shape::Decimal(scale, size) => {
            let bytes = match size {
                Some(size) => cursor.take(*size)?,
                None => cursor.bytes()?,
            };
            let digits = digits_of(bytes).ok_or(Fault::Damaged("a decimal number has hundreds of digits"))?;
            Scalar::Decimal(digits, *scale)
        }
        Shape::Uuid(Spelling::Bytes) => {
            let bytes = cursor.bytes()?;
            Scalar::Uuid(bytes.try_into().map_err(|_length| Fault::Damaged("a UUID has not sixteen bytes"))?)
        }
        Shape::Uuid(Spelling::Fixed) => Scalar::Uuid(cursor.array()?),
        Shape::Date => Scalar::Date(cursor.int()?.into()),
        Shape::Time(1000) => Scalar::Time(i64::from(cursor.int()?) * 1_000_000),
        Shape::Time(per_second) => {
            let nanos = cursor.long()?.checked_mul(1_000_000_000 / per_second);
            Scalar::Time(nanos.ok_or(Fault::Damaged("a time of day is none"))?)
        }
        Shape::Moment(per_second, is_utc) => Scalar::Moment(Moment::new(cursor.long()?, *per_second, *is_utc)),
        Shape::Refused(size) => {
            match size {
                Some(size) => cursor.take(*size)?,
                None => cursor.bytes()?,
            };
            Scalar::Text(b"of a type that is not read")
        }
        Shape::Array(_) | Shape::Map(_) | Shape::Record(_) | Shape::Union(_) => return Ok(None),
    }))
}

/// Passes over a value.
pub(super) fn skip<'a>(shape: &'a Shape, cursor: &mut Cursor<'a>) -> Result<()> {
    let shape = settle(shape, cursor)?;
    match shape {
        Shape::Array(item) => each(cursor, |cursor| skip(item, cursor)),
        Shape::Map(value) => each(cursor, |cursor| {
            cursor.bytes()?;
            skip(value, cursor)
        }),
        Shape::Record(fields) => fields.iter().try_for_each(|(_, shape)| skip(shape, cursor)),
        // Spelling a number nobody wants would be work for nothing.
        Shape::Decimal(_, None) => cursor.bytes().map(drop),
        other => scalar(other, cursor).map(drop),
    }
}

fn each<'a>(cursor: &mut Cursor<'a>, mut one: impl FnMut(&mut Cursor<'a>) -> Result<()>) -> Result<()> {
    loop {
        let count = cursor.part()?;
        if count == 0 {
            return Ok(());
        }
        for _ in 0..count {
            one(cursor)?;
        }
    }
}

/// Appends a value as JSON; stops soon after the text has grown beyond `most` bytes.
pub(super) fn json<'a>(shape: &'a Shape, cursor: &mut Cursor<'a>, (most, out): (usize, &mut Vec<u8>)) -> Result<()> {
    let shape = settle(shape, cursor)?;
    match shape {
        Shape::Array(item) => {
            out.push(b'[');
            let mut separator = Separator::default();
            each(cursor, |cursor| {
                separator.put(out);
                json(item, cursor, (most, out))
            })?;
            out.push(b']');
        }
        Shape::Map(value) => {
            out.push(b'{');
            let mut separator = Separator::default();
            each(cursor, |cursor| {
                separator.put(out);
                string(&String::from_utf8_lossy(cursor.bytes()?), out);
                out.push(b':');
                json(value, cursor, (most, out))
            })?;
            out.push(b'}');
        }
        Shape::Record(fields) => {
            out.push(b'{');
            let mut separator = Separator::default();
            for (name, shape) in fields.iter() {
                separator.put(out);
                string(name, out);
                out.push(b':');
                json(shape, cursor, (most, out))?;
            }
            out.push(b'}');
        }
        other => {
            if let Some(scalar) = scalar(other, cursor)? {
                scalar.json(out);
            }
        }
    }
    if out.len() > most { Err(Fault::Long) } else { Ok(()) }
}

/// A comma between values.
#[derive(Default)]
struct Separator {
    is_due: bool,
}

impl Separator {
    fn put(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.is_due, true) {
            out.push(b',');
        }
    }
}

/// Appends a value: a scalar as its text, all others as JSON. Also says whether it is finer than PostgreSQL's.
pub(super) fn spell<'a>(
    shape: &'a Shape,
    cursor: &mut Cursor<'a>,
    (most, out): (usize, &mut Vec<u8>),
) -> Result<(Spelt, bool)> {
    let start = out.len();
    let mut ahead = cursor.clone();
    let settled = settle(shape, &mut ahead)?;
    if let Some(scalar) = scalar(settled, &mut ahead)? {
        *cursor = ahead;
        let spelt = scalar.spell(out);
        return if out.len() > most { Err(Fault::Long) } else { Ok((spelt, scalar.is_finer_than_micros())) };
    }
    json(shape, cursor, (most, out))?;
    Ok((Spelt::Nested(start..out.len()), false))
}

/// Goes to a value inside: `None` where the record has none.
pub(super) fn find<'a>(shape: &'a Shape, cursor: &mut Cursor<'a>, steps: &[String]) -> Result<Option<&'a Shape>> {
    let Some((first, rest)) = steps.split_first() else { return Ok(Some(shape)) };
    match settle(shape, cursor)? {
        Shape::Record(fields) => {
            for (name, shape) in fields.iter() {
                if name == first {
                    return find(shape, cursor, rest);
                }
                skip(shape, cursor)?;
            }
            Ok(None)
        }
        Shape::Map(value) => loop {
            let count = cursor.part()?;
            if count == 0 {
                return Ok(None);
            }
            for _ in 0..count {
                if cursor.bytes()? == first.as_bytes() {
                    return find(value, cursor, rest);
                }
                skip(value, cursor)?;
            }
        },
        _ => Ok(None),
    }
}
