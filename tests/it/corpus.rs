//! The corpus of bad and odd input: makers in code, expectations in `corpus/manifest.toml`.
//!
//! A case is one line of the manifest: which maker makes its input, which options its feed has, what must come of it
//! and in which words the operator is told. A maker is one line of code beside its kind. Nothing is stored: bombs are
//! made when they are needed. All cases of one room are loaded together by the built program, so that every bad object
//! has good neighbours.

mod avro;
mod bombs;
mod compression;
mod config;
mod csv;
mod json;
mod keys;
mod parquet;
mod runner;
mod typed;

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use runner::Room;

/// Makes one input.
#[derive(Clone, Copy)]
enum Maker {
    /// A body; the runner chooses the key.
    Body(fn() -> Vec<u8>),
    /// A key below the prefix it is given, and a body.
    Object(fn(&str) -> (String, Vec<u8>)),
    /// A configuration file in the folder it is given; answers what else the program is given.
    Config(config::Maker),
}

/// A maker and the name by which the manifest calls it.
type Named = (&'static str, Maker);

/// Makers of bodies: `name => bytes,`.
macro_rules! makers {
    ($($name:ident => $body:expr,)*) => {
        pub(super) const MAKERS: &[super::Named] = &[$((stringify!($name), super::Maker::Body(|| $body.into())),)*];
    };
}
use makers;

/// The manifest: the cases of each room.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    csv: Vec<Case>,
    json: Vec<Case>,
    typed: Vec<Case>,
    compression: Vec<Case>,
    bombs: Vec<Case>,
    giants: Vec<Case>,
    parquet: Vec<Case>,
    avro: Vec<Case>,
    keys: Vec<Case>,
    config: Vec<Case>,
}

/// One case.
#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
struct Case {
    id: String,
    maker: String,
    /// `staff`, `cells`, or the type of the column `culprit` of a table made for it.
    #[serde(default)]
    table: String,
    /// Lines of the feed, or settings of the command line.
    #[serde(default)]
    options: Vec<String>,
    outcome: Outcome,
    /// The code, and parts of what the operator is told.
    #[serde(default)]
    reason: Vec<String>,
    /// What is in the table afterwards, record by record: `a|b`, NULL as `∅`; behind its number, `3 a|b`, where some
    /// are rejected or left out.
    #[serde(default)]
    records: Option<Vec<String>>,
    /// Records that are kept out: `record line byte column code: reason`, with `-` for no column.
    #[serde(default)]
    rejected: Vec<String>,
    /// What no message may repeat, beside what no message of any case may.
    #[serde(default)]
    hidden: Option<String>,
}

/// What must come of an input.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(try_from = "String")]
enum Outcome {
    /// So many rows, and the object is disposed of.
    Load(i64),
    /// No row, and the object stays where it is.
    Quarantine,
    /// Never read, with a reason in the ledger.
    Ignore,
    /// The configuration is refused.
    Refuse,
    /// The configuration is taken, with a warning.
    Warn,
    /// The configuration is taken in silence.
    Accept,
}

impl TryFrom<String> for Outcome {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "quarantine" => Ok(Self::Quarantine),
            "ignore" => Ok(Self::Ignore),
            "refuse" => Ok(Self::Refuse),
            "warn" => Ok(Self::Warn),
            "accept" => Ok(Self::Accept),
            other => {
                let rows = other.strip_prefix("load ").and_then(|rows| rows.parse().ok());
                rows.map(Self::Load).ok_or_else(|| format!("{other:?} is no outcome"))
            }
        }
    }
}

fn manifest() -> Manifest {
    toml::from_str(include_str!("corpus/manifest.toml")).unwrap_or_else(|error| panic!("manifest.toml: {error}"))
}

