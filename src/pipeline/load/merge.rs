//! Staged rows go into their tables: in one statement, or window by window where the server has refused one.

use std::time::Duration;

use crate::config::feed::{Feed, Mode};
use crate::domain::lease::Lease;
use crate::store::copy::{Load, LoadedCounts};
use crate::store::stage::Staging;

use super::super::decode::Target;
use super::super::progress::Progress;
use super::copying::{Sent, stage};
use super::refused::RefusedError;
use super::{Context, LoadError, isolate, signed};

/// How an object is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// As fast as COPY goes: the first row that the server refuses ends it.
    Straight,
    /// By way of stages that say of each row where it comes from, so that refused ones can be rejected.
    ByRows,
}

impl Way {
    /// Where the rows of a route go first.
    pub(super) const fn staging(self, mode: &Mode) -> Staging {
        match (self, mode) {
            (Self::ByRows, _) => Staging::Traced,
            (Self::Straight, Mode::Upsert { .. }) => Staging::Numbered,
            (Self::Straight, Mode::Append | Mode::Replace) => Staging::None,
        }
    }
}

/// An object whose rows were sent.
pub(super) struct Object<'a> {
    pub(super) context: &'a Context,
    pub(super) lease: &'a Lease,
    pub(super) targets: &'a [Target],
    pub(super) sent: &'a [Sent],
    pub(super) progress: &'a Progress,
}

/// Brings what was staged into its tables and corrects the counts; answers how many rows each route has loaded.
pub(super) async fn all(
    object: &Object<'_>,
    load: &mut Load,
    counts: &mut LoadedCounts,
) -> Result<Vec<u64>, LoadError> {
    let Object { context, targets, sent, progress, .. } = *object;
    if targets.iter().any(|target| target.staging == Staging::Traced) {
        return isolate::all(object, load, counts).await;
    }
    let loaded = at_once(load, (&context.feed, targets), sent, progress).await?;
    overtaken(sent, &loaded, counts);
    Ok(loaded)
}

/// The same in one statement per route; answers how many rows each has loaded.
async fn at_once(
    load: &mut Load,
    (feed, targets): (&Feed, &[Target]),
    sent: &[Sent],
    progress: &Progress,
) -> Result<Vec<u64>, LoadError> {
    let mut loaded = Vec::with_capacity(sent.len());
    for (route, Sent { rows, .. }) in sent.iter().enumerate() {
        loaded.push(match stage(feed, targets, sent, route) {
            None => *rows,
            Some(stage) => {
                if let Some((count, first)) = load.without_key(&stage).await? {
                    return Err(RefusedError::Key { count, first }.into());
                }
                moving(progress, load.upsert(&stage, *rows)).await?
            }
        });
    }
    Ok(loaded)
}

/// What was sent and is in no table was overtaken.
fn overtaken(sent: &[Sent], loaded: &[u64], counts: &mut LoadedCounts) {
    let (sent, loaded): (u64, u64) = (sent.iter().map(|sent| sent.rows).sum(), loaded.iter().sum());
    let overtaken = signed(sent.saturating_sub(loaded));
    counts.loaded -= overtaken;
    counts.filtered += overtaken;
}

/// Waits for one long statement, which has its own deadline: the load is not to be taken for one that hangs.
pub(super) async fn moving<T>(progress: &Progress, statement: impl Future<Output = T>) -> T {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    let mut statement = std::pin::pin!(statement);
    loop {
        tokio::select! {
            done = &mut statement => return done,
            _ = tick.tick() => progress.step(),
        }
    }
}

/// Whether objects of a feed are loaded alone: only rows that are added can share a transaction with others.
pub fn is_alone(feed: &Feed) -> bool {
    feed.routes.iter().any(|route| route.mode != Mode::Append)
}
