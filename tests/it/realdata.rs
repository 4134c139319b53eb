//! The data of real deployments, where it lies beside the repository: `../shared/data`.
//!
//! It is no part of the project, so each test says when it is absent and ends; the same promises are kept by the
//! other modules on data made here.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::scale::{discover, leased_one_by_one};
use crate::support::{BUCKET, Lab};

/// The folder below the data, or a word about its absence.
pub(crate) fn folder(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(name);
    if path.is_dir() {
        return Some(path);
    }
    // Not `eprintln!`: the test harness swallows that of tests that pass, and a skip must be seen.
    writeln!(std::io::stderr(), "NOT RUN: {} is absent", path.display()).expect("standard error");
    None
}

pub(crate) fn read(folder: &Path, name: &str) -> Vec<u8> {
    std::fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

const TABLES: &str = "CREATE TABLE departments (_object_id bigint, id int NOT NULL, department text);
    CREATE TABLE jobs (_object_id bigint, id int NOT NULL, job text);
    CREATE TABLE hired_employees (_object_id bigint, id int NOT NULL, name text, datetime timestamptz,
                                  department_id int, job_id int);";

const GLOBANT: [(&str, i64); 3] = [("departments", 12), ("jobs", 183), ("hired_employees", 1999)];

/// A feed over a prefix of its own.
fn feed(name: &str, table: &str, more: &str) -> String {
    format!("[feeds.{name}]\nbucket = \"drop\"\nprefix = \"{name}/\"\ntable = \"{table}\"\n{more}\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_real_tables_load_whole_once_with_blanks_as_null_and_are_archived() {
    let Some(folder) = folder("globant") else { return };
    let lab = Lab::new().await;
    lab.execute(TABLES).await;
    let mut feeds = String::new();
    for (table, _) in GLOBANT {
        lab.s3.put(BUCKET, &format!("{table}/{table}.csv"), read(&folder, &format!("{table}.csv")));
        let archive = "csv.header = false\ndisposal = { action = \"archive\", prefix = \"archive/\" }";
        feeds.push_str(&feed(table, table, archive));
    }
    for _ in 0..2 {
        assert_eq!(lab.once(&feeds).await, 0);
        for (table, rows) in GLOBANT {
            assert_eq!(lab.count(&format!("SELECT count(*) FROM {table}")).await, rows, "{table}");
        }
    }
    let blanks = "SELECT concat_ws(' ', count(*) FILTER (WHERE num_nulls(name, datetime, department_id, job_id) = 1),
                         count(*) FILTER (WHERE num_nulls(name, datetime, department_id, job_id) > 1),
                         count(*) - count(name), count(*) - count(datetime), count(*) - count(department_id),
                         count(*) - count(job_id)) FROM hired_employees";
    assert_eq!(lab.texts(blanks).await, ["70 0 19 14 21 16"]);
    assert_eq!(
        lab.texts("SELECT name || ' ' || extract(epoch FROM datetime)::bigint FROM hired_employees WHERE id = 1").await,
        ["Harold Vogt 1636253322"]
    );
    let keys: Vec<String> = GLOBANT.iter().map(|(table, _)| format!("archive/{table}/{table}.csv")).collect();
    let mut kept = lab.s3.keys(BUCKET);
    kept.sort_by_key(|key| keys.iter().position(|known| known == key));
    assert_eq!(kept, keys);
    for (table, _) in GLOBANT {
        let archived = lab.s3.get(BUCKET, &format!("archive/{table}/{table}.csv")).expect("archived");
        assert_eq!(archived, read(&folder, &format!("{table}.csv")), "{table} byte for byte");
    }
}

/// Number, line, column, code and bytes of each record of `hired_employees` that has a blank, from the file itself.
fn blanks(text: &str) -> Vec<String> {
    const COLUMNS: [&str; 5] = ["id", "name", "datetime", "department_id", "job_id"];
    let blank = |(line, record): (usize, &str)| {
        let column = record.split(',').position(|field| field.trim().is_empty())?;
        Some(format!("{line} {line} {} E-ROW-NULL {record}\n", COLUMNS[column]))
    };
    (1..).zip(text.lines()).filter_map(blank).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_all_fields_are_required_seventy_real_records_are_rejected_and_the_others_loaded() {
    let Some(folder) = folder("globant") else { return };
    let lab = Lab::new().await;
    lab.execute(TABLES).await;
    let body = read(&folder, "hired_employees.csv");
    let expected = blanks(std::str::from_utf8(&body).expect("UTF-8"));
    assert_eq!(expected.len(), 70, "the data is what it was");
    lab.s3.put(BUCKET, "he/hired_employees.csv", body.clone());
    lab.s3.put(BUCKET, "strict/hired_employees.csv", body);
    let budget = |most: u64| format!("csv.header = false\nrequired = true\nrejects = {{ max_rows = {most} }}");
    let feeds = feed("he", "hired_employees", &budget(70)) + &feed("strict", "hired_employees", &budget(69));
    for _ in 0..2 {
        assert_eq!(lab.once(&feeds).await, 3, "one record too many for the second feed");
        assert_eq!(lab.count("SELECT count(*) FROM hired_employees").await, 1929);
        let found = "SELECT concat_ws(' ', record_no, line, column_name, code, convert_from(raw, 'UTF8'))
                       FROM keyfall.rejection_status WHERE key = 'he/hired_employees.csv' ORDER BY record_no";
        assert_eq!(lab.texts(found).await, expected);
    }
    let unsaid = "SELECT count(*) FROM keyfall.rejections WHERE reason NOT LIKE '%blank%' OR table_name IS NULL";
    assert_eq!(lab.count(unsaid).await, 0);
    let strict = lab.entry("strict/hired_employees.csv").await;
    assert_eq!((strict.state.as_str(), strict.code.as_str()), ("quarantined", "E-REJECTS"), "{strict:?}");
    let counts = "SELECT concat_ws(' ', rows_read, rows_loaded, rows_rejected, rows_filtered) FROM keyfall.objects
                   WHERE key = 'he/hired_employees.csv'";
    assert_eq!(lab.texts(counts).await, ["1999 1929 70 0"]);
}

/// How a variant is configured, and what must come of it.
struct Variant {
    file: &'static str,
    config: &'static str,
    outcome: Outcome,
}

enum Outcome {
    /// The same rows as the original.
    Same,
    /// This many rows, of which so many have a NULL.
    Rows(i64, i64),
    /// Refused with this code and these words.
    Refused(&'static str, &'static [&'static str]),
}
use Outcome::{Refused, Rows, Same};

const PLAIN: &str = "csv.header = false";
const SEMICOLON: &str = "csv = { header = false, delimiter = \";\" }";
const BLANKS: &str = "csv = { header = false, delimiter = \";\", blank_records = \"filter\" }";
const FLOATS: &str = "csv.header = false\nintegral_floats = true";
const AS_AVRO: &str = "format = \"avro\"";
const AVRO_WORDS: &str = "format = \"avro\"\nnull = [\"\", \"Sin información\", \"0\"]";
const PADDED: &str = "csv.ragged = \"pad\"";
const PADDED_ZERO: &str = "csv.ragged = \"pad\"\nnull = [\"\", \"0\"]";
const ZIP: Outcome = Refused("E-FORMAT", &["a ZIP archive or a spreadsheet", "expects csv"]);
const AVRO: Outcome = Refused("E-FORMAT", &["Avro", "expects csv"]);
const SPELLED: &str = "columns = { id = \"employee_id\", name = \"employee_name\", datetime = \"hire_date\", department_id = \"department_id\", job_id = \"job_id\" }";
const SPELLED_TOO: &str = "columns = { id = \"id\", name = \"name\", datetime = \"hire_date\", department_id = \"department_id\", job_id = \"job_id\" }";

const fn variant(file: &'static str, config: &'static str, outcome: Outcome) -> Variant {
    Variant { file, config, outcome }
}

const VARIANTS: &[Variant] = &[
    variant("departments.bom_crlf.csv", PLAIN, Same),
    variant("departments.crlf_trailing_blank_line.csv", PLAIN, Same),
    variant("departments.quoted_or_mod.csv", PLAIN, Same),
    variant("departments.other_dataset.csv", "", Rows(12, 0)),
    variant("departments.other_dataset.csv", PLAIN, Refused("E-CELL-INT", &["line 1", "\"id\"", "csv.header"])),
    variant(
        "departments.semicolon_blank_rows.csv",
        SEMICOLON,
        Refused("E-ROW-NULL", &["line 13 (record 13", "\"id\""]),
    ),
    variant("departments.semicolon_blank_rows.csv", BLANKS, Same),
    variant("departments.semicolon_blank_rows.csv", PLAIN, Refused("E-CSV-HEADER", &["1 field,", "delimiter"])),
    variant("departments.xlsx", PLAIN, ZIP),
    variant("Departments.avro", PLAIN, AVRO),
    variant("country.header.csv", "", Refused("E-CSV-HEADER", &["\"country\""])),
    variant("jobs.bom_crlf.csv", PLAIN, Same),
    variant("jobs.crlf_trailing_blank_lines.csv", PLAIN, Same),
    variant("jobs.quoted.csv", PLAIN, Same),
    variant("jobs.other_dataset.csv", "", Rows(183, 0)),
    variant("jobs.xlsx", PLAIN, ZIP),
    variant("Jobs.avro", PLAIN, AVRO),
    variant("jobs.seed3_bad_backup_209rows.avro", PLAIN, AVRO),
    variant("hired_employees.bom_crlf_no_final_newline.csv", PLAIN, Same),
    variant("hired_employees.no_final_newline.csv", PLAIN, Same),
    variant("hired_employees.quoted.csv", PLAIN, Same),
    variant("hired_employees.seed1_crlf.csv", PLAIN, Same),
    variant("hired_employees.semicolon_bom_crlf.csv", SEMICOLON, Same),
    variant("z_hired_employees.crlf_trailing_blank_line.csv", PLAIN, Same),
    variant("hired_employees.header_crlf.csv", SPELLED, Same),
    variant(
        "hired_employees.header_crlf.csv",
        "",
        Refused("E-CSV-HEADER", &["\"id\" is NOT NULL", "no field fills it", "\"employee_id\""]),
    ),
    variant("hired_employees.crlf_edited_row157.csv", PLAIN, Rows(1999, 69)),
    variant("hired_employees.precleaned_1929.csv", PLAIN, Rows(1929, 0)),
    variant("hired_employees.other_dataset_faker_future_dates.csv", SPELLED_TOO, Rows(2000, 0)),
    variant(
        "hired_employees.float_ids.csv",
        PLAIN,
        Refused("E-CELL-INT", &["line 2 (record 2", "\"department_id\"", "not a whole number"]),
    ),
    variant("hired_employees.float_ids.csv", FLOATS, Same),
    // Somebody wrote 0 for one of the blanks.
    variant("hired_employees.header_ragged_short_rows.csv", PADDED, Rows(1999, 69)),
    variant("hired_employees.header_ragged_short_rows.csv", PADDED_ZERO, Same),
    variant(
        "hired_employees.header_ragged_short_rows.csv",
        "",
        Refused("E-CSV-RAGGED", &["line 3 (record 2", "has 4 fields instead of 5"]),
    ),
    variant("hired_employees.xlsx", PLAIN, ZIP),
    variant("Departments.avro", AS_AVRO, Same),
    variant("Jobs.avro", AS_AVRO, Same),
    // Their makers left rows out, or wrote a word for a time.
    variant("Employees.avro", AS_AVRO, Rows(999, 0)),
    variant("jobs.seed3_bad_backup_209rows.avro", AS_AVRO, Rows(209, 0)),
    variant("hired_employees.isantrich.avro", AS_AVRO, Refused("E-CELL-TIMESTAMP", &["record 157", "\"datetime\""])),
    variant("hired_employees.isantrich.avro", AVRO_WORDS, Rows(956, 31)),
    variant("Employees.avro", PLAIN, AVRO),
    variant("hired_employees.isantrich.avro", PLAIN, AVRO),
];

/// A line of the table: file, what the feed says of it, and what came of it. `-- --nocapture` shows them.
fn shown(variant: &Variant, rows: i64, entry: &crate::support::Entry) -> String {
    let outcome = match entry.code.as_str() {
        "" => format!("{rows} rows"),
        code => format!("refused, {code}: {}", entry.detail),
    };
    let config = variant.config.replace('\n', ", ");
    format!("| {} | {} | {outcome} |", variant.file, if config.is_empty() { "(none)" } else { &config })
}

fn table_of(file: &str) -> &'static str {
    let name = file.to_lowercase();
    match () {
        () if name.contains("employees") => "hired_employees",
        () if name.contains("job") => "jobs",
        () => "departments",
    }
}

/// Every row of one object as one text, in the order of the ids.
async fn content(lab: &Lab, table: &str, key: &str) -> (i64, Vec<String>) {
    let rows = format!(
        "SELECT to_jsonb(t) - '_object_id' FROM {table} t
          WHERE _object_id = (SELECT id FROM keyfall.objects WHERE key = '{key}')"
    );
    let count = lab.count(&format!("SELECT count(*) FROM ({rows}) x")).await;
    (count, lab.texts(&format!("SELECT md5(string_agg(j::text, ' ' ORDER BY j)) FROM ({rows}) x (j)")).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_variant_people_shipped_loads_to_the_same_rows_or_is_refused_with_a_reason() {
    let Some(folder) = folder("globant") else { return };
    let lab = Lab::new().await;
    lab.execute(TABLES).await;
    let mut feeds = String::new();
    for (table, _) in GLOBANT {
        lab.s3.put(BUCKET, &format!("{table}/original"), read(&folder, &format!("{table}.csv")));
        feeds.push_str(&feed(table, table, PLAIN));
    }
    for (n, variant) in VARIANTS.iter().enumerate() {
        lab.s3.put(BUCKET, &format!("v{n}/{}", variant.file), read(&folder.join("variants"), variant.file));
        feeds.push_str(&feed(&format!("v{n}"), table_of(variant.file), variant.config));
    }
    assert_eq!(lab.once(&feeds).await, 3);
    let mut wrong = String::new();
    for (n, variant) in VARIANTS.iter().enumerate() {
        let (key, table) = (format!("v{n}/{}", variant.file), table_of(variant.file));
        let entry = lab.entry(&key).await;
        let (rows, sum) = content(&lab, table, &key).await;
        let right = match variant.outcome {
            Same => entry.state == "loaded" && sum == content(&lab, table, &format!("{table}/original")).await.1,
            Rows(expected, nulls) => {
                let sql = format!(
                    "SELECT count(*) FROM {table} t WHERE num_nulls(VARIADIC (SELECT array_agg(v) FROM jsonb_each_text(to_jsonb(t)) x (k, v))) > 0 AND _object_id = (SELECT id FROM keyfall.objects WHERE key = '{key}')"
                );
                entry.state == "loaded" && rows == expected && lab.count(&sql).await == nulls
            }
            Refused(code, says) => {
                let told = says.iter().all(|part| entry.detail.contains(part));
                entry.state == "quarantined" && entry.code == code && told && rows == 0 && !entry.advice.is_empty()
            }
        };
        println!("{}", shown(variant, rows, &entry));
        if !right {
            writeln!(wrong, "{} ({:?}): {rows} rows, {entry:?}", variant.file, variant.config)
                .expect("memory takes it");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    let unlisted: Vec<String> = std::fs::read_dir(folder.join("variants"))
        .expect("the folder is readable")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
        .filter(|name| !VARIANTS.iter().any(|variant| variant.file == name))
        .collect();
    assert!(unlisted.is_empty(), "variants nobody looked at: {unlisted:?}");
}

/// Year to second of `data/2019-6-1-15-17-3-events.json`.
fn moment(key: &str) -> Vec<u32> {
    let name = key.trim_start_matches("data/").trim_end_matches("-events.json");
    name.split('-').map(|part| part.parse().expect("a number")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_keys_with_unpadded_seconds_are_discovered_and_leased_in_order_of_time() {
    let Some(folder) = folder("door2door/bucket/data") else { return };
    let lab = Lab::new().await;
    let names = std::fs::read_dir(&folder).expect("the folder is readable");
    let mut lexical = Vec::new();
    for name in names {
        let name = name.expect("an entry").file_name().into_string().expect("UTF-8");
        lab.s3.put(BUCKET, &format!("data/{name}"), read(&folder, &name));
        lexical.push(format!("data/{name}"));
    }
    lexical.sort_unstable();
    let mut chronological = lexical.clone();
    chronological.sort_by_key(|key| moment(key));
    let displaced = lexical.iter().zip(&chronological).filter(|(a, b)| a != b).count();
    assert_eq!((lexical.len(), displaced), (721, 693), "the data is what it was");

    let feed = r#"
        [feeds.events]
        bucket = "drop"
        pattern = "data/{time:%Y-%m-%d-%H-%M-%S}-events.json"
        timezone = "-03:00"
        table = "events"
    "#;
    assert_eq!(discover(&lab, feed).await, (721, 721));
    assert_eq!(lab.texts("SELECT key FROM keyfall.objects ORDER BY key_time, key").await, chronological);
    assert_eq!(lab.count("SELECT count(DISTINCT key_time) FROM keyfall.objects").await, 721);
    assert_eq!(
        lab.texts("SELECT min(key_time AT TIME ZONE 'UTC')::text FROM keyfall.objects").await,
        ["2019-06-01 18:17:03"],
        "names are three hours behind"
    );
    assert_eq!(leased_one_by_one(&lab, feed, usize::MAX).await, chronological);
}

const EVENT_TABLES: &str = "
    CREATE TABLE registrations (_object_id bigint NOT NULL, _record_no bigint NOT NULL, vehicle_id uuid NOT NULL,
                                event text NOT NULL, at timestamptz NOT NULL, organization_id text NOT NULL);
    CREATE TABLE updates (_object_id bigint NOT NULL, _record_no bigint NOT NULL, vehicle_id uuid NOT NULL,
                          at timestamptz NOT NULL, lat numeric NOT NULL, lng numeric NOT NULL,
                          located_at timestamptz NOT NULL, organization_id text NOT NULL);
    CREATE TABLE periods (_object_id bigint NOT NULL, _record_no bigint NOT NULL, id text PRIMARY KEY,
                          starts_at timestamptz NOT NULL, finishes_at timestamptz NOT NULL, at timestamptz NOT NULL,
                          organization_id text NOT NULL);
    CREATE TABLE expected (key text NOT NULL, number bigint NOT NULL, event jsonb NOT NULL);";

const EVENTS: &str = r#"
    [feeds.events]
    bucket = "drop"
    pattern = "data/{time:%Y-%m-%d-%H-%M-%S}-events.json"
    timezone = "-03:00"
    format = "jsonl"
    [feeds.events.routes.registrations]
    when = { on = "vehicle", event = ["register", "deregister"] }
    table = "registrations"
    columns = { vehicle_id = "data.id", event = "event", at = "at", organization_id = "organization_id" }
    [feeds.events.routes.updates]
    when = { on = "vehicle", event = "update" }
    table = "updates"
    [feeds.events.routes.updates.columns]
    vehicle_id = "data.id"
    at = "at"
    lat = "data.location.lat"
    lng = "data.location.lng"
    located_at = "data.location.at"
    organization_id = "organization_id"
    [feeds.events.routes.periods]
    when = { on = "operating_period", event = "create" }
    table = "periods"
    columns = { id = "data.id", starts_at = "data.start", finishes_at = "data.finish", at = "at", organization_id = "organization_id" }
"#;

/// What differs between a table and the events that PostgreSQL itself reads out of the same lines, in both directions.
/// `jsonb` keeps numbers as they are written, and its texts become times to the microsecond.
const DIFFERENCES: [(&str, &str); 3] = [
    (
        "SELECT key, _record_no, vehicle_id, event, at, organization_id FROM registrations JOIN keyfall.objects o ON o.id = _object_id",
        "SELECT key, number, (event #>> '{data,id}')::uuid, event ->> 'event', (event ->> 'at')::timestamptz,
                event ->> 'organization_id'
           FROM expected WHERE event ->> 'on' = 'vehicle' AND event ->> 'event' IN ('register', 'deregister')",
    ),
    (
        "SELECT key, _record_no, vehicle_id, at, lat::text, lng::text, located_at, organization_id FROM updates JOIN keyfall.objects o ON o.id = _object_id",
        "SELECT key, number, (event #>> '{data,id}')::uuid, (event ->> 'at')::timestamptz,
                event #>> '{data,location,lat}', event #>> '{data,location,lng}',
                (event #>> '{data,location,at}')::timestamptz, event ->> 'organization_id'
           FROM expected WHERE event ->> 'on' = 'vehicle' AND event ->> 'event' = 'update'",
    ),
    (
        "SELECT key, _record_no, t.id, starts_at, finishes_at, at, organization_id FROM periods t JOIN keyfall.objects o ON o.id = _object_id",
        "SELECT key, number, event #>> '{data,id}', (event #>> '{data,start}')::timestamptz,
                (event #>> '{data,finish}')::timestamptz, (event ->> 'at')::timestamptz, event ->> 'organization_id'
           FROM expected WHERE event ->> 'on' = 'operating_period' AND event ->> 'event' = 'create'",
    ),
];

/// Puts every object into the bucket, and its lines into `expected`, as PostgreSQL reads them.
async fn upload_events(lab: &Lab, folder: &Path) -> usize {
    let names = std::fs::read_dir(folder).expect("the folder is readable");
    let (mut objects, mut keys, mut numbers, mut lines) = (0, Vec::new(), Vec::new(), Vec::new());
    for name in names {
        let name = name.expect("an entry").file_name().into_string().expect("UTF-8");
        let (key, body) = (format!("data/{name}"), read(folder, &name));
        for (number, line) in (1_i64..).zip(std::str::from_utf8(&body).expect("UTF-8").lines()) {
            keys.push(key.clone());
            numbers.push(number);
            lines.push(line.to_owned());
        }
        lab.s3.put(BUCKET, &key, body);
        objects += 1;
    }
    let sql =
        "INSERT INTO expected SELECT k, n, l::jsonb FROM unnest($1::text[], $2::bigint[], $3::text[]) x (k, n, l)";
    lab.sql.execute(sql, &[&keys, &numbers, &lines]).await.expect(sql);
    objects
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_events_are_routed_to_three_tables_with_milliseconds_and_coordinates_as_written() {
    let Some(folder) = folder("door2door/bucket/data") else { return };
    let lab = Lab::new().await;
    lab.execute(EVENT_TABLES).await;
    assert_eq!(upload_events(&lab, &folder).await, 721);
    for pass in 1..=2 {
        assert_eq!(lab.once(EVENTS).await, 0);
        let tables = "SELECT concat_ws(' ', (SELECT count(*) FROM registrations), (SELECT count(*) FROM updates),
                                       (SELECT count(*) FROM periods))";
        assert_eq!(lab.texts(tables).await, ["200 35149 2"], "pass {pass}");
        let ledger = "SELECT concat_ws(' ', count(*), sum(rows_read), sum(rows_loaded), sum(rows_rejected),
                                       sum(rows_filtered), count(*) FILTER (WHERE state = 'loaded'))
                        FROM keyfall.objects";
        assert_eq!(lab.texts(ledger).await, ["721 35351 35351 0 0 721"], "pass {pass}");
        let history =
            "SELECT concat_ws(' ', count(*), sum(rows_loaded)) FROM keyfall.load_history WHERE feed = 'events'";
        assert_eq!(lab.texts(history).await, ["721 35351"], "pass {pass}");
    }
    // Object by object: what the ledger says was loaded is what stands in the tables.
    let unlike = "SELECT count(*) FROM keyfall.objects o
                    LEFT JOIN (SELECT _object_id AS id, count(*) AS rows
                                 FROM (SELECT _object_id FROM registrations UNION ALL SELECT _object_id FROM updates
                                       UNION ALL SELECT _object_id FROM periods) all_rows
                                GROUP BY _object_id) t USING (id)
                   WHERE coalesce(t.rows, 0) <> o.rows_loaded";
    assert_eq!(lab.count(unlike).await, 0);
    for (loaded, expected) in DIFFERENCES {
        let sql = format!(
            "SELECT count(*) FROM ((({loaded}) EXCEPT ALL ({expected})) UNION ALL (({expected}) EXCEPT ALL ({loaded}))) x"
        );
        assert_eq!(lab.count(&sql).await, 0, "{loaded}");
    }
    let periods = "SELECT concat_ws(' ', id, to_char(starts_at AT TIME ZONE 'UTC', 'HH24:MI:SS.MS'),
                                    to_char(finishes_at AT TIME ZONE 'UTC', 'HH24:MI:SS.MS')) FROM periods ORDER BY id";
    assert_eq!(lab.texts(periods).await, ["op_1 18:23:04.079 18:28:04.079", "op_2 18:17:04.079 18:22:04.079"]);
}
