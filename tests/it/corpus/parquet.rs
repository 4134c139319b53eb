//! Makers of Parquet files: sound ones by the library, and ones whose footer says what is not so.

use std::sync::Arc;

use arrow_array::builder::{Int32Builder, ListBuilder};
use arrow_array::{
    ArrayRef, Date32Array, Decimal128Array, FixedSizeBinaryArray, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, TimestampNanosecondArray, UInt64Array,
};
use arrow_schema::{DataType, Field, Schema};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
use parquet::file::metadata::{
    ColumnChunkMetaDataBuilder, FileMetaData, ParquetMetaData, ParquetMetaDataBuilder, ParquetMetaDataReader,
    ParquetMetaDataWriter, RowGroupMetaData,
};
use parquet::file::properties::WriterProperties;

use crate::support::gzip;

use super::makers;

/// A column's name and values.
type Column = (&'static str, ArrayRef);

fn written(columns: impl IntoIterator<Item = Column>, properties: WriterProperties) -> Vec<u8> {
    let batch =
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, values)| (name, values, true)));
    let batch = batch.expect("columns of one length");
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).expect("a writer");
    // The writer calls itself for each row group within a batch.
    for start in (0..batch.num_rows()).step_by(100) {
        writer.write(&batch.slice(start, 100.min(batch.num_rows() - start))).expect("memory takes it");
    }
    writer.into_inner().expect("memory takes it")
}

fn texts<const N: usize>(values: [Option<&'static str>; N]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

/// Two records of `cells`.
fn cells(columns: impl IntoIterator<Item = Column>) -> Vec<u8> {
    written(columns, WriterProperties::default())
}

fn two() -> [Column; 2] {
    [("a", texts([Some("1"), Some("2")])), ("b", texts([Some("x"), None]))]
}

/// So many records of `cells`, ten in each row group.
fn many(rows: i64, compression: Compression) -> Vec<u8> {
    let texts = |prefix: &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values((0..rows).map(|row| format!("{prefix}{row}"))))
    };
    let properties = WriterProperties::builder().set_compression(compression).set_max_row_group_row_count(Some(10));
    written([("a", texts("")), ("b", texts("S3CRET "))], properties.build())
}

fn plain() -> Vec<u8> {
    many(50, Compression::SNAPPY)
}

/// A record with its number and a value in column `culprit`.
fn culprit(value: ArrayRef) -> Vec<u8> {
    cells([("id", Arc::new(Int64Array::from(vec![1])) as ArrayRef), ("culprit", value)])
}

/// A good record, for the table of that name.
pub(super) fn good(table: &str, id: i64) -> Vec<u8> {
    let number = || -> ArrayRef { Arc::new(Int64Array::from(vec![id])) };
    match table {
        "staff" => cells([("id", number()), ("name", texts([Some("good")]))]),
        "cells" | "long" => cells([("a", number()), ("b", texts([Some("good")]))]),
        _ => cells([("id", number()), ("culprit", texts([None]))]),
    }
}

fn cut(mut bytes: Vec<u8>, off: usize) -> Vec<u8> {
    bytes.truncate(bytes.len() - off);
    bytes
}

/// With another length of the footer.
fn footer_of(length: u32) -> Vec<u8> {
    let (mut bytes, end) = (plain(), plain().len());
    bytes[end - 8..end - 4].copy_from_slice(&length.to_le_bytes());
    bytes
}

fn encrypted() -> Vec<u8> {
    let mut bytes = cut(plain(), 4);
    bytes.extend_from_slice(b"PARE");
    bytes
}

/// A file of nothing but this footer.
fn only_footer(footer: &[u8]) -> Vec<u8> {
    let length = u32::try_from(footer.len()).expect("a small footer").to_le_bytes();
    [b"PAR1", footer, &length, b"PAR1"].concat()
}

