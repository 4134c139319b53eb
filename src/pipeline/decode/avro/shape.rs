//! The schema as the decoder needs it: names resolved, nothing recursive, no deeper than allowed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use apache_avro::Schema;
use apache_avro::schema::{InnerDecimalSchema, Name, UuidSchema};

use super::super::caps::LimitError;
use super::super::{DecodeError, shown};
use super::damaged;

/// Longest words for a type.
const LONGEST_WORDS: usize = 200;

/// A type.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Null,
    Bool,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    Text,
    Fixed(usize),
    Enum(Vec<String>),
    /// Scale, and the length where it is fixed.
    Decimal(usize, Option<usize>),
    /// As text or as sixteen bytes, with their length in front or without.
    Uuid(Spelling),
    Date,
    /// Units in a second; those of a millisecond are of 32 bits.
    Time(i64),
    /// Units in a second, and whether they are counted in UTC.
    Moment(i64, bool),
    Array(Arc<Self>),
    Map(Arc<Self>),
    Record(Arc<[(String, Arc<Self>)]>),
    Union(Vec<Arc<Self>>),
    /// Of values that are passed over and not read: so many bytes, or as many as they say.
    Refused(Option<usize>),
}

/// How a UUID is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    Text,
    Bytes,
    Fixed,
}

/// A field of the records.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) words: String,
    pub(super) shape: Arc<Shape>,
}

/// The fields of the records that a schema describes.
pub(super) fn columns(schema: &Schema, max_fields: usize, max_depth: usize) -> Result<Vec<Column>, DecodeError> {
    let Schema::Record(record) = schema else {
        return Err(damaged("the schema is that of single values, not of records"));
    };
    if record.fields.len() > max_fields {
        return Err(LimitError::Columns { fields: record.fields.len(), cap: max_fields }.into());
    }
    let mut resolving = Resolving { known: HashMap::new(), open: vec![record.name.clone()], max_depth };
    let namespace = record.name.namespace();
    let mut columns: Vec<Column> = Vec::with_capacity(record.fields.len());
    for field in &record.fields {
        let Resolved { shape, words, .. } = resolving.shape(&field.schema, namespace)?;
        if columns.iter().any(|column| column.name == field.name) {
            return Err(damaged(format!("the schema has field {} twice", shown(&field.name))));
        }
        columns.push(Column { name: field.name.clone(), words, shape });
    }
    Ok(columns)
}

/// A type, its words and how many levels of nesting it has.
#[derive(Clone)]
struct Resolved {
    shape: Arc<Shape>,
    words: String,
    depth: usize,
}

impl Resolved {
    fn plain(shape: Shape, words: String) -> Self {
        Self { shape: Arc::new(shape), words, depth: 1 }
    }
}

/// Resolves names. A type that is used often is resolved once and shared.
struct Resolving {
    known: HashMap<Name, Resolved>,
    /// Records that are being resolved: none of their fields may lead back to them.
    open: Vec<Name>,
    max_depth: usize,
}

impl Resolving {
    fn shape(&mut self, schema: &Schema, namespace: Option<&str>) -> Result<Resolved, DecodeError> {
        if self.open.len() > self.max_depth {
            return Err(LimitError::SchemaDepth(self.max_depth).into());
        }
        let resolved = match schema {
            Schema::Array(array) => {
                let item = self.shape(&array.items, namespace)?;
                self.around(Shape::Array(Arc::clone(&item.shape)), format!("array<{}>", item.words), item.depth)?
            }
            Schema::Map(map) => {
                let value = self.shape(&map.types, namespace)?;
                self.around(Shape::Map(Arc::clone(&value.shape)), format!("map<{}>", value.words), value.depth)?
            }
            Schema::Record(_) | Schema::Ref { .. } => self.named(schema, namespace)?,
            Schema::Union(union) => self.union(union.variants(), namespace)?,
            other => scalar(other),
        };
        if let Some(name) = schema.name() {
            self.known.insert(name.fully_qualified_name(namespace).into_owned(), resolved.clone());
        }
        Ok(resolved)
    }

    fn around(&self, shape: Shape, words: String, depth: usize) -> Result<Resolved, DecodeError> {
        if depth + 1 > self.max_depth {
            return Err(LimitError::SchemaDepth(self.max_depth).into());
        }
        Ok(Resolved { shape: Arc::new(shape), words: short(words), depth: depth + 1 })
    }

    fn named(&mut self, schema: &Schema, namespace: Option<&str>) -> Result<Resolved, DecodeError> {
        let Some(name) = schema.name() else { return Err(damaged("the schema has a type without a name")) };
        let name = name.fully_qualified_name(namespace).into_owned();
        if self.open.contains(&name) {
            return Err(damaged(format!("the schema is recursive: {} contains itself", shown(name.name()))));
        }
        let Schema::Record(record) = schema else {
            let known = self.known.get(&name).cloned();
            return known.ok_or_else(|| damaged(format!("the schema has no type {}", shown(name.name()))));
        };
        self.open.push(name.clone());
        let (mut fields, mut words, mut depth) = (Vec::new(), Vec::new(), 0);
        for field in &record.fields {
            let inner = self.shape(&field.schema, name.namespace())?;
            depth = depth.max(inner.depth);
            words.push(format!("{}: {}", field.name, inner.words));
            fields.push((field.name.clone(), inner.shape));
        }
        self.open.pop();
        self.around(Shape::Record(fields.into()), format!("record<{}>", words.join(", ")), depth)
    }

