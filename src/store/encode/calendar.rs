//! Calendar arithmetic and the text forms of dates and times: no allocation, no time zone database.
//!
//! Strict: only the forms named here, only days that exist. Years 0001 to 9999.

/// Microseconds of a day.
pub(super) const DAY: i64 = 86_400_000_000;

const HOUR: i64 = 3_600_000_000;
const MINUTE: i64 = 60_000_000;
const SECOND: i64 = 1_000_000;

/// Days from the civil epoch of the algorithm (0000-03-01) to 2000-01-01, PostgreSQL's epoch.
const EPOCH_OFFSET: i32 = 730_425;

/// The server takes offsets of less than 16 hours.
const LARGEST_OFFSET_HOURS: i32 = 15;

/// Why a text is no date or time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Problem {
    /// Not of the form expected.
    Form,
    /// There is no such day or time of day.
    Range,
    /// There is no such offset from UTC.
    Offset,
}

/// A day of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Civil {
    pub(super) year: i32,
    pub(super) month: i32,
    pub(super) day: i32,
}

impl Civil {
    /// `YYYY-MM-DD`.
    #[inline]
    pub(super) fn parse(text: &[u8; 10]) -> Result<Self, Problem> {
        let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = text else { return Err(Problem::Form) };
        let [century, year, month, day] = four_pairs([*y1, *y2, *y3, *y4, *m1, *m2, *d1, *d2]).ok_or(Problem::Form)?;
        let year = century * 100 + year;
        let civil = Self { year, month, day };
        if civil.exists() { Ok(civil) } else { Err(Problem::Range) }
    }

    #[inline]
    fn exists(self) -> bool {
        let last = match self.month {
            1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
            4 | 6 | 9 | 11 => 30,
            2 if self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0) => 29,
            2 => 28,
            _ => 0,
        };
        self.year >= 1 && self.day >= 1 && self.day <= last
    }

    /// Days since 2000-01-01 (Howard Hinnant's `days_from_civil`: years begin in March, so that the leap day is the
    /// last; years are positive here, so plain division does).
    #[inline]
    pub(super) fn days(self) -> i32 {
        let year = if self.month <= 2 { self.year - 1 } else { self.year };
        let month = if self.month <= 2 { self.month + 9 } else { self.month - 3 };
        let day_of_year = (153 * month + 2) / 5 + self.day - 1;
        year * 365 + year / 4 - year / 100 + year / 400 + day_of_year - EPOCH_OFFSET
    }
}

/// `HH:MM[:SS[.f{1,9}]]` at the beginning of `text`: microseconds since midnight, and what follows.
///
/// Like the server: `24:00:00` is the end of the day, a 60th second is the next minute, more than six decimals are
/// rounded.
#[inline]
pub(super) fn parse_clock(text: &[u8]) -> Result<(i64, &[u8]), Problem> {
    let [h1, h2, b':', m1, m2, rest @ ..] = text else { return Err(Problem::Form) };
    let hour = two(*h1, *h2).ok_or(Problem::Form)?;
    let minute = two(*m1, *m2).ok_or(Problem::Form)?;
    let (second, fraction, rest) = match rest {
        [b':', s1, s2, b'.', rest @ ..] => {
            let (fraction, rest) = parse_fraction(rest)?;
            (two(*s1, *s2).ok_or(Problem::Form)?, fraction, rest)
        }
        [b':', s1, s2, rest @ ..] => (two(*s1, *s2).ok_or(Problem::Form)?, 0, rest),
        _ => (0, 0, rest),
    };
    let micros = i64::from(hour) * HOUR + i64::from(minute) * MINUTE + i64::from(second) * SECOND + fraction;
    if minute > 59 || second > 60 || micros > DAY {
        return Err(Problem::Range);
    }
    Ok((micros, rest))
}

/// 1 to 9 decimals of a second as microseconds, and what follows.
#[inline]
fn parse_fraction(text: &[u8]) -> Result<(i64, &[u8]), Problem> {
    let mut value: u32 = 0;
    let mut digits = 0;
    let mut rest = text;
    while let [byte @ b'0'..=b'9', tail @ ..] = rest {
        if digits == 9 {
            return Err(Problem::Form);
        }
        value = value * 10 + u32::from(*byte - b'0');
        digits += 1;
        rest = tail;
    }
    let micros = match digits {
        0 => return Err(Problem::Form),
        1 => value * 100_000,
        2 => value * 10_000,
        3 => value * 1_000,
        4 => value * 100,
        5 => value * 10,
        6 => value,
        _ => round_fraction(value, digits),
    };
    Ok((i64::from(micros), rest))
}

