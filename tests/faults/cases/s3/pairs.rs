//! Two faults at once: the seed chooses how a body breaks and how a COMMIT does.

use std::sync::Arc;

use ::keyfall::demo::proxy::{Action as Cut, Trigger};
use ::keyfall::demo::s3::{Action, FaultRule, Operation};

use crate::case::{Case, Report, Trial};
use crate::lab::{Disposal, Lab, Settings, key};

/// `COMMIT` as the simple query protocol sends it: length, text, zero.
const COMMIT: &[u8] = b"\x0bCOMMIT\0";
const OBJECTS: usize = 6;

pub(super) fn cases() -> Vec<Case> {
    let pair = |n: u8| Case::new(format!("PAIR-{n}"), "a broken body and a broken COMMIT, chosen by the seed", both);
    (1..=3).map(pair).collect()
}

async fn both(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    let mut random = trial.random("pair");
    // Within every body of 300 rows.
    let place = random.usize(1..3000);
    let actions = [
        Action::Truncate(place),
        Action::ResetAfter(place),
        Action::EarlyCleanEnd(place),
        Action::Unannounced(place),
        Action::TooLong(place),
        Action::FlipByte(place),
        Action::StallAfter(place),
        Action::Status(503, "SlowDown"),
        Action::HangUp,
    ];
    let action = random.choice(&actions).expect("some").clone();
    let victim = random.usize(0..OBJECTS);
    let broken = lab.s3.inject(FaultRule::on(Operation::GetObject, action.clone()).key(key(victim)).times(1));
    lab.expect_s3(&format!("{action:?} on {victim}"), &broken, 1);
    let cuts = [Cut::CutBefore, Cut::CutAfter, Cut::DropAnswers];
    let cut = *random.choice(&cuts).expect("some");
    let is_grouped = random.bool();
    // Objects are committed one by one or together, in two transactions at least: the broken one comes later.
    let nth = random.u64(1..=if is_grouped { 1 } else { 5 });
    let settings = Settings {
        workers: if is_grouped { String::new() } else { "group_objects = 1".to_owned() },
        database: "copy_stall_timeout = \"1s\"\nstatement_timeout = \"1s\"".to_owned(),
        s3: "read_timeout = \"1s\"\nmax_attempts = 1".to_owned(),
        ..Settings::new(*random.choice(&[Disposal::Delete, Disposal::Archive]).expect("two")).through_proxy()
    };
    let mut keyfall = lab.keyfall("a", &settings);
    keyfall.start();
    // The migration ends with a COMMIT as well.
    lab.until_count("SELECT count(*) FROM keyfall.feeds WHERE last_sweep_at IS NOT NULL", 1).await;
    let armed = lab.proxy.arm(Trigger::new(COMMIT, cut).nth(nth));
    let hits = Arc::clone(&armed);
    lab.expect_count(&format!("{cut:?} at COMMIT {nth}"), move || hits.hits(), 1);
    lab.put(0..OBJECTS, 300);
    crate::lab::within("COMMIT is broken", armed.hit()).await;
    lab.until_state("loaded", 6).await;
    lab.verify(&mut [&mut keyfall]).await
}
