//! The crash matrix: every failpoint of the table × what it can do × every disposal. Nobody lists it by hand, so a step
//! that is added is broken in all ways the day it is added; one that no run reaches fails.
//!
//! A kill is tried with every disposal. The other strikes cost as much and differ less, so the seed chooses one
//! disposal for each; other seeds choose others.

use std::time::{Duration, Instant};

use ::keyfall::demo::s3::{Action, FaultRule, Operation};
use ::keyfall::failpoint::Point;

use crate::case::{Case, Report, Trial};
use crate::checker;
use crate::control::{Armed, Strike};
use crate::keyfall::{DEADLINE, Keyfall};
use crate::lab::{Disposal, Lab, Settings, key};
use crate::oracle::{Body, Fate};

use super::crash::{STREAMED, put_bad};
use super::frozen::WORKER_STEPS;
use super::queue::{redelivers, tell};
use super::repair;
use super::rows;

/// The latest hit that is struck.
const LATEST: u64 = 3;
/// Waves of objects after which a step that was not struck is one that no run reaches.
const WAVES: usize = 8;
/// Exit code of a program whose main task panicked.
const PANICKED: i32 = 101;

/// What the case has to do so that the program comes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Provoked {
    /// Objects.
    Objects,
    /// Objects, and newer versions of them over the older ones.
    Versions,
    /// Objects, each with rows that the server refuses.
    Refusals,
    /// Objects whose rows take the place of others.
    Upserts,
    /// Objects that are a whole table each.
    Tables,
    /// Objects, and messages that tell of them.
    Messages,
    /// A load that lasts for several renewals.
    LongLoad,
    /// SIGTERM under load, with a grace period in which the load ends or does not.
    Sigterm { grace: &'static str },
    /// SIGHUP under load.
    Sighup,
}

fn provoked(point: Point) -> Provoked {
    match point {
        Point::LeaseRenewed => Provoked::LongLoad,
        Point::ReplaceDeleted | Point::ReplaceSuperseded => Provoked::Versions,
        Point::StageFilled | Point::IsolateWindow | Point::IsolateRefused => Provoked::Refusals,
        Point::StageMerged => Provoked::Upserts,
        Point::ReplaceEmptied => Provoked::Tables,
        Point::NotifyReceived | Point::NotifyRecorded | Point::NotifyAcknowledged => Provoked::Messages,
        Point::ShutdownBegun => Provoked::Sigterm { grace: "20s" },
        Point::ShutdownReleased => Provoked::Sigterm { grace: "0s" },
        Point::ReloadApplied => Provoked::Sighup,
        // A database of its own has no ledger yet, so every case migrates.
        _ => Provoked::Objects,
    }
}

/// Steps that one life passes once: its start, its first sweep, its end.
fn is_once(point: Point) -> bool {
    let in_one_life = [Point::MigrateLocked, Point::MigrateApplied, Point::DiscoverSwept];
    let comes_again = [
        Provoked::Objects,
        Provoked::Versions,
        Provoked::Messages,
        Provoked::LongLoad,
        Provoked::Refusals,
        Provoked::Upserts,
        Provoked::Tables,
    ];
    in_one_life.contains(&point) || !comes_again.contains(&provoked(point))
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    // A repair is a command of its own: its steps are struck by their own cases.
    for point in Point::ALL.iter().copied().filter(|point| !point.name().starts_with(repair::STEPS)) {
        for disposal in disposals(point) {
            cases.push(case(point, "kill", Strike::Kill, Some(disposal)));
        }
        cases.push(case(point, "panic", Strike::Panic, None));
        if point.can_fail() {
            cases.push(case(point, "retry", Strike::Error("retry"), None));
        }
        if WORKER_STEPS.contains(&point.name()) {
            cases.push(case(point, "hang", Strike::Hang, None));
        }
    }
    cases
}

/// Without a disposal the seed chooses one.
fn case(point: Point, word: &str, strike: Strike, disposal: Option<Disposal>) -> Case {
    let id = match disposal {
        Some(disposal) => format!("X-{}-{word}-{}", point.name(), name(disposal)),
        None => format!("X-{}-{word}", point.name()),
    };
    Case::new(id, point.about(), move |trial| struck(trial, point, strike.clone(), disposal))
}

fn name(disposal: Disposal) -> &'static str {
    match disposal {
        Disposal::Keep => "keep",
        Disposal::Delete => "delete",
        Disposal::Archive => "archive",
    }
}

