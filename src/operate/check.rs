//! Whether everything the configuration needs is there and permitted: all problems at once.
//!
//! Nothing is changed anywhere, but for one delivery of a message: permissions are read from the catalogue or proven on
//! keys that do not exist. What depends on something that failed is left out rather than reported a second time.

mod bucket;
mod database;
mod queue;
mod table;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt, stream};
use serde::Serialize;

use crate::config::feed::Feed;
use crate::config::{Config, ConfigErrors, Loaded};
use crate::domain::ports::{ObjectStore, S3Error};
use crate::domain::queue::{NotificationQueue, QueueError};
use crate::store::pool::Pools;

/// Feeds looked at side by side: enough to hide round trips, too few to trouble a store.
const FEEDS_AT_ONCE: usize = 8;

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// In order.
    Ok,
    /// It will work, but look at it.
    Warn,
    /// It will not work.
    Fail,
}

/// What is to be mended, and by which exit code the caller learns of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Area {
    /// The configuration.
    Config,
    /// PostgreSQL, its tables and rights.
    Database,
    /// The ledger's schema.
    Ledger,
    /// Buckets, queues and permissions on them.
    S3,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What is to be mended.
    pub area: Area,
    /// How it went.
    pub level: Level,
    /// Key path of the configuration, or what it is about.
    pub what: String,
    /// What was found.
    pub detail: String,
    /// What to do, unless all is well.
    pub advice: Option<String>,
}

impl Finding {
    fn ok(area: Area, what: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { area, level: Level::Ok, what: what.into(), detail: detail.into(), advice: None }
    }

    fn warn(area: Area, what: impl Into<String>, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), level: Level::Warn, ..Self::ok(area, what, detail) }
    }

    fn fail(area: Area, what: impl Into<String>, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), level: Level::Fail, ..Self::ok(area, what, detail) }
    }
}

/// Findings about one thing: the configuration, the database, one feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Group {
    /// What they are about.
    pub title: String,
    /// The findings.
    pub findings: Vec<Finding>,
}

/// Everything that was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// In the order in which they are to be read.
    pub groups: Vec<Group>,
}

impl Report {
    /// The areas in which something failed, each once.
    pub fn failed_areas(&self) -> Vec<Area> {
        let mut areas = Vec::new();
        for finding in self.findings().filter(|finding| finding.level == Level::Fail) {
            if !areas.contains(&finding.area) {
                areas.push(finding.area);
            }
        }
        areas
    }

    /// How many findings there are of a level.
    pub fn count(&self, level: Level) -> usize {
        self.findings().filter(|finding| finding.level == level).count()
    }

    fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.groups.iter().flat_map(|group| &group.findings)
    }

    fn add(&mut self, title: impl Into<String>, findings: Vec<Finding>) {
        self.groups.push(Group { title: title.into(), findings });
    }
}

/// The report on a configuration that cannot be used.
pub fn invalid(errors: &ConfigErrors) -> Report {
    let findings = errors.problems.iter().map(|problem| {
        Finding::fail(Area::Config, problem.key.as_str(), problem.message.as_str(), problem.advice.as_str())
    });
    let mut report = Report::default();
    report.add("configuration", findings.collect());
    report
}

/// What can be said without asking any service.
pub fn offline(loaded: &Loaded) -> Report {
    let mut report = Report::default();
    let files: Vec<String> = loaded.files.iter().map(|file| file.display().to_string()).collect();
    let from = if files.is_empty() { "no file".to_owned() } else { files.join(", ") };
    let feeds = loaded.config.feeds.len();
    let mut findings = vec![Finding::ok(Area::Config, "configuration", format!("valid, {feeds} feeds, from {from}"))];
    for warning in &loaded.warnings {
        findings.push(Finding::warn(Area::Config, "configuration", warning.as_str(), "keyfall runs with it as it is"));
    }
    report.add("configuration", findings);
    report
}

