//! `on_change`: what a load does about other versions of its key.
//!
//! The ledger is asked inside the load transaction, with the key locked against every other load of it (ADR-0015). What
//! discovery said of the object before is not believed: an older version may have been in COPY at that time.

use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};

use crate::config::feed::OnChange;
use crate::domain::lease::Lease;
use crate::domain::ports::S3Error;
use crate::domain::state::SkipReason;
use crate::domain::verdict::Verdict;
use crate::store::catalog::Shape;
use crate::store::copy::{Load, OtherVersion};
use crate::store::ledger::changed::{CODE, advice};

use super::super::fetch::FetchError;
use super::{Context, LoadError, is_alone};

/// Keys asked about at once.
const QUESTIONS: usize = 8;

/// Why other versions of its key keep an object from being loaded.
#[derive(Debug, thiserror::Error)]
pub enum ChangedError {
    /// Somebody else has the key.
    #[error("another version of this key is being loaded")]
    Busy,
    /// Nobody knows their order before one of them is loaded.
    #[error("two versions of one key are in one group")]
    Together,
    /// The feed does not want more than one version of a key.
    #[error("object {id} (version {version}) was loaded from this key before")]
    Known {
        /// The version that is loaded.
        id: i64,
        /// Its version.
        version: String,
        /// What the feed does about it.
        policy: OnChange,
    },
    /// Rows of an older version cannot be told from others, or somebody has changed them.
    #[error("the table has {found} rows of older versions of this key, the ledger knows of {expected}")]
    Rows {
        /// Rows the older versions were loaded with.
        expected: u64,
        /// Rows that bear their ids.
        found: u64,
    },
}

impl ChangedError {
    /// What follows for the object.
    pub const fn verdict(&self) -> Verdict {
        match self {
            Self::Busy | Self::Together => Verdict::Retry,
            Self::Known { policy: OnChange::Ignore, .. } => Verdict::Skip(SkipReason::Changed),
            Self::Known { .. } | Self::Rows { .. } => Verdict::Quarantine,
        }
    }

    /// Stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Busy | Self::Together => "E-KEY-BUSY",
            Self::Known { .. } => CODE,
            Self::Rows { .. } => "E-REPLACE-ROWS",
        }
    }

    /// One sentence for the operator.
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::Busy | Self::Together => "nothing to do: the object is tried again",
            Self::Known { policy, .. } => advice(*policy),
            Self::Rows { .. } => {
                "rows without _object_id were loaded before the table had it: delete them yourself; then `keyfall retry` \
                 replaces what is there"
            }
        }
    }
}

/// Refuses a group in which two leases are for one key, where that matters.
pub(super) fn refuse_together(context: &Context, leases: &[&Lease]) -> Result<(), ChangedError> {
    if context.feed.on_change == OnChange::Load {
        return Ok(());
    }
    let mut keys: Vec<_> = leases.iter().map(|lease| (&lease.object.bucket, &lease.object.key)).collect();
    keys.sort_unstable();
    keys.dedup();
    if keys.len() == leases.len() { Ok(()) } else { Err(ChangedError::Together) }
}

/// Before COPY, so that the newer rows find no older ones in their way: deletes the rows of all other versions of the
/// keys, where the feed replaces.
///
/// Two versions never both have rows: whoever commits first is found here by the other, because the key is locked
/// from before the look-up until COMMIT or rollback. Which of them is the newer one is not taken from any clock (S3's has
/// whole seconds, notifications have another): the store is asked, with the lock held. If our version is what lies
/// there now, every version that was read before it is older. If it is not, ours is not loaded any more.
pub(super) async fn make_room(
    context: &Context,
    load: &mut Load,
    shapes: &[&Shape],
    leases: &[&Lease],
) -> Result<(), LoadError> {
    if context.feed.on_change != OnChange::Replace {
        return Ok(());
    }
    let ids: Vec<i64> = leases.iter().map(|lease| lease.object.id).collect();
    if !load.try_keys(&ids).await? {
        return Err(ChangedError::Busy.into());
    }
    let others = load.other_versions(&ids).await?;
    if others.is_empty() {
        return Ok(());
    }
    refuse_outrun(context, leases, &others).await?;
    let expected: u64 = others.iter().map(|other| other.rows).sum();
    let found = load.delete_others(shapes, &others).await?;
    let is_approved = others.iter().all(|other| other.is_approved);
    // Rows that may be overtaken or replaced by those of other objects need not be there any more.
    if found != expected && !is_approved && !is_alone(&context.feed) {
        return Err(ChangedError::Rows { expected, found }.into());
    }
    Ok(())
}

/// One HEAD for each object that replaces another.
async fn refuse_outrun(context: &Context, leases: &[&Lease], others: &[OtherVersion]) -> Result<(), LoadError> {
    let replacing = leases.iter().filter(|lease| others.iter().any(|other| other.of == lease.object.id));
    let questions: Vec<_> = replacing
        .map(|lease| {
            let (store, object) = (Arc::clone(&context.store), &lease.object);
            async move {
                let head = store.head(&object.bucket, &object.key).await?;
                let is_there = head.etag == object.etag && head.size == object.size;
                if is_there { Ok(()) } else { Err(FetchError::S3(S3Error::Changed)) }
            }
        })
        .collect();
    Ok(stream::iter(questions).buffer_unordered(QUESTIONS).try_collect().await?)
}

/// Before the fence: refuses objects of whose keys another version is loaded, where the feed wants one only.
///
/// Late, so that the key is not held during COPY. Two versions never both pass: the second waits for the first one's
/// COMMIT and then finds it.
pub(super) async fn refuse_known(context: &Context, load: &Load, ids: &[i64]) -> Result<(), LoadError> {
    let policy = context.feed.on_change;
    match policy {
        OnChange::Load | OnChange::Replace => return Ok(()),
        OnChange::Ignore | OnChange::Quarantine => {}
    }
    load.await_keys(ids).await?;
    let others = load.other_versions(ids).await?;
    match others.into_iter().find(|other| !other.is_approved) {
        None => Ok(()),
        Some(OtherVersion { id, version, .. }) => Err(ChangedError::Known { id, version, policy }.into()),
    }
}
