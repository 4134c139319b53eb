//! Rejected records of a loaded object, loaded after all.
//!
//! One transaction with the object's row locked: the rows are added under the object's id and the records' own numbers,
//! and the counts move from rejected to loaded. Nobody reads the bucket: the ledger keeps the records.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::config::feed::Mode;
use crate::domain::lease::Lease;
use crate::domain::record::Rejection;
use crate::domain::state::State;
use crate::failpoint::{self, Point};
use crate::store::catalog::Provenance;
use crate::store::copy::{CopyTarget, Ending, Load, LoadedCounts, Replayed};
use crate::store::ledger::{Kept, Ledger, RejectedObject, RejectionFilter};

use super::super::decode::again::{self, Anew, feed_of_kept};
use super::super::decode::{Decoding, Piece, Target};
use super::super::progress::Progress;
use super::merge::{self, Object, Way};
use super::{Context, FRAMES_AHEAD, LoadError, copying, fitting_targets, shapes, signed};

/// Records read from the ledger at once: at 64 KiB each a few MiB at most.
const PAGE: u32 = 50;
/// New reasons written down together.
const REASONS: usize = 500;
/// Rows sent on together.
const FRAME: usize = 64 * 1024;

/// Why rejected records of an object are not loaded. Nothing of it was changed.
#[derive(Debug, thiserror::Error)]
pub enum AgainError {
    /// It is not loaded.
    #[error("the object is {0}; its rejected records come again when it is loaded")]
    State(String),
    /// Somebody is at it.
    #[error("a version of its key is being loaded, replaced or repaired at this moment")]
    Busy,
    /// The table holds the last object alone.
    #[error("mode \"replace\" makes an object the whole table: single records cannot be added")]
    Replaces,
    /// Its rows could not be told from others afterwards.
    #[error("table {0} has no column _object_id that keyfall fills")]
    NoProvenance(String),
    /// The load failed.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The server rolled back what it had answered.
    #[error("COMMIT was answered, but the server says that it was rolled back")]
    RolledBack,
}

impl From<crate::store::error::StoreError> for AgainError {
    fn from(error: crate::store::error::StoreError) -> Self {
        Self::Load(error.into())
    }
}

impl From<failpoint::Injected> for AgainError {
    fn from(injected: failpoint::Injected) -> Self {
        Self::Load(injected.into())
    }
}

impl AgainError {
    /// What to do about it.
    pub fn advice(&self) -> String {
        match self {
            Self::State(_) => "`keyfall replay --id` loads the whole object".to_owned(),
            Self::Busy => "try again in a moment".to_owned(),
            Self::Replaces => {
                "correct the object and upload it again, or `keyfall replay --id` after mending the rules".to_owned()
            }
            Self::NoProvenance(_) => {
                "ALTER TABLE … ADD COLUMN _object_id bigint, and `keyfall replay` of whole objects".to_owned()
            }
            Self::Load(error) => error.failure().advice.to_owned(),
            Self::RolledBack => "do it again; if it stays, look into the server's log".to_owned(),
        }
    }
}

/// Whether the rows stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// They do.
    Rows,
    /// They are loaded for real and rolled back: a look at what would be.
    Nothing,
}

/// What became of an object's rejected records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Rows that are in their tables now.
    pub loaded: u64,
    /// Records that are left out now.
    pub filtered: u64,
    /// Records that are still bad, each with its new reason in the ledger.
    pub rejected: u64,
    /// Records of which only the beginning is kept; they were not looked at.
    pub cut: u64,
}

/// Loads what is good now of an object's rejected records.
///
/// Killed before COMMIT, nothing happened; killed after, rows and ledger have changed together, and whoever runs it again
/// finds these records loaded. Two at once, or one beside an undo: whoever has the object's row goes first, and the
/// other one reads afterwards what is left.
pub async fn again(
    context: &Context,
    rejected: &RejectedObject,
    filter: &RejectionFilter,
    keep: Keep,
) -> Result<Outcome, AgainError> {
    let context = &Context { feed: Arc::new(feed_of_kept(&context.feed)), ..context.clone() };
    let targets = targets(context).await?;
    let mut load = Load::begin_repair(&context.pools, &shapes(&targets)).await?;
    let locked = load.lock_object(rejected.object.id).await?.ok_or(AgainError::Busy)?;
    if locked.state != State::Loaded.as_str() {
        return Err(AgainError::State(locked.state));
    }
    let source = Source { ledger: Ledger::new(context.pools.clone()), context, rejected, filter, targets: &targets };
    let (good, outcome) = Box::pin(source.load(&mut load)).await?;
    failpoint::reach(Point::RepairCopied).await?;
    let counts = Replayed { loaded: outcome.loaded, filtered: outcome.filtered };
    load.mark_replayed(rejected.object.id, &good, counts).await?;
    match keep {
        // Dropping the load rolls it back.
        Keep::Nothing => Ok(outcome),
        Keep::Rows => match load.finish_repair(&source.ledger).await? {
            Ending::Committed => Ok(outcome),
            Ending::RolledBack => Err(AgainError::RolledBack),
        },
    }
}

/// By way of stages: a row that the server refuses stays rejected, and the others go in.
async fn targets(context: &Context) -> Result<Arc<[Target]>, AgainError> {
    if context.feed.routes.iter().any(|route| route.mode == Mode::Replace) {
        return Err(AgainError::Replaces);
    }
    let targets = fitting_targets(context, Way::ByRows).await?;
    for (target, route) in targets.iter().zip(&context.feed.routes) {
        if !target.shape.fills(Provenance::ObjectId, &route.mapping) {
            return Err(AgainError::NoProvenance(route.table.to_string()));
        }
    }
    Ok(targets)
}

