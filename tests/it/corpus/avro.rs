//! Makers of Avro files: sound ones by the library, and others by hand.

use std::io::Write as _;

use apache_avro::types::Value;
use apache_avro::{Bzip2Settings, Codec, DeflateSettings, Schema, Writer, XzSettings, ZstandardSettings};

use super::makers;

const CELLS: &str =
    r#"{"type":"record","name":"r","fields":[{"name":"a","type":"long"},{"name":"b","type":["null","string"]}]}"#;

/// Ten blocks of a hundred records of `cells`.
fn thousand(codec: Codec) -> Vec<u8> {
    let schema = Schema::parse_str(CELLS).expect("a schema");
    let mut writer = Writer::with_codec(&schema, Vec::new(), codec).expect("a writer");
    for id in 0..1000 {
        let text = Value::Union(1, Box::new(Value::String(format!("S3CRET {id}"))));
        let record = vec![("a".to_owned(), Value::Long(id)), ("b".to_owned(), text)];
        writer.append_value(Value::Record(record)).expect("memory takes it");
        if id % 100 == 99 {
            writer.flush().expect("memory takes it");
        }
    }
    writer.into_inner().expect("memory takes it")
}

/// Avro's whole numbers.
fn long(value: i64) -> Vec<u8> {
    let mut raw = ((value << 1) ^ (value >> 63)).cast_unsigned();
    let mut bytes = Vec::new();
    while raw >= 0x80 {
        bytes.push(u8::try_from(raw & 0x7f).expect("seven bits") | 0x80);
        raw >>= 7;
    }
    bytes.push(u8::try_from(raw).expect("seven bits"));
    bytes
}

const MARK: [u8; 16] = *b"0123456789abcdef";

fn text(text: &str) -> Vec<u8> {
    [long(i64::try_from(text.len()).expect("a short text")), text.as_bytes().to_vec()].concat()
}

fn header(schema: &str) -> Vec<u8> {
    coded(schema, "null")
}

fn coded(schema: &str, codec: &str) -> Vec<u8> {
    let parts = [text("avro.schema"), text(schema), text("avro.codec"), text(codec), long(0), MARK.to_vec()];
    [b"Obj\x01".to_vec(), long(2), parts.concat()].concat()
}

fn block(records: i64, bytes: &[u8]) -> Vec<u8> {
    [long(records), long(i64::try_from(bytes.len()).expect("a small block")), bytes.to_vec(), MARK.to_vec()].concat()
}

/// Two records of `cells`: 1 and x, 2 and NULL.
fn two() -> Vec<u8> {
    block(2, &[2, 2, 2, b'x', 4, 0])
}

