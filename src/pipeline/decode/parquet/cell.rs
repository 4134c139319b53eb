//! One value of a batch: from Arrow's arrays to its spelling.

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Decimal256Type, Float16Type, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, Time32MillisecondType, Time32SecondType, Time64MicrosecondType,
    Time64NanosecondType, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_schema::{DataType, TimeUnit};

use super::super::spell::{Moment, Scalar, Spelt, string};
use super::kind::{Kind, Leaf};

/// Why a value could not be spelt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is longer than a record may be.
    Long,
    /// The array is not of the type that the schema says.
    Mismatch,
}

/// Appends a value as JSON; stops soon after the text has grown beyond `most` bytes.
pub(super) fn json(
    array: &dyn Array,
    kind: &Kind,
    row: usize,
    (most, out): (usize, &mut Vec<u8>),
) -> Result<(), Fault> {
    if array.is_null(row) {
        out.extend_from_slice(b"null");
        return Ok(());
    }
    match kind {
        Kind::Scalar(leaf) => scalar(array, *leaf, row)?.json(out),
        Kind::List(item) => {
            let items = array.as_list_opt::<i32>().ok_or(Fault::Mismatch)?.value(row);
            out.push(b'[');
            for index in 0..items.len() {
                separate(index, out);
                json(items.as_ref(), item, index, (most, out))?;
            }
            out.push(b']');
        }
        Kind::Struct(fields) => {
            let parts = array.as_struct_opt().ok_or(Fault::Mismatch)?;
            out.push(b'{');
            for (index, ((name, kind), part)) in fields.iter().zip(parts.columns()).enumerate() {
                separate(index, out);
                string(name, out);
                out.push(b':');
                json(part.as_ref(), kind, row, (most, out))?;
            }
            out.push(b'}');
        }
        Kind::Map(key, value) => {
            let pairs = array.as_map_opt().ok_or(Fault::Mismatch)?.value(row);
            let [keys, values] = pairs.columns() else { return Err(Fault::Mismatch) };
            out.push(b'{');
            for index in 0..pairs.len() {
                separate(index, out);
                name(keys.as_ref(), key, index, (most, out))?;
                out.push(b':');
                json(values.as_ref(), value, index, (most, out))?;
            }
            out.push(b'}');
        }
        Kind::Refused => out.extend_from_slice(b"\"of a type that is not read\""),
    }
    if out.len() > most { Err(Fault::Long) } else { Ok(()) }
}

fn separate(index: usize, out: &mut Vec<u8>) {
    if index > 0 {
        out.push(b',');
    }
}

/// The key of a map: a text, or the JSON of anything else as a text.
fn name(keys: &dyn Array, kind: &Kind, index: usize, (most, out): (usize, &mut Vec<u8>)) -> Result<(), Fault> {
    let start = out.len();
    json(keys, kind, index, (most, out))?;
    if out.get(start) != Some(&b'"') {
        let key = String::from_utf8_lossy(out.get(start..).unwrap_or_default()).into_owned();
        out.truncate(start);
        string(&key, out);
    }
    Ok(())
}

/// Appends a value that holds others.
pub(super) fn nested(
    array: &dyn Array,
    kind: &Kind,
    row: usize,
    (most, out): (usize, &mut Vec<u8>),
) -> Result<Spelt, Fault> {
    let start = out.len();
    json(array, kind, row, (most, out))?;
    Ok(Spelt::Nested(start..out.len()))
}

