//! What must work with every implementation.

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use crate::emulator::{Emulator, Kind};
use crate::world::World;

pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) run: for<'a> fn(&'a Emulator) -> Pin<Box<dyn Future<Output = String> + 'a>>,
}

pub(crate) const ALL: &[Scenario] = &[
    Scenario { name: "raw", run: |emulator| Box::pin(envelope(emulator, "raw")) },
    Scenario { name: "sns", run: |emulator| Box::pin(envelope(emulator, "sns")) },
    Scenario { name: "sns-raw", run: |emulator| Box::pin(envelope(emulator, "sns-raw")) },
    Scenario { name: "eventbridge", run: |emulator| Box::pin(envelope(emulator, "eventbridge")) },
    Scenario { name: "encodings", run: |emulator| Box::pin(encodings(emulator)) },
    Scenario { name: "redrive", run: |emulator| Box::pin(redrive(emulator)) },
    Scenario { name: "multipart", run: |emulator| Box::pin(multipart(emulator)) },
    Scenario { name: "latency", run: |emulator| Box::pin(latency(emulator)) },
];

const LOADED: &str = "SELECT count(*) FROM keyfall.objects WHERE state = 'loaded' AND discovered_by = 'notification'";
const ROWS: &str = "SELECT count(*) FROM items";

/// Keys that every encoding of an event writes in its own way.
const KEYS: [&str; 9] = [
    "in/plain.csv",
    "in/a b.csv",
    "in/a+b.csv",
    "in/a%20b.csv",
    "in/50% off.csv",
    "in/k=v&x;y.csv",
    "in/~(it's)*!.csv",
    "in/ärger €.csv",
    "in/日本/語.csv",
];

/// LocalStack encodes the keys of `EventBridge` events like those of the others, which AWS does not: only keys that look
/// the same either way can be told there.
fn keys(kind: Kind, envelope: &str) -> Vec<&'static str> {
    let encoded_by_mistake = kind == Kind::LocalStack && envelope == "eventbridge";
    let is_plain = |key: &str| key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '.'));
    KEYS.into_iter().filter(|key| !encoded_by_mistake || is_plain(key)).collect()
}

