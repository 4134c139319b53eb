//! Leases and their fence: who froze or died is replaced, and cannot commit afterwards.

use keyfall::demo::proxy::{Fault, Flow};
use keyfall::demo::s3::{Action, FaultRule, Gate, Operation};

use crate::support::{ITEMS, Lab, item_key, items, until, within};

/// A lease held by an instance that no longer exists.
const GHOST: &str = "UPDATE keyfall.objects SET state = 'leased', attempt = attempt + 1, lease_owner = 'ghost',
    lease_token = gen_random_uuid(), lease_expires_at = now() + interval ";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_instance_is_replaced_and_what_it_does_later_is_rolled_back() {
    let lab = Lab::with_items().await;
    lab.put_items(0..1, 3);
    let feeds = items(r#"action = "delete""#);
    let (proxy, gate) = (lab.proxy().await, Gate::new());
    lab.s3.inject(FaultRule::on(Operation::GetObject, Action::Hold(gate.clone())).times(1));
    let settings = ["instance=frozen", "workers.lease=5s", "database.statement_timeout=1s"];
    let frozen = lab.engine_through(&proxy, &feeds, &settings).await;
    within("the object is being read", gate.reached()).await;
    // From here on nothing of the first instance reaches PostgreSQL, renewals neither.
    proxy.set_flow(Flow::Blackhole);

    let quick = lab.engine(&feeds, &["instance=quick", "workers.lease=5s"]).await;
    lab.until_objects("loaded", "done", 1).await;
    lab.assert_items(1, 3).await;

    assert!(proxy.hits(Fault::Blackhole) > 0, "nothing was swallowed");
    proxy.set_flow(Flow::Pass);
    gate.open();
    tokio::join!(frozen.drain(), quick.drain());
    lab.assert_items(1, 3).await;
    assert_eq!(lab.texts("SELECT lease_owner FROM keyfall.objects").await, ["quick"]);
    assert_eq!(lab.count("SELECT attempt::bigint FROM keyfall.objects").await, 2);
    assert_eq!(lab.requests(Operation::GetObject, &item_key(0)).len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_lease_of_a_dead_instance_is_taken_over_and_a_valid_one_is_respected() {
    let lab = Lab::with_items().await;
    lab.put_items(0..2, 3);
    // Learn of both objects, load neither.
    let gate = Gate::new();
    lab.s3.inject(FaultRule::on(Operation::GetObject, Action::Hold(gate.clone())).times(2));
    let first = lab.engine(ITEMS, &["lifecycle.grace=0s"]).await;
    within("both are being read", gate.reached()).await;
    first.drain().await;
    lab.until_objects("pending", "none", 2).await;
    lab.execute(&format!("{GHOST} '-1 s' WHERE key = '{}'", item_key(0))).await;
    lab.execute(&format!("{GHOST} '1 h' WHERE key = '{}'", item_key(1))).await;

    let heir = lab.engine(ITEMS, &["instance=heir", "workers.lease=5s"]).await;
    lab.until_objects("loaded", "none", 1).await;
    let owners = "SELECT state || ' ' || lease_owner FROM keyfall.objects ORDER BY id";
    assert_eq!(lab.texts(owners).await, ["loaded heir", "leased ghost"]);
    lab.execute("UPDATE keyfall.objects SET lease_expires_at = now() WHERE state = 'leased'").await;
    lab.until_objects("loaded", "none", 2).await;
    heir.drain().await;
    lab.assert_items(2, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_load_keeps_its_lease_though_another_instance_looks_for_expired_ones() {
    let lab = Lab::with_items().await;
    lab.put_items(0..1, 3);
    let gate = Gate::new();
    lab.s3.inject(FaultRule::on(Operation::GetObject, Action::Hold(gate.clone())).times(1));
    let slow = lab.engine(ITEMS, &["instance=slow", "workers.lease=5s"]).await;
    within("the object is being read", gate.reached()).await;
    let other = lab.engine(ITEMS, &["instance=other", "workers.lease=5s"]).await;
    // A lease that was never renewed would have expired by then.
    let age = "SELECT count(*) FROM keyfall.objects WHERE now() > discovered_at + interval '7 s'";
    until("the lease is older than it may get", async || lab.count(age).await == 1).await;
    gate.open();
    lab.until_objects("loaded", "none", 1).await;
    tokio::join!(slow.drain(), other.drain());
    lab.assert_items(1, 3).await;
    assert_eq!(lab.texts("SELECT lease_owner || attempt FROM keyfall.objects").await, ["slow1"]);
}
