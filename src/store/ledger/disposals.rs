//! The disposal outbox: loaded objects whose bytes still lie where they were found.

use crate::domain::feed::FeedName;
use crate::domain::object::ObjectRef;

use super::super::error::StoreError;
use super::{Ledger, read_object};

/// Proof that an object's rows are durable.
///
/// Only this module makes one, from a ledger row in state `loaded`, and disposal consumes it: a program that
/// removes an object before its rows are safe does not compile.
#[derive(Debug)]
#[must_use = "a loaded object still has to be disposed of"]
pub struct Loaded {
    object: ObjectRef,
    attempts: u32,
}

impl Loaded {
    /// What is loaded.
    pub fn object(&self) -> &ObjectRef {
        &self.object
    }

    /// How often disposal has been tried, this time included.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }
}

/// A disposal that is done, ready to be written down.
#[derive(Debug)]
pub struct Disposed {
    /// What was disposed of.
    pub loaded: Loaded,
    /// `s3://…` of the archive copy.
    pub archived_to: Option<String>,
    /// Why nothing had to be done: a newer version took the key, or the object was gone already.
    pub note: Option<&'static str>,
}

impl Ledger {
    /// Takes a batch from the outbox. It comes back after `again` unless it is written down as done: an instance
    /// that dies in between delays disposal and repeats it, which is harmless because every step is conditional.
    pub async fn take_disposals(
        &self,
        feed: &FeedName,
        limit: usize,
        again: std::time::Duration,
    ) -> Result<Vec<Loaded>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(1000);
        let rows = self.query(TAKE, &[&feed.as_str(), &limit, &again.as_secs_f64()]).await?;
        rows.iter().map(read_loaded).collect()
    }

    /// Writes finished disposals down.
    pub async fn mark_disposed(&self, done: &[Disposed]) -> Result<u64, StoreError> {
        if done.is_empty() {
            return Ok(0);
        }
        let ids: Vec<i64> = done.iter().map(|one| one.loaded.object.id).collect();
        let archived: Vec<Option<&str>> = done.iter().map(|one| one.archived_to.as_deref()).collect();
        let notes: Vec<Option<&str>> = done.iter().map(|one| one.note).collect();
        let rows = self.query(MARK_DISPOSED, &[&ids, &archived, &notes]).await?;
        Ok(rows.len() as u64)
    }

    /// Writes failed disposals down; they are tried again after the delay, for ever.
    pub async fn postpone_disposals(&self, failed: &[(Loaded, String, f64)]) -> Result<(), StoreError> {
        if failed.is_empty() {
            return Ok(());
        }
        let ids: Vec<i64> = failed.iter().map(|(loaded, ..)| loaded.object.id).collect();
        let errors: Vec<&str> = failed.iter().map(|(_, error, _)| error.as_str()).collect();
        let delays: Vec<f64> = failed.iter().map(|(.., delay)| *delay).collect();
        self.query(POSTPONE, &[&ids, &errors, &delays]).await.map(drop)
    }

    /// The feed keeps its objects now: what is still in the outbox stays where it is.
    pub async fn keep_instead(&self, feed: &FeedName) -> Result<u64, StoreError> {
        let rows = self.query(KEEP_INSTEAD, &[&feed.as_str()]).await?;
        Ok(rows.len() as u64)
    }
}

fn read_loaded(row: &tokio_postgres::Row) -> Result<Loaded, StoreError> {
    let attempts: i32 = row.try_get("disposal_attempts")?;
    Ok(Loaded { object: read_object(row)?, attempts: attempts.unsigned_abs() })
}

const TAKE: &str = "-- ledger::take_disposals
    WITH due AS (
        SELECT id FROM keyfall.objects
         WHERE feed = $1 AND disposal = 'pending' AND state = 'loaded' AND disposal_not_before <= now()
         ORDER BY disposal_not_before LIMIT $2
           FOR UPDATE SKIP LOCKED
    )
    UPDATE keyfall.objects o
       SET disposal_attempts = o.disposal_attempts + 1,
           disposal_not_before = now() + make_interval(secs => $3),
           disposal_taken_until = now() + make_interval(secs => $3)
      FROM due WHERE o.id = due.id AND o.state = 'loaded' AND o.disposal = 'pending'
    RETURNING o.id, o.bucket, o.key, o.etag, o.version_id, o.size, o.key_time, o.visible_at, o.disposal_attempts";

/// A disposer that was frozen with a batch in hand may end after an operator has undone the load: the original is gone
/// all the same, and where its copy lies must not be forgotten.
const MARK_DISPOSED: &str = "-- ledger::mark_disposed
    UPDATE keyfall.objects o
       SET disposal = 'done', disposed_at = now(), archived_to = coalesce(d.archived_to, o.archived_to),
           disposal_error = d.note, disposal_taken_until = NULL
      FROM unnest($1::bigint[], $2::text[], $3::text[]) AS d (id, archived_to, note)
     WHERE o.id = d.id
       AND (o.disposal = 'pending' AND o.state = 'loaded'
            OR o.disposal = 'none' AND o.state IN ('undone', 'pending', 'leased', 'missing') AND d.note IS NULL)
    RETURNING o.id";

const POSTPONE: &str = "-- ledger::postpone_disposals
    UPDATE keyfall.objects o
       SET disposal_error = d.error, disposal_not_before = now() + make_interval(secs => d.delay),
           disposal_taken_until = NULL
      FROM unnest($1::bigint[], $2::text[], $3::float8[]) AS d (id, error, delay)
     WHERE o.id = d.id AND o.disposal = 'pending'";

const KEEP_INSTEAD: &str = "-- ledger::keep_instead
    UPDATE keyfall.objects SET disposal = 'none'
     WHERE feed = $1 AND disposal = 'pending'
    RETURNING id";
