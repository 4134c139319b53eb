//! Taking, renewing, losing and giving back leases.

use std::collections::HashSet;
use std::time::Duration;

use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::domain::feed::FeedName;
use crate::domain::lease::Lease;
use crate::domain::object::ObjectRef;

use super::super::error::StoreError;
use super::{Ledger, read_archived, read_object, to_bigint};

/// How much one call may lease.
#[derive(Debug, Clone, Copy)]
pub struct LeaseLimits {
    /// Several objects at most where all are small.
    pub group_objects: usize,
    /// Largest size of an object that may share a group.
    pub group_bytes: u64,
    /// Sum of sizes that still fits; [`u64::MAX`] where nothing is in work, so that any object goes through alone.
    pub budget: u64,
    /// How long the lease lasts.
    pub lease: Duration,
}

impl Ledger {
    /// Leases the feed's oldest loadable objects: one, or several small ones.
    ///
    /// Rows that another instance is looking at are passed over, not waited for. The token of each lease fences
    /// every later write about the object.
    pub async fn lease(&self, feed: &FeedName, owner: &str, limits: LeaseLimits) -> Result<Vec<Lease>, StoreError> {
        self.lease_by(LEASE, &[&feed.as_str(), &owner], limits).await
    }

    /// The same for a feed that depends on others: an object is passed over while one of theirs that is not later
    /// (or has no time, or where it has none itself) is still pending or leased.
    ///
    /// What a parent discovers a moment later is not waited for; a row that needs it waits by its foreign key.
    pub async fn lease_after(
        &self,
        feed: &FeedName,
        parents: &[FeedName],
        owner: &str,
        limits: LeaseLimits,
    ) -> Result<Vec<Lease>, StoreError> {
        let parents: Vec<&str> = parents.iter().map(FeedName::as_str).collect();
        self.lease_by(LEASE_AFTER, &[&feed.as_str(), &owner, &parents], limits).await
    }

    /// `who`: the feed, the owner, and what else the statement takes.
    async fn lease_by(
        &self,
        sql: &'static str,
        who: &[&(dyn ToSql + Sync)],
        limits: LeaseLimits,
    ) -> Result<Vec<Lease>, StoreError> {
        let (objects, bytes) = (i64::try_from(limits.group_objects).unwrap_or(1), to_bigint(limits.group_bytes));
        let (budget, seconds) = (to_bigint(limits.budget), limits.lease.as_secs_f64());
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&objects, &bytes, &budget, &seconds];
        parameters.extend(who);
        let rows = self.query(sql, &parameters).await?;
        let mut leases = rows.iter().map(read_lease).collect::<Result<Vec<_>, _>>()?;
        // UPDATE … RETURNING has no order; work on the oldest first.
        leases.sort_by(|a, b| {
            let time = |lease: &Lease| (lease.object.key_time.is_none(), lease.object.key_time);
            time(a).cmp(&time(b)).then_with(|| a.object.key.cmp(&b.object.key))
        });
        Ok(leases)
    }

    /// Extends every lease that is still ours; answers the tokens that are lost.
    ///
    /// Rows locked by a load that is committing are passed over: they are ours, and waiting for them would let the
    /// others expire.
    pub async fn renew(&self, held: &[(i64, Uuid)], lease: Duration) -> Result<HashSet<Uuid>, StoreError> {
        if held.is_empty() {
            return Ok(HashSet::new());
        }
        let (ids, tokens): (Vec<i64>, Vec<Uuid>) = held.iter().copied().unzip();
        let rows = self.query(RENEW, &[&ids, &tokens, &lease.as_secs_f64()]).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// Returns expired leases to `pending`; answers how many there were.
    ///
    /// A frozen owner may still hold an open transaction; it cannot commit any more, because its fence looks for
    /// the token that this statement removes.
    pub async fn expire_leases(&self) -> Result<u64, StoreError> {
        let rows = self.query(EXPIRE, &[]).await?;
        Ok(rows.len() as u64)
    }

    /// Gives leases back untouched: shutdown, or a group taken apart.
    pub async fn release(&self, held: &[(i64, Uuid)]) -> Result<u64, StoreError> {
        if held.is_empty() {
            return Ok(0);
        }
        let (ids, tokens): (Vec<i64>, Vec<Uuid>) = held.iter().copied().unzip();
        let rows = self.query(RELEASE, &[&ids, &tokens]).await?;
        Ok(rows.len() as u64)
    }
}

fn read_lease(row: &tokio_postgres::Row) -> Result<Lease, StoreError> {
    let attempt: i32 = row.try_get("attempt")?;
    let suspicions: i32 = row.try_get("suspicions")?;
    Ok(Lease {
        object: ObjectRef { archived: read_archived(row)?, ..read_object(row)? },
        token: row.try_get("lease_token")?,
        attempt: attempt.unsigned_abs(),
        suspicions: suspicions.unsigned_abs(),
        age: Duration::try_from_secs_f64(row.try_get("age")?).unwrap_or_default(),
    })
}

