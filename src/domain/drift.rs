//! What changed in the fields of a feed's objects.

use serde::{Deserialize, Serialize};

/// A field of an object that says which it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its type in the format's own words; empty where the format has none.
    pub kind: String,
}

/// One difference between the fields of two objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What kind of difference.
    pub kind: DriftKind,
    /// The field; none where it is about the order of all.
    pub field: Option<String>,
    /// What it was.
    pub was: Option<String>,
    /// What it became.
    pub became: Option<String>,
}

/// What kind of difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DriftKind {
    /// A field that was not there before.
    Added,
    /// A field that is not there any more.
    Removed,
    /// The same fields in another order.
    Reordered,
    /// A field of another type.
    Type,
}

impl DriftKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Added, Self::Removed, Self::Reordered, Self::Type];

    /// The word of the ledger and of metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Reordered => "reordered",
            Self::Type => "type",
        }
    }
}

/// How the fields of an object differ from those of an earlier one.
pub fn compare(before: &[Field], now: &[Field]) -> Vec<Difference> {
    let mut differences = Vec::new();
    let named = |fields: &[Field], name: &str| fields.iter().find(|field| field.name == name).cloned();
    let text = |kind: &str| (!kind.is_empty()).then(|| kind.to_owned());
    for field in now {
        match named(before, &field.name) {
            None => differences.push(Difference {
                kind: DriftKind::Added,
                field: Some(field.name.clone()),
                was: None,
                became: text(&field.kind),
            }),
            Some(old) if old.kind != field.kind => differences.push(Difference {
                kind: DriftKind::Type,
                field: Some(field.name.clone()),
                was: text(&old.kind),
                became: text(&field.kind),
            }),
            Some(_) => {}
        }
    }
    for field in before.iter().filter(|field| named(now, &field.name).is_none()) {
        differences.push(Difference {
            kind: DriftKind::Removed,
            field: Some(field.name.clone()),
            was: text(&field.kind),
            became: None,
        });
    }
    // Only the fields of both can stand in another order.
    let common = |fields: &[Field], other: &[Field]| -> Vec<String> {
        let is_common = |field: &&Field| named(other, &field.name).is_some();
        fields.iter().filter(is_common).map(|field| field.name.clone()).collect()
    };
    let (was, became) = (common(before, now), common(now, before));
    if was != became {
        let list = |names: Vec<String>| Some(names.join(", "));
        differences.push(Difference { kind: DriftKind::Reordered, field: None, was: list(was), became: list(became) });
    }
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Vec<Field> {
        let field = |text: &str| {
            let (name, kind) = text.split_once(':').unwrap_or((text, ""));
            Field { name: name.to_owned(), kind: kind.to_owned() }
        };
        text.split(' ').filter(|text| !text.is_empty()).map(field).collect()
    }

    #[test]
    fn every_kind_of_difference_is_told_apart() {
        let told = |before: &str, now: &str| -> Vec<String> {
            let line = |found: Difference| {
                let text = |part: Option<String>| part.unwrap_or_else(|| "-".to_owned());
                format!("{} {} {}>{}", found.kind.as_str(), text(found.field), text(found.was), text(found.became))
            };
            compare(&fields(before), &fields(now)).into_iter().map(line).collect()
        };
        assert!(told("a b c", "a b c").is_empty());
        assert_eq!(told("a b", "a b c"), ["added c ->-"]);
        assert_eq!(told("a b c", "a c"), ["removed b ->-"]);
        assert_eq!(told("a b", "b a"), ["reordered - a, b>b, a"]);
        assert_eq!(told("a:INT b", "a:STRING b"), ["type a INT>STRING"]);
        assert_eq!(told("a b c", "c x a"), ["added x ->-", "removed b ->-", "reordered - a, c>c, a"]);
        assert_eq!(told("", "a"), ["added a ->-"]);
    }
}
