//! Stage: decoded tuples become durable rows.
//!
//! [`stream`] is for objects of any size: fetch, decode and COPY run at the same pace, nothing is collected. [`group`]
//! is for small ones: each is decoded into memory first, then all of them share one transaction, so that a commit is
//! paid once. Both end before COMMIT; [`Ready::commit`] does that and says only that the outcome has to be looked up.

mod again;
mod changed;
mod copying;
mod duplicates;
mod group;
mod isolate;
mod merge;
mod refused;
mod replace;
mod trial;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::config::feed::{Disposal, DuplicateContent, Feed};
use crate::domain::drift::Difference;
use crate::domain::lease::Lease;
use crate::domain::object::ObjectRef;
use crate::domain::ports::ObjectStore;
use crate::domain::verdict::{Failure, Verdict};
use crate::failpoint::{self, Injected, Point};
use crate::store::catalog::{Catalog, Shape};
use crate::store::copy::{Duplicate, Layouts, Load, LoadedCounts, Terms};
use crate::store::error::StoreError;
use crate::store::pool::Pools;
use crate::store::widen::{NewColumn, add_columns};
use crate::telemetry::metrics;

use super::decode::{self, DecodeError, Decoded, Decoding, Piece, Target};
use super::fetch::{self, Body, FetchError};
use super::progress::Progress;

use copying::Sent;
use merge::Object;

pub use again::{AgainError, Keep, Outcome, again};
pub use changed::ChangedError;
pub use duplicates::DuplicateError;
pub use group::{Grouped, group};
pub use merge::{Way, is_alone};
pub use refused::{RefusedError, is_waiting, may_isolate, settled};
pub use replace::ReplaceError;
pub use trial::TableRows;

/// Frames between decode and COPY: enough that neither waits for the other's jitter, few enough to be no memory.
const FRAMES_AHEAD: usize = 2;

/// How often one attempt may add columns: a field after the other, in an object whose records differ.
const MOST_WIDENINGS: usize = 8;

/// Why an object was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Fetching failed.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// Decoding failed.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// PostgreSQL failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Other versions of its key stand against it.
    #[error(transparent)]
    Changed(#[from] ChangedError),
    /// Its bytes are loaded already.
    #[error(transparent)]
    Duplicate(#[from] DuplicateError),
    /// Its records cannot be loaded.
    #[error(transparent)]
    Refused(#[from] RefusedError),
    /// It is a whole table and must not take the place of the one there is.
    #[error(transparent)]
    Replace(#[from] ReplaceError),
    /// The server took another number of rows than we sent.
    #[error("COPY took {copied} rows of the {sent} sent")]
    Count {
        /// Rows the server reports.
        copied: u64,
        /// Rows decoded.
        sent: u64,
    },
    /// The load panicked: a bug of ours, confined to this object.
    #[error("loading the object panicked")]
    Panicked,
    /// Nothing moved for so long that not even our own deadlines explain it.
    #[error("the load did not move for {seconds} s")]
    Stalled {
        /// `workers.stall_timeout`.
        seconds: u64,
    },
}

impl LoadError {
    /// What follows for the object.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Fetch(error) => error.verdict(),
            Self::Decode(error) => error.verdict(),
            Self::Store(error) => error.verdict(),
            Self::Changed(error) => error.verdict(),
            Self::Duplicate(error) => error.verdict(),
            Self::Refused(error) => error.verdict(),
            Self::Replace(error) => error.verdict(),
            Self::Count { .. } | Self::Panicked | Self::Stalled { .. } => Verdict::Suspect,
        }
    }

    /// The failure as the ledger keeps it.
    pub fn failure(&self) -> Failure {
        let (code, advice): (Cow<'static, str>, &'static str) = match self {
            Self::Fetch(error) => (error.code().into(), error.advice()),
            Self::Decode(error) => (error.code().into(), error.advice()),
            Self::Store(error) => return error.failure(),
            Self::Changed(error) => (error.code().into(), error.advice()),
            Self::Duplicate(error) => (error.code().into(), error.advice()),
            Self::Refused(error) => (error.code(), error.advice()),
            Self::Replace(error) => (error.code().into(), error.advice()),
            Self::Count { .. } => ("E-COPY-COUNT".into(), "look for a trigger or rule on the table that drops rows"),
            Self::Panicked => ("E-PANIC".into(), "please report this with the object; `keyfall skip` sets it aside"),
            Self::Stalled { .. } => {
                ("E-STALL".into(), "nothing to do: the object is tried again; please report it if it stays")
            }
        };
        let relation = match self {
            Self::Duplicate(error) => Some(error.relation()),
            _ => None,
        };
        Failure { verdict: self.verdict(), code, detail: self.to_string(), advice, relation }
    }
}

impl From<Injected> for LoadError {
    fn from(injected: Injected) -> Self {
        Self::Store(injected.into())
    }
}

/// What a load works with.
#[derive(Clone)]
pub struct Context {
    /// Object store.
    pub store: Arc<dyn ObjectStore>,
    /// Connections.
    pub pools: Pools,
    /// Table shapes.
    pub catalog: Arc<Catalog>,
    /// Feed.
    pub feed: Arc<Feed>,
    /// Layouts of its objects that are in the ledger.
    pub layouts: Arc<Layouts>,
    /// How long S3 may stay silent.
    pub patience: Duration,
    /// What for.
    pub purpose: Purpose,
}

/// What a load is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Its rows are to stay.
    Load,
    /// It is rolled back; the ledger does not know the object by the lease's id.
    Trial,
}

