//! F111, F112, F116: what an operator does to the ledger by hand, and to a thousand objects at once.

use ::keyfall::demo::s3::{Gate, Operation};

use crate::case::{Case, Report, Trial};
use crate::control::Strike;
use crate::lab::{Disposal, Lab, Settings, key, within};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("F111", "a ledger row is deleted, its object still there", ledger_row_deleted),
        Case::new("F111-loading", "the ledger row of an object in COPY is deleted", ledger_row_deleted_while_loading),
        Case::new("F112", "the feeds' positions are deleted", positions_deleted),
        Case::new("F116", "a thousand quarantined objects are retried", a_thousand_retried),
        Case::new("O-database", "the database is dropped and made again, empty", database_dropped),
    ]
}

/// Rows whose object the ledger does not know.
const ORPHANS: &str = "SELECT count(*) FROM items i
     WHERE NOT EXISTS (SELECT FROM keyfall.objects o WHERE o.id = i._object_id AND o.state = 'loaded')";

async fn ledger_row_deleted(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..3, 10);
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Keep));
    keyfall.start();
    lab.until_state("loaded", 3).await;
    // Both go: this is how an object is loaded anew.
    lab.execute(&format!(
        "BEGIN; DELETE FROM items WHERE _object_id = (SELECT id FROM keyfall.objects WHERE key = '{0}');
         DELETE FROM keyfall.objects WHERE key = '{0}'; COMMIT",
        key(0)
    ))
    .await;
    // Only the entry goes: the object is loaded twice, as documented, and SQL finds the rows that nobody accounts for.
    lab.execute(&format!("DELETE FROM keyfall.objects WHERE key = '{}'", key(1))).await;
    assert_eq!(lab.count(ORPHANS).await, 10);
    let (code, told) = keyfall.errand(&["sweep"]).await;
    assert_eq!(code, 0, "{told}");
    lab.until_state("loaded", 3).await;
    lab.until_count("SELECT count(*) FROM items", 40).await;
    assert_eq!(lab.count(ORPHANS).await, 10);
    lab.execute("DELETE FROM items i WHERE NOT EXISTS (SELECT FROM keyfall.objects o WHERE o.id = i._object_id)").await;
    assert_eq!(lab.requests(Operation::GetObject, &key(0)), [200, 200]);
    assert_eq!(lab.requests(Operation::GetObject, &key(1)), [200, 200]);
    assert_eq!(lab.requests(Operation::GetObject, &key(2)), [200]);
    // The first life counted rows that were taken out of the ledger by hand.
    keyfall.stop().await;
    keyfall.start();
    keyfall.says("started").await;
    lab.verify(&mut [&mut keyfall]).await
}

async fn ledger_row_deleted_while_loading(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..1, 1000);
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Delete));
    let gate = Gate::new();
    let held = keyfall.control.arm("copy.finished", 1, Strike::Hold(gate.clone()));
    lab.expect_hits("copy.finished hold", &held, 1);
    keyfall.start();
    within("all rows are copied", gate.reached()).await;
    lab.execute("DELETE FROM keyfall.objects").await;
    gate.open();
    keyfall.says("E-LEASE-LOST").await;
    assert_eq!(lab.count("SELECT count(*) FROM items").await, 0, "rows without an entry");
    let (code, told) = keyfall.errand(&["sweep"]).await;
    assert_eq!(code, 0, "{told}");
    lab.verify(&mut [&mut keyfall]).await
}

