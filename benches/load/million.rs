//! A million keys: the first start, an idle poll, a restart with a full ledger, and `keyfall reconcile`.
//!
//! The feed is paused, so that nothing but discovery is at work. The objects are empty and share one body in the S3
//! server; a listing says of them what it would say of others.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::Arguments;
use crate::lab::Lab;
use crate::process::{self, Running};
use crate::report::{Report, Target, median};
use crate::s3::Server;

/// Polls that are counted.
const POLLS: f64 = 50.0;
/// Longest that anything may take.
const PATIENCE: Duration = Duration::from_mins(30);

const FEED: &str = r#"
    pattern = "in/{time:%Y-%m-%d-%H-%M-%S}.csv"
    table = "listed"
    poll_interval = "100ms"
    poll_interval_max = "100ms"
    lookback_interval = "1h"
    [feeds.bench.csv]
    header = false"#;

/// Counts polls where they are written down.
const COUNT_POLLS: [&str; 4] = [
    "DROP SEQUENCE IF EXISTS polls",
    "CREATE SEQUENCE polls",
    "CREATE OR REPLACE FUNCTION polled() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM nextval('public.polls'); RETURN NULL; END $$",
    "CREATE TRIGGER polled AFTER UPDATE ON keyfall.feeds FOR EACH ROW
        WHEN (old.last_poll_at IS DISTINCT FROM new.last_poll_at) EXECUTE FUNCTION polled()",
];

/// Measures discovery at scale, once.
pub(crate) fn run(lab: &Lab, arguments: &Arguments, report: &mut Report) -> anyhow::Result<()> {
    let keys = arguments.keys * 10;
    lab.sql(&["DROP TABLE IF EXISTS listed", "CREATE TABLE listed (n bigint)"])?;
    let server = Server::with_generated(keys, 0)?;
    let config = lab.config(&server, 1, FEED)?;
    lab.reset("listed")?;
    lab.ready(&config)?;
    process::cost_of(lab.loader(&config, &["pause", "bench"]).stdout(Stdio::null()))?;
    let bench = Bench { lab, config, keys, port: free_port()? };
    let daemon = bench.first_start(report)?;
    bench.idle(report)?;
    daemon.stop()?;
    bench.restarts(arguments.rounds.min(3), report)?;
    bench.reconcile(report)
}

struct Bench<'a> {
    lab: &'a Lab,
    config: std::path::PathBuf,
    keys: usize,
    port: u16,
}

impl Bench<'_> {
    fn daemon(&self) -> anyhow::Result<Running> {
        let listen = format!("http.listen=127.0.0.1:{}", self.port);
        Running::start(self.lab.loader(&self.config, &["run", "--set", &listen]).stdout(Stdio::null()))
    }

    fn first_start(&self, report: &mut Report) -> anyhow::Result<Running> {
        let begun = Instant::now();
        let daemon = self.daemon()?;
        // The end of the sweep: counting the objects all the time would be a load of its own.
        self.until("SELECT count(last_sweep_at) FROM keyfall.feeds", 1.0)?;
        let seconds = begun.elapsed().as_secs_f64();
        let listed = self.lab.sql(&["SELECT count(*) FROM keyfall.objects"])?;
        ensure!(listed == self.keys.to_string(), "{listed} keys in the ledger");
        let pages = self.metric("keyfall_list_calls_total", "sweep")?;
        let cost = daemon.cost();
        let beside = format!("{pages} pages, CPU {:.2} s, RSS {:.0} MiB at most", cost.cpu, cost.rss);
        report.enter(&format!("{} keys, first start to full ledger", self.keys), Target::None, (seconds, " s"), beside);
        Ok(daemon)
    }

    fn idle(&self, report: &mut Report) -> anyhow::Result<()> {
        // From the first poll on, so that none is cut in half.
        self.lab.sql(&COUNT_POLLS)?;
        let polls = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM polls";
        self.until(polls, 1.0)?;
        let look = || -> anyhow::Result<[f64; 4]> {
            Ok([
                self.lab.number(polls)?,
                self.metric("keyfall_list_calls_total", "poll")?,
                self.metric("keyfall_stage_duration_seconds_sum", "list")?,
                self.metric("keyfall_stage_duration_seconds_count", "list")?,
            ])
        };
        let [polls_before, calls_before, sum_before, count_before] = look()?;
        self.until(polls, polls_before + POLLS)?;
        let [polled, calls, sum, count] = look()?;
        let polled = polled - polls_before;
        // The two looks are no snapshots: a poll may fall between their figures.
        let per_poll = (calls - calls_before) / polled;
        let ms = (sum - sum_before) / (count - count_before) * 1000.0;
        let beside = format!("{} LIST calls by {polled} polls: {per_poll:.2} each", calls - calls_before);
        report.enter(&format!("{} keys, LIST of an idle poll", self.keys), Target::AtMost(10.0), (ms, " ms"), beside);
        Ok(())
    }

    fn restarts(&self, rounds: usize, report: &mut Report) -> anyhow::Result<()> {
        let mut seconds = Vec::new();
        for _ in 0..rounds {
            let begun = Instant::now();
            let daemon = self.daemon()?;
            while !self.get("/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
                ensure!(begun.elapsed() < PATIENCE, "not ready within {PATIENCE:?}");
                thread::sleep(Duration::from_millis(5));
            }
            seconds.push(begun.elapsed().as_secs_f64());
            daemon.stop()?;
        }
        let what = format!("restart with {} ledger rows, to readiness", self.keys);
        report.enter(&what, Target::AtMost(2.0), (median(seconds), " s"), format!("of {rounds}"));
        Ok(())
    }

    fn reconcile(&self, report: &mut Report) -> anyhow::Result<()> {
        let what = format!("{} keys, keyfall reconcile", self.keys);
        let mut command = self.lab.loader(&self.config, &["reconcile", "--feed", "bench"]);
        let (cost, status) = process::observe(command.stdout(Stdio::null()).stderr(Stdio::null()))?;
        match status.code() {
            // Wrong usage.
            Some(2) | None => report.not_run(&what, &format!("it ended with {status}")),
            Some(code) => {
                let beside = format!("exit code {code}, CPU {:.2} s, RSS {:.0} MiB", cost.cpu, cost.rss);
                report.enter(&what, Target::None, (cost.wall, " s"), beside);
            }
        }
        Ok(())
    }

    /// Waits until a number is reached.
    fn until(&self, sql: &str, wanted: f64) -> anyhow::Result<()> {
        let begun = Instant::now();
        while self.lab.number(sql)? < wanted {
            ensure!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {sql}");
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Sum of a metric over the series whose labels hold a word.
    fn metric(&self, name: &str, label: &str) -> anyhow::Result<f64> {
        let text = self.get("/metrics")?;
        let lines = text.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{')) && line.contains(&format!("\"{label}\""))
        });
        Ok(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    fn get(&self, path: &str) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).context("ask the daemon")?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

/// A port that was free a moment ago.
fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