    fn union(&mut self, variants: &[Schema], namespace: Option<&str>) -> Result<Resolved, DecodeError> {
        let (mut shapes, mut words, mut depth) = (Vec::new(), Vec::new(), 0);
        for variant in variants {
            let inner = self.shape(variant, namespace)?;
            depth = depth.max(inner.depth);
            if *inner.shape != Shape::Null {
                words.push(inner.words);
            }
            shapes.push(inner.shape);
        }
        // Who may be NULL is no other type.
        let words = match words.as_slice() {
            [] => "null".to_owned(),
            [one] => one.clone(),
            many => format!("union<{}>", many.join(", ")),
        };
        Ok(Resolved { shape: Arc::new(Shape::Union(shapes)), words: short(words), depth })
    }
}

/// A type that is used twice in one that is used twice, and so on, has endless words.
fn short(mut words: String) -> String {
    if let Some((end, _)) = words.char_indices().nth(LONGEST_WORDS) {
        words.truncate(end);
        words.push('…');
    }
    words
}

fn scalar(schema: &Schema) -> Resolved {
    const MILLIS: i64 = 1000;
    const MICROS: i64 = 1_000_000;
    const NANOS: i64 = 1_000_000_000;
    let plain = |shape, words: &str| Resolved::plain(shape, words.to_owned());
    match schema {
        Schema::Boolean => plain(Shape::Bool, "boolean"),
        Schema::Int => plain(Shape::Int, "int"),
        Schema::Long => plain(Shape::Long, "long"),
        Schema::Float => plain(Shape::Float, "float"),
        Schema::Double => plain(Shape::Double, "double"),
        Schema::Bytes => plain(Shape::Bytes, "bytes"),
        Schema::String => plain(Shape::Text, "string"),
        Schema::Enum(own) => plain(Shape::Enum(own.symbols.clone()), "enum"),
        Schema::Fixed(own) => plain(Shape::Fixed(own.size), &format!("fixed({})", own.size)),
        Schema::Decimal(own) => {
            let size = match &own.inner {
                InnerDecimalSchema::Bytes => None,
                InnerDecimalSchema::Fixed(fixed) => Some(fixed.size),
            };
            plain(Shape::Decimal(own.scale, size), &format!("decimal({},{})", own.precision, own.scale))
        }
        Schema::BigDecimal => plain(Shape::Refused(None), "big-decimal"),
        Schema::Uuid(UuidSchema::String) => plain(Shape::Uuid(Spelling::Text), "uuid"),
        Schema::Uuid(UuidSchema::Bytes) => plain(Shape::Uuid(Spelling::Bytes), "uuid"),
        Schema::Uuid(UuidSchema::Fixed(_)) => plain(Shape::Uuid(Spelling::Fixed), "uuid"),
        Schema::Date => plain(Shape::Date, "date"),
        Schema::TimeMillis => plain(Shape::Time(MILLIS), "time"),
        Schema::TimeMicros => plain(Shape::Time(MICROS), "time"),
        Schema::TimestampMillis => plain(Shape::Moment(MILLIS, true), "timestamptz"),
        Schema::TimestampMicros => plain(Shape::Moment(MICROS, true), "timestamptz"),
        Schema::TimestampNanos => plain(Shape::Moment(NANOS, true), "timestamptz"),
        Schema::LocalTimestampMillis => plain(Shape::Moment(MILLIS, false), "timestamp"),
        Schema::LocalTimestampMicros => plain(Shape::Moment(MICROS, false), "timestamp"),
        Schema::LocalTimestampNanos => plain(Shape::Moment(NANOS, false), "timestamp"),
        Schema::Duration(own) => plain(Shape::Refused(Some(own.size)), "duration"),
        // All others were resolved before.
        _ => plain(Shape::Null, "null"),
    }
}

impl Shape {
    /// Whether it or a type inside it is not read. Types are shared: each is looked at once.
    pub(super) fn is_refused(&self, seen: &mut HashSet<*const Self>) -> bool {
        if !seen.insert(std::ptr::from_ref(self)) {
            return false;
        }
        match self {
            Self::Refused(_) => true,
            Self::Array(inner) | Self::Map(inner) => inner.is_refused(seen),
            Self::Record(fields) => fields.iter().any(|(_, shape)| shape.is_refused(seen)),
            Self::Union(variants) => variants.iter().any(|shape| shape.is_refused(seen)),
            _ => false,
        }
    }

    /// Whether the way leads to a value inside some value of this type: by the fields of records, through unions with
    /// NULL.
    pub(super) fn leads(&self, steps: &[String]) -> Option<&Self> {
        let Some((first, rest)) = steps.split_first() else { return Some(self) };
        match self {
            Self::Record(fields) => fields.iter().find(|(name, _)| name == first)?.1.leads(rest),
            Self::Map(value) => value.leads(rest),
            Self::Union(variants) => variants.iter().find_map(|shape| shape.leads(steps)),
            _ => None,
        }
    }
}
