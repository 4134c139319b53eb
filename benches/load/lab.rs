//! The throwaway PostgreSQL, psql on it, and the loader against it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use keyfall::demo::postgres::ThrowawayPostgres;
use keyfall::demo::s3::{ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY};
use tempfile::TempDir;

use crate::Arguments;
use crate::process::{self, Cost};
use crate::s3::{BUCKET, Server};

/// A server sized for a machine of this kind: no checkpoint falls into a load, the table's pages fit.
fn settings(fsync: &str) -> Vec<(&str, &str)> {
    vec![
        ("shared_buffers", "1GB"),
        ("max_wal_size", "16GB"),
        ("checkpoint_timeout", "30min"),
        ("wal_compression", "off"),
        ("full_page_writes", "on"),
        ("synchronous_commit", "on"),
        // A vacuum or analyze of the table just loaded would run into the next contender's time.
        ("autovacuum", "off"),
        ("fsync", fsync),
    ]
}

/// Everything a benchmark stands on.
pub(crate) struct Lab {
    postgres: ThrowawayPostgres,
    directory: TempDir,
    loader: PathBuf,
    rounds: usize,
    scale: f64,
}

impl Lab {
    /// Starts PostgreSQL and brings the ledger up.
    pub(crate) fn start(arguments: &Arguments) -> anyhow::Result<Self> {
        let postgres = ThrowawayPostgres::start(&settings(&arguments.fsync))?;
        let built = || PathBuf::from(env!("CARGO_BIN_EXE_keyfall"));
        let loader = arguments.loader.clone().unwrap_or_else(built);
        let directory = tempfile::Builder::new().prefix("keyfall-bench-").tempdir().context("make a directory")?;
        Ok(Self { postgres, directory, loader, rounds: arguments.rounds, scale: arguments.sf })
    }

    /// Where the database is.
    pub(crate) fn url(&self) -> String {
        self.postgres.url("postgres")
    }

    /// TCP port of the database.
    pub(crate) fn port(&self) -> u16 {
        self.postgres.port()
    }

    /// A place for files of this run.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// psql on the database over TCP, as the loader is connected.
    pub(crate) fn psql(&self) -> Command {
        let mut command = Command::new("psql");
        command.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", &self.url()]).stdin(Stdio::null());
        command
    }

    /// Runs statements, each in a transaction of its own; answers what they print.
    pub(crate) fn sql(&self, statements: &[&str]) -> anyhow::Result<String> {
        let mut command = self.psql();
        command.arg("-At");
        for statement in statements {
            command.args(["-c", statement]);
        }
        let output = command.output().context("start psql (apt-get install postgresql)")?;
        ensure!(output.status.success(), "psql: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// One number.
    pub(crate) fn number(&self, statement: &str) -> anyhow::Result<f64> {
        let text = self.sql(&[statement])?;
        text.parse().with_context(|| format!("{statement} answered {text:?}"))
    }

    /// Empties a table and the ledger, and has everything written that would otherwise be written later.
    pub(crate) fn reset(&self, table: &str) -> anyhow::Result<()> {
        let truncate = format!("TRUNCATE {table}");
        self.sql(&[&truncate, "DROP SCHEMA IF EXISTS keyfall CASCADE"])?;
        Ok(())
    }

    /// Writes a configuration for the loader: so many workers, and the lines of one feed.
    pub(crate) fn config(&self, server: &Server, workers: usize, feed: &str) -> anyhow::Result<PathBuf> {
        let text = format!(
            r#"
            [database]
            url = "{url}"
            [s3]
            endpoint_url = "{endpoint}"
            region = "{REGION}"
            force_path_style = true
            access_key_id = "{ACCESS_KEY_ID}"
            secret_access_key = "{SECRET_ACCESS_KEY}"
            [workers]
            max = {workers}
            [http]
            listen = ""
            [telemetry]
            log = "warn"
            [feeds.bench]
            bucket = "{BUCKET}"
            {feed}
            "#,
            url = self.url(),
            endpoint = server.endpoint(),
        );
        let path = self.path("keyfall.toml");
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        // It holds a secret, and the loader would say so in the middle of our output.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(path)
    }

    /// The loader with these arguments.
    pub(crate) fn loader(&self, config: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.loader);
        command.arg("--config").arg(config).args(arguments).stdin(Stdio::null());
        command
    }

    /// Brings the ledger up, empties it and has dirty pages written, so that a run begins like every other.
    pub(crate) fn ready(&self, config: &Path) -> anyhow::Result<()> {
        process::cost_of(self.loader(config, &["migrate"]).stdout(Stdio::null()))?;
        self.sql(&["CHECKPOINT"])?;
        Ok(())
    }

    /// One `run --once` on an emptied table.
    pub(crate) fn load(&self, table: &str, config: &Path) -> anyhow::Result<Cost> {
        self.reset(table)?;
        self.ready(config)?;
        process::cost_of(self.loader(config, &["run", "--once"]).stdout(Stdio::null()))
    }

    /// What the figures were made on.
    pub(crate) fn facts(&self) -> anyhow::Result<String> {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
        let meminfo = read("/proc/meminfo");
        let memory = meminfo.lines().next().unwrap_or_default();
        let shown = "SELECT string_agg(name || '=' || current_setting(name), ' ' ORDER BY name) FROM pg_settings
            WHERE name IN ('fsync', 'full_page_writes', 'shared_buffers', 'max_wal_size', 'synchronous_commit',
                           'wal_level', 'autovacuum')";
        Ok(format!(
            "{} CPUs{model}, {}, Linux {}{}\n{}\nTPC-H scale factor {}, {} rounds, medians; the S3 server is a process \
             of its own on loopback\n\n",
            std::thread::available_parallelism()?,
            memory.split_whitespace().collect::<Vec<_>>().join(" "),
            read("/proc/sys/kernel/osrelease"),
            self.sql(&["SELECT version()"])?,
            self.sql(&[shown])?,
            self.scale,
            self.rounds,
        ))
    }
}
