//! The outcome of a COMMIT is what the ledger says, whatever the driver says. What a broken connection does to it:
//! `tests/faults`, F25, F30, F31, F45.

use keyfall::config::Sources;
use keyfall::domain::lease::Lease;
use keyfall::store::catalog::Catalog;
use keyfall::store::copy::{CopyFormat, CopyTarget, Load, LoadedCounts, Terms};
use keyfall::store::ledger::{LeaseLimits, Ledger};
use keyfall::store::pool::Pools;
use keyfall::store::stage::Staging;
use keyfall::{app, config};

use crate::support::{ITEMS, Lab, connect, item_key, loaded};

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
        let shape = Catalog::default().shape(&self.pools, &feed.routes[0].table).await.expect("a shape");
        let mut load = Load::begin(&self.pools, &[&shape], &[lease]).await.expect("a transaction");
        let columns = vec!["object".to_owned(), "line".to_owned()];
        let mut rows = load
            .copy(&shape, &CopyTarget { columns, format: CopyFormat::Text, staging: Staging::None })
            .await
            .expect("a copy");
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

fn terms(disposal: &'static str) -> Terms<'static> {
    Terms { disposal, fingerprint: "", duplicates: true }
}

fn counts(lease: &Lease) -> [LoadedCounts; 1] {
    let (id, token) = (lease.object.id, lease.token);
    [LoadedCounts { id, token, read: 1, loaded: 1, bytes: 12, sha256: vec![0; 32], ..LoadedCounts::default() }]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_in_order_is_loaded_by_the_read_back() {
    let bench = Bench::new().await;
    let lease = bench.lease("a").await;
    let load = bench.copied(&lease, Ending::InOrder).await;
    load.commit(&counts(&lease), terms("none")).await.expect("the commit");
    assert_eq!(bench.ledger.loaded_among(&[(lease.object.id, lease.token)]).await.expect("a read-back").len(), 1);
    assert_eq!(bench.lab.count("SELECT count(*) FROM items").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_aborted_by_a_dropped_copy_cannot_be_committed_as_loaded() {
    let bench = Bench::new().await;
    let lease = bench.lease("a").await;
    let load = bench.copied(&lease, Ending::Dropped).await;
    let outcome = load.commit(&counts(&lease), terms("pending")).await;
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
    let error = late.commit(&counts(&lost), terms("pending")).await.expect_err("the fence finds no row");
    assert_eq!(error.code(), "E-LEASE-LOST");
    bench.assert_nothing_loaded(&lost).await;

    // The new owner never waited for the old one's session.
    let load = bench.copied(&lease, Ending::InOrder).await;
    load.commit(&counts(&lease), terms("none")).await.expect("the commit");
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
