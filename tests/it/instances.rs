//! Several instances on one bucket: each object is loaded by one of them, and all of them work.

use crate::support::{Lab, items};

const OBJECTS: usize = 2000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_share_two_thousand_objects_and_load_each_once() {
    let lab = Lab::with_items().await;
    lab.put_items(0..OBJECTS, 2);
    let feeds = items("action = \"archive\"\nprefix = \"archive/\"");
    let (one, other) = tokio::join!(
        lab.engine(&feeds, &["instance=one", "workers.group_objects=16"]),
        lab.engine(&feeds, &["instance=other", "workers.group_objects=16"]),
    );
    lab.until_objects("loaded", "done", 2000).await;
    tokio::join!(one.drain(), other.drain());

    lab.assert_items(2000, 2).await;
    assert_eq!(lab.count("SELECT count(*) FROM (SELECT FROM items GROUP BY object HAVING count(*) <> 2) x").await, 0);
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects").await, 2000);
    let owners = "SELECT DISTINCT lease_owner FROM keyfall.objects ORDER BY 1";
    assert_eq!(lab.texts(owners).await, ["one", "other"]);
    let keys = lab.s3.keys("drop");
    assert_eq!(keys.len(), OBJECTS);
    assert!(keys.iter().all(|key| key.starts_with("archive/items/")), "not archived: {keys:?}");
}
