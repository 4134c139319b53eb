//! Values of formats that have types of their own, spelt as texts that PostgreSQL reads and as JSON.
//!
//! Spelling is exact: a number keeps its digits, a decimal its scale, a moment its nanoseconds. Nothing is rounded and
//! nothing is refused here, not even a year no calendar has: whoever reads the text as a value of a column does that.

use std::io::Write as _;
use std::ops::Range;

use super::reader::Value;

/// Seconds of a day.
const DAY: i64 = 86_400;

/// Longest decimal that is spelt, in bytes: some three hundred digits. The work grows with the square of it.
const LONGEST_DECIMAL: usize = 128;

/// One value that holds no others.
#[derive(Debug, Clone, PartialEq)]
pub enum Scalar<'a> {
    /// NULL.
    Null,
    /// A boolean.
    Bool(bool),
    /// A whole number.
    Signed(i64),
    /// A whole number that is never negative.
    Unsigned(u64),
    /// A floating-point number of 32 bits.
    Single(f32),
    /// One of 64 bits.
    Double(f64),
    /// A decimal number by its digits, with a sign where it has one, and how many of them stand behind the point.
    Decimal(String, usize),
    /// A text; UTF-8 if its writer kept to the rules.
    Text(&'a [u8]),
    /// Bytes that are no text.
    Bytes(&'a [u8]),
    /// Days since 1970.
    Date(i64),
    /// Nanoseconds since midnight.
    Time(i64),
    /// A moment, in UTC, or the reading of a clock nobody knows the place of.
    Moment(Moment),
    /// A UUID.
    Uuid([u8; 16]),
}

/// Seconds since 1970 and nanoseconds, and whether they are counted in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    seconds: i64,
    nanos: i64,
    is_utc: bool,
}

impl Moment {
    /// From a count of units of which `per_second` are a second.
    pub const fn new(count: i64, per_second: i64, is_utc: bool) -> Self {
        let nanos = count.rem_euclid(per_second) * (1_000_000_000 / per_second);
        Self { seconds: count.div_euclid(per_second), nanos, is_utc }
    }

    /// The same with so many nanoseconds more.
    #[must_use]
    pub const fn plus_nanos(self, nanos: i64) -> Self {
        Self { nanos: self.nanos + nanos, ..self }
    }
}

/// A value that was spelt: what it is and where its text stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Spelt {
    /// NULL.
    #[default]
    Null,
    /// A boolean.
    Bool(bool),
    /// A text.
    Text(Range<usize>),
    /// A number.
    Number(Range<usize>),
    /// Bytes.
    Bytes(Range<usize>),
    /// JSON.
    Nested(Range<usize>),
}

impl Spelt {
    /// The value, whose text is among these bytes.
    #[inline]
    pub fn value<'a>(&self, spelt: &'a [u8]) -> Value<'a> {
        let text = |range: &Range<usize>| spelt.get(range.clone()).unwrap_or_default();
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(*value),
            Self::Text(range) => Value::Text(text(range)),
            Self::Number(range) => Value::Number(text(range)),
            Self::Bytes(range) => Value::Bytes(text(range)),
            Self::Nested(range) => Value::Nested(text(range)),
        }
    }
}

impl Scalar<'_> {
    /// Whether microseconds, which is what PostgreSQL counts in, leave something of it out.
    pub fn is_finer_than_micros(&self) -> bool {
        match self {
            Self::Time(nanos) | Self::Moment(Moment { nanos, .. }) => nanos % 1000 != 0,
            _ => false,
        }
    }

    /// Appends the text.
    pub fn spell(&self, out: &mut Vec<u8>) -> Spelt {
        let start = out.len();
        match self {
            Self::Null => return Spelt::Null,
            Self::Bool(value) => return Spelt::Bool(*value),
            Self::Bytes(bytes) => {
                out.extend_from_slice(bytes);
                return Spelt::Bytes(start..out.len());
            }
            Self::Signed(_) | Self::Unsigned(_) | Self::Single(_) | Self::Double(_) | Self::Decimal(..) => {
                self.number(out);
                return Spelt::Number(start..out.len());
            }
            Self::Text(text) => out.extend_from_slice(text),
            Self::Date(days) => date(*days, out),
            Self::Time(nanos) => clock(*nanos, out),
            Self::Moment(moment) => moment.spell(out),
            Self::Uuid(bytes) => put(out, format_args!("{}", uuid::Uuid::from_bytes(*bytes))),
        }
        Spelt::Text(start..out.len())
    }

    /// Appends it as JSON. What is no text is replaced, as it cannot stand in one.
    pub fn json(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Bool(value) => put(out, format_args!("{value}")),
            Self::Single(value) if !value.is_finite() => put(out, format_args!("\"{value}\"")),
            Self::Double(value) if !value.is_finite() => put(out, format_args!("\"{value}\"")),
            Self::Signed(_) | Self::Unsigned(_) | Self::Single(_) | Self::Double(_) | Self::Decimal(..) => {
                self.number(out);
            }
            Self::Text(text) => string(&String::from_utf8_lossy(text), out),
            Self::Bytes(bytes) => {
                out.extend_from_slice(b"\"\\\\x");
                bytes.iter().for_each(|byte| put(out, format_args!("{byte:02x}")));
                out.push(b'"');
            }
            Self::Date(_) | Self::Time(_) | Self::Moment(_) | Self::Uuid(_) => {
                out.push(b'"');
                self.spell(out);
                out.push(b'"');
            }
        }
    }

    fn number(&self, out: &mut Vec<u8>) {
        match self {
            Self::Signed(value) => {
                if *value < 0 {
                    out.push(b'-');
                }
                digits(value.unsigned_abs(), out);
            }
            Self::Unsigned(value) => digits(*value, out),
            // The shortest text that is read as the same number.
            Self::Single(value) if value.is_finite() => write_json(value, out),
            Self::Double(value) if value.is_finite() => write_json(value, out),
            Self::Single(value) => put(out, format_args!("{value}")),
            Self::Double(value) => put(out, format_args!("{value}")),
            Self::Decimal(digits, scale) => decimal(digits, *scale, out),
            _ => {}
        }
    }
}

