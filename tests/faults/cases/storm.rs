//! The storm: eight writers, keys up to an hour late, events lost, doubled and overtaken, three instances killed all the
//! time; in the end each object is there once and none is missing.
//!
//! A reader with a cursor at the largest key watches the same bucket. It has to lose some, or the storm was none. Key
//! times are simulated, so an hour's lateness costs no hour.

mod arrivals;
mod cursor;
mod tally;

use std::collections::HashSet;
use std::ops::Range;
use std::time::{Duration, Instant};

use ::keyfall::demo::notifier::{Envelope, Event, KeySpelling, Notifier, Unreliability};
use ::keyfall::demo::sqs::QueueOptions;
use fastrand::Rng;
use tokio_util::sync::CancellationToken;

use self::arrivals::{Arrival, WRITERS};
use self::cursor::Cursor;
use self::tally::Tally;
use super::queue::service::AGE;
use crate::case::{Case, Report, Trial};
use crate::keyfall::Keyfall;
use crate::lab::{BUCKET, Disposal, Lab, Settings};
use crate::mailbox::QUEUE;
use crate::oracle::Body;

/// The pause between two lives, in milliseconds.
const PAUSE: Range<u64> = 50..1000;
/// Objects put in a second at most. Writers wait while a tenth of all is not loaded, so that programs are killed in the
/// middle of the storm, not in its aftermath, however fast the machine is.
const PACE: f64 = 500.0;
/// Objects put between two looks at how much is loaded.
const STRETCH: usize = 200;
/// Longest wait for the next object to be loaded before the storm counts as stuck.
const STUCK: Duration = Duration::from_mins(5);

/// What a storm is made of.
#[derive(Debug, Clone)]
struct Strength {
    objects: usize,
    /// Kills of each instance; none: as long as the storm lasts.
    kills: Option<usize>,
    /// A life in milliseconds. A sweep begins anew when it is cut, so some lives are longer than a sweep takes.
    life: Range<u64>,
    /// Seconds between polls, look-backs and sweeps.
    intervals: [u64; 3],
}

pub(super) fn cases() -> Vec<Case> {
    let small = Strength { objects: 2000, kills: Some(2), life: 1000..6000, intervals: [2, 3, 5] };
    vec![
        Case::new("F85-storm", "2 000 objects out of order, three instances killed twice each", move |trial| {
            storm(trial, small.clone())
        })
        .alone(),
    ]
}

/// The whole storm.
pub(super) fn case(objects: usize) -> Case {
    let whole = Strength { objects, kills: None, life: 3000..20_000, intervals: [3, 6, 20] };
    Case::new("storm", format!("{objects} objects out of order, three instances killed all the time"), move |trial| {
        storm(trial, whole.clone())
    })
    .alone()
    .lasting(Duration::from_hours(1))
}

async fn storm(trial: Trial, strength: Strength) -> Report {
    let mut lab = Lab::start(&trial).await;
    // A message in the hands of an instance that was killed comes back after this.
    let visibility = Duration::from_secs(10);
    lab.mail.sqs.create_queue(QUEUE, QueueOptions { visibility, redrive: None });
    let plan = arrivals::plan(strength.objects, &mut trial.random("arrivals"));
    let mut programs = ["a", "b", "c"].map(|name| instance(&lab, name, &strength));
    let written = CancellationToken::new();
    let everything = watch(&lab, "incoming/", &written);
    let padded = watch(&lab, "incoming/2024-0", &written);
    let mut kills = Kills::new(&trial, &strength);
    let begun = Instant::now();

    let told = write(&mut lab, &plan, &mut programs, &mut kills).await;
    written.cancel();
    let written_after = begun.elapsed();
    until_over(&lab, strength.objects, &mut programs, &mut kills).await;
    let loaded_after = begun.elapsed();
    let lost = [
        lost(&plan, |_| true, &everything.await.expect("the reader ends")),
        lost(&plan, |arrival| arrival.is_padded, &padded.await.expect("the reader ends")),
    ];

    for program in programs.iter_mut().filter(|program| !program.is_running()) {
        program.start();
    }
    for program in &programs {
        program.says("started").await;
    }
    // Messages that were doubled or came late may still tell of what a poll was quicker to find.
    until_quiet(&lab).await;
    lab.execute(AGE).await;
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE notification = 'awaited'", 0).await;
    let tally = Tally::of(&lab, &programs).await;
    tell(
        &strength,
        [
            (
                "seconds",
                format!("written {:.0}, loaded {:.0}", written_after.as_secs_f64(), loaded_after.as_secs_f64()),
            ),
            ("kills", format!("{} of 3 instances", kills.done)),
            ("events", told),
        ],
        &tally,
        lost,
    );
    check(&strength, &tally, lost);
    let [a, b, c] = &mut programs;
    let report = lab.verify(&mut [a, b, c]).await;
    let note = format!(
        "{} kills, loaded in {:.0} s, {} late, a largest-key cursor lost {} and {} of the padded ones",
        kills.done,
        loaded_after.as_secs_f64(),
        tally.late(),
        lost[0],
        lost[1]
    );
    Report { note, ..report }
}

