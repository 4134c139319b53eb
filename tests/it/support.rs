//! The services every test stands on, and how a test looks at them.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use keyfall::app::{self, Mode, Queues};
use keyfall::config::{self, Config, Loaded, Sources};
use keyfall::demo::postgres::ThrowawayPostgres;
use keyfall::demo::proxy::Proxy;
use keyfall::demo::s3::{ACCESS_KEY_ID, EmbeddedS3, Operation, REGION, SECRET_ACCESS_KEY};
use keyfall::engine::{Discovery, Engine, Ports};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

/// Longest a condition may take; only a failing test waits that long.
const DEADLINE: Duration = Duration::from_mins(1);

/// Bucket every test uses.
pub(crate) const BUCKET: &str = "drop";

/// One test's world: a database of its own, an S3 of its own.
pub(crate) struct Lab {
    pub(crate) s3: EmbeddedS3,
    pub(crate) postgres: &'static ThrowawayPostgres,
    pub(crate) database: String,
    pub(crate) sql: Client,
    directory: TempDir,
}

impl Lab {
    pub(crate) async fn new() -> Self {
        // `RUST_LOG=keyfall=debug cargo test …` shows what the engine says.
        let shown = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        drop(shown);
        let postgres = ThrowawayPostgres::shared().expect("PostgreSQL is installed (`make setup`)");
        let database = postgres.create_database(None).await.expect("a database");
        let s3 = EmbeddedS3::start().await.expect("an S3 server");
        s3.create_bucket(BUCKET);
        let sql = connect(&postgres.url(&database)).await;
        Self { s3, postgres, database, sql, directory: tempfile::tempdir().expect("a directory") }
    }

    /// The configuration file with these feeds; `%port%` style details are ours.
    pub(crate) fn file(&self, feeds: &str) -> PathBuf {
        self.file_for(&self.postgres.url(&self.database), feeds)
    }

    /// The same against another database address, such as a proxy's.
    pub(crate) fn file_for(&self, url: &str, feeds: &str) -> PathBuf {
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
            retry_min = "50ms"
            retry_max = "500ms"
            [http]
            listen = ""
            {feeds}
            "#,
            endpoint = self.s3.endpoint(),
        );
        let path = self.directory.path().join("keyfall.toml");
        std::fs::write(&path, text).expect("the file is written");
        path
    }

    pub(crate) fn sources(&self, feeds: &str) -> Sources {
        Sources { file: Some(self.file(feeds)), ..Sources::default() }
    }

    /// One pass of the real program; answers its exit code.
    pub(crate) async fn once(&self, feeds: &str) -> u8 {
        let sources = self.sources(feeds);
        Box::pin(app::run(loaded(&sources), sources, Mode::Once)).await.expect("the pass ends")
    }

    pub(crate) async fn execute(&self, sql: &str) {
        self.sql.batch_execute(sql).await.expect(sql);
    }

    /// One number.
    pub(crate) async fn count(&self, sql: &str) -> i64 {
        self.sql.query_one(sql, &[]).await.expect(sql).get(0)
    }

    /// One text per row, NULL as `∅`.
    pub(crate) async fn texts(&self, sql: &str) -> Vec<String> {
        let rows = self.sql.query(sql, &[]).await.expect(sql);
        rows.iter().map(|row| row.get::<_, Option<String>>(0).unwrap_or_else(|| "∅".to_owned())).collect()
    }
}

pub(crate) fn loaded(sources: &Sources) -> Loaded {
    config::load(sources).unwrap_or_else(|errors| panic!("{errors}"))
}

pub(crate) async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("the database answers");
    #[expect(clippy::disallowed_methods, reason = "ends with the client")]
    drop(tokio::spawn(connection));
    client
}

