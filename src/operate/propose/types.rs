//! The type of a column from what its values have in common, and what the feed has to be told about them.
//!
//! Proposed is what keeps every value as it is and has room for the next ones: no `numeric(p,s)` where nothing but the
//! samples says so, no `smallint` because the numbers happen to be small.

use serde::Serialize;

use crate::pipeline::decode::reader::Typing;
use crate::store::encode::ColumnType;

use super::survey::Seen;
use super::values::{FEW, Kind};

/// Numbers up to which an `integer` leaves room for growth.
const ROOMY: i64 = 1 << 27;
/// Whole numbers that a float of 64 bits keeps.
const EXACT: i64 = 1 << 53;
/// Seconds since 1970 of the years 2000 to 2100.
const EPOCHS: std::ops::Range<i64> = 946_684_800..4_102_444_800;

/// A type of PostgreSQL's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sql {
    Bool,
    Int2,
    Int4,
    Int8,
    Numeric(Option<(u32, u32)>),
    Real,
    Double,
    Date,
    Time,
    Timestamp,
    Timestamptz,
    Uuid,
    Jsonb,
    Bytea,
    Text,
}

impl Sql {
    /// As a column is declared.
    pub(super) fn declared(self) -> String {
        let plain = match self {
            Self::Numeric(Some((precision, scale))) => return format!("numeric({precision},{scale})"),
            Self::Numeric(None) => "numeric",
            Self::Bool => "boolean",
            Self::Int2 => "smallint",
            Self::Int4 => "integer",
            Self::Int8 => "bigint",
            Self::Real => "real",
            Self::Double => "double precision",
            Self::Date => "date",
            Self::Time => "time",
            Self::Timestamp => "timestamp",
            Self::Timestamptz => "timestamptz",
            Self::Uuid => "uuid",
            Self::Jsonb => "jsonb",
            Self::Bytea => "bytea",
            Self::Text => "text",
        };
        plain.to_owned()
    }

    /// As the encoder knows it.
    pub(super) const fn encoded(self) -> ColumnType {
        match self {
            Self::Bool => ColumnType::Bool,
            Self::Int2 => ColumnType::Int2,
            Self::Int4 => ColumnType::Int4,
            Self::Int8 => ColumnType::Int8,
            Self::Numeric(_) => ColumnType::Numeric,
            Self::Real => ColumnType::Float4,
            Self::Double => ColumnType::Float8,
            Self::Date => ColumnType::Date,
            Self::Time => ColumnType::Time,
            Self::Timestamp => ColumnType::Timestamp,
            Self::Timestamptz => ColumnType::Timestamptz,
            Self::Uuid => ColumnType::Uuid,
            Self::Jsonb => ColumnType::Jsonb,
            Self::Bytea => ColumnType::Bytea,
            Self::Text => ColumnType::Text { max_chars: None },
        }
    }
}

/// What is decided about one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decided {
    /// Its type.
    pub(super) sql: Sql,
    /// Whether no record lacked it.
    pub(super) not_null: bool,
    /// What the feed has to be told.
    pub(super) rules: Rules,
    /// Why, and what is uncertain.
    pub(super) reasons: Vec<String>,
}

/// Rules of one column that differ from the feed's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Rules {
    /// Texts that mean NULL, beside the empty one.
    pub null: Vec<String>,
    /// Whether blanks around values are taken away.
    pub trim: bool,
    /// Whether integers are written as `8.0`.
    pub integral_floats: bool,
}

/// Decides about one field that was seen in so many records.
pub(super) fn decide(seen: &Seen, typing: Typing, records: u64) -> Decided {
    let values = &seen.values;
    let mut rules = Rules::default();
    let mut reasons = Vec::new();
    let declared = if typing == Typing::Schema { declared(&seen.kind) } else { None };
    let sql = match declared {
        Some(sql) => refined(seen, sql, &mut reasons),
        None => guessed(seen, &mut reasons),
    };
    // What is no text has words for NULL in it only where they were left out of the count.
    let is_text = matches!(sql, Sql::Text | Sql::Jsonb | Sql::Bytea);
    if !is_text {
        rules.null = values.words.keys().map(|word| (*word).to_owned()).collect();
        rules.trim = values.padded > 0;
        rules.integral_floats = values.integral > 0 && matches!(sql, Sql::Int2 | Sql::Int4 | Sql::Int8);
    }
    remark(seen, sql, &rules, &mut reasons);
    let missing = values.words.values().sum::<u64>() * u64::from(!is_text);
    // An empty text means NULL, whatever the format.
    let not_null = values.blanks == 0 && values.present - missing >= records && records > 0;
    Decided { sql, not_null, rules, reasons }
}

