//! What can go wrong with PostgreSQL, and what follows from it.

use std::borrow::Cow;
use std::error::Error as _;

use tokio_postgres::error::{DbError, SqlState};

use crate::domain::verdict::{Failure, Verdict};
use crate::failpoint::Injected;

/// A failed exchange with PostgreSQL.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No connection could be had, or the one in use broke.
    #[error("PostgreSQL connection: {detail}")]
    Connection {
        /// The chain of causes.
        detail: String,
    },
    /// The server answered with an error.
    #[error("{}PostgreSQL {sqlstate}: {message}", place(*tuple, column.as_deref()))]
    Server {
        /// SQLSTATE.
        sqlstate: String,
        /// Message, detail, hint and COPY context, without the row's values.
        message: String,
        /// Column the server blames, where it names one.
        column: Option<String>,
        /// Tuple of a COPY the server stopped at, from 1.
        tuple: Option<u64>,
    },
    /// A cell could not be converted on its way from a stage into its table: types that parse a language of their own
    /// answer as if the query was wrong.
    #[error("a cell could not be converted: PostgreSQL {sqlstate}: {message}")]
    Conversion {
        /// SQLSTATE.
        sqlstate: String,
        /// Message, without the cell.
        message: String,
    },
    /// A deadline of ours passed.
    #[error("PostgreSQL gave no answer to {what} within {seconds} s")]
    Timeout {
        /// What we waited for.
        what: &'static str,
        /// The deadline.
        seconds: u64,
    },
    /// A transition found another number of rows than it must change.
    #[error("{transition}: {changed} rows changed instead of {expected}")]
    Transition {
        /// The transition function.
        transition: &'static str,
        /// Rows it had to change.
        expected: u64,
        /// Rows it changed.
        changed: u64,
    },
    /// The target table cannot be loaded safely.
    #[error("{detail}")]
    Target {
        /// What is wrong with it.
        detail: String,
        /// What to do about it.
        advice: &'static str,
    },
    /// The table changed between reading its shape and locking it.
    #[error("the table's definition changed while the object was read")]
    ShapeChanged,
    /// The ledger has another schema version than this program.
    #[error("ledger schema: {detail}")]
    Migration {
        /// What differs.
        detail: String,
    },
    /// The connection does not have the settings it was opened with.
    #[error("the session settings sent with the login did not arrive: a connection pooler dropped them")]
    SettingsLost,
    /// A test asked for it.
    #[error(transparent)]
    Injected(#[from] Injected),
}

impl StoreError {
    /// What follows for the object in work.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Connection { .. } | Self::Timeout { .. } | Self::ShapeChanged => Verdict::Retry,
            Self::Server { sqlstate, tuple: Some(_), column: Some(_), .. } if blames_the_query(sqlstate) => {
                Verdict::Quarantine
            }
            Self::Server { sqlstate, .. } => verdict_of(sqlstate),
            Self::Conversion { .. } => Verdict::Quarantine,
            Self::Transition { .. } => Verdict::Release,
            Self::Target { .. } | Self::Migration { .. } | Self::SettingsLost => Verdict::Halt,
            Self::Injected(injected) => injected.verdict(),
        }
    }

    /// Stable code for the ledger and for `grep`.
    pub fn code(&self) -> Cow<'static, str> {
        match self {
            Self::Connection { .. } => Cow::Borrowed("E-PG-CONNECTION"),
            Self::Server { sqlstate, .. } | Self::Conversion { sqlstate, .. } => Cow::Owned(format!("E-PG-{sqlstate}")),
            Self::Timeout { .. } => Cow::Borrowed("E-PG-TIMEOUT"),
            Self::Transition { .. } => Cow::Borrowed("E-LEASE-LOST"),
            Self::Target { .. } => Cow::Borrowed("E-TARGET"),
            Self::ShapeChanged => Cow::Borrowed("E-TARGET-CHANGED"),
            Self::Migration { .. } => Cow::Borrowed("E-LEDGER-SCHEMA"),
            Self::SettingsLost => Cow::Borrowed("E-PG-SETTINGS"),
            Self::Injected(_) => Cow::Borrowed("E-FAILPOINT"),
        }
    }

    /// The failure as the ledger keeps it.
    pub fn failure(&self) -> Failure {
        let (verdict, code, advice) = (self.verdict(), self.code(), self.advice());
        Failure { verdict, code, detail: self.to_string(), advice, relation: None }
    }

    /// Whether the server refused a row for what is in it, and may take the others.
    pub fn refuses_row(&self) -> bool {
        match self {
            Self::Conversion { .. } => true,
            Self::Server { tuple: Some(_), column: Some(_), .. } => self.verdict() == Verdict::Quarantine,
            Self::Server { sqlstate, .. } => self.is_orphan() || verdict_of(sqlstate) == Verdict::Quarantine,
            _ => false,
        }
    }

    /// Whether a row refers to one that is not there.
    pub fn is_orphan(&self) -> bool {
        matches!(self, Self::Server { sqlstate, .. } if sqlstate == SqlState::FOREIGN_KEY_VIOLATION.code())
    }

    /// The same of a query that was understood before and converts cells: if it is to blame now, a cell is.
    pub(super) fn of_conversion(self) -> Self {
        match self {
            Self::Server { sqlstate, message, .. } if blames_the_query(&sqlstate) => {
                Self::Conversion { sqlstate, message: redacted(&message) }
            }
            other => other,
        }
    }

    /// One sentence for the operator.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Connection { .. } => "nothing to do if PostgreSQL is restarting; otherwise check [database]",
            Self::Timeout { .. } => "look for locks (pg_stat_activity) and for a slow network to the database",
            Self::Transition { .. } => "nothing to do: another instance took the object over",
            Self::Target { advice, .. } => advice,
            Self::ShapeChanged => "nothing to do: the object is read again with the new definition",
            Self::Migration { .. } => "run the newest keyfall, or `keyfall migrate` with a role that may create tables",
            Self::Conversion { .. } => advice_of("22000"),
            Self::Server { sqlstate, tuple: Some(_), column: Some(_), .. } if blames_the_query(sqlstate) => {
                advice_of("22000")
            }
            Self::Server { sqlstate, .. } => advice_of(sqlstate),
            Self::SettingsLost => PAST_THE_POOLER,
            Self::Injected(_) => "nothing to do: a test asked for it",
        }
    }
}

