//! What a feed does about content that changed or came twice, and how often it expects objects.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::config::value::choose;

/// What happens when other content appears under a key that was loaded before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnChange {
    /// It is loaded as well: its rows join those of the older version.
    Load,
    /// It is loaded in place of the older version, whose rows are deleted in the same transaction.
    Replace,
    /// It is skipped.
    Ignore,
    /// It is set aside for a person.
    Quarantine,
}

impl<'de> Deserialize<'de> for OnChange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let words = [
            ("load", Self::Load),
            ("replace", Self::Replace),
            ("ignore", Self::Ignore),
            ("quarantine", Self::Quarantine),
        ];
        choose(deserializer, &words)
    }
}

/// What happens when an object has the same bytes as one of the feed that was loaded before under another key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DuplicateContent {
    /// It is loaded, and a warning names both.
    Warn,
    /// It is skipped.
    Skip,
    /// It is set aside for a person.
    Quarantine,
    /// It is loaded; nobody looks.
    Load,
}

impl<'de> Deserialize<'de> for DuplicateContent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let words =
            [("warn", Self::Warn), ("skip", Self::Skip), ("quarantine", Self::Quarantine), ("load", Self::Load)];
        choose(deserializer, &words)
    }
}

/// How often a feed expects an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cadence {
    /// One at least in every span of this length.
    Every(Duration),
    /// As often as its latest objects came, where they came regularly.
    Learn,
}

/// Which slots of a feed are missing when nothing came in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slots {
    /// How often an object is expected.
    pub cadence: Cadence,
    /// How long after the end of its slot an object may still come; none: as long as the slot itself.
    pub grace: Option<Duration>,
}
