//! One load transaction on one connection: lock and fence check, COPY, fence, COMMIT.
//!
//! The connection goes back to its pool only after a COMMIT that the server answered. Whatever else happens, an
//! error, a timeout or the future being dropped half-way, the connection is closed instead, and the server rolls
//! back. Nobody here believes `commit()`: see [`super::ledger::Ledger::loaded_among`].

mod content;
mod layout;
mod rejected;
mod repair;
mod replace;
mod sieve;
mod stage;
mod staged;
mod trial;
mod versions;

use std::pin::Pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use deadpool_postgres::Object;
use futures::SinkExt;
use tokio_postgres::types::ToSql;
use tokio_postgres::{CopyInSink, Row, SimpleQueryMessage};
use uuid::Uuid;

use crate::domain::drift::Field;
use crate::domain::lease::Lease;
use crate::failpoint::{self, Point};

use super::catalog::{FINGERPRINT, Shape};
use super::deadline::bounded;
use super::encode;
use super::error::StoreError;
use super::identifier::{quoted, quoted_table};
use super::pool::Pools;
use super::stage::Staging;
use sieve::Savepoint;

pub use content::Duplicate;
pub use layout::Layouts;
pub use rejected::Replayed;
pub use repair::{After, Ending, Locked};
pub use replace::Newer;
pub use sieve::{Attempt, Sieve, Window};
pub use stage::{Over, Stage};
pub use versions::OtherVersion;

/// How rows travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CopyFormat {
    /// COPY BINARY: every column is of a type we encode ourselves.
    Binary,
    /// COPY TEXT: the server parses.
    Text,
}

impl CopyFormat {
    const fn word(self) -> &'static str {
        match self {
            Self::Binary => "binary",
            Self::Text => "text",
        }
    }
}

/// What is copied: the columns in their order, and how they are encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyTarget {
    /// Column names in the order of the tuples.
    pub columns: Vec<String>,
    /// Encoding.
    pub format: CopyFormat,
    /// Whether rows go straight into the table.
    pub staging: Staging,
}

/// What a load proves about one object, for its ledger row.
#[derive(Debug, Clone, Default)]
pub struct LoadedCounts {
    /// Ledger id.
    pub id: i64,
    /// The lease's token: the fence.
    pub token: Uuid,
    /// Records read, header not counted: the sum of the next three.
    pub read: i64,
    /// Records whose rows are in their tables.
    pub loaded: i64,
    /// Records kept out as bad.
    pub rejected: i64,
    /// Records left out deliberately.
    pub filtered: i64,
    /// Its fields, where the object names them.
    pub fields: Option<Vec<Field>>,
    /// The object's header, where rejected records need it beside them.
    pub header: Option<Vec<u8>>,
    /// Bytes of the body as stored.
    pub bytes: i64,
    /// SHA-256 of the body as stored.
    pub sha256: Vec<u8>,
    /// Another object of the same transaction with the same bytes.
    pub twin: Option<i64>,
}

impl LoadedCounts {
    /// As much as a question about the content needs.
    pub fn of_content(lease: &Lease, sha256: Vec<u8>) -> Self {
        Self { id: lease.object.id, token: lease.token, read: 1, sha256, ..Self::default() }
    }
}

/// What the ledger keeps of a load besides its counts.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// First disposal state.
    pub disposal: &'static str,
    /// Fingerprint of the feed's configuration.
    pub fingerprint: &'a str,
    /// Whether to look for objects with the same bytes.
    pub duplicates: bool,
}

/// A connection with an open load transaction.
pub struct Load {
    /// `None` once given back or discarded.
    client: Option<Object>,
    stall: Duration,
    settle: Duration,
    /// Versions whose rows were deleted, each with the one that takes its place.
    replaced: Vec<(i64, i64)>,
    /// The object is loaded already: its rejections are there and get new reasons.
    is_repair: bool,
    savepoint: Savepoint,
}

