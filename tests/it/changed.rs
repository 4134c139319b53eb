//! Other content under a key that was loaded before: each `on_change`, in groups and streams, late and in a race; and
//! the provenance column that replacing needs.

use keyfall::app;
use keyfall::demo::s3::{Action, FaultRule, Operation};
use keyfall::engine::Engine;
use keyfall::store::ledger::Ledger;

use crate::support::{BUCKET, ITEMS, Lab, item_body, item_key, items, loaded, until};

const REPLACE: &str = "feeds.items.on_change=replace";
const IGNORE: &str = "feeds.items.on_change=ignore";
const QUARANTINE: &str = "feeds.items.on_change=quarantine";

/// Rows of each object and what the ledger says of the one they bear the id of.
const ROWS: &str = "SELECT format('%s:%s %s', i.object, count(*), o.state)
                      FROM items i JOIN keyfall.objects o ON o.id = i._object_id GROUP BY i.object, o.state ORDER BY 1";
/// Versions of the first key, oldest first, each with the one that took its place.
const VERSIONS: &str = "SELECT o.state || coalesce(' ' || o.reason, '') || coalesce(' ' || o.error_code, '')
                               || coalesce(' by ' || (o.superseded_by - (SELECT min(id) FROM keyfall.objects)), '')
                          FROM keyfall.objects o WHERE key = 'items/2024-05-01-00-00-00.csv' ORDER BY id";

impl Lab {
    async fn with_provenance() -> Self {
        let lab = Self::with_items().await;
        lab.execute("ALTER TABLE items ADD COLUMN _object_id bigint; CREATE INDEX ON items (_object_id)").await;
        lab
    }

    /// Puts a version of the first key: rows of object `n`.
    fn put_version(&self, n: usize, rows: usize) {
        self.s3.put(BUCKET, &item_key(0), item_body(n, rows));
    }

    /// What `keyfall retry` does.
    async fn retry(&self, state: &str) -> usize {
        let config = loaded(&self.sources(ITEMS)).config;
        let ledger = Ledger::new(app::pools(&config).expect("pools"));
        let rows = self.sql.query("SELECT id FROM keyfall.objects WHERE state = $1", &[&state]).await.expect("ids");
        let ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        ledger.retry(&ids).await.expect("an answer").len()
    }

