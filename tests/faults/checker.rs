//! The invariants, checked after every case. The program's own counts are compared, never believed.
//!
//! | id | holds |
//! |---|---|
//! | I1 | what the ledger calls loaded is in the table exactly as the oracle wrote it down, once |
//! | I2 | no row belongs to an object that is not loaded |
//! | I3 | no object left the bucket before its rows were committed |
//! | I4 | no message left the queue before all objects it tells of were in the ledger |
//! | I5 | a minute after the healing everything has reached its end ([`crate::lab`]) |
//! | I6 | an archived object has the bytes of the original, and the copy came before the deletion |
//! | I7 | memory is bounded; no session, descriptor or transaction is left over |
//! | I8 | the rows a program counted are rows the ledger has |
//! | I9 | no secret in logs, metrics or arguments |
//! | I10 | each fault struck exactly as often as the case says ([`crate::lab`]) |

use std::collections::{BTreeMap, HashSet};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use keyfall::demo::s3::{LogEntry, Operation};

use crate::keyfall::Keyfall;
use crate::lab::{BUCKET, Lab};
use crate::mailbox::{Demand, Unproven};
use crate::oracle::{Fate, ROW_SUM, Version, sha256};

/// Sessions and descriptors one program may hold when nothing is to do: its pools, its listener, its sockets to S3.
const SESSIONS_PER_PROGRAM: i64 = 16;
const DESCRIPTORS_PER_PROGRAM: usize = 96;

/// One entry of the ledger.
struct Entry {
    id: i64,
    etag: String,
    state: String,
    rows: Option<i64>,
    sha256: Option<Vec<u8>>,
    archived_to: Option<String>,
}

async fn ledger(lab: &Lab) -> BTreeMap<String, Vec<Entry>> {
    let mut entries: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
    let sql = "SELECT key, id, etag, state, rows_loaded, sha256, archived_to FROM keyfall.objects ORDER BY id";
    for row in lab.query(sql).await {
        entries.entry(row.get(0)).or_default().push(Entry {
            id: row.get(1),
            etag: row.get(2),
            state: row.get(3),
            rows: row.get(4),
            sha256: row.get(5),
            archived_to: row.get(6),
        });
    }
    entries
}

/// What is not at its end yet; none when all is quiet.
pub(crate) async fn open(lab: &Lab) -> Option<String> {
    let client = lab.client().await;
    let sql = "SELECT key, etag, state, disposal FROM keyfall.objects";
    // Right after a start the ledger may not be there; a server that is coming up may cut us off.
    let rows = client.query(sql, &[]).await.ok();
    let Some(rows) = rows else { return Some("the ledger cannot be read".to_owned()) };
    let mut known = BTreeMap::new();
    for row in rows {
        let (key, etag, state, disposal): (String, String, String, String) =
            (row.get(0), row.get(1), row.get(2), row.get(3));
        if matches!(state.as_str(), "pending" | "leased") || disposal == "pending" {
            return Some(format!("{key} is {state}, its disposal {disposal}"));
        }
        known.insert((key, etag), state);
    }
    for version in &lab.oracle.versions {
        let state = known.get(&(version.key.clone(), version.etag.clone())).map(String::as_str);
        let ended = match version.fate {
            Fate::Loaded => state == Some("loaded"),
            Fate::Quarantined => state == Some("quarantined"),
            Fate::Replaced => matches!(state, Some("loaded" | "skipped")),
            Fate::Unread => true,
        };
        if !ended {
            return Some(format!("{} ({}) is {state:?}, not {:?}", version.key, version.etag, version.fate));
        }
    }
    None
}

/// What can be asked only while the programs run: I7, I8, I9.
pub(crate) async fn live(lab: &Lab, programs: &[&mut Keyfall]) -> Vec<String> {
    let mut violations = Vec::new();
    let running: Vec<&Keyfall> =
        programs.iter().map(|program| &**program).filter(|program| program.is_running()).collect();
    for program in &running {
        let (peak, descriptors) = (program.peak_memory(), program.descriptors());
        if peak > lab.memory_limit {
            violations.push(format!("I7 {} had {peak} KiB resident, allowed are {}", program.name, lab.memory_limit));
        }
        if descriptors > DESCRIPTORS_PER_PROGRAM {
            violations.push(format!("I7 {} holds {descriptors} descriptors", program.name));
        }
        let metrics = program.http("/metrics").await.map(|(_, text)| text).unwrap_or_default();
        for secret in lab.secrets() {
            if metrics.contains(&secret) || program.command_line().contains(&secret) {
                violations.push(format!("I9 {} shows a secret in its metrics or arguments", program.name));
            }
        }
    }
    violations.extend(sessions(lab, running.len()).await);
    violations.extend(counters(lab, programs).await);
    violations
}

