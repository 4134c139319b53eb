//! F54–F59, F61: a body that ends early, breaks, stalls, trickles, changes or is gone.

use std::time::Duration;

use ::keyfall::demo::s3::{Action, FaultRule, Gate, Operation};

use super::{STREAMED, between_records, count_state, put_unsummed, until_ended};
use crate::case::{Case, Report, Trial};
use crate::lab::{BUCKET, Disposal, Lab, Settings, key, within};
use crate::oracle::{Body, Fate};

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("F54", "a body ends after three fifths of its Content-Length", ends_early).first_wave(),
        Case::new("F55", "a body ends early but in order, or is longer than LIST said", another_length).first_wave(),
        Case::new("F56", "the connection is reset at byte 0, in the middle and before the last byte", reset),
        Case::new("F57-pause", "a body pauses for 10 s, within the deadline", pauses),
        Case::new("F57-forever", "a body stalls for ever", stalls_for_ever),
        Case::new("F58", "a body trickles at a byte per second", trickles),
        Case::new("F59", "an object is replaced before the rest of its body is asked for", replaced_before_the_rest),
        Case::new("F61", "a key is gone between LIST and GET", gone_before_get),
    ]
}

fn on_get(number: usize, action: Action) -> FaultRule {
    FaultRule::on(Operation::GetObject, action).key(key(number))
}

async fn ends_early(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    let large = put_unsummed(&mut lab, 0, STREAMED);
    let small = put_unsummed(&mut lab, 1, 20);
    let cut = lab.s3.inject(on_get(0, Action::Truncate(between_records(0, &large))).times(1));
    lab.expect_s3("large body cut", &cut, 1);
    let cut = lab.s3.inject(on_get(1, Action::Truncate(between_records(1, &small))).times(1));
    lab.expect_s3("small body cut", &cut, 1);
    let gate = Gate::new();
    let held = lab.s3.inject(on_get(0, Action::Hold(gate.clone())).from_hit(2).times(1));
    lab.expect_s3("rest held", &held, 1);
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Delete));
    keyfall.start();
    // Either the rest is asked for, or half a body was believed.
    tokio::select! { () = gate.reached() => {} () = lab.until_state("loaded", 2) => {} }
    assert_eq!(lab.count("SELECT count(*) FROM items WHERE object = 0").await, 0, "rows of half a body are visible");
    assert!(lab.s3.get(BUCKET, &key(0)).is_some());
    gate.open();
    lab.until_state("loaded", 2).await;
    assert_eq!(lab.requests(Operation::GetObject, &key(0)), [200, 206]);
    lab.verify(&mut [&mut keyfall]).await
}

async fn another_length(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    let bodies: Vec<Body> = (0..6).map(|number| put_unsummed(&mut lab, number, 20)).collect();
    let cut = |number: usize| between_records(number, bodies.get(number).expect("six bodies"));
    let short_once = lab.s3.inject(on_get(0, Action::EarlyCleanEnd(cut(0))).times(1));
    lab.expect_s3("Content-Length too small once", &short_once, 1);
    let chunked = lab.s3.inject(on_get(1, Action::Unannounced(cut(1))).times(1));
    lab.expect_s3("chunks ended early once", &chunked, 1);
    let long_once = lab.s3.inject(on_get(2, Action::TooLong(7)).times(1));
    lab.expect_s3("Content-Length too large once", &long_once, 1);
    let always_short = lab.s3.inject(on_get(3, Action::EarlyCleanEnd(cut(3))));
    lab.expect_s3("Content-Length always too small", &always_short, 3);
    let always_long = lab.s3.inject(on_get(4, Action::TooLong(7)));
    lab.expect_s3("Content-Length always too large", &always_long, 3);
    lab.oracle.expect(&key(3), Fate::Quarantined);
    lab.oracle.expect(&key(4), Fate::Quarantined);
    let settings = Settings { workers: "max_attempts = 3".to_owned(), ..Settings::new(Disposal::Delete) };
    let mut keyfall = lab.keyfall("a", &settings);
    keyfall.start();
    until_ended(&lab, 6).await;
    let blamed = "SELECT count(*) FROM keyfall.objects WHERE state = 'quarantined' AND error_code = 'E-FETCH-SIZE'";
    assert_eq!(lab.count(blamed).await, 2, "bodies of another size than the ledger's were taken");
    lab.verify(&mut [&mut keyfall]).await
}

