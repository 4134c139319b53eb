//! The fields of the records of some objects, and what their values have in common.
//!
//! Objects of JSON, and records inside those of Parquet and Avro, are followed down to their scalars; arrays, maps and
//! what lies deeper stay whole.

use std::collections::HashMap;
use std::ops::ControlFlow;

use serde::de::{DeserializeSeed as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::domain::record::BadRecord;
use crate::pipeline::decode::look::{Look, Place};
use crate::pipeline::decode::reader::{Schema, Typing, Value};

use super::values::Values;

/// Records of one object that are looked at.
pub(super) const MOST_RECORDS: u64 = 10_000;
/// Bytes of one object that are looked at, after decompression.
pub(super) const MOST_BYTES: u64 = 8 << 20;
/// Steps from a record to a scalar.
const DEEPEST: usize = 3;
/// More members than this are rather the keys of a map.
const MOST_MEMBERS: usize = 100;
/// As many columns as a table can have, and some for ourselves.
const MOST_FIELDS: usize = 1500;

/// One field.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// The way to it; a name for each step.
    pub(super) path: Vec<String>,
    /// Its type in words, where the object has a schema.
    pub(super) kind: String,
    /// Its values.
    pub(super) values: Values,
}

/// What was seen of some objects' records.
#[derive(Debug)]
pub(super) struct Survey {
    pub(super) typing: Typing,
    pub(super) fields: Vec<Seen>,
    /// Names of the fields of each object that names them, in its order.
    pub(super) headers: Vec<Vec<String>>,
    /// Records that could be read.
    pub(super) records: u64,
    /// Records that could not, by code.
    pub(super) bad: Vec<(&'static str, u64)>,
    /// Records of blanks alone.
    pub(super) blank: u64,
    /// The first record of the object at hand, where it may be a header.
    pub(super) first: Vec<Vec<u8>>,
    holds_first: bool,
    /// Whether there are more fields than a table has columns.
    pub(super) is_overfull: bool,
    places: HashMap<Vec<String>, usize>,
    slots: Vec<usize>,
    read: u64,
    cells: Vec<Vec<u8>>,
}

impl Survey {
    /// An empty one.
    pub(super) fn new() -> Self {
        Self {
            typing: Typing::Texts,
            fields: Vec::new(),
            headers: Vec::new(),
            records: 0,
            bad: Vec::new(),
            blank: 0,
            first: Vec::new(),
            holds_first: false,
            is_overfull: false,
            places: HashMap::new(),
            slots: Vec::new(),
            read: 0,
            cells: Vec::new(),
        }
    }

    /// One that keeps the first record of each object apart from the others.
    pub(super) fn apart() -> Self {
        Self { holds_first: true, ..Self::new() }
    }

    /// The next object begins.
    pub(super) fn begin(&mut self) {
        self.read = 0;
        self.first = Vec::new();
    }

    /// Records, the unreadable ones included.
    pub(super) fn all_records(&self) -> u64 {
        self.records + self.bad.iter().map(|(_, count)| count).sum::<u64>()
    }

    /// How many records could not be read for this reason.
    pub(super) fn bad(&self, code: &str) -> u64 {
        self.bad.iter().find(|(own, _)| *own == code).map_or(0, |(_, count)| *count)
    }

    /// The place of a field.
    fn place(&mut self, path: &[String], kind: &str) -> Option<usize> {
        if let Some(place) = self.places.get(path) {
            return Some(*place);
        }
        if self.fields.len() >= MOST_FIELDS {
            self.is_overfull = true;
            return None;
        }
        let place = self.fields.len();
        self.places.insert(path.to_vec(), place);
        let values = Values::new(self.typing);
        self.fields.push(Seen { path: path.to_vec(), kind: kind.to_owned(), values });
        Some(place)
    }

    fn put(&mut self, path: &mut Vec<String>, value: Value<'_>) {
        if let Value::Nested(json) = value
            && json.first() == Some(&b'{')
            && path.len() < DEEPEST
            && self.descend(path, json)
        {
            return;
        }
        if let Some(place) = self.place(path, "")
            && let Some(seen) = self.fields.get_mut(place)
        {
            seen.values.add(value);
        }
    }

