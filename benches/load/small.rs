//! Ten thousand objects of a hundred rows, loaded and archived, beside psql doing the least that anybody could do:
//! per object one transaction with a COPY and a ledger row, from a local script, without S3 and without archiving.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::Command;

use anyhow::ensure;

use crate::Arguments;
use crate::data;
use crate::lab::Lab;
use crate::process;
use crate::report::{Report, Target, median};
use crate::s3::{PREFIX, Server};

/// Rows of one object.
const ROWS: usize = 100;

const TABLE: &str = "CREATE TABLE small (id bigint, department text, amount numeric(12,2), day date, note text)";

const BASELINE_LEDGER: &str =
    "CREATE TABLE baseline_ledger (key text PRIMARY KEY, rows integer, loaded_at timestamptz)";

const FEED: &str = r#"
    pattern = "in/{time:%Y-%m-%d-%H-%M-%S}.csv"
    table = "small"
    [feeds.bench.csv]
    header = false
    [feeds.bench.disposal]
    action = "archive"
    prefix = "archive/""#;

/// Measures small objects.
pub(crate) fn run(lab: &Lab, arguments: &Arguments, report: &mut Report) -> anyhow::Result<()> {
    let objects = arguments.objects;
    lab.sql(&["DROP TABLE IF EXISTS small, baseline_ledger", TABLE, BASELINE_LEDGER])?;
    let scripts = [(1, scripts(lab, objects, 1)?), (4, scripts(lab, objects, 4)?)];
    let rounds = arguments.rounds.min(3);
    let mut ours = [(1, Target::AtLeast(800.0), Vec::new()), (4, Target::AtLeast(1300.0), Vec::new())];
    let mut theirs = [Vec::new(), Vec::new()];
    for round in 1..=rounds {
        for ((_, scripts), rates) in scripts.iter().zip(&mut theirs) {
            rates.push(objects as f64 / psql(lab, scripts)?);
        }
        for (workers, _, runs) in &mut ours {
            runs.push(load(lab, objects, *workers)?);
        }
        println!("small objects, round {round} of {rounds}");
    }
    for (workers, target, runs) in ours {
        let of = |figure: fn(&Run) -> f64| median(runs.iter().map(figure));
        let beside = format!(
            "of {objects}, loaded and archived in {:.2} s; all loaded after {:.2} s; CPU {:.2} s, RSS {:.0} MiB",
            of(|run| run.cost.wall),
            of(|run| run.loaded),
            of(|run| run.cost.cpu),
            of(|run| run.cost.rss),
        );
        let rate = objects as f64 / of(|run| run.cost.wall);
        report.enter(&format!("small objects, {workers} worker(s)"), target, (rate, "/s"), beside);
    }
    for ((connections, _), rates) in scripts.iter().zip(theirs) {
        let name = format!("psql, transaction per object, {connections} connection(s)");
        report.enter(&name, Target::None, (median(rates), "/s"), "no S3, no archive".to_owned());
    }
    Ok(())
}

struct Run {
    cost: process::Cost,
    /// Seconds from the first discovery to the last commit.
    loaded: f64,
}

fn load(lab: &Lab, objects: usize, workers: usize) -> anyhow::Result<Run> {
    let server = Server::with_generated(objects, ROWS)?;
    let config = lab.config(&server, workers, FEED)?;
    let cost = lab.load("small", &config)?;
    let states =
        lab.sql(&["SELECT state || ' ' || disposal || ' ' || count(*) FROM keyfall.objects GROUP BY state, disposal"])?;
    ensure!(states == format!("loaded done {objects}"), "the ledger says: {states}");
    let rows = lab.sql(&["SELECT count(*) FROM small"])?;
    ensure!(rows == (objects * ROWS).to_string(), "{rows} rows in the table");
    let loaded = lab.number("SELECT extract(epoch FROM max(loaded_at) - min(discovered_at)) FROM keyfall.objects")?;
    Ok(Run { cost, loaded })
}

fn psql(lab: &Lab, scripts: &[PathBuf]) -> anyhow::Result<f64> {
    lab.sql(&["TRUNCATE small, baseline_ledger", "CHECKPOINT"])?;
    let mut commands: Vec<Command> = Vec::new();
    for script in scripts {
        let mut command = lab.psql();
        command.arg("-f").arg(script);
        commands.push(command);
    }
    process::cost_of_all(&mut commands)
}

/// The statements of so many connections.
fn scripts(lab: &Lab, objects: usize, connections: usize) -> anyhow::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for connection in 0..connections {
        let path = lab.path(&format!("small-{connections}-{connection}.sql"));
        let mut out = BufWriter::new(fs::File::create(&path)?);
        for n in (connection..objects).step_by(connections) {
            writeln!(out, "BEGIN;\nCOPY small FROM STDIN WITH (FORMAT csv);")?;
            write!(out, "{}", data::small_object(n, ROWS))?;
            let key = data::small_key(n).replace(PREFIX, "");
            writeln!(out, "\\.\nINSERT INTO baseline_ledger VALUES ('{key}', {ROWS}, clock_timestamp());\nCOMMIT;")?;
        }
        out.flush()?;
        paths.push(path);
    }
    Ok(paths)
}
