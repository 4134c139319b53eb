//! Signals, reloads, outages: the process drains, takes up, waits and recovers by itself.

use keyfall::demo::postgres::ThrowawayPostgres;
use keyfall::demo::s3::{Action, FaultRule, Gate, Operation};

use crate::support::{BUCKET, ITEMS, Lab, connect, count_at, item_body, item_key, until, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_sigterm_a_running_load_finishes_and_nothing_new_begins() {
    let lab = Lab::with_items().await;
    lab.put_items(0..2, 3);
    let gate = Gate::new();
    lab.s3.inject(FaultRule::on(Operation::GetObject, Action::Hold(gate.clone())).times(1));
    let settings = ["workers.max=1", "workers.group_objects=1", "lifecycle.grace=30s"];
    let mut daemon = lab.daemon(ITEMS, &settings);
    within("the first object is being read", gate.reached()).await;
    daemon.signal("TERM");
    daemon.says("stopping").await;
    gate.open();
    assert_eq!(daemon.ended().await, 0, "{}", daemon.log());
    let states = [format!("{} loaded none", item_key(0)), format!("{} pending none", item_key(1))];
    assert_eq!(lab.ledger().await, states);
    lab.assert_items(1, 3).await;
    assert!(lab.requests(Operation::GetObject, &item_key(1)).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_that_cannot_finish_within_the_grace_period_is_rolled_back_and_given_back() {
    let lab = Lab::with_items().await;
    lab.put_items(0..1, 90_000);
    lab.s3.inject(FaultRule::on(Operation::GetObject, Action::StallAfter(600_000)));
    let mut daemon = lab.daemon(ITEMS, &["lifecycle.grace=1s"]);
    let copying = "SELECT count(*) FROM pg_stat_progress_copy WHERE relid = 'items'::regclass AND tuples_processed > 0";
    lab.until_count(copying, 1).await;
    daemon.signal("TERM");
    let begun = std::time::Instant::now();
    assert_eq!(daemon.ended().await, 0, "{}", daemon.log());
    assert!(begun.elapsed().as_secs() < 6, "{:?}", begun.elapsed());
    assert_eq!(lab.ledger().await, [format!("{} pending none", item_key(0))]);
    assert_eq!(lab.count("SELECT attempt::bigint FROM keyfall.objects").await, 0, "shutting down is no attempt");
    assert_eq!(lab.count("SELECT count(*) FROM items").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_sigterm_ends_the_process_at_once() {
    let lab = Lab::with_items().await;
    lab.put_items(0..1, 3);
    let gate = Gate::new();
    lab.s3.inject(FaultRule::on(Operation::GetObject, Action::Hold(gate.clone())));
    let mut daemon = lab.daemon(ITEMS, &["lifecycle.grace=60s"]);
    within("the object is being read", gate.reached()).await;
    daemon.signal("TERM");
    daemon.says("stopping").await;
    daemon.signal("TERM");
    let begun = std::time::Instant::now();
    assert_eq!(daemon.ended().await, 143, "{}", daemon.log());
    assert!(begun.elapsed().as_secs() < 3, "{:?}", begun.elapsed());
    assert_eq!(lab.count("SELECT count(*) FROM items").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sighup_takes_up_a_new_feed_and_a_broken_file_changes_nothing() {
    let lab = Lab::with_items().await;
    lab.put_items(0..1, 3);
    let file = lab.file(ITEMS);
    let mut daemon = lab.daemon_on(&file, &[]);
    lab.until_objects("loaded", "none", 1).await;

    let other = ITEMS.replace("feeds.items", "feeds.other").replace("items/", "other/");
    lab.file(&format!("{ITEMS}\n{other}"));
    lab.s3.put(BUCKET, "other/2024-05-01-00-00-00.csv", item_body(1, 3));
    daemon.signal("HUP");
    daemon.says("configuration reloaded").await;
    lab.until_objects("loaded", "none", 2).await;

    lab.file("[feeds.items]\nbukket = \"drop\"");
    daemon.signal("HUP");
    daemon.says("not reloaded").await;
    lab.put_items(2..3, 3);
    lab.until_objects("loaded", "none", 3).await;
    lab.s3.put(BUCKET, "other/2024-05-01-00-00-03.csv", item_body(3, 3));
    lab.until_objects("loaded", "none", 4).await;
    daemon.signal("TERM");
    assert_eq!(daemon.ended().await, 0, "{}", daemon.log());
    lab.assert_items(4, 3).await;
}

/// A server of the test's own, with the table of the feed, that it may stop and start.
async fn own_server() -> (ThrowawayPostgres, String) {
    let server = ThrowawayPostgres::start(&[]).expect("a server");
    let database = server.create_database(None).await.expect("a database");
    let url = server.url(&database);
    let table = "CREATE TABLE items (object int NOT NULL, line int NOT NULL)";
    connect(&url).await.batch_execute(table).await.expect("a table");
    (server, url)
}

const EXACT: &str = "SELECT count(*) FROM (SELECT FROM items GROUP BY object, line HAVING count(*) = 1) x";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_postgres_down_at_start_the_daemon_waits_and_then_loads() {
    let lab = Lab::new().await;
    lab.put_items(0..2, 3);
    let (mut server, url) = own_server().await;
    server.stop_immediate().expect("the server stops");
    let mut daemon = lab.daemon_on(&lab.file_for(&url, ITEMS), &[]);
    daemon.says("waiting for PostgreSQL").await;
    server.start_again().expect("the server starts");
    until("everything is loaded", async || count_at(&url, EXACT).await == Some(6)).await;
    daemon.signal("TERM");
    assert_eq!(daemon.ended().await, 0, "{}", daemon.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_crashes_in_the_middle_costs_no_row_and_doubles_none() {
    const OBJECTS: i64 = 300;
    let lab = Lab::new().await;
    lab.put_items(0..300, 3);
    let (mut server, url) = own_server().await;
    let feeds = format!("{ITEMS}\n[feeds.items.disposal]\naction = \"delete\"\n");
    let settings = ["workers.group_objects=2", "workers.lease=5s", "database.statement_timeout=2s"];
    let mut daemon = lab.daemon_on(&lab.file_for(&url, &feeds), &settings);
    for loaded in [20, 120] {
        let sql = "SELECT count(*) FROM keyfall.objects WHERE state = 'loaded'";
        until("some are loaded", async || count_at(&url, sql).await.is_some_and(|count| count >= loaded)).await;
        server.stop_immediate().expect("the server stops");
        server.start_again().expect("the server starts");
    }
    let disposable = "UPDATE keyfall.objects SET disposal_not_before = now() WHERE disposal = 'pending'";
    let open = "SELECT count(*) FROM keyfall.objects WHERE state = 'loaded'";
    until("all are loaded", async || count_at(&url, open).await == Some(OBJECTS)).await;
    // What was being written down when the server went comes back after minutes; they pass.
    connect(&url).await.batch_execute(disposable).await.expect("time passes");
    until("all are deleted", async || lab.s3.is_empty(BUCKET)).await;
    daemon.signal("TERM");
    assert_eq!(daemon.ended().await, 0, "{}", daemon.log());
    assert_eq!(count_at(&url, EXACT).await, Some(OBJECTS * 3));
    assert_eq!(count_at(&url, "SELECT count(*) FROM items").await, Some(OBJECTS * 3));
    assert_eq!(count_at(&url, "SELECT count(*) FROM keyfall.objects WHERE state <> 'loaded'").await, Some(0));
}

const PAUSED: &str = "SELECT count(*) FROM keyfall.feeds WHERE feed = 'items' AND paused_by = 'halt' AND halts > 1";

/// Nobody's content was at fault, and nobody had to say that it goes on.
async fn assert_unblamed(lab: &Lab) {
    let blamed = "SELECT count(*) FROM keyfall.objects WHERE suspicions > 0 OR state <> 'loaded'";
    assert_eq!(lab.count(blamed).await, 0, "{:?}", lab.ledger().await);
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.feeds WHERE paused_by IS NOT NULL").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feed_that_may_not_read_is_paused_with_advice_and_goes_on_by_itself() {
    let lab = Lab::with_items().await;
    lab.put_items(0..5, 3);
    lab.s3.put(BUCKET, "other/2024-05-01-00-00-00.csv", item_body(100, 3));
    let denied = lab.s3.inject(FaultRule::on(Operation::GetObject, Action::Denied).key_containing("items/"));
    let other = ITEMS.replace("feeds.items", "feeds.other").replace("items/", "other/");
    let engine = lab.engine(&format!("{ITEMS}\n{other}"), &["workers.max_attempts=2"]).await;
    lab.until_count(PAUSED, 1).await;
    lab.until_objects("loaded", "none", 1).await;
    let advice =
        lab.texts("SELECT paused_reason || '; ' || paused_advice FROM keyfall.feeds WHERE feed = 'items'").await;
    assert!(advice.join("").contains("s3:GetObject") && advice.join("").contains("grant"), "{advice:?}");
    assert!(denied.hits() > 0);
    lab.s3.heal();
    lab.until_objects("loaded", "none", 6).await;
    engine.drain().await;
    assert_unblamed(&lab).await;
    lab.assert_items(6, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_may_not_insert_pauses_the_feed_until_it_may() {
    let lab = Lab::with_items().await;
    let role = format!("role_{}", lab.database);
    lab.execute(&format!(
        "CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA keyfall TO {role};
         GRANT ALL ON ALL TABLES IN SCHEMA keyfall TO {role}; GRANT SELECT ON items TO {role}"
    ))
    .await;
    lab.put_items(0..5, 3);
    let url = lab.postgres.url(&lab.database).replace("postgres@", &format!("{role}@"));
    let engine = lab.engine_at(&url, ITEMS, &["workers.max_attempts=2"]).await;
    lab.until_count(PAUSED, 1).await;
    let advice =
        lab.texts("SELECT paused_reason || '; ' || paused_advice FROM keyfall.feeds WHERE feed = 'items'").await;
    assert!(advice.join("").contains("INSERT"), "{advice:?}");
    lab.execute(&format!("GRANT INSERT ON items TO {role}")).await;
    lab.until_objects("loaded", "none", 5).await;
    engine.drain().await;
    assert_unblamed(&lab).await;
    lab.assert_items(5, 3).await;
    lab.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}