/// Errors of the query that a cell can cause too: `tsquery`, `regclass` and their like parse a language of their own.
/// Where COPY names the column it was reading, the cell is to blame.
fn blames_the_query(sqlstate: &str) -> bool {
    sqlstate.starts_with("42") && sqlstate != SqlState::INSUFFICIENT_PRIVILEGE.code()
}

/// Where in the object a COPY stopped, as far as the server says; records are counted as everywhere, from 1 without
/// the header.
fn place(tuple: Option<u64>, column: Option<&str>) -> String {
    match (tuple, column) {
        (Some(record), Some(column)) => format!("record {record}, column {column:?}: "),
        (Some(record), None) => format!("record {record}: "),
        (None, _) => String::new(),
    }
}

/// Verdict by SQLSTATE. The classes are PostgreSQL's own (appendix A of its manual).
fn verdict_of(sqlstate: &str) -> Verdict {
    match sqlstate {
        // A parent row may still come: bounded retries, then quarantine.
        "23503" => Verdict::Suspect,
        // The operator's: read-only servers (25006) are replicas or fail-overs, and who does not know the whole
        // protocol (08P01) is a pooler. On a full disk (53100) every COPY leaves dead rows behind: the feed pauses, and
        // then tries with as many objects as it has workers, instead of all of them.
        "25006" | "08P01" | "53100" => Verdict::Halt,
        // The server ended a transaction that waited for us, because the network or we had stopped.
        "25P03" | "25P04" => Verdict::Retry,
        _ => match sqlstate.get(..2).unwrap_or_default() {
            "08" | "40" | "53" | "55" | "57" | "58" => Verdict::Retry,
            "22" | "23" | "P0" | "44" => Verdict::Quarantine,
            "0A" | "28" | "3D" | "3F" | "42" => Verdict::Halt,
            _ => Verdict::Suspect,
        },
    }
}

const PAST_THE_POOLER: &str = "connect to the server itself, past PgBouncer or any other pooler";

fn advice_of(sqlstate: &str) -> &'static str {
    match sqlstate.get(..2).unwrap_or_default() {
        "08" if sqlstate == "08P01" => PAST_THE_POOLER,
        "22" => "correct the record or the column's type, then `keyfall retry`",
        "23" => "a constraint of the table refused a row: correct the data or the table, then `keyfall retry`",
        "28" => "check user and password in [database]",
        "42" => "check that the table, its columns and the role's INSERT right exist: `keyfall check`",
        "53" => "the server is out of disk, memory or connections: make room, loading goes on by itself",
        "25" if sqlstate == "25006" => "the server is read-only: connect to the primary",
        _ => "look the SQLSTATE up in PostgreSQL's manual, appendix A",
    }
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(db) => from_server(db),
            None => Self::Connection { detail: chain(&error) },
        }
    }
}

impl From<deadpool_postgres::PoolError> for StoreError {
    fn from(error: deadpool_postgres::PoolError) -> Self {
        match error {
            deadpool_postgres::PoolError::Backend(inner) => Self::from(inner),
            deadpool_postgres::PoolError::Timeout(_) => {
                Self::Connection { detail: "no connection became free in time (pool timeout)".to_owned() }
            }
            other => Self::Connection { detail: other.to_string() },
        }
    }
}

