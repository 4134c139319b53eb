//! Embedded migrations of the ledger schema, serialised over all instances.
//!
//! A second connection holds an advisory transaction lock while the migrations run, so concurrent starts queue up;
//! each migration commits by itself, so a start that dies half-way is completed by the next one. Nothing here ever
//! drops or empties a ledger table.

use std::time::Duration;

use refinery::{Migration, Runner};
use tokio_postgres::Client;
use tokio_util::task::AbortOnDropHandle;

use crate::domain::verdict::Verdict;
use crate::failpoint::{self, Point};

use super::deadline::bounded;
use super::error::{StoreError, chain, from_server};
use super::inspect::ledger_version;
use super::pool::Pools;

/// History table of the migrations themselves.
const HISTORY: &str = "keyfall.schema_history";

/// Arbitrary, fixed number of the advisory lock: "keyfall" in ASCII.
const LOCK: i64 = 0x006b_6579_6661_6c6c;

/// Our deadline lies this much behind the server's own statement timeout, which should answer first.
const GRACE: Duration = Duration::from_secs(5);

/// A run of migrations may take so many statement timeouts.
const RUN: u32 = 10;

/// What a migration run did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    /// Schema version now.
    pub version: u32,
    /// Migrations applied by this call.
    pub applied: Vec<String>,
}

fn migrations() -> Result<Vec<Migration>, StoreError> {
    [
        ("V1__ledger", include_str!("migrations/V1__ledger.sql")),
        ("V2__discovery", include_str!("migrations/V2__discovery.sql")),
        ("V3__rows", include_str!("migrations/V3__rows.sql")),
    ]
    .into_iter()
    .map(|(name, sql)| Migration::unapplied(name, sql).map_err(|error| mismatch(error.to_string())))
    .collect()
}

/// Brings the ledger schema up to date; does nothing, and needs no right to create tables, where it is.
pub async fn migrate(pools: &Pools) -> Result<Migrated, StoreError> {
    let (holder, _holder_task) = connect(pools).await?;
    // Before anything is written: what a pooler would break is found out here.
    let deadline = pools.statement_timeout() + GRACE;
    bounded("a session setting", deadline, Pools::refuse_pooler(&holder)).await?;
    let newest = newest()?;
    match ledger_version(pools).await? {
        Some(version) if version == newest => return Ok(Migrated { version: newest, applied: Vec::new() }),
        // Nothing of ours may write to a schema whose states it does not know, not even wait for its lock.
        Some(version) if version > newest => return Err(other_version(version, newest)),
        _ => {}
    }

    let (mut client, _client_task) = connect(pools).await?;
    // Held until `holder` is dropped. Were this connection lost, a second instance could start as well: it would
    // fail on the history table's primary key, and its half migration would roll back.
    let lock = format!("BEGIN; SELECT pg_advisory_xact_lock({LOCK})");
    bounded("the migrations' lock", deadline, holder.batch_execute(&lock)).await?;
    bounded("CREATE SCHEMA", deadline, client.batch_execute("CREATE SCHEMA IF NOT EXISTS keyfall")).await?;
    failpoint::reach(Point::MigrateLocked).await?;
    let mut runner = Runner::new(&migrations()?);
    runner.set_migration_table_name(HISTORY);
    let report = bounded("the migrations", deadline * RUN, async {
        runner.run_async(&mut client).await.map_err(|error| failed(&error))
    })
    .await?;
    failpoint::reach(Point::MigrateApplied).await?;
    bounded("COMMIT", deadline, holder.batch_execute("COMMIT")).await?;
    let applied = report.applied_migrations().iter().map(ToString::to_string).collect();
    Ok(Migrated { version: newest, applied })
}

/// Whether the ledger has exactly the schema this program knows.
pub async fn verify(pools: &Pools) -> Result<(), StoreError> {
    let newest = newest()?;
    match ledger_version(pools).await? {
        Some(version) if version == newest => Ok(()),
        Some(version) => Err(other_version(version, newest)),
        None => Err(mismatch("the database has no keyfall ledger yet".to_owned())),
    }
}

fn newest() -> Result<u32, StoreError> {
    Ok(migrations()?.iter().map(|migration| migration.version().unsigned_abs()).max().unwrap_or(0))
}

fn other_version(database: u32, program: u32) -> StoreError {
    mismatch(format!("the database has version {database}, this program knows {program}"))
}

async fn connect(pools: &Pools) -> Result<(Client, AbortOnDropHandle<()>), StoreError> {
    let (client, connection) = pools.direct().await?;
    #[expect(clippy::disallowed_methods, reason = "the connection lives exactly as long as its client")]
    let task = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(error = chain(&error), "migration connection ended");
        }
    });
    Ok((client, AbortOnDropHandle::new(task)))
}

/// A server that went away half-way is no other schema: what is waited for at every other step is waited for here.
fn failed(error: &refinery::Error) -> StoreError {
    let detail = render(error);
    let refinery::error::Kind::Connection(_, source) = error.kind() else { return mismatch(detail) };
    match source.downcast_ref::<tokio_postgres::Error>().map(tokio_postgres::Error::as_db_error) {
        Some(None) => StoreError::Connection { detail },
        Some(Some(answer)) => {
            let answered = from_server(answer);
            if answered.verdict() == Verdict::Retry { answered } else { mismatch(detail) }
        }
        None => mismatch(detail),
    }
}

fn mismatch(detail: String) -> StoreError {
    StoreError::Migration { detail }
}

fn render(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}
