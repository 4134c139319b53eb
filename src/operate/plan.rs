//! What would be loaded, from where and why. Nothing is changed, neither in the bucket nor in the ledger.
//!
//! It is the same pass over bucket and ledger as `reconcile`, believed as it comes: a plan is out of date the moment
//! it is made. Without a ledger everything in the bucket is new.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Serialize;

use crate::config::feed::{Disposal, Feed, OnChange};
use crate::domain::object::Listed;
use crate::domain::ports::ObjectStore;
use crate::domain::state::{SkipReason, State};
use crate::pipeline::discover;
use crate::store::ledger::{Entry, Ledger};

use super::compare::{self, CompareError, Pair, Sides, Taker};
use super::sweep::Progress;
use super::window::Window;

/// The plan of one feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Feed.
    pub feed: String,
    /// Where its objects lie.
    pub source: String,
    /// The table they go into.
    pub table: String,
    /// What would become of a loaded object: `keep`, `delete`, or `archive to s3://…`.
    pub disposal: String,
    /// Why it would not load at the moment.
    pub paused: Option<String>,
    /// Objects to load now.
    pub load: Amount,
    /// Versions in the bucket that are loaded already.
    pub loaded: Amount,
    /// Known, and not to be loaded just now: being loaded, waiting out a delay, or too young.
    pub waiting: Amount,
    /// In quarantine, or to be set aside there.
    pub quarantined: Amount,
    /// Objects that are not loaded, by reason.
    pub skipped: BTreeMap<String, u64>,
    /// The first objects to load, in the order in which they would be.
    pub first: Vec<Planned>,
}

/// So many objects of so many bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// Objects.
    pub objects: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Amount {
    fn add(&mut self, listed: &Listed) {
        self.objects += 1;
        self.bytes += listed.size;
    }
}

/// One object to load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Planned {
    /// Key.
    pub key: String,
    /// Time the key carries.
    pub key_time: Option<Timestamp>,
    /// Size in bytes.
    pub size: u64,
    /// Why it would be loaded.
    pub reason: Reason,
}

/// Why an object would be loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Reason {
    /// Its key is not known, or was never loaded in another version.
    New,
    /// Another version of its key was loaded.
    Changed {
        /// Whether the rows of the older version are deleted.
        replaces: bool,
    },
    /// Known and not loaded yet.
    Pending {
        /// When it was written down.
        since: Timestamp,
        /// The attempt that comes next.
        attempt: u32,
        /// Code of the last failure.
        after: Option<String>,
    },
    /// It was marked missing or superseded, and is there again.
    Back,
}

/// What makes a plan.
pub struct Draft<'a> {
    /// Where objects lie.
    pub store: Arc<dyn ObjectStore>,
    /// The ledger, where there is one.
    pub ledger: Option<&'a Ledger>,
    /// Key times that are meant.
    pub window: Window,
    /// How many of the first objects are named.
    pub examples: usize,
}

/// Plans one feed.
pub async fn plan(feed: &Feed, draft: &Draft<'_>, progress: &Progress) -> Result<Plan, CompareError> {
    let mut planner = Planner {
        feed,
        now: Timestamp::now(),
        examples: draft.examples,
        load: Amount::default(),
        loaded: Amount::default(),
        waiting: Amount::default(),
        quarantined: Amount::default(),
        skipped: BTreeMap::new(),
        first: BinaryHeap::new(),
    };
    let store = Arc::clone(&draft.store);
    let sides = Sides { feed, store, ledger: draft.ledger, archive: None, window: draft.window };
    compare::compare(&sides, progress, &mut planner).await?;
    let paused = match draft.ledger {
        Some(ledger) => ledger.pauses().await?.into_iter().find(|pause| pause.feed == feed.name.as_str()),
        None => None,
    };
    Ok(Plan {
        feed: feed.name.to_string(),
        source: format!("s3://{}/{}", feed.bucket, feed.prefix),
        table: feed.tables().iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        disposal: match &feed.disposal {
            Disposal::Keep => "keep".to_owned(),
            Disposal::Delete => "delete".to_owned(),
            Disposal::Archive { bucket, prefix } => format!("archive to s3://{bucket}/{prefix}"),
        },
        paused: paused.map(|pause| pause.reason),
        load: planner.load,
        loaded: planner.loaded,
        waiting: planner.waiting,
        quarantined: planner.quarantined,
        skipped: planner.skipped,
        first: planner.first.into_sorted_vec().into_iter().map(|InTurn(planned)| planned).collect(),
    })
}

