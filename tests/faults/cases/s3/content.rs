//! F72, F73: damaged bytes, and objects that hold nothing to load.

use ::keyfall::demo::s3::{Action, ChecksumKind, FaultRule, Operation, PutOptions};

use super::{count_state, until_ended};
use crate::case::{Case, Report, Trial};
use crate::lab::{BUCKET, Disposal, Lab, Settings, key};
use crate::oracle::{Body, Fate, row_hash, sha256};

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("F72", "a flipped byte is found by every whole-object checksum", flipped),
        Case::new("F72-unsummed", "without a whole-object checksum a flipped digit is loaded", flipped_unseen),
        Case::new("F73", "objects in an archive tier, directory markers, empty objects", nothing_to_load),
    ]
}

/// One record whose last digit is `0`.
fn record(number: usize, amount: &str) -> Body {
    let text = format!("{number},0,n,{amount}\n");
    Body { text, rows: 1, sum: row_hash(number, 0, Some("n"), Some(amount)) }
}

/// Where the last digit of [`record`] stands.
fn last_digit(body: &Body) -> usize {
    body.text.len() - 2
}

fn put_summed(lab: &mut Lab, number: usize, checksum: ChecksumKind) -> Body {
    let body = record(number, "1.10");
    lab.put_body(&key(number), &body);
    lab.s3.put_with(BUCKET, &key(number), body.text.clone(), PutOptions { checksum, ..PutOptions::default() });
    body
}

async fn flipped(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    let kinds = [ChecksumKind::Crc64Nvme, ChecksumKind::Crc32, ChecksumKind::Crc32c, ChecksumKind::Sha256];
    for (number, kind) in kinds.into_iter().enumerate() {
        let body = put_summed(&mut lab, number, kind);
        let flip = FaultRule::on(Operation::GetObject, Action::FlipByte(last_digit(&body))).key(key(number)).times(1);
        let injected = lab.s3.inject(flip);
        lab.expect_s3(&format!("{kind:?}"), &injected, 1);
    }
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Delete));
    keyfall.start();
    lab.until_state("loaded", 4).await;
    for number in 0..4 {
        assert_eq!(lab.requests(Operation::GetObject, &key(number)), [200, 200], "{}", key(number));
    }
    lab.verify(&mut [&mut keyfall]).await
}

/// What is not promised: bytes that nobody vouches for. The ledger's SHA-256 is of what was read, so it can be found out.
async fn flipped_unseen(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    for (number, kind) in [ChecksumKind::Composite, ChecksumKind::None].into_iter().enumerate() {
        let body = put_summed(&mut lab, number, kind);
        let flip = FaultRule::on(Operation::GetObject, Action::FlipByte(last_digit(&body))).key(key(number)).times(1);
        let injected = lab.s3.inject(flip);
        lab.expect_s3(&format!("{kind:?}"), &injected, 1);
        let damaged = record(number, "1.11");
        let version = lab.oracle.versions.last_mut().expect("just put");
        (version.sum, version.sha256) = (damaged.sum, sha256(damaged.text.as_bytes()));
    }
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Keep));
    keyfall.start();
    lab.until_state("loaded", 2).await;
    lab.verify(&mut [&mut keyfall]).await
}

async fn nothing_to_load(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..1, 20);
    lab.put(1..2, 0);
    let glacier = PutOptions { storage_class: Some("GLACIER".to_owned()), ..PutOptions::default() };
    lab.s3.put_with(BUCKET, &key(10), "10,0,,\n", glacier);
    lab.s3.put(BUCKET, "incoming/", "");
    lab.s3.put(BUCKET, "incoming/2024-05-01-00-00-11.csv/", "");
    // Moved to an archive tier after it was listed; LIST of intelligent tiering does not even show it.
    lab.put(2..3, 20);
    lab.oracle.expect(&key(2), Fate::Quarantined);
    let moved = FaultRule::on(Operation::GetObject, Action::Status(403, "InvalidObjectState")).key(key(2));
    let injected = lab.s3.inject(moved);
    lab.expect_s3("InvalidObjectState", &injected, 1);
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Delete));
    keyfall.start();
    until_ended(&lab, 6).await;
    assert_eq!(count_state(&lab, "loaded").await, 2);
    let blamed = "SELECT count(*) FROM keyfall.objects WHERE state = 'quarantined' AND error_code = 'E-S3-ARCHIVED'";
    assert_eq!(lab.count(blamed).await, 1);
    let reasons = "SELECT count(*) FROM keyfall.objects WHERE (key, reason) IN (('incoming/', 'directory_marker'),
        ('incoming/2024-05-01-00-00-11.csv/', 'directory_marker'), ('incoming/2024-05-01-00-00-10.csv', 'storage_class'))";
    assert_eq!(lab.count(reasons).await, 3);
    assert_eq!(lab.requests(Operation::GetObject, &key(10)), [0_u16; 0], "a frozen object was asked for");
    assert!(lab.s3.get(BUCKET, &key(10)).is_some() && lab.s3.get(BUCKET, "incoming/").is_some());
    lab.verify(&mut [&mut keyfall]).await
}
