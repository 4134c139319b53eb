//! What came of it: the ledger's word, a query on the tables, `/metrics`, figures and addresses.
//!
//! Nothing is repeated from memory: each number is read where a user would read it. For made-up objects it is also
//! compared with what was made, and the demo fails if they differ.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use jiff::Timestamp;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_postgres::SimpleQueryMessage;

use crate::app::{self, exit};
use crate::cli::output::{Grid, printable};
use crate::config::Config;
use crate::domain::state::State;
use crate::operate::status;
use crate::store::ledger::{Ledger, ObjectFilter};

use super::count;
use super::made::HIRED;
use super::plan::{ARCHIVE, Cargo, Expected, FeedPlan, identifier};
use super::screen::{Screen, grouped};
use super::services::Services;
use super::watch::Progress;

/// More quarantined objects than this are only counted.
const QUARANTINED_SHOWN: i64 = 5;
/// More tables than this are not shown one by one.
const TABLES_SHOWN: usize = 40;
/// More lines of `/metrics` than this would hide the rest of the report.
const METRICS_SHOWN: usize = 8;

const HIRED_BY_DEPARTMENT: &str = "\
SELECT d.department, count(*) AS hired_in_2021
  FROM hired_employees h JOIN departments d ON d.id = h.department_id
 WHERE h.datetime >= '2021-01-01' AND h.datetime < '2022-01-01'
 GROUP BY d.department ORDER BY hired_in_2021 DESC, d.department LIMIT 5";

const NULLS: &str = "\
SELECT coalesce(sum(num_nulls(name, datetime, department_id, job_id)), 0)::bigint FROM hired_employees";

/// What the report is about.
pub(super) struct Scene<'a> {
    pub(super) screen: &'a Screen,
    pub(super) services: &'a Services,
    pub(super) cargo: &'a Cargo,
    pub(super) settings: &'a Config,
}

