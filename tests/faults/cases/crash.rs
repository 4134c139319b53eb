//! F01–F15: the process is killed at a step of an object's life and started again.
//!
//! What lies where at the moment of death is looked at before the next life begins: afterwards only the checker knows.

use ::keyfall::demo::s3::{Gate, Operation};
use ::keyfall::failpoint::Point;

use crate::case::{Case, Report, Trial};
use crate::control::Strike;
use crate::keyfall::Keyfall;
use crate::lab::{ARCHIVE, BUCKET, Disposal, Lab, Settings, key, within};
use crate::oracle::{Body, Fate};

use super::queue::tell;

/// Enough rows for several COPY frames.
pub(super) const STREAMED: u64 = 30_000;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("F01", "killed with a page listed and not recorded", killed_before_recording),
        Case::new("F02", "killed with leases taken", killed_with_leases),
        Case::new("F03", "killed when the GET was answered", killed_before_the_body),
        Case::new("F04", "killed in the middle of COPY", killed_in_the_middle_of_copy).first_wave(),
        Case::new("F05", "killed with COPY finished", |trial| killed_before_commit(trial, "copy.finished")),
        Case::new("F06", "killed with the ledger changed, before COMMIT", |trial| {
            killed_before_commit(trial, "commit.fenced")
        }),
        Case::new("F07", "killed after COMMIT, before anybody looked", killed_after_commit).first_wave(),
        Case::new("F08", "killed after the read-back, before the archive", killed_before_the_archive),
        Case::new("F09", "killed between archive copy and delete", killed_before_the_delete).first_wave(),
        Case::new("F10", "killed between delete and ledger", |trial| killed_before_the_mark(trial, Disposal::Delete))
            .first_wave(),
        Case::new("F10-archive", "killed between copy, delete and ledger", |trial| {
            killed_before_the_mark(trial, Disposal::Archive)
        }),
        Case::new("F12", "killed when all was done", killed_when_all_was_done),
        Case::new("F13", "killed before the poll was written down", killed_before_the_poll_was_noted),
        Case::new("F14", "killed at each step of the migration", killed_while_migrating),
        Case::new("F14-failed", "a start whose migration fails drops nothing", a_failed_migration),
        Case::new("F15", "killed once at every step in turn", killed_at_every_step),
    ]
}

/// One life that ends at the `nth` hit of a step.
async fn dies_at(lab: &mut Lab, keyfall: &mut Keyfall, point: &str, nth: u64) {
    let armed = keyfall.control.arm(point, nth, Strike::Kill);
    lab.expect_hits(&format!("{point} kill"), &armed, 1);
    keyfall.start();
    keyfall.killed().await;
}

/// Rows in the table and objects in a state, as anybody sees them now.
async fn visible(lab: &Lab, state: &str) -> (i64, i64) {
    let objects = format!("SELECT count(*) FROM keyfall.objects WHERE state = '{state}'");
    (lab.count("SELECT count(*) FROM items").await, lab.count(&objects).await)
}

/// The server has noticed that the dead owner is gone.
async fn no_transaction_is_left(lab: &Lab) {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
                  AND xact_start IS NOT NULL";
    lab.until_count(sql, 0).await;
}

fn archived(n: usize) -> String {
    format!("{ARCHIVE}{}", key(n))
}

async fn killed_before_recording(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..12, 3);
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Delete));
    dies_at(&mut lab, &mut keyfall, "discover.listed", 1).await;
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects").await, 0, "half a page is recorded");
    keyfall.start();
    lab.until_state("loaded", 12).await;
    for n in 0..12 {
        assert_eq!(lab.requests(Operation::GetObject, &key(n)), [200]);
    }
    lab.verify(&mut [&mut keyfall]).await
}

async fn killed_with_leases(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..12, 3);
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Delete));
    dies_at(&mut lab, &mut keyfall, "lease.taken", 1).await;
    assert_eq!(visible(&lab, "leased").await, (0, 12));
    assert!(lab.s3.log().iter().all(|entry| entry.op != Operation::GetObject), "a lease was worked on too early");
    keyfall.start();
    lab.until_state("loaded", 12).await;
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects WHERE attempt = 2").await, 12);
    for n in 0..12 {
        assert_eq!(lab.requests(Operation::GetObject, &key(n)), [200]);
    }
    lab.verify(&mut [&mut keyfall]).await
}

async fn killed_before_the_body(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..1, STREAMED);
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Delete));
    dies_at(&mut lab, &mut keyfall, "fetch.opened", 1).await;
    assert_eq!(lab.requests(Operation::GetObject, &key(0)).len(), 1);
    assert_eq!(visible(&lab, "leased").await, (0, 1));
    keyfall.start();
    lab.until_state("loaded", 1).await;
    assert_eq!(lab.requests(Operation::GetObject, &key(0)).len(), 2);
    lab.verify(&mut [&mut keyfall]).await
}

