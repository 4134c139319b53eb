//! `date`, `time`, `timestamp`, `timestamptz`.
//!
//! A timestamp is a date, or a date and a time with `T` or a blank between them. `timestamptz` may name its offset;
//! without one it is read on the clock of the zone given, never on the session's. A local time that the clock skips
//! is read with the offset before the jump (02:30 becomes 03:30), one that it shows twice as the first of the two.
//! (The server takes the second there; what it would have done depends on its `TimeZone`, so this is no loss.)

use bytes::BytesMut;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};

use super::CellError;
use super::calendar::{Civil, DAY, Problem, parse_clock, parse_offset};
use super::frame::{put_value4, put_value8};

pub(super) fn encode_date(cell: &[u8], out: &mut BytesMut) -> Result<(), CellError> {
    let civil = match cell.as_array() {
        Some(text) => Civil::parse(text),
        None => Err(Problem::Form),
    };
    let civil = civil.map_err(|problem| CellError::new("E-CELL-DATE", date_reason(problem)))?;
    put_value4(civil.days().cast_unsigned(), out);
    Ok(())
}

pub(super) fn encode_time(cell: &[u8], out: &mut BytesMut) -> Result<(), CellError> {
    let clock = parse_clock(cell).and_then(|(micros, rest)| match rest {
        [] => Ok(micros),
        _ => Err(Problem::Form),
    });
    let micros = clock.map_err(|problem| CellError::new("E-CELL-TIME", time_reason(problem)))?;
    put_value8(micros.cast_unsigned(), out);
    Ok(())
}

pub(super) fn encode_timestamp(cell: &[u8], out: &mut BytesMut) -> Result<(), CellError> {
    let moment = Moment::parse(cell)?;
    if moment.offset.is_some_and(|seconds| seconds != 0) {
        return Err(CellError::new(
            "E-CELL-TIMESTAMP",
            "an offset from UTC in a column without time zone: use a timestamptz column, or values in UTC",
        ));
    }
    put_value8(moment.local_micros().cast_unsigned(), out);
    Ok(())
}

pub(super) fn encode_timestamptz(cell: &[u8], zone: &TimeZone, out: &mut BytesMut) -> Result<(), CellError> {
    let moment = Moment::parse(cell)?;
    let offset = match moment.offset {
        Some(seconds) => seconds,
        None => moment.offset_in(zone)?,
    };
    let micros = moment.local_micros() - i64::from(offset) * 1_000_000;
    put_value8(micros.cast_unsigned(), out);
    Ok(())
}

/// What has to follow the text of a `timestamptz` that was accepted, so that the server reads it independently of
/// its own time zone: nothing where the text names its offset.
pub(super) fn missing_offset(cell: &[u8], zone: &TimeZone) -> Result<Option<String>, CellError> {
    let moment = Moment::parse(cell)?;
    if moment.offset.is_some() {
        return Ok(None);
    }
    let seconds = moment.offset_in(zone)?;
    let midnight = if cell.len() == 10 { " 00:00:00" } else { "" };
    let (sign, size) = if seconds < 0 { ('-', -seconds) } else { ('+', seconds) };
    Ok(Some(format!("{midnight}{sign}{:02}:{:02}:{:02}", size / 3600, size / 60 % 60, size % 60)))
}

/// A date and a time of day as written, and the offset where one is named.
struct Moment {
    date: Civil,
    clock: i64,
    offset: Option<i32>,
}

impl Moment {
    #[inline]
    fn parse(cell: &[u8]) -> Result<Self, CellError> {
        Self::split(cell).map_err(|problem| CellError::new("E-CELL-TIMESTAMP", timestamp_reason(problem)))
    }

    #[inline]
    fn split(cell: &[u8]) -> Result<Self, Problem> {
        let (date, rest) = cell.split_first_chunk::<10>().ok_or(Problem::Form)?;
        let date = Civil::parse(date)?;
        let time = match rest {
            [] => return Ok(Self { date, clock: 0, offset: None }),
            [b'T' | b't' | b' ', time @ ..] => time,
            _ => return Err(Problem::Form),
        };
        let (clock, rest) = parse_clock(time)?;
        Ok(Self { date, clock, offset: parse_offset(rest)? })
    }

    /// Microseconds since 2000-01-01 00:00 on the clock the text was read from.
    #[inline]
    fn local_micros(&self) -> i64 {
        i64::from(self.date.days()) * DAY + self.clock
    }

    /// The zone's offset at this local time, in seconds.
    fn offset_in(&self, zone: &TimeZone) -> Result<i32, CellError> {
        if *zone == TimeZone::UTC {
            return Ok(0);
        }
        let local = self.local_datetime().ok_or_else(|| {
            CellError::new("E-CELL-TIMESTAMP", "beyond the years 0001 to 9999 that the time zone is known for")
        })?;
        let offset = match zone.to_ambiguous_timestamp(local).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset,
            AmbiguousOffset::Gap { before, .. } | AmbiguousOffset::Fold { before, .. } => before,
        };
        Ok(offset.seconds())
    }

    fn local_datetime(&self) -> Option<DateTime> {
        let small = |value: i32| i8::try_from(value).ok();
        let part = |unit: i64, size: i64| i8::try_from(self.clock / unit % size).ok();
        let year = i16::try_from(self.date.year).ok()?;
        let (month, day) = (small(self.date.month)?, small(self.date.day)?);
        // The end of a day is the midnight of the next one.
        let next_day = self.clock == DAY;
        let (hour, minute, second) = (part(3_600_000_000, 24)?, part(60_000_000, 60)?, part(1_000_000, 60)?);
        let nanosecond = i32::try_from(self.clock % 1_000_000 * 1000).ok()?;
        let midnight = DateTime::new(year, month, day, hour, minute, second, nanosecond).ok()?;
        if next_day { midnight.date().tomorrow().ok().map(DateTime::from) } else { Some(midnight) }
    }
}

#[cold]
fn date_reason(problem: Problem) -> &'static str {
    match problem {
        Problem::Form | Problem::Offset => "not a date of the form YYYY-MM-DD",
        Problem::Range => "no such day in the calendar of the years 0001 to 9999",
    }
}

#[cold]
fn time_reason(problem: Problem) -> &'static str {
    match problem {
        Problem::Form | Problem::Offset => "not a time of the form HH:MM[:SS[.ffffff]] (at most 9 decimals)",
        Problem::Range => "no such time of day",
    }
}

#[cold]
fn timestamp_reason(problem: Problem) -> &'static str {
    match problem {
        Problem::Form => {
            "not a timestamp of the form YYYY-MM-DD[ HH:MM[:SS[.ffffff]][Z|±HH[:MM]]] (T or a blank, at most 9 decimals)"
        }
        Problem::Range => "no such day in the calendar of the years 0001 to 9999, or no such time of day",
        Problem::Offset => "no such offset from UTC: it must be less than 16 hours",
    }
}
