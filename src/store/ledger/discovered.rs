//! Writing down what a listing found.

use std::collections::HashSet;

use jiff::Timestamp;

use crate::config::feed::{Feed, OnChange};
use crate::domain::object::Listed;
use crate::domain::state::{Channel, SkipReason};

use super::super::error::StoreError;
use super::changed::{CODE, advice};
use super::{Ledger, to_bigint};

/// A listed object with what the feed's pattern and filters say of it.
#[derive(Debug, Clone)]
pub struct Found {
    /// The listing's words.
    pub listed: Listed,
    /// Key text before its time.
    pub series: String,
    /// Time the key carries.
    pub key_time: Option<Timestamp>,
    /// Why it is not to be loaded, if so.
    pub skip: Option<SkipReason>,
}

/// What was new in a page.
#[derive(Debug, Default)]
pub struct Recorded {
    /// One entry per object that was not known before and is to be loaded: by how many seconds its key time lies
    /// before the newest one known of its series until then, zero where it is on time, or where the feed was never
    /// swept and there is nothing it could be late for.
    pub new: Vec<f64>,
    /// Objects written down as skipped, by reason.
    pub skipped: Vec<SkipReason>,
    /// Objects written down as quarantined, because other content was loaded from their key before.
    pub quarantined: u64,
    /// Objects known before that went missing or were superseded, and are back.
    pub revived: u64,
}

impl Recorded {
    /// Objects that are to be loaded because of it.
    pub fn to_load(&self) -> u64 {
        self.new.len() as u64 + self.revived
    }

    /// Rows that were written or changed; the others of the page were known.
    pub fn changed(&self) -> u64 {
        self.to_load() + self.quarantined + self.skipped.len() as u64
    }
}

impl Ledger {
    /// Writes a whole page, in one statement and so in one transaction.
    ///
    /// Running twice is harmless: identity is unique, known versions change nothing, with two exceptions that keep
    /// a re-upload of the same bytes from being lost: a version that had gone missing or had been superseded is
    /// pending again, and one that was loaded and disposed of has its disposal re-armed. S3's clock has whole
    /// seconds, so a version that is back may look as old as it was: then it is revived too, at a pace that slows
    /// down with each attempt, because the page may as well be stale. The conditional GET tells which. A version that
    /// is listed an hour after it was disposed of was not disposed of, whatever the store said: no page is that old.
    ///
    /// A notification tells when the upload ended, a listing when it began, and for an upload in parts hours may lie
    /// between. A listing that names a version found by notification is therefore believed even where it seems older,
    /// and a notification re-arms a disposal only where a notification found the object: two ends are compared, or two
    /// beginnings. It says nothing of what lies in the bucket an hour later.
    pub async fn record(&self, feed: &Feed, found: &[Found], channel: Channel) -> Result<Recorded, StoreError> {
        if found.is_empty() {
            return Ok(Recorded::default());
        }
        // Some stores show a key twice on one page. Twice in one INSERT it would be an error, and so for ever.
        let mut seen = HashSet::new();
        let found: Vec<&Found> =
            found.iter().filter(|one| seen.insert((one.listed.key.as_str(), one.listed.version()))).collect();
        let keys: Vec<&str> = found.iter().map(|one| one.listed.key.as_str()).collect();
        let versions: Vec<String> = found.iter().map(|one| one.listed.version()).collect();
        let etags: Vec<&str> = found.iter().map(|one| one.listed.etag.as_str()).collect();
        let sizes: Vec<i64> = found.iter().map(|one| to_bigint(one.listed.size)).collect();
        let series: Vec<&str> = found.iter().map(|one| one.series.as_str()).collect();
        let times: Vec<Option<Timestamp>> = found.iter().map(|one| one.key_time).collect();
        let visible: Vec<Timestamp> = found.iter().map(|one| one.listed.last_modified).collect();
        let reasons: Vec<Option<&str>> = found.iter().map(|one| one.skip.map(SkipReason::as_str)).collect();
        let min_age = feed.min_age.as_secs_f64();
        let changed = match feed.on_change {
            OnChange::Load | OnChange::Replace => None,
            OnChange::Ignore => Some("skipped"),
            OnChange::Quarantine => Some("quarantined"),
        };
        let rows = self
            .query(
                RECORD,
                &[
                    &feed.name.as_str(),
                    &feed.bucket,
                    &keys,
                    &versions,
                    &etags,
                    &sizes,
                    &series,
                    &times,
                    &visible,
                    &reasons,
                    &channel.as_str(),
                    &min_age,
                    &changed,
                    &CODE,
                    &advice(feed.on_change),
                    &(feed.queue.is_some() && channel != Channel::Notification),
                ],
            )
            .await?;
        let mut recorded = Recorded::default();
        for row in rows {
            let inserted: bool = row.try_get(0)?;
            let reason: Option<&str> = row.try_get(2)?;
            match (inserted, reason) {
                (true, None) if row.try_get(3)? => recorded.quarantined += 1,
                (true, None) => recorded.new.push(row.try_get(1)?),
                (true, Some(word)) => {
                    recorded.skipped.extend(SkipReason::ALL.into_iter().find(|reason| reason.as_str() == word));
                }
                (false, _) => recorded.revived += 1,
            }
        }
        Ok(recorded)
    }
}

