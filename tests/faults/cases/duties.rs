//! One instance at a time lists, sweeps and disposes: whoever holds that dies, freezes, is cut off, or cannot renew it.

use std::time::{Duration, Instant};

use ::keyfall::demo::proxy::Flow;
use ::keyfall::demo::s3::{Gate, Operation};

use crate::case::{Case, Report, Trial};
use crate::control::Strike;
use crate::keyfall::{DEADLINE, Keyfall};
use crate::lab::{BUCKET, Disposal, Lab, Settings, within};

/// Lease of objects and of duties in the lab.
const LEASE: Duration = Duration::from_secs(5);

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("O-duties", "three instances, each duty is done by one at a time", done_by_one),
        Case::new("O-duties-killed", "the instance that holds all duties is killed", |trial| lost(trial, Loss::Killed)),
        Case::new("O-duties-frozen", "the instance that holds all duties is frozen, and wakes up", |trial| {
            lost(trial, Loss::Frozen)
        }),
        Case::new("O-duties-cut", "the instance that holds all duties is cut off from PostgreSQL", |trial| {
            lost(trial, Loss::CutOff)
        }),
        Case::new("O-duties-unkept", "duties cannot be renewed, everything else works", unkept),
        Case::new("O-duties-page", "a duty is lost between two pages of a sweep", between_two_pages),
    ]
}

/// A feed that does all three all the time.
fn busy() -> Settings {
    Settings {
        feed: "poll_interval = \"200ms\"\npoll_interval_max = \"200ms\"\nsweep_interval = \"1s\"".to_owned(),
        database: "connect_timeout = \"1s\"\nstatement_timeout = \"1s\"\nlock_timeout = \"500ms\"".to_owned(),
        ..Settings::new(Disposal::Delete)
    }
}

async fn until_shared(lab: &Lab, instances: i64, duties: i64) {
    let sql = format!("SELECT count(*) FROM keyfall.instance_status WHERE alive AND cardinality(duties) = {duties}");
    lab.until_count(&sql, instances).await;
}

/// The ends of polls, of sweeps, and of disposals.
const ACTS: [&str; 3] = ["discover.polled", "discover.swept", "dispose.marked"];

/// How often each program came by, by act.
fn acts(programs: &[Keyfall; 3]) -> [[usize; 3]; 3] {
    ACTS.map(|act| programs.each_ref().map(|program| program.control.hits(act)))
}