/// A schema that claims so many elements and has these, each of which holds the next.
fn schema_of(claimed: u32, elements: usize) -> Vec<u8> {
    let mut footer = vec![0x15, 2, 0x19, 0xfc];
    let groups = (0..5).map(|group| u8::try_from(claimed >> (7 * group) & 0x7f).expect("seven bits"));
    footer.extend(groups.enumerate().map(|(place, group)| if place < 4 { group | 0x80 } else { group }));
    footer.extend([0x48, 0, 0x15, 2, 0].repeat(elements));
    footer.push(0);
    only_footer(&footer)
}

fn metadata(file: &[u8]) -> ParquetMetaData {
    let bytes = Bytes::copy_from_slice(file);
    ParquetMetaDataReader::new().parse_and_finish(&bytes).expect("the library reads what it wrote")
}

/// With the footer that says this of the row groups, and so many rows.
fn claiming(file: Vec<u8>, groups: Vec<RowGroupMetaData>, rows: i64) -> Vec<u8> {
    let whole = metadata(&file);
    let told = whole.file_metadata();
    let length = u32::from_le_bytes(file[file.len() - 8..file.len() - 4].try_into().expect("four bytes"));
    let mut bytes = cut(file, 8 + usize::try_from(length).expect("a small footer"));
    let file = FileMetaData::new(told.version(), rows, None, None, told.schema_descr_ptr(), None);
    let metadata = ParquetMetaDataBuilder::new(file).set_row_groups(groups).build();
    let mut footer = Vec::new();
    ParquetMetaDataWriter::new(&mut footer, &metadata).finish().expect("memory takes it");
    // The writer puts the mark of a beginning nowhere: this is the footer, its length and the mark of the end.
    bytes.extend_from_slice(&footer);
    bytes
}

/// With something else said of the first column of the first row group.
fn column(change: impl Fn(ColumnChunkMetaDataBuilder) -> ColumnChunkMetaDataBuilder) -> Vec<u8> {
    let file = plain();
    let mut groups = metadata(&file).row_groups().to_vec();
    let first = groups[0].clone();
    let mut columns = first.columns().to_vec();
    columns[0] = change(columns[0].clone().into_builder()).build().expect("a column");
    groups[0] = first.into_builder().set_column_metadata(columns).build().expect("a row group");
    claiming(file, groups, 50)
}

/// The dictionary is there, and nothing says so.
fn without_dictionary() -> Vec<u8> {
    let file = plain();
    let column_of = metadata(&file).row_group(0).column(0).clone();
    let dictionary = column_of.dictionary_page_offset().expect("a dictionary");
    let length = column_of.compressed_size() - (column_of.data_page_offset() - dictionary);
    column(move |column| column.set_dictionary_page_offset(None).set_total_compressed_size(length))
}

/// Row groups that claim to have so many rows.
fn rows(claimed: i64) -> Vec<u8> {
    let file = plain();
    let mut groups = metadata(&file).row_groups().to_vec();
    groups[0] = groups[0].clone().into_builder().set_num_rows(claimed).build().expect("a row group");
    claiming(file, groups, claimed + 40)
}

fn swapped() -> Vec<u8> {
    let file = plain();
    let mut groups = metadata(&file).row_groups().to_vec();
    groups.swap(1, 2);
    claiming(file, groups, 50)
}

fn doubled() -> Vec<u8> {
    let file = plain();
    let mut groups = metadata(&file).row_groups().to_vec();
    groups[1] = groups[0].clone();
    claiming(file, groups, 50)
}

fn no_columns() -> Vec<u8> {
    let schema = Arc::new(Schema::new(Vec::<Field>::new()));
    let writer = ArrowWriter::try_new(Vec::new(), schema, None).expect("a writer");
    writer.into_inner().expect("memory takes it")
}

/// So many columns and not a row.
fn columns(count: usize) -> Vec<u8> {
    let fields: Vec<Field> = (0..count).map(|n| Field::new(format!("c{n}"), DataType::Int32, true)).collect();
    let writer = ArrowWriter::try_new(Vec::new(), Arc::new(Schema::new(fields)), None).expect("a writer");
    writer.into_inner().expect("memory takes it")
}

fn lists() -> ArrayRef {
    let mut list = ListBuilder::new(Int32Builder::new());
    list.append_value([Some(1), None]);
    Arc::new(list.finish())
}