/// The type that an object's schema says.
fn declared(kind: &str) -> Option<Sql> {
    Some(match kind {
        "boolean" => Sql::Bool,
        "int8" | "int16" | "uint8" => Sql::Int2,
        "int" | "int32" | "uint16" => Sql::Int4,
        "long" | "int64" | "uint32" => Sql::Int8,
        "uint64" => Sql::Numeric(Some((20, 0))),
        "float" | "float16" | "float32" => Sql::Real,
        "double" | "float64" => Sql::Double,
        "date" => Sql::Date,
        "time" => Sql::Time,
        "timestamp" => Sql::Timestamp,
        "timestamptz" => Sql::Timestamptz,
        "uuid" => Sql::Uuid,
        "json" => Sql::Jsonb,
        "bytes" | "binary" => Sql::Bytea,
        "enum" => Sql::Text,
        other if other.starts_with("fixed(") => Sql::Bytea,
        other if ["list<", "array<", "map", "struct<", "record<", "union<"].iter().any(|p| other.starts_with(p)) => {
            Sql::Jsonb
        }
        other => {
            let inner = other.strip_prefix("decimal(")?.strip_suffix(')')?;
            let (precision, scale) = inner.split_once(',')?;
            Sql::Numeric(Some((precision.trim().parse().ok()?, scale.trim().parse().ok()?)))
        }
    })
}

/// A declared type is believed, but for the floats that programs make of whole numbers with gaps.
fn refined(seen: &Seen, sql: Sql, reasons: &mut Vec<String>) -> Sql {
    let values = &seen.values;
    let is_whole = values.may_be(Kind::Int) && values.range.is_some_and(|(low, high)| low > -EXACT && high < EXACT);
    if sql == Sql::Double && values.nulls > 0 && is_whole {
        reasons
            .push("declared as a float, but every value is whole and some are missing: taken for integers".to_owned());
        return Sql::Int8;
    }
    reasons.push(format!("declared as {}", seen.kind));
    sql
}

/// The type that the values themselves say.
fn guessed(seen: &Seen, reasons: &mut Vec<String>) -> Sql {
    let values = &seen.values;
    if values.kinds.bytes > 0 && !values.is_mixed() {
        return Sql::Bytea;
    }
    if values.kinds.arrays + values.kinds.objects > 0 || values.is_mixed() {
        if values.is_mixed() {
            reasons.push("values are of several kinds".to_owned());
        }
        return Sql::Jsonb;
    }
    if values.are(&["f", "t"]) || values.are(&["F", "T"]) {
        return Sql::Bool;
    }
    match values.kind() {
        None => {
            if values.present == 0 {
                reasons.push("no sample had a value: the type is a guess".to_owned());
            }
            Sql::Text
        }
        Some(Kind::Bool) => Sql::Bool,
        Some(Kind::Int) => match values.range {
            Some((low, high)) if low >= -ROOMY && high <= ROOMY => Sql::Int4,
            _ => Sql::Int8,
        },
        Some(Kind::Numeric) => {
            let (whole, fraction) = values.digits;
            reasons.push(format!("up to {whole} digits before the point and {fraction} behind it"));
            Sql::Numeric(None)
        }
        Some(Kind::Double) => Sql::Double,
        Some(Kind::Date) => Sql::Date,
        Some(Kind::Time) => Sql::Time,
        Some(Kind::Timestamp) => {
            reasons.push("times without offset".to_owned());
            Sql::Timestamp
        }
        Some(Kind::Timestamptz) => {
            if values.with_offset < values.present {
                reasons.push("some times have no offset: value_timezone says what they mean".to_owned());
            }
            Sql::Timestamptz
        }
        Some(Kind::Uuid) => Sql::Uuid,
        Some(Kind::Json) => Sql::Jsonb,
    }
}

