//! Files written by the library itself, read back; and files that nobody should believe.

use std::io::Cursor;
use std::sync::Arc;

use arrow_array::Array as _;
use arrow_array::builder::{Int32Builder, ListBuilder, MapBuilder, StringBuilder};
use arrow_array::types::Float16Type;
use arrow_array::{
    ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Decimal256Array,
    DictionaryArray, FixedSizeBinaryArray, Float32Array, Float64Array, Int8Array, Int32Array, Int64Array,
    PrimitiveArray, RecordBatch, StringArray, StructArray, Time32MillisecondArray, Time64MicrosecondArray,
    Time64NanosecondArray, TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray, UInt64Array,
};
use arrow_schema::{DataType, Field as ArrowField};
use parquet::arrow::ArrowWriter;
use parquet::basic::{BrotliLevel, Compression, Encoding, GzipLevel, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, FixedLenByteArray, FixedLenByteArrayType, Int96, Int96Type};
use parquet::file::properties::{WriterProperties, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use proptest::prelude::*;

use super::*;
use crate::fuzzing::records::{Outcome, all};
use crate::fuzzing::{fixture, run};

fn limits() -> Limits {
    Limits { max_fields: 1600, ..fixture::feed().limits }
}

fn read_with(file: &[u8], limits: &Limits, paths: &[&str]) -> Outcome {
    let bytes = Bytes::copy_from_slice(file);
    let reader = Records::new(Cursor::new(bytes.clone()), bytes, limits, file.len() as u64);
    run(all(reader, paths))
}

fn read(file: &[u8]) -> Outcome {
    read_with(file, &limits(), &[])
}

fn error(file: &[u8]) -> String {
    read(file).expect_err("a file that is refused")
}

/// The only column's type, and its values.
fn column(array: ArrayRef) -> (String, Vec<String>) {
    let batch = RecordBatch::try_from_iter([("v", array)]).unwrap();
    let (kinds, records) = read(&written(&batch, WriterProperties::default())).unwrap();
    (kinds[0].clone(), records.into_iter().map(|mut record| record.remove(0)).collect())
}

fn written(batch: &RecordBatch, properties: WriterProperties) -> Vec<u8> {
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    // The writer calls itself for each row group within a batch.
    for start in (0..batch.num_rows()).step_by(100) {
        writer.write(&batch.slice(start, 100.min(batch.num_rows() - start))).unwrap();
    }
    writer.into_inner().unwrap()
}

fn codecs() -> Vec<Compression> {
    vec![
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(GzipLevel::default()),
        Compression::BROTLI(BrotliLevel::default()),
        Compression::ZSTD(ZstdLevel::default()),
        Compression::LZ4,
        Compression::LZ4_RAW,
    ]
}

/// Two columns of so many rows, in row groups of a hundred.
fn plain(rows: i64, compression: Compression) -> Vec<u8> {
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
    let names: ArrayRef = Arc::new(StringArray::from_iter_values((0..rows).map(|row| format!("name {}", row % 7))));
    let batch = RecordBatch::try_from_iter([("a", numbers), ("b", names)]).unwrap();
    let properties = WriterProperties::builder().set_compression(compression).set_max_row_group_row_count(Some(100));
    written(&batch, properties.build())
}

#[test]
fn every_codec_gives_every_record_back_in_its_order() {
    for codec in codecs() {
        let (kinds, records) = read(&plain(1000, codec)).unwrap();
        assert_eq!(kinds, ["int64", "string"]);
        let expected: Vec<_> =
            (0..1000).map(|row| vec![format!("number {row}"), format!("text name {}", row % 7)]).collect();
        assert!(records == expected, "{codec}");
    }
}

/// An array, its type and its values.
type Case = (ArrayRef, &'static str, &'static [&'static str]);

fn case(array: ArrayRef, kind: &'static str, values: &'static [&'static str]) -> Case {
    (array, kind, values)
}

fn numbers() -> [Case; 11] {
    [
        case(Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])), "boolean", &["true", "null", "false"]),
        case(Arc::new(Int8Array::from(vec![-128, 127])), "int8", &["number -128", "number 127"]),
        case(Arc::new(Int32Array::from(vec![Some(i32::MIN), None])), "int32", &["number -2147483648", "null"]),
        case(Arc::new(Int64Array::from(vec![i64::MAX])), "int64", &["number 9223372036854775807"]),
        case(Arc::new(UInt64Array::from(vec![u64::MAX])), "uint64", &["number 18446744073709551615"]),
        case(half(1.5), "float16", &["number 1.5"]),
        case(Arc::new(Float32Array::from(vec![0.1, f32::MAX])), "float32", &["number 0.1", "number 3.4028235e+38"]),
        case(
            Arc::new(Float64Array::from(vec![0.1, f64::NAN, -0.0])),
            "float64",
            &["number 0.1", "number NaN", "number -0.0"],
        ),
        case(
            Arc::new(Decimal128Array::from(vec![-5, 1230]).with_precision_and_scale(10, 2).unwrap()),
            "decimal(10,2)",
            &["number -0.05", "number 12.30"],
        ),
        case(
            Arc::new(Decimal128Array::from(vec![i128::MAX / 2]).with_precision_and_scale(38, 10).unwrap()),
            "decimal(38,10)",
            &["number 8507059173023461586584365185.7942052863"],
        ),
        case(
            Arc::new(
                Decimal256Array::from_iter_values([arrow_array::temporal_conversions::MICROSECONDS.into()])
                    .with_precision_and_scale(70, 7)
                    .unwrap(),
            ),
            "decimal(70,7)",
            &["number 0.1000000"],
        ),
    ]
}

fn texts_and_times() -> [Case; 11] {
    [
        case(
            Arc::new(StringArray::from(vec![Some("O'Keefe"), Some(""), None])),
            "string",
            &["text O\\'Keefe", "text ", "null"],
        ),
        case(Arc::new(BinaryArray::from_vec(vec![b"\x00\xff"])), "binary", &["bytes \\x00\\xff"]),
        case(
            Arc::new(FixedSizeBinaryArray::try_from_iter([[1_u8, 2]].iter()).unwrap()),
            "fixed(2)",
            &["bytes \\x01\\x02"],
        ),
        case(
            Arc::new(["x", "y", "x"].into_iter().collect::<DictionaryArray<arrow_array::types::Int32Type>>()),
            "string",
            &["text x", "text y", "text x"],
        ),
        case(
            Arc::new(Date32Array::from(vec![0, -1, 1_825_492_972])),
            "date",
            &["text 1970-01-01", "text 1969-12-31", "text 5000000-01-01"],
        ),
        case(Arc::new(Time32MillisecondArray::from(vec![1])), "time", &["text 00:00:00.001"]),
        case(Arc::new(Time64MicrosecondArray::from(vec![86_399_999_999])), "time", &["text 23:59:59.999999"]),
        case(
            Arc::new(Time64NanosecondArray::from(vec![1000, 1])),
            "time",
            &["text 00:00:00.000001", "bad E-ROW-PRECISION field \"v\" has nanoseconds, which PostgreSQL cannot keep"],
        ),
        case(
            Arc::new(TimestampMillisecondArray::from(vec![1, i64::MAX]).with_timezone("Europe/Berlin")),
            "timestamptz",
            &["text 1970-01-01T00:00:00.001Z", "text 292278994-08-17T07:12:55.807Z"],
        ),
        case(Arc::new(TimestampMicrosecondArray::from(vec![-1])), "timestamp", &["text 1969-12-31T23:59:59.999999"]),
        case(
            Arc::new(TimestampNanosecondArray::from(vec![1_000, 1_001])),
            "timestamp",
            &[
                "text 1970-01-01T00:00:00.000001",
                "bad E-ROW-PRECISION field \"v\" has nanoseconds, which PostgreSQL cannot keep",
            ],
        ),
    ]
}

#[test]
fn scalars_keep_their_value_and_their_type() {
    for (array, kind, values) in numbers().into_iter().chain(texts_and_times()) {
        assert_eq!(column(array), (kind.to_owned(), values.iter().map(|&value| value.to_owned()).collect()));
    }
}

/// A column of one number of 16 bits: its type is the library's own.
fn half(value: f32) -> ArrayRef {
    let native = <Float16Type as ArrowPrimitiveType>::Native::from_f32(value);
    Arc::new(PrimitiveArray::<Float16Type>::from_iter_values([native]))
}

/// A file of one column, written below Arrow.
fn low<T: parquet::data_type::DataType>(message: &str, values: &[T::T]) -> Vec<u8> {
    let schema = Arc::new(parse_message_type(message).unwrap());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<T>().write_batch(values, None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.into_inner().unwrap()
}

/// A moment as Hive and Spark wrote it: a Julian day, and nanoseconds of it.
fn int96(day: u32, nanos: u64) -> Int96 {
    let [low, high] = [nanos & 0xffff_ffff, nanos >> 32].map(|half| u32::try_from(half).unwrap());
    Int96::from(vec![low, high, day])
}

#[test]
fn moments_of_int96_are_exact_in_every_year() {
    let moments = [
        int96(2_440_588, 0),
        int96(2_440_588, 1_001),
        int96(2_440_588, 5_000),
        int96(5_373_484, 86_399_999_999_000),
        int96(1_721_426, 0),
    ];
    let (kinds, records) = read(&low::<Int96Type>("message m { required int96 at; }", &moments)).unwrap();
    let texts = [
        "text 1970-01-01T00:00:00",
        "bad E-ROW-PRECISION field \"at\" has nanoseconds, which PostgreSQL cannot keep",
        "text 1970-01-01T00:00:00.000005",
        "text 9999-12-31T23:59:59.999999",
        "text 0001-01-01T00:00:00",
    ];
    assert_eq!((kinds, records.concat()), (vec!["timestamp".to_owned()], texts.map(str::to_owned).to_vec()));
}

#[test]
fn types_that_arrow_does_not_know_are_read_by_the_files_own_schema() {
    let uuid = FixedLenByteArray::from((0..16).collect::<Vec<u8>>());
    let uuids = low::<FixedLenByteArrayType>(
        "message m { required fixed_len_byte_array(16) u (UUID); }",
        std::slice::from_ref(&uuid),
    );
    let text = "text 00010203-0405-0607-0809-0a0b0c0d0e0f";
    assert_eq!(read(&uuids).unwrap(), (vec!["uuid".to_owned()], vec![vec![text.to_owned()]]));
    let bare = low::<FixedLenByteArrayType>("message m { required fixed_len_byte_array(16) u; }", &[uuid]);
    assert_eq!(read(&bare).unwrap().0, ["fixed(16)"]);
    for (annotation, word, value) in
        [("(ENUM)", "enum", "text x"), ("(JSON)", "json", "text x"), ("", "binary", "bytes x")]
    {
        let file =
            low::<ByteArrayType>(&format!("message m {{ required binary v {annotation}; }}"), &[ByteArray::from("x")]);
        assert_eq!(read(&file).unwrap(), (vec![word.to_owned()], vec![vec![value.to_owned()]]));
    }
    let interval = "message m { required fixed_len_byte_array(12) i (INTERVAL); }";
    let intervals = low::<FixedLenByteArrayType>(interval, &[FixedLenByteArray::from(vec![0; 12])]);
    assert_eq!(error(&intervals), "E-PARQUET Parquet: field \"i\" is of type interval(daytime), which is not read");
}

/// A list, a map and a structure with another inside, two records each.
fn nested() -> Vec<u8> {
    let mut list = ListBuilder::new(Int32Builder::new());
    list.append_value([Some(1), None, Some(3)]);
    list.append_null();
    let mut map = MapBuilder::new(None, Int32Builder::new(), StringBuilder::new());
    map.keys().append_value(7);
    map.values().append_value("a\"b");
    map.append(true).unwrap();
    map.append(true).unwrap();
    let field = |name: &str, kind: DataType| Arc::new(ArrowField::new(name, kind, true));
    let (lat, name) = (field("lat", DataType::Float64), field("name", DataType::Utf8));
    let inner = StructArray::from(vec![
        (lat, Arc::new(Float64Array::from(vec![Some(0.1), None])) as ArrayRef),
        (name, Arc::new(StringArray::from(vec!["x", "y"])) as ArrayRef),
    ]);
    let outer = StructArray::from(vec![(field("in", inner.data_type().clone()), Arc::new(inner) as ArrayRef)]);
    let columns: [(&str, ArrayRef); 3] =
        [("list", Arc::new(list.finish())), ("map", Arc::new(map.finish())), ("out", Arc::new(outer))];
    written(&RecordBatch::try_from_iter(columns).unwrap(), WriterProperties::default())
}

#[test]
fn nested_values_are_json_and_the_fields_of_structures_have_paths() {
    let (kinds, records) = read_with(&nested(), &limits(), &["out.in.lat", "out.in", "out.gone", "list.x"]).unwrap();
    assert_eq!(kinds, ["list<int32>", "map", "struct<in: struct<lat: float64, name: string>>"]);
    let first = r#"json [1,null,3]|json {\"7\":\"a\\\"b\"}|json {\"in\":{\"lat\":0.1,\"name\":\"x\"}}|number 0.1|json {\"lat\":0.1,\"name\":\"x\"}|none|none"#;
    let second =
        r#"null|json {}|json {\"in\":{\"lat\":null,\"name\":\"y\"}}|null|json {\"lat\":null,\"name\":\"y\"}|none|none"#;
    assert_eq!([records[0].join("|"), records[1].join("|")], [first, second]);
    let shallow = Limits { max_depth: 1, ..limits() };
    assert!(read_with(&nested(), &shallow, &[]).unwrap_err().starts_with("E-LIMIT-DEPTH "));
}

#[test]
fn a_record_is_shown_as_a_line_of_json() {
    let file = Bytes::from(nested());
    let mut reader = Records::new(Cursor::new(file.clone()), file.clone(), &limits(), file.len() as u64);
    run(async {
        assert!(reader.schema().await.is_ok());
        assert!(matches!(reader.next().await, Ok(Next::Record)));
    });
    let (mut whole, mut part) = (Vec::new(), Vec::new());
    let length = reader.raw(usize::MAX, &mut whole);
    assert_eq!(reader.raw(10, &mut part), length);
    let expected = r#"{"list":[1,null,3],"map":{"7":"a\"b"},"out":{"in":{"lat":0.1,"name":"x"}}}"#.to_owned() + "\n";
    assert_eq!(String::from_utf8(whole).unwrap(), expected);
    assert_eq!((part.as_slice(), length), (&expected.as_bytes()[..10], expected.len() as u64));
    let mut seen = Vec::new();
    reader.unclaimed(&mut |name, value| seen.push(format!("{name} {value:?}")));
    assert_eq!(seen.len(), 3);
}

#[test]
fn what_is_no_whole_file_is_said_to_be_none() {
    let whole = plain(300, Compression::SNAPPY);
    assert_eq!(error(b""), "E-PARQUET Parquet: the object is empty");
    for short in [&b"PAR1"[..], b"PAR1PAR1", b"PAR1\0\0\0\0PAR1"] {
        assert!(error(short).starts_with("E-PARQUET "), "{}", error(short));
    }
    for cut in [1, 4, 8, 100, whole.len() / 2] {
        let told = error(&whole[..whole.len() - cut]);
        assert!(told.contains("does not end as Parquet does"), "{told}");
    }
    let trailing = [whole.as_slice(), b"\0"].concat();
    assert!(error(&trailing).contains("something was added"));
    assert!(error(b"id,name\n1,a\n").starts_with("E-FORMAT "));
    let end = whole.len();
    for (length, told) in
        [(0, "claims 0 bytes"), (u32::MAX, "claims 4294967295 bytes"), (u32::try_from(end).unwrap(), "claims")]
    {
        let mut file = whole.clone();
        file[end - 8..end - 4].copy_from_slice(&length.to_le_bytes());
        assert!(error(&file).contains(told), "{}", error(&file));
    }
    let mut encrypted = whole.clone();
    encrypted[end - 4..].copy_from_slice(b"PARE");
    assert!(error(&encrypted).contains("encrypted"));
    assert!(error(b"PARE and more").contains("encrypted"));
}

#[test]
fn a_footer_that_nests_or_counts_without_end_is_refused_before_the_library_reads_it() {
    let with = |footer: &[u8]| {
        let length = u32::try_from(footer.len()).unwrap().to_le_bytes();
        [b"PAR1", footer, &length, b"PAR1"].concat()
    };
    // FileMetaData { version: 1, schema: [ … ] } with elements { name: "", num_children: 1 }.
    let element: &[u8] = &[0x48, 0, 0x15, 2, 0];
    let schema = |count: u32, elements: usize| {
        let mut footer = vec![0x15, 2, 0x19, 0xfc];
        footer.extend(
            (0..5).map(|byte| u8::try_from(count >> (7 * byte) & 0x7f).unwrap() | if byte < 4 { 0x80 } else { 0 }),
        );
        footer.extend(element.repeat(elements));
        footer.push(0);
        footer
    };
    assert!(error(&with(&schema(100_000, 100_000))).starts_with("E-LIMIT-DEPTH "));
    assert!(error(&with(&schema(u32::MAX >> 1, 3))).contains("the schema is none"));
    assert!(error(&with(&[0x1c; 5000])).contains("the footer is none"));
    assert!(error(&with(&[0x19; 5000])).starts_with("E-PARQUET "));
}

#[test]
fn caps_hold_for_columns_row_groups_pages_records_and_everything() {
    let file = plain(1000, Compression::GZIP(GzipLevel::default()));
    let told = |limits: Limits| read_with(&file, &limits, &[]).map(|(_, records)| records.len()).unwrap_or_default();
    let why = |limits: Limits| read_with(&file, &limits, &[]).unwrap_err();
    assert_eq!(told(Limits { max_fields: 2, ..limits() }), 1000);
    assert!(why(Limits { max_fields: 1, ..limits() }).starts_with("E-LIMIT-FIELDS "));
    assert!(why(Limits { max_block_bytes: 300, ..limits() }).starts_with("E-LIMIT-BLOCK "));
    assert!(why(Limits { max_record_bytes: 8, ..limits() }).starts_with("E-LIMIT-RECORD "));
    assert_eq!(told(Limits { max_record_bytes: 9, ..limits() }), 1000);
    assert!(why(Limits { max_bytes: 999, ..limits() }).starts_with("E-LIMIT-BYTES "));
    // A text of a mebibyte in a dictionary, named by every record: few bytes stand for many.
    let long = "x".repeat(1 << 20);
    let names: ArrayRef = Arc::new(StringArray::from_iter_values((0..40).map(|_| long.as_str())));
    let properties = WriterProperties::builder().set_dictionary_page_size_limit(4 << 20).build();
    let file = written(&RecordBatch::try_from_iter([("v", names)]).unwrap(), properties);
    assert!(file.len() < 3 << 20, "{} bytes", file.len());
    let wide = Limits { max_record_bytes: 2 << 20, max_bytes: 39 << 20, ..limits() };
    assert!(read_with(&file, &wide, &[]).unwrap_err().starts_with("E-LIMIT-BYTES "));
}

#[test]
fn a_page_that_inflates_without_end_is_never_kept() {
    // A gzip page of zeros, whose header claims few bytes.
    let zeros: ArrayRef = Arc::new(BinaryArray::from_vec(vec![&[0; 4 << 20]]));
    let batch = RecordBatch::try_from_iter([("v", zeros)]).unwrap();
    for codec in
        [Compression::GZIP(GzipLevel::default()), Compression::BROTLI(BrotliLevel::default()), Compression::SNAPPY]
    {
        let properties = WriterProperties::builder().set_compression(codec).set_dictionary_enabled(false);
        let mut file = written(
            &batch,
            properties.set_statistics_enabled(parquet::file::properties::EnabledStatistics::None).build(),
        );
        let tiny = Limits { max_block_bytes: 1 << 20, ..limits() };
        assert!(read_with(&file, &tiny, &[]).unwrap_err().starts_with("E-LIMIT-BLOCK "), "{codec}");
        // The second field of the header behind the magic is the size.
        assert_eq!(file[4..7], [0x15, 0, 0x15], "the header begins as it did");
        let place = 7;
        let claim = file[place..].iter().position(|byte| *byte < 0x80).unwrap() + 1;
        let smaller: Vec<u8> = (0..claim).map(|byte| if byte + 1 < claim { 0x82 } else { 0 }).collect();
        file.splice(place..place + claim, smaller);
        assert!(error(&file).starts_with("E-PARQUET "), "{codec}: {}", error(&file));
    }
}

#[test]
fn a_flipped_byte_under_a_page_checksum_is_found() {
    // The page is stored as it is, so that nothing but the checksum can notice.
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..100));
    let properties =
        || WriterProperties::builder().set_dictionary_enabled(false).set_compression(Compression::UNCOMPRESSED);
    let file = written(&RecordBatch::try_from_iter([("a", numbers)]).unwrap(), properties().build());
    let header_end = file.windows(8).position(|bytes| bytes == 1_i64.to_le_bytes()).unwrap() - 8;
    let body = &file[header_end..header_end + 800];
    let crc = u32::try_from(crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, body)).unwrap().cast_signed();
    let header = |crc: i32| {
        let mut value = u64::from(((crc << 1) ^ (crc >> 31)).cast_unsigned());
        let mut bytes = vec![0x15, 0, 0x15, 0xc0, 0x0c, 0x15, 0xc0, 0x0c, 0x15];
        while value >= 0x80 {
            bytes.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
            value >>= 7;
        }
        bytes.push(u8::try_from(value).unwrap());
        // DataPageHeader { num_values: 100, encoding: PLAIN, levels: RLE }
        bytes.extend([0x1c, 0x15, 0xc8, 0x01, 0x15, 0, 0x15, 6, 0x15, 6, 0, 0]);
        bytes
    };
    let column = {
        let metadata =
            parquet::file::metadata::ParquetMetaDataReader::new().parse_and_finish(&Bytes::from(file.clone())).unwrap();
        metadata.row_group(0).column(0).clone()
    };
    let chunk = |crc| [header(crc).as_slice(), body].concat();
    assert!(pages::check(&chunk(crc), &column, 100, 1 << 20).is_ok());
    let wrong = pages::check(&chunk(crc ^ 1), &column, 100, 1 << 20).unwrap_err().to_string();
    assert!(wrong.contains("checksum is wrong"), "{wrong}");
}

