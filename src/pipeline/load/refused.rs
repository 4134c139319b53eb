//! Records that cannot be loaded, and what that means for their object: the feed's `rejects` and `parent_wait`.

use std::borrow::Cow;

use crate::config::feed::{Mode, Rejects};
use crate::domain::lease::Lease;
use crate::domain::record::Rejection;
use crate::domain::verdict::Verdict;
use crate::store::copy::LoadedCounts;
use crate::store::error::StoreError;

use super::{Context, LoadError};

/// What keeps an object from being loaded because of its records.
#[derive(Debug, thiserror::Error)]
pub enum RefusedError {
    /// A row refers to one that is not there, and may still come.
    #[error("a row refers to one that is not there, which is waited for until parent_wait has passed: {0}")]
    Waiting(StoreError),
    /// A row refers to one that did not come.
    #[error("{0}")]
    Orphan(StoreError),
    /// A record was refused and the feed tolerates none.
    #[error("{told}")]
    Record {
        /// Stable code.
        code: String,
        /// Where and why.
        told: String,
    },
    /// Records have nothing in a column of the key, so no row can be matched by it.
    #[error("{count} records have no value in a column of the key; the first is record {first}")]
    Key {
        /// How many.
        count: u64,
        /// Number of the first.
        first: u64,
    },
    /// More records are bad than the feed tolerates.
    #[error("{found} records are bad, the feed tolerates {most} (rejects.max_rows); the last is {last}")]
    Budget {
        /// Bad records so far.
        found: u64,
        /// `rejects.max_rows`.
        most: u64,
        /// The one too many.
        last: String,
    },
    /// Too large a share of them is.
    #[error("{rejected} of {read} records are bad, the feed tolerates a share of {most} (rejects.max_ratio)")]
    Ratio {
        /// Bad records.
        rejected: i64,
        /// Records.
        read: i64,
        /// `rejects.max_ratio`.
        most: f64,
    },
}

impl RefusedError {
    /// What follows for the object.
    pub const fn verdict(&self) -> Verdict {
        match self {
            Self::Waiting(_) => Verdict::Retry,
            Self::Orphan(_) | Self::Record { .. } | Self::Key { .. } | Self::Budget { .. } | Self::Ratio { .. } => {
                Verdict::Quarantine
            }
        }
    }

    /// Stable code.
    pub fn code(&self) -> Cow<'static, str> {
        match self {
            Self::Waiting(error) | Self::Orphan(error) => error.code(),
            Self::Record { code, .. } => code.clone().into(),
            Self::Key { .. } => KEY.into(),
            Self::Budget { .. } | Self::Ratio { .. } => "E-REJECTS".into(),
        }
    }

    /// One sentence for the operator.
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::Waiting(_) => "nothing to do if the row it needs is on its way; otherwise correct the data",
            Self::Orphan(_) => "load the row it needs, or correct the record, then `keyfall retry`",
            Self::Record { .. } => "correct the record or the table, then `keyfall retry`",
            Self::Key { .. } => {
                "correct the records, or allow some to be rejected ([feeds.NAME.rejects]), then `keyfall retry`"
            }
            Self::Budget { .. } | Self::Ratio { .. } => {
                "correct the records or the feed's rules, or raise [feeds.NAME.rejects], then `keyfall retry`"
            }
        }
    }
}

/// Code of a record that has nothing in a column of the key.
pub(super) const KEY: &str = "E-ROW-KEY";

/// One rejection as a message names it.
pub(super) fn told(rejection: &Rejection) -> String {
    let column = rejection.column.as_ref().map(|column| format!(", column {column:?}")).unwrap_or_default();
    format!("{}{column}: {}", rejection.position, rejection.reason)
}

/// Whether a row that refers to a missing one may still wait for it. By the database's clock, at the time of the lease.
pub(super) fn waits(context: &Context, lease: &Lease) -> bool {
    lease.age < context.feed.parent_wait
}

/// Whether the error is about a row that may still wait for another.
pub fn is_waiting(context: &Context, lease: &Lease, error: &LoadError) -> bool {
    matches!(error, LoadError::Store(error) if error.is_orphan()) && waits(context, lease)
}

/// An error in the light of what the feed says of rows that refer to others.
pub(super) fn judged(context: &Context, lease: &Lease, error: LoadError) -> LoadError {
    match error {
        LoadError::Store(error) if error.is_orphan() && waits(context, lease) => RefusedError::Waiting(error).into(),
        error => error,
    }
}

/// The same where nothing else will be tried: who waited long enough is to blame.
pub fn settled(context: &Context, lease: &Lease, error: LoadError) -> LoadError {
    match judged(context, lease, error) {
        LoadError::Store(error) if error.is_orphan() => RefusedError::Orphan(error).into(),
        error => error,
    }
}

/// Whether it makes sense to load an object again row by row: the server refused a row, and either the feed tolerates
/// some, or nobody knows yet which record it was.
pub fn may_isolate(context: &Context, error: &LoadError) -> bool {
    let feed = &context.feed;
    let upserts = || feed.routes.iter().any(|route| matches!(route.mode, Mode::Upsert { .. }));
    let is_a_rows = match error {
        LoadError::Store(error) => error.refuses_row(),
        LoadError::Refused(RefusedError::Key { .. }) => true,
        _ => false,
    };
    is_a_rows && (feed.rejects.is_any() || upserts())
}

/// Refuses an object of which too large a share is bad, whoever found that.
pub(super) fn check_ratio(rejects: Rejects, counts: &LoadedCounts) -> Result<(), RefusedError> {
    let LoadedCounts { read, rejected, .. } = *counts;
    #[expect(clippy::cast_precision_loss, reason = "a share of records needs no more than 52 bits")]
    let share = |read: i64| rejected as f64 / read as f64;
    match rejects.max_ratio {
        Some(most) if read > 0 && share(read) > most => Err(RefusedError::Ratio { rejected, read, most }),
        _ => Ok(()),
    }
}
