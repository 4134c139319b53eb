//! The IAM policy we ship allows what keyfall does, and keyfall does nothing else.

use std::process::Command;

use keyfall::demo::s3::{EmbeddedS3, LogEntry, Operation};
use serde_json::Value;

use crate::support::{Lab, item_body, item_key};

const POLICY: &str = include_str!("../../deploy/iam-policy.json");

/// The action that S3 asks for. A new operation has to be placed here before it can be used.
fn action(op: Operation) -> &'static str {
    match op {
        Operation::ListObjects | Operation::HeadBucket => "s3:ListBucket",
        Operation::GetObject | Operation::HeadObject => "s3:GetObject",
        Operation::PutObject
        | Operation::CopyObject
        | Operation::CreateUpload
        | Operation::UploadPart
        | Operation::UploadPartCopy
        | Operation::CompleteUpload => "s3:PutObject",
        Operation::DeleteObject | Operation::DeleteObjects => "s3:DeleteObject",
        Operation::AbortUpload => "s3:AbortMultipartUpload",
        Operation::CreateBucket => "s3:CreateBucket",
    }
}

fn statements() -> Vec<Value> {
    let policy: Value = serde_json::from_str(POLICY).expect("the policy is JSON");
    assert_eq!(policy["Version"], "2012-10-17");
    policy["Statement"].as_array().expect("statements").clone()
}

fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        other => other.as_array().expect("texts").iter().map(|text| text.as_str().expect("a text")).collect(),
    }
}

/// `*` at the end is all the policy uses.
fn matches(pattern: &str, text: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == text, |start| text.starts_with(start))
}

fn allows(statement: &Value, entry: &LogEntry) -> bool {
    let bucket = entry.bucket.as_str();
    let is_listing = action(entry.op) == "s3:ListBucket";
    let resource =
        if is_listing { format!("arn:aws:s3:::{bucket}") } else { format!("arn:aws:s3:::{bucket}/{}", entry.key) };
    let named = |pattern: &str| {
        let placed = pattern.replace("SOURCE", "drop").replace("ARCHIVE", "store").replace("INCOMING", "incoming");
        matches(&placed, &resource)
    };
    let prefixes = &statement["Condition"]["StringLike"]["s3:prefix"];
    let listable = |prefix: &str| matches(&prefix.replace("INCOMING", "incoming"), &entry.key);
    texts(&statement["Action"]).contains(&action(entry.op))
        && texts(&statement["Resource"]).into_iter().any(named)
        && (!is_listing || texts(prefixes).into_iter().any(listable))
}

/// Requests outside the policy; the request around a batch of keys has no key of its own and needs no permission.
fn outside(s3: &EmbeddedS3) -> Vec<String> {
    let statements = statements();
    let asks = |entry: &LogEntry| !(entry.op == Operation::DeleteObjects && entry.key.is_empty());
    let refused = s3
        .log()
        .into_iter()
        .filter(|entry| asks(entry) && !statements.iter().any(|statement| allows(statement, entry)));
    refused.map(|entry| format!("{:?} {}/{}", entry.op, entry.bucket, entry.key)).collect()
}

#[test]
fn the_policy_names_no_bare_star_and_deletes_only_under_a_condition() {
    let statements = statements();
    assert_eq!(statements.len(), 6);
    for statement in &statements {
        assert_eq!(statement["Effect"], "Allow", "{statement}");
        for text in texts(&statement["Action"]).into_iter().chain(texts(&statement["Resource"])) {
            assert!(text != "*" && !text.ends_with(":*"), "{statement}");
        }
        for action in texts(&statement["Action"]) {
            assert!(!action.contains('*'), "{statement}");
            if action == "s3:DeleteObject" {
                assert_eq!(statement["Condition"]["Null"]["s3:if-match"], "false", "{statement}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_keyfall_asks_of_the_store_is_in_the_policy() {
    let feed = |name: &str, disposal: &str| {
        format!(
            "[feeds.{name}]\nbucket = \"drop\"\npattern = \"incoming/{name}/{{time:%Y-%m-%d-%H-%M-%S}}.csv\"\n\
             table = \"items\"\ncsv.header = false\ndisposal = {{ {disposal} }}\n"
        )
    };
    let feeds = [
        feed("kept", "action = \"keep\""),
        feed("deleted", "action = \"delete\""),
        feed("archived", "action = \"archive\", bucket = \"store\", prefix = \"archive/\""),
    ]
    .concat();
    let lab = Lab::with_items().await;
    lab.s3.create_bucket("store");
    for (name, first) in [("kept", 0), ("deleted", 10), ("archived", 20)] {
        for n in first..first + 3 {
            lab.s3.put("drop", &item_key(n).replace("items/", &format!("incoming/{name}/")), item_body(n, 2));
        }
    }
    let checked =
        Command::new(env!("CARGO_BIN_EXE_keyfall")).arg("check").arg("--config").arg(lab.file(&feeds)).output();
    let checked = checked.expect("the binary starts");
    assert!(checked.status.success(), "{checked:?}");
    assert_eq!(lab.once(&feeds).await, 0, "{:?}", lab.ledger().await);
    lab.assert_items(9, 2).await;
    assert_eq!((lab.s3.len("drop"), lab.s3.len("store")), (3, 3));
    // A copy that is gone is looked for by its name as well.
    let copy = lab.s3.keys("store").pop().expect("a copy");
    lab.s3.remove("store", &copy);
    let mut reconcile = Command::new(env!("CARGO_BIN_EXE_keyfall"));
    let reconciled = reconcile.arg("reconcile").arg("--config").arg(lab.file(&feeds)).output().expect("it starts");
    let said = String::from_utf8_lossy(&reconciled.stdout);
    assert!(reconciled.status.code() == Some(4) && said.contains("archive_missing: 1 object"), "{reconciled:?}");
    assert_eq!(outside(&lab.s3), Vec::<String>::new());
    let mut seen: Vec<_> = lab.s3.log().iter().map(|entry| action(entry.op)).collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, ["s3:DeleteObject", "s3:GetObject", "s3:ListBucket", "s3:PutObject"]);
    // The comparison can fail: none of these is allowed.
    lab.s3.clear_log();
    let sources = keyfall::config::Sources { file: Some(lab.file(&feeds)), ..Default::default() };
    let store = keyfall::app::object_store(&crate::support::loaded(&sources).config).await.expect("a store");
    let missing = store.head("drop", "elsewhere/x").await;
    assert!(missing.is_err() && outside(&lab.s3) == ["HeadObject drop/elsewhere/x"], "{:?}", outside(&lab.s3));
}
