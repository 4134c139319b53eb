//! F16: random kills. Two instances, each ended by SIGKILL at moments the seed chooses and started again, over an S3 and
//! a network that fail now and then, while objects arrive, some bad, some over others. In the end everything is there
//! once; then one instance lives on under load, and neither its memory nor its descriptors grow.
//!
//! The moments of the kills are a function of the seed and the number of lives. What the programs do in between is not.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use ::keyfall::demo::s3::{Action, FaultRule, Injected, Operation};
use fastrand::Rng;

use crate::case::{Case, Report, Trial};
use crate::checker;
use crate::keyfall::Keyfall;
use crate::lab::{Disposal, Lab, Settings, key};
use crate::oracle::{Body, Fate};

use super::crash::put_bad;

/// Objects that arrive while instances are killed.
const OBJECTS: usize = 500;
/// A life, in milliseconds.
const LIFE: std::ops::Range<u64> = 200..2000;
/// How long one instance lives in the end, and how much of that is warming up.
const STRETCH: Duration = Duration::from_mins(2);
const WARM_UP: Duration = Duration::from_secs(30);
/// What a flat line may rise over the stretch: the noise of an allocator, two KiB for each object that arrives in it.
const RISE_KIB: f64 = 4.0 * 1024.0;
/// Descriptors come and go with connections: so many more than after the warm-up.
const DESCRIPTORS: usize = 12;
/// After the healing; a disposal that failed often waits for its next try.
const QUIET: Duration = Duration::from_mins(3);

pub(crate) fn case(lives: u32) -> Case {
    Case::new("soak", format!("{lives} lives ended by SIGKILL"), move |trial| soak(trial, lives))
        .alone()
        .lasting(Duration::from_mins(20))
}

async fn soak(trial: Trial, lives: u32) -> Report {
    let mut lab = Lab::start(&trial).await;
    let mut settings = Settings::new(Disposal::Archive).through_proxy();
    "max = 3\ngroup_objects = 8".clone_into(&mut settings.workers);
    "lookback_interval = \"1s\"\nsweep_interval = \"10s\"".clone_into(&mut settings.feed);
    let mut programs = [lab.keyfall("a", &settings), lab.keyfall("b", &settings)];
    let mut arrivals = Arrivals::new(&trial);
    let mut faults = Faults::new(&trial);
    let begun = Instant::now();
    kills(&mut lab, &mut programs, lives, &mut arrivals, &mut faults).await;
    while arrivals.next < OBJECTS {
        arrivals.put(&mut lab);
    }
    lab.s3.heal();
    println!("soak: all {lives} lives used after {} s, {}", begun.elapsed().as_secs(), faults.told());

    let [alive, dead] = &mut programs;
    assert!(!dead.is_running(), "only one instance is left");
    if !alive.is_running() {
        alive.start();
    }
    quiet(&mut lab, alive).await;
    println!("soak: quiet after {} s", begun.elapsed().as_secs());
    let samples = stretch(&mut lab, alive, &mut arrivals).await;
    let flat = flatness(&samples);
    quiet(&mut lab, alive).await;
    let objects = lab.oracle.versions.len();
    let mut report = lab.verify(&mut [alive, dead]).await;
    report.note = format!("{lives} lives, {objects} versions, {}; {flat}", faults.told());
    report
}

/// When each instance dies: a function of the seed and the number of lives.
fn schedule(trial: &Trial, lives: u32) -> Vec<(usize, Duration)> {
    let mut random = trial.random("kills");
    (0..lives).map(|life| (life as usize % 2, Duration::from_millis(random.u64(LIFE)))).collect()
}

