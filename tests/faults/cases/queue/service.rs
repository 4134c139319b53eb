//! F84, F85, F87: the queue refuses, hangs, loses or is gone. Polls and sweeps go on, and somebody sees it.

use std::time::{Duration, Instant};

use ::keyfall::demo::s3::Gate;
use ::keyfall::demo::sqs::{Action, FaultRule, Operation, QueueOptions};

use super::{by_queue, listening, read_once, redelivers, requests, tell, until_left};
use crate::case::{Case, Report, Trial};
use crate::lab::{Disposal, Lab, Settings, key, within};
use crate::mailbox::{DEAD, QUEUE};

const DAY: usize = 86_400;
/// How long calls are counted.
const WATCHED: Duration = Duration::from_secs(7);
/// So many at most, with a pause that begins with a second, doubles, and is shortened by chance to half of it: that makes
/// eight calls in the first minute. A pause that does not grow makes more within these seconds.
const CALLS: u64 = 5;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("F84", "the queue refuses, fails and throttles", |trial| {
            refused(trial, Action::Status(403, "AccessDenied"))
        }),
        Case::new("F84-500", "the queue fails", |trial| refused(trial, Action::Status(500, "InternalFailure"))),
        Case::new("F84-throttled", "the queue throttles", |trial| {
            refused(trial, Action::Status(400, "ThrottlingException"))
        }),
        Case::new("F84-page", "a proxy's page instead of the queue", |trial| refused(trial, Action::Page(503))),
        Case::new("F84-dropped", "connections to the queue end without an answer", |trial| {
            refused(trial, Action::Drop)
        }),
        Case::new("F84-hanging", "the queue does not answer", hanging),
        Case::new("F84-delete", "messages cannot be deleted for a while", not_deletable),
        Case::new("F85", "events that are never sent", never_sent),
        Case::new("F87", "the queue is deleted, and there again", deleted),
        Case::new("F87-purged", "the queue is purged", purged),
    ]
}

/// Polls beside the queue.
fn both() -> Settings {
    Settings::new(Disposal::Delete).queued("")
}

