//! The outside world of the demo: S3 in this process, a throwaway PostgreSQL, a directory for the configuration.
//!
//! All of it goes away with the value.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context as _;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls};
use tokio_util::task::TaskTracker;

use crate::demo::postgres::ThrowawayPostgres;
use crate::demo::s3::{ACCESS_KEY_ID, EmbeddedS3, REGION, SECRET_ACCESS_KEY};

use super::plan::{ARCHIVE, BUCKET, Cargo, text};
use super::screen::Screen;

const DATABASE: &str = "demo";

/// A PostgreSQL that is being started on a thread of its own.
pub(super) type Starting = Option<JoinHandle<anyhow::Result<ThrowawayPostgres>>>;

/// Running services. They stop in the order of the fields.
pub(super) struct Services {
    pub(super) sql: Client,
    pub(super) s3: EmbeddedS3,
    /// Where the daemon is to answer `/metrics`.
    pub(super) listen: SocketAddr,
    postgres: ThrowawayPostgres,
    directory: TempDir,
}

impl Services {
    /// Starts everything. Dropped half-way, it leaves a PostgreSQL in `starting` for the caller to wait for.
    pub(super) async fn start(screen: &Screen, starting: &mut Starting) -> anyhow::Result<Self> {
        let s3 = EmbeddedS3::start().await.context("start the embedded S3")?;
        s3.create_bucket(BUCKET);
        s3.create_bucket(ARCHIVE);
        screen.step("S3", &format!("in this process, {}", s3.endpoint()))?;
        let begun = Instant::now();
        // initdb and the server's start block for about a second.
        let outcome = starting.insert(tokio::task::spawn_blocking(|| ThrowawayPostgres::start(&[]))).await;
        *starting = None;
        let postgres = outcome??;
        connect(&postgres.url("postgres")).await?.batch_execute(&format!("CREATE DATABASE {DATABASE}")).await?;
        let sql = connect(&postgres.url(DATABASE)).await?;
        let version: String = sql.query_one("SHOW server_version", &[]).await?.try_get(0)?;
        // Distributions add their own version in brackets.
        let version = version.split(' ').next().unwrap_or_default().to_owned();
        let seconds = begun.elapsed().as_secs_f64();
        screen.step("PostgreSQL", &format!("{version}, throwaway, port {} ({seconds:.1} s)", postgres.port()))?;
        let directory = tempfile::Builder::new().prefix("keyfall-demo-").tempdir().context("make a directory")?;
        Ok(Self { sql, s3, listen: free_address()?, postgres, directory })
    }

    /// Connection URL of the database with the tables.
    pub(super) fn url(&self) -> String {
        self.postgres.url(DATABASE)
    }

    /// Where metrics are read.
    pub(super) fn metrics_url(&self) -> String {
        format!("http://{}/metrics", self.listen)
    }

    /// Writes the daemon's configuration file: what a deployment would have, with shorter pauses.
    pub(super) fn write_configuration(&self, cargo: &Cargo) -> anyhow::Result<PathBuf> {
        let mut file = format!(
            "# Made by `keyfall demo`; gone when it ends.\n\
             instance = \"demo\"\n\
             \n[database]\nurl = {url}\n\
             \n[s3]\nendpoint_url = {endpoint}\nregion = \"{REGION}\"\nforce_path_style = true\n\
             access_key_id = \"{ACCESS_KEY_ID}\"\nsecret_access_key = \"{SECRET_ACCESS_KEY}\"\n\
             \n[workers]\nretry_min = \"100ms\"\nretry_max = \"1s\"\n\
             \n[http]\nlisten = \"{listen}\"\n\
             \n[lifecycle]\ngrace = \"5s\"\n",
            url = text(&self.url()),
            endpoint = text(&self.s3.endpoint()),
            listen = self.listen,
        );
        for feed in &cargo.feeds {
            file.push_str(&feed.configuration());
        }
        let path = self.directory.path().join("keyfall.toml");
        // Private, as every file with a secret in it: `keyfall --config` on it would warn otherwise.
        let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let written = created.and_then(|mut created| created.write_all(file.as_bytes()));
        written.with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }
}

async fn connect(url: &str) -> anyhow::Result<Client> {
    let (client, connection) =
        tokio_postgres::connect(url, NoTls).await.context("connect to the throwaway PostgreSQL")?;
    // Ends with the client.
    drop(TaskTracker::new().spawn(connection));
    Ok(client)
}

/// A loopback address nobody listens on at the moment.
fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port")?;
    Ok(listener.local_addr()?)
}
