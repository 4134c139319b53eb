//! Dialects of CSV: what each file means, record by record.

use std::fmt::Write as _;

use crate::support::{BUCKET, Lab, gzip, zstd};

/// A file of a dialect and the records it holds; `∅` is NULL.
struct Case {
    name: &'static str,
    csv: &'static str,
    bytes: Vec<u8>,
    records: &'static [&'static str],
}

fn case(name: &'static str, csv: &'static str, bytes: impl Into<Vec<u8>>, records: &'static [&'static str]) -> Case {
    Case { name, csv, bytes: bytes.into(), records }
}

const PLAIN: &str = "header = false";

fn marks() -> Vec<Case> {
    vec![
        case("comma", PLAIN, "1,a\n2,b\n", &["1|a", "2|b"]),
        case("semicolon", "header = false\ndelimiter = \";\"", "1;a,b\n2;\n", &["1|a,b", "2|∅"]),
        case("tab", "header = false\ndelimiter = \"\\t\"", "1\ta b\n2\tc\n", &["1|a b", "2|c"]),
        case("pipe", "header = false\ndelimiter = \"|\"", "1|a\n", &["1|a"]),
        case("single-quote", "header = false\nquote = \"'\"", "1,'a,''b'\n2,\"c\n", &["1|a,'b", "2|\"c"]),
        case("escape", "header = false\nescape = \"\\\\\"", "1,\"a\\\"b\"\n2,\"c\\\\d\"\n", &["1|a\"b", "2|c\\d"]),
        case("quotes-are-data", "header = false\nquote = \"\"", "1,\"a\n\"2\",b\"\n", &["1|\"a", "\"2\"|b\""]),
        case("lone-quote-is-data", "header = false\nquote = \"\"", "1,a\n2,\"", &["1|a", "2|\""]),
        case("header", "header = true", "b,a\nx,1\n", &["1|x"]),
        case("header-quoted", "header = true", "\"a\",\" b \"\n1,x\n", &["1|x"]),
        case("doubled-quotes", PLAIN, "1,\"say \"\"hi\"\"\"\n", &["1|say \"hi\""]),
        case("embedded", PLAIN, "1,\"a\nb\"\n2,\"c\r\nd\"\n3,\",\"\n", &["1|a\nb", "2|c\r\nd", "3|,"]),
        case("quoted-empty", PLAIN, "1,\"\"\n", &["1|∅"]),
        case("blanks-kept", PLAIN, " 1 , a \n", &[" 1 | a "]),
        case("only-commas", PLAIN, "1,a\n,\n", &["1|a", "∅|∅"]),
        case("copy-traps", PLAIN, "\\.,\\N\n\\,a\\tb\n", &["\\.|\\N", "\\|a\\tb"]),
        case("comment-is-data", PLAIN, "#1,a\n", &["#1|a"]),
        case("unicode", PLAIN, "ünï,😀\n", &["ünï|😀"]),
        case("json-value", PLAIN, "1,\"{\"\"k\"\": [1, 2]}\"\n", &["1|{\"k\": [1, 2]}"]),
    ]
}

fn line_ends() -> Vec<Case> {
    vec![
        case("crlf", PLAIN, "1,a\r\n2,b\r\n", &["1|a", "2|b"]),
        case("cr", PLAIN, "1,a\r2,b\r", &["1|a", "2|b"]),
        case("mixed", PLAIN, "1,a\r\n2,b\n3,c\r4,d", &["1|a", "2|b", "3|c", "4|d"]),
        case("no-final", PLAIN, "1,a\n2,b", &["1|a", "2|b"]),
        case("no-final-quoted", PLAIN, "1,a\n2,\"b\"", &["1|a", "2|b"]),
        case("no-final-empty-field", PLAIN, "1,a\n2,", &["1|a", "2|∅"]),
        case("no-final-cr", PLAIN, "1,a\r\n2,b\r", &["1|a", "2|b"]),
        case("quoted-then-crlf", PLAIN, "1,\"b\"\r\n", &["1|b"]),
        case("blank-lines", PLAIN, "\n\n1,a\n\n\r\n2,b\n\n\n", &["1|a", "2|b"]),
        case("bom", PLAIN, "\u{feff}1,a\n", &["1|a"]),
        case("bom-header", "header = true", "\u{feff}a,b\r\n1,x\r\n", &["1|x"]),
        case("bom-quoted", PLAIN, "\u{feff}\"1\",a\n", &["1|a"]),
    ]
}

fn empties() -> Vec<Case> {
    vec![
        case("empty", PLAIN, "", &[]),
        case("empty-with-header", "header = true", "", &[]),
        case("header-only", "header = true", "a,b\n", &[]),
        case("header-only-no-final", "header = true", "a,b", &[]),
        case("only-blank-lines", PLAIN, "\n\r\n\n", &[]),
        case("only-bom", PLAIN, "\u{feff}", &[]),
        case("empty-gz", PLAIN, gzip(b""), &[]),
        case("header-only-gz", "header = true", gzip(b"a,b\n"), &[]),
    ]
}

