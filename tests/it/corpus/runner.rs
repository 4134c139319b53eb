//! Loads all cases of a room in one run of the built program and holds each against the manifest.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::Value;

use crate::support::{BUCKET, Entry, Lab, Ran};

use super::{Case, Maker, Named, Outcome};

/// Stands in many bad cells: no message may repeat it.
pub(super) const SECRET: &str = "S3CRET";

/// Longest line of the log: a key of 1024 bytes, each written as an escape, and what stands around it.
const LONGEST_LINE: usize = 16 * 1024;

/// Longest key of S3, in bytes.
const LONGEST_KEY: usize = 1024;

/// Longest text in the ledger for one object.
const LONGEST_DETAIL: usize = 1000;

const TABLES: &str = "
    CREATE TABLE staff (_object_id bigint, id int PRIMARY KEY CHECK (id <> 666), name text NOT NULL,
                        amount numeric(5,2), born date);
    CREATE TABLE cells (_object_id bigint, _record_no bigint, a text, b text);
    CREATE TABLE long (_object_id bigint, a text);
    CREATE TYPE mood AS ENUM ('sad', 'very happy');
    CREATE DOMAIN positive AS integer CHECK (VALUE > 0);
    CREATE DOMAIN label AS varchar(3) NOT NULL;";

/// Cases that are loaded together, and the bounds of that.
pub(super) struct Room {
    pub(super) cases: Vec<Case>,
    pub(super) makers: &'static [Named],
    pub(super) settings: &'static [&'static str],
    /// Peak memory of the program, in MiB.
    pub(super) most_mib: u64,
    /// Time of one run.
    pub(super) within: Duration,
}

impl Default for Room {
    fn default() -> Self {
        Self { cases: Vec::new(), makers: &[], settings: &[], most_mib: 96, within: Duration::from_secs(20) }
    }
}

/// A feed for all cases of one table and the same options.
struct Group {
    name: String,
    table: String,
    options: Vec<String>,
}

/// One input in the bucket.
struct Placed {
    case: Case,
    key: String,
    table: String,
    body: Vec<u8>,
}

impl Room {
    /// Uploads, runs the program twice, and looks at everything that is left.
    pub(super) async fn run(self) {
        let lab = Lab::new().await;
        lab.execute(TABLES).await;
        let (groups, placed) = self.place();
        for group in groups.iter().filter(|group| !has_table(&group.table)) {
            let Group { name, table: kind, .. } = group;
            lab.execute(&format!("CREATE TABLE {name} (_object_id bigint, id int, culprit {kind})")).await;
        }
        let good = neighbours(&groups);
        let bad = placed.iter().map(|placed| (&placed.key, &placed.body));
        for (key, body) in bad.chain(good.iter().map(|(key, body)| (key, body))) {
            assert!(lab.s3.get(BUCKET, key).is_none(), "two cases have the key {key:?}");
            lab.s3.put(BUCKET, key, body.clone());
        }
        let feeds: String = groups.iter().map(Group::text).collect();
        let mut wrong = Vec::new();
        for pass in 1..=2 {
            let ran = lab.run_once(&feeds, self.settings).await;
            self.check_run(&ran, &placed, &mut wrong);
            if pass == 1 {
                check_log(&ran.log, &placed, &mut wrong);
            }
            // The second pass must find everything as the first one left it.
            for placed in &placed {
                check(&lab, placed, &mut wrong).await;
            }
            check_the_rest(&lab, &placed, &good, &mut wrong).await;
            assert!(wrong.is_empty(), "pass {pass}, {} wrong:\n{}", wrong.len(), wrong.join("\n"));
        }
    }

    /// The feeds, and every input with its place.
    fn place(&self) -> (Vec<Group>, Vec<Placed>) {
        let makers: BTreeMap<&str, Maker> = self.makers.iter().copied().collect();
        let (mut groups, mut placed): (Vec<Group>, _) = (Vec::new(), Vec::new());
        for case in &self.cases {
            let known = groups.iter().position(|group| group.table == case.table && group.options == case.options);
            let number = known.unwrap_or(groups.len());
            if known.is_none() {
                let (table, options) = (case.table.clone(), case.options.clone());
                groups.push(Group { name: format!("f{number}"), table, options });
            }
            let (key, body) = match makers[case.maker.as_str()] {
                Maker::Body(make) => (format!("f{number}/{}", case.id), make()),
                Maker::Object(make) => make(&format!("f{number}/")),
                Maker::Config(_) => panic!("{} makes no object", case.maker),
            };
            placed.push(Placed { case: case.clone(), key, table: groups[number].target(), body });
        }
        (groups, placed)
    }