/// Waits for so many more polls and sweeps, whoever does them.
async fn until_acts(programs: &[Keyfall; 3], more_polls: usize, more_sweeps: usize) {
    let total = || acts(programs).map(|by| by.iter().sum::<usize>());
    let [polls, sweeps, _] = total();
    let begun = Instant::now();
    loop {
        let [polled, swept, _] = total();
        if polled >= polls + more_polls && swept >= sweeps + more_sweeps {
            return;
        }
        assert!(begun.elapsed() < DEADLINE, "{polled} polls and {swept} sweeps after {polls} and {sweeps}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn done_by_one(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    let settings = busy();
    let mut programs = ["a", "b", "c"].map(|name| lab.keyfall(name, &settings));
    for program in &mut programs {
        program.start();
    }
    until_shared(&lab, 3, 1).await;
    // What was begun before a duty moved has ended after some more.
    until_acts(&programs, 5, 2).await;
    let before = acts(&programs);
    lab.put(0..30, 3);
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE disposal = 'done'", 30).await;
    until_acts(&programs, 5, 3).await;
    let after = acts(&programs);
    for ((before, after), act) in before.iter().zip(&after).zip(ACTS) {
        let doers = before.iter().zip(after).filter(|(before, after)| after > before).count();
        assert_eq!(doers, 1, "{act} by each: before {before:?}, after {after:?}");
    }
    let [a, b, c] = &mut programs;
    Report { note: format!("{after:?}"), ..lab.verify(&mut [a, b, c]).await }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Loss {
    Killed,
    Frozen,
    CutOff,
}

async fn lost(trial: Trial, loss: Loss) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..5, 3);
    // The other one stays out of the proxy, which a cut hits.
    let mut holder = lab.keyfall("holder", &busy().through_proxy());
    holder.start();
    until_shared(&lab, 1, 3).await;
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE disposal = 'done'", 5).await;
    // It loses everything before the other one has had its share.
    match loss {
        Loss::Killed => holder.kill(),
        Loss::Frozen => holder.signal("STOP"),
        Loss::CutOff => lab.proxy.set_flow(Flow::Blackhole),
    }
    let begun = Instant::now();
    let mut other = lab.keyfall("other", &busy());
    other.start();
    lab.put(5..10, 3);
    within("it polls", other.control.reached("discover.polled", 1)).await;
    within("it sweeps", other.control.reached("discover.swept", 1)).await;
    within("it disposes", other.control.reached("dispose.marked", 1)).await;
    let took = begun.elapsed();
    // The lease, and what a start and a poll take on a busy machine.
    assert!(took < LEASE * 2 + Duration::from_secs(5), "taken over after {took:?}");
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE disposal = 'done'", 10).await;
    lab.put(10..15, 3);
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE disposal = 'done'", 15).await;
    let done = |holder: &Keyfall| ACTS.map(|act| holder.control.hits(act)).iter().sum::<usize>();
    let before = done(&holder);
    match loss {
        Loss::Killed => holder.start(),
        Loss::Frozen => holder.signal("CONT"),
        Loss::CutOff => lab.proxy.set_flow(Flow::Pass),
    }
    // It comes back, gets its share, and works on.
    lab.until_count("SELECT count(*) FROM keyfall.instance_status WHERE alive AND duties <> '{}'", 2).await;
    lab.put(15..20, 3);
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE disposal = 'done'", 20).await;
    let report = Report { note: format!("taken over after {:.1} s", took.as_secs_f64()), ..Report::default() };
    let begun = Instant::now();
    while done(&holder) == before {
        assert!(begun.elapsed() < DEADLINE, "it holds duties and does nothing: {}", holder.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let hits = lab.verify(&mut [&mut holder, &mut other]).await.hits;
    Report { hits, ..report }
}

/// Keeps everybody from renewing.
async fn lock_instances(lab: &Lab) -> tokio_postgres::Client {
    let client = lab.client().await;
    client.batch_execute("BEGIN; LOCK TABLE keyfall.instances IN ACCESS EXCLUSIVE MODE").await.expect("a lock");
    client
}

const UNKEPT: &str = "duties could not be renewed";

fn lists(lab: &Lab) -> usize {
    lab.s3.log().iter().filter(|entry| entry.op == Operation::ListObjects).count()
}

/// Nobody can renew: by its own clock it stops to poll, to sweep and to dispose, although ledger and bucket answer.
async fn unkept(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..3, 3);
    let mut keyfall = lab.keyfall("a", &busy());
    keyfall.start();
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE disposal = 'done'", 3).await;
    let client = lock_instances(&lab).await;
    // Each try takes half a second and comes a third of the lease after the one before: six are two leases.
    keyfall.says_times(UNKEPT, 6).await;
    let listed = lists(&lab);
    lab.put(3..6, 3);
    keyfall.says_times(UNKEPT, 8).await;
    assert_eq!(lists(&lab), listed, "it lists although its duties may be another's by now");
    keyfall.answers_with("/readyz?verbose", 503, &["duties cannot be kept"]).await;
    client.batch_execute("ROLLBACK").await.expect("the lock is gone");
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE disposal = 'done'", 6).await;
    keyfall.answers("/readyz", 200).await;
    lab.verify(&mut [&mut keyfall]).await
}

/// The lease ends while a sweep of three pages is held at its first: it ends there, and begins again later.
async fn between_two_pages(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    for number in 0..2500 {
        lab.s3.put(BUCKET, &format!("incoming/no-time-{number:04}"), "");
    }
    let mut keyfall = lab.keyfall("a", &Settings { disposal: Disposal::Keep, ..busy() });
    let gate = Gate::new();
    let held = keyfall.control.arm("discover.recorded", 1, Strike::Hold(gate.clone()));
    lab.expect_hits("discover.recorded hold", &held, 1);
    keyfall.start();
    within("the first page is recorded", gate.reached()).await;
    let client = lock_instances(&lab).await;
    keyfall.says_times(UNKEPT, 6).await;
    gate.open();
    keyfall.says_times(UNKEPT, 8).await;
    // The second page was asked for while the first was written down.
    assert_eq!(lists(&lab), 2, "it goes on listing although the sweep may be another's by now");
    assert_eq!(keyfall.control.hits("discover.swept"), 0);
    client.batch_execute("ROLLBACK").await.expect("the lock is gone");
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE reason = 'pattern'", 2500).await;
    within("it sweeps from the beginning", keyfall.control.reached("discover.swept", 1)).await;
    lab.verify(&mut [&mut keyfall]).await
}