/// Disposal steps are not passed by objects that are kept, archiving ones not by those that are deleted.
fn disposals(point: Point) -> Vec<Disposal> {
    match point {
        Point::DisposeCopied => vec![Disposal::Archive],
        Point::DisposeTaken | Point::DisposeArchived | Point::DisposeDeleted | Point::DisposeMarked => {
            vec![Disposal::Delete, Disposal::Archive]
        }
        _ => vec![Disposal::Delete, Disposal::Archive, Disposal::Keep],
    }
}

/// Six small objects that share transactions, one of several frames, a bad one; the step is struck once, at a hit
/// chosen by the seed, and whatever ended is started again.
async fn struck(trial: Trial, point: Point, strike: Strike, disposal: Option<Disposal>) -> Report {
    let mut random = trial.random("matrix");
    let disposal = disposal.unwrap_or_else(|| {
        let choice = disposals(point);
        *choice.get(random.usize(..choice.len())).expect("a disposal")
    });
    let provoked = provoked(point);
    let mut lab = Lab::start(&trial).await;
    lab.may_panic = matches!(strike, Strike::Panic);
    lab.may_miss_counts = matches!(strike, Strike::Panic | Strike::Hang);
    put_first(&mut lab, provoked).await;
    let mut keyfall = lab.keyfall("a", &settings(provoked, disposal, &strike));
    let nth = if is_once(point) { 1 } else { 1 + random.u64(..LATEST) };
    let armed = keyfall.control.arm(point.name(), nth, strike.clone());
    lab.expect_hits(&format!("{} {strike:?} at hit {nth}, {}", point.name(), name(disposal)), &armed, 1);
    if provoked == Provoked::Messages {
        redelivers(&lab, Duration::from_secs(1), 100);
        tell(&lab, 0..8);
    }
    keyfall.start();
    provoke(&mut lab, &mut keyfall, provoked, &armed).await;
    settle(&lab, &mut keyfall, &strike).await;
    lab.verify(&mut [&mut keyfall]).await
}

/// What lies there before the program starts, and what the table needs for it.
async fn put_first(lab: &mut Lab, provoked: Provoked) {
    match provoked {
        Provoked::Refusals => {
            lab.execute(rows::REFUSE).await;
            for number in 0..4 {
                rows::put_refused(lab, number, 1500);
            }
            return;
        }
        Provoked::Tables => {
            lab.put(0..1, 5);
            return;
        }
        Provoked::Upserts => lab.execute(rows::KEY).await,
        _ => {}
    }
    lab.put(0..6, 5);
    lab.put(6..7, STREAMED);
    put_bad(lab, 7);
}

fn settings(provoked: Provoked, disposal: Disposal, strike: &Strike) -> Settings {
    let mut settings = Settings::new(disposal);
    if provoked == Provoked::Messages {
        settings = settings.queued("");
    }
    // Two transactions of three small objects, not one of six.
    "max = 2\ngroup_objects = 3".clone_into(&mut settings.workers);
    if matches!(strike, Strike::Hang) {
        settings.workers.push_str("\nstall_timeout = \"2s\"");
    }
    if provoked == Provoked::Versions {
        "on_change = \"replace\"".clone_into(&mut settings.feed);
    }
    match provoked {
        Provoked::Refusals => "rejects.max_rows = 5".clone_into(&mut settings.feed),
        Provoked::Upserts => rows::UPSERT.clone_into(&mut settings.feed),
        Provoked::Tables => "mode = \"replace\"".clone_into(&mut settings.feed),
        _ => {}
    }
    if let Provoked::Sigterm { grace } = provoked {
        settings.more = format!("[lifecycle]\ngrace = \"{grace}\"");
    }
    settings
}

