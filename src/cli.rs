//! The command line: arguments → configuration → logs → runtime → one command.
//!
//! One file per command below this one. Commands print what [`crate::operate`] and the ledger answer; they decide
//! nothing. Results go to standard output, logs and errors to standard error, and the exit code says what kind of
//! trouble there was ([`exit::Exit`]).

mod arguments;
mod check;
mod config;
mod confirm;
#[cfg(feature = "demo")]
mod demo;
pub mod exit;
#[cfg(feature = "failpoints")]
mod failpoints;
mod feed;
mod health;
mod manual;
mod migrate;
mod objects;
pub mod output;
mod pause;
mod plan;
mod reconcile;
mod rejections;
mod repair;
mod revise;
mod run;
mod session;
mod status;
mod sweep;
mod trial;
mod watch;
mod window;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command};
use exit::{Exit, Failure};
use output::{Json, NoColor, Output};
use session::Session;

/// Runs one command line; the first argument is the program's name.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(refused) => return usage(&refused),
    };
    let outcome = dispatch(arguments);
    // What led to the end stands above it.
    crate::telemetry::tracing::flush();
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) => {
            output::note(&failure.to_string());
            failure.exit.into()
        }
    }
}

/// Help, version, or what is wrong with the arguments; clap words it.
fn usage(refused: &clap::Error) -> ExitCode {
    if let Err(error) = refused.print() {
        tracing::trace!(error = %error, "nobody reads the usage");
    }
    let exit = if refused.use_stderr() { Exit::Usage } else { Exit::Success };
    exit.into()
}

fn dispatch(arguments: Arguments) -> Result<Exit, Failure> {
    let Arguments { global, command } = arguments;
    let environment = crate::config::environment();
    let no_color = match environment.get("NO_COLOR") {
        Some(value) if !value.is_empty() => NoColor::Set,
        _ => NoColor::Unset,
    };
    let output = Output::new(if global.json { Json::Yes } else { Json::No }, global.color, no_color);
    let session = Session { sources: global.sources(environment), verbosity: global.verbosity(), output };
    match command {
        Command::Run(args) => run::run(&session, &args),
        Command::Check(args) => check::check(&session, &args),
        Command::Plan(args) => plan::plan(&session, &args),
        Command::Status => status::status(&session),
        Command::Objects(args) => objects::objects(&session, &args),
        Command::Retry(args) => revise::retry(&session, &args),
        Command::Skip(args) => revise::skip(&session, &args),
        Command::Undo(args) => repair::undo(&session, &args),
        Command::Replay(args) => repair::replay(&session, &args),
        Command::Rejections(args) => rejections::rejections(&session, args.command),
        Command::Pause(args) => pause::pause(&session, &args),
        Command::Resume(args) => pause::resume(&session, &args),
        Command::Sweep(args) => sweep::sweep(&session, &args),
        Command::Reconcile(args) => reconcile::reconcile(&session, &args),
        Command::Feed(args) => feed::feed(&session, &args),
        Command::Migrate => migrate::migrate(&session),
        Command::Config(args) => config::config(&session, &args),
        Command::Health(args) => health::health(&session, &args),
        Command::Completions(args) => manual::completions(&session, &args),
        Command::Man(args) => manual::man(&session, &args),
        #[cfg(feature = "failpoints")]
        Command::Failpoints(args) => failpoints::failpoints(&session, args.command),
        #[cfg(feature = "demo")]
        Command::Demo(args) => demo::demo(&session, args),
    }
}
