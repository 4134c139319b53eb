//! Files written by the library itself, read back; and files that nobody should believe.

use std::io::Cursor;

use apache_avro::types::Value as AvroValue;
use apache_avro::{Bzip2Settings, Codec, Decimal, DeflateSettings, Writer, XzSettings, ZstandardSettings};
use proptest::prelude::*;

use super::*;
use crate::fuzzing::records::{Outcome, all};
use crate::fuzzing::{fixture, run};

fn limits() -> Limits {
    Limits { max_fields: 1600, ..fixture::feed().limits }
}

fn read_with(file: &[u8], limits: &Limits, paths: &[&str]) -> Outcome {
    run(all(Records::new(Cursor::new(file.to_vec()), limits, file.len() as u64), paths))
}

fn read(file: &[u8]) -> Outcome {
    read_with(file, &limits(), &[])
}

fn error(file: &[u8]) -> String {
    read(file).expect_err("a file that is refused")
}

/// So many blocks of so many records, by the library.
fn written(schema: &str, codec: Codec, blocks: &[Vec<AvroValue>]) -> Vec<u8> {
    let schema = AvroSchema::parse_str(schema).unwrap();
    let mut writer = Writer::with_codec(&schema, Vec::new(), codec).unwrap();
    for block in blocks {
        for value in block {
            writer.append_value(value.clone()).unwrap();
        }
        writer.flush().unwrap();
    }
    writer.into_inner().unwrap()
}

const PLAIN: &str =
    r#"{"type":"record","name":"r","fields":[{"name":"a","type":"long"},{"name":"b","type":["null","string"]}]}"#;

fn record(number: i64) -> AvroValue {
    let text = match number % 3 {
        0 => AvroValue::Union(0, Box::new(AvroValue::Null)),
        _ => AvroValue::Union(1, Box::new(AvroValue::String(format!("name {number}")))),
    };
    AvroValue::Record(vec![("a".to_owned(), AvroValue::Long(number)), ("b".to_owned(), text)])
}

fn plain(blocks: i64, records: i64, codec: Codec) -> Vec<u8> {
    let block = |block| (block * records..(block + 1) * records).map(record).collect();
    written(PLAIN, codec, &(0..blocks).map(block).collect::<Vec<_>>())
}

fn codecs() -> Vec<Codec> {
    vec![
        Codec::Null,
        Codec::Deflate(DeflateSettings::default()),
        Codec::Snappy,
        Codec::Zstandard(ZstandardSettings::default()),
        Codec::Bzip2(Bzip2Settings::default()),
        Codec::Xz(XzSettings::default()),
    ]
}

/// Avro's whole numbers.
fn long(value: i64) -> Vec<u8> {
    let mut raw = ((value << 1) ^ (value >> 63)).cast_unsigned();
    let mut bytes = Vec::new();
    while raw >= 0x80 {
        bytes.push(u8::try_from(raw & 0x7f).unwrap() | 0x80);
        raw >>= 7;
    }
    bytes.push(u8::try_from(raw).unwrap());
    bytes
}

const MARK: [u8; 16] = *b"0123456789abcdef";

/// A header by hand.
fn header(schema: &str, codec: &str) -> Vec<u8> {
    let text = |text: &str| [long(i64::try_from(text.len()).unwrap()), text.as_bytes().to_vec()].concat();
    let parts = [text("avro.schema"), text(schema), text("avro.codec"), text(codec), long(0), MARK.to_vec()];
    [b"Obj\x01".to_vec(), long(2), parts.concat()].concat()
}

/// A block by hand.
fn block(records: i64, bytes: &[u8]) -> Vec<u8> {
    [long(records), long(i64::try_from(bytes.len()).unwrap()), bytes.to_vec(), MARK.to_vec()].concat()
}

