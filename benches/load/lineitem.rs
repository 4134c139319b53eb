//! TPC-H's lineitem: one object, eight, compressed; ours in turn with `psql \copy` of local files of the same rows.

use std::fs;
use std::path::Path;

use anyhow::ensure;

use crate::data::Files;
use crate::lab::Lab;
use crate::peers::{self, DuckDb};
use crate::process::{self, Cost};
use crate::report::{Report, Target, median, spread};
use crate::s3::{PREFIX, Server};
use crate::{Arguments, Part};

/// The table as everybody makes it, without indexes.
pub(crate) const TABLE: &str = "CREATE TABLE lineitem (
    l_orderkey bigint NOT NULL, l_partkey integer NOT NULL, l_suppkey integer NOT NULL, l_linenumber integer NOT NULL,
    l_quantity numeric(15,2) NOT NULL, l_extendedprice numeric(15,2) NOT NULL, l_discount numeric(15,2) NOT NULL,
    l_tax numeric(15,2) NOT NULL, l_returnflag char(1) NOT NULL, l_linestatus char(1) NOT NULL,
    l_shipdate date NOT NULL, l_commitdate date NOT NULL, l_receiptdate date NOT NULL, l_shipinstruct char(25) NOT NULL,
    l_shipmode char(10) NOT NULL, l_comment varchar(44) NOT NULL)";

const FEED: &str = r#"
    prefix = "in/"
    table = "lineitem"
    csv.header = false"#;

/// Who takes part in a round.
struct Contender<'a> {
    name: String,
    target: Target,
    files: Vec<&'a Path>,
    workers: usize,
    format: &'static str,
    /// Cost of each round, and seconds between discovery and commit as the ledger has them.
    runs: Vec<(Cost, f64)>,
}

/// Measures what is wanted of the parts on lineitem.
pub(crate) fn run(lab: &Lab, arguments: &Arguments, report: &mut Report) -> anyhow::Result<()> {
    let files = Files::of(arguments.sf, arguments.parts.contains(&Part::Formats))?;
    lab.sql(&["DROP TABLE IF EXISTS lineitem", TABLE])?;
    let binary = lab.path("lineitem.bin");
    prepare_binary(lab, &files, &binary)?;
    let mut contenders = contenders(&files, arguments);
    let (mut csv, mut bin) = (Vec::new(), Vec::new());
    let duckdb = arguments.parts.contains(&Part::Peers).then(DuckDb::install);
    let mut peer = Ok(Vec::new());
    for round in 1..=arguments.rounds {
        csv.push(copy(lab, &files.whole, "csv", files.rows)?);
        for contender in &mut contenders {
            let run = load(lab, contender, files.rows)?;
            contender.runs.push(run);
        }
        bin.push(copy(lab, &binary, "binary", files.rows)?);
        if let Some(duckdb) = &duckdb {
            peer = peer.and_then(|mut costs: Vec<Cost>| {
                let duckdb = duckdb.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))?;
                costs.push(duckdb.load(lab, &files)?);
                Ok(costs)
            });
        }
        println!("round {round} of {}", arguments.rounds);
    }
    fs::remove_file(&binary)?;
    let baseline = median(csv.iter().map(|cost| cost.wall));
    for contender in &contenders {
        enter(report, contender, baseline);
    }
    for (name, costs) in [("psql \\copy csv, local file", &csv), ("psql \\copy binary, local file", &bin)] {
        enter_other(report, name, costs, baseline);
    }
    if duckdb.is_some() {
        peers::enter(report, &peer, baseline);
    }
    println!("{} rows, {} bytes", files.rows, files.bytes);
    Ok(())
}

fn contenders<'a>(files: &'a Files, arguments: &Arguments) -> Vec<Contender<'a>> {
    let wanted = |part| arguments.parts.contains(&part);
    let mut contenders = Vec::new();
    let mut add = |name: &str, target, files: Vec<&'a Path>, workers| {
        contenders.push(Contender { name: name.to_owned(), target, files, workers, format: "csv", runs: Vec::new() });
    };
    if wanted(Part::One) || wanted(Part::Peers) {
        add("one CSV object", Target::AtMost(0.72), vec![&files.whole], 8);
    }
    if wanted(Part::Many) {
        let pieces: Vec<&Path> = files.pieces.iter().map(std::path::PathBuf::as_path).collect();
        add("8 objects, 1 worker", Target::None, pieces.clone(), 1);
        add("8 objects, 2 workers", Target::AtMost(0.58), pieces.clone(), 2);
        add("8 objects, 4 workers", Target::AtMost(0.58), pieces.clone(), 4);
        add("8 objects, 8 workers", Target::None, pieces, 8);
    }
    if wanted(Part::Gzip) {
        add("one gzip object", Target::AtMost(0.75), vec![&files.gzip], 1);
    }
    if wanted(Part::Zstd) {
        add("one zstd object", Target::AtMost(0.75), vec![&files.zstd], 1);
    }
    let formats = ["jsonl", "parquet", "avro"].into_iter().zip(files.formats.iter().flatten());
    contenders.extend(formats.map(|(format, file)| Contender {
        name: format!("one {format} object"),
        target: Target::None,
        files: vec![file],
        workers: 1,
        format,
        runs: Vec::new(),
    }));
    contenders
}

