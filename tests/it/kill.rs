//! `kill -9` at any moment needs no repair: exact counts, no lease left over, every object archived.

use keyfall::demo::s3::{Action, FaultRule, Gate, Operation};

use crate::support::{BUCKET, Lab, item_key, items, until, within};

const ARCHIVE: &str = "action = \"archive\"\nprefix = \"archive/\"";
/// The shortest lease allowed: what the dead held comes back soon.
const LEASE: &str = "workers.lease=5s";

/// An instance that died holds its part of the outbox for minutes; the tests let them pass.
async fn let_the_outbox_come_back(lab: &Lab) {
    lab.execute("UPDATE keyfall.objects SET disposal_not_before = now() WHERE disposal = 'pending'").await;
}

fn all_archived(lab: &Lab) -> bool {
    lab.s3.keys(BUCKET).iter().all(|key| key.starts_with("archive/items/"))
}

/// Twenty lives, each ended at a random moment of its work. `KEYFALL_SEED` repeats the moments of a failed run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_random_kills_during_five_hundred_objects_lose_and_double_nothing() {
    let given = keyfall::config::environment().remove("KEYFALL_SEED");
    let seed = given.and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("KEYFALL_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let lab = Lab::with_items().await;
    let settings = [LEASE, "workers.group_objects=4", "workers.max=3"];
    let mut read = 0;
    for life in 0..20 {
        lab.put_items(life * 25..(life + 1) * 25, 4);
        let mut daemon = lab.daemon(&items(ARCHIVE), &settings);
        // Not before it is at work, or the kills would only prove that starting can be interrupted.
        let gets = || lab.s3.log().iter().filter(|entry| entry.op == Operation::GetObject).count();
        until("the daemon reads", async || gets() > read).await;
        tokio::time::sleep(std::time::Duration::from_millis(random.u64(0..150))).await;
        daemon.kill();
        read = gets();
    }
    let died_at_work = lab.count("SELECT count(*) FROM keyfall.objects WHERE state = 'leased'").await;
    println!("{read} reads in twenty lives, {died_at_work} objects leased at the last death");
    let mut daemon = lab.daemon(&items(ARCHIVE), &settings);
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE state = 'loaded'", 500).await;
    let_the_outbox_come_back(&lab).await;
    lab.until_objects("loaded", "done", 500).await;
    daemon.signal("TERM");
    assert_eq!(daemon.ended().await, 0);

    lab.assert_items(500, 4).await;
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects").await, 500);
    assert_eq!(lab.s3.len(BUCKET), 500);
    assert!(all_archived(&lab));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_in_the_middle_of_a_copy_leaves_no_row_and_the_next_life_loads_all() {
    const ROWS: usize = 90_000;
    let lab = Lab::with_items().await;
    lab.put_items(0..1, ROWS);
    let stalled = lab.s3.inject(FaultRule::on(Operation::GetObject, Action::StallAfter(600_000)).times(1));
    let mut daemon = lab.daemon(&items(ARCHIVE), &[LEASE]);
    let copying = "SELECT count(*) FROM pg_stat_progress_copy WHERE relid = 'items'::regclass AND tuples_processed > 0";
    lab.until_count(copying, 1).await;
    daemon.kill();
    assert_eq!(stalled.hits(), 1);
    lab.until_count(copying, 0).await;
    assert_eq!(lab.count("SELECT count(*) FROM items").await, 0);

    let _daemon = lab.daemon(&items(ARCHIVE), &[LEASE]);
    lab.until_objects("loaded", "done", 1).await;
    lab.assert_items(1, 90_000).await;
    assert_eq!(lab.requests(Operation::GetObject, &item_key(0)).len(), 2);
    assert!(all_archived(&lab));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_between_commit_and_disposal_reads_nothing_again() {
    let lab = Lab::with_items().await;
    lab.put_items(0..3, 4);
    let gate = Gate::new();
    lab.s3.inject(FaultRule::on(Operation::CopyObject, Action::Hold(gate.clone())));
    let mut daemon = lab.daemon(&items(ARCHIVE), &[LEASE]);
    within("the archive copy is on its way", gate.reached()).await;
    lab.until_objects("loaded", "pending", 3).await;
    daemon.kill();
    lab.s3.heal();
    lab.assert_items(3, 4).await;
    let_the_outbox_come_back(&lab).await;

    let _daemon = lab.daemon(&items(ARCHIVE), &[LEASE]);
    lab.until_objects("loaded", "done", 3).await;
    gate.open();
    lab.assert_items(3, 4).await;
    assert!(all_archived(&lab));
    for n in 0..3 {
        assert_eq!(lab.requests(Operation::GetObject, &item_key(n)), [200]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_between_copy_and_delete_ends_with_one_copy_and_no_source() {
    let lab = Lab::with_items().await;
    lab.put_items(0..3, 4);
    let gate = Gate::new();
    // The first one asks the store about a key that does not exist.
    lab.s3.inject(FaultRule::on(Operation::DeleteObjects, Action::Hold(gate.clone())).from_hit(2));
    let mut daemon = lab.daemon(&items(ARCHIVE), &[LEASE]);
    within("the delete is on its way", gate.reached()).await;
    assert_eq!(lab.s3.len(BUCKET), 6, "sources and copies: {:?}", lab.s3.keys(BUCKET));
    daemon.kill();
    lab.s3.heal();
    let_the_outbox_come_back(&lab).await;

    let _daemon = lab.daemon(&items(ARCHIVE), &[LEASE]);
    lab.until_objects("loaded", "done", 3).await;
    assert_eq!(lab.s3.len(BUCKET), 3, "{:?}", lab.s3.keys(BUCKET));
    assert!(all_archived(&lab));
    lab.assert_items(3, 4).await;
}

/// A frozen process, as a paused virtual machine is one: its transaction stays open while another takes over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_frozen_beyond_its_lease_commits_nothing_when_it_wakes_up() {
    const ROWS: usize = 90_000;
    let lab = Lab::with_items().await;
    lab.put_items(0..1, ROWS);
    lab.s3.inject(FaultRule::on(Operation::GetObject, Action::StallAfter(600_000)).times(1));
    let feeds = items(r#"action = "delete""#);
    let mut frozen = lab.daemon(&feeds, &[LEASE, "instance=frozen"]);
    let copying = "SELECT count(*) FROM pg_stat_progress_copy WHERE relid = 'items'::regclass AND tuples_processed > 0";
    lab.until_count(copying, 1).await;
    frozen.signal("STOP");
    let quick = lab.daemon(&feeds, &[LEASE, "instance=quick"]);
    lab.until_objects("loaded", "done", 1).await;
    lab.assert_items(1, 90_000).await;
    frozen.signal("CONT");
    frozen.says("lease lost").await;
    lab.until_count(copying, 0).await;
    frozen.signal("TERM");
    assert_eq!(frozen.ended().await, 0);
    lab.assert_items(1, 90_000).await;
    assert_eq!(lab.texts("SELECT lease_owner FROM keyfall.objects").await, ["quick"]);
    assert!(!quick.log().contains("ERROR"), "{}", quick.log());
}
