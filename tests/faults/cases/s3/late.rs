//! F67, F68: keys that arrive late, become visible late, or lie where a position lies. No listing may pass them by.

use std::time::Duration;

use ::keyfall::demo::s3::{Action, FaultRule, Gate, Operation, PutOptions};
use jiff::Timestamp;

use super::{STREAMED, until_metric};
use crate::case::{Case, Report, Trial};
use crate::control::Strike;
use crate::lab::{BUCKET, Disposal, Lab, Settings, key, within};
use crate::oracle::Body;

const DAY: usize = 86_400;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("F67", "late keys behind one that is held, over a kill", behind_a_held_key).first_wave(),
        Case::new("F67-late", "late keys within the look-back, one of them hidden from LIST", within_the_look_back),
        Case::new("F67-sweep", "a late key long before the look-back", found_by_the_sweep),
        Case::new("F68", "equal times, the key at the position again, a key that is its beginning", at_the_position),
    ]
}

/// Looks back ten seconds of key time, often, and never sweeps again.
fn looks_back(lookback: &str) -> Settings {
    Settings {
        feed: format!("lookback = \"{lookback}\"\nlookback_interval = \"300ms\""),
        workers: "group_objects = 1\nmax = 2".to_owned(),
        ..Settings::new(Disposal::Keep)
    }
}

/// Waits until all keys given are in the ledger, or until so many look-backs have come and gone that they are lost.
async fn until_found(lab: &Lab, keys: &[usize]) {
    let names: Vec<String> = keys.iter().map(|n| format!("'{}'", key(*n))).collect();
    let sql = format!("SELECT count(*) FROM keyfall.objects WHERE key IN ({})", names.join(", "));
    let wanted = i64::try_from(keys.len()).expect("few");
    let mut found = 0;
    for _ in 0..150 {
        found = lab.count(&sql).await;
        if found == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{} of {wanted} late objects lost: not found by fifty look-backs", wanted - found);
}

async fn behind_a_held_key(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(DAY..DAY + 1, 20);
    let mut keyfall = lab.keyfall("a", &looks_back("10s"));
    keyfall.start();
    lab.until_state("loaded", 1).await;
    let gate = Gate::new();
    let held = keyfall.control.arm("copy.frame", 3, Strike::Hold(gate.clone()));
    lab.expect_hits("copy.frame hold", &held, 1);
    lab.put(2 * DAY..2 * DAY + 1, STREAMED);
    within("the second day is being copied", gate.reached()).await;
    for day in 3..6 {
        lab.put(day * DAY..day * DAY + 1, 20);
    }
    lab.until_state("loaded", 4).await;
    // The frontier stands at the key that is held, whatever was loaded after it.
    let held_at = "2024-05-03T00:00:00Z".parse::<Timestamp>().expect("a time").as_second();
    until_metric(&keyfall, "keyfall_frontier_timestamp_seconds", held_at as f64).await;
    // Three days before the newest key, beside the one that is held.
    let late = [2 * DAY - 5, 2 * DAY + 1, 2 * DAY + 3600, 4 * DAY - 1];
    for n in late {
        lab.put(n..n + 1, 20);
    }
    until_found(&lab, &late).await;
    keyfall.kill();
    assert_eq!(lab.count("SELECT count(*) FROM items WHERE object = 172800").await, 0);
    let later = [2 * DAY - 4, 3 * DAY - 1];
    for n in later {
        lab.put(n..n + 1, 20);
    }
    keyfall.start();
    until_found(&lab, &later).await;
    lab.until_state("loaded", 11).await;
    let by_poll = "SELECT count(*) FROM keyfall.objects WHERE discovered_by = 'poll'";
    assert_eq!(lab.count(by_poll).await, 10, "a sweep had to help");
    lab.verify(&mut [&mut keyfall]).await
}

async fn within_the_look_back(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    let hidden = lab.s3.inject(FaultRule::on(Operation::ListObjects, Action::Hide(key(2 * DAY))));
    lab.expect_s3_any("hidden key", &hidden);
    for day in 1..4 {
        lab.put(day * DAY..day * DAY + 1, 20);
    }
    let mut keyfall = lab.keyfall("a", &looks_back("36h"));
    keyfall.start();
    lab.until_state("loaded", 2).await;
    // Uploaded in parts: begun before all others, completed after them.
    let begun = Timestamp::now().checked_sub(Duration::from_hours(2)).expect("a time");
    let body = Body::new(3 * DAY - 7, 20, &mut lab.random);
    lab.put_body(&key(3 * DAY - 7), &body);
    let options = PutOptions { last_modified: Some(begun), ..PutOptions::default() };
    lab.s3.put_with(BUCKET, &key(3 * DAY - 7), body.text.clone(), options);
    until_found(&lab, &[3 * DAY - 7]).await;
    assert_eq!(lab.count(&format!("SELECT count(*) FROM keyfall.objects WHERE key = '{}'", key(2 * DAY))).await, 0);
    lab.s3.heal();
    until_found(&lab, &[2 * DAY]).await;
    lab.verify(&mut [&mut keyfall]).await
}

async fn found_by_the_sweep(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    let settings = Settings {
        feed: "lookback = \"10s\"\nlookback_interval = \"300ms\"\nsweep_interval = \"3s\"".to_owned(),
        ..Settings::new(Disposal::Delete)
    };
    for day in 10..13 {
        lab.put(day * DAY..day * DAY + 1, 20);
    }
    let mut keyfall = lab.keyfall("a", &settings);
    keyfall.start();
    lab.until_state("loaded", 3).await;
    lab.put(DAY..DAY + 1, 20);
    lab.until_state("loaded", 4).await;
    let found = format!("SELECT count(*) FROM keyfall.objects WHERE key = '{}' AND discovered_by = 'sweep'", key(DAY));
    assert_eq!(lab.count(&found).await, 1);
    lab.verify(&mut [&mut keyfall]).await
}

/// Names without padding and without an ending, so that one can be the beginning of another.
async fn at_the_position(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    let mut keyfall = lab.keyfall("a", &looks_back("1m"));
    let text = std::fs::read_to_string(keyfall.config()).expect("its configuration");
    std::fs::write(keyfall.config(), text.replace("%S}.csv", "%S}")).expect("its configuration");
    let now = Timestamp::now();
    let put = |lab: &mut Lab, number: usize, name: &str| {
        let body = Body::new(number, 20, &mut lab.random);
        let name = format!("incoming/{name}");
        lab.put_body(&name, &body);
        let options = PutOptions { last_modified: Some(now), ..PutOptions::default() };
        lab.s3.put_with(BUCKET, &name, body.text, options);
    };
    for (number, second) in ["8", "9", "10"].into_iter().enumerate() {
        put(&mut lab, number, &format!("2024-5-1-0-0-{second}"));
    }
    keyfall.start();
    lab.until_state("loaded", 3).await;
    // The beginning of the newest key, the same time under another name, and the newest key itself with other content.
    put(&mut lab, 3, "2024-5-1-0-0-1");
    put(&mut lab, 4, "2024-05-01-00-00-10");
    put(&mut lab, 5, "2024-5-1-0-0-10");
    lab.until_state("loaded", 6).await;
    assert_eq!(lab.count("SELECT count(DISTINCT visible_at) FROM keyfall.objects").await, 1);
    lab.verify(&mut [&mut keyfall]).await
}
