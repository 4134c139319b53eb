//! Configuration: one TOML file, overridden in layers, checked whole, never re-checked downstream.
//!
//! Layers, each over the one before: defaults, the file, `conf.d/*.toml` beside it, `KEYFALL__SECTION__KEY`, `--set`.
//! [`load`] reports every problem at once, each with its key path and origin. The environment comes as a map;
//! [`environment`] is the one place that reads it from the process. No service is asked here: whether buckets and tables
//! exist is found out by those who use them.

pub mod database;
pub mod feed;
pub mod http;
pub mod lifecycle;
pub mod proposal;
pub mod queue;
pub mod s3;
pub mod secret;
pub mod telemetry;
pub mod workers;

mod bounds;
mod dsn;
mod layers;
mod raw;
mod report;
mod shape;
mod show;
mod value;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::domain::feed::FeedName;
use layers::Merged;
use raw::RawConfig;
pub use report::{ConfigErrors, Problem};
use report::{Origin, Report, nearest};
use shape::Shape;
pub use show::Effective;

/// A configuration that has passed every check that needs no service.
#[derive(Debug, Clone)]
pub struct Config {
    /// Name of this instance in leases and in `status`; default `host-pid`.
    pub instance: String,
    /// Where rows and ledger live.
    pub database: database::Database,
    /// How the object store is reached.
    pub s3: s3::S3,
    /// How much is done at once.
    pub workers: workers::Workers,
    /// Health and metrics listener.
    pub http: http::Http,
    /// Logs.
    pub telemetry: telemetry::Telemetry,
    /// Shutdown.
    pub lifecycle: lifecycle::Lifecycle,
    /// Queues that carry notifications, by name.
    pub queues: BTreeMap<String, queue::Queue>,
    /// What is loaded, by name.
    pub feeds: BTreeMap<FeedName, Arc<feed::Feed>>,
}

/// Where the configuration is taken from. Not `Debug`: the environment holds passwords.
#[derive(Clone, Default)]
pub struct Sources {
    /// The file; where none is named, `$KEYFALL_CONFIG`, `./keyfall.toml` and `/etc/keyfall/keyfall.toml` are tried.
    pub file: Option<PathBuf>,
    /// The environment, see [`environment`].
    pub environment: BTreeMap<String, String>,
    /// `section.key=value` from the command line, later ones over earlier ones.
    pub overrides: Vec<String>,
}

/// A loaded configuration, and how it came about.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What the program works by.
    pub config: Config,
    /// The files that were read, in the order they apply.
    pub files: Vec<PathBuf>,
    /// What deserves a log line, and stops nothing.
    pub warnings: Vec<String>,
    effective: Vec<Effective>,
}

/// The process's environment; the only place that reads it. Variables that are not UTF-8 are left out.
pub fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Reads, merges and checks the configuration.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigErrors> {
    load_from(sources, &layers::SEARCHED)
}

fn load_from(sources: &Sources, searched: &[&str]) -> Result<Loaded, ConfigErrors> {
    let mut report = Report::default();
    let shape = Shape::of_config();
    let merged = layers::gather(sources, searched, &shape, &mut report);
    finish(merged, sources, searched, &shape, report)
}

/// The same from the text of one file, without environment.
#[cfg(any(test, fuzzing))]
pub(crate) fn load_text(text: &str) -> Result<Loaded, ConfigErrors> {
    let mut report = Report::default();
    let shape = Shape::of_config();
    let merged = layers::gather_beside(&Sources::default(), &[], text, (&shape, &mut report));
    finish(merged, &Sources::default(), &[], &shape, report)
}

fn finish(
    merged: Option<Merged>,
    sources: &Sources,
    searched: &[&str],
    shape: &Shape,
    mut report: Report,
) -> Result<Loaded, ConfigErrors> {
    let Some(Merged { table, files }) = merged else { return Err(report.into_errors()) };
    let raw = raw::read(table, shape, &mut report);
    let validated = validate(&raw, &sources.environment, &mut report);
    if files.is_empty() && !report.is_clean() {
        let message = format!("none was found: looked for {}", searched.join(" and "));
        report.problem("configuration file", message, "name one with --config or KEYFALL_CONFIG");
    }
    let Some((config, connection)) = validated.filter(|_| report.is_clean()) else {
        return Err(report.into_errors());
    };
    let effective = show::effective(&raw, &config, connection, report.origins());
    Ok(Loaded { config, files, warnings: report.into_warnings(), effective })
}

/// Where the listener of a daemon with this configuration is; none where it is turned off. Reads no secret and does
/// not mind what is wrong elsewhere: a healthcheck asks this every few seconds, with fewer rights than the daemon.
pub fn listen_address(sources: &Sources) -> Result<Option<SocketAddr>, ConfigErrors> {
    let mut report = Report::default();
    let shape = Shape::of_config();
    let Some(Merged { table, .. }) = layers::gather(sources, &layers::SEARCHED, &shape, &mut report) else {
        return Err(report.into_errors());
    };
    let raw = raw::read(table, &shape, &mut report);
    let listen = http::validate(&raw.http, &mut report).listen;
    let mut errors = report.into_errors();
    errors.problems.retain(|problem| problem.key == "http.listen");
    if errors.problems.is_empty() { Ok(listen) } else { Err(errors) }
}

/// Every effective key with its value (masked where it is a secret) and its origin.
pub fn show(loaded: &Loaded) -> Vec<Effective> {
    loaded.effective.clone()
}

/// The JSON Schema of the file, for editors.
pub fn json_schema() -> serde_json::Value {
    shape::json_schema()
}

/// What the connection comes to: parameter, value, origin.
type Connection = Vec<(String, String, String)>;

