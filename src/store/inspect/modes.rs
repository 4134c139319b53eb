//! What `check` asks about the way a feed loads a table: rights beyond inserting, and who refers to the table.

use crate::config::feed::{Feed, Mode, OnChange, Route};

use super::super::catalog::{Provenance, Shape};
use super::super::error::StoreError;
use super::super::pool::Pools;

/// What the role lacks to load a table the feed's way, such as `UPDATE on public.jobs`.
pub(super) async fn missing_rights(
    pools: &Pools,
    shape: &Shape,
    filled: &[&str],
    (feed, route): (&Feed, &Route),
) -> Result<Vec<tokio_postgres::Row>, StoreError> {
    let mut rows = Vec::new();
    if feed.on_change == OnChange::Replace {
        rows.extend(pools.query(CHANGE_RIGHTS, &[&shape.oid, &Provenance::ObjectId.column()]).await?);
    }
    match &route.mode {
        Mode::Append => {}
        Mode::Upsert { key, .. } => {
            let own = Provenance::ALL.into_iter().filter(|which| shape.fills(*which, &route.mapping));
            let mut columns: Vec<String> = filled.iter().map(|name| (*name).to_owned()).collect();
            columns.extend(own.map(|which| which.column().to_owned()));
            rows.extend(pools.query(UPSERT_RIGHTS, &[&shape.oid, &columns, key]).await?);
        }
        Mode::Replace => rows.extend(pools.query(DELETE_RIGHTS, &[&shape.oid]).await?),
    }
    if feed.rejects.is_any() || matches!(route.mode, Mode::Upsert { .. }) {
        rows.extend(pools.query(TEMPORARY_RIGHTS, &[]).await?);
    }
    Ok(rows)
}

/// Tables whose rows keep those of a table from being replaced, each with its foreign key.
pub async fn referring(pools: &Pools, shape: &Shape) -> Result<Vec<String>, StoreError> {
    pools.query(REFERRING, &[&shape.oid]).await?.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Deleting by a condition reads the column it names.
const CHANGE_RIGHTS: &str = "-- inspect::change_rights
    SELECT format('DELETE on %I.%I', n.nspname, c.relname)
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.oid = $1 AND NOT has_table_privilege(c.oid, 'DELETE')
    UNION ALL
    SELECT format('SELECT (%I) on %I.%I', a.attname, n.nspname, c.relname)
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = $2 AND NOT a.attisdropped
     WHERE c.oid = $1 AND NOT has_column_privilege(c.oid, a.attnum, 'SELECT')";

const DELETE_RIGHTS: &str = "-- inspect::delete_rights
    SELECT format('DELETE on %I.%I', n.nspname, c.relname)
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.oid = $1 AND NOT has_table_privilege(c.oid, 'DELETE')";

/// `ON CONFLICT … DO UPDATE` reads what it matches, compares and takes over, and writes everything but the key.
const UPSERT_RIGHTS: &str = "-- inspect::upsert_rights
    SELECT format('%s on %I.%I', w.privilege, n.nspname, c.relname)
      FROM (VALUES ('SELECT'), ('UPDATE')) AS w (privilege)
     CROSS JOIN pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.oid = $1 AND NOT has_table_privilege(c.oid, w.privilege)
       AND EXISTS (SELECT 1 FROM pg_attribute a
                    WHERE a.attrelid = c.oid AND a.attname = ANY ($2) AND NOT a.attisdropped
                      AND (w.privilege = 'SELECT' OR a.attname <> ALL ($3))
                      AND NOT has_column_privilege(c.oid, a.attnum, w.privilege))";

/// For stages.
const TEMPORARY_RIGHTS: &str = "-- inspect::temporary_rights
    SELECT format('TEMPORARY on database %I', current_database())
     WHERE NOT has_database_privilege(current_database(), 'TEMPORARY')";

/// A key that is asked at COMMIT finds the new row of the same key.
const REFERRING: &str = "-- inspect::referring
    SELECT format('%I.%I (%I)', n.nspname, c.relname, k.conname)
      FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE k.contype = 'f' AND k.confrelid = $1 AND k.conrelid <> $1 AND k.conparentid = 0
       AND NOT (k.condeferred AND k.confdeltype = 'a')
     ORDER BY 1";
