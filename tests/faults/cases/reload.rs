//! F108: reloads: with an invalid file, while loading, during an outage, many in a row.

use ::keyfall::demo::s3::{Gate, Operation};

use crate::case::{Case, Report, Trial};
use crate::control::Strike;
use crate::lab::{Disposal, Lab, Settings, key, within};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("F108", "a reload with an invalid file", invalid_file),
        Case::new("F108-loading", "a reload while an object is loaded, longer than the grace period", while_loading),
        Case::new("F108-stop", "SIGTERM after a reload, the old configuration still loads", stopped_after_a_reload),
        Case::new("F108-outage", "a reload while PostgreSQL is down, then SIGTERM", during_an_outage),
        Case::new("F108-many", "twenty reloads in a row under load", many).alone(),
    ]
}

async fn invalid_file(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..3, 3);
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Delete));
    keyfall.start();
    lab.until_state("loaded", 3).await;
    let good = std::fs::read_to_string(keyfall.config()).expect("a file");
    let broken = [
        good.replace("bucket =", "bukket ="),
        good.replace("table = \"items\"", "table = \"\""),
        "[feeds.items".to_owned(),
        String::new(),
    ];
    for (n, text) in broken.iter().enumerate() {
        std::fs::write(keyfall.config(), text).expect("a file");
        keyfall.signal("HUP");
        keyfall.says_times("the configuration was not reloaded; the old one stays in force", n + 1).await;
        assert_eq!(keyfall.metric("keyfall_config_last_reload_successful", "").await, Some(0.0));
        lab.put(3 + n..4 + n, 3);
        lab.until_state("loaded", 4 + i64::try_from(n).expect("few")).await;
    }
    std::fs::remove_file(keyfall.config()).expect("a file");
    keyfall.signal("HUP");
    keyfall.says_times("the configuration was not reloaded; the old one stays in force", 5).await;
    std::fs::write(keyfall.config(), good).expect("a file");
    keyfall.signal("HUP");
    keyfall.says("configuration reloaded").await;
    assert_eq!(keyfall.metric("keyfall_config_last_reload_successful", "").await, Some(1.0));
    lab.put(8..10, 3);
    lab.verify(&mut [&mut keyfall]).await
}

const SHORT_GRACE: &str = "[lifecycle]\ngrace = \"1s\"\n";

async fn while_loading(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..1, 1000);
    let mut keyfall = lab.keyfall("a", &Settings { more: SHORT_GRACE.to_owned(), ..Settings::new(Disposal::Delete) });
    let gate = Gate::new();
    let held = keyfall.control.arm("copy.begun", 1, Strike::Hold(gate.clone()));
    lab.expect_hits("copy.begun hold", &held, 1);
    keyfall.start();
    within("a load is open", gate.reached()).await;
    keyfall.rewrite("table = \"items\"", "table = \"items\"\nunknown_fields = \"ignore\"");
    keyfall.signal("HUP");
    keyfall.says("configuration reloaded").await;
    lab.put(1..3, 3);
    lab.until_state("loaded", 2).await;
    // More than two grace periods later it is still at it, and its lease is kept alive.
    let renewals = keyfall.control.hits("lease.renewed") + 4;
    within("renewals", keyfall.control.reached("lease.renewed", renewals)).await;
    let sql = "SELECT count(*) FROM keyfall.objects WHERE state = 'leased' AND attempt = 1";
    assert_eq!(lab.count(sql).await, 1, "a reload rolled a running load back");
    gate.open();
    lab.until_state("loaded", 3).await;
    assert_eq!(lab.requests(Operation::GetObject, &key(0)), [200]);
    let fingerprints = "SELECT count(DISTINCT config_fingerprint) FROM keyfall.objects";
    assert_eq!(lab.count(fingerprints).await, 2, "the object in work ends with the configuration it began with");
    lab.verify(&mut [&mut keyfall]).await
}

async fn stopped_after_a_reload(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..1, 1000);
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Keep));
    let gate = Gate::new();
    let held = keyfall.control.arm("copy.begun", 1, Strike::Hold(gate.clone()));
    lab.expect_hits("copy.begun hold", &held, 1);
    keyfall.start();
    within("a load is open", gate.reached()).await;
    keyfall.signal("HUP");
    keyfall.says("configuration reloaded").await;
    keyfall.signal("TERM");
    keyfall.says("stopping").await;
    gate.open();
    assert_eq!(keyfall.ended().await, 0, "{}", keyfall.log());
    assert_eq!(lab.count("SELECT count(*) FROM items").await, 1000, "the grace period is for all running loads");
    keyfall.start();
    lab.verify(&mut [&mut keyfall]).await
}

async fn during_an_outage(trial: Trial) -> Report {
    let mut lab = Lab::with_own_server(&trial, &[]).await;
    lab.put(0..3, 3);
    let settings = Settings { database: "statement_timeout = \"2s\"".to_owned(), ..Settings::new(Disposal::Delete) };
    let mut keyfall = lab.keyfall("a", &settings);
    keyfall.start();
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE disposal = 'done'", 3).await;
    lab.server().stop_immediate().expect("the server stops");
    keyfall.signal("HUP");
    keyfall.says("the configuration was not reloaded; the old one stays in force").await;
    keyfall.answers("/readyz", 503).await;
    keyfall.signal("TERM");
    assert_eq!(keyfall.ended().await, 0, "{}", keyfall.log());
    lab.server().start_again().expect("the server starts");
    lab.put(3..6, 3);
    keyfall.start();
    lab.verify(&mut [&mut keyfall]).await
}

async fn many(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    let settings = Settings { workers: "group_objects = 4".to_owned(), ..Settings::new(Disposal::Delete) };
    let mut keyfall = lab.keyfall("a", &settings);
    keyfall.start();
    keyfall.says("started").await;
    let sessions =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'keyfall'";
    let mut early = 0;
    for n in 0..20 {
        lab.put(n * 20..(n + 1) * 20, 30);
        keyfall.signal("HUP");
        keyfall.says_times("configuration reloaded", n + 1).await;
        if n == 4 {
            early = keyfall.memory();
        }
    }
    lab.until_state("loaded", 400).await;
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE disposal <> 'done'", 0).await;
    let mut open = lab.count(sessions).await;
    // The old engines' connections close as their last steps end.
    for _ in 0..200 {
        if open <= 12 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        open = lab.count(sessions).await;
    }
    assert!(open <= 12, "{open} sessions after 20 reloads");
    let (late, descriptors) = (keyfall.memory(), keyfall.descriptors());
    assert!(late < early + 48 * 1024, "{early} KiB after 5 reloads, {late} KiB after 20");
    let note = format!("{early} KiB after 5 reloads, {late} KiB after 20, {open} sessions, {descriptors} descriptors");
    Report { note, ..lab.verify(&mut [&mut keyfall]).await }
}
