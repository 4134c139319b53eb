//! Every effective key with its value and origin, for `config show`.
//!
//! Values come from the raw types, which print secrets as `***`; nothing here ever holds one.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Config;
use super::feed::Disposal;
use super::raw::RawConfig;
use super::report::Origin;
use super::shape::join;

/// What is shown of a key that has no value.
const UNSET: &str = "(not set)";

/// One key, what holds for it and where that was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// Key path. `database.connection.*` is what connection string, `PG*` and `.pgpass` come to together.
    pub key: String,
    /// The value as it could stand in the file; `***` for a secret.
    pub value: String,
    /// `default`, a file, an environment variable, or `--set`.
    pub origin: String,
}

/// Lists every key of the configuration, sorted by path.
pub(super) fn effective(
    raw: &RawConfig,
    config: &Config,
    connection: Vec<(String, String, String)>,
    origins: &BTreeMap<String, Origin>,
) -> Vec<Effective> {
    let mut keys = BTreeMap::new();
    // Serialising plain values to memory cannot fail.
    flatten("", &serde_json::to_value(raw).unwrap_or_default(), &mut keys);
    for (key, value) in derived(config) {
        if let Some(shown) = keys.get_mut(&key).filter(|shown| *shown == UNSET) {
            *shown = value;
        }
    }
    let keys = keys.into_iter().map(|(key, value)| {
        let origin = origins.get(&key).unwrap_or(&Origin::Default).to_string();
        Effective { key, value, origin }
    });
    let connection = connection.into_iter().map(|(name, value, origin)| {
        // The origin so far is the key that held it; a person wants to know where that key was set.
        let kinds = ["", "_file", "_credential"].map(|kind| format!("{origin}{kind}"));
        let set = kinds.into_iter().find_map(|key| origins.get(&key).map(|place| format!("{key} in {place}")));
        let origin = set.unwrap_or(origin);
        Effective { key: format!("database.connection.{name}"), value, origin }
    });
    let mut all: Vec<_> = keys.chain(connection).collect();
    all.sort_by(|a, b| a.key.cmp(&b.key));
    all
}

fn flatten(path: &str, value: &Value, keys: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(table) => {
            for (key, value) in table {
                flatten(&join(path, key), value, keys);
            }
        }
        Value::Null => {
            keys.insert(path.to_owned(), UNSET.to_owned());
        }
        Value::String(text) if text == "***" => {
            keys.insert(path.to_owned(), text.clone());
        }
        // JSON's numbers, booleans, texts and lists of these read the same in TOML.
        other => {
            keys.insert(path.to_owned(), other.to_string());
        }
    }
}

/// Values that are not in any layer and follow from others.
fn derived(config: &Config) -> Vec<(String, String)> {
    let text = |text: &str| Value::from(text).to_string();
    let mut values = vec![("instance".to_owned(), text(&config.instance))];
    for (name, feed) in &config.feeds {
        values.push((format!("feeds.{name}.prefix"), text(&feed.prefix)));
        values.push((format!("feeds.{name}.max_workers"), feed.max_workers.to_string()));
        if let Disposal::Archive { bucket, .. } = &feed.disposal {
            values.push((format!("feeds.{name}.disposal.bucket"), text(bucket)));
        }
    }
    values
}
