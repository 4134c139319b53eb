//! `check --object`: one object loaded for real and rolled back, and what that showed.
//!
//! The same pipeline as a load, up to the last statement before the fence. Nothing is left behind but numbers that
//! sequences have given. The budget for rejected records is lifted, so that all of them are counted; what it would have done is
//! said beside them.

mod timed;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use uuid::Uuid;

use crate::config::Config;
use crate::config::feed::{Feed, Rejects, Unknown};
use crate::domain::lease::Lease;
use crate::domain::object::{Listed, ObjectRef, split_uri};
use crate::domain::ports::{ListRequest, ObjectStore, S3Error};
use crate::domain::record::Rejection;
use crate::domain::state::SkipReason;
use crate::domain::verdict::{Failure, Verdict};
use crate::pipeline::decode::DecodeError;
use crate::pipeline::discover::judge;
use crate::pipeline::load::{self, Context, LoadError, Purpose, Ready, TableRows, Way};
use crate::pipeline::progress::Progress;
use crate::store::catalog::Catalog;
use crate::store::error::StoreError;
use crate::store::ledger::{Ledger, RepairFilter};
use crate::store::pool::Pools;

use timed::{Timed, Waits};

/// Ids of trials: no sequence ever gets so far, and none has to be asked.
const IDS: std::ops::Range<i64> = 1 << 62..i64::MAX;

/// Why an object cannot be tried.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// Not an address.
    #[error("{0:?} is no s3://BUCKET/KEY")]
    Address(String),
    /// It is not there.
    #[error("there is no object {0}")]
    NotThere(String),
    /// No feed wants it.
    #[error("no feed of the configuration takes {uri}{}", because(.almost))]
    NoFeed {
        /// The object.
        uri: String,
        /// Feeds that watch its place, with the reason they leave it out.
        almost: Vec<(String, SkipReason)>,
    },
    /// Several feeds want it.
    #[error("several feeds take {uri}: {}", .feeds.join(", "))]
    Several {
        /// The object.
        uri: String,
        /// Their names.
        feeds: Vec<String>,
    },
    /// The store failed.
    #[error(transparent)]
    S3(#[from] S3Error),
    /// The ledger failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl TrialError {
    /// What to do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Address(_) => "write bucket and key: s3://drop/departments/2024-01-01.csv",
            Self::NotThere(_) => "look at the key: `keyfall plan` names what a feed would load",
            Self::NoFeed { .. } | Self::Several { .. } => "name one with --feed",
            Self::S3(error) => error.advice(),
            Self::Store(error) => error.advice(),
        }
    }
}

fn because(almost: &[(String, SkipReason)]) -> String {
    let told: Vec<String> = almost.iter().map(|(feed, reason)| format!("{feed}: {}", reason.as_str())).collect();
    if told.is_empty() { String::new() } else { format!(" ({})", told.join(", ")) }
}

/// What would become of the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It would be loaded.
    Loads,
    /// It would be set aside.
    Quarantined,
    /// The load failed for a reason that is not the object's.
    Fails,
}

/// What a trial showed.
#[derive(Debug, Clone, Serialize)]
pub struct Tried {
    /// `s3://bucket/key`.
    pub uri: String,
    /// Feed.
    pub feed: String,
    /// What would become of it.
    pub outcome: Outcome,
    /// Why the feed would not even look at it by itself.
    pub left_out: Option<&'static str>,
    /// State of this version in the ledger, and its id, where it is known.
    pub known: Option<(i64, String)>,
    /// Bytes as stored.
    pub bytes: u64,
    /// Bytes after decompression; zero where it failed.
    pub decoded_bytes: u64,
    /// Records.
    pub rows: Rows,
    /// Rows of each table.
    pub tables: Vec<Table>,
    /// Columns that a load would add; their values are left out of the trial.
    pub new_columns: Vec<String>,
    /// The first rejected records.
    pub rejections: Vec<Rejected>,
    /// What the feed tolerates.
    pub budget: Budget,
    /// What ended it, where it failed.
    pub failure: Option<Ended>,
    /// Where the time went.
    pub seconds: Seconds,
    /// Records read per second of the load.
    pub rows_per_second: f64,
}

