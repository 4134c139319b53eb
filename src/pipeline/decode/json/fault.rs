//! What can be wrong with the text of one record.

use std::borrow::Cow;

use super::super::shown;

/// What is wrong with a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is no JSON.
    Syntax {
        /// What the parser says.
        told: Cow<'static, str>,
        /// At which byte of the record.
        at: usize,
    },
    /// It is the beginning of JSON.
    Ends,
    /// A key stands twice in one object.
    Duplicate(String),
    /// It is nested too deeply.
    Depth(usize),
    /// An object has too many keys.
    Fields(usize),
    /// It is JSON, but no object.
    NoObject,
}

impl Fault {
    /// Stable code.
    pub(super) const fn code(&self) -> &'static str {
        match self {
            Self::Syntax { .. } | Self::Ends => "E-JSON-SYNTAX",
            Self::Duplicate(_) => "E-JSON-DUPLICATE",
            Self::Depth(_) => "E-JSON-DEPTH",
            Self::Fields(_) => "E-JSON-FIELDS",
            Self::NoObject => "E-JSON-RECORD",
        }
    }

    /// The same in words, which hold no value.
    pub(super) fn reason(&self) -> String {
        match self {
            Self::Syntax { told, at } => format!("not valid JSON: {told} at byte {at} of the record"),
            Self::Ends => "not valid JSON: it ends in the middle".to_owned(),
            Self::Duplicate(key) => format!("an object has the key {} twice", shown(key)),
            Self::Depth(most) => format!("nested deeper than limits.max_depth ({most})"),
            Self::Fields(most) => format!("an object has more keys than limits.max_fields ({most})"),
            Self::NoObject => "JSON, but no object".to_owned(),
        }
    }

    /// What the parser's error means for the text it was given.
    pub(super) fn from_parser(error: &serde_json::Error, text: &[u8]) -> Self {
        if error.is_eof() || is_cut_number(error, text) {
            return Self::Ends;
        }
        // Its messages name what was expected, never what was there. The place follows as line and column.
        let mut told = error.to_string();
        told.truncate(told.find(" at line ").unwrap_or(told.len()));
        let lines_before = error.line().saturating_sub(1);
        let line = lines_before.checked_sub(1).and_then(|nth| memchr::memchr_iter(b'\n', text).nth(nth));
        let at = line.map_or(0, |end| end + 1) + error.column().saturating_sub(1);
        Self::Syntax { told: told.into(), at }
    }
}

/// The parser does not tell the end of the text from a byte that belongs to no number.
fn is_cut_number(error: &serde_json::Error, text: &[u8]) -> bool {
    matches!(text, [.., b'-' | b'+' | b'.' | b'e' | b'E']) && error.to_string().starts_with("invalid number")
}
