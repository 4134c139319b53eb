//! Where a listing may start so that it misses no key at or after a given time.
//!
//! # Why no key is lost
//!
//! Let `from` be the time asked for, `b` the text rendered here, and `k` the text after the series of any key whose
//! time `t ≥ from`. Claim: `k > b`, byte by byte.
//!
//! 1. *Local clocks.* `k` is written in local time, which may jump. Where it jumped back, a repeated local time is
//!    read as its first pass, so no `t` lies in a second pass, and local times of the others grow with `t`. Where it
//!    jumped ahead, a skipped local time is read as the instant before, so `k` is written no earlier than the local
//!    time of `t`. Hence `k` is written no earlier than [`floor`], the local time of an instant up to `from`. (It
//!    lies two hours before `from`, lest names written in a second pass be found by a look-back only.)
//! 2. *Parts.* `ordered` is the longest beginning of the time whose parts stand from coarse to fine without a
//!    gap; a part that repeats what is known already changes nothing. So the values of `k`, read from left to right, are
//!    equal to those of `f` up to some part, and greater there, or equal to the end.
//! 3. *A greater value.* `f`'s value is rendered with all its leading zeros. Let it be positive and `w` a greater one,
//!    padded or not. If `w`'s text has fewer leading zeros, then where they end it has a greater digit in place of
//!    a zero. If it has as many, it has as many digits too, and numbers of equal length sort by value. More it
//!    cannot have. So `w`'s text differs from `f`'s within the digits, and is greater.
//! 4. *An equal value* renders alike, and the comparison goes on, or with fewer zeros, and is greater as in 3.
//! 5. *Zero* (hours, minutes, seconds) is where 3 fails: `0-` sorts before `00`, but `0_` after it. Where the part may
//!    be unpadded and a character below `0` follows, zero is rendered `0`: then `00`, `01` and `1` have a digit where
//!    the bound has that character. Where a character above `9` follows, `00` is the smallest.
//! 6. *Fractions* of free length sort as decimal fractions do once the bound's trailing zeros are gone.
//! 7. *The end.* If all parts are equal, `b` is a beginning of `k`; and a proper one, because something non-empty
//!    follows, or else because the last character of `b` is dropped. A beginning sorts first.

use std::ops::Range;

use jiff::civil::DateTime;
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};

use super::time::{Field, Width};
use super::{Atom, KeyPattern};

/// Clocks repeat an hour in autumn, a few of them two: names written then read as so much earlier.
const REPEATED: SignedDuration = SignedDuration::from_hours(2);

/// No clock differs more from Greenwich than jiff allows for.
const FURTHEST_OFFSET: SignedDuration = SignedDuration::from_hours(26);

/// The first second with ten digits.
const TEN_DIGITS: i64 = 1_000_000_000;

/// How much of a time is known by the parts read so far, from coarse to fine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Known {
    Nothing,
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
}

impl Known {
    /// What is known after one more part; `None` where byte order stops being time order.
    fn and(self, field: Field) -> Option<Self> {
        let (coarser, after) = match field {
            Field::Year => (Self::Nothing, Self::Year),
            Field::Month => (Self::Year, Self::Month),
            Field::Day => (Self::Month, Self::Day),
            Field::DayOfYear => (Self::Year, Self::Day),
            Field::Hour => (Self::Day, Self::Hour),
            Field::Minute => (Self::Hour, Self::Minute),
            Field::Second => (Self::Minute, Self::Second),
            Field::Epoch => (Self::Nothing, Self::Second),
            Field::Fraction(_) => (Self::Second, Self::Second),
            // Short years begin again after 99, names sort by the alphabet, offsets are no part of a local time.
            Field::ShortYear | Field::MonthName | Field::Offset => return None,
        };
        (self >= coarser).then_some(self.max(after))
    }
}

