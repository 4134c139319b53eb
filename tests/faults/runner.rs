//! Chooses cases, runs several at once, and prints one line for each: id, outcome, hits, seed, time.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};

use crate::case::{Case, Report, Trial};
use crate::cases;
use crate::register;

/// Cases that this machine could not run: told apart from those that passed.
static NOT_RUN: AtomicUsize = AtomicUsize::new(0);

tokio::task_local! {
    static RUNNING: String;
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Task {
    Run,
    /// Prints the cases that would run.
    List,
    /// Writes the register of all cases.
    Register,
}

struct Arguments {
    task: Task,
    all: bool,
    seed: u64,
    jobs: u32,
    lives: u32,
    objects: usize,
    wanted: Vec<String>,
}

pub(crate) fn main() -> ExitCode {
    let arguments = match parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(problem) => {
            eprintln!(
                "{problem}\nusage: faults [--all] [--list] [--register] [--seed N] [--jobs N] [ID …] | soak [--lives N] [--seed N] \
                 | storm [--objects N] [--seed N]"
            );
            return ExitCode::from(2);
        }
    };
    let mut chosen: Vec<Case> = match arguments.wanted.as_slice() {
        [word] if word == "soak" => vec![cases::soak(arguments.lives)],
        [word] if word == "storm" => vec![cases::storm(arguments.objects)],
        _ => chosen(&arguments),
    };
    if arguments.task == Task::List {
        for case in chosen {
            println!("{:<28} {}", case.id, case.title);
        }
        return ExitCode::SUCCESS;
    }
    if arguments.task == Task::Register {
        register::write(&cases::all());
        return ExitCode::SUCCESS;
    }
    // Longest first would need times; those that need the machine for themselves come last.
    chosen.sort_by_key(|case| case.is_alone);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    name_the_case_of_a_panic();
    let (passed, failed) = runtime.block_on(run_all(chosen, &arguments));
    runtime.shutdown_timeout(Duration::from_secs(5));
    let lagging = if arguments.wanted.is_empty() { register::check(&cases::all()) } else { None };
    if let Some(problem) = &lagging {
        println!("FAIL {problem}");
    }
    let failed = failed + usize::from(lagging.is_some());
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    let not_run = NOT_RUN.load(Ordering::Relaxed);
    let passed = passed - not_run;
    println!("\ntest result: {verdict}. {passed} passed; {failed} failed; {not_run} not run; seed {}", arguments.seed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let seed = fastrand::u64(1..1_000_000);
    let mut arguments =
        Arguments { task: Task::Run, all: false, seed, jobs: 6, lives: 200, objects: 100_000, wanted: Vec::new() };
    while let Some(word) = words.next() {
        let (name, mut inline) = match word.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (word.clone(), None),
        };
        let mut number = || {
            let text = inline.take().or_else(|| words.next()).ok_or(format!("{name} needs a number"))?;
            text.parse::<u64>().map_err(|_not_a_number| format!("{name} needs a number, not {text:?}"))
        };
        match name.as_str() {
            "--all" => arguments.all = true,
            "--list" => arguments.task = Task::List,
            "--register" => arguments.task = Task::Register,
            "--seed" => arguments.seed = number()?,
            "--jobs" => arguments.jobs = u32::try_from(number()?.max(1)).unwrap_or(1),
            "--lives" => arguments.lives = u32::try_from(number()?.max(1)).unwrap_or(1),
            "--objects" => arguments.objects = usize::try_from(number()?.max(1)).unwrap_or(1),
            // What `cargo test -- …` passes to every test binary.
            "--nocapture" | "--quiet" | "-q" | "--include-ignored" => {}
            "--test-threads" => drop(number()?),
            name if name.starts_with('-') => return Err(format!("unknown option {name}")),
            _ => arguments.wanted.push(word),
        }
    }
    Ok(arguments)
}

