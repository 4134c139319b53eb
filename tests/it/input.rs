//! Bad input: each object is refused by itself, whole, with where, what and what to do; everything else is loaded.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use crate::support::{BUCKET, Lab, gzip, zstd};

/// Stands in every bad cell: no message may repeat it.
const SECRET: &str = "S3CRET";

const TABLE: &str = "CREATE TABLE staff (id int PRIMARY KEY CHECK (id <> 666), name text NOT NULL,
                                         amount numeric(5,2), born date)";
const FEED: &str = r#"
    [feeds.staff]
    bucket = "drop"
    prefix = "staff/"
    table = "staff"
    [feeds.staff.disposal]
    action = "delete"
"#;

/// An object, the code it is refused with, and what the message must say.
struct Case {
    key: &'static str,
    bytes: Vec<u8>,
    code: &'static str,
    says: &'static [&'static str],
}

fn case(key: &'static str, bytes: impl Into<Vec<u8>>, code: &'static str, says: &'static [&'static str]) -> Case {
    Case { key, bytes: bytes.into(), code, says }
}

/// A file of the feed's four columns.
fn rows(lines: &str) -> String {
    format!("id,name,amount,born\n{lines}")
}

/// Ten thousand rows, and a quote opened in the tenth.
fn unterminated() -> String {
    let mut text = rows("");
    for n in 1..=10_000 {
        let quote = if n == 10 { "\"" } else { "" };
        writeln!(text, "{},{quote}Name,1.5,2020-01-01", 5000 + n).expect("memory takes it");
    }
    text
}

fn bad_records() -> Vec<Case> {
    vec![
        case(
            "staff/ragged-short",
            rows("1,a,1.5,2020-01-01\n2,S3CRET,1.5\n"),
            "E-CSV-RAGGED",
            &["line 3 (record 2, byte 39): the record has 3 fields instead of 4"],
        ),
        case(
            "staff/ragged-long",
            rows("1,\"a\nb\",1.5,2020-01-01\n2,b,1.5,2020-01-01,S3CRET\n"),
            "E-CSV-RAGGED",
            &["line 4 (record 2, byte 43): the record has 5 fields instead of 4"],
        ),
        case(
            "staff/int",
            rows("S3CRET,a,1.5,2020-01-01\n"),
            "E-CELL-INT",
            &["line 2 (record 1, byte 20), column \"id\": not a whole number", "(integer)"],
        ),
        case(
            "staff/int-range",
            rows("1,a,1.5,2020-01-01\n3000000000,a,1.5,2020-01-01\n"),
            "E-CELL-INT-RANGE",
            &["line 3 (record 2, byte 39), column \"id\": out of range for integer"],
        ),
        case(
            "staff/date",
            rows("1,a,1.5,2020-01-01\n2,b,1.5,S3CRET\n"),
            "E-CELL-DATE",
            &["line 3 (record 2, byte 39), column \"born\": ", "(date)"],
        ),
        case(
            "staff/numeric",
            rows("1,a,S3CRET,2020-01-01\n"),
            "E-CELL-NUMERIC",
            &["line 2 (record 1, byte 20), column \"amount\": ", "(numeric(5,2))"],
        ),
    ]
}

fn bad_texts() -> Vec<Case> {
    vec![
        case(
            "staff/null",
            rows("1,a,1.5,2020-01-01\n2,,1.5,2020-01-01\n"),
            "E-ROW-NULL",
            &["line 3 (record 2, byte 39), column \"name\": ", "NOT NULL"],
        ),
        case(
            "staff/nul-byte",
            rows("1,S3CRET\0,1.5,2020-01-01\n"),
            "E-CELL-NUL",
            &["line 2 (record 1, byte 20), column \"name\": "],
        ),
        case(
            "staff/utf8",
            [rows("1,S3CRET").as_bytes(), b"\xff,1.5,2020-01-01\n"].concat(),
            "E-CELL-UTF8",
            &["line 2 (record 1, byte 20), column \"name\": "],
        ),
        case(
            "staff/surrogate",
            [rows("1,S3CRET").as_bytes(), b"\xed\xa0\x80,1.5,2020-01-01\n"].concat(),
            "E-CELL-UTF8",
            &["column \"name\": "],
        ),
        case("staff/quote", unterminated(), "E-CSV-QUOTE", &["line 11 (record 10, byte 245): ", "never closed"]),
    ]
}

