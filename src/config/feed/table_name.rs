//! Table names as SQL writes them: `schema.table`, parts in double quotes where they are not plain.
//!
//! An unquoted part is folded to lower case, as the server would. Nothing is quoted here, and whether the table exists
//! is found out elsewhere.

use super::TableName;

/// PostgreSQL cuts longer identifiers, silently; we refuse them.
pub(super) const MAX_IDENTIFIER: usize = 63;

/// Schemas that are not ours to load into.
const RESERVED: [&str; 3] = ["keyfall", "pg_catalog", "information_schema"];

/// Splits and unquotes a table name.
pub(super) fn parse(text: &str) -> Result<TableName, String> {
    let mut parts = Vec::new();
    let mut rest = text.trim();
    loop {
        let (part, after) = part(rest)?;
        parts.push(part);
        match after.strip_prefix('.') {
            Some(after) => rest = after,
            None if after.is_empty() => break,
            None => return Err("has text after a closing quote".to_owned()),
        }
    }
    for part in &parts {
        check_identifier(part)?;
    }
    let name = match <[String; 1]>::try_from(parts) {
        Ok([table]) => TableName { schema: "public".to_owned(), table },
        Err(parts) => match <[String; 2]>::try_from(parts) {
            Ok([schema, table]) => TableName { schema, table },
            Err(_) => return Err("has more than two parts; the database is chosen in [database]".to_owned()),
        },
    };
    if RESERVED.contains(&name.schema.as_str()) {
        return Err(format!("lies in schema {}, which is not for loading", name.schema));
    }
    Ok(name)
}

/// What holds for every identifier of the server.
pub(super) fn check_identifier(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("has an empty name".to_owned());
    }
    if name.len() > MAX_IDENTIFIER {
        return Err(format!("has a name of {} bytes; PostgreSQL allows {MAX_IDENTIFIER}", name.len()));
    }
    if name.contains('\0') {
        return Err("holds a NUL byte".to_owned());
    }
    Ok(())
}

/// The first part, and what follows it.
fn part(text: &str) -> Result<(String, &str), String> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (plain, rest) = text.split_at(text.find(['.', '"']).unwrap_or(text.len()));
        let begins_well = plain.starts_with(|c: char| c.is_alphabetic() || c == '_');
        let goes_on_well = plain.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '$');
        // An empty part gets its own message.
        let usable = plain.is_empty() || (begins_well && goes_on_well);
        if !usable {
            return Err(format!("has {plain:?} in it, which must stand in double quotes"));
        }
        return Ok((plain.to_ascii_lowercase(), rest));
    };
    let mut name = String::new();
    let mut rest = quoted;
    loop {
        let Some((before, after)) = rest.split_once('"') else {
            return Err("has a double quote that does not end".to_owned());
        };
        name.push_str(before);
        match after.strip_prefix('"') {
            Some(after) => {
                name.push('"');
                rest = after;
            }
            None => return Ok((name, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split_folded_and_unquoted_as_in_sql() {
        for (text, schema, table) in [
            ("departments", "public", "departments"),
            ("hr.departments", "hr", "departments"),
            ("HR.Departments", "hr", "departments"),
            (r#""My Schema"."T""#, "My Schema", "T"),
            (r#"hr."a.b""#, "hr", "a.b"),
            (r#""say ""hi""""#, "public", "say \"hi\""),
            ("größe", "public", "größe"),
        ] {
            let expected = TableName { schema: schema.to_owned(), table: table.to_owned() };
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_table_name_is_refused() {
        for text in [
            "",
            ".",
            "a.",
            ".a",
            "a.b.c",
            "a-b",
            "a b",
            "1a",
            r#""a"#,
            r#""a"b"#,
            r#"a"b""#,
            r#""""#,
            "keyfall.objects",
            "pg_catalog.pg_class",
            &"x".repeat(64),
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
