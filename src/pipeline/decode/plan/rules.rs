//! The rules of a column, compiled once per object against the column's type.
//!
//! A value goes through them in this order: trim, NULL, default, required (`cell.rs`), then its text (`one_of`,
//! `matches`, lengths), then how it is written (`integral_floats`, `time_format`), then the encoder, then `min` and `max`
//! on what the encoder made of it. No reason holds the value.

use std::cmp::Ordering;

use bytes::BytesMut;
use jiff::tz::TimeZone;

use crate::config::feed::Rules;
use crate::store::encode::{CellError, ColumnType, encode_cell, encode_text_cell};

use super::clock::Clock;
use super::order::Order;

/// Bytes of a value's length in front of it.
const LENGTH: usize = 4;

/// Compiled rules.
#[derive(Debug)]
pub(super) struct Checks<'a> {
    rules: &'a Rules,
    pub(super) clock: Option<Clock<'a>>,
    min: Option<Bound<'a>>,
    max: Option<Bound<'a>>,
    /// Whether a fraction of zeros is taken off a number.
    integral: bool,
}

/// The smallest or largest value.
#[derive(Debug)]
struct Bound<'a> {
    text: &'a str,
    /// As the encoder writes it.
    payload: Vec<u8>,
    order: Order,
}

/// How a row goes to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Binary,
    Text,
}

impl<'a> Checks<'a> {
    /// Rules for a column of this type; an error where one can never hold.
    pub(super) fn compile(rules: &'a Rules, kind: &ColumnType, zone: &TimeZone) -> Result<Self, String> {
        let min = rules.min.as_deref().map(|text| Bound::new("min", text, kind, zone)).transpose()?;
        let max = rules.max.as_deref().map(|text| Bound::new("max", text, kind, zone)).transpose()?;
        if let (Some(min), Some(max)) = (&min, &max)
            && min.against(&max.payload) == Ordering::Greater
        {
            return Err(format!("min {:?} is larger than max {:?}", min.text, max.text));
        }
        let clock = rules.time_format.as_ref().map(|format| Clock::compile(format, kind)).transpose()?;
        let integral = rules.integral_floats && matches!(kind, ColumnType::Int2 | ColumnType::Int4 | ColumnType::Int8);
        Ok(Self { rules, clock, min, max, integral })
    }

    /// Whether a value that is not NULL and needs no trimming goes to the encoder as it stands.
    pub(super) const fn is_trivial(&self) -> bool {
        let Rules { trim, one_of, matches, min_length, max_length, .. } = self.rules;
        let is_text_free = one_of.is_empty() && matches.is_none() && min_length.is_none() && max_length.is_none();
        !*trim && is_text_free && !self.integral && self.clock.is_none() && self.min.is_none() && self.max.is_none()
    }

    /// The rules about the text as it is written.
    pub(super) fn look(&self, text: &[u8]) -> Result<(), CellError> {
        let Rules { one_of, matches, min_length, max_length, .. } = self.rules;
        if !one_of.is_empty() && !one_of.iter().any(|value| value.as_bytes() == text) {
            return Err(CellError::new("E-RULE-ONE-OF", "none of the values that the feed takes (one_of)"));
        }
        // The configuration anchors it; to the whole text it is held here as well.
        if let Some(pattern) = matches
            && pattern.find(text).is_none_or(|found| found.len() != text.len())
        {
            return Err(CellError::new("E-RULE-MATCHES", "does not match the pattern of the feed (matches)"));
        }
        if min_length.is_none() && max_length.is_none() {
            return Ok(());
        }
        let length = count_chars(text);
        match (min_length, max_length) {
            (Some(least), _) if length < *least => Err(CellError::new(
                "E-RULE-LENGTH",
                format!("too short: the feed takes no fewer characters than {least} (min_length)"),
            )),
            (_, Some(most)) if length > *most => Err(CellError::new(
                "E-RULE-LENGTH",
                format!("too long: the feed takes no more characters than {most} (max_length)"),
            )),
            _ => Ok(()),
        }
    }

    /// `8` for `8.0`, where the feed says so.
    pub(super) fn whole<'t>(&self, text: &'t [u8]) -> &'t [u8] {
        if !self.integral {
            return text;
        }
        match text.iter().position(|byte| *byte == b'.').and_then(|point| text.split_at_checked(point)) {
            Some((whole, [_, zeros @ ..])) if !zeros.is_empty() && zeros.iter().all(|digit| *digit == b'0') => whole,
            _ => text,
        }
    }

    /// Encodes a value and holds what came out against the bounds.
    pub(super) fn encode(
        &self,
        kind: &ColumnType,
        text: &[u8],
        zone: &TimeZone,
        (form, out): (Form, &mut BytesMut),
    ) -> Result<(), CellError> {
        let start = out.len();
        if form == Form::Binary || self.min.is_some() || self.max.is_some() {
            encode_cell(kind, text, zone, out)?;
            self.compare(out.get(start + LENGTH..).unwrap_or_default())?;
        }
        if form == Form::Text {
            out.truncate(start);
            encode_text_cell(kind, text, zone, out)?;
        }
        Ok(())
    }

    fn compare(&self, payload: &[u8]) -> Result<(), CellError> {
        if let Some(min) = &self.min
            && min.against(payload) == Ordering::Greater
        {
            return Err(CellError::new("E-RULE-MIN", format!("below {}, the smallest the feed takes (min)", min.text)));
        }
        if let Some(max) = &self.max
            && max.against(payload) == Ordering::Less
        {
            return Err(CellError::new("E-RULE-MAX", format!("above {}, the largest the feed takes (max)", max.text)));
        }
        Ok(())
    }
}

impl<'a> Bound<'a> {
    fn new(rule: &str, text: &'a str, kind: &ColumnType, zone: &TimeZone) -> Result<Self, String> {
        let order = Order::of(kind).ok_or_else(|| format!("{rule} is for numbers, dates and times"))?;
        let mut out = BytesMut::new();
        encode_cell(kind, text.as_bytes(), zone, &mut out)
            .map_err(|error| format!("{rule} {text:?} is no value of the column: {}", error.reason))?;
        Ok(Self { text, payload: out.get(LENGTH..).unwrap_or_default().to_vec(), order })
    }

    /// How the bound stands to a value.
    fn against(&self, payload: &[u8]) -> Ordering {
        self.order.compare(&self.payload, payload)
    }
}

/// Whether a text means NULL. The empty spelling also stands for blanks alone.
pub(super) fn is_null(rules: &Rules, text: &[u8]) -> bool {
    rules
        .null
        .iter()
        .any(|spelling| spelling.as_bytes() == text || (spelling.is_empty() && text.trim_ascii().is_empty()))
}

/// Whether every spelling of NULL is blank, so that a text which begins with a letter is none.
pub(super) fn has_blank_nulls(rules: &Rules) -> bool {
    rules.null.iter().all(|spelling| spelling.trim_ascii().is_empty())
}

/// Characters of UTF-8; of bytes that are none, those that begin one.
fn count_chars(text: &[u8]) -> usize {
    text.iter().filter(|byte| **byte & 0xc0 != 0x80).count()
}