#[test]
fn no_rows_many_row_groups_and_every_version_of_pages_are_read() {
    assert_eq!(read(&plain(0, Compression::SNAPPY)).unwrap().1.len(), 0);
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..3000));
    let lists: ArrayRef = {
        let mut list = ListBuilder::new(StringBuilder::new());
        (0..3000).for_each(|row| list.append_value((0..row % 4).map(|item| Some(format!("prefix {item}")))));
        Arc::new(list.finish())
    };
    let batch = RecordBatch::try_from_iter([("a", numbers), ("b", lists)]).unwrap();
    for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
        for encoding in [Encoding::PLAIN, Encoding::DELTA_BYTE_ARRAY, Encoding::DELTA_LENGTH_BYTE_ARRAY] {
            let properties = WriterProperties::builder()
                .set_writer_version(version)
                .set_compression(Compression::ZSTD(ZstdLevel::default()))
                .set_dictionary_enabled(encoding == Encoding::PLAIN)
                .set_column_encoding("b.list.item".into(), encoding)
                .set_data_page_row_count_limit(700)
                .set_write_batch_size(100)
                .set_max_row_group_row_count(Some(if encoding == Encoding::PLAIN { 1 } else { 2500 }));
            let (_, records) = read(&written(&batch, properties.build())).unwrap();
            assert_eq!(records.len(), 3000);
            let last = ["number 2999", r#"json [\"prefix 0\",\"prefix 1\",\"prefix 2\"]"#];
            assert_eq!(records[2999], last, "{version:?} {encoding}");
        }
    }
}