/// Records of the object: read is the sum of the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Rows {
    /// Read.
    pub read: u64,
    /// Loaded.
    pub loaded: u64,
    /// Rejected.
    pub rejected: u64,
    /// Left out deliberately.
    pub filtered: u64,
}

/// Rows of one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Table {
    /// Table.
    pub table: String,
    /// Rows; null where they cannot be told from those of other tables.
    pub rows: Option<u64>,
}

/// One rejected record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rejected {
    /// Number, from 1.
    pub record: u64,
    /// Line, from 1; 0 where the format has none.
    pub line: u64,
    /// Byte.
    pub byte: u64,
    /// Column.
    pub column: Option<String>,
    /// Code.
    pub code: String,
    /// Reason.
    pub reason: String,
}

/// What a feed tolerates, and whether that was enough.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Budget {
    /// `rejects.max_rows`.
    pub max_rows: u64,
    /// `rejects.max_ratio`.
    pub max_ratio: Option<f64>,
    /// Whether there were more.
    pub is_exceeded: bool,
}

/// What ended a trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ended {
    /// Code.
    pub code: String,
    /// Where and what.
    pub detail: String,
    /// What to do.
    pub advice: String,
    /// What would follow: `quarantined`, `retry`, `halt` and so on.
    pub verdict: &'static str,
}

/// Time by what it was spent on. Reading, decoding and COPY run at one pace: `load` is all of them together, and of it `body`
/// is what was spent waiting for the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Seconds {
    /// Looking the key up.
    pub find: f64,
    /// Until the store answered.
    pub open: f64,
    /// Waiting for bytes.
    pub body: f64,
    /// From the first request to the last row.
    pub load: f64,
    /// Taking it all back.
    pub rollback: f64,
}

/// What a trial works with.
pub struct Bench<'a> {
    /// Configuration.
    pub config: &'a Config,
    /// Connections.
    pub pools: &'a Pools,
    /// Object store.
    pub store: Arc<dyn ObjectStore>,
}

