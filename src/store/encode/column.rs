//! The types of columns as the encoder knows them.

use std::sync::Arc;

/// Type of a column, domains resolved to their base type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnType {
    /// `boolean`.
    Bool,
    /// `smallint`.
    Int2,
    /// `integer`.
    Int4,
    /// `bigint`.
    Int8,
    /// `real`.
    Float4,
    /// `double precision`.
    Float8,
    /// `numeric` of any precision and scale; the server rounds to the scale and checks the precision.
    Numeric,
    /// `text`, or `varchar(n)` with its limit.
    Text {
        /// Limit in characters.
        max_chars: Option<u32>,
    },
    /// `character(n)`: trailing blanks mean nothing and do not count.
    Char {
        /// Limit in characters.
        max_chars: Option<u32>,
    },
    /// `bytea`.
    Bytea,
    /// `date`.
    Date,
    /// `time` without time zone.
    Time,
    /// `timestamp` without time zone.
    Timestamp,
    /// `timestamp` with time zone.
    Timestamptz,
    /// `uuid`.
    Uuid,
    /// `json`.
    Json,
    /// `jsonb`.
    Jsonb,
    /// An enumeration.
    Enum {
        /// Its labels.
        labels: Arc<[String]>,
    },
    /// An array of any number of dimensions.
    Array {
        /// Type of the elements.
        element: Box<ColumnType>,
        /// The OID that goes over the wire: of a domain its own, not its base type's.
        element_oid: u32,
    },
    /// Any other type: its table is loaded by COPY TEXT.
    Other,
}

/// The server keeps the limit of a character type with the 4 bytes of a length word added.
const TYPMOD_OVERHEAD: i32 = 4;

impl ColumnType {
    /// The type that `pg_attribute` and `pg_type` describe: type OID (a domain's base type), type modifier (-1 for
    /// none) and, for an enumeration, its labels. An array is built by the caller around its element's type, which
    /// gets the array's modifier; `int2vector` and `oidvector` look like arrays there and are none.
    pub fn from_catalog(oid: u32, typmod: i32, labels: Option<Vec<String>>) -> Self {
        if let Some(labels) = labels {
            return Self::Enum { labels: labels.into() };
        }
        let max_chars = typmod.checked_sub(TYPMOD_OVERHEAD).and_then(|limit| u32::try_from(limit).ok());
        match oid {
            16 => Self::Bool,
            17 => Self::Bytea,
            20 => Self::Int8,
            21 => Self::Int2,
            23 => Self::Int4,
            25 => Self::Text { max_chars: None },
            114 => Self::Json,
            700 => Self::Float4,
            701 => Self::Float8,
            1042 => Self::Char { max_chars },
            1043 => Self::Text { max_chars },
            1082 => Self::Date,
            1083 => Self::Time,
            1114 => Self::Timestamp,
            1184 => Self::Timestamptz,
            1700 => Self::Numeric,
            2950 => Self::Uuid,
            3802 => Self::Jsonb,
            _ => Self::Other,
        }
    }

    /// Whether values of this type can go by COPY BINARY.
    pub fn is_binary(&self) -> bool {
        match self {
            Self::Other => false,
            Self::Array { element, .. } => element.is_binary(),
            _ => true,
        }
    }
}
