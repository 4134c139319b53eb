//! What `check` asks the server: who we are, what it promises about durability, and what the role may do.
//!
//! Only reads the catalogue; nothing is tried out, nothing is locked.

mod modes;

use crate::config::feed::{Feed, Route};

use super::catalog::{Provenance, Shape};
use super::error::StoreError;
use super::pool::{Pools, TELLTALE, TELLTALE_VALUE};

pub use modes::referring;

/// The server and our login on it.
#[derive(Debug, Clone)]
pub struct Server {
    /// Version as the server prints it.
    pub version: String,
    /// Role.
    pub user: String,
    /// Database.
    pub database: String,
    /// Writes are refused: a replica, or a read-only default.
    pub read_only: bool,
    /// The session settings of the login did not arrive: there is a pooler in between.
    pub settings_lost: bool,
    /// Durability settings that are off.
    pub unsafe_settings: Vec<String>,
}

/// The ledger's schema and what the role may do with it.
#[derive(Debug, Clone)]
pub struct LedgerSchema {
    /// Version; none where there is no ledger.
    pub version: Option<u32>,
    /// Rights the daemon needs and the role lacks, such as `INSERT on keyfall.objects`.
    pub missing_rights: Vec<String>,
    /// Whether the role may make the schema, or change the one there is.
    pub may_migrate: bool,
}

/// Logs in and looks around.
pub async fn server(pools: &Pools) -> Result<Server, StoreError> {
    let row = pools.query_one(SERVER, &[&TELLTALE]).await?;
    let settings: Vec<(String, bool)> =
        vec![("fsync".to_owned(), row.try_get(4)?), ("full_page_writes".to_owned(), row.try_get(5)?)];
    Ok(Server {
        version: row.try_get(0)?,
        user: row.try_get(1)?,
        database: row.try_get(2)?,
        read_only: row.try_get(3)?,
        settings_lost: row.try_get::<_, String>(6)? != TELLTALE_VALUE,
        unsafe_settings: settings.into_iter().filter(|(_, on)| !on).map(|(name, _)| name).collect(),
    })
}

/// The schema version of the ledger; none where there is no ledger.
pub async fn ledger_version(pools: &Pools) -> Result<Option<u32>, StoreError> {
    let exists: bool = pools.query_one(HISTORY_EXISTS, &[]).await?.try_get(0)?;
    if !exists {
        return Ok(None);
    }
    let version: Option<i32> =
        pools.query_one("SELECT max(version) FROM keyfall.schema_history", &[]).await?.try_get(0)?;
    Ok(version.map(i32::unsigned_abs))
}

/// The ledger's schema and rights.
pub async fn ledger(pools: &Pools) -> Result<LedgerSchema, StoreError> {
    let may_migrate: bool = pools.query_one(MAY_MIGRATE, &[]).await?.try_get(0)?;
    let schema_usable: bool = pools.query_one(SCHEMA_USABLE, &[]).await?.try_get(0)?;
    if !schema_usable {
        return Ok(LedgerSchema {
            version: None,
            missing_rights: vec!["USAGE on schema keyfall".to_owned()],
            may_migrate,
        });
    }
    let rows = pools.query(LEDGER_RIGHTS, &[]).await?;
    let missing_rights = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    // Without the right to read it the version is unknown; the missing right says so.
    let version = match ledger_version(pools).await {
        Err(StoreError::Server { sqlstate, .. }) if sqlstate == "42501" => None,
        other => other?,
    };
    Ok(LedgerSchema { version, missing_rights, may_migrate })
}

