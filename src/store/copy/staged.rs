//! Rows that lie in a stage: copied there, and from there into their table in one statement.

use std::time::Duration;

use bytes::Bytes;

use crate::failpoint::{self, Point};

use super::super::deadline::bounded;
use super::super::error::StoreError;
use super::stage::Stage;
use super::{Load, Rows};

/// Time a statement over a stage may take for each row, on top of what a statement may take anyway: a hundred times what
/// a row takes that goes into a table with a few indexes.
const PER_ROW: Duration = Duration::from_micros(300);

impl Load {
    /// Makes the stage of a route.
    pub async fn create_stage(&self, stage: &Stage<'_>) -> Result<(), StoreError> {
        stage.refuse_unmatched()?;
        let sql = stage.create_sql();
        let created = bounded("CREATE TEMP TABLE", self.settle, self.client()?.batch_execute(&sql)).await;
        match created {
            Err(StoreError::Server { sqlstate, .. }) if sqlstate == "42501" => Err(StoreError::Target {
                detail: "the role may not make temporary tables, which mode \"upsert\" and rejects need".to_owned(),
                advice: "GRANT TEMPORARY ON DATABASE … TO the role; loading goes on by itself",
            }),
            created => created,
        }
    }

    /// Starts a COPY into the stage.
    pub async fn copy_staged(&mut self, stage: &Stage<'_>) -> Result<Rows<'_>, StoreError> {
        let sql = stage.copy_sql();
        let (stall, client) = (self.stall, self.client()?);
        let statement = bounded("PREPARE", stall, client.prepare_cached(&sql)).await?;
        let sink = bounded("COPY", stall, client.copy_in::<_, Bytes>(&statement)).await?;
        Rows::begin(sink, stall, stage.target.format).await
    }

    /// Records that have no key to be matched by: how many, and the first of them.
    pub async fn without_key(&self, stage: &Stage<'_>) -> Result<Option<(u64, u64)>, StoreError> {
        if !stage.parts_nulls() {
            return Ok(None);
        }
        let sql = stage.without_key_sql();
        let client = self.client()?;
        let statement = bounded("PREPARE", self.settle, client.prepare_cached(&sql)).await?;
        let row = bounded("keys", self.stall * 10, client.query_one(&statement, &[])).await?;
        let (count, first): (i64, Option<i64>) = (row.try_get(0)?, row.try_get(1)?);
        Ok(first.map(|first| (count.unsigned_abs(), first.unsigned_abs())))
    }

    /// Brings the staged rows into their table, of those with the same key the last or newest one; answers how many
    /// records are there now. The others were overtaken, by one of the same object or by what was there.
    pub async fn upsert(&self, stage: &Stage<'_>, rows: u64) -> Result<u64, StoreError> {
        failpoint::reach(Point::StageFilled).await?;
        let client = self.client()?;
        let deadline = self.staged_deadline(rows);
        let sql = stage.upsert_sql();
        let statement = bounded("PREPARE", self.stall, client.prepare_cached(&sql)).await?;
        let changed = bounded("INSERT … ON CONFLICT", deadline, client.execute(&statement, &[])).await;
        let changed = changed.map_err(|error| if stage.converts() { error.of_conversion() } else { error })?;
        let changed = if stage.is_key_alone() {
            // A row that was there counts as well: it is what the record asks for.
            let sql = stage.distinct_sql();
            let statement = bounded("PREPARE", self.stall, client.prepare_cached(&sql)).await?;
            let row = bounded("keys", deadline, client.query_one(&statement, &[])).await?;
            row.try_get::<_, i64>(0)?.unsigned_abs()
        } else {
            changed
        };
        failpoint::reach(Point::StageMerged).await?;
        Ok(changed)
    }

    /// Silence is covered elsewhere: a server that is at work is waited for, but not for ever.
    pub(super) fn staged_deadline(&self, rows: u64) -> Duration {
        let rows = u32::try_from(rows).unwrap_or(u32::MAX);
        self.stall * 10 + PER_ROW * rows
    }
}