impl Load {
    /// Opens the transaction: durable commit forced, tables locked against changes of their definition, shapes and
    /// leases checked. One round trip.
    pub async fn begin(pools: &Pools, shapes: &[&Shape], leases: &[&Lease]) -> Result<Self, StoreError> {
        let client = pools.load().await?;
        let (stall, settle) = (pools.copy_stall_timeout(), pools.statement_timeout());
        let load = Self {
            client: Some(client),
            stall,
            settle,
            replaced: Vec::new(),
            savepoint: Savepoint::default(),
            is_repair: false,
        };
        let sql = begin_sql(shapes, leases);
        // Waiting for the table's lock has the server's lock_timeout; ours comes on top for a dead network.
        let deadline = load.stall + load.settle;
        let answers = bounded("BEGIN", deadline, load.client()?.simple_query(&sql)).await?;
        let checked = answers.iter().find_map(|answer| match answer {
            SimpleQueryMessage::Row(row) => Some((row.get(0).map(str::to_owned), row.get(1).map(str::to_owned))),
            _ => None,
        });
        let (fingerprints, held) = checked.unwrap_or_default();
        let expected: Vec<&str> = shapes.iter().map(|shape| shape.fingerprint.as_str()).collect();
        if fingerprints.as_deref() != Some(expected.join(" ").as_str()) {
            return Err(StoreError::ShapeChanged);
        }
        let held: u64 = held.and_then(|text| text.parse().ok()).unwrap_or(0);
        let expected = leases.len() as u64;
        if held != expected {
            return Err(StoreError::Transition { transition: "copy::begin", expected, changed: held });
        }
        failpoint::reach(Point::CopyBegun).await?;
        Ok(load)
    }

    /// Starts a COPY straight into the table.
    pub async fn copy(&mut self, shape: &Shape, target: &CopyTarget) -> Result<Rows<'_>, StoreError> {
        let sql = copy_sql(shape, target);
        let (stall, client) = (self.stall, self.client()?);
        // Cached by its text: the same columns of the same table need no second round trip.
        let statement = bounded("PREPARE", stall, client.prepare_cached(&sql)).await?;
        let sink = bounded("COPY", stall, client.copy_in::<_, Bytes>(&statement)).await?;
        Rows::begin(sink, stall, target.format).await
    }

    /// The fence, then COMMIT. An error from here means that the outcome is unknown: ask the ledger.
    ///
    /// If the process dies before the server has the COMMIT, nothing happened and the lease expires. If it dies
    /// after, rows and ledger are durable together and the next start goes on with disposal.
    pub async fn commit(mut self, loaded: &[LoadedCounts], terms: Terms<'_>) -> Result<Vec<Duplicate>, StoreError> {
        self.supersede().await?;
        let fenced = self.fence(loaded, terms).await?;
        let (changed, expected) = (fenced.len() as u64, loaded.len() as u64);
        if changed != expected {
            // Somebody else owns at least one of them now: dropping `self` closes the connection, the server
            // rolls everything back.
            return Err(StoreError::Transition { transition: "copy::fence", expected, changed });
        }
        failpoint::reach(Point::CommitFenced).await?;
        bounded("COMMIT", self.stall + self.settle, self.client()?.batch_execute("COMMIT")).await?;
        failpoint::reach(Point::CommitCommitted).await?;
        // Only a connection whose COMMIT was answered is clean enough for the pool.
        drop(self.client.take());
        let is_duplicate = |row: &&Row| !matches!(row.try_get::<_, Option<i64>>(1), Ok(None));
        fenced.iter().filter(is_duplicate).map(content::read_duplicate).collect()
    }

    async fn fence(&self, loaded: &[LoadedCounts], terms: Terms<'_>) -> Result<Vec<Row>, StoreError> {
        let Terms { disposal, fingerprint, duplicates } = terms;
        let ids: Vec<i64> = loaded.iter().map(|object| object.id).collect();
        let tokens: Vec<Uuid> = loaded.iter().map(|object| object.token).collect();
        let of = |count: fn(&LoadedCounts) -> i64| -> Vec<i64> { loaded.iter().map(count).collect() };
        let (read, kept) = (of(|object| object.read), of(|object| object.loaded));
        let (rejected, filtered) = (of(|object| object.rejected), of(|object| object.filtered));
        let headers: Vec<Option<&[u8]>> = loaded.iter().map(|object| object.header.as_deref()).collect();
        let bytes: Vec<i64> = loaded.iter().map(|object| object.bytes).collect();
        let hashes: Vec<&[u8]> = loaded.iter().map(|object| object.sha256.as_slice()).collect();
        let twins: Vec<Option<i64>> = loaded.iter().map(|object| object.twin).collect();
        let parameters: [&(dyn ToSql + Sync); 13] = [
            &ids,
            &tokens,
            &read,
            &bytes,
            &hashes,
            &disposal,
            &fingerprint,
            &duplicates,
            &twins,
            &kept,
            &rejected,
            &filtered,
            &headers,
        ];
        self.ask("ledger update", FENCE, &parameters).await
    }

    /// One short statement of ours inside the transaction.
    async fn ask(
        &self,
        what: &'static str,
        sql: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, StoreError> {
        let client = self.client()?;
        let statement = bounded("PREPARE", self.settle, client.prepare_cached(sql)).await?;
        bounded(what, self.settle, client.query(&statement, parameters)).await
    }

    fn client(&self) -> Result<&Object, StoreError> {
        self.client.as_ref().ok_or_else(|| StoreError::Connection { detail: "load already ended".to_owned() })
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            // Takes the connection out of the pool for good; dropping it aborts its task and closes the socket,
            // which also ends a COPY that no server-side timeout would end.
            drop(Object::take(client));
        }
    }
}