async fn reset(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..3, STREAMED);
    let length = |number| lab.s3.get(BUCKET, &key(number)).expect("it was put").len();
    let places = [0, length(1) / 2, length(2) - 1];
    for (number, place) in places.into_iter().enumerate() {
        let injected = lab.s3.inject(on_get(number, Action::ResetAfter(place)).times(1));
        lab.expect_s3(&format!("reset at {place}"), &injected, 1);
    }
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Delete));
    keyfall.start();
    lab.until_state("loaded", 3).await;
    for number in 0..3 {
        assert_eq!(lab.requests(Operation::GetObject, &key(number)).len(), 2, "{}", key(number));
    }
    lab.verify(&mut [&mut keyfall]).await
}

async fn pauses(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..1, STREAMED);
    // Twice a lease: the owner renews it while it waits.
    let pause = lab.s3.inject(on_get(0, Action::PauseAfter(100_000, Duration::from_secs(10))).times(1));
    lab.expect_s3("pause of 10 s", &pause, 1);
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Delete));
    keyfall.start();
    lab.until_state("loaded", 1).await;
    assert_eq!(lab.requests(Operation::GetObject, &key(0)), [200], "a pause within the deadline was no stall");
    lab.verify(&mut [&mut keyfall]).await
}

async fn stalls_for_ever(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..3, STREAMED);
    let silent = lab.s3.inject(on_get(0, Action::StallAfter(0)));
    lab.expect_s3_any("silent for ever", &silent);
    let half = lab.s3.inject(on_get(1, Action::StallAfter(100_000)).times(1));
    lab.expect_s3("stalled in the middle", &half, 1);
    let settings = Settings {
        s3: "read_timeout = \"1s\"\nmax_attempts = 1".to_owned(),
        // One worker: it comes to the others only if the silent one is given up.
        workers: "max = 1".to_owned(),
        ..Settings::new(Disposal::Delete)
    };
    let mut keyfall = lab.keyfall("a", &settings);
    keyfall.start();
    lab.until_state("loaded", 2).await;
    assert_eq!(count_state(&lab, "quarantined").await, 0, "a silent store is not the object's fault");
    assert_eq!(lab.count("SELECT count(*) FROM items WHERE object = 0").await, 0);
    lab.verify(&mut [&mut keyfall]).await
}

/// Takes a minute: so long a body may be slow before it is given up.
async fn trickles(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..2, STREAMED);
    let drip = lab.s3.inject(on_get(0, Action::DripPerSecond(1)).times(1));
    lab.expect_s3("a byte per second", &drip, 1);
    let settings = Settings { workers: "max = 1".to_owned(), ..Settings::new(Disposal::Delete) };
    let mut keyfall = lab.keyfall("a", &settings);
    keyfall.start();
    // By the only worker there is, so the slow body was given up: it would have taken days.
    lab.until_state("loaded", 2).await;
    assert_eq!(lab.requests(Operation::GetObject, &key(0)), [200, 200]);
    assert_eq!(lab.requests(Operation::GetObject, &key(1)), [200]);
    lab.verify(&mut [&mut keyfall]).await
}

async fn replaced_before_the_rest(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..1, STREAMED);
    let broken = lab.s3.inject(on_get(0, Action::ResetAfter(100_000)).times(1));
    lab.expect_s3("reset in the middle", &broken, 1);
    let gate = Gate::new();
    let held = lab.s3.inject(on_get(0, Action::Hold(gate.clone())).from_hit(2).times(1));
    lab.expect_s3("rest held", &held, 1);
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Delete));
    keyfall.start();
    within("the rest is asked for", gate.reached()).await;
    lab.oracle.expect(&key(0), Fate::Unread);
    let newer = Body::new(100, STREAMED, &mut lab.random);
    lab.put_body(&key(0), &newer);
    gate.open();
    lab.until_state("loaded", 1).await;
    let gets = lab.requests(Operation::GetObject, &key(0));
    assert_eq!(gets.get(..2), Some(&[200, 412][..]), "{gets:?}");
    assert_eq!(lab.count("SELECT count(*) FROM items WHERE object = 0").await, 0, "the two versions were mixed");
    lab.verify(&mut [&mut keyfall]).await
}

async fn gone_before_get(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..3, 20);
    let gate = Gate::new();
    let held = lab.s3.inject(on_get(1, Action::Hold(gate.clone())).times(1));
    lab.expect_s3("GET held", &held, 1);
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Delete));
    keyfall.start();
    within("the object is asked for", gate.reached()).await;
    lab.s3.remove(BUCKET, &key(1));
    lab.oracle.expect(&key(1), Fate::Unread);
    lab.oracle.displace(&key(1));
    gate.open();
    until_ended(&lab, 3).await;
    assert_eq!(count_state(&lab, "missing").await, 1);
    let metric = keyfall.metric("keyfall_objects_total", "outcome=\"missing\"").await;
    assert_eq!(metric, Some(1.0));
    lab.verify(&mut [&mut keyfall]).await
}