/// Waits until the condition holds.
pub(crate) async fn until<F>(what: &str, mut condition: impl FnMut() -> F)
where
    F: Future<Output = bool>,
{
    let begun = Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The feed most fault tests use: lines of `key number, row number`, by whole seconds.
pub(crate) const ITEMS: &str = r#"
    [feeds.items]
    bucket = "drop"
    pattern = "items/{time:%Y-%m-%d-%H-%M-%S}.csv"
    table = "items"
    poll_interval = "200ms"
    [feeds.items.csv]
    header = false
"#;

/// The same with a disposal.
pub(crate) fn items(disposal: &str) -> String {
    format!("{ITEMS}\n[feeds.items.disposal]\n{disposal}\n")
}

/// Key of the n-th object of [`ITEMS`], one second apart.
pub(crate) fn item_key(n: usize) -> String {
    format!("items/2024-05-01-{:02}-{:02}-{:02}.csv", n / 3600, n / 60 % 60, n % 60)
}

/// Body of the n-th object: `rows` lines that no other object has.
pub(crate) fn item_body(n: usize, rows: usize) -> String {
    (0..rows).fold(String::new(), |body, row| body + &format!("{n},{row}\n"))
}

/// What became of the ledger: one line per object, oldest first.
const LEDGER: &str = "SELECT key || ' ' || state || ' ' || disposal || coalesce(' ' || error_code, '')
                        FROM keyfall.objects ORDER BY id";

impl Lab {
    /// A lab with the table of [`ITEMS`] and a migrated ledger.
    pub(crate) async fn with_items() -> Self {
        let lab = Self::new().await;
        lab.execute("CREATE TABLE items (object int NOT NULL, line int NOT NULL)").await;
        lab.migrate().await;
        lab
    }

    /// Brings the ledger up without an engine.
    pub(crate) async fn migrate(&self) {
        let config = loaded(&self.sources(ITEMS)).config;
        let pools = app::pools(&config).expect("pools");
        keyfall::store::migrate::migrate(&pools).await.expect("the ledger is migrated");
    }

    /// Puts objects `from..to` of [`ITEMS`], each of `rows` rows.
    pub(crate) fn put_items(&self, numbers: std::ops::Range<usize>, rows: usize) {
        for n in numbers {
            self.s3.put(BUCKET, &item_key(n), item_body(n, rows));
        }
    }

    /// An engine in this process that discovers by itself, on the lab's own database.
    pub(crate) async fn engine(&self, feeds: &str, overrides: &[&str]) -> Engine {
        engine_of(&self.sources(feeds), overrides).await
    }

    /// The same with its connections to PostgreSQL through a proxy.
    pub(crate) async fn engine_through(&self, proxy: &Proxy, feeds: &str, overrides: &[&str]) -> Engine {
        let url = format!("postgres://postgres@127.0.0.1:{}/{}", proxy.port(), self.database);
        let file = self.directory.path().join("through.toml");
        std::fs::rename(self.file_for(&url, feeds), &file).expect("the file is renamed");
        engine_of(&Sources { file: Some(file), ..Sources::default() }, overrides).await
    }

    /// A proxy in front of the lab's PostgreSQL.
    pub(crate) async fn proxy(&self) -> Proxy {
        Proxy::start(([127, 0, 0, 1], self.postgres.port()).into()).await.expect("a proxy")
    }

    /// Waits until a query that counts answers this.
    pub(crate) async fn until_count(&self, sql: &str, wanted: i64) {
        let begun = Instant::now();
        loop {
            let count = self.count(sql).await;
            if count == wanted {
                return;
            }
            assert!(
                begun.elapsed() <= DEADLINE,
                "{count} instead of {wanted} after {DEADLINE:?}: {sql}\nledger: {:#?}",
                self.texts(LEDGER).await
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until so many objects are in this state with this disposal.
    pub(crate) async fn until_objects(&self, state: &str, disposal: &str, wanted: i64) {
        let sql = format!("SELECT count(*) FROM keyfall.objects WHERE state = '{state}' AND disposal = '{disposal}'");
        self.until_count(&sql, wanted).await;
    }

    /// Every object: key, state, disposal, error code.
    pub(crate) async fn ledger(&self) -> Vec<String> {
        self.texts(LEDGER).await
    }

    /// Asserts that the table of [`ITEMS`] holds exactly the rows of these objects, each once.
    pub(crate) async fn assert_items(&self, objects: i64, rows: i64) {
        let sql = "SELECT format('%s objects, %s rows, %s different rows', count(DISTINCT object), count(*),
                                 count(DISTINCT (object, line))) FROM items";
        let all = objects * rows;
        assert_eq!(
            self.texts(sql).await,
            [format!("{objects} objects, {all} rows, {all} different rows")],
            "ledger: {:#?}",
            self.ledger().await
        );
    }

    /// Statuses of the requests of a kind for a key, in their order.
    pub(crate) fn requests(&self, op: Operation, key: &str) -> Vec<u16> {
        self.s3.log().iter().filter(|entry| entry.op == op && entry.key == key).map(|entry| entry.status).collect()
    }
}

async fn engine_of(sources: &Sources, overrides: &[&str]) -> Engine {
    let overrides = overrides.iter().map(|text| (*text).to_owned()).collect();
    let config = loaded(&Sources { overrides, ..sources.clone() }).config;
    let queues = app::queues(&config).await.expect("queues");
    engine_with(&config, queues).await
}

/// An engine that receives notifications from these queues.
pub(crate) async fn engine_with(config: &Config, queues: Queues) -> Engine {
    let store = app::object_store(config).await.expect("an object store");
    let pools = app::pools(config).expect("pools");
    Engine::start(config, pools, Ports { store, queues }, Discovery::Continuous)
}

/// Waits for something that must come, with the deadline of all waits.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("not within {DEADLINE:?}: {what}"))
}

/// The real program as a child process; killed when dropped. What it logs goes to a file.
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Lab {
    /// `keyfall run` on the lab's services.
    pub(crate) fn daemon(&self, feeds: &str, overrides: &[&str]) -> Daemon {
        self.daemon_on(&self.file(feeds), overrides)
    }

    /// The same with a configuration file that is there already.
    pub(crate) fn daemon_on(&self, file: &Path, overrides: &[&str]) -> Daemon {
        let log = self.directory.path().join(format!("{}.log", uuid::Uuid::new_v4()));
        let output = std::fs::File::create(&log).expect("a log file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyfall"));
        command.arg("run").arg("--config").arg(file).env_remove("RUST_LOG");
        for setting in overrides {
            command.arg("--set").arg(setting);
        }
        let errors = output.try_clone().expect("a second handle");
        let child = command.stdin(Stdio::null()).stdout(output).stderr(errors).spawn().expect("the program starts");
        Daemon { child, log }
    }

    /// An engine on another address of the lab's database, such as another role's.
    pub(crate) async fn engine_at(&self, url: &str, feeds: &str, overrides: &[&str]) -> Engine {
        engine_of(&Sources { file: Some(self.file_for(url, feeds)), ..Sources::default() }, overrides).await
    }
}

impl Daemon {
    /// Sends a signal by its name, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("sh").arg("-c").arg(format!("kill -{name} {}", self.child.id())).status();
        assert!(sent.expect("a shell").success(), "the process is gone: {}", self.log());
    }

    /// `kill -9`, and waits until the process is gone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("the process is killed");
        self.child.wait().expect("the process is gone");
    }

    /// Waits for the end and answers the exit code; a signal that ended it counts as 128 and its number.
    pub(crate) async fn ended(&mut self) -> i32 {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status.code().or_else(|| status.signal().map(|signal| 128 + signal)).expect("an ending");
            }
            assert!(begun.elapsed() < DEADLINE, "still running: {}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the log holds a text.
    pub(crate) async fn says(&self, text: &str) {
        let begun = Instant::now();
        while !self.log().contains(text) {
            assert!(begun.elapsed() < DEADLINE, "never said {text:?}: {}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("the log")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Gone already in most tests; then there is nothing to kill.
        if self.child.kill().is_ok() {
            drop(self.child.wait());
        }
    }
}

/// One number from a server that may be down at the moment.
pub(crate) async fn count_at(url: &str, sql: &str) -> Option<i64> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.ok()?;
    #[expect(clippy::disallowed_methods, reason = "ends with the client")]
    drop(tokio::spawn(connection));
    Some(client.query_one(sql, &[]).await.ok()?.get(0))
}

/// What the ledger says of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) state: String,
    /// Rows loaded, where it is loaded.
    pub(crate) rows: Option<i64>,
    pub(crate) code: String,
    pub(crate) detail: String,
    pub(crate) advice: String,
}

