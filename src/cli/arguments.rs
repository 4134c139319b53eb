//! The shape of the command line. The doc comments here are the help texts and the manual page.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;

use clap::{ArgAction, Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::config::Sources;
use crate::domain::state::State;

use super::output::ColorChoice;

/// What `--version` says: enough to tell two builds apart in a bug report.
static LONG_VERSION: LazyLock<String> = LazyLock::new(|| {
    let commit = option_env!("KEYFALL_COMMIT").unwrap_or("unknown");
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    let features = match (cfg!(feature = "demo"), cfg!(feature = "failpoints")) {
        (false, false) => "none",
        (true, false) => "demo",
        (false, true) => "failpoints",
        (true, true) => "demo, failpoints",
    };
    format!("{}\ncommit: {commit}\nbuild: {build}\nfeatures: {features}", env!("CARGO_PKG_VERSION"))
});

/// Lands every new S3 object in PostgreSQL exactly once, at COPY speed, and can prove it.
#[derive(Debug, Parser)]
#[command(name = "keyfall", version, long_version = LONG_VERSION.as_str(), max_term_width = 100, after_help = EXIT_CODES)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 failed (or several kinds of trouble), 2 usage, 3 finished with quarantined objects, \
4 incomplete, 10 S3, 11 PostgreSQL, 12 ledger schema, 78 configuration.";

/// Flags every command takes, before or after its name.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(super) struct Global {
    /// Configuration file; else `$KEYFALL_CONFIG`, ./keyfall.toml, /etc/keyfall/keyfall.toml
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Override one key, such as workers.max=8; over files and environment; repeatable
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Results as JSON
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// Colour results: auto, always or never; auto heeds `NO_COLOR`
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t, hide_possible_values = true)]
    pub(super) color: ColorChoice,
    /// Log more; twice for everything of ours
    #[arg(short, long, global = true, action = ArgAction::Count, conflicts_with = "quiet")]
    verbose: u8,
    /// Log errors only
    #[arg(short, long, global = true)]
    quiet: bool,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verbosity {
    /// Errors.
    Quiet,
    /// What the configuration says, or warnings where the command is no daemon.
    Normal,
    /// Each object.
    Verbose,
    /// Everything of ours.
    Everything,
}

impl Global {
    pub(super) fn sources(&self, environment: BTreeMap<String, String>) -> Sources {
        Sources { file: self.config.clone(), environment, overrides: self.set.clone() }
    }

