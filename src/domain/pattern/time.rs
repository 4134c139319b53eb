//! The parts of a time: their names, their widths, and how they add up to an instant.

use jiff::civil::{self, Date, DateTime};
use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp, ToSpan};

use super::KeyTime;
use super::problem::Problem;

/// Short month names, as `%b` writes them; read without regard to case.
pub(super) const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/// Digits of a nanosecond count.
const NANO_DIGITS: u8 = 9;

/// One part of a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    /// `%Y`
    Year,
    /// `%y`: 69 to 99 are 1969 to 1999, 00 to 68 are 2000 to 2068, as POSIX has it.
    ShortYear,
    /// `%m`
    Month,
    /// `%b`
    MonthName,
    /// `%d`
    Day,
    /// `%j`
    DayOfYear,
    /// `%H`
    Hour,
    /// `%M`
    Minute,
    /// `%S`
    Second,
    /// `%3f`, `%6f`, `%9f`: so many digits of the fraction; `%f`: one to nine of them.
    Fraction(Option<u8>),
    /// `%s`: seconds since 1970.
    Epoch,
    /// `%z`: `Z`, `+hh`, `+hhmm` or `+hh:mm`.
    Offset,
}

/// How many digits a part may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Width {
    pub(super) min: u8,
    pub(super) max: u8,
}

/// What stands behind a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Follower {
    /// A literal that is no digit, or the end of the pattern: the part's end is plain to see.
    Closed,
    /// Digits.
    Digit,
    /// Something that may begin with a digit.
    Unknown,
}

impl Field {
    /// The part of a directive: `%`, perhaps a digit, a letter.
    pub(super) fn named(digits: Option<char>, letter: Option<char>) -> Option<Self> {
        match (digits, letter?) {
            (None, 'Y') => Some(Self::Year),
            (None, 'y') => Some(Self::ShortYear),
            (None, 'm') => Some(Self::Month),
            (None, 'b') => Some(Self::MonthName),
            (None, 'd') => Some(Self::Day),
            (None, 'j') => Some(Self::DayOfYear),
            (None, 'H') => Some(Self::Hour),
            (None, 'M') => Some(Self::Minute),
            (None, 'S') => Some(Self::Second),
            (None, 'f') => Some(Self::Fraction(None)),
            (Some('3'), 'f') => Some(Self::Fraction(Some(3))),
            (Some('6'), 'f') => Some(Self::Fraction(Some(6))),
            (Some('9'), 'f') => Some(Self::Fraction(Some(9))),
            (None, 's') => Some(Self::Epoch),
            (None, 'z') => Some(Self::Offset),
            _ => None,
        }
    }

    /// The directive, for messages.
    fn directive(self) -> &'static str {
        match self {
            Self::Year => "%Y",
            Self::ShortYear => "%y",
            Self::Month => "%m",
            Self::MonthName => "%b",
            Self::Day => "%d",
            Self::DayOfYear => "%j",
            Self::Hour => "%H",
            Self::Minute => "%M",
            Self::Second => "%S",
            Self::Fraction(_) => "%f",
            Self::Epoch => "%s",
            Self::Offset => "%z",
        }
    }

    /// The digits a part may have. Years and counted fractions always have all of theirs; the other parts may lack
    /// leading zeros where their end is plain to see. Without meaning for `%b` and `%z`.
    pub(super) fn width(self, follower: Follower) -> Width {
        let full = match self {
            Self::Year => 4,
            Self::ShortYear | Self::Month | Self::Day | Self::Hour | Self::Minute | Self::Second => 2,
            Self::DayOfYear | Self::MonthName => 3,
            Self::Fraction(digits) => digits.unwrap_or(NANO_DIGITS),
            // Ten digits last from 2001 to 2286, and while their number is the same their order is time's order.
            Self::Epoch => 10,
            Self::Offset => 1,
        };
        let free = match self {
            Self::Year | Self::ShortYear | Self::Fraction(Some(_)) | Self::MonthName | Self::Offset => false,
            Self::Fraction(None) => true,
            _ => follower == Follower::Closed,
        };
        Width { min: if free { 1 } else { full }, max: full }
    }
}

/// Refuses formats whose parts do not add up to an instant.
pub(super) fn check(fields: &[(usize, Field)]) -> Result<(), (usize, Problem)> {
    let has = |wanted: &[Field]| fields.iter().any(|(_, field)| wanted.contains(field));
    let epoch = has(&[Field::Epoch]);
    for (at, field) in fields {
        let needs: Option<(&[Field], &'static str)> = match field {
            Field::Epoch | Field::Fraction(_) if epoch => None,
            Field::Epoch => None,
            _ if epoch => {
                let at = fields.iter().find(|(_, field)| *field == Field::Epoch).map_or(*at, |(at, _)| *at);
                return Err((at, Problem::EpochAmongOthers));
            }
            Field::Year | Field::ShortYear => None,
            Field::Month | Field::MonthName | Field::DayOfYear => Some((&[Field::Year, Field::ShortYear], "%Y")),
            Field::Day => Some((&[Field::Month, Field::MonthName], "%m")),
            Field::Hour => Some((&[Field::Day, Field::DayOfYear], "%d")),
            Field::Minute | Field::Offset => Some((&[Field::Hour], "%H")),
            Field::Second => Some((&[Field::Minute], "%M")),
            Field::Fraction(_) => Some((&[Field::Second], "%S")),
        };
        if let Some((wanted, needs)) = needs
            && !has(wanted)
        {
            return Err((*at, Problem::Needs { part: field.directive(), needs }));
        }
    }
    Ok(())
}

