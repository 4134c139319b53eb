//! F20, F21, F24: the process freezes and wakes up too late, a worker panics, a worker never comes back.

use ::keyfall::demo::s3::{Action, FaultRule, Gate, Operation};

use crate::case::{Case, Report, Trial};
use crate::control::Strike;
use crate::lab::{ARCHIVE, BUCKET, Disposal, Lab, Settings, key, within};
use crate::oracle::Fate;

use super::crash::STREAMED;

/// Steps of a worker that the stall deadline covers: all in which it waits for S3 and for the load's own connection.
pub(super) const WORKER_STEPS: [&str; 6] =
    ["fetch.opened", "copy.begun", "copy.frame", "copy.finished", "commit.fenced", "commit.committed"];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::new("F20", "frozen in the middle of COPY for two leases", frozen_in_the_middle_of_copy).first_wave(),
        Case::new("F20-commit", "frozen between COMMIT and disposal", frozen_after_commit),
        Case::new("F20-archive", "frozen between archive copy and delete", frozen_before_the_delete),
        Case::new("F21", "a worker panics at one of twenty objects, every time", a_panic_at_one_object),
        Case::new("F21-group", "a worker panics in a group of twenty objects", a_panic_in_a_group),
    ];
    for point in WORKER_STEPS {
        let (id, title) = (format!("F24-{point}"), format!("a worker never comes back from {point}"));
        cases.push(Case::new(id, title, move |trial| a_worker_hangs(trial, point)));
    }
    cases
}

/// Load transactions that are open on the server now.
const OPEN_LOADS: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
    AND pid IN (SELECT pid FROM pg_stat_progress_copy)";

async fn frozen_in_the_middle_of_copy(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..1, STREAMED);
    let settings = Settings::new(Disposal::Delete);
    let mut frozen = lab.keyfall("frozen", &settings);
    let gate = Gate::new();
    let held = frozen.control.arm("copy.frame", 3, Strike::Hold(gate.clone()));
    lab.expect_hits("copy.frame hold", &held, 1);
    frozen.start();
    within("the first owner copies", gate.reached()).await;
    frozen.signal("STOP");
    let token = "SELECT lease_token::text FROM keyfall.objects";
    let first: String = lab.query(token).await.first().expect("an object").get(0);
    let mut quick = lab.keyfall("quick", &settings);
    quick.start();
    lab.until_state("loaded", 1).await;
    assert_eq!(lab.count(OPEN_LOADS).await, 1, "the frozen owner's transaction must be open all the time");
    let second: String = lab.query(token).await.first().expect("an object").get(0);
    assert_ne!(first, second, "the object was loaded under the frozen owner's lease");
    assert_eq!(lab.count("SELECT count(*) FROM items").await, 30_000);
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE disposal = 'done'", 1).await;
    // Not before it wakes up does the frozen owner learn of anything, and by then all is done.
    gate.open();
    frozen.signal("CONT");
    frozen.says("lease lost").await;
    lab.until_count(OPEN_LOADS, 0).await;
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects WHERE lease_owner = 'quick'").await, 1);
    assert_eq!(lab.count("SELECT count(*) FROM items").await, 30_000);
    assert_eq!(lab.requests(Operation::DeleteObjects, &key(0)).len(), 1);
    lab.verify(&mut [&mut frozen, &mut quick]).await
}

/// What the frozen one would do to the object is done by the other, and a new version lies there when it wakes up.
async fn frozen_after_commit(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..1, STREAMED);
    let settings = Settings::new(Disposal::Delete);
    let mut frozen = lab.keyfall("frozen", &settings);
    let gate = Gate::new();
    let held = frozen.control.arm("commit.read_back", 1, Strike::Hold(gate.clone()));
    lab.expect_hits("commit.read_back hold", &held, 1);
    // Its own outbox must not be looked at in between.
    let outbox = Gate::new();
    frozen.start();
    within("the first owner has looked", gate.reached()).await;
    frozen.signal("STOP");
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects WHERE state = 'loaded'").await, 1);
    let mut quick = lab.keyfall("quick", &settings);
    quick.start();
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE disposal = 'done'", 1).await;
    quick.stop().await;
    lab.put(0..1, 7);
    drop(frozen.control.arm("fetch.opened", 1, Strike::Hold(outbox.clone())));
    gate.open();
    frozen.signal("CONT");
    // It reads the new version and is held there: whatever its late disposal does, it does before that is loaded.
    within("the new version is read", outbox.reached()).await;
    assert_eq!(lab.requests(Operation::DeleteObjects, &key(0)).len(), 1, "the new version was deleted unread");
    assert!(lab.s3.etag(BUCKET, &key(0)).is_some());
    outbox.open();
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE disposal = 'done'", 2).await;
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects").await, 2);
    lab.verify(&mut [&mut frozen, &mut quick]).await
}

