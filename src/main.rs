//! The binary: hands its arguments to the command line and turns the answer into an exit code.
//!
//! Nothing is decided here. The allocator gives small, short-lived buffers back faster than the system's.

use std::process::ExitCode;

use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    // Before anything is read that could be a secret.
    if let Err(error) = keyfall::lifecycle::forbid_core_dumps() {
        keyfall::cli::output::note(&format!("core dumps of this process cannot be forbidden: {error}"));
    }
    keyfall::cli::main(std::env::args_os())
}
