//! What is loaded: TPC-H's lineitem as files, small objects made on the fly.
//!
//! Files are made once and kept in cargo's folder for such things; all of them are the same in every run.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use async_compression::Level;
use async_compression::tokio::bufread::{GzipEncoder, ZstdEncoder};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tpchgen::csv::LineItemCsv;
use tpchgen::generators::LineItemGenerator;

use crate::formats;
use crate::s3::PREFIX;

/// Objects of the part `many`.
const PIECES: i32 = 8;

/// Lineitem in every form that is needed.
pub(crate) struct Files {
    /// All rows, no header.
    pub(crate) whole: PathBuf,
    /// The same in eight files.
    pub(crate) pieces: Vec<PathBuf>,
    /// gzip of the whole.
    pub(crate) gzip: PathBuf,
    /// zstd of the whole.
    pub(crate) zstd: PathBuf,
    /// The whole as JSON lines, Parquet and Avro; made only where asked for.
    pub(crate) formats: Option<[PathBuf; 3]>,
    /// Rows in the whole.
    pub(crate) rows: u64,
    /// Bytes of the whole.
    pub(crate) bytes: u64,
}

impl Files {
    /// Finds or makes the files of one scale factor.
    pub(crate) fn of(sf: f64, with_formats: bool) -> anyhow::Result<Self> {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("lineitem-{sf}"));
        fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
        let pieces: Vec<PathBuf> = (1..=PIECES).map(|part| directory.join(format!("{part}.csv"))).collect();
        for (part, path) in (1..).zip(&pieces) {
            make(path, |out| {
                for row in LineItemGenerator::new(sf, part, PIECES).iter() {
                    writeln!(out, "{}", LineItemCsv::new(row))?;
                }
                Ok(())
            })?;
        }
        let whole = directory.join("whole.csv");
        make(&whole, |out| {
            for piece in &pieces {
                std::io::copy(&mut File::open(piece)?, out)?;
            }
            Ok(())
        })?;
        let (gzip, zstd) = (directory.join("whole.csv.gz"), directory.join("whole.csv.zst"));
        compress(Compression::Gzip, &whole, &gzip)?;
        compress(Compression::Zstd, &whole, &zstd)?;
        let formats = if with_formats { Some(in_formats(&directory, &whole)?) } else { None };
        let rows = lines(&whole)?;
        let bytes = fs::metadata(&whole)?.len();
        Ok(Self { whole, pieces, gzip, zstd, formats, rows, bytes })
    }
}

fn in_formats(directory: &Path, whole: &Path) -> anyhow::Result<[PathBuf; 3]> {
    let [jsonl, parquet, avro] = ["jsonl", "parquet", "avro"].map(|format| directory.join(format!("whole.{format}")));
    make(&jsonl, |out| formats::jsonl(whole, out))?;
    make(&parquet, |out| formats::parquet(whole, out))?;
    make(&avro, |out| formats::avro(whole, out))?;
    Ok([jsonl, parquet, avro])
}

/// Makes a file under another name first, so that a broken run leaves none that is cut short.
fn make(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> anyhow::Result<()>) -> anyhow::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let unfinished = path.with_extension("unfinished");
    let mut out = BufWriter::with_capacity(1 << 20, File::create(&unfinished)?);
    write(&mut out)?;
    out.flush()?;
    fs::rename(&unfinished, path).with_context(|| format!("make {}", path.display()))
}

/// The levels are the tools' defaults.
fn compress(how: Compression, from: &Path, to: &Path) -> anyhow::Result<()> {
    make(to, |out| {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        runtime.block_on(async {
            let source = tokio::io::BufReader::with_capacity(1 << 20, tokio::fs::File::open(from).await?);
            let mut encoder: Box<dyn AsyncRead + Unpin> = match how {
                Compression::Gzip => Box::new(GzipEncoder::with_quality(source, Level::Precise(6))),
                Compression::Zstd => Box::new(ZstdEncoder::with_quality(source, Level::Precise(3))),
            };
            let mut buffer = vec![0; 1 << 18];
            loop {
                let length = encoder.read(&mut buffer).await?;
                match buffer.get(..length) {
                    Some([]) | None => return Ok(()),
                    Some(piece) => out.write_all(piece)?,
                }
            }
        })
    })
}

/// How a file is compressed.
#[derive(Clone, Copy)]
enum Compression {
    Gzip,
    Zstd,
}

fn lines(path: &Path) -> anyhow::Result<u64> {
    use std::io::BufRead as _;
    let mut reader = BufReader::with_capacity(1 << 20, File::open(path)?);
    let mut count = 0;
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok(count);
        }
        count += memchr::memchr_iter(b'\n', buffer).count() as u64;
        let length = buffer.len();
        reader.consume(length);
    }
}

/// Key of the n-th small object, one second after the one before.
pub(crate) fn small_key(n: usize) -> String {
    let (minutes, second) = (n / 60, n % 60);
    let (hours, minute) = (minutes / 60, minutes % 60);
    let (day, hour) = (1 + hours / 24, hours % 24);
    format!("{PREFIX}2024-01-{day:02}-{hour:02}-{minute:02}-{second:02}.csv")
}

/// Rows of the n-th small object: five columns of different types.
pub(crate) fn small_object(n: usize, rows: usize) -> String {
    let mut text = String::with_capacity(rows * 48);
    for row in 0..rows {
        let id = n * rows + row;
        let (day, cents) = (1 + id % 28, id % 100);
        let note = ["quickly", "carefully", "final deposits", "above the express requests"];
        let note = note.get(id % 4).unwrap_or(&"");
        // Writing to a String cannot fail.
        writeln!(text, "{id},Department {},{}.{cents:02},2024-02-{day:02},{note}", id % 12, id % 10_000)
            .unwrap_or_default();
    }
    text
}
