//! Notifications from a queue: a scripted double behind the port, everything else real.

mod double;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use keyfall::app::Queues;
use keyfall::config::{Config, Sources};
use keyfall::demo::s3::Operation;
use keyfall::domain::queue::{NotificationQueue, QueueError};
use keyfall::engine::Engine;
use keyfall::telemetry::recorder::Recorder;
use serde_json::{Value, json};

use crate::support::{BUCKET, Lab, connect, engine_with, item_body, item_key, loaded, until, within};
use double::Double;

/// A feed that is swept and polled at its start, and then hears of objects from its queue alone.
fn feed(name: &str, more: &str) -> String {
    format!(
        r#"
        [feeds.{name}]
        bucket = "drop"
        pattern = "{name}/{{time:%Y-%m-%d-%H-%M-%S}}.csv"
        table = "items"
        queue = "uploads"
        poll_interval = "1h"
        poll_interval_max = "1h"
        lookback_interval = "1h"
        {more}
        [feeds.{name}.csv]
        header = false
        "#
    )
}

/// The queue's section; its URL leads nowhere, the double stands in for it.
fn queue(more: &str) -> String {
    format!("[queues.uploads]\nurl = \"http://127.0.0.1:9/q\"\n{more}\n")
}

/// An engine whose first sweep and poll are over, fed by a double.
async fn start(lab: &Lab, text: &str) -> (Arc<Double>, Engine) {
    start_on(lab, &loaded(&lab.sources(text)).config).await
}

async fn start_on(lab: &Lab, config: &Config) -> (Arc<Double>, Engine) {
    let double = Arc::new(Double::default());
    let feeds = i64::try_from(config.feeds.len()).expect("a small number");
    let queue: Arc<dyn NotificationQueue> = Arc::<Double>::clone(&double);
    let engine = engine_with(config, Queues::from([("uploads".to_owned(), queue)])).await;
    lab.until_count("SELECT count(*) FROM keyfall.feeds WHERE last_poll_at > last_sweep_at", feeds).await;
    (double, engine)
}

/// Puts the n-th object and answers S3's record about it.
fn put(lab: &Lab, n: usize) -> Value {
    put_as(lab, &item_key(n), n)
}

fn put_as(lab: &Lab, key: &str, n: usize) -> Value {
    let body = item_body(n, 3);
    let size = body.len();
    let etag = lab.s3.put(BUCKET, key, body);
    record(key, &etag, size)
}

fn record(key: &str, etag: &str, size: usize) -> Value {
    json!({
        "eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "eventTime": Timestamp::now().to_string(),
        "s3": {"bucket": {"name": BUCKET}, "object": {"key": key, "size": size, "eTag": etag}},
    })
}

fn body(records: &[Value]) -> String {
    json!({"Records": records}).to_string()
}

fn sns(message: &str) -> String {
    json!({"Type": "Notification", "MessageId": "1", "TopicArn": "arn", "Message": message}).to_string()
}

fn bridge(record: &Value) -> String {
    let object = &record["s3"]["object"];
    json!({
        "version": "0", "detail-type": "Object Created", "source": "aws.s3", "time": record["eventTime"],
        "detail": {"bucket": {"name": BUCKET},
                   "object": {"key": object["key"], "size": object["size"], "etag": object["eTag"]}},
    })
    .to_string()
}

/// How the objects were found, and in what state they are.
const FOUND: &str = "SELECT key || ' ' || discovered_by || ' ' || state FROM keyfall.objects ORDER BY key";