fn instance(lab: &Lab, name: &str, strength: &Strength) -> Keyfall {
    let [poll, look_back, sweep] = strength.intervals;
    let settings = Settings {
        feed: format!(
            "poll_interval = \"{poll}s\"\nlookback = \"10m\"\nlookback_interval = \"{look_back}s\"\nsweep_interval = \"{sweep}s\""
        ),
        ..Settings::new(Disposal::Keep)
    }
    .queued("receivers = 2");
    let mut keyfall = lab.keyfall(name, &settings);
    // Each step would ask over a socket, hundreds of thousands of times.
    keyfall.is_controlled = false;
    keyfall.rewrite("%S}.csv", "%S}-{source}.csv");
    keyfall
}

fn watch(lab: &Lab, prefix: &'static str, written: &CancellationToken) -> tokio::task::JoinHandle<HashSet<String>> {
    let follow = Cursor::new(&lab.s3, prefix).follow(written.clone());
    #[expect(clippy::disallowed_methods, reason = "ends when all is written")]
    tokio::spawn(follow)
}

/// How many of the objects chosen the reader has not seen.
fn lost(plan: &[Arrival], is_chosen: impl Fn(&Arrival) -> bool, seen: &HashSet<String>) -> usize {
    plan.iter().filter(|arrival| is_chosen(arrival) && !seen.contains(&arrival.key)).count()
}

