//! An object replaced while keyfall is at work: the version that was read is the one that is disposed of, the new one
//! survives and is loaded.

use jiff::Timestamp;
use keyfall::demo::s3::{Action, FaultRule, Gate, Operation};

use crate::support::{BUCKET, Lab, item_body, item_key, items, within};

/// The first `DeleteObjects` asks a store about a key that does not exist; the second one deletes.
const REAL_DELETE: u64 = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_arrives_between_load_and_delete_survives_and_is_loaded() {
    let lab = Lab::with_items().await;
    lab.put_items(0..1, 3);
    let gate = Gate::new();
    let rule = FaultRule::on(Operation::DeleteObjects, Action::Hold(gate.clone())).from_hit(REAL_DELETE).times(1);
    let held = lab.s3.inject(rule);
    let engine = lab.engine(&items(r#"action = "delete""#), &[]).await;
    within("the delete is on its way", gate.reached()).await;
    lab.assert_items(1, 3).await;
    lab.s3.put(BUCKET, &item_key(0), item_body(100, 4));
    gate.open();
    lab.until_objects("loaded", "done", 2).await;
    engine.drain().await;
    assert_eq!(held.hits(), 1);
    let rows = "SELECT object || ':' || count(*) FROM items GROUP BY object ORDER BY object";
    assert_eq!(lab.texts(rows).await, ["0:3", "100:4"]);
    let notes = "SELECT coalesce(disposal_error, 'deleted') FROM keyfall.objects ORDER BY id";
    assert_eq!(lab.texts(notes).await, ["a newer version took the key; it was left alone", "deleted"]);
    assert!(lab.s3.is_empty(BUCKET));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_arrives_between_listing_and_reading_is_the_one_that_is_loaded() {
    let lab = Lab::with_items().await;
    lab.put_items(0..1, 3);
    let gate = Gate::new();
    lab.s3.inject(FaultRule::on(Operation::GetObject, Action::Hold(gate.clone())).times(1));
    let engine = lab.engine(&items(r#"action = "keep""#), &[]).await;
    within("the object is being read", gate.reached()).await;
    lab.s3.put(BUCKET, &item_key(0), item_body(100, 4));
    gate.open();
    lab.until_objects("loaded", "none", 1).await;
    // A listing made before the new version came may revive the old one for one more conditional GET.
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE state = 'superseded'", 1).await;
    engine.drain().await;
    let states = "SELECT state || coalesce(' ' || error_code, '') FROM keyfall.objects ORDER BY id";
    assert_eq!(lab.texts(states).await, ["superseded E-S3-CHANGED", "loaded"]);
    assert_eq!(lab.texts("SELECT DISTINCT object || ':' || count(*) OVER () FROM items").await, ["100:4"]);
    let gets = lab.requests(Operation::GetObject, &item_key(0));
    assert_eq!(gets.iter().filter(|status| **status == 200).count(), 1, "{gets:?}");
    assert_eq!(gets.first(), Some(&412));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_arrives_between_copy_and_delete_is_archived_beside_the_old_one() {
    let lab = Lab::with_items().await;
    lab.put_items(0..1, 3);
    let gate = Gate::new();
    let rule = FaultRule::on(Operation::DeleteObjects, Action::Hold(gate.clone())).from_hit(REAL_DELETE).times(1);
    lab.s3.inject(rule);
    let engine = lab.engine(&items("action = \"archive\"\nprefix = \"archive/\""), &[]).await;
    within("the delete is on its way", gate.reached()).await;
    let archived = format!("archive/{}", item_key(0));
    assert_eq!(lab.s3.get(BUCKET, &archived).expect("the copy comes first"), item_body(0, 3));
    let etag = lab.s3.put(BUCKET, &item_key(0), item_body(100, 4));
    gate.open();
    lab.until_objects("loaded", "done", 2).await;
    engine.drain().await;
    assert_eq!(lab.s3.keys(BUCKET), [archived.clone(), format!("{archived}.{etag}")]);
    assert_eq!(lab.s3.get(BUCKET, &archived).expect("the old version"), item_body(0, 3));
    assert_eq!(lab.s3.get(BUCKET, &format!("{archived}.{etag}")).expect("the new one"), item_body(100, 4));
    assert_eq!(lab.count("SELECT count(*) FROM items").await, 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_arrives_in_the_middle_of_a_body_is_not_mixed_with_the_old_one() {
    let lab = Lab::with_items().await;
    lab.put_items(0..1, 50_000);
    lab.s3.inject(FaultRule::on(Operation::GetObject, Action::ResetAfter(100_000)).times(1));
    let gate = Gate::new();
    lab.s3.inject(FaultRule::on(Operation::GetObject, Action::Hold(gate.clone())).from_hit(2).times(1));
    let engine = lab.engine(&items(r#"action = "keep""#), &[]).await;
    within("the rest is asked for", gate.reached()).await;
    lab.s3.put(BUCKET, &item_key(0), item_body(100, 50_000));
    gate.open();
    lab.until_objects("loaded", "none", 1).await;
    engine.drain().await;
    let objects = "SELECT object || ':' || count(*) FROM items GROUP BY object";
    assert_eq!(lab.texts(objects).await, ["100:50000"]);
    assert_eq!(lab.requests(Operation::GetObject, &item_key(0)), [200, 412, 200]);
}

/// S3 tells times in whole seconds, so content that comes back may look as old as it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_that_comes_back_within_the_same_second_is_loaded() {
    let lab = Lab::with_items().await;
    let now = Timestamp::now();
    lab.s3.put_at(BUCKET, &item_key(0), item_body(1, 3), now);
    let (first, second) = (Gate::new(), Gate::new());
    lab.s3.inject(FaultRule::on(Operation::GetObject, Action::Hold(first.clone())).times(1));
    lab.s3.inject(FaultRule::on(Operation::GetObject, Action::Hold(second.clone())).from_hit(2).times(1));
    let engine = lab.engine(&items(r#"action = "keep""#), &[]).await;
    within("the first version is being read", first.reached()).await;
    lab.s3.put_at(BUCKET, &item_key(0), item_body(2, 3), now);
    first.open();
    within("the second version is being read", second.reached()).await;
    lab.s3.put_at(BUCKET, &item_key(0), item_body(1, 3), now);
    second.open();
    lab.until_objects("loaded", "none", 1).await;
    engine.drain().await;
    assert_eq!(lab.texts("SELECT object || ':' || count(*) FROM items GROUP BY object").await, ["1:3"]);
}
