//! Who works on the ledger, as `status` shows it.

use jiff::Timestamp;
use serde::Serialize;

use super::super::error::StoreError;
use super::{Ledger, from_bigint};

/// One running engine, or one that ended without signing off within the last day.
#[derive(Debug, Clone, Serialize)]
pub struct InstanceRow {
    /// Name.
    pub name: String,
    /// Version of the program.
    pub version: String,
    /// Whether its last heartbeat is recent.
    pub alive: bool,
    /// Since when it runs.
    pub started_at: Timestamp,
    /// Its last heartbeat.
    pub seen_at: Timestamp,
    /// Objects leased to instances of this name now.
    pub leased: u64,
    /// What it does alone at the moment, as `feed:duty`.
    pub duties: Vec<String>,
}

impl Ledger {
    /// Every instance, those alive first, by name.
    pub async fn instances(&self) -> Result<Vec<InstanceRow>, StoreError> {
        let rows = self.query(INSTANCES, &[]).await?;
        rows.iter()
            .map(|row| {
                Ok(InstanceRow {
                    name: row.try_get(0)?,
                    version: row.try_get(1)?,
                    alive: row.try_get(2)?,
                    started_at: row.try_get(3)?,
                    seen_at: row.try_get(4)?,
                    leased: from_bigint(row.try_get(5)?),
                    duties: row.try_get(6)?,
                })
            })
            .collect()
    }
}

const INSTANCES: &str = "-- ledger::instances
    SELECT name, version, alive, started_at, seen_at, leased, duties
      FROM keyfall.instance_status ORDER BY alive DESC, name, started_at";
