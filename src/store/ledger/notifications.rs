//! What the ledger knows of notifications: since when they are received, which were awaited, which came.
//!
//! Nothing here decides what is loaded. It tells how much of what polls and sweeps find first was never notified.

use std::time::Duration;

use crate::config::feed::Feed;
use crate::domain::feed::FeedName;

use super::super::error::StoreError;
use super::{Found, Ledger, from_bigint};

impl Ledger {
    /// Notes that notifications of these feeds are received from now on, where that was not so before.
    pub async fn note_notified(&self, feeds: &[FeedName]) -> Result<(), StoreError> {
        let names: Vec<&str> = feeds.iter().map(FeedName::as_str).collect();
        self.query(NOTE_NOTIFIED, &[&names]).await.map(drop)
    }

    /// Notes that the notifications of these objects came, where a poll or a sweep was quicker. Running twice changes
    /// nothing; one that came after it was given up counts as arrived in the ledger.
    pub async fn note_arrived(&self, feed: &Feed, found: &[Found]) -> Result<(), StoreError> {
        let keys: Vec<&str> = found.iter().map(|one| one.listed.key.as_str()).collect();
        let versions: Vec<String> = found.iter().map(|one| one.listed.version()).collect();
        self.query(NOTE_ARRIVED, &[&feed.name.as_str(), &feed.bucket, &keys, &versions]).await.map(drop)
    }

    /// Gives up waiting for notifications of what was found longer ago than the grace; answers how many. Of several
    /// instances that do this at once, one counts each object.
    pub async fn note_missed(&self, feed: &FeedName, grace: Duration) -> Result<u64, StoreError> {
        let rows = self.query(NOTE_MISSED, &[&feed.as_str(), &grace.as_secs_f64()]).await?;
        match rows.first() {
            Some(row) => Ok(from_bigint(row.try_get(0)?)),
            None => Ok(0),
        }
    }
}

const NOTE_NOTIFIED: &str = "-- ledger::note_notified
    INSERT INTO keyfall.feeds AS f (feed, notified_since)
    SELECT n.feed, now() FROM unnest($1::text[]) AS n (feed) ORDER BY n.feed
    ON CONFLICT (feed) DO UPDATE SET notified_since = now() WHERE f.notified_since IS NULL";

const NOTE_ARRIVED: &str = "-- ledger::note_arrived
    UPDATE keyfall.objects
       SET notification = 'arrived'
     WHERE id = ANY (ARRAY(
           SELECT k.id FROM unnest($3::text[], $4::text[]) AS p (key, version) CROSS JOIN LATERAL (
                  -- OFFSET 0 keeps the look-up by key a look-up, as in ledger::record.
                  SELECT i.id, i.notification FROM keyfall.objects i
                   WHERE i.feed = $1 AND i.bucket = $2 AND i.key = p.key AND i.version = p.version OFFSET 0) k
            WHERE k.notification IN ('awaited', 'missed')))";

const NOTE_MISSED: &str = "-- ledger::note_missed
    WITH given_up AS (
        UPDATE keyfall.objects SET notification = 'missed'
         WHERE feed = $1 AND notification = 'awaited' AND discovered_at < now() - make_interval(secs => $2)
        RETURNING 1)
    SELECT count(*) FROM given_up";
