//! Which objects an operator's selection means, without everything else that is known of them.

use super::super::error::StoreError;
use super::{Ledger, ObjectFilter};

/// One chosen object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// Ledger id.
    pub id: i64,
    /// Feed.
    pub feed: String,
    /// State.
    pub state: String,
}

impl Ledger {
    /// Objects matching the filter, by id: small enough to hold a million of them.
    pub async fn choose(&self, filter: &ObjectFilter) -> Result<Vec<Chosen>, StoreError> {
        let rows = self.query(CHOOSE, &[&filter.feed, &filter.states, &filter.key, &filter.ids, &filter.limit]).await?;
        rows.iter()
            .map(|row| Ok(Chosen { id: row.try_get(0)?, feed: row.try_get(1)?, state: row.try_get(2)? }))
            .collect()
    }
}

const CHOOSE: &str = "-- ledger::choose
    SELECT id, feed, state
      FROM keyfall.objects
     WHERE ($1::text IS NULL OR feed = $1)
       AND (cardinality($2::text[]) = 0 OR state = ANY($2))
       AND ($3::text IS NULL OR position($3 IN key) > 0)
       AND (cardinality($4::bigint[]) = 0 OR id = ANY($4))
     ORDER BY id LIMIT $5";
