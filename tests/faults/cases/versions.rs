//! F60, F77, F101 where the feed says what to do about changed and repeated content: replaced rows, versions that
//! overtake each other, pages older than the ledger, the same bytes at the same moment.

use ::keyfall::demo::s3::Gate;

use crate::case::{Case, Report, Trial};
use crate::control::Strike;
use crate::keyfall::Keyfall;
use crate::lab::{BUCKET, Disposal, Lab, Settings, key, within};
use crate::oracle::{Body, Fate};

/// Sessions of this database that wait for a key or a content.
const WAITING: &str = "(SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
     WHERE l.locktype = 'advisory' AND NOT l.granted AND a.datname = current_database())";

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("F60-replace", "the rows of a replaced object are replaced, beside its disposal", replaced),
        Case::new("F60-busy", "two versions of a key are loaded side by side, and only one may be", side_by_side),
        Case::new("F60-late", "an older version is loaded after the newer one", older_comes_late),
        Case::new("F60-read-back", "a version is replaced between its COMMIT and the read-back", before_the_read_back),
        Case::new("F60-ignore", "a newer version is loaded while the older one is in COPY: one is enough", |trial| {
            one_is_enough(trial, "ignore", "skipped")
        }),
        Case::new("F60-quarantine", "the same, and a person is asked", |trial| {
            one_is_enough(trial, "quarantine", "quarantined")
        }),
        Case::new("F77-stale", "a page that is older than the ledger shows a version that was replaced", stale_page),
        Case::new("F101-skip", "the same bytes under two keys at the same moment, one is enough", |trial| {
            same_bytes(trial, "skip", "skipped")
        }),
        Case::new("F101-quarantine", "the same, and a person is asked", |trial| {
            same_bytes(trial, "quarantine", "quarantined")
        }),
    ]
}

/// One object at a time, two at once.
fn settings(feed: &str, disposal: Disposal) -> Settings {
    let workers = "max = 2\ngroup_objects = 1".to_owned();
    Settings { feed: feed.to_owned(), workers, ..Settings::new(disposal) }
}

/// Puts another version over the first key, of which nothing older may be left in the end.
fn put_newer(lab: &mut Lab, number: usize, rows: u64) -> String {
    lab.oracle.outdate(&key(0));
    let body = Body::new(number, rows, &mut lab.random);
    lab.put_body(&key(0), &body)
}

/// A program that is held at a step, with one object put.
async fn held_at(lab: &mut Lab, step: &str, settings: &Settings) -> (Keyfall, Gate) {
    lab.put(0..1, 20);
    let mut keyfall = lab.keyfall("a", settings);
    let gate = Gate::new();
    let held = keyfall.control.arm(step, 1, Strike::Hold(gate.clone()));
    lab.expect_hits(&format!("{step} hold"), &held, 1);
    keyfall.start();
    within("the first version is held", gate.reached()).await;
    (keyfall, gate)
}

async fn replaced(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    let settings = settings("on_change = \"replace\"", Disposal::Archive);
    let (mut keyfall, gate) = held_at(&mut lab, "dispose.taken", &settings).await;
    put_newer(&mut lab, 100, 30);
    lab.until_count("SELECT count(*) FROM items WHERE object = 100", 30).await;
    // While the disposal of the older version is on its way, nothing of that version is left.
    assert_eq!(lab.count("SELECT count(*) FROM items").await, 30);
    let superseded = "SELECT count(*) FROM keyfall.objects o JOIN keyfall.objects n ON n.id = o.superseded_by
                       WHERE o.state = 'superseded' AND o.disposal = 'none' AND n.state = 'loaded'";
    assert_eq!(lab.count(superseded).await, 1);
    gate.open();
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE disposal = 'done'", 1).await;
    assert_eq!(lab.s3.keys(BUCKET), [format!("archive/{}", key(0))]);
    lab.verify(&mut [&mut keyfall]).await
}

async fn side_by_side(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    let settings = settings("on_change = \"replace\"", Disposal::Keep);
    let (mut keyfall, gate) = held_at(&mut lab, "copy.finished", &settings).await;
    put_newer(&mut lab, 100, 30);
    let turned_away =
        "SELECT least(count(*), 1) FROM keyfall.objects WHERE error_code = 'E-KEY-BUSY' OR state = 'loaded'";
    lab.until_count(turned_away, 1).await;
    assert_eq!(lab.count("SELECT count(*) FROM items").await, 0, "the key was not locked");
    gate.open();
    lab.until_count("SELECT count(*) FROM items WHERE object = 100", 30).await;
    lab.verify(&mut [&mut keyfall]).await
}

