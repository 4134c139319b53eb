//! What the target table looks like: the table is the schema.
//!
//! Shapes are cached; every load transaction locks the table against changes and compares the shape's fingerprint
//! before it copies (`copy.rs`), so a stale entry costs one more attempt and never a wrong row.

mod mode;
mod provenance;
mod stored;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_postgres::Row;

use crate::config::feed::TableName;

use super::encode::ColumnType;
use super::error::StoreError;
use super::identifier::quoted_table;
use super::pool::Pools;

pub use provenance::Provenance;
pub use stored::{Stored, StoredType, UniqueKey};

/// A column rows can be written to.
#[derive(Debug, Clone)]
pub struct Column {
    /// Name.
    pub name: String,
    /// Type, domains resolved.
    pub kind: ColumnType,
    /// Type as the catalogue prints it, for messages.
    pub type_name: String,
    /// Whether NULL is allowed.
    pub nullable: bool,
    /// Whether the server fills it when it is left out: default or identity.
    pub has_default: bool,
}

/// A table's shape at one moment.
#[derive(Debug)]
pub struct Shape {
    /// The table.
    pub table: TableName,
    /// Its OID, for the check under lock.
    pub oid: u32,
    /// Hash over everything that decides how rows are encoded and whether the table may be loaded.
    pub fingerprint: String,
    /// Writable columns in table order, provenance columns left out.
    pub columns: Vec<Column>,
    /// Provenance columns, whatever their type is.
    pub provenance: Vec<(Provenance, Column)>,
    /// What staging needs to know.
    pub stored: Stored,
}

impl Shape {
    /// The writable column of this name, provenance columns included: a mapping may name one.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().chain(self.provenance.iter().map(|(_, column)| column)).find(|column| column.name == name)
    }
}

/// SQL that computes [`Shape::fingerprint`] for the table whose OID is `c.oid`. Shared by the read here and the
/// check under lock, which must agree.
pub(super) const FINGERPRINT: &str = "
    (SELECT md5(concat_ws('|', c.relkind, c.relpersistence, c.relrowsecurity, string_agg(concat_ws(',',
            a.attnum, a.attname, a.atttypid, a.atttypmod, a.attnotnull, a.attgenerated, a.atthasdef,
            t.typtype, t.typbasetype), ';' ORDER BY a.attnum)))
       FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
      WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)";

/// Cache of shapes.
#[derive(Default)]
pub struct Catalog {
    shapes: Mutex<HashMap<String, Arc<Shape>>>,
}

impl Catalog {
    /// The shape of a table, from the cache where it is there.
    pub async fn shape(&self, pools: &Pools, table: &TableName) -> Result<Arc<Shape>, StoreError> {
        let cached = self.lock().get(&table.to_string()).map(Arc::clone);
        if let Some(shape) = cached {
            return Ok(shape);
        }
        let shape = Arc::new(read_shape(pools, table).await?);
        self.lock().insert(table.to_string(), Arc::clone(&shape));
        Ok(shape)
    }