fn validate(
    raw: &RawConfig,
    environment: &BTreeMap<String, String>,
    report: &mut Report,
) -> Option<(Config, Connection)> {
    let instance = instance(raw, environment, report);
    let database = database::validate(&raw.database, environment, report);
    let s3 = s3::validate(&raw.s3, environment, report);
    let workers = workers::validate(&raw.workers, report);
    let http = http::validate(&raw.http, report);
    let telemetry = telemetry::validate(&raw.telemetry, report);
    let lifecycle = lifecycle::validate(&raw.lifecycle, report);
    let queues = queues(raw, report);
    let feeds = feeds(raw, &workers, report);
    let (database, connection) = database?;
    Some((Config { instance, database, s3, workers, http, telemetry, lifecycle, queues, feeds }, connection))
}

fn queues(raw: &RawConfig, report: &mut Report) -> BTreeMap<String, queue::Queue> {
    let queues = raw.queues.iter().filter_map(|(name, raw)| Some((name.clone(), queue::validate(name, raw, report)?)));
    queues.collect()
}

fn feeds(raw: &RawConfig, workers: &workers::Workers, report: &mut Report) -> BTreeMap<FeedName, Arc<feed::Feed>> {
    if raw.feeds.is_empty() && report.is_clean() {
        report.warn("no feeds are configured: nothing will be loaded".to_owned());
    }
    let queues: Vec<&str> = raw.queues.keys().map(String::as_str).collect();
    let names: Vec<&str> = raw.feeds.keys().map(String::as_str).collect();
    let known = feed::Known { max_workers: workers.max, queues: &queues, feeds: &names };
    let mut checked = Vec::new();
    for (name, raw_feed) in &raw.feeds {
        match name.parse::<FeedName>() {
            Ok(feed_name) => checked.extend(feed::validate(&feed_name, raw_feed, &known, report)),
            Err(error) => report.problem(&format!("feeds.{name}"), error, "rename the feed"),
        }
        warn_of_stray_feed(name, raw, report);
    }
    for name in queues {
        if !checked.iter().any(|checked| checked.feed.queue.as_deref() == Some(name)) {
            report.warn(format!("queues.{name}: no feed names this queue, so nobody receives from it"));
        }
    }
    feed::check_overlaps(&checked, report);
    feed::check_parents(&checked, report);
    checked.into_iter().map(|checked| (checked.feed.name.clone(), checked.feed)).collect()
}

/// A feed that only variables or `--set` know, and that lacks something, is most likely a misspelt one.
fn warn_of_stray_feed(name: &str, raw: &RawConfig, report: &mut Report) {
    let prefix = format!("feeds.{name}.");
    let is_file = |origin: &Origin| matches!(origin, Origin::File(..));
    let mine: Vec<_> = report.origins().iter().filter(|(key, _)| key.starts_with(&prefix)).collect();
    let incomplete = report.has_problem(&format!("{prefix}bucket")) || report.has_problem(&format!("{prefix}table"));
    if !incomplete || mine.is_empty() || mine.iter().any(|(_, origin)| is_file(origin)) {
        return;
    }
    let others = raw.feeds.keys().map(String::as_str).filter(|other| *other != name);
    if let Some(other) = nearest(name, others) {
        let setters: Vec<_> = mine.iter().map(|(_, origin)| origin.to_string()).collect();
        let message = format!("no file has such a feed; it was named by {}", setters.join(", "));
        report.problem(&format!("feeds.{name}"), message, format!("did you mean feed `{other}`?"));
    }
}

/// Longest instance name: it stands in every lease.
const MAX_INSTANCE: usize = 128;

fn instance(raw: &RawConfig, environment: &BTreeMap<String, String>, report: &mut Report) -> String {
    let Some(name) = raw.instance.as_deref() else {
        return format!("{}-{}", hostname(environment), std::process::id());
    };
    report.not_blank("instance", Some(name));
    if name.len() > MAX_INSTANCE || name.contains(char::is_control) {
        let advice = format!("write at most {MAX_INSTANCE} printable characters");
        report.problem("instance", "is too long or has control characters", advice);
    }
    name.to_owned()
}

fn hostname(environment: &BTreeMap<String, String>) -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = kernel.or_else(|| environment.get("HOSTNAME").cloned()).unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "keyfall".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(sources: &Sources, searched: &[&str]) -> String {
        match load_from(sources, searched) {
            Ok(_) => panic!("it was accepted"),
            Err(errors) => errors.to_string(),
        }
    }

    #[test]
    fn without_any_file_the_message_says_where_one_was_looked_for() {
        let errors = errors(&Sources::default(), &["/nonexistent/a.toml", "/nonexistent/b.toml"]);
        assert!(errors.contains("/nonexistent/a.toml and /nonexistent/b.toml"), "{errors}");
        assert!(errors.contains("database.url"), "{errors}");
    }

    #[test]
    fn the_first_file_that_exists_is_taken_unless_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["a.toml", "b.toml", "c.toml"].map(|name| folder.path().join(name).display().to_string());
        let [missing, second, third] = paths.each_ref().map(String::as_str);
        std::fs::write(second, "second = 1\n").unwrap();
        std::fs::write(third, "third = 1\n").unwrap();
        assert!(errors(&Sources::default(), &[missing, second, third]).contains("second: unknown key"));
        let mut sources = Sources::default();
        sources.environment.insert("KEYFALL_CONFIG".to_owned(), third.to_owned());
        assert!(errors(&sources, &[missing, second]).contains("third: unknown key"));
        sources.file = Some(second.into());
        assert!(errors(&sources, &[missing]).contains("second: unknown key"));
    }
}
