//! Key patterns: how a key carries time, and where a listing may start.
//!
//! A pattern such as `data/{vendor}/{time:%Y-%m-%d-%H-%M-%S}-events.json` describes the whole key:
//!
//! | text | stands for |
//! |---|---|
//! | `{time:FORMAT}` | the time, at most once; see below |
//! | `{name}` | one or more characters except `/`, kept under that name |
//! | `*`, `**` | any run of characters without, with `/`; it may be empty |
//! | `{{`, `}}` | a brace |
//! | anything else | itself |
//!
//! FORMAT knows `%Y %m %d %H %M %S %y %j %b %f %3f %6f %9f %s %z %%` and literal text. Parts may lack their leading
//! zeros where a literal that is not a digit, or the end of the pattern, follows; elsewhere they have a fixed width.
//! Where several readings fit, wildcards take as little and parts of the time as much as they can.
//!
//! Guaranteed: matching takes at most `atoms × key length` steps, whatever the key; [`KeyPattern::lower_bound`] loses
//! no key (proof in `pattern/bound.rs`). Deliberately absent: regular expressions, and any idea of a bucket.

mod bound;
mod expected;
mod matching;
mod parse;
mod problem;
#[cfg(test)]
mod properties;
mod series;
mod time;

use std::ops::Range;

use jiff::Timestamp;
use jiff::tz::TimeZone;

pub use expected::ExpectedKey;
pub use problem::{PatternError, Problem};

/// Longest key S3 accepts, in bytes; a longer text matches no pattern.
const MAX_KEY_BYTES: usize = 1024;

/// The shape of a feed's keys.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyPattern {
    text: String,
    zone: TimeZone,
    atoms: Vec<Atom>,
    literal_prefix: String,
    levels: Vec<SeriesLevel>,
    /// The series is the key's text before this atom.
    series_end: usize,
    /// The beginning of the time in which byte order is time order; empty where there is none.
    ordered: Range<usize>,
    has_time: bool,
}

/// One piece of a pattern; neighbouring literals are merged.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Atom {
    Literal(String),
    Field { field: time::Field, width: time::Width },
    Capture(String),
    Wildcard { slashes: Slashes },
}

/// Whether a wildcard runs across `/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slashes {
    Within,
    Across,
}

/// How to find the values of one path segment that stands before the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesLevel {
    /// List with this delimiter; always `/`, the one character that no capture contains.
    pub delimiter: char,
    /// Append this to each common prefix: the literal text between the delimiter and the next part of the pattern.
    pub rest: String,
}

impl SeriesLevel {
    /// Where the next part of the pattern begins below one common prefix.
    pub fn below(&self, common_prefix: &str) -> String {
        format!("{common_prefix}{}", self.rest)
    }
}

/// A key taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyParts {
    /// The text before the time: keys with the same text make one series, with its own tip and frontier.
    ///
    /// Where the segments before the time cannot be found by listing (a capture in the time's own segment, or `**`),
    /// the series ends before the first of them and [`KeyPattern::is_ordered`] is false.
    pub series: String,
    /// The time.
    pub time: KeyTime,
    /// Captured texts by name, in the order of the pattern.
    pub captures: Vec<(String, String)>,
}

/// What a key says of its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyTime {
    /// This instant. A local time that happened twice is the first of the two.
    At(Timestamp),
    /// The pattern has no time.
    Absent,
    /// The shape fits, but there is no such time: month 13, 30 February, or two parts that contradict each other.
    Impossible,
}

