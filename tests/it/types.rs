//! Types: what the table says a column is, is what the cell becomes.

use crate::support::{BUCKET, Lab};

/// Column type, cell, and the value as PostgreSQL prints it.
const VALUES: &[(&str, &str, &str)] = &[
    ("boolean", "yes", "true"),
    ("smallint", "-32768", "-32768"),
    ("integer", "+42", "42"),
    ("bigint", "9223372036854775807", "9223372036854775807"),
    ("real", "1.5e3", "1500"),
    ("double precision", "0.1", "0.1"),
    ("numeric", "123456789012345678901234567890.0100", "123456789012345678901234567890.0100"),
    ("numeric(10,2)", "12345678.005", "12345678.01"),
    ("text", "tab\tquote' backslash\\", "tab\tquote' backslash\\"),
    ("varchar(3)", "äöü", "äöü"),
    ("character(4)", "ab", "ab"),
    ("bytea", "\\xdeadBEEF", "\\xdeadbeef"),
    ("date", "2024-02-29", "2024-02-29"),
    ("time", "23:59:59.123456", "23:59:59.123456"),
    ("timestamp", "2024-02-29 12:00:00.5", "2024-02-29 12:00:00.5"),
    ("timestamptz", "2024-07-01T12:00:00Z", "2024-07-01 12:00:00+00"),
    ("timestamptz", "2024-07-01 12:00:00", "2024-07-01 10:00:00+00"),
    ("uuid", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    ("json", "{\"a\": 1.10}", "{\"a\": 1.10}"),
    ("jsonb", "{\"b\":1,\"a\":[1e2]}", "{\"a\": [100], \"b\": 1}"),
    ("mood", "very happy", "very happy"),
    ("mood[]", "{\"very happy\",sad,NULL}", "{\"very happy\",sad,NULL}"),
    ("integer[]", "{{1,2},{3,4}}", "{{1,2},{3,4}}"),
    ("text[]", "{\"a,b\",\"\\\"\",NULL,\"NULL\"}", "{\"a,b\",\"\\\"\",NULL,\"NULL\"}"),
    ("timestamptz[]", "{2024-07-01T12:00:00Z}", "{\"2024-07-01 12:00:00+00\"}"),
    ("positive", "7", "7"),
    ("label", "abc", "abc"),
];

/// Types we do not encode: their table goes by COPY TEXT.
const BY_TEXT: &[(&str, &str, &str)] = &[
    ("inet", "10.0.0.1/8", "10.0.0.1/8"),
    ("interval", "1 day 2 hours", "1 day 02:00:00"),
    ("point", "(1,2.5)", "(1,2.5)"),
    ("int4range", "[1,5]", "[1,6)"),
    ("tsvector", "'b' 'a'", "'a' 'b'"),
    ("money", "12.34", "$12.34"),
    ("xml", "<a>b</a>", "<a>b</a>"),
    ("inet[]", "{10.0.0.1,::1}", "{10.0.0.1,::1}"),
];

const NEW_TYPES: &str = "SET lc_monetary = 'C';
    CREATE TYPE mood AS ENUM ('sad', 'very happy');
    CREATE DOMAIN positive AS integer CHECK (VALUE > 0);
    CREATE DOMAIN label AS varchar(3) NOT NULL;";

/// One row of all these, once with values and once with NULL where NULL is allowed.
async fn becomes(values: &[(&str, &str, &str)]) {
    let lab = Lab::new().await;
    lab.execute(NEW_TYPES).await;
    let (mut columns, mut cells, mut blanks) = (Vec::new(), Vec::new(), Vec::new());
    for (n, (kind, cell, _)) in values.iter().enumerate() {
        columns.push(format!("c{n} {kind}"));
        cells.push(format!("\"{}\"", cell.replace('"', "\"\"")));
        blanks.push(if *kind == "label" { "x" } else { "" });
    }
    lab.execute(&format!("CREATE TABLE things ({})", columns.join(", "))).await;
    lab.s3.put(BUCKET, "things/1.csv", format!("{}\n{}\n", cells.join(","), blanks.join(",")));
    let feed = "[feeds.things]\nbucket = \"drop\"\nprefix = \"things/\"\ntable = \"things\"\nvalue_timezone = \"Europe/Madrid\"\ncsv.header = false\n";
    assert_eq!(lab.once(feed).await, 0, "{:?}", lab.entry("things/1.csv").await);
    lab.execute("SET timezone = 'UTC'; SET lc_monetary = 'C'").await;
    for (n, (kind, cell, expected)) in values.iter().enumerate() {
        let found = lab.texts(&format!("SELECT c{n}::text FROM things ORDER BY c{n}::text = 'x', c{n} IS NULL")).await;
        let blank = if *kind == "label" { "x" } else { "∅" };
        let expected = if *kind == "money" { found[0].clone() } else { (*expected).to_owned() };
        assert_eq!(found, [expected.as_str(), blank], "{kind} from {cell:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_type_we_encode_becomes_the_value_that_was_written() {
    becomes(VALUES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_column_of_another_type_sends_the_whole_table_by_text_with_the_same_values() {
    let all: Vec<(&str, &str, &str)> = VALUES.iter().chain(BY_TEXT).copied().collect();
    becomes(&all).await;
}
