//! Names for columns, tables and feeds from whatever stands in keys and headers.

/// Longest identifier of PostgreSQL's, in bytes.
const LONGEST: usize = 63;

/// Columns that every table has, and ours.
const TAKEN: [&str; 8] = ["ctid", "xmin", "xmax", "cmin", "cmax", "tableoid", "_object_id", "_record_no"];

/// Words that must stand in quotes where a column's or a table's name is meant.
const RESERVED: [&str; 96] = [
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "authorization",
    "binary",
    "both",
    "case",
    "cast",
    "check",
    "collate",
    "collation",
    "column",
    "concurrently",
    "constraint",
    "create",
    "cross",
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "false",
    "fetch",
    "for",
    "foreign",
    "freeze",
    "from",
    "full",
    "grant",
    "group",
    "having",
    "ilike",
    "in",
    "initially",
    "inner",
    "intersect",
    "into",
    "is",
    "isnull",
    "join",
    "lateral",
    "leading",
    "left",
    "like",
    "limit",
    "localtime",
    "localtimestamp",
    "natural",
    "not",
    "notnull",
    "null",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "outer",
    "overlaps",
    "placing",
    "primary",
    "references",
    "returning",
    "right",
    "select",
    "session_user",
    "similar",
    "some",
    "symmetric",
    "table",
    "tablesample",
    "then",
    "to",
    "trailing",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "verbose",
    "when",
];

/// A plain identifier: lower case, with `_` for everything that is no letter or digit.
pub(super) fn identifier(text: &str) -> String {
    let mut name = String::new();
    let mut is_gap = false;
    for c in text.chars() {
        if c.is_alphanumeric() || c == '_' {
            if is_gap && !name.is_empty() && !name.ends_with('_') && c != '_' {
                name.push('_');
            }
            is_gap = false;
            name.extend(c.to_lowercase());
        } else {
            is_gap = true;
        }
    }
    if name.starts_with(|c: char| c.is_numeric()) {
        name.insert(0, '_');
    }
    cut(&name, LONGEST)
}

/// Identifiers of all columns: each once, none of those that are taken.
pub(super) fn columns<'t>(names: impl IntoIterator<Item = &'t str>) -> Vec<String> {
    let mut used: Vec<String> = TAKEN.iter().map(|name| (*name).to_owned()).collect();
    let mut columns = Vec::new();
    for (place, name) in names.into_iter().enumerate() {
        let plain = identifier(name);
        let base = if plain.trim_matches('_').is_empty() { format!("c{}", place + 1) } else { plain };
        let mut column = base.clone();
        let mut number = 2;
        while used.contains(&column) {
            let tail = format!("_{number}");
            column = format!("{}{tail}", cut(&base, LONGEST - tail.len()));
            number += 1;
        }
        used.push(column.clone());
        columns.push(column);
    }
    columns
}

/// The name of a feed: letters of ASCII, digits and single `_`; `None` where nothing is left.
pub(super) fn feed(text: &str) -> Option<String> {
    let mut name = String::new();
    for c in text.chars() {
        match c.to_ascii_lowercase() {
            c if c.is_ascii_lowercase() || c.is_ascii_digit() => name.push(c),
            _ if name.ends_with('_') || name.is_empty() => {}
            _ => name.push('_'),
        }
    }
    let name = name.trim_matches(|c: char| c == '_' || c.is_ascii_digit());
    let name = cut(name, 50);
    let name = name.trim_end_matches('_');
    (!name.is_empty()).then(|| name.to_owned())
}

/// The feed that a pattern or prefix is named after: its last word that is no ending of files.
pub(super) fn feed_of(place: &str) -> Option<String> {
    // What stands in braces is no word of it.
    let mut outside = String::new();
    let mut depth = 0_u32;
    for c in place.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ if depth > 0 => {}
            '*' => outside.push('/'),
            c => outside.push(c),
        }
        if c == '}' {
            outside.push('/');
        }
    }
    let words = outside.rsplit('/').map(|part| {
        let is_ending = part.starts_with('.');
        let stem = if is_ending { "" } else { part.split('.').next().unwrap_or_default() };
        // `dt=` names the time, not the feed.
        stem.rsplit_once('=').map_or(stem, |_| "")
    });
    let words: Vec<String> = words.filter_map(feed).collect();
    // A lone letter is rather the zone of a time, or a folder's number.
    words.iter().find(|word| word.len() > 1).or(words.first()).cloned()
}

/// Whether SQL and our configuration read a name as it stands.
pub(super) fn is_plain(name: &str) -> bool {
    let is_word = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    is_word && !name.starts_with(|c: char| c.is_ascii_digit()) && !RESERVED.contains(&name) && !name.is_empty()
}

fn cut(name: &str, most: usize) -> String {
    let end = (0..=most.min(name.len())).rev().find(|end| name.is_char_boundary(*end)).unwrap_or(0);
    name.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_identifiers_that_are_all_different() {
        let found =
            columns(["id", "ID", "Hire Date", "dep.name", "größe", "2nd", "", "?", "_object_id", "xmin", "a__b"]);
        let expected =
            ["id", "id_2", "hire_date", "dep_name", "größe", "_2nd", "c7", "c8", "_object_id_2", "xmin_2", "a__b"];
        assert_eq!(found, expected);
        let long = "x".repeat(80);
        let found = columns([long.as_str(), long.as_str()]);
        assert_eq!(found.iter().map(String::len).collect::<Vec<_>>(), [63, 63]);
        assert_ne!(found[0], found[1]);
    }

    #[test]
    fn a_feed_is_called_after_the_last_word_of_its_place() {
        for (place, name) in [
            ("data/{time:%Y-%m-%d-%H-%M-%S}-events.json", Some("events")),
            ("departments/{time:%Y-%m-%d}.csv", Some("departments")),
            ("x/vendor={vendor}/dt={time:%Y-%m-%d}/*.json.gz", Some("x")),
            ("globant/hired_employees.csv", Some("hired_employees")),
            ("a/dump_{time:%Y%m%dT%H%M%S}Z.txt.gz", Some("dump")),
            ("totesys/csv/", Some("csv")),
            ("a/2024/", Some("a")),
            ("Ünïcode Name/", Some("n_code_name")),
            ("{time:%Y%m%d}.csv", None),
            ("", None),
        ] {
            assert_eq!(feed_of(place).as_deref(), name, "{place}");
            assert!(name.is_none_or(|name| name.parse::<crate::domain::feed::FeedName>().is_ok()));
        }
    }

    #[test]
    fn reserved_words_and_capitals_need_quotes() {
        assert!(is_plain("department") && is_plain("_2nd"));
        for name in ["user", "order", "A", "größe", "2nd", "", "a b"] {
            assert!(!is_plain(name), "{name}");
        }
    }
}
