//! The outcome of a COMMIT is what the ledger says, whatever the connection or the driver says.

use keyfall::config::Sources;
use keyfall::demo::proxy::{Action, Trigger};
use keyfall::demo::s3::Operation;
use keyfall::domain::lease::Lease;
use keyfall::store::catalog::Catalog;
use keyfall::store::copy::{CopyFormat, CopyTarget, Load, LoadedCounts};
use keyfall::store::ledger::{LeaseLimits, Ledger};
use keyfall::store::pool::Pools;
use keyfall::{app, config};

use crate::support::{ITEMS, Lab, connect, item_key, items, loaded, within};

/// `COMMIT` as the simple query protocol sends it: length, text, zero.
const COMMIT: &[u8] = b"\x0bCOMMIT\0";

/// A connection broken at COMMIT in some way; answers how often each object was read.
async fn broken_commit(action: Action, objects: usize) -> Vec<usize> {
    let lab = Lab::with_items().await;
    lab.put_items(0..objects, 3);
    let proxy = lab.proxy().await;
    let trigger = proxy.arm(Trigger::new(COMMIT, action));
    // Deadlines short enough for a test: an answer that never comes is given up after their sum.
    let short = ["database.copy_stall_timeout=1s", "database.statement_timeout=1s"];
    let engine = lab.engine_through(&proxy, &items(r#"action = "delete""#), &short).await;
    within("the trigger strikes", trigger.hit()).await;
    let count = i64::try_from(objects).expect("a count");
    lab.until_objects("loaded", "done", count).await;
    engine.drain().await;
    assert_eq!(trigger.hits(), 1);
    lab.assert_items(count, 3).await;
    assert!(lab.s3.is_empty("drop"), "{:?}", lab.s3.keys("drop"));
    (0..objects).map(|n| lab.requests(Operation::GetObject, &item_key(n)).len()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_never_reached_the_server_is_done_again() {
    assert_eq!(broken_commit(Action::CutBefore, 1).await, [2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_reached_the_server_is_not_done_again_though_the_connection_broke() {
    assert_eq!(broken_commit(Action::CutAfter, 1).await, [1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_never_came_is_looked_up_and_not_done_again() {
    assert_eq!(broken_commit(Action::DropAnswers, 1).await, [1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_cut_before_its_commit_is_loaded_again_whole() {
    assert_eq!(broken_commit(Action::CutBefore, 5).await, [2; 5]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_cut_after_its_commit_is_loaded_whole_and_read_once() {
    assert_eq!(broken_commit(Action::CutAfter, 5).await, [1; 5]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_constraint_that_fails_at_commit_leaves_nothing_loaded_and_nothing_deleted() {
    let lab = Lab::with_items().await;
    lab.execute(
        "CREATE TABLE parents (id int PRIMARY KEY);
         ALTER TABLE items ADD FOREIGN KEY (object) REFERENCES parents DEFERRABLE INITIALLY DEFERRED;
         INSERT INTO parents VALUES (1)",
    )
    .await;
    lab.put_items(0..2, 3);
    let engine = lab.engine(&items(r#"action = "delete""#), &["workers.max_attempts=2"]).await;
    lab.until_objects("quarantined", "none", 1).await;
    lab.until_objects("loaded", "done", 1).await;
    engine.drain().await;
    let expected = [format!("{} quarantined none E-PG-23503", item_key(0)), format!("{} loaded done", item_key(1))];
    assert_eq!(lab.ledger().await, expected);
    lab.assert_items(1, 3).await;
    assert_eq!(lab.s3.keys("drop"), [item_key(0)]);
}

/// The server's way of saying yes and doing nothing, made with a deferred trigger: COMMIT is answered with success, and
/// afterwards neither the rows nor the ledger's entry are there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_answered_ok_that_did_nothing_is_not_believed() {
    let lab = Lab::with_items().await;
    lab.execute(
        "CREATE TABLE undone (id bigint);
         CREATE FUNCTION undo() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             IF NEW.state = 'loaded' AND OLD.state = 'leased' AND (SELECT count(*) FROM public.undone) < 2 THEN
                 INSERT INTO public.undone VALUES (NEW.id);
                 DELETE FROM public.items;
                 UPDATE keyfall.objects SET state = 'leased', lease_expires_at = OLD.lease_expires_at,
                        disposal = 'none', loaded_at = NULL WHERE id = NEW.id;
             END IF;
             RETURN NULL;
         END $$;
         CREATE CONSTRAINT TRIGGER undo AFTER UPDATE ON keyfall.objects DEFERRABLE INITIALLY DEFERRED
                FOR EACH ROW EXECUTE FUNCTION undo()",
    )
    .await;
    lab.put_items(0..1, 3);
    let engine = lab.engine(&items(r#"action = "delete""#), &[]).await;
    lab.until_objects("loaded", "done", 1).await;
    engine.drain().await;
    assert_eq!(lab.count("SELECT count(*) FROM undone").await, 2);
    assert_eq!(lab.count("SELECT suspicions::bigint FROM keyfall.objects").await, 2);
    lab.assert_items(1, 3).await;
    let log = lab.s3.log();
    let last_read = log.iter().rposition(|entry| entry.op == Operation::GetObject);
    let first_delete = log.iter().position(|entry| entry.op == Operation::DeleteObjects);
    assert_eq!(lab.requests(Operation::GetObject, &item_key(0)).len(), 3);
    assert!(last_read < first_delete, "deleted before it was loaded: {log:?}");
}

/// One leased object and everything a [`Load`] needs, without an engine.
struct Bench {
    lab: Lab,
    pools: Pools,
    ledger: Ledger,
    config: config::Config,
}

impl Bench {
    async fn new() -> Self {
        let lab = Lab::with_items().await;
        lab.put_items(0..1, 3);
        let config = loaded(&Sources { ..lab.sources(ITEMS) }).config;
        let pools = app::pools(&config).expect("pools");
        let ledger = Ledger::new(pools.clone());
        lab.execute(&format!(
            "INSERT INTO keyfall.objects (feed, bucket, key, version, etag, size, visible_at, discovered_by, state)
             VALUES ('items', 'drop', '{}', 'v', 'v', 12, now(), 'sweep', 'pending')",
            item_key(0)
        ))
        .await;
        Self { lab, pools, ledger, config }
    }

    async fn lease(&self, owner: &str) -> Lease {
        let limits = LeaseLimits {
            group_objects: 1,
            group_bytes: 0,
            budget: u64::MAX,
            lease: std::time::Duration::from_mins(1),
        };
        let feed = self.config.feeds.keys().next().expect("a feed");
        self.ledger.lease(feed, owner, limits).await.expect("a lease").pop().expect("a lease")
    }

    /// A load with one row copied; `finished` says whether COPY was ended in order.
    async fn copied(&self, lease: &Lease, ending: Ending) -> Load {
        let feed = self.config.feeds.values().next().expect("a feed");
        let shape = Catalog::default().shape(&self.pools, &feed.table).await.expect("a shape");
        let mut load = Load::begin(&self.pools, &shape, &[lease]).await.expect("a transaction");
        let columns = vec!["object".to_owned(), "line".to_owned()];
        let mut rows = load.copy(&shape, &CopyTarget { columns, format: CopyFormat::Text }).await.expect("a copy");
        rows.send("0\t0\n".into()).await.expect("a row is sent");
        match ending {
            Ending::InOrder => assert_eq!(rows.finish().await.expect("the copy ends"), 1),
            Ending::Dropped => drop(rows),
        }
        load
    }

    async fn assert_nothing_loaded(&self, lease: &Lease) {
        assert!(self.ledger.loaded_among(&[(lease.object.id, lease.token)]).await.expect("a read-back").is_empty());
        assert_eq!(self.lab.count("SELECT count(*) FROM items").await, 0);
    }
}

enum Ending {
    InOrder,
    Dropped,
}

fn counts(lease: &Lease) -> [LoadedCounts; 1] {
    [LoadedCounts { id: lease.object.id, token: lease.token, rows: 1, bytes: 12, sha256: vec![0; 32] }]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_in_order_is_loaded_by_the_read_back() {
    let bench = Bench::new().await;
    let lease = bench.lease("a").await;
    let load = bench.copied(&lease, Ending::InOrder).await;
    load.commit(&counts(&lease), "none", "").await.expect("the commit");
    assert_eq!(bench.ledger.loaded_among(&[(lease.object.id, lease.token)]).await.expect("a read-back").len(), 1);
    assert_eq!(bench.lab.count("SELECT count(*) FROM items").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_aborted_by_a_dropped_copy_cannot_be_committed_as_loaded() {
    let bench = Bench::new().await;
    let lease = bench.lease("a").await;
    let load = bench.copied(&lease, Ending::Dropped).await;
    let outcome = load.commit(&counts(&lease), "pending", "").await;
    assert!(outcome.is_err(), "the fence ran in an aborted transaction");
    bench.assert_nothing_loaded(&lease).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_whose_lease_passed_on_is_rolled_back_by_the_fence() {
    let bench = Bench::new().await;
    let lost = bench.lease("frozen").await;
    let late = bench.copied(&lost, Ending::InOrder).await;
    bench.lab.execute("UPDATE keyfall.objects SET lease_expires_at = now() - interval '1 s'").await;
    assert_eq!(bench.ledger.expire_leases().await.expect("expired leases"), 1);
    let lease = bench.lease("quick").await;
    let error = late.commit(&counts(&lost), "pending", "").await.expect_err("the fence finds no row");
    assert_eq!(error.code(), "E-LEASE-LOST");
    bench.assert_nothing_loaded(&lost).await;

    // The new owner never waited for the old one's session.
    let load = bench.copied(&lease, Ending::InOrder).await;
    load.commit(&counts(&lease), "none", "").await.expect("the commit");
    assert_eq!(bench.lab.texts("SELECT lease_owner FROM keyfall.objects WHERE state = 'loaded'").await, ["quick"]);
    assert_eq!(bench.lab.count("SELECT count(*) FROM items").await, 1);
}

/// rust-postgres#1334 itself, and that the read-back sees through it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_driver_calls_an_aborted_commit_a_success_and_the_read_back_does_not() {
    let bench = Bench::new().await;
    let lease = bench.lease("a").await;
    let client = connect(&bench.lab.postgres.url(&bench.lab.database)).await;
    let load = format!(
        "BEGIN;
         INSERT INTO items VALUES (0, 0);
         UPDATE keyfall.objects SET state = 'loaded', loaded_at = now(), rows_read = 1, rows_loaded = 1,
                rows_rejected = 0, rows_filtered = 0, disposal = 'pending' WHERE lease_token = '{}'",
        lease.token
    );
    client.batch_execute(&load).await.expect("the load");
    assert!(client.batch_execute("SELECT 1 / 0").await.is_err());
    assert!(client.batch_execute("COMMIT").await.is_ok(), "the driver's habit that we guard against");
    bench.assert_nothing_loaded(&lease).await;
}
