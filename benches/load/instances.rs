//! Twenty thousand small objects, loaded by one, two and three instances on one ledger.
//!
//! Each instance is the daemon with one worker, so that instances are compared and not workers. The clock runs from the
//! first discovery to the last commit, both by the database. On one machine all of them share its processors with the
//! server: what is shown is that instances do not stand in each other's way, not what more machines bring.

use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::Arguments;
use crate::lab::Lab;
use crate::process::Running;
use crate::report::{Report, Target, median, spread};
use crate::s3::Server;

/// Rows of one object.
const ROWS: usize = 100;
/// Instances at once.
const COUNTS: [usize; 3] = [1, 2, 3];
/// Longest that one run may take.
const PATIENCE: Duration = Duration::from_mins(10);

const TABLE: &str = "CREATE TABLE shared (id bigint, department text, amount numeric(12,2), day date, note text)";

const FEED: &str = r#"
    pattern = "in/{time:%Y-%m-%d-%H-%M-%S}.csv"
    table = "shared"
    [feeds.bench.csv]
    header = false"#;

/// Measures loading by several instances.
pub(crate) fn run(lab: &Lab, arguments: &Arguments, report: &mut Report) -> anyhow::Result<()> {
    let objects = arguments.objects * 2;
    lab.sql(&["DROP TABLE IF EXISTS shared", TABLE])?;
    let server = Server::with_generated(objects, ROWS)?;
    let rounds = arguments.rounds.min(3);
    let mut runs = COUNTS.map(|count| (count, Vec::new()));
    for round in 1..=rounds {
        for (count, runs) in &mut runs {
            runs.push(load(lab, &server, *count, objects)?);
        }
        println!("instances, round {round} of {rounds}");
    }
    for (count, runs) in runs {
        let rates = runs.iter().map(|run| objects as f64 / run.seconds);
        let beside = format!(
            "of {objects} objects of {ROWS} rows ({} in the rounds); smallest and largest share {}; CPU of all {:.2} s",
            spread(rates.clone()),
            runs.last().map(|run| run.shares.as_str()).unwrap_or_default(),
            median(runs.iter().map(|run| run.cpu)),
        );
        let what = format!("small objects, {count} instance(s) of 1 worker");
        report.enter(&what, Target::None, (median(rates), "/s"), beside);
    }
    Ok(())
}

struct Run {
    seconds: f64,
    cpu: f64,
    shares: String,
}

fn load(lab: &Lab, server: &Server, count: usize, objects: usize) -> anyhow::Result<Run> {
    let config = lab.config(server, 1, FEED)?;
    lab.reset("shared")?;
    lab.ready(&config)?;
    let mut instances = Vec::new();
    for n in 1..=count {
        let name = format!("instance=bench-{n}");
        let mut command = lab.loader(&config, &["run", "--set", &name]);
        instances.push(Running::start(command.stdout(Stdio::null()))?);
    }
    let begun = Instant::now();
    while lab.number("SELECT count(*) FROM keyfall.objects WHERE state = 'loaded'")? < objects as f64 {
        ensure!(begun.elapsed() < PATIENCE, "not loaded within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(500));
    }
    let cpu = instances.iter().map(|instance| instance.cost().cpu).sum();
    instances.into_iter().try_for_each(Running::stop)?;
    let rows = lab.sql(&["SELECT count(*) FROM shared"])?;
    ensure!(rows == (objects * ROWS).to_string(), "{rows} rows in the table");
    let seconds = lab.number("SELECT extract(epoch FROM max(loaded_at) - min(discovered_at)) FROM keyfall.objects")?;
    let shares = lab.sql(&["SELECT min(n) || ' and ' || max(n) FROM
                              (SELECT count(*) AS n FROM keyfall.objects GROUP BY lease_owner) owners"])?;
    Ok(Run { seconds, cpu, shares })
}
