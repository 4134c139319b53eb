//! What `reconcile` mends and writes down.

use jiff::Timestamp;

use crate::domain::feed::FeedName;

use super::super::error::StoreError;
use super::{Ledger, from_bigint, to_bigint};

/// The last `reconcile` of a whole feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reconciliation {
    /// Feed.
    pub feed: String,
    /// When it ended.
    pub at: Timestamp,
    /// Objects that were not as they should be, and that time alone does not mend.
    pub differences: u64,
}

impl Ledger {
    /// Disposes of loaded objects once more; answers how many were not waiting for that already.
    ///
    /// Safe beside a disposer, and twice: only rows that are `loaded` change, and disposal removes nothing but the very
    /// version that was loaded.
    pub async fn rearm_disposals(&self, ids: &[i64]) -> Result<u64, StoreError> {
        let rows = self.query(REARM, &[&ids]).await?;
        Ok(rows.len() as u64)
    }

    /// Writes down how many differences a reconcile of a whole feed left.
    pub async fn note_reconciled(&self, feed: &FeedName, differences: u64) -> Result<(), StoreError> {
        self.query(NOTE_RECONCILED, &[&feed.as_str(), &to_bigint(differences)]).await.map(drop)
    }

    /// The last reconcile of every feed that ever had one.
    pub async fn reconciliations(&self) -> Result<Vec<Reconciliation>, StoreError> {
        let rows = self.query(RECONCILIATIONS, &[]).await?;
        rows.iter()
            .map(|row| {
                Ok(Reconciliation {
                    feed: row.try_get(0)?,
                    at: row.try_get(1)?,
                    differences: from_bigint(row.try_get(2)?),
                })
            })
            .collect()
    }
}

const REARM: &str = "-- ledger::rearm_disposals
    UPDATE keyfall.objects
       SET disposal = 'pending', disposal_not_before = '-infinity'
     WHERE id = ANY($1) AND state = 'loaded' AND disposal IN ('none', 'done')
    RETURNING id";

const NOTE_RECONCILED: &str = "-- ledger::note_reconciled
    INSERT INTO keyfall.feeds (feed, reconciled_at, reconcile_differences) VALUES ($1, now(), $2)
    ON CONFLICT (feed) DO UPDATE SET reconciled_at = now(), reconcile_differences = $2";

const RECONCILIATIONS: &str = "-- ledger::reconciliations
    SELECT feed, reconciled_at, coalesce(reconcile_differences, 0)
      FROM keyfall.feeds WHERE reconciled_at IS NOT NULL ORDER BY feed";
