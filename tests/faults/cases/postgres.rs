//! F25–F34: the database, or the way to it, goes away at a step of a load.
//!
//! Whatever the connection says, the ledger decides: what committed is not loaded again, what did not is.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use ::keyfall::demo::proxy::{Action, Trigger};
use ::keyfall::demo::s3::{Gate, Operation};

use crate::case::{Case, Report, Trial};
use crate::control::Strike;
use crate::keyfall::{DEADLINE, Keyfall};
use crate::lab::{BUCKET, Disposal, Lab, Settings, key, within};
use crate::oracle::Body;

/// Enough rows for several COPY frames.
pub(super) const STREAMED: u64 = 30_000;

/// `COMMIT` as the simple query protocol sends it: length, text, zero.
const COMMIT: &[u8] = b"\x0bCOMMIT\0";

pub(super) const COPYING: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND state = 'active' AND query LIKE 'COPY%'";

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("F25", "backend ended mid-COPY, then a COMMIT undone behind our back", backend_ended).first_wave(),
        Case::new("F26", "server crashes in the middle of COPY", server_crashes_in_copy),
        Case::new("F27", "server crashes right after COMMIT, before disposal", server_crashes_after_commit)
            .first_wave(),
        Case::new("F28", "fast shutdown in the middle of COPY", fast_shutdown),
        Case::new("F29", "started while the server is in recovery", started_in_recovery),
        Case::new("F30", "answers lost after COMMIT was forwarded", answer_lost).first_wave(),
        Case::new("F31", "connection cut before COMMIT arrives", cut_before_commit).first_wave(),
        Case::new("F32", "black holes in the middle of COPY and at COMMIT", black_holes),
        Case::new("F34", "an unrelated backend is killed, all sessions drop", backend_killed),
    ]
}

/// Makes the ledger before the case begins, so that triggers and proxies meet loads only.
pub(super) async fn migrated(lab: &Lab, settings: &Settings) {
    let mut first = lab.keyfall("migrate", settings);
    first.start_with(&["migrate"]);
    assert_eq!(first.ended().await, 0, "{}", first.log());
}

/// Two reports as one.
pub(super) fn both(mut first: Report, second: Report) -> Report {
    first.hits.extend(second.hits);
    let notes = [std::mem::take(&mut first.note), second.note];
    first.note = notes.into_iter().filter(|note| !note.is_empty()).collect::<Vec<_>>().join("; ");
    first
}

/// Nobody's content was at fault.
pub(super) async fn assert_unblamed(lab: &Lab) {
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects WHERE suspicions > 0").await, 0, "an object was blamed");
}

/// Sum over all objects.
pub(super) async fn attempts(lab: &Lab) -> i64 {
    lab.count("SELECT sum(attempt)::bigint FROM keyfall.objects").await
}

/// Waits until something holds.
pub(super) async fn until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Directory of the lab's server.
pub(super) async fn data_directory(lab: &Lab) -> PathBuf {
    lab.query("SHOW data_directory").await.first().map(|row| row.get::<_, String>(0)).expect("a setting").into()
}

/// First process of the server in this directory, while there is one.
pub(super) fn postmaster(directory: &std::path::Path) -> Option<u32> {
    let text = std::fs::read_to_string(directory.join("postmaster.pid")).ok()?;
    let pid = text.lines().next()?.parse().ok()?;
    std::path::Path::new(&format!("/proc/{pid}")).exists().then_some(pid)
}

/// Sends a signal to one process of our own server.
pub(super) fn signal(name: &str, pid: impl std::fmt::Display) {
    let sent = Command::new("sh").arg("-c").arg(format!("kill -{name} {pid}")).status();
    assert!(sent.expect("a shell").success(), "process {pid} is gone");
}

/// A program whose first COPY waits at its third frame.
async fn held_in_copy(lab: &mut Lab, settings: &Settings) -> (Keyfall, Gate) {
    let mut keyfall = lab.keyfall("a", settings);
    let gate = Gate::new();
    let held = keyfall.control.arm("copy.frame", 3, Strike::Hold(gate.clone()));
    lab.expect_hits("copy.frame hold", &held, 1);
    keyfall.start();
    within("COPY", gate.reached()).await;
    lab.until_count(COPYING, 1).await;
    (keyfall, gate)
}