impl Lab {
    /// One pass with settings over those of the file, written as `section.key=value`.
    pub(crate) async fn once_set(&self, feeds: &str, settings: &[&str]) -> u8 {
        let overrides = settings.iter().map(|&setting| setting.to_owned()).collect();
        let sources = Sources { overrides, ..self.sources(feeds) };
        Box::pin(app::run(loaded(&sources), sources, Mode::Once)).await.expect("the pass ends")
    }

    /// The newest ledger entry of a key.
    pub(crate) async fn entry(&self, key: &str) -> Entry {
        let sql = "SELECT state, rows_loaded, coalesce(error_code, ''), coalesce(error_detail, ''),
                          coalesce(error_advice, '')
                     FROM keyfall.object_status WHERE key = $1 ORDER BY id DESC LIMIT 1";
        let row = self.sql.query_opt(sql, &[&key]).await.expect(sql);
        let row = row.unwrap_or_else(|| panic!("the ledger does not know {key}"));
        Entry { state: row.get(0), rows: row.get(1), code: row.get(2), detail: row.get(3), advice: row.get(4) }
    }
}

/// What a pass of the built program came to.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    /// Peak memory in bytes.
    pub(crate) peak: u64,
    /// Everything it logged.
    pub(crate) log: String,
    pub(crate) took: Duration,
}

