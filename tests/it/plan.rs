//! A plan says what would be loaded, in which order and why, and changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use keyfall::app;
use keyfall::demo::s3::Operation;
use keyfall::operate::plan::{self, Amount, Draft, Plan, Reason};
use keyfall::operate::sweep::Progress;
use keyfall::operate::window::Window;
use keyfall::store::ledger::Ledger;

use crate::scale::discover;
use crate::support::{BUCKET, ITEMS, Lab, item_body, item_key, items, loaded};

async fn planned(lab: &Lab, feeds: &str, examples: usize) -> Plan {
    let config = loaded(&lab.sources(feeds)).config;
    let ledger = Ledger::new(app::pools(&config).expect("pools"));
    let store = app::object_store(&config).await.expect("an object store");
    let feed = config.feeds.values().next().expect("one feed");
    let draft = Draft { store: Arc::clone(&store), ledger: Some(&ledger), window: Window::default(), examples };
    plan::plan(feed, &draft, &Progress::default()).await.expect("a plan")
}

fn put_old(lab: &Lab, n: usize, body: String) {
    let an_hour_ago = Timestamp::now().checked_sub(SignedDuration::from_hours(1)).expect("a time");
    lab.s3.put_at(BUCKET, &item_key(n), body, an_hour_ago);
}

fn whys(plan: &Plan) -> Vec<(String, &'static str)> {
    let word = |reason: &Reason| match reason {
        Reason::New => "new",
        Reason::Changed { replaces: true } => "replaces",
        Reason::Changed { replaces: false } => "beside",
        Reason::Pending { .. } => "pending",
        Reason::Back => "back",
    };
    plan.first.iter().map(|planned| (planned.key.clone(), word(&planned.reason))).collect()
}

/// Loaded 0 to 4; 1 has changed since. 5 is quarantined, 6 pending, 7 pending after a failure and due, 8 waits out a
/// delay, 9 is leased, 10 is back, 11 is new, and the readme is nobody's.
async fn one_of_each(lab: &Lab, feeds: &str) {
    for n in 0..5 {
        put_old(lab, n, item_body(n, 1));
    }
    put_old(lab, 5, "no number\n".to_owned());
    lab.s3.put(BUCKET, "items/readme.txt", "x");
    assert_eq!(lab.once(feeds).await, 3);
    for n in 6..11 {
        put_old(lab, n, item_body(n, 1));
    }
    discover(lab, feeds).await;
    for (n, what) in [
        (7, "attempt = 2, error_code = 'E-S3-TRANSIENT'"),
        (8, "not_before = now() + interval '1 h'"),
        (
            9,
            "state = 'leased', lease_owner = 'x', lease_token = gen_random_uuid(), lease_expires_at = now() + interval '1 h'",
        ),
        (10, "state = 'missing'"),
    ] {
        lab.execute(&format!("UPDATE keyfall.objects SET {what} WHERE key = '{}'", item_key(n))).await;
    }
    put_old(lab, 1, item_body(1, 2));
    put_old(lab, 11, item_body(11, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_object_has_its_place_in_the_plan_and_nothing_is_changed() {
    let lab = Lab::with_items().await;
    one_of_each(&lab, ITEMS).await;
    let before = lab.texts("SELECT o::text FROM keyfall.objects o ORDER BY id").await;
    lab.s3.clear_log();
    let plan = planned(&lab, ITEMS, 20).await;
    let expected = [(1, "beside"), (6, "pending"), (7, "pending"), (10, "back"), (11, "new")];
    assert_eq!(whys(&plan), expected.map(|(n, why)| (item_key(n), why)));
    assert_eq!(plan.load, Amount { objects: 5, bytes: 8 + 4 + 4 + 5 + 5 });
    assert_eq!(plan.loaded, Amount { objects: 4, bytes: 16 });
    assert_eq!((plan.waiting.objects, plan.quarantined.objects), (2, 1));
    assert_eq!(plan.skipped, BTreeMap::from([("pattern".to_owned(), 1)]));
    let Reason::Pending { attempt, after, .. } = &plan.first[2].reason else { panic!("{plan:?}") };
    assert_eq!((*attempt, after.as_deref()), (3, Some("E-S3-TRANSIENT")));
    assert_eq!((plan.table.as_str(), plan.disposal.as_str()), ("public.items", "keep"));
    assert_eq!(lab.texts("SELECT o::text FROM keyfall.objects o ORDER BY id").await, before);
    assert!(lab.s3.log().iter().all(|entry| entry.op == Operation::ListObjects));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_objects_are_planned_as_the_feed_says() {
    let lab = Lab::with_items().await;
    put_old(&lab, 0, item_body(0, 1));
    assert_eq!(lab.once(ITEMS).await, 0);
    put_old(&lab, 0, item_body(0, 2));
    let planned = async |word: &str| {
        let feeds = ITEMS.replace("poll_interval", &format!("on_change = \"{word}\"\npoll_interval"));
        planned(&lab, &feeds, 20).await
    };
    assert_eq!(whys(&planned("load").await), [(item_key(0), "beside")]);
    assert_eq!(whys(&planned("replace").await), [(item_key(0), "replaces")]);
    let ignored = planned("ignore").await;
    assert_eq!((ignored.load.objects, ignored.skipped), (0, BTreeMap::from([("changed".to_owned(), 1)])));
    let set_aside = planned("quarantine").await;
    assert_eq!((set_aside.load.objects, set_aside.quarantined.objects), (0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_objects_are_those_that_are_loaded_first_also_where_keys_sort_otherwise() {
    let lab = Lab::with_items().await;
    // Unpadded: the tenth hour sorts before the ninth.
    let keys: Vec<String> = (0..24).map(|hour| format!("items/2024-5-1-{hour}-0-0.csv")).collect();
    for (n, key) in keys.iter().enumerate() {
        lab.s3.put(BUCKET, key, item_body(n, 1));
    }
    let plan = planned(&lab, &items("action = \"archive\"\nprefix = \"archive/\""), 12).await;
    let first: Vec<String> = plan.first.iter().map(|planned| planned.key.clone()).collect();
    assert_eq!(first, keys[..12]);
    assert_eq!((plan.load.objects, plan.disposal.as_str()), (24, "archive to s3://drop/archive/"));
    discover(&lab, ITEMS).await;
    assert_eq!(crate::scale::leased_one_by_one(&lab, ITEMS, 12).await, keys[..12]);
}