async fn kills(lab: &mut Lab, programs: &mut [Keyfall; 2], lives: u32, arrivals: &mut Arrivals, faults: &mut Faults) {
    let schedule = schedule(&lab.trial, lives);
    let total: Duration = schedule.iter().map(|(_, life)| *life).sum();
    // Both instances live side by side, so the whole takes half of all lives together.
    let pause = total / 2 / u32::try_from(OBJECTS).expect("a small number");
    let mut queues: [VecDeque<Duration>; 2] = Default::default();
    for (instance, life) in schedule {
        if let Some(queue) = queues.get_mut(instance) {
            queue.push_back(life);
        }
    }
    for _ in 0..OBJECTS / 10 {
        arrivals.put(lab);
    }
    let (begun, mut used) = (Instant::now(), 0);
    let mut deaths: [Option<Instant>; 2] = [None, None];
    let mut next_object = begun + pause;
    loop {
        for ((program, queue), death) in programs.iter_mut().zip(&mut queues).zip(&mut deaths) {
            if death.is_some_and(|death| Instant::now() >= death) {
                program.kill();
                used += 1;
                *death = None;
                if used % 20 == 0 {
                    tell(lab, used, lives, begun).await;
                }
            }
            if death.is_none()
                && let Some(life) = queue.pop_front()
            {
                program.start();
                *death = Some(Instant::now() + life);
            }
        }
        if Instant::now() >= next_object {
            if arrivals.next < OBJECTS {
                arrivals.put(lab);
            }
            faults.perhaps(lab);
            next_object += pause;
        }
        let Some(next) = deaths.iter().flatten().min() else { return };
        tokio::time::sleep_until((*next).min(next_object).into()).await;
    }
}

async fn tell(lab: &Lab, used: u32, lives: u32, begun: Instant) {
    let sql = "SELECT count(*) FILTER (WHERE state = 'loaded'), count(*) FROM keyfall.objects";
    let client = lab.client().await;
    let (loaded, known): (i64, i64) = client.query_one(sql, &[]).await.map_or((0, 0), |row| (row.get(0), row.get(1)));
    println!(
        "soak: {used} of {lives} lives, {loaded} of {known} known objects loaded, {} s",
        begun.elapsed().as_secs()
    );
}

/// What is put into the bucket.
struct Arrivals {
    random: Rng,
    next: usize,
    /// Numbers of the objects that may be replaced.
    good: Vec<usize>,
}

impl Arrivals {
    fn new(trial: &Trial) -> Self {
        Self { random: trial.random("arrivals"), next: 0, good: Vec::new() }
    }

    fn put(&mut self, lab: &mut Lab) {
        let kind = self.random.u8(..100);
        if kind < 8
            && let Some(number) = self.random.choice(&self.good).copied()
        {
            let rows = self.random.u64(1..40);
            let body = Body::new(number, rows, &mut lab.random);
            lab.put_body(&key(number), &body);
            return;
        }
        let number = self.next;
        self.next += 1;
        if kind < 13 {
            put_bad(lab, number);
            return;
        }
        let rows = match kind {
            13..80 => self.random.u64(0..30),
            80..97 => self.random.u64(500..2500),
            _ => self.random.u64(6000..12_000),
        };
        lab.put(number..number + 1, rows);
        self.good.push(number);
    }
}

/// What goes wrong beside the kills.
struct Faults {
    random: Rng,
    injected: Vec<Injected>,
    resets: u64,
}

impl Faults {
    fn new(trial: &Trial) -> Self {
        Self { random: trial.random("faults"), injected: Vec::new(), resets: 0 }
    }

    fn perhaps(&mut self, lab: &Lab) {
        let (op, action) = match self.random.u8(..100) {
            0..3 => (Operation::GetObject, Action::Status(503, "SlowDown")),
            3..6 => (Operation::GetObject, Action::ResetAfter(self.random.usize(..60_000))),
            6..8 => (Operation::GetObject, Action::Truncate(self.random.usize(..60_000))),
            8..10 => (Operation::ListObjects, Action::Status(500, "InternalError")),
            10..12 => (Operation::CopyObject, Action::HangUp),
            12..14 => (Operation::DeleteObjects, Action::HangUp),
            14..16 => (Operation::CopyObject, Action::Status(503, "SlowDown")),
            16..18 => {
                lab.proxy.reset_all();
                self.resets += 1;
                return;
            }
            _ => return,
        };
        self.injected.push(lab.s3.inject(FaultRule::on(op, action).times(1)));
    }

