//! What a field is: its type in words, how its values are read, and the way to values inside it.
//!
//! The types of the file decide, not the Arrow schema that some writers keep beside them: every reader of the file
//! sees the same.

use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Fields, Schema, TimeUnit};
use parquet::basic::{ConvertedType, LogicalType, Type};
use parquet::schema::types::SchemaDescriptor;

use super::super::caps::LimitError;
use super::super::{DecodeError, shown};
use super::damaged;

/// A type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// Of values that hold no others.
    Scalar(Leaf),
    /// A list of values of a type.
    List(Box<Kind>),
    /// Named values, each of its type.
    Struct(Named),
    /// Pairs of a key and a value.
    Map(Box<Kind>, Box<Kind>),
    /// Of values that are not read.
    Refused,
}

/// Types with their names.
type Named = Vec<(String, Kind)>;

/// What the Arrow type of a column does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaf {
    /// Nothing.
    Plain,
    /// Sixteen bytes are a UUID.
    Uuid,
    /// Moments that were written as INT96: read in microseconds, whose range is larger; what is finer stands in a
    /// second reader.
    Int96,
}

/// A field at the top of the schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) words: String,
    pub(super) kind: Kind,
    /// Its columns in the file, where it is INT96.
    pub(super) int96: Option<usize>,
}

/// The fields of the file, and the Arrow schema by which they are to be read: texts and bytes as views, so that a value
/// that a page refers to a thousand times is in memory once.
pub(super) fn columns(
    inferred: &Schema,
    descriptor: &SchemaDescriptor,
    max_depth: usize,
) -> Result<(Vec<Column>, Arc<Schema>), DecodeError> {
    let mut reading = Reading { descriptor, leaf: 0, max_depth, depth: 0 };
    let (mut columns, mut fields) = (Vec::new(), Vec::new());
    for field in inferred.fields() {
        let first = reading.leaf;
        let (kind, words, hinted) = reading.field(field)?;
        let int96 = (kind == Kind::Scalar(Leaf::Int96)).then_some(first);
        if columns.iter().any(|column: &Column| column.name == *field.name()) {
            return Err(damaged(format!("the schema has field {} twice", shown(field.name()))));
        }
        columns.push(Column { name: field.name().clone(), words, kind, int96 });
        fields.push(hinted);
    }
    Ok((columns, Arc::new(Schema::new_with_metadata(Fields::from(fields), inferred.metadata().clone()))))
}

/// Goes through the schema, column by column.
struct Reading<'a> {
    descriptor: &'a SchemaDescriptor,
    /// The next column of the file.
    leaf: usize,
    max_depth: usize,
    depth: usize,
}

