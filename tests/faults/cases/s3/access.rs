//! F62–F64: access is denied, credentials expire, the bucket lives elsewhere. All of it passes without a restart.

use std::path::Path;

use ::keyfall::demo::s3::{ACCESS_KEY_ID, Action, Canned, FaultRule, Operation, SECRET_ACCESS_KEY};

use super::{count_state, struck, until_metric};
use crate::case::{Case, Report, Trial};
use crate::keyfall::Keyfall;
use crate::lab::{BUCKET, Disposal, Lab, Settings, key};

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("F62-get", "GET is denied: the feed pauses, nothing is quarantined", get_denied),
        Case::new("F62-delete", "DELETE is denied: loaded objects stay, and are not loaded again", delete_denied),
        Case::new("F63", "ExpiredToken and a skewed clock in the middle of work", expired_token),
        Case::new("F63-rotated", "the credentials file is rewritten after its key expired", rotated_file),
        Case::new("F64", "the bucket lives in another region", another_region),
    ]
}

/// Deletions and copies of the feed's own objects, beside which nobody counts the questions keyfall asks a store.
fn on_objects(op: Operation, action: Action) -> FaultRule {
    FaultRule::on(op, action).key_containing("incoming/")
}

/// Waits until a feed has been halted so often in a row.
async fn until_halted(lab: &Lab, times: i32) {
    let sql = format!("SELECT count(*) FROM keyfall.feeds WHERE paused_by = 'halt' AND halts >= {times}");
    lab.until_count(&sql, 1).await;
}

async fn get_denied(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Delete));
    keyfall.start();
    let kms = Action::Status(400, "KMS.AccessDeniedException");
    for (round, action) in [Action::Denied, kms].into_iter().enumerate() {
        let denied = lab.s3.inject(FaultRule::on(Operation::GetObject, action.clone()));
        lab.put(round * 4..round * 4 + 4, 20);
        until_halted(&lab, 3).await;
        assert_eq!(count_state(&lab, "quarantined").await, 0);
        assert_eq!(count_state(&lab, "loaded").await, i64::try_from(round * 4).expect("small"));
        assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects WHERE suspicions > 0").await, 0);
        lab.expect_s3_any(&format!("{action:?}"), &denied);
        lab.s3.heal();
        lab.until_state("loaded", i64::try_from(round * 4 + 4).expect("small")).await;
        lab.until_count("SELECT count(*) FROM keyfall.feeds WHERE paused_by IS NULL", 1).await;
    }
    lab.verify(&mut [&mut keyfall]).await
}

async fn delete_denied(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..3, 20);
    let denied = lab.s3.inject(on_objects(Operation::DeleteObjects, Action::Denied));
    lab.expect_s3_any("DELETE denied", &denied);
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Delete));
    keyfall.start();
    let waiting = "SELECT count(*) FROM keyfall.objects
                    WHERE state = 'loaded' AND disposal = 'pending' AND disposal_attempts >= 2";
    lab.until_count(waiting, 3).await;
    until_metric(&keyfall, "keyfall_dispose_pending", 3.0).await;
    let said = "SELECT count(*) FROM keyfall.objects WHERE disposal_error LIKE '%s3:DeleteObject%'";
    assert_eq!(lab.count(said).await, 3, "the ledger does not name the permission");
    assert_eq!(lab.s3.len(BUCKET), 3);
    for number in 0..3 {
        assert_eq!(lab.requests(Operation::GetObject, &key(number)), [200], "loaded twice");
    }
    lab.verify(&mut [&mut keyfall]).await
}

