//! Hostile keys and names: who chooses a key forges no log line and reaches no file, and no name becomes SQL.

use std::fmt::Write as _;

use keyfall::config::feed::TableName;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};

use crate::support::{BUCKET, Lab};

/// Keys a producer could choose. Each is a key of S3: UTF-8, at most 1024 bytes.
fn keys() -> Vec<String> {
    let mut keys = [
        "f/a\n2024-01-01T00:00:00Z ERROR forged.csv",
        "f/{\"level\":\"ERROR\",\"message\":\"forged\"}\n.csv",
        "f/\u{1b}[2J\u{1b}]0;owned\u{7}.csv",
        "f/\r\nforged\u{0b}\u{0c}\u{85}.csv",
        "f/\u{2028}\u{2029}\u{202e}vsc.\u{2066}x.csv",
        "f/\u{9b}31m\u{7f}.csv",
        "f/../../../../etc/cron.d/x.csv",
        "f/..\\..\\windows.csv",
        "f//etc/passwd.csv",
        "f/%2e%2e%2f%00%0a.csv",
        "f/'; DROP TABLE t; --.csv",
        "f/\";\\! id\\copy t from program 'id'.csv",
        "f/${jndi:ldap://x}$(id)`id`.csv",
    ]
    .map(str::to_owned)
    .to_vec();
    keys.push(format!("f/{}.csv", "\u{1b}".repeat(1000)));
    keys
}

const FEED: &str = "[feeds.f]\nbucket = \"drop\"\nprefix = \"f/\"\ntable = \"t\"\ncsv.header = false\n\
                    disposal = { action = \"archive\", prefix = \"archive/\" }\n";

/// A key without its prefix and suffix, with room for others.
fn shortened(key: &str) -> String {
    let inner = key.trim_start_matches("f/").trim_end_matches(".csv");
    inner.chars().take(300).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_forges_no_log_line_and_its_archive_key_is_the_prefix_and_the_key() {
    for format in ["json", "text"] {
        let lab = Lab::new().await;
        lab.execute("CREATE TABLE t (a int)").await;
        lab.migrate().await;
        let keys = keys();
        for key in &keys {
            lab.s3.put(BUCKET, key, "1\n");
            // The same again, refused: the key stands in the refusal, too.
            lab.s3.put(BUCKET, &format!("f/bad{}", shortened(key)), "x\n");
        }
        let settings =
            [&format!("telemetry.format={format}"), "telemetry.log=keyfall=trace", "feeds.f.poll_interval=200ms"];
        let mut daemon = lab.daemon(FEED, &settings);
        let count = i64::try_from(keys.len()).expect("few");
        lab.until_objects("loaded", "done", count).await;
        lab.until_objects("quarantined", "none", count).await;
        daemon.signal("TERM");
        assert_eq!(daemon.ended().await, 0, "{}", daemon.log());
        let log = daemon.log();
        assert!(log.contains("forged"), "the keys are not in the log at all");
        let mut told = std::collections::BTreeSet::new();
        for line in log.lines() {
            let forged = |c: char| {
                c.is_control()
                    || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
            };
            assert!(!line.contains(forged), "{line:?}");
            // A key has at most 1024 bytes; escaped, each takes six characters. A line may name it a few times.
            assert!(line.len() < 32 * 1024, "{} bytes", line.len());
            if format == "json" {
                let parsed: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
                let said = parsed["object.key"].as_str().or_else(|| parsed["span"]["object.key"].as_str());
                told.extend(said.and_then(|uri| uri.strip_prefix("s3://drop/")).map(str::to_owned));
                assert!(parsed["timestamp"].is_string() && parsed["level"].is_string(), "{line}");
            } else {
                assert!(line.starts_with("20") && line.contains('Z'), "a line without its own time: {line}");
            }
        }
        let escaped = |key: &String| key.escape_debug().to_string();
        let untold: Vec<_> = keys.iter().map(escaped).filter(|key| format == "json" && !told.contains(key)).collect();
        assert!(untold.is_empty(), "no line names these whole: {untold:?}");
        let mut expected: Vec<_> = keys.iter().map(|key| format!("archive/{key}")).collect();
        expected.sort();
        let archived: Vec<_> = lab.s3.keys(BUCKET).into_iter().filter(|key| key.starts_with("archive/")).collect();
        assert_eq!(archived, expected);
        assert_eq!(lab.count("SELECT count(*) FROM t").await, count);
    }
}

/// A name PostgreSQL takes: any characters but NUL, at most 63 bytes.
fn names() -> impl Strategy<Value = String> {
    let odd = prop_oneof![
        any::<char>(),
        Just('"'),
        Just('\''),
        Just('\\'),
        Just(';'),
        Just('.'),
        Just('$'),
        Just('\n'),
        proptest::char::range('a', 'z'),
    ];
    proptest::collection::vec(odd, 1..24).prop_map(|chars| {
        let mut name = String::new();
        for c in chars.into_iter().filter(|c| *c != '\0') {
            if name.len() + c.len_utf8() <= 63 {
                name.push(c);
            }
        }
        if name.is_empty() { "x".to_owned() } else { name }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_names_of_schema_table_and_columns_survive_create_copy_read_and_drop() {
    let lab = Lab::new().await;
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    // Many feeds in one pass: a cluster of processes for each name would prove no more.
    let mut wanted = Vec::new();
    let (mut feeds, mut made) = (String::new(), String::new());
    for n in 0..64 {
        let strategy = (names(), names(), names(), names());
        let (schema, table, one, two) = strategy.new_tree(&mut runner).expect("names").current();
        let (schema, two) = (format!("{n}{schema}"), if one == two { format!("{n}") } else { two });
        let schema = schema.chars().take(12).collect::<String>();
        let names = TableName { schema: schema.clone(), table };
        let quoted = keyfall::store::identifier::quoted_table(&names);
        let [one_sql, two_sql] = [&one, &two].map(|name| keyfall::store::identifier::quoted(name));
        write!(
            made,
            "CREATE SCHEMA {}; CREATE TABLE {quoted} ({one_sql} int, {two_sql} text);",
            keyfall::store::identifier::quoted(&schema)
        )
        .expect("memory takes it");
        let literal = |text: &str| serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f");
        write!(
            feeds,
            "[feeds.f{n}]\nbucket = \"drop\"\nprefix = \"f{n}/\"\ntable = {}\ncsv.header = false\n\
             [feeds.f{n}.columns]\n{} = 1\n{} = 2\n",
            literal(&quoted),
            literal(&one),
            literal(&two)
        )
        .expect("memory takes it");
        lab.s3.put(BUCKET, &format!("f{n}/1.csv"), format!("{n},text {n}\n"));
        wanted.push((n, quoted, one_sql, two_sql, schema));
    }
    lab.execute(&made).await;
    assert_eq!(lab.once(&feeds).await, 0, "{:?}", lab.ledger().await);
    for (n, quoted, one, two, schema) in wanted {
        let row = format!("SELECT {one} || '|' || {two} FROM {quoted}");
        assert_eq!(lab.texts(&row).await, [format!("{n}|text {n}")], "{quoted}");
        lab.execute(&format!("DROP SCHEMA {} CASCADE", keyfall::store::identifier::quoted(&schema))).await;
    }
    let left = "SELECT count(*) FROM pg_namespace WHERE nspname ~ '^[0-9]'";
    assert_eq!(lab.count(left).await, 0);
}
