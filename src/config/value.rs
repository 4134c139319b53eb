//! Small value types of the file: spans of time, sizes, counts and lists, each readable from TOML and from a text.
//!
//! The environment and `--set` carry only texts, so every type here also reads itself from one. What a type refuses it
//! refuses with a sentence that says what to write instead. Bounds are not checked here: they belong to the sections.

use std::fmt;
use std::time::Duration;

use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// A span of time, written with its unit: `250ms`, `10s`, `5m`, `1h 30m`, `1d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span(pub(crate) Duration);

impl Span {
    /// So many milliseconds.
    pub(crate) const fn millis(count: u64) -> Self {
        Self(Duration::from_millis(count))
    }

    /// So many seconds.
    pub(crate) const fn seconds(count: u64) -> Self {
        Self(Duration::from_secs(count))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SpanVisitor;
        impl Visitor<'_> for SpanVisitor {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a span of time with its unit, such as \"10s\" or \"5m\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                humantime::parse_duration(text.trim())
                    .map(Span)
                    .map_err(|error| E::custom(format!("{text:?} is no span of time: {error}")))
            }
        }
        deserializer.deserialize_any(SpanVisitor)
    }
}

/// A size in bytes, written as a number or with a unit: `64 KiB`, `4 GiB`, `10 MB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Size(pub(crate) u64);

/// One KiB.
pub(crate) const KIB: u64 = 1 << 10;
/// One MiB.
pub(crate) const MIB: u64 = 1 << 20;
/// One GiB.
pub(crate) const GIB: u64 = 1 << 30;

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The largest unit that divides the size exactly, so that what is shown can be written back.
        for (unit, name) in [(GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")] {
            if self.0 >= unit && self.0.is_multiple_of(unit) {
                return write!(f, "{} {name}", self.0 / unit);
            }
        }
        write!(f, "{} B", self.0)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SizeVisitor;
        impl Visitor<'_> for SizeVisitor {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"64 KiB\" or \"4 GiB\", or a whole number of bytes")
            }

            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<Size, E> {
                Ok(Size(bytes))
            }

            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<Size, E> {
                u64::try_from(bytes).map(Size).map_err(|_negative| E::custom(format!("{bytes} is below zero")))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
                text.trim()
                    .parse::<bytesize::ByteSize>()
                    .map(|size| Size(size.as_u64()))
                    .map_err(|_unknown| E::custom(format!("{text:?} is no size; write one such as \"64 KiB\"")))
            }
        }
        deserializer.deserialize_any(SizeVisitor)
    }
}

/// A whole number that is not negative. Unlike the `config` crate's own reading it does not round `3.7`, nor take
/// `true` for 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub(crate) struct Count(pub(crate) u64);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CountVisitor;
        impl Visitor<'_> for CountVisitor {
            type Value = Count;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Count, E> {
                Ok(Count(number))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Count, E> {
                u64::try_from(number).map(Count).map_err(|_negative| E::custom(format!("{number} is below zero")))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Count, E> {
                text.trim()
                    .parse()
                    .map(Count)
                    .map_err(|_not_a_number| E::custom(format!("{text:?} is not a whole number of 0 or more")))
            }
        }
        deserializer.deserialize_any(CountVisitor)
    }
}

/// A list of texts: a TOML array, or one text with commas between the items (`"a,b"`), which is all that an environment
/// variable can carry. Items are taken as they are, spaces included; a text that begins with `[` is read as an array.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(transparent)]
pub(crate) struct Texts(pub(crate) Vec<String>);

/// A text that looks like an array, made a line of TOML.
#[derive(Deserialize)]
struct Line {
    list: Vec<String>,
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextsVisitor;
        impl<'de> Visitor<'de> for TextsVisitor {
            type Value = Texts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of texts")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Texts, E> {
                if !text.trim_start().starts_with('[') {
                    return Ok(Texts(text.split(',').map(str::to_owned).collect()));
                }
                toml::from_str::<Line>(&format!("list = {text}"))
                    .map(|line| Texts(line.list))
                    .map_err(|error| E::custom(format!("is no list of texts: {}", error.message())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Texts, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element::<String>()? {
                    list.push(item);
                }
                Ok(Texts(list))
            }
        }
        deserializer.deserialize_any(TextsVisitor)
    }
}

