//! Repairs of one loaded object: its rows deleted, or rejected records loaded after all, together with the ledger.
//!
//! The same kind of transaction as a load, with the object's row locked instead of leased: two repairs of one object, from
//! wherever, run one after the other, and the second finds what the first has left. The key is locked as well, against
//! a load that replaces the object and looks its rows up before it touches the ledger's row.

use std::time::Duration;

use crate::failpoint::{self, Point};

use super::super::catalog::Shape;
use super::super::deadline::bounded;
use super::super::error::StoreError;
use super::super::ledger::Ledger;
use super::super::pool::Pools;
use super::Load;
use super::versions::delete_sql;

/// How often the server is asked what became of a COMMIT, and how long between: a transaction whose connection broke ends
/// within moments, or at the latest with the server's keepalives.
const QUESTIONS: u32 = 60;
const PAUSE: Duration = Duration::from_secs(1);

/// What holds of a locked object until the transaction ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locked {
    /// State.
    pub state: String,
    /// Rows that were loaded.
    pub rows_loaded: u64,
    /// Whether a disposer has it in hand: its bytes may be gone in a moment.
    pub is_in_hand: bool,
}

/// What becomes of an object whose rows are deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// It stays without rows.
    Undone,
    /// It is loaded again; `approved` spares it the questions whose answer led to its first load.
    Pending {
        /// Whether `on_change` and `duplicate_content` are not asked again.
        approved: bool,
    },
}

/// How a repair ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Durable.
    Committed,
    /// Nothing happened.
    RolledBack,
}

impl Load {
    /// A transaction without a lease: tables locked against changes of their definition and their shapes checked.
    pub async fn begin_repair(pools: &Pools, shapes: &[&Shape]) -> Result<Self, StoreError> {
        let mut load = Self::begin(pools, shapes, &[]).await?;
        load.is_repair = true;
        Ok(load)
    }