/// The first COMMIT from now on is answered with success and leaves nothing, as after rust-postgres#1334.
const UNDO_ONCE: &str = "CREATE TABLE undone (id bigint);
    CREATE FUNCTION undo() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NEW.state = 'loaded' AND OLD.state = 'leased' AND (SELECT count(*) FROM public.undone) < 1 THEN
            INSERT INTO public.undone VALUES (NEW.id);
            DELETE FROM public.items WHERE _object_id = NEW.id;
            UPDATE keyfall.objects SET state = 'leased', lease_expires_at = OLD.lease_expires_at,
                   disposal = 'none', loaded_at = NULL WHERE id = NEW.id;
        END IF;
        RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER undo AFTER UPDATE ON keyfall.objects DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION undo()";

async fn backend_ended(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..1, STREAMED);
    let (mut keyfall, gate) = held_in_copy(&mut lab, &Settings::new(Disposal::Delete)).await;
    lab.execute(UNDO_ONCE).await;
    let ended = "SELECT count(*) FROM (SELECT pg_terminate_backend(pid) AS done FROM pg_stat_activity
        WHERE datname = current_database() AND state = 'active' AND query LIKE 'COPY%') x WHERE done";
    assert_eq!(lab.count(ended).await, 1);
    lab.until_count(COPYING, 0).await;
    gate.open();
    // The driver keeps the server's last words, 57P01, to itself while it sends.
    keyfall.says("E-PG-CONNECTION").await;
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE disposal = 'done'", 1).await;
    assert_eq!(lab.count("SELECT count(*) FROM undone").await, 1);
    // The broken connection blames nobody, the undone commit may be the object's doing.
    let blamed = lab.count("SELECT suspicions::bigint FROM keyfall.objects").await.unsigned_abs();
    lab.expect_count("COMMIT undone", move || blamed, 1);
    let noticed = keyfall.log().matches("E-COMMIT-UNDONE").count() as u64;
    lab.expect_count("E-COMMIT-UNDONE", move || noticed, 1);
    assert_eq!(lab.requests(Operation::GetObject, &key(0)), [200; 3]);
    assert_deleted_after_fences(&lab, &keyfall, 1, 2);
    lab.verify(&mut [&mut keyfall]).await
}

/// No object was deleted before the ledger had its rows, however early the disposer looked: before each deletion, so
/// many loads had come to their fence. Objects that failed together may be loaded apart.
fn assert_deleted_after_fences(lab: &Lab, keyfall: &Keyfall, objects: usize, fences: usize) {
    let steps = keyfall.control.steps();
    let fenced: Vec<u64> = steps.iter().filter(|step| step.point == "commit.fenced").map(|step| step.seq).collect();
    let log = lab.s3.log();
    let objects_of_ours: Vec<String> = (0..objects).map(key).collect();
    let deleted: Vec<u64> = log
        .iter()
        // The probe for conditional deletion has a name of its own.
        .filter(|entry| entry.op == Operation::DeleteObjects && objects_of_ours.contains(&entry.key))
        .map(|entry| entry.seq)
        .collect();
    assert_eq!(deleted.len(), objects, "{deleted:?}");
    let before = |seq: &u64| fenced.iter().filter(|fence| *fence < seq).count();
    assert!(deleted.iter().all(|seq| before(seq) >= fences), "deleted at {deleted:?}, fences at {fenced:?}");
}

async fn server_crashes_in_copy(trial: Trial) -> Report {
    let mut lab = Lab::with_own_server(&trial, &[]).await;
    lab.put(0..2, STREAMED);
    let (mut keyfall, gate) = held_in_copy(&mut lab, &Settings::new(Disposal::Delete)).await;
    lab.server().stop_immediate().expect("the server stops");
    gate.open();
    keyfall.answers("/readyz", 503).await;
    assert_eq!(keyfall.http("/livez").await.map(|(status, _)| status), Some(200));
    lab.server().start_again().expect("the server starts");
    lab.until_state("loaded", 2).await;
    assert_unblamed(&lab).await;
    keyfall.answers("/readyz", 200).await;
    lab.verify(&mut [&mut keyfall]).await
}

/// The server would lose what it answered, unless each load asks for durability itself.
const FORGETFUL: &[(&str, &str)] =
    &[("fsync", "on"), ("full_page_writes", "on"), ("synchronous_commit", "off"), ("wal_writer_delay", "10s")];