/// Objects reach their rows by events alone, are deleted, and the events of the deletions do no harm.
async fn envelope(emulator: &Emulator, envelope: &str) -> String {
    let world = World::new(emulator, envelope, "disposal.action = \"delete\"").await;
    let keys = keys(emulator.kind, envelope);
    for (key, id) in keys.iter().zip(1..) {
        world.put(key, id).await;
    }
    // Not in the feed's prefix: refused, and left to the redrive policy.
    world.put("elsewhere/x.csv", 99).await;
    let wanted = i64::try_from(keys.len()).expect("a small number");
    world.until(LOADED, wanted).await;
    world.until(ROWS, wanted).await;
    world.until("SELECT count(*) FROM keyfall.objects WHERE disposal = 'done'", wanted).await;
    let rows = world.sql.query("SELECT key FROM keyfall.objects ORDER BY key", &[]).await.expect("an answer");
    let mut known: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let mut put = keys;
    known.sort();
    put.sort_unstable();
    assert_eq!(known, put, "keys as the bucket has them");
    let begun = Instant::now();
    while world.dead().await < 1 {
        assert!(begun.elapsed() < Duration::from_mins(1), "the foreign event stays: {}", world.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    world.until_drained().await;
    assert_eq!(world.dead().await, 1, "only the foreign event is dead");
    let test = world.metric("keyfall_notifications_total{queue=\"events\",outcome=\"test\"}").await;
    let ignored = world.metric("keyfall_notifications_total{queue=\"events\",outcome=\"ignored\"}").await;
    format!("{wanted} keys, {test} test events, {ignored} removals ignored, 1 foreign event in the DLQ")
}

/// The three ways to write a key, by hand, so that each implementation delivers all of them.
async fn encodings(emulator: &Emulator) -> String {
    let world = World::new(emulator, "none", "").await;
    let keys = [
        ("in/a b+c.csv", "in/a+b%2Bc.csv"),
        ("in/d e+f.csv", "in/d%20e%2Bf.csv"),
        ("in/g h+i.csv", "in%2Fg+h%2Bi.csv"),
    ];
    for ((key, encoded), id) in keys.into_iter().zip(1..) {
        world.put(key, id).await;
        let head = world.s3.head_object().bucket(&world.bucket).key(key).send().await.expect("the object");
        let (etag, size) = (head.e_tag().unwrap_or_default().trim_matches('"'), head.content_length().unwrap_or(0));
        let body = serde_json::json!({"Records": [{
            "eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "us-east-1",
            "eventTime": jiff::Timestamp::now().to_string(), "eventName": "ObjectCreated:Put",
            "s3": {"s3SchemaVersion": "1.0", "bucket": {"name": world.bucket},
                   "object": {"key": encoded, "size": size, "eTag": etag, "sequencer": "0055AED6DCD90281E5"}},
        }]});
        world.send(&body.to_string()).await;
    }
    world.until(LOADED, 3).await;
    world.until(ROWS, 3).await;
    world.until_drained().await;
    assert_eq!(world.dead().await, 0, "nothing died");
    "a+b%2B, a%20b and in%2Fa+b".to_owned()
}

/// What nobody can read goes where the queue's owner wants it, and keeps nothing from being loaded.
async fn redrive(emulator: &Emulator) -> String {
    let world = World::new(emulator, "raw", "").await;
    let poison = ["no JSON", "{}", "{\"Records\": [{\"eventSource\": \"aws:s3\"}]}"];
    for body in poison {
        world.send(body).await;
    }
    for id in 1..=5 {
        world.put(&format!("in/{id}.csv"), id).await;
    }
    world.until(LOADED, 5).await;
    world.until(ROWS, 5).await;
    let begun = Instant::now();
    while world.dead().await < 3 {
        assert!(begun.elapsed() < Duration::from_mins(1), "poison stays: {}", world.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    world.until_drained().await;
    assert_eq!(world.dead().await, 3, "only the poison is dead");
    "3 poison messages in the DLQ after 3 receives each, 5 objects loaded beside them".to_owned()
}

/// An upload in parts is one object, whatever events it makes.
async fn multipart(emulator: &Emulator) -> String {
    use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
    let world = World::new(emulator, "raw", "").await;
    let (bucket, key) = (&world.bucket, "in/parts.csv");
    let upload = world.s3.create_multipart_upload().bucket(bucket).key(key).send().await.expect("an upload");
    let id = upload.upload_id().expect("its id").to_owned();
    // S3 takes no part but the last below 5 MiB.
    let first = "1,x\n".repeat(1_400_000);
    let mut parts = Vec::new();
    for (number, body) in [(1, first), (2, "2,last\n".to_owned())] {
        let part = world.s3.upload_part().bucket(bucket).key(key).upload_id(&id).part_number(number);
        let part = part.body(body.into_bytes().into()).send().await.expect("a part");
        parts.push(CompletedPart::builder().part_number(number).set_e_tag(part.e_tag).build());
    }
    let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
    let complete = world.s3.complete_multipart_upload().bucket(bucket).key(key).upload_id(&id).multipart_upload(parts);
    complete.send().await.expect("the upload is complete");
    world.until(LOADED, 1).await;
    world.until(ROWS, 1_400_001).await;
    world.until_drained().await;
    world.until("SELECT count(*) FROM keyfall.objects WHERE state IN ('pending', 'leased')", 0).await;
    let known: i64 = world.sql.query_one("SELECT count(*) FROM keyfall.objects", &[]).await.expect("an answer").get(0);
    format!("1,400,001 rows once; {known} version(s) named by events")
}

/// From the answer to PUT until another session sees the row.
async fn latency(emulator: &Emulator) -> String {
    // moto's queue gets slow beyond some hundred messages.
    let objects = if emulator.kind == Kind::Moto { 100 } else { 500 };
    let world = World::new(emulator, "raw", "").await;
    world.put("in/warm.csv", 0).await;
    world.until(ROWS, 1).await;
    let query = world.sql.prepare("SELECT count(*) FROM items WHERE id = $1").await.expect("a statement");
    let mut taken = Vec::new();
    for id in 1..=objects {
        world.put(&format!("in/{id}.csv"), id).await;
        let begun = Instant::now();
        while world.sql.query_one(&query, &[&id]).await.expect("an answer").get::<_, i64>(0) == 0 {
            assert!(begun.elapsed() < Duration::from_mins(1), "{id} never came: {}", world.log());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        taken.push(begun.elapsed());
    }
    world.until(LOADED, i64::from(objects) + 1).await;
    taken.sort_unstable();
    let at = |share: usize| taken.get((taken.len() - 1) * share / 100).map_or(0.0, |time| time.as_secs_f64() * 1e3);
    format!(
        "{objects} objects one by one, PUT to row: p50 {:.0} ms, p99 {:.0} ms, most {:.0} ms",
        at(50),
        at(99),
        at(100)
    )
}
