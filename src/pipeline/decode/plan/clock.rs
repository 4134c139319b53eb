//! Dates and times that are not written in ISO 8601 become so: seconds since 1970, exactly, and patterns of `strptime`.

use std::io::Write as _;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::fmt::strtime::BrokenDownTime;
use jiff::tz::Offset;

use crate::config::feed::{EpochUnit, TimeFormat};
use crate::store::encode::{CellError, ColumnType};

/// What a date or time is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Date,
    Time,
    Timestamp,
    Timestamptz,
}

/// How the values of a column are written.
#[derive(Debug)]
pub(super) struct Clock<'a> {
    format: &'a TimeFormat,
    wanted: Wanted,
    /// Whether blanks may stand in a text: where the pattern has some, or pads with them.
    blanks: bool,
}

/// A moment at which all parts of a date and time differ, to try a pattern on.
const SAMPLE: i64 = 1_383_860_639;

impl<'a> Clock<'a> {
    /// A format for a column of this type; an error where it can never fill one.
    pub(super) fn compile(format: &'a TimeFormat, kind: &ColumnType) -> Result<Self, String> {
        let wanted = match kind {
            ColumnType::Date => Wanted::Date,
            ColumnType::Time => Wanted::Time,
            ColumnType::Timestamp => Wanted::Timestamp,
            ColumnType::Timestamptz => Wanted::Timestamptz,
            _ => return Err("time_format is for columns of type date, time and timestamp".to_owned()),
        };
        let blanks = match format {
            TimeFormat::Epoch(_) => false,
            TimeFormat::Pattern(pattern) => {
                let pads = ["%n", "%t", "%c", "%e", "%k", "%l", "%_"].iter().any(|part| pattern.contains(part));
                pads || pattern.contains(|c: char| c.is_ascii_whitespace())
            }
        };
        let clock = Self { format, wanted, blanks };
        if let TimeFormat::Pattern(pattern) = format {
            let sample = Timestamp::from_second(SAMPLE).unwrap_or_default().to_zoned(jiff::tz::TimeZone::UTC);
            let text = BrokenDownTime::from(&sample)
                .to_string(pattern)
                .map_err(|error| format!("time_format {pattern:?} cannot be used: {error}"))?;
            clock.read_pattern(pattern, text.as_bytes()).map_err(|_unreadable| {
                let wanted = match wanted {
                    Wanted::Date => "the day",
                    Wanted::Time => "the hour",
                    Wanted::Timestamp | Wanted::Timestamptz => "the day and time",
                };
                format!("time_format {pattern:?} does not tell {wanted}")
            })?;
        }
        Ok(clock)
    }

    /// Appends the text in the form that the encoders read.
    pub(super) fn to_iso(&self, text: &[u8], out: &mut Vec<u8>) -> Result<(), CellError> {
        let moment = match self.format {
            TimeFormat::Epoch(unit) => Moment::instant(epoch(text, *unit)?),
            TimeFormat::Pattern(pattern) => self.read_pattern(pattern, text)?,
        };
        if moment.local.year() < 1 {
            return Err(refused("no day of the years 0001 to 9999"));
        }
        // Writing to memory does not fail.
        match self.wanted {
            Wanted::Date => write!(out, "{}", moment.local.date()),
            Wanted::Time => write!(out, "{}", moment.local.time()),
            Wanted::Timestamp | Wanted::Timestamptz if moment.is_utc => write!(out, "{}Z", moment.local),
            Wanted::Timestamp | Wanted::Timestamptz => write!(out, "{}", moment.local),
        }
        .unwrap_or_default();
        Ok(())
    }

    fn read_pattern(&self, pattern: &str, text: &[u8]) -> Result<Moment, CellError> {
        if !self.blanks && text.iter().any(u8::is_ascii_whitespace) {
            return Err(unlike());
        }
        // Its errors quote the text.
        let parts = BrokenDownTime::parse(pattern, text).map_err(|_quotes| unlike())?;
        if let Some(instant) = parts.timestamp() {
            return Ok(Moment::instant(instant));
        }
        let local = match self.wanted {
            Wanted::Time => {
                parts.hour().ok_or_else(unlike)?;
                jiff::civil::date(2000, 1, 1).to_datetime(parts.to_time().map_err(|_quotes| unlike())?)
            }
            Wanted::Date => DateTime::from(parts.to_date().map_err(|_quotes| no_day())?),
            Wanted::Timestamp | Wanted::Timestamptz => parts.to_datetime().map_err(|_quotes| no_day())?,
        };
        match (self.wanted, parts.offset(), parts.iana_time_zone()) {
            (Wanted::Date | Wanted::Time, ..) | (_, None, None) => Ok(Moment { local, is_utc: false }),
            (Wanted::Timestamp, Some(offset), _) if offset == Offset::UTC => Ok(Moment { local, is_utc: false }),
            (Wanted::Timestamp, ..) => Err(refused(
                "an offset from UTC in a column without time zone: use a timestamptz column, or values in UTC",
            )),
            (Wanted::Timestamptz, ..) => {
                let zoned = parts.to_zoned().map_err(|_quotes| no_day())?;
                Ok(Moment::instant(zoned.timestamp()))
            }
        }
    }
}