/// Puts all objects in their order and tells the queue of most; answers how the queue was told.
async fn write(lab: &mut Lab, plan: &[Arrival], programs: &mut [Keyfall; 3], kills: &mut Kills) -> String {
    let unreliability = Unreliability { dropped: 5.0, doubled: 5.0, delay_ms: 0..1500 };
    let mut notifier = Notifier::new(QUEUE, lab.trial.random("events").u64(..))
        .speaking(Envelope::S3, KeySpelling::Aws)
        .losing(unreliability);
    let begun = Instant::now();
    for arrival in plan {
        let due = begun + Duration::from_secs_f64(arrival.number as f64 / PACE);
        while Instant::now() < due {
            kills.strike(programs);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if arrival.number.is_multiple_of(STRETCH) {
            let enough = arrival.number.saturating_sub(plan.len() / 10 + STRETCH);
            until_loaded(lab, enough, programs, kills).await;
        }
        let rows = lab.random.u64(1..4);
        let body = Body::new(arrival.number, rows, &mut lab.random);
        let etag = lab.put_body(&arrival.key, &body);
        let event = Event::put(BUCKET, &arrival.key, &etag, body.text.len() as u64);
        lab.mail.tell(&mut notifier, &event);
    }
    let told = notifier.told();
    format!("{} sent, {} of them twice, {} never, in any order", told.sent, told.doubled, told.dropped)
}

/// Waits until all is loaded and all kills that were asked for are done.
async fn until_over(lab: &Lab, objects: usize, programs: &mut [Keyfall; 3], kills: &mut Kills) {
    until_loaded(lab, objects, programs, kills).await;
    while !kills.is_over() {
        kills.strike(programs);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until the ledger calls so many objects loaded. Kills go on meanwhile.
async fn until_loaded(lab: &Lab, objects: usize, programs: &mut [Keyfall; 3], kills: &mut Kills) {
    let objects = i64::try_from(objects).expect("a count");
    let sql = "SELECT count(*) FILTER (WHERE state = 'loaded'), count(*) FROM keyfall.objects";
    let (mut best, mut since, mut said) = (-1, Instant::now(), Instant::now());
    loop {
        kills.strike(programs);
        let row = lab.client().await.query_one(sql, &[]).await;
        let (loaded, known): (i64, i64) = row.map_or((0, 0), |row| (row.get(0), row.get(1)));
        if loaded >= objects {
            return;
        }
        if loaded > best {
            (best, since) = (loaded, Instant::now());
        }
        if said.elapsed() > Duration::from_secs(15) {
            println!("storm: {loaded} of {known} known objects loaded, {objects} written, {} kills", kills.done);
            said = Instant::now();
        }
        let logs = || programs.iter().map(Keyfall::log_of_this_life).collect::<Vec<_>>().join("\n---\n");
        let is_stuck = since.elapsed() > STUCK;
        assert!(!is_stuck, "{loaded} of {objects} loaded, {known} known, and no more:\n{}", logs());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until the queue is empty.
async fn until_quiet(lab: &Lab) {
    let begun = Instant::now();
    while !lab.mail.sqs.is_empty(QUEUE) {
        assert!(begun.elapsed() < STUCK, "{} messages are left", lab.mail.sqs.len(QUEUE));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Prints the block of figures.
fn tell(strength: &Strength, figures: [(&'static str, String); 3], tally: &Tally, lost: [usize; 2]) {
    println!("storm: {:<22} {} by {WRITERS} writers, names up to an hour late", "objects", strength.objects);
    let cursor = format!("lost {}, and {} of the zero-padded names", lost[0], lost[1]);
    let all = figures.into_iter().chain(tally.lines()).chain([("largest-key cursor", cursor)]);
    for (name, figure) in all {
        println!("storm: {name:<22} {figure}");
    }
}

/// What a storm must show beside the invariants.
fn check(strength: &Strength, tally: &Tally, lost: [usize; 2]) {
    assert!(lost.iter().all(|lost| *lost > 0), "the largest-key cursor lost nothing: this was no storm: {lost:?}");
    let found: i64 = ["poll", "notification", "sweep"].iter().map(|channel| tally.found(channel)).sum();
    assert_eq!(found, i64::try_from(strength.objects).expect("a count"), "objects by channel");
    assert!(tally.found("notification") > 0, "no object was found by a notification");
    assert!(tally.found("poll") + tally.found("sweep") > 0, "nothing had to be found without a notification");
    assert!(tally.missed() > 0, "no notification was missed");
    assert!(tally.late() > 0, "no object was late");
    assert!(tally.counted_late() <= tally.late() as f64, "the programs counted more late objects than the ledger");
}

/// Who dies when.
struct Kills {
    random: Rng,
    /// Of each instance, where there is a limit.
    limit: Option<usize>,
    life: Range<u64>,
    done: usize,
    /// Per instance: kills so far, and when it dies or rises next.
    instances: [(usize, Option<Instant>); 3],
}

impl Kills {
    fn new(trial: &Trial, strength: &Strength) -> Self {
        let (random, life) = (trial.random("kills"), strength.life.clone());
        Self { random, limit: strength.kills, life, done: 0, instances: [(0, None); 3] }
    }

    /// Whether all kills that were asked for are done; where they have no number, they are never in the way.
    fn is_over(&self) -> bool {
        self.limit.is_none_or(|limit| self.instances.iter().all(|(kills, _)| *kills >= limit))
    }

    /// Kills and starts whatever is due.
    fn strike(&mut self, programs: &mut [Keyfall; 3]) {
        for (program, (kills, next)) in programs.iter_mut().zip(&mut self.instances) {
            if next.is_some_and(|next| Instant::now() < next) {
                continue;
            }
            if program.is_running() {
                program.kill();
                *kills += 1;
                self.done += 1;
                *next = Some(Instant::now() + Duration::from_millis(self.random.u64(PAUSE)));
            } else {
                program.start();
                let may_die = self.limit.is_none_or(|limit| *kills < limit);
                let life = Duration::from_millis(self.random.u64(self.life.clone()));
                *next = Some(Instant::now() + if may_die { life } else { Duration::from_hours(24) });
            }
        }
    }
}