impl Bench<'_> {
    /// Tries one object; names at most `limit` rejected records.
    pub async fn run(&self, uri: &str, feed: Option<&Arc<Feed>>, limit: u32) -> Result<Tried, TrialError> {
        let (bucket, key) = split_uri(uri).ok_or_else(|| TrialError::Address(uri.to_owned()))?;
        let begun = Instant::now();
        let request = ListRequest { prefix: key.clone(), ..ListRequest::default() };
        let page = self.store.list(&bucket, &request).await?;
        let listed = page.objects.into_iter().find(|object| object.key == key);
        let listed = listed.ok_or_else(|| TrialError::NotThere(uri.to_owned()))?;
        let find = begun.elapsed();
        let feed = match feed {
            Some(feed) => feed,
            None => self.only_feed(uri, &bucket, &listed)?,
        };
        let known = self.known(feed, uri, &listed).await?;
        let waits = Arc::new(Waits::default());
        let mut context = self.context(feed, Arc::clone(&waits));
        let lease = lease(feed, &bucket, &listed);
        let mut tried = blank(uri, feed, &listed);
        tried.known = known;
        let mut begun = Instant::now();
        let mut loaded = Box::pin(stream(&context, &lease)).await;
        if let Err(LoadError::Decode(DecodeError::NewFields(columns))) = &loaded {
            // A load would add them to the table, which no rollback of ours would take back: they are left out instead.
            tried.new_columns = columns.iter().map(|column| column.name.clone()).collect();
            context.feed = Arc::new(ignoring(&context.feed));
            begun = Instant::now();
            loaded = Box::pin(stream(&context, &lease)).await;
        }
        let load = begun.elapsed();
        let begun = Instant::now();
        match loaded {
            Ok(ready) => self.describe(&context, ready, limit, &mut tried).await,
            Err(error) => tried.end(&error.failure()),
        }
        tried.judge();
        tried.rows_per_second = tried.rows.read as f64 / load.as_secs_f64().max(f64::EPSILON);
        let of = |time: Duration| time.as_secs_f64();
        tried.seconds = Seconds {
            find: of(find),
            open: of(waits.open()),
            body: of(waits.body()),
            load: of(load),
            rollback: of(begun.elapsed()),
        };
        Ok(tried)
    }

    fn only_feed(&self, uri: &str, bucket: &str, listed: &Listed) -> Result<&Arc<Feed>, TrialError> {
        let watches = |feed: &&Arc<Feed>| feed.bucket == bucket && listed.key.starts_with(&feed.prefix);
        let (mut takes, mut almost) = (Vec::new(), Vec::new());
        for feed in self.config.feeds.values().filter(watches) {
            match judge(feed, listed.clone()).skip {
                None => takes.push(feed),
                Some(reason) => almost.push((feed.name.to_string(), reason)),
            }
        }
        match takes.as_slice() {
            [feed] => Ok(feed),
            [] => Err(TrialError::NoFeed { uri: uri.to_owned(), almost }),
            several => {
                let feeds = several.iter().map(|feed| feed.name.to_string()).collect();
                Err(TrialError::Several { uri: uri.to_owned(), feeds })
            }
        }
    }

    async fn known(&self, feed: &Feed, uri: &str, listed: &Listed) -> Result<Option<(i64, String)>, StoreError> {
        let (name, key) = (Some(feed.name.to_string()), Some(uri.to_owned()));
        let filter = RepairFilter { feed: name, key, ..RepairFilter::default() };
        let entries = Ledger::new(self.pools.clone()).repairable(&filter).await?;
        let same = entries.into_iter().find(|entry| entry.etag == listed.etag && entry.size == listed.size);
        Ok(same.map(|entry| (entry.id, entry.state)))
    }

    fn context(&self, feed: &Feed, waits: Arc<Waits>) -> Context {
        let mut feed = feed.clone();
        feed.rejects = Rejects { max_rows: u64::MAX, max_ratio: None };
        Context {
            store: Arc::new(Timed { inner: Arc::clone(&self.store), waits }),
            pools: self.pools.clone(),
            catalog: Arc::new(Catalog::default()),
            feed: Arc::new(feed),
            patience: self.config.s3.read_timeout,
            layouts: Arc::default(),
            purpose: Purpose::Trial,
        }
    }

    /// Asks the open transaction, then drops it: the connection closes and the server rolls back.
    async fn describe(&self, context: &Context, ready: Ready, limit: u32, tried: &mut Tried) {
        if let Some(counts) = ready.counts().first() {
            tried.rows = Rows {
                read: counts.read.unsigned_abs(),
                loaded: counts.loaded.unsigned_abs(),
                rejected: counts.rejected.unsigned_abs(),
                filtered: counts.filtered.unsigned_abs(),
            };
        }
        tried.decoded_bytes = ready.decoded_bytes;
        let details: Result<(Vec<Rejection>, Vec<TableRows>), LoadError> = ready.details(context, limit).await;
        match details {
            Ok((rejections, tables)) => {
                tried.rejections = rejections.into_iter().map(Rejected::from).collect();
                let table = |TableRows { table, rows }| Table { table, rows };
                tried.tables = tables.into_iter().map(table).collect();
            }
            Err(error) => tried.end(&error.failure()),
        }
    }
}

/// As a worker does it: as fast as COPY goes, and row by row where the server refused one.
async fn stream(context: &Context, lease: &Lease) -> Result<Ready, LoadError> {
    match load::stream(context, lease, Way::Straight, &Progress::default()).await {
        Err(error) if load::may_isolate(context, &error) => {
            load::stream(context, lease, Way::ByRows, &Progress::default()).await
        }
        other => other,
    }
}

/// Nobody else's: an id and a token that exist in the trial's transaction alone.
fn lease(feed: &Feed, bucket: &str, listed: &Listed) -> Lease {
    let object = ObjectRef {
        id: fastrand::i64(IDS),
        bucket: bucket.to_owned(),
        key: listed.key.clone(),
        etag: listed.etag.clone(),
        version_id: None,
        size: listed.size,
        key_time: judge(feed, listed.clone()).key_time,
        visible_at: listed.last_modified,
        archived: None,
    };
    // No row waits for its parent: whether it is there is what the trial shows.
    Lease { object, token: Uuid::new_v4(), attempt: 1, suspicions: 0, age: Duration::MAX }
}