impl Manifest {
    /// Every room with the makers it may use.
    fn rooms(&self) -> [(&'static str, &[Case], &'static [Named]); 10] {
        [
            ("csv", &self.csv, csv::MAKERS),
            ("json", &self.json, json::MAKERS),
            ("typed", &self.typed, typed::MAKERS),
            ("compression", &self.compression, compression::MAKERS),
            ("bombs", &self.bombs, bombs::MAKERS),
            ("giants", &self.giants, bombs::GIANTS),
            ("parquet", &self.parquet, parquet::MAKERS),
            ("avro", &self.avro, avro::MAKERS),
            ("keys", &self.keys, keys::MAKERS),
            ("config", &self.config, config::MAKERS),
        ]
    }
}

#[test]
fn every_maker_has_its_case_and_every_case_its_maker() {
    let manifest = manifest();
    let (mut wrong, mut ids) = (Vec::new(), BTreeSet::new());
    for (room, cases, makers) in manifest.rooms() {
        let known: BTreeSet<&str> = makers.iter().map(|(name, _)| *name).collect();
        let used: BTreeSet<&str> = cases.iter().map(|case| case.maker.as_str()).collect();
        assert_eq!(known.len(), makers.len(), "{room}: two makers have one name");
        wrong.extend(known.difference(&used).map(|maker| format!("{room}: no case for the maker {maker}")));
        wrong.extend(used.difference(&known).map(|maker| format!("{room}: no maker {maker}")));
        let mut seen = BTreeMap::new();
        for case in cases {
            if !ids.insert(case.id.clone()) {
                wrong.push(format!("{room}: two cases {}", case.id));
            }
            if let Some(other) = seen.insert((&case.maker, &case.table, &case.options), &case.id) {
                wrong.push(format!("{room}: {other} and {} are the same input", case.id));
            }
            wrong.extend(incomplete(case, room).map(|what| format!("{room}: {} {what}", case.id)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What a case leaves open that its outcome must say.
fn incomplete(case: &Case, room: &str) -> Option<&'static str> {
    let of_config = matches!(case.outcome, Outcome::Refuse | Outcome::Warn | Outcome::Accept);
    let silent = matches!(case.outcome, Outcome::Load(_) | Outcome::Accept);
    match case.outcome {
        _ if of_config != (room == "config") => Some("has an outcome of another room"),
        _ if silent != case.reason.is_empty() => Some("must give a reason, and only where there is one"),
        Outcome::Load(rows)
            if case.records.as_ref().is_some_and(|records| i64::try_from(records.len()) != Ok(rows)) =>
        {
            Some("lists other records than it counts")
        }
        Outcome::Load(_) if case.table == "cells" && case.records.is_none() => Some("does not list its records"),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn csv_grouped_in_transactions() {
    Room { cases: manifest().csv, makers: csv::MAKERS, ..Room::default() }.run().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn csv_streamed_one_by_one() {
    let settings = &["workers.group_objects=1"];
    Room { cases: manifest().csv, makers: csv::MAKERS, settings, ..Room::default() }.run().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_lines_and_documents() {
    Room { cases: manifest().json, makers: json::MAKERS, most_mib: 192, ..Room::default() }.run().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cells_of_every_type() {
    Room { cases: manifest().typed, makers: typed::MAKERS, ..Room::default() }.run().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compressed_objects() {
    let settings = &["workers.group_objects=1"];
    Room { cases: manifest().compression, makers: compression::MAKERS, settings, ..Room::default() }.run().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bombs_in_bounded_memory() {
    // Four workers, each with a record of up to the cap of these cases and the buffers that doubled to hold it.
    let room = Room { cases: manifest().bombs, makers: bombs::MAKERS, most_mib: 80, ..Room::default() };
    room.run().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_lines_within_the_caps_that_hold_by_default() {
    // Memory follows the cap of a record, 16 MiB for each of three workers, not the object.
    let room = Room { cases: manifest().giants, makers: bombs::GIANTS, most_mib: 256, ..Room::default() };
    room.run().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parquet_files() {
    Room { cases: manifest().parquet, makers: parquet::MAKERS, ..Room::default() }.run().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn avro_files() {
    Room { cases: manifest().avro, makers: avro::MAKERS, ..Room::default() }.run().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_every_kind() {
    Room { cases: manifest().keys, makers: keys::MAKERS, ..Room::default() }.run().await;
}

#[test]
fn configurations() {
    config::run(&manifest().config);
}