/// A single value of any kind, kept as the text that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct Scalar(pub(crate) String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ScalarVisitor;
        impl Visitor<'_> for ScalarVisitor {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a number or true or false")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar(text.to_owned()))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Scalar, E> {
                Ok(Scalar(number.to_string()))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Scalar, E> {
                Ok(Scalar(number.to_string()))
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }
        }
        deserializer.deserialize_any(ScalarVisitor)
    }
}

/// A share of a whole, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub(crate) struct Share(pub(crate) f64);

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Scalar(text) = Scalar::deserialize(deserializer)?;
        match text.trim().parse::<f64>() {
            Ok(share) if (0.0..=1.0).contains(&share) => Ok(Self(share)),
            _ => Err(de::Error::custom(format!("{text:?} is no share; write a number from 0 to 1 such as 0.01"))),
        }
    }
}

/// Reads one of a closed set of words, with a suggestion where another word stands.
pub(crate) fn choose<'de, D, T>(deserializer: D, words: &[(&str, T)]) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Copy,
{
    let text = String::deserialize(deserializer)?;
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let hint = super::report::nearest(&text, known.iter().copied())
        .map_or_else(String::new, |word| format!(", did you mean `{word}`?"));
    Err(de::Error::custom(format!("{text:?} is not among {}{hint}", known.join(", "))))
}

/// Gives a hand-read type its place in the JSON Schema.
macro_rules! schema {
    ($type:ty, $name:literal, $json:tt) => {
        impl schemars::JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!($json)
            }
        }
    };
}
pub(crate) use schema;

schema!(Span, "Span", { "type": "string", "examples": ["250ms", "10s", "5m", "1h 30m", "1d"] });
schema!(Size, "Size", { "type": ["string", "integer"], "examples": ["64 KiB", "4 GiB"] });
schema!(Scalar, "Scalar", { "type": ["string", "number", "boolean"] });
schema!(Share, "Share", { "type": "number", "minimum": 0, "maximum": 1 });
schema!(Count, "Count", { "type": "integer", "minimum": 0 });
schema!(Texts, "Texts", { "type": ["array", "string"], "items": { "type": "string" } });

#[cfg(test)]
mod tests {
    use super::*;

    fn read<'de, T: Deserialize<'de>>(value: config::Value) -> Result<T, String> {
        T::deserialize(value).map_err(|error| error.to_string())
    }

    #[test]
    fn sizes_and_spans_are_shown_so_that_they_can_be_written_back() {
        for size in [0, 1, 1000, 1024, 65536, 5 * GIB, GIB + 1, 100 * GIB] {
            assert_eq!(read::<Size>(Size(size).to_string().into()), Ok(Size(size)));
        }
        for millis in [0, 1, 250, 1000, 61_000, 86_400_000] {
            assert_eq!(read::<Span>(Span::millis(millis).to_string().into()), Ok(Span::millis(millis)));
        }
    }

    #[test]
    fn a_count_neither_rounds_nor_takes_a_boolean() {
        assert_eq!(read::<Count>("12".into()), Ok(Count(12)));
        assert_eq!(read::<Count>(12.into()), Ok(Count(12)));
        for bad in [config::Value::from(3.7), true.into(), (-1).into(), "lots".into(), "".into()] {
            assert!(read::<Count>(bad.clone()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_span_without_unit_and_an_absurd_size_are_refused() {
        for bad in ["10", "ten seconds", "", "-1s"] {
            assert!(read::<Span>(bad.into()).is_err(), "{bad}");
        }
        assert!(read::<Span>(10.into()).is_err());
        for bad in ["1e99", "big", "", "-1"] {
            assert!(read::<Size>(bad.into()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_list_may_be_an_array_a_comma_separated_text_or_an_array_in_a_text() {
        let list = |items: &[&str]| Ok(Texts(items.iter().map(|&item| item.to_owned()).collect()));
        assert_eq!(read::<Texts>(vec!["a", "b"].into()), list(&["a", "b"]));
        assert_eq!(read::<Texts>(",NULL".into()), list(&["", "NULL"]));
        assert_eq!(read::<Texts>("".into()), list(&[""]));
        assert_eq!(read::<Texts>("[]".into()), list(&[]));
        assert_eq!(read::<Texts>(r#"["a,b"]"#.into()), list(&["a,b"]));
        assert!(read::<Texts>("[a".into()).is_err());
    }
}