/// Rows copied, everything checked, not yet committed.
pub struct Ready {
    load: Load,
    counts: Vec<LoadedCounts>,
    /// Bytes after decompression, for metrics.
    pub decoded_bytes: u64,
}

impl Ready {
    /// What will be committed.
    pub fn counts(&self) -> &[LoadedCounts] {
        &self.counts
    }

    /// Fence and COMMIT; answers which of the objects are duplicates. Not to be cancelled; after an error the outcome is
    /// unknown.
    pub async fn commit(self, feed: &Feed) -> Result<Vec<Duplicate>, StoreError> {
        let disposal = match feed.disposal {
            Disposal::Keep => "none",
            Disposal::Delete | Disposal::Archive { .. } => "pending",
        };
        let duplicates = feed.duplicate_content != DuplicateContent::Load;
        self.load.commit(&self.counts, Terms { disposal, fingerprint: &feed.fingerprint, duplicates }).await
    }
}

/// Streams one object into an open transaction.
///
/// May be dropped at any point: the connection closes and the server rolls back.
pub async fn stream(context: &Context, lease: &Lease, way: Way, progress: &Progress) -> Result<Ready, LoadError> {
    for _ in 0..MOST_WIDENINGS {
        match attempt(context, lease, way, progress).await {
            // A trial leaves nothing behind, and columns would stay.
            Err(LoadError::Decode(DecodeError::NewFields(columns))) if context.purpose == Purpose::Load => {
                widen(context, &columns).await?;
            }
            other => return other,
        }
    }
    // Every record seems to bring another field.
    attempt(context, lease, way, progress).await
}

/// Adds the columns to the feed's table; the configuration allows that of a feed with a single one only.
async fn widen(context: &Context, columns: &[NewColumn]) -> Result<(), StoreError> {
    for table in context.feed.tables() {
        add_columns(&context.pools, table, columns).await?;
        context.catalog.forget(table);
        let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        tracing::info!(feed = %context.feed.name, table = %table, columns = ?names, "columns added for new fields");
    }
    Ok(())
}

async fn attempt(context: &Context, lease: &Lease, way: Way, progress: &Progress) -> Result<Ready, LoadError> {
    let targets = fitting_targets(context, way).await?;
    let body = fetch::open(Arc::clone(&context.store), &lease.object, context.patience, progress.clone()).await?;
    failpoint::reach(Point::FetchOpened).await?;
    let copied = copy_stream(context, lease, &targets, &body, progress).await;
    match copied {
        Ok(ready) => Ok(ready),
        Err(error) if tables_changed(context, &targets, [&error]).await => Err(StoreError::ShapeChanged.into()),
        Err(error) => {
            let error = refused::judged(context, lease, error);
            // Who loads it again row by row reads all of it again, and then the transport has to prove itself.
            let is_tried_again = way == Way::Straight && may_isolate(context, &error);
            let error = if is_tried_again { error } else { cleared(error, &body).await };
            Err(duplicates::explain(context, lease, error, &body).await)
        }
    }
}

