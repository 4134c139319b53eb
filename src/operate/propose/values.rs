//! What the values of one field have in common.
//!
//! A type is possible only while every value is one by the judgement of the encoder that will load it, and while it
//! would not change the value: leading zeros, a plus sign or an article number such as `12E5` make a text. Values
//! themselves are not kept, but for the first few different ones, which never leave this file.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{BuildHasher as _, RandomState};

use bytes::BytesMut;
use jiff::tz::TimeZone;

use crate::pipeline::decode::reader::{Typing, Value};
use crate::store::encode::{ColumnType, encode_cell};

/// Words that stand for a missing value.
pub(super) const NULLS: [&str; 12] =
    ["NULL", "null", "Null", "\\N", "NA", "N/A", "n/a", "#N/A", "None", "NaN", "nan", "-"];

/// Different values up to which a field looks like a choice of a few.
pub(super) const FEW: usize = 20;

/// Longest value that is remembered to tell whether there are few.
const LONGEST_WORD: usize = 64;

/// Values up to which it is watched whether they are all different.
const WATCHED: usize = 100_000;

/// A kind of value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// `true` and `false`.
    Bool,
    /// A whole number of 64 bits.
    Int,
    /// A decimal number.
    Numeric,
    /// A number with an exponent.
    Double,
    /// A day.
    Date,
    /// A time of day.
    Time,
    /// A local time.
    Timestamp,
    /// A time with its offset.
    Timestamptz,
    /// A UUID with its hyphens.
    Uuid,
    /// A JSON object or array in a text.
    Json,
}

/// All kinds, the most telling first.
const KINDS: [(Kind, ColumnType); 10] = [
    (Kind::Bool, ColumnType::Bool),
    (Kind::Int, ColumnType::Int8),
    (Kind::Numeric, ColumnType::Numeric),
    (Kind::Double, ColumnType::Float8),
    (Kind::Date, ColumnType::Date),
    (Kind::Time, ColumnType::Time),
    (Kind::Timestamp, ColumnType::Timestamp),
    (Kind::Timestamptz, ColumnType::Timestamptz),
    (Kind::Uuid, ColumnType::Uuid),
    (Kind::Json, ColumnType::Jsonb),
];

/// How the values were written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Kinds {
    pub(super) texts: u64,
    pub(super) numbers: u64,
    pub(super) bools: u64,
    pub(super) bytes: u64,
    pub(super) arrays: u64,
    pub(super) objects: u64,
}

impl Kinds {
    /// How many of them there are.
    fn variety(self) -> usize {
        let Self { texts, numbers, bools, bytes, arrays, objects } = self;
        [texts, numbers, bools, bytes, arrays, objects].iter().filter(|count| **count > 0).count()
    }
}

/// The values of one field.
#[derive(Debug, Clone)]
pub(super) struct Values {
    typing: Typing,
    /// Values that are neither NULL nor blank.
    pub(super) present: u64,
    /// NULLs of the format.
    pub(super) nulls: u64,
    /// Blank texts.
    pub(super) blanks: u64,
    /// Words that stand for a missing value, and how often.
    pub(super) words: BTreeMap<&'static str, u64>,
    pub(super) kinds: Kinds,
    possible: [bool; KINDS.len()],
    /// Values that were tried.
    tried: u64,
    /// Numbers with needless zeros in front, with a plus sign, written as `8.0`, with blanks around, with offset.
    pub(super) leading_zeros: u64,
    pub(super) plus_signs: u64,
    pub(super) integral: u64,
    pub(super) padded: u64,
    pub(super) with_offset: u64,
    /// Longest value in characters.
    pub(super) longest: usize,
    /// Most digits before and behind the point.
    pub(super) digits: (usize, usize),
    /// Smallest and largest whole number.
    pub(super) range: Option<(i64, i64)>,
    few: Option<BTreeSet<Vec<u8>>>,
    different: Option<HashSet<u64>>,
    hasher: RandomState,
}

impl Values {
    pub(super) fn new(typing: Typing) -> Self {
        Self {
            typing,
            present: 0,
            nulls: 0,
            blanks: 0,
            words: BTreeMap::new(),
            kinds: Kinds::default(),
            possible: [true; KINDS.len()],
            tried: 0,
            leading_zeros: 0,
            plus_signs: 0,
            integral: 0,
            padded: 0,
            with_offset: 0,
            longest: 0,
            digits: (0, 0),
            range: None,
            few: Some(BTreeSet::new()),
            different: Some(HashSet::new()),
            hasher: RandomState::new(),
        }
    }