/// The server reads decimals as a double and rounds the product with a million half to even; going the same way is
/// the only way to meet it at the halves, many of which have no exact double.
#[cold]
fn round_fraction(value: u32, digits: i32) -> u32 {
    let micros = (f64::from(value) / 10_f64.powi(digits) * 1e6).round_ties_even();
    // Between zero and a million, and whole: found without a cast that could lose something.
    let (mut low, mut high) = (0_u32, 1_000_000_u32);
    while low < high {
        let middle = low.midpoint(high);
        if f64::from(middle) < micros { low = middle + 1 } else { high = middle }
    }
    low
}

/// Nothing, `Z`, `±HH`, `±HHMM` or `±HH:MM`: the offset in seconds east of UTC, where there is one.
#[inline]
pub(super) fn parse_offset(text: &[u8]) -> Result<Option<i32>, Problem> {
    let (sign, h1, h2, m1, m2) = match text {
        [] => return Ok(None),
        [b'Z' | b'z'] => return Ok(Some(0)),
        [sign, h1, h2] => (sign, h1, h2, &b'0', &b'0'),
        [sign, h1, h2, m1, m2] | [sign, h1, h2, b':', m1, m2] => (sign, h1, h2, m1, m2),
        _ => return Err(Problem::Form),
    };
    let hours = two(*h1, *h2).ok_or(Problem::Form)?;
    let minutes = two(*m1, *m2).ok_or(Problem::Form)?;
    let seconds = hours * 3600 + minutes * 60;
    let seconds = match sign {
        b'+' => seconds,
        b'-' => -seconds,
        _ => return Err(Problem::Form),
    };
    if hours > LARGEST_OFFSET_HOURS || minutes > 59 { Err(Problem::Offset) } else { Ok(Some(seconds)) }
}

/// Four numbers of two digits each, all at once: one byte of the word per digit.
#[inline]
fn four_pairs(digits: [u8; 8]) -> Option<[i32; 4]> {
    const ZEROS: u64 = 0x3030_3030_3030_3030;
    const TOPS: u64 = 0x8080_8080_8080_8080;
    let word = u64::from_le_bytes(digits);
    // A byte above '9' sets its top bit in the sum, one below '0' in the difference. A carry or borrow out of a byte
    // happens only where that byte shows its own fault.
    let above = word.wrapping_add(0x4646_4646_4646_4646);
    let values = word.wrapping_sub(ZEROS);
    if (word | above | values) & TOPS != 0 {
        return None;
    }
    // Every other byte: ten times itself plus its right neighbour, which is at most 99 and stays in its byte.
    let pairs = values.wrapping_mul(10).wrapping_add(values >> 8);
    let [first, _, second, _, third, _, fourth, _] = pairs.to_le_bytes();
    Some([first.into(), second.into(), third.into(), fourth.into()])
}

/// Two digits.
#[inline]
fn two(tens: u8, ones: u8) -> Option<i32> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then(|| i32::from(tens) * 10 + i32::from(ones))
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn days_agree_with_the_calendar_library_on_every_day_of_ten_thousand_years() {
        let mut day = date(1, 1, 1);
        let mut expected = date(2000, 1, 1).until(day).unwrap().get_days();
        loop {
            let civil = Civil { year: day.year().into(), month: day.month().into(), day: day.day().into() };
            assert!(civil.exists(), "{day}");
            assert_eq!(civil.days(), expected, "{day}");
            if day == date(9999, 12, 31) {
                break;
            }
            day = day.tomorrow().unwrap();
            expected += 1;
        }
    }

    #[test]
    fn a_byte_that_is_no_digit_is_found_in_every_place() {
        for place in 0..8 {
            for byte in 0..=255_u8 {
                let mut digits = *b"09182736";
                digits[place] = byte;
                let expected: Option<Vec<i32>> = digits.chunks(2).map(|pair| two(pair[0], pair[1])).collect();
                assert_eq!(four_pairs(digits).map(Vec::from), expected, "{place} {byte}");
            }
        }
    }

    #[test]
    fn days_that_do_not_exist_are_refused() {
        for text in [b"2023-02-29", b"1900-02-29", b"2024-02-30", b"2024-04-31", b"2024-13-01", b"2024-00-01"] {
            assert_eq!(Civil::parse(text), Err(Problem::Range));
        }
        assert_eq!(Civil::parse(b"0000-01-01"), Err(Problem::Range));
        assert_eq!(Civil::parse(b"2024-1-011"), Err(Problem::Form));
        assert!(Civil::parse(b"2000-02-29").is_ok());
    }
}
