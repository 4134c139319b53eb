//! A ledger that an older release filled is brought up to date without losing or repeating anything.

use crate::support::{Lab, items};

/// Every migration that a release has shipped, in order.
const SHIPPED: [&str; 2] = [
    include_str!("../../src/store/migrations/V1__ledger.sql"),
    include_str!("../../src/store/migrations/V2__discovery.sql"),
];

/// One object per state an older release may have left behind, as it wrote them.
const LEFT_BEHIND: &str = "
    INSERT INTO keyfall.objects (feed, bucket, key, version, etag, size, series, key_time, visible_at, discovered_by,
                                 state, reason, loaded_at, rows_read, rows_loaded, rows_rejected, rows_filtered)
    SELECT 'items', 'drop', 'items/2023-01-01-00-00-0' || n || '.csv', 'e' || n || '-1', 'e' || n, 1, '',
           now() - interval '1 y', now() - interval '1 y', 'sweep', state,
           CASE WHEN state = 'skipped' THEN 'pattern' END,
           CASE WHEN state = 'loaded' THEN now() END,
           CASE WHEN state = 'loaded' THEN 3 END, CASE WHEN state = 'loaded' THEN 3 END,
           CASE WHEN state = 'loaded' THEN 0 END, CASE WHEN state = 'loaded' THEN 0 END
      FROM unnest(ARRAY['loaded', 'quarantined', 'skipped', 'missing', 'superseded', 'undone'])
           WITH ORDINALITY AS s (state, n)";

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_of_any_older_version_keeps_every_row_and_goes_on() {
    for version in 1..=SHIPPED.len() {
        keeps_every_row(version).await;
    }
}

async fn keeps_every_row(version: usize) {
    // What refinery notes of a migration is taken from a ledger that is up to date.
    let donor = Lab::with_items().await;
    let lab = Lab::new().await;
    lab.execute("CREATE TABLE items (object int NOT NULL, line int NOT NULL)").await;
    lab.execute("CREATE SCHEMA keyfall").await;
    lab.execute(
        "CREATE TABLE keyfall.schema_history
            (version int4 PRIMARY KEY, name varchar(255), applied_on varchar(255), checksum varchar(255))",
    )
    .await;
    for (number, migration) in (1..).zip(SHIPPED).take(version) {
        lab.execute(migration).await;
        let noted = "SELECT name, applied_on, checksum FROM keyfall.schema_history WHERE version = $1";
        let noted = donor.sql.query_one(noted, &[&number]).await.expect("the version was applied");
        let (name, applied_on, checksum): (String, String, String) = (noted.get(0), noted.get(1), noted.get(2));
        let note = "INSERT INTO keyfall.schema_history VALUES ($1, $2, $3, $4)";
        lab.sql.execute(note, &[&number, &name, &applied_on, &checksum]).await.expect("a history");
    }
    lab.execute(LEFT_BEHIND).await;
    let states = "SELECT state || ':' || key FROM keyfall.objects WHERE key LIKE '%/2023-%' ORDER BY key";
    let before = lab.texts(states).await;
    assert_eq!(before.len(), 6);

    lab.put_items(0..3, 2);
    assert_eq!(lab.once(&items("action = \"keep\"")).await, 3, "one is in quarantine");
    assert_eq!(lab.texts(states).await, before, "what was known is as it was");
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects WHERE state = 'loaded'").await, 4);
    assert_eq!(lab.count("SELECT count(*) FROM items").await, 6, "the three new objects, once");
    let newest = lab.count("SELECT max(version)::bigint FROM keyfall.schema_history").await;
    assert_eq!(newest, donor.count("SELECT max(version)::bigint FROM keyfall.schema_history").await);
}