/// What only the server can refuse.
fn bad_for_the_server() -> Vec<Case> {
    vec![
        case(
            "staff/overflow",
            rows("1,a,1.5,2020-01-01\n2,b,98765.25,2020-01-01\n"),
            "E-PG-22003",
            &["record 2", "column \"amount\"", "numeric field overflow"],
        ),
        case(
            "staff/unique",
            rows("21,a,1.5,2020-01-01\n22,b,1.5,2020-01-01\n21,S3CRET,1.5,2020-01-01\n"),
            "E-PG-23505",
            &["record 3", "duplicate key", "\"staff_pkey\", table \"staff\""],
        ),
        case("staff/check", rows("666,S3CRET,1.5,2020-01-01\n"), "E-PG-23514", &["record 1", "\"staff_id_check\""]),
    ]
}

fn bad_headers() -> Vec<Case> {
    let wide: Vec<String> = (0..100_000).map(|n| format!("c{n}")).collect();
    let wide_record = format!("{}{}\n", rows("1,a"), ",x".repeat(100_000));
    let garbage: Vec<u8> = {
        let mut state: u64 = 42;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_le_bytes()[7]
        };
        (0..4096).map(|_| next() | 0x80).collect()
    };
    vec![
        case("staff/h-missing", "id,amount\n1,2\n", "E-CSV-HEADER", &["\"name\" is NOT NULL", "no field"]),
        case(
            "staff/h-unknown",
            "id,name,amount,born,shoe_size\n1,a,1,2020-01-01,S3CRET\n",
            "E-CSV-HEADER",
            &["\"shoe_size\"", "unknown_fields"],
        ),
        case("staff/h-duplicate", "id,name,id\n1,S3CRET,1\n", "E-CSV-HEADER", &["names \"id\" twice"]),
        case("staff/h-delimiter", "id;name\n1;S3CRET\n", "E-CSV-HEADER", &["is the delimiter right"]),
        case("staff/h-case", "ID,NAME\n1,S3CRET\n", "E-CSV-HEADER", &["is a column of public.staff"]),
        case(
            "staff/h-injection",
            "id,name,\"born\"\"; DROP TABLE staff; --\"\n1,a,b\n",
            "E-CSV-HEADER",
            &["has no column"],
        ),
        case("staff/h-long", format!("id,name,{}\n", "x".repeat(100_000)), "E-CSV-HEADER", &["has no column"]),
        case("staff/h-nul", "id,name,bo\0rn\n1,a,b\n", "E-CSV-HEADER", &["has no column"]),
        case("staff/h-wide", format!("{}\n", wide.join(",")), "E-LIMIT-FIELDS", &["100000 fields", "(1600)"]),
        case("staff/wide", wide_record, "E-LIMIT-FIELDS", &["line 2", "100002 fields", "(1600)"]),
        case("staff/garbage", garbage, "E-CSV-HEADER", &["not UTF-8"]),
    ]
}

fn other_formats() -> Vec<Case> {
    let utf16: Vec<u8> = "\u{feff}id,name\n1,x\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let utf16_without_mark: Vec<u8> = "id,name\n1,x\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    vec![
        case("staff/f.parquet", b"PAR1\x15\x04\x15PAR1".to_vec(), "E-FORMAT", &["Parquet"]),
        case("staff/f.pdf", b"%PDF-1.7\n%\xe2\xe3\n".to_vec(), "E-FORMAT", &["PDF"]),
        case("staff/f.html", "<!DOCTYPE html><html><body>login</body>", "E-FORMAT", &["HTML"]),
        case("staff/f.xml", "<?xml version=\"1.0\"?><Error/>", "E-FORMAT", &["XML"]),
        case("staff/f.xlsx", b"PK\x03\x04\x14\0\x08\x08\x08\0".to_vec(), "E-FORMAT", &["spreadsheet"]),
        case("staff/f.avro", b"Obj\x01\x04\x14avro.codec".to_vec(), "E-FORMAT", &["Avro"]),
        case("staff/f.bz2", b"BZh91AY&SY".to_vec(), "E-FORMAT", &["bzip2"]),
        case("staff/f.xz", b"\xfd7zXZ\0\0\x04".to_vec(), "E-FORMAT", &["xz"]),
        case("staff/f.utf16", utf16, "E-FORMAT", &["UTF-16"]),
        case("staff/f.utf16-bare", utf16_without_mark, "E-FORMAT", &["UTF-16"]),
        case("staff/f.json", "{\"id\": 1,\n \"name\": \"x\"}\n", "E-CSV-HEADER", &["no field of the header"]),
    ]
}

