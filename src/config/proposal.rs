//! What a proposal for a new feed needs of the configuration: where the store is, before there is any feed, and whether
//! the proposal would be taken.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::layers::{self, Merged};
use super::report::Report;
use super::shape::Shape;
use super::{ConfigErrors, Sources, feed, raw, s3, telemetry, workers};
use crate::domain::feed::FeedName;

/// What can be had of a configuration without feeds and without a database.
#[derive(Debug, Clone)]
pub struct Outset {
    /// How the object store is reached.
    pub s3: s3::S3,
    /// Logs.
    pub telemetry: telemetry::Telemetry,
    /// Names of the feeds there are.
    pub feeds: Vec<String>,
}

/// Reads these parts, and does not mind what is wrong elsewhere.
pub fn outset(sources: &Sources) -> Result<Outset, ConfigErrors> {
    let mut report = Report::default();
    let shape = Shape::of_config();
    let Some(Merged { table, .. }) = layers::gather(sources, &layers::SEARCHED, &shape, &mut report) else {
        return Err(report.into_errors());
    };
    let raw = raw::read(table, &shape, &mut report);
    let s3 = s3::validate(&raw.s3, &sources.environment, &mut report);
    let telemetry = telemetry::validate(&raw.telemetry, &mut report);
    let feeds = raw.feeds.keys().cloned().collect();
    let mut errors = report.into_errors();
    errors.problems.retain(|problem| ["s3", "telemetry"].contains(&problem.key.split('.').next().unwrap_or_default()));
    if errors.problems.is_empty() { Ok(Outset { s3, telemetry, feeds }) } else { Err(errors) }
}

/// The feeds of a text, read as a file of its own would be.
pub fn feeds_of(text: &str) -> Result<BTreeMap<FeedName, Arc<feed::Feed>>, ConfigErrors> {
    feeds_beside(&Sources::default(), &[], text)
}

/// What would be wrong with the feeds if this text were one more file.
pub fn try_beside(sources: &Sources, text: &str) -> Result<(), ConfigErrors> {
    feeds_beside(sources, &layers::SEARCHED, text).map(drop)
}

fn feeds_beside(
    sources: &Sources,
    searched: &[&str],
    text: &str,
) -> Result<BTreeMap<FeedName, Arc<feed::Feed>>, ConfigErrors> {
    let mut report = Report::default();
    let shape = Shape::of_config();
    let Some(Merged { table, .. }) = layers::gather_beside(sources, searched, text, (&shape, &mut report)) else {
        return Err(report.into_errors());
    };
    let raw = raw::read(table, &shape, &mut report);
    let workers = workers::validate(&raw.workers, &mut report);
    let feeds = super::feeds(&raw, &workers, &mut report);
    let mut errors = report.into_errors();
    errors.problems.retain(|problem| problem.key.split('.').next() == Some("feeds"));
    if errors.problems.is_empty() { Ok(feeds) } else { Err(errors) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_is_known_without_feeds_and_without_a_database() {
        let mut sources = Sources::default();
        sources.environment.insert("KEYFALL__S3__REGION".to_owned(), "eu-central-1".to_owned());
        sources.environment.insert("KEYFALL__WORKERS__MAX".to_owned(), "none".to_owned());
        assert_eq!(outset(&sources).unwrap().s3.region.as_deref(), Some("eu-central-1"));
        sources.environment.insert("KEYFALL__S3__ENDPOINT_URL".to_owned(), "nowhere".to_owned());
        assert_eq!(outset(&sources).unwrap_err().problems[0].key, "s3.endpoint_url");
    }

    #[test]
    fn a_text_is_read_by_itself_and_beside_what_there_is() {
        let text = "[feeds.a]\nbucket = \"b\"\ntable = \"t\"\nprefix = \"x/\"\n";
        assert_eq!(feeds_of(text).unwrap().len(), 1);
        assert!(feeds_of("[feeds.a]\nbucket = 7\n").is_err());
        let mut sources = Sources::default();
        for (key, value) in [("BUCKET", "b"), ("TABLE", "t"), ("PREFIX", "x/y/")] {
            sources.environment.insert(format!("KEYFALL__FEEDS__B__{key}"), value.to_owned());
        }
        assert!(try_beside(&sources, text).is_err(), "their prefixes overlap");
        assert!(try_beside(&Sources::default(), text).is_ok());
    }
}