async fn killed_in_the_middle_of_copy(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..1, STREAMED);
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Delete));
    dies_at(&mut lab, &mut keyfall, "copy.frame", 3).await;
    assert_eq!(visible(&lab, "leased").await, (0, 1), "rows of a load that never committed are visible");
    assert!(lab.s3.etag(BUCKET, &key(0)).is_some());
    no_transaction_is_left(&lab).await;
    keyfall.start();
    lab.until_state("loaded", 1).await;
    assert_eq!(lab.requests(Operation::GetObject, &key(0)).len(), 2);
    lab.verify(&mut [&mut keyfall]).await
}

async fn killed_before_commit(trial: Trial, point: &'static str) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..1, STREAMED);
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Archive));
    dies_at(&mut lab, &mut keyfall, point, 1).await;
    assert_eq!(visible(&lab, "leased").await, (0, 1), "something that never committed is visible");
    no_transaction_is_left(&lab).await;
    assert_eq!(visible(&lab, "leased").await, (0, 1));
    keyfall.start();
    lab.until_state("loaded", 1).await;
    assert_eq!(lab.requests(Operation::GetObject, &key(0)), [200, 200]);
    lab.verify(&mut [&mut keyfall]).await
}

async fn killed_after_commit(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..1, STREAMED);
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Archive));
    dies_at(&mut lab, &mut keyfall, "commit.committed", 1).await;
    assert_eq!(visible(&lab, "loaded").await, (30_000, 1));
    assert_eq!(lab.s3.keys(BUCKET), [key(0)], "disposed of before anybody looked");
    keyfall.start();
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE disposal = 'done'", 1).await;
    assert_eq!(lab.requests(Operation::GetObject, &key(0)), [200], "a loaded object was read again");
    assert_eq!(lab.s3.keys(BUCKET), [archived(0)]);
    lab.verify(&mut [&mut keyfall]).await
}

async fn killed_before_the_archive(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..1, STREAMED);
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Archive));
    dies_at(&mut lab, &mut keyfall, "commit.read_back", 1).await;
    assert_eq!(visible(&lab, "loaded").await, (30_000, 1));
    assert_eq!(lab.s3.keys(BUCKET), [key(0)]);
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects WHERE disposal = 'pending'").await, 1);
    keyfall.start();
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE disposal = 'done'", 1).await;
    assert_eq!(disposals(&lab, 0), (vec![200], COPIED.to_vec(), 1));
    assert_eq!(lab.s3.keys(BUCKET), [archived(0)]);
    lab.verify(&mut [&mut keyfall]).await
}

/// Answers to the first archive copy of a life: the second request asks whether the store obeys conditions on copies.
const COPIED: [u16; 2] = [200, 412];

/// Statuses of the reads and archive copies of an object, and how often its deletion was asked for.
fn disposals(lab: &Lab, n: usize) -> (Vec<u16>, Vec<u16>, usize) {
    let deletes = lab.requests(Operation::DeleteObjects, &key(n)).len();
    (
        lab.requests(Operation::GetObject, &key(n)),
        lab.requests(Operation::CopyObject, &archived(n)),
        deletes + lab.requests(Operation::DeleteObject, &key(n)).len(),
    )
}

async fn killed_before_the_delete(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..1, STREAMED);
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Archive));
    dies_at(&mut lab, &mut keyfall, "dispose.archived", 1).await;
    assert_eq!(visible(&lab, "loaded").await, (30_000, 1));
    assert_eq!(lab.s3.get(BUCKET, &key(0)), lab.s3.get(BUCKET, &archived(0)), "both copies must be there");
    assert_eq!(lab.s3.len(BUCKET), 2);
    let open = "SELECT count(*) FROM keyfall.objects WHERE disposal = 'pending' AND archived_to IS NULL";
    assert_eq!(lab.count(open).await, 1);
    assert_eq!(disposals(&lab, 0), (vec![200], COPIED.to_vec(), 0));
    // Another object is archived first, so that the next life knows the store and leaves the refusal to it.
    lab.put(1..2, 5);
    keyfall.start();
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE disposal = 'done'", 2).await;
    assert_eq!(disposals(&lab, 1), (vec![200], COPIED.to_vec(), 1));
    assert_eq!(disposals(&lab, 0), (vec![200], [COPIED.as_slice(), &[412]].concat(), 1));
    // One copy, under the plain name: the identical one that lay there was taken for what it is.
    assert_eq!(lab.s3.keys(BUCKET), [archived(0), archived(1)]);
    let told = format!("SELECT count(*) FROM keyfall.objects WHERE archived_to = 's3://{BUCKET}/{}'", archived(0));
    assert_eq!(lab.count(&told).await, 1);
    lab.verify(&mut [&mut keyfall]).await
}