async fn server_crashes_after_commit(trial: Trial) -> Report {
    let mut lab = Lab::with_own_server(&trial, FORGETFUL).await;
    lab.put(0..1, STREAMED);
    // The read-back must outlast the restart.
    let workers = "retry_min = \"2s\"\nretry_max = \"4s\"".to_owned();
    let mut keyfall = lab.keyfall("a", &Settings { workers, ..Settings::new(Disposal::Archive) });
    let (committed, disposing) = (Gate::new(), Gate::new());
    let held = keyfall.control.arm("commit.committed", 1, Strike::Hold(committed.clone()));
    lab.expect_hits("commit.committed hold", &held, 1);
    let taken = keyfall.control.arm("dispose.taken", 1, Strike::Hold(disposing.clone()));
    lab.expect_hits("dispose.taken hold", &taken, 1);
    keyfall.start();
    within("COMMIT was answered", committed.reached()).await;
    lab.server().stop_immediate().expect("the server stops");
    committed.open();
    keyfall.says("read-back failed").await;
    lab.server().start_again().expect("the server starts");
    assert_eq!(lab.count("SELECT count(*) FROM items").await, 30_000, "what was committed did not survive");
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects WHERE state = 'loaded'").await, 1);
    within("the disposal begins", disposing.reached()).await;
    assert!(lab.s3.get(BUCKET, &key(0)).is_some());
    disposing.open();
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE disposal = 'done'", 1).await;
    assert_eq!(lab.requests(Operation::GetObject, &key(0)), [200], "a loaded object was read again");
    lab.verify(&mut [&mut keyfall]).await
}

async fn fast_shutdown(trial: Trial) -> Report {
    let mut lab = Lab::with_own_server(&trial, &[]).await;
    lab.put(0..2, STREAMED);
    let (mut keyfall, gate) = held_in_copy(&mut lab, &Settings::new(Disposal::Delete)).await;
    let directory = data_directory(&lab).await;
    signal("INT", postmaster(&directory).expect("a server"));
    until("the server is down", || postmaster(&directory).is_none()).await;
    gate.open();
    keyfall.says("E-PG-CONNECTION").await;
    lab.server().start_again().expect("the server starts");
    lab.until_state("loaded", 2).await;
    assert_unblamed(&lab).await;
    lab.verify(&mut [&mut keyfall]).await
}

