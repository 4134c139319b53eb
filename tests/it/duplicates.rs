//! The same bytes under another key: each `duplicate_content`, in groups and streams, side by side, and where the table
//! itself refuses them.

use keyfall::app;
use keyfall::demo::s3::{Action, FaultRule, Gate, Operation};
use keyfall::store::ledger::Ledger;

use crate::support::{BUCKET, ITEMS, Lab, item_body, item_key, items, loaded, until};

const WARN: &str = "feeds.items.duplicate_content=warn";
const SKIP: &str = "feeds.items.duplicate_content=skip";
const QUARANTINE: &str = "feeds.items.duplicate_content=quarantine";
const LOAD: &str = "feeds.items.duplicate_content=load";

/// Each object with what it repeats, by their numbers.
const OBJECTS: &str = "SELECT substr(o.key, 24, 2) || ' ' || o.state || coalesce(' ' || o.reason, '')
                              || coalesce(' ' || o.error_code, '') || coalesce(' of ' || substr(d.key, 24, 2), '')
                         FROM keyfall.objects o LEFT JOIN keyfall.objects d ON d.id = o.duplicate_of ORDER BY o.key";
const ROWS: &str = "SELECT object || ':' || count(*) FROM items GROUP BY object ORDER BY object";
/// Too large to share a transaction.
const STREAMED: usize = 20_000;

impl Lab {
    /// Puts the rows of object `n` under the key of object `at`.
    fn put_at_key(&self, at: usize, n: usize, rows: usize) {
        self.s3.put(BUCKET, &item_key(at), item_body(n, rows));
    }

