//! Feeds take turns, and what is in work stays within its bounds.

use crate::support::{BUCKET, ITEMS, Lab, item_body, item_key};

const BACKLOG: usize = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_object_of_one_feed_does_not_wait_for_the_backlog_of_another() {
    let lab = Lab::with_items().await;
    lab.put_items(0..BACKLOG, 1);
    let other = ITEMS.replace("feeds.items", "feeds.other").replace("items/", "other/");
    let feeds = format!("{ITEMS}\n{other}");
    let engine = lab.engine(&feeds, &["workers.max=1", "workers.group_objects=1"]).await;
    lab.until_count("SELECT (count(*) > 20)::int::bigint FROM keyfall.objects WHERE state = 'loaded'", 1).await;
    lab.s3.put(BUCKET, "other/2024-05-01-00-00-00.csv", item_body(1000, 1));
    lab.until_objects("loaded", "none", 301).await;
    engine.drain().await;
    let after = "SELECT count(*) FROM keyfall.objects o, keyfall.objects single
                  WHERE single.feed = 'other' AND o.loaded_at > single.loaded_at";
    let after = lab.count(after).await;
    assert!(after > 50, "only {after} of {BACKLOG} objects were loaded after the single one");
    lab.assert_items(301, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_in_work_stay_within_the_bytes_allowed_and_a_larger_one_goes_alone() {
    let lab = Lab::with_items().await;
    // About 100 KB each, and one of 400 KB; at most 250 KB at once.
    for n in 0..12 {
        lab.s3.put(BUCKET, &item_key(n), item_body(n, if n == 5 { 60_000 } else { 15_000 }));
    }
    lab.execute(
        "CREATE TABLE seen (objects bigint, bytes bigint);
         CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             INSERT INTO public.seen SELECT count(*), sum(size) FROM keyfall.objects WHERE state = 'leased';
             RETURN NULL;
         END $$;
         CREATE TRIGGER look AFTER UPDATE ON keyfall.objects FOR EACH STATEMENT EXECUTE FUNCTION look()",
    )
    .await;
    let engine = lab.engine(ITEMS, &["workers.max=8", "workers.max_in_flight_bytes=250000"]).await;
    lab.until_objects("loaded", "none", 12).await;
    engine.drain().await;
    let largest = "SELECT max(bytes) FROM seen WHERE objects > 1";
    let largest = lab.count(largest).await;
    assert!((150_000..=250_000).contains(&largest), "{largest} bytes at once");
    assert_eq!(lab.count("SELECT max(objects) FROM seen WHERE bytes > 300000").await, 1, "the large one went alone");
}