impl KeyPattern {
    /// Reads a pattern; `zone` is the clock that the names follow.
    pub fn parse(text: &str, zone: TimeZone) -> Result<Self, PatternError> {
        let atoms = parse::atoms(text)?;
        let has_time = atoms.iter().any(Atom::is_field);
        let layout = series::Layout::of(&atoms);
        let ordered = if layout.listable { bound::ordered(&atoms) } else { 0..0 };
        Ok(Self {
            text: text.to_owned(),
            zone,
            literal_prefix: match atoms.first() {
                Some(Atom::Literal(literal)) => literal.clone(),
                _ => String::new(),
            },
            levels: layout.levels,
            series_end: layout.end,
            ordered,
            has_time,
            atoms,
        })
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Takes a key apart; `None` where it does not have this shape.
    pub fn matches(&self, key: &str) -> Option<KeyParts> {
        if key.len() > MAX_KEY_BYTES || !key.starts_with(&self.literal_prefix) {
            return None;
        }
        matching::parts(self, key)
    }

    /// The names of the captured parts, in the order of the pattern.
    pub fn captures(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for atom in &self.atoms {
            if let Atom::Capture(name) = atom {
                names.push(name.as_str());
            }
        }
        names
    }

    /// Whether keys carry a time.
    pub fn has_time(&self) -> bool {
        self.has_time
    }

    /// The literal text before the first capture, wildcard or time: every matching key begins with it.
    pub fn literal_prefix(&self) -> &str {
        &self.literal_prefix
    }

    /// Where the listing of series begins: the literal prefix.
    pub fn series_root(&self) -> &str {
        &self.literal_prefix
    }

    /// The path segments before the time whose values must be found by delimiter listing; none: one series.
    pub fn series_levels(&self) -> &[SeriesLevel] {
        &self.levels
    }

    /// A text that every key of `series` whose time is at or after `from` sorts strictly after, byte by byte, padded
    /// or not: made for `StartAfter`. It is `series` itself where the order of keys says nothing about time.
    pub fn lower_bound(&self, series: &str, from: Timestamp) -> String {
        let mut bound = series.to_owned();
        bound.push_str(&bound::rendered(self, from));
        bound
    }

    /// Whether the order of keys says something about time, so that [`Self::lower_bound`] skips what is older.
    pub fn is_ordered(&self) -> bool {
        !self.ordered.is_empty()
    }
}

impl Atom {
    fn is_field(&self) -> bool {
        matches!(self, Self::Field { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> KeyPattern {
        KeyPattern::parse(text, TimeZone::UTC).unwrap()
    }

    fn time_of(text: &str, key: &str) -> Option<KeyTime> {
        pattern(text).matches(key).map(|parts| parts.time)
    }

    fn at(text: &str) -> KeyTime {
        KeyTime::At(text.parse().unwrap())
    }

    #[test]
    fn unpadded_names_three_hours_behind_utc_are_read() {
        let zone = TimeZone::fixed(jiff::tz::offset(-3));
        let pattern = KeyPattern::parse("data/{time:%Y-%m-%d-%H-%M-%S}-events.json", zone).unwrap();
        let parts = pattern.matches("data/2019-06-01-15-17-3-events.json").unwrap();
        assert_eq!(parts.time, at("2019-06-01T18:17:03Z"));
        assert_eq!(parts.series, "data/");
        let bound = pattern.lower_bound("data/", "2019-06-01T18:17:03Z".parse().unwrap());
        assert_eq!(bound, "data/2019-06-01-15-17-03");
        assert!(*"data/2019-06-01-15-17-3-events.json" > *bound);
    }

    #[test]
    fn fixed_width_parts_and_captures_are_read() {
        let pattern = pattern("data/{vendor}/{time:%Y/%m/%d/%H%M%S%6f}.parquet");
        let parts = pattern.matches("data/acme/2024/11/05/142003123456.parquet").unwrap();
        assert_eq!(parts.time, at("2024-11-05T14:20:03.123456Z"));
        assert_eq!(parts.series, "data/acme/");
        assert_eq!(parts.captures, [("vendor".to_owned(), "acme".to_owned())]);
        assert!(pattern.matches("data/acme/2024/11/05/14203123456.parquet").is_none(), "a digit is missing");
        assert!(pattern.matches("data/a/b/2024/11/05/142003123456.parquet").is_none(), "captures end at a slash");
        assert!(pattern.matches("data//2024/11/05/142003123456.parquet").is_none(), "captures are not empty");
    }

    #[test]
    fn every_kind_of_part_is_read() {
        let check = |text: &str, key: &str, expected: &str| assert_eq!(time_of(text, key), Some(at(expected)), "{key}");
        check("{time:%y%m%d}", "240229", "2024-02-29T00:00:00Z");
        check("{time:%y%m%d}", "690101", "1969-01-01T00:00:00Z");
        check("{time:%Y-%j}", "2024-60", "2024-02-29T00:00:00Z");
        check("{time:%d-%b-%Y}.csv", "1-jun-2019.csv", "2019-06-01T00:00:00Z");
        check("{time:%s}.csv", "1559413023.csv", "2019-06-01T18:17:03Z");
        check("{time:%s%3f}.csv", "1559413023042.csv", "2019-06-01T18:17:03.042Z");
        check("{time:%Y-%m-%dT%H:%M:%S.%fZ}", "2019-06-01T18:17:03.5Z", "2019-06-01T18:17:03.5Z");
        check("{time:%Y-%m-%dT%H:%M:%S%z}", "2019-06-01T15:17:03-0300", "2019-06-01T18:17:03Z");
        check("{time:%Y-%m-%dT%H:%M:%S%z}", "2019-06-01T15:17:03-03:00", "2019-06-01T18:17:03Z");
        check("{time:%Y-%m-%dT%H:%M:%S%z}", "2019-06-01T18:17:03Z", "2019-06-01T18:17:03Z");
        check("{time:%Y%%%m}", "2019%06", "2019-06-01T00:00:00Z");
        check("{time:year=%Y/month=%m/%Y%m%d}.gz", "year=2019/month=6/20190601.gz", "2019-06-01T00:00:00Z");
    }

    #[test]
    fn impossible_times_keep_their_shape() {
        for key in ["2019-13-01-0.csv", "2019-02-30-0.csv", "2019-00-10-0.csv", "2019-01-01-24.csv"] {
            assert_eq!(time_of("{time:%Y-%m-%d-%H}.csv", key), Some(KeyTime::Impossible), "{key}");
        }
        assert_eq!(time_of("{time:%Y-%j}", "2023-366"), Some(KeyTime::Impossible));
        assert_eq!(time_of("{time:%Y/%Y%m}", "2019/202006"), Some(KeyTime::Impossible), "parts contradict");
        assert_eq!(time_of("{time:%Y-%m-%d-%H}.csv", "2019-1-1-x.csv"), None);
    }

    #[test]
    fn repeated_and_skipped_local_times_are_read_as_the_earlier_instant() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let pattern = KeyPattern::parse("{time:%Y-%m-%dT%H:%M}", zone).unwrap();
        assert_eq!(pattern.matches("2024-10-27T02:30").unwrap().time, at("2024-10-27T00:30:00Z"));
        assert_eq!(pattern.matches("2024-03-31T02:30").unwrap().time, at("2024-03-31T00:30:00Z"));
    }

    #[test]
    fn names_of_a_repeated_hour_sort_after_the_newest_name_s_bound() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let pattern = KeyPattern::parse("{time:%Y-%m-%dT%H:%M}.csv", zone).unwrap();
        let KeyTime::At(newest) = pattern.matches("2024-10-27T02:59.csv").unwrap().time else { panic!() };
        // The clock reads 02:00 again one minute after 02:59.
        assert!(*"2024-10-27T02:00.csv" > *pattern.lower_bound("", newest));
    }

    #[test]
    fn wildcards_and_braces_match_the_whole_key() {
        let check = |text: &str, key: &str, expected: bool| {
            assert_eq!(pattern(text).matches(key).is_some(), expected, "{text} {key}");
        };
        check("a/*.csv", "a/b.csv.csv", true);
        check("a/*.csv", "a/.csv", true);
        check("a/*.csv", "a/b/c.csv", false);
        check("a/**.csv", "a/b/c.csv", true);
        check("a/**/c", "a/c", false);
        check("{{a}}-*", "{a}-é", true);
        check("a", "ab", false);
        check("*é*", "ü-é-ö", true);
        check("", "", true);
    }

    #[test]
    fn captures_take_as_little_as_they_can() {
        let parts = pattern("{a}_{b}.csv").matches("x_y_z.csv").unwrap();
        assert_eq!(parts.captures, [("a".to_owned(), "x".to_owned()), ("b".to_owned(), "y_z".to_owned())]);
        assert_eq!(parts.time, KeyTime::Absent);
    }

    #[test]
    fn captures_never_split_a_character() {
        let parts = pattern("{a}*").matches("éx").unwrap();
        assert_eq!(parts.captures, [("a".to_owned(), "é".to_owned())]);
    }

    #[test]
    fn hostile_keys_take_bounded_time() {
        let pattern = pattern("**a**a**a**a**a**a**a**b");
        assert!(pattern.matches(&"a".repeat(MAX_KEY_BYTES)).is_none());
        assert!(pattern.matches(&"a".repeat(MAX_KEY_BYTES + 1)).is_none());
    }

    #[test]
    fn series_are_the_segments_before_the_time() {
        let check = |text: &str, rests: &[&str], key: &str, series: &str| {
            let pattern = pattern(text);
            let found: Vec<_> = pattern.series_levels().iter().map(|level| level.rest.as_str()).collect();
            assert_eq!(found, rests, "{text}");
            assert_eq!(pattern.matches(key).unwrap().series, series, "{text}");
            assert!(pattern.is_ordered(), "{text}");
        };
        check("x/{time:%Y}", &[], "x/2024", "x/");
        check("{time:x/%Y}", &[], "x/2024", "x/");
        check("x/{a}/{time:%Y}", &[""], "x/q/2024", "x/q/");
        check("x/{a}/y/{b}-c/d-{time:%Y}", &["y/", "d-"], "x/q/y/r-c/d-2024", "x/q/y/r-c/d-");
        check("x/*-{a}/{time:%Y}", &[""], "x/p-q/2024", "x/p-q/");
    }

    #[test]
    fn segments_that_listing_cannot_find_end_the_series_and_the_order() {
        for (text, levels, key, series) in [
            ("x/{host}-{time:%Y-%m}", 0, "x/web-1-2024-05", "x/"),
            ("x/{a}/y{host}-{time:%Y-%m}", 1, "x/q/yweb-1-2024-05", "x/q/y"),
            ("x/{a}/**/{time:%Y-%m}", 1, "x/q/r/s/2024-05", "x/q/"),
        ] {
            let pattern = pattern(text);
            assert_eq!(pattern.series_levels().len(), levels, "{text}");
            let parts = pattern.matches(key).unwrap();
            assert_eq!(parts.series, series);
            assert_eq!(parts.time, at("2024-05-01T00:00:00Z"));
            assert!(!pattern.is_ordered());
            assert_eq!(pattern.lower_bound(series, "2024-05-01T00:00:00Z".parse().unwrap()), series);
        }
    }

    #[test]
    fn order_ends_where_byte_order_stops_being_time_order() {
        let from = "2024-05-07T08:09:10.25Z".parse().unwrap();
        let check = |text: &str, expected: &str| {
            assert_eq!(pattern(text).lower_bound("", from), expected, "{text}");
            assert_eq!(pattern(text).is_ordered(), !expected.is_empty(), "{text}");
        };
        check("{time:%d-%m-%Y}.csv", "");
        check("{time:%y%m%d}.csv", "");
        check("{time:%b-%Y}.csv", "");
        check("{time:%Y-%b-%d}.csv", "2024");
        check("{time:%Y-%d-%m}.csv", "2024");
        check("{time:%Y-%j.%H}.csv", "2024-128.08");
        check("{time:%Y/%m/%d/%Y%m%d%H%M%S}.csv", "2024/05/07/20240507080910");
        check("{time:%Y/%m/%d/%H%M%S%6f}.parquet", "2024/05/07/080910250000");
        check("{time:%Y-%m-%d %H:%M:%S.%f}x", "2024-05-07 08:09:10.25");
        check("{time:%s}-x", "1715069350");
        check("{time:%s}", "171506935");
        check("{time:%Y%m%d}*", "2024050");
        check("{time:%Y%m%dT%H%z}.csv", "20240506T06");
    }

    #[test]
    fn midnight_sorts_unpadded_names_first() {
        let from = "2024-05-07T00:00:05Z".parse().unwrap();
        // `0-` sorts before `00`, `0_` after it.
        assert_eq!(pattern("{time:%Y-%m-%d-%H-%M-%S}-x").lower_bound("", from), "2024-05-07-0-0-05");
        assert_eq!(pattern("{time:%Y_%m_%d_%H_%M_%S}_x").lower_bound("", from), "2024_05_07_00_00_05");
    }

    #[test]
    fn wrong_patterns_are_refused_with_their_place() {
        for (text, at, word) in [
            ("{time:%Y}{time:%m}", 10, "once"),
            ("x{time}", 2, "{time:%Y"),
            ("x{time:}", 2, "empty"),
            ("{time:%Q}", 7, "%Q"),
            ("{time:%-d}", 7, "%-"),
            ("{time:%F}", 7, "%F"),
            ("{time:%Y%}", 9, "%%"),
            ("{time:%H%M}", 7, "%d"),
            ("{time:%Y-%d}", 10, "%m"),
            ("{time:%Y%s}", 9, "%s"),
            ("{time:%Y%m%d%H%M%S%f1}", 19, "%6f"),
            ("{time:just text}", 1, "no time"),
            ("{a}{b}", 4, "literal"),
            ("{a}{time:%Y}", 4, "literal"),
            ("{a}/{a}", 5, "twice"),
            ("{A b}", 1, "name"),
            ("{}", 1, "name"),
            ("{a", 1, "closed"),
            ("a}", 2, "}}"),
            ("***", 1, "**"),
            ("*-*-*-*-*-*-*-*-*", 17, "8"),
            ("é{", 2, "closed"),
        ] {
            let error = KeyPattern::parse(text, TimeZone::UTC).unwrap_err();
            assert_eq!(error.at, at, "{text}: {error}");
            assert!(error.to_string().contains(word), "{text}: {error}");
        }
    }
}