/// A row is inserted, or revived by the WHERE of the conflict clause; other known rows are not returned.
///
/// An older version that is still pending is superseded only by a version that became visible later by S3's own
/// clock: a stale page can never push aside what is in the bucket now. Where both carry the same second, both
/// stay pending and the conditional GET decides.
///
/// `on_change` is applied here only to spare the download of what is new beside a version that is loaded already.
/// Everything else (a version in COPY, one that is back, two on one page) becomes pending: the load transaction asks
/// again, and its answer is the one that counts.
const RECORD: &str = "-- ledger::record
    WITH page AS (
        SELECT * FROM unnest($3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::timestamptz[],
                             $9::timestamptz[], $10::text[])
            AS p (key, version, etag, size, series, key_time, visible_at, reason)
    ), newest AS MATERIALIZED (
        -- Once per series, not once per row. Sees the ledger as it was before this page. Keys from the future make
        -- nothing late.
        SELECT s.series, (SELECT max(o.key_time) FROM keyfall.objects o
                           WHERE o.feed = $1 AND o.series = s.series AND o.key_time <= now()) AS key_time
          FROM (SELECT DISTINCT series FROM page) s
    ), news AS (
        -- Known rows are left out before the INSERT: a conflict would lock them, write to them, and hide them from
        -- instances that lease with SKIP LOCKED, page after page of every poll and sweep.
        SELECT p.*, o.state IS NULL AS unknown FROM page p
          LEFT JOIN LATERAL (
               -- OFFSET 0: see `older` below.
               SELECT i.state, i.visible_at, i.disposal, i.disposed_at, i.discovered_by FROM keyfall.objects i
                WHERE i.feed = $1 AND i.bucket = $2 AND i.key = p.key AND i.version = p.version OFFSET 0) o ON true
         WHERE o.state IS NULL
            OR p.reason IS NULL
               AND (o.state IN ('missing', 'superseded')
                    AND (p.visible_at >= o.visible_at OR o.discovered_by = 'notification' AND $11 <> 'notification')
                    OR o.state = 'loaded' AND o.disposal = 'done'
                       AND ($11 <> 'notification' OR o.discovered_by = 'notification')
                       AND (p.visible_at > o.visible_at
                            OR $11 <> 'notification' AND o.disposed_at < now() - interval '1 h'))
    ), judged AS (
        -- What was loaded from the same key before; never looked for where the feed does not ask.
        SELECT n.*, l.told FROM news n LEFT JOIN LATERAL (
               SELECT format('object %s (version %s) was loaded from this key before', i.id, i.version) AS told
                 FROM keyfall.objects i
                WHERE $13::text IS NOT NULL AND n.unknown AND n.reason IS NULL
                  AND i.feed = $1 AND i.bucket = $2 AND i.key = n.key AND i.state = 'loaded'
                ORDER BY i.loaded_at DESC LIMIT 1) l ON true
    ), written AS (
        INSERT INTO keyfall.objects AS o
               (feed, bucket, key, version, etag, size, series, key_time, visible_at, discovered_by, state, reason,
                not_before, error_code, error_detail, error_advice, late_seconds, notification)
        SELECT $1, $2, key, version, etag, size, series, key_time, visible_at, $11,
               CASE WHEN reason IS NOT NULL THEN 'skipped' WHEN told IS NOT NULL THEN $13 ELSE 'pending' END,
               CASE WHEN told IS NOT NULL AND $13 = 'skipped' THEN 'changed' ELSE reason END,
               CASE WHEN $12::float8 > 0 THEN visible_at + make_interval(secs => $12::float8)
                    ELSE '-infinity' END,
               CASE WHEN told IS NOT NULL THEN $14::text END, told, CASE WHEN told IS NOT NULL THEN $15::text END,
               -- Nothing is late for a feed that was never swept. The ledger knows that for all instances.
               CASE WHEN reason IS NULL
                     AND EXISTS (SELECT FROM keyfall.feeds f WHERE f.feed = $1 AND f.last_sweep_at IS NOT NULL)
                    THEN (SELECT extract(epoch FROM n.key_time - judged.key_time)::float8 FROM newest n
                           WHERE n.series = judged.series AND n.key_time > judged.key_time) END,
               CASE WHEN $16::bool AND reason IS NULL
                     AND visible_at > (SELECT f.notified_since FROM keyfall.feeds f WHERE f.feed = $1)
                    THEN 'awaited' END
          FROM judged
        ON CONFLICT (feed, bucket, key, version) DO UPDATE
           SET state      = CASE WHEN o.state IN ('missing', 'superseded') THEN 'pending' ELSE o.state END,
               superseded_by = NULL,
               suspicions = CASE WHEN o.state IN ('missing', 'superseded') THEN 0 ELSE o.suspicions END,
               -- What is back is read where it lies now, not in the archive.
               disposal   = CASE WHEN o.state = 'loaded' THEN 'pending' ELSE 'none' END,
               disposal_not_before = '-infinity',
               not_before = CASE WHEN excluded.visible_at > o.visible_at THEN excluded.not_before
                                 ELSE now() + make_interval(secs => 0.1 * power(2, least(o.attempt, 12))) END,
               visible_at = excluded.visible_at
         WHERE excluded.reason IS NULL
           AND (o.state IN ('missing', 'superseded')
                AND (excluded.visible_at >= o.visible_at OR o.discovered_by = 'notification' AND $11 <> 'notification')
                OR o.state = 'loaded' AND o.disposal = 'done'
                   AND ($11 <> 'notification' OR o.discovered_by = 'notification')
                   AND (excluded.visible_at > o.visible_at
                        OR $11 <> 'notification' AND o.disposed_at < now() - interval '1 h'))
        RETURNING o.id, o.key, o.series, o.key_time, o.visible_at, o.reason, o.late_seconds, o.state,
                  (o.xmax = 0) AS inserted
    ), older AS MATERIALIZED (
        -- OFFSET 0 keeps the look-up by key a look-up: left to itself, the planner joins the page with every open row
        -- of the feed as long as it takes the table for empty, and a first listing becomes quadratic.
        SELECT k.id, w.id AS newer
          FROM written w CROSS JOIN LATERAL (
               SELECT i.id, i.state, i.visible_at FROM keyfall.objects i
                WHERE i.feed = $1 AND i.bucket = $2 AND i.key = w.key OFFSET 0) k
         WHERE w.reason IS NULL AND k.id <> w.id AND k.state = 'pending' AND k.visible_at < w.visible_at
    ), superseded AS (
        -- Ids as an array for the same reason: they are looked up, not joined with every open row.
        UPDATE keyfall.objects old
           SET state = 'superseded', superseded_by = (SELECT max(older.newer) FROM older WHERE older.id = old.id)
         WHERE old.id = ANY (ARRAY(SELECT older.id FROM older)) AND old.state || '' = 'pending'
    )
    SELECT w.inserted, coalesce(w.late_seconds, 0), w.reason, w.state = 'quarantined' FROM written w";