    /// One more value.
    pub(super) fn add(&mut self, value: Value<'_>) {
        match value {
            Value::Absent => {}
            Value::Null => self.nulls += 1,
            Value::Text(text) => self.text(text),
            Value::Number(text) => {
                self.kinds.numbers += 1;
                self.written(text, Writing::Number);
            }
            Value::Bool(value) => {
                self.kinds.bools += 1;
                self.written(if value { b"true" } else { b"false" }, Writing::Bool);
            }
            Value::Bytes(_) => {
                self.kinds.bytes += 1;
                self.present += 1;
                self.nothing_else();
            }
            Value::Nested(json) => {
                let slot = if json.first() == Some(&b'[') { &mut self.kinds.arrays } else { &mut self.kinds.objects };
                *slot += 1;
                self.present += 1;
                self.nothing_else();
            }
        }
    }

    fn text(&mut self, text: &[u8]) {
        let inner = text.trim_ascii();
        if inner.is_empty() {
            self.blanks += 1;
            return;
        }
        self.kinds.texts += 1;
        if let Some(word) = NULLS.iter().find(|word| word.as_bytes() == inner) {
            *self.words.entry(word).or_default() += 1;
            self.present += 1;
            self.remember(text);
            self.longest = self.longest.max(inner.len());
            return;
        }
        self.padded += u64::from(inner.len() != text.len());
        let writing = if self.typing == Typing::Texts { Writing::Anything } else { Writing::Text };
        self.written(inner, writing);
    }

    fn written(&mut self, text: &[u8], writing: Writing) {
        self.present += 1;
        self.tried += 1;
        self.remember(text);
        self.longest = self.longest.max(String::from_utf8_lossy(text).chars().count());
        self.note_number(text);
        self.with_offset += u64::from(has_offset(text));
        let mut scratch = BytesMut::new();
        for (possible, (kind, column)) in self.possible.iter_mut().zip(&KINDS) {
            scratch.clear();
            *possible = *possible
                && writing.may_be(*kind)
                && is_unchanged(*kind, text, writing)
                && encode_cell(column, plain(*kind, text), &TimeZone::UTC, &mut scratch).is_ok();
        }
    }

    /// What was seen is no scalar.
    fn nothing_else(&mut self) {
        self.possible = [false; KINDS.len()];
        self.few = None;
        self.different = None;
    }

    fn note_number(&mut self, text: &[u8]) {
        let digits = text.strip_prefix(b"-").unwrap_or(text);
        self.leading_zeros += u64::from(has_leading_zero(digits) && digits.iter().all(u8::is_ascii_digit));
        self.plus_signs += u64::from(matches!(text, [b'+', rest @ ..] if rest.iter().all(u8::is_ascii_digit)));
        self.integral += u64::from(is_integral_float(digits));
        if let Some(whole) = std::str::from_utf8(plain(Kind::Int, text)).ok().and_then(|text| text.parse().ok()) {
            let (low, high) = self.range.unwrap_or((whole, whole));
            self.range = Some((low.min(whole), high.max(whole)));
        }
        let mut halves = digits.splitn(2, |byte| *byte == b'.');
        let (whole, rest) = (halves.next().unwrap_or_default(), halves.next().unwrap_or_default());
        if whole.iter().chain(rest).all(u8::is_ascii_digit) {
            self.digits = (self.digits.0.max(whole.len()), self.digits.1.max(rest.len()));
        }
    }

    fn remember(&mut self, text: &[u8]) {
        if let Some(few) = &mut self.few {
            if text.len() > LONGEST_WORD || (few.len() == FEW && !few.contains(text)) {
                self.few = None;
            } else if !few.contains(text) {
                few.insert(text.to_vec());
            }
        }
        let hash = self.hasher.hash_one(text);
        if let Some(different) = &mut self.different
            && (different.len() == WATCHED || !different.insert(hash))
        {
            self.different = None;
        }
    }