/// A standby that takes no queries refuses logins as a server does that is starting up, for as long as the case wants.
async fn started_in_recovery(trial: Trial) -> Report {
    let mut lab = Lab::with_own_server(&trial, &[("hot_standby", "off")]).await;
    lab.put(0..2, STREAMED);
    let directory = data_directory(&lab).await;
    lab.server().stop_immediate().expect("the server stops");
    std::fs::write(directory.join("standby.signal"), "").expect("a file");
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Delete));
    keyfall.start();
    let begun = std::thread::scope(|scope| {
        let server = lab.server();
        // Comes back when the server takes logins.
        let starting = scope.spawn(move || server.start_again());
        let begun = Instant::now();
        while !keyfall.log().contains("57P03") {
            assert!(begun.elapsed() < DEADLINE, "never refused: {}", keyfall.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(!keyfall.log().contains("ledger schema migrated"));
        std::fs::write(directory.join("promote"), "").expect("a file");
        signal("USR1", postmaster(&directory).expect("a server"));
        starting.join().expect("a thread").expect("the server starts");
        begun.elapsed()
    });
    assert!(begun < DEADLINE);
    keyfall.says("started").await;
    lab.until_state("loaded", 2).await;
    let log = keyfall.log();
    assert!(log.contains("waiting for PostgreSQL"), "{log}");
    assert_eq!(log.matches("ledger schema migrated").count(), 1);
    assert_eq!(attempts(&lab).await, 2);
    lab.verify(&mut [&mut keyfall]).await
}

async fn answer_lost(trial: Trial) -> Report {
    let swallowed = broken_commit(&trial, Action::DropAnswers, (STREAMED, 1), 1).await;
    let cut = broken_commit(&trial, Action::CutAfter, (3, 5), 1).await;
    both(swallowed, cut)
}

async fn cut_before_commit(trial: Trial) -> Report {
    let one = broken_commit(&trial, Action::CutBefore, (STREAMED, 1), 2).await;
    let group = broken_commit(&trial, Action::CutBefore, (3, 5), 2).await;
    both(one, group)
}

/// Breaks the connection at the only COMMIT; each object must be read so often in the end.
async fn broken_commit(trial: &Trial, action: Action, (rows, objects): (u64, usize), reads: usize) -> Report {
    let mut lab = Lab::start(trial).await;
    // An answer that never comes is given up after the sum of both.
    let database = "copy_stall_timeout = \"3s\"\nstatement_timeout = \"3s\"".to_owned();
    let settings = Settings { database, ..Settings::new(Disposal::Delete) }.through_proxy();
    migrated(&lab, &settings).await;
    lab.put(0..objects, rows);
    let trigger = lab.proxy.arm(Trigger::new(COMMIT, action));
    let struck = std::sync::Arc::clone(&trigger);
    lab.expect_count(&format!("{action:?} at COMMIT of {objects}"), move || struck.hits(), 1);
    let mut keyfall = lab.keyfall("a", &settings);
    keyfall.start();
    within("COMMIT", trigger.hit()).await;
    let count = i64::try_from(objects).expect("a count");
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE disposal = 'done'", count).await;
    // The disposer may be quicker than a worker that waits for an answer.
    within("the read-back", keyfall.control.reached("commit.read_back", reads)).await;
    for number in 0..objects {
        assert_eq!(lab.requests(Operation::GetObject, &key(number)), vec![200; reads], "object {number}");
    }
    assert_unblamed(&lab).await;
    assert_deleted_after_fences(&lab, &keyfall, objects, reads);
    lab.verify(&mut [&mut keyfall]).await
}

async fn black_holes(trial: Trial) -> Report {
    let copy = black_hole_in_copy(&trial).await;
    both(copy, black_hole_at_commit(&trial).await)
}

/// Everything behind one cell is acknowledged by TCP and goes nowhere; no server-side timeout ends such a COPY.
async fn black_hole_in_copy(trial: &Trial) -> Report {
    let mut lab = Lab::start(trial).await;
    let database = "copy_stall_timeout = \"1s\"".to_owned();
    let settings = Settings { database, ..Settings::new(Disposal::Delete) }.through_proxy();
    let body = Body::new(0, STREAMED, &mut lab.random);
    let cell = body.text.lines().skip(20_000).filter_map(|line| line.split(',').nth(2));
    let cell = cell.into_iter().find(|cell| cell.len() > 14 && body.text.matches(cell).count() == 1);
    let trigger = lab.proxy.arm(Trigger::new(cell.expect("a cell of its own"), Action::Blackhole));
    lab.put_body(&key(0), &body);
    let struck = std::sync::Arc::clone(&trigger);
    lab.expect_count("black hole in COPY", move || struck.hits(), 1);
    let mut keyfall = lab.keyfall("a", &settings);
    keyfall.start();
    within("the cell", trigger.hit()).await;
    let begun = Instant::now();
    lab.until_state("loaded", 1).await;
    let took = begun.elapsed();
    assert!(keyfall.log().contains("E-PG-TIMEOUT"), "{}", keyfall.log());
    assert_eq!(attempts(&lab).await, 2);
    assert_unblamed(&lab).await;
    let report = lab.verify(&mut [&mut keyfall]).await;
    both(report, Report { note: format!("COPY went on after {:.1} s", took.as_secs_f64()), ..Report::default() })
}

/// The server keeps the ledger row locked and waits for a COMMIT that never comes.
async fn black_hole_at_commit(trial: &Trial) -> Report {
    let mut lab = Lab::start(trial).await;
    let database = "copy_stall_timeout = \"2s\"\nstatement_timeout = \"2s\"".to_owned();
    let settings = Settings { database, ..Settings::new(Disposal::Delete) }.through_proxy();
    migrated(&lab, &settings).await;
    lab.put(0..1, STREAMED);
    let trigger = lab.proxy.arm(Trigger::new(COMMIT, Action::Blackhole));
    let struck = std::sync::Arc::clone(&trigger);
    lab.expect_count("black hole at COMMIT", move || struck.hits(), 1);
    let mut keyfall = lab.keyfall("a", &settings);
    keyfall.start();
    within("COMMIT", trigger.hit()).await;
    let begun = Instant::now();
    lab.until_state("loaded", 1).await;
    let took = begun.elapsed();
    assert_eq!(attempts(&lab).await, 2);
    assert_unblamed(&lab).await;
    let report = lab.verify(&mut [&mut keyfall]).await;
    both(report, Report { note: format!("a lost COMMIT after {:.1} s", took.as_secs_f64()), ..Report::default() })
}

async fn backend_killed(trial: Trial) -> Report {
    let mut lab = Lab::with_own_server(&trial, &[]).await;
    lab.put(0..3, STREAMED);
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Delete));
    let gate = Gate::new();
    let held = keyfall.control.arm_times("copy.frame", 1, 3, Strike::Hold(gate.clone()));
    lab.expect_hits("copy.frame hold", &held, 3);
    keyfall.start();
    within("three loads copy", keyfall.control.reached("copy.frame", 3)).await;
    let unrelated = lab.client().await;
    let pid: i32 = unrelated.query_one("SELECT pg_backend_pid()", &[]).await.expect("a pid").get(0);
    signal("KILL", pid);
    until("the server has reset itself", || unrelated.is_closed()).await;
    gate.open();
    lab.until_state("loaded", 3).await;
    // One more attempt each: nobody was given a connection of the time before.
    assert_eq!(attempts(&lab).await, 6);
    assert_unblamed(&lab).await;
    lab.verify(&mut [&mut keyfall]).await
}
