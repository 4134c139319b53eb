//! Parquet and Avro from the bucket to the table: which requests are made, what breaks on the way, what stays in memory;
//! and real files of both where they lie beside the repository.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use keyfall::demo::s3::{Action, FaultRule, Operation};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

use crate::realdata::{folder, read};
use crate::support::{BUCKET, Lab};

const FEED: &str = "[feeds.items]\nbucket = \"drop\"\nprefix = \"items/\"\ntable = \"items\"\nformat = \"parquet\"\n";

/// So many rows of a number and a text of that many characters, in row groups of so many.
pub(crate) fn file(rows: i64, width: usize, group: usize) -> Vec<u8> {
    let properties =
        WriterProperties::builder().set_compression(Compression::SNAPPY).set_max_row_group_row_count(Some(group));
    let properties = properties.set_dictionary_enabled(false).build();
    let mut writer = None;
    for start in (0..rows).step_by(group.min(10_000)) {
        let ids = start..rows.min(start + i64::try_from(group.min(10_000)).expect("a small number"));
        let mut random = fastrand::Rng::with_seed(start.unsigned_abs());
        let texts =
            ids.clone().map(|_| std::iter::repeat_with(|| random.alphanumeric()).take(width).collect::<String>());
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values(texts));
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(ids));
        let batch = RecordBatch::try_from_iter([("id", ids), ("name", texts)]).expect("two columns");
        let open = || ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties.clone())).expect("a writer");
        writer.get_or_insert_with(open).write(&batch).expect("memory takes it");
    }
    writer.expect("rows").into_inner().expect("memory takes it")
}

async fn lab() -> Lab {
    let lab = Lab::new().await;
    lab.execute("CREATE TABLE items (_object_id bigint, id bigint PRIMARY KEY, name text)").await;
    lab.migrate().await;
    lab
}