async fn killed_before_the_mark(trial: Trial, disposal: Disposal) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..1, STREAMED);
    let mut keyfall = lab.keyfall("a", &Settings::new(disposal));
    dies_at(&mut lab, &mut keyfall, "dispose.deleted", 1).await;
    assert_eq!(visible(&lab, "loaded").await, (30_000, 1));
    assert!(lab.s3.etag(BUCKET, &key(0)).is_none(), "the original is still there");
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects WHERE disposal = 'pending'").await, 1);
    assert_eq!(disposals(&lab, 0).2, 1);
    keyfall.start();
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE disposal = 'done'", 1).await;
    let (get, copy, delete) = disposals(&lab, 0);
    assert_eq!((get.as_slice(), delete), ([200].as_slice(), 2));
    let uri = match disposal {
        Disposal::Archive => {
            // The original is gone, but its copy is seen to lie there: nothing is copied.
            assert_eq!(copy, COPIED);
            format!("archived_to = 's3://{BUCKET}/{}'", archived(0))
        }
        Disposal::Delete | Disposal::Keep => "archived_to IS NULL".to_owned(),
    };
    // Not as something that vanished: both steps are known to be done, at the first repetition.
    let plain = format!(
        "SELECT count(*) FROM keyfall.objects WHERE {uri} AND disposal_error IS NULL AND disposal_attempts = 2"
    );
    assert_eq!(lab.count(&plain).await, 1);
    lab.verify(&mut [&mut keyfall]).await
}

async fn killed_when_all_was_done(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..3, 5);
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Archive));
    dies_at(&mut lab, &mut keyfall, "dispose.marked", 1).await;
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects WHERE disposal = 'done'").await, 3);
    let work = |lab: &Lab| lab.s3.log().iter().filter(|entry| entry.op != Operation::ListObjects).count();
    let done = work(&lab);
    // A poll is no work either: the next life dies when it has written one down, the one after that goes on polling.
    dies_at(&mut lab, &mut keyfall, "discover.polled", 2).await;
    let polls = keyfall.control.hits("discover.polled");
    keyfall.start();
    within("it polls", keyfall.control.reached("discover.polled", polls + 3)).await;
    assert_eq!(work(&lab), done, "work was done again: {:?}", lab.s3.log());
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects").await, 3);
    lab.verify(&mut [&mut keyfall]).await
}

async fn killed_before_the_poll_was_noted(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..3, STREAMED);
    let mut settings = Settings::new(Disposal::Delete);
    "max = 3\ngroup_objects = 1".clone_into(&mut settings.workers);
    let mut keyfall = lab.keyfall("a", &settings);
    let gate = Gate::new();
    let held = keyfall.control.arm_times("copy.begun", 1, 3, Strike::Hold(gate.clone()));
    lab.expect_hits("copy.begun hold", &held, 3);
    keyfall.start();
    within("three objects are in work", keyfall.control.reached("copy.begun", 3)).await;
    within("it polls", keyfall.control.reached("discover.polled", 1)).await;
    let ids = "SELECT coalesce(sum(id * hashtext(key)), 0)::bigint FROM keyfall.objects";
    // The next page holds something new, and is recorded by a poll that nobody will write down.
    let armed = keyfall.control.arm("discover.recorded", 1, Strike::Kill);
    lab.expect_hits("discover.recorded kill", &armed, 1);
    lab.put(3..4, 5);
    keyfall.killed().await;
    gate.open();
    assert_eq!(visible(&lab, "leased").await, (0, 3));
    // The page is there with or without the new object, depending on when the kill's poll listed; one more life knows.
    let known = lab.count(ids).await;
    let entries = lab.count("SELECT count(*) FROM keyfall.objects").await;
    keyfall.start();
    lab.until_state("loaded", 4).await;
    if entries == 4 {
        assert_eq!(lab.count(ids).await, known, "known objects were recorded anew");
    }
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects").await, 4);
    lab.verify(&mut [&mut keyfall]).await
}

async fn killed_while_migrating(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..4, 5);
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Delete));
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'keyfall' AND tablename = 'objects'";
    dies_at(&mut lab, &mut keyfall, "migrate.locked", 1).await;
    no_transaction_is_left(&lab).await;
    assert_eq!(lab.count(tables).await, 0);
    dies_at(&mut lab, &mut keyfall, "migrate.applied", 1).await;
    no_transaction_is_left(&lab).await;
    assert_eq!(lab.count(tables).await, 1);
    let history = lab.count("SELECT count(*) FROM keyfall.schema_history").await;
    let before = keyfall.control.hits("migrate.applied");
    keyfall.start();
    lab.until_state("loaded", 4).await;
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.schema_history").await, history);
    assert_eq!(keyfall.control.hits("migrate.applied"), before, "a finished migration was run again");
    lab.verify(&mut [&mut keyfall]).await
}

