//! The rules of a column: any value, any type, any rules. What is accepted fulfils the rules by another check than the
//! one that let it through; what is refused is refused without its value.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::Arc;

use jiff::tz::TimeZone;
use regex::bytes::Regex;
use tokio::sync::mpsc;

use super::{Choices, cell, fixture, run};
use crate::config::feed::{ColumnMap, EpochUnit, Feed, Format, Rejects, Rules, Source, TimeFormat};
use crate::domain::record::Position;
use crate::pipeline::decode::reader::{Next, RecordReader, Schema, Typing, Value};
use crate::pipeline::decode::{Decoding, Failure, Piece, Target, rows};
use crate::store::catalog::{Column, Shape};
use crate::store::encode::ColumnType;
use crate::store::stage::Staging;

/// One record of one field. Its typing is a number, for traits take no other constants.
struct One<'a, const TYPING: u8> {
    value: Value<'a>,
    read: bool,
}

impl<const TYPING: u8> RecordReader for One<'_, TYPING> {
    const TYPING: Typing = match TYPING {
        0 => Typing::Texts,
        1 => Typing::Json,
        _ => Typing::Schema,
    };

    async fn schema(&mut self) -> Result<Option<Schema>, Failure> {
        Ok(Some(Schema::Open))
    }

    fn claim(&mut self, _text: &str, _steps: &[String]) -> Option<usize> {
        Some(0)
    }

    async fn next(&mut self) -> Result<Next, Failure> {
        Ok(if std::mem::replace(&mut self.read, true) { Next::End } else { Next::Record })
    }

    fn number(&self) -> u64 {
        1
    }

    fn position(&self) -> Position {
        Position { record: 1, line: 0, byte: 0 }
    }

    fn value(&self, _slot: usize) -> Value<'_> {
        self.value
    }

    fn unclaimed(&self, _visit: &mut dyn FnMut(&str, Value<'_>)) {}

    fn raw(&self, _most: usize, _out: &mut Vec<u8>) -> u64 {
        0
    }

    fn bytes(&self) -> u64 {
        0
    }
}

/// What became of the value: its payload or NULL, a code and a reason, or rules that fit no value.
enum Outcome {
    Taken(Option<Vec<u8>>),
    Refused(String, String),
    Misfit,
}

fn decode<const TYPING: u8>(feed: &Feed, column: Column, value: Value<'_>) -> Outcome {
    let shape = Shape { columns: vec![column], provenance: Vec::new(), ..fixture::shape() };
    let targets = [Target { shape: Arc::new(shape), staging: Staging::None }];
    let object = fixture::object(0);
    run(async {
        let (sender, mut pieces) = mpsc::channel(8);
        let decoding = Decoding { feed, object: &object, targets: &targets, rejects: feed.rejects };
        let reader = One::<TYPING> { value, read: false };
        let Ok(decoded) = rows::run(decoding, reader, sender).await else { return Outcome::Misfit };
        assert_eq!((decoded.read, decoded.loaded + decoded.rejected), (1, 1));
        while let Some(piece) = pieces.recv().await {
            match piece {
                Piece::Target { .. } => {}
                Piece::Frame { bytes, .. } => return Outcome::Taken(payload(&bytes)),
                Piece::Rejections(rejections) => {
                    let bad = rejections.into_iter().next().unwrap_or_else(|| unreachable!("rejections without one"));
                    return Outcome::Refused(bad.code, bad.reason);
                }
            }
        }
        unreachable!("neither row nor rejection")
    })
}

/// The value of a tuple of one, or of a line of one.
fn payload(frame: &[u8]) -> Option<Vec<u8>> {
    match frame {
        // Only a table with an unknown type goes as text.
        [text @ .., b'\n'] if !frame.starts_with(&[0, 1]) => (text != b"\\N").then(|| text.to_vec()),
        [0, 1, 0xff, 0xff, 0xff, 0xff] => None,
        [0, 1, _, _, _, _, value @ ..] => Some(value.to_vec()),
        _ => unreachable!("not a tuple of one: {frame:?}"),
    }
}

fn rules(choices: &mut Choices<'_>) -> Rules {
    let bounds =
        [None, None, None, Some("-5"), Some("0"), Some("1.5"), Some("2024-02-29"), Some("12:00"), Some("1e30")];
    let text = |text: Option<&str>| text.map(str::to_owned);
    let nulls = choices.one(&[&[""][..], &[], &["", "NULL"], &["-", "N/A"]]);
    let patterns = [None, None, Some("^(?:[0-9]+)$"), Some("^(?:a|ab)$"), Some("(?-u)^(?:.*)$")];
    let formats = [None, None, Some("s"), Some("ns"), Some("%d/%m/%Y"), Some("%Y%m%d %H%M"), Some("%T"), Some("%s")];
    Rules {
        null: nulls.iter().copied().map(str::to_owned).collect(),
        trim: choices.one(&[false, true]),
        required: choices.one(&[false, true]),
        default: text(choices.one(&[None, None, Some("7"), Some("2024-01-01"), Some("ab")])),
        min: text(choices.one(&bounds)),
        max: text(choices.one(&bounds)),
        one_of: choices.one(&[&[][..], &[], &["1", "ab", "true"]]).iter().copied().map(str::to_owned).collect(),
        matches: choices.one(&patterns).and_then(|pattern| Regex::new(pattern).ok()),
        min_length: choices.one(&[None, None, Some(1), Some(3)]),
        max_length: choices.one(&[None, None, Some(0), Some(3)]),
        integral_floats: choices.one(&[false, true]),
        time_format: choices.one(&formats).map(|format| match format {
            "s" => TimeFormat::Epoch(EpochUnit::Seconds),
            "ns" => TimeFormat::Epoch(EpochUnit::Nanos),
            pattern => TimeFormat::Pattern(pattern.to_owned()),
        }),
    }
}

/// Rules, a type, the kind of a value, and its bytes.
pub fn target(data: &[u8]) {
    let mut choices = Choices::new(data);
    let types = cell::types();
    let numbers: Vec<usize> = (0..types.len()).collect();
    let kind = types.get(choices.one(&numbers)).unwrap_or(&ColumnType::Other).clone();
    let rules = rules(&mut choices);
    let mut feed = Feed { format: Format::Json, rejects: Rejects { max_rows: 9, max_ratio: None }, ..fixture::feed() };
    feed.json.coerce = choices.one(&[false, true]);
    if let Some(route) = feed.routes.first_mut() {
        route.mapping.timezone = TimeZone::get(choices.one(&["UTC", "America/New_York"])).unwrap_or(TimeZone::UTC);
        let source = Source::field("v");
        route.mapping.columns = vec![ColumnMap { column: "c".to_owned(), source, rules: rules.clone() }];
    }
    let nullable = choices.one(&[true, false]);
    let column =
        Column { name: "c".to_owned(), kind: kind.clone(), type_name: "t".to_owned(), nullable, has_default: false };
    let (typing, form) = (choices.byte() % 3, choices.byte());
    let bytes = choices.rest();
    let value = match form % 8 {
        0 => Value::Null,
        1 => Value::Bool(true),
        2 => Value::Number(bytes),
        3 => Value::Nested(bytes),
        4 => Value::Bytes(bytes),
        _ => Value::Text(bytes),
    };
    let outcome = match typing {
        0 => decode::<0>(&feed, column, value),
        1 => decode::<1>(&feed, column, value),
        _ => decode::<2>(&feed, column, value),
    };
    match outcome {
        Outcome::Misfit => {}
        Outcome::Taken(None) => assert!(nullable && !rules.required && rules.default.is_none(), "a NULL too many"),
        Outcome::Taken(Some(payload)) => fulfils(&rules, &kind, value, &payload),
        Outcome::Refused(code, reason) => {
            assert!(["E-CELL-", "E-RULE-", "E-ROW-"].iter().any(|known| code.starts_with(known)), "{code}");
            let quoted = std::str::from_utf8(bytes).is_ok_and(|text| text.len() > 12 && reason.contains(text));
            assert!(!quoted, "{code}: the reason holds the value");
        }
    }
}

/// Whether a value that was taken is what the rules ask for.
fn fulfils(rules: &Rules, kind: &ColumnType, value: Value<'_>, payload: &[u8]) {
    let text = match value {
        Value::Absent | Value::Null => Cow::Borrowed(rules.default.as_deref().unwrap_or("").as_bytes()),
        Value::Bool(value) => Cow::Owned(value.to_string().into_bytes()),
        Value::Text(text) if rules.trim => Cow::Borrowed(text.trim_ascii()),
        Value::Text(text) | Value::Number(text) | Value::Nested(text) | Value::Bytes(text) => Cow::Borrowed(text),
    };
    let is_null = rules.null.iter().any(|null| null.as_bytes() == &*text)
        || (rules.null.iter().any(String::is_empty) && text.trim_ascii().is_empty());
    let is_scalar = !matches!(value, Value::Bytes(_) | Value::Nested(_));
    let text = match (&rules.default, is_null && is_scalar) {
        (Some(default), true) => Cow::Borrowed(default.as_bytes()),
        (None, true) => unreachable!("NULL was taken for a value"),
        (_, false) => text,
    };
    assert!(rules.one_of.is_empty() || rules.one_of.iter().any(|one| one.as_bytes() == &*text), "one_of");
    if let Ok(text) = std::str::from_utf8(&text) {
        let length = text.chars().count();
        assert!(rules.min_length.is_none_or(|least| length >= least), "min_length");
        assert!(rules.max_length.is_none_or(|most| length <= most), "max_length");
    }
    if let Some(pattern) = &rules.matches {
        assert!(pattern.find_iter(&text).any(|found| found.range() == (0..text.len())), "matches");
    }
    let against = |bound: &Option<String>| bound.as_deref().and_then(|bound| compare(kind, payload, bound));
    assert!(against(&rules.min) != Some(Ordering::Less), "{kind:?} below min");
    assert!(against(&rules.max) != Some(Ordering::Greater), "{kind:?} above max");
}

/// A payload against a bound, read by the standard library and the calendar's; where they can.
fn compare(kind: &ColumnType, payload: &[u8], bound: &str) -> Option<Ordering> {
    let whole = |value: i64| bound.parse::<i64>().ok().map(|bound| value.cmp(&bound));
    match kind {
        ColumnType::Int2 => whole(i16::from_be_bytes(payload.try_into().ok()?).into()),
        ColumnType::Int4 => whole(i32::from_be_bytes(payload.try_into().ok()?).into()),
        ColumnType::Int8 => whole(i64::from_be_bytes(payload.try_into().ok()?)),
        ColumnType::Float4 => f32::from_be_bytes(payload.try_into().ok()?).partial_cmp(&bound.parse().ok()?),
        ColumnType::Float8 => f64::from_be_bytes(payload.try_into().ok()?).partial_cmp(&bound.parse().ok()?),
        ColumnType::Date => {
            let day: jiff::civil::Date = bound.parse().ok()?;
            let days = day.since(jiff::civil::date(2000, 1, 1)).ok()?.get_days();
            Some(i32::from_be_bytes(payload.try_into().ok()?).cmp(&days))
        }
        _ => None,
    }
}