    /// Locks an object; `None` where somebody loads, replaces or repairs a version of its key at this moment. Nobody
    /// changes its row, its rejections or its rows from now on until the transaction ends.
    pub async fn lock_object(&self, id: i64) -> Result<Option<Locked>, StoreError> {
        // The key first: a load that replaces takes it before it takes the row, and never waits with the row in hand.
        if !self.try_keys(&[id]).await? {
            return Ok(None);
        }
        let rows = self.ask("lock of the object", LOCK_OBJECT, &[&id]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        Ok(Some(Locked {
            state: row.try_get(0)?,
            rows_loaded: row.try_get::<_, Option<i64>>(1)?.unwrap_or(0).unsigned_abs(),
            is_in_hand: row.try_get(2)?,
        }))
    }

    /// Deletes the rows of a locked object; answers how many there were.
    pub async fn delete_rows(&mut self, shapes: &[&Shape], id: i64) -> Result<u64, StoreError> {
        let client = self.client()?;
        let mut deleted = 0;
        // Backwards: a table may refer to one that stands before it.
        for shape in shapes.iter().rev() {
            let sql = delete_sql(shape);
            let statement = bounded("PREPARE", self.stall, client.prepare_cached(&sql)).await?;
            // As long as the end of a COPY: rows, their indexes and triggers are at work.
            let gone = bounded("removal of rows", self.stall * 10, client.execute(&statement, &[&vec![id]])).await?;
            deleted += gone;
        }
        failpoint::reach(Point::RepairDeleted).await?;
        Ok(deleted)
    }

    /// Writes down that a loaded object has no rows any more. The rollback of this transaction, whatever causes it,
    /// brings back both.
    pub async fn mark_undone(&self, id: i64, after: After) -> Result<(), StoreError> {
        let changed = match after {
            After::Undone => self.ask("ledger update", UNDO, &[&id]).await?,
            After::Pending { approved } => self.ask("ledger update", REPLAY, &[&id, &approved]).await?,
        };
        expect_one("copy::undo", changed.len())?;
        failpoint::reach(Point::RepairMarked).await?;
        Ok(())
    }

    /// COMMIT, and what the server says of it afterwards in another session; `commit()` itself is not believed.
    ///
    /// If the process dies before the server has the COMMIT, nothing happened; if it dies after, rows and ledger have
    /// changed together, and the same command finds nothing left to do.
    pub async fn finish_repair(mut self, ledger: &Ledger) -> Result<Ending, StoreError> {
        let rows = self.ask("number of the transaction", TRANSACTION, &[]).await?;
        let Some(row) = rows.first() else { return Ok(Ending::RolledBack) };
        let transaction: String = row.try_get(0)?;
        let committed = bounded("COMMIT", self.stall * 10, self.client()?.batch_execute("COMMIT")).await;
        if committed.is_ok() {
            failpoint::reach(Point::RepairCommitted).await?;
            // Only a connection whose COMMIT was answered is clean enough for the pool.
            drop(self.client.take());
        }
        // Closes the connection where it is still there: a COMMIT that never arrived is a rollback then.
        drop(self);
        for _ in 0..QUESTIONS {
            match ledger.is_committed(&transaction).await? {
                Some(true) => return Ok(Ending::Committed),
                Some(false) => return committed.map(|()| Ending::RolledBack),
                None => tokio::time::sleep(PAUSE).await,
            }
        }
        Err(StoreError::Timeout { what: "the question what became of a COMMIT", seconds: u64::from(QUESTIONS) })
    }
}

/// A transition that changes one row, or whose error has the caller drop the load, so that the server rolls back.
pub(super) fn expect_one(transition: &'static str, changed: usize) -> Result<(), StoreError> {
    match changed {
        1 => Ok(()),
        changed => Err(StoreError::Transition { transition, expected: 1, changed: changed as u64 }),
    }
}

/// Waits for whoever has the row: renewals and fences are short, and `lock_timeout` ends it.
const LOCK_OBJECT: &str = "-- copy::lock_object
    SELECT o.state, o.rows_loaded,
           o.disposal OPERATOR(pg_catalog.=) 'pending'
           AND coalesce(o.disposal_taken_until OPERATOR(pg_catalog.>) pg_catalog.now(), false)
      FROM keyfall.objects o WHERE o.id OPERATOR(pg_catalog.=) $1 FOR UPDATE";

/// Counts and time of the load stay as history, like those of a version that was replaced.
const UNDO: &str = "-- copy::undo
    UPDATE keyfall.objects o
       SET state = 'undone', disposal = CASE WHEN o.disposal OPERATOR(pg_catalog.=) 'done' THEN 'done' ELSE 'none' END
     WHERE o.id OPERATOR(pg_catalog.=) $1 AND o.state OPERATOR(pg_catalog.=) 'loaded'
    RETURNING o.id";

/// The digest stays: an archive copy must have it. Rejections come again with the next load.
const REPLAY: &str = "-- copy::replay
    WITH gone AS (
        DELETE FROM keyfall.rejections r WHERE r.object_id OPERATOR(pg_catalog.=) $1
    )
    UPDATE keyfall.objects o
       SET state = 'pending', replays = o.replays OPERATOR(pg_catalog.+) 1, approved = $2,
           disposal = CASE WHEN o.disposal OPERATOR(pg_catalog.=) 'done' THEN 'done' ELSE 'none' END,
           attempt = 0, suspicions = 0, not_before = '-infinity', duplicate_of = NULL,
           lease_owner = NULL, lease_token = NULL, lease_expires_at = NULL,
           loaded_at = NULL, rows_read = NULL, rows_loaded = NULL, rows_rejected = NULL, rows_filtered = NULL,
           header = NULL
     WHERE o.id OPERATOR(pg_catalog.=) $1 AND o.state OPERATOR(pg_catalog.=) 'loaded'
    RETURNING o.id";

const TRANSACTION: &str = "-- copy::transaction
    SELECT pg_catalog.pg_current_xact_id()::pg_catalog.text";