fn prepare_binary(lab: &Lab, files: &Files, binary: &Path) -> anyhow::Result<()> {
    copy(lab, &files.whole, "csv", files.rows)?;
    let command = format!("\\copy lineitem to '{}' with (format binary)", binary.display());
    process::cost_of(lab.psql().args(["-c", &command])).map(drop)
}

fn copy(lab: &Lab, file: &Path, format: &str, rows: u64) -> anyhow::Result<Cost> {
    lab.sql(&["TRUNCATE lineitem", "CHECKPOINT"])?;
    let command = format!("\\copy lineitem from '{}' with (format {format})", file.display());
    let cost = process::cost_of(lab.psql().args(["-c", &command]))?;
    check(lab, rows)?;
    Ok(cost)
}

fn load(lab: &Lab, contender: &Contender<'_>, rows: u64) -> anyhow::Result<(Cost, f64)> {
    let keys: Vec<String> = (1..=contender.files.len()).map(|n| format!("{PREFIX}{n}.csv")).collect();
    let server = Server::with_files(keys.iter().map(String::as_str).zip(contender.files.iter().copied()))?;
    let feed = format!("{FEED}\n    format = \"{}\"", contender.format);
    let config = lab.config(&server, contender.workers, &feed)?;
    let cost = lab.load("lineitem", &config)?;
    check(lab, rows)?;
    let interval = lab.number("SELECT extract(epoch FROM max(loaded_at) - min(discovered_at)) FROM keyfall.objects")?;
    Ok((cost, interval))
}

/// A fast load of the wrong rows is none.
pub(crate) fn check(lab: &Lab, rows: u64) -> anyhow::Result<()> {
    let found = lab.sql(&["SELECT count(*) FROM lineitem"])?;
    ensure!(found == rows.to_string(), "{found} rows in the table, {rows} in the file");
    Ok(())
}

fn enter(report: &mut Report, contender: &Contender<'_>, baseline: f64) {
    let of = |figure: fn(&Cost) -> f64| median(contender.runs.iter().map(|(cost, _)| figure(cost)));
    let interval = median(contender.runs.iter().map(|(_, interval)| *interval));
    let wall = of(|cost| cost.wall);
    let beside = format!(
        "{wall:.2} s ({}); discovery to commit {interval:.2} s = {:.2}; CPU {:.2} s, RSS {:.0} MiB",
        spread(contender.runs.iter().map(|(cost, _)| cost.wall)),
        interval / baseline,
        of(|cost| cost.cpu),
        of(|cost| cost.rss),
    );
    let name = &contender.name;
    report.enter(&format!("{name}: ratio to \\copy csv"), contender.target, (wall / baseline, ""), beside);
    let peak = contender.runs.iter().map(|(cost, _)| cost.rss).fold(0.0, f64::max);
    report.enter(&format!("{name}: peak RSS"), Target::AtMost(64.0), (peak, " MiB"), String::new());
    if name.starts_with("one CSV") {
        let cpu = of(|cost| cost.cpu);
        report.enter(&format!("{name}: client CPU"), Target::AtMost(2.4), (cpu, " s"), String::new());
    }
}

/// Enters somebody else's figures.
pub(crate) fn enter_other(report: &mut Report, name: &str, costs: &[Cost], baseline: f64) {
    let wall = median(costs.iter().map(|cost| cost.wall));
    let beside = format!(
        "{wall:.2} s ({}); CPU {:.2} s, RSS {:.0} MiB",
        spread(costs.iter().map(|cost| cost.wall)),
        median(costs.iter().map(|cost| cost.cpu)),
        median(costs.iter().map(|cost| cost.rss)),
    );
    report.enter(name, Target::None, (wall / baseline, ""), beside);
}