/// Where the records come from.
struct Source<'a> {
    ledger: Ledger,
    context: &'a Context,
    rejected: &'a RejectedObject,
    filter: &'a RejectionFilter,
    targets: &'a [Target],
}

/// What was sent so far.
#[derive(Default)]
struct Sent {
    /// Columns of each route, as they were announced.
    columns: Vec<Option<CopyTarget>>,
    /// Rows of each route that wait for a frame to be full.
    waiting: Vec<(BytesMut, u64)>,
    /// Records that are still bad, without their bytes: at most as many as the feed tolerates.
    bad: Vec<Rejection>,
    /// Ids of records that are no longer bad.
    good: Vec<i64>,
    outcome: Outcome,
}

impl Source<'_> {
    /// Brings the records into their tables; answers the ids of those that were decoded without fault, and the counts.
    ///
    /// The object is locked: what another replay has loaded until it gave the lock back is no longer among them. They are
    /// read by another session, because the load's is in COPY meanwhile; nobody changes them while the lock is held.
    async fn load(&self, load: &mut Load) -> Result<(Vec<i64>, Outcome), LoadError> {
        let Self { context, rejected, targets, .. } = *self;
        let (id, progress) = (rejected.object.id, Progress::default());
        let (pieces, received) = mpsc::channel(FRAMES_AHEAD);
        let (copying, feed) = (&mut *load, &*context.feed);
        // Owns its end of the channel: where the server refuses, it closes, and reading ends as well.
        let copy = async {
            let mut received = received;
            match received.recv().await {
                Some(first) => copying::all(copying, (feed, targets), id, (first, &mut received), &progress).await,
                None => Ok(vec![copying::Sent::default(); targets.len()]),
            }
        };
        let (read, copied) = tokio::join!(self.read(pieces), copy);
        // Why the rows were refused says more than that nobody took the rest of them.
        let rows = copied?;
        let Sent { good, bad, mut outcome, .. } = read?;
        for bad in bad.chunks(REASONS) {
            load.reject(id, bad).await?;
        }
        // No row waits for its parent here: whoever replays it wants to know now.
        let lease = Lease {
            object: rejected.object.clone(),
            token: Uuid::nil(),
            attempt: 1,
            suspicions: 0,
            age: std::time::Duration::MAX,
        };
        let mut counts = LoadedCounts { id, loaded: signed(outcome.loaded), ..LoadedCounts::default() };
        let object = Object { context, lease: &lease, targets, sent: &rows, progress: &progress };
        merge::all(&object, load, &mut counts).await?;
        outcome.loaded = counts.loaded.unsigned_abs();
        outcome.filtered += counts.filtered.unsigned_abs();
        outcome.rejected += counts.rejected.unsigned_abs();
        Ok((good, outcome))
    }

    async fn read(&self, pieces: mpsc::Sender<Piece>) -> Result<Sent, LoadError> {
        let routes = self.targets.len();
        let mut sent =
            Sent { columns: vec![None; routes], waiting: vec![(BytesMut::new(), 0); routes], ..Sent::default() };
        let mut after = 0;
        loop {
            let page = self.ledger.kept(self.rejected.object.id, self.filter, after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = last.position.record;
            for kept in &page {
                self.take(kept, &mut sent, &pieces).await?;
            }
        }
        for route in 0..routes {
            sent.flush(route, &pieces).await?;
        }
        Ok(sent)
    }

    async fn take(&self, kept: &Kept, sent: &mut Sent, pieces: &mpsc::Sender<Piece>) -> Result<(), LoadError> {
        if kept.is_cut() {
            sent.outcome.cut += 1;
            return Ok(());
        }
        let Self { context, rejected, targets, .. } = *self;
        let feed = &context.feed;
        let decoding = Decoding { feed, object: &rejected.object, targets, rejects: feed.rejects };
        match again::one(decoding, rejected.header.as_deref(), &kept.raw, kept.position).await? {
            Anew::Row { route, target, bytes } => {
                sent.good.push(kept.id);
                sent.outcome.loaded += 1;
                sent.row(route, (target, bytes), pieces).await
            }
            Anew::Filtered => {
                sent.good.push(kept.id);
                sent.outcome.filtered += 1;
                Ok(())
            }
            Anew::Bad(rejection) => {
                sent.outcome.rejected += 1;
                sent.bad.push(rejection);
                Ok(())
            }
        }
    }
}

impl Sent {
    async fn row(
        &mut self,
        route: usize,
        (target, bytes): (CopyTarget, Bytes),
        pieces: &mpsc::Sender<Piece>,
    ) -> Result<(), LoadError> {
        if self.columns.get(route).is_some_and(|known| known.as_ref() != Some(&target)) {
            self.flush(route, pieces).await?;
            pass(pieces, Piece::Target { route, target: target.clone() }).await?;
            if let Some(known) = self.columns.get_mut(route) {
                *known = Some(target);
            }
        }
        let Some((waiting, rows)) = self.waiting.get_mut(route) else { return Ok(()) };
        waiting.extend_from_slice(&bytes);
        *rows += 1;
        if waiting.len() >= FRAME { self.flush(route, pieces).await } else { Ok(()) }
    }

    async fn flush(&mut self, route: usize, pieces: &mpsc::Sender<Piece>) -> Result<(), LoadError> {
        let Some((waiting, rows)) = self.waiting.get_mut(route) else { return Ok(()) };
        if *rows == 0 {
            return Ok(());
        }
        let (bytes, rows) = (waiting.split().freeze(), std::mem::take(rows));
        pass(pieces, Piece::Frame { route, rows, bytes }).await
    }
}

async fn pass(pieces: &mpsc::Sender<Piece>, piece: Piece) -> Result<(), LoadError> {
    pieces.send(piece).await.map_err(|_closed| super::DecodeError::Abandoned.into())
}
