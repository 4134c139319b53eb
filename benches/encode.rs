//! Nanoseconds per cell of the row encoder, by type and for a row like TPC-H's lineitem.
//!
//! `cargo bench --bench encode`. It prints figures and asserts none: a loaded machine is not a failure.
#![expect(clippy::print_stdout, reason = "a benchmark's figures are its output")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use jiff::tz::TimeZone;
use keyfall::store::encode::{ColumnType, begin_tuple, encode_cell};

/// Values per type: enough for the branch predictor not to learn them by heart.
const VALUES: u64 = 8192;

/// The best of so many passes counts: everything else on the machine only adds to a pass.
const PASSES: usize = 60;

/// A small multiplicative generator: the same cells in every run.
struct Cells(u64);

impl Cells {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn money(&mut self) -> String {
        format!("{}.{:02}", self.below(105_000), self.below(100))
    }

    fn date(&mut self) -> String {
        format!("{}-{:02}-{:02}", 1992 + self.below(7), 1 + self.below(12), 1 + self.below(28))
    }

    fn words(&mut self) -> String {
        const WORDS: [&str; 8] = ["carefully", "final", "deposits", "sleep", "above", "the", "express", "requests"];
        let length = usize::try_from(10 + self.below(34)).unwrap_or(10);
        let mut text: String = (0..8)
            .map(|_| WORDS.get(usize::try_from(self.below(8)).unwrap_or(0)).unwrap_or(&""))
            .fold(String::new(), |text, word| text + word + " ");
        text.truncate(length);
        text
    }
}

/// Bytes and nanoseconds per cell of the fastest pass.
fn measure(name: &str, columns: &[ColumnType], rows: &[Vec<String>]) {
    let bytes: usize = rows.iter().flatten().map(|cell| cell.len() + 1).sum();
    let cells = rows.len() * columns.len();
    let mut out = BytesMut::with_capacity(bytes * 4);
    let mut best = Duration::MAX;
    for _ in 0..PASSES {
        out.clear();
        let begin = Instant::now();
        for row in black_box(rows) {
            begin_tuple(16, &mut out);
            for (kind, cell) in columns.iter().zip(row) {
                if let Err(error) = encode_cell(kind, cell.as_bytes(), &TimeZone::UTC, &mut out) {
                    println!("{name}: {error}");
                    return;
                }
            }
        }
        best = best.min(begin.elapsed());
        black_box(&out);
    }
    let nanos = best.as_secs_f64() * 1e9;
    println!("{name:<24} {:>6.1} ns/cell {:>7.0} MB/s", nanos / cells as f64, bytes as f64 / nanos * 1e3);
}

fn single(name: &str, kind: ColumnType, mut cell: impl FnMut(&mut Cells) -> String) {
    let mut source = Cells(1);
    let rows: Vec<Vec<String>> = (0..VALUES).map(|_| vec![cell(&mut source)]).collect();
    measure(name, &[kind], &rows);
}

fn lineitem() {
    let (int, money, date) = (ColumnType::Int4, ColumnType::Numeric, ColumnType::Date);
    let char_of = |limit| ColumnType::Char { max_chars: Some(limit) };
    let mut columns = vec![ColumnType::Int8, int.clone(), int.clone(), int];
    columns.extend([money.clone(), money.clone(), money.clone(), money]);
    columns.extend([char_of(1), char_of(1), date.clone(), date.clone(), date]);
    columns.extend([char_of(25), char_of(10), ColumnType::Text { max_chars: Some(44) }]);
    let mut source = Cells(7);
    let rows: Vec<Vec<String>> = (0..VALUES)
        .map(|row| {
            let fraction = |source: &mut Cells| format!("0.{:02}", source.below(11));
            let mut cells = vec![row.to_string(), source.below(100_000).to_string(), source.below(5000).to_string()];
            cells.extend([(1 + row % 7).to_string(), format!("{}.00", 1 + source.below(50)), source.money()]);
            cells.extend([fraction(&mut source), fraction(&mut source), "N".to_owned(), "O".to_owned()]);
            cells.extend([source.date(), source.date(), source.date()]);
            cells.extend(["DELIVER IN PERSON".to_owned(), "TRUCK".to_owned(), source.words()]);
            cells
        })
        .collect();
    measure("lineitem row", &columns, &rows);
}

fn main() {
    let text = ColumnType::Text { max_chars: None };
    single("int4", ColumnType::Int4, |cells| cells.below(3_000_000).to_string());
    single("int8", ColumnType::Int8, |cells| (cells.below(1 << 31) * cells.below(1 << 31)).to_string());
    single("numeric 12,2", ColumnType::Numeric, Cells::money);
    single("numeric long", ColumnType::Numeric, |cells| format!("{}{}123456789", cells.below(1 << 31), cells.money()));
    single("float8", ColumnType::Float8, Cells::money);
    single("bool", ColumnType::Bool, |cells| if cells.below(2) == 0 { "true" } else { "f" }.to_owned());
    single("date", ColumnType::Date, Cells::date);
    single("timestamp", ColumnType::Timestamp, |cells| format!("{} 12:{:02}:07.25", cells.date(), cells.below(60)));
    single("timestamptz +02", ColumnType::Timestamptz, |cells| {
        format!("{}T12:{:02}:07+02", cells.date(), cells.below(60))
    });
    single("text 10-44", text.clone(), Cells::words);
    single("varchar(44)", ColumnType::Text { max_chars: Some(44) }, Cells::words);
    single("text, not ASCII", text, |cells| cells.words() + "grün");
    single("uuid", ColumnType::Uuid, |cells| format!("123e4567-e89b-12d3-a456-4266{:08x}", cells.below(1 << 31)));
    single("jsonb", ColumnType::Jsonb, |cells| format!("{{\"a\": {}, \"b\": \"{}\"}}", cells.money(), cells.words()));
    lineitem();
}