async fn bad_compression() -> Vec<Case> {
    let good: String = (0..500).fold(rows(""), |text, n| text + &format!("{},Name {n},1.5,2020-01-01\n", 9000 + n));
    let whole = gzip(good.as_bytes());
    let frame = zstd(good.as_bytes()).await;
    let flipped = |bytes: &[u8], at: usize| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 0x10;
        bytes
    };
    // A frame of one byte that asks for a window of 2 GiB to be decoded in.
    let window = [&[0x28, 0xb5, 0x2f, 0xfd, 0, 21 << 3][..], &[9, 0, 0, b'a']].concat();
    let without_trailer = whole[..whole.len() - 8].to_vec();
    vec![
        case("staff/z-cut.gz", whole[..whole.len() / 2].to_vec(), "E-COMPRESSION", &["gzip"]),
        case("staff/z-cut-in-trailer.gz", without_trailer, "E-COMPRESSION", &["gzip"]),
        case("staff/z-cut.zst", frame[..frame.len() - 3].to_vec(), "E-COMPRESSION", &["zstd"]),
        case("staff/z-trailing.gz", [whole.clone(), b"garbage".to_vec()].concat(), "E-COMPRESSION", &["gzip"]),
        case("staff/z-trailing.zst", [frame.clone(), b"garbage".to_vec()].concat(), "E-COMPRESSION", &["zstd"]),
        case("staff/z-crc.gz", flipped(&whole, whole.len() - 8), "E-COMPRESSION", &["gzip"]),
        case("staff/z-isize.gz", flipped(&whole, whole.len() - 2), "E-COMPRESSION", &["gzip"]),
        case("staff/z-window.zst", window, "E-COMPRESSION", &["memory"]),
        case("staff/z-twice.gz", gzip(&whole), "E-FORMAT", &["compressed twice"]),
        case("staff/z-twice.zst", zstd(&whole).await, "E-FORMAT", &["compressed twice"]),
        case("staff/z-pdf.gz", gzip(b"%PDF-1.7 and more of it"), "E-FORMAT", &["PDF"]),
    ]
}

/// Everything that is wrong with rows and headers.
fn bad_rows() -> Vec<Case> {
    [bad_records(), bad_texts(), bad_for_the_server(), bad_headers()].into_iter().flatten().collect()
}

