//! `feed init`: whoever creates the proposed table and appends the proposed section has every sample loaded as it is.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use keyfall::app;
use keyfall::config::proposal as config;
use keyfall::operate::check::{self, Level, Services};
use keyfall::operate::propose::{self, Address, Proposal, ProposeError, Shop, Wish};

use crate::support::{BUCKET, Lab, gzip, loaded};

/// What is wanted, without names.
fn wish(address: &str) -> Wish {
    let address: Address = address.parse().expect("an address");
    Wish { address, feed: None, table: None, samples: 5, taken: Vec::new() }
}

impl Lab {
    async fn propose(&self, wish: &Wish) -> Result<Proposal, ProposeError> {
        let outset = config::outset(&self.sources("")).expect("settings of the store");
        let store = app::object_store_of(&outset.s3).await.expect("a store");
        Box::pin(propose::propose(&Shop { store, patience: outset.s3.read_timeout }, wish)).await
    }

    /// Does what the proposal says, and asserts that nothing is wrong with it. Answers the exit code of the pass.
    async fn adopt(&self, proposal: &Proposal) -> u8 {
        self.execute(&proposal.ddl).await;
        let file = proposal.file();
        let loaded = loaded(&self.sources(&file));
        let pools = app::pools(&loaded.config).expect("pools");
        let services =
            Services { store: app::object_store(&loaded.config).await, queues: app::queues(&loaded.config).await };
        let report = check::online(&loaded, &pools, services).await;
        assert_eq!(report.count(Level::Fail), 0, "{report:#?}\n{file}");
        self.once(&file).await
    }

    /// Proposes, adopts, and asserts that all objects are loaded without a rejected record.
    async fn init(&self, address: &str) -> Proposal {
        let proposal = self.propose(&wish(address)).await.unwrap_or_else(|error| panic!("{address}: {error}"));
        let code = self.adopt(&proposal).await;
        let ledger = self.ledger().await;
        assert_eq!(code, 0, "{ledger:#?}\n{}\n{:#?}", proposal.file(), proposal.remarks);
        let rejected = "SELECT coalesce(sum(rows_rejected), 0)::bigint FROM keyfall.objects";
        assert_eq!(self.count(rejected).await, 0, "{}", proposal.file());
        assert!(ledger.iter().all(|line| line.contains(" loaded ")), "{ledger:#?}");
        proposal
    }
}

fn types(proposal: &Proposal) -> Vec<String> {
    let not_null = |column: &propose::Column| if column.not_null { " not null" } else { "" };
    proposal.columns.iter().map(|column| format!("{} {}{}", column.name, column.sql_type, not_null(column))).collect()
}

