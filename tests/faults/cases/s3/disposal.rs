//! F60, F65, F69–F71: copies and deletions that are refused, lie, stall, or meet something else.

use std::time::Duration;

use ::keyfall::demo::s3::{Action, EmbeddedS3, FaultRule, Gate, Operation};

use super::{struck, until_ended};
use crate::case::{Case, Report, Trial};
use crate::control::Strike;
use crate::lab::{ARCHIVE, BUCKET, Disposal, Lab, Settings, key, within};
use crate::oracle::Body;

/// Above what S3 copies in one request.
const LARGE: u64 = 6 << 30;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("F60", "an object is replaced between COMMIT and DELETE", replaced_before_delete).first_wave(),
        Case::new("F65", "copies answer 200 with an error inside", copy_fails_under_200).first_wave(),
        Case::new("F69", "a deletion says 500 and was done, says 200 and was not, conflicts", deletions_that_lie),
        Case::new("F70", "copies are denied, stall, lose their answer; a large one fails half-way", copies_that_fail),
        Case::new("F71", "something else lies under the archive key", archive_key_taken),
    ]
}

/// Objects whose disposal was tried so often and is still to be done.
async fn until_tried(lab: &Lab, times: i32, objects: i64) {
    let sql = format!(
        "SELECT count(*) FROM keyfall.objects
          WHERE state = 'loaded' AND disposal = 'pending' AND disposal_attempts >= {times} AND disposal_error IS NOT NULL"
    );
    lab.until_count(&sql, objects).await;
}

async fn until_disposed(lab: &Lab, objects: i64) {
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE disposal = 'done'", objects).await;
}

fn archived(number: usize) -> String {
    format!("{ARCHIVE}{}", key(number))
}

/// Whether one of our objects was asked to be deleted; questions keyfall asks a store are about other keys.
fn deletions(s3: &EmbeddedS3, number: usize) -> Vec<u16> {
    let of_key = |op| matches!(op, Operation::DeleteObject | Operation::DeleteObjects);
    s3.log().iter().filter(|entry| of_key(entry.op) && entry.key == key(number)).map(|entry| entry.status).collect()
}

fn impatient(disposal: Disposal) -> Settings {
    Settings { s3: "read_timeout = \"1s\"\nmax_attempts = 1".to_owned(), ..Settings::new(disposal) }
}

/// Claims that an object is too large for one copy.
fn make_large(lab: &mut Lab, number: usize) {
    let claim = FaultRule::on(Operation::HeadObject, Action::ClaimSize(LARGE)).key(key(number));
    let claimed = lab.s3.inject(claim);
    lab.expect_s3_any("6 GiB claimed", &claimed);
    lab.s3.inject(FaultRule::on(Operation::UploadPartCopy, Action::ClaimSize(LARGE)));
}