async fn frozen_before_the_delete(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..1, STREAMED);
    let settings = Settings::new(Disposal::Archive);
    let mut frozen = lab.keyfall("frozen", &settings);
    let gate = Gate::new();
    let held = frozen.control.arm("dispose.archived", 1, Strike::Hold(gate.clone()));
    lab.expect_hits("dispose.archived hold", &held, 1);
    frozen.start();
    within("the first owner has copied", gate.reached()).await;
    frozen.signal("STOP");
    assert_eq!(lab.s3.len(BUCKET), 2);
    let mut quick = lab.keyfall("quick", &settings);
    quick.start();
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE disposal = 'done'", 1).await;
    assert_eq!(lab.s3.keys(BUCKET), [format!("{ARCHIVE}{}", key(0))]);
    quick.stop().await;
    lab.put(0..1, 7);
    // The late deletion names the version it was decided for, which is not there any more.
    let read = Gate::new();
    drop(frozen.control.arm("fetch.opened", 1, Strike::Hold(read.clone())));
    gate.open();
    frozen.signal("CONT");
    within("the late disposal ended", frozen.control.reached("dispose.deleted", 1)).await;
    assert!(lab.s3.etag(BUCKET, &key(0)).is_some(), "a late disposal deleted a version nobody had read");
    within("the new version is read", read.reached()).await;
    let asked = lab.requests(Operation::DeleteObjects, &key(0));
    assert_eq!(asked.len(), 2, "one deletion each: {asked:?}");
    read.open();
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE disposal = 'done'", 2).await;
    assert_eq!(lab.s3.len(BUCKET), 2, "{:?}", lab.s3.keys(BUCKET));
    lab.verify(&mut [&mut frozen, &mut quick]).await
}

async fn a_panic_at_one_object(trial: Trial) -> Report {
    const ATTEMPTS: u64 = 3;
    let mut lab = Lab::start(&trial).await;
    lab.may_panic = true;
    lab.put(0..20, 5);
    let mut settings = Settings::new(Disposal::Delete);
    settings.workers = format!("max = 4\ngroup_objects = 1\nmax_attempts = {ATTEMPTS}");
    let mut keyfall = lab.keyfall("a", &settings);
    // Its bytes wait until all others are loaded: from then on every step is this object's.
    let gate = Gate::new();
    let rule = FaultRule::on(Operation::GetObject, Action::Hold(gate.clone())).key(key(7)).times(1);
    let waits = lab.s3.inject(rule);
    lab.expect_s3("GET hold", &waits, 1);
    keyfall.start();
    keyfall.says("started").await;
    lab.until_state("loaded", 19).await;
    let armed = keyfall.control.arm_times("fetch.opened", 1, ATTEMPTS, Strike::Panic);
    lab.expect_hits("fetch.opened panic", &armed, ATTEMPTS);
    gate.open();
    lab.until_state("quarantined", 1).await;
    lab.oracle.expect(&key(7), Fate::Quarantined);
    let told = format!(
        "SELECT count(*) FROM keyfall.objects WHERE key = '{}' AND error_code = 'E-PANIC' AND attempt = {ATTEMPTS}",
        key(7)
    );
    assert_eq!(lab.count(&told).await, 1);
    let panics = keyfall.metric("keyfall_worker_panics_total", "").await;
    assert!(panics.is_some_and(|panics| (panics - 3.0).abs() < f64::EPSILON), "{panics:?} panics are counted");
    // The process stayed up and loads.
    lab.put(20..21, 5);
    lab.until_state("loaded", 20).await;
    assert_eq!(keyfall.lives, 1);
    lab.verify(&mut [&mut keyfall]).await
}

/// A group's panic is not laid at every member's door: all are loaded in the end.
async fn a_panic_in_a_group(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.may_panic = true;
    lab.put(0..20, 5);
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Delete));
    let armed = keyfall.control.arm("fetch.opened", 5, Strike::Panic);
    lab.expect_hits("fetch.opened panic", &armed, 1);
    keyfall.start();
    keyfall.says("started").await;
    lab.until_state("loaded", 20).await;
    let panics = keyfall.metric("keyfall_worker_panics_total", "").await;
    assert!(panics.is_some_and(|panics| (panics - 1.0).abs() < f64::EPSILON), "{panics:?} panics are counted");
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects WHERE error_code IS NOT NULL").await, 0);
    lab.verify(&mut [&mut keyfall]).await
}

async fn a_worker_hangs(trial: Trial, point: &'static str) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.may_miss_counts = true;
    lab.put(0..1, STREAMED);
    lab.put(1..3, 5);
    let mut settings = Settings::new(Disposal::Delete);
    "max = 1\ngroup_objects = 1\nstall_timeout = \"2s\"".clone_into(&mut settings.workers);
    let mut keyfall = lab.keyfall("a", &settings);
    let armed = keyfall.control.arm(point, 1, Strike::Hang);
    lab.expect_hits(&format!("{point} hang"), &armed, 1);
    keyfall.start();
    keyfall.says("started").await;
    // The one slot is given to the others again, and the first object is loaded in the end, by the same process.
    lab.until_state("loaded", 3).await;
    // A hang after COMMIT is one of a load that succeeded, which only the read-back knows.
    let counted = if point == "commit.committed" { (1, 0) } else { (2, 1) };
    let sql = "SELECT attempt::bigint * 10 + suspicions FROM keyfall.objects WHERE key = ";
    let attempts = lab.count(&format!("{sql}'{}'", key(0))).await;
    assert_eq!((attempts / 10, attempts % 10), counted, "a stalled attempt counts as one, and as suspicious");
    assert_eq!(keyfall.lives, 1);
    lab.verify(&mut [&mut keyfall]).await
}