/// What the role lacks to load a table whose `filled` columns come from objects, such as `INSERT on public.jobs`.
pub async fn missing_rights(
    pools: &Pools,
    shape: &Shape,
    filled: &[&str],
    by: (&Feed, &Route),
) -> Result<Vec<String>, StoreError> {
    let mut rows = pools.query(TABLE_RIGHTS, &[&shape.oid, &filled]).await?;
    rows.extend(modes::missing_rights(pools, shape, filled, by).await?);
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Whether an index finds the rows of one object; without one, replacing an object reads the whole table.
pub async fn has_object_index(pools: &Pools, shape: &Shape) -> Result<bool, StoreError> {
    Ok(pools.query_one(OBJECT_INDEX, &[&shape.oid, &Provenance::ObjectId.column()]).await?.try_get(0)?)
}

const SERVER: &str = "-- inspect::server
    SELECT current_setting('server_version'), current_user::text, current_database()::text,
           pg_is_in_recovery() OR current_setting('transaction_read_only')::bool,
           current_setting('fsync')::bool, current_setting('full_page_writes')::bool, current_setting($1)";

const HISTORY_EXISTS: &str = "-- inspect::history_exists
    SELECT EXISTS (SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                    WHERE n.nspname = 'keyfall' AND c.relname = 'schema_history')";

/// A schema that does not exist yet can be used by whoever makes it.
const SCHEMA_USABLE: &str = "-- inspect::schema_usable
    SELECT coalesce(has_schema_privilege(to_regnamespace('keyfall')::oid, 'USAGE'), true)";

const MAY_MIGRATE: &str = "-- inspect::may_migrate
    SELECT coalesce(
        (SELECT pg_has_role(n.nspowner, 'USAGE') FROM pg_namespace n WHERE n.nspname = 'keyfall'),
        has_database_privilege(current_database(), 'CREATE'))";

const LEDGER_RIGHTS: &str = "-- inspect::ledger_rights
    SELECT format('%s on %I.%I', wanted.privilege, n.nspname, c.relname)
      FROM (VALUES ('objects', 'SELECT'), ('objects', 'INSERT'), ('objects', 'UPDATE'),
                   ('feeds', 'SELECT'), ('feeds', 'INSERT'), ('feeds', 'UPDATE'),
                   ('rejections', 'SELECT'), ('rejections', 'INSERT'), ('layouts', 'SELECT'), ('layouts', 'INSERT'),
                   ('drift', 'SELECT'), ('drift', 'INSERT'),
                   ('duties', 'SELECT'), ('duties', 'INSERT'), ('duties', 'UPDATE'), ('duties', 'DELETE'),
                   ('instances', 'SELECT'), ('instances', 'INSERT'), ('instances', 'UPDATE'), ('instances', 'DELETE'),
                   ('feed_status', 'SELECT'), ('schema_history', 'SELECT')) AS wanted (name, privilege)
      JOIN pg_namespace n ON n.nspname = 'keyfall'
      JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name
     WHERE NOT has_table_privilege(c.oid, wanted.privilege)";

/// A load locks the table in ROW EXCLUSIVE mode, which takes INSERT on the table: column rights do not suffice.
/// Sequences behind serial columns need USAGE where the server fills the column; identity columns need nothing.
const TABLE_RIGHTS: &str = "-- inspect::table_rights
    SELECT format('USAGE on schema %I', n.nspname)
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.oid = $1 AND NOT has_schema_privilege(n.oid, 'USAGE')
    UNION ALL
    SELECT format('INSERT on %I.%I', n.nspname, c.relname)
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.oid = $1 AND NOT has_table_privilege(c.oid, 'INSERT')
    UNION ALL
    SELECT format('USAGE on sequence %I.%I (column %I)', n.nspname, s.relname, a.attname)
      FROM pg_depend d
      JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
      JOIN pg_namespace n ON n.oid = s.relnamespace
      JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
     WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype = 'a'
       AND d.refobjid = $1 AND a.atthasdef AND a.attname <> ALL ($2)
       -- In whatever order conditions are looked at: asked about an index, the function fails.
       AND CASE WHEN s.relkind = 'S' THEN NOT has_sequence_privilege(s.oid, 'USAGE') ELSE false END";

/// Whole and valid, and the column leads it.
const OBJECT_INDEX: &str = "-- inspect::object_index
    SELECT EXISTS (SELECT 1 FROM pg_index i
                     JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
                    WHERE i.indrelid = $1 AND a.attname = $2 AND i.indisvalid AND i.indpred IS NULL)";
