//! `[feeds.NAME.columns]` as it stands in the file: target columns in their order, each with a field's name, a position,
//! or a table that says more.
//!
//! Whether the columns exist, and whether the names fit the header setting, is checked elsewhere.

use std::fmt;

use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::config::value::{Scalar, Texts, schema};

/// What stands behind a column's name.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub(crate) enum RawColumn {
    /// A field.
    Field(String),
    /// The field at this position, from 1.
    Position(u64),
    /// More than that.
    Table(Box<RawRule>),
}

/// Where a column's value comes from and what it must be.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawRule {
    /// Name of the field: of the header, or the way to it in JSON, Parquet and Avro, such as `data.location.lat`; default:
    /// the column's name.
    pub(super) field: Option<String>,
    /// The way to the field, step by step, where a name itself holds a dot.
    pub(super) path: Option<Texts>,
    /// Other names of the field; the first one that is there counts.
    pub(super) aliases: Texts,
    /// Position of the field, from 1, in a file without header.
    pub(super) position: Option<u64>,
    /// The same value in every row.
    pub(super) constant: Option<Scalar>,
    /// Something known of the object or the record: `object.bucket`, `object.key`, `object.time`, `object.etag`,
    /// `object.size`, `object.visible_at`, `record.number`, `record.line`, or `key.NAME` for a part of the pattern.
    pub(super) from: Option<String>,
    /// Texts that mean NULL; default: the feed's.
    pub(super) null: Option<Texts>,
    /// Whether blanks around the value are taken away; default: the feed's.
    pub(super) trim: Option<bool>,
    /// Whether NULL is refused even where the column allows it; default: the feed's.
    pub(super) required: Option<bool>,
    /// What stands in for NULL and for a field that is not there.
    pub(super) default: Option<Scalar>,
    /// Smallest value, compared as the column's type.
    pub(super) min: Option<Scalar>,
    /// Largest value, compared as the column's type.
    pub(super) max: Option<Scalar>,
    /// The only values.
    pub(super) one_of: Option<Texts>,
    /// Regular expression that the whole text must match.
    pub(super) matches: Option<String>,
    /// Fewest characters.
    pub(super) min_length: Option<u64>,
    /// Most characters.
    pub(super) max_length: Option<u64>,
    /// Whether an integer may be written with a fraction of zeros, as `8.0`; default: the feed's.
    pub(super) integral_floats: Option<bool>,
    /// How a date or time is written where it is not ISO 8601: `epoch_s`, `epoch_ms`, `epoch_us`, `epoch_ns`, or a pattern
    /// such as `%d/%m/%Y`.
    pub(super) time_format: Option<String>,
}

impl<'de> Deserialize<'de> for RawColumn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ColumnVisitor;
        impl<'de> Visitor<'de> for ColumnVisitor {
            type Value = RawColumn;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field's name, a position from 1, or a table of rules")
            }

            fn visit_i64<E: de::Error>(self, position: i64) -> Result<RawColumn, E> {
                match u64::try_from(position) {
                    Ok(position) if position > 0 => Ok(RawColumn::Position(position)),
                    _ => Err(E::custom(format!("position {position} is below 1; the first field is 1"))),
                }
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<RawColumn, E> {
                Ok(RawColumn::Field(name.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawColumn, A::Error> {
                RawRule::deserialize(MapAccessDeserializer::new(map)).map(Box::new).map(RawColumn::Table)
            }
        }
        deserializer.deserialize_any(ColumnVisitor)
    }
}

impl JsonSchema for RawColumn {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Column".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let mut schema = RawRule::json_schema(generator);
        schema.insert("type".to_owned(), serde_json::json!(["string", "integer", "object"]));
        schema.insert("minimum".to_owned(), serde_json::json!(1));
        schema
    }
}

/// Entries of a table in the order of the file.
#[derive(Debug, Clone)]
pub(crate) struct InOrder<T>(pub(super) Vec<(String, T)>);

/// Target columns and what fills them.
pub(crate) type Columns = InOrder<RawColumn>;

impl<T> Default for InOrder<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Serialize> Serialize for InOrder<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for InOrder<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrderVisitor<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for InOrderVisitor<T> {
            type Value = InOrder<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<InOrder<T>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(InOrder(entries))
            }
        }
        deserializer.deserialize_map(InOrderVisitor(std::marker::PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for InOrder<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("TableOf{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let values = generator.subschema_for::<T>();
        schemars::json_schema!({ "type": "object", "additionalProperties": values })
    }
}

/// One value or several.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub(crate) struct Wanted(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for Wanted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WantedVisitor;
        impl<'de> Visitor<'de> for WantedVisitor {
            type Value = Wanted;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value, or a list of values")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Wanted, E> {
                Ok(Wanted(vec![text.to_owned()]))
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Wanted, E> {
                Ok(Wanted(vec![value.to_string()]))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Wanted, E> {
                Ok(Wanted(vec![number.to_string()]))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Wanted, A::Error> {
                let mut list = Vec::new();
                while let Some(Scalar(item)) = items.next_element()? {
                    list.push(item);
                }
                Ok(Wanted(list))
            }
        }
        deserializer.deserialize_any(WantedVisitor)
    }
}

schema!(Wanted, "Wanted", {
    "type": ["string", "integer", "boolean", "array"], "items": { "type": ["string", "integer", "boolean"] }
});