    async fn approve_all(&self) -> usize {
        let config = loaded(&self.sources(ITEMS)).config;
        let ledger = Ledger::new(app::pools(&config).expect("pools"));
        let sql = "SELECT id FROM keyfall.objects WHERE state IN ('skipped', 'quarantined')";
        let ids: Vec<i64> = self.sql.query(sql, &[]).await.expect(sql).iter().map(|row| row.get(0)).collect();
        ledger.retry(&ids).await.expect("an answer").len()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn duplicates_are_loaded_and_noted_unless_the_feed_says_otherwise() {
    for rows in [3, STREAMED] {
        let lab = Lab::with_items().await;
        lab.put_at_key(1, 1, rows);
        assert_eq!(lab.once_set(ITEMS, &[WARN]).await, 0);
        // One of what is loaded already, and two of each other in one group.
        for (at, n) in [(2, 1), (3, 9), (4, 9), (5, 5)] {
            lab.put_at_key(at, n, rows);
        }
        assert_eq!(lab.once_set(ITEMS, &[WARN, "workers.max=1"]).await, 0, "{:?}", lab.ledger().await);
        let noted = ["01 loaded", "02 loaded of 01", "03 loaded", "04 loaded of 03", "05 loaded"];
        assert_eq!(lab.texts(OBJECTS).await, noted);
        let expected = [(1, 2), (5, 1), (9, 2)].map(|(n, times)| format!("{n}:{}", times * rows));
        assert_eq!(lab.texts(ROWS).await, expected);
        lab.put_at_key(6, 1, rows);
        assert_eq!(lab.once_set(ITEMS, &[LOAD]).await, 0);
        assert_eq!(lab.texts(OBJECTS).await.last().map(String::as_str), Some("06 loaded"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn duplicates_are_kept_out_where_the_feed_says_so_and_let_in_by_an_operator() {
    for (setting, said, code) in
        [(SKIP, "skipped duplicate E-DUPLICATE", 0), (QUARANTINE, "quarantined E-DUPLICATE", 3)]
    {
        for rows in [3, STREAMED] {
            let lab = Lab::with_items().await;
            lab.put_at_key(1, 1, rows);
            assert_eq!(lab.once_set(ITEMS, &[setting]).await, 0);
            for (at, n) in [(2, 1), (3, 9), (4, 9), (5, 5)] {
                lab.put_at_key(at, n, rows);
            }
            assert_eq!(lab.once_set(ITEMS, &[setting, "workers.max=1"]).await, code, "{:?}", lab.ledger().await);
            let (second, fourth) = (format!("02 {said} of 01"), format!("04 {said} of 03"));
            assert_eq!(lab.texts(OBJECTS).await, ["01 loaded", &second, "03 loaded", &fourth, "05 loaded"]);
            assert_eq!(lab.texts(ROWS).await, [1, 5, 9].map(|n| format!("{n}:{rows}")));
            let entry = lab.entry(&item_key(2)).await;
            assert!(entry.detail.contains(&format!("s3://drop/{}", item_key(1))), "{entry:?}");
            assert_eq!(lab.s3.len(BUCKET), 5, "what is kept out stays where it is");
            assert_eq!(lab.approve_all().await, 2);
            assert_eq!(lab.once_set(ITEMS, &[setting]).await, 0, "{:?}", lab.ledger().await);
            let noted = ["01 loaded", "02 loaded of 01", "03 loaded", "04 loaded of 03", "05 loaded"];
            assert_eq!(lab.texts(OBJECTS).await, noted);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_without_rows_and_versions_of_one_key_are_no_duplicates() {
    let lab = Lab::with_items().await;
    for at in 1..4 {
        lab.s3.put(BUCKET, &item_key(at), "");
    }
    lab.put_at_key(4, 4, 2);
    assert_eq!(lab.once_set(ITEMS, &[SKIP]).await, 0);
    // Other content, and then the same again: the version is known.
    lab.put_at_key(4, 5, 2);
    assert_eq!(lab.once_set(ITEMS, &[SKIP]).await, 0);
    lab.put_at_key(4, 4, 2);
    assert_eq!(lab.once_set(ITEMS, &[SKIP]).await, 0);
    assert_eq!(lab.texts(OBJECTS).await, ["01 loaded", "02 loaded", "03 loaded", "04 loaded", "04 loaded"]);
    assert_eq!(lab.texts(ROWS).await, ["4:2", "5:2"]);
}

/// Both are read, decoded and in COPY before either is committed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_duplicates_loaded_side_by_side_one_is_loaded() {
    for rows in [3, STREAMED] {
        let lab = Lab::with_items().await;
        let gate = Gate::new();
        let held = lab.s3.inject(FaultRule::on(Operation::GetObject, Action::Hold(gate.clone())).times(2));
        let (one, other) = tokio::join!(
            lab.engine(ITEMS, &[SKIP, "workers.group_objects=1", "instance=one"]),
            lab.engine(ITEMS, &[SKIP, "workers.group_objects=1", "instance=other"])
        );
        lab.put_at_key(1, 1, rows);
        lab.put_at_key(2, 1, rows);
        until("both are being read", async || held.hits() == 2).await;
        gate.open();
        lab.until_count("SELECT count(*) FROM keyfall.objects WHERE state = 'skipped'", 1).await;
        lab.until_objects("loaded", "none", 1).await;
        tokio::join!(one.drain(), other.drain());
        assert_eq!(lab.texts(ROWS).await, [format!("1:{rows}")]);
    }
}

/// A unique key refuses the rows in the middle of COPY: the object is a duplicate all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_duplicate_that_the_table_refuses_is_called_a_duplicate() {
    for rows in [3, STREAMED] {
        let lab = Lab::with_items().await;
        lab.execute("ALTER TABLE items ADD PRIMARY KEY (object, line)").await;
        for at in [1, 2] {
            lab.put_at_key(at, 1, rows);
            assert_eq!(lab.once_set(ITEMS, &[SKIP]).await, 0, "{:?}", lab.ledger().await);
        }
        assert_eq!(lab.texts(OBJECTS).await, ["01 loaded", "02 skipped duplicate E-DUPLICATE of 01"]);
        // The same line in another object is no duplicate.
        lab.put_at_key(3, 1, 1);
        assert_eq!(lab.once_set(ITEMS, &[SKIP]).await, 3);
        assert_eq!(lab.entry(&item_key(3)).await.code, "E-PG-23505");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_duplicate_of_an_object_that_is_gone_from_the_bucket_is_recognised() {
    let lab = Lab::with_items().await;
    let feeds = items(r#"action = "delete""#);
    lab.put_at_key(1, 1, 3);
    assert_eq!(lab.once_set(&feeds, &[SKIP]).await, 0);
    assert!(lab.s3.is_empty(BUCKET));
    lab.put_at_key(2, 1, 3);
    assert_eq!(lab.once_set(&feeds, &[SKIP]).await, 0);
    assert_eq!(lab.texts(OBJECTS).await, ["01 loaded", "02 skipped duplicate E-DUPLICATE of 01"]);
    assert_eq!(lab.s3.keys(BUCKET), [item_key(2)]);
}
