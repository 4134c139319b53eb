//! The benchmarks of the whole program: one command, each figure with its baseline from the same run beside it.
//!
//! `make bench`, or `cargo bench --features demo --bench load -- one small --rounds 3`. The loader is the release
//! binary as users run it (`keyfall run --once`), the S3 server a process of its own, so CPU seconds and resident
//! memory are the loader's alone. Contenders take turns within a round, and medians are compared, as ratios.
//!
//! No figure is a test: a target that is missed is marked, and the exit code stays 0. Only a load that brings a wrong
//! number of rows, or a tool that fails, ends the run with an error.
#![expect(clippy::print_stdout, reason = "a benchmark's figures are its output")]

mod data;
mod formats;
mod instances;
mod lab;
mod lineitem;
mod list;
mod million;
mod peers;
mod process;
mod report;
mod rows;
mod s3;
mod small;

use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use lab::Lab;
use report::Report;

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// TPC-H lineitem as one object.
    One,
    /// The same as eight objects, with 1, 2 and 4 workers.
    Many,
    /// The one object, gzip.
    Gzip,
    /// The one object, zstd.
    Zstd,
    /// The same rows as JSON lines, Parquet and Avro.
    Formats,
    /// Small objects, loaded and archived.
    Small,
    /// Keys listed into the ledger.
    List,
    /// Small objects, loaded by 1, 2 and 3 instances at once.
    Instances,
    /// Rows of which the server refuses some, beside a clean file.
    Violations,
    /// Rows that take the place of others, beside the same by hand.
    Upsert,
    /// Ten times as many keys: first start, idle poll, restart, reconcile.
    Million,
    /// Other loaders beside ours.
    Peers,
}

const ALL: [Part; 7] = [Part::One, Part::Many, Part::Gzip, Part::Zstd, Part::Formats, Part::Small, Part::List];

/// Measures keyfall against psql on this machine.
#[derive(Debug, Clone, Parser)]
struct Arguments {
    /// What to measure; everything but `violations`, `upsert`, `instances`, `million` and `peers` where nothing is named.
    parts: Vec<Part>,
    /// Rounds; the medians count.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Scale factor of TPC-H: 0.5 is 380 MB.
    #[arg(long, default_value_t = 0.5)]
    sf: f64,
    /// A tenth of the data and three rounds, to try things.
    #[arg(long)]
    quick: bool,
    /// Whether the server waits for the disk, as a production server does.
    #[arg(long, default_value = "on")]
    fsync: String,
    /// Small objects; twice as many for `instances`.
    #[arg(long, default_value_t = 10_000)]
    objects: usize,
    /// Keys to list; ten times as many for `million`.
    #[arg(long, default_value_t = 100_000)]
    keys: usize,
    /// Rows for `violations` and `upsert`.
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// Another loader binary than the one just built, to compare two.
    #[arg(long)]
    loader: Option<std::path::PathBuf>,
    /// What `cargo bench` passes to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let outcome = if arguments.next().as_deref() == Some(s3::ROLE) {
        s3::serve(&arguments.collect::<Vec<_>>())
    } else {
        measure(Arguments::parse())
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("the benchmark could not be run: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(mut arguments: Arguments) -> anyhow::Result<()> {
    if arguments.quick {
        arguments.sf /= 10.0;
        arguments.rounds = arguments.rounds.min(3);
        arguments.objects /= 10;
        arguments.keys /= 10;
        arguments.rows /= 10;
    }
    if arguments.parts.is_empty() {
        arguments.parts.extend(ALL);
    }
    let lab = Lab::start(&arguments)?;
    let mut report = Report::default();
    let wanted = |part| arguments.parts.contains(&part);
    if ALL.iter().take(5).any(|part| wanted(*part)) || wanted(Part::Peers) {
        lineitem::run(&lab, &arguments, &mut report)?;
    }
    if wanted(Part::Small) {
        small::run(&lab, &arguments, &mut report)?;
    }
    if wanted(Part::List) {
        list::run(&lab, &arguments, &mut report)?;
    }
    if wanted(Part::Instances) {
        instances::run(&lab, &arguments, &mut report)?;
    }
    if wanted(Part::Violations) {
        rows::violations(&lab, &arguments, &mut report)?;
    }
    if wanted(Part::Upsert) {
        rows::upsert(&lab, &arguments, &mut report)?;
    }
    if wanted(Part::Million) {
        million::run(&lab, &arguments, &mut report)?;
    }
    println!("\n{}{}", lab.facts()?, report.table());
    Ok(())
}
