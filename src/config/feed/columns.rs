//! `[feeds.NAME.columns]` as it stands in the file: target columns in their order, each with a header name or a position.
//!
//! Whether the columns exist, and whether the names fit the header setting, is checked elsewhere.

use std::fmt;

use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::Source;
use crate::config::value::schema;

impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SourceVisitor;
        impl Visitor<'_> for SourceVisitor {
            type Value = Source;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a header name, or a position from 1")
            }

            fn visit_i64<E: de::Error>(self, position: i64) -> Result<Source, E> {
                match usize::try_from(position) {
                    Ok(position) if position > 0 => Ok(Source::Position(position)),
                    _ => Err(E::custom(format!("position {position} is below 1; the first field is 1"))),
                }
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Source, E> {
                Ok(Source::field(name))
            }
        }
        deserializer.deserialize_any(SourceVisitor)
    }
}

/// Target columns and their sources in the order of the file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Columns(pub(super) Vec<(String, Source)>);

impl Serialize for Columns {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(column, source)| (column, source)))
    }
}

impl<'de> Deserialize<'de> for Columns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ColumnsVisitor;
        impl<'de> Visitor<'de> for ColumnsVisitor {
            type Value = Columns;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of target columns")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Columns, A::Error> {
                let mut columns = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    columns.push(entry);
                }
                Ok(Columns(columns))
            }
        }
        deserializer.deserialize_map(ColumnsVisitor)
    }
}

schema!(Columns, "Columns", {
    "type": "object",
    "additionalProperties": { "type": ["string", "integer"], "minimum": 1 },
    "examples": [{ "id": 1, "name": "Full Name" }]
});
