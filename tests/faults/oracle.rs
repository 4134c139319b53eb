//! What must be in the database in the end, written down before the program starts.
//!
//! Every row of every object is different from all others, some cells are blank, quoted or hold line breaks. A version
//! of an object is known by its key and entity tag; the sum over its rows does not depend on their order.

use std::collections::HashMap;

use aws_lc_rs::digest::{SHA256, digest};
use fastrand::Rng;

/// DDL of the table that all cases load into.
pub(crate) const TABLE: &str = "CREATE TABLE items (object int NOT NULL, line int NOT NULL, note text,
    amount numeric(12, 2), _object_id bigint NOT NULL, _record_no bigint NOT NULL)";

/// One row as text that both sides can write; [`row_text`] is the other side.
pub(crate) const ROW_SUM: &str = "sum(('x' || left(encode(sha256(convert_to(format('%s|%s|%s|%s', object, line,
    coalesce(note, '∅'), coalesce(amount::text, '∅')), 'UTF8')), 'hex'), 12))::bit(48)::bigint)";

/// What becomes of a version in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Its rows are in the table, once.
    Loaded,
    /// None of its rows is there; the ledger says `quarantined`.
    Quarantined,
    /// Loaded, or skipped because a newer one was: its rows have made place for those of another object.
    Replaced,
    /// Not to be loaded, or loaded and replaced since; none of its rows is there. The ledger may never have seen it.
    Unread,
}

/// One version of one object.
#[derive(Debug, Clone)]
pub(crate) struct Version {
    pub(crate) key: String,
    pub(crate) etag: String,
    pub(crate) size: u64,
    pub(crate) fate: Fate,
    pub(crate) rows: u64,
    pub(crate) sum: i128,
    pub(crate) sha256: Vec<u8>,
    /// The test itself took it out of the bucket, or put another version over it.
    pub(crate) is_displaced: bool,
}

/// Everything a trial put into the bucket.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    pub(crate) versions: Vec<Version>,
    /// Place of the newest version of each key.
    newest: HashMap<String, usize>,
}

impl Oracle {
    pub(crate) fn rows(&self) -> u64 {
        self.versions.iter().filter(|version| version.fate == Fate::Loaded).map(|version| version.rows).sum()
    }

    /// Notes what was put, over whatever lay there.
    pub(crate) fn add(&mut self, version: Version) {
        self.displace(&version.key);
        self.newest.insert(version.key.clone(), self.versions.len());
        self.versions.push(version);
    }

    /// Notes that whatever lay under this key is there no longer.
    pub(crate) fn displace(&mut self, key: &str) {
        if let Some(version) = self.newest.get(key).and_then(|place| self.versions.get_mut(*place)) {
            version.is_displaced = true;
        }
    }

    /// Notes that no version put under this key so far may have a row in the end.
    pub(crate) fn outdate(&mut self, key: &str) {
        for version in self.versions.iter_mut().filter(|version| version.key == key) {
            version.fate = Fate::Unread;
        }
    }

    /// The newest version of a key.
    pub(crate) fn newest(&self, key: &str) -> &Version {
        let version = self.newest.get(key).and_then(|place| self.versions.get(*place));
        version.unwrap_or_else(|| panic!("nothing was put under {key}"))
    }

    /// Changes what is expected of the newest version of a key.
    pub(crate) fn expect(&mut self, key: &str, fate: Fate) {
        let version = self.newest.get(key).and_then(|place| self.versions.get_mut(*place));
        version.unwrap_or_else(|| panic!("nothing was put under {key}")).fate = fate;
    }
}

/// A body with the figures that prove it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Body {
    pub(crate) text: String,
    pub(crate) rows: u64,
    pub(crate) sum: i128,
}

impl Body {
    /// `rows` records of object `number`.
    pub(crate) fn new(number: usize, rows: u64, random: &mut Rng) -> Self {
        let (mut text, mut sum) = (String::new(), 0);
        for line in 0..rows {
            let note = note(number, line, random);
            let amount = (random.u8(..) > 20).then(|| format!("{}.{:02}", random.u32(..1_000_000), random.u8(..100)));
            let cell = note.as_deref().unwrap_or_default();
            let quoted = cell.contains([',', '"', '\n']);
            let cell = if quoted { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.to_owned() };
            text += &format!("{number},{line},{cell},{}\n", amount.as_deref().unwrap_or_default());
            sum += row_hash(number, line, note.as_deref(), amount.as_deref());
        }
        Self { text, rows, sum }
    }
}

fn note(number: usize, line: u64, random: &mut Rng) -> Option<String> {
    match random.u8(..16) {
        0 => None,
        1 => Some(format!("said \"{number}\", twice")),
        2 => Some(format!("first {line}\nsecond")),
        3 => Some(format!("größe {line} ∑")),
        _ => Some(format!("n{:x}", random.u64(..))),
    }
}

/// Hash of one row, as the oracle adds it up.
pub(crate) fn row_hash(number: usize, line: u64, note: Option<&str>, amount: Option<&str>) -> i128 {
    let text = format!("{number}|{line}|{}|{}", note.unwrap_or("∅"), amount.unwrap_or("∅"));
    let hash = digest(&SHA256, text.as_bytes());
    hash.as_ref().iter().take(6).fold(0, |sum, byte| sum << 8 | i128::from(*byte))
}

/// SHA-256 of a body.
pub(crate) fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest(&SHA256, bytes).as_ref().to_vec()
}