    pub(super) fn verbosity(&self) -> Verbosity {
        match (self.quiet, self.verbose) {
            (true, _) => Verbosity::Quiet,
            (false, 0) => Verbosity::Normal,
            (false, 1) => Verbosity::Verbose,
            (false, _) => Verbosity::Everything,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Discover, load and dispose of objects until told to stop
    Run(RunArgs),
    /// Look whether everything the configuration needs is there and permitted
    Check(CheckArgs),
    /// Show what would be loaded, from where and why; changes nothing
    Plan(PlanArgs),
    /// Show where every feed stands; needs no running daemon
    Status,
    /// List objects of the ledger, oldest key time first
    Objects(ObjectsArgs),
    /// Send objects back to be loaded again
    Retry(ReviseArgs),
    /// Set objects aside for good
    Skip(ReviseArgs),
    /// Delete the rows of loaded objects
    Undo(UndoArgs),
    /// Load objects again: delete the rows they have and send them back to be loaded
    Replay(ReplayArgs),
    /// Records that were rejected: list them, look at them, take them out, load them after all
    Rejections(RejectionsArgs),
    /// Stop loading a feed until it is resumed; running loads finish
    Pause(PauseArgs),
    /// Go on with a paused feed
    Resume(ResumeArgs),
    /// List whole prefixes into the ledger now
    Sweep(SweepArgs),
    /// Prove that everything in the bucket is loaded and disposed of, or name what is not
    Reconcile(ReconcileArgs),
    /// Feeds for objects that nobody has described yet
    Feed(FeedArgs),
    /// Create the ledger, or bring it to this program's schema version
    Migrate,
    /// Show or check the configuration
    Config(ConfigArgs),
    /// Ask a running daemon whether it is ready; for container healthchecks
    Health(HealthArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
    /// Print the manual page
    Man(ManArgs),
    /// Show it at work on this machine alone: S3 and PostgreSQL are started, used and removed again
    #[cfg(feature = "demo")]
    Demo(crate::demo::command::Arguments),
    /// Steps at which a test may kill, hold or fail this build
    #[cfg(feature = "failpoints")]
    Failpoints(FailpointsArgs),
}

#[cfg(feature = "failpoints")]
#[derive(Debug, Args)]
pub(super) struct FailpointsArgs {
    #[command(subcommand)]
    pub(super) command: FailpointsCommand,
}

#[cfg(feature = "failpoints")]
#[derive(Debug, Clone, Copy, Subcommand)]
pub(super) enum FailpointsCommand {
    /// Print every step with what has just happened there
    List,
}

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// One pass: sweep every feed, load and dispose of what is found, then end
    #[arg(long)]
    pub(super) once: bool,
}

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Only the configuration: ask neither PostgreSQL nor the object store
    #[arg(long)]
    pub(super) offline: bool,
    /// Load this object for real, say what came of it, and roll back
    #[arg(long, value_name = "S3://BUCKET/KEY", conflicts_with = "offline")]
    pub(super) object: Option<String>,
    /// The feed that loads it, where its key fits several or none
    #[arg(long, value_name = "FEED", requires = "object")]
    pub(super) feed: Option<String>,
    /// Name at most this many rejected records
    #[arg(long, value_name = "N", default_value_t = 20, requires = "object")]
    pub(super) limit: u32,
}

#[derive(Debug, Args)]
pub(super) struct ObjectsArgs {
    /// Only this feed
    #[arg(long, value_name = "FEED")]
    pub(super) feed: Option<String>,
    /// Only these states, such as pending,quarantined
    #[arg(long, value_name = "STATE", value_delimiter = ',')]
    pub(super) state: Vec<State>,
    /// Only keys that contain this text
    #[arg(long, value_name = "TEXT")]
    pub(super) key: Option<String>,
    /// Only this ledger id, with everything known of it; repeatable
    #[arg(long, value_name = "ID")]
    pub(super) id: Vec<i64>,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) limit: u32,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "these are flags")]
#[command(group = clap::ArgGroup::new("selection").required(true).multiple(true)
    .args(["feed", "state", "key", "id", "all"]))]
pub(super) struct ReviseArgs {
    /// Only this feed
    #[arg(long, value_name = "FEED")]
    pub(super) feed: Option<String>,
    /// Only these states, such as quarantined,missing [default: quarantined, unless ids are named]
    #[arg(long, value_name = "STATE", value_delimiter = ',')]
    pub(super) state: Vec<State>,
    /// Only keys that contain this text
    #[arg(long, value_name = "TEXT")]
    pub(super) key: Option<String>,
    /// Only these ledger ids, whatever their state
    #[arg(long, value_name = "ID", num_args = 1..)]
    pub(super) id: Vec<i64>,
    /// Objects of all feeds
    #[arg(long, conflicts_with_all = ["feed", "id"])]
    all: bool,
    /// Show what would change, and change nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(super) yes: bool,
}

/// Which objects to repair.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("repaired").required(true).multiple(true)
    .args(["feed", "key", "id", "loaded_from", "loaded_to"]))]
pub(super) struct RepairArgs {
    /// Only this feed
    #[arg(long, value_name = "FEED")]
    pub(super) feed: Option<String>,
    /// Only these ledger ids
    #[arg(long, value_name = "ID", num_args = 1..)]
    pub(super) id: Vec<i64>,
    /// Only keys that contain this text, or exactly `s3://BUCKET/KEY`
    #[arg(long, value_name = "TEXT")]
    pub(super) key: Option<String>,
    /// Only keys with this time or a later one: a time, a date, `today` or `yesterday`, by the feed's timezone
    #[arg(long, value_name = "TIME", requires = "feed")]
    pub(super) from: Option<String>,
    /// Only keys with a time before this; written like --from
    #[arg(long, value_name = "TIME", requires = "feed")]
    pub(super) to: Option<String>,
    /// Only objects loaded at this time or later; UTC where it names no offset
    #[arg(long, value_name = "TIME")]
    pub(super) loaded_from: Option<String>,
    /// Only objects loaded before this
    #[arg(long, value_name = "TIME")]
    pub(super) loaded_to: Option<String>,
    /// Show what would change, and change nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(super) yes: bool,
}