async fn refused(trial: Trial, action: Action) -> Report {
    let mut lab = Lab::start(&trial).await;
    let mut keyfall = lab.keyfall("a", &both());
    listening(&lab, &mut keyfall).await;
    keyfall.answers("/readyz", 200).await;
    let failing = lab.mail.sqs.inject(FaultRule::on(Operation::Receive, action));
    within("the queue refuses", async {
        while failing.hits() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let begun = Instant::now();
    // Loading goes on by polling, and whoever asks hears of the queue.
    lab.put(0..3, 5);
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE disposal = 'done'", 3).await;
    keyfall.answers_with("/readyz", 503, &["feed items"]).await;
    keyfall.answers("/livez", 200).await;
    tokio::time::sleep(WATCHED.saturating_sub(begun.elapsed())).await;
    let calls = failing.hits();
    assert!((2..=CALLS).contains(&calls), "{calls} calls in {WATCHED:?}");
    let lines = keyfall.log().lines().filter(|line| line.contains("E-SQS-")).count();
    assert!((1..=10).contains(&lines), "{lines} lines in the log");
    lab.expect_s3_any("receive refused", &failing);
    lab.mail.sqs.heal();
    lab.put(3..4, 5);
    tell(&lab, [3]);
    until_left(&lab, 0).await;
    keyfall.answers("/readyz", 200).await;
    let note = format!("{calls} calls in {} s, {lines} lines", WATCHED.as_secs());
    Report { note, ..lab.verify(&mut [&mut keyfall]).await }
}

async fn hanging(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    let settings = Settings { s3: "read_timeout = \"1s\"\nconnect_timeout = \"1s\"".to_owned(), ..both() };
    let mut keyfall = lab.keyfall("a", &settings);
    listening(&lab, &mut keyfall).await;
    let gate = Gate::new();
    let held = lab.mail.sqs.inject(FaultRule::on(Operation::Receive, Action::Hold(gate.clone())));
    lab.expect_s3_any("receive hangs", &held);
    within("a request hangs", gate.reached()).await;
    lab.put(0..3, 5);
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE disposal = 'done'", 3).await;
    keyfall.answers_with("/readyz", 503, &["feed items"]).await;
    // The deadline is ours: a request that hangs is given up and tried again.
    within("another request", async {
        while held.hits() < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    lab.mail.sqs.heal();
    gate.open();
    lab.put(3..4, 5);
    tell(&lab, [3]);
    until_left(&lab, 0).await;
    lab.verify(&mut [&mut keyfall]).await
}

async fn not_deletable(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    redelivers(&lab, Duration::from_secs(1), 100);
    let mut keyfall = lab.keyfall("a", &by_queue(Disposal::Delete));
    listening(&lab, &mut keyfall).await;
    let refused = lab.mail.sqs.inject(FaultRule::on(Operation::DeleteBatch, Action::Status(403, "AccessDenied")));
    lab.expect_s3_any("deletion refused", &refused);
    lab.put(0..3, 5);
    tell(&lab, 0..3);
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE disposal = 'done'", 3).await;
    keyfall.answers_with("/readyz", 503, &["feed items"]).await;
    keyfall.says("E-SQS-DENIED").await;
    assert_eq!(lab.mail.sqs.len(QUEUE), 1);
    lab.mail.sqs.heal();
    until_left(&lab, 0).await;
    keyfall.answers("/readyz", 200).await;
    read_once(&lab, 0..3);
    lab.verify(&mut [&mut keyfall]).await
}

/// As if what is awaited had been found long ago: two minutes of grace take a moment.
pub(in crate::cases) const AGE: &str = "UPDATE keyfall.objects SET discovered_at = discovered_at - interval '3 min'
     WHERE notification = 'awaited'";

async fn never_sent(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    let feed = "lookback = \"10s\"\nsweep_interval = \"2s\"".to_owned();
    let mut keyfall = lab.keyfall("a", &Settings { feed, ..both() });
    listening(&lab, &mut keyfall).await;
    // Times in a bucket are whole seconds: what is put in the second in which listening began is not awaited.
    let listens = "SELECT count(*) FROM keyfall.feeds WHERE notified_since < now() - interval '1 s'";
    lab.until_count(listens, 1).await;
    lab.put(9 * DAY..9 * DAY + 38, 3);
    for number in 9 * DAY..9 * DAY + 38 {
        tell(&lab, [number]);
    }
    until_left(&lab, 0).await;
    // A poll is quicker than the messages about these.
    lab.put(9 * DAY + 38..9 * DAY + 40, 3);
    let polled =
        format!("SELECT count(*) FROM keyfall.objects WHERE discovered_by = 'poll' AND key >= '{}'", key(9 * DAY + 38));
    lab.until_count(&polled, 2).await;
    tell(&lab, 9 * DAY + 38..9 * DAY + 40);
    until_left(&lab, 0).await;
    // Nobody is told of these, and no look-back reaches so far.
    lab.put(0..2, 3);
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE disposal = 'done'", 42).await;
    let lost = format!("key IN ('{}', '{}')", key(0), key(1));
    let swept = format!("SELECT count(*) FROM keyfall.objects WHERE {lost} AND discovered_by = 'sweep'");
    assert_eq!(lab.count(&swept).await, 2);
    assert_eq!(
        keyfall.metric("keyfall_notifications_missed_total", "").await,
        Some(0.0),
        "a message may be on its way"
    );
    lab.execute(AGE).await;
    let missed = format!("SELECT count(*) FROM keyfall.objects WHERE notification = 'missed' AND {lost}");
    lab.until_count(&missed, 2).await;
    within("missed notifications are counted", async {
        while keyfall.metric("keyfall_notifications_missed_total", "").await != Some(2.0) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let others = "SELECT count(*) FROM keyfall.objects WHERE notification = 'missed'";
    assert_eq!(lab.count(others).await, 2, "a notification that came counts as missed");
    read_once(&lab, 0..2);
    read_once(&lab, 9 * DAY..9 * DAY + 40);
    lab.verify(&mut [&mut keyfall]).await
}

async fn deleted(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    redelivers(&lab, Duration::from_secs(1), 3);
    let mut keyfall = lab.keyfall("a", &both());
    listening(&lab, &mut keyfall).await;
    keyfall.answers("/readyz", 200).await;
    assert!(lab.mail.sqs.delete_queue(QUEUE));
    lab.put(0..3, 5);
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE disposal = 'done'", 3).await;
    keyfall.answers_with("/readyz", 503, &["feed items"]).await;
    keyfall.says("E-SQS-QUEUE").await;
    lab.mail.sqs.create_queue(QUEUE, QueueOptions::default());
    lab.put(3..4, 5);
    tell(&lab, [3]);
    until_left(&lab, 0).await;
    keyfall.answers("/readyz", 200).await;
    lab.verify(&mut [&mut keyfall]).await
}

async fn purged(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    let mut keyfall = lab.keyfall("a", &both());
    listening(&lab, &mut keyfall).await;
    let gate = Gate::new();
    let held = lab.mail.sqs.inject(FaultRule::on(Operation::Receive, Action::Hold(gate.clone())));
    lab.expect_s3_any("receive held", &held);
    within("requests are held", gate.reached()).await;
    lab.put(0..5, 5);
    tell(&lab, 0..5);
    lab.mail.sqs.purge(QUEUE);
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE disposal = 'done'", 5).await;
    lab.mail.sqs.heal();
    gate.open();
    lab.put(5..6, 5);
    tell(&lab, [5]);
    until_left(&lab, 0).await;
    assert_eq!((lab.mail.sqs.len(DEAD), requests(&lab, Operation::ChangeVisibility).len()), (0, 0));
    lab.verify(&mut [&mut keyfall]).await
}