/// A running COPY.
pub struct Rows<'load> {
    sink: Pin<Box<CopyInSink<Bytes>>>,
    stall: Duration,
    format: CopyFormat,
    // A COPY cannot outlive its transaction.
    _load: std::marker::PhantomData<&'load mut Load>,
}

impl Rows<'_> {
    async fn begin(sink: CopyInSink<Bytes>, stall: Duration, format: CopyFormat) -> Result<Self, StoreError> {
        let mut rows = Self { sink: Box::pin(sink), stall, format, _load: std::marker::PhantomData };
        if format == CopyFormat::Binary {
            let mut header = BytesMut::new();
            encode::put_header(&mut header);
            rows.put(header.freeze()).await?;
        }
        Ok(rows)
    }

    /// Sends one frame; waits while the server is slower than we are, but not for ever.
    pub async fn send(&mut self, frame: Bytes) -> Result<(), StoreError> {
        failpoint::reach(Point::CopyFrame).await?;
        self.put(frame).await
    }

    async fn put(&mut self, frame: Bytes) -> Result<(), StoreError> {
        bounded("COPY data", self.stall, self.sink.feed(frame)).await
    }

    /// Ends the COPY and answers how many rows the server took.
    pub async fn finish(mut self) -> Result<u64, StoreError> {
        if self.format == CopyFormat::Binary {
            let mut trailer = BytesMut::new();
            encode::put_trailer(&mut trailer);
            self.put(trailer.freeze()).await?;
        }
        // Triggers, indexes and the last frames may still be at work: the stall deadline covers silence only
        // after everything was sent, so it is generous here.
        let copied = bounded("end of COPY", self.stall * 10, self.sink.as_mut().finish()).await?;
        failpoint::reach(Point::CopyFinished).await?;
        Ok(copied)
    }
}