async fn drained(engine: Engine) {
    within("the engine stops", engine.drain()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_envelope_loads() {
    let lab = Lab::with_items().await;
    let (double, engine) = start(&lab, &(queue("") + &feed("items", ""))).await;
    let records: Vec<Value> = (0..5).map(|n| put(&lab, n)).collect();
    let s3: Vec<String> = records.iter().map(|record| body(std::slice::from_ref(record))).collect();
    let bodies = [s3[0].clone(), sns(&s3[1]), sns(&sns(&s3[2])), bridge(&records[3]), sns(&bridge(&records[4]))];
    let ids = bodies.map(|body| double.send(body));
    lab.until_objects("loaded", "none", 5).await;
    double.until_acknowledged(&ids).await;
    drained(engine).await;
    lab.assert_items(5, 3).await;
    let by = "SELECT DISTINCT discovered_by || coalesce(' ' || notification, '') FROM keyfall.objects";
    assert_eq!(lab.texts(by).await, ["notification"]);
    // Told everything, it asked the bucket for nothing but the objects.
    assert_eq!(lab.requests(Operation::ListObjects, "items/2024-05-01-00-00-00.csv"), Vec::<u16>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_decoded_once_as_each_sender_spells_them() {
    let lab = Lab::with_items().await;
    let pattern = r#"pattern = "items/{time:%Y-%m-%d-%H-%M-%S}.csv""#;
    let feeds = feed("items", "").replacen(pattern, "prefix = \"in x/\"", 1);
    let (double, engine) = start(&lab, &(queue("") + &feeds)).await;
    // AWS, LocalStack, moto; the last one would be another key if it were decoded twice.
    let spelled = [
        ("in x/a b+.csv", "in+x/a+b%2B.csv"),
        ("in x/a b.csv", "in%20x/a%20b.csv"),
        ("in x/c d.csv", "in+x%2Fc+d.csv"),
        ("in x/%2B.csv", "in+x/%252B.csv"),
    ];
    for (n, (key, spelled)) in spelled.iter().enumerate() {
        let mut record = put_as(&lab, key, n);
        record["s3"]["object"]["key"] = json!(spelled);
        double.send(body(&[record]));
    }
    let plain = put_as(&lab, "in x/+ e%20.csv", 4);
    double.send(bridge(&plain));
    lab.until_objects("loaded", "none", 5).await;
    drained(engine).await;
    lab.assert_items(5, 3).await;
    let mut keys: Vec<&str> = spelled.iter().map(|(key, _)| *key).chain(["in x/+ e%20.csv"]).collect();
    keys.sort_unstable();
    assert_eq!(lab.texts("SELECT key FROM keyfall.objects ORDER BY key").await, keys);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_feeds_share_a_queue_and_one_message() {
    let lab = Lab::with_items().await;
    let (double, engine) = start(&lab, &(queue("") + &feed("items", "") + &feed("jobs", ""))).await;
    let jobs = item_key(1).replace("items/", "jobs/");
    let id = double.send(body(&[put(&lab, 0), put_as(&lab, &jobs, 1)]));
    lab.until_objects("loaded", "none", 2).await;
    double.until_acknowledged(&[id]).await;
    drained(engine).await;
    lab.assert_items(2, 3).await;
    assert_eq!(lab.texts("SELECT feed FROM keyfall.objects ORDER BY feed").await, ["items", "jobs"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_nobody_understands_stays_and_holds_up_no_other() {
    let lab = Lab::with_items().await;
    let (double, engine) = start(&lab, &(queue("") + &feed("items", ""))).await;
    let mut half = record("items/%zz", "x", 1);
    half["eventTime"] = json!("never");
    let confirm = json!({"Type": "SubscriptionConfirmation", "SubscribeURL": format!("{}/canary", lab.s3.endpoint())});
    let poison = ["no JSON".to_owned(), confirm.to_string(), body(&[put(&lab, 0), half, put(&lab, 1)])];
    let poison = poison.map(|body| double.send(body));
    let good = double.send(body(&[put(&lab, 2)]));
    lab.until_objects("loaded", "none", 3).await;
    double.until_acknowledged(&[good]).await;
    // What could be read of the third is loaded, and not again when it comes again.
    double.redeliver();
    until("they were received again", async || double.deliveries(&poison[2]) == 2).await;
    let last = double.send(body(&[put(&lab, 3)]));
    double.until_acknowledged(&[last]).await;
    lab.until_objects("loaded", "none", 4).await;
    drained(engine).await;
    assert_eq!(double.in_flight(), poison);
    lab.assert_items(4, 3).await;
    assert!(lab.s3.log().iter().all(|entry| entry.key != "canary" && entry.bucket != "canary"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_acknowledged_before_it_is_in_the_ledger() {
    let lab = Lab::with_items().await;
    let sources = lab.sources(&(queue("") + &feed("items", "")));
    let sources = Sources { overrides: vec!["database.lock_timeout=300ms".to_owned()], ..sources };
    let (double, engine) = start_on(&lab, &loaded(&sources).config).await;
    let other = connect(&lab.postgres.url(&lab.database)).await;
    let lock = "BEGIN; LOCK TABLE keyfall.objects IN ACCESS EXCLUSIVE MODE";
    other.batch_execute(lock).await.expect(lock);
    double.pause();
    let ids = [double.send(body(&[put(&lab, 0)])), double.send(body(&[put(&lab, 1)]))];
    double.go_on();
    // Each statement gives up after a while, and the next one begins.
    let begun = Mutex::new(BTreeSet::new());
    until("it was tried three times", async || {
        let waiting = "SELECT query_start::text FROM pg_stat_activity
                        WHERE datname = current_database() AND query LIKE '-- ledger::record%' AND wait_event_type = 'Lock'";
        let seen = lab.texts(waiting).await;
        let mut begun = begun.lock().expect("nobody else has it");
        begun.extend(seen);
        begun.len() >= 3
    })
    .await;
    assert_eq!(double.acknowledged(), Vec::<String>::new());
    other.batch_execute("ROLLBACK").await.expect("the lock is given up");
    double.until_acknowledged(&ids).await;
    lab.until_objects("loaded", "none", 2).await;
    drained(engine).await;
    // The outage used up one delivery of each, however long it was.
    assert_eq!(ids.map(|id| double.deliveries(&id)), [1, 1]);
    lab.assert_items(2, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_comes_twice_is_loaded_once() {
    let lab = Lab::with_items().await;
    let (double, engine) = start(&lab, &(queue("receivers = 4") + &feed("items", ""))).await;
    let record = put(&lab, 0);
    let twice = body(&[record.clone(), record.clone()]);
    let ids = [double.send(twice.clone()), double.send(twice), double.send(bridge(&record))];
    lab.until_objects("loaded", "none", 1).await;
    double.until_acknowledged(&ids).await;
    let late = double.send(body(&[record]));
    double.until_acknowledged(&[late]).await;
    drained(engine).await;
    lab.assert_items(1, 3).await;
    assert_eq!(lab.requests(Operation::GetObject, &item_key(0)), [200]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_nobody_are_not_fetched_and_stay_unless_they_are_to_be_acknowledged() {
    for (policy, stays) in [("leave", true), ("acknowledge", false)] {
        let lab = Lab::with_items().await;
        let text = queue(&format!("foreign_events = \"{policy}\"")) + &feed("items", "");
        let (double, engine) = start(&lab, &text).await;
        lab.s3.create_bucket("other");
        let mut other_bucket = put(&lab, 0);
        other_bucket["s3"]["bucket"]["name"] = json!("other");
        let bodies = [body(&[other_bucket]), body(&[put_as(&lab, "elsewhere/1.csv", 1)])];
        let foreign = bodies.map(|body| double.send(body));
        let good = double.send(body(&[put(&lab, 2)]));
        lab.until_objects("loaded", "none", 1).await;
        double.until_acknowledged(&[good]).await;
        if stays {
            assert_eq!(double.in_flight(), foreign, "{policy}");
        } else {
            double.until_acknowledged(&foreign).await;
        }
        drained(engine).await;
        assert_eq!(lab.texts(FOUND).await, [format!("{} notification loaded", item_key(2))]);
        let fetched = lab.s3.log().into_iter().filter(|entry| entry.op == Operation::GetObject).count();
        assert_eq!(fetched, 1, "{policy}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tests_removals_and_copies_of_our_own_are_acknowledged_and_nothing_more() {
    let lab = Lab::with_items().await;
    let feeds = feed("items", "") + "[feeds.items.disposal]\naction = \"archive\"\nprefix = \"archive/\"\n";
    let (double, engine) = start(&lab, &(queue("") + &feeds)).await;
    let mut removed = record(&item_key(7), "x", 1);
    removed["eventName"] = json!("ObjectRemoved:Delete");
    let test = json!({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": BUCKET}).to_string();
    let ids = [
        double.send(test.clone()),
        double.send(sns(&test)),
        double.send(body(&[removed])),
        double.send(body(&[])),
        double.send(body(&[record("archive/items/1.csv", "x", 1)])),
        // It is gone before it can be looked up.
        double.send(body(&[json!({
            "eventName": "ObjectCreated:Put",
            "s3": {"bucket": {"name": BUCKET}, "object": {"key": item_key(9)}},
        })])),
    ];
    double.until_acknowledged(&ids).await;
    drained(engine).await;
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_tells_too_little_is_looked_up() {
    let lab = Lab::with_items().await;
    let (double, engine) = start(&lab, &(queue("") + &feed("items", ""))).await;
    let mut records: Vec<Value> = (0..4).map(|n| put(&lab, n)).collect();
    records[0]["s3"]["object"]["size"] = json!(-1);
    records[1]["s3"]["object"]["eTag"] = json!(null);
    records[2]["eventTime"] = json!("2999-01-01T00:00:00Z");
    records[3]["s3"]["object"] = json!({"key": item_key(3)});
    // A longer key sorts after it on the same page.
    lab.s3.put(BUCKET, &format!("{}.more", item_key(3)), "9,9\n");
    let id = double.send(body(&records));
    lab.until_objects("loaded", "none", 4).await;
    double.until_acknowledged(&[id]).await;
    drained(engine).await;
    lab.assert_items(4, 3).await;
    let by = "SELECT DISTINCT discovered_by || ' ' || (visible_at <= now())::text FROM keyfall.objects";
    assert_eq!(lab.texts(by).await, ["notification true"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_messages_that_failed_are_taken_out_again_and_giving_up_is_harmless() {
    let lab = Lab::with_items().await;
    let (double, engine) = start(&lab, &(queue("") + &feed("items", ""))).await;
    double.pause();
    let ids: Vec<String> = (0..3).map(|n| double.send(body(&[put(&lab, n)]))).collect();
    double.refuse(&ids[1], 2);
    double.go_on();
    double.until_acknowledged(&ids).await;
    let tries = double.tries();
    assert_eq!(tries, [ids.clone(), vec![ids[1].clone()], vec![ids[1].clone()]]);
    // It fails more often than it is tried: it comes again and is known by then.
    let stubborn = double.send_refused(body(&[put(&lab, 3)]), 3);
    until("it was given up", async || double.tries().len() == tries.len() + 3).await;
    lab.until_objects("loaded", "none", 4).await;
    double.redeliver();
    double.until_acknowledged(&[stubborn]).await;
    drained(engine).await;
    lab.assert_items(4, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_fails_is_shown_and_polls_go_on() {
    let lab = Lab::with_items().await;
    let feeds = feed("items", "").replace("poll_interval = \"1h\"", "poll_interval = \"200ms\"");
    let (double, engine) = start(&lab, &(queue("receivers = 8") + &feeds)).await;
    double.fail(Some(QueueError::Gone { detail: "AWS.SimpleQueueService.NonExistentQueue".to_owned() }));
    let trouble = async || engine.troubles().await.expect("the ledger answers").remove(0).1;
    until("it is shown", async || trouble().await.is_some()).await;
    let text = trouble().await.unwrap_or_default();
    assert!(text.contains("\"uploads\"") && text.contains("no such queue") && text.contains("`url`"), "{text}");
    lab.put_items(0..1, 3);
    lab.until_objects("loaded", "none", 1).await;
    double.fail(None);
    until("it is mended", async || trouble().await.is_none()).await;
    let id = double.send(body(&[put(&lab, 1)]));
    double.until_acknowledged(&[id]).await;
    drained(engine).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_poll_does_not_hold_up_the_end() {
    let lab = Lab::with_items().await;
    let (double, engine) = start(&lab, &(queue("receivers = 3") + &feed("items", ""))).await;
    until("all receivers wait", async || double.waiting() == 3).await;
    let begun = Instant::now();
    drained(engine).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_notification_told_of_is_found_by_polls_and_counted_as_missed() {
    let recorder = Recorder::install().expect("a recorder");
    let lab = Lab::with_items().await;
    let feeds = feed("unheard", "").replace("poll_interval = \"1h\"", "poll_interval = \"200ms\"");
    let (double, engine) = start(&lab, &(queue("") + &feeds)).await;
    lab.until_count("SELECT count(*) FROM keyfall.feeds WHERE notified_since IS NOT NULL", 1).await;
    // S3's clock has whole seconds: what is put within the second before is not awaited.
    let now = Timestamp::now() + SignedDuration::from_secs(2);
    let key = |n: usize| item_key(n).replace("items/", "unheard/");
    for n in 0..3 {
        lab.s3.put_at(BUCKET, &key(n), item_body(n, 3), now);
    }
    lab.until_objects("loaded", "none", 3).await;
    let states = "SELECT coalesce(notification, '-') FROM keyfall.objects ORDER BY key";
    assert_eq!(lab.texts(states).await, ["awaited", "awaited", "awaited"]);
    let etag = format!("{:?}", lab.texts("SELECT etag FROM keyfall.objects ORDER BY key LIMIT 1").await);
    let told = record(&key(0), etag.trim_matches(['[', ']', '"']), item_body(0, 3).len());
    let id = double.send(body(&[told]));
    double.until_acknowledged(&[id]).await;
    assert_eq!(lab.texts(states).await, ["arrived", "awaited", "awaited"]);
    lab.execute("UPDATE keyfall.objects SET discovered_at = now() - interval '3 min'").await;
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE notification = 'missed'", 2).await;
    assert_eq!(lab.texts(states).await, ["arrived", "missed", "missed"]);
    drained(engine).await;
    let text = recorder.render();
    for line in [
        "keyfall_notifications_missed_total{feed=\"unheard\"} 2\n",
        "keyfall_objects_discovered_total{feed=\"unheard\",channel=\"poll\"} 3\n",
    ] {
        assert!(text.contains(line), "{line}{text}");
    }
}

/// A listing shows when an upload in parts began, its notification when it ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_found_by_notification_is_found_again_although_listings_show_it_older() {
    let lab = Lab::with_items().await;
    let began = Timestamp::now() - SignedDuration::from_hours(3);
    let text = queue("") + &feed("items", "sweep_interval = \"1s\"").replace("attempt", "");
    let (double, engine) = start(&lab, &text).await;
    // The event comes, the object is not to be seen: it was replaced in between, or the store is behind.
    let size = item_body(0, 3).len();
    let etag = lab.s3.put_at(BUCKET, "elsewhere", item_body(0, 3), began);
    let id = double.send(body(&[record(&item_key(0), &etag, size)]));
    double.until_acknowledged(&[id]).await;
    lab.until_objects("missing", "none", 1).await;
    lab.s3.put_at(BUCKET, &item_key(0), item_body(0, 3), began);
    lab.until_objects("loaded", "none", 1).await;
    drained(engine).await;
    let expected = format!("{} notification loaded", item_key(0));
    assert_eq!(lab.texts(FOUND).await, [expected]);
    let visible = "SELECT (visible_at < now() - interval '2 h')::text FROM keyfall.objects";
    assert_eq!(lab.texts(visible).await, ["true"], "from then on the listing's time counts");
    lab.assert_items(1, 3).await;
}