async fn expired_token(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..3, 20);
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Delete));
    keyfall.start();
    lab.until_state("loaded", 3).await;
    for (op, status, code, times) in [
        (Operation::ListObjects, 400, "ExpiredToken", 3),
        (Operation::GetObject, 400, "ExpiredToken", 2),
        (Operation::GetObject, 403, "RequestTimeTooSkewed", 2),
    ] {
        let injected = lab.s3.inject(FaultRule::on(op, Action::Status(status, code)).times(times));
        let so_far = lab.oracle.versions.len();
        lab.put(so_far..so_far + 3, 20);
        struck(&injected, 1).await;
        lab.until_state("loaded", i64::try_from(so_far + 3).expect("small")).await;
        lab.expect_s3_any(code, &injected);
    }
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects WHERE suspicions > 0").await, 0);
    lab.verify(&mut [&mut keyfall]).await
}

/// Credentials as the SDK's default chain finds them: in a profile.
fn use_profile(keyfall: &mut Keyfall, profile: &Path) {
    let text = std::fs::read_to_string(keyfall.config()).expect("its configuration");
    let without: Vec<&str> = text.lines().filter(|line| !line.contains("access_key")).collect();
    std::fs::write(keyfall.config(), without.join("\n")).expect("its configuration");
    let path = profile.to_str().expect("a path in UTF-8");
    keyfall.environment = vec![
        ("AWS_SHARED_CREDENTIALS_FILE".to_owned(), path.to_owned()),
        ("AWS_CONFIG_FILE".to_owned(), "/dev/null".to_owned()),
        ("AWS_EC2_METADATA_DISABLED".to_owned(), "true".to_owned()),
    ];
}

fn write_profile(path: &Path, id: &str, secret: &str) {
    let text = format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n");
    // In one step, as whoever rotates keys would do it.
    let new = path.with_extension("new");
    std::fs::write(&new, text).expect("a profile");
    std::fs::rename(&new, path).expect("a profile");
}

async fn rotated_file(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    let profile = lab.directory().join("credentials");
    write_profile(&profile, ACCESS_KEY_ID, SECRET_ACCESS_KEY);
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Delete));
    use_profile(&mut keyfall, &profile);
    keyfall.start();
    lab.put(0..3, 20);
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE disposal = 'done'", 3).await;
    lab.s3.rotate_key("second", "the second secret");
    keyfall.says("ExpiredToken").await;
    lab.put(3..6, 20);
    write_profile(&profile, "second", "the second secret");
    lab.until_state("loaded", 6).await;
    // And a third time, so that it was no matter of one refresh.
    lab.s3.rotate_key("third", "the third secret");
    write_profile(&profile, "third", "the third secret");
    lab.put(6..9, 20);
    lab.until_state("loaded", 9).await;
    assert_eq!(keyfall.lives, 1);
    assert!(!keyfall.log().contains("the second secret"), "the secret is in the log");
    lab.verify(&mut [&mut keyfall]).await
}

async fn another_region(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    let malformed = "The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-west-3'";
    let answers = [
        (Canned::error(301, "PermanentRedirect", "use the endpoint").header("x-amz-bucket-region", "eu-west-1"), 1),
        (Canned::error(307, "TemporaryRedirect", "use the endpoint").header("x-amz-bucket-region", "eu-west-2"), 2),
        (Canned::error(400, "AuthorizationHeaderMalformed", malformed), 3),
    ];
    lab.put(0..3, 20);
    let mut check = lab.keyfall("check", &Settings::new(Disposal::Delete));
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Delete));
    for (answer, number) in answers {
        lab.s3.heal();
        let injected = lab.s3.inject(FaultRule::on(Operation::ListObjects, Action::Instead(answer)));
        lab.expect_s3_any(&format!("answer {number}"), &injected);
        check.start_with(&["check"]);
        assert_eq!(check.ended().await, 10, "{}", check.log());
        let said = check.log_of_this_life();
        let both = said.contains("us-east-1") && said.contains(&format!("eu-west-{number}"));
        assert!(both && said.contains("s3.region"), "no word of both regions: {said}");
        if !keyfall.is_running() {
            keyfall.start();
        }
        keyfall.says(&format!("eu-west-{number}")).await;
    }
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects").await, 0);
    lab.s3.heal();
    lab.verify(&mut [&mut keyfall]).await
}