fn remarks(proposal: &Proposal, text: &str) -> bool {
    proposal.remarks.iter().any(|remark| remark.contains(text))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn csv_with_a_header_is_loaded_as_it_is() {
    let lab = Lab::new().await;
    let body = "id,Full Name,zip,score,paid,at,ref,note\n\
                1,O'Keefe,08841,1.50,true,2024-01-31T10:00:00Z,8.0,\n\
                2,\"a, b\",12345,100,false,2024-02-01T10:00:00+02:00,9.0,x\n";
    for day in 1..=7 {
        lab.s3.put(BUCKET, &format!("people/2024-01-{day:02}.csv"), body);
    }
    let proposal = lab.init("s3://drop/people/").await;
    assert_eq!(proposal.pattern.as_deref(), Some("people/{time:%Y-%m-%d}.csv"));
    assert_eq!((proposal.feed.as_str(), proposal.table.as_str()), ("people", "public.people"));
    assert_eq!(
        types(&proposal),
        [
            "id integer not null",
            "full_name text not null",
            "zip text not null",
            "score numeric not null",
            "paid boolean not null",
            "at timestamptz not null",
            "ref integer not null",
            "note text"
        ]
    );
    let rows = "SELECT concat_ws('|', id, full_name, zip, score, paid, at AT TIME ZONE 'UTC', ref, note, _record_no)
                  FROM people ORDER BY _object_id, id LIMIT 2";
    assert_eq!(
        lab.texts(rows).await,
        ["1|O'Keefe|08841|1.50|t|2024-01-31 10:00:00|8|1", "2|a, b|12345|100|f|2024-02-01 08:00:00|9|x|2"]
    );
    assert_eq!(lab.count("SELECT count(*) FROM people").await, 14);
    assert!(remarks(&proposal, "begin with zeros"), "{:#?}", proposal.remarks);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn csv_without_a_header_goes_by_positions_in_its_own_dialect() {
    let lab = Lab::new().await;
    let body = "1;Sales;1,5\n2;NULL;2,5\n;;\n3;HR;3,5\n";
    lab.s3.put(BUCKET, "a/b/dump_20240131T235959Z.txt.gz", gzip(body.as_bytes()));
    lab.s3.put(BUCKET, "a/b/dump_20240201T000000Z.txt.gz", gzip(b"4;X;0,5\nNULL;Y;1,5\n"));
    let proposal = lab.init("s3://drop/a/b").await;
    assert_eq!(proposal.pattern.as_deref(), Some("a/b/dump_{time:%Y%m%dT%H%M%S}Z.txt.gz"));
    assert_eq!(types(&proposal), ["c1 integer", "c2 text not null", "c3 text not null"]);
    let expected = ["1", "2", "3", "4", "∅"];
    assert_eq!(lab.texts("SELECT c1::text FROM dump ORDER BY c1").await, expected);
    assert_eq!(lab.count("SELECT sum(rows_filtered)::bigint FROM keyfall.objects").await, 1, "the blank record");
    assert!(remarks(&proposal, "csv.blank_records: 1"), "{:#?}", proposal.remarks);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_lines_become_columns_down_to_their_scalars() {
    let lab = Lab::new().await;
    let lines = "{\"id\":\"bac5188f-67c6-4965-81dc-4ef49622e280\",\"at\":\"2019-06-01T18:17:41.186Z\",\
                 \"data\":{\"n\":9007199254740993,\"loc\":{\"lat\":52.45279},\"tags\":[1,\"a\"]},\"order\":null}\n\
                 {\"id\":\"3a3eb23a-f22e-4fe9-8c20-f37220a81909\",\"at\":\"2019-06-01T18:17:41.194Z\",\
                 \"data\":{\"n\":-1,\"extra.dot\":\"08841\"},\"order\":7}\n";
    for second in [3, 10, 21] {
        lab.s3.put(BUCKET, &format!("data/2019-06-01-15-17-{second}-events.json"), lines);
    }
    let proposal = lab.init("s3://drop/data/").await;
    assert_eq!(proposal.pattern.as_deref(), Some("data/{time:%Y-%m-%d-%H-%M-%S}-events.json"));
    assert_eq!(
        types(&proposal),
        [
            "id uuid not null",
            "at timestamptz not null",
            "data_n bigint not null",
            "data_loc_lat numeric",
            "data_tags jsonb",
            "order integer",
            "data_extra_dot text"
        ]
    );
    let rows =
        "SELECT concat_ws('|', left(id::text, 3), extract(milliseconds FROM at)::int, data_n, data_loc_lat, data_tags,
                       \"order\", data_extra_dot) FROM events ORDER BY _object_id, _record_no LIMIT 2";
    assert_eq!(lab.texts(rows).await, ["bac|41186|9007199254740993|52.45279|[1, \"a\"]", "3a3|41194|-1|7|08841"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_documents_are_read_through_their_envelope() {
    let lab = Lab::new().await;
    lab.s3.put(BUCKET, "api/2024/05/06/page.json", "{\"page\":1,\"data\":{\"items\":[\n{\"a\":1},\n{\"a\":2}\n]}}");
    let proposal = lab.init("s3://drop/api/").await;
    assert!(proposal.section.contains("json.records = \"data.items\""), "{}", proposal.section);
    assert_eq!(lab.texts("SELECT string_agg(a::text, ' ' ORDER BY a) FROM page").await, ["1 2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn western_text_is_recognised_and_said_to_be_a_guess() {
    let lab = Lab::new().await;
    lab.s3.put(BUCKET, "w/names.csv", b"id;name\n1;caf\xe9\n2;Z\xfcrich\n".to_vec());
    let proposal = lab.init("s3://drop/w/").await;
    assert_eq!(lab.texts("SELECT string_agg(name, ' ' ORDER BY id) FROM w").await, ["café Zürich"]);
    assert!(remarks(&proposal, "not UTF-8") && remarks(&proposal, "no time"), "{:#?}", proposal.remarks);
    assert_eq!(proposal.pattern, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_majority_is_taken_where_formats_are_mixed_and_the_others_are_named() {
    let lab = Lab::new().await;
    for number in 0..4 {
        lab.s3.put(BUCKET, &format!("m/part-{number}.csv"), "id,name\n1,a\n");
    }
    lab.s3.put(BUCKET, "m/one.pdf", "%PDF-1.7");
    lab.s3.put(BUCKET, "m/events.json", "{\"a\":1}\n{\"a\":2}\n");
    lab.s3.put(BUCKET, "m/empty.csv", "");
    let proposal = lab.propose(&wish("s3://drop/m/")).await.expect("a proposal");
    assert!(remarks(&proposal, "one.pdf looks like PDF"), "{:#?}", proposal.remarks);
    assert!(remarks(&proposal, "events.json looks like jsonl"), "{:#?}", proposal.remarks);
    assert!(remarks(&proposal, "left out: 2"), "{:#?}", proposal.remarks);
    assert_eq!(lab.adopt(&proposal).await, 0);
    assert_eq!(lab.count("SELECT count(*) FROM m").await, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_proposed_is_said_plainly() {
    let lab = Lab::new().await;
    let refused = async |address: &str| match lab.propose(&wish(address)).await {
        Ok(proposal) => panic!("{address}: {}", proposal.file()),
        Err(error) => format!("{error}; {}", error.advice()),
    };
    let check = |found: String, text: &str| assert!(found.contains(text), "{found}");
    check(refused("s3://nowhere/x").await, "no such bucket \"nowhere\"; correct the bucket's name");
    check(refused("s3://drop/x/").await, "there is no object under s3://drop/x/");
    lab.s3.put(BUCKET, "e/a.csv", "");
    check(refused("s3://drop/e/").await, "all are empty");
    lab.s3.put(BUCKET, "b/a.csv", "\n \n");
    check(refused("s3://drop/b/").await, "cannot be loaded: they look like an empty file");
    lab.s3.put(BUCKET, "z/a.xlsx", "PK\x03\x04....");
    check(refused("s3://drop/z/").await, "a ZIP archive or a spreadsheet; convert them");
    let taken = Wish { feed: Some("b".parse().expect("a name")), taken: vec!["b".to_owned()], ..wish("s3://drop/h/") };
    lab.s3.put(BUCKET, "h/a.csv", "id,name\n1,a\n");
    check(lab.propose(&taken).await.expect_err("it is taken").to_string(), "there is a feed \"b\" already");
    let table = Wish { table: Some("a.b.c".to_owned()), ..wish("s3://drop/h/") };
    check(lab.propose(&table).await.expect_err("no table").to_string(), "more than two parts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_in_keys_or_headers_breaks_a_proposal() {
    let lab = Lab::new().await;
    let names =
        ["\"a\"\"b\"", "a'b", "[x]", "#", "ünï", "select", "_object_id", "1st", "a.b", "\\", "=", "{}", "%Y", "x\ny"];
    let header = names.map(|name| format!("\"{}\"", name.trim_matches('"').replace("\"\"", "\"").replace('"', "\"\"")));
    let row = (0..names.len()).map(|number| number.to_string()).collect::<Vec<_>>().join(",");
    let body = format!("{}\n{row}\n{row}\n", header.join(","));
    for prefix in ["a\"b/", "{x}/", "ü %/", "#[y]/", "it's/", "a*b/", "--/"] {
        let key = |day: u32| format!("{prefix}{{k}}-2024-01-{day:02}.csv");
        lab.s3.put(BUCKET, &key(1), body.clone());
        lab.s3.put(BUCKET, &key(2), body.clone());
        let listed =
            Wish { address: Address { bucket: BUCKET.to_owned(), prefix: prefix.to_owned() }, ..wish("s3://drop") };
        let proposal = lab.propose(&listed).await.unwrap_or_else(|error| panic!("{prefix}: {error}"));
        let table = Wish { table: Some(format!("\"{}\"", prefix.replace('"', "\"\""))), ..listed };
        let proposal =
            lab.propose(&table).await.unwrap_or_else(|error| panic!("{prefix}: {error}\n{}", proposal.file()));
        assert_eq!(lab.adopt(&proposal).await, 0, "{prefix}\n{}\n{:#?}", proposal.file(), lab.ledger().await);
        assert_eq!(proposal.columns.len(), names.len());
    }
    assert_eq!(lab.count("SELECT sum(rows_loaded)::bigint FROM keyfall.objects").await, 28);
}

/// The folder below the data of real deployments, or a word about its absence.
fn folder(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(name);
    if path.is_dir() {
        return Some(path);
    }
    // Not `eprintln!`: the test harness swallows that of tests that pass, and a skip must be seen.
    writeln!(std::io::stderr(), "NOT RUN: {} is absent", path.display()).expect("standard error");
    None
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("an entry"))
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path()).expect("a file")))
        .collect();
    files.sort();
    files
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_employees_are_proposed_and_loaded_whole() {
    let Some(folder) = folder("globant") else { return };
    let lab = Lab::new().await;
    let body = std::fs::read(folder.join("hired_employees.csv")).expect("a file");
    lab.s3.put(BUCKET, "globant/hired_employees.csv", body);
    let proposal = lab.init("s3://drop/globant/hired_employees.csv").await;
    assert_eq!(types(&proposal), ["c1 integer not null", "c2 text", "c3 timestamptz", "c4 integer", "c5 integer"]);
    assert_eq!(lab.count("SELECT count(*) FROM hired_employees").await, 1999);
    let blank = "SELECT count(*) FROM hired_employees WHERE num_nulls(c1, c2, c3, c4, c5) = 1";
    assert_eq!(lab.count(blank).await, 70);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_events_are_proposed_and_loaded_whole() {
    let Some(folder) = folder("door2door/bucket/data") else { return };
    let lab = Lab::new().await;
    let files = files(&folder);
    let objects = i64::try_from(files.len()).expect("a number");
    for (name, body) in files {
        lab.s3.put(BUCKET, &format!("data/{name}"), body);
    }
    // Two of the events are in one object of hundreds: every object is looked at to see their fields.
    let all = Wish { samples: 1000, ..wish("s3://drop/data/") };
    let proposal = lab.propose(&all).await.expect("a proposal");
    assert_eq!(proposal.pattern.as_deref(), Some("data/{time:%Y-%m-%d-%H-%M-%S}-events.json"));
    assert!(remarks(&proposal, "several kinds"), "{:#?}", proposal.remarks);
    assert_eq!(lab.adopt(&proposal).await, 0, "{}", proposal.file());
    assert_eq!(lab.count("SELECT count(*) FROM events").await, 35_351);
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects WHERE state = 'loaded'").await, objects);
    let periods = "SELECT string_agg(to_char(data_start AT TIME ZONE 'UTC', 'HH24:MI:SS.MS'), ' ' ORDER BY data_start)
                     FROM events WHERE \"on\" = 'operating_period'";
    assert_eq!(lab.texts(periods).await, ["18:17:04.079 18:23:04.079"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_tables_are_proposed_and_loaded_whole() {
    let Some(folder) = folder("totesys/csv") else { return };
    let lab = Lab::new().await;
    for (name, body) in files(&folder) {
        let lines = String::from_utf8_lossy(&body).lines().count();
        let table = name.trim_end_matches(".csv").to_owned();
        lab.s3.put(BUCKET, &format!("totesys/{table}/{name}"), body);
        let proposal = lab.init(&format!("s3://drop/totesys/{table}/")).await;
        assert_eq!(proposal.feed, table);
        let rows = lab.count(&format!("SELECT count(*) FROM {table}")).await;
        assert_eq!(rows + 1, i64::try_from(lines).expect("a number"), "{table}: every line but the header");
    }
    assert_eq!(lab.count("SELECT count(*) FROM payment").await, 15_836);
    assert_eq!(lab.texts("SELECT sum(payment_amount)::text FROM payment WHERE payment_id < 3").await, ["609474.06"]);
}