    fn check_run(&self, ran: &Ran, placed: &[Placed], wrong: &mut Vec<String>) {
        let quarantined = placed.iter().any(|placed| placed.case.outcome == Outcome::Quarantine);
        let expected = if quarantined { 3 } else { 0 };
        if ran.code != Some(expected) {
            wrong.push(format!("the exit code is {:?} and not {expected}:\n{}", ran.code, ran.log));
        }
        if ran.took > self.within {
            wrong.push(format!("the run took {:?}, more than {:?}", ran.took, self.within));
        }
        let peak = ran.peak >> 20;
        if peak == 0 || peak > self.most_mib {
            wrong.push(format!("peak memory was {peak} MiB, more than {}", self.most_mib));
        }
    }
}

fn has_table(table: &str) -> bool {
    matches!(table, "staff" | "cells" | "long")
}

impl Group {
    fn target(&self) -> String {
        if has_table(&self.table) { self.table.clone() } else { self.name.clone() }
    }

    fn has(&self, option: &str) -> bool {
        self.options.iter().any(|line| line.starts_with(option))
    }

    fn text(&self) -> String {
        let Self { name, options, .. } = self;
        let disposal = if self.has("disposal") { "" } else { "disposal.action = \"delete\"\n" };
        let target = self.target();
        let options = options.join("\n");
        format!("[feeds.{name}]\nbucket = \"drop\"\nprefix = \"{name}/\"\ntable = \"{target}\"\n{disposal}{options}\n")
    }
}

/// Two good objects for each feed of a known dialect, one before and one after all others in order.
fn neighbours(groups: &[Group]) -> Vec<(String, Vec<u8>)> {
    let mut good = Vec::new();
    for (number, group) in groups.iter().enumerate() {
        let others = ["pattern", "include", "csv.delimiter", "csv.encoding", "required", "json.records"];
        if others.iter().any(|option| group.has(option)) {
            continue;
        }
        for (nth, place) in ["!", "~"].iter().enumerate() {
            let id = 100_000 + number * 2 + nth;
            let key = format!("f{number}/{place}good");
            if group.has("format = \"parquet\"") {
                good.push((key, super::parquet::good(&group.table, i64::try_from(id).expect("a small number"))));
                continue;
            }
            if group.has("format = \"avro\"") {
                good.push((key, super::avro::good(&group.table, i64::try_from(id).expect("a small number"))));
                continue;
            }
            let body = match group.table.as_str() {
                "cells" | "long" if group.has("format = \"json") => format!("{{\"a\":\"{id}\"}}\n"),
                _ if group.has("format = \"json") && group.has("culprit") => format!("{{\"id\":{id}}}\n"),
                _ if group.has("format = \"json") && group.has("columns") => "{\"a\":null}\n".to_owned(),
                _ if group.has("format = \"json") => format!("{{\"id\":{id},\"culprit\":null}}\n"),
                "staff" => format!("id,name\n{id},good\n"),
                "cells" if group.has("csv.header = false") => format!("{id},good\n"),
                "cells" => format!("a,b\n{id},good\n"),
                "long" => format!("a\n{id}\n"),
                "label" => format!("id,culprit\n{id},x\n"),
                _ => format!("id,culprit\n{id},\n"),
            };
            good.push((key, body.into_bytes()));
        }
    }
    good
}

/// Holds one object against its case.
async fn check(lab: &Lab, placed: &Placed, wrong: &mut Vec<String>) {
    let Placed { case, key, table, .. } = placed;
    let entry = lab.entry(key).await;
    let rows =
        format!("SELECT count(*) FROM {table} WHERE _object_id = (SELECT id FROM keyfall.objects WHERE key = $1)");
    let rows: i64 = lab.sql.query_one(&rows, &[key]).await.expect("a count").get(0);
    let is_there = lab.s3.get(BUCKET, key).is_some();
    let mut faults = Vec::new();
    let (state, expected_rows, stays) = match case.outcome {
        Outcome::Load(rows) => ("loaded", rows, false),
        Outcome::Quarantine => ("quarantined", 0, true),
        _ => ("skipped", 0, true),
    };
    if entry.state != state || rows != expected_rows || entry.rows.unwrap_or(0) != expected_rows {
        faults.push(format!("should be {state} with {expected_rows} rows, the table has {rows}"));
    }
    if is_there != stays {
        faults.push(format!("should {} in the bucket", if stays { "stay" } else { "not stay" }));
    }
    faults.extend(reason(lab, case, key, &entry).await);
    if case.options.iter().any(|line| line.contains("archive")) {
        faults.extend(archived(lab, placed).await);
    }
    let found = rejections(lab, key).await;
    if found != case.rejected {
        faults.push(format!("rejects {found:#?} instead of {:#?}", case.rejected));
    }
    if found.iter().any(|rejection| hidden(case).any(|value| rejection.contains(value))) {
        faults.push("repeats the value of a cell".to_owned());
    }
    if let Some(expected) = &case.records {
        let leaves_out = case.options.iter().any(|line| line.contains("\"filter\""));
        let has_gaps = leaves_out || !case.rejected.is_empty();
        let found = if has_gaps { numbered(lab, key).await } else { records(lab, key).await };
        if found != *expected {
            faults.push(format!("has the records {found:?} instead of {expected:?}"));
        }
    }
    wrong.extend(faults.into_iter().map(|fault| format!("{} {}: {fault}; {entry:?}", case.id, case.maker)));
}