/// A date and a time of day.
struct Moment {
    local: DateTime,
    /// Whether the clock is known to be that of UTC.
    is_utc: bool,
}

impl Moment {
    fn instant(instant: Timestamp) -> Self {
        Self { local: Offset::UTC.to_datetime(instant), is_utc: true }
    }
}

/// A number of units since 1970, never through a float. Finer than nanoseconds is refused: it could not be kept.
fn epoch(text: &[u8], unit: EpochUnit) -> Result<Timestamp, CellError> {
    let decimals = match unit {
        EpochUnit::Seconds => 9,
        EpochUnit::Millis => 6,
        EpochUnit::Micros => 3,
        EpochUnit::Nanos => 0,
    };
    let Decimal { negative, digits, mut power } = Decimal::parse(text).ok_or_else(|| {
        refused(match unit {
            EpochUnit::Seconds => "not a number of seconds since 1970",
            EpochUnit::Millis => "not a number of milliseconds since 1970",
            EpochUnit::Micros => "not a number of microseconds since 1970",
            EpochUnit::Nanos => "not a number of nanoseconds since 1970",
        })
    })?;
    power += decimals;
    let mut nanos = digits;
    while power > 0 && nanos != 0 {
        nanos = nanos.checked_mul(10).ok_or_else(beyond)?;
        power -= 1;
    }
    while power < 0 && nanos != 0 {
        if nanos % 10 != 0 {
            return Err(refused("finer than a nanosecond"));
        }
        nanos /= 10;
        power += 1;
    }
    Timestamp::from_nanosecond(if negative { -nanos } else { nanos }).map_err(|_quotes| beyond())
}

/// A decimal number: so many units of a power of ten.
struct Decimal {
    negative: bool,
    digits: i128,
    power: i32,
}

impl Decimal {
    /// Sign, digits, perhaps a point and digits, perhaps an exponent, as JSON writes numbers.
    fn parse(text: &[u8]) -> Option<Self> {
        let (negative, rest) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            _ => (false, text),
        };
        let (whole, rest) = digits(rest)?;
        let (fraction, rest) = match rest {
            [b'.', rest @ ..] => digits(rest)?,
            _ => (rest.get(..0)?, rest),
        };
        let exponent = match rest {
            [] => 0,
            [b'e' | b'E', sign @ (b'+' | b'-'), rest @ ..] => exponent(rest)? * if *sign == b'-' { -1 } else { 1 },
            [b'e' | b'E', rest @ ..] => exponent(rest)?,
            _ => return None,
        };
        // Zeros at the end say nothing and would use up the room.
        let zeros = fraction.iter().rev().take_while(|digit| **digit == b'0').count();
        let fraction = fraction.get(..fraction.len() - zeros)?;
        let power = exponent - i32::try_from(fraction.len()).ok()?;
        let mut digits: i128 = 0;
        for digit in whole.iter().chain(fraction) {
            digits = digits.checked_mul(10)?.checked_add(i128::from(digit - b'0'))?;
        }
        Some(Self { negative, digits, power })
    }
}

/// At least one digit, and what follows.
fn digits(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    if end == 0 { None } else { text.split_at_checked(end) }
}

/// At most three digits: no time has more.
fn exponent(text: &[u8]) -> Option<i32> {
    match digits(text)? {
        (digits, []) if digits.len() <= 3 => std::str::from_utf8(digits).ok()?.parse().ok(),
        _ => None,
    }
}

#[cold]
fn unlike() -> CellError {
    refused("not written as the feed's time_format says")
}

#[cold]
fn no_day() -> CellError {
    refused("no such day or time, or not written as the feed's time_format says")
}

#[cold]
fn beyond() -> CellError {
    refused("beyond the years 0001 to 9999; is time_format the right unit?")
}

#[cold]
fn refused(reason: &'static str) -> CellError {
    CellError::new("E-RULE-TIME", reason)
}