#[test]
fn two_changed_bytes_never_do_more_than_damage_the_object() {
    let mut random = fastrand::Rng::with_seed(4711);
    let files = [plain(250, Compression::SNAPPY), nested(), plain(30, Compression::GZIP(GzipLevel::default()))];
    let mut read_well = 0;
    for round in 0..1000 {
        let mut file = files[round % files.len()].clone();
        for _ in 0..2 {
            let place = random.usize(..file.len());
            file[place] = random.u8(..);
        }
        match read(&file) {
            Ok(_) => read_well += 1,
            Err(told) => assert!(
                told.starts_with("E-PARQUET ") || told.starts_with("E-LIMIT-") || told.starts_with("E-FORMAT "),
                "{told}"
            ),
        }
    }
    assert!((100..900).contains(&read_well), "{read_well} of 1000 were read");
}

proptest! {
    #[test]
    fn what_was_written_is_read(
        numbers in prop::collection::vec(prop::option::of(any::<i64>()), 0..300),
        text in "\\PC{0,12}", group in 1..200_usize, batch in 1..50_usize, codec in prop::sample::select(codecs()),
        digits in any::<i128>(), scale in 0..38_i8, micros in any::<i32>(),
    ) {
        let rows = numbers.len();
        let texts = (0..rows).map(|row| format!("{text}{}", row % 5));
        let decimal = digits % 10_i128.pow(38);
        let columns: [(&str, ArrayRef); 4] = [
            ("n", Arc::new(Int64Array::from(numbers.clone()))),
            ("t", Arc::new(StringArray::from_iter_values(texts.clone()))),
            ("d", Arc::new(Decimal128Array::from(vec![decimal; rows]).with_precision_and_scale(38, scale).unwrap())),
            ("at", Arc::new(TimestampMicrosecondArray::from(vec![i64::from(micros) * 1_000_003; rows]).with_timezone("UTC"))),
        ];
        let properties = WriterProperties::builder()
            .set_compression(codec).set_max_row_group_row_count(Some(group)).set_write_batch_size(batch).set_data_page_row_count_limit(batch);
        let file = written(&RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap(), properties.build());
        let (_, records) = read(&file).unwrap();
        let at = jiff::Timestamp::from_microsecond(i64::from(micros) * 1_000_003).unwrap();
        prop_assert_eq!(records.len(), rows);
        for ((record, number), text) in records.iter().zip(&numbers).zip(texts) {
            prop_assert_eq!(&record[0], &number.map_or("null".to_owned(), |number| format!("number {number}")));
            prop_assert_eq!(&record[1], &format!("text {}", text.as_bytes().escape_ascii()));
            let same: i128 = record[2].trim_start_matches("number ").replace('.', "").parse().unwrap();
            prop_assert_eq!(same, decimal);
            let read: jiff::Timestamp = record[3].trim_start_matches("text ").parse().unwrap();
            prop_assert_eq!(read, at);
        }
    }
}
