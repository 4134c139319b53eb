//! Mode `replace`: an object is a whole table.
//!
//! Old rows go and new ones come in one transaction, so readers see either table and never none. Objects for one table
//! take turns, and an older one never takes the place of a newer one: the ledger is asked under the table's lock.

use crate::config::feed::{Feed, Mode};
use crate::domain::lease::Lease;
use crate::domain::state::SkipReason;
use crate::domain::verdict::Verdict;
use crate::store::catalog::Shape;
use crate::store::copy::Load;

use super::super::decode::Target;
use super::{Context, LoadError};

/// Why a table is not replaced.
#[derive(Debug, thiserror::Error)]
pub enum ReplaceError {
    /// Somebody else has the table.
    #[error("another object is being loaded into the table")]
    Busy,
    /// A newer object has been loaded.
    #[error("a newer object was loaded before: {uri} (object {id})")]
    Outdated {
        /// Its ledger id.
        id: i64,
        /// Where it was found.
        uri: String,
    },
    /// Nothing would be left.
    #[error("the object has no row for {table}: it would be empty")]
    Empty {
        /// The table.
        table: String,
    },
}

impl ReplaceError {
    /// What follows for the object.
    pub const fn verdict(&self) -> Verdict {
        match self {
            Self::Busy => Verdict::Retry,
            Self::Outdated { .. } => Verdict::Skip(SkipReason::Outdated),
            Self::Empty { .. } => Verdict::Quarantine,
        }
    }

    /// Stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Busy => "E-TABLE-BUSY",
            Self::Outdated { .. } => "E-OUTDATED",
            Self::Empty { .. } => "E-REPLACE-EMPTY",
        }
    }

    /// One sentence for the operator.
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::Busy => "nothing to do: the object is tried again",
            Self::Outdated { .. } => {
                "nothing to do: the table has newer rows; `keyfall retry --id` loads this object in their place"
            }
            Self::Empty { .. } => "correct the object, or empty the table yourself and `keyfall skip` the object",
        }
    }
}

/// Before COPY: deletes all rows of the tables that the object is.
pub(super) async fn make_room(
    context: &Context,
    load: &Load,
    targets: &[Target],
    lease: &Lease,
) -> Result<(), LoadError> {
    let shapes = replaced(&context.feed, targets);
    if shapes.is_empty() {
        return Ok(());
    }
    if !load.try_tables(&shapes).await? {
        return Err(ReplaceError::Busy.into());
    }
    if let Some(newer) = load.newer(lease.object.id).await? {
        return Err(ReplaceError::Outdated { id: newer.id, uri: newer.uri }.into());
    }
    Ok(load.empty(&shapes).await?)
}

/// Before the fence: a table is never replaced by nothing. A file that came empty is far more often a mistake.
pub(super) fn refuse_empty(feed: &Feed, targets: &[Target], loaded: &[u64]) -> Result<(), ReplaceError> {
    for shape in replaced(feed, targets) {
        let own = targets.iter().zip(loaded).filter(|(target, _)| target.shape.oid == shape.oid);
        if own.map(|(_, rows)| rows).sum::<u64>() == 0 {
            return Err(ReplaceError::Empty { table: shape.table.to_string() });
        }
    }
    Ok(())
}

/// The tables that are replaced, each once.
fn replaced<'a>(feed: &Feed, targets: &'a [Target]) -> Vec<&'a Shape> {
    let mut shapes: Vec<&Shape> = Vec::new();
    for (route, target) in feed.routes.iter().zip(targets) {
        if route.mode == Mode::Replace && !shapes.iter().any(|shape| shape.oid == target.shape.oid) {
            shapes.push(&target.shape);
        }
    }
    shapes
}
