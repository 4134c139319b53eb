//! `--keep`: everything stays up, and a new object lands every two seconds until a signal ends it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use jiff::Timestamp;

use crate::demo::s3::{ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY};

use super::daemon::Daemon;
use super::made::{HIRED, Hired, ROWS, key};
use super::plan::{ARCHIVE, BUCKET};
use super::report::Scene;

/// Between two new objects.
const EVERY: Duration = Duration::from_secs(2);
/// Between two looks at the ledger: the resolution of the latency shown.
const LOOK: Duration = Duration::from_millis(10);
/// A new object that is not loaded by then never will be.
const DEADLINE: Duration = Duration::from_secs(30);

const LOADED: &str = "-- demo::loaded
    SELECT count(*) FROM keyfall.objects WHERE feed = $1 AND key = $2 AND state = 'loaded'";

/// Stays until the daemon fails; a signal drops this.
pub(super) async fn keep(scene: &Scene<'_>, daemon: &mut Daemon, file: &Path) -> anyhow::Result<()> {
    explain(scene, file)?;
    tokio::select! {
        outcome = land(scene) => outcome,
        failure = daemon.failure() => Err(failure),
    }
}

fn explain(scene: &Scene<'_>, file: &Path) -> anyhow::Result<()> {
    let (screen, services) = (scene.screen, scene.services);
    // The program as it was started may be nowhere on the search path.
    let program =
        std::fs::read_link("/proc/self/exe").map_or_else(|_| "keyfall".to_owned(), |path| path.display().to_string());
    screen.say(&format!(
        "\nAll of it stays up until Ctrl-C. From another terminal:\n\
         \n  psql {url}\n  curl {metrics}\n  {program} --config {file} status\n  \
         {program} --config {file} objects --state quarantined\n  \
         AWS_ACCESS_KEY_ID={ACCESS_KEY_ID} AWS_SECRET_ACCESS_KEY={SECRET_ACCESS_KEY} AWS_REGION={REGION} \\\n    \
         aws --endpoint-url {endpoint} s3 ls --recursive s3://{ARCHIVE}/\n",
        url = services.url(),
        metrics = services.metrics_url(),
        file = file.display(),
        endpoint = services.s3.endpoint(),
    ))?;
    Ok(())
}

async fn land(scene: &Scene<'_>) -> anyhow::Result<()> {
    if scene.cargo.expected.is_none() {
        scene.screen.say(&format!(
            "An object put below s3://{BUCKET}/FEED/ as the configuration's patterns say is loaded at once."
        ))?;
        return std::future::pending().await;
    }
    scene
        .screen
        .say("A new object every two seconds, and how long it takes from its upload until its rows are visible:")?;
    let mut hired = Hired::following();
    loop {
        let body = hired.good();
        let (time, key) = {
            let now = Timestamp::now();
            (now, key(HIRED, now))
        };
        let begun = Instant::now();
        scene.services.s3.put(BUCKET, &key, body);
        visible(scene, &key).await?;
        let landed = begun.elapsed();
        scene.screen.say(&format!(
            "  {}  s3://{BUCKET}/{key}  {ROWS} rows  {} ms",
            time.strftime("%H:%M:%SZ"),
            landed.as_millis()
        ))?;
        tokio::time::sleep(EVERY.saturating_sub(landed)).await;
    }
}

async fn visible(scene: &Scene<'_>, key: &str) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let row = scene.services.sql.query_one(LOADED, &[&HIRED, &key]).await.context("ask the ledger")?;
        if row.try_get::<_, i64>(0)? > 0 {
            return Ok(());
        }
        if begun.elapsed() > DEADLINE {
            bail!("s3://{BUCKET}/{key} was not loaded within {} s; -v shows what the daemon does", DEADLINE.as_secs());
        }
        tokio::time::sleep(LOOK).await;
    }
}