/// Rows of every table of the ledger but the history of migrations.
const LEDGER_ROWS: &str = "SELECT (SELECT count(*) FROM keyfall.objects) * 1000 + (SELECT count(*) FROM keyfall.feeds)";

async fn a_failed_migration(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..4, 5);
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Archive));
    keyfall.start();
    keyfall.says("started").await;
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE disposal = 'done'", 4).await;
    keyfall.stop().await;
    let before = lab.count(LEDGER_ROWS).await;
    // The history forgets what was applied, so the migration meets tables that are there already.
    lab.execute("CREATE TABLE kept AS SELECT * FROM keyfall.schema_history; DELETE FROM keyfall.schema_history").await;
    keyfall.start();
    assert_eq!(keyfall.ended().await, 12, "it started on a schema it could not migrate: {}", keyfall.log());
    assert_eq!(lab.count(LEDGER_ROWS).await, before);
    dies_at(&mut lab, &mut keyfall, "migrate.locked", 1).await;
    assert_eq!(lab.count(LEDGER_ROWS).await, before);
    no_transaction_is_left(&lab).await;
    lab.execute("DELETE FROM keyfall.schema_history; INSERT INTO keyfall.schema_history SELECT * FROM kept").await;
    lab.put(4..6, 5);
    keyfall.start();
    lab.until_state("loaded", 6).await;
    for n in 0..6 {
        assert_eq!(lab.requests(Operation::GetObject, &key(n)), [200]);
    }
    lab.verify(&mut [&mut keyfall]).await
}

/// The seconds of key time at which F15's bad objects lie: before all others, so that they are leased first.
const BAD: [usize; 2] = [0, 1];

async fn killed_at_every_step(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(2..11, 20);
    let mut settings = Settings::new(Disposal::Archive).queued("");
    "max = 1\ngroup_objects = 1".clone_into(&mut settings.workers);
    "[lifecycle]\ngrace = \"0s\"".clone_into(&mut settings.more);
    let mut keyfall = lab.keyfall("a", &settings);
    let mut kills = 0;
    // What only happens where one object replaces another is struck by the matrix, what an operator's command does by cases
    // of its own.
    let is_elsewhere = |name: &str| name.starts_with("replace.") || name.starts_with(super::repair::STEPS);
    let names = || Point::ALL.iter().map(|point| point.name()).filter(|name| !is_elsewhere(name));
    for name in names() {
        if name == "settle.begun" {
            for number in BAD {
                put_bad(&mut lab, number);
            }
        }
        if name.starts_with("notify.") {
            tell(&lab, [2]);
        }
        let begun = keyfall.control.hits("copy.begun");
        let gate = Gate::new();
        if name.starts_with("shutdown.") {
            if name == "shutdown.released" {
                lab.put(11..12, 20);
                // Held, so that the load is still running when the grace period is over.
                drop(keyfall.control.arm("copy.begun", 1, Strike::Hold(gate.clone())));
            }
            keyfall.start();
            keyfall.says("started").await;
            if name == "shutdown.released" {
                within("the load runs", keyfall.control.reached("copy.begun", begun + 1)).await;
            }
            arm_kill(&mut lab, &keyfall, name);
            keyfall.signal("TERM");
            keyfall.killed().await;
        } else if name == "reload.applied" {
            arm_kill(&mut lab, &keyfall, name);
            keyfall.start();
            keyfall.says("started").await;
            keyfall.signal("HUP");
            keyfall.killed().await;
        } else {
            dies_at(&mut lab, &mut keyfall, name, 1).await;
        }
        gate.open();
        kills += 1;
    }
    assert_eq!(kills, names().count());
    keyfall.start();
    lab.until_state("loaded", 10).await;
    let files = 12;
    let gets = lab.s3.log().iter().filter(|entry| entry.op == Operation::GetObject).count();
    assert!(gets <= files + kills, "{gets} reads of {files} objects in {kills} lives");
    let mut report = lab.verify(&mut [&mut keyfall]).await;
    report.note = format!("{kills} kills, {gets} reads of {files} objects");
    report
}

fn arm_kill(lab: &mut Lab, keyfall: &Keyfall, name: &str) {
    let armed = keyfall.control.arm(name, 1, Strike::Kill);
    lab.expect_hits(&format!("{name} kill"), &armed, 1);
}

/// An object with a record that has one field too few.
pub(super) fn put_bad(lab: &mut Lab, number: usize) {
    let mut body = Body::new(number, 3, &mut lab.random);
    body.text.push_str("7,8,short\n");
    lab.put_body(&key(number), &body);
    lab.oracle.expect(&key(number), Fate::Quarantined);
}
