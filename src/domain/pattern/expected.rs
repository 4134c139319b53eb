//! The key of an object that should come: what a missing slot is called by.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::time::{Field, MONTHS};
use super::{Atom, KeyPattern};

/// How the key of an expected object begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedKey {
    /// Its beginning, with all leading zeros.
    pub text: String,
    /// Whether this is the whole key.
    pub whole: bool,
}

impl KeyPattern {
    /// The text that the keys of a series with a time from `begins` up to, and without, `ends` have in common: the whole
    /// key where the pattern says no more than the slot does.
    pub fn expected(&self, series: &str, begins: Timestamp, ends: Timestamp) -> ExpectedKey {
        let last = ends.checked_sub(jiff::SignedDuration::from_nanos(1)).unwrap_or(ends);
        let mut text = series.to_owned();
        for atom in self.atoms.iter().skip(self.series_end) {
            let part = match atom {
                Atom::Literal(literal) => Some(literal.clone()),
                Atom::Field { field, .. } => {
                    let part = rendered(*field, begins, &self.zone);
                    part.filter(|part| rendered(*field, last, &self.zone).as_ref() == Some(part))
                }
                Atom::Capture(_) | Atom::Wildcard { .. } => None,
            };
            match part {
                Some(part) => text.push_str(&part),
                None => return ExpectedKey { text, whole: false },
            }
        }
        ExpectedKey { text, whole: true }
    }

    /// The clock that the names follow.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }
}

/// One part of an instant's name; none where it may be written in several ways.
fn rendered(field: Field, at: Timestamp, zone: &TimeZone) -> Option<String> {
    let local: DateTime = zone.to_datetime(at);
    let two = |value: i8| Some(format!("{value:02}"));
    match field {
        Field::Year => Some(format!("{:04}", local.year())),
        Field::ShortYear => Some(format!("{:02}", local.year().rem_euclid(100))),
        Field::Month => two(local.month()),
        Field::MonthName => MONTHS.get(usize::try_from(local.month() - 1).ok()?).map(|name| capital(name)),
        Field::Day => two(local.day()),
        Field::DayOfYear => Some(format!("{:03}", local.day_of_year())),
        Field::Hour => two(local.hour()),
        Field::Minute => two(local.minute()),
        Field::Second => two(local.second()),
        Field::Fraction(Some(digits)) => {
            Some(format!("{:09}", local.subsec_nanosecond()).chars().take(usize::from(digits)).collect())
        }
        Field::Epoch => Some(at.as_second().to_string()),
        Field::Fraction(None) | Field::Offset => None,
    }
}

fn capital(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + letters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(pattern: &str, series: &str, begins: &str, ends: &str) -> (String, bool) {
        let pattern = KeyPattern::parse(pattern, TimeZone::UTC).unwrap();
        let key = pattern.expected(series, begins.parse().unwrap(), ends.parse().unwrap());
        if key.whole {
            assert!(pattern.matches(&key.text).is_some(), "{key:?}");
        }
        (key.text, key.whole)
    }

    #[test]
    fn a_key_is_named_as_far_as_the_slot_says() {
        let day = ("2024-01-05T00:00:00Z", "2024-01-06T00:00:00Z");
        for (pattern, series, text, whole) in [
            ("d/{time:%Y-%m-%d}.csv", "d/", "d/2024-01-05.csv", true),
            ("d/{v}/{time:%d%b%y}.csv", "d/acme/", "d/acme/05Jan24.csv", true),
            ("d/{time:%Y-%j}", "d/", "d/2024-005", true),
            ("d/{time:%Y-%m-%d-%H-%M-%S}.csv", "d/", "d/2024-01-05-", false),
            ("d/{time:%Y-%m-%d}-*.csv", "d/", "d/2024-01-05-", false),
            ("d/{time:%s}.csv", "d/", "d/", false),
        ] {
            assert_eq!(expected(pattern, series, day.0, day.1), (text.to_owned(), whole), "{pattern}");
        }
        let second = ("2024-01-05T10:11:12Z", "2024-01-05T10:11:13Z");
        assert_eq!(expected("d/{time:%s}.csv", "d/", second.0, second.1).0, "d/1704449472.csv");
        assert_eq!(expected("{time:%Y%m%d%H%M%S%3f}", "", second.0, second.1), ("20240105101112".to_owned(), false));
    }

    #[test]
    fn names_follow_the_feeds_clock() {
        let zone = TimeZone::get("Europe/Madrid").unwrap();
        let pattern = KeyPattern::parse("d/{time:%Y-%m-%d}.csv", zone).unwrap();
        let key =
            pattern.expected("d/", "2024-03-30T23:00:00Z".parse().unwrap(), "2024-03-31T22:00:00Z".parse().unwrap());
        assert_eq!(key, ExpectedKey { text: "d/2024-03-31.csv".to_owned(), whole: true });
    }
}