impl Moment {
    fn spell(self, out: &mut Vec<u8>) {
        date(self.seconds.div_euclid(DAY), out);
        out.push(b'T');
        clock(self.seconds.rem_euclid(DAY) * 1_000_000_000 + self.nanos, out);
        if self.is_utc {
            out.push(b'Z');
        }
    }
}

/// Appends a text as JSON.
pub fn string(text: &str, out: &mut Vec<u8>) {
    write_json(text, out);
}

/// The digits of a number in two's complement, its highest byte first; `None` where it is longer than anybody's.
pub fn digits_of(bytes: &[u8]) -> Option<String> {
    if bytes.len() > LONGEST_DECIMAL {
        return None;
    }
    let is_negative = bytes.first().is_some_and(|first| *first >= 0x80);
    let mut size = bytes.to_vec();
    if is_negative {
        // Invert and add one.
        let mut carry = true;
        for byte in size.iter_mut().rev() {
            let (value, over) = (!*byte).overflowing_add(u8::from(carry));
            (*byte, carry) = (value, over);
        }
    }
    let mut groups = Vec::new();
    while size.iter().any(|byte| *byte != 0) {
        let mut rest = 0_u64;
        for byte in &mut size {
            let part = rest << 8 | u64::from(*byte);
            // Below 256, as the rest was below the divisor.
            *byte = u8::try_from(part / 1_000_000_000).unwrap_or_default();
            rest = part % 1_000_000_000;
        }
        groups.push(rest);
    }
    let mut text = if is_negative { "-".to_owned() } else { String::new() };
    let mut groups = groups.into_iter().rev();
    text.push_str(&groups.next().unwrap_or_default().to_string());
    groups.for_each(|group| text.push_str(&format!("{group:09}")));
    Some(text)
}

/// A point among the digits.
fn decimal(digits: &str, scale: usize, out: &mut Vec<u8>) {
    let size = digits.strip_prefix('-').unwrap_or(digits);
    if size.len() < digits.len() {
        out.push(b'-');
    }
    let padded = format!("{size:0>width$}", width = scale + 1);
    let (whole, fraction) = padded.split_at(padded.len() - scale);
    out.extend_from_slice(whole.as_bytes());
    if scale > 0 {
        out.push(b'.');
        out.extend_from_slice(fraction.as_bytes());
    }
}

/// `YYYY-MM-DD` of the Gregorian calendar, extended to all days (Howard Hinnant, `civil_from_days`).
fn date(days: i64, out: &mut Vec<u8>) {
    const ERA: i64 = 146_097;
    let days = days.saturating_add(719_468);
    let (era, day) = (days.div_euclid(ERA), days.rem_euclid(ERA));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    match u64::try_from(year) {
        Ok(year @ 0..=9999) => padded(year, 4, out),
        _ => put(out, format_args!("{year}")),
    }
    for part in [month, day] {
        out.push(b'-');
        padded(part.unsigned_abs(), 2, out);
    }
}

/// `HH:MM:SS`, with as many digits of the second as it needs: none, three, six or nine.
fn clock(nanos: i64, out: &mut Vec<u8>) {
    let (seconds, nanos) = (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000).unsigned_abs());
    if seconds < 0 {
        // No time of any day; said so, it is refused.
        out.push(b'-');
    }
    let seconds = seconds.unsigned_abs();
    padded(seconds / 3600, 2, out);
    out.push(b':');
    padded(seconds / 60 % 60, 2, out);
    out.push(b':');
    padded(seconds % 60, 2, out);
    let (fraction, width) = match nanos {
        0 => return,
        _ if nanos % 1_000_000 == 0 => (nanos / 1_000_000, 3),
        _ if nanos % 1000 == 0 => (nanos / 1000, 6),
        _ => (nanos, 9),
    };
    out.push(b'.');
    padded(fraction, width, out);
}

