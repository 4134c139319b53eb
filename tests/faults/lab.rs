//! The world of one trial: an S3, a database, a proxy in front of it, programs, and what must come of it all.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fastrand::Rng;
use keyfall::demo::postgres::ThrowawayPostgres;
use keyfall::demo::proxy::{Flow, Proxy};
use keyfall::demo::s3::{ACCESS_KEY_ID, EmbeddedS3, Injected, Operation, REGION, SECRET_ACCESS_KEY};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls, Row};

use crate::case::{Report, Trial};
use crate::checker;
use crate::control::{Armed, Control};
use crate::keyfall::{DEADLINE, Keyfall};
use crate::mailbox::{Mailbox, QUEUE};
use crate::oracle::{Body, Fate, Oracle, TABLE, Version, sha256};

/// Bucket of every trial.
pub(crate) const BUCKET: &str = "drop";
/// Where the archive lies in it.
pub(crate) const ARCHIVE: &str = "archive/";

/// What happens to loaded objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disposal {
    Keep,
    Delete,
    Archive,
}

/// How a program is set up.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) disposal: Disposal,
    /// Lines for `[feeds.items]`.
    pub(crate) feed: String,
    /// Lines for the queue that feeds it; none: it has no queue.
    pub(crate) queue: Option<String>,
    /// Sections after it.
    pub(crate) more: String,
    /// Lines for `[workers]`, `[database]` and `[s3]`; a key may be given once.
    pub(crate) workers: String,
    pub(crate) database: String,
    pub(crate) s3: String,
    /// Its connections to PostgreSQL go through [`Lab::proxy`].
    pub(crate) through_proxy: bool,
    /// Another user than the superuser.
    pub(crate) user: String,
}

impl Settings {
    pub(crate) fn new(disposal: Disposal) -> Self {
        Self {
            disposal,
            feed: String::new(),
            queue: None,
            more: String::new(),
            workers: String::new(),
            database: String::new(),
            s3: String::new(),
            through_proxy: false,
            user: "postgres".to_owned(),
        }
    }

    /// The feed has the trial's queue, with these lines; a request for messages waits a second at most.
    pub(crate) fn queued(self, lines: &str) -> Self {
        Self { queue: Some(lines.to_owned()), ..self }
    }

    pub(crate) fn through_proxy(self) -> Self {
        Self { through_proxy: true, ..self }
    }
}

enum Cluster {
    Shared(&'static ThrowawayPostgres),
    Own(Box<ThrowawayPostgres>),
}

/// A fault that a case has put in, with the hits it must have had.
struct Fault {
    name: String,
    hits: Box<dyn Fn() -> u64 + Send + Sync>,
    expected: Expected,
}

#[derive(Clone, Copy)]
enum Expected {
    Exactly(u64),
    AtLeastOnce,
}

/// Everything of one trial.
pub(crate) struct Lab {
    pub(crate) trial: Trial,
    pub(crate) s3: EmbeddedS3,
    pub(crate) mail: Mailbox,
    pub(crate) proxy: Proxy,
    pub(crate) database: String,
    pub(crate) oracle: Oracle,
    pub(crate) random: Rng,
    /// Deletions of objects that the ledger did not call loaded at that moment, or could not be asked about.
    pub(crate) unproven: Arc<Mutex<Vec<String>>>,
    /// A panic is part of the case.
    pub(crate) may_panic: bool,
    /// A worker may end between COMMIT and counting its rows.
    pub(crate) may_miss_counts: bool,
    /// Peak resident memory in KiB that no life may exceed.
    pub(crate) memory_limit: u64,
    cluster: Cluster,
    sequence: Arc<AtomicU64>,
    directory: TempDir,
    faults: Vec<Fault>,
}

impl Lab {
    /// A lab on the server that all trials share.
    pub(crate) async fn start(trial: &Trial) -> Self {
        let shared = ThrowawayPostgres::shared().expect("PostgreSQL is installed (`make setup`)");
        Self::on(trial, Cluster::Shared(shared)).await
    }

    /// A lab with a server of its own, which the case may break.
    pub(crate) async fn with_own_server(trial: &Trial, settings: &[(&str, &str)]) -> Self {
        let own = ThrowawayPostgres::start(settings).expect("PostgreSQL is installed (`make setup`)");
        Self::on(trial, Cluster::Own(Box::new(own))).await
    }