async fn assert_items(lab: &Lab, rows: i64) {
    let counts = "SELECT concat_ws(' ', count(*), count(DISTINCT id), coalesce(max(id), -1)) FROM items";
    assert_eq!(lab.texts(counts).await, [format!("{rows} {rows} {}", rows - 1)]);
    let digest = "SELECT count(*) FROM keyfall.objects WHERE state = 'loaded' AND sha256 IS NULL";
    assert_eq!(lab.count(digest).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_footer_takes_one_range_and_the_body_one_request() {
    let lab = lab().await;
    let body = file(20_000, 30, 3000);
    assert!(body.len() > 500_000, "{} bytes", body.len());
    lab.s3.put(BUCKET, "items/a.parquet", body);
    assert_eq!(lab.once(FEED).await, 0);
    assert_items(&lab, 20_000).await;
    assert_eq!(lab.requests(Operation::GetObject, "items/a.parquet"), [200, 206]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_breaks_is_resumed_within_a_row_group() {
    let lab = lab().await;
    lab.s3.put(BUCKET, "items/a.parquet", file(20_000, 30, 3000));
    let fault = lab.s3.inject(FaultRule::on(Operation::GetObject, Action::Truncate(200_000)).times(1));
    assert_eq!(lab.once(FEED).await, 0);
    assert_eq!(fault.hits(), 1);
    assert_items(&lab, 20_000).await;
    assert_eq!(lab.requests(Operation::GetObject, "items/a.parquet"), [200, 206, 206]);
}

/// Strikes the request for the end of an object once; answers how many requests it took to load it whole.
async fn loaded_despite(action: Action) -> usize {
    let lab = lab().await;
    lab.s3.put(BUCKET, "items/a.parquet", file(20_000, 30, 3000));
    // The first request is the one for the body.
    let fault = lab.s3.inject(FaultRule::on(Operation::GetObject, action).from_hit(2).times(1));
    let engine = lab.engine(FEED, &["s3.read_timeout=500ms"]).await;
    lab.until_objects("loaded", "none", 1).await;
    engine.drain().await;
    assert_eq!(fault.hits(), 1);
    assert_items(&lab, 20_000).await;
    lab.requests(Operation::GetObject, "items/a.parquet").len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_was_cut_on_its_way_is_asked_for_again() {
    assert_eq!(loaded_despite(Action::Truncate(1000)).await, 3);
    assert_eq!(loaded_despite(Action::ResetAfter(10)).await, 3);
    assert_eq!(loaded_despite(Action::StallAfter(10)).await, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_is_not_the_bodys_fails_the_attempt_and_never_the_object() {
    // In the rows, in the footer, behind it; then of another length, and of another version.
    for byte in [60_000, 65_000, 65_535] {
        assert_eq!(loaded_despite(Action::FlipByte(byte)).await, 4, "byte {byte}");
    }
    // In the name of a column, which then has no field: the mapping fails, and nothing is wrong with it.
    let body = file(20_000, 30, 3000);
    let name = body.windows(6).position(|bytes| bytes == b"\x04name\0" || bytes == b"\x04name%").expect("a schema");
    let byte = name + 1 + 65_536 - body.len();
    assert_eq!(loaded_despite(Action::FlipByte(byte)).await, 4);
    // In the length of the footer: more of the end is asked for, which tells.
    assert_eq!(loaded_despite(Action::FlipByte(65_530)).await, 5);
    assert_eq!(loaded_despite(Action::EarlyCleanEnd(900)).await, 4);
    assert_eq!(loaded_despite(Action::ChangedEtag).await, 4);
}

/// Blocks of records of a number, and where each block ends.
fn avro(blocks: i64, records: i64) -> (Vec<u8>, Vec<usize>) {
    let schema = r#"{"type":"record","name":"r","fields":[{"name":"id","type":"long"}]}"#;
    let schema = apache_avro::Schema::parse_str(schema).expect("a schema");
    let mut writer = apache_avro::Writer::new(&schema, Vec::new()).expect("a writer");
    let mut ends = Vec::new();
    for block in 0..blocks {
        for id in block * records..(block + 1) * records {
            let record = vec![("id".to_owned(), apache_avro::types::Value::Long(id))];
            writer.append_value(apache_avro::types::Value::Record(record)).expect("memory takes it");
        }
        writer.flush().expect("memory takes it");
        ends.push(writer.get_ref().len());
    }
    (writer.into_inner().expect("memory takes it"), ends)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_avro_body_that_ends_early_between_two_blocks_is_never_a_shorter_load() {
    let (body, ends) = avro(10, 100);
    let cut = ends[4];
    for action in [Action::Truncate(cut), Action::EarlyCleanEnd(cut), Action::Unannounced(cut)] {
        let lab = lab().await;
        lab.s3.put(BUCKET, "items/a.avro", body.clone());
        let fault = lab.s3.inject(FaultRule::on(Operation::GetObject, action.clone()).times(1));
        let engine = lab.engine(&FEED.replace("parquet", "avro"), &[]).await;
        lab.until_objects("loaded", "none", 1).await;
        engine.drain().await;
        assert_eq!(fault.hits(), 1, "{action:?}");
        assert_items(&lab, 1000).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_follows_the_row_group_and_not_the_file() {
    let lab = lab().await;
    // Row groups of 64 MiB, three of them; nothing of it compresses.
    let body = file(210_000, 1000, 67_000);
    assert!(body.len() > 200 << 20, "{} bytes", body.len());
    lab.s3.put(BUCKET, "items/a.parquet", body);
    let ran = lab.run_once(FEED, &[]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.log);
    assert_items(&lab, 210_000).await;
    println!("peak with row groups of 64 MiB: {} MiB", ran.peak >> 20);
    assert!(ran.peak > 0 && ran.peak >> 20 < 176, "peak memory was {} MiB", ran.peak >> 20);
}

/// Tables and their rows; columns in the order of the CSV.
const TOTESYS: [(&str, i64, &str); 11] = [
    ("currency", 3, "currency_id int, currency_code text"),
    ("department", 8, "department_id int, department_name text, location text, manager text"),
    (
        "address",
        30,
        "address_id int, address_line_1 text, address_line_2 text, district text, city text, postal_code text,
         country text, phone text",
    ),
    (
        "counterparty",
        20,
        "counterparty_id int, counterparty_legal_name text, legal_address_id int, commercial_contact text,
         delivery_contact text",
    ),
    ("staff", 20, "staff_id int, first_name text, last_name text, department_id int, email_address text"),
    ("design", 473, "design_id int, design_name text, file_location text, file_name text"),
    ("payment_type", 4, "payment_type_id int, payment_type_name text"),
    (
        "sales_order",
        11_187,
        "sales_order_id int, design_id int, staff_id int, counterparty_id int, units_sold int,
         unit_price numeric(10,2), currency_id int, agreed_delivery_date date, agreed_payment_date date,
         agreed_delivery_location_id int",
    ),
    (
        "purchase_order",
        4649,
        "purchase_order_id int, staff_id int, counterparty_id int, item_code text, item_quantity int,
         item_unit_price numeric(10,2), currency_id int, agreed_delivery_date date, agreed_payment_date date,
         agreed_delivery_location_id int",
    ),
    ("transaction", 15_836, "transaction_id int, transaction_type text, sales_order_id int, purchase_order_id int"),
    (
        "payment",
        15_836,
        "payment_id int, transaction_id int, counterparty_id int, payment_amount numeric(12,2), currency_id int,
         payment_type_id int, paid boolean, payment_date date, company_ac_number int, counterparty_ac_number int",
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eleven_real_tables_are_the_same_from_parquet_and_from_csv() {
    let Some(folder) = folder("totesys") else { return };
    let lab = Lab::new().await;
    lab.execute("CREATE SCHEMA csv; CREATE SCHEMA parquet").await;
    let mut feeds = String::new();
    for (table, _, columns) in TOTESYS {
        for format in ["csv", "parquet"] {
            let times = "created_at timestamp(3), last_updated timestamp(3)";
            lab.execute(&format!("CREATE TABLE {format}.{table} ({columns}, {times})")).await;
            let file = format!("{table}.{format}");
            lab.s3.put(BUCKET, &format!("{format}/{file}"), read(&folder.join(format), &file));
            // pandas has no whole numbers that may be NULL: it writes them as floats, and NULL as one that is no number.
            let of_pandas = "integral_floats = true\nnull = [\"\", \"NaN\"]";
            let more = if (table, format) == ("transaction", "parquet") { of_pandas } else { "" };
            feeds.push_str(&format!(
                "[feeds.{format}_{table}]\nbucket = \"drop\"\nprefix = \"{format}/{file}\"\nformat = \"{format}\"\n\
                 table = \"{format}.{table}\"\n{more}\n"
            ));
        }
    }
    assert_eq!(lab.once(&feeds).await, 0);
    for (table, rows, _) in TOTESYS {
        let (a, b) = (format!("csv.{table}"), format!("parquet.{table}"));
        for (one, other) in [(&a, &b), (&b, &a)] {
            assert_eq!(lab.count(&format!("SELECT count(*) FROM {one}")).await, rows, "{one}");
            let only = format!("SELECT count(*) FROM (TABLE {one} EXCEPT ALL TABLE {other}) x");
            assert_eq!(lab.count(&only).await, 0, "{one} has rows that {other} has not");
        }
    }
    let telling = "SELECT concat_ws(' ', (SELECT last_name FROM parquet.staff WHERE staff_id = 17),
                          (SELECT postal_code FROM parquet.address WHERE address_id = 6),
                          (SELECT payment_amount FROM parquet.payment WHERE payment_id = 1),
                          (SELECT count(*) - count(address_line_2) FROM parquet.address),
                          (SELECT count(*) - count(sales_order_id) FROM parquet.transaction),
                          (SELECT count(*) - count(purchase_order_id) FROM parquet.transaction),
                          (SELECT created_at FROM parquet.payment WHERE payment_id = 1))";
    assert_eq!(lab.texts(telling).await, ["O'Keefe 08841 56925.44 20 4649 11187 2022-11-03 14:20:52.186"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_avro_files_load_whole() {
    let Some(folder) = folder("globant") else { return };
    let lab = Lab::new().await;
    lab.execute(
        "CREATE TABLE departments (id int, department text); CREATE TABLE original (id int, department text);
         CREATE TABLE jobs (id int, job text); CREATE TABLE more_jobs (id int, job text);
         CREATE TABLE employees (id int, name text, datetime timestamptz, department_id int, job_id int);
         CREATE TABLE hired (id int, name text, datetime timestamptz, department_id int, job_id int)",
    )
    .await;
    let mut feeds = String::new();
    for (table, file, format) in [
        ("departments", "variants/Departments.avro", "avro"),
        ("original", "departments.csv", "csv"),
        ("jobs", "variants/Jobs.avro", "avro"),
        ("more_jobs", "variants/jobs.seed3_bad_backup_209rows.avro", "avro"),
        ("employees", "variants/Employees.avro", "avro"),
        ("hired", "variants/hired_employees.isantrich.avro", "avro"),
    ] {
        lab.s3.put(BUCKET, &format!("{table}/{file}"), read(&folder, file));
        feeds.push_str(&format!(
            "[feeds.{table}]\nbucket = \"drop\"\nprefix = \"{table}/\"\ntable = \"{table}\"\nformat = \"{format}\"\n\
             csv.header = false\n"
        ));
    }
    assert_eq!(lab.once(&feeds).await, 3);
    let bad = lab.entry("hired/variants/hired_employees.isantrich.avro").await;
    assert!(bad.code == "E-CELL-TIMESTAMP" && bad.detail.starts_with("record 157, column \"datetime\""), "{bad:?}");
    let counts = "SELECT concat_ws(' ', (SELECT count(*) FROM departments), (SELECT count(*) FROM jobs),
                         (SELECT count(*) FROM more_jobs), (SELECT count(*) FROM employees),
                         (SELECT count(*) FROM hired),
                         (SELECT count(*) FROM (TABLE departments EXCEPT ALL TABLE original) x))";
    assert_eq!(lab.texts(counts).await, ["12 183 209 999 0 0"]);
}
