//! The built binary as its users meet it: help, exit codes, messages, JSON, against real services of its own.
//!
//! The services run inside this process (feature `demo`), one PostgreSQL cluster for all tests and one database each. What
//! the pipeline does to rows is proven elsewhere; here it is what an operator types and reads.
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "this crate is a test: a panic is its verdict"
)]

#[cfg(feature = "demo")]
#[path = "cli/checks.rs"]
mod checks;
#[cfg(feature = "demo")]
#[path = "cli/complete.rs"]
mod complete;
#[path = "cli/console.rs"]
mod console;
#[cfg(feature = "demo")]
#[path = "cli/operator.rs"]
mod operator;
#[path = "cli/plain.rs"]
mod plain;
#[cfg(feature = "demo")]
#[path = "cli/propose.rs"]
mod propose;
#[cfg(feature = "demo")]
#[path = "cli/repair.rs"]
mod repair;
#[cfg(feature = "demo")]
#[path = "cli/world.rs"]
mod world;