/// I7: transactions come and go with polls, so one that is there for three looks in a row is left over.
async fn sessions(lab: &Lab, running: usize) -> Option<String> {
    let running = i64::try_from(running).unwrap_or(i64::MAX);
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
                  AND backend_type = 'client backend' AND state LIKE 'idle in transaction%'
                  AND state_change < now() - interval '2 s'";
    let mut left = 0;
    for _ in 0..3 {
        left = lab.count(sql).await;
        if left == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    if left > 0 {
        return Some(format!("I7 {left} sessions idle in a transaction"));
    }
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let all = lab.count(sql).await;
    (all > running * SESSIONS_PER_PROGRAM).then(|| format!("I7 {all} sessions of {running} programs"))
}

/// I8: a program counts rows after the read-back, so it never counts rows that the ledger has not; a killed life takes
/// its count with it. Where nobody was killed, both agree exactly, as soon as the last read-back is over: an answer to
/// COMMIT that was lost is waited for long after the ledger has the rows.
async fn counters(lab: &Lab, programs: &[&mut Keyfall]) -> Option<String> {
    let begun = Instant::now();
    loop {
        let violation = counters_now(lab, programs).await?;
        if begun.elapsed() > Duration::from_secs(15) {
            return Some(violation);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn counters_now(lab: &Lab, programs: &[&mut Keyfall]) -> Option<String> {
    // Rows of what was replaced since were loaded as well.
    let sql = "SELECT coalesce(sum(rows_loaded), 0)::bigint FROM keyfall.objects
                WHERE state = 'loaded' OR state = 'superseded' AND loaded_at IS NOT NULL";
    let loaded = lab.count(sql).await;
    let mut counted = 0.0;
    for program in programs.iter().filter(|program| program.is_running()) {
        match program.metric("keyfall_rows_total", "outcome=\"loaded\"").await {
            Some(rows) => counted += rows,
            None => return Some(format!("I8 {} does not answer /metrics", program.name)),
        }
    }
    // A worker that ended between COMMIT and counting took its count with it, as a whole program would.
    let knows_all = |program: &Keyfall| {
        // Where the server was away for too long after a COMMIT, nobody could look, and the program says so.
        program.lives == 1 && program.is_running() && !program.log().contains("could not be read back")
    };
    let nobody_died = !lab.may_miss_counts && programs.iter().all(|program| knows_all(program));
    #[expect(clippy::cast_possible_truncation, reason = "a count of rows")]
    let counted = counted as i64;
    let fits = if nobody_died { counted == loaded } else { counted <= loaded };
    (!fits).then(|| format!("I8 the programs counted {counted} rows, the ledger {loaded}"))
}

/// What holds when everything has ended: I1, I2, I3, I4, I6, I9.
pub(crate) async fn settled(lab: &Lab, programs: &[&mut Keyfall]) -> Vec<String> {
    let mut violations = Vec::new();
    let ledger = ledger(lab).await;
    let sums = sums(lab).await;
    let log = lab.s3.log();
    let mut loaded_ids = HashSet::new();
    for version in &lab.oracle.versions {
        let entries = ledger.get(&version.key).map(Vec::as_slice).unwrap_or_default();
        let entries: Vec<&Entry> = entries.iter().filter(|entry| entry.etag == version.etag).collect();
        match (version.fate, entries.as_slice()) {
            (Fate::Loaded, [entry]) => {
                loaded_ids.insert(entry.id);
                violations.extend(loaded(version, entry, sums.get(&entry.id)));
                violations.extend(disposed(lab, version, entry, &log));
            }
            (Fate::Quarantined, [entry]) if entry.state == "quarantined" => {
                if !version.is_displaced && lab.s3.etag(BUCKET, &version.key).as_ref() != Some(&version.etag) {
                    violations.push(format!("I3 {} was quarantined and is gone", version.key));
                }
            }
            (Fate::Replaced, [entry]) if matches!(entry.state.as_str(), "loaded" | "skipped") => {}
            (Fate::Unread, [] | [_]) if entries.iter().all(|entry| entry.state != "loaded") => {}
            (fate, entries) => violations.push(format!(
                "I1 {} must be {fate:?} once, the ledger has {:?}",
                version.key,
                entries.iter().map(|entry| entry.state.as_str()).collect::<Vec<_>>()
            )),
        }
    }
    for (id, (rows, ..)) in &sums {
        if !loaded_ids.contains(id) {
            violations.push(format!("I2 {rows} rows of object {id}, which is not loaded"));
        }
    }
    let unproven = lab.unproven.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for key in unproven {
        // The server could not be asked at that moment; the ledger never takes `loaded` back.
        let entries = ledger.get(&key).map(Vec::as_slice).unwrap_or_default();
        if !entries.iter().any(|entry| entry.state == "loaded") {
            violations.push(format!("I3 {key} was deleted and the ledger never called it loaded"));
        }
    }
    violations.extend(acknowledged(lab, &ledger));
    for program in programs {
        violations.extend(told(lab, program));
    }
    violations
}

/// I4. Where the server could not be asked at the deletion it is asked now: an entry never leaves the ledger.
fn acknowledged(lab: &Lab, ledger: &BTreeMap<String, Vec<Entry>>) -> Vec<String> {
    let is_known =
        |(key, etag): &Demand| ledger.get(key).is_some_and(|entries| entries.iter().any(|entry| entry.etag == *etag));
    let unproven = lab.mail.unproven().into_iter();
    let early = unproven.filter(|message| message.is_certain || !message.demands.iter().all(is_known));
    let told = |message: Unproven| {
        format!("I4 message {} left the queue before all of {:?} were recorded", message.message, message.demands)
    };
    early.map(told).collect()
}

/// Rows, different record numbers and the sum, by object id.
async fn sums(lab: &Lab) -> BTreeMap<i64, (i64, i64, String)> {
    let sql = format!("SELECT _object_id, count(*), count(DISTINCT _record_no), {ROW_SUM}::text FROM items GROUP BY 1");
    let rows = lab.query(&sql).await;
    rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2), row.get(3)))).collect()
}