    /// The first version is read so slowly that the second one is loaded before it.
    async fn outrun(&self, setting: &str) -> Engine {
        let drip = FaultRule::on(Operation::GetObject, Action::DripPerSecond(10)).key(item_key(0)).times(1);
        let drips = self.s3.inject(drip);
        self.put_version(1, 8);
        let engine = self.engine(ITEMS, &[setting, "workers.max=2"]).await;
        until("the first version trickles", async || drips.hits() == 1).await;
        // Whole in the server's memory: replacing it does not break the answer that is on its way.
        self.put_version(2, 3);
        self.until_count("SELECT count(*) FROM keyfall.objects WHERE state = 'loaded' AND rows_loaded = 3", 1).await;
        self.until_count("SELECT count(*) FROM keyfall.objects WHERE state = 'leased'", 0).await;
        self.until_count("SELECT count(*) FROM keyfall.objects WHERE state = 'pending'", 0).await;
        engine
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_bear_the_id_of_their_object_however_fields_are_mapped_and_encoded() {
    let lab = Lab::with_provenance().await;
    lab.execute(
        "CREATE TABLE headed (_object_id int8 NOT NULL, name text);
         CREATE TABLE texts (spot point, _object_id int8 NOT NULL, name text);
         CREATE TABLE mapped (_object_id int8, name text)",
    )
    .await;
    let feed = |name: &str, more: &str| {
        format!("[feeds.{name}]\nbucket = \"drop\"\nprefix = \"{name}/\"\ntable = \"{name}\"\n{more}\n")
    };
    let feeds = [
        ITEMS.to_owned(),
        feed("headed", ""),
        feed("texts", "csv.header = false\ncolumns = { name = 2, spot = 1 }"),
        // A field that is mapped to the column is a field like any other.
        feed("mapped", "columns = { _object_id = \"number\", name = \"name\" }"),
    ]
    .concat();
    lab.put_items(0..3, 2);
    lab.s3.put(BUCKET, "headed/a", "name\nx\ny\n");
    lab.s3.put(BUCKET, "texts/a", "\"(1,2)\",x\n");
    lab.s3.put(BUCKET, "mapped/a", "name,number\nx,77\n");
    assert_eq!(lab.once(&feeds).await, 0, "{:?}", lab.ledger().await);
    assert_eq!(lab.texts(ROWS).await, ["0:2 loaded", "1:2 loaded", "2:2 loaded"]);
    let of = "SELECT name || ' ' || o.key FROM headed h JOIN keyfall.objects o ON o.id = h._object_id
              UNION ALL SELECT name || ' ' || o.key FROM texts t JOIN keyfall.objects o ON o.id = t._object_id
              UNION ALL SELECT name || ' ' || _object_id FROM mapped";
    assert_eq!(lab.texts(of).await, ["x headed/a", "y headed/a", "x texts/a", "x 77"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provenance_column_of_another_type_halts_the_feed_until_it_is_mended() {
    let lab = Lab::with_items().await;
    lab.execute("ALTER TABLE items ADD COLUMN _object_id int").await;
    lab.put_items(0..2, 3);
    let engine = lab.engine(ITEMS, &[]).await;
    lab.until_count("SELECT count(*) FROM keyfall.feeds WHERE paused_by = 'halt'", 1).await;
    let told = "SELECT paused_reason || '; ' || paused_advice FROM keyfall.feeds";
    let told = lab.texts(told).await.remove(0);
    assert!(told.contains("_object_id") && told.contains("integer") && told.contains("bigint"), "{told}");
    lab.execute("ALTER TABLE items ALTER COLUMN _object_id TYPE bigint").await;
    lab.until_objects("loaded", "none", 2).await;
    engine.drain().await;
    assert_eq!(lab.texts(ROWS).await, ["0:3 loaded", "1:3 loaded"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replacing_shows_the_rows_of_what_lies_in_the_bucket_and_of_nothing_else() {
    let lab = Lab::with_provenance().await;
    // The newer rows could not stand beside the older ones.
    lab.execute("ALTER TABLE items DROP COLUMN object; ALTER TABLE items ADD COLUMN object int; ").await;
    lab.execute("ALTER TABLE items ADD UNIQUE (line)").await;
    let feeds = ITEMS.replace("table = \"items\"", "table = \"items\"\ncolumns = { object = 1, line = 2 }");
    for (n, rows, versions) in [
        (1, 3, vec!["loaded"]),
        (2, 4, vec!["superseded by 1", "loaded"]),
        (3, 0, vec!["superseded by 1", "superseded by 2", "loaded"]),
        (1, 3, vec!["loaded", "superseded by 2", "superseded by 0"]),
    ] {
        lab.put_version(n, rows);
        assert_eq!(lab.once_set(&feeds, &[REPLACE]).await, 0, "{:?}", lab.ledger().await);
        let expected: Vec<String> = (rows > 0).then(|| format!("{n}:{rows} loaded")).into_iter().collect();
        assert_eq!(lab.texts(ROWS).await, expected);
        assert_eq!(lab.texts(VERSIONS).await, versions);
        let counted = "SELECT rows_loaded::bigint FROM keyfall.feed_status";
        assert_eq!(lab.count(counted).await, i64::try_from(rows).expect("few"));
    }
    assert_eq!(lab.count("SELECT count(*) FROM items").await, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replacing_works_in_groups_and_streams_and_leaves_no_disposal_of_the_older_version() {
    let lab = Lab::with_provenance().await;
    let feeds = items(r#"action = "delete""#);
    // All but one are small enough to share a transaction.
    lab.put_items(0..12, 3);
    lab.s3.put(BUCKET, &item_key(12), item_body(12, 40_000));
    assert_eq!(lab.once_set(&feeds, &[REPLACE]).await, 0, "{:?}", lab.ledger().await);
    for n in 0..12 {
        lab.s3.put(BUCKET, &item_key(n), item_body(100 + n, 2));
    }
    lab.s3.put(BUCKET, &item_key(12), item_body(112, 50_000));
    assert_eq!(lab.once_set(&feeds, &[REPLACE]).await, 0, "{:?}", lab.ledger().await);
    let rows = "SELECT format('%s-%s %s', min(object), max(object), count(*)) FROM items";
    assert_eq!(lab.texts(rows).await, ["100-112 50024"]);
    let states = "SELECT state || ' ' || disposal || ' ' || count(*) FROM keyfall.objects GROUP BY state, disposal
                   ORDER BY 1";
    assert_eq!(lab.texts(states).await, ["loaded done 13", "superseded none 13"]);
    assert!(lab.s3.is_empty(BUCKET));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replacing_works_with_partitions_and_generated_columns() {
    let lab = Lab::with_items().await;
    lab.execute(
        "DROP TABLE items;
         CREATE TABLE items (_object_id bigint, object int, line int, double int GENERATED ALWAYS AS (line * 2) STORED)
                PARTITION BY RANGE (object);
         CREATE TABLE low PARTITION OF items FOR VALUES FROM (0) TO (2);
         CREATE TABLE high PARTITION OF items FOR VALUES FROM (2) TO (9);
         CREATE INDEX ON items (_object_id)",
    )
    .await;
    for (n, rows) in [(1, 5), (2, 4)] {
        lab.put_version(n, rows);
        assert_eq!(lab.once_set(ITEMS, &[REPLACE]).await, 0, "{:?}", lab.ledger().await);
    }
    assert_eq!(
        lab.texts("SELECT tableoid::regclass || ' ' || count(*) FROM items GROUP BY tableoid").await,
        ["high 4"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replacing_halts_without_the_column_and_goes_on_with_it() {
    let lab = Lab::with_items().await;
    lab.put_version(1, 3);
    let engine = lab.engine(ITEMS, &[REPLACE]).await;
    lab.until_count("SELECT count(*) FROM keyfall.feeds WHERE paused_by = 'halt'", 1).await;
    let told = lab.texts("SELECT paused_reason || '; ' || paused_advice FROM keyfall.feeds").await.remove(0);
    assert!(told.contains("needs a column _object_id") && told.contains("ADD COLUMN"), "{told}");
    assert_eq!(lab.requests(Operation::GetObject, &item_key(0)).len(), 0, "read in vain");
    lab.execute("ALTER TABLE items ADD COLUMN _object_id bigint").await;
    lab.until_objects("loaded", "none", 1).await;
    engine.drain().await;
    assert_eq!(lab.texts(ROWS).await, ["1:3 loaded"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_cannot_be_found_again_are_not_joined_by_newer_ones_unseen() {
    let lab = Lab::with_items().await;
    lab.put_version(1, 3);
    assert_eq!(lab.once(ITEMS).await, 0);
    lab.execute("ALTER TABLE items ADD COLUMN _object_id bigint").await;
    lab.put_version(2, 4);
    assert_eq!(lab.once_set(ITEMS, &[REPLACE]).await, 3);
    let entry = lab.entry(&item_key(0)).await;
    assert_eq!((entry.state.as_str(), entry.code.as_str()), ("quarantined", "E-REPLACE-ROWS"), "{entry:?}");
    assert!(entry.detail.contains("has 0 rows") && entry.detail.contains("knows of 3"), "{entry:?}");
    assert_eq!(lab.count("SELECT count(*) FROM items WHERE object = 1").await, 3, "nothing was changed");
    // Somebody has looked: what is left of the older rows is his to decide.
    lab.execute("DELETE FROM items").await;
    assert_eq!(lab.retry("quarantined").await, 1);
    assert_eq!(lab.once_set(ITEMS, &[REPLACE]).await, 0, "{:?}", lab.ledger().await);
    assert_eq!(lab.texts(ROWS).await, ["2:4 loaded"]);
    assert_eq!(lab.texts(VERSIONS).await, ["superseded by 1", "loaded"]);
}

/// S3 tells times in whole seconds: what came last is asked of the store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replacing_within_one_second_of_s3_ends_with_what_lies_there() {
    let lab = Lab::with_provenance().await;
    let now = jiff::Timestamp::now();
    for n in [1, 2, 1] {
        lab.s3.put_at(BUCKET, &item_key(0), item_body(n, 3), now);
        assert_eq!(lab.once_set(ITEMS, &[REPLACE]).await, 0, "{:?}", lab.ledger().await);
        assert_eq!(lab.texts(ROWS).await, [format!("{n}:3 loaded")]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_version_that_comes_too_late_does_not_replace_the_newer_one() {
    let lab = Lab::with_provenance().await;
    let engine = lab.outrun(REPLACE).await;
    engine.drain().await;
    assert_eq!(lab.texts(ROWS).await, ["2:3 loaded"]);
    assert_eq!(lab.texts(VERSIONS).await, ["superseded E-S3-CHANGED", "loaded"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changed_is_ignored_at_discovery_without_being_read() {
    let lab = Lab::with_provenance().await;
    lab.put_version(1, 3);
    assert_eq!(lab.once_set(ITEMS, &[IGNORE]).await, 0);
    lab.put_version(2, 4);
    assert_eq!(lab.once_set(ITEMS, &[IGNORE]).await, 0);
    assert_eq!(lab.texts(VERSIONS).await, ["loaded", "skipped changed E-CHANGED"]);
    assert_eq!(lab.requests(Operation::GetObject, &item_key(0)), [200]);
    let entry = lab.entry(&item_key(0)).await;
    let first = lab
        .texts(
            "SELECT format('object %s (version %s) was loaded from this key before', id, version)
                             FROM keyfall.objects WHERE state = 'loaded'",
        )
        .await;
    assert_eq!(entry.detail, first[0]);
    // What came first is back: it is loaded already.
    lab.put_version(1, 3);
    assert_eq!(lab.once_set(ITEMS, &[IGNORE]).await, 0);
    assert_eq!(lab.texts(ROWS).await, ["1:3 loaded"]);
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects").await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_set_aside_for_being_changed_is_loaded_once_an_operator_says_so() {
    for (setting, state, code) in [(IGNORE, "skipped", 0), (QUARANTINE, "quarantined", 3)] {
        let lab = Lab::with_provenance().await;
        lab.put_version(1, 3);
        assert_eq!(lab.once_set(ITEMS, &[setting]).await, 0);
        lab.put_version(2, 4);
        assert_eq!(lab.once_set(ITEMS, &[setting]).await, code);
        assert_eq!(lab.entry(&item_key(0)).await.state, state);
        assert_eq!(lab.entry(&item_key(0)).await.code, "E-CHANGED");
        assert_eq!(lab.retry(state).await, 1);
        assert_eq!(lab.once_set(ITEMS, &[setting]).await, 0, "{:?}", lab.ledger().await);
        assert_eq!(lab.texts(ROWS).await, ["1:3 loaded", "2:4 loaded"]);
        assert_eq!(lab.texts(VERSIONS).await, ["loaded", "loaded"]);
        // It was for that version and that time.
        assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects WHERE approved").await, 0);
        lab.put_version(3, 5);
        assert_eq!(lab.once_set(ITEMS, &[setting]).await, code);
        assert_eq!(lab.entry(&item_key(0)).await.state, state);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_versions_read_side_by_side_only_one_is_loaded_where_the_feed_wants_one() {
    for (setting, last) in [(IGNORE, "skipped changed E-CHANGED"), (QUARANTINE, "quarantined E-CHANGED")] {
        let lab = Lab::with_provenance().await;
        let engine = lab.outrun(setting).await;
        engine.drain().await;
        assert_eq!(lab.texts(ROWS).await, ["2:3 loaded"]);
        assert_eq!(lab.texts(VERSIONS).await, [last, "loaded"], "{setting}");
    }
}

/// A version that was discovered before the feed was told to ignore changes, and one that comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_that_discovery_let_through_are_ignored_when_they_are_loaded() {
    let lab = Lab::with_provenance().await;
    lab.put_version(1, 3);
    assert_eq!(lab.once_set(ITEMS, &[IGNORE]).await, 0);
    lab.put_version(2, 4);
    assert_eq!(lab.once_set(ITEMS, &[IGNORE]).await, 0);
    lab.execute("UPDATE keyfall.objects SET state = 'superseded', reason = NULL WHERE state = 'skipped'").await;
    // Listed again, it is revived, and only the load finds out.
    assert_eq!(lab.once_set(ITEMS, &[IGNORE]).await, 0);
    assert_eq!(lab.requests(Operation::GetObject, &item_key(0)), [200, 200]);
    assert_eq!(lab.texts(VERSIONS).await, ["loaded", "skipped changed E-CHANGED"]);
    assert_eq!(lab.texts(ROWS).await, ["1:3 loaded"]);
}
