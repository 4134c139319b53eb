//! Adding up what was found, with the first examples of each kind.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::finding::{Class, Finding};
use super::judge::{Found, Judged};
use crate::config::feed::Feed;
use crate::domain::pattern::KeyTime;

/// One kind of finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Count {
    /// What.
    pub finding: Finding,
    /// How it counts.
    pub class: Class,
    /// Objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How old the oldest of them is, in seconds.
    pub oldest_seconds: u64,
    /// The first of them by their keys, as many as were asked for.
    pub examples: Vec<Example>,
}

/// One object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Example {
    /// Key.
    pub key: String,
    /// Ledger id, where the ledger knows it.
    pub id: Option<i64>,
    /// Time the key carries.
    pub key_time: Option<Timestamp>,
    /// Size in bytes.
    pub size: u64,
    /// Since when it has been in the bucket.
    pub since: Timestamp,
    /// More about it: state and attempts, error code, reason, where the copy should lie.
    pub detail: Option<String>,
}

/// What a run has found so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    counts: BTreeMap<Finding, Count>,
    pub(super) skipped: BTreeMap<String, u64>,
    pub(super) loaded: u64,
}

impl Tally {
    pub(super) fn add(&mut self, feed: &Feed, key: &str, judged: Judged, limits: Limits) {
        self.loaded += judged.loaded;
        if let Some(reason) = judged.skipped {
            *self.skipped.entry(reason).or_default() += 1;
        }
        for found in judged.found {
            self.count(feed, key, found, limits);
        }
    }

    fn count(&mut self, feed: &Feed, key: &str, found: Found, limits: Limits) {
        let count = self.counts.entry(found.finding).or_insert_with(|| Count {
            finding: found.finding,
            class: found.finding.class(),
            objects: 0,
            bytes: 0,
            oldest_seconds: 0,
            examples: Vec::new(),
        });
        count.objects += 1;
        count.bytes += found.size;
        let age = u64::try_from(limits.now.duration_since(found.since).as_secs()).unwrap_or(0);
        count.oldest_seconds = count.oldest_seconds.max(age);
        if count.examples.len() < limits.examples {
            count.examples.push(Example {
                key: key.to_owned(),
                id: found.id,
                key_time: key_time(feed, key),
                size: found.size,
                since: found.since,
                detail: found.detail,
            });
        }
    }

    /// Objects of a class.
    pub(super) fn of(&self, class: Class) -> u64 {
        self.counts.values().filter(|count| count.class == class).map(|count| count.objects).sum()
    }

    /// Every kind that was found, in the order in which they are shown.
    pub(super) fn into_counts(mut self) -> Vec<Count> {
        Finding::ALL.iter().filter_map(|finding| self.counts.remove(finding)).collect()
    }
}

/// What every example is made with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) examples: usize,
    pub(super) now: Timestamp,
}

fn key_time(feed: &Feed, key: &str) -> Option<Timestamp> {
    match feed.pattern.as_ref()?.matches(key)?.time {
        KeyTime::At(time) => Some(time),
        KeyTime::Absent | KeyTime::Impossible => None,
    }
}