    async fn on(trial: &Trial, cluster: Cluster) -> Self {
        let server = cluster.get();
        let database = server.create_database(None).await.expect("a database");
        let sequence = Arc::new(AtomicU64::new(0));
        let s3 = EmbeddedS3::start_with_sequence(Arc::clone(&sequence)).await.expect("an S3 server");
        s3.create_bucket(BUCKET);
        let upstream = ([127, 0, 0, 1], server.port()).into();
        let proxy = Proxy::start_with_sequence(upstream, Arc::clone(&sequence)).await.expect("a proxy");
        let mail = Mailbox::start(Arc::clone(&sequence), server.url(&database)).await;
        let lab = Self {
            random: trial.random("objects"),
            trial: trial.clone(),
            s3,
            mail,
            proxy,
            database,
            oracle: Oracle::default(),
            unproven: Arc::default(),
            may_panic: false,
            may_miss_counts: false,
            memory_limit: 256 * 1024,
            cluster,
            sequence,
            directory: tempfile::tempdir().expect("a directory"),
            faults: Vec::new(),
        };
        lab.execute(TABLE).await;
        lab.watch_deletions();
        lab
    }

    /// I3 as it happens: whoever deletes an object of ours must find it loaded in the ledger at that very moment.
    fn watch_deletions(&self) {
        let (url, unproven) = (self.url(), Arc::clone(&self.unproven));
        self.s3.on_request(move |request| {
            let deletes = matches!(request.op, Operation::DeleteObject | Operation::DeleteObjects);
            let (url, unproven) = (url.clone(), Arc::clone(&unproven));
            Box::pin(async move {
                if !deletes || !request.key.starts_with("incoming/") {
                    return;
                }
                let sql = "SELECT EXISTS (SELECT FROM keyfall.objects WHERE key = $1 AND state = 'loaded')";
                let proven = match connect(&url).await {
                    Some(client) => client.query_one(sql, &[&request.key]).await.is_ok_and(|row| row.get(0)),
                    None => false,
                };
                if !proven {
                    unproven.lock().unwrap_or_else(PoisonError::into_inner).push(request.key);
                }
            })
        });
    }

    /// Where the lab's own connections go.
    pub(crate) fn url(&self) -> String {
        self.cluster.get().url(&self.database)
    }

    /// The trial's own server.
    pub(crate) fn server(&mut self) -> &mut ThrowawayPostgres {
        match &mut self.cluster {
            Cluster::Own(own) => own,
            Cluster::Shared(_) => panic!("the shared server must not be broken: use `with_own_server`"),
        }
    }

    pub(crate) fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }

    /// The secret of the database address, which must not be seen anywhere.
    pub(crate) fn password(&self) -> String {
        format!("pw-{:x}-{}", self.trial.seed, self.database)
    }

    /// The secrets of this trial.
    pub(crate) fn secrets(&self) -> [String; 2] {
        [self.password(), SECRET_ACCESS_KEY.to_owned()]
    }

    /// A program that is not started yet.
    pub(crate) fn keyfall(&self, name: &str, settings: &Settings) -> Keyfall {
        let config = self.directory.path().join(format!("{name}.toml"));
        std::fs::write(&config, self.configuration(name, settings)).expect("a configuration file");
        let control = Control::start(self.directory.path(), name, Arc::clone(&self.sequence));
        Keyfall::new(name, control, config, self.directory.path())
    }