/// What is wrong with an object's copy in the archive: its name fits into S3 and is the whole key where that does.
async fn archived(lab: &Lab, placed: &Placed) -> Option<String> {
    let sql = "SELECT coalesce(archived_to, '') FROM keyfall.objects WHERE key = $1";
    let uri: String = lab.sql.query_one(sql, &[&placed.key]).await.expect(sql).get(0);
    let Some(name) = uri.strip_prefix(&format!("s3://{BUCKET}/")) else {
        return Some(format!("should be archived, not at {uri:?}"));
    };
    let whole = format!("archive/{}", placed.key);
    let fits = if whole.len() <= LONGEST_KEY { name == whole } else { name.len() <= LONGEST_KEY };
    let is_it = lab.s3.get(BUCKET, name).is_some_and(|body| body == placed.body);
    (!fits || !name.starts_with("archive/f") || !is_it).then(|| format!("is archived wrongly, at {name:?}"))
}

/// What is wrong with what the operator is told.
async fn reason(lab: &Lab, case: &Case, key: &str, entry: &Entry) -> Option<String> {
    let Some((code, parts)) = case.reason.split_first() else {
        return (!entry.code.is_empty()).then(|| "should have no error".to_owned());
    };
    if case.outcome == Outcome::Ignore {
        let sql = "SELECT coalesce(reason, '') FROM keyfall.objects WHERE key = $1";
        let found: String = lab.sql.query_one(sql, &[&key]).await.expect(sql).get(0);
        return (found != *code).then(|| format!("is left out as {found:?} instead of {code:?}"));
    }
    if entry.code != *code {
        return Some(format!("should be blamed as {code}"));
    }
    if let Some(part) = parts.iter().find(|part| !entry.detail.contains(*part)) {
        return Some(format!("should say {part:?}"));
    }
    if hidden(case).any(|value| entry.detail.contains(value)) {
        return Some("repeats the value of a cell".to_owned());
    }
    if entry.detail.len() > LONGEST_DETAIL || entry.detail.contains(char::is_control) {
        return Some("is told endlessly or unprintably".to_owned());
    }
    entry.advice.is_empty().then(|| "comes without advice".to_owned())
}

fn hidden(case: &Case) -> impl Iterator<Item = &str> {
    std::iter::once(SECRET).chain(case.hidden.as_deref())
}

/// The records of an object that were kept out, as the ledger tells them.
async fn rejections(lab: &Lab, key: &str) -> Vec<String> {
    let sql = "SELECT concat_ws(' ', record_no, line, byte_offset, coalesce(column_name, '-'), code) || ': ' || reason
                 FROM keyfall.rejections WHERE object_id = (SELECT id FROM keyfall.objects WHERE key = $1)
                ORDER BY record_no";
    lab.sql.query(sql, &[&key]).await.expect(sql).iter().map(|row| row.get(0)).collect()
}

/// The records of an object in `cells`, each behind its number.
async fn numbered(lab: &Lab, key: &str) -> Vec<String> {
    let sql = "SELECT _record_no || ' ' || coalesce(a, '∅') || '|' || coalesce(b, '∅') FROM cells
                WHERE _object_id = (SELECT id FROM keyfall.objects WHERE key = $1) ORDER BY _record_no";
    let rows = lab.sql.query(sql, &[&key]).await.expect(sql);
    rows.iter().map(|row| row.get(0)).collect()
}

/// The records of an object in `cells`; they must be numbered from 1 without gaps.
async fn records(lab: &Lab, key: &str) -> Vec<String> {
    let sql = "SELECT _record_no, coalesce(a, '∅') || '|' || coalesce(b, '∅') FROM cells
                WHERE _object_id = (SELECT id FROM keyfall.objects WHERE key = $1) ORDER BY 1";
    let rows = lab.sql.query(sql, &[&key]).await.expect(sql);
    let text = |(n, row): (i64, &tokio_postgres::Row)| {
        let number: i64 = row.get(0);
        if number == n { row.get(1) } else { format!("{number} instead of {n}") }
    };
    (1..).zip(&rows).map(text).collect()
}