impl Reading<'_> {
    fn field(&mut self, field: &FieldRef) -> Result<(Kind, String, FieldRef), DecodeError> {
        self.depth += 1;
        if self.depth > self.max_depth {
            return Err(LimitError::SchemaDepth(self.max_depth).into());
        }
        let (kind, words, hinted) = self.kind(field.data_type())?;
        self.depth -= 1;
        Ok((kind, words, Arc::new(Field::clone(field).with_data_type(hinted))))
    }

    fn kind(&mut self, data_type: &DataType) -> Result<(Kind, String, DataType), DecodeError> {
        Ok(match data_type {
            DataType::List(item) => {
                let (kind, words, item) = self.field(item)?;
                (Kind::List(Box::new(kind)), format!("list<{words}>"), DataType::List(item))
            }
            DataType::Struct(fields) => {
                let (kinds, words, fields) = self.fields(fields)?;
                (Kind::Struct(kinds), format!("struct<{words}>"), DataType::Struct(fields))
            }
            DataType::Map(entries, sorted) => {
                let DataType::Struct(pair) = entries.data_type() else { return Err(damaged("a map without pairs")) };
                let (kinds, _, pair) = self.fields(pair)?;
                let Ok([(_, key), (_, value)]) = <[(String, Kind); 2]>::try_from(kinds) else {
                    return Err(damaged("a map without pairs"));
                };
                let entries = Arc::new(Field::clone(entries).with_data_type(DataType::Struct(pair)));
                (Kind::Map(Box::new(key), Box::new(value)), "map".to_owned(), DataType::Map(entries, *sorted))
            }
            scalar => self.scalar(scalar),
        })
    }

    fn fields(&mut self, fields: &Fields) -> Result<(Named, String, Fields), DecodeError> {
        let (mut kinds, mut words, mut hinted) = (Vec::new(), Vec::new(), Vec::new());
        for field in fields {
            let (kind, word, hint) = self.field(field)?;
            words.push(format!("{}: {word}", field.name()));
            kinds.push((field.name().clone(), kind));
            hinted.push(hint);
        }
        Ok((kinds, words.join(", "), Fields::from(hinted)))
    }

    fn scalar(&mut self, data_type: &DataType) -> (Kind, String, DataType) {
        let descriptor = (self.leaf < self.descriptor.num_columns()).then(|| self.descriptor.column(self.leaf));
        self.leaf += 1;
        let info = descriptor.as_ref().map(|column| column.self_type().get_basic_info());
        let logical = info.and_then(|info| info.logical_type_ref());
        let is_enum = matches!(logical, Some(LogicalType::Enum))
            || (logical.is_none() && info.is_some_and(|info| info.converted_type() == ConvertedType::ENUM));
        let is_int96 = descriptor.as_ref().is_some_and(|column| column.physical_type() == Type::INT96);
        let plain = Kind::Scalar(Leaf::Plain);
        match data_type {
            DataType::Binary if is_enum => (plain, "enum".to_owned(), DataType::Utf8View),
            DataType::Binary => (plain, "binary".to_owned(), DataType::BinaryView),
            DataType::Utf8 if matches!(logical, Some(LogicalType::Json)) => {
                (plain, "json".to_owned(), DataType::Utf8View)
            }
            DataType::Utf8 => (plain, "string".to_owned(), DataType::Utf8View),
            DataType::FixedSizeBinary(16) if matches!(logical, Some(LogicalType::Uuid)) => {
                (Kind::Scalar(Leaf::Uuid), "uuid".to_owned(), data_type.clone())
            }
            // Only at the top is there a second reader beside the first.
            DataType::Timestamp(..) if is_int96 && self.depth > 1 => {
                (Kind::Refused, "int96 inside another".to_owned(), data_type.clone())
            }
            DataType::Timestamp(..) if is_int96 => {
                let hinted = DataType::Timestamp(TimeUnit::Microsecond, None);
                (Kind::Scalar(Leaf::Int96), "timestamp".to_owned(), hinted)
            }
            other => match words(other) {
                Some(words) => (plain, words, other.clone()),
                None => (Kind::Refused, other.to_string().to_lowercase(), other.clone()),
            },
        }
    }
}

/// A type that is read, in words; `None` of any other.
fn words(data_type: &DataType) -> Option<String> {
    Some(match data_type {
        DataType::Null => "null".to_owned(),
        DataType::Boolean => "boolean".to_owned(),
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64
        | DataType::Float16
        | DataType::Float32
        | DataType::Float64 => data_type.to_string().to_lowercase(),
        DataType::Decimal128(precision, scale @ 0..) | DataType::Decimal256(precision, scale @ 0..) => {
            format!("decimal({precision},{scale})")
        }
        DataType::FixedSizeBinary(length) => format!("fixed({length})"),
        DataType::Date32 => "date".to_owned(),
        DataType::Time32(_) | DataType::Time64(_) => "time".to_owned(),
        DataType::Timestamp(_, None) => "timestamp".to_owned(),
        DataType::Timestamp(_, Some(_)) => "timestamptz".to_owned(),
        _ => return None,
    })
}

impl Kind {
    /// The way to a value inside, and its type; `None` where there is none.
    pub(super) fn find(&self, steps: &[String]) -> Option<(Vec<usize>, &Self)> {
        let (mut kind, mut path) = (self, Vec::new());
        for step in steps {
            let Self::Struct(fields) = kind else { return None };
            let place = fields.iter().position(|(name, _)| name == step)?;
            path.push(place);
            kind = &fields.get(place)?.1;
        }
        Some((path, kind))
    }

    /// Whether it or a type inside it is not read.
    pub(super) fn is_refused(&self) -> bool {
        match self {
            Self::Scalar(_) => false,
            Self::Refused => true,
            Self::List(item) => item.is_refused(),
            Self::Struct(fields) => fields.iter().any(|(_, kind)| kind.is_refused()),
            Self::Map(key, value) => key.is_refused() || value.is_refused(),
        }
    }
}