/// A file of one block of one record of one field.
fn one(kind: &str, bytes: &[u8]) -> Vec<u8> {
    let schema = format!(r#"{{"type":"record","name":"r","fields":[{{"name":"v","type":{kind}}}]}}"#);
    [header(&schema, "null"), block(1, bytes)].concat()
}

/// Type and value of such a field.
fn value(kind: &str, bytes: &[u8]) -> (String, String) {
    let (mut kinds, mut records) = read(&one(kind, bytes)).unwrap_or_else(|error| panic!("{kind}: {error}"));
    (kinds.remove(0), records.remove(0).remove(0))
}

#[test]
fn every_codec_gives_every_record_back_in_its_order() {
    for codec in codecs() {
        let (kinds, records) = read(&plain(10, 100, codec)).unwrap_or_else(|error| panic!("{codec:?}: {error}"));
        assert_eq!(kinds, ["long", "string"]);
        let text = |n: i64| if n % 3 == 0 { "null".to_owned() } else { format!("text name {n}") };
        let expected: Vec<_> = (0..1000).map(|n| vec![format!("number {n}"), text(n)]).collect();
        assert!(records == expected, "{codec:?}");
    }
}

#[test]
fn scalars_keep_their_value_and_their_type() {
    let fixed = |size: usize, logical: &str| format!(r#"{{"type":"fixed","name":"f","size":{size}{logical}}}"#);
    let logical = |kind: &str, logical: &str| format!(r#"{{"type":"{kind}","logicalType":"{logical}"}}"#);
    let uuid: Vec<u8> = (0..16).collect();
    let text = "text 00010203-0405-0607-0809-0a0b0c0d0e0f";
    for (kind, bytes, word, expected) in [
        (r#""null""#.to_owned(), vec![], "null", "null"),
        (r#""boolean""#.to_owned(), vec![1], "boolean", "true"),
        (r#""int""#.to_owned(), long(i32::MIN.into()), "int", "number -2147483648"),
        (r#""long""#.to_owned(), long(i64::MIN), "long", "number -9223372036854775808"),
        (r#""float""#.to_owned(), 0.1_f32.to_le_bytes().to_vec(), "float", "number 0.1"),
        (r#""double""#.to_owned(), 1e300_f64.to_le_bytes().to_vec(), "double", "number 1e+300"),
        (r#""bytes""#.to_owned(), vec![4, 0, 255], "bytes", "bytes \\x00\\xff"),
        (r#""string""#.to_owned(), b"\x0eO'Keefe".to_vec(), "string", "text O\\'Keefe"),
        (fixed(2, ""), vec![1, 2], "fixed(2)", "bytes \\x01\\x02"),
        (r#"{"type":"enum","name":"e","symbols":["X","Y"]}"#.to_owned(), long(1), "enum", "text Y"),
        (
            r#"{"type":"bytes","logicalType":"decimal","precision":5,"scale":2}"#.to_owned(),
            vec![2, 0xfb],
            "decimal(5,2)",
            "number -0.05",
        ),
        (
            fixed(3, r#","logicalType":"decimal","precision":5,"scale":2"#),
            vec![0, 4, 0xce],
            "decimal(5,2)",
            "number 12.30",
        ),
        (
            logical("string", "uuid"),
            b"\x48a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11".to_vec(),
            "uuid",
            "text a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        ),
        (fixed(16, r#","logicalType":"uuid""#), uuid, "uuid", text),
        (logical("int", "date"), long(-1), "date", "text 1969-12-31"),
        (logical("int", "time-millis"), long(1), "time", "text 00:00:00.001"),
        (logical("long", "time-micros"), long(86_399_999_999), "time", "text 23:59:59.999999"),
        (logical("long", "timestamp-millis"), long(i64::MAX), "timestamptz", "text 292278994-08-17T07:12:55.807Z"),
        (logical("long", "timestamp-micros"), long(-1), "timestamptz", "text 1969-12-31T23:59:59.999999Z"),
        (logical("long", "timestamp-nanos"), long(1000), "timestamptz", "text 1970-01-01T00:00:00.000001Z"),
        (
            logical("long", "timestamp-nanos"),
            long(1),
            "timestamptz",
            "bad E-ROW-PRECISION field \"v\" has nanoseconds, which PostgreSQL cannot keep",
        ),
        (logical("long", "local-timestamp-millis"), long(1), "timestamp", "text 1970-01-01T00:00:00.001"),
        (logical("long", "local-timestamp-micros"), long(0), "timestamp", "text 1970-01-01T00:00:00"),
        (logical("long", "local-timestamp-nanos"), long(5_000), "timestamp", "text 1970-01-01T00:00:00.000005"),
    ] {
        assert_eq!(value(&kind, &bytes), (word.to_owned(), expected.to_owned()), "{kind}");
    }
}

#[test]
fn unions_are_what_they_hold_and_nested_values_are_json_with_paths() {
    let union = r#"["null","int","string",{"type":"array","items":"int"}]"#;
    for (bytes, expected) in
        [(vec![0], "null"), (vec![2, 14], "number 7"), (vec![4, 2, b'x'], "text x"), (vec![6, 2, 4, 0], "json [2]")]
    {
        assert_eq!(value(union, &bytes), ("union<int, string, array<int>>".to_owned(), expected.to_owned()));
    }
    // Parts of arrays and maps, the second with its length in bytes.
    let array = [long(2), long(1), long(2), long(-1), long(1), long(3), long(0)].concat();
    assert_eq!(
        value(r#"{"type":"array","items":"long"}"#, &array),
        ("array<long>".to_owned(), "json [1,2,3]".to_owned())
    );
    let inner = r#"{"type":"record","name":"i","fields":[{"name":"lat","type":["null","double"]},{"name":"m","type":{"type":"map","values":"string"}}]}"#;
    let outer = format!(
        r#"{{"type":"record","name":"o","fields":[{{"name":"first","type":"string"}},{{"name":"in","type":["null",{inner}]}}]}}"#
    );
    let map = [vec![4, 2, b'k', 4, b'a', b'"', 4, b'k', b'2', 0, 0]].concat();
    let bytes = [vec![2, b'f', 2, 2], 0.5_f64.to_le_bytes().to_vec(), map].concat();
    let paths = ["v.in.lat", "v.in.m.k", "v.in.m.none", "v.in", "v.gone"];
    let (_, records) = read_with(&one(&outer, &bytes), &limits(), &paths).unwrap();
    let json = r#"{\"lat\":0.5,\"m\":{\"k\":\"a\\\"\",\"k2\":\"\"}}"#;
    let expected = [
        format!(r#"json {{\"first\":\"f\",\"in\":{json}}}"#),
        "number 0.5".to_owned(),
        r#"text a\""#.to_owned(),
        "absent".to_owned(),
        format!("json {json}"),
        "none".to_owned(),
    ];
    assert_eq!(records[0], expected);
    // The record is there without the inner one.
    let (_, records) = read_with(&one(&outer, &[2, b'f', 0]), &limits(), &paths).unwrap();
    assert_eq!(records[0][1..4], ["absent", "absent", "absent"]);
}

#[test]
fn names_are_resolved_and_what_leads_back_to_itself_is_refused() {
    let shared = r#"{"type":"record","name":"r","namespace":"n","fields":[
        {"name":"a","type":{"type":"enum","name":"e","symbols":["X"]}},{"name":"b","type":"e"},{"name":"c","type":"n.e"}]}"#;
    let file = [header(shared, "null"), block(1, &[0, 0, 0])].concat();
    assert_eq!(read(&file).unwrap().1, [["text X"; 3]]);
    let recursive = r#"{"type":"record","name":"r","fields":[{"name":"next","type":["null","r"]}]}"#;
    assert!(error(&header(recursive, "null")).contains("recursive"));
    let deep = (0..70).fold(r#""int""#.to_owned(), |inner, _| format!(r#"{{"type":"array","items":{inner}}}"#));
    assert!(error(&one(&deep, &[])).starts_with("E-LIMIT-DEPTH "));
    let deepest = (0..5000).fold(r#""int""#.to_owned(), |inner, _| format!(r#"{{"type":"array","items":{inner}}}"#));
    assert!(error(&one(&deepest, &[])).starts_with("E-LIMIT-DEPTH "));
    // Each record holds the one before twice: two to the power of sixty fields, and not a byte.
    let mut types = r#"{"type":"record","name":"r0","fields":[{"name":"x","type":"null"}]}"#.to_owned();
    for level in 1..30 {
        types = format!(
            r#"{{"type":"record","name":"r{level}","fields":[{{"name":"x","type":{types}}},{{"name":"y","type":"r{}"}}]}}"#,
            level - 1
        );
    }
    assert!(error(&one(&types, &[])).starts_with("E-LIMIT-RECORD "));
}

#[test]
fn what_is_no_whole_file_is_said_to_be_none() {
    assert_eq!(error(b""), "E-AVRO Avro: the object is empty");
    assert!(error(b"id,name\n").starts_with("E-FORMAT "));
    let whole = plain(10, 100, Codec::Null);
    let marks = whole.windows(16).enumerate().filter(|(_, bytes)| *bytes == &whole[whole.len() - 16..]);
    let ends: Vec<usize> = marks.map(|(at, _)| at + 16).collect();
    assert_eq!(ends.len(), 11);
    for cut in (4..whole.len()).step_by(13) {
        if !ends.contains(&cut) {
            assert!(error(&whole[..cut]).starts_with("E-AVRO "), "cut at {cut}: {}", error(&whole[..cut]));
        }
    }
    // Cut between two blocks, nothing in the bytes tells; the ledger's size does, before COMMIT.
    assert_eq!(read(&whole[..ends[5]]).unwrap().1.len(), 500);
    let mut wrong = whole.clone();
    wrong[ends[5] - 1] ^= 1;
    assert!(error(&wrong).contains("the mark behind a block"));
    assert!(error(&[whole.as_slice(), b"\0"].concat()).contains("bytes were added"));
    assert!(error(&[whole.as_slice(), &[0; 64]].concat()).contains("the mark behind a block"));
    let empty = block(0, b"").into_iter().collect::<Vec<u8>>();
    let of = |blocks: &[Vec<u8>]| [header(PLAIN, "null"), blocks.concat()].concat();
    let rows = block(2, &[2, 0, 4, 2, 2, b'x']);
    assert_eq!(read(&of(&[empty.clone(), rows.clone(), empty.clone(), rows.clone(), empty])).unwrap().1.len(), 4);
    assert!(error(&of(&[block(1, &[2, 0, 4, 0])])).contains("bytes behind its last record"));
    assert!(error(&of(&[block(0, &[2, 0])])).contains("bytes behind its last record"));
    assert!(error(&of(&[block(3, &[2, 0, 4, 0])])).contains("ends behind its block"));
    assert!(error(&of(&[block(-1, &[2, 0])])).contains("negative"));
    for schema in ["", "{", "\"string\"", r#"{"type":"record","name":"a\"; drop","fields":[]}"#] {
        assert!(error(&header(schema, "null")).starts_with("E-AVRO "), "{schema}");
    }
    assert!(error(&header(PLAIN, "lzma")).contains("\"lzma\""));
    let interval = r#"{"type":"fixed","name":"f","size":12,"logicalType":"duration"}"#;
    assert!(error(&one(interval, &[0; 12])).contains("field \"v\" is of type duration"));
}

#[test]
fn values_that_the_schema_does_not_have_are_damage() {
    for (kind, bytes, told) in [
        (r#""boolean""#, vec![2], "neither true nor false"),
        (r#""int""#, long(1 << 31), "32 bits"),
        (r#""long""#, vec![0xff; 11], "64 bits"),
        (r#""string""#, long(1 << 40), "ends behind its block"),
        (r#""string""#, long(-1), "negative"),
        (r#"["null","int"]"#, long(2), "no such member"),
        (r#"{"type":"enum","name":"e","symbols":["X"]}"#, long(1), "no such member"),
        (r#"{"type":"array","items":"int"}"#, long(1 << 40), "ends behind its block"),
    ] {
        assert!(error(&one(kind, &bytes)).contains(told), "{kind}: {}", error(&one(kind, &bytes)));
    }
    // What takes no bytes must not go on without end.
    let nulls = one(r#"{"type":"array","items":"null"}"#, &long(1 << 40));
    assert!(error(&nulls).starts_with("E-LIMIT-RECORD "), "{}", error(&nulls));
}

#[test]
fn caps_hold_for_blocks_fields_records_and_everything() {
    let nothing = r#"{"type":"record","name":"r","fields":[{"name":"v","type":"null"}]}"#;
    let file = |count| [header(nothing, "null"), block(count, b"")].concat();
    assert_eq!(read(&file(1 << 10)).unwrap().1.len(), 1 << 10);
    assert!(error(&file(1 << 40)).starts_with("E-LIMIT-"), "{}", error(&file(1 << 40)));
    let lying = [header(PLAIN, "null"), long(1), long(1 << 40)].concat();
    assert!(error(&lying).starts_with("E-LIMIT-BLOCK "));
    for codec in codecs() {
        // The library begins a new block every 16 KB.
        let file = plain(1, 5000, codec);
        let with = |limits: Limits| read_with(&file, &limits, &[]).map(|(_, records)| records.len());
        assert!(
            with(Limits { max_block_bytes: 10_000, ..limits() }).unwrap_err().starts_with("E-LIMIT-BLOCK "),
            "{codec:?}"
        );
        assert_eq!(with(Limits { max_block_bytes: 20_000, ..limits() }), Ok(5000), "{codec:?}");
        assert!(with(Limits { max_bytes: 20_000, ..limits() }).unwrap_err().starts_with("E-LIMIT-BYTES "), "{codec:?}");
    }
    let file = plain(1, 10, Codec::Null);
    assert!(read_with(&file, &Limits { max_fields: 1, ..limits() }, &[]).unwrap_err().starts_with("E-LIMIT-FIELDS "));
    assert!(
        read_with(&file, &Limits { max_record_bytes: 8, ..limits() }, &[]).unwrap_err().starts_with("E-LIMIT-RECORD ")
    );
    assert_eq!(read_with(&file, &Limits { max_record_bytes: 9, ..limits() }, &[]).unwrap().1.len(), 10);
}

#[test]
fn a_damaged_block_is_damage_under_every_codec() {
    for codec in codecs().into_iter().skip(1) {
        let whole = plain(2, 100, codec);
        let mark = &whole[whole.len() - 16..];
        let first = whole.windows(16).position(|bytes| bytes == mark).unwrap() + 16;
        let mut damaged = 0;
        for at in first + 4..whole.len() - 16 {
            let mut file = whole.clone();
            file[at] ^= 0x55;
            match read(&file) {
                Err(told) => {
                    assert!(told.starts_with("E-AVRO ") || told.starts_with("E-LIMIT-"), "{codec:?}: {told}");
                    damaged += 1;
                }
                Ok((_, records)) => assert_eq!(records.len(), 200, "{codec:?}"),
            }
        }
        assert!(damaged > 10, "{codec:?}: {damaged}");
    }
}

#[test]
fn a_record_is_shown_as_a_line_of_json() {
    let mut reader = Records::new(Cursor::new(plain(1, 2, Codec::Null)), &limits(), 1 << 10);
    run(async {
        assert!(reader.schema().await.is_ok());
        assert!(matches!(reader.next().await, Ok(Next::Record)) && matches!(reader.next().await, Ok(Next::Record)));
    });
    let (mut whole, mut part) = (Vec::new(), Vec::new());
    let length = reader.raw(usize::MAX, &mut whole);
    assert_eq!(whole, b"{\"a\":1,\"b\":\"name 1\"}\n");
    assert_eq!((reader.raw(4, &mut part), part.as_slice()), (length, &b"{\"a\""[..]));
    reader.claim("b", &["b".to_owned()]);
    let mut seen = Vec::new();
    reader.unclaimed(&mut |name, value| seen.push(format!("{name} {value:?}")));
    assert_eq!(seen, ["a Nested([49])"]);
}

#[test]
fn two_changed_bytes_never_do_more_than_damage_the_object() {
    let mut random = fastrand::Rng::with_seed(4711);
    let files: Vec<Vec<u8>> = codecs().into_iter().map(|codec| plain(3, 80, codec)).collect();
    for round in 0..1000 {
        let mut file = files[round % files.len()].clone();
        for _ in 0..2 {
            let place = random.usize(..file.len());
            file[place] = random.u8(..);
        }
        if let Err(told) = read(&file) {
            let is_known = ["E-AVRO ", "E-LIMIT-", "E-FORMAT "].iter().any(|code| told.starts_with(code));
            assert!(is_known, "{told}");
        }
    }
}

proptest! {
    #[test]
    fn what_was_written_is_read(
        numbers in prop::collection::vec(any::<i64>(), 0..200), text in "\\PC{0,12}", double in any::<f64>(),
        digits in any::<i128>(), codec in prop::sample::select(codecs()), per_block in 1..60_usize,
    ) {
        let schema = r#"{"type":"record","name":"r","fields":[{"name":"n","type":"long"},{"name":"t","type":"string"},
            {"name":"f","type":"double"},{"name":"d","type":{"type":"bytes","logicalType":"decimal","precision":38,"scale":3}}]}"#;
        let decimal = digits % 10_i128.pow(38);
        let record = |number: &i64| AvroValue::Record(vec![
            ("n".to_owned(), AvroValue::Long(*number)),
            ("t".to_owned(), AvroValue::String(text.clone())),
            ("f".to_owned(), AvroValue::Double(double)),
            ("d".to_owned(), AvroValue::Decimal(Decimal::from(decimal.to_be_bytes()))),
        ]);
        let blocks: Vec<Vec<AvroValue>> = numbers.chunks(per_block).map(|part| part.iter().map(record).collect()).collect();
        let (_, records) = read(&written(schema, codec, &blocks)).unwrap();
        prop_assert_eq!(records.len(), numbers.len());
        for (record, number) in records.iter().zip(&numbers) {
            prop_assert_eq!(&record[0], &format!("number {number}"));
            prop_assert_eq!(&record[1], &format!("text {}", text.as_bytes().escape_ascii()));
            let read: f64 = record[2].trim_start_matches("number ").parse().unwrap();
            prop_assert!(read.to_bits() == double.to_bits() || read.is_nan() && double.is_nan());
            let same: i128 = record[3].trim_start_matches("number ").replace('.', "").parse().unwrap();
            prop_assert_eq!(same, decimal);
        }
    }
}