fn decimal() -> ArrayRef {
    let value = Decimal128Array::from(vec![-12_345_678_901_234_567_890_123_456_789_012_345_678]);
    Arc::new(value.with_precision_and_scale(38, 18).expect("thirty-eight digits"))
}

makers! {
    pq_two => cells(two()),
    pq_snappy => many(25, Compression::SNAPPY),
    pq_gzip => many(25, Compression::GZIP(GzipLevel::default())),
    pq_brotli => many(25, Compression::BROTLI(BrotliLevel::default())),
    pq_zstd => many(25, Compression::ZSTD(ZstdLevel::default())),
    pq_lz4 => many(25, Compression::LZ4),
    pq_lz4_raw => many(25, Compression::LZ4_RAW),
    pq_many_row_groups => many(20_000, Compression::UNCOMPRESSED),
    pq_no_rows => many(0, Compression::SNAPPY),
    pq_other_order => cells([("b", texts([Some("x")])), ("a", texts([Some("1")]))]),
    pq_one_more => cells([("a", texts([Some("1")])), ("b", texts([Some("x")])), ("c", texts([Some("S3CRET")]))]),
    pq_one_less => cells([("id", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]),
    pq_null_in_not_null => cells([("id", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef), ("name", texts([Some("x"), None]))]),

    pq_empty => b"",
    pq_mark_alone => b"PAR1",
    pq_marks_alone => b"PAR1PAR1",
    pq_one_byte_short => cut(plain(), 1),
    pq_half => { let whole = plain(); let off = whole.len() / 2; cut(whole, off) },
    pq_cut_in_footer => cut(plain(), 60),
    pq_trailing => [plain(), b"\0".to_vec()].concat(),
    pq_footer_of_nothing => footer_of(0),
    pq_footer_of_everything => footer_of(u32::MAX),
    pq_footer_of_too_much => footer_of(u32::try_from(plain().len()).expect("a small file")),
    pq_encrypted => encrypted(),
    pq_endless_schema => schema_of(u32::MAX >> 1, 5),
    pq_deep_schema => schema_of(100_000, 100_000),
    pq_negative_offset => column(|column| column.set_data_page_offset(-100).set_dictionary_page_offset(None)),
    pq_negative_length => column(|column| column.set_total_compressed_size(-1)),
    pq_offset_behind_the_end => column(|column| column.set_dictionary_page_offset(Some(1 << 40))),
    pq_length_behind_the_end => column(|column| column.set_total_compressed_size(1 << 40)),
    pq_length_of_zero => column(|column| column.set_total_compressed_size(0)),
    pq_without_dictionary => without_dictionary(),
    pq_endless_rows => rows(1 << 40),
    pq_negative_rows => rows(-1),
    pq_one_row_more => rows(11),
    pq_one_row_less => rows(9),
    pq_lzo => column(|column| column.set_compression(Compression::LZO)),
    pq_wrong_codec => column(|column| column.set_compression(Compression::ZSTD(ZstdLevel::default()))),
    pq_swapped => swapped(),
    pq_doubled => doubled(),
    pq_no_columns => no_columns(),
    pq_10000_columns => columns(10_000),
    pq_csv => "a,b\n1,x\n",
    pq_gz => gzip(&plain()),
    pq_in_csv => plain(),

    pq_list => culprit(lists()),
    pq_uint64 => culprit(Arc::new(UInt64Array::from(vec![u64::MAX]))),
    pq_decimal => culprit(decimal()),
    pq_fixed => culprit(Arc::new(FixedSizeBinaryArray::try_from_iter([[0_u8, 255]].iter()).expect("two bytes"))),
    pq_year_5000000 => culprit(Arc::new(Date32Array::from(vec![1_825_492_972]))),
    pq_year_292000 => culprit(Arc::new(TimestampMicrosecondArray::from(vec![i64::MAX]))),
    pq_nanoseconds => culprit(Arc::new(TimestampNanosecondArray::from(vec![1_001]))),
}
