//! Temporary tables for rows that do not go straight into their table, and the statements that bring them there.
//!
//! A stage takes what the table's types take, without lengths and without constraints: whatever is refused is refused
//! when the rows go into the table, where it can be told which. It is dropped with the transaction. Everything is
//! named in full, because these statements run with the role's search path: the table's triggers may need it.

use crate::config::feed::Mode;

use super::super::catalog::{Shape, StoredType};
use super::super::encode::ColumnType;
use super::super::error::StoreError;
use super::super::identifier::{quoted, quoted_table};
use super::{CopyFormat, CopyTarget};

/// The record's number: the last one of a key wins.
const RECORD: &str = "_keyfall_record";
/// In ranked stages: the number of the key, and the place of the record among those with the same key.
const TURN: &str = "_keyfall_turn";
const PLACE: &str = "_keyfall_place";

/// The stage of one route.
#[derive(Debug, Clone, Copy)]
pub struct Stage<'a> {
    /// The route's place among the feed's.
    pub route: usize,
    /// The table.
    pub shape: &'a Shape,
    /// What was copied.
    pub target: &'a CopyTarget,
    /// How rows meet the table.
    pub mode: &'a Mode,
}

impl Stage<'_> {
    /// Columns of the key; none where rows are added.
    pub(super) fn key(&self) -> Option<&[String]> {
        match self.mode {
            Mode::Upsert { key, .. } => Some(key),
            Mode::Append | Mode::Replace => None,
        }
    }

    fn newer_by(&self) -> Option<&str> {
        match self.mode {
            Mode::Upsert { newer_by, .. } => newer_by.as_deref(),
            Mode::Append | Mode::Replace => None,
        }
    }

    /// Whether two records without a value in a key column cannot be told to have the same key.
    pub(super) fn parts_nulls(&self) -> bool {
        let Some(key) = self.key() else { return false };
        let is_nullable = |name: &String| self.shape.column(name).is_none_or(|column| column.nullable);
        key.iter().any(is_nullable) && !self.shape.stored.key(key).is_some_and(|index| index.matches_nulls)
    }

    /// Whether cells are converted on the way into the table.
    pub(super) fn converts(&self) -> bool {
        self.target.format == CopyFormat::Text
    }

    /// Whether records with the same key take each other's place.
    pub fn is_upsert(&self) -> bool {
        self.key().is_some()
    }

    /// Whether looking at keys may fail for what is in a cell.
    pub fn may_refuse_keys(&self) -> bool {
        let casts = |name: &str| self.value(name) != plain(name) || self.compared(name) != plain(name);
        self.key().is_some_and(|key| key.iter().any(|name| casts(name))) || self.newer_by().is_some_and(casts)
    }

    /// Whether a row that is there already is left as it is, because it consists of its key.
    pub(super) fn is_key_alone(&self) -> bool {
        self.key().is_some_and(|key| self.target.columns.iter().all(|column| key.contains(column)))
    }

    fn table(&self) -> String {
        format!("pg_temp._keyfall_{}", self.route)
    }

    /// The stage once more, each record with the number of its key and its place under it.
    fn ranked(&self) -> String {
        format!("pg_temp._keyfall_ranked_{}", self.route)
    }

    fn stored(&self, name: &str) -> StoredType {
        self.shape.stored.types.get(name).cloned().unwrap_or_default()
    }

    /// A staged cell as the table's base type.
    fn value(&self, name: &str) -> String {
        if self.converts() { format!("{}::{}", plain(name), self.stored(name).base) } else { plain(name) }
    }

    /// A staged cell as the table will compare it: rounded where its type rounds. Types that would be cut to their
    /// length by a cast are left alone; what is too long for them is refused in any case.
    fn compared(&self, name: &str) -> String {
        let rounds = |kind: &ColumnType| {
            use ColumnType::{Numeric, Time, Timestamp, Timestamptz};
            matches!(kind, Numeric | Time | Timestamp | Timestamptz)
        };
        let is_rounded = self.shape.column(name).is_some_and(|column| rounds(&column.kind));
        match self.stored(name).exact {
            Some(exact) if is_rounded => format!("({})::{exact}", self.value(name)),
            _ => self.value(name),
        }
    }

    fn keys(&self) -> String {
        let key = self.key().unwrap_or_default();
        key.iter().map(|name| self.compared(name)).collect::<Vec<_>>().join(", ")
    }

    /// Of records with the same key, the one that counts first.
    fn best_first(&self) -> String {
        match self.newer_by() {
            Some(name) => format!("{} DESC NULLS LAST, s.{RECORD} DESC", self.compared(name)),
            None => format!("s.{RECORD} DESC"),
        }
    }

    fn key_is(&self, condition: &str, joint: &str) -> String {
        let key = self.key().unwrap_or_default();
        key.iter().map(|name| format!("{} {condition}", plain(name))).collect::<Vec<_>>().join(joint)
    }

    /// Refuses a mapping that leaves out what rows are matched by.
    pub(super) fn refuse_unmatched(&self) -> Result<(), StoreError> {
        let wanted = self.key().unwrap_or_default().iter().map(String::as_str).chain(self.newer_by());
        for name in wanted {
            if !self.target.columns.iter().any(|column| column == name) {
                return Err(StoreError::Target {
                    detail: format!("rows of {} are matched by column {name:?}, which nothing fills", self.shape.table),
                    advice: "map a field to the column, or correct `key` and `newer_by`; loading goes on by itself",
                });
            }
        }
        Ok(())
    }

    pub(super) fn create_sql(&self) -> String {
        let column = |name: &String| {
            let StoredType { base, collation, .. } = self.stored(name);
            let kind = if self.converts() { "pg_catalog.text".to_owned() } else { base };
            match collation {
                Some(collation) => format!("{} {kind} COLLATE {collation}", quoted(name)),
                None => format!("{} {kind}", quoted(name)),
            }
        };
        let mut columns: Vec<String> = self.target.columns.iter().map(column).collect();
        for name in self.target.staging.columns() {
            let kind = if *name == "_keyfall_raw" { "pg_catalog.bytea" } else { "pg_catalog.int8" };
            columns.push(format!("{name} {kind}"));
        }
        format!("CREATE TEMP TABLE {} ({}) ON COMMIT DROP", self.table(), columns.join(", "))
    }

    pub(super) fn copy_sql(&self) -> String {
        let own = self.target.columns.iter().map(|name| quoted(name));
        let columns: Vec<String> = own.chain(self.target.staging.columns().iter().map(|name| quoted(name))).collect();
        format!("COPY {} ({}) FROM STDIN WITH (FORMAT {})", self.table(), columns.join(", "), self.target.format.word())
    }

    fn values(&self) -> String {
        self.target.columns.iter().map(|name| self.value(name)).collect::<Vec<_>>().join(", ")
    }

    /// Identity columns keep the object's values, as they do with COPY.
    fn insert(&self) -> String {
        let columns: Vec<String> = self.target.columns.iter().map(|name| quoted(name)).collect();
        let table = quoted_table(&self.shape.table);
        format!("INSERT INTO {table} AS _keyfall ({}) OVERRIDING SYSTEM VALUE", columns.join(", "))
    }

    /// What becomes of the row that is there already.
    fn on_conflict(&self) -> String {
        let Some(key) = self.key() else { return String::new() };
        let conflict = key.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
        if self.is_key_alone() {
            return format!("ON CONFLICT ({conflict}) DO NOTHING");
        }
        let others = self.target.columns.iter().filter(|column| !key.contains(column));
        let set: Vec<String> = others.map(|name| format!("{0} = EXCLUDED.{0}", quoted(name))).collect();
        let newer = self.newer_by().map(quoted).map(|name| {
            format!(" WHERE _keyfall.{name} IS NULL OR _keyfall.{name} OPERATOR(pg_catalog.<=) EXCLUDED.{name}")
        });
        format!("ON CONFLICT ({conflict}) DO UPDATE SET {}{}", set.join(", "), newer.unwrap_or_default())
    }

    /// Rows with the same key in one order, so that two transactions seldom wait for each other crosswise.
    pub(super) fn upsert_sql(&self) -> String {
        format!(
            "{} SELECT DISTINCT ON ({keys}) {} FROM {} s ORDER BY {keys}, {} {}",
            self.insert(),
            self.values(),
            self.table(),
            self.best_first(),
            self.on_conflict(),
            keys = self.keys(),
        )
    }

    pub(super) fn distinct_sql(&self) -> String {
        format!("SELECT count(*) FROM (SELECT DISTINCT {} FROM {} s) k", self.keys(), self.table())
    }

    pub(super) fn without_key_sql(&self) -> String {
        format!("SELECT count(*), min(s.{RECORD}) FROM {} s WHERE {}", self.table(), self.key_is("IS NULL", " OR "))
    }

    /// Takes the records without a key out of the stage, and answers where they come from.
    pub(super) fn take_without_key_sql(&self) -> String {
        format!("DELETE FROM {} s WHERE {} RETURNING {}", self.table(), self.key_is("IS NULL", " OR "), trace_columns())
    }

    /// What makes windows of a stage quick to find.
    pub(super) fn index_sql(&self) -> String {
        format!("CREATE INDEX ON {} ({RECORD})", self.table())
    }

    /// The records in the order in which they are tried: each key once, with the record that wins in the first place.
    pub(super) fn rank_sql(&self) -> String {
        let (keys, ranked) = (self.keys(), self.ranked());
        format!(
            "CREATE TEMP TABLE {ranked} ON COMMIT DROP AS
             SELECT s.*, pg_catalog.dense_rank() OVER (ORDER BY {keys}) AS {TURN},
                    pg_catalog.row_number() OVER (PARTITION BY {keys} ORDER BY {}) AS {PLACE} FROM {} s;
             CREATE INDEX ON {ranked} ({TURN}, {PLACE})",
            self.best_first(),
            self.table(),
        )
    }

    /// The windows of a sieve over the stage itself or over the ranked one.
    pub(super) fn sieve(&self, over: Over) -> SieveSql {
        let (source, order) = match over {
            Over::Records | Over::Keys => (self.table(), RECORD),
            Over::Ranked => (self.ranked(), TURN),
        };
        let place = if over == Over::Ranked {
            format!(" AND s.{PLACE} OPERATOR(pg_catalog.=) $3::pg_catalog.int8")
        } else {
            String::new()
        };
        let window = format!(
            "FROM {source} s WHERE s.{order} OPERATOR(pg_catalog.>=) $1::pg_catalog.int8
               AND s.{order} OPERATOR(pg_catalog.<) $2::pg_catalog.int8{place}"
        );
        let attempt = match over {
            Over::Keys => {
                let looks = self.key().unwrap_or_default().iter().map(String::as_str).chain(self.newer_by());
                let looks: Vec<String> =
                    looks.map(|name| format!("pg_catalog.count({})", self.compared(name))).collect();
                format!("SELECT {} {window}", looks.join(", "))
            }
            Over::Records | Over::Ranked => {
                let (insert, values) = (self.insert(), self.values());
                format!("{insert} SELECT {values} {window} ORDER BY s.{order} {}", self.on_conflict())
            }
        };
        SieveSql {
            attempt,
            count: format!("SELECT pg_catalog.count(*) {window}"),
            trace: format!("SELECT {} {window}", trace_columns()),
            remove: format!("DELETE {window}"),
            bounds: format!("SELECT pg_catalog.min(s.{order}), pg_catalog.max(s.{order}) FROM {source} s"),
        }
    }
}

/// What a sieve goes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// The stage, record by record, into the table.
    Records,
    /// The stage, record by record: only whether their keys can be looked at.
    Keys,
    /// The ranked stage, key by key, into the table.
    Ranked,
}

/// The statements of a sieve; all but the bounds take a window.
pub(super) struct SieveSql {
    pub(super) attempt: String,
    pub(super) count: String,
    pub(super) trace: String,
    pub(super) remove: String,
    pub(super) bounds: String,
}

fn plain(name: &str) -> String {
    format!("s.{}", quoted(name))
}

fn trace_columns() -> String {
    format!("s.{RECORD}, s._keyfall_line, s._keyfall_byte, s._keyfall_raw, s._keyfall_raw_bytes")
}
