//! `kill -9` at random moments needs no repair: exact counts, no lease left over, every object archived. Kills at chosen
//! steps are in `tests/faults`.

use keyfall::demo::s3::Operation;

use crate::support::{BUCKET, Lab, items, until};

const ARCHIVE: &str = "action = \"archive\"\nprefix = \"archive/\"";
/// The shortest lease allowed: what the dead held comes back soon.
const LEASE: &str = "workers.lease=5s";

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
    lab.until_objects("loaded", "done", 500).await;
    daemon.signal("TERM");
    assert_eq!(daemon.ended().await, 0);

    lab.assert_items(500, 4).await;
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects").await, 500);
    assert_eq!(lab.s3.len(BUCKET), 500);
    assert!(all_archived(&lab));
}
