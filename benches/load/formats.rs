//! The rows of lineitem in other formats: as JSON lines, Parquet and Avro, written by the formats' own libraries.

use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use apache_avro::types::Value;
use apache_avro::{Codec, DeflateSettings, Schema as AvroSchema, Writer};
use arrow_array::{ArrayRef, Date32Array, Decimal128Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

/// What a column holds.
#[derive(Clone, Copy)]
enum Kind {
    Long,
    Int,
    Decimal,
    Date,
    Text,
}

/// Columns of lineitem in their order.
const COLUMNS: [(&str, Kind); 16] = [
    ("l_orderkey", Kind::Long),
    ("l_partkey", Kind::Int),
    ("l_suppkey", Kind::Int),
    ("l_linenumber", Kind::Int),
    ("l_quantity", Kind::Decimal),
    ("l_extendedprice", Kind::Decimal),
    ("l_discount", Kind::Decimal),
    ("l_tax", Kind::Decimal),
    ("l_returnflag", Kind::Text),
    ("l_linestatus", Kind::Text),
    ("l_shipdate", Kind::Date),
    ("l_commitdate", Kind::Date),
    ("l_receiptdate", Kind::Date),
    ("l_shipinstruct", Kind::Text),
    ("l_shipmode", Kind::Text),
    ("l_comment", Kind::Text),
];

/// Rows of one row group, which is what a reader holds at once.
const GROUP: usize = 100_000;

/// Each row's cells; only the last one, the comment, may stand in quotes.
fn rows(csv: &Path) -> anyhow::Result<impl Iterator<Item = anyhow::Result<Vec<String>>>> {
    let lines = BufReader::with_capacity(1 << 20, File::open(csv)?).lines();
    Ok(lines.map(|line| {
        let mut cells: Vec<String> = line?.splitn(COLUMNS.len(), ',').map(str::to_owned).collect();
        if let Some(comment) = cells.last_mut()
            && let Some(quoted) = comment.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'))
        {
            *comment = quoted.replace("\"\"", "\"");
        }
        ensure!(cells.len() == COLUMNS.len(), "a line of {} cells", cells.len());
        Ok(cells)
    }))
}

/// One object per line; decimals are numbers, dates are texts.
pub(crate) fn jsonl(csv: &Path, out: &mut BufWriter<File>) -> anyhow::Result<()> {
    for row in rows(csv)? {
        let row = row?;
        let cells = COLUMNS.iter().zip(&row).map(|((name, kind), cell)| match kind {
            Kind::Long | Kind::Int | Kind::Decimal => format!("\"{name}\":{cell}"),
            Kind::Date | Kind::Text => format!("\"{name}\":{}", serde_json::Value::from(cell.as_str())),
        });
        writeln!(out, "{{{}}}", cells.collect::<Vec<_>>().join(","))?;
    }
    Ok(())
}

/// Cents of a decimal with at most two digits behind the point.
fn cents(cell: &str) -> anyhow::Result<i128> {
    let (whole, fraction) = cell.split_once('.').unwrap_or((cell, ""));
    Ok(format!("{whole}{fraction:0<2}").parse()?)
}

/// Days since 1970.
fn days(cell: &str) -> anyhow::Result<i32> {
    let date: jiff::civil::Date = cell.parse()?;
    Ok((date - jiff::civil::date(1970, 1, 1)).get_days())
}

/// Snappy, as most writers do by default.
pub(crate) fn parquet(csv: &Path, out: &mut BufWriter<File>) -> anyhow::Result<()> {
    let kind = |kind| match kind {
        Kind::Long => DataType::Int64,
        Kind::Int => DataType::Int32,
        Kind::Decimal => DataType::Decimal128(15, 2),
        Kind::Date => DataType::Date32,
        Kind::Text => DataType::Utf8,
    };
    let fields: Vec<Field> = COLUMNS.iter().map(|(name, of)| Field::new(*name, kind(*of), false)).collect();
    let schema = Arc::new(Schema::new(fields));
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut writer = ArrowWriter::try_new(out, Arc::clone(&schema), Some(properties))?;
    let mut rows = rows(csv)?;
    loop {
        let group: Vec<Vec<String>> = rows.by_ref().take(GROUP).collect::<anyhow::Result<_>>()?;
        if group.is_empty() {
            break;
        }
        let arrays = COLUMNS.iter().enumerate().map(|(index, (_, kind))| {
            let cells = group.iter().map(|row| row.get(index).map(String::as_str).unwrap_or_default());
            column(*kind, cells)
        });
        writer.write(&RecordBatch::try_new(Arc::clone(&schema), arrays.collect::<anyhow::Result<_>>()?)?)?;
        writer.flush()?;
    }
    writer.close().map(drop).context("finish the file")
}

fn column<'a>(kind: Kind, cells: impl Iterator<Item = &'a str>) -> anyhow::Result<ArrayRef> {
    Ok(match kind {
        Kind::Long => Arc::new(Int64Array::from(cells.map(str::parse).collect::<Result<Vec<i64>, _>>()?)),
        Kind::Int => Arc::new(Int32Array::from(cells.map(str::parse).collect::<Result<Vec<i32>, _>>()?)),
        Kind::Decimal => {
            let cents: Vec<i128> = cells.map(cents).collect::<anyhow::Result<_>>()?;
            Arc::new(Decimal128Array::from(cents).with_precision_and_scale(15, 2)?)
        }
        Kind::Date => Arc::new(Date32Array::from(cells.map(days).collect::<anyhow::Result<Vec<i32>>>()?)),
        Kind::Text => Arc::new(cells.map(Some).collect::<StringArray>()),
    })
}

/// Deflate, as most writers do by default.
pub(crate) fn avro(csv: &Path, out: &mut BufWriter<File>) -> anyhow::Result<()> {
    let kind = |kind| match kind {
        Kind::Long => r#""long""#,
        Kind::Int => r#""int""#,
        Kind::Decimal => r#"{"type": "bytes", "logicalType": "decimal", "precision": 15, "scale": 2}"#,
        Kind::Date => r#"{"type": "int", "logicalType": "date"}"#,
        Kind::Text => r#""string""#,
    };
    let fields: Vec<String> =
        COLUMNS.iter().map(|(name, of)| format!(r#"{{"name": "{name}", "type": {}}}"#, kind(*of))).collect();
    let schema = AvroSchema::parse_str(&format!(
        r#"{{"type": "record", "name": "lineitem", "fields": [{}]}}"#,
        fields.join(",")
    ))?;
    let mut writer = Writer::with_codec(&schema, out, Codec::Deflate(DeflateSettings::default()))?;
    for row in rows(csv)? {
        let row = row?;
        let fields: Vec<(String, Value)> = COLUMNS
            .iter()
            .zip(row)
            .map(|((name, kind), cell)| Ok(((*name).to_owned(), avro_value(*kind, cell)?)))
            .collect::<anyhow::Result<_>>()?;
        writer.append_value(Value::Record(fields))?;
    }
    writer.into_inner().map(drop).context("finish the file")
}

fn avro_value(kind: Kind, cell: String) -> anyhow::Result<Value> {
    Ok(match kind {
        Kind::Long => Value::Long(cell.parse()?),
        Kind::Int => Value::Int(cell.parse()?),
        Kind::Decimal => Value::Decimal(cents(&cell)?.to_be_bytes().to_vec().into()),
        Kind::Date => Value::Date(days(&cell)?),
        Kind::Text => Value::String(cell),
    })
}
