//! Rows that the server refuses, and rows that take the place of others: against the clean file, and against what an expert
//! would write by hand.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::ensure;

use crate::Arguments;
use crate::lab::Lab;
use crate::process::{self, Cost};
use crate::report::{Report, Target, median, spread};
use crate::s3::{PREFIX, Server};

const TABLE: &str = "CREATE TABLE rows (id bigint PRIMARY KEY, v integer NOT NULL CHECK (v >= 0), amount numeric(12,2),
    at timestamptz NOT NULL, note text)";

/// Lines for the feed: rows without header.
const FEED: &str = r#"
    prefix = "in/"
    table = "rows"
    csv.header = false"#;

/// Bad rows in a file with few of them.
const FEW: u64 = 100;

/// Each number once, in no order: what rows of a business look like.
fn number(n: u64, rows: u64) -> u64 {
    n * 7919 % rows
}

/// A file of so many rows; those whose place says so are refused by the table.
fn file(lab: &Lab, name: &str, rows: u64, is_bad: impl Fn(u64) -> bool) -> anyhow::Result<PathBuf> {
    let path = lab.path(name);
    let mut out = BufWriter::with_capacity(1 << 20, File::create(&path)?);
    for n in 0..rows {
        let (id, v) = (number(n, rows), if is_bad(n) { -1 } else { 1 });
        writeln!(out, "{id},{v},{}.{:02},2024-05-01T12:00:{:02}Z,note of row {id}", n % 100_000, n % 100, n % 60)?;
    }
    out.flush()?;
    Ok(path)
}

/// One `run --once` on a prepared table; answers what it cost.
fn load(lab: &Lab, config: &Path, prepare: &[&str]) -> anyhow::Result<Cost> {
    lab.reset("rows")?;
    lab.sql(prepare)?;
    lab.ready(config)?;
    // It ends with 3 where an object is quarantined.
    Ok(process::observe(lab.loader(config, &["run", "--once"]).stdout(Stdio::null()).stderr(Stdio::null()))?.0)
}

fn wall(costs: &[Cost]) -> f64 {
    median(costs.iter().map(|cost| cost.wall))
}

/// A few refused rows, and half of all, beside none.
pub(crate) fn violations(lab: &Lab, arguments: &Arguments, report: &mut Report) -> anyhow::Result<()> {
    let rows = arguments.rows;
    lab.sql(&["DROP TABLE IF EXISTS rows", TABLE])?;
    let every = rows / FEW;
    let files = [
        file(lab, "clean.csv", rows, |_| false)?,
        file(lab, "few.csv", rows, |n| n % every == every / 2)?,
        file(lab, "half.csv", rows, |n| n % 2 == 1)?,
    ];
    let mut costs: [Vec<Cost>; 3] = Default::default();
    for _ in 0..arguments.rounds {
        for ((file, costs), loaded) in files.iter().zip(&mut costs).zip([rows, rows - FEW, 0]) {
            let key = format!("{PREFIX}rows.csv");
            let server = Server::with_files([(key.as_str(), file.as_path())])?;
            let config = lab.config(&server, 1, &format!("{FEED}\n    rejects.max_rows = 1000"))?;
            costs.push(load(lab, &config, &[])?);
            let counted = lab.sql(&["SELECT count(*) FROM rows"])?;
            ensure!(counted == loaded.to_string(), "{counted} rows instead of {loaded}");
            let kept = lab.number("SELECT count(*) FROM keyfall.rejections")?;
            let expected = if loaded == rows - FEW { FEW } else { 0 };
            ensure!(kept.to_string() == expected.to_string(), "{kept} rejections instead of {expected}");
        }
    }
    let [clean, few, half] = costs.each_ref().map(|costs| wall(costs));
    let spread = |costs: &[Cost]| spread(costs.iter().map(|cost| cost.wall));
    let [_, few_costs, half_costs] = &costs;
    let beside = format!("{few:.2} s ({}) and {clean:.2} s", spread(few_costs));
    report.enter(&format!("{rows} rows, {FEW} refused, to the clean file"), Target::None, (few / clean, ""), beside);
    let beside = format!("{half:.2} s ({}), quarantined after 1001 rejections", spread(half_costs));
    report.enter(&format!("{rows} rows, half refused, to the clean file"), Target::None, (half / clean, ""), beside);
    Ok(())
}

/// What an expert would write: his keys are known to be different, so nothing is sorted or compared.
const BY_HAND: &str = "INSERT INTO rows SELECT * FROM staged ON CONFLICT (id) DO UPDATE
    SET v = EXCLUDED.v, amount = EXCLUDED.amount, at = EXCLUDED.at, note = EXCLUDED.note";

/// Rows of which half are there, beside a staging table filled and merged by psql.
pub(crate) fn upsert(lab: &Lab, arguments: &Arguments, report: &mut Report) -> anyhow::Result<()> {
    let rows = arguments.rows;
    lab.sql(&["DROP TABLE IF EXISTS rows", TABLE])?;
    let file = file(lab, "upsert.csv", rows, |_| false)?;
    let key = format!("{PREFIX}rows.csv");
    let server = Server::with_files([(key.as_str(), file.as_path())])?;
    let half = format!(
        "INSERT INTO rows SELECT n, 0, 0, '2000-01-01', 'was there' FROM generate_series(0, {}, 2) n",
        rows - 1
    );
    let copy = format!("\\copy staged FROM '{}' WITH (FORMAT csv)", file.display());
    let (mut ours, mut by_hand) = (Vec::new(), Vec::new());
    for _ in 0..arguments.rounds {
        lab.reset("rows")?;
        lab.sql(&[&half, "CHECKPOINT"])?;
        let stage = "CREATE TEMP TABLE staged (LIKE rows) ON COMMIT DROP";
        let mut psql = lab.psql();
        by_hand
            .push(process::cost_of(psql.args(["-1", "-c", stage, "-c", &copy, "-c", BY_HAND]).stdout(Stdio::null()))?);
        merged(lab, rows)?;
        let config = lab.config(&server, 1, &format!("{FEED}\n    mode = \"upsert\"\n    key = \"id\""))?;
        ours.push(load(lab, &config, &[&half])?);
        merged(lab, rows)?;
    }
    let beside =
        format!("{:.2} s ({}) and {:.2} s", wall(&ours), spread(ours.iter().map(|cost| cost.wall)), wall(&by_hand));
    let what = format!("{rows} rows upserted, half of them there, to psql by hand");
    report.enter(&what, Target::None, (wall(&ours) / wall(&by_hand), ""), beside);
    Ok(())
}

fn merged(lab: &Lab, rows: u64) -> anyhow::Result<()> {
    let counted = lab.sql(&["SELECT count(*) FROM rows WHERE v = 1"])?;
    ensure!(counted == rows.to_string(), "{counted} rows merged instead of {rows}");
    Ok(())
}
