//! F98–F103: several instances, several versions, and leases shorter than the work.

use ::keyfall::demo::s3::{Gate, Operation};

use crate::case::{Case, Report, Trial};
use crate::control::Strike;
use crate::keyfall::Keyfall;
use crate::lab::{Disposal, Lab, Settings, key, within};
use crate::oracle::Body;

/// Sessions of this database that wait for the lock of the migrations.
const WAITING_FOR_THE_LOCK: &str = "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
     WHERE l.locktype = 'advisory' AND NOT l.granted AND a.datname = current_database()";

/// Migrations of this program, and so the version it knows.
const MIGRATIONS: i64 = 3;

/// Everything the ledger knows, as one number.
const FINGERPRINT: &str = "SELECT coalesce(sum(hashtextextended(t, 0) % 1000000007), 0)::bigint FROM
     (SELECT o::text FROM keyfall.objects o UNION ALL SELECT f::text FROM keyfall.feeds f) x (t)";

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("F98", "three instances, 300 objects", three_instances).first_wave(),
        Case::new("F99", "a load that takes longer than its lease", longer_than_the_lease),
        Case::new("F99-blocked", "a load whose lease cannot be renewed", renewal_blocked),
        Case::new("F100", "two feeds that both want the same keys", overlapping_feeds),
        Case::new("F101", "the same bytes under two keys", same_bytes_twice),
        Case::new("F102", "five instances start at once on an empty database", five_at_once).first_wave(),
        Case::new("F102-locked", "killed with the migrations' lock, another waits", |trial| {
            killed_while_migrating(trial, "migrate.locked", 0)
        }),
        Case::new("F102-applied", "killed after a migration, another waits", |trial| {
            killed_while_migrating(trial, "migrate.applied", 1)
        }),
        Case::new("F103", "the ledger is newer than the program", newer_ledger),
        Case::new("F103-running", "the ledger moves forward under a running program", ledger_moves_forward),
        Case::new("O-same-name", "two instances with the same name, one killed", same_name),
        Case::new("O-once", "run --once beside a daemon", once_beside_a_daemon),
    ]
}

async fn three_instances(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..300, 3);
    let settings = Settings { workers: "max = 2\ngroup_objects = 2".to_owned(), ..Settings::new(Disposal::Delete) };
    let mut programs = ["a", "b", "c"].map(|name| lab.keyfall(name, &settings));
    // From a common starting line, so that nobody is done before the others are there.
    let start = Gate::new();
    for program in &mut programs {
        let held = program.control.arm("lease.taken", 1, Strike::Hold(start.clone()));
        lab.expect_hits("lease.taken hold", &held, 1);
        program.start();
    }
    for program in &programs {
        within("each has a lease", program.control.reached("lease.taken", 1)).await;
    }
    let held = "SELECT count(*) || ' ' || count(DISTINCT lease_owner) FROM keyfall.objects WHERE state = 'leased'";
    let held: String = lab.query(held).await.first().expect("a row").get(0);
    assert_eq!(held, "6 3", "objects leased, by owners");
    start.open();
    lab.until_state("loaded", 300).await;
    let shares = "SELECT lease_owner, count(*) FROM keyfall.objects GROUP BY 1 ORDER BY 1";
    let shares: Vec<(String, i64)> = lab.query(shares).await.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert!(shares.len() == 3 && shares.iter().all(|(_, share)| *share >= 15), "shares: {shares:?}");
    for number in 0..300 {
        assert_eq!(lab.requests(Operation::GetObject, &key(number)), [200], "{} was read again", key(number));
    }
    let [a, b, c] = &mut programs;
    Report { note: format!("{shares:?}"), ..lab.verify(&mut [a, b, c]).await }
}

async fn longer_than_the_lease(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..1, 1000);
    let settings = Settings::new(Disposal::Delete);
    let mut slow = lab.keyfall("slow", &settings);
    let gate = Gate::new();
    let held = slow.control.arm("copy.begun", 1, Strike::Hold(gate.clone()));
    lab.expect_hits("copy.begun hold", &held, 1);
    slow.start();
    within("the load is open", gate.reached()).await;
    let mut other = lab.keyfall("other", &settings);
    other.start();
    // Eight renewals, a third of the lease apart: more than two leases.
    let renewals = slow.control.hits("lease.renewed") + 8;
    within("renewals", slow.control.reached("lease.renewed", renewals)).await;
    let sql = "SELECT count(*) FROM keyfall.objects WHERE lease_owner = 'slow' AND attempt = 1 AND state = 'leased'";
    assert_eq!(lab.count(sql).await, 1, "the lease was taken over while it was renewed");
    gate.open();
    lab.until_state("loaded", 1).await;
    assert_eq!(lab.requests(Operation::GetObject, &key(0)), [200]);
    lab.verify(&mut [&mut slow, &mut other]).await
}

