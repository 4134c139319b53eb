//! Who lists, sweeps and disposes of a feed at the moment: one instance each.
//!
//! A duty only spares work. Whatever is listed twice is recorded once, and every disposal is conditional, so nothing is
//! fenced here and nothing depends on two instances agreeing at every moment.

use std::time::Duration;

use uuid::Uuid;

use crate::domain::duty::Duty;

use super::super::error::StoreError;
use super::Ledger;

/// What an instance says of itself at each heartbeat.
#[derive(Debug)]
pub struct Beat<'a> {
    /// This engine, and no other one of the same name.
    pub id: Uuid,
    /// Name of the instance.
    pub name: &'a str,
    /// Its feeds.
    pub feeds: Vec<&'a str>,
    /// Those of them that another instance had better list.
    pub declined: Vec<&'a str>,
    /// Process of the server that holds its connection for notifications, where there is one.
    pub session: Option<i32>,
    /// How long heartbeat and duties last.
    pub lease: Duration,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Granted {
    /// The duties held, by feed.
    pub duties: Vec<(String, Duty)>,
    /// How many were given back, to instances that came or whose turn it is.
    pub given_back: u64,
    /// When the next sign of life of another instance ends, unless it is renewed.
    pub next_end: Option<Duration>,
}

impl Ledger {
    /// Says that the instance is alive, keeps the duties that are its own by now, takes those of them that nobody
    /// holds, and gives the others back.
    ///
    /// The three duties of a feed go round the instances that have it, in the order of their start, beginning at one
    /// that the feed's name decides. So everybody computes the same owner from the ledger, and nobody has to be asked:
    /// each has its share, within one duty per feed. Two that start at the same moment do not see each other yet; then
    /// the rows decide, and the next heartbeats share.
    pub async fn beat(&self, beat: &Beat<'_>) -> Result<Granted, StoreError> {
        let lease = beat.lease.as_secs_f64();
        let version = env!("CARGO_PKG_VERSION");
        // A statement of its own: two that mourn each other at the same moment must not wait for each other.
        self.query(BURY, &[&beat.id]).await?;
        let Beat { id, name, feeds, declined, session, .. } = beat;
        self.query(HEARTBEAT, &[id, name, &version, feeds, declined, session, &lease]).await?;
        let words = Duty::ALL.map(Duty::as_str).to_vec();
        let rows = self.query(KEEP_DUTIES, &[&beat.id, &beat.feeds, &words, &lease]).await?;
        let mut granted = Granted::default();
        for row in rows {
            let given_back: i64 = row.try_get(2)?;
            granted.given_back = given_back.unsigned_abs();
            let seconds: Option<f64> = row.try_get(3)?;
            granted.next_end = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
            let word: Option<&str> = row.try_get(1)?;
            if let Some(duty) = Duty::ALL.into_iter().find(|duty| Some(duty.as_str()) == word) {
                granted.duties.push((row.try_get(0)?, duty));
            }
        }
        Ok(granted)
    }

    /// Gives everything back and signs off. What is not given back ends by itself.
    pub async fn sign_off(&self, id: Uuid) -> Result<(), StoreError> {
        self.query(SIGN_OFF, &[&id]).await.map(drop)
    }
}

/// A process that is killed closes its connections: its duties are free at once, so that whoever starts in its place
/// waits for nothing. One that only lost this connection lives on, and says so at its next heartbeat. Rows of those
/// that died are kept for a day, so that `status` tells of them; duties that nobody renewed for so long are of feeds
/// that nobody has any more.
const BURY: &str = "-- ledger::bury
    WITH dead AS (
        SELECT i.id FROM keyfall.instances i
         WHERE i.id <> $1 AND i.expires_at > now()
           AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid = i.session) AND i.session IS NOT NULL
           FOR UPDATE SKIP LOCKED
    ), buried AS (
        UPDATE keyfall.instances i SET expires_at = now() FROM dead WHERE i.id = dead.id
    ), freed AS (
        UPDATE keyfall.duties d SET expires_at = now() FROM dead WHERE d.owner = dead.id AND d.expires_at > now()
    ), forgotten AS (
        DELETE FROM keyfall.instances WHERE expires_at < now() - interval '1 d' AND id <> $1
    )
    DELETE FROM keyfall.duties WHERE expires_at < now() - interval '1 d'";

