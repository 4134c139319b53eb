//! What a load that is only tried can tell before it is rolled back.

use crate::domain::record::Rejection;
use crate::store::catalog::Provenance;

use super::{Context, LoadError, Ready, Way, fitting_targets};

/// Rows a trial has put into one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRows {
    /// Table.
    pub table: String,
    /// Rows; `None` where the table does not say which object its rows come from and is not the only one.
    pub rows: Option<u64>,
}

impl Ready {
    /// The first rejections, and the rows of each table.
    pub async fn details(&self, context: &Context, limit: u32) -> Result<(Vec<Rejection>, Vec<TableRows>), LoadError> {
        let Some(counts) = self.counts.first() else { return Ok((Vec::new(), Vec::new())) };
        let rejections = self.load.rejected(counts.id, limit).await?;
        let targets = fitting_targets(context, Way::ByRows).await?;
        let feed = &context.feed;
        let mut tables: Vec<TableRows> = Vec::new();
        for (target, route) in targets.iter().zip(&feed.routes) {
            let table = route.table.to_string();
            if tables.iter().any(|known| known.table == table) {
                continue;
            }
            let rows = if feed.tables().len() == 1 {
                Some(counts.loaded.unsigned_abs())
            } else if target.shape.fills(Provenance::ObjectId, &route.mapping) {
                Some(self.load.rows_in(&target.shape, counts.id).await?)
            } else {
                None
            };
            tables.push(TableRows { table, rows });
        }
        Ok((rejections, tables))
    }
}
