//! What an operator does to the ledger.

use tokio_postgres::Row;

use crate::domain::state::State;

use super::super::error::StoreError;
use super::Ledger;

/// States an operator may send back to `pending`.
pub(super) const RETRYABLE: [State; 3] = [State::Quarantined, State::Missing, State::Skipped];

impl Ledger {
    /// Sends objects back to `pending`, with their counters at zero. Loaded objects are never among them; objects
    /// waiting out a delay become due at once. What `on_change`, `duplicate_content` or mode `replace` had set aside is
    /// approved by that: somebody has seen the reason and wants it loaded, so none of them is asked again.
    pub async fn retry(&self, ids: &[i64]) -> Result<Vec<i64>, StoreError> {
        let states = RETRYABLE.map(State::as_str).to_vec();
        let mut rows = self.query(RETRY, &[&ids, &states]).await?;
        // Only where there are any: nothing else needs the right to delete rejections.
        let undone: Vec<i64> = first_of_each(&self.query(UNDONE_AMONG, &[&ids]).await?)?;
        if !undone.is_empty() {
            rows.extend(self.query(RETRY_UNDONE, &[&undone]).await?);
        }
        first_of_each(&rows)
    }

    /// Sets objects aside for good. Only objects nobody is working on and that are not loaded.
    pub async fn skip(&self, ids: &[i64]) -> Result<Vec<i64>, StoreError> {
        let rows = self.query(SKIP, &[&ids]).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// Stops leasing a feed until it is resumed; running loads finish.
    pub async fn pause(&self, feed: &str, reason: &str) -> Result<(), StoreError> {
        self.query(PAUSE, &[&feed, &reason]).await.map(drop)
    }

    /// Ends a pause of either kind; answers whether there was one.
    pub async fn resume(&self, feed: &str) -> Result<bool, StoreError> {
        let rows = self.query(RESUME, &[&feed]).await?;
        Ok(!rows.is_empty())
    }
}

fn first_of_each(rows: &[Row]) -> Result<Vec<i64>, StoreError> {
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

const RETRY: &str = "-- ledger::retry
    UPDATE keyfall.objects
       SET state = 'pending', reason = NULL, not_before = '-infinity', suspicions = 0,
           approved = approved OR coalesce(reason IN ('changed', 'duplicate', 'outdated'), false)
                      OR state = 'quarantined'
                         AND coalesce(error_code IN ('E-CHANGED', 'E-DUPLICATE', 'E-REPLACE-ROWS'), false),
           error_code = NULL, error_detail = NULL, error_advice = NULL
     WHERE id = ANY($1) AND (state = ANY($2) OR state = 'pending')
    RETURNING id";

const UNDONE_AMONG: &str = "-- ledger::undone_among
    SELECT id FROM keyfall.objects WHERE id = ANY($1) AND state = 'undone'";

/// The rejections of the undone load go in the same statement: what is read again brings its own.
const RETRY_UNDONE: &str = "-- ledger::retry_undone
    WITH changed AS (
        UPDATE keyfall.objects
           SET state = 'pending', not_before = '-infinity', attempt = 0, suspicions = 0, replays = replays + 1,
               loaded_at = NULL, rows_read = NULL, rows_loaded = NULL, rows_rejected = NULL, rows_filtered = NULL,
               header = NULL, lease_owner = NULL, lease_token = NULL
         WHERE id = ANY($1) AND state = 'undone'
        RETURNING id
    ), gone AS (
        DELETE FROM keyfall.rejections r USING changed c WHERE r.object_id = c.id
    )
    SELECT id FROM changed";

const SKIP: &str = "-- ledger::skip
    UPDATE keyfall.objects SET state = 'skipped', reason = 'operator'
     WHERE id = ANY($1) AND state IN ('pending', 'quarantined', 'missing')
    RETURNING id";

const PAUSE: &str = "-- ledger::pause
    INSERT INTO keyfall.feeds (feed, paused_by, paused_at, paused_until, paused_reason, paused_advice)
    VALUES ($1, 'operator', now(), 'infinity', $2, 'keyfall resume ' || $1::text)
    ON CONFLICT (feed) DO UPDATE
       SET paused_by = 'operator', paused_at = now(), paused_until = 'infinity', paused_reason = $2,
           paused_advice = excluded.paused_advice";

const RESUME: &str = "-- ledger::resume
    UPDATE keyfall.feeds
       SET paused_by = NULL, paused_at = NULL, paused_until = '-infinity', paused_reason = NULL,
           paused_advice = NULL, halts = 0
     WHERE feed = $1 AND paused_by IS NOT NULL
    RETURNING feed";
