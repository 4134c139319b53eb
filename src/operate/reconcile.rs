//! Whether a feed is complete: every object under its prefix that it wants is loaded and disposed of as configured.
//!
//! One pass over bucket, archive and ledger (`compare`); what is not settled is looked at again (`again`) before it
//! counts, so a daemon that works meanwhile causes no false alarm. Nothing is changed unless [`Mode::Fix`] says so,
//! and then only what a sweep and a disposer would do by themselves.

mod again;
mod finding;
mod judge;
mod tally;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Serialize;

use crate::config::feed::{Disposal, Feed};
use crate::domain::ports::ObjectStore;
use crate::domain::state::Channel;
use crate::pipeline::discover;
use crate::store::ledger::Ledger;

use super::compare::{self, Archive, CompareError, Pair, Sides, Taker};
use super::sweep::Progress;
use super::window::Window;
use again::Again;
use judge::{Judged, Rules};
use tally::{Limits, Tally};

pub use finding::{Class, Finding};
pub use tally::{Count, Example};

/// Pairs that are looked at again together: one statement of the ledger, and what waits in memory.
const TOGETHER: usize = 500;

/// Whether to mend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Only look.
    Look,
    /// Record what is unknown or changed, and have undisposed objects disposed of.
    Fix,
}

/// What is to be done.
#[derive(Debug, Clone, Copy)]
pub struct Order {
    /// Key times that are meant.
    pub window: Window,
    /// Whether to mend.
    pub mode: Mode,
    /// Examples of each kind.
    pub examples: usize,
}

/// What was found of a feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reconciled {
    /// Feed.
    pub feed: String,
    /// Its bucket.
    pub bucket: String,
    /// Its prefix.
    pub prefix: String,
    /// Key times from here on.
    pub from: Option<Timestamp>,
    /// Key times before this.
    pub to: Option<Timestamp>,
    /// Whether everything that is wanted is loaded and disposed of.
    pub complete: bool,
    /// Objects in the bucket.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Versions that the ledger knows as loaded.
    pub loaded: u64,
    /// Objects that are not as they should be.
    pub differences: u64,
    /// Objects that the daemon is at.
    pub waiting: u64,
    /// Objects that the feed does not want, by reason.
    pub skipped: BTreeMap<String, u64>,
    /// What was found, by kind.
    pub findings: Vec<Count>,
    /// What was mended.
    pub fixed: Option<Fixed>,
    /// LIST calls.
    pub calls: u64,
}

/// What was mended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Fixed {
    /// Objects recorded or made pending again.
    pub recorded: u64,
    /// Disposals that are due again.
    pub rearmed: u64,
    /// Differences that only a person can mend.
    pub left: u64,
}

/// Compares one feed's bucket with the ledger.
pub async fn reconcile(
    feed: &Feed,
    store: Arc<dyn ObjectStore>,
    ledger: &Ledger,
    order: Order,
    progress: &Progress,
) -> Result<Reconciled, CompareError> {
    let archive = match &feed.disposal {
        Disposal::Archive { bucket, prefix } => Some(Archive { bucket: bucket.clone(), prefix: prefix.clone() }),
        Disposal::Keep | Disposal::Delete => None,
    };
    let now = Timestamp::now();
    let rules = Rules { feed, archive: archive.as_ref(), now, begun: ledger.now().await? };
    let mut reconciler = Reconciler {
        again: Again { rules, store: Arc::clone(&store), ledger },
        mode: order.mode,
        limits: Limits { examples: order.examples, now },
        tally: Tally::default(),
        objects: 0,
        bytes: 0,
        suspects: Vec::new(),
        fixed: Fixed::default(),
    };
    let sides = Sides { feed, store, ledger: Some(ledger), archive: archive.clone(), window: order.window };
    let calls = compare::compare(&sides, progress, &mut reconciler).await?;
    let reconciled = reconciler.result(order, calls);
    if order.window.is_everything() {
        let differences = reconciled.fixed.map_or(reconciled.differences, |fixed| fixed.left);
        ledger.note_reconciled(&feed.name, differences).await?;
    }
    if reconciled.fixed.is_some_and(|fixed| fixed.recorded > 0) {
        // Whoever is not woken looks by himself within a second.
        if let Err(error) = ledger.announce(&feed.name).await {
            tracing::debug!(feed = %feed.name, error = %error, "no instance was woken");
        }
    }
    Ok(reconciled)
}

