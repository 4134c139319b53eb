//! The proposal as somebody copies it: a feed's section, and the table in SQL.

use crate::config::feed::{Csv, Encoding, Format};
use crate::store::identifier;

use super::names::is_plain;
use super::{Column, Draft};

/// A text of TOML. What JSON escapes TOML reads, but for one character.
pub(super) fn quoted(text: &str) -> String {
    let json = serde_json::Value::from(text).to_string();
    json.replace('\u{7f}', "\\u007f")
}

/// A key of TOML.
fn key(name: &str) -> String {
    let is_bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    if is_bare { name.to_owned() } else { quoted(name) }
}

/// The section of the feed, without the table.
pub(super) fn section(draft: &Draft) -> String {
    let name = &draft.feed;
    let mut lines = vec![format!("[feeds.{name}]"), format!("bucket = {}", quoted(&draft.bucket))];
    if let Some(pattern) = &draft.pattern {
        lines.push(format!("pattern = {}", quoted(pattern)));
    }
    if let Some(prefix) = &draft.prefix {
        lines.push(format!("prefix = {}", quoted(prefix)));
    }
    if !draft.include.is_empty() {
        let globs: Vec<String> = draft.include.iter().map(|glob| quoted(glob)).collect();
        lines.push(format!("include = [{}]", globs.join(", ")));
    }
    lines.push(format!("table = {}", quoted(&draft.table)));
    if draft.format != Format::Csv {
        lines.push(format!("format = {}", quoted(draft.format.as_str())));
    }
    if let Some(records) = &draft.records {
        lines.push(format!("json.records = {}", quoted(records)));
    }
    if draft.format == Format::Csv {
        lines.extend(dialect(&draft.csv, draft.filters_blanks));
    }
    if draft.columns.iter().any(Column::needs_mapping) {
        lines.push(String::new());
        lines.push(format!("[feeds.{name}.columns]"));
        lines.extend(draft.columns.iter().map(|column| format!("{} = {}", key(&column.name), source(column))));
    }
    lines.push(String::new());
    lines.join("\n")
}

/// What differs from the usual dialect.
fn dialect(csv: &Csv, filters_blanks: bool) -> Vec<String> {
    let mut lines = Vec::new();
    if !csv.header {
        lines.push("csv.header = false".to_owned());
    }
    if csv.delimiter != b',' {
        lines.push(format!("csv.delimiter = {}", quoted(&char::from(csv.delimiter).to_string())));
    }
    match csv.quote {
        Some(b'"') => {}
        Some(quote) => lines.push(format!("csv.quote = {}", quoted(&char::from(quote).to_string()))),
        None => lines.push("csv.quote = \"\"".to_owned()),
    }
    let encoding = match csv.encoding {
        Encoding::Utf8 => None,
        Encoding::Latin1 => Some("latin1"),
        Encoding::Windows1252 => Some("windows-1252"),
        Encoding::Utf16 => Some("utf-16"),
    };
    lines.extend(encoding.map(|encoding| format!("csv.encoding = {}", quoted(encoding))));
    if filters_blanks {
        lines.push("csv.blank_records = \"filter\"".to_owned());
    }
    lines
}

/// Where a column's value comes from.
fn source(column: &Column) -> String {
    let whole = column.path.join(".");
    let is_stepped = column.path.len() > 1 && column.path.iter().any(|step| step.contains('.'));
    let field = match column.position {
        Some(position) => ("position", position.to_string()),
        None if is_stepped => {
            let steps: Vec<String> = column.path.iter().map(|step| quoted(step)).collect();
            ("path", format!("[{}]", steps.join(", ")))
        }
        None => ("field", quoted(&whole)),
    };
    let mut rules = Vec::new();
    if !column.rules.null.is_empty() {
        let mut words = vec![quoted("")];
        words.extend(column.rules.null.iter().map(|word| quoted(word)));
        rules.push(format!("null = [{}]", words.join(", ")));
    }
    if column.rules.trim {
        rules.push("trim = true".to_owned());
    }
    if column.rules.integral_floats {
        rules.push("integral_floats = true".to_owned());
    }
    let (name, value) = field;
    if rules.is_empty() && !is_stepped {
        return value;
    }
    rules.insert(0, format!("{name} = {value}"));
    format!("{{ {} }}", rules.join(", "))
}

/// An identifier of SQL, in quotes where it needs them.
fn sql(name: &str) -> String {
    if is_plain(name) { name.to_owned() } else { identifier::quoted(name) }
}

/// The statements that make the table.
pub(super) fn ddl(schema: &str, table: &str, columns: &[Column]) -> String {
    let mut lines = Vec::new();
    if schema != "public" {
        lines.push(format!("CREATE SCHEMA IF NOT EXISTS {};", sql(schema)));
    }
    let table = format!("{}.{}", sql(schema), sql(table));
    lines.push(format!("CREATE TABLE {table} ("));
    for column in columns {
        let not_null = if column.not_null { " NOT NULL" } else { "" };
        lines.push(format!("    {} {}{not_null},", sql(&column.name), column.sql_type));
    }
    lines.push("    _object_id bigint,".to_owned());
    lines.push("    _record_no bigint".to_owned());
    lines.push(");".to_owned());
    lines.push(format!("CREATE INDEX ON {table} (_object_id);"));
    lines.push(String::new());
    lines.join("\n")
}

/// A text as a comment of TOML.
pub(super) fn commented(text: &str) -> String {
    let line = |line: &str| format!("# {}", line.replace(char::is_control, " ")).trim_end().to_owned();
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}