struct Planner<'a> {
    feed: &'a Feed,
    now: Timestamp,
    examples: usize,
    load: Amount,
    loaded: Amount,
    waiting: Amount,
    quarantined: Amount,
    skipped: BTreeMap<String, u64>,
    /// The first ones, the last of them on top.
    first: BinaryHeap<InTurn>,
}

#[async_trait]
impl Taker for Planner<'_> {
    async fn take(&mut self, pair: Pair) -> Result<(), CompareError> {
        // What is not in the bucket cannot be loaded.
        if let Some(listed) = pair.listed {
            self.place(listed, &pair.known);
        }
        Ok(())
    }

    async fn end(&mut self) -> Result<(), CompareError> {
        Ok(())
    }
}

impl Planner<'_> {
    fn place(&mut self, listed: Listed, known: &[Entry]) {
        let found = discover::judge(self.feed, listed);
        let version = found.listed.version();
        match known.iter().find(|entry| entry.version == version) {
            None => match found.skip {
                Some(reason) => self.skip(reason.as_str()),
                None => self.place_new(&found.listed, found.key_time, known),
            },
            Some(entry) => self.place_known(&found.listed, found.key_time, found.skip, entry),
        }
    }

    /// A version the ledger does not know: what became of others decides, as it would at its discovery.
    fn place_new(&mut self, listed: &Listed, key_time: Option<Timestamp>, known: &[Entry]) {
        let is_changed = known.iter().any(|entry| entry.state == State::Loaded);
        let age = self.now.duration_since(listed.last_modified);
        match self.feed.on_change {
            OnChange::Ignore if is_changed => self.skip(SkipReason::Changed.as_str()),
            OnChange::Quarantine if is_changed => self.quarantined.add(listed),
            _ if age.unsigned_abs() < self.feed.min_age || age.is_negative() && !self.feed.min_age.is_zero() => {
                self.waiting.add(listed);
            }
            on_change if is_changed => {
                self.turn(listed, key_time, Reason::Changed { replaces: on_change == OnChange::Replace });
            }
            _ => self.turn(listed, key_time, Reason::New),
        }
    }

    fn place_known(&mut self, listed: &Listed, key_time: Option<Timestamp>, skip: Option<SkipReason>, entry: &Entry) {
        match entry.state {
            State::Pending if entry.not_before.is_some() => self.waiting.add(listed),
            State::Pending => {
                let since = entry.discovered_at;
                let (attempt, after) = (entry.attempt + 1, entry.error_code.clone());
                self.turn(listed, key_time, Reason::Pending { since, attempt, after });
            }
            State::Leased => self.waiting.add(listed),
            State::Loaded => self.loaded.add(listed),
            State::Quarantined => self.quarantined.add(listed),
            State::Skipped => self.skip(entry.reason.as_deref().unwrap_or("unknown")),
            State::Missing | State::Superseded => match skip {
                Some(reason) => self.skip(reason.as_str()),
                None => self.turn(listed, key_time, Reason::Back),
            },
            State::Undone => self.skip(State::Undone.as_str()),
        }
    }

    fn skip(&mut self, reason: &str) {
        *self.skipped.entry(reason.to_owned()).or_default() += 1;
    }

    fn turn(&mut self, listed: &Listed, key_time: Option<Timestamp>, reason: Reason) {
        self.load.add(listed);
        self.first.push(InTurn(Planned { key: listed.key.clone(), key_time, size: listed.size, reason }));
        if self.first.len() > self.examples {
            self.first.pop();
        }
    }
}

/// In the order of loading: oldest key time first, those without a time last, then by key; as leases are taken.
#[derive(Debug, PartialEq, Eq)]
struct InTurn(Planned);

impl Ord for InTurn {
    fn cmp(&self, other: &Self) -> Ordering {
        let time = |planned: &Planned| (planned.key_time.is_none(), planned.key_time);
        time(&self.0).cmp(&time(&other.0)).then_with(|| self.0.key.cmp(&other.0.key))
    }
}

impl PartialOrd for InTurn {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
