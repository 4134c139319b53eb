//! Whether the first record of a CSV object names its fields.

use super::survey::Seen;

/// Names that columns have everywhere.
const USUAL: [&str; 14] = [
    "id", "name", "code", "type", "date", "time", "email", "country", "city", "status", "value", "key", "title", "url",
];

/// What the first record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Header {
    /// Names: no field of it has the type of those below.
    Sure,
    /// It looks like names, and nothing below says otherwise.
    Likely,
    /// It could be names.
    Unsure,
    /// A record like all others.
    No,
}

/// Judges the first record by those below it.
pub(super) fn judge(first: &[Vec<u8>], below: &[Seen]) -> Header {
    if first.is_empty() || !first.iter().any(|cell| !cell.trim_ascii().is_empty()) {
        return Header::No;
    }
    let typed: Vec<(&[u8], &Seen)> = first
        .iter()
        .map(|cell| cell.trim_ascii())
        .zip(below)
        .filter(|(_, seen)| seen.values.kind().is_some())
        .collect();
    if !typed.is_empty() {
        let is_name = |(cell, seen): &(&[u8], &Seen)| !cell.is_empty() && !seen.values.takes(cell);
        return if typed.iter().all(is_name) { Header::Sure } else { Header::No };
    }
    let names: Vec<String> = first.iter().map(|cell| String::from_utf8_lossy(cell).trim().to_owned()).collect();
    let is_unique = names.iter().enumerate().all(|(place, name)| !names.iter().skip(place + 1).any(|o| o == name));
    if !is_unique || !names.iter().all(|name| is_name(name)) {
        return Header::No;
    }
    let is_telling = |name: &String| name.contains('_') || USUAL.contains(&name.to_lowercase().as_str());
    if names.iter().any(is_telling) { Header::Likely } else { Header::Unsure }
}

/// Whether a text could name a field.
fn is_name(text: &str) -> bool {
    let begins_well = text.starts_with(|c: char| c.is_alphabetic() || c == '_');
    begins_well && text.chars().count() <= 63 && text.chars().all(|c| c.is_alphanumeric() || " _-.()/#".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operate::propose::survey::Survey;
    use crate::pipeline::decode::look::{Look, Place};
    use crate::pipeline::decode::reader::{Schema, Typing, Value};

    fn check(records: &[&[&str]], expected: Header) {
        let mut survey = Survey::apart();
        survey.begin();
        survey.fields(Typing::Texts, &Schema::Positions(records[0].len()));
        for record in records {
            for (slot, cell) in record.iter().enumerate() {
                survey.value(Place::Slot(slot), Value::Text(cell.as_bytes()));
            }
            assert!(survey.record(0).is_continue());
        }
        assert_eq!(judge(&survey.first, &survey.fields), expected, "{records:?}");
    }

    #[test]
    fn a_header_has_none_of_the_types_below_it() {
        check(&[&["id", "name"], &["1", "a"]], Header::Sure);
        check(&[&["id", "2"], &["1", "3"]], Header::No);
        check(&[&["1", "Sales"], &["2", "HR"]], Header::No);
        check(&[&["", "a"], &["1", "b"]], Header::No);
    }

    #[test]
    fn among_texts_names_are_told_by_how_they_look() {
        check(&[&["first_name", "city"], &["Ann", "Bonn"]], Header::Likely);
        check(&[&["Ann", "Bonn"], &["Bob", "Ulm"]], Header::Unsure);
        check(&[&["same", "same"], &["a", "b"]], Header::No);
        check(&[&["1", "2"]], Header::No);
        check(&[&["", ""]], Header::No);
    }
}