struct Reconciler<'a> {
    again: Again<'a>,
    mode: Mode,
    limits: Limits,
    tally: Tally,
    objects: u64,
    bytes: u64,
    /// Pairs to be looked at again.
    suspects: Vec<Pair>,
    fixed: Fixed,
}

#[async_trait]
impl Taker for Reconciler<'_> {
    async fn take(&mut self, pair: Pair) -> Result<(), CompareError> {
        if let Some(listed) = &pair.listed {
            self.objects += 1;
            self.bytes += listed.size;
        }
        let judged = judge::judge(&self.again.rules, &pair, &[]);
        if judged.is_settled() {
            self.tally.add(self.again.rules.feed, &pair.key, judged, self.limits);
            return Ok(());
        }
        self.suspects.push(pair);
        if self.suspects.len() >= TOGETHER { self.look_again().await } else { Ok(()) }
    }

    async fn end(&mut self) -> Result<(), CompareError> {
        self.look_again().await
    }
}

impl Reconciler<'_> {
    async fn look_again(&mut self) -> Result<(), CompareError> {
        if self.suspects.is_empty() {
            return Ok(());
        }
        let suspects = std::mem::take(&mut self.suspects);
        let answers = self.again.look(suspects).await?;
        if self.mode == Mode::Fix {
            self.fix(&answers).await?;
        }
        for (pair, judged) in answers {
            self.tally.add(self.again.rules.feed, &pair.key, judged, self.limits);
        }
        Ok(())
    }

    /// Does what a sweep and a disposer would. Each statement decides by itself what is new and what changes, so it may
    /// be broken off anywhere, run twice, and run beside any number of instances.
    async fn fix(&mut self, answers: &[(Pair, Judged)]) -> Result<(), CompareError> {
        let (feed, ledger) = (self.again.rules.feed, self.again.ledger);
        let listed = answers.iter().filter(|(_, judged)| judged.records).filter_map(|(pair, _)| pair.listed.clone());
        let found: Vec<_> = listed.map(|listed| discover::judge(feed, listed)).collect();
        let recorded = ledger.record(feed, &found, Channel::Sweep).await?;
        self.fixed.recorded += recorded.changed();
        let still_there = answers.iter().flat_map(|(_, judged)| &judged.found);
        let still_there = still_there.filter(|found| found.finding == Finding::StillThere);
        let ids: Vec<i64> = still_there.filter_map(|found| found.id).collect();
        if !ids.is_empty() {
            self.fixed.rearmed += ledger.rearm_disposals(&ids).await?;
        }
        Ok(())
    }

    fn result(self, order: Order, calls: u64) -> Reconciled {
        let feed = self.again.rules.feed;
        let (differences, waiting) = (self.tally.of(Class::Difference), self.tally.of(Class::Waiting));
        let (loaded, skipped) = (self.tally.loaded, self.tally.skipped.clone());
        let findings = self.tally.into_counts();
        let unfixable = findings.iter().filter(|count| count.class == Class::Difference && !count.finding.is_fixable());
        let left = unfixable.map(|count| count.objects).sum();
        Reconciled {
            feed: feed.name.to_string(),
            bucket: feed.bucket.clone(),
            prefix: feed.prefix.clone(),
            from: order.window.from,
            to: order.window.to,
            complete: differences == 0 && waiting == 0,
            objects: self.objects,
            bytes: self.bytes,
            loaded,
            differences,
            waiting,
            skipped,
            findings,
            fixed: (order.mode == Mode::Fix).then_some(Fixed { left, ..self.fixed }),
            calls,
        }
    }
}
