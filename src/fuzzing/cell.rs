//! The encoders of every type: a value is framed rightly or refused, with nothing written and nothing quoted.

use bytes::BytesMut;
use jiff::tz::TimeZone;

use super::Choices;
use crate::store::encode::{ColumnType, encode_cell, encode_text_cell};

/// Every type there is, each array around one of them.
pub fn types() -> Vec<ColumnType> {
    let labels = ["red", "grün", ""].map(str::to_owned).to_vec();
    let mut types = vec![
        ColumnType::Bool,
        ColumnType::Int2,
        ColumnType::Int4,
        ColumnType::Int8,
        ColumnType::Float4,
        ColumnType::Float8,
        ColumnType::Numeric,
        ColumnType::Text { max_chars: None },
        ColumnType::Text { max_chars: Some(4) },
        ColumnType::Char { max_chars: Some(4) },
        ColumnType::Bytea,
        ColumnType::Date,
        ColumnType::Time,
        ColumnType::Timestamp,
        ColumnType::Timestamptz,
        ColumnType::Uuid,
        ColumnType::Json,
        ColumnType::Jsonb,
        ColumnType::Enum { labels: labels.into() },
    ];
    let arrays = types.clone().into_iter().map(|kind| ColumnType::Array { element: Box::new(kind), element_oid: 1 });
    types.extend(arrays.collect::<Vec<_>>());
    types.push(ColumnType::Other);
    types
}

/// Bytes that a value of a type of fixed width takes.
const fn width(kind: &ColumnType) -> Option<usize> {
    match kind {
        ColumnType::Bool => Some(1),
        ColumnType::Int2 => Some(2),
        ColumnType::Int4 | ColumnType::Float4 | ColumnType::Date => Some(4),
        ColumnType::Int8 | ColumnType::Float8 | ColumnType::Time | ColumnType::Timestamp | ColumnType::Timestamptz => {
            Some(8)
        }
        ColumnType::Uuid => Some(16),
        ColumnType::Numeric
        | ColumnType::Text { .. }
        | ColumnType::Char { .. }
        | ColumnType::Bytea
        | ColumnType::Json
        | ColumnType::Jsonb
        | ColumnType::Enum { .. }
        | ColumnType::Array { .. }
        | ColumnType::Other => None,
    }
}

/// A type, and a cell.
pub fn target(data: &[u8]) {
    let mut choices = Choices::new(data);
    let types = types();
    let numbers: Vec<usize> = (0..types.len()).collect();
    let kind = types.get(choices.one(&numbers)).unwrap_or(&ColumnType::Other);
    let zone = TimeZone::get(choices.one(&["UTC", "Europe/Berlin", "America/New_York"])).unwrap_or(TimeZone::UTC);
    let cell = choices.rest();

    let mut out = BytesMut::from(&b"before"[..]);
    let written = encode_cell(kind, cell, &zone, &mut out);
    let value = out.strip_prefix(b"before").unwrap_or_else(|| unreachable!("what stood before was changed"));
    match &written {
        Ok(()) => {
            let (length, payload) = value.split_at_checked(4).unwrap_or_else(|| unreachable!("no length"));
            assert_eq!(length, u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes(), "{kind:?}");
            assert!(width(kind).is_none_or(|width| width == payload.len()), "{kind:?}");
            let verbatim = matches!(kind, ColumnType::Text { .. } | ColumnType::Json | ColumnType::Enum { .. });
            assert!(!verbatim || payload == cell, "{kind:?}: other bytes");
        }
        Err(error) => {
            assert!(value.is_empty(), "{kind:?}: a refused cell left bytes behind");
            assert!(error.code.starts_with("E-CELL-") && !error.reason.is_empty());
            // A short cell may well be a word of the message.
            let quoted = std::str::from_utf8(cell).is_ok_and(|text| text.len() > 12 && error.reason.contains(text));
            assert!(!quoted, "{kind:?}: the message holds the value");
        }
    }
    let mut line = BytesMut::new();
    let text = encode_text_cell(kind, cell, &zone, &mut line);
    assert!(!line.iter().any(|byte| matches!(byte, b'\n' | b'\t' | b'\r')), "{kind:?}: a raw separator in COPY TEXT");
    match (written, text) {
        (Ok(()), Ok(())) | (Err(_), Err(_)) => {}
        (Err(_), Ok(())) => assert_eq!(*kind, ColumnType::Other, "text takes what binary refuses"),
        // Only an array whose elements lack an offset.
        (Ok(()), Err(_)) => {
            assert!(matches!(kind, ColumnType::Array { .. }), "{kind:?}: binary takes what text refuses");
        }
    }
}
