//! Which keys exist: derived from the JSON Schema of the raw types, so that there is one list of keys.
//!
//! Used to refuse unknown keys with a suggestion, before anything is deserialized, and to name every key for `show`.

use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::raw::RawConfig;
use super::report::nearest;

/// What may stand at a place of the configuration.
#[derive(Debug)]
pub(super) enum Shape {
    /// A table with these keys.
    Table(BTreeMap<String, Shape>),
    /// A table with keys of the user's choice.
    Named(Box<Shape>),
    /// A value; true where it is a secret.
    Leaf {
        /// Whether the value must never be shown.
        secret: bool,
    },
    /// A value, or a table with these keys.
    Either(BTreeMap<String, Shape>),
}

/// The JSON Schema of the whole configuration.
pub(super) fn json_schema() -> Value {
    // Inlined, because editors show the description of a property and not that of what it refers to.
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<RawConfig>().to_value()
}

impl Shape {
    /// The shape of the whole configuration.
    pub(super) fn of_config() -> Self {
        Self::from_schema(&json_schema())
    }

    fn from_schema(schema: &Value) -> Self {
        if let Some(Value::Object(properties)) = schema.get("properties") {
            let keys = properties.iter().map(|(key, value)| (key.clone(), Self::from_schema(value))).collect();
            let is_either = matches!(schema.get("type"), Some(Value::Array(_)));
            return if is_either { Self::Either(keys) } else { Self::Table(keys) };
        }
        match schema.get("additionalProperties") {
            Some(values @ Value::Object(_)) => Self::Named(Box::new(Self::from_schema(values))),
            _ => Self::Leaf { secret: schema.get("writeOnly").and_then(Value::as_bool).unwrap_or(false) },
        }
    }

    /// What may stand under a key here.
    pub(super) fn child(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Table(children) | Self::Either(children) => children.get(key),
            Self::Named(child) => Some(child),
            Self::Leaf { .. } => None,
        }
    }

    /// What may stand at a path of keys.
    pub(super) fn at<'a>(&self, path: impl IntoIterator<Item = &'a str>) -> Option<&Self> {
        path.into_iter().try_fold(self, |shape, key| shape.child(key))
    }

    /// Whether a single value stands here.
    pub(super) fn is_leaf(&self) -> bool {
        matches!(self, Self::Leaf { .. } | Self::Either(_))
    }

    /// Whether a table may stand here.
    pub(super) fn is_table(&self) -> bool {
        !matches!(self, Self::Leaf { .. })
    }

    /// Whether the value here must never be shown.
    pub(super) fn is_secret(&self) -> bool {
        matches!(self, Self::Leaf { secret: true })
    }

    /// What to do about an unknown key of this table; `root` knows where else such a key exists.
    pub(super) fn advice(&self, key: &str, root: &Self) -> String {
        let (Self::Table(children) | Self::Either(children)) = self else { return "remove it".to_owned() };
        if let Some(known) = nearest(key, children.keys().map(String::as_str)) {
            return format!("did you mean `{known}`?");
        }
        let elsewhere = root.paths();
        if let Some(path) = elsewhere.iter().find(|path| path.rsplit('.').next() == Some(key)) {
            return format!("did you mean `{path}`?");
        }
        let known: Vec<&str> = children.keys().map(String::as_str).collect();
        format!("remove it; the keys here are {}", known.join(", "))
    }

    /// Every key path, with `NAME` where the user chooses the key.
    pub(super) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect_paths("", &mut paths);
        paths
    }

    fn collect_paths(&self, path: &str, paths: &mut Vec<String>) {
        match self {
            Self::Table(children) => {
                for (key, child) in children {
                    child.collect_paths(&join(path, key), paths);
                }
            }
            Self::Named(child) => child.collect_paths(&join(path, "NAME"), paths),
            Self::Leaf { .. } => paths.push(path.to_owned()),
            Self::Either(children) => {
                paths.push(path.to_owned());
                for (key, child) in children {
                    child.collect_paths(&join(path, key), paths);
                }
            }
        }
    }
}

/// A key path one level deeper.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_knows_tables_named_tables_leaves_and_secrets() {
        let shape = Shape::of_config();
        assert!(shape.at(["workers", "max"]).unwrap().is_leaf());
        assert!(shape.at(["feeds", "any", "csv", "header"]).unwrap().is_leaf());
        assert!(shape.at(["feeds", "any", "columns", "any"]).unwrap().is_leaf());
        assert!(shape.at(["feeds", "any", "bukcet"]).is_none());
        let secrets: Vec<_> =
            shape.paths().into_iter().filter(|path| shape.at(path.split('.')).unwrap().is_secret()).collect();
        assert_eq!(secrets, ["database.password", "database.url", "s3.secret_access_key"]);
    }

    #[test]
    fn a_key_of_another_section_is_recognised() {
        let shape = Shape::of_config();
        assert_eq!(shape.advice("poll_interval", &shape), "did you mean `feeds.NAME.poll_interval`?");
        assert_eq!(shape.advice("databse", &shape), "did you mean `database`?");
    }
}