async fn compressed() -> Vec<Case> {
    let (one, two) = (b"1,a\n2,\"b", b"\"\n3,c");
    let padded = flate2::GzBuilder::new().extra(vec![7; 60_000]).filename("x").comment(vec![b'c'; 60_000]);
    let mut encoder = padded.write(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, b"1,a\n").expect("memory takes it");
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..], &zstd(b"2,b\n").await].concat();
    vec![
        case("one.gz", PLAIN, gzip(b"1,a\n"), &["1|a"]),
        case("one.zst", PLAIN, zstd(b"1,a\n").await, &["1|a"]),
        case("members.gz", PLAIN, [gzip(one), gzip(b""), gzip(two)].concat(), &["1|a", "2|b", "3|c"]),
        case("frames.zst", PLAIN, [zstd(one).await, zstd(two).await].concat(), &["1|a", "2|b", "3|c"]),
        case("large-header.gz", PLAIN, encoder.finish().expect("memory takes it"), &["1|a"]),
        case("skippable.zst", PLAIN, [zstd(b"1,a\n").await, skippable].concat(), &["1|a", "2|b"]),
        case("bom.gz", PLAIN, gzip("\u{feff}1,a\n".as_bytes()), &["1|a"]),
    ]
}

/// Loads each file through a feed of its own and compares every record and its number.
async fn means(cases: Vec<Case>) {
    let lab = Lab::new().await;
    lab.execute("CREATE TABLE cells (_object_id bigint, _record_no bigint, a text, b text)").await;
    let mut feeds = String::new();
    for (n, case) in cases.iter().enumerate() {
        lab.s3.put(BUCKET, &format!("f{n}/{}", case.name), case.bytes.clone());
        write!(
            feeds,
            "[feeds.f{n}]\nbucket = \"drop\"\nprefix = \"f{n}/\"\ntable = \"cells\"\ndisposal.action = \"delete\"\n[feeds.f{n}.csv]\n{}\n",
            case.csv
        )
        .expect("memory takes it");
    }
    assert_eq!(lab.once(&feeds).await, 0);
    for (n, case) in cases.iter().enumerate() {
        let key = format!("f{n}/{}", case.name);
        let entry = lab.entry(&key).await;
        assert_eq!(
            (entry.state.as_str(), entry.rows),
            ("loaded", i64::try_from(case.records.len()).ok()),
            "{key}: {entry:?}"
        );
        let found = format!(
            "SELECT coalesce(a, '∅') || '|' || coalesce(b, '∅') FROM cells
              WHERE _object_id = (SELECT id FROM keyfall.objects WHERE key = '{key}') ORDER BY _record_no"
        );
        assert_eq!(lab.texts(&found).await, case.records, "{key}");
    }
    let numbered = "SELECT count(*) FROM (SELECT _record_no, row_number() OVER (PARTITION BY _object_id
                    ORDER BY _record_no) AS n FROM cells) x WHERE _record_no <> n";
    assert_eq!(lab.count(numbered).await, 0, "records are numbered from 1 without gaps");
    assert!(lab.s3.is_empty(BUCKET), "every object is disposed of, the empty ones too: {:?}", lab.s3.keys(BUCKET));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delimiters_quotes_escapes_and_headers_mean_what_they_say() {
    means(marks()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_line_end_every_empty_file_and_every_member_is_read() {
    means([line_ends(), empties(), compressed().await].into_iter().flatten().collect()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_quote_at_the_very_end_is_refused_and_not_taken_for_an_empty_field() {
    let lab = Lab::new().await;
    lab.execute("CREATE TABLE cells (a text, b text)").await;
    for (n, text) in ["1,a\n2,\"", "\"", "1,a\n\"", "1,\"a\"\"", "1,\"a\n", "1,\"a\"\"\n"].iter().enumerate() {
        lab.s3.put(BUCKET, &format!("open/{n}"), *text);
        lab.s3.put(BUCKET, &format!("open/{n}.gz"), gzip(text.as_bytes()));
    }
    let feed = "[feeds.open]\nbucket = \"drop\"\nprefix = \"open/\"\ntable = \"cells\"\ncsv.header = false\n";
    assert_eq!(lab.once(feed).await, 3);
    let states = "SELECT DISTINCT state || ' ' || error_code FROM keyfall.objects";
    assert_eq!(lab.texts(states).await, ["quarantined E-CSV-QUOTE"]);
    assert_eq!(lab.count("SELECT count(*) FROM cells").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_in_the_smallest_pieces_hold_the_same_records() {
    use keyfall::demo::s3::{Action, FaultRule, Operation};
    let lab = Lab::new().await;
    lab.execute("CREATE TABLE cells (a text, b text)").await;
    let text: String = (0..300).fold(String::new(), |text, n| text + &format!("{n},\"line\r\nof \"\"{n}\"\" 😀\"\r\n"));
    lab.s3.put(BUCKET, "drip/whole", text.clone());
    lab.s3.put(BUCKET, "drip/plain", text.clone());
    lab.s3.put(BUCKET, "drip/packed.gz", gzip(text.as_bytes()));
    let plain = FaultRule::on(Operation::GetObject, Action::Truncate(1000)).key("drip/plain").times(4);
    let packed = FaultRule::on(Operation::GetObject, Action::DripPerSecond(2000)).key("drip/packed.gz");
    let (plain, packed) = (lab.s3.inject(plain), lab.s3.inject(packed));
    let feed = "[feeds.drip]\nbucket = \"drop\"\nprefix = \"drip/\"\ntable = \"cells\"\ncsv.header = false\n";
    assert_eq!(lab.once(feed).await, 0);
    assert!(plain.hits() >= 4 && packed.hits() >= 1, "the faults were met");
    assert_eq!(lab.count("SELECT count(*) FROM cells").await, 900);
    assert_eq!(lab.count("SELECT count(*) FROM (SELECT 1 FROM cells GROUP BY a, b HAVING count(*) = 3) x").await, 300);
}
