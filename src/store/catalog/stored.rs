//! What staging needs to know of a table beyond its columns: how values are stored, and what keeps its rows apart.

use std::collections::BTreeMap;

use tokio_postgres::Row;

use super::super::error::StoreError;
use super::super::pool::Pools;

/// The type of a column as statements of ours write it, domains resolved. Qualified, whatever the session's path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoredType {
    /// The type without its modifier: a value that is cast to it is never cut.
    pub base: String,
    /// The type with its modifier, where it has one.
    pub exact: Option<String>,
    /// How texts are compared, where it is a type that has that.
    pub collation: Option<String>,
}

/// A unique index that rows can be matched by: not partial, not deferrable, of columns alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UniqueKey {
    /// Its columns, sorted.
    pub columns: Vec<String>,
    /// Whether two NULLs are the same to it.
    pub matches_nulls: bool,
}

/// Both, for one table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    /// By column.
    pub types: BTreeMap<String, StoredType>,
    /// Every one.
    pub keys: Vec<UniqueKey>,
    /// Tables whose rows are deleted or changed by the server when rows of this one are deleted.
    pub followed_by: Vec<String>,
}

impl Stored {
    /// The unique key of exactly these columns. Where there are several, one that takes two NULLs for the same.
    pub fn key(&self, columns: &[String]) -> Option<&UniqueKey> {
        let mut wanted = columns.to_vec();
        wanted.sort_unstable();
        let found = self.keys.iter().filter(|key| key.columns == wanted);
        found.max_by_key(|key| key.matches_nulls)
    }
}

/// Reads both.
pub(super) async fn read(pools: &Pools, oid: u32) -> Result<Stored, StoreError> {
    let types = pools.query(READ_TYPES, &[&oid]).await?.iter().map(read_type).collect::<Result<_, _>>()?;
    let keys = pools.query(READ_KEYS, &[&oid]).await?.iter().map(read_key).collect::<Result<_, _>>()?;
    let follow = pools.query(READ_FOLLOWERS, &[&oid]).await?;
    let followed_by = follow.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    Ok(Stored { types, keys, followed_by })
}

fn read_type(row: &Row) -> Result<(String, StoredType), StoreError> {
    let stored = StoredType { base: row.try_get(1)?, exact: row.try_get(2)?, collation: row.try_get(3)? };
    Ok((row.try_get(0)?, stored))
}

fn read_key(row: &Row) -> Result<UniqueKey, StoreError> {
    let mut columns: Vec<String> = row.try_get(0)?;
    columns.sort_unstable();
    Ok(UniqueKey { columns, matches_nulls: row.try_get(1)? })
}

/// By the names of the catalogue: `bpchar` and `bit` without a length mean any length, `character` and `bit` as SQL
/// writes them mean one.
const READ_TYPES: &str = "-- catalog::read_types
    WITH RECURSIVE base AS (
        SELECT a.attnum, a.attname::text AS name, a.atttypid AS typ, a.atttypmod AS typmod, a.attcollation AS coll
          FROM pg_attribute a
         WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
        UNION ALL
        SELECT b.attnum, b.name, t.typbasetype, CASE WHEN b.typmod = -1 THEN t.typtypmod ELSE b.typmod END, b.coll
          FROM base b JOIN pg_type t ON t.oid = b.typ AND t.typtype = 'd'
    )
    SELECT b.name, format('%I.%I', n.nspname, t.typname),
           CASE WHEN b.typmod <> -1 THEN format_type(b.typ, b.typmod) END,
           (SELECT format('%I.%I', cn.nspname, c.collname)
              FROM pg_collation c JOIN pg_namespace cn ON cn.oid = c.collnamespace WHERE c.oid = b.coll)
      FROM base b JOIN pg_type t ON t.oid = b.typ JOIN pg_namespace n ON n.oid = t.typnamespace
     WHERE t.typtype <> 'd'";

const READ_KEYS: &str = "-- catalog::read_keys
    SELECT (SELECT array_agg(a.attname::text)
              FROM pg_attribute a
             WHERE a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])),
           i.indnullsnotdistinct
      FROM pg_index i
     WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL
       AND i.indexprs IS NULL";

/// `ON DELETE CASCADE`, `SET NULL` and `SET DEFAULT`.
const READ_FOLLOWERS: &str = "-- catalog::read_followers
    SELECT DISTINCT format('%I.%I', n.nspname, c.relname)
      FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE k.contype = 'f' AND k.confrelid = $1 AND k.conrelid <> $1 AND k.conparentid = 0
       AND k.confdeltype IN ('c', 'n', 'd')
     ORDER BY 1";