/// The tables' shapes, where the feed can be loaded into them, route by route. What was refused is looked at again the
/// next time: whoever mends a table must not wait for a restart.
async fn fitting_targets(context: &Context, way: Way) -> Result<Arc<[Target]>, StoreError> {
    let mut targets = Vec::with_capacity(context.feed.routes.len());
    for route in &context.feed.routes {
        let shape = context.catalog.shape(&context.pools, &route.table).await?;
        let fits = shape.refuse_provenance(&context.feed, &route.mapping).and_then(|()| shape.refuse_mode(&route.mode));
        fits.inspect_err(|_| context.catalog.forget(&route.table))?;
        targets.push(Target { shape, staging: way.staging(&route.mode) });
    }
    Ok(targets.into())
}

/// Each table's shape once: routes may share a table.
fn shapes(targets: &[Target]) -> Vec<&Shape> {
    let mut shapes: Vec<&Shape> = Vec::with_capacity(targets.len());
    for target in targets {
        if !shapes.iter().any(|shape| shape.oid == target.shape.oid) {
            shapes.push(&target.shape);
        }
    }
    shapes
}

async fn copy_stream(
    context: &Context,
    lease: &Lease,
    targets: &Arc<[Target]>,
    body: &Body,
    progress: &Progress,
) -> Result<Ready, LoadError> {
    let mut pump = spawn_pump(context, &lease.object, targets, body);
    let (mut load, sent, decoded) = if let Some(first) = pump.pieces.recv().await {
        let mut load = begin(context, targets, lease).await?;
        let (feed, pieces) = (&*context.feed, (first, &mut pump.pieces));
        let sent = copying::all(&mut load, (feed, targets), lease.object.id, pieces, progress).await?;
        (load, sent, joined(pump.task.await)?)
    } else {
        // Not one record, or an error before the first frame.
        let decoded = joined(pump.task.await)?;
        (begin(context, targets, lease).await?, vec![Sent::default(); targets.len()], decoded)
    };
    let decoded_bytes = decoded.bytes;
    let header = decoded.header.clone();
    let mut counts = counts(lease, decoded, body).await?;
    let object = Object { context, lease, targets, sent: &sent, progress };
    let loaded = merge::all(&object, &mut load, &mut counts).await?;
    replace::refuse_empty(&context.feed, targets, &loaded)?;
    refused::check_ratio(context.feed.rejects, &counts)?;
    counts.header = header.filter(|_| counts.rejected > 0);
    ready(context, load, vec![counts], decoded_bytes).await
}

/// An open transaction in which nothing that is to be replaced is in the way.
async fn begin(context: &Context, targets: &[Target], lease: &Lease) -> Result<Load, LoadError> {
    let shapes = shapes(targets);
    let mut load = match context.purpose {
        Purpose::Load => Load::begin(&context.pools, &shapes, &[lease]).await?,
        Purpose::Trial => Load::begin_trial(&context.pools, &shapes, &context.feed.name, lease).await?,
    };
    changed::make_room(context, &mut load, &shapes, &[lease]).await?;
    replace::make_room(context, &load, targets, lease).await?;
    Ok(load)
}

/// The last questions before the fence: what is asked here stays true until COMMIT.
async fn ready(
    context: &Context,
    load: Load,
    counts: Vec<LoadedCounts>,
    decoded_bytes: u64,
) -> Result<Ready, LoadError> {
    let ids: Vec<i64> = counts.iter().map(|count| count.id).collect();
    changed::refuse_known(context, &load, &ids).await?;
    duplicates::refuse(context, &load, &counts).await?;
    for count in &counts {
        if let Some(fields) = &count.fields {
            let found = load.note_layout(&context.feed.name, count.id, fields, &context.layouts).await?;
            report_drift(context, count.id, &found);
        }
    }
    Ok(Ready { load, counts, decoded_bytes })
}