/// The log: one line of JSON for each event, one error for each bad object, and nothing of what must not be in it.
fn check_log(log: &str, placed: &[Placed], wrong: &mut Vec<String>) {
    let mut told: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for line in log.lines() {
        let is_marked = |c: char| matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if line.chars().any(|c| c.is_control() || is_marked(c)) || line.len() > LONGEST_LINE {
            wrong.push(format!("a line of the log is unprintable or endless: {line:?}"));
        }
        match serde_json::from_str::<Value>(line) {
            Ok(event) => told.entry(text(&event, "object.key").to_owned()).or_default().push(event),
            Err(error) => wrong.push(format!("a line of the log is no JSON: {error}: {line:?}")),
        }
    }
    for forbidden in ["panicked", SECRET] {
        if log.contains(forbidden) {
            wrong.push(format!("the log says {forbidden:?}"));
        }
    }
    for Placed { case, key, .. } in placed {
        let uri = format!("s3://{BUCKET}/{}", key.escape_debug());
        let events = told.get(&uri).map(Vec::as_slice).unwrap_or_default();
        let errors: Vec<&Value> = events.iter().filter(|event| text(event, "level") == "ERROR").collect();
        let loaded = events.iter().filter(|event| text(event, "message") == "loaded").count();
        let expected = match case.outcome {
            Outcome::Load(_) => (0, 1),
            Outcome::Quarantine => (1, 0),
            _ => (0, 0),
        };
        if (errors.len(), loaded) != expected {
            wrong.push(format!("{} {}: {expected:?} errors and loads in the log, not {events:?}", case.id, case.maker));
        }
        for error in errors {
            let said = text(error, "error");
            let is_whole = case.reason.iter().skip(1).all(|part| said.contains(part));
            if case.reason.first().is_none_or(|code| text(error, "error.code") != code)
                || !is_whole
                || hidden(case).any(|value| said.contains(value))
            {
                wrong.push(format!("{} {}: the log says {error}", case.id, case.maker));
            }
        }
    }
}

fn text<'a>(event: &'a Value, field: &str) -> &'a str {
    event.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// Nothing but what the cases account for: rows, objects, pauses.
async fn check_the_rest(lab: &Lab, placed: &[Placed], good: &[(String, Vec<u8>)], wrong: &mut Vec<String>) {
    for (key, _) in good {
        let entry = lab.entry(key).await;
        if (entry.state.as_str(), entry.rows) != ("loaded", Some(1)) || lab.s3.get(BUCKET, key).is_some() {
            wrong.push(format!("the good {key} should be loaded and gone: {entry:?}"));
        }
    }
    let mut expected: BTreeMap<&str, i64> = BTreeMap::new();
    for placed in placed {
        let rows = if let Outcome::Load(rows) = placed.case.outcome { rows } else { 0 };
        *expected.entry(placed.table.as_str()).or_default() += rows;
    }
    let mut sql = String::new();
    for table in expected.keys() {
        let or = if sql.is_empty() { "" } else { " UNION ALL " };
        let bad = "SELECT id FROM keyfall.objects WHERE key !~ '^f[0-9]+/[!~]good$'";
        write!(sql, "{or}SELECT '{table} ' || count(*) FROM {table} WHERE _object_id IS NULL OR _object_id IN ({bad})")
            .expect("memory takes it");
    }
    let mut found = lab.texts(&sql).await;
    let mut wanted: Vec<String> = expected.iter().map(|(table, rows)| format!("{table} {rows}")).collect();
    found.sort_unstable();
    wanted.sort_unstable();
    if found != wanted {
        wrong.push(format!("the tables have {found:?} rows instead of {wanted:?}"));
    }
    let mut keys: Vec<&String> =
        placed.iter().map(|placed| &placed.key).chain(good.iter().map(|(key, _)| key)).collect();
    // Byte by byte, as S3 lists them: the frontier and the polls depend on it.
    keys.sort_unstable();
    let listed = lab.texts("SELECT key FROM keyfall.objects ORDER BY key").await;
    if !listed.iter().eq(keys) {
        wrong.push(format!("the ledger has other objects, or in another order: {listed:?}"));
    }
    if lab.count("SELECT count(*) FROM keyfall.feeds WHERE paused_by IS NOT NULL").await != 0 {
        wrong.push("a feed is paused".to_owned());
    }
}