    fn told(&self) -> String {
        let struck: u64 = self.injected.iter().map(Injected::hits).sum();
        format!("{struck} of {} S3 faults struck, {} resets of all connections", self.injected.len(), self.resets)
    }
}

/// I5, with more patience: many kills make long pauses.
async fn quiet(lab: &mut Lab, program: &Keyfall) {
    let begun = Instant::now();
    judge_replaced(lab).await;
    while let Some(open) = checker::open(lab).await {
        assert!(
            begun.elapsed() < QUIET,
            "I5 {} s after the healing: {open}\n{}",
            QUIET.as_secs(),
            program.log_of_this_life()
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
        judge_replaced(lab).await;
    }
}

/// One instance under load, looked at every second: age in seconds, resident KiB, descriptors.
async fn stretch(lab: &mut Lab, program: &Keyfall, arrivals: &mut Arrivals) -> Vec<(f64, f64, usize)> {
    let begun = Instant::now();
    let mut samples = Vec::new();
    let mut next_sample = begun + WARM_UP;
    while begun.elapsed() < STRETCH {
        arrivals.put(lab);
        if Instant::now() >= next_sample {
            let age = begun.elapsed().as_secs_f64();
            samples.push((age, f64::from(u32::try_from(program.memory()).unwrap_or(u32::MAX)), program.descriptors()));
            next_sample += Duration::from_secs(1);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    samples
}

/// Fits a line and fails where it rises.
fn flatness(samples: &[(f64, f64, usize)]) -> String {
    let n = samples.len() as f64;
    let mean = |value: fn(&(f64, f64, usize)) -> f64| samples.iter().map(value).sum::<f64>() / n;
    let (time, memory) = (mean(|sample| sample.0), mean(|sample| sample.1));
    let covariance: f64 = samples.iter().map(|(at, kib, _)| (at - time) * (kib - memory)).sum();
    let variance: f64 = samples.iter().map(|(at, ..)| (at - time).powi(2)).sum();
    let slope = covariance / variance;
    let (first, last) = (samples.first().expect("a sample"), samples.last().expect("a sample"));
    let rise = slope * (last.0 - first.0);
    let largest = samples.iter().map(|sample| sample.1).fold(0.0, f64::max);
    let descriptors = |samples: &mut dyn Iterator<Item = usize>| {
        samples.fold((usize::MAX, 0), |(low, high), n| (low.min(n), high.max(n)))
    };
    let (fewest, most) = descriptors(&mut samples.iter().map(|sample| sample.2));
    println!("soak: {:<12} {:>9} {:>9} {:>9}", "", "first", "last", "most");
    println!("soak: {:<12} {:>9.0} {:>9.0} {largest:>9.0}", "RSS KiB", first.1, last.1);
    println!("soak: {:<12} {:>9} {:>9} {most:>9}", "descriptors", first.2, last.2);
    println!("soak: RSS fits {slope:+.1} KiB/s over {:.0} s, {rise:+.0} KiB in all", last.0 - first.0);
    assert!(rise < RISE_KIB, "I7 memory rises by {rise:.0} KiB: {samples:?}");
    assert!(most <= first.2 + DESCRIPTORS, "I7 {fewest} to {most} descriptors: {samples:?}");
    format!(
        "RSS {:.0} to {:.0} KiB, at most {largest:.0}, slope {slope:+.1} KiB/s, {fewest} to {most} descriptors",
        first.1, last.1
    )
}

/// A version that was replaced was read before, or not at all; whichever it was, the checker holds it to that.
async fn judge_replaced(lab: &mut Lab) {
    let sql = "SELECT key, etag FROM keyfall.objects WHERE state = 'loaded'";
    let rows = lab.client().await.query(sql, &[]).await.unwrap_or_default();
    let loaded: BTreeSet<(String, String)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    for version in lab.oracle.versions.iter_mut().filter(|version| version.is_displaced) {
        let was_loaded = loaded.contains(&(version.key.clone(), version.etag.clone()));
        version.fate = if was_loaded { Fate::Loaded } else { Fate::Unread };
    }
}
