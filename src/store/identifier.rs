//! The one place where names become SQL.

use postgres_protocol::escape::escape_identifier;

use crate::config::feed::TableName;

/// A quoted identifier, whatever is in the name.
pub fn quoted(name: &str) -> String {
    escape_identifier(name)
}

/// A quoted, schema-qualified table name.
pub fn quoted_table(table: &TableName) -> String {
    format!("{}.{}", quoted(&table.schema), quoted(&table.table))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_quotes() {
        let table = TableName { schema: "pub\"lic".to_owned(), table: "t; DROP TABLE x; --".to_owned() };
        assert_eq!(quoted_table(&table), "\"pub\"\"lic\".\"t; DROP TABLE x; --\"");
    }
}