/// A good record, for the table of that name.
pub(super) fn good(table: &str, id: i64) -> Vec<u8> {
    let (names, culprit) = match table {
        "staff" => (["id", "name"], r#""string""#),
        "cells" | "long" => (["a", "b"], r#""string""#),
        _ => (["id", "culprit"], r#""null""#),
    };
    let [first, second] = names;
    let schema = format!(
        r#"{{"type":"record","name":"r","fields":[{{"name":"{first}","type":"long"}},{{"name":"{second}","type":{culprit}}}]}}"#
    );
    let value = if culprit.contains("null") { Vec::new() } else { text("good") };
    [header(&schema), block(1, &[long(id), value].concat())].concat()
}

/// One record with its number and a value in column `culprit`.
fn culprit(kind: &str, value: &[u8]) -> Vec<u8> {
    let schema = format!(
        r#"{{"type":"record","name":"r","fields":[{{"name":"id","type":"long"}},{{"name":"culprit","type":{kind}}}]}}"#
    );
    [header(&schema), block(1, &[long(1), value.to_vec()].concat())].concat()
}

fn cut(mut bytes: Vec<u8>, off: usize) -> Vec<u8> {
    bytes.truncate(bytes.len() - off);
    bytes
}

/// Places behind the marks: the header's, and each block's.
fn ends(bytes: &[u8]) -> Vec<usize> {
    let mark = &bytes[bytes.len() - 16..];
    (16..=bytes.len()).filter(|end| &bytes[end - 16..*end] == mark).collect()
}

fn wrong_mark() -> Vec<u8> {
    let mut bytes = thousand(Codec::Null);
    let fifth = ends(&bytes)[5];
    bytes[fifth - 1] ^= 1;
    bytes
}

fn cut_after_five_blocks() -> Vec<u8> {
    let bytes = thousand(Codec::Null);
    let fifth = ends(&bytes)[5];
    bytes[..fifth].to_vec()
}

fn nested(levels: usize) -> String {
    (0..levels).fold(r#""int""#.to_owned(), |inner, _| format!(r#"{{"type":"array","items":{inner}}}"#))
}

/// A block that holds little and becomes 64 MiB.
fn bomb() -> Vec<u8> {
    let zeros = vec![0; 1 << 20];
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..64 {
        encoder.write_all(&zeros).expect("memory takes it");
    }
    [coded(CELLS, "deflate"), block(1, &encoder.finish().expect("memory takes it"))].concat()
}

makers! {
    avro_null => thousand(Codec::Null),
    avro_deflate => thousand(Codec::Deflate(DeflateSettings::default())),
    avro_snappy => thousand(Codec::Snappy),
    avro_zstandard => thousand(Codec::Zstandard(ZstandardSettings::default())),
    avro_bzip2 => thousand(Codec::Bzip2(Bzip2Settings::default())),
    avro_xz => thousand(Codec::Xz(XzSettings::default())),
    avro_no_blocks => header(CELLS),
    avro_empty_blocks => [header(CELLS), block(0, b""), two(), block(0, b""), two(), block(0, b"")].concat(),
    avro_cut_after_five_blocks => cut_after_five_blocks(),

    avro_empty => b"",
    avro_mark_alone => b"Obj\x01",
    avro_one_byte_short => cut(thousand(Codec::Null), 1),
    avro_half => { let whole = thousand(Codec::Snappy); let off = whole.len() / 2; cut(whole, off) },
    avro_wrong_mark => wrong_mark(),
    avro_trailing => [thousand(Codec::Null), b"\0".to_vec()].concat(),
    avro_trailing_zeros => [thousand(Codec::Null), vec![0; 512]].concat(),
    avro_behind_the_last_record => [header(CELLS), block(1, &[2, 2, 2, b'x', 4, 0])].concat(),
    avro_one_record_too_many => [header(CELLS), block(3, &[2, 2, 2, b'x', 4, 0])].concat(),
    avro_csv => "a,b\n1,x\n",
    avro_without_schema => [b"Obj\x01".to_vec(), long(0), MARK.to_vec(), two()].concat(),
    avro_bad_schema => [header("{\"type\":"), two()].concat(),
    avro_bad_name => header(r#"{"type":"record","name":"r","fields":[{"name":"a\"; drop","type":"int"}]}"#),
    avro_unknown_codec => [coded(CELLS, "lzma"), two()].concat(),
    avro_no_record => [header("\"string\""), block(1, &text("S3CRET"))].concat(),
    avro_recursive => header(r#"{"type":"record","name":"r","fields":[{"name":"a","type":["null","r"]}]}"#),
    avro_deep => culprit(&nested(5000), &[]),
    avro_string_of_a_tebibyte => [header(CELLS), block(1, &[long(1), long(1), long(1 << 40)].concat())].concat(),
    avro_block_of_a_tebibyte => [header(CELLS), long(1), long(1 << 40)].concat(),
    avro_endless_nothing => [header(r#"{"type":"record","name":"r","fields":[{"name":"a","type":"null"}]}"#), block(1 << 40, b"")].concat(),
    avro_endless_nulls => culprit(r#"{"type":"array","items":"null"}"#, &long(1 << 40)),
    avro_bomb => bomb(),
    avro_other_schema => [header(r#"{"type":"record","name":"r","fields":[{"name":"x","type":"long"}]}"#), block(1, &[2])].concat(),
    avro_in_csv => thousand(Codec::Null),

    avro_union => culprit(r#"["null","int",{"type":"array","items":"int"}]"#, &[4, 2, 14, 0]),
    avro_nanoseconds => culprit(r#"{"type":"long","logicalType":"timestamp-nanos"}"#, &long(1001)),
    avro_duration => culprit(r#"{"type":"fixed","name":"f","size":12,"logicalType":"duration"}"#, &[0; 12]),
}