async fn replaced_before_delete(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..1, 20);
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Delete));
    let gate = Gate::new();
    let held = keyfall.control.arm("dispose.taken", 1, Strike::Hold(gate.clone()));
    lab.expect_hits("dispose.taken hold", &held, 1);
    keyfall.start();
    within("the loaded version is about to be deleted", gate.reached()).await;
    assert_eq!(lab.count("SELECT count(*) FROM items WHERE object = 0").await, 20);
    let newer = Body::new(100, 30, &mut lab.random);
    let etag = lab.put_body(&key(0), &newer);
    gate.open();
    within("the deletion is answered", async {
        while deletions(&lab.s3, 0).first().is_none_or(|status| *status == 0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(deletions(&lab.s3, 0).first(), Some(&412), "the version that was not loaded yet was deleted");
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE disposal = 'done' AND state = 'loaded'", 2).await;
    let read = format!("SELECT count(*) FROM keyfall.objects WHERE state = 'loaded' AND etag = '{etag}'");
    assert_eq!(lab.count(&read).await, 1);
    assert_eq!(deletions(&lab.s3, 0), [412, 204]);
    lab.verify(&mut [&mut keyfall]).await
}

async fn copy_fails_under_200(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..3, 20);
    make_large(&mut lab, 1);
    make_large(&mut lab, 2);
    let fault = |op, number| FaultRule::on(op, Action::CopyError200).key(archived(number)).times(2);
    let mut injected = Vec::new();
    for (name, op, number) in [
        ("CopyObject", Operation::CopyObject, 0),
        ("UploadPartCopy", Operation::UploadPartCopy, 1),
        ("CompleteMultipartUpload", Operation::CompleteUpload, 2),
    ] {
        let rule = lab.s3.inject(fault(op, number));
        lab.expect_s3_any(name, &rule);
        injected.push(rule);
    }
    let settings = Settings { s3: "max_attempts = 1".to_owned(), ..Settings::new(Disposal::Archive) };
    let mut keyfall = lab.keyfall("a", &settings);
    keyfall.start();
    for rule in &injected {
        struck(rule, 1).await;
    }
    for number in 0..3 {
        let first = lab.s3.log().iter().find(|entry| entry.key == archived(number) && entry.status == 200).cloned();
        assert!(first.is_some(), "the copy answered 200");
    }
    until_disposed(&lab, 3).await;
    for number in 0..3 {
        assert!(lab.s3.get(BUCKET, &archived(number)).is_some(), "{} was deleted without a copy", key(number));
        assert_eq!(deletions(&lab.s3, number), [204], "{} was deleted on the word of a failed copy", key(number));
    }
    assert_eq!(lab.s3.open_uploads(), 0, "parts were left behind");
    lab.verify(&mut [&mut keyfall]).await
}

async fn deletions_that_lie(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..3, 20);
    for (name, number, action) in [
        ("500 after deleting", 0, Action::FailAfter(500, "InternalError")),
        ("200 without deleting", 1, Action::Pretend),
        ("409 conflict", 2, Action::Status(409, "ConditionalRequestConflict")),
    ] {
        let injected = lab.s3.inject(FaultRule::on(Operation::DeleteObjects, action).key(key(number)).times(1));
        lab.expect_s3(name, &injected, 1);
    }
    let settings = Settings { feed: "sweep_interval = \"2s\"".to_owned(), ..Settings::new(Disposal::Delete) };
    let mut keyfall = lab.keyfall("a", &settings);
    keyfall.start();
    until_disposed(&lab, 3).await;
    assert_eq!((deletions(&lab.s3, 0), deletions(&lab.s3, 2)), (vec![500, 404], vec![409, 204]));
    assert_eq!(lab.s3.keys(BUCKET), [key(1)], "only what the store lied about is still there");
    // An hour later the listing still shows it, so nobody can think that the page was old.
    lab.execute("UPDATE keyfall.objects SET disposed_at = disposed_at - interval '2 hours'").await;
    within("it is deleted at last", async {
        while !lab.s3.is_empty(BUCKET) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    for number in 0..3 {
        assert_eq!(lab.requests(Operation::GetObject, &key(number)), [200], "loaded twice");
    }
    lab.verify(&mut [&mut keyfall]).await
}

async fn copies_that_fail(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..5, 20);
    make_large(&mut lab, 3);
    make_large(&mut lab, 4);
    let on_copy = |op, number, action| FaultRule::on(op, action).key(archived(number));
    let stalled = Gate::new();
    for (name, rule) in [
        ("CopyObject denied", on_copy(Operation::CopyObject, 0, Action::Denied).times(1)),
        ("CopyObject stalls", on_copy(Operation::CopyObject, 1, Action::Hold(stalled.clone())).times(1)),
        ("CopyObject loses its answer", on_copy(Operation::CopyObject, 2, Action::HangUp).times(1)),
        ("a part is denied", on_copy(Operation::UploadPartCopy, 3, Action::Denied).from_hit(7).times(1)),
        ("the join fails", on_copy(Operation::CompleteUpload, 4, Action::Status(503, "SlowDown")).times(1)),
    ] {
        let injected = lab.s3.inject(rule);
        lab.expect_s3(name, &injected, 1);
    }
    let mut keyfall = lab.keyfall("a", &impatient(Disposal::Archive));
    keyfall.start();
    until_tried(&lab, 1, 5).await;
    assert!((0..5).all(|number| lab.s3.get(BUCKET, &key(number)).is_some()), "an original went before its copy");
    until_disposed(&lab, 5).await;
    assert!((0..5).all(|number| deletions(&lab.s3, number) == [204]));
    assert_eq!(lab.s3.open_uploads(), 0, "parts were left behind");
    let aborted = lab.s3.log().iter().filter(|entry| entry.op == Operation::AbortUpload).count();
    assert_eq!(aborted, 2, "each failed copy in parts is taken back");
    lab.verify(&mut [&mut keyfall]).await
}

async fn archive_key_taken(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..3, 20);
    let second_name =
        |number: usize| format!("{}.{}", archived(number), lab.s3.etag(BUCKET, &key(number)).expect("put"));
    let (other, second) = (second_name(0), second_name(2));
    lab.s3.put(BUCKET, &archived(0), "something else");
    lab.s3.put(BUCKET, &archived(2), "something else");
    lab.s3.put(BUCKET, &second, "something else again");
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Archive));
    keyfall.start();
    until_ended(&lab, 3).await;
    until_disposed(&lab, 2).await;
    until_tried(&lab, 2, 1).await;
    assert_eq!(lab.s3.get(BUCKET, &archived(0)).expect("it stays"), "something else");
    assert!(lab.s3.get(BUCKET, &other).is_some(), "{:?}", lab.s3.keys(BUCKET));
    assert_eq!(lab.s3.get(BUCKET, &second).expect("it stays"), "something else again");
    assert_eq!(lab.s3.get(BUCKET, &archived(2)).expect("it stays"), "something else");
    assert!(lab.s3.get(BUCKET, &key(2)).is_some(), "an original was deleted without a copy");
    assert!(deletions(&lab.s3, 2).is_empty());
    lab.s3.remove(BUCKET, &second);
    lab.verify(&mut [&mut keyfall]).await
}