    /// The file of a program.
    pub(crate) fn configuration(&self, name: &str, settings: &Settings) -> String {
        let Settings { disposal, feed, queue, more, workers, database, s3, through_proxy, user } = settings;
        let port = if *through_proxy { self.proxy.port() } else { self.cluster.get().port() };
        let disposal = match disposal {
            Disposal::Keep => "action = \"keep\"".to_owned(),
            Disposal::Delete => "action = \"delete\"".to_owned(),
            Disposal::Archive => format!("action = \"archive\"\nprefix = \"{ARCHIVE}\""),
        };
        let given = |key: &str, default: &str| if workers.contains(key) { String::new() } else { default.to_owned() };
        let (lease, retry) =
            (given("lease", "lease = \"5s\""), given("retry_m", "retry_min = \"50ms\"\nretry_max = \"500ms\""));
        let poll = if feed.contains("poll_interval") { "" } else { "poll_interval = \"200ms\"" };
        let (queue, queues) = match queue {
            Some(lines) => (
                format!("queue = \"{QUEUE}\""),
                format!("[queues.{QUEUE}]\nurl = \"{}\"\nwait = \"1s\"\n{lines}", self.mail.sqs.url(QUEUE)),
            ),
            None => (String::new(), String::new()),
        };
        let endpoint = if s3.contains("endpoint_url") {
            String::new()
        } else {
            format!("endpoint_url = \"{}\"", self.s3.endpoint())
        };
        format!(
            r#"
            instance = "{name}"
            [database]
            url = "postgres://{user}:{password}@127.0.0.1:{port}/{base}"
            {database}
            [s3]
            {endpoint}
            region = "{REGION}"
            force_path_style = true
            access_key_id = "{ACCESS_KEY_ID}"
            secret_access_key = "{SECRET_ACCESS_KEY}"
            {s3}
            [workers]
            {lease}
            {retry}
            {workers}
            [http]
            listen = "127.0.0.1:0"
            [feeds.items]
            bucket = "{BUCKET}"
            pattern = "incoming/{{time:%Y-%m-%d-%H-%M-%S}}.csv"
            table = "items"
            {poll}
            {queue}
            {feed}
            [feeds.items.csv]
            header = false
            [feeds.items.disposal]
            {disposal}
            {queues}
            {more}
            "#,
            password = self.password(),
            base = self.database,
        )
    }

    /// Puts objects `from..to`, a second of key time apart, each of `rows` rows.
    pub(crate) fn put(&mut self, numbers: std::ops::Range<usize>, rows: u64) {
        for number in numbers {
            let body = Body::new(number, rows, &mut self.random);
            self.put_body(&key(number), &body);
        }
    }

    /// Puts one object, over whatever lies there; answers its entity tag.
    pub(crate) fn put_body(&mut self, key: &str, body: &Body) -> String {
        let bytes = body.text.as_bytes();
        let etag = self.s3.put(BUCKET, key, body.text.clone());
        self.oracle.add(Version {
            key: key.to_owned(),
            etag: etag.clone(),
            size: bytes.len() as u64,
            fate: Fate::Loaded,
            rows: body.rows,
            sum: body.sum,
            sha256: sha256(bytes),
            is_displaced: false,
        });
        etag
    }

    /// Registers a failpoint that has to strike exactly so often.
    pub(crate) fn expect_hits(&mut self, name: &str, armed: &Armed, hits: u64) {
        let armed = armed.clone();
        self.expect(name, move || armed.hits(), Expected::Exactly(hits));
    }

    /// Registers a rule of a fault script, of S3's or of the queue's, that has to strike exactly so often.
    pub(crate) fn expect_s3(&mut self, name: &str, injected: &Injected, hits: u64) {
        let injected = injected.clone();
        self.expect(name, move || injected.hits(), Expected::Exactly(hits));
    }

    /// Registers a rule that has to strike, however often the program came by.
    pub(crate) fn expect_s3_any(&mut self, name: &str, injected: &Injected) {
        let injected = injected.clone();
        self.expect(name, move || injected.hits(), Expected::AtLeastOnce);
    }

    /// Registers anything else that counts.
    pub(crate) fn expect_count(&mut self, name: &str, hits: impl Fn() -> u64 + Send + Sync + 'static, exactly: u64) {
        self.expect(name, hits, Expected::Exactly(exactly));
    }

    fn expect(&mut self, name: &str, hits: impl Fn() -> u64 + Send + Sync + 'static, expected: Expected) {
        self.faults.push(Fault { name: name.to_owned(), hits: Box::new(hits), expected });
    }