/// A value that is not NULL.
pub(super) fn scalar(array: &dyn Array, leaf: Leaf, row: usize) -> Result<Scalar<'_>, Fault> {
    let found = match array.data_type() {
        DataType::Null => Some(Scalar::Null),
        DataType::Boolean => array.as_boolean_opt().map(|values| Scalar::Bool(values.value(row))),
        DataType::Int8 => signed::<Int8Type>(array, row),
        DataType::Int16 => signed::<Int16Type>(array, row),
        DataType::Int32 => signed::<Int32Type>(array, row),
        DataType::Int64 => signed::<Int64Type>(array, row),
        DataType::UInt8 => unsigned::<UInt8Type>(array, row),
        DataType::UInt16 => unsigned::<UInt16Type>(array, row),
        DataType::UInt32 => unsigned::<UInt32Type>(array, row),
        DataType::UInt64 => unsigned::<UInt64Type>(array, row),
        DataType::Float16 => native::<Float16Type>(array, row).map(|value| Scalar::Single(value.to_f32())),
        DataType::Float32 => native::<Float32Type>(array, row).map(Scalar::Single),
        DataType::Float64 => native::<Float64Type>(array, row).map(Scalar::Double),
        DataType::Utf8View => array.as_string_view_opt().map(|values| Scalar::Text(values.value(row).as_bytes())),
        DataType::BinaryView => array.as_binary_view_opt().map(|values| Scalar::Bytes(values.value(row))),
        DataType::FixedSizeBinary(_) => {
            let bytes = array.as_fixed_size_binary_opt().map(|values| values.value(row));
            bytes.map(|bytes| match (leaf, bytes.try_into()) {
                (Leaf::Uuid, Ok(uuid)) => Scalar::Uuid(uuid),
                _ => Scalar::Bytes(bytes),
            })
        }
        DataType::Decimal128(_, scale) => decimal::<Decimal128Type>(array, *scale, row),
        DataType::Decimal256(_, scale) => decimal::<Decimal256Type>(array, *scale, row),
        other => temporal(array, other, row),
    };
    found.ok_or(Fault::Mismatch)
}

fn temporal<'a>(array: &'a dyn Array, data_type: &DataType, row: usize) -> Option<Scalar<'a>> {
    let time = |value: i64, nanos: i64| value.checked_mul(nanos).map(Scalar::Time);
    match data_type {
        DataType::Date32 => native::<Date32Type>(array, row).map(|days| Scalar::Date(i64::from(days))),
        DataType::Time32(TimeUnit::Second) => time(native::<Time32SecondType>(array, row)?.into(), 1_000_000_000),
        DataType::Time32(TimeUnit::Millisecond) => time(native::<Time32MillisecondType>(array, row)?.into(), 1_000_000),
        DataType::Time64(TimeUnit::Microsecond) => time(native::<Time64MicrosecondType>(array, row)?, 1000),
        DataType::Time64(TimeUnit::Nanosecond) => time(native::<Time64NanosecondType>(array, row)?, 1),
        DataType::Timestamp(unit, zone) => {
            let (count, per_second) = match unit {
                TimeUnit::Second => (native::<TimestampSecondType>(array, row)?, 1),
                TimeUnit::Millisecond => (native::<TimestampMillisecondType>(array, row)?, 1000),
                TimeUnit::Microsecond => (native::<TimestampMicrosecondType>(array, row)?, 1_000_000),
                TimeUnit::Nanosecond => (native::<TimestampNanosecondType>(array, row)?, 1_000_000_000),
            };
            Some(Scalar::Moment(Moment::new(count, per_second, zone.is_some())))
        }
        _ => None,
    }
}

/// A moment of INT96: microseconds from the one reader, what is finer from the other, whose count of nanoseconds wraps
/// around but differs from the microseconds by less than a thousand.
pub(super) fn int96(micros: &dyn Array, nanos: &dyn Array, row: usize) -> Result<Scalar<'static>, Fault> {
    let micros = native::<TimestampMicrosecondType>(micros, row).ok_or(Fault::Mismatch)?;
    let nanos = native::<TimestampNanosecondType>(nanos, row).ok_or(Fault::Mismatch)?;
    let finer = nanos.wrapping_sub(micros.wrapping_mul(1000));
    Ok(Scalar::Moment(Moment::new(micros, 1_000_000, false).plus_nanos(finer.rem_euclid(1000))))
}

fn native<T: ArrowPrimitiveType>(array: &dyn Array, row: usize) -> Option<T::Native> {
    array.as_primitive_opt::<T>().map(|values| values.value(row))
}

fn signed<T: ArrowPrimitiveType<Native: Into<i64>>>(array: &dyn Array, row: usize) -> Option<Scalar<'static>> {
    native::<T>(array, row).map(|value| Scalar::Signed(value.into()))
}

fn unsigned<T: ArrowPrimitiveType<Native: Into<u64>>>(array: &dyn Array, row: usize) -> Option<Scalar<'static>> {
    native::<T>(array, row).map(|value| Scalar::Unsigned(value.into()))
}

fn decimal<T>(array: &dyn Array, scale: i8, row: usize) -> Option<Scalar<'static>>
where
    T: ArrowPrimitiveType<Native: std::fmt::Display>,
{
    let scale = usize::try_from(scale).ok()?;
    native::<T>(array, row).map(|value| Scalar::Decimal(value.to_string(), scale))
}