#[derive(Debug, Args)]
pub(super) struct UndoArgs {
    #[command(flatten)]
    pub(super) repair: RepairArgs,
    /// Delete the rows also where they are not as many as were loaded
    #[arg(long)]
    pub(super) force: bool,
}

#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    #[command(flatten)]
    pub(super) repair: RepairArgs,
    /// Delete the rows also where they are not as many as were loaded
    #[arg(long)]
    pub(super) force: bool,
    /// Not the objects, only their rejected records: `keyfall rejections replay`
    #[arg(long, conflicts_with_all = ["force", "from", "to", "loaded_from", "loaded_to"])]
    pub(super) rejections: bool,
}

#[derive(Debug, Args)]
pub(super) struct RejectionsArgs {
    #[command(subcommand)]
    pub(super) command: RejectionsCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum RejectionsCommand {
    /// List rejected records by their ids
    List(RejectionsListArgs),
    /// Everything known of one rejected record, and the record itself
    Show(RejectionsShowArgs),
    /// Write rejected records so that they are a file again
    Export(RejectionsExportArgs),
    /// Decode rejected records anew and load those that are good now
    Replay(RejectionsReplayArgs),
}

/// Which rejected records.
#[derive(Debug, Default, Args)]
pub(super) struct RejectedArgs {
    /// Only of this feed
    #[arg(long, value_name = "FEED")]
    pub(super) feed: Option<String>,
    /// Only of these objects, by ledger id
    #[arg(long, value_name = "OBJECT", num_args = 1..)]
    pub(super) id: Vec<i64>,
    /// Only of keys that contain this text, or of exactly `s3://BUCKET/KEY`
    #[arg(long, value_name = "TEXT")]
    pub(super) key: Option<String>,
    /// Only rejected at this time or later; UTC where it names no offset
    #[arg(long, value_name = "TIME")]
    pub(super) from: Option<String>,
    /// Only rejected before this
    #[arg(long, value_name = "TIME")]
    pub(super) to: Option<String>,
    /// Only with these codes, such as E-CELL-INT
    #[arg(long, value_name = "CODE", value_delimiter = ',')]
    pub(super) code: Vec<String>,
    /// Only these rejections, by the id that `list` shows
    #[arg(long, value_name = "ID", num_args = 1..)]
    pub(super) only: Vec<i64>,
}

#[derive(Debug, Args)]
pub(super) struct RejectionsListArgs {
    #[command(flatten)]
    pub(super) which: RejectedArgs,
    /// Only those that are still to be looked at; the default
    #[arg(long, conflicts_with = "all")]
    open: bool,
    /// Also those that were loaded since, and those of objects that were undone or replaced
    #[arg(long)]
    pub(super) all: bool,
    /// Only with a greater id: the next page
    #[arg(long, value_name = "ID", default_value_t = 0)]
    pub(super) after: i64,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) limit: u32,
}

#[derive(Debug, Args)]
pub(super) struct RejectionsShowArgs {
    /// The id that `list` shows
    #[arg(value_name = "ID")]
    pub(super) id: i64,
    /// Write the record's bytes to standard output, and nothing else
    #[arg(long)]
    pub(super) raw: bool,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "these are flags")]
pub(super) struct RejectionsExportArgs {
    #[command(flatten)]
    pub(super) which: RejectedArgs,
    /// Also those that were loaded since, and those of objects that were undone or replaced
    #[arg(long)]
    pub(super) all: bool,
    /// Where to; `-` is standard output. A file that is there is not written over
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub(super) output: PathBuf,
    /// Leave out records of which only the beginning is kept, instead of refusing
    #[arg(long)]
    pub(super) skip_cut: bool,
    /// JSON lines with object, place, code, reason and record, for people
    #[arg(long)]
    pub(super) with_reasons: bool,
}