    /// Forgets a table after its definition changed or a load of it failed.
    pub fn forget(&self, table: &TableName) {
        self.lock().remove(&table.to_string());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Shape>>> {
        // A map of finished Arcs is whole even if a holder panicked.
        self.shapes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a table's shape and refuses tables that cannot be loaded safely.
pub async fn read_shape(pools: &Pools, table: &TableName) -> Result<Shape, StoreError> {
    let sql = format!(
        "-- catalog::read_table
         SELECT c.oid, c.relkind::text, c.relpersistence::text, row_security_active(c.oid),
                EXISTS (SELECT 1 FROM pg_partition_tree(c.oid) p JOIN pg_class k ON k.oid = p.relid
                         WHERE k.relpersistence <> 'p'),
                {FINGERPRINT}
           FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE n.nspname = $1 AND c.relname = $2"
    );
    let found = pools.query(&sql, &[&table.schema, &table.table]).await?;
    let Some(row) = found.into_iter().next() else {
        return Err(target(
            format!("table {} does not exist", quoted_table(table)),
            "create the table, or correct `table` in the feed",
        ));
    };
    refuse_unsafe(table, &row)?;
    let oid: u32 = row.try_get(0)?;
    let fingerprint: String = row.try_get(5)?;

    let rows = pools.query(READ_COLUMNS, &[&oid]).await?;
    let mut columns = Vec::with_capacity(rows.len());
    for row in &rows {
        columns.push(read_column(pools, row).await?);
    }
    let (mut plain, mut provenance) = (Vec::with_capacity(columns.len()), Vec::new());
    for column in columns {
        match Provenance::ALL.into_iter().find(|which| which.column() == column.name) {
            Some(which) => provenance.push((which, column)),
            None => plain.push(column),
        }
    }
    let stored = stored::read(pools, oid).await?;
    Ok(Shape { table: table.clone(), oid, fingerprint, columns: plain, provenance, stored })
}

fn refuse_unsafe(table: &TableName, row: &Row) -> Result<(), StoreError> {
    let kind: String = row.try_get(1)?;
    let persistence: String = row.try_get(2)?;
    let row_security: bool = row.try_get(3)?;
    let unlogged_partition: bool = row.try_get(4)?;
    let name = quoted_table(table);
    if kind != "r" && kind != "p" {
        return Err(target(format!("{name} is not a table"), "name an ordinary or partitioned table"));
    }
    if persistence != "p" || unlogged_partition {
        return Err(target(
            format!("table {name} is unlogged or temporary: a server crash empties it while the ledger says loaded"),
            "ALTER TABLE … SET LOGGED; loading goes on by itself",
        ));
    }
    if row_security {
        return Err(target(
            format!("table {name} has row-level security for this role, which COPY does not support"),
            "use a role with BYPASSRLS, or the table's owner without FORCE",
        ));
    }
    Ok(())
}

/// Generated columns are left out: COPY may not write them. Domains are followed to their base type.
const READ_COLUMNS: &str = "-- catalog::read_columns
    WITH RECURSIVE col AS (
        SELECT a.attnum, a.attname::text AS name, a.atttypid AS typ, a.atttypmod AS typmod, a.attnotnull AS not_null,
               a.atthasdef OR a.attidentity <> '' AS has_default, format_type(a.atttypid, a.atttypmod) AS type_name
          FROM pg_attribute a
         WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
    ), base AS (
        SELECT * FROM col
        UNION ALL
        SELECT b.attnum, b.name, t.typbasetype, CASE WHEN b.typmod = -1 THEN t.typtypmod ELSE b.typmod END,
               b.not_null OR t.typnotnull, b.has_default, b.type_name
          FROM base b JOIN pg_type t ON t.oid = b.typ AND t.typtype = 'd'
    )
    SELECT b.name, b.typ, b.typmod, t.typtype::text, t.typelem, t.typcategory::text, b.not_null, b.has_default,
           b.type_name, e.typtype::text
      FROM base b JOIN pg_type t ON t.oid = b.typ LEFT JOIN pg_type e ON e.oid = t.typelem
     WHERE t.typtype <> 'd'
     ORDER BY b.attnum";

async fn read_column(pools: &Pools, row: &Row) -> Result<Column, StoreError> {
    let oid: u32 = row.try_get(1)?;
    let typmod: i32 = row.try_get(2)?;
    let typtype: String = row.try_get(3)?;
    let element: u32 = row.try_get(4)?;
    let category: String = row.try_get(5)?;
    let element_typtype: Option<String> = row.try_get(9)?;
    let not_null: bool = row.try_get(6)?;
    // `int2vector` and `oidvector` call themselves arrays and are none.
    let kind = if category == "A" && element != 0 && !matches!(oid, 22 | 30) {
        let labels = labels(pools, element, element_typtype.as_deref().unwrap_or_default()).await?;
        let inner = ColumnType::from_catalog(element, typmod, labels);
        match inner {
            ColumnType::Other => ColumnType::Other,
            inner => ColumnType::Array { element: Box::new(inner), element_oid: element },
        }
    } else {
        let labels = labels(pools, oid, &typtype).await?;
        ColumnType::from_catalog(oid, typmod, labels)
    };
    Ok(Column {
        name: row.try_get(0)?,
        kind,
        type_name: row.try_get(8)?,
        nullable: !not_null,
        has_default: row.try_get(7)?,
    })
}

/// The labels of an enum type, none for any other.
async fn labels(pools: &Pools, oid: u32, typtype: &str) -> Result<Option<Vec<String>>, StoreError> {
    if typtype != "e" {
        return Ok(None);
    }
    let rows =
        pools.query("SELECT enumlabel::text FROM pg_enum WHERE enumtypid = $1 ORDER BY enumsortorder", &[&oid]).await?;
    Ok(Some(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?))
}

fn target(detail: String, advice: &'static str) -> StoreError {
    StoreError::Target { detail, advice }
}