async fn renewal_blocked(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..1, 1000);
    let settings = Settings::new(Disposal::Delete);
    // Its one worker is busy: it cannot lease the object again itself before the other one does.
    let busy = Settings { workers: "max = 1".to_owned(), ..settings.clone() };
    let mut stuck = lab.keyfall("stuck", &busy);
    let (load, renewal) = (Gate::new(), Gate::new());
    let held = stuck.control.arm("copy.finished", 1, Strike::Hold(load.clone()));
    lab.expect_hits("copy.finished hold", &held, 1);
    stuck.start();
    within("the load is nearly done", load.reached()).await;
    let blocked = stuck.control.arm("lease.renewed", 1, Strike::Hold(renewal.clone()));
    lab.expect_hits("lease.renewed hold", &blocked, 1);
    within("renewal hangs", renewal.reached()).await;
    let mut other = lab.keyfall("other", &settings);
    other.start();
    lab.until_state("loaded", 1).await;
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects WHERE lease_owner = 'other'").await, 1);
    // The late owner's transaction is whole and open: only the fence is between it and a second load.
    load.open();
    let open = "SELECT count(*) FROM pg_stat_activity
                 WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
    lab.until_count(open, 0).await;
    assert_eq!(lab.count("SELECT count(*) FROM items").await, 1000, "both owners committed");
    stuck.says("E-LEASE-LOST").await;
    renewal.open();
    lab.verify(&mut [&mut stuck, &mut other]).await
}

async fn overlapping_feeds(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..5, 3);
    lab.execute("CREATE TABLE others (LIKE items)").await;
    let rival = "[feeds.others]\nbucket = \"drop\"\nprefix = \"incoming/2024-05\"\ntable = \"others\"\n";
    let mut keyfall = lab.keyfall("a", &Settings { more: rival.to_owned(), ..Settings::new(Disposal::Delete) });
    let (code, told) = keyfall.errand(&["check", "--offline"]).await;
    assert_eq!(code, 78, "{told}");
    assert!(told.contains("both could load the same keys") && told.contains("others"), "{told}");
    keyfall.start();
    assert_eq!(keyfall.ended().await, 78, "{}", keyfall.log());
    assert!(keyfall.log().contains("both could load the same keys"), "{}", keyfall.log());
    assert!(lab.s3.log().is_empty(), "something was asked of S3");
    keyfall.rewrite("incoming/2024-05", "others/");
    keyfall.start();
    lab.verify(&mut [&mut keyfall]).await
}

async fn same_bytes_twice(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    let body = Body::new(7, 20, &mut lab.random);
    let etags = [lab.put_body(&key(0), &body), lab.put_body(&key(1), &body)];
    let [one, other] = etags;
    assert_eq!(one, other);
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Archive));
    keyfall.start();
    lab.until_count("SELECT count(*) FROM items", 40).await;
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE disposal = 'done'", 2).await;
    assert_eq!(lab.s3.len("drop"), 2, "both lie in the archive");
    lab.verify(&mut [&mut keyfall]).await
}

async fn five_at_once(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..20, 3);
    let settings = Settings::new(Disposal::Delete);
    let gate = Gate::new();
    let mut programs = ["a", "b", "c", "d", "e"].map(|name| lab.keyfall(name, &settings));
    for program in &mut programs {
        let held = program.control.arm("migrate.locked", 1, Strike::Hold(gate.clone()));
        // Whoever comes second finds the ledger made, and makes sure of that under the lock all the same.
        lab.expect_hits("migrate.locked hold", &held, 1);
        program.start();
    }
    within("one has the lock", gate.reached()).await;
    let with_the_lock =
        |programs: &[Keyfall]| -> usize { programs.iter().map(|program| program.control.hits("migrate.locked")).sum() };
    while lab.count(WAITING_FOR_THE_LOCK).await < 4 {
        assert_eq!(with_the_lock(&programs), 1, "two migrate at once");
    }
    assert_eq!(with_the_lock(&programs), 1, "two migrate at once");
    assert_eq!(lab.count("SELECT count(*) FROM pg_class WHERE oid = to_regclass('keyfall.objects')").await, 0);
    gate.open();
    for program in &programs {
        program.says("started").await;
    }
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.schema_history").await, MIGRATIONS);
    let mut programs: Vec<&mut Keyfall> = programs.iter_mut().collect();
    lab.verify(&mut programs).await
}

async fn killed_while_migrating(trial: Trial, point: &'static str, migrated: i64) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..5, 3);
    let settings = Settings::new(Disposal::Delete);
    let (mut first, mut second) = (lab.keyfall("first", &settings), lab.keyfall("second", &settings));
    let gate = Gate::new();
    // Rules are followed in their order: it waits, then it dies.
    let held = first.control.arm(point, 1, Strike::Hold(gate.clone()));
    let killed = first.control.arm(point, 1, Strike::Kill);
    lab.expect_hits("hold", &held, 1);
    lab.expect_hits("kill", &killed, 1);
    first.start();
    within("it migrates", gate.reached()).await;
    let made = lab.count("SELECT count(*) FROM pg_class WHERE oid = to_regclass('keyfall.objects')").await;
    assert_eq!(made, migrated);
    if made == 0 {
        second.start();
        lab.until_count(WAITING_FOR_THE_LOCK, 1).await;
    }
    gate.open();
    first.killed().await;
    if made == 1 {
        second.start();
    }
    second.says("started").await;
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.schema_history").await, MIGRATIONS);
    first.start();
    lab.verify(&mut [&mut first, &mut second]).await
}