/// Only numbers, UUIDs and quoted identifiers are put into this text. Our own statements see no schema but
/// PostgreSQL's; COPY, which names everything in full, runs with the role's path: the table's triggers may need it.
fn begin_sql(shapes: &[&Shape], leases: &[&Lease]) -> String {
    let mut held: Vec<String> =
        leases.iter().map(|lease| format!("({}, '{}'::uuid)", lease.object.id, lease.token)).collect();
    if held.is_empty() {
        // Whoever begins without a lease locks the object's row himself; the list must not be empty.
        held.push("(NULL::int8, NULL::uuid)".to_owned());
    }
    let tables: Vec<String> = shapes.iter().map(|shape| quoted_table(&shape.table)).collect();
    let fingerprints: Vec<String> = shapes
        .iter()
        .map(|shape| format!("(SELECT {FINGERPRINT} FROM pg_class c WHERE c.oid = {})", shape.oid))
        .collect();
    format!(
        "-- copy::begin
         BEGIN;
         SET LOCAL search_path = '';
         SET LOCAL synchronous_commit = on;
         LOCK TABLE {tables} IN ROW EXCLUSIVE MODE;
         SELECT concat_ws(' ', {fingerprints}),
                (SELECT count(*) FROM keyfall.objects
                  WHERE state = 'leased' AND (id, lease_token) IN ({held}));
         SET LOCAL search_path TO DEFAULT",
        tables = tables.join(", "),
        fingerprints = fingerprints.join(", "),
        held = held.join(", "),
    )
}

fn copy_sql(shape: &Shape, target: &CopyTarget) -> String {
    let columns: Vec<String> = target.columns.iter().map(|name| quoted(name)).collect();
    let format = target.format.word();
    format!("COPY {} ({}) FROM STDIN WITH (FORMAT {format})", quoted_table(&shape.table), columns.join(", "))
}

/// The fence: last statement before COMMIT, one row per object, or the whole transaction is rolled back. It runs with
/// the role's search path (see `begin_sql`), hence the qualified functions, types and operators.
///
/// Looking for duplicates is part of it, so that it costs no round trip; nobody is locked out meanwhile, and two
/// objects that are loaded at the same moment do not see each other. The order is by a column without an index for the
/// reason told at `DUPLICATES`.
const FENCE: &str = "-- copy::fence
    UPDATE keyfall.objects o
       SET state = 'loaded', loaded_at = pg_catalog.clock_timestamp(), rows_read = n.rows, rows_loaded = n.kept,
           rows_rejected = n.rejected, rows_filtered = n.filtered, header = n.header, bytes_read = n.bytes, sha256 = n.sha256,
           disposal = CASE WHEN o.disposal OPERATOR(pg_catalog.=) 'done' THEN 'done' ELSE $6 END,
           disposal_not_before = pg_catalog.now(), config_fingerprint = $7, lease_expires_at = NULL,
           reason = NULL, error_code = NULL, error_detail = NULL, error_advice = NULL, approved = false,
           duplicate_of = CASE WHEN $8 AND n.rows OPERATOR(pg_catalog.>) 0 THEN coalesce((
               SELECT d.id FROM keyfall.objects d
                WHERE d.feed OPERATOR(pg_catalog.=) o.feed AND d.sha256 OPERATOR(pg_catalog.=) n.sha256
                  AND d.state OPERATOR(pg_catalog.=) 'loaded' AND d.rows_read OPERATOR(pg_catalog.>) 0
                  AND (d.bucket OPERATOR(pg_catalog.<>) o.bucket OR d.key OPERATOR(pg_catalog.<>) o.key)
                ORDER BY d.loaded_at LIMIT 1), n.twin) END
      FROM unnest($1::bigint[], $2::pg_catalog.uuid[], $3::bigint[], $4::bigint[], $5::pg_catalog.bytea[],
                  $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::pg_catalog.bytea[])
           AS n (id, token, rows, bytes, sha256, twin, kept, rejected, filtered, header)
     WHERE o.id OPERATOR(pg_catalog.=) n.id AND o.lease_token OPERATOR(pg_catalog.=) n.token
       AND o.state OPERATOR(pg_catalog.=) 'leased'
    RETURNING o.id, o.duplicate_of,
              (SELECT d.bucket FROM keyfall.objects d WHERE d.id OPERATOR(pg_catalog.=) o.duplicate_of),
              (SELECT d.key FROM keyfall.objects d WHERE d.id OPERATOR(pg_catalog.=) o.duplicate_of)";