/// The feed without its wish for columns.
fn ignoring(feed: &Feed) -> Feed {
    let mut feed = feed.clone();
    for route in &mut feed.routes {
        route.mapping.unknown = Unknown::Ignore;
    }
    feed
}

fn blank(uri: &str, feed: &Feed, listed: &Listed) -> Tried {
    let Rejects { max_rows, max_ratio } = feed.rejects;
    Tried {
        uri: uri.to_owned(),
        feed: feed.name.to_string(),
        outcome: Outcome::Loads,
        left_out: judge(feed, listed.clone()).skip.map(SkipReason::as_str),
        known: None,
        bytes: listed.size,
        decoded_bytes: 0,
        rows: Rows::default(),
        tables: Vec::new(),
        new_columns: Vec::new(),
        rejections: Vec::new(),
        budget: Budget { max_rows, max_ratio, is_exceeded: false },
        failure: None,
        seconds: Seconds::default(),
        rows_per_second: 0.0,
    }
}

impl Tried {
    fn end(&mut self, failure: &Failure) {
        let Failure { verdict, code, detail, advice, .. } = failure;
        self.outcome = match verdict {
            // After its attempts.
            Verdict::Quarantine | Verdict::Suspect => Outcome::Quarantined,
            Verdict::Retry
            | Verdict::Missing
            | Verdict::Superseded
            | Verdict::Skip(_)
            | Verdict::Halt
            | Verdict::Release => Outcome::Fails,
        };
        self.failure = Some(Ended {
            code: code.to_string(),
            detail: detail.clone(),
            advice: (*advice).to_owned(),
            verdict: verdict.as_str(),
        });
    }

    /// The budget was lifted for the trial; this is what it would have said.
    fn judge(&mut self) {
        let Rows { read, rejected, .. } = self.rows;
        let Budget { max_rows, max_ratio, .. } = self.budget;
        let is_over_ratio = max_ratio.is_some_and(|most| rejected as f64 > most * read as f64);
        self.budget.is_exceeded = rejected > 0 && (rejected > max_rows || is_over_ratio);
        if self.budget.is_exceeded && self.outcome == Outcome::Loads {
            self.outcome = Outcome::Quarantined;
        }
    }
}

impl From<Rejection> for Rejected {
    fn from(rejection: Rejection) -> Self {
        let Rejection { position, column, code, reason, .. } = rejection;
        Self { record: position.record, line: position.line, byte: position.byte, column, code, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzzing::fixture;

    fn tried(rows: (u64, u64), rejects: Rejects) -> Tried {
        let feed = Feed { rejects, ..fixture::feed() };
        let listed = Listed {
            key: "x".to_owned(),
            etag: "e".to_owned(),
            size: 1,
            last_modified: jiff::Timestamp::UNIX_EPOCH,
            storage_class: None,
        };
        let mut tried = blank("s3://drop/x", &feed, &listed);
        let (read, rejected) = rows;
        tried.rows = Rows { read, loaded: read - rejected, rejected, filtered: 0 };
        tried.judge();
        tried
    }

    #[test]
    fn the_feeds_budget_says_what_would_have_become_of_the_object() {
        let rejects = |max_rows, max_ratio| Rejects { max_rows, max_ratio };
        for (rows, rejects, outcome) in [
            ((10, 0), rejects(0, None), Outcome::Loads),
            ((10, 1), rejects(0, None), Outcome::Quarantined),
            ((10, 1), rejects(1, None), Outcome::Loads),
            ((10, 2), rejects(5, Some(0.2)), Outcome::Loads),
            ((10, 3), rejects(5, Some(0.2)), Outcome::Quarantined),
            ((0, 0), rejects(5, Some(0.0)), Outcome::Loads),
        ] {
            assert_eq!(tried(rows, rejects).outcome, outcome, "{rows:?} {rejects:?}");
        }
    }
}
