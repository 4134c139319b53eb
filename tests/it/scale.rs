//! Many objects: every one of them exactly once, whatever it shares a page or a transaction with.

use std::sync::Arc;

use keyfall::app;
use keyfall::domain::feed::FeedName;
use keyfall::pipeline::discover::Discoverer;
use keyfall::store::ledger::{LeaseLimits, Ledger};
use keyfall::store::migrate;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::support::{BUCKET, Lab, loaded};

/// Lists a feed into the ledger without loading anything; answers how many objects were seen and new.
pub(crate) async fn discover(lab: &Lab, feeds: &str) -> (u64, u64) {
    let config = loaded(&lab.sources(feeds)).config;
    let pools = app::pools(&config).expect("the database is known");
    migrate::migrate(&pools).await.expect("the ledger is made");
    let store = app::object_store(&config).await.expect("the store is known");
    let (_, feed) = config.feeds.first_key_value().expect("one feed");
    let ledger = Ledger::new(pools);
    let discoverer = Discoverer::new(store, ledger, Arc::clone(feed), Arc::new(Notify::new()));
    let listed = discoverer.sweep(&CancellationToken::new()).await.expect("the bucket is listed");
    (listed.seen, listed.new)
}

/// The keys of a feed in the order in which single leases hand them out.
pub(crate) async fn leased_one_by_one(lab: &Lab, feeds: &str, most: usize) -> Vec<String> {
    let config = loaded(&lab.sources(feeds)).config;
    let ledger = Ledger::new(app::pools(&config).expect("the database is known"));
    let feed: &FeedName = config.feeds.keys().next().expect("one feed");
    let limits =
        LeaseLimits { group_objects: 1, group_bytes: 0, budget: u64::MAX, lease: std::time::Duration::from_mins(10) };
    let mut keys = Vec::new();
    while keys.len() < most {
        let leases = ledger.lease(feed, "test", limits).await.expect("the ledger answers");
        if leases.is_empty() {
            break;
        }
        keys.extend(leases.into_iter().map(|lease| lease.object.key));
    }
    keys
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_thousand_keys_are_listed_in_pages_into_an_exact_ledger() {
    let lab = Lab::new().await;
    let mut chronological = Vec::new();
    for n in 0..20_000 {
        // Unpadded on purpose: the order of the names is not the order of the times.
        let key = format!("many/2024-1-{}-{}-{}-{}.csv", 1 + n / 3600, n / 300 % 12, n / 60 % 5, n % 60);
        lab.s3.put(BUCKET, &key, "");
        chronological.push(key);
    }
    let feed = "[feeds.many]\nbucket = \"drop\"\npattern = \"many/{time:%Y-%m-%d-%H-%M-%S}.csv\"\ntable = \"t\"\n";
    assert_eq!(discover(&lab, feed).await, (20_000, 20_000));
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects WHERE state = 'pending'").await, 20_000);
    assert_eq!(lab.count("SELECT count(DISTINCT key) FROM keyfall.objects").await, 20_000);
    assert_eq!(discover(&lab, feed).await, (20_000, 0), "a second listing finds nothing new");
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects").await, 20_000);
    assert_eq!(lab.texts("SELECT key FROM keyfall.objects ORDER BY key_time").await, chronological);
    assert_eq!(leased_one_by_one(&lab, feed, 200).await, chronological[..200]);
    let pages = lab.s3.log().iter().filter(|entry| entry.op == keyfall::demo::s3::Operation::ListObjects).count();
    assert_eq!(pages, 40, "a thousand keys a page, twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_version_takes_the_place_of_one_that_waits_and_of_no_other() {
    let lab = Lab::new().await;
    let feed = "[feeds.f]\nbucket = \"drop\"\nprefix = \"f/\"\ntable = \"t\"\n";
    let at = |text: &str| text.parse::<jiff::Timestamp>().expect("a time");
    for key in ["f/a", "f/b"] {
        lab.s3.put_at(BUCKET, key, "old", at("2024-01-01T00:00:00Z"));
    }
    assert_eq!(discover(&lab, feed).await, (2, 2));
    lab.s3.put_at(BUCKET, "f/a", "new", at("2024-01-01T00:00:05Z"));
    assert_eq!(discover(&lab, feed).await, (2, 1));
    let states = "SELECT concat_ws(' ', key, state, superseded_by = (SELECT max(id) FROM keyfall.objects))
                    FROM keyfall.objects ORDER BY key, id";
    assert_eq!(lab.texts(states).await, ["f/a superseded t", "f/a pending", "f/b pending"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_bad_objects_of_three_hundred_are_set_aside_and_the_rest_shares_transactions() {
    let lab = Lab::new().await;
    lab.execute("CREATE TABLE small (id int PRIMARY KEY, v text, _object_id bigint)").await;
    // Somebody else's row, so that it is certain which object is refused.
    lab.execute("INSERT INTO small VALUES (101001, 'mine')").await;
    for n in 0..300 {
        let bad = if n == 37 { "x" } else { "" };
        let text = format!("id,v\n{0}000,a\n{0}001,b\n{bad}{0}002,c\n", n + 1);
        lab.s3.put(BUCKET, &format!("small/2024-01-01-00-{:02}-{:02}.csv", n / 60, n % 60), text);
    }
    let feed = r#"
        [feeds.small]
        bucket = "drop"
        pattern = "small/{time:%Y-%m-%d-%H-%M-%S}.csv"
        table = "small"
        [feeds.small.disposal]
        action = "delete"
    "#;
    assert_eq!(lab.once(feed).await, 3);
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects WHERE state = 'loaded' AND rows_loaded = 3").await, 298);
    assert_eq!(lab.count("SELECT count(*) FROM small").await, 298 * 3 + 1);
    assert_eq!(lab.count("SELECT count(DISTINCT _object_id) FROM small").await, 298);
    let (decode, unique) = ("small/2024-01-01-00-00-37.csv", "small/2024-01-01-00-01-40.csv");
    assert_eq!(lab.s3.keys(BUCKET), [decode, unique], "the bad ones stay, all others are deleted");
    let entry = lab.entry(decode).await;
    assert_eq!((entry.state.as_str(), entry.code.as_str()), ("quarantined", "E-CELL-INT"), "{entry:?}");
    assert!(entry.detail.contains("line 4 (record 3"), "{entry:?}");
    let entry = lab.entry(unique).await;
    assert_eq!((entry.state.as_str(), entry.code.as_str()), ("quarantined", "E-PG-23505"), "{entry:?}");
    assert!(entry.detail.contains("record 2") && entry.detail.contains("small_pkey"), "{entry:?}");
    // Five groups of up to 64, of which one is taken apart; each transaction has its own xmin.
    let transactions = lab.count("SELECT count(DISTINCT xmin::text) FROM small WHERE _object_id IS NOT NULL").await;
    assert!((4..=68).contains(&transactions), "{transactions} transactions");
    let shared = "SELECT count(*) FROM (SELECT 1 FROM small GROUP BY xmin::text
                   HAVING count(DISTINCT _object_id) > 40) x";
    assert_eq!(lab.count(shared).await, 4, "four groups stayed whole");
}