fn digits(mut value: u64, out: &mut Vec<u8>) {
    let start = out.len();
    loop {
        out.push(b'0' + u8::try_from(value % 10).unwrap_or_default());
        value /= 10;
        if value == 0 {
            break;
        }
    }
    if let Some(written) = out.get_mut(start..) {
        written.reverse();
    }
}

fn padded(value: u64, width: usize, out: &mut Vec<u8>) {
    let start = out.len();
    digits(value, out);
    let missing = (start + width).saturating_sub(out.len());
    out.splice(start..start, std::iter::repeat_n(b'0', missing));
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).unwrap_or_else(|error| unreachable!("memory takes it: {error}"));
}

fn write_json<T: serde::Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).unwrap_or_else(|error| unreachable!("memory takes it: {error}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(scalar: &Scalar<'_>) -> String {
        let mut out = Vec::new();
        match scalar.spell(&mut out).value(&out) {
            Value::Bool(value) => value.to_string(),
            Value::Text(text) | Value::Number(text) => String::from_utf8(text.to_vec()).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_day_is_the_calendars() {
        for (days, expected) in [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (11_016, "2000-02-29"),
            (-719_162, "0001-01-01"),
            (-719_528, "0000-01-01"),
            (-719_529, "-1-12-31"),
            (2_932_896, "9999-12-31"),
            (2_932_897, "10000-01-01"),
            (1_825_492_972, "5000000-01-01"),
        ] {
            assert_eq!(text(&Scalar::Date(days)), expected);
        }
        let mut day = jiff::civil::date(1850, 1, 1);
        let first = (day - jiff::civil::date(1970, 1, 1)).get_days();
        for days in i64::from(first)..100_000 {
            assert_eq!(text(&Scalar::Date(days)), day.to_string());
            day = day.tomorrow().unwrap();
        }
    }

    #[test]
    fn moments_keep_their_fraction_and_say_whether_they_are_utc() {
        for (moment, expected) in [
            (Moment::new(0, 1000, true), "1970-01-01T00:00:00Z"),
            (Moment::new(-1, 1000, false), "1969-12-31T23:59:59.999"),
            (Moment::new(1_577_836_800_000_001, 1_000_000, true), "2020-01-01T00:00:00.000001Z"),
            (Moment::new(1, 1_000_000_000, false), "1970-01-01T00:00:00.000000001"),
            (Moment::new(1, 1_000_000, false).plus_nanos(7), "1970-01-01T00:00:00.000001007"),
            (Moment::new(i64::MIN, 1000, true), "-292275055-05-16T16:47:04.192Z"),
        ] {
            assert_eq!(text(&Scalar::Moment(moment)), expected);
        }
        assert_eq!(text(&Scalar::Time(86_399_999_999_000)), "23:59:59.999999");
        assert!(Scalar::Time(1).is_finer_than_micros() && !Scalar::Time(1000).is_finer_than_micros());
    }

    #[test]
    fn numbers_keep_every_digit() {
        for (scalar, expected) in [
            (Scalar::Signed(i64::MIN), "-9223372036854775808"),
            (Scalar::Unsigned(u64::MAX), "18446744073709551615"),
            (Scalar::Unsigned(0), "0"),
            (Scalar::Single(0.1), "0.1"),
            (Scalar::Double(0.1), "0.1"),
            (Scalar::Double(1e300), "1e+300"),
            (Scalar::Double(2.0), "2.0"),
            (Scalar::Double(f64::NAN), "NaN"),
            (Scalar::Single(f32::NEG_INFINITY), "-inf"),
            (Scalar::Decimal("-5".to_owned(), 2), "-0.05"),
            (Scalar::Decimal("1230".to_owned(), 2), "12.30"),
            (Scalar::Decimal("7".to_owned(), 0), "7"),
        ] {
            assert_eq!(text(&scalar), expected);
        }
    }

    #[test]
    fn digits_of_twos_complement() {
        for value in [0, 1, -1, 127, -128, 128, 999_999_999, 1_000_000_000, i128::MAX, i128::MIN, -1_000_000_001] {
            assert_eq!(digits_of(&value.to_be_bytes()), Some(value.to_string()));
        }
        assert_eq!(digits_of(&[]), Some("0".to_owned()));
        assert_eq!(digits_of(&[0x80]), Some("-128".to_owned()));
        let wide = [vec![1], vec![0; 32]].concat();
        let two_to_256 = "115792089237316195423570985008687907853269984665640564039457584007913129639936";
        assert_eq!(digits_of(&wide).as_deref(), Some(two_to_256));
        assert_eq!(digits_of(&[0; 129]), None);
    }

    #[test]
    fn json_quotes_what_json_cannot_say() {
        let json = |scalar: Scalar<'_>| {
            let mut out = Vec::new();
            scalar.json(&mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(json(Scalar::Double(f64::INFINITY)), "\"inf\"");
        assert_eq!(json(Scalar::Bytes(&[0, 255])), "\"\\\\x00ff\"");
        assert_eq!(json(Scalar::Text(b"a\"\n")), "\"a\\\"\\n\"");
        assert_eq!(json(Scalar::Decimal("123".to_owned(), 1)), "12.3");
        assert_eq!(json(Scalar::Null), "null");
    }
}
