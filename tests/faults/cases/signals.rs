//! F17–F19: the process is told to stop.

use std::time::{Duration, Instant};

use ::keyfall::demo::s3::{Action, FaultRule, Gate, Operation};

use crate::case::{Case, Report, Trial};
use crate::control::Strike;
use crate::lab::{BUCKET, Disposal, Lab, Settings, key, within};

use super::crash::STREAMED;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("F17", "SIGTERM in a COPY that ends within the grace period", a_load_that_can_finish),
        Case::new("F18", "SIGTERM in a COPY that cannot end within it", a_load_that_cannot_finish),
        Case::new("F19", "SIGTERM twice", two_signals),
    ]
}

fn one_at_a_time(grace: &str) -> Settings {
    let mut settings = Settings::new(Disposal::Delete);
    "max = 1\ngroup_objects = 1".clone_into(&mut settings.workers);
    settings.more = format!("[lifecycle]\ngrace = \"{grace}\"");
    settings
}

async fn a_load_that_can_finish(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..1, STREAMED);
    lab.put(1..4, 5);
    let mut keyfall = lab.keyfall("a", &one_at_a_time("60s"));
    let gate = Gate::new();
    let held = keyfall.control.arm("copy.frame", 3, Strike::Hold(gate.clone()));
    lab.expect_hits("copy.frame hold", &held, 1);
    keyfall.start();
    within("the first object is copied", gate.reached()).await;
    keyfall.signal("TERM");
    within("the signal was taken", keyfall.control.reached("shutdown.begun", 1)).await;
    keyfall.says("stopping: running loads may finish").await;
    assert_eq!(lab.count("SELECT count(*) FROM items").await, 0);
    gate.open();
    assert_eq!(keyfall.ended().await, 0, "{}", keyfall.log());
    lab.until_state("loaded", 1).await;
    lab.until_state("pending", 3).await;
    assert_eq!(lab.count("SELECT count(*) FROM items").await, 30_000);
    let steps = keyfall.control.steps();
    let signal = steps.iter().find(|step| step.point == "shutdown.begun").map_or(0, |step| step.seq);
    let late = steps.iter().filter(|step| step.seq > signal && step.point == "lease.taken").count();
    assert_eq!(late, 0, "leased after the signal: {steps:?}");
    assert_eq!(lab.requests(Operation::GetObject, &key(1)), [] as [u16; 0]);
    keyfall.start();
    lab.verify(&mut [&mut keyfall]).await
}

async fn a_load_that_cannot_finish(trial: Trial) -> Report {
    const GRACE: Duration = Duration::from_secs(2);
    let mut lab = Lab::start(&trial).await;
    lab.put(0..1, STREAMED);
    let rule = FaultRule::on(Operation::GetObject, Action::DripPerSecond(40_000)).key(key(0)).times(1);
    let drips = lab.s3.inject(rule);
    lab.expect_s3("GET drips", &drips, 1);
    let mut keyfall = lab.keyfall("a", &one_at_a_time("2s"));
    keyfall.start();
    // The first frame is there, the others take half a minute.
    within("COPY runs", keyfall.control.reached("copy.frame", 1)).await;
    let copying = "SELECT count(*) FROM pg_stat_progress_copy WHERE relid = 'items'::regclass";
    lab.until_count(copying, 1).await;
    let begun = Instant::now();
    keyfall.signal("TERM");
    assert_eq!(keyfall.ended().await, 0, "{}", keyfall.log());
    let took = begun.elapsed();
    assert!(took >= GRACE && took < GRACE + Duration::from_secs(5), "stopped after {took:?}");
    lab.until_count(copying, 0).await;
    assert_eq!(lab.count("SELECT count(*) FROM items").await, 0);
    let given_back = "SELECT count(*) FROM keyfall.objects
        WHERE state = 'pending' AND attempt = 0 AND lease_token IS NULL AND error_code IS NULL";
    assert_eq!(lab.count(given_back).await, 1, "shutting down is no attempt and leaves no lease");
    assert_eq!(keyfall.control.hits("shutdown.released"), 1);
    keyfall.start();
    lab.verify(&mut [&mut keyfall]).await
}

async fn two_signals(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..1, STREAMED);
    let mut keyfall = lab.keyfall("a", &one_at_a_time("60s"));
    let gate = Gate::new();
    let held = keyfall.control.arm("copy.frame", 3, Strike::Hold(gate.clone()));
    lab.expect_hits("copy.frame hold", &held, 1);
    keyfall.start();
    within("the object is copied", gate.reached()).await;
    keyfall.signal("TERM");
    keyfall.says("stopping: running loads may finish").await;
    let begun = Instant::now();
    keyfall.signal("TERM");
    assert_eq!(keyfall.ended().await, 143, "{}", keyfall.log());
    assert!(begun.elapsed() < Duration::from_secs(5), "ended after {:?}", begun.elapsed());
    gate.open();
    assert_eq!(lab.count("SELECT count(*) FROM items").await, 0);
    assert_eq!(lab.s3.keys(BUCKET), [key(0)]);
    keyfall.start();
    lab.verify(&mut [&mut keyfall]).await
}
