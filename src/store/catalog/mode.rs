//! Whether a table can be loaded the way its feed wants it.

use crate::config::feed::Mode;

use super::super::error::StoreError;
use super::super::identifier::quoted_table;
use super::{Shape, target};

impl Shape {
    /// Refuses a table that does not fit the mode.
    pub fn refuse_mode(&self, mode: &Mode) -> Result<(), StoreError> {
        let name = quoted_table(&self.table);
        let (key, newer_by) = match mode {
            Mode::Append => return Ok(()),
            Mode::Replace => return self.refuse_followers(),
            Mode::Upsert { key, newer_by } => (key, newer_by),
        };
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

    /// Replacing a table must change no other.
    fn refuse_followers(&self) -> Result<(), StoreError> {
        if self.stored.followed_by.is_empty() {
            return Ok(());
        }
        let (name, tables) = (quoted_table(&self.table), self.stored.followed_by.join(", "));
        Err(target(
            format!("replacing {name} would delete or change rows of {tables}, which refer to it ON DELETE"),
            "make the foreign key DEFERRABLE INITIALLY DEFERRED without ON DELETE, or use mode \"upsert\"",
        ))
    }
}