/// The beginning of the time in which byte order is time order: from its first part to the last part that counts.
pub(super) fn ordered(atoms: &[Atom]) -> Range<usize> {
    let Some(start) = atoms.iter().position(Atom::is_field) else { return 0..0 };
    let mut known = Known::Nothing;
    let mut end = start;
    for (index, atom) in atoms.iter().enumerate().skip(start) {
        let field = match atom {
            Atom::Literal(_) => continue,
            Atom::Field { field, .. } => *field,
            Atom::Capture(_) | Atom::Wildcard { .. } => break,
        };
        let Some(more) = known.and(field) else { break };
        known = more;
        end = index + 1;
        if field == Field::Fraction(None) {
            break;
        }
    }
    start..end
}

/// The bound's text after the series; empty where nothing can be said.
pub(super) fn rendered(pattern: &KeyPattern, from: Timestamp) -> String {
    let mut text = String::new();
    let Some(local) = floor(pattern, from) else { return text };
    let Range { start, end } = pattern.ordered.clone();
    for (index, atom) in pattern.atoms.iter().enumerate().take(end).skip(start) {
        match atom {
            Atom::Literal(literal) => text.push_str(literal),
            Atom::Field { field: Field::Epoch, .. } if from.as_second() < TEN_DIGITS => return text,
            Atom::Field { field: Field::Epoch, .. } => {
                text.push_str(&from.as_second().min(TEN_DIGITS * 10 - 1).to_string());
            }
            Atom::Field { field, width } => {
                let Some(digits) = digits(*field, *width, pattern.atoms.get(index + 1), local) else { return text };
                text.push_str(&digits);
            }
            Atom::Capture(_) | Atom::Wildcard { .. } => return text,
        }
    }
    let more_follows = matches!(pattern.atoms.get(end), Some(Atom::Literal(_) | Atom::Field { .. } | Atom::Capture(_)));
    if !more_follows {
        text.pop();
    }
    text
}

/// The smallest text of this part with at least this value; `None` ends the bound.
fn digits(field: Field, width: Width, next: Option<&Atom>, local: DateTime) -> Option<String> {
    let value = match field {
        Field::Year => return (0..=9999).contains(&local.year()).then(|| format!("{:04}", local.year())),
        Field::DayOfYear => return Some(format!("{:03}", local.day_of_year())),
        Field::Fraction(digits) => return Some(fraction(local.subsec_nanosecond(), digits)),
        Field::Month => local.month(),
        Field::Day => local.day(),
        Field::Hour => local.hour(),
        Field::Minute => local.minute(),
        Field::Second => local.second(),
        Field::ShortYear | Field::MonthName | Field::Epoch | Field::Offset => return None,
    };
    let below_digits = match next {
        Some(Atom::Literal(literal)) => literal.starts_with(|c: char| c < '0'),
        Some(_) => false,
        None => true,
    };
    let unpadded_zero = value == 0 && width.min == 1 && below_digits;
    Some(if unpadded_zero { "0".to_owned() } else { format!("{value:02}") })
}

fn fraction(nanos: i32, digits: Option<u8>) -> String {
    let all = format!("{nanos:09}");
    match digits {
        Some(digits) => all.chars().take(usize::from(digits)).collect(),
        None => all.trim_end_matches('0').to_owned(),
    }
}

/// A local time that no key at or after `from` is written before.
fn floor(pattern: &KeyPattern, from: Timestamp) -> Option<DateTime> {
    let is =
        |wanted: Field| pattern.atoms.iter().any(|atom| matches!(atom, Atom::Field { field, .. } if *field == wanted));
    if is(Field::Offset) {
        // Each name has a clock of its own.
        return Some(Offset::UTC.to_datetime(from.checked_sub(FURTHEST_OFFSET).ok()?));
    }
    if is(Field::Epoch) || pattern.zone.to_fixed_offset().is_ok() {
        return Some(pattern.zone.to_datetime(from));
    }
    Some(pattern.zone.to_datetime(from.checked_sub(REPEATED).ok()?))
}
