//! A bucket, a database and a configuration of a test's own.

use std::path::Path;
use std::sync::LazyLock;

use keyfall::demo::postgres::ThrowawayPostgres;
use keyfall::demo::s3::{ACCESS_KEY_ID, EmbeddedS3, SECRET_ACCESS_KEY};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::console::{self, Ran};

/// Serves every test's S3; a test's own thread waits for the binary meanwhile.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

/// The table that the feed `departments` loads.
pub(crate) const DEPARTMENTS: &str = "CREATE TABLE departments (id integer NOT NULL, department text)";

pub(crate) struct World {
    pub(crate) s3: EmbeddedS3,
    folder: TempDir,
    database: String,
}

impl World {
    /// An empty bucket `drop`, an empty database, and the feeds `departments` and `jobs`.
    pub(crate) fn new() -> Self {
        RUNTIME.block_on(async {
            let s3 = EmbeddedS3::start().await.unwrap();
            s3.create_bucket("drop");
            let database = cluster().create_database(None).await.unwrap();
            let world = Self { s3, folder: TempDir::new().unwrap(), database };
            world.configure("");
            world
        })
    }

    /// The same, with the tables and the ledger in place.
    pub(crate) fn ready() -> Self {
        let world = Self::new();
        world.sql(&format!("{DEPARTMENTS}; CREATE TABLE jobs (id integer, job text)"));
        world.run(&["migrate"]).exits(0);
        world
    }

    /// Writes the configuration, with more keys for the feed `departments`.
    pub(crate) fn configure(&self, departments: &str) {
        let text = format!(
            r#"
            [database]
            url = "{url}"
            connect_timeout = "3s"
            [s3]
            endpoint_url = "{endpoint}"
            force_path_style = true
            access_key_id = "{ACCESS_KEY_ID}"
            secret_access_key = "{SECRET_ACCESS_KEY}"
            max_attempts = 1
            [http]
            listen = ""
            [feeds.jobs]
            bucket = "drop"
            pattern = "jobs/{{time:%Y-%m-%d}}.csv"
            table = "public.jobs"
            csv.header = false
            [feeds.departments]
            bucket = "drop"
            pattern = "departments/{{time:%Y-%m-%d}}.csv"
            table = "public.departments"
            csv.header = false
            columns = {{ id = 1, department = 2 }}
            {departments}
            "#,
            url = self.url("postgres"),
            endpoint = self.s3.endpoint(),
        );
        std::fs::write(self.folder.path().join("keyfall.toml"), text).unwrap();
    }

    /// Puts other lines in the place of some in the configuration as it was first written.
    pub(crate) fn rewrite(&self, lines: &str, others: &str) {
        self.configure("");
        let path = self.folder.path().join("keyfall.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(lines), "{text}");
        std::fs::write(path, text.replace(lines, others)).unwrap();
    }

    /// Connection string of a role.
    pub(crate) fn url(&self, role: &str) -> String {
        format!("postgres://{role}@127.0.0.1:{}/{}?sslmode=disable", cluster().port(), self.database)
    }

    /// A role that may log in and nothing else.
    pub(crate) fn role(&self) -> String {
        let role = format!("r_{}", uuid::Uuid::new_v4().simple());
        self.sql(&format!("CREATE ROLE {role} LOGIN"));
        role
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        console::run(self.folder(), arguments)
    }

    /// The same as another role.
    pub(crate) fn run_as(&self, role: &str, arguments: &[&str]) -> Ran {
        let url = format!("database.url={}", self.url(role));
        self.run(&[arguments, &["--set", &url]].concat())
    }

    /// The results of a command with `--json`.
    pub(crate) fn json(&self, arguments: &[&str]) -> serde_json::Value {
        self.run(&[arguments, &["--json"]].concat()).exits(0).json()
    }

    pub(crate) fn put_department(&self, day: u32, content: &str) {
        self.s3.put("drop", &format!("departments/2024-01-{day:02}.csv"), content.to_owned());
    }

    pub(crate) fn sql(&self, statements: &str) {
        RUNTIME.block_on(async {
            let (client, connection) =
                tokio_postgres::connect(&self.url("postgres"), tokio_postgres::NoTls).await.unwrap();
            let served = tokio_util::task::TaskTracker::new().spawn(connection);
            client.batch_execute(statements).await.unwrap();
            drop(client);
            served.await.unwrap().unwrap();
        });
    }

    /// The one number that a query answers.
    pub(crate) fn number(&self, query: &str) -> i64 {
        RUNTIME.block_on(async {
            let (client, connection) =
                tokio_postgres::connect(&self.url("postgres"), tokio_postgres::NoTls).await.unwrap();
            let served = tokio_util::task::TaskTracker::new().spawn(connection);
            let number = client.query_one(query, &[]).await.unwrap().get(0);
            drop(client);
            served.await.unwrap().unwrap();
            number
        })
    }
}

fn cluster() -> &'static ThrowawayPostgres {
    ThrowawayPostgres::shared().unwrap()
}