    /// Takes all faults out, waits until the programs have done everything, stops them in order, and checks all
    /// invariants and hits.
    pub(crate) async fn verify(mut self, programs: &mut [&mut Keyfall]) -> Report {
        self.heal(programs);
        self.quiet(programs).await;
        let mut violations = checker::live(&self, programs).await;
        for program in programs.iter_mut().filter(|program| program.is_running()) {
            program.stop().await;
        }
        violations.extend(checker::settled(&self, programs).await);
        let mut hits = Vec::new();
        for fault in std::mem::take(&mut self.faults) {
            let counted = (fault.hits)();
            let fits = match fault.expected {
                Expected::Exactly(wanted) => counted == wanted,
                Expected::AtLeastOnce => counted > 0,
            };
            if !fits {
                violations.push(format!("I10 {} struck {counted} times", fault.name));
            }
            hits.push((fault.name, counted));
        }
        let logs = || programs.iter().map(|program| tail(&program.log())).collect::<Vec<_>>().join("\n---\n");
        assert!(violations.is_empty(), "\n  {}\nlogs end with:\n{}", violations.join("\n  "), logs());
        Report { hits, note: String::new() }
    }

    fn heal(&self, programs: &[&mut Keyfall]) {
        self.s3.heal();
        self.mail.sqs.heal();
        self.proxy.disarm();
        self.proxy.set_flow(Flow::Pass);
        self.proxy.set_latency(Duration::ZERO);
        self.proxy.set_bandwidth(None);
        for program in programs {
            program.control.heal();
        }
    }

    /// I5: within a minute after the healing everything has reached its end.
    async fn quiet(&self, programs: &[&mut Keyfall]) {
        let begun = Instant::now();
        while let Some(open) = checker::open(self).await {
            if begun.elapsed() > Duration::from_mins(1) {
                let logs: Vec<String> = programs.iter().map(|program| tail(&program.log())).collect();
                panic!("I5 a minute after the healing: {open}\nlogs end with:\n{}", logs.join("\n---\n"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn execute(&self, sql: &str) {
        self.client().await.batch_execute(sql).await.expect(sql);
    }

    /// One number.
    pub(crate) async fn count(&self, sql: &str) -> i64 {
        self.query(sql).await.first().unwrap_or_else(|| panic!("no row: {sql}")).get(0)
    }

    pub(crate) async fn query(&self, sql: &str) -> Vec<Row> {
        self.client().await.query(sql, &[]).await.expect(sql)
    }

    /// A connection of its own, because cases break servers; waits for one that is coming up again.
    pub(crate) async fn client(&self) -> Client {
        let begun = Instant::now();
        loop {
            if let Some(client) = connect(&self.url()).await {
                return client;
            }
            assert!(begun.elapsed() < DEADLINE, "the database does not answer");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until a query that counts answers this.
    pub(crate) async fn until_count(&self, sql: &str, wanted: i64) {
        let begun = Instant::now();
        loop {
            // Right after a start the ledger may not be there.
            let answer = self.client().await.query_one(sql, &[]).await;
            let count = answer.as_ref().map(|row| row.get::<_, i64>(0));
            if count.as_ref().is_ok_and(|count| *count == wanted) {
                return;
            }
            assert!(begun.elapsed() < DEADLINE, "{count:?} instead of {wanted}: {sql}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until so many objects are in this state.
    pub(crate) async fn until_state(&self, state: &str, wanted: i64) {
        self.until_count(&format!("SELECT count(*) FROM keyfall.objects WHERE state = '{state}'"), wanted).await;
    }

    /// Statuses of the requests of a kind for a key, in their order.
    pub(crate) fn requests(&self, op: Operation, key: &str) -> Vec<u16> {
        self.s3.log().iter().filter(|entry| entry.op == op && entry.key == key).map(|entry| entry.status).collect()
    }
}

impl Cluster {
    fn get(&self) -> &ThrowawayPostgres {
        match self {
            Self::Shared(shared) => shared,
            Self::Own(own) => own,
        }
    }
}

/// Key of the n-th object.
pub(crate) fn key(n: usize) -> String {
    format!("incoming/2024-05-{:02}-{:02}-{:02}-{:02}.csv", 1 + n / 86_400, n / 3600 % 24, n / 60 % 60, n % 60)
}

/// A connection, if the server takes one.
pub(crate) async fn connect(url: &str) -> Option<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.ok()?;
    #[expect(clippy::disallowed_methods, reason = "ends with the client")]
    drop(tokio::spawn(connection));
    Some(client)
}

/// Waits for something that must come.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("not within {DEADLINE:?}: {what}"))
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines.get(lines.len().saturating_sub(25)..).unwrap_or_default().join("\n")
}