    /// Goes into an object; false where it is to stay whole.
    fn descend(&mut self, path: &mut Vec<String>, json: &[u8]) -> bool {
        let Some(members) = members(json) else { return false };
        if members.is_empty() || members.len() > MOST_MEMBERS {
            return false;
        }
        for (name, raw) in members {
            path.push(name);
            let text: String;
            let value = match raw.get().as_bytes() {
                [b'n', ..] => Value::Null,
                [b't', ..] => Value::Bool(true),
                [b'f', ..] => Value::Bool(false),
                nested @ [b'{' | b'[', ..] => Value::Nested(nested),
                [b'"', ..] => {
                    text = serde_json::from_str(raw.get()).unwrap_or_default();
                    Value::Text(text.as_bytes())
                }
                number => Value::Number(number),
            };
            self.put(path, value);
            path.pop();
        }
        true
    }

    /// Fields without those that are whole beside their own parts: an object in one record and a text in another.
    pub(super) fn settled(&self) -> Vec<Seen> {
        let is_part = |part: &[String], whole: &[String]| part.len() > whole.len() && part.starts_with(whole);
        let has_values = |seen: &Seen| seen.values.present + seen.values.blanks > 0;
        let mut settled: Vec<Seen> = Vec::new();
        for seen in &self.fields {
            let has_parts = self.fields.iter().any(|other| is_part(&other.path, &seen.path));
            // NULL in the place of an object says nothing of its own.
            if has_parts && !has_values(seen) {
                continue;
            }
            let whole = |other: &&Seen| is_part(&seen.path, &other.path) && has_values(other);
            let members = |parent: &[String]| {
                let inside = |other: &&Seen| is_part(&other.path, parent);
                self.fields.iter().filter(inside).count()
            };
            if let Some(whole) = self.fields.iter().find(whole) {
                // Its parts go with it, whatever they are.
                if let Some(known) = settled.iter_mut().find(|known| known.path == whole.path) {
                    known.values.kinds.objects += 1;
                }
                continue;
            }
            // Keys that are data make ever more columns.
            let map = (1..seen.path.len()).filter_map(|length| seen.path.get(..length));
            if let Some(map) = map.into_iter().find(|parent| members(parent) > MOST_MEMBERS) {
                if !settled.iter().any(|known| known.path == map) {
                    let mut values = Values::new(self.typing);
                    values.add(Value::Nested(b"{}"));
                    settled.push(Seen { path: map.to_vec(), kind: String::new(), values });
                }
                continue;
            }
            let mut seen = seen.clone();
            if has_parts {
                seen.values.kinds.objects += 1;
            }
            settled.push(seen);
        }
        settled
    }

    fn end_record(&mut self) {
        let present: u64 = self.cells.iter().filter(|cell| !cell.trim_ascii().is_empty()).count() as u64;
        let is_first = self.read == 0 && self.holds_first;
        let cells = std::mem::take(&mut self.cells);
        if is_first {
            self.first = cells;
            return;
        }
        if self.typing == Typing::Texts {
            if present == 0 {
                self.blank += 1;
                return;
            }
            for (place, cell) in self.slots.iter().zip(&cells) {
                if let Some(seen) = self.fields.get_mut(*place) {
                    seen.values.add(Value::Text(cell));
                }
            }
        }
        self.records += 1;
    }

