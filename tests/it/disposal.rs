//! Disposal: retried for ever, never before its copy is safe, never twice, never of another version.

use keyfall::demo::s3::{Action, FaultRule, Operation};

use crate::support::{BUCKET, Lab, item_body, item_key, items};

const ARCHIVE: &str = "action = \"archive\"\nprefix = \"archive/\"";

fn archived(n: usize) -> String {
    format!("archive/{}", item_key(n))
}

/// Places in the request log: last copy to a key, first delete of another.
fn copy_and_delete(lab: &Lab, n: usize) -> (Option<u64>, Option<u64>) {
    let log = lab.s3.log();
    let copies = log.iter().filter(|entry| entry.op == Operation::CopyObject && entry.key.starts_with(&archived(n)));
    let deletes = log.iter().filter(|entry| {
        matches!(entry.op, Operation::DeleteObjects | Operation::DeleteObject) && entry.key == item_key(n)
    });
    (copies.map(|entry| entry.seq).max(), deletes.map(|entry| entry.seq).min())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delete_that_fails_five_times_is_a_visible_backlog_and_then_done() {
    let lab = Lab::with_items().await;
    lab.put_items(0..3, 3);
    let fault = lab.s3.inject(FaultRule::on(Operation::DeleteObjects, Action::Status(500, "InternalError")).times(5));
    // The sweep sees the objects again all the time.
    let feeds = items(r#"action = "delete""#).replacen("poll_interval", "sweep_interval = \"1s\"\npoll_interval", 1);
    let engine = lab.engine(&feeds, &[]).await;
    let failed = "SELECT count(*) FROM keyfall.objects WHERE disposal = 'pending' AND disposal_error IS NOT NULL";
    lab.until_count(failed, 3).await;
    assert_eq!(lab.count("SELECT disposal_pending FROM keyfall.feed_status").await, 3);
    lab.until_objects("loaded", "done", 3).await;
    engine.drain().await;
    assert_eq!(fault.hits(), 5);
    lab.assert_items(3, 3).await;
    assert!(lab.s3.is_empty(BUCKET));
    for n in 0..3 {
        assert_eq!(lab.requests(Operation::GetObject, &item_key(n)), [200], "object {n} was read again");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_key_that_cannot_be_deleted_holds_up_no_other() {
    let lab = Lab::with_items().await;
    lab.put_items(0..3, 3);
    lab.s3.inject(FaultRule::on(Operation::DeleteObjects, Action::Denied).key(item_key(1)));
    let engine = lab.engine(&items(r#"action = "delete""#), &[]).await;
    lab.until_objects("loaded", "done", 2).await;
    let failed = "SELECT count(*) FROM keyfall.objects WHERE disposal = 'pending' AND disposal_error LIKE '%denied%'";
    lab.until_count(failed, 1).await;
    engine.drain().await;
    assert_eq!(lab.s3.keys(BUCKET), [item_key(1)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_answered_200_with_an_error_is_no_copy() {
    let lab = Lab::with_items().await;
    lab.put_items(0..1, 3);
    let fault = lab.s3.inject(FaultRule::on(Operation::CopyObject, Action::CopyError200).times(2));
    let engine = lab.engine(&items(ARCHIVE), &[]).await;
    lab.until_objects("loaded", "done", 1).await;
    engine.drain().await;
    assert_eq!(fault.hits(), 2);
    assert_eq!(lab.s3.keys(BUCKET), [archived(0)]);
    assert_eq!(lab.s3.get(BUCKET, &archived(0)).expect("the copy"), item_body(0, 3));
    let (copy, delete) = copy_and_delete(&lab, 0);
    assert!(copy.is_some() && copy < delete, "copy {copy:?}, delete {delete:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_key_that_holds_the_same_content_already_is_taken_for_the_copy() {
    let lab = Lab::with_items().await;
    lab.put_items(0..1, 3);
    lab.s3.put(BUCKET, &archived(0), item_body(0, 3));
    let engine = lab.engine(&items(ARCHIVE), &[]).await;
    lab.until_objects("loaded", "done", 1).await;
    engine.drain().await;
    assert_eq!(lab.s3.keys(BUCKET), [archived(0)]);
    let to = format!("s3://{BUCKET}/{}", archived(0));
    assert_eq!(lab.texts("SELECT archived_to FROM keyfall.objects").await, [to]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_key_that_holds_other_content_is_never_overwritten() {
    let lab = Lab::with_items().await;
    lab.put_items(0..1, 3);
    lab.s3.put(BUCKET, &archived(0), "somebody else's");
    let versioned = format!("{}.{}", archived(0), lab.s3.etag(BUCKET, &item_key(0)).expect("an entity tag"));
    let engine = lab.engine(&items(ARCHIVE), &[]).await;
    lab.until_objects("loaded", "done", 1).await;
    engine.drain().await;
    assert_eq!(lab.s3.keys(BUCKET), [archived(0), versioned.clone()]);
    assert_eq!(lab.s3.get(BUCKET, &archived(0)).expect("the other object"), "somebody else's");
    assert_eq!(lab.s3.get(BUCKET, &versioned).expect("the copy"), item_body(0, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_ignores_conditions_still_loses_no_new_version() {
    let lab = Lab::with_items().await;
    for op in [Operation::DeleteObjects, Operation::DeleteObject, Operation::CopyObject] {
        lab.s3.inject(FaultRule::on(op, Action::IgnoreConditions));
    }
    lab.put_items(0..2, 3);
    // Object 1 is replaced after its load, before anything deletes it.
    let gate = keyfall::demo::s3::Gate::new();
    let first = FaultRule::on(Operation::DeleteObjects, Action::Hold(gate.clone())).times(1);
    let probe = lab.s3.inject(first);
    let engine = lab.engine(&items(r#"action = "delete""#), &[]).await;
    crate::support::within("the store is asked whether it looks at conditions", gate.reached()).await;
    lab.until_objects("loaded", "pending", 2).await;
    lab.s3.put(BUCKET, &item_key(1), item_body(100, 3));
    gate.open();
    lab.until_objects("loaded", "done", 3).await;
    engine.drain().await;
    assert_eq!(probe.hits(), 1);
    assert!(lab.s3.is_empty(BUCKET));
    assert_eq!(lab.texts("SELECT DISTINCT object::text FROM items ORDER BY 1").await, ["0", "1", "100"]);
    assert_eq!(lab.requests(Operation::DeleteObjects, &item_key(0)).len(), 0, "a batch was trusted");
    assert_eq!(lab.requests(Operation::DeleteObject, &item_key(0)).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_on_a_store_that_ignores_conditions_overwrites_nothing() {
    let lab = Lab::with_items().await;
    for op in [Operation::DeleteObjects, Operation::DeleteObject, Operation::CopyObject] {
        lab.s3.inject(FaultRule::on(op, Action::IgnoreConditions));
    }
    lab.put_items(0..2, 3);
    lab.s3.put(BUCKET, &archived(0), "somebody else's");
    let engine = lab.engine(&items(ARCHIVE), &[]).await;
    lab.until_objects("loaded", "done", 2).await;
    engine.drain().await;
    assert_eq!(lab.s3.get(BUCKET, &archived(0)).expect("the other object"), "somebody else's");
    assert_eq!(lab.s3.len(BUCKET), 3);
    assert_eq!(lab.s3.get(BUCKET, &archived(1)).expect("the copy"), item_body(1, 3));
}

/// Copied and died: the copy is there, marked as ours, and so is the source. Copied, deleted and died: only the copy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disposal_cut_short_anywhere_is_finished_by_the_next_instance() {
    let lab = Lab::with_items().await;
    lab.put_items(0..2, 3);
    let gate = keyfall::demo::s3::Gate::new();
    lab.s3.inject(FaultRule::on(Operation::DeleteObjects, Action::Hold(gate.clone())).from_hit(2));
    let first = lab.engine(&items(ARCHIVE), &["lifecycle.grace=0s"]).await;
    crate::support::within("copied, about to delete", gate.reached()).await;
    // The first instance hangs there; time passes, and the outbox hands the objects out again.
    lab.execute("UPDATE keyfall.objects SET disposal_not_before = now()").await;
    lab.s3.remove(BUCKET, &item_key(1));
    lab.s3.heal();
    let second = lab.engine(&items(ARCHIVE), &[]).await;
    lab.until_objects("loaded", "done", 2).await;
    second.drain().await;
    gate.open();
    first.drain().await;
    assert_eq!(lab.s3.keys(BUCKET), [archived(0), archived(1)]);
    let to: Vec<String> = (0..2).map(|n| format!("s3://{BUCKET}/{}", archived(n))).collect();
    assert_eq!(lab.texts("SELECT archived_to FROM keyfall.objects ORDER BY id").await, to);
    lab.assert_items(2, 3).await;
}