/// Uploads, runs once, and checks that each is refused in its own words, that all lie where they lay, that nothing
/// of them was loaded and that two good objects were.
async fn refuses(cases: Vec<Case>, settings: &[&str]) {
    let lab = Lab::new().await;
    lab.execute(TABLE).await;
    lab.s3.put(BUCKET, "staff/good-1", rows("100,Ada,999.99,2020-01-01\n101,Bob,,\n"));
    lab.s3.put(BUCKET, "staff/zz-good-2", rows("102,Eve,0.5,1999-12-31\n"));
    for case in &cases {
        lab.s3.put(BUCKET, case.key, case.bytes.clone());
    }
    assert_eq!(lab.once_set(FEED, settings).await, 3, "the exit code says that objects are quarantined");
    for case in &cases {
        let entry = lab.entry(case.key).await;
        let told = format!("{} → {entry:?}", case.key);
        assert_eq!((entry.state.as_str(), entry.code.as_str()), ("quarantined", case.code), "{told}");
        assert!(case.says.iter().all(|part| entry.detail.contains(part)), "{told}\nshould say {:?}", case.says);
        assert!(!entry.detail.contains(SECRET) && !entry.detail.contains("98765"), "{told}\nholds the cell's value");
        assert!(entry.detail.len() < 1000, "{told}\nis endless");
        assert!(!entry.advice.is_empty(), "{told}\ngives no advice");
    }
    let mut left: Vec<&str> = cases.iter().map(|case| case.key).collect();
    left.sort_unstable();
    assert_eq!(lab.s3.keys(BUCKET), left, "bad objects stay, good ones are disposed of");
    assert_eq!(lab.texts("SELECT id || name FROM staff ORDER BY id").await, ["100Ada", "101Bob", "102Eve"]);
    let paused = "SELECT count(*) FROM keyfall.feeds WHERE paused_by IS NOT NULL";
    assert_eq!(lab.count(paused).await, 0, "bad content pauses no feed");

    assert_eq!(lab.once_set(FEED, settings).await, 3, "a second run changes nothing");
    assert_eq!(lab.count("SELECT count(*) FROM staff").await, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_record_refuses_its_object_and_no_other_when_objects_share_transactions() {
    refuses(bad_rows(), &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_record_refuses_its_object_and_no_other_when_each_is_streamed() {
    let cases = bad_rows();
    refuses(cases, &["workers.group_objects=1"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_formats_and_damaged_compression_are_named_and_never_loaded_in_part() {
    let cases = [other_formats(), bad_compression().await].into_iter().flatten().collect();
    refuses(cases, &["workers.group_objects=1"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_anywhere_in_a_gzip_object_never_loads_other_rows() {
    let lab = Lab::new().await;
    lab.execute("CREATE TABLE flipped (id int, name text)").await;
    let good: String = (0..200).fold("id,name\n".to_owned(), |text, n| text + &format!("{n},Name {n}\n"));
    let whole = gzip(good.as_bytes());
    let mut flips = 0;
    // Bytes 4 to 9 of the header are time stamp, flags of the level and system: no part of the content.
    for at in (0..4).chain(10..whole.len()).step_by(37) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        lab.s3.put(BUCKET, &format!("flipped/{at}.gz"), bytes);
        flips += 1;
    }
    let feed = "[feeds.flipped]\nbucket = \"drop\"\nprefix = \"flipped/\"\ntable = \"flipped\"\n";
    assert_eq!(lab.once(feed).await, 3);
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects WHERE state = 'quarantined'").await, flips);
    assert_eq!(lab.count("SELECT count(*) FROM flipped").await, 0);
}

/// One feed for each cap.
fn capped() -> String {
    let mut feeds = String::new();
    for (name, limits) in [
        ("bytes", "max_bytes = \"1000B\""),
        ("record", "max_record_bytes = \"300000B\""),
        ("fields", "max_fields = 3"),
        ("ratio", "max_ratio = 10"),
    ] {
        let unknown = if name == "fields" { "unknown_fields = \"ignore\"" } else { "" };
        write!(
            feeds,
            "[feeds.{name}]\nbucket = \"drop\"\nprefix = \"{name}/\"\ntable = \"capped\"\n{unknown}\n[feeds.{name}.limits]\n{limits}\n"
        )
        .expect("memory takes it");
    }
    feeds
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caps_hold_at_their_exact_limit() {
    let lab = Lab::new().await;
    lab.execute("CREATE TABLE capped (a text)").await;
    // Ten bytes of header and line ends, the rest is the value.
    let bytes = |size: usize| format!("a\n{}\n", "x".repeat(size - 3));
    for size in [999, 1000, 1001] {
        lab.s3.put(BUCKET, &format!("bytes/{size}"), bytes(size));
        lab.s3.put(BUCKET, &format!("bytes/{size}.gz"), gzip(bytes(size).as_bytes()));
    }
    // A record counts with its line end, also where the last one has none.
    for size in [299_999, 300_000, 300_001] {
        lab.s3.put(BUCKET, &format!("record/{size}"), bytes(size + 2));
        lab.s3.put(BUCKET, &format!("record/{size}-open"), format!("a\n{}", "x".repeat(size - 1)));
        lab.s3.put(BUCKET, &format!("record/{size}-first"), format!("{}\n1\n", "x".repeat(size - 1)));
    }
    lab.s3.put(BUCKET, "fields/3", "a,b,c\n1,2,3\n");
    lab.s3.put(BUCKET, "fields/4", "a,b,c,d\n1,2,3,4\n");
    let flat = vec![b'x'; (1 << 20) - 2];
    let mib = [b"a\n", flat.as_slice()].concat();
    lab.s3.put(BUCKET, "ratio/1-mib.gz", gzip(&mib));
    lab.s3.put(BUCKET, "ratio/over.gz", gzip(&[mib.clone(), b"xx".to_vec()].concat()));
    lab.s3.put(BUCKET, "ratio/over.zst", zstd(&[mib.clone(), mib].concat()).await);
    assert_eq!(lab.once(&capped()).await, 3);

    let codes = "SELECT key || ' ' || state || ' ' || coalesce(error_code, '') FROM keyfall.objects ORDER BY key";
    assert_eq!(
        lab.texts(codes).await,
        [
            "bytes/1000 loaded ",
            "bytes/1000.gz loaded ",
            "bytes/1001 quarantined E-LIMIT-BYTES",
            "bytes/1001.gz quarantined E-LIMIT-BYTES",
            "bytes/999 loaded ",
            "bytes/999.gz loaded ",
            "fields/3 loaded ",
            "fields/4 quarantined E-LIMIT-FIELDS",
            "ratio/1-mib.gz loaded ",
            "ratio/over.gz quarantined E-LIMIT-RATIO",
            "ratio/over.zst quarantined E-LIMIT-RATIO",
            "record/299999 loaded ",
            "record/299999-first quarantined E-CSV-HEADER",
            "record/299999-open loaded ",
            "record/300000 loaded ",
            "record/300000-first quarantined E-CSV-HEADER",
            "record/300000-open loaded ",
            "record/300001 quarantined E-LIMIT-RECORD",
            "record/300001-first quarantined E-LIMIT-RECORD",
            "record/300001-open quarantined E-LIMIT-RECORD",
        ]
    );
    assert_eq!(
        lab.entry("bytes/1001").await.detail,
        "the decompressed object is larger than limits.max_bytes (1000 B)"
    );
}

/// A gigabyte of one byte, as many members of 16 MiB: cheap to make, as long as any to read.
fn gigabyte(member: &[u8]) -> Vec<u8> {
    member.repeat(64)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_of_a_gigabyte_ends_at_the_record_cap_quickly_and_in_little_memory() {
    let lab = Lab::new().await;
    lab.execute("CREATE TABLE endless (a text)").await;
    let flat = vec![b'x'; 16 << 20];
    lab.s3.put(BUCKET, "endless/line.gz", gigabyte(&gzip(&flat)));
    // A quoted field may hold line ends: it is as long as the quote is open.
    let quoted = [b"\"".to_vec(), b"x\n".repeat(8 << 20)].concat();
    lab.s3.put(BUCKET, "endless/quoted.gz", gigabyte(&gzip(&quoted)));
    lab.s3.put(BUCKET, "endless/line.zst", gigabyte(&zstd(&flat).await));
    let feed = r#"
        [feeds.endless]
        bucket = "drop"
        prefix = "endless/"
        table = "endless"
        [feeds.endless.csv]
        header = false
    "#;
    // Three workers, each with a record of up to the cap and the buffers that doubled to hold it: memory follows the
    // cap, not the object.
    for (limits, most) in [("", 320), ("[feeds.endless.limits]\nmax_record_bytes = \"1 MiB\"", 96)] {
        let begun = Instant::now();
        let (code, peak) = run_binary(&lab.file(&format!("{feed}{limits}")));
        assert_eq!(code, Some(3));
        assert!(begun.elapsed() < Duration::from_secs(30), "took {:?}", begun.elapsed());
        let codes = "SELECT key || ' ' || error_code || ' ' || error_detail FROM keyfall.objects ORDER BY key";
        let said = lab.texts(codes).await;
        assert_eq!(said.len(), 3);
        for (line, key) in said.iter().zip(["endless/line.gz", "endless/line.zst", "endless/quoted.gz"]) {
            let expected =
                format!("{key} E-LIMIT-RECORD the record at line 1 (byte 0) is longer than limits.max_record_bytes");
            assert!(line.starts_with(&expected), "{line}");
        }
        let peak = peak.expect("the process was seen") >> 20;
        assert!(peak < most, "peak memory was {peak} MiB");
        lab.execute("DELETE FROM keyfall.objects").await;
    }
}

/// Runs the built binary once; answers its exit code and its peak memory in bytes.
fn run_binary(config: &std::path::Path) -> (Option<i32>, Option<u64>) {
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_keyfall"))
        .args(["run", "--once", "--config"])
        .arg(config)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("the binary starts");
    let status = format!("/proc/{}/status", child.id());
    let mut peak = None;
    loop {
        if let Some(exit) = child.try_wait().expect("the child is ours") {
            return (exit.code(), peak);
        }
        let now = std::fs::read_to_string(&status).ok().and_then(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
            line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
        });
        peak = peak.max(now.map(|kib| kib << 10));
        std::thread::sleep(Duration::from_millis(5));
    }
}
