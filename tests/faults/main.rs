//! The fault lab: the real program, broken on purpose at every step, and a checker that proves that nothing was lost.
//!
//! ```text
//! cargo test --features demo,failpoints --test faults                    the first wave, as `make test` does
//! cargo test --features demo,failpoints --test faults -- --all           every case: `make faults`
//! cargo test --features demo,failpoints --test faults -- F07 --seed 42   one case again
//! cargo test --features demo,failpoints --test faults -- soak --lives 200 --seed 42
//! cargo test --features demo,failpoints --test faults -- storm --objects 100000 --seed 42
//! ```
//!
//! A case starts services of its own, writes down what must be in the database before the program runs (`oracle`),
//! breaks something at a step it has observed (`control`, the S3 fault script, the proxy), heals it, and hands the
//! outcome to `checker`, which looks at the invariants I1 to I10. A fault that was not met fails the case.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this crate is a test: a panic is its verdict, and it is its own runner"
)]

mod case;
mod cases;
mod checker;
mod control;
mod keyfall;
mod lab;
mod mailbox;
mod oracle;
mod register;
mod runner;

fn main() -> std::process::ExitCode {
    runner::main()
}