/// One line for all that differs; the ledger has each of them, and keeps it if the load commits.
fn report_drift(context: &Context, object_id: i64, found: &[Difference]) {
    if found.is_empty() {
        return;
    }
    for difference in found {
        metrics::drift(&context.feed.name, difference.kind);
    }
    let told: Vec<String> = found
        .iter()
        .map(|difference| format!("{} {}", difference.kind.as_str(), difference.field.as_deref().unwrap_or_default()))
        .collect();
    tracing::warn!(feed = %context.feed.name, object.id = object_id, drift = told.join(", "),
        "the fields of the feed's objects changed");
}

/// A decoder at work, and what it hands over.
struct Pump {
    pieces: mpsc::Receiver<Piece>,
    task: AbortOnDropHandle<Result<Decoded, DecodeError>>,
}

/// Decoding runs beside COPY in a task of its own, so that parsing and the socket use two cores.
fn spawn_pump(context: &Context, object: &ObjectRef, targets: &Arc<[Target]>, body: &Body) -> Pump {
    let (sender, pieces) = mpsc::channel(FRAMES_AHEAD);
    let (feed, targets, body, object) = (Arc::clone(&context.feed), Arc::clone(targets), body.clone(), object.clone());
    #[expect(clippy::disallowed_methods, reason = "the task is joined or aborted by the function that spawned it")]
    let task = tokio::spawn(async move {
        let decoding = Decoding { feed: &feed, object: &object, targets: &targets, rejects: feed.rejects };
        decode::pump(decoding, &body, sender).await
    });
    Pump { pieces, task: AbortOnDropHandle::new(task) }
}

fn joined(outcome: Result<Result<Decoded, DecodeError>, tokio::task::JoinError>) -> Result<Decoded, LoadError> {
    match outcome {
        Ok(decoded) => Ok(decoded?),
        Err(_panic) => {
            metrics::worker_panicked();
            Err(LoadError::Panicked)
        }
    }
}

/// The ledger's figures, only from a body that was read to its verified end.
async fn counts(lease: &Lease, decoded: Decoded, body: &Body) -> Result<LoadedCounts, LoadError> {
    let unread = || FetchError::Size { expected: lease.object.size, received: 0 };
    let proof = body.proof().await.ok_or_else(unread)?;
    Ok(LoadedCounts {
        id: lease.object.id,
        token: lease.token,
        read: signed(decoded.read),
        loaded: signed(decoded.loaded),
        rejected: signed(decoded.rejected),
        filtered: signed(decoded.filtered),
        // Only rejected records need it beside them.
        header: decoded.header.filter(|_| decoded.rejected > 0),
        fields: decoded.fields,
        bytes: signed(proof.bytes),
        sha256: proof.sha256,
        twin: None,
    })
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Before anybody is blamed, the table must be looked at again: what its last known shape refuses, it may take by now.
///
/// Only the check under lock, right before COPY, is proof against a change; an object that cannot be decoded never
/// gets that far. Forgetting the shape is part of it: whoever mends the table must not wait for a restart.
async fn tables_changed<'a>(
    context: &Context,
    targets: &[Target],
    errors: impl IntoIterator<Item = &'a LoadError>,
) -> bool {
    context.feed.tables().into_iter().for_each(|table| context.catalog.forget(table));
    let blames = |error: &LoadError| matches!(error.verdict(), Verdict::Quarantine | Verdict::Halt | Verdict::Suspect);
    if !errors.into_iter().any(blames) {
        return false;
    }
    for Target { shape, .. } in targets {
        // Where it cannot be asked, the error that is there already says more.
        let Ok(now) = context.catalog.shape(&context.pools, &shape.table).await else { return false };
        if (now.oid, &now.fingerprint) != (shape.oid, &shape.fingerprint) {
            return true;
        }
    }
    false
}

/// Before content is blamed, the transport must be cleared: damaged bytes look like bad content.
async fn cleared(error: LoadError, body: &Body) -> LoadError {
    if error.verdict() != Verdict::Quarantine {
        return error;
    }
    match body.clear_transport().await {
        Ok(()) => error,
        Err(damaged) => LoadError::Fetch(damaged),
    }
}