/// I1 for one version.
fn loaded(version: &Version, entry: &Entry, found: Option<&(i64, i64, String)>) -> Option<String> {
    let nothing = (0, 0, "0".to_owned());
    let (rows, different, sum) = found.unwrap_or(&nothing);
    let wanted = i64::try_from(version.rows).unwrap_or(i64::MAX);
    let is_exact = *rows == wanted && *different == wanted && *sum == version.sum.to_string();
    let is_known = entry.state == "loaded" && entry.rows == Some(wanted);
    let is_proven = entry.sha256.as_ref() == Some(&version.sha256);
    (!is_exact || !is_known || !is_proven).then(|| {
        format!(
            "I1 {}: {wanted} rows expected; the table has {rows} ({different} different, sum {}), the ledger says {} \
             with {:?} rows, its SHA-256 is {}",
            version.key,
            if *sum == version.sum.to_string() { "right" } else { "wrong" },
            entry.state,
            entry.rows,
            if is_proven { "right" } else { "wrong" },
        )
    })
}

/// I3 and I6 for one loaded version.
fn disposed(lab: &Lab, version: &Version, entry: &Entry, log: &[LogEntry]) -> Option<String> {
    let lies_there = lab.s3.etag(BUCKET, &version.key).as_ref() == Some(&version.etag);
    let archived = entry.archived_to.as_deref().and_then(|uri| uri.strip_prefix(&format!("s3://{BUCKET}/")));
    if let Some(archived) = archived {
        let bytes = lab.s3.get(BUCKET, archived).unwrap_or_default();
        if sha256(&bytes) != version.sha256 {
            return Some(format!("I6 {archived} has not the bytes of {}", version.key));
        }
        let first = |ops: [Operation; 2], key: &str| {
            log.iter().find(|entry| ops.contains(&entry.op) && entry.key == key).map(|entry| entry.seq)
        };
        let copied = first([Operation::CopyObject, Operation::CompleteUpload], archived);
        let deleted = first([Operation::DeleteObjects, Operation::DeleteObject], &version.key);
        let versions = lab.oracle.versions.iter().filter(|other| other.key == version.key).count();
        // Deletions of an earlier version of the key come before this one's copy.
        if versions == 1 && deleted.is_some() && copied.is_none_or(|copied| Some(copied) > deleted) {
            return Some(format!("I6 {} was deleted before it was copied", version.key));
        }
    }
    if version.is_displaced || lies_there {
        return None;
    }
    let was_deleted = log.iter().any(|request| {
        matches!(request.op, Operation::DeleteObjects | Operation::DeleteObject) && request.key == version.key
    });
    (entry.state != "loaded" || !was_deleted).then(|| format!("I3 {} is gone and nobody deleted it", version.key))
}

/// I9, and that nothing panicked unasked.
fn told(lab: &Lab, program: &Keyfall) -> Vec<String> {
    let log = program.log();
    let mut violations = Vec::new();
    if lab.secrets().iter().any(|secret| log.contains(secret)) {
        violations.push(format!("I9 {} logs a secret", program.name));
    }
    if !lab.may_panic && log.contains("panicked") {
        violations.push(format!("{} panicked", program.name));
    }
    violations
}