async fn older_comes_late(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    let settings = settings("on_change = \"replace\"", Disposal::Keep);
    let (mut keyfall, gate) = held_at(&mut lab, "copy.begun", &settings).await;
    put_newer(&mut lab, 100, 30);
    lab.until_state("loaded", 1).await;
    gate.open();
    lab.until_state("leased", 0).await;
    let ever = "SELECT count(*) FROM keyfall.objects WHERE loaded_at IS NOT NULL";
    assert_eq!(lab.count(ever).await, 1, "the older version replaced the newer one");
    assert_eq!(lab.count("SELECT count(*) FROM items WHERE object = 100").await, 30);
    lab.verify(&mut [&mut keyfall]).await
}

async fn before_the_read_back(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    let settings = settings("on_change = \"replace\"", Disposal::Keep);
    let (mut keyfall, gate) = held_at(&mut lab, "commit.committed", &settings).await;
    put_newer(&mut lab, 100, 30);
    lab.until_count("SELECT count(*) FROM items WHERE object = 100", 30).await;
    gate.open();
    lab.until_state("superseded", 1).await;
    let report = lab.verify(&mut [&mut keyfall]).await;
    assert!(!keyfall.log().contains("E-COMMIT-UNDONE"), "a load was taken for lost: {}", keyfall.log());
    report
}

async fn one_is_enough(trial: Trial, policy: &'static str, state: &'static str) -> Report {
    let mut lab = Lab::start(&trial).await;
    let settings = settings(&format!("on_change = \"{policy}\""), Disposal::Keep);
    let (mut keyfall, gate) = held_at(&mut lab, "copy.finished", &settings).await;
    put_newer(&mut lab, 100, 30);
    lab.until_state("loaded", 1).await;
    gate.open();
    lab.until_state("leased", 0).await;
    let told = format!("SELECT count(*) FROM keyfall.objects WHERE state = '{state}' AND error_code = 'E-CHANGED'");
    assert_eq!(lab.count(&told).await, 1, "both versions were loaded");
    lab.verify(&mut [&mut keyfall]).await
}

async fn stale_page(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    let settings = settings("on_change = \"replace\"", Disposal::Keep);
    lab.put(0..1, 20);
    let (mut fresh, mut stale) = (lab.keyfall("fresh", &settings), lab.keyfall("stale", &settings));
    fresh.start();
    lab.until_state("loaded", 1).await;
    let gate = Gate::new();
    let held = stale.control.arm("discover.listed", 1, Strike::Hold(gate.clone()));
    lab.expect_hits("discover.listed hold", &held, 1);
    // Nobody's duty: a daemon that holds the page would keep the other from listing.
    stale.start_with(&["sweep"]);
    within("a page is held", gate.reached()).await;
    put_newer(&mut lab, 100, 30);
    lab.until_count("SELECT count(*) FROM items WHERE object = 100", 30).await;
    let attempts = "SELECT attempt::bigint FROM keyfall.objects ORDER BY id LIMIT 1";
    let before = lab.count(attempts).await;
    gate.open();
    assert_eq!(stale.ended().await, 0, "{}", stale.log());
    // The page brings the older version back, and the conditional GET sends it away again.
    lab.until_count(attempts, before + 1).await;
    lab.until_state("leased", 0).await;
    assert_eq!(lab.count("SELECT count(*) FROM items").await, 30);
    lab.verify(&mut [&mut fresh]).await
}

async fn same_bytes(trial: Trial, policy: &'static str, state: &'static str) -> Report {
    let mut lab = Lab::start(&trial).await;
    let body = Body::new(7, 20, &mut lab.random);
    lab.put_body(&key(1), &body);
    let mut keyfall = lab.keyfall("a", &settings(&format!("duplicate_content = \"{policy}\""), Disposal::Keep));
    let gate = Gate::new();
    let held = keyfall.control.arm("commit.fenced", 1, Strike::Hold(gate.clone()));
    lab.expect_hits("commit.fenced hold", &held, 1);
    keyfall.start();
    within("the first is about to be committed", gate.reached()).await;
    lab.put_body(&key(2), &body);
    lab.oracle.expect(&key(2), Fate::Unread);
    let waits = format!("SELECT least(1, {WAITING} + (SELECT count(*) FROM keyfall.objects WHERE state = 'loaded'))");
    lab.until_count(&waits, 1).await;
    gate.open();
    lab.until_state("leased", 0).await;
    let told = format!(
        "SELECT count(*) FROM keyfall.objects o JOIN keyfall.objects d ON d.id = o.duplicate_of
          WHERE o.state = '{state}' AND o.error_code = 'E-DUPLICATE' AND d.state = 'loaded'"
    );
    lab.until_count(&told, 1).await;
    lab.verify(&mut [&mut keyfall]).await
}