impl Lab {
    /// One pass of the built program, which logs every object as JSON.
    pub(crate) async fn run_once(&self, feeds: &str, settings: &[&str]) -> Ran {
        let settings = ["telemetry.format=json", "telemetry.log=warn,keyfall=debug"].iter().chain(settings);
        let file = self.file(feeds);
        let log = self.directory.path().join("once.log");
        let errors = std::fs::File::create(&log).expect("a log file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyfall"));
        command.args(["run", "--once", "--config"]).arg(file).env_remove("RUST_LOG");
        command.args(settings.flat_map(|setting| ["--set", setting]));
        let begun = Instant::now();
        // What it prints at its end is for people.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
        let child = command.spawn().expect("the program starts");
        // Killed if a wait below fails.
        let mut daemon = Daemon { child, log };
        let status = format!("/proc/{}/status", daemon.child.id());
        let mut peak = 0;
        loop {
            if let Some(exit) = daemon.child.try_wait().expect("the child is ours") {
                return Ran { code: exit.code(), peak, log: daemon.log(), took: begun.elapsed() };
            }
            assert!(begun.elapsed() < DEADLINE, "still running: {}", daemon.log());
            let now = std::fs::read_to_string(&status).ok().and_then(|text| {
                let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
                line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
            });
            peak = peak.max(now.map_or(0, |kib| kib << 10));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// One member of gzip.
pub(crate) fn gzip(data: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

/// One frame of zstd.
pub(crate) async fn zstd(data: &[u8]) -> Vec<u8> {
    use tokio::io::AsyncWriteExt as _;
    let mut encoder = async_compression::tokio::write::ZstdEncoder::new(Vec::new());
    encoder.write_all(data).await.expect("memory takes it");
    encoder.shutdown().await.expect("memory takes it");
    encoder.into_inner()
}