    /// The first kind that all values have.
    pub(super) fn kind(&self) -> Option<Kind> {
        let first = self.possible.iter().zip(&KINDS).find(|(possible, _)| **possible).map(|(_, (kind, _))| *kind);
        first.filter(|_| self.tried > 0)
    }

    /// Whether all values are of this kind, whatever else they are.
    pub(super) fn may_be(&self, kind: Kind) -> bool {
        self.tried > 0 && self.possible.iter().zip(&KINDS).any(|(possible, (own, _))| *possible && *own == kind)
    }

    /// Whether numbers, texts, arrays and so on are mixed.
    pub(super) fn is_mixed(&self) -> bool {
        self.kinds.variety() > 1
    }

    /// How many different values there are, where they are few.
    pub(super) fn few(&self) -> Option<usize> {
        self.few.as_ref().map(BTreeSet::len)
    }

    /// Whether all values are exactly these.
    pub(super) fn are(&self, words: &[&str]) -> bool {
        self.few.as_ref().is_some_and(|few| few.iter().map(Vec::as_slice).eq(words.iter().map(|word| word.as_bytes())))
    }

    /// Whether no value came twice, of enough values to mean something.
    pub(super) fn are_unique(&self) -> bool {
        self.different.as_ref().is_some_and(|different| different.len() >= 10)
    }

    /// Whether a text would be one more of the kind that all values are.
    pub(super) fn takes(&self, text: &[u8]) -> bool {
        let mut with = self.clone();
        with.add(Value::Text(text));
        with.kind() == self.kind()
    }
}

/// How a value was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writing {
    /// In a format without types.
    Anything,
    /// As a text, in a format that also knows numbers.
    Text,
    Number,
    Bool,
}

impl Writing {
    /// What says that it is a text is no number, however much it looks like one.
    const fn may_be(self, kind: Kind) -> bool {
        match kind {
            Kind::Bool => matches!(self, Self::Anything | Self::Bool),
            Kind::Int | Kind::Numeric | Kind::Double => matches!(self, Self::Anything | Self::Number),
            Kind::Date | Kind::Time | Kind::Timestamp | Kind::Timestamptz | Kind::Uuid => {
                matches!(self, Self::Anything | Self::Text)
            }
            Kind::Json => matches!(self, Self::Anything),
        }
    }
}

/// Whether a value read as this kind is still what was written.
fn is_unchanged(kind: Kind, text: &[u8], writing: Writing) -> bool {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let is_number = digits.first().is_some_and(|first| first.is_ascii_digit() || *first == b'.');
    let has_exponent = digits.iter().any(|byte| matches!(byte, b'e' | b'E'));
    match kind {
        // 1, y and f are more often something else.
        Kind::Bool => text.eq_ignore_ascii_case(b"true") || text.eq_ignore_ascii_case(b"false"),
        Kind::Int => is_number && !has_leading_zero(digits),
        Kind::Numeric => is_number && !has_leading_zero(digits) && !has_exponent,
        // 12E5 is rather an article number than a million.
        Kind::Double => {
            let is_meant = writing == Writing::Number || digits.contains(&b'.') || !has_exponent;
            is_number && !has_leading_zero(digits) && is_meant
        }
        Kind::Date => text.len() == "2024-01-31".len(),
        Kind::Time => text.len() >= "10:00:00".len() && text.get(2) == Some(&b':'),
        Kind::Timestamp => !has_offset(text),
        Kind::Timestamptz => text.len() >= "2024-01-31".len(),
        Kind::Uuid => text.len() == 36,
        Kind::Json => matches!(text.first(), Some(b'{' | b'[')),
    }
}

/// The text as the encoder takes it: a whole number may be written as `8.0` where the feed says so.
fn plain(kind: Kind, text: &[u8]) -> &[u8] {
    match text.strip_suffix(b".0") {
        Some(whole) if kind == Kind::Int && is_integral_float(text.strip_prefix(b"-").unwrap_or(text)) => whole,
        _ => text,
    }
}

/// `007` is a name made of digits.
fn has_leading_zero(digits: &[u8]) -> bool {
    matches!(digits, [b'0', b'0'..=b'9', ..])
}

