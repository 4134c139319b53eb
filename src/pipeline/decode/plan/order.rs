//! Which of two values of a type comes first, by their wire forms: exact at every precision, and without a second parser.

use std::cmp::Ordering;

use crate::store::encode::ColumnType;

/// How the values of a type are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Whole numbers, and times counted in whole numbers.
    Signed,
    /// Binary floating point.
    Float,
    /// Decimal numbers of any precision.
    Numeric,
}

impl Order {
    /// The order of a type, where `min` and `max` make sense for it.
    pub(super) const fn of(kind: &ColumnType) -> Option<Self> {
        match kind {
            ColumnType::Int2
            | ColumnType::Int4
            | ColumnType::Int8
            | ColumnType::Date
            | ColumnType::Time
            | ColumnType::Timestamp
            | ColumnType::Timestamptz => Some(Self::Signed),
            ColumnType::Float4 | ColumnType::Float8 => Some(Self::Float),
            ColumnType::Numeric => Some(Self::Numeric),
            ColumnType::Bool
            | ColumnType::Text { .. }
            | ColumnType::Char { .. }
            | ColumnType::Bytea
            | ColumnType::Uuid
            | ColumnType::Json
            | ColumnType::Jsonb
            | ColumnType::Enum { .. }
            | ColumnType::Array { .. }
            | ColumnType::Other => None,
        }
    }

    /// Compares two payloads that the encoder made.
    pub(super) fn compare(self, left: &[u8], right: &[u8]) -> Ordering {
        match self {
            Self::Signed => signed(left).cmp(&signed(right)),
            // No NaN gets here; the two zeros are equal.
            Self::Float => float(left).partial_cmp(&float(right)).unwrap_or(Ordering::Equal),
            Self::Numeric => numeric(left, right),
        }
    }
}

/// A number of up to eight bytes in two's complement.
fn signed(payload: &[u8]) -> i64 {
    let fill = payload.first().map_or(0, |first| if *first < 0x80 { 0 } else { -1 });
    payload.iter().fold(fill, |value, byte| value << 8 | i64::from(*byte))
}

fn float(payload: &[u8]) -> f64 {
    match (payload.as_array::<4>(), payload.as_array::<8>()) {
        (Some(single), _) => f64::from(f32::from_be_bytes(*single)),
        (None, Some(double)) => f64::from_be_bytes(*double),
        (None, None) => f64::NAN,
    }
}

/// A `numeric` on the wire: digits of base 10000, the first of which counts 10000 to the power of `weight`.
struct Numeric<'a> {
    sign: Ordering,
    weight: i16,
    /// Without zeros at either end, so that equal numbers have equal digits.
    digits: &'a [[u8; 2]],
}

impl<'a> Numeric<'a> {
    fn read(payload: &'a [u8]) -> Self {
        let (words, _) = payload.as_chunks::<2>();
        match words {
            [_, weight, sign, _, digits @ ..] if !digits.is_empty() => {
                let sign = if *sign == [0, 0] { Ordering::Greater } else { Ordering::Less };
                Self { sign, weight: i16::from_be_bytes(*weight), digits }
            }
            _ => Self { sign: Ordering::Equal, weight: 0, digits: &[] },
        }
    }
}

fn numeric(left: &[u8], right: &[u8]) -> Ordering {
    let (left, right) = (Numeric::read(left), Numeric::read(right));
    if left.sign != right.sign || left.sign == Ordering::Equal {
        return left.sign.cmp(&right.sign);
    }
    // A number whose digits are the beginning of the other's is the smaller one: those that follow are not all zero.
    let size = left.weight.cmp(&right.weight).then_with(|| left.digits.cmp(right.digits));
    if left.sign == Ordering::Less { size.reverse() } else { size }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use jiff::tz::TimeZone;

    use super::*;
    use crate::store::encode::encode_cell;

    fn payload(kind: &ColumnType, text: &str) -> Vec<u8> {
        let mut out = BytesMut::new();
        encode_cell(kind, text.as_bytes(), &TimeZone::UTC, &mut out).unwrap();
        out[4..].to_vec()
    }

    /// Every pair of values given in ascending order; those of one inner list are equal.
    fn check(kind: &ColumnType, ascending: &[&[&str]]) {
        let order = Order::of(kind).unwrap();
        for (i, left) in ascending.iter().enumerate() {
            for (j, right) in ascending.iter().enumerate() {
                for (left, right) in left.iter().flat_map(|left| right.iter().map(move |right| (left, right))) {
                    let found = order.compare(&payload(kind, left), &payload(kind, right));
                    assert_eq!(found, i.cmp(&j), "{kind:?}: {left} and {right}");
                }
            }
        }
    }

    #[test]
    fn whole_numbers_are_ordered_to_the_ends_of_their_range() {
        check(&ColumnType::Int2, &[&["-32768"], &["-1"], &["0", "-0"], &["1", "+1", "01"], &["32767"]]);
        check(&ColumnType::Int4, &[&["-2147483648"], &["-256"], &["255"], &["256"], &["2147483647"]]);
        check(&ColumnType::Int8, &[&["-9223372036854775808"], &["-1"], &["0"], &["9223372036854775807"]]);
    }

    #[test]
    fn decimal_numbers_are_ordered_exactly() {
        check(
            &ColumnType::Numeric,
            &[
                &["-1e20"],
                &["-10000.0001"],
                &["-10000"],
                &["-0.00010001"],
                &["-0.0001"],
                &["0", "-0", "0.000", "0e5"],
                &["1e-40"],
                &["0.0001"],
                &["0.00010000000000000000000000000000000001"],
                &["1", "1.0", "1.0000000000000000000000000000000000", "1e0", "0.1e1"],
                &["1.00000000000000000000000000000000000001"],
                &["9999.9999"],
                &["10000", "1e4", "10000.0"],
                &["123456789012345678901234567890"],
                &["123456789012345678901234567890.5"],
            ],
        );
    }

    #[test]
    fn floats_dates_and_times_are_ordered() {
        check(&ColumnType::Float8, &[&["-1e308"], &["-0", "0"], &["5e-324"], &["0.1"], &["1e308"]]);
        check(&ColumnType::Float4, &[&["-1.5"], &["0.1", "0.10000000149"], &["2"]]);
        check(&ColumnType::Date, &[&["0001-01-01"], &["1999-12-31"], &["2000-01-01"], &["9999-12-31"]]);
        check(&ColumnType::Time, &[&["00:00"], &["23:59:59.999999"], &["24:00:00"]]);
        check(
            &ColumnType::Timestamptz,
            &[&["1999-12-31 23:59:59.999999Z"], &["2000-01-01 00:00Z", "2000-01-01 01:00+01"], &["2000-01-01 00:01Z"]],
        );
    }
}
