//! Whether a table can be loaded the way its feed wants it.

use crate::config::feed::Mode;

use super::super::error::StoreError;
use super::super::identifier::quoted_table;
use super::{Shape, target};

impl Shape {
    /// Refuses a table that does not fit the mode.
    pub fn refuse_mode(&self, mode: &Mode) -> Result<(), StoreError> {
        let Mode::Upsert { key, newer_by } = mode else { return Ok(()) };
        let name = quoted_table(&self.table);
        for column in key.iter().chain(newer_by) {
            if self.column(column).is_none() {
                return Err(target(
                    format!("rows are matched by column {column:?}, which {name} does not have"),
                    "correct `key` and `newer_by`, or add the column; loading goes on by itself",
                ));
            }
        }
        if self.stored.key(key).is_none() {
            let columns = key.join(", ");
            return Err(target(
                format!("{name} has no unique index on exactly ({columns}) that rows can be matched by"),
                "CREATE UNIQUE INDEX on these columns, neither partial nor deferrable; loading goes on by itself",
            ));
        }
        Ok(())
    }
}
