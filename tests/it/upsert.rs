//! Mode `upsert`: rows take the place of those with the same key, the last or the newest one wins, each record counted.

use crate::support::{BUCKET, Lab};

/// A feed of files with header into table `t`.
fn feed(more: &str) -> String {
    format!("[feeds.f]\nbucket = \"drop\"\nprefix = \"f/\"\ntable = \"t\"\nmode = \"upsert\"\n{more}\n")
}

/// Counts of the newest entry of a key.
pub(crate) async fn counts(lab: &Lab, key: &str) -> String {
    let sql = format!(
        "SELECT concat_ws(' ', state, coalesce(reason, error_code), rows_read, rows_loaded, rows_rejected, rows_filtered)
           FROM keyfall.objects WHERE key = '{key}' ORDER BY id DESC LIMIT 1"
    );
    lab.texts(&sql).await.concat()
}

/// Loads files one after the other.
pub(crate) async fn load(lab: &Lab, feeds: &str, files: &[(&str, &str)]) {
    for (key, body) in files {
        lab.s3.put(BUCKET, key, (*body).to_owned());
        let code = lab.once_set(feeds, &["workers.retry_min=10ms", "workers.retry_max=20ms"]).await;
        assert!(matches!(code, 0 | 3), "{code}: {:#?}", lab.ledger().await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_record_of_a_key_wins_and_every_record_is_counted() {
    let lab = Lab::new().await;
    lab.execute("CREATE TABLE t (id int PRIMARY KEY, v text, _object_id bigint, _record_no bigint)").await;
    let feeds = feed("key = \"id\"");
    load(&lab, &feeds, &[("f/1.csv", "id,v\n1,a\n2,b\n1,c\n")]).await;
    assert_eq!(counts(&lab, "f/1.csv").await, "loaded 3 2 0 1");
    load(&lab, &feeds, &[("f/2.csv", "id,v\n2,d\n3,e\n")]).await;
    assert_eq!(counts(&lab, "f/2.csv").await, "loaded 2 2 0 0");
    let rows = "SELECT concat_ws(' ', t.id, v, o.key, _record_no) FROM t JOIN keyfall.objects o ON o.id = _object_id
                 ORDER BY t.id";
    assert_eq!(lab.texts(rows).await, ["1 c f/1.csv 3", "2 d f/2.csv 1", "3 e f/2.csv 2"]);
    // An empty file and one of a header change nothing.
    load(&lab, &feeds, &[("f/3.csv", ""), ("f/4.csv", "id,v\n")]).await;
    assert_eq!(counts(&lab, "f/4.csv").await, "loaded 0 0 0 0");
    assert_eq!(lab.count("SELECT count(*) FROM t").await, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_value_never_takes_the_place_of_a_newer_one() {
    let lab = Lab::new().await;
    lab.execute("CREATE TABLE t (a int, b text, at timestamptz(0), v text, UNIQUE (b, a), UNIQUE (v))").await;
    let feeds = feed("key = [\"a\", \"b\"]\nnewer_by = \"at\"");
    let first =
        "a,b,at,v\n1,x,2024-01-02T00:00:00Z,now\n2,x,2024-01-02T00:00:00Z,two\n1,x,2024-01-01T00:00:00Z,before\n";
    load(&lab, &feeds, &[("f/1.csv", first)]).await;
    assert_eq!(counts(&lab, "f/1.csv").await, "loaded 3 2 0 1");
    // Older, the same, without a time, and newer; then something over no time at all.
    let second = "a,b,at,v\n1,x,2024-01-01T23:59:59Z,older\n2,x,2024-01-02T00:00:00Z,same\n3,x,,three\n";
    load(&lab, &feeds, &[("f/2.csv", second)]).await;
    assert_eq!(counts(&lab, "f/2.csv").await, "loaded 3 2 0 1");
    load(&lab, &feeds, &[("f/3.csv", "a,b,at,v\n1,x,,none\n3,x,2020-01-01T00:00:00Z,some\n")]).await;
    assert_eq!(counts(&lab, "f/3.csv").await, "loaded 2 1 0 1");
    assert_eq!(lab.texts("SELECT concat_ws(' ', a, v) FROM t ORDER BY a").await, ["1 now", "2 same", "3 some"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_the_same_where_the_table_says_so() {
    let lab = Lab::new().await;
    lab.execute(
        "CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
         CREATE TABLE t (a numeric(10, 2), b text COLLATE blind, c timestamp(0), v text, UNIQUE (a, b, c))",
    )
    .await;
    let body = "a,b,c,v\n1.001,x,2024-01-01 00:00:00.4,first\n1.002,X,2024-01-01 00:00:00.1,last\n";
    load(&lab, &feed("key = [\"a\", \"b\", \"c\"]"), &[("f/1.csv", body)]).await;
    assert_eq!(counts(&lab, "f/1.csv").await, "loaded 2 1 0 1");
    assert_eq!(lab.texts("SELECT concat_ws(' ', a, b, c, v) FROM t").await, ["1.00 X 2024-01-01 00:00:00 last"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_all_key_takes_what_is_missing_and_counts_what_is_there() {
    let lab = Lab::new().await;
    lab.execute("CREATE TABLE t (a int, b int, PRIMARY KEY (a, b)); INSERT INTO t VALUES (1, 1)").await;
    let feeds = feed("key = [\"a\", \"b\"]\nrejects.max_rows = 5");
    load(&lab, &feeds, &[("f/1.csv", "a,b\n1,1\n1,2\n1,2\n")]).await;
    assert_eq!(counts(&lab, "f/1.csv").await, "loaded 3 2 0 1");
    assert_eq!(lab.count("SELECT count(*) FROM t").await, 2);
    // The same row by row.
    lab.execute("ALTER TABLE t ADD CHECK (b < 100)").await;
    load(&lab, &feeds, &[("f/2.csv", "a,b\n1,1\n1,100\n1,3\n1,3\n")]).await;
    assert_eq!(counts(&lab, "f/2.csv").await, "loaded 4 2 1 1");
    assert_eq!(lab.count("SELECT count(*) FROM t").await, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_refused_records_the_one_before_takes_the_place() {
    let lab = Lab::new().await;
    lab.execute("CREATE TABLE t (id int PRIMARY KEY, v int CHECK (v < 100), note text)").await;
    let feeds = feed("key = \"id\"\nrejects.max_rows = 3");
    let body = "id,v,note\n1,1,a\n1,2,b\n1,100,c\n2,200,d\n3,3,e\n1,300,f\n";
    load(&lab, &feeds, &[("f/1.csv", body)]).await;
    assert_eq!(counts(&lab, "f/1.csv").await, "loaded 6 2 3 1");
    assert_eq!(lab.texts("SELECT concat_ws(' ', id, v, note) FROM t ORDER BY id").await, ["1 2 b", "3 3 e"]);
    let rejected = "SELECT concat_ws(' ', record_no, line, byte_offset, code, rtrim(convert_from(raw, 'UTF8'), E'\\n'))
                      FROM keyfall.rejections ORDER BY record_no";
    assert_eq!(
        lab.texts(rejected).await,
        ["3 4 22 E-PG-23514 1,100,c", "4 5 30 E-PG-23514 2,200,d", "6 7 44 E-PG-23514 1,300,f"]
    );
    // One more is one too many: nothing of it is loaded.
    load(&lab, &feeds, &[("f/2.csv", "id,v,note\n4,400,a\n5,400,b\n6,400,c\n7,400,d\n8,8,e\n")]).await;
    assert_eq!(counts(&lab, "f/2.csv").await, "quarantined E-REJECTS");
    assert_eq!(lab.count("SELECT count(*) FROM t").await, 2);
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.rejections").await, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_none_may_be_refused_the_record_is_named() {
    let lab = Lab::new().await;
    lab.execute("CREATE TABLE t (id int PRIMARY KEY, v int CHECK (v < 100))").await;
    load(&lab, &feed("key = \"id\""), &[("f/1.csv", "id,v\n1,1\n2,4711\n3,3\n")]).await;
    let entry = lab.entry("f/1.csv").await;
    assert_eq!((entry.state.as_str(), entry.code.as_str()), ("quarantined", "E-PG-23514"), "{entry:?}");
    assert!(entry.detail.contains("line 3 (record 2") && !entry.detail.contains("4711"), "{entry:?}");
    assert_eq!(lab.count("SELECT count(*) FROM t").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_without_a_key_is_rejected_unless_the_table_matches_nulls() {
    let lab = Lab::new().await;
    lab.execute("CREATE TABLE t (id int UNIQUE, v text)").await;
    let body = "id,v\n1,a\n,b\n2,c\n";
    load(&lab, &feed("key = \"id\""), &[("f/1.csv", body)]).await;
    assert_eq!(counts(&lab, "f/1.csv").await, "quarantined E-ROW-KEY");
    let feeds = feed("key = \"id\"\nrejects.max_rows = 1");
    load(&lab, &feeds, &[("f/2.csv", "id,v\n1,a\n,b\n2,d\n")]).await;
    assert_eq!(counts(&lab, "f/2.csv").await, "loaded 3 2 1 0");
    let rejected = "SELECT concat_ws(' ', record_no, line, code) FROM keyfall.rejections";
    assert_eq!(lab.texts(rejected).await, ["2 3 E-ROW-KEY"]);
    lab.execute("DROP TABLE t; CREATE TABLE t (id int UNIQUE NULLS NOT DISTINCT, v text)").await;
    load(&lab, &feeds, &[("f/3.csv", "id,v\n,x\n,y\n"), ("f/4.csv", "id,v\n,z\n")]).await;
    assert_eq!(counts(&lab, "f/3.csv").await, "loaded 2 1 0 1");
    assert_eq!(counts(&lab, "f/4.csv").await, "loaded 1 1 0 0");
    assert_eq!(lab.texts("SELECT v FROM t").await, ["z"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_that_go_as_text_and_partitioned_ones_are_upserted_as_well() {
    let lab = Lab::new().await;
    lab.execute(
        "CREATE TABLE t (host inet, day date, v bit(3), n int, PRIMARY KEY (host, day)) PARTITION BY RANGE (day);
         CREATE TABLE t_24 PARTITION OF t FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')",
    )
    .await;
    let feeds = feed("key = [\"host\", \"day\"]\nnewer_by = \"n\"\nrejects.max_rows = 3");
    let body = "host,day,v,n\n10.0.0.1,2024-01-01,101,1\n10.0.0.1/32,2024-01-01,111,2\n10.0.0.2,2024-01-01,000,1\n";
    load(&lab, &feeds, &[("f/1.csv", body)]).await;
    assert_eq!(counts(&lab, "f/1.csv").await, "loaded 3 2 0 1");
    // A key that is none, a value that is too long, a day that no partition takes.
    let body = "host,day,v,n\nnowhere,2024-01-01,101,9\n10.0.0.3,2024-01-01,1111,9\n10.0.0.3,2024-01-01,110,1\n\
                10.0.0.4,2026-01-01,101,9\n10.0.0.1,2024-01-01,100,1\n";
    load(&lab, &feeds, &[("f/2.csv", body)]).await;
    assert_eq!(counts(&lab, "f/2.csv").await, "loaded 5 1 3 1", "{:?}", lab.entry("f/2.csv").await);
    assert_eq!(
        lab.texts("SELECT concat_ws(' ', host, v, n) FROM t ORDER BY host").await,
        ["10.0.0.1 111 2", "10.0.0.2 000 1", "10.0.0.3 110 1"]
    );
    let rejected = "SELECT concat_ws(' ', record_no, code) FROM keyfall.rejections ORDER BY record_no";
    assert_eq!(lab.texts(rejected).await, ["1 E-PG-22P02", "2 E-PG-22026", "4 E-PG-23514"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_unique_key_or_a_mapped_one_the_feed_pauses() {
    for (setup, more, says) in [
        ("CREATE TABLE t (id int, v text)", "key = \"id\"", "no unique index"),
        (
            "CREATE TABLE t (id int, v text); CREATE UNIQUE INDEX ON t (id) WHERE id > 0",
            "key = \"id\"",
            "no unique index",
        ),
        ("CREATE TABLE t (id int UNIQUE DEFERRABLE, v text)", "key = \"id\"", "no unique index"),
        ("CREATE TABLE t (id int, v text, UNIQUE (id, v))", "key = \"id\"", "no unique index"),
        ("CREATE TABLE t (id int UNIQUE, v text)", "key = \"id\"\nnewer_by = \"at\"", "\"at\""),
        (
            "CREATE TABLE t (id serial PRIMARY KEY, v text)",
            "key = \"id\"\ncolumns = { v = \"v\" }\nunknown_fields = \"ignore\"",
            "\"id\"",
        ),
    ] {
        let lab = Lab::new().await;
        lab.execute(setup).await;
        lab.s3.put(BUCKET, "f/1.csv", "id,v\n1,a\n");
        let code = lab.once_set(&feed(more), &["workers.retry_min=30s", "workers.retry_max=60s"]).await;
        assert_eq!((code, lab.entry("f/1.csv").await.state.as_str()), (1, "pending"), "{setup}");
        let told = lab.texts("SELECT paused_reason FROM keyfall.feeds WHERE paused_by = 'halt'").await.concat();
        assert!(told.contains(says), "{setup}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_objects_own_identity_values_are_kept_and_generated_columns_left_alone() {
    let lab = Lab::new().await;
    lab.execute(
        "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text,
                         big text GENERATED ALWAYS AS (upper(v)) STORED)",
    )
    .await;
    load(&lab, &feed("key = \"id\""), &[("f/1.csv", "id,v\n7,a\n8,b\n7,c\n")]).await;
    assert_eq!(counts(&lab, "f/1.csv").await, "loaded 3 2 0 1", "{:?}", lab.entry("f/1.csv").await);
    assert_eq!(lab.texts("SELECT concat_ws(' ', id, v, big) FROM t ORDER BY id").await, ["7 c C", "8 b B"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cell_that_parses_a_language_of_its_own_is_the_records_fault_and_is_not_shown() {
    let lab = Lab::new().await;
    lab.execute("CREATE TABLE t (id int PRIMARY KEY, q tsquery)").await;
    load(&lab, &feed("key = \"id\""), &[("f/1.csv", "id,q\n1,a & b\n2,secret words\n")]).await;
    let entry = lab.entry("f/1.csv").await;
    assert_eq!((entry.state.as_str(), entry.code.as_str()), ("quarantined", "E-PG-42601"), "{entry:?}");
    assert!(entry.detail.contains("record 2") && !entry.detail.contains("secret"), "{entry:?}");
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.feeds WHERE paused_by IS NOT NULL").await, 0);
}
