//! Waiting for the daemon: asks the ledger, shows how far it is, and notices when nothing moves any more.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::daemon::Daemon;
use super::plan::Cargo;
use super::screen::{Screen, grouped};
use super::services::Services;

/// How often the ledger is asked.
const LOOK: Duration = Duration::from_millis(100);
/// In a pipe, a line at most so often.
const LINE_EVERY: Duration = Duration::from_secs(2);
/// Without any change for so long, and without a load under way, something is broken.
const STALL: Duration = Duration::from_mins(1);
/// A feed that halted tries again by itself; so long we give it.
const HALT_PATIENCE: Duration = Duration::from_secs(10);

const PROGRESS: &str = "-- demo::progress
    SELECT count(*) FILTER (WHERE state NOT IN ('pending', 'leased') AND disposal <> 'pending'),
           count(*) FILTER (WHERE state = 'leased'),
           count(*) FILTER (WHERE state = 'loaded'),
           count(*) FILTER (WHERE state = 'quarantined'),
           count(*) FILTER (WHERE state = 'pending' AND feed IN
               (SELECT f.feed FROM keyfall.feeds f WHERE f.paused_until > now())),
           coalesce(sum(rows_loaded), 0)::bigint
      FROM keyfall.objects";

/// How far the daemon is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Objects of which nothing remains to be done, the disposal included.
    pub(super) done: u64,
    leased: u64,
    pub(super) loaded: u64,
    pub(super) quarantined: u64,
    /// Objects that wait for a feed that halted.
    pub(super) halted: u64,
    pub(super) rows: u64,
}

/// Waits until everything uploaded is loaded and archived, or quarantined.
pub(super) async fn until_settled(
    screen: &Screen,
    services: &Services,
    daemon: &mut Daemon,
    cargo: &Cargo,
) -> anyhow::Result<Progress> {
    tokio::select! {
        outcome = settle(screen, &services.sql, cargo.objects()) => outcome,
        failure = daemon.failure() => Err(failure),
    }
}

async fn settle(screen: &Screen, sql: &Client, objects: u64) -> anyhow::Result<Progress> {
    let mut last = Progress::default();
    let (mut moved, mut printed) = (Instant::now(), Instant::now());
    loop {
        let now = look(sql).await?;
        if now != last {
            (last, moved) = (now, Instant::now());
        }
        let has_bar = screen.progress(now.done, objects, now.rows);
        let finished = now.done >= objects;
        if !has_bar && !finished && printed.elapsed() >= LINE_EVERY {
            printed = Instant::now();
            screen.say(&format!(
                "              {} of {} objects, {} rows",
                grouped(now.done),
                grouped(objects),
                grouped(now.rows)
            ))?;
        }
        let halted = now.halted > 0 && now.leased == 0 && moved.elapsed() > HALT_PATIENCE;
        if finished || halted {
            screen.end_progress();
            return Ok(now);
        }
        if now.leased == 0 && moved.elapsed() > STALL {
            bail!(
                "nothing has moved for {} s with {} of {objects} objects done; -v shows what the daemon does",
                STALL.as_secs(),
                now.done
            );
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn look(sql: &Client) -> anyhow::Result<Progress> {
    let row = match sql.query_one(PROGRESS, &[]).await {
        Ok(row) => row,
        // The daemon has not made its ledger yet.
        Err(error)
            if [Some(&SqlState::UNDEFINED_TABLE), Some(&SqlState::INVALID_SCHEMA_NAME)].contains(&error.code()) =>
        {
            return Ok(Progress::default());
        }
        Err(error) => return Err(error).context("ask the ledger"),
    };
    let number = |column| row.try_get::<_, i64>(column).map(i64::unsigned_abs);
    Ok(Progress {
        done: number(0)?,
        leased: number(1)?,
        loaded: number(2)?,
        quarantined: number(3)?,
        halted: number(4)?,
        rows: number(5)?,
    })
}
