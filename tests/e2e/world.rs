//! One scenario's world: a bucket and a queue wired together, a database of its own, and the program.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_sqs::types::QueueAttributeName;
use keyfall::demo::postgres::ThrowawayPostgres;
use serde::Deserialize;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_postgres::{Client, NoTls};

use crate::emulator::{Emulator, free_port};

/// Longest wait for a condition; only a failing scenario waits that long.
const DEADLINE: Duration = Duration::from_mins(1);

/// Where bucket, queue and dead-letter queue lie.
#[derive(Deserialize)]
struct Queues {
    url: String,
    dlq: String,
}

pub(crate) struct World {
    pub(crate) bucket: String,
    pub(crate) s3: aws_sdk_s3::Client,
    pub(crate) sqs: aws_sdk_sqs::Client,
    pub(crate) sql: Client,
    queues: Queues,
    listen: u16,
    child: Child,
    directory: TempDir,
}

impl World {
    /// Wires bucket and queue by an envelope and starts the program; `feed` are more lines for its feed.
    pub(crate) async fn new(emulator: &Emulator, envelope: &str, feed: &str) -> Self {
        let postgres = ThrowawayPostgres::shared().expect("PostgreSQL is installed (`make e2e`)");
        let database = postgres.create_database(None).await.expect("a database");
        let url = postgres.url(&database);
        let (sql, connection) = tokio_postgres::connect(&url, NoTls).await.expect("the database answers");
        #[expect(clippy::disallowed_methods, reason = "ends with its client")]
        tokio::spawn(connection);
        sql.batch_execute("CREATE TABLE items (id int, name text)").await.expect("a table");

        let bucket = format!("drop-{database}").replace('_', "-");
        let queues = wire(emulator, &bucket, envelope);
        let directory = tempfile::tempdir().expect("a directory");
        let config = directory.path().join("keyfall.toml");
        let listen = free_port();
        let text = format!(
            r#"
            [database]
            url = "{url}"
            [s3]
            endpoint_url = "{endpoint}"
            region = "us-east-1"
            force_path_style = true
            access_key_id = "test"
            secret_access_key = "test"
            [http]
            listen = "127.0.0.1:{listen}"
            [queues.events]
            url = "{queue}"
            strict = true
            # Polls are an hour apart: what comes, comes by the queue.
            [feeds.items]
            bucket = "{bucket}"
            prefix = "in/"
            queue = "events"
            table = "items"
            poll_interval = "1h"
            lookback_interval = "1h"
            csv.header = false
            {feed}
            "#,
            endpoint = emulator.endpoint,
            queue = queues.url,
        );
        std::fs::write(&config, text).expect("the file is written");
        let child = start(&config, &directory.path().join("log"));
        let (s3, sqs) = clients(&emulator.endpoint);
        let world = Self { bucket, s3, sqs, sql, queues, listen, child, directory };
        // The first sweep and the first poll are over: nothing below is found by them.
        world.until("SELECT count(*) FROM keyfall.feeds WHERE last_poll_at > last_sweep_at", 1).await;
        world
    }

    /// Puts an object of one row.
    pub(crate) async fn put(&self, key: &str, id: i32) {
        let body = ByteStream::from(format!("{id},row {id}\n").into_bytes());
        let put = self.s3.put_object().bucket(&self.bucket).key(key).body(body).send().await;
        put.unwrap_or_else(|error| panic!("{key}: {}", aws_sdk_s3::error::DisplayErrorContext(&error)));
    }

    /// Sends a body as it is.
    pub(crate) async fn send(&self, body: &str) {
        let sent = self.sqs.send_message().queue_url(&self.queues.url).message_body(body).send().await;
        sent.unwrap_or_else(|error| panic!("{}", aws_sdk_sqs::error::DisplayErrorContext(&error)));
    }

    /// Messages in the queue, those in flight included.
    pub(crate) async fn waiting(&self) -> u32 {
        self.messages(&self.queues.url).await
    }

    /// Messages the redrive policy took away.
    pub(crate) async fn dead(&self) -> u32 {
        self.messages(&self.queues.dlq).await
    }

    async fn messages(&self, url: &str) -> u32 {
        let names = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        ];
        let asked = self.sqs.get_queue_attributes().queue_url(url).set_attribute_names(Some(names.to_vec()));
        let answer = asked.send().await.expect("the queue answers");
        let attributes = answer.attributes.unwrap_or_default();
        names.iter().filter_map(|name| attributes.get(name)?.parse::<u32>().ok()).sum()
    }

    /// Waits until a query that counts answers this.
    pub(crate) async fn until(&self, sql: &str, wanted: i64) {
        let begun = Instant::now();
        loop {
            // The ledger may not be there yet.
            let count = self.sql.query_one(sql, &[]).await.ok().map(|row| row.get::<_, i64>(0));
            if count == Some(wanted) {
                return;
            }
            assert!(begun.elapsed() < DEADLINE, "{sql}: {count:?}, not {wanted}: {}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the queue holds nothing any more.
    pub(crate) async fn until_drained(&self) {
        let begun = Instant::now();
        while self.waiting().await > 0 {
            assert!(begun.elapsed() < DEADLINE, "messages are left: {}", self.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The value of a sample of `/metrics`, named with its labels; 0 where there is none.
    pub(crate) async fn metric(&self, sample: &str) -> f64 {
        let mut stream = TcpStream::connect(("127.0.0.1", self.listen)).await.expect("the listener");
        let request = "GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.expect("the request is sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        let found = answer.lines().find_map(|line| line.strip_prefix(sample)?.trim().parse().ok());
        found.unwrap_or(0.0)
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        drop((self.child.kill(), self.child.wait()));
    }
}

fn clients(endpoint: &str) -> (aws_sdk_s3::Client, aws_sdk_sqs::Client) {
    let credentials = Credentials::new("test", "test", None, None, "test");
    let s3 = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .endpoint_url(endpoint)
        .region(Region::new("us-east-1"))
        .credentials_provider(credentials.clone())
        .force_path_style(true);
    let sqs = aws_sdk_sqs::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .endpoint_url(endpoint)
        .region(Region::new("us-east-1"))
        .credentials_provider(credentials);
    (aws_sdk_s3::Client::from_conf(s3.build()), aws_sdk_sqs::Client::from_conf(sqs.build()))
}

fn wire(emulator: &Emulator, name: &str, envelope: &str) -> Queues {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/infra.py");
    let output = Command::new(&emulator.python).arg(script).args([&emulator.endpoint, name, envelope]).output();
    let output = output.expect("Python starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {envelope}: {errors}\n{}", emulator.log());
    serde_json::from_slice(&output.stdout).expect("the script's answer")
}

fn start(config: &Path, log: &Path) -> Child {
    let log = std::fs::File::create(log).expect("a log file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyfall"));
    command.args(["run", "--config"]).arg(config).env_remove("RUST_LOG").stdin(Stdio::null());
    command.stderr(log.try_clone().expect("a second handle")).stdout(log);
    command.spawn().expect("the program starts")
}