/// The services beside the database, as far as they could be set up.
pub struct Services {
    /// The object store.
    pub store: Result<Arc<dyn ObjectStore>, S3Error>,
    /// Queues that a feed names, by name.
    pub queues: Result<BTreeMap<String, Arc<dyn NotificationQueue>>, QueueError>,
}

/// Asks every service that the configuration needs.
pub async fn online(loaded: &Loaded, pools: &Pools, services: Services) -> Report {
    let Services { store, queues } = services;
    let mut report = offline(loaded);
    let config = &loaded.config;
    let store = match store {
        Ok(store) => Some(store),
        Err(error) => {
            let refused = Finding::fail(Area::S3, "s3", error.to_string(), error.advice());
            report.add("object store", vec![refused]);
            None
        }
    };
    // Buckets do not wait for a database that is down, nor the other way round.
    let (database, buckets, queues) = tokio::join!(
        database::look(config, pools),
        look_at_buckets(config, store.as_deref()),
        look_at_queues(config, queues)
    );
    let tables = if database.usable { look_at_tables(config, pools).await } else { Vec::new() };
    report.add("database", database.findings);
    let mut tables = tables.into_iter();
    for ((name, feed), bucket) in config.feeds.iter().zip(buckets) {
        let mut findings = tables.next().unwrap_or_else(|| vec![table::not_looked_at(feed)]);
        findings.extend(bucket);
        report.add(format!("feed {name}"), findings);
    }
    for (name, findings) in queues {
        report.add(name, findings);
    }
    report
}

async fn look_at_queues(
    config: &Config,
    queues: Result<BTreeMap<String, Arc<dyn NotificationQueue>>, QueueError>,
) -> Vec<(String, Vec<Finding>)> {
    let queues = match queues {
        Ok(queues) => queues,
        Err(error) => {
            let refused = Finding::fail(Area::S3, "queues", error.to_string(), error.advice());
            return vec![("queues".to_owned(), vec![refused])];
        }
    };
    let looks = queues.iter().filter_map(|(name, queue)| {
        let settings = config.queues.get(name)?;
        Some(async move { (format!("queue {name}"), queue::look(settings, queue.as_ref()).await) })
    });
    futures::future::join_all(looks).await
}

async fn look_at_buckets(config: &Config, store: Option<&dyn ObjectStore>) -> Vec<Vec<Finding>> {
    let Some(store) = store else { return vec![Vec::new(); config.feeds.len()] };
    let looks: Vec<_> = config.feeds.values().map(|feed| bucket::look(feed, store)).collect();
    stream::iter(looks).buffered(FEEDS_AT_ONCE).collect().await
}

async fn look_at_tables(config: &Config, pools: &Pools) -> Vec<Vec<Finding>> {
    let mut found = Vec::with_capacity(config.feeds.len());
    for feed in config.feeds.values() {
        found.push(table::look(feed, pools).await);
    }
    found
}

/// Key path of one of a feed's settings.
fn path(feed: &Feed, key: &str) -> String {
    format!("feeds.{}.{key}", feed.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_area_that_failed_is_named_once_and_warnings_are_not() {
        let mut report = Report::default();
        report.add("database", vec![Finding::warn(Area::Database, "fsync", "is off", "turn it on")]);
        assert!(report.failed_areas().is_empty());
        let gone = || Finding::fail(Area::S3, "feeds.a.bucket", "no such bucket", "make it");
        report.add("feed a", vec![gone(), gone(), Finding::ok(Area::Database, "feeds.a.table", "2 columns")]);
        assert_eq!(report.failed_areas(), [Area::S3]);
        report.add("ledger", vec![Finding::fail(Area::Ledger, "ledger", "too new", "update")]);
        assert_eq!(report.failed_areas(), [Area::S3, Area::Ledger]);
        assert_eq!((report.count(Level::Fail), report.count(Level::Warn), report.count(Level::Ok)), (3, 1, 1));
    }
}