async fn positions_deleted(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..50, 3);
    let settings = Settings { workers: "group_objects = 4".to_owned(), ..Settings::new(Disposal::Keep) };
    let mut keyfall = lab.keyfall("a", &settings);
    keyfall.start();
    keyfall.says("swept").await;
    lab.execute("DELETE FROM keyfall.feeds").await;
    lab.until_state("loaded", 50).await;
    lab.execute("UPDATE keyfall.feeds SET last_poll_at = '2001-01-01', last_sweep_at = '2001-01-01'").await;
    lab.put(50..60, 3);
    lab.until_state("loaded", 60).await;
    keyfall.stop().await;
    lab.execute("DELETE FROM keyfall.feeds").await;
    lab.put(60..70, 3);
    keyfall.start();
    lab.until_state("loaded", 70).await;
    // The clock of the database was set back in between: everything happened in the future.
    lab.execute("UPDATE keyfall.feeds SET last_poll_at = '2099-01-01', last_sweep_at = '2099-01-01'").await;
    keyfall.stop().await;
    keyfall.start();
    lab.put(70..80, 3);
    lab.until_state("loaded", 80).await;
    for number in 0..80 {
        assert_eq!(lab.requests(Operation::GetObject, &key(number)), [200], "{} was read again", key(number));
    }
    lab.verify(&mut [&mut keyfall]).await
}

async fn a_thousand_retried(trial: Trial) -> Report {
    const OBJECTS: i64 = 1000;
    let mut lab = Lab::start(&trial).await;
    lab.put(0..1000, 1);
    let settings = Settings {
        feed: "limits.max_fields = 3".to_owned(),
        workers: "max = 2\ngroup_objects = 8".to_owned(),
        ..Settings::new(Disposal::Delete)
    };
    let mut keyfall = lab.keyfall("a", &settings);
    keyfall.start();
    lab.until_state("quarantined", OBJECTS).await;
    assert_eq!(lab.count("SELECT count(*) FROM items").await, 0);
    keyfall.rewrite("limits.max_fields = 3", "limits.max_fields = 4");
    keyfall.signal("HUP");
    keyfall.says("configuration reloaded").await;
    let (code, told) = keyfall.errand(&["retry", "--all"]).await;
    assert!(code == 2 && told.contains("--yes"), "so many are not changed by a slip: {code}: {told}");
    let (code, told) = keyfall.errand(&["retry", "--all", "--yes"]).await;
    assert!(code == 0 && told.contains("1000 of 1000"), "{code}: {told}");
    let client = lab.client().await;
    let (mut most, mut loaded) = (0, 0);
    while loaded < OBJECTS {
        let sql = "SELECT count(*) FILTER (WHERE state = 'leased'), count(*) FILTER (WHERE state = 'loaded')
                     FROM keyfall.objects";
        let row = client.query_one(sql, &[]).await.expect("a row");
        most = most.max(row.get::<_, i64>(0));
        loaded = row.get(1);
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert!(most <= 16, "{most} objects were in work at once, 2 workers of 8 are allowed");
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE disposal <> 'done'", 0).await;
    for number in 0..1000 {
        let read = lab.requests(Operation::GetObject, &key(number)).len();
        assert_eq!(read, 2, "{}: once for the quarantine, once for the load", key(number));
    }
    Report { note: format!("{most} in work at most"), ..lab.verify(&mut [&mut keyfall]).await }
}

/// The ledger is gone with the rows. Nothing may be made up from memory: the program says that it cannot work, leaves
/// the bucket alone, and whoever starts it again has everything loaded that is still there.
async fn database_dropped(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..5, 3);
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Keep));
    keyfall.start();
    lab.until_state("loaded", 5).await;
    let url = lab.url().replace(&lab.database, "postgres");
    let elsewhere = crate::lab::connect(&url).await.expect("the server answers");
    for sql in [format!("DROP DATABASE {} WITH (FORCE)", lab.database), format!("CREATE DATABASE {}", lab.database)] {
        elsewhere.batch_execute(&sql).await.expect("the database is made anew");
    }
    lab.execute(crate::oracle::TABLE).await;
    lab.put(5..8, 3);
    keyfall.answers_with("/readyz?verbose", 503, &["keyfall."]).await;
    keyfall.answers("/livez", 200).await;
    let reads = lab.s3.log().iter().filter(|entry| entry.op == Operation::GetObject).count();
    assert_eq!(reads, 5, "objects are read that nobody can write down");
    assert_eq!(lab.count("SELECT count(*) FROM items").await, 0);
    keyfall.stop().await;
    keyfall.start();
    lab.until_state("loaded", 8).await;
    keyfall.answers("/readyz", 200).await;
    lab.verify(&mut [&mut keyfall]).await
}