/// Brings the program to the step, and waits until it was struck there.
async fn provoke(lab: &mut Lab, keyfall: &mut Keyfall, provoked: Provoked, armed: &Armed) {
    match provoked {
        Provoked::Objects | Provoked::Messages | Provoked::Upserts => by_waves(lab, keyfall, armed).await,
        Provoked::Refusals => until_struck(keyfall, armed).await,
        Provoked::Tables => by_tables(lab, keyfall, armed).await,
        Provoked::Versions => by_versions(lab, keyfall, armed).await,
        Provoked::LongLoad => {
            let rule = FaultRule::on(Operation::GetObject, Action::DripPerSecond(250_000)).key(key(6)).times(1);
            let drips = lab.s3.inject(rule);
            lab.expect_s3("GET drips", &drips, 1);
            until_struck(keyfall, armed).await;
        }
        Provoked::Sigterm { .. } | Provoked::Sighup => {
            let rule = FaultRule::on(Operation::GetObject, Action::DripPerSecond(250_000)).key(key(6)).times(1);
            let drips = lab.s3.inject(rule);
            lab.expect_s3("GET drips", &drips, 1);
            crate::lab::within("the load runs", async {
                while drips.hits() == 0 {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            })
            .await;
            keyfall.says("started").await;
            keyfall.signal(if provoked == Provoked::Sighup { "HUP" } else { "TERM" });
            until_struck(keyfall, armed).await;
        }
    }
}

async fn until_struck(keyfall: &Keyfall, armed: &Armed) {
    let begun = Instant::now();
    while armed.hits() == 0 {
        assert!(begun.elapsed() < DEADLINE, "I10 no run reaches this step: {}", keyfall.log());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// More objects until the step was struck: how many steps a wave makes depends on how objects are grouped.
async fn by_waves(lab: &mut Lab, keyfall: &Keyfall, armed: &Armed) {
    let mut next = 8;
    for _ in 0..WAVES {
        let begun = Instant::now();
        while armed.hits() == 0 {
            // Polls come by for a while after all is quiet.
            if begun.elapsed() > Duration::from_secs(1) && checker::open(lab).await.is_none() {
                break;
            }
            assert!(begun.elapsed() < DEADLINE, "neither struck nor quiet: {}", keyfall.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if armed.hits() > 0 {
            return;
        }
        lab.put(next..next + 2, 5);
        put_bad(lab, next + 2);
        for number in next..next + 3 {
            // Nobody hears of it where the feed has no queue.
            tell(lab, [number]);
        }
        next += 3;
    }
    panic!("I10 no run reaches this step: {}", keyfall.log());
}

/// A newer table after the other, as often as it takes: of the older ones nothing is left.
async fn by_tables(lab: &mut Lab, keyfall: &Keyfall, armed: &Armed) {
    for number in 1..=WAVES {
        let begun = Instant::now();
        while armed.hits() == 0 && checker::open(lab).await.is_some() {
            assert!(begun.elapsed() < DEADLINE, "neither struck nor quiet: {}", keyfall.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if armed.hits() > 0 {
            return;
        }
        lab.oracle.expect(&key(number - 1), Fate::Replaced);
        lab.put(number..number + 1, 5);
    }
    until_struck(keyfall, armed).await;
}

/// Newer versions of three small objects and the large one, as often as it takes.
async fn by_versions(lab: &mut Lab, keyfall: &Keyfall, armed: &Armed) {
    for wave in 1..=WAVES {
        let begun = Instant::now();
        while armed.hits() == 0 && checker::open(lab).await.is_some() {
            assert!(begun.elapsed() < DEADLINE, "neither struck nor quiet: {}", keyfall.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if armed.hits() > 0 {
            return;
        }
        for (number, rows) in [(0, 4), (1, 6), (2, 5), (6, STREAMED)] {
            lab.oracle.outdate(&key(number));
            let body = Body::new(100 * wave + number, rows, &mut lab.random);
            lab.put_body(&key(number), &body);
        }
    }
    until_struck(keyfall, armed).await;
}

/// Starts again whatever the strike or the signal ended, until there is nothing left to do. A killed program is dead; one
/// with a panic may live on or end by itself, as long as it ends with an error that its supervisor sees.
async fn settle(lab: &Lab, keyfall: &mut Keyfall, strike: &Strike) {
    if matches!(strike, Strike::Kill) {
        keyfall.killed().await;
    }
    let begun = Instant::now();
    loop {
        if let Some(code) = keyfall.has_ended() {
            let is_in_order = code == 0 && keyfall.log_of_this_life().contains("stopping");
            let is_a_panic = matches!(strike, Strike::Panic) && (code == 1 || code == PANICKED);
            assert!(is_in_order || is_a_panic, "ended with {code}: {}", keyfall.log());
        }
        if !keyfall.is_running() {
            keyfall.start();
        }
        if checker::open(lab).await.is_none() {
            return;
        }
        assert!(begun.elapsed() < DEADLINE, "not quiet: {:?}\n{}", checker::open(lab).await, keyfall.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