#[derive(Debug, Args)]
pub(super) struct RejectionsReplayArgs {
    #[command(flatten)]
    pub(super) which: RejectedArgs,
    /// Load for real, show what came of it, and roll back
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(super) yes: bool,
}

#[derive(Debug, Args)]
pub(super) struct PauseArgs {
    /// Feed
    #[arg(value_name = "FEED")]
    pub(super) feed: String,
    /// Why, for whoever looks at `status`
    #[arg(long, value_name = "TEXT", default_value = "paused by an operator")]
    pub(super) reason: String,
}

#[derive(Debug, Args)]
pub(super) struct ResumeArgs {
    /// Feed
    #[arg(value_name = "FEED")]
    pub(super) feed: String,
}

#[derive(Debug, Args)]
pub(super) struct SweepArgs {
    /// Only this feed
    #[arg(long, value_name = "FEED")]
    pub(super) feed: Option<String>,
}

/// Which objects of which feeds.
#[derive(Debug, Args)]
pub(super) struct WindowArgs {
    /// Only this feed
    #[arg(long, value_name = "FEED")]
    pub(super) feed: Option<String>,
    /// Only keys with this time or a later one: a time, a date, `today` or `yesterday`, by the feed's timezone
    ///
    /// Where keys begin with their time, listing starts there. Where they are in another order, or have a part before
    /// the time, everything under the prefix is listed and this only chooses.
    #[arg(long, value_name = "TIME")]
    pub(super) from: Option<String>,
    /// Only keys with a time before this; written like --from
    #[arg(long, value_name = "TIME")]
    pub(super) to: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    #[command(flatten)]
    pub(super) window: WindowArgs,
    /// Name at most this many objects of each feed
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(super) limit: u32,
}

#[derive(Debug, Args)]
pub(super) struct ReconcileArgs {
    #[command(flatten)]
    pub(super) window: WindowArgs,
    /// Record what the ledger does not know, and have disposed of again what is still there
    #[arg(long)]
    pub(super) fix: bool,
    /// Name at most this many objects of each kind
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(super) limit: u32,
}

#[derive(Debug, Args)]
pub(super) struct FeedArgs {
    #[command(subcommand)]
    pub(super) command: FeedCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum FeedCommand {
    /// Look at sample objects and propose a feed and its table; changes nothing
    Init(FeedInitArgs),
}

#[derive(Debug, Args)]
pub(super) struct FeedInitArgs {
    /// Where the objects lie: a bucket, and what their keys begin with
    #[arg(value_name = "s3://BUCKET/PREFIX")]
    pub(super) address: crate::operate::propose::Address,
    /// Name of the feed [default: the last word of the keys' pattern]
    #[arg(long, value_name = "NAME")]
    pub(super) name: Option<crate::domain::feed::FeedName>,
    /// Table [default: public and the feed's name]
    #[arg(long, value_name = "SCHEMA.TABLE")]
    pub(super) table: Option<String>,
    /// Look at this many objects
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(super) samples: u16,
    /// Print the statements that make the table, and nothing else
    #[arg(long, conflicts_with = "json")]
    pub(super) sql: bool,
}

#[derive(Debug, Args)]
pub(super) struct ConfigArgs {
    #[command(subcommand)]
    pub(super) command: ConfigCommand,
}

#[derive(Debug, Clone, Copy, Subcommand)]
pub(super) enum ConfigCommand {
    /// Print every key and what holds for it; secrets are masked
    Show {
        /// Say where each value was set
        #[arg(long)]
        origin: bool,
    },
    /// Look whether the configuration is valid; all problems at once
    Check,
    /// Print the JSON Schema of the file, for editors
    Schema,
}

#[derive(Debug, Args)]
pub(super) struct HealthArgs {
    /// What to ask [default: /readyz on http.listen]
    #[arg(long, value_name = "URL")]
    pub(super) url: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// Shell
    #[arg(value_enum)]
    pub(super) shell: Shell,
}

#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// The page of this command [default: of keyfall itself]
    #[arg(value_name = "COMMAND")]
    pub(super) command: Option<String>,
}
