//! keyfall between foreign implementations of S3 and SQS and a real PostgreSQL: from PUT over the event to the row.
//!
//! ```text
//! make e2e                                        installs LocalStack and moto in a cache folder, runs everything
//! cargo test --features demo,failpoints --test e2e -- moto       one of them, installed before
//! ```
//!
//! Its own runner, outside `cargo test`: an emulator that is not installed fails it, nothing is skipped. What is
//! proven here is that our reading of the protocols is not our own invention; faults are the fault lab's business.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "this crate is a test: a panic is its verdict, and it is its own runner"
)]

mod emulator;
mod scenarios;
mod world;

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;

use futures::FutureExt;

use emulator::{Emulator, Kind};

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let kinds: Vec<Kind> = Kind::ALL
        .into_iter()
        .filter(|kind| wanted.is_empty() || wanted.iter().any(|name| name == kind.name()))
        .collect();
    assert!(!kinds.is_empty(), "no such emulator: {}", wanted.join(", "));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let (passed, failed) = runtime.block_on(run(&kinds));
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {word}. {passed} passed; {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn run(kinds: &[Kind]) -> (u32, u32) {
    let (mut passed, mut failed) = (0, 0);
    for kind in kinds {
        let emulator = Emulator::start(*kind).await;
        for scenario in scenarios::ALL {
            let begun = std::time::Instant::now();
            let outcome = AssertUnwindSafe((scenario.run)(&emulator)).catch_unwind().await;
            let seconds = begun.elapsed().as_secs_f64();
            match outcome {
                Ok(note) => {
                    passed += 1;
                    println!("ok   {:<11} {:<12} {note}  {seconds:.1} s", kind.name(), scenario.name);
                }
                // The panic's own message went to stderr.
                Err(_panic) => {
                    failed += 1;
                    println!("FAIL {:<11} {:<12} {seconds:.1} s", kind.name(), scenario.name);
                }
            }
        }
    }
    (passed, failed)
}
