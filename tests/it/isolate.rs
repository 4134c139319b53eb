//! Rows that the server refuses are rejected one by one, and all others are loaded.

use crate::support::{BUCKET, Lab};
use crate::upsert::{counts, load};

fn feed(more: &str) -> String {
    format!("[feeds.f]\nbucket = \"drop\"\nprefix = \"f/\"\ntable = \"t\"\nrejects.max_rows = 100\n{more}\n")
}

/// Rejections of an object: record, line, code and column.
const REJECTED: &str = "SELECT concat_ws(' ', record_no, line, code, column_name) FROM keyfall.rejections
                         ORDER BY object_id, record_no";

/// A kind of refusal: a table of columns `id` and `v`, the bad values of `v` with their codes.
struct Refusal {
    name: &'static str,
    setup: &'static str,
    good: &'static str,
    bad: &'static str,
    expected: &'static str,
}

const REFUSALS: [Refusal; 14] = [
    Refusal {
        name: "unique",
        setup: "CREATE TABLE t (id int, v int UNIQUE); INSERT INTO t VALUES (0, -1)",
        good: "",
        bad: "-1",
        expected: "E-PG-23505",
    },
    Refusal {
        name: "foreign key",
        setup: "CREATE TABLE p (v int PRIMARY KEY); INSERT INTO p SELECT generate_series(0, 10000);
                CREATE TABLE t (id int, v int REFERENCES p)",
        good: "",
        bad: "-1",
        expected: "E-PG-23503",
    },
    Refusal {
        name: "deferred foreign key",
        setup: "CREATE TABLE p (v int PRIMARY KEY); INSERT INTO p SELECT generate_series(0, 10000);
                CREATE TABLE t (id int, v int REFERENCES p DEFERRABLE INITIALLY DEFERRED)",
        good: "",
        bad: "-1",
        expected: "E-PG-23503",
    },
    Refusal {
        name: "deferred unique",
        setup: "CREATE TABLE t (id int, v int UNIQUE DEFERRABLE INITIALLY DEFERRED); INSERT INTO t VALUES (0, -1)",
        good: "",
        bad: "-1",
        expected: "E-PG-23505",
    },
    Refusal {
        name: "check",
        setup: "CREATE TABLE t (id int, v int CHECK (v >= 0))",
        good: "",
        bad: "-1",
        expected: "E-PG-23514",
    },
    Refusal {
        name: "not null by trigger",
        setup: "CREATE TABLE t (id int, v int NOT NULL);
                CREATE FUNCTION blank() RETURNS trigger LANGUAGE plpgsql AS
                    $$ BEGIN IF NEW.v < 0 THEN NEW.v := NULL; END IF; RETURN NEW; END $$;
                CREATE TRIGGER blank BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION blank()",
        good: "",
        bad: "-1",
        expected: "E-PG-23502 v",
    },
    Refusal {
        name: "exclusion",
        setup: "CREATE TABLE t (id int, v int, EXCLUDE USING gist (int4range(v, v + 1) WITH &&));
                INSERT INTO t VALUES (0, -1)",
        good: "",
        bad: "-1",
        expected: "E-PG-23P01",
    },
    Refusal {
        name: "trigger",
        setup: "CREATE TABLE t (id int, v int);
                CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
                    $$ BEGIN IF NEW.v < 0 THEN RAISE EXCEPTION 'unwelcome'; END IF; RETURN NEW; END $$;
                CREATE TRIGGER refuse BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION refuse()",
        good: "",
        bad: "-1",
        expected: "E-PG-P0001",
    },
    Refusal {
        name: "domain",
        setup: "CREATE DOMAIN whole AS int CHECK (VALUE >= 0); CREATE TABLE t (id int, v whole)",
        good: "",
        bad: "-1",
        expected: "E-PG-23514",
    },
    Refusal {
        name: "partition",
        setup: "CREATE TABLE t (id int, v int) PARTITION BY RANGE (v);
                CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (100000)",
        good: "",
        bad: "-1",
        expected: "E-PG-23514",
    },
    Refusal {
        name: "numeric overflow",
        setup: "CREATE TABLE t (id int, v numeric(6, 1))",
        good: "",
        bad: "1234567.8",
        expected: "E-PG-22003",
    },
    Refusal {
        name: "text of another type",
        setup: "CREATE TABLE t (id int, v inet)",
        good: "10.0.0.",
        bad: "nowhere",
        expected: "E-PG-22P02",
    },
    Refusal {
        name: "a language of its own",
        setup: "CREATE TABLE t (id int, v tsquery)",
        good: "word",
        bad: "a b",
        expected: "E-PG-42601",
    },
    Refusal {
        name: "bits",
        setup: "CREATE TABLE t (id int, v varbit(4))",
        good: "1",
        bad: "10101",
        expected: "E-PG-22001",
    },
];

