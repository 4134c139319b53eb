//! Feeds that depend on others: earlier objects of the parents go first, and rows wait for the rows they refer to.

use std::time::Duration;

use keyfall::domain::feed::FeedName;
use keyfall::store::ledger::{LeaseLimits, Ledger};

use crate::support::{BUCKET, Lab, loaded};
use crate::upsert::{counts, load};

/// Two feeds into tables `p` and `c`, the second of which refers to the first.
fn feeds(more: &str) -> String {
    let feed = |name: &str, more: &str| {
        format!(
            "[feeds.{name}]\nbucket = \"drop\"\npattern = \"{name}/{{time:%Y-%m-%d}}.csv\"\ntable = \"{name}\"\n\
             poll_interval = \"200ms\"\n{more}\n"
        )
    };
    format!("{}{}", feed("p", ""), feed("c", &format!("depends_on = [\"p\"]\n{more}")))
}

async fn tables(lab: &Lab) {
    lab.execute("CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE c (id int, p int REFERENCES p)").await;
}

/// An object of the ledger without a body.
async fn known(lab: &Lab, feed: &str, key: &str, time: Option<&str>, state: &str) {
    let time = time.map_or("NULL".to_owned(), |time| format!("'{time}'"));
    lab.execute(&format!(
        "INSERT INTO keyfall.objects (feed, bucket, key, version, etag, size, key_time, visible_at, discovered_by, state,
                                      lease_owner, lease_token, lease_expires_at)
         VALUES ('{feed}', 'drop', '{key}', 'v', 'v', 12, {time}, now(), 'sweep', '{state}', 'x', gen_random_uuid(),
                 'infinity')"
    ))
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_is_leased_when_no_parent_has_anything_open_that_is_not_later() {
    let lab = Lab::with_items().await;
    let config = loaded(&lab.sources(&feeds(""))).config;
    let ledger = Ledger::new(keyfall::app::pools(&config).expect("pools"));
    let limits = LeaseLimits { group_objects: 10, group_bytes: 100, budget: u64::MAX, lease: Duration::from_mins(1) };
    let name = |name: &str| name.parse::<FeedName>().expect("a name");
    let leased = async || {
        let leases = ledger.lease_after(&name("c"), &[name("p"), name("q")], "test", limits).await.expect("leases");
        let keys: Vec<String> = leases.iter().map(|lease| lease.object.key.clone()).collect();
        let held: Vec<_> = leases.iter().map(|lease| (lease.object.id, lease.token)).collect();
        ledger.release(&held).await.expect("given back");
        keys.join(" ")
    };
    for (key, time) in
        [("c1", Some("2024-01-01")), ("c2", Some("2024-01-02")), ("c3", Some("2024-01-03")), ("c4", None)]
    {
        known(&lab, "c", key, time, "pending").await;
    }
    assert_eq!(leased().await, "c1 c2 c3", "nothing is open; who has no time comes last, by itself");
    known(&lab, "q", "q3", Some("2024-01-03"), "pending").await;
    assert_eq!(leased().await, "c1 c2", "the same time and no time wait");
    known(&lab, "p", "p2", Some("2024-01-02"), "leased").await;
    assert_eq!(leased().await, "c1");
    known(&lab, "p", "p0", None, "pending").await;
    assert_eq!(leased().await, "", "who has no time may be earlier than anybody");
    lab.execute("UPDATE keyfall.objects SET state = 'quarantined' WHERE key IN ('p0', 'p2')").await;
    assert_eq!(leased().await, "c1 c2", "who was set aside is not waited for");
    lab.execute("UPDATE keyfall.objects SET state = 'missing' WHERE key = 'q3'").await;
    assert_eq!(leased().await, "c1 c2 c3");
    lab.execute("UPDATE keyfall.objects SET state = 'quarantined' WHERE key IN ('c1', 'c2', 'c3')").await;
    assert_eq!(leased().await, "c4");
    lab.execute("UPDATE keyfall.objects SET state = 'pending' WHERE key = 'q3'").await;
    assert_eq!(leased().await, "", "who has no time may need any of them");
    lab.execute(
        "UPDATE keyfall.objects SET state = 'loaded', loaded_at = now(), rows_loaded = 0, rows_read = 0,
                        rows_rejected = 0, rows_filtered = 0 WHERE key = 'q3'",
    )
    .await;
    lab.execute("INSERT INTO keyfall.feeds (feed, paused_until) VALUES ('c', 'infinity')").await;
    assert_eq!(leased().await, "", "a pause is a pause");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn looking_for_parents_reads_the_index_of_open_objects_and_no_backlog() {
    let lab = Lab::with_items().await;
    lab.execute(
        "INSERT INTO keyfall.objects (feed, bucket, key, version, etag, size, key_time, visible_at, discovered_by, state,
                                      loaded_at, rows_loaded, rows_read, rows_rejected, rows_filtered)
         SELECT f, 'drop', f || n, 'v', 'v', 12, timestamptz '2024-01-01' + n * interval '1 s', now(), 'sweep',
                CASE WHEN n > 20000 THEN 'pending' ELSE 'loaded' END, now(), 0, 0, 0, 0
           FROM generate_series(1, 40000) n, (VALUES ('c'), ('p')) AS v (f)",
    )
    .await;
    let config = loaded(&lab.sources(&feeds(""))).config;
    let ledger = Ledger::new(keyfall::app::pools(&config).expect("pools"));
    let name = |name: &str| name.parse::<FeedName>().expect("a name");
    let limits = LeaseLimits { group_objects: 100, group_bytes: 100, budget: u64::MAX, lease: Duration::from_mins(1) };
    let read = "SELECT coalesce(sum(idx_tup_read), 0)::bigint + (SELECT seq_tup_read FROM pg_stat_user_tables
                  WHERE relid = 'keyfall.objects'::regclass)
                  FROM pg_stat_user_indexes WHERE relid = 'keyfall.objects'::regclass";
    lab.execute("SELECT pg_stat_force_next_flush()").await;
    let before = lab.count(read).await;
    for _ in 0..10 {
        // All of its own are later than the parent's first.
        assert!(ledger.lease_after(&name("c"), &[name("p")], "test", limits).await.expect("an answer").is_empty());
    }
    // Statistics are handed over at the end of a session.
    drop(ledger);
    crate::support::until("the statistics are there", async || lab.count(read).await > before).await;
    let after = lab.count(read).await;
    assert!(after - before < 2000, "{} index entries for ten looks", after - before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_of_a_parent_that_come_later_in_the_listing_are_loaded_first() {
    let lab = Lab::new().await;
    tables(&lab).await;
    for day in 1..=5 {
        lab.s3.put(BUCKET, &format!("c/2024-01-0{day}.csv"), format!("id,p\n1,{day}\n2,{day}\n"));
        lab.s3.put(BUCKET, &format!("p/2024-01-0{day}.csv"), format!("id\n{day}\n"));
    }
    assert_eq!(lab.once_set(&feeds(""), &["workers.max=4"]).await, 0, "{:#?}", lab.ledger().await);
    assert_eq!(lab.count("SELECT count(*) FROM c").await, 10);
    let failed = "SELECT count(*) FROM keyfall.objects WHERE suspicions > 0 OR error_code IS NOT NULL";
    assert_eq!(lab.count(failed).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_waits_for_its_parent_and_is_rejected_when_it_did_not_come() {
    for budget in ["", "rejects.max_rows = 1"] {
        let lab = Lab::new().await;
        tables(&lab).await;
        lab.migrate().await;
        let patient = feeds(&format!("parent_wait = \"1h\"\n{budget}"));
        lab.s3.put(BUCKET, "c/2024-01-01.csv", "id,p\n1,1\n2,7\n");
        let engine = lab.engine(&patient, &["workers.max_attempts=2"]).await;
        let waits = "SELECT count(*) FROM keyfall.objects WHERE key LIKE 'c/%' AND attempt >= 4 AND suspicions = 0
                        AND error_code = 'E-PG-23503' AND state IN ('pending', 'leased')";
        lab.until_count(waits, 1).await;
        assert_eq!(lab.count("SELECT count(*) FROM c").await, 0);
        lab.execute("INSERT INTO p VALUES (1)").await;
        engine.drain().await;
        // Time passes.
        lab.execute("UPDATE keyfall.objects SET discovered_at = now() - interval '2 h', not_before = '-infinity'")
            .await;
        lab.once(&patient).await;
        let (counts, rows) = (counts(&lab, "c/2024-01-01.csv").await, lab.count("SELECT count(*) FROM c").await);
        if budget.is_empty() {
            assert_eq!((counts.as_str(), rows), ("quarantined E-PG-23503", 0));
        } else {
            assert_eq!((counts.as_str(), rows), ("loaded 2 1 1 0", 1));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parent_that_comes_in_time_lets_all_rows_in() {
    let lab = Lab::new().await;
    tables(&lab).await;
    lab.migrate().await;
    lab.s3.put(BUCKET, "c/2024-01-01.csv", "id,p\n1,1\n2,7\n");
    let engine = lab.engine(&feeds("rejects.max_rows = 1"), &[]).await;
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE error_code = 'E-PG-23503'", 1).await;
    lab.s3.put(BUCKET, "p/2024-01-01.csv", "id\n1\n7\n");
    lab.until_objects("loaded", "none", 2).await;
    assert_eq!(counts(&lab, "c/2024-01-01.csv").await, "loaded 2 2 0 0");
    engine.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_bad_row_does_not_end_the_waiting() {
    let lab = Lab::new().await;
    lab.execute("CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE c (id int CHECK (id > 0), p int REFERENCES p)")
        .await;
    lab.migrate().await;
    lab.s3.put(BUCKET, "c/2024-01-01.csv", "id,p\n-1,1\n2,7\n");
    let engine = lab.engine(&feeds("rejects.max_rows = 5"), &[]).await;
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE error_code = 'E-PG-23503' AND attempt > 1", 1).await;
    lab.s3.put(BUCKET, "p/2024-01-01.csv", "id\n7\n");
    lab.until_objects("loaded", "none", 2).await;
    assert_eq!(counts(&lab, "c/2024-01-01.csv").await, "loaded 2 1 1 0");
    engine.drain().await;
    load(&lab, &feeds(""), &[]).await;
}