/// The window sees only rows this call has locked, so the group is exactly what is updated.
const LEASE: &str = "-- ledger::lease
    WITH head AS (
        SELECT id, size, key_time, key FROM keyfall.objects
         WHERE feed = $5 AND state = 'pending' AND not_before <= now()
           AND NOT EXISTS (SELECT 1 FROM keyfall.feeds f WHERE f.feed = $5 AND f.paused_until > now())
         ORDER BY key_time, key LIMIT $1
         FOR UPDATE SKIP LOCKED
    ), sized AS (
        SELECT id, row_number() OVER w AS n, sum(size) OVER w AS total, bool_and(size <= $2) OVER w AS small
          FROM head WINDOW w AS (ORDER BY key_time, key)
    )
    UPDATE keyfall.objects o
       SET state = 'leased', lease_owner = $6, lease_token = gen_random_uuid(),
           lease_expires_at = now() + make_interval(secs => $4), attempt = o.attempt + 1
      FROM sized s
     WHERE o.id = s.id AND o.state = 'pending' AND s.total <= $3::bigint AND (s.n = 1 OR s.small)
    RETURNING o.id, o.bucket, o.key, o.etag, o.version_id, o.size, o.key_time, o.visible_at, o.lease_token,
              o.attempt, o.suspicions, extract(epoch FROM now() - o.discovered_at)::float8 AS age,
              CASE WHEN o.disposal = 'done' THEN o.archived_to END AS archived_to, o.sha256";

/// Of each parent only the first open object is looked up, and whether one has no time: two probes of the index of open
/// objects, however long its backlog is. Of the feed itself only what may go is read, as a range of the same index;
/// objects without a time come last, and only where no parent has anything open.
const LEASE_AFTER: &str = "-- ledger::lease_after
    WITH parents AS MATERIALIZED (
        SELECT CASE WHEN bool_or(p.timeless) THEN '-infinity'
                    ELSE coalesce(min(p.earliest), 'infinity') END AS bound,
               bool_or(p.timeless OR p.earliest IS NOT NULL) AS open
          FROM unnest($7::text[]) AS f (feed) CROSS JOIN LATERAL (
               SELECT (SELECT i.key_time FROM keyfall.objects i
                        WHERE i.feed = f.feed AND i.state IN ('pending', 'leased') AND i.key_time IS NOT NULL
                        ORDER BY i.key_time LIMIT 1) AS earliest,
                      EXISTS (SELECT 1 FROM keyfall.objects i
                               WHERE i.feed = f.feed AND i.state IN ('pending', 'leased') AND i.key_time IS NULL)
                      AS timeless) p
    ), timed AS (
        SELECT id, size, key_time, key FROM keyfall.objects
         WHERE feed = $5 AND state = 'pending' AND not_before <= now() AND key_time < (SELECT bound FROM parents)
           AND NOT EXISTS (SELECT 1 FROM keyfall.feeds f WHERE f.feed = $5 AND f.paused_until > now())
         ORDER BY key_time, key LIMIT $1
         FOR UPDATE SKIP LOCKED
    ), timeless AS (
        SELECT id, size, key_time, key FROM keyfall.objects
         WHERE feed = $5 AND state = 'pending' AND not_before <= now() AND key_time IS NULL
           AND NOT (SELECT open FROM parents)
           AND NOT EXISTS (SELECT 1 FROM keyfall.feeds f WHERE f.feed = $5 AND f.paused_until > now())
         ORDER BY key LIMIT CASE WHEN EXISTS (SELECT 1 FROM timed) THEN 0 ELSE $1 END
         FOR UPDATE SKIP LOCKED
    ), head AS (
        SELECT * FROM timed UNION ALL SELECT * FROM timeless
    ), sized AS (
        SELECT id, row_number() OVER w AS n, sum(size) OVER w AS total, bool_and(size <= $2) OVER w AS small
          FROM head WINDOW w AS (ORDER BY key_time, key)
    )
    UPDATE keyfall.objects o
       SET state = 'leased', lease_owner = $6, lease_token = gen_random_uuid(),
           lease_expires_at = now() + make_interval(secs => $4), attempt = o.attempt + 1
      FROM sized s
     WHERE o.id = s.id AND o.state = 'pending' AND s.total <= $3::bigint AND (s.n = 1 OR s.small)
    RETURNING o.id, o.bucket, o.key, o.etag, o.version_id, o.size, o.key_time, o.visible_at, o.lease_token,
              o.attempt, o.suspicions, extract(epoch FROM now() - o.discovered_at)::float8 AS age,
              CASE WHEN o.disposal = 'done' THEN o.archived_to END AS archived_to, o.sha256";

/// By id: there is no index on tokens.
const RENEW: &str = "-- ledger::renew
    WITH held AS (
        SELECT o.lease_token FROM keyfall.objects o
         WHERE o.id = ANY($1) AND o.lease_token = ANY($2) AND o.state IN ('leased', 'loaded', 'superseded', 'undone')
    ), free AS (
        SELECT o.id FROM keyfall.objects o
         WHERE o.id = ANY($1) AND o.lease_token = ANY($2) AND o.state = 'leased'
           FOR UPDATE SKIP LOCKED
    ), renewed AS (
        UPDATE keyfall.objects o SET lease_expires_at = now() + make_interval(secs => $3)
          FROM free WHERE o.id = free.id
    )
    SELECT t.token FROM unnest($2::uuid[]) AS t (token)
     WHERE NOT EXISTS (SELECT 1 FROM held WHERE held.lease_token = t.token)";

const EXPIRE: &str = "-- ledger::expire_leases
    WITH expired AS (
        SELECT id FROM keyfall.objects WHERE state = 'leased' AND lease_expires_at < now()
           FOR UPDATE SKIP LOCKED
    )
    UPDATE keyfall.objects o
       SET state = 'pending', lease_owner = NULL, lease_token = NULL, lease_expires_at = NULL
      FROM expired e WHERE o.id = e.id AND o.state = 'leased'
    RETURNING o.id";

/// By id as well, like renewal: tokens have no index.
const RELEASE: &str = "-- ledger::release
    UPDATE keyfall.objects
       SET state = 'pending', lease_owner = NULL, lease_token = NULL, lease_expires_at = NULL,
           attempt = greatest(attempt - 1, 0)
     WHERE id = ANY($1) AND lease_token = ANY($2) AND state = 'leased'
    RETURNING id";
