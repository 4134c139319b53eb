//! Every object under the prefix is found, whatever order keys arrive in.

use jiff::{SignedDuration, Timestamp};
use keyfall::demo::s3::{Operation, PutOptions};

use crate::support::{BUCKET, ITEMS, Lab, item_body, item_key, items, until};

/// [`ITEMS`] with more lines in the feed's own table.
fn with(lines: &str) -> String {
    ITEMS.replacen("poll_interval", &format!("{lines}\npoll_interval"), 1)
}

/// Who found the object that was put last.
const FOUND_BY: &str = "SELECT discovered_by || ' ' || state FROM keyfall.objects ORDER BY id DESC LIMIT 1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_older_than_the_newest_is_found_by_the_look_back() {
    let lab = Lab::with_items().await;
    lab.put_items(3600..3610, 3);
    let engine = lab.engine(&with("lookback = \"1h\"\nlookback_interval = \"300ms\""), &[]).await;
    lab.until_objects("loaded", "none", 10).await;
    lab.put_items(1800..1801, 3);
    lab.until_objects("loaded", "none", 11).await;
    engine.drain().await;
    assert_eq!(lab.texts(FOUND_BY).await, ["poll loaded"]);
    lab.assert_items(11, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_beyond_the_look_back_is_found_by_the_sweep() {
    let lab = Lab::with_items().await;
    lab.put_items(3600..3610, 3);
    let feeds = with("lookback = \"1h\"\nlookback_interval = \"300ms\"\nsweep_interval = \"3s\"");
    let engine = lab.engine(&feeds, &[]).await;
    lab.until_objects("loaded", "none", 10).await;
    lab.s3.put(BUCKET, "items/2022-05-01-00-00-00.csv", item_body(1, 3));
    lab.until_objects("loaded", "none", 11).await;
    engine.drain().await;
    assert_eq!(lab.texts(FOUND_BY).await, ["sweep loaded"]);
    lab.assert_items(11, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_came_late_while_nobody_looked_is_late_by_what_was_known_then() {
    let lab = Lab::with_items().await;
    lab.put_items(7200..7210, 3);
    let feeds = with("lookback = \"1h\"\nlookback_interval = \"300ms\"");
    let first = lab.engine(&feeds, &[]).await;
    lab.until_objects("loaded", "none", 10).await;
    let polled = "SELECT count(*) FROM keyfall.feeds WHERE last_poll_at > last_sweep_at";
    until("it was polled", async || lab.count(polled).await == 1).await;
    first.drain().await;
    // Half an hour late, and more than the look-back behind what arrives with it.
    lab.put_items(9900..9901, 3);
    lab.put_items(5400..5401, 3);
    let second = lab.engine(&feeds, &[]).await;
    lab.until_objects("loaded", "none", 12).await;
    second.drain().await;
    let found = "SELECT discovered_by FROM keyfall.objects WHERE id > 10";
    assert_eq!(lab.texts(found).await, ["poll", "poll"]);
    lab.assert_items(12, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_from_the_future_does_not_blind_the_polls() {
    let lab = Lab::with_items().await;
    lab.put_items(0..10, 3);
    lab.s3.put(BUCKET, "items/2999-01-01-00-00-00.csv", item_body(10, 3));
    let engine = lab.engine(ITEMS, &[]).await;
    lab.until_objects("loaded", "none", 11).await;
    lab.put_items(11..12, 3);
    lab.until_objects("loaded", "none", 12).await;
    engine.drain().await;
    assert_eq!(lab.texts(FOUND_BY).await, ["poll loaded"]);
    lab.assert_items(12, 3).await;
}

/// Counts polls where they are written down.
const COUNT_POLLS: &str = "
    CREATE SEQUENCE polls;
    CREATE FUNCTION polled() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN PERFORM nextval('public.polls'); RETURN NULL; END $$;
    CREATE TRIGGER polled AFTER UPDATE ON keyfall.feeds FOR EACH ROW
        WHEN (old.last_poll_at IS DISTINCT FROM new.last_poll_at) EXECUTE FUNCTION polled()";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_poll_costs_one_list_call_whatever_the_bucket_holds() {
    let lab = Lab::with_items().await;
    // Not in the first hour of a day: its keys sort after `0-`, which is how a key without padding may begin.
    lab.put_items(7200..9700, 1);
    let engine = lab.engine(&with("poll_interval_max = \"200ms\""), &[]).await;
    lab.until_objects("loaded", "none", 2500).await;
    let begun = "SELECT count(*) FROM keyfall.feeds WHERE last_poll_at > last_sweep_at";
    lab.until_count(begun, 1).await;
    lab.execute(COUNT_POLLS).await;
    lab.s3.clear_log();
    lab.until_count("SELECT count(*) FROM polls WHERE last_value >= 10", 1).await;
    engine.drain().await;
    let polls = lab.count("SELECT last_value FROM polls").await;
    let log = lab.s3.log();
    assert!(log.iter().all(|entry| entry.op == Operation::ListObjects), "{log:?}");
    // One may have been under way when counting began, and one at the end.
    let calls = i64::try_from(log.len()).expect("few");
    assert!((calls - polls).abs() <= 1, "{calls} LIST calls by {polls} polls");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn polls_come_the_more_seldom_the_longer_nothing_came_and_often_again_after_a_find() {
    let lab = Lab::with_items().await;
    lab.put_items(0..1, 1);
    let engine = lab.engine(&with("poll_interval_max = \"5s\"\nlookback_interval = \"1h\""), &[]).await;
    lab.until_objects("loaded", "none", 1).await;
    let lists = || lab.s3.log().iter().filter(|entry| entry.op == Operation::ListObjects).count();
    // Nothing was found for a minute, as far as the ledger knows: the interval is at its longest.
    lab.execute("UPDATE keyfall.feeds SET last_found_at = now() - interval '1 min'").await;
    let polled = "SELECT count(*) FROM keyfall.feeds WHERE last_poll_at > last_found_at + interval '1 min'";
    lab.until_count(polled, 1).await;
    let (begun, before) = (std::time::Instant::now(), lists());
    until("the next poll", async || lists() > before).await;
    let waited = begun.elapsed();
    assert!(waited > std::time::Duration::from_secs(3), "polled again after {waited:?}");
    // Somebody found something, whoever it was: short again from the next poll on.
    lab.put_items(1..2, 1);
    lab.until_objects("loaded", "none", 2).await;
    let (begun, before) = (std::time::Instant::now(), lists());
    until("three more polls", async || lists() >= before + 3).await;
    assert!(begun.elapsed() < std::time::Duration::from_secs(3), "three polls took {:?}", begun.elapsed());
    engine.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_look_back_follows_the_lateness_that_any_channel_saw() {
    let lab = Lab::with_items().await;
    lab.put_items(7200..7210, 1);
    let feeds = with("lookback = \"10s\"\nlookback_max = \"1h\"\nlookback_interval = \"300ms\"");
    let engine = lab.engine(&feeds, &[]).await;
    lab.until_objects("loaded", "none", 10).await;
    let late = "SELECT count(*) FROM keyfall.objects WHERE late_seconds IS NOT NULL";
    assert_eq!(lab.count(late).await, 0, "nothing is late for a feed that was never swept before");
    // Ten minutes late, and far behind the look-back: a sweep on an operator's word finds it.
    lab.put_items(7209 - 600..7210 - 600, 1);
    assert_eq!(crate::scale::discover(&lab, &feeds).await, (11, 1));
    let found =
        "SELECT discovered_by || ' ' || late_seconds FROM keyfall.objects WHERE late_seconds IS NOT NULL ORDER BY id";
    assert_eq!(lab.texts(found).await, ["sweep 600"]);
    // Twice of that is within reach from now on.
    lab.put_items(7209 - 1190..7210 - 1190, 1);
    lab.until_objects("loaded", "none", 12).await;
    assert_eq!(lab.texts(found).await, ["sweep 600", "poll 1190"]);
    engine.drain().await;
    lab.assert_items(12, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn polls_that_begin_after_a_long_pause_make_a_sweep_due_whoever_does_it() {
    let lab = Lab::with_items().await;
    lab.put_items(3600..3610, 1);
    let feeds = with("lookback = \"1h\"");
    let first = lab.engine(&feeds, &[]).await;
    lab.until_objects("loaded", "none", 10).await;
    first.drain().await;
    lab.execute(
        "UPDATE keyfall.feeds SET last_poll_at = now() - interval '2 h', last_sweep_at = now() - interval '3 h'",
    )
    .await;
    // A day late, and nobody polled for longer than the look-back: only a sweep can find it.
    lab.s3.put(BUCKET, "items/2024-04-30-00-00-00.csv", item_body(1, 1));
    let second = lab.engine(&feeds, &[]).await;
    lab.until_objects("loaded", "none", 11).await;
    second.drain().await;
    assert_eq!(lab.texts(FOUND_BY).await, ["sweep loaded"]);
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.feeds WHERE poll_gap_at < last_sweep_at").await, 1);
}

/// Seconds without leading zeros, as real producers write them: most keys sort elsewhere than they belong.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unpadded_keys_are_loaded_in_the_order_of_their_times() {
    const KEYS: usize = 721;
    let lab = Lab::with_items().await;
    let key = |n: usize| {
        let (minute, second) = (n * 5 / 60, n * 5 % 60);
        format!("items/2024-5-1-{}-{}-{second}.csv", 9 + minute / 60, minute % 60)
    };
    let mut keys: Vec<String> = (0..KEYS).map(key).collect();
    for (n, key) in keys.iter().enumerate() {
        lab.s3.put(BUCKET, key, item_body(n, 1));
    }
    let engine = lab.engine(ITEMS, &["workers.max=1", "workers.group_objects=1"]).await;
    lab.until_objects("loaded", "none", 721).await;
    engine.drain().await;
    let loaded = lab.texts("SELECT key FROM keyfall.objects ORDER BY loaded_at").await;
    let astray = loaded.iter().zip(&keys).find(|(loaded, key)| loaded != key);
    assert_eq!(astray, None, "loaded out of turn, and whose turn it was");
    keys.sort();
    assert_ne!(loaded, keys, "these keys sort as their times do: they prove nothing");
    lab.assert_items(721, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_loaded_stands_in_the_ledger_with_its_reason() {
    let lab = Lab::with_items().await;
    lab.s3.put(BUCKET, "items/", "");
    lab.s3.put(BUCKET, "items/readme.txt", "hello");
    lab.s3.put(BUCKET, "items/2024-05-01-00-00-01.csv.part", "1,1\n");
    let frozen = PutOptions { storage_class: Some("GLACIER".to_owned()), ..PutOptions::default() };
    lab.s3.put_with(BUCKET, "items/2024-05-01-00-00-02.csv", "2,1\n", frozen);
    // Sorts after every time from `start_from` on, and lies before them.
    lab.s3.put(BUCKET, "items/2024-5-1-0-0-3.csv", "3,1\n");
    lab.s3.put(BUCKET, "items/2024-05-03-00-00-04.csv", "4,1\n");
    let feeds = with("exclude = [\"**/*.part\"]");
    let engine = lab.engine(&feeds, &[]).await;
    lab.until_objects("loaded", "none", 2).await;
    engine.drain().await;
    let reasons = "SELECT key || ' ' || coalesce(reason, state) FROM keyfall.objects ORDER BY key";
    let expected = [
        "items/ directory_marker",
        "items/2024-05-01-00-00-01.csv.part excluded",
        "items/2024-05-01-00-00-02.csv storage_class",
        "items/2024-05-03-00-00-04.csv loaded",
        "items/2024-5-1-0-0-3.csv loaded",
        "items/readme.txt pattern",
    ];
    assert_eq!(lab.texts(reasons).await, expected);
    assert_eq!(lab.texts("SELECT DISTINCT object::text FROM items ORDER BY 1").await, ["3", "4"]);
    assert_eq!(lab.s3.len(BUCKET), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_before_start_from_are_never_loaded() {
    let lab = Lab::with_items().await;
    lab.s3.put(BUCKET, "items/2024-05-01-00-00-00.csv", "1,1\n");
    lab.s3.put(BUCKET, "items/2024-5-1-0-0-1.csv", "2,1\n");
    lab.s3.put(BUCKET, "items/2024-05-02-00-00-00.csv", "3,1\n");
    lab.s3.put(BUCKET, "items/2024-5-2-0-0-1.csv", "4,1\n");
    let engine = lab.engine(&with("start_from = \"2024-05-02\""), &[]).await;
    lab.until_objects("loaded", "none", 2).await;
    engine.drain().await;
    assert_eq!(lab.texts("SELECT object::text FROM items ORDER BY 1").await, ["3", "4"]);
    let skipped = "SELECT key || ' ' || reason FROM keyfall.objects WHERE state = 'skipped' ORDER BY key";
    let skipped = lab.texts(skipped).await;
    // What sorts before the point where listing starts is not even seen.
    assert!(skipped.contains(&"items/2024-5-1-0-0-1.csv before_start".to_owned()), "{skipped:?}");
    assert!(skipped.iter().all(|line| line.ends_with(" before_start")), "{skipped:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_bytes_uploaded_again_are_disposed_of_again_and_not_loaded_again() {
    let lab = Lab::with_items().await;
    let now = Timestamp::now();
    lab.s3.put_at(BUCKET, &item_key(0), item_body(0, 3), now);
    let engine = lab.engine(&items(r#"action = "delete""#), &[]).await;
    lab.until_objects("loaded", "done", 1).await;
    assert!(lab.s3.is_empty(BUCKET));
    // A second later by the store's clock is all it takes, whatever the database's clock says.
    lab.s3.put_at(BUCKET, &item_key(0), item_body(0, 3), now + SignedDuration::from_secs(1));
    until("the object is deleted again", async || lab.s3.is_empty(BUCKET)).await;
    lab.until_objects("loaded", "done", 1).await;
    engine.drain().await;
    assert_eq!(lab.requests(Operation::GetObject, &item_key(0)), [200]);
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects").await, 1);
    lab.assert_items(1, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_younger_than_min_age_is_left_alone_until_it_is_old_enough() {
    let lab = Lab::with_items().await;
    let now = Timestamp::now();
    lab.s3.put_at(BUCKET, &item_key(0), item_body(0, 3), now - SignedDuration::from_hours(1));
    lab.s3.put_at(BUCKET, &item_key(1), item_body(1, 3), now + SignedDuration::from_secs(1));
    let engine = lab.engine(&with("min_age = \"2s\""), &[]).await;
    lab.until_objects("loaded", "none", 2).await;
    engine.drain().await;
    let early = "SELECT count(*) FROM keyfall.objects WHERE loaded_at < visible_at + interval '2 s'";
    assert_eq!(lab.count(early).await, 0);
    let waited = "SELECT count(*) FROM keyfall.objects WHERE loaded_at > discovered_at + interval '1 s'";
    assert_eq!(lab.count(waited).await, 1, "one object was old enough from the beginning");
    lab.assert_items(2, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_series_has_a_tip_of_its_own() {
    let lab = Lab::with_items().await;
    let feeds = ITEMS.replace("items/{time", "items/{vendor}/{time");
    lab.s3.put(BUCKET, "items/zeta/2024-05-01-00-00-00.csv", item_body(0, 3));
    let engine = lab.engine(&feeds, &[]).await;
    lab.until_objects("loaded", "none", 1).await;
    // A vendor never seen before, years behind the other one and before it in the alphabet.
    lab.s3.put(BUCKET, "items/acme/2020-01-01-00-00-00.csv", item_body(1, 3));
    lab.until_objects("loaded", "none", 2).await;
    lab.s3.put(BUCKET, "items/acme/2020-01-01-00-00-01.csv", item_body(2, 3));
    lab.until_objects("loaded", "none", 3).await;
    engine.drain().await;
    let found = "SELECT series || ' ' || discovered_by FROM keyfall.objects ORDER BY id";
    assert_eq!(lab.texts(found).await, ["items/zeta/ sweep", "items/acme/ poll", "items/acme/ poll"]);
    lab.assert_items(3, 3).await;
}
