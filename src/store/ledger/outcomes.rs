//! What became of a lease that did not load its object, and which objects really are loaded.

use std::collections::HashSet;
use std::time::Duration;

use uuid::Uuid;

use crate::domain::lease::Lease;
use crate::domain::state::SkipReason;
use crate::domain::verdict::{Failure, Relation, Verdict};

use super::super::error::StoreError;
use super::Ledger;

/// How a failed attempt is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// Back to `pending`, not before the delay has passed; counted against the object or not.
    Again {
        /// Delay from the database's now.
        delay: Duration,
        /// Whether the failure may be the object's own fault.
        suspicious: bool,
    },
    /// Set aside.
    Quarantined,
    /// Gone from the bucket.
    Missing,
    /// Replaced by a newer version.
    Superseded,
    /// Deliberately not loaded.
    Skipped(SkipReason),
}

impl Settlement {
    /// What a verdict means for this lease.
    pub fn of(verdict: Verdict, lease: &Lease, max_attempts: u32, delay: Duration) -> Self {
        match verdict {
            Verdict::Quarantine => Self::Quarantined,
            Verdict::Suspect if lease.suspicions + 1 >= max_attempts => Self::Quarantined,
            Verdict::Suspect => Self::Again { delay, suspicious: true },
            Verdict::Missing => Self::Missing,
            Verdict::Superseded => Self::Superseded,
            Verdict::Skip(reason) => Self::Skipped(reason),
            Verdict::Retry | Verdict::Halt | Verdict::Release => Self::Again { delay, suspicious: false },
        }
    }

    const fn state(self) -> &'static str {
        match self {
            Self::Again { .. } => "pending",
            Self::Quarantined => "quarantined",
            Self::Missing => "missing",
            Self::Superseded => "superseded",
            Self::Skipped(_) => "skipped",
        }
    }

    const fn reason(self) -> Option<&'static str> {
        match self {
            Self::Skipped(reason) => Some(reason.as_str()),
            Self::Again { .. } | Self::Quarantined | Self::Missing | Self::Superseded => None,
        }
    }
}

impl Ledger {
    /// Ends a lease without a load. Answers whether the lease was still ours; if not, nothing was changed.
    pub async fn settle(&self, lease: &Lease, settlement: Settlement, failure: &Failure) -> Result<bool, StoreError> {
        let (delay, suspicion) = match settlement {
            Settlement::Again { delay, suspicious } => (delay.as_secs_f64(), i32::from(suspicious)),
            Settlement::Quarantined | Settlement::Missing | Settlement::Superseded | Settlement::Skipped(_) => (0.0, 0),
        };
        let (newer, twin) = match failure.relation {
            Some(Relation::SupersededBy(id)) => (Some(id), None),
            Some(Relation::DuplicateOf(id)) => (None, Some(id)),
            None => (None, None),
        };
        let rows = self
            .query(
                SETTLE,
                &[
                    &lease.object.id,
                    &lease.token,
                    &settlement.state(),
                    &delay,
                    &suspicion,
                    &failure.code.as_ref(),
                    &failure.detail,
                    &failure.advice,
                    &settlement.reason(),
                    &newer,
                    &twin,
                ],
            )
            .await?;
        Ok(rows.len() == 1)
    }

    /// Which of these leases' loads are durable: the read-back that decides, in a statement of its own.
    ///
    /// Answers ids that are `loaded` under the token given; `commit()`'s own word is never taken
    /// (rust-postgres#1334). A version that was replaced or undone in the meantime still has the token, and only a load
    /// leaves it there: every other way to these states takes it away.
    pub async fn loaded_among(&self, held: &[(i64, Uuid)]) -> Result<HashSet<i64>, StoreError> {
        let (ids, tokens): (Vec<i64>, Vec<Uuid>) = held.iter().copied().unzip();
        let rows = self.query(LOADED_AMONG, &[&ids, &tokens]).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }
}

const SETTLE: &str = "-- ledger::settle
    UPDATE keyfall.objects
       SET state = $3, lease_owner = NULL, lease_token = NULL, lease_expires_at = NULL,
           not_before = now() + make_interval(secs => $4), suspicions = suspicions + $5,
           error_code = $6, error_detail = $7, error_advice = $8, reason = coalesce($9, reason),
           superseded_by = coalesce($10, superseded_by), duplicate_of = coalesce($11, duplicate_of)
     WHERE id = $1 AND lease_token = $2 AND state = 'leased'
    RETURNING id";

/// By id: there is no index on tokens, and this runs after every commit.
const LOADED_AMONG: &str = "-- ledger::loaded_among
    SELECT id FROM keyfall.objects
     WHERE id = ANY($1) AND lease_token = ANY($2) AND state IN ('loaded', 'superseded', 'undone')";
