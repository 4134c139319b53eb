//! F39, F40, F47, F53: the database has no room, or the way to it is thin or long.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ::keyfall::demo::proxy::Fault;
use ::keyfall::demo::s3::Gate;
use tempfile::TempDir;

use crate::case::{Case, Report, Trial};
use crate::control::Strike;
use crate::lab::{BUCKET, Disposal, Lab, Settings, key, within};
use crate::oracle::Body;

use super::answers::{ITEMS_LOADED, OTHERS_LOADED, put_others, with_other};
use super::postgres::{STREAMED, assert_unblamed, attempts, both, data_directory, migrated, until};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("F39", "the disk of one table is full, then larger", table_disk_full),
        Case::new("F40", "the disk of the write-ahead log is full", log_disk_full),
        Case::new("F47", "64 KB/s to the database, eight workers and one", thin_line).alone(),
        Case::new("F53", "300 ms ± 200 ms to the database", long_line),
    ]
}

/// Runs a command of the system; its words where it failed.
pub(super) fn system(command: &str) -> Result<(), String> {
    let output = Command::new("sh").args(["-ec", command]).output().map_err(|error| error.to_string())?;
    let said = || format!("{command}: {}", String::from_utf8_lossy(&output.stderr).trim());
    if output.status.success() { Ok(()) } else { Err(said()) }
}

/// A small disk of its own for the server; gone with the value.
struct SmallDisk {
    mounted: PathBuf,
    _directory: TempDir,
}

impl SmallDisk {
    fn mount(megabytes: u32) -> Result<Self, String> {
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let mounted = directory.path().join("disk");
        let (outer, inner) = (directory.path().display(), mounted.display());
        system(&format!("chmod 711 {outer}; mkdir {inner}"))?;
        system(&format!("mount -t tmpfs -o size={megabytes}m,mode=0700 keyfall-faults {inner}"))?;
        let disk = Self { mounted, _directory: directory };
        system(&format!("chown postgres:postgres {}", disk.mounted.display()))?;
        Ok(disk)
    }

    fn path(&self) -> &Path {
        &self.mounted
    }

    fn enlarge(&self, megabytes: u32) {
        system(&format!("mount -o remount,size={megabytes}m {}", self.mounted.display())).expect("a larger disk");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a server that is still stopping has files open there.
        if let Err(error) = system(&format!("umount -l {}", self.mounted.display())) {
            eprintln!("{error}");
        }
    }
}

async fn table_disk_full(trial: Trial) -> Report {
    let disk = match SmallDisk::mount(4) {
        Ok(disk) => disk,
        Err(why) => return Report::not_run(why),
    };
    let mut lab = Lab::with_own_server(&trial, &[]).await;
    lab.execute(&format!("CREATE TABLESPACE small LOCATION '{}'", disk.path().display())).await;
    lab.execute("ALTER TABLE items SET TABLESPACE small").await;
    lab.put(0..20, 6000);
    put_others(&lab, 4).await;
    let workers = "max = 2\nretry_min = \"1s\"\nretry_max = \"4s\"".to_owned();
    let mut keyfall = lab.keyfall("a", &Settings { workers, ..with_other(Settings::new(Disposal::Delete)) });
    keyfall.start();
    keyfall.says("E-PG-53100").await;
    lab.until_count(OTHERS_LOADED, 4).await;
    // Full for a while: how often is a COPY tried that cannot succeed?
    lab.until_count("SELECT count(*) FROM keyfall.feeds WHERE feed = 'items' AND halts >= 3", 1).await;
    let tried = lab.count("SELECT sum(attempt)::bigint FROM keyfall.objects WHERE feed = 'items'").await;
    let loaded = lab.count(ITEMS_LOADED).await;
    let halts = lab.count("SELECT halts::bigint FROM keyfall.feeds WHERE feed = 'items'").await;
    let failed = tried - loaded;
    assert!(failed <= 2 * (halts + 1), "{failed} COPYs failed while the feed was paused {halts} times");
    let size = lab.count("SELECT pg_total_relation_size('items')").await;
    let kept = lab.s3.keys(BUCKET).iter().filter(|key| key.starts_with("incoming/")).count();
    assert_eq!(i64::try_from(kept).expect("a count"), 20 - loaded);
    let reason = "SELECT count(*) FROM keyfall.feeds WHERE feed = 'items' AND paused_advice LIKE '%make room%'";
    assert_eq!(lab.count(reason).await, 1);
    for number in 4..8 {
        lab.s3.put(BUCKET, &format!("other/{number}.csv"), format!("{number},late\n"));
    }
    lab.until_count(OTHERS_LOADED, 8).await;
    disk.enlarge(64);
    lab.until_count(ITEMS_LOADED, 20).await;
    assert_unblamed(&lab).await;
    let refused = u64::from(keyfall.log().contains("E-PG-53100"));
    lab.expect_count("53100", move || refused, 1);
    let report = lab.verify(&mut [&mut keyfall]).await;
    let note = format!("{loaded} of 20 fitted, {failed} failed COPYs in {halts} pauses, table {size} bytes");
    both(report, Report { note, ..Report::default() })
}