    fn flow(&mut self, bytes: u64) -> ControlFlow<()> {
        self.read += 1;
        if self.read >= MOST_RECORDS || bytes >= MOST_BYTES {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}

impl Look for Survey {
    fn fields(&mut self, typing: Typing, schema: &Schema) {
        self.typing = typing;
        let named: Vec<(String, String)> = match schema {
            Schema::Named(fields) => fields.iter().map(|field| (field.name.clone(), field.kind.clone())).collect(),
            Schema::Positions(fields) => (1..=*fields).map(|place| (place.to_string(), String::new())).collect(),
            Schema::Open => Vec::new(),
        };
        self.slots = named.iter().filter_map(|(name, kind)| self.place(std::slice::from_ref(name), kind)).collect();
        if matches!(schema, Schema::Named(_)) {
            self.headers.push(named.into_iter().map(|(name, _)| name).collect());
        }
    }

    fn value(&mut self, place: Place<'_>, value: Value<'_>) {
        match (place, value) {
            // Whether the record is one of blanks alone shows at its end.
            (Place::Slot(_), Value::Text(text)) if self.typing == Typing::Texts => self.cells.push(text.to_vec()),
            (Place::Slot(_), _) if self.typing == Typing::Texts => self.cells.push(Vec::new()),
            (Place::Slot(slot), value) => {
                let Some(place) = self.slots.get(slot).copied() else { return };
                let Some(seen) = self.fields.get_mut(place) else { return };
                if matches!(value, Value::Nested(_)) && is_record(&seen.kind) {
                    let mut path = seen.path.clone();
                    self.put(&mut path, value);
                } else {
                    seen.values.add(value);
                }
            }
            (Place::Name(name), value) => self.put(&mut vec![name.to_owned()], value),
        }
    }

    fn record(&mut self, bytes: u64) -> ControlFlow<()> {
        self.end_record();
        self.flow(bytes)
    }

    fn bad(&mut self, bad: &BadRecord) -> ControlFlow<()> {
        self.cells.clear();
        match self.bad.iter_mut().find(|(code, _)| *code == bad.code) {
            Some((_, count)) => *count += 1,
            None => self.bad.push((bad.code, 1)),
        }
        self.flow(0)
    }
}

/// Whether a type in words is one of named parts: the way leads into these only.
fn is_record(kind: &str) -> bool {
    kind.starts_with("struct<") || kind.starts_with("record<")
}

/// The members of a JSON object in their order; `None` where it is none, or has one twice.
fn members(json: &[u8]) -> Option<Vec<(String, &RawValue)>> {
    struct InOrder;
    impl<'de> Visitor<'de> for InOrder {
        type Value = Vec<(String, &'de RawValue)>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some(member) = map.next_entry()? {
                members.push(member);
            }
            Ok(members)
        }
    }
    impl<'de> serde::de::DeserializeSeed<'de> for InOrder {
        type Value = Vec<(String, &'de RawValue)>;

        fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
            deserializer.deserialize_map(self)
        }
    }
    InOrder.deserialize(&mut serde_json::Deserializer::from_slice(json)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operate::propose::values::Kind;

    fn json(records: &[&str]) -> Survey {
        let mut survey = Survey::new();
        survey.begin();
        survey.fields(Typing::Json, &Schema::Open);
        for record in records {
            for (name, raw) in members(record.as_bytes()).unwrap() {
                let text: String;
                let value = match raw.get().as_bytes() {
                    [b'n', ..] => Value::Null,
                    nested @ [b'{' | b'[', ..] => Value::Nested(nested),
                    [b'"', ..] => {
                        text = serde_json::from_str(raw.get()).unwrap();
                        Value::Text(text.as_bytes())
                    }
                    number => Value::Number(number),
                };
                survey.value(Place::Name(&name), value);
            }
            assert!(survey.record(0).is_continue());
        }
        survey
    }

    fn paths(survey: &Survey) -> Vec<String> {
        survey.settled().iter().map(|seen| seen.path.join(".")).collect()
    }

    #[test]
    fn objects_are_followed_down_to_their_scalars_and_arrays_stay_whole() {
        let survey = json(&[
            r#"{"id":1,"data":{"id":"x","at":{"lat":1.5,"deep":{"er":1}},"tags":[1]}}"#,
            r#"{"id":2,"data":{"id":"y","at":null}}"#,
        ]);
        assert_eq!(paths(&survey), ["id", "data.id", "data.at.lat", "data.at.deep", "data.tags"]);
        let settled = survey.settled();
        assert_eq!(settled[0].values.kind(), Some(Kind::Int));
        assert_eq!((settled[3].values.kinds.objects, settled[4].values.kinds.arrays), (1, 1));
        assert_eq!(survey.records, 2);
    }

    #[test]
    fn what_is_an_object_here_and_a_scalar_there_stays_whole() {
        let survey = json(&[r#"{"a":{"b":1}}"#, r#"{"a":7}"#]);
        assert_eq!(paths(&survey), ["a"]);
        assert!(survey.settled()[0].values.is_mixed());
    }

    #[test]
    fn keys_that_are_data_make_no_columns() {
        let records: Vec<String> = (0..=MOST_MEMBERS).map(|n| format!(r#"{{"m":{{"k{n}":{n}}}}}"#)).collect();
        let survey = json(&records.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(paths(&survey), ["m"]);
    }

    #[test]
    fn blank_records_are_counted_and_say_nothing_of_their_fields() {
        let mut survey = Survey::apart();
        survey.begin();
        survey.fields(Typing::Texts, &Schema::Positions(2));
        for record in [["id", "name"], ["1", "a"], ["", " "]] {
            for (slot, cell) in record.iter().enumerate() {
                survey.value(Place::Slot(slot), Value::Text(cell.as_bytes()));
            }
            assert!(survey.record(0).is_continue());
        }
        assert_eq!((survey.records, survey.blank), (1, 1));
        assert_eq!(survey.first, [b"id".to_vec(), b"name".to_vec()]);
        assert_eq!(survey.fields[0].values.blanks, 0);
    }
}
