//! `keyfall demo`: the daemon at work on this machine alone, in some seconds.
//!
//! An S3 server in this process, a throwaway PostgreSQL, objects made up here (or the CSV files of a folder), and the
//! same daemon code that `keyfall run` starts, configured by a file. What it prints is read back from the ledger, the
//! tables and `/metrics`, and is compared with what was uploaded. Everything is gone afterwards, also after an error
//! or a signal. It reads no configuration and no variable of the user's, so it cannot touch a real database.

mod daemon;
mod folder;
mod guess;
mod keep;
mod made;
mod plan;
mod report;
mod screen;
mod services;
mod watch;

use std::io;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context as _;

use crate::app::exit;
use crate::config::{self, Sources};
use crate::lifecycle::{Request, SignalStream, forced_exit_code};

use self::daemon::{Daemon, Told};
use self::screen::{Screen, grouped};
use self::services::{Services, Starting};

/// Warnings; without the daemon's own about a server that skips `fsync`, which the throwaway one does on purpose.
const DEFAULT_LOGS: &str = "warn,keyfall::app::daemon=error";

/// What to show.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Arguments {
    /// Leave everything running and show new objects landing, until Ctrl-C
    #[arg(long)]
    pub keep: bool,
    /// Upload the CSV files of this folder instead of made-up ones
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Filter of the logs; without one `RUST_LOG`, else warnings.
    #[arg(skip)]
    pub log: Option<String>,
}

/// Runs the demo; answers the exit code.
///
/// # Errors
/// A service could not be started, the folder cannot be used, or the daemon failed.
pub async fn command(arguments: Arguments) -> anyhow::Result<u8> {
    let screen = Screen::new();
    let variable = config::environment().remove("RUST_LOG").filter(|filter| !filter.is_empty());
    let filter = arguments.log.clone().or(variable).unwrap_or_else(|| DEFAULT_LOGS.to_owned());
    screen.install_logs(&filter)?;
    let mut stage = Stage::default();
    let outcome = Box::pin(perform(&arguments, &screen, &mut stage)).await;
    screen.end_progress();
    let told = if stage.interrupted { Told::AlreadyBySignal } else { Told::ByUs };
    let closed = stage.close(told).await;
    match outcome {
        // Whoever read us has gone: `keyfall demo | head` is an ordinary thing to type.
        Err(error) if is_broken_pipe(&error) => Ok(exit::OK),
        Err(error) => Err(error),
        Ok(code) => {
            closed?;
            match screen.say("\nAll of it is removed again: server, database, objects.") {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
                _ => Ok(code),
            }
        }
    }
}

/// Everything that has to be put away, however the demo ends.
#[derive(Default)]
struct Stage {
    /// A PostgreSQL on its way up: it cannot be stopped before it runs.
    starting: Starting,
    services: Option<Services>,
    daemon: Option<Daemon>,
    /// The work is done; a signal is now the ordinary end.
    keeping: bool,
    interrupted: bool,
}

impl Stage {
    /// The daemon first: it drains into services that still answer.
    async fn close(self, told: Told) -> anyhow::Result<()> {
        let stopped = match self.daemon {
            Some(daemon) => daemon.stop(told).await,
            None => Ok(()),
        };
        drop(self.services);
        if let Some(starting) = self.starting {
            // Whether it came up does not matter any more: it goes.
            drop(starting.await);
        }
        stopped
    }
}

async fn perform(arguments: &Arguments, screen: &Screen, stage: &mut Stage) -> anyhow::Result<u8> {
    // Before anything is started: from here on a signal ends the demo in order.
    let mut signals = SignalStream::install().context("take over the signals")?;
    screen.say("keyfall demo: objects in S3 become rows in PostgreSQL, on this machine alone.\n")?;
    let signal = tokio::select! {
        // The signal first: at a terminal it also ends helper programs, whose failure would be told instead.
        biased;
        signal = stop_request(&mut signals) => signal,
        outcome = play(arguments, screen, stage) => return outcome,
    };
    stage.interrupted = true;
    screen.end_progress();
    screen.say("\nStopping: running loads may finish, then everything is removed.")?;
    Ok(if stage.keeping { exit::OK } else { forced_exit_code(signal) })
}

async fn stop_request(signals: &mut SignalStream) -> i32 {
    loop {
        if let Request::Stop(signal) = signals.next().await {
            return signal;
        }
    }
}

async fn play(arguments: &Arguments, screen: &Screen, stage: &mut Stage) -> anyhow::Result<u8> {
    let cargo = match &arguments.data {
        Some(directory) => folder::read(directory, screen).await?,
        None => made::cargo(),
    };
    let services = stage.services.insert(Services::start(screen, &mut stage.starting).await?);
    for feed in &cargo.feeds {
        services.sql.batch_execute(&feed.ddl()).await.with_context(|| format!("create table {}", feed.name))?;
    }
    cargo.upload(&services.s3);
    screen.step("objects", &cargo.summary())?;

    let file = services.write_configuration(&cargo)?;
    let sources = Sources { file: Some(file.clone()), ..Sources::default() };
    let loaded = config::load(&sources).context("the demo's own configuration")?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let settings = loaded.config.clone();
    screen.step("keyfall", &format!("the daemon, configured by {}", file.display()))?;
    let begun = Instant::now();
    let daemon = stage.daemon.insert(Daemon::start(loaded, sources));
    let done = watch::until_settled(screen, services, daemon, &cargo).await?;

    let took = begun.elapsed();
    let scene = report::Scene { screen, services, cargo: &cargo, settings: &settings };
    let verdict = scene.show(&done, took).await?;
    if arguments.keep {
        stage.keeping = true;
        keep::keep(&scene, daemon, &file).await?;
    }
    Ok(verdict)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let cause = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

/// "1 object", "2,000 objects".
fn count(n: u64, thing: &str) -> String {
    format!("{} {thing}{}", grouped(n), if n == 1 { "" } else { "s" })
}