const HEARTBEAT: &str = "-- ledger::heartbeat
    INSERT INTO keyfall.instances AS i (id, name, version, feeds, declined, session, expires_at)
    VALUES ($1, $2, $3, $4, $5, $6, now() + make_interval(secs => $7))
    ON CONFLICT (id) DO UPDATE
       SET seen_at = now(), declined = excluded.declined, session = excluded.session, expires_at = excluded.expires_at";

/// Rows that others hold are left out before the INSERT, so that it locks none of them: two instances that give to
/// each other at the same moment would wait for each other.
const KEEP_DUTIES: &str = "-- ledger::keep_duties
    WITH able AS (
        SELECT f.feed, i.id, i.started_at, f.feed = ANY (i.declined) AS declines,
               bool_and(f.feed = ANY (i.declined)) OVER (PARTITION BY f.feed) AS all_decline
          FROM unnest($2::text[]) AS f (feed)
          JOIN keyfall.instances i ON i.expires_at > now() AND f.feed = ANY (i.feeds)
    ), placed AS (
        SELECT a.feed, a.id, row_number() OVER (PARTITION BY a.feed ORDER BY a.started_at, a.id) - 1 AS place,
               count(*) OVER (PARTITION BY a.feed) AS instances
          FROM able a WHERE a.all_decline OR NOT a.declines
    ), owed AS (
        SELECT p.feed, d.duty, p.id
          FROM placed p CROSS JOIN unnest($3::text[]) WITH ORDINALITY AS d (duty, n)
         WHERE p.place = (abs(hashtext(p.feed)::bigint) + d.n) % p.instances
    ), kept AS (
        INSERT INTO keyfall.duties AS d (feed, duty, owner, expires_at)
        SELECT o.feed, o.duty, $1, now() + make_interval(secs => $4)
          FROM owed o LEFT JOIN keyfall.duties h ON h.feed = o.feed AND h.duty = o.duty
         WHERE o.id = $1 AND (h.owner IS NULL OR h.owner = $1 OR h.expires_at <= now())
         ORDER BY o.feed, o.duty
        ON CONFLICT (feed, duty) DO UPDATE SET owner = excluded.owner, expires_at = excluded.expires_at
         WHERE d.owner = excluded.owner OR d.expires_at <= now()
        RETURNING d.feed, d.duty
    ), returned AS (
        DELETE FROM keyfall.duties d USING owed o
         WHERE d.owner = $1 AND d.feed = o.feed AND d.duty = o.duty AND o.id <> $1
        RETURNING d.feed
    ), ends AS (
        SELECT i.expires_at FROM keyfall.instances i WHERE i.id <> $1 AND i.expires_at > now()
        UNION ALL
        SELECT h.expires_at FROM keyfall.duties h WHERE h.owner <> $1 AND h.expires_at > now()
    )
    SELECT k.feed, k.duty, g.given_back, e.seconds
      FROM (SELECT count(*) AS given_back FROM returned) g
      CROSS JOIN (SELECT extract(epoch FROM min(expires_at) - now())::float8 AS seconds FROM ends) e
      LEFT JOIN kept k ON true";

const SIGN_OFF: &str = "-- ledger::sign_off
    WITH given AS (
        DELETE FROM keyfall.duties WHERE owner = $1
    ), gone AS (
        DELETE FROM keyfall.instances WHERE id = $1
    )
    SELECT pg_notify('keyfall_work', 'duties')";