/// A file of so many records of which these are bad.
fn file(refusal: &Refusal, records: usize, is_bad: impl Fn(usize) -> bool) -> String {
    (1..=records).fold("id,v\n".to_owned(), |file, record| {
        let value = match (is_bad(record), refusal.good, refusal.name) {
            (true, ..) => refusal.bad.to_owned(),
            (false, _, "bits") => "101".to_owned(),
            (false, "10.0.0.", _) => format!("10.0.0.{}", record % 250),
            (false, good, _) => format!("{good}{record}"),
        };
        format!("{file}{record},{value}\n")
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_refuses_a_row_the_others_are_loaded() {
    for refusal in &REFUSALS {
        let lab = Lab::new().await;
        lab.execute(refusal.setup).await;
        let before = lab.count("SELECT count(*) FROM t").await;
        let bad = [1, 2, 3, 77, 1500, 2999, 3000];
        let body = file(refusal, 3000, |record| bad.contains(&record));
        load(&lab, &feed("parent_wait = \"0s\""), &[("f/1.csv", &body)]).await;
        let told = format!("{}: {:?}", refusal.name, lab.entry("f/1.csv").await);
        assert_eq!(counts(&lab, "f/1.csv").await, "loaded 3000 2993 7 0", "{told}");
        assert_eq!(lab.count("SELECT count(*) FROM t").await, before + 2993, "{told}");
        let expected = bad.map(|record| format!("{record} {} {}", record + 1, refusal.expected));
        assert_eq!(lab.texts(REJECTED).await, expected, "{told}");
        let raw = "SELECT convert_from(raw, 'UTF8') FROM keyfall.rejections WHERE record_no = 77";
        assert_eq!(lab.texts(raw).await, [format!("77,{}\n", refusal.bad)], "{told}");
        assert_eq!(lab.texts("SELECT convert_from(header, 'UTF8') FROM keyfall.objects").await, ["id,v\n"], "{told}");
        let leaked = format!("SELECT count(*) FROM keyfall.rejections WHERE reason LIKE '%{}%'", refusal.bad);
        assert_eq!(lab.count(&leaked).await, 0, "{told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_is_taken_apart_and_only_the_member_with_the_row_is_sifted() {
    let lab = Lab::new().await;
    lab.execute("CREATE TABLE t (id int, v int CHECK (v >= 0), _object_id bigint)").await;
    for n in 0..5 {
        let bad = if n == 2 { "-1" } else { "1" };
        lab.s3.put(BUCKET, &format!("f/{n}.csv"), format!("id,v\n1,1\n2,{bad}\n3,3\n"));
    }
    assert_eq!(lab.once(&feed("")).await, 0, "{:#?}", lab.ledger().await);
    assert_eq!(lab.count("SELECT count(*) FROM t").await, 14);
    assert_eq!(lab.texts(REJECTED).await, ["2 3 E-PG-23514"]);
    assert_eq!(counts(&lab, "f/2.csv").await, "loaded 3 2 1 0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_budget_counts_what_we_and_what_the_server_refuse_together() {
    let refusal = &REFUSALS[4];
    for (most, expected) in [(5, "loaded 20 15 5 0"), (4, "quarantined E-REJECTS")] {
        let lab = Lab::new().await;
        lab.execute(refusal.setup).await;
        // Three of the server's, two of ours.
        let body = file(refusal, 20, |record| matches!(record, 2 | 3 | 20))
            .replace("\n5,5", "\n5,five")
            .replace("\n9,", "\nnine,");
        load(&lab, &feed("").replace("100", &most.to_string()), &[("f/1.csv", &body)]).await;
        assert_eq!(counts(&lab, "f/1.csv").await, expected, "{:?}", lab.entry("f/1.csv").await);
        let rows = if most == 5 { 15 } else { 0 };
        assert_eq!(lab.count("SELECT count(*) FROM t").await, rows);
        assert_eq!(lab.count("SELECT count(*) FROM keyfall.rejections").await, if most == 5 { 5 } else { 0 });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_large_a_share_of_bad_records_quarantines_whoever_refused_them() {
    let refusal = &REFUSALS[4];
    for (what, body) in [
        ("ours, alone", file(refusal, 10, |_| false).replace("\n5,5", "\n5,five").replace("\n9,", "\nnine,")),
        ("the server's", file(refusal, 10, |record| record > 8)),
    ] {
        for (ratio, expected) in [("0.2", "loaded 10 8 2 0"), ("0.19", "quarantined E-REJECTS")] {
            let lab = Lab::new().await;
            lab.execute(refusal.setup).await;
            let feeds = feed(&format!("rejects.max_ratio = {ratio}"));
            // One alone, and two in a group.
            load(&lab, &feeds, &[("f/1.csv", &body)]).await;
            lab.s3.put(BUCKET, "f/2.csv", body.clone());
            lab.s3.put(BUCKET, "f/3.csv", "id,v\n1,1\n");
            lab.once(&feeds).await;
            for key in ["f/1.csv", "f/2.csv"] {
                assert_eq!(counts(&lab, key).await, expected, "{what}, {ratio}, {key}");
            }
            assert_eq!(counts(&lab, "f/3.csv").await, "loaded 1 1 0 0");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_half_of_the_rows_are_bad_it_ends_at_the_first_one_too_many() {
    let refusal = &REFUSALS[4];
    let lab = Lab::new().await;
    lab.execute(refusal.setup).await;
    load(&lab, &feed(""), &[("f/1.csv", &file(refusal, 20_000, |record| record % 2 == 0))]).await;
    let entry = lab.entry("f/1.csv").await;
    assert_eq!((entry.state.as_str(), entry.code.as_str()), ("quarantined", "E-REJECTS"), "{entry:?}");
    assert!(entry.detail.starts_with("101 records") && entry.detail.contains("record 202"), "{entry:?}");
    assert_eq!(lab.count("SELECT count(*) FROM t").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_rows_may_be_refused_where_the_feed_tolerates_it() {
    let refusal = &REFUSALS[4];
    let lab = Lab::new().await;
    lab.execute(refusal.setup).await;
    load(&lab, &feed(""), &[("f/1.csv", &file(refusal, 100, |_| true))]).await;
    assert_eq!(counts(&lab, "f/1.csv").await, "loaded 100 0 100 0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_whose_parent_stands_further_down_is_loaded_with_it() {
    let lab = Lab::new().await;
    lab.execute("CREATE TABLE t (id int PRIMARY KEY, v int REFERENCES t)").await;
    // Each refers to the one behind it but for the last; one refers to nothing, one comes twice.
    let row = |body, id| format!("{body}{id},{}\n", if id == 30 { 999 } else { id + 1 });
    let body = (1..60).fold("id,v\n".to_owned(), row) + "60,\n60,\n";
    load(&lab, &feed("parent_wait = \"0s\""), &[("f/1.csv", &body)]).await;
    // Whoever refers to the refused one, directly or not, has no parent either.
    assert_eq!(counts(&lab, "f/1.csv").await, "loaded 61 30 31 0", "{:?}", lab.entry("f/1.csv").await);
    assert_eq!(lab.texts("SELECT concat_ws(' ', min(id), max(id)) FROM t").await, ["31 60"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_routes_are_sifted_each_into_its_table() {
    let lab = Lab::new().await;
    lab.execute("CREATE TABLE a (id int PRIMARY KEY, v int CHECK (v < 10)); CREATE TABLE b (id int UNIQUE, v inet)")
        .await;
    let feeds = "[feeds.f]\nbucket = \"drop\"\nprefix = \"f/\"\nrejects.max_rows = 10\nunmatched = \"filter\"\nunknown_fields = \"ignore\"\n\
        [feeds.f.routes.first]\nwhen = { kind = \"a\" }\ntable = \"a\"\ncolumns = { id = \"id\", v = \"v\" }\n\
        [feeds.f.routes.second]\nwhen = { kind = \"b\" }\ntable = \"b\"\nmode = \"upsert\"\nkey = \"id\"\n\
        columns = { id = \"id\", v = \"v\" }\n";
    let body = "kind,id,v\na,1,1\nb,1,10.0.0.1\na,2,20\nb,2,nowhere\na,1,5\nb,1,10.0.0.9\na,3,3\nc,9,9\n";
    load(&lab, feeds, &[("f/1.csv", body)]).await;
    assert_eq!(counts(&lab, "f/1.csv").await, "loaded 8 3 3 2", "{:?}", lab.entry("f/1.csv").await);
    assert_eq!(lab.texts("SELECT concat_ws(' ', id, v) FROM a ORDER BY id").await, ["1 1", "3 3"]);
    assert_eq!(lab.texts("SELECT concat_ws(' ', id, v) FROM b").await, ["1 10.0.0.9"]);
    let rejected = "SELECT concat_ws(' ', record_no, table_name, code) FROM keyfall.rejections ORDER BY record_no";
    assert_eq!(lab.texts(rejected).await, ["3 public.a E-PG-23514", "4 public.b E-PG-22P02", "5 public.a E-PG-23505"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn identity_values_are_kept_and_a_trigger_that_drops_rows_is_noticed() {
    let lab = Lab::new().await;
    lab.execute(
        "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY, v int CHECK (v >= 0), twice int GENERATED ALWAYS AS (2 * v) STORED,
                         s text NOT NULL DEFAULT 'default')",
    )
    .await;
    load(&lab, &feed(""), &[("f/1.csv", "id,v\n70,1\n71,-1\n72,3\n")]).await;
    assert_eq!(
        lab.texts("SELECT concat_ws(' ', id, v, twice, s) FROM t ORDER BY id").await,
        ["70 1 2 default", "72 3 6 default"]
    );
    lab.execute(
        "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN IF NEW.v = 5 THEN RETURN NULL; END IF; RETURN NEW; END $$;
         CREATE TRIGGER swallow BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION swallow()",
    )
    .await;
    load(&lab, &feed(""), &[("f/2.csv", "id,v\n80,-1\n81,5\n")]).await;
    let entry = lab.entry("f/2.csv").await;
    assert_eq!((entry.state.as_str(), entry.code.as_str()), ("quarantined", "E-COPY-COUNT"), "{entry:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clean_object_makes_no_stage_and_a_role_that_may_not_is_told_when_one_is_needed() {
    let lab = Lab::new().await;
    let role = format!("sifter_{}", lab.database);
    lab.execute(&format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'x'; GRANT CREATE ON DATABASE {base} TO {role};
         REVOKE TEMPORARY ON DATABASE {base} FROM PUBLIC;
         CREATE TABLE t (id int, v int CHECK (v >= 0)); GRANT INSERT ON t TO {role}",
        base = lab.database
    ))
    .await;
    let url = lab.postgres.url(&lab.database).replace("postgres@", &format!("{role}@"));
    let settings = [&format!("database.url={url}"), "workers.retry_min=30s", "workers.retry_max=60s"];
    lab.s3.put(BUCKET, "f/1.csv", "id,v\n1,1\nx,2\n");
    assert_eq!(lab.once_set(&feed(""), &settings).await, 0, "{:#?}", lab.ledger().await);
    assert_eq!(counts(&lab, "f/1.csv").await, "loaded 2 1 1 0");
    lab.s3.put(BUCKET, "f/2.csv", "id,v\n1,1\n2,-1\n");
    assert_eq!(lab.once_set(&feed(""), &settings).await, 1);
    let told = lab.texts("SELECT paused_reason || ' | ' || paused_advice FROM keyfall.feeds").await.concat();
    assert!(told.contains("temporary") && told.contains("GRANT TEMPORARY"), "{told}");
    lab.execute(&format!(
        "GRANT TEMPORARY ON DATABASE {base} TO {role};
         UPDATE keyfall.feeds SET paused_by = NULL, paused_until = '-infinity';
         UPDATE keyfall.objects SET not_before = '-infinity'",
        base = lab.database
    ))
    .await;
    assert_eq!(lab.once_set(&feed(""), &settings).await, 0, "{:#?}", lab.ledger().await);
    assert_eq!(counts(&lab, "f/2.csv").await, "loaded 2 1 1 0");
    lab.execute(&format!("REASSIGN OWNED BY {role} TO postgres; DROP OWNED BY {role}; DROP ROLE {role}")).await;
}