/// What the server said, without the row's values.
pub(super) fn from_server(db: &DbError) -> StoreError {
    let (tuple, column) = copy_context(db.where_().unwrap_or_default());
    // An input function's message quotes the cell.
    let quotes_input = db.code().code().starts_with("22") || column.is_some();
    let mut message = if quotes_input { redacted(db.message()) } else { db.message().to_owned() };
    // DETAIL repeats the row's values ("Key (id)=(7) already exists", "Failing row contains …"), so only the
    // parts that cannot hold data are kept.
    if let Some(hint) = db.hint() {
        message += &format!(" (hint: {hint})");
    }
    for (label, value) in [("table", db.table()), ("column", db.column()), ("constraint", db.constraint())] {
        // Most messages name them already.
        if let Some(value) = value.filter(|value| !message.contains(&format!("\"{value}\""))) {
            message += &format!(", {label} {value:?}");
        }
    }
    let column = db.column().map(str::to_owned).or(column);
    StoreError::Server { sqlstate: db.code().code().to_owned(), message, column, tuple }
}

/// Takes out everything between the first and the last quote: the cell, which may hold quotes itself.
fn redacted(message: &str) -> String {
    match (message.split_once('"'), message.rsplit_once('"')) {
        (Some((head, _)), Some((before, tail))) if before.len() > head.len() => format!("{head}\"…\"{tail}"),
        _ => message.to_owned(),
    }
}

/// Reads `COPY t, line 5, column name: …` into tuple number and column.
fn copy_context(context: &str) -> (Option<u64>, Option<String>) {
    let tuple = context.split_once(", line ").and_then(|(_, rest)| {
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    });
    let column =
        context.split_once(", column ").map(|(_, rest)| rest.split([':', '\n']).next().unwrap_or_default().to_owned());
    (tuple, column)
}

/// Whether the server refused the login itself.
pub fn is_login_failure(error: &StoreError) -> bool {
    matches!(error, StoreError::Server { sqlstate, .. }
        if sqlstate.starts_with("28") || sqlstate == SqlState::INVALID_CATALOG_NAME.code())
}

/// Whether the server takes no writes: a replica, perhaps what the primary has become.
pub fn is_read_only(error: &StoreError) -> bool {
    matches!(error, StoreError::Server { sqlstate, .. } if sqlstate == SqlState::READ_ONLY_SQL_TRANSACTION.code())
}

/// Message and every cause: the driver's `Display` alone hides the cause.
pub fn chain(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copy_context_names_tuple_and_column() {
        assert_eq!(copy_context("COPY t, line 5, column id: \"x\""), (Some(5), Some("id".to_owned())));
        assert_eq!(copy_context("COPY t, line 12"), (Some(12), None));
        assert_eq!(copy_context(""), (None, None));
    }

    #[test]
    fn what_stands_between_quotes_is_taken_out_of_a_message_about_a_cell() {
        for (message, expected) in [
            ("invalid input syntax for type inet: \"a\"b\"", "invalid input syntax for type inet: \"…\""),
            ("value \"99\" is out of range for type oid", "value \"…\" is out of range for type oid"),
            ("\"2\" is not a valid binary digit", "\"…\" is not a valid binary digit"),
            ("numeric field overflow", "numeric field overflow"),
            ("an odd \" quote", "an odd \" quote"),
        ] {
            assert_eq!(redacted(message), expected);
        }
    }

    #[test]
    fn a_query_error_is_the_cells_only_where_copy_was_reading_a_column() {
        let error = |tuple, column: Option<&str>| StoreError::Server {
            sqlstate: "42601".to_owned(),
            message: "syntax error".to_owned(),
            column: column.map(str::to_owned),
            tuple,
        };
        assert_eq!(error(Some(7), Some("q")).verdict(), Verdict::Quarantine);
        assert_eq!(error(Some(7), Some("q")).to_string(), "record 7, column \"q\": PostgreSQL 42601: syntax error");
        assert_eq!(error(Some(7), None).verdict(), Verdict::Halt);
        assert_eq!(error(None, None).verdict(), Verdict::Halt);
    }

    #[test]
    fn sqlstates_have_the_verdict_their_class_asks_for() {
        for (state, verdict) in [
            ("08006", Verdict::Retry),
            ("40P01", Verdict::Retry),
            ("53100", Verdict::Halt),
            ("53300", Verdict::Retry),
            ("08P01", Verdict::Halt),
            ("25P03", Verdict::Retry),
            ("55P03", Verdict::Retry),
            ("57P01", Verdict::Retry),
            ("22P02", Verdict::Quarantine),
            ("23505", Verdict::Quarantine),
            ("23503", Verdict::Suspect),
            ("25006", Verdict::Halt),
            ("28P01", Verdict::Halt),
            ("42501", Verdict::Halt),
            ("42P01", Verdict::Halt),
            ("XX000", Verdict::Suspect),
        ] {
            assert_eq!(verdict_of(state), verdict, "{state}");
        }
    }
}
