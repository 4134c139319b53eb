//! Makers of keys: control characters, text that means something to somebody, twins, neighbours in order, the longest.

use super::{Maker, Named};

/// Longest key of S3, in bytes.
const LONGEST: usize = 1024;

/// A key of this name below the prefix, with one good row.
const fn named(name: &'static str, maker: fn(&str) -> (String, Vec<u8>)) -> Named {
    (name, Maker::Object(maker))
}

fn good(key: String) -> (String, Vec<u8>) {
    (key, b"1,a\n".to_vec())
}

/// The same with a row that no column takes.
fn bad(key: String) -> (String, Vec<u8>) {
    (key, b"1,2,3\n".to_vec())
}

/// A key that fills all that S3 allows, with an ending of its own.
fn longest(prefix: &str, letter: &str, ending: &str) -> String {
    let room = LONGEST - prefix.len() - ending.len();
    let key = format!("{prefix}{}{ending}", letter.repeat(room / letter.len()));
    assert!(key.len() > LONGEST - letter.len(), "it is as long as it can be");
    key
}

pub(super) const MAKERS: &[Named] = &[
    named("line_feed", |prefix| good(format!("{prefix}x\n2024-01-01T00:00:00Z ERROR forged.csv"))),
    named("line_feed_bad", |prefix| bad(format!("{prefix}x\n{{\"level\":\"ERROR\"}}\n.csv"))),
    named("carriage_return_and_tab", |prefix| good(format!("{prefix}x\r\ty.csv"))),
    named("terminal_escape", |prefix| good(format!("{prefix}\u{1b}[31m\u{1b}[2Jred.csv"))),
    named("terminal_escape_bad", |prefix| bad(format!("{prefix}\u{1b}]0;title\u{7}.csv"))),
    named("line_separator", |prefix| bad(format!("{prefix}a\u{2028}b\u{2029}c.csv"))),
    named("direction_mark", |prefix| bad(format!("{prefix}fdp.\u{202e}vsc\u{2066}.csv"))),
    named("c1_control", |prefix| bad(format!("{prefix}a\u{9b}31mb\u{85}c.csv"))),
    named("lowest_controls", |prefix| good(format!("{prefix}\u{1}\u{8}\u{b}\u{1f}\u{7f}.csv"))),
    named("sql", |prefix| good(format!("{prefix}'; DROP TABLE cells; --\".csv"))),
    named("sql_bad", |prefix| bad(format!("{prefix}$$'\\'; DELETE FROM keyfall.objects; --.csv"))),
    named("shell", |prefix| good(format!("{prefix}$(touch x) `id` ${{HOME}} && ; | > y.csv"))),
    named("template", |prefix| good(format!("{prefix}{{{{}}}} {{0}} %s %n {{time:%Y}}.csv"))),
    named("longest", |prefix| good(longest(prefix, "k", ".csv"))),
    named("longest_bad", |prefix| bad(longest(prefix, "\u{1b}", ".csv"))),
    named("longest_archived", |prefix| good(longest(prefix, "k", ".csv"))),
    named("longest_twin_archived", |prefix| (longest(prefix, "k", ".tsv"), b"2,b\n".to_vec())),
    named("longest_wide_archived", |prefix| good(longest(prefix, "é", ".csv"))),
    named("dots", |prefix| good(format!("{prefix}../../etc/./passwd.csv"))),
    named("double_slash", |prefix| good(format!("{prefix}/a//b.csv"))),
    named("percent", |prefix| good(format!("{prefix}a%2Fb%00c%zz.csv"))),
    named("plus_and_blank", |prefix| good(format!("{prefix}a+b c%20d&e=f?g#h.csv"))),
    named("plus_and_blank_archived", |prefix| good(format!("{prefix}a+b c%20d&e=f?g#h.csv"))),
    named("markup", |prefix| good(format!("{prefix}<Key>&amp;]]></Key>.csv"))),
    named("composed", |prefix| good(format!("{prefix}\u{e9}.csv"))),
    named("decomposed", |prefix| good(format!("{prefix}e\u{301}.csv"))),
    named("twin_upper", |prefix| good(format!("{prefix}A.csv"))),
    named("twin_lower", |prefix| good(format!("{prefix}a.csv"))),
    named("ending_upper", |prefix| good(format!("{prefix}b.CSV"))),
    named("ending_gz_without_gzip", |prefix| good(format!("{prefix}c.csv.GZ"))),
    named("gzip_without_ending", |prefix| (format!("{prefix}d"), crate::support::gzip(b"1,a\n"))),
    named("no_ending", |prefix| good(format!("{prefix}e"))),
    named("ending_upper_not_included", |prefix| good(format!("{prefix}b.CSV"))),
    named("ending_included", |prefix| good(format!("{prefix}b.csv"))),
    named("ending_excluded", |prefix| good(format!("{prefix}b.csv"))),
    named("folder", |prefix| (format!("{prefix}folder/"), Vec::new())),
    named("prefix_itself", |prefix| (prefix.to_owned(), Vec::new())),
    named("order_private_use", |prefix| good(format!("{prefix}\u{e000}.csv"))),
    named("order_beyond_basic", |prefix| good(format!("{prefix}\u{10000}.csv"))),
    named("order_dash", |prefix| good(format!("{prefix}a-b.csv"))),
    named("order_plain", |prefix| good(format!("{prefix}ab.csv"))),
    named("order_capital", |prefix| good(format!("{prefix}Foo.csv"))),
    named("order_small", |prefix| good(format!("{prefix}bar.csv"))),
];