/// The parts found in one key.
#[derive(Debug, Default)]
pub(super) struct Parts {
    year: Option<i64>,
    month: Option<i64>,
    day: Option<i64>,
    day_of_year: Option<i64>,
    hour: Option<i64>,
    minute: Option<i64>,
    second: Option<i64>,
    nanos: Option<(i64, u8)>,
    epoch: Option<i64>,
    /// Seconds east of Greenwich.
    offset: Option<i64>,
    /// Two readings of one part differ, or one lies outside all reason.
    contradiction: bool,
}

impl Parts {
    /// Notes the text of one part.
    pub(super) fn set(&mut self, field: Field, text: &str) {
        let Some(value) = value(field, text) else {
            self.contradiction = true;
            return;
        };
        let slot = match field {
            Field::Year | Field::ShortYear => &mut self.year,
            Field::Month | Field::MonthName => &mut self.month,
            Field::Day => &mut self.day,
            Field::DayOfYear => &mut self.day_of_year,
            Field::Hour => &mut self.hour,
            Field::Minute => &mut self.minute,
            Field::Second => &mut self.second,
            Field::Epoch => &mut self.epoch,
            Field::Offset => &mut self.offset,
            Field::Fraction(_) => return self.set_fraction(value, text.len()),
        };
        self.contradiction |= slot.is_some_and(|known| known != value);
        *slot = Some(value);
    }

    /// Two fractions agree where the coarser one is the finer one cut short; the finer one counts.
    fn set_fraction(&mut self, nanos: i64, digits: usize) {
        let digits = u8::try_from(digits).unwrap_or(NANO_DIGITS).min(NANO_DIGITS);
        if let Some((known, known_digits)) = self.nanos {
            let unit = 10_i64.pow(u32::from(NANO_DIGITS - digits.min(known_digits)));
            self.contradiction |= known / unit != nanos / unit;
            if known_digits >= digits {
                return;
            }
        }
        self.nanos = Some((nanos, digits));
    }

    /// The instant the parts name in this zone. A key without any part is the caller's to know.
    pub(super) fn time(&self, zone: &TimeZone) -> KeyTime {
        if self.contradiction {
            return KeyTime::Impossible;
        }
        let instant = match self.epoch {
            Some(epoch) => self.nano().and_then(|nanos| Timestamp::new(epoch, nanos).ok()),
            None => self.local().and_then(|local| self.instant(local, zone)),
        };
        instant.map_or(KeyTime::Impossible, KeyTime::At)
    }

    fn nano(&self) -> Option<i32> {
        i32::try_from(self.nanos.map_or(0, |(nanos, _)| nanos)).ok()
    }

    fn local(&self) -> Option<DateTime> {
        let small = |part: Option<i64>, default: i64| i8::try_from(part.unwrap_or(default)).ok();
        let year = i16::try_from(self.year?).ok()?;
        let date = match self.day_of_year {
            None => Date::new(year, small(self.month, 1)?, small(self.day, 1)?).ok()?,
            Some(day) => {
                let date = Date::new(year, 1, 1).ok()?.checked_add((day - 1).days()).ok()?;
                let agrees = date.year() == year
                    && self.month.is_none_or(|month| month == i64::from(date.month()))
                    && self.day.is_none_or(|day| day == i64::from(date.day()));
                agrees.then_some(date)?
            }
        };
        // A leap second is told as the second before it, as PostgreSQL and most clocks do.
        let second = small(self.second, 0).map(|second| if second == 60 { 59 } else { second })?;
        let time = civil::Time::new(small(self.hour, 0)?, small(self.minute, 0)?, second, self.nano()?).ok()?;
        Some(date.to_datetime(time))
    }

    /// A local time that a zone repeats, or skips, is read as the earlier of its two readings. The lower bound
    /// relies on it: no key's text is then earlier than the local time of its instant.
    fn instant(&self, local: DateTime, zone: &TimeZone) -> Option<Timestamp> {
        match self.offset {
            Some(offset) => {
                let offset = Offset::from_seconds(i32::try_from(offset).ok()?).ok()?;
                offset.to_timestamp(local).ok()
            }
            None => zone.to_ambiguous_timestamp(local).earlier().ok(),
        }
    }
}

/// The number a part's text stands for; a fraction's in nanoseconds, an offset's in seconds.
fn value(field: Field, text: &str) -> Option<i64> {
    match field {
        Field::ShortYear => {
            let year: i64 = text.parse().ok()?;
            Some(if year >= 69 { 1900 + year } else { 2000 + year })
        }
        Field::MonthName => {
            let index = MONTHS.iter().position(|month| month.eq_ignore_ascii_case(text))?;
            i64::try_from(index + 1).ok()
        }
        Field::DayOfYear => text.parse().ok().filter(|day| (1..=366).contains(day)),
        Field::Fraction(_) => {
            let missing = usize::from(NANO_DIGITS).checked_sub(text.len())?;
            let nanos: i64 = text.parse().ok()?;
            Some(nanos * 10_i64.pow(u32::try_from(missing).ok()?))
        }
        Field::Offset => offset(text),
        _ => text.parse().ok(),
    }
}

fn offset(text: &str) -> Option<i64> {
    if text == "Z" {
        return Some(0);
    }
    let (sign, rest) = text.split_at_checked(1)?;
    let (hours, minutes) = rest.split_at_checked(2)?;
    let minutes = minutes.strip_prefix(':').unwrap_or(minutes);
    let hours: i64 = hours.parse().ok()?;
    let minutes: i64 = if minutes.is_empty() { 0 } else { minutes.parse().ok()? };
    let seconds = hours * 3600 + minutes * 60;
    // No clock on Earth is further from Greenwich than 14 hours; the lower bound allows for 26.
    (minutes < 60 && hours < 25).then_some(if sign == "-" { -seconds } else { seconds })
}