impl Scene<'_> {
    /// Shows everything; answers the exit code.
    pub(super) async fn show(&self, done: &Progress, took: Duration) -> anyhow::Result<u8> {
        let ledger = Ledger::new(app::pools(self.settings)?);
        self.figures(done, took)?;
        self.status(&ledger).await?;
        self.quarantined(&ledger).await?;
        self.queries().await?;
        self.metrics().await?;
        self.places()?;
        match &self.cargo.expected {
            Some(expected) => self.compare(expected, done).await,
            None if done.halted > 0 => Ok(exit::FAILURE),
            None if done.quarantined > 0 => Ok(exit::QUARANTINED),
            None => Ok(exit::OK),
        }
    }

    fn figures(&self, done: &Progress, took: Duration) -> anyhow::Result<()> {
        let build = if cfg!(debug_assertions) { " (debug build)" } else { "" };
        let (objects, rows) = (count(done.loaded, "object"), count(done.rows, "row"));
        let rate = u128::from(done.rows) * 1000 / took.as_millis().max(1);
        let (rate, seconds) = (grouped(u64::try_from(rate).unwrap_or(u64::MAX)), took.as_secs_f64());
        self.screen
            .step("done", &format!("{objects}, {rows} loaded and archived in {seconds:.1} s: {rate} rows/s{build}"))?;
        Ok(())
    }

    async fn status(&self, ledger: &Ledger) -> anyhow::Result<()> {
        self.screen.say("\nWhere each feed stands, by the ledger:")?;
        let feeds = status::status(self.settings, ledger, Timestamp::now()).await?;
        let mut grid = Grid::new(&["feed", "open", "loaded", "quarantined", "rows", "newest key"]);
        for feed in feeds.iter().take(TABLES_SHOWN) {
            grid.row(vec![
                feed.feed.clone(),
                (feed.count(State::Pending) + feed.count(State::Leased)).to_string(),
                feed.count(State::Loaded).to_string(),
                feed.count(State::Quarantined).to_string(),
                feed.rows_loaded.to_string(),
                feed.frontier.map_or_else(|| "-".to_owned(), |at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
            ]);
        }
        self.screen.table(&grid)?;
        self.more(feeds.len(), "feed")?;
        for (feed, pause) in feeds.iter().filter_map(|feed| Some((feed, feed.paused.as_ref()?))) {
            self.screen.say(&format!(
                "  {} is halted: {}\n  -> {}",
                feed.feed,
                printable(&pause.reason),
                printable(&pause.advice)
            ))?;
        }
        Ok(())
    }

    async fn quarantined(&self, ledger: &Ledger) -> anyhow::Result<()> {
        let filter = ObjectFilter {
            states: vec![State::Quarantined.as_str().to_owned()],
            limit: QUARANTINED_SHOWN + 1,
            ..ObjectFilter::default()
        };
        let objects = ledger.objects(&filter).await?;
        if objects.is_empty() {
            return Ok(());
        }
        let why = if self.cargo.expected.is_some() { ", the one broken on purpose" } else { "" };
        self.screen.say(&format!("\nIn quarantine{why}: nothing of it was loaded."))?;
        let shown = usize::try_from(QUARANTINED_SHOWN).unwrap_or(usize::MAX);
        for object in objects.iter().take(shown) {
            let [code, detail, advice] = [&object.error_code, &object.error_detail, &object.error_advice]
                .map(|text| printable(text.as_deref().unwrap_or("-")));
            self.screen.say(&format!("  {}\n    {code}: {detail}\n    -> {advice}", printable(&object.uri)))?;
        }
        if objects.len() > shown {
            self.screen.say("  and more")?;
        }
        Ok(())
    }

    async fn queries(&self) -> anyhow::Result<()> {
        let has = |name: &str| self.cargo.feeds.iter().any(|feed| feed.name == name && feed.is_known());
        if has(HIRED) && has("departments") {
            self.screen.say(&format!("\nA query on the tables:\n{}", super::screen::indented(HIRED_BY_DEPARTMENT)))?;
            let grid = self.select(HIRED_BY_DEPARTMENT, &["department", "hired_in_2021"]).await?;
            self.screen.table(&grid)?;
        }
        if self.cargo.expected.is_some() {
            return Ok(());
        }
        self.screen.say("\nThe tables, made from the files:")?;
        let mut grid = Grid::new(&["table", "rows", "NULLs", "columns"]);
        for feed in self.cargo.feeds.iter().take(TABLES_SHOWN) {
            let (rows, nulls) = self.rows_and_nulls(feed).await?;
            let columns: Vec<String> =
                feed.columns.iter().map(|column| format!("{} {}", column.name, column.sql)).collect();
            grid.row(vec![feed.name.clone(), rows.to_string(), nulls.to_string(), shortened(&columns.join(", "))]);
        }
        self.screen.table(&grid)?;
        self.more(self.cargo.feeds.len(), "table")
    }

    /// Says how many were left away below a table.
    fn more(&self, all: usize, thing: &str) -> anyhow::Result<()> {
        if let Some(more) = all.checked_sub(TABLES_SHOWN).filter(|more| *more > 0) {
            self.screen.say(&format!("  and {}", count(more as u64, &format!("more {thing}"))))?;
        }
        Ok(())
    }

    /// Rows of a table, and how many of its cells are NULL.
    async fn rows_and_nulls(&self, feed: &FeedPlan) -> anyhow::Result<(u64, u64)> {
        let filled: Vec<String> =
            feed.columns.iter().map(|column| format!("count({})", identifier(&column.name))).collect();
        let (columns, filled, table) = (filled.len(), filled.join(" + "), identifier(&feed.name));
        let sql = format!("SELECT count(*), count(*) * {columns} - ({filled}) FROM {table}");
        let row = self.services.sql.query_one(&sql, &[]).await.with_context(|| sql.clone())?;
        Ok((row.try_get::<_, i64>(0)?.unsigned_abs(), row.try_get::<_, i64>(1)?.unsigned_abs()))
    }

    /// Rows of a table.
    async fn rows(&self, table: &str) -> anyhow::Result<u64> {
        let sql = format!("SELECT count(*) FROM {}", identifier(table));
        let row = self.services.sql.query_one(&sql, &[]).await.with_context(|| sql.clone())?;
        Ok(row.try_get::<_, i64>(0)?.unsigned_abs())
    }

    async fn select(&self, sql: &str, header: &[&str]) -> anyhow::Result<Grid> {
        let mut grid = Grid::new(header);
        for message in self.services.sql.simple_query(sql).await.context("query the tables")? {
            if let SimpleQueryMessage::Row(row) = message {
                grid.row((0..row.len()).map(|column| row.get(column).unwrap_or("NULL").to_owned()).collect());
            }
        }
        Ok(grid)
    }

    async fn metrics(&self) -> anyhow::Result<()> {
        let url = self.services.metrics_url();
        self.screen.say(&format!("\nA few lines of {url}:"))?;
        let text = self.scrape().await.with_context(|| format!("read {url}"))?;
        let wanted = |line: &&str| {
            ["keyfall_objects_total{", "keyfall_rows_total{", "process_resident_memory_bytes "]
                .iter()
                .any(|name| line.starts_with(name))
                && !line.contains("outcome=\"read\"")
                && !line.ends_with(" 0")
        };
        for line in text.lines().filter(wanted).take(METRICS_SHOWN) {
            self.screen.say(&format!("  {line}"))?;
        }
        Ok(())
    }

    async fn scrape(&self) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(self.services.listen).await?;
        // HTTP/1.0: the end of the connection is the end of the body.
        let request = format!("GET /metrics HTTP/1.0\r\nHost: {}\r\n\r\n", self.services.listen);
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    fn places(&self) -> anyhow::Result<()> {
        let s3 = &self.services.s3;
        let archived = s3.keys(ARCHIVE);
        let example = archived.last().map(|key| format!(", such as {}", printable(key))).unwrap_or_default();
        self.screen.say("\nWhere things are:")?;
        self.screen
            .step("archive", &format!("s3://{ARCHIVE}/ holds {}{example}", count(archived.len() as u64, "object")))?;
        self.screen.step("S3", &s3.endpoint())?;
        self.screen.step("PostgreSQL", &self.services.url())?;
        self.screen.step("metrics", &self.services.metrics_url())?;
        Ok(())
    }

    /// Whether what was made is what has landed.
    async fn compare(&self, expected: &Expected, done: &Progress) -> anyhow::Result<u8> {
        for (table, rows) in &expected.rows {
            let found = self.rows(table).await?;
            ensure!(found == *rows, "{table} has {found} rows instead of {rows}: this is a defect of keyfall");
        }
        let nulls = self.services.sql.query_one(NULLS, &[]).await?.try_get::<_, i64>(0)?.unsigned_abs();
        ensure!(nulls == expected.nulls, "{nulls} NULLs instead of {}: this is a defect of keyfall", expected.nulls);
        let (archived, good) = (self.services.s3.len(ARCHIVE) as u64, self.cargo.objects() - expected.quarantined);
        let as_made = archived == good && done.loaded == good && done.quarantined == expected.quarantined;
        ensure!(
            as_made,
            "{good} good objects, {} loaded, {archived} archived: this is a defect of keyfall",
            done.loaded
        );
        self.screen.say(&format!(
            "\nCompared with the upload: each row of the {good} good objects is there once,\n\
             {} blank fields are NULL, the broken object left nothing.",
            grouped(nulls)
        ))?;
        Ok(exit::OK)
    }
}

/// At most a line's worth.
fn shortened(text: &str) -> String {
    const WIDTH: usize = 100;
    if text.chars().count() <= WIDTH { text.to_owned() } else { text.chars().take(WIDTH).chain(['…']).collect() }
}