fn newer_than_known() -> String {
    format!("the database has version 99, this program knows {MIGRATIONS}")
}

const FUTURE: &str = "INSERT INTO keyfall.schema_history (version, name, applied_on, checksum)
     SELECT 99, 'future', applied_on, checksum FROM keyfall.schema_history LIMIT 1";

async fn newer_ledger(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..3, 3);
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Keep));
    keyfall.start();
    lab.until_state("loaded", 3).await;
    keyfall.stop().await;
    lab.execute(FUTURE).await;
    lab.put(3..6, 3);
    let before = lab.count(FINGERPRINT).await;
    let requests = lab.s3.log().len();
    for arguments in [["run"].as_slice(), &["run", "--once"]] {
        keyfall.start_with(arguments);
        assert_eq!(keyfall.ended().await, 12, "{}", keyfall.log());
        let log = keyfall.log_of_this_life();
        assert!(log.contains(&newer_than_known()), "{log}");
    }
    for arguments in [["check"].as_slice(), &["migrate"], &["sweep"], &["retry", "--state", "skipped"]] {
        let (code, told) = keyfall.errand(arguments).await;
        assert_eq!(code, 12, "{arguments:?}: {told}");
        assert!(told.contains("version 99"), "{told}");
    }
    assert_eq!(lab.count(FINGERPRINT).await, before, "an old program wrote to a new ledger");
    let asked = lab.s3.log().into_iter().skip(requests).filter(|entry| entry.op == Operation::GetObject).count();
    assert_eq!(asked, 0, "objects were read for a ledger that cannot be written");
    lab.execute("DELETE FROM keyfall.schema_history WHERE version = 99").await;
    keyfall.start();
    lab.verify(&mut [&mut keyfall]).await
}

async fn ledger_moves_forward(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..3, 3);
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Delete));
    let gate = Gate::new();
    let held = keyfall.control.arm("fetch.opened", 1, Strike::Hold(gate.clone()));
    lab.expect_hits("fetch.opened hold", &held, 1);
    keyfall.start();
    within("an object is open", gate.reached()).await;
    // What a migration may do while the release before it still runs: add.
    lab.execute(&format!("ALTER TABLE keyfall.objects ADD COLUMN later text DEFAULT 'x' NOT NULL; {FUTURE}")).await;
    gate.open();
    lab.put(3..6, 3);
    lab.until_state("loaded", 6).await;
    keyfall.signal("HUP");
    keyfall.says("the configuration was not reloaded").await;
    assert!(keyfall.log().contains(&newer_than_known()), "{}", keyfall.log());
    lab.put(6..9, 3);
    lab.verify(&mut [&mut keyfall]).await
}

async fn same_name(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..100, 3);
    let settings = Settings { workers: "group_objects = 4".to_owned(), ..Settings::new(Disposal::Delete) };
    let (mut one, mut other) = (lab.keyfall("one", &settings), lab.keyfall("other", &settings));
    one.rewrite("instance = \"one\"", "instance = \"same\"");
    other.rewrite("instance = \"other\"", "instance = \"same\"");
    let killed = one.control.arm("copy.frame", 3, Strike::Kill);
    lab.expect_hits("copy.frame kill", &killed, 1);
    one.start();
    other.start();
    one.killed().await;
    // It comes back under the same name while its own old leases are still running.
    one.start();
    lab.verify(&mut [&mut one, &mut other]).await
}

async fn once_beside_a_daemon(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..100, 3);
    let settings = Settings { workers: "group_objects = 4".to_owned(), ..Settings::new(Disposal::Archive) };
    let (mut daemon, mut once) = (lab.keyfall("daemon", &settings), lab.keyfall("once", &settings));
    let gate = Gate::new();
    let held = daemon.control.arm("copy.begun", 1, Strike::Hold(gate.clone()));
    lab.expect_hits("copy.begun hold", &held, 1);
    daemon.start();
    within("the daemon loads", gate.reached()).await;
    once.start_with(&["run", "--once"]);
    // It does not take what the daemon holds, and it does not end before that is done either.
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE state NOT IN ('loaded', 'leased')", 0).await;
    assert!(lab.count("SELECT count(*) FROM keyfall.objects WHERE state = 'leased'").await > 0);
    gate.open();
    assert_eq!(once.ended().await, 0, "{}", once.log());
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects WHERE disposal <> 'done'").await, 0);
    lab.verify(&mut [&mut daemon, &mut once]).await
}