/// Ids are matched from their beginning, anything else somewhere in id or title.
fn chosen(arguments: &Arguments) -> Vec<Case> {
    let all = cases::all();
    for case in &all {
        let same = all.iter().filter(|other| other.id == case.id).count();
        assert_eq!(same, 1, "{same} cases are called {}", case.id);
    }
    if arguments.wanted.is_empty() {
        return all
            .into_iter()
            .filter(|case| arguments.all || arguments.task == Task::List || case.is_first_wave)
            .collect();
    }
    let is_wanted = |case: &Case| {
        let exact = |word: &String| case.id == *word;
        // "F1" must not mean F10 where F1 exists, so a whole id wins.
        arguments.wanted.iter().any(exact)
            || arguments.wanted.iter().any(|word| {
                !all.iter().any(|case| exact_id(case, word))
                    && (case.id.starts_with(word.as_str()) || case.title.contains(word.as_str()))
            })
    };
    all.iter().filter(|case| is_wanted(case)).cloned().collect()
}

fn exact_id(case: &Case, word: &str) -> bool {
    case.id == word
}

async fn run_all(cases: Vec<Case>, arguments: &Arguments) -> (usize, usize) {
    let width = cases.iter().map(|case| case.id.len()).max().unwrap_or(0);
    let permits = Arc::new(Semaphore::new(arguments.jobs as usize));
    let mut running = JoinSet::new();
    let (mut passed, mut failed) = (0, 0);
    for case in cases {
        let wanted = if case.is_alone { arguments.jobs } else { 1 };
        let permit = Arc::clone(&permits).acquire_many_owned(wanted).await.expect("the semaphore is never closed");
        while let Some(outcome) = running.try_join_next() {
            count(&outcome, &mut passed, &mut failed);
        }
        let trial = Trial { id: case.id.clone(), seed: arguments.seed };
        running.spawn(async move {
            let outcome = run_one(&case, trial, width).await;
            drop(permit);
            outcome
        });
    }
    while let Some(outcome) = running.join_next().await {
        count(&outcome, &mut passed, &mut failed);
    }
    (passed, failed)
}

fn count(outcome: &Result<bool, JoinError>, passed: &mut usize, failed: &mut usize) {
    *(if matches!(outcome, Ok(true)) { passed } else { failed }) += 1;
}

async fn run_one(case: &Case, trial: Trial, width: usize) -> bool {
    let (begun, seed) = (Instant::now(), trial.seed);
    let work = RUNNING.scope(case.id.clone(), (case.run)(trial));
    #[expect(clippy::disallowed_methods, reason = "joined right here: a task of its own confines a panic")]
    let task = tokio::spawn(work);
    let abort = task.abort_handle();
    let outcome = tokio::time::timeout(case.longest, task).await;
    let seconds = begun.elapsed().as_secs_f64();
    let (word, detail) = match outcome {
        // Told in the same place, so that nobody takes it for passed; it fails nothing.
        Ok(Ok(report)) if report.note.starts_with("NOT RUN") => ("----", report.note),
        Ok(Ok(report)) => ("ok  ", describe(&report)),
        Ok(Err(panic)) => ("FAIL", message(panic)),
        Err(_elapsed) => {
            abort.abort();
            ("FAIL", format!("not finished after {} s", case.longest.as_secs()))
        }
    };
    if word == "----" {
        NOT_RUN.fetch_add(1, Ordering::Relaxed);
    }
    println!("{word} {:<width$}  {}  [{detail}]  seed {seed}  {seconds:.1} s", case.id, case.title);
    word != "FAIL"
}

fn describe(report: &Report) -> String {
    let hits: Vec<String> = report.hits.iter().map(|(name, hits)| format!("{name} x{hits}")).collect();
    let hits = if hits.is_empty() { "no fault".to_owned() } else { hits.join(", ") };
    if report.note.is_empty() { hits } else { format!("{hits}; {}", report.note) }
}

fn message(error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => match panic.downcast::<String>() {
            Ok(text) => *text,
            Err(panic) => panic.downcast_ref::<&str>().map_or("a panic", |text| text).to_owned(),
        },
        Err(cancelled) => cancelled.to_string(),
    }
}

/// Several cases run at once: a panic's place is of little use without its case.
fn name_the_case_of_a_panic() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let id = RUNNING.try_with(Clone::clone).unwrap_or_default();
        eprintln!("{id}: panicked at {}", info.location().map(ToString::to_string).unwrap_or_default());
        if id.is_empty() {
            default(info);
        }
    }));
}