fn remark(seen: &Seen, sql: Sql, rules: &Rules, reasons: &mut Vec<String>) {
    let values = &seen.values;
    let mut say = |applies: bool, text: String| {
        if applies {
            reasons.push(text);
        }
    };
    let is_text = sql == Sql::Text;
    let missing: u64 = values.words.values().sum();
    say(values.leading_zeros > 0 && is_text, format!("values that begin with zeros: {}", values.leading_zeros));
    say(values.plus_signs > 0 && is_text, format!("values that begin with a plus sign: {}", values.plus_signs));
    say(rules.integral_floats, format!("integers that are written as 8.0: {}", values.integral));
    say(rules.trim, format!("values with blanks around them: {}", values.padded));
    let words = values.words.keys().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", ");
    say(!rules.null.is_empty(), format!("values that are taken for NULL, being {words}: {missing}"));
    say(is_text && missing > 0, format!("values that are {words} (set `null` if that means NULL): {missing}"));
    say(is_text && values.present > 0, format!("up to {} characters", values.longest));
    let few = values.few().filter(|few| *few < FEW && *few > 1 && values.present >= 50 && is_text);
    say(few.is_some(), format!("different values: {}", few.unwrap_or_default()));
    let unit = |scale: i64| {
        values.range.is_some_and(|(low, high)| EPOCHS.contains(&(low / scale)) && EPOCHS.contains(&(high / scale)))
    };
    let is_whole = matches!(sql, Sql::Int4 | Sql::Int8);
    for (scale, name) in [(1, "epoch_s"), (1_000, "epoch_ms"), (1_000_000, "epoch_us"), (1_000_000_000, "epoch_ns")] {
        let hint = format!("may be times since 1970: timestamptz with time_format = {name:?}");
        say(is_whole && unit(scale), hint);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operate::propose::values::Values;
    use crate::pipeline::decode::reader::Value;

    fn decided(typing: Typing, kind: &str, values: &[Value<'_>]) -> Decided {
        let mut all = Values::new(typing);
        for value in values {
            all.add(*value);
        }
        let seen = Seen { path: vec!["x".to_owned()], kind: kind.to_owned(), values: all };
        decide(&seen, typing, values.len() as u64)
    }

    fn texts(values: &[&str]) -> Decided {
        let values: Vec<Value<'_>> = values.iter().map(|text| Value::Text(text.as_bytes())).collect();
        decided(Typing::Texts, "", &values)
    }

    #[test]
    fn integers_get_room_and_decimals_no_limit() {
        assert_eq!(texts(&["1", "99999999"]).sql, Sql::Int4);
        assert_eq!(texts(&["1", "999999999"]).sql, Sql::Int8);
        assert_eq!(texts(&["1.25", "100.5"]).sql, Sql::Numeric(None));
        assert!(texts(&["1.25", "100.5"]).reasons[0].starts_with("up to 3 digits"));
        assert_eq!(texts(&["t", "f", "t"]).sql, Sql::Bool);
    }

    #[test]
    fn what_the_values_need_becomes_a_rule_of_their_column() {
        let decided = texts(&["8.0", " 9", "NA", "10"]);
        assert_eq!(decided.sql, Sql::Int4);
        assert_eq!(decided.rules, Rules { null: vec!["NA".to_owned()], trim: true, integral_floats: true });
        assert!(!decided.not_null);
        let text = texts(&["NA", "DE", " FR"]);
        assert_eq!((text.sql, text.rules, text.not_null), (Sql::Text, Rules::default(), true));
        assert!(text.reasons.iter().any(|reason| reason.contains("\"NA\"")));
    }

    #[test]
    fn a_column_may_be_null_where_a_sample_was_blank_or_lacked_it() {
        assert!(texts(&["1", "2"]).not_null);
        assert!(!texts(&["1", ""]).not_null);
        assert!(!decided(Typing::Json, "", &[Value::Number(b"1"), Value::Absent]).not_null);
        assert!(!decided(Typing::Json, "", &[Value::Number(b"1"), Value::Null]).not_null);
    }

    #[test]
    fn declared_types_are_believed_but_for_whole_floats_with_gaps() {
        let number = Value::Number(b"8.0");
        assert_eq!(decided(Typing::Schema, "float64", &[number]).sql, Sql::Double);
        let ids = decided(Typing::Schema, "float64", &[number, Value::Null]);
        assert_eq!((ids.sql, ids.rules.integral_floats), (Sql::Int8, true));
        for (kind, sql) in [
            ("decimal(10,2)", Sql::Numeric(Some((10, 2)))),
            ("int64", Sql::Int8),
            ("list<string>", Sql::Jsonb),
            ("timestamptz", Sql::Timestamptz),
        ] {
            assert_eq!(decided(Typing::Schema, kind, &[]).sql, sql, "{kind}");
        }
        assert_eq!(decided(Typing::Schema, "string", &[Value::Text(b"12")]).sql, Sql::Text);
    }

    #[test]
    fn mixed_kinds_and_arrays_are_kept_as_json() {
        let mixed = decided(Typing::Json, "", &[Value::Number(b"1"), Value::Text(b"a")]);
        assert_eq!(mixed.sql, Sql::Jsonb);
        assert_eq!(decided(Typing::Json, "", &[Value::Nested(b"[1]")]).sql, Sql::Jsonb);
        assert_eq!(decided(Typing::Json, "", &[Value::Bool(true)]).sql, Sql::Bool);
    }

    #[test]
    fn numbers_that_look_like_times_are_remarked_only() {
        let decided = texts(&["1706702400", "1706702401"]);
        assert_eq!(decided.sql, Sql::Int8);
        assert!(decided.reasons.iter().any(|reason| reason.contains("epoch_s")));
    }
}