/// `8.0`, as programs write a whole number that passed through a float; `8.00` is rather an amount of money.
fn is_integral_float(digits: &[u8]) -> bool {
    digits.strip_suffix(b".0").is_some_and(|whole| !whole.is_empty() && whole.iter().all(u8::is_ascii_digit))
}

/// Whether a time says where it was read.
fn has_offset(text: &[u8]) -> bool {
    text.iter().skip("2024-01-31".len()).any(|byte| matches!(byte, b'Z' | b'z' | b'+' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(values: &[&str]) -> Values {
        let mut all = Values::new(Typing::Texts);
        for value in values {
            all.add(Value::Text(value.as_bytes()));
        }
        all
    }

    fn kind(values: &[&str]) -> Option<Kind> {
        texts(values).kind()
    }

    #[test]
    fn kinds_are_what_every_value_is() {
        for (values, expected) in [
            (&["1", "-2", ""][..], Some(Kind::Int)),
            (&["1", "1.5"], Some(Kind::Numeric)),
            (&["0", "0.5", "-.25"], Some(Kind::Numeric)),
            (&["8.0", "9", ""], Some(Kind::Int)),
            (&["8.0", "9.5"], Some(Kind::Numeric)),
            (&["8.00"], Some(Kind::Numeric)),
            (&["1.5e3", "2"], Some(Kind::Double)),
            (&["True", "false"], Some(Kind::Bool)),
            (&["2024-01-31", "2024-02-29"], Some(Kind::Date)),
            (&["2024-01-31", "2024-02-30"], None),
            (&["10:00:00", "23:59:59.5"], Some(Kind::Time)),
            (&["2024-01-31", "2024-02-01 10:00:00"], Some(Kind::Timestamp)),
            (&["2024-01-31T10:00:00Z", "2024-01-31T10:00:00+02:00"], Some(Kind::Timestamptz)),
            (&["2024-01-31T10:00:00Z", "2024-01-31 10:00:00"], Some(Kind::Timestamptz)),
            (&["bac5188f-67c6-4965-81dc-4ef49622e280"], Some(Kind::Uuid)),
            (&["{\"a\":1}", "[1]"], Some(Kind::Json)),
            (&["99999999999999999999"], Some(Kind::Numeric)),
            (&[], None),
            (&["", "  "], None),
        ] {
            assert_eq!(kind(values), expected, "{values:?}");
        }
    }

    #[test]
    fn what_a_type_would_change_stays_text() {
        for value in ["08841", "+4930", "12E5", "1,5", "infinity", "1_000", "0x1f", "bac5188f67c6496581dc4ef49622e280"]
        {
            assert_eq!(kind(&[value]), None, "{value}");
        }
        assert_eq!(texts(&["08841", "12"]).leading_zeros, 1);
        assert_eq!(texts(&["+49", "12"]).plus_signs, 1);
        assert_eq!(texts(&["8.0", "12"]).integral, 1);
    }

    #[test]
    fn words_for_missing_values_are_counted_and_do_not_decide() {
        let values = texts(&["1", "NULL", "\\N", "NULL", " 2"]);
        assert_eq!(values.kind(), Some(Kind::Int));
        assert_eq!(values.words, BTreeMap::from([("NULL", 2), ("\\N", 1)]));
        assert_eq!((values.present, values.padded), (5, 1));
        assert_eq!(kind(&["NULL"]), None);
    }

    #[test]
    fn a_text_of_a_format_with_numbers_is_no_number() {
        let mut values = Values::new(Typing::Json);
        values.add(Value::Text(b"12"));
        assert_eq!(values.kind(), None);
        let mut values = Values::new(Typing::Json);
        values.add(Value::Text(b"2024-01-31"));
        assert_eq!(values.kind(), Some(Kind::Date));
        values.add(Value::Number(b"7"));
        assert!(values.is_mixed());
        assert_eq!(values.kind(), None);
    }

    #[test]
    fn few_and_unique_values_are_told_apart() {
        let values = texts(&["a", "b", "a"]);
        assert_eq!(values.few(), Some(2));
        assert!(!values.are_unique());
        assert!(values.are(&["a", "b"]));
        let many: Vec<String> = (0..30).map(|number| number.to_string()).collect();
        let values = texts(&many.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(values.few(), None);
        assert!(values.are_unique());
        assert_eq!(values.range, Some((0, 29)));
    }
}
