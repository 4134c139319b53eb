//! F54–F75: the object store misbehaves. Bodies, access, listings, disposal, and pairs of faults.

mod access;
mod body;
mod content;
mod disposal;
mod late;
mod listing;
mod pairs;
mod versioned;

use ::keyfall::demo::s3::{ChecksumKind, PutOptions};

use crate::case::Case;
use crate::lab::{BUCKET, Lab, key};
use crate::oracle::Body;

/// Enough rows for several COPY frames, and too many for a group.
const STREAMED: u64 = 30_000;

pub(crate) fn cases() -> Vec<Case> {
    [
        body::cases(),
        content::cases(),
        access::cases(),
        listing::cases(),
        late::cases(),
        disposal::cases(),
        versioned::cases(),
        pairs::cases(),
    ]
    .concat()
}

/// Puts an object of which the store keeps no checksum, so that nothing but its length can show that some is missing.
fn put_unsummed(lab: &mut Lab, number: usize, rows: u64) -> Body {
    let body = Body::new(number, rows, &mut lab.random);
    lab.put_body(&key(number), &body);
    let options = PutOptions { checksum: ChecksumKind::None, ..PutOptions::default() };
    lab.s3.put_with(BUCKET, &key(number), body.text.clone(), options);
    body
}

/// A place between two records at about three fifths of a body: a cut that looks like a shorter file.
fn between_records(number: usize, body: &Body) -> usize {
    let begin = format!("\n{number},");
    let head = body.text.get(..body.text.floor_char_boundary(body.text.len() * 3 / 5)).unwrap_or_default();
    head.rfind(&begin).expect("more than one record") + 1
}

/// Waits until so many objects have come to an end of any kind.
async fn until_ended(lab: &Lab, objects: i64) {
    let sql = "SELECT count(*) FROM keyfall.objects WHERE state NOT IN ('pending', 'leased')";
    lab.until_count(sql, objects).await;
}

/// How many objects are in this state.
async fn count_state(lab: &Lab, state: &str) -> i64 {
    lab.count(&format!("SELECT count(*) FROM keyfall.objects WHERE state = '{state}'")).await
}

/// Waits until a fault has struck so often.
async fn struck(injected: &::keyfall::demo::s3::Injected, hits: u64) {
    crate::lab::within("the fault strikes", async {
        while injected.hits() < hits {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// Waits until a gauge shows this; gauges of the ledger follow it by some seconds.
async fn until_metric(keyfall: &crate::keyfall::Keyfall, name: &str, wanted: f64) {
    crate::lab::within(name, async {
        while keyfall.metric(name, "").await.is_none_or(|value| (value - wanted).abs() > 0.5) {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    })
    .await;
}