async fn log_disk_full(trial: Trial) -> Report {
    let disk = match SmallDisk::mount(80) {
        Ok(disk) => disk,
        Err(why) => return Report::not_run(why),
    };
    let mut lab = Lab::with_own_server(&trial, &[("min_wal_size", "32MB"), ("max_wal_size", "32MB")]).await;
    let directory = data_directory(&lab).await;
    lab.server().stop_immediate().expect("the server stops");
    let (from, to) = (directory.join("pg_wal"), disk.path());
    let (from, to) = (from.display(), to.display());
    system(&format!("cp -a {from}/. {to}; rm -r {from}; ln -s {to} {from}; chown -h postgres:postgres {from}"))
        .expect("the log moves");
    lab.server().start_again().expect("the server starts");
    lab.put(0..3, STREAMED);
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Delete));
    let gate = Gate::new();
    let held = keyfall.control.arm("copy.frame", 3, Strike::Hold(gate.clone()));
    lab.expect_hits("copy.frame hold", &held, 1);
    keyfall.start();
    within("COPY", gate.reached()).await;
    // Everything that is left goes to somebody else.
    system(&format!("dd if=/dev/zero of={to}/ballast bs=64k 2>/dev/null || true")).expect("ballast");
    let log = directory.parent().expect("a parent").join("log");
    let panics = || std::fs::read_to_string(&log).unwrap_or_default().matches("PANIC").count();
    let writer = lab.client().await;
    let write = "SELECT count(pg_logical_emit_message(false, 'ballast', repeat('x', 1000000)))";
    while writer.query(write, &[]).await.is_ok() {}
    until("the server gives up", || panics() > 0).await;
    gate.open();
    keyfall.says("E-PG-CONNECTION").await;
    let panicked = u64::from(panics() > 0);
    lab.expect_count("PANIC", move || panicked, 1);
    system(&format!("rm {to}/ballast")).expect("room");
    lab.server().start_again().expect("the server starts");
    lab.until_state("loaded", 3).await;
    assert_unblamed(&lab).await;
    keyfall.answers("/readyz", 200).await;
    lab.verify(&mut [&mut keyfall]).await
}

async fn thin_line(trial: Trial) -> Report {
    let eight = thin(&trial, 8).await;
    both(eight, thin(&trial, 1).await)
}

/// Large objects over a line of 64 KB/s: nothing is collected in front of it, and nobody calls it broken.
async fn thin(trial: &Trial, workers: usize) -> Report {
    let mut lab = Lab::start(trial).await;
    put_others(&lab, 4).await;
    let objects = if workers == 1 { 2 } else { workers - 1 };
    let feed = format!("max_workers = {}", objects.min(workers));
    let settings =
        Settings { workers: format!("max = {workers}"), feed, ..with_other(Settings::new(Disposal::Delete)) };
    let settings = settings.through_proxy();
    migrated(&lab, &settings).await;
    // 7 MB each: together far more than may be resident.
    let body = Body::new(7, 200_000, &mut lab.random);
    for number in 0..objects {
        lab.put_body(&key(number), &body);
    }
    let megabytes = body.text.len() * objects / 1_000_000;
    lab.memory_limit = 128 * 1024;
    lab.proxy.set_bandwidth(NonZeroU64::new(64 * 1024));
    let mut keyfall = lab.keyfall("a", &settings);
    keyfall.start();
    let copying =
        "SELECT count(*) FROM pg_stat_progress_copy WHERE datname = current_database() AND bytes_processed > 0";
    lab.until_count(copying, i64::try_from(objects.min(workers)).expect("a count")).await;
    if workers > 1 {
        lab.until_count(OTHERS_LOADED, 4).await;
    }
    let copied = "SELECT coalesce(sum(bytes_processed), 0)::bigint FROM pg_stat_progress_copy
                   WHERE datname = current_database()";
    let (begun, memory) = (lab.count(copied).await, keyfall.memory());
    // Longer than the five seconds in which an SDK would miss its minimum throughput.
    tokio::time::sleep(Duration::from_secs(8)).await;
    let (moved, grown) = (lab.count(copied).await - begun, keyfall.memory().saturating_sub(memory));
    assert!(moved > 0, "nothing moves");
    assert_eq!(lab.count(ITEMS_LOADED).await, 0, "the line was not thin");
    assert!(grown < 8 * 1024, "{grown} KiB more after eight seconds");
    lab.proxy.set_bandwidth(None);
    lab.until_state("loaded", i64::try_from(objects + 4).expect("a count")).await;
    assert_unblamed(&lab).await;
    assert!(!keyfall.log().contains("throughput"), "{}", keyfall.log());
    assert!(!keyfall.log().contains("object not loaded"), "{}", keyfall.log());
    let slowed = lab.proxy.hits(Fault::Bandwidth);
    lab.expect_count("limited line", move || u64::from(slowed > 0), 1);
    let peak = keyfall.peak_memory();
    let report = lab.verify(&mut [&mut keyfall]).await;
    let note = format!("{workers} workers: {grown} KiB more in 8 s, {peak} KiB peak for {megabytes} MB");
    both(report, Report { note, ..Report::default() })
}

async fn long_line(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    let settings = Settings::new(Disposal::Delete).through_proxy();
    migrated(&lab, &settings).await;
    lab.put(0..3, STREAMED);
    lab.put(3..9, 3);
    let rows = lab.oracle.rows() as f64;
    let mut random = trial.random("latency");
    let mut keyfall = lab.keyfall("a", &settings);
    lab.proxy.set_latency(Duration::from_millis(300));
    keyfall.start();
    let swaying = async {
        loop {
            lab.proxy.set_latency(Duration::from_millis(random.u64(100..=500)));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let loading = async {
        keyfall.says("started").await;
        lab.until_state("loaded", 9).await;
        // The read-back is on its way as well.
        while keyfall.metric("keyfall_rows_total", "outcome=\"loaded\"").await != Some(rows) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! { () = swaying => {}, () = loading => {} }
    assert!(attempts(&lab).await == 9, "{}", keyfall.log());
    assert!(!keyfall.log().contains("lease lost"), "{}", keyfall.log());
    let delayed = lab.proxy.hits(Fault::Latency);
    lab.expect_count("latency", move || u64::from(delayed > 0), 1);
    lab.verify(&mut [&mut keyfall]).await
}
