//! The same in a bucket with versioning: a deletion makes a delete marker, and a version that was read stays readable.

use ::keyfall::demo::s3::{EmbeddedS3, Gate};

use crate::case::{Case, Report, Trial};
use crate::control::Strike;
use crate::lab::{ARCHIVE, BUCKET, Disposal, Lab, Settings, key, within};
use crate::oracle::Body;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("F60-versioned", "replaced between COMMIT and DELETE, in a bucket with versioning", delete),
        Case::new("F70-versioned", "replaced between copy and DELETE, in a bucket with versioning", archive),
    ]
}

/// Versions of a key, the oldest first; `-` for a delete marker.
fn versions(s3: &EmbeddedS3, key: &str) -> Vec<String> {
    let head = |bytes: Option<bytes::Bytes>| {
        let text = bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        text.map_or("-".to_owned(), |text| text.split(',').next().unwrap_or_default().to_owned())
    };
    s3.versions(BUCKET, key).into_iter().map(|(_, bytes)| head(bytes)).collect()
}

/// Replaces the only object at this step; both versions end as the feed wants them.
async fn replaced_at(lab: &mut Lab, step: &str, disposal: Disposal) -> crate::keyfall::Keyfall {
    lab.s3.enable_versioning(BUCKET);
    lab.put(0..1, 20);
    let mut keyfall = lab.keyfall("a", &Settings::new(disposal));
    let gate = Gate::new();
    let held = keyfall.control.arm(step, 1, Strike::Hold(gate.clone()));
    lab.expect_hits(&format!("{step} hold"), &held, 1);
    keyfall.start();
    within("the loaded version is about to go", gate.reached()).await;
    let newer = Body::new(100, 30, &mut lab.random);
    lab.put_body(&key(0), &newer);
    gate.open();
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE state = 'loaded' AND disposal = 'done'", 2).await;
    keyfall
}

async fn delete(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    let mut keyfall = replaced_at(&mut lab, "dispose.taken", Disposal::Delete).await;
    // One marker, above both versions: the first deletion was refused.
    assert_eq!(versions(&lab.s3, &key(0)), ["0", "100", "-"]);
    lab.verify(&mut [&mut keyfall]).await
}

async fn archive(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    let mut keyfall = replaced_at(&mut lab, "dispose.archived", Disposal::Archive).await;
    assert_eq!(versions(&lab.s3, &key(0)), ["0", "100", "-"]);
    let copy = format!("{ARCHIVE}{}", key(0));
    assert_eq!(versions(&lab.s3, &copy), ["0"], "the copy of the first version was replaced");
    let etag = &lab.oracle.versions.last().expect("two versions").etag;
    assert_eq!(versions(&lab.s3, &format!("{copy}.{etag}")), ["100"]);
    lab.verify(&mut [&mut keyfall]).await
}
