//! The adapter against the embedded server, over real HTTP with real signatures.

use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use jiff::Timestamp;

use super::*;
use crate::config::secret::Secret;
use crate::demo::s3::{
    self as demo, Action, ChecksumKind, EmbeddedS3, FaultRule, Gate, LogEntry, Operation, PutOptions,
};
use crate::domain::ports::Checksum;

const BUCKET: &str = "landing";

/// Keys that some layer between here and the store is tempted to change.
const ODD_KEYS: [&str; 12] = [
    "a b",
    "a%20b",
    "a&b<c>'\"",
    "a+b",
    "a//b",
    "a=b?c#d",
    "dir/",
    "ctrl\u{1}\tx\ry\nz",
    "é/ü",
    "日本/語.csv",
    "~tilde*(!)",
    "😀",
];

fn config(endpoint: String) -> S3 {
    S3 {
        region: Some(demo::REGION.to_owned()),
        endpoint_url: Some(endpoint),
        force_path_style: true,
        access_key_id: Some(demo::ACCESS_KEY_ID.to_owned()),
        secret_access_key: Some(Secret::new(demo::SECRET_ACCESS_KEY.to_owned())),
        connect_timeout: Duration::from_secs(5),
        read_timeout: Duration::from_secs(5),
        max_attempts: 1,
    }
}

async fn started() -> (EmbeddedS3, S3Store) {
    let server = EmbeddedS3::start().await.unwrap();
    server.create_bucket(BUCKET);
    let store = S3Store::connect(&config(server.endpoint())).await.unwrap();
    (server, store)
}

async fn list_all(store: &S3Store, request: ListRequest) -> (Vec<String>, Vec<String>) {
    let (mut keys, mut prefixes, mut request) = (Vec::new(), Vec::new(), request);
    loop {
        let page = store.list(BUCKET, &request).await.unwrap();
        keys.extend(page.objects.into_iter().map(|object| object.key));
        prefixes.extend(page.common_prefixes);
        match page.next {
            Some(token) => request.token = Some(token),
            None => return (keys, prefixes),
        }
    }
}

fn get_request<'a>(key: &'a str, etag: &'a str, offset: u64) -> GetRequest<'a> {
    GetRequest { bucket: BUCKET, key, etag, version_id: None, offset }
}

async fn read(body: ObjectBody) -> Result<Vec<u8>, S3Error> {
    body.stream
        .try_fold(Vec::new(), async |mut all, piece| {
            all.extend_from_slice(&piece);
            Ok(all)
        })
        .await
}

async fn get_all(store: &S3Store, key: &str, etag: &str) -> Result<Vec<u8>, S3Error> {
    read(store.get(&get_request(key, etag, 0)).await?).await
}

fn copy_request<'a>(key: &'a str, etag: &'a str, to_key: &'a str) -> CopyRequest<'a> {
    CopyRequest { bucket: BUCKET, key, etag, version_id: None, size: 0, to_bucket: "archive", to_key }
}

fn condemned(key: &str, etag: &str) -> DeleteRequest {
    DeleteRequest { key: key.to_owned(), etag: etag.to_owned() }
}

fn count(log: &[LogEntry], op: Operation) -> usize {
    log.iter().filter(|entry| entry.op == op && (op != Operation::DeleteObjects || entry.key.is_empty())).count()
}

macro_rules! assert_fails {
    ($result:expr, $pattern:pat) => {
        match $result {
            Err($pattern) => {}
            Err(other) => panic!("failed as {other:?}"),
            Ok(_) => panic!("did not fail"),
        }
    };
}

#[tokio::test]
async fn a_listing_shows_2500_keys_once_in_byte_order_in_three_pages() {
    let (server, store) = started().await;
    let keys: Vec<_> = (0..2500).map(|nth| format!("in/{nth:05}.csv")).collect();
    for key in keys.iter().rev() {
        server.put(BUCKET, key, Bytes::new());
    }
    server.put(BUCKET, "other/x", "x");
    let request = ListRequest { prefix: "in/".to_owned(), ..ListRequest::default() };
    assert_eq!(list_all(&store, request.clone()).await.0, keys);
    assert_eq!(count(&server.log(), Operation::ListObjects), 3);
    let after = ListRequest { start_after: Some("in/01499.csv".to_owned()), ..request };
    assert_eq!(list_all(&store, after).await.0, keys[1500..]);
    assert_eq!(count(&server.log(), Operation::ListObjects), 4);
}

#[tokio::test]
async fn a_listing_tells_size_tag_time_and_class() {
    let (server, store) = started().await;
    let time: Timestamp = "2024-05-06T07:08:09Z".parse().unwrap();
    let class = Some("GLACIER".to_owned());
    let options = PutOptions { last_modified: Some(time), storage_class: class.clone(), ..PutOptions::default() };
    server.put_with(BUCKET, "k", "hello", options);
    let page = store.list(BUCKET, &ListRequest::default()).await.unwrap();
    let object = &page.objects[0];
    assert_eq!((object.size, object.last_modified, &object.storage_class), (5, time, &class));
    assert_eq!(object.etag, "5d41402abc4b2a76b9719d911017c592");
}

#[tokio::test]
async fn a_delimiter_folds_keys_across_pages() {
    let (server, store) = started().await;
    for vendor in 0..1200 {
        for file in ["a", "b"] {
            server.put(BUCKET, &format!("v{vendor:04}/{file}"), "x");
        }
    }
    server.put(BUCKET, "v0500", "x");
    let (keys, prefixes) = list_all(&store, ListRequest { delimiter: Some('/'), ..ListRequest::default() }).await;
    assert_eq!(keys, ["v0500"]);
    assert_eq!(prefixes, (0..1200).map(|vendor| format!("v{vendor:04}/")).collect::<Vec<_>>());
}

#[tokio::test]
async fn odd_keys_survive_listing_reading_copying_and_deleting() {
    let (server, store) = started().await;
    server.create_bucket("archive");
    let etag = server.put(BUCKET, ODD_KEYS[0], "body");
    for key in ODD_KEYS {
        server.put(BUCKET, key, "body");
    }
    let mut sorted = ODD_KEYS.to_vec();
    sorted.sort_unstable();
    assert_eq!(list_all(&store, ListRequest::default()).await.0, sorted);
    for key in ODD_KEYS {
        let after = ListRequest { prefix: key.to_owned(), start_after: Some(key.to_owned()), ..ListRequest::default() };
        assert!(list_all(&store, after).await.0.is_empty(), "{key:?}");
        assert_eq!(get_all(&store, key, &etag).await.unwrap(), b"body", "{key:?}");
        store.copy(&copy_request(key, &etag, &format!("done/{key}"))).await.unwrap();
    }
    let archived: Vec<_> = sorted.iter().map(|key| format!("done/{key}")).collect();
    assert_eq!(server.keys("archive"), archived);
    let requests: Vec<_> = ODD_KEYS.iter().map(|key| condemned(key, &etag)).collect();
    for (outcome, key) in store.delete(BUCKET, &requests).await.unwrap().into_iter().zip(ODD_KEYS) {
        outcome.unwrap_or_else(|error| panic!("{key:?}: {error}"));
    }
    assert!(server.is_empty(BUCKET), "{:?}", server.keys(BUCKET));
}

#[tokio::test]
async fn a_get_brings_bytes_length_and_checksum() {
    let (server, store) = started().await;
    let data: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let etag = server.put(BUCKET, "big", data.clone());
    let body = store.get(&get_request("big", &etag, 0)).await.unwrap();
    assert_eq!((body.content_length, body.total_size), (Some(4_000_000), Some(4_000_000)));
    assert_eq!(body.etag.as_deref(), Some(etag.as_str()));
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &data);
    assert_eq!(body.checksum, Some(Checksum::Crc64Nvme(crc.to_be_bytes().to_vec())));
    assert!(read(body).await.unwrap() == data);
}

#[tokio::test]
async fn a_get_from_an_offset_brings_the_rest_and_the_whole_size() {
    let (server, store) = started().await;
    let etag = server.put(BUCKET, "k", "0123456789");
    let body = store.get(&get_request("k", &etag, 7)).await.unwrap();
    assert_eq!((body.content_length, body.total_size, &body.checksum), (Some(3), Some(10), &None));
    assert_eq!(read(body).await.unwrap(), b"789");
}

#[tokio::test]
async fn a_checksum_of_parts_is_not_taken_for_one_of_the_object() {
    let (server, store) = started().await;
    for (kind, has_one) in [(ChecksumKind::Crc32, true), (ChecksumKind::Composite, false), (ChecksumKind::None, false)]
    {
        let etag = server.put_with(BUCKET, "k", "x", PutOptions { checksum: kind, ..PutOptions::default() });
        let body = store.get(&get_request("k", &etag, 0)).await.unwrap();
        assert_eq!(body.checksum.is_some(), has_one, "{kind:?}");
    }
}

#[tokio::test]
async fn a_get_of_a_replaced_object_is_changed_also_where_the_store_ignores_the_condition() {
    let (server, store) = started().await;
    let etag = server.put(BUCKET, "k", "one");
    server.put(BUCKET, "k", "two");
    assert_fails!(store.get(&get_request("k", &etag, 0)).await, S3Error::Changed);
    let rule = server.inject(FaultRule::on(Operation::GetObject, Action::IgnoreConditions));
    assert_fails!(store.get(&get_request("k", &etag, 0)).await, S3Error::Changed);
    assert_eq!(rule.hits(), 1);
}

#[tokio::test]
async fn an_answer_without_a_tag_is_somebody_elses() {
    let (server, store) = started().await;
    let etag = server.put(BUCKET, "k", "one");
    let page = demo::Canned::new(200, "text/html", "<html>");
    server.inject(FaultRule::on(Operation::GetObject, Action::Instead(page)));
    assert_fails!(get_all(&store, "k", &etag).await, S3Error::Transient { .. });
}

#[tokio::test]
async fn a_body_that_ends_early_is_an_error_of_the_stream() {
    let (server, store) = started().await;
    let etag = server.put(BUCKET, "k", vec![7; 100_000]);
    for action in [Action::Truncate(60_000), Action::Truncate(0), Action::ResetAfter(99_999)] {
        server.heal();
        let rule = server.inject(FaultRule::on(Operation::GetObject, action.clone()));
        assert_fails!(get_all(&store, "k", &etag).await, S3Error::Transient { .. });
        assert_eq!(rule.hits(), 1, "{action:?}");
    }
}

#[tokio::test]
async fn a_body_that_stops_moving_stalls() {
    let (server, mut store) = started().await;
    store.read_timeout = Duration::from_millis(100);
    let etag = server.put(BUCKET, "k", vec![7; 1000]);
    server.inject(FaultRule::on(Operation::GetObject, Action::StallAfter(10)));
    assert_fails!(get_all(&store, "k", &etag).await, S3Error::Stalled { .. });
}

#[tokio::test]
async fn faults_of_content_reach_the_reader_as_they_are() {
    let (server, store) = started().await;
    let etag = server.put(BUCKET, "k", "0123456789");
    server.inject(FaultRule::on(Operation::GetObject, Action::EarlyCleanEnd(4)).times(1));
    let short = store.get(&get_request("k", &etag, 0)).await.unwrap();
    assert_eq!(short.content_length, Some(4));
    assert_eq!(read(short).await.unwrap(), b"0123");
    server.inject(FaultRule::on(Operation::GetObject, Action::FlipByte(0)).times(1));
    assert_eq!(get_all(&store, "k", &etag).await.unwrap(), b"1123456789");
    server.inject(FaultRule::on(Operation::GetObject, Action::ChangedEtag).times(1));
    assert_fails!(get_all(&store, "k", &etag).await, S3Error::Changed);
    assert_eq!(get_all(&store, "k", &etag).await.unwrap(), b"0123456789");
}

#[tokio::test]
async fn a_copy_keeps_headers_and_names_its_source() {
    let (server, store) = started().await;
    server.create_bucket("archive");
    let metadata = [("owner".to_owned(), "team-7".to_owned())].into();
    let content_type = Some("text/csv".to_owned());
    let options = PutOptions { content_type, metadata, ..PutOptions::default() };
    let etag = server.put_with(BUCKET, "k", "body", options);
    store.copy(&copy_request("k", &etag, "k")).await.unwrap();
    let head = store.head("archive", "k").await.unwrap();
    assert_eq!(head, Head { etag: etag.clone(), size: 4, source_etag: Some(etag) });
    assert_eq!(server.metadata("archive", "k").unwrap()["owner"], "team-7");
    let raw = store.client().head_object().bucket("archive").key("k").send().await.unwrap();
    assert_eq!(raw.content_type(), Some("text/csv"));
}

#[tokio::test]
async fn a_copy_of_a_replaced_or_missing_source_makes_nothing() {
    let (server, store) = started().await;
    server.create_bucket("archive");
    let etag = server.put(BUCKET, "k", "one");
    assert_fails!(store.copy(&copy_request("gone", &etag, "k")).await, S3Error::NotFound);
    server.put(BUCKET, "k", "two");
    assert_fails!(store.copy(&copy_request("k", &etag, "k")).await, S3Error::Changed);
    assert!(server.is_empty("archive"));
}

#[tokio::test]
async fn a_source_replaced_after_it_was_looked_at_is_not_copied() {
    let (server, store) = started().await;
    server.create_bucket("archive");
    let etag = server.put(BUCKET, "k", "one");
    let gate = Gate::new();
    server.inject(FaultRule::on(Operation::CopyObject, Action::Hold(gate.clone())));
    let request = copy_request("k", &etag, "k");
    let replace = async {
        gate.reached().await;
        server.put(BUCKET, "k", "two");
        gate.open();
    };
    let (copied, ()) = tokio::join!(store.copy(&request), replace);
    assert_fails!(copied, S3Error::Changed);
    assert!(server.is_empty("archive"));
}

#[tokio::test]
async fn a_copy_never_replaces_its_destination() {
    let (server, store) = started().await;
    let etag = server.put(BUCKET, "k", "one");
    server.put("archive", "taken", "precious");
    // Before the store has shown that it obeys, after it has, and where it does not.
    assert_fails!(store.copy(&copy_request("k", &etag, "taken")).await, S3Error::Exists);
    store.copy(&copy_request("k", &etag, "free")).await.unwrap();
    assert_eq!(store.copies.known(), Some(true));
    assert_fails!(store.copy(&copy_request("k", &etag, "taken")).await, S3Error::Exists);
    server.inject(FaultRule::on(Operation::CopyObject, Action::IgnoreConditions));
    let careless = S3Store::connect(&config(server.endpoint())).await.unwrap();
    careless.copy(&copy_request("k", &etag, "free2")).await.unwrap();
    assert_eq!(careless.copies.known(), Some(false));
    assert_fails!(careless.copy(&copy_request("k", &etag, "taken")).await, S3Error::Exists);
    assert_eq!(server.get("archive", "taken").unwrap(), "precious");
}

#[tokio::test]
async fn an_error_under_status_200_is_a_failed_copy() {
    let (server, store) = started().await;
    server.create_bucket("archive");
    let etag = server.put(BUCKET, "k", "one");
    let rule = server.inject(FaultRule::on(Operation::CopyObject, Action::CopyError200));
    assert_fails!(store.copy(&copy_request("k", &etag, "k")).await, S3Error::Transient { .. });
    assert_eq!(rule.hits(), 1);
}

#[tokio::test]
async fn a_large_object_is_copied_in_parts() {
    let (server, mut store) = started().await;
    server.create_bucket("archive");
    store.multipart = copy::Multipart { above: 10, part: 4 };
    let etag = server.put(BUCKET, "k", "0123456789ab");
    store.copy(&copy_request("k", &etag, "k")).await.unwrap();
    assert_eq!(server.get("archive", "k").unwrap(), "0123456789ab");
    assert_eq!(store.head("archive", "k").await.unwrap().source_etag, Some(etag.clone()));
    assert_eq!(count(&server.log(), Operation::UploadPartCopy), 3);
    assert_fails!(store.copy(&copy_request("k", &etag, "k")).await, S3Error::Exists);
    assert_eq!(server.open_uploads(), 0);
}

#[tokio::test]
async fn a_copy_in_parts_that_fails_leaves_no_parts() {
    let (server, mut store) = started().await;
    server.create_bucket("archive");
    store.multipart = copy::Multipart { above: 10, part: 4 };
    let etag = server.put(BUCKET, "k", "0123456789ab");
    let last_part = FaultRule::on(Operation::UploadPartCopy, Action::Status(500, "InternalError")).from_hit(3);
    let join_under_200 = FaultRule::on(Operation::CompleteUpload, Action::CopyError200);
    for (rule, aborts) in [(last_part, 1), (join_under_200, 2)] {
        server.heal();
        let rule = server.inject(rule);
        assert_fails!(store.copy(&copy_request("k", &etag, "k")).await, S3Error::Transient { .. });
        assert_eq!((rule.hits(), count(&server.log(), Operation::AbortUpload)), (1, aborts));
        assert_eq!((server.open_uploads(), server.len("archive")), (0, 0));
    }
}

#[tokio::test]
async fn a_batch_deletes_what_is_unchanged_and_keeps_the_rest() {
    let (server, store) = started().await;
    let etag = server.put(BUCKET, "changed", "one");
    server.put(BUCKET, "same", "one");
    server.put(BUCKET, "changed", "two");
    let requests = [condemned("same", &etag), condemned("changed", &etag), condemned("gone", &etag)];
    let outcomes = store.delete(BUCKET, &requests).await.unwrap();
    assert!(matches!(outcomes[..], [Ok(()), Err(S3Error::Changed), Ok(())]), "{outcomes:?}");
    assert_eq!(server.keys(BUCKET), ["changed"]);
    // One to find out whether the store obeys, one for the batch.
    assert_eq!(count(&server.log(), Operation::DeleteObjects), 2);
}

#[tokio::test]
async fn more_than_a_thousand_keys_go_in_several_batches_and_a_key_named_twice_is_answered_twice() {
    let (server, store) = started().await;
    let mut requests = Vec::new();
    for nth in 0..1500 {
        let key = format!("k{nth}");
        requests.push(condemned(&key, &server.put(BUCKET, &key, "x")));
    }
    requests.push(condemned("k1499", "another"));
    let outcomes = store.delete(BUCKET, &requests).await.unwrap();
    assert_eq!(outcomes.len(), 1501);
    assert!(outcomes.iter().all(Result::is_ok), "{:?}", outcomes.iter().find(|outcome| outcome.is_err()));
    assert!(server.is_empty(BUCKET));
    assert_eq!(count(&server.log(), Operation::DeleteObjects), 3);
}

#[tokio::test]
async fn failures_of_single_keys_in_a_batch_are_told_apart() {
    let (server, store) = started().await;
    let etag = server.put(BUCKET, "a", "x");
    server.put(BUCKET, "b", "x");
    server.put(BUCKET, "c", "x");
    server.inject(FaultRule::on(Operation::DeleteObjects, Action::Denied).key("a"));
    server.inject(FaultRule::on(Operation::DeleteObjects, Action::Status(503, "SlowDown")).key("b"));
    let requests = [condemned("a", &etag), condemned("b", &etag), condemned("c", &etag)];
    let outcomes = store.delete(BUCKET, &requests).await.unwrap();
    let [Err(S3Error::Denied { action, .. }), Err(S3Error::Transient { .. }), Ok(())] = &outcomes[..] else {
        panic!("{outcomes:?}")
    };
    assert_eq!(*action, "s3:DeleteObject");
    assert_eq!(server.keys(BUCKET), ["a", "b"]);
}

#[tokio::test]
async fn the_probe_tells_stores_apart_and_deletes_nothing() {
    let (server, store) = started().await;
    server.put(BUCKET, "in/a", "x");
    assert!(store.conditional_delete_honoured(BUCKET, "in/").await.unwrap());
    server.inject(FaultRule::on(Operation::DeleteObjects, Action::IgnoreConditions));
    assert!(!store.conditional_delete_honoured(BUCKET, "in/").await.unwrap());
    assert_eq!(server.keys(BUCKET), ["in/a"]);
    server.heal();
    server.inject(FaultRule::on(Operation::DeleteObjects, Action::Denied));
    assert_fails!(store.conditional_delete_honoured(BUCKET, "in/").await, S3Error::Denied { .. });
}

#[tokio::test]
async fn a_store_that_ignores_conditions_still_loses_no_changed_object() {
    let (server, store) = started().await;
    server.inject(FaultRule::on(Operation::DeleteObjects, Action::IgnoreConditions));
    server.inject(FaultRule::on(Operation::DeleteObject, Action::IgnoreConditions));
    let etag = server.put(BUCKET, "changed", "one");
    server.put(BUCKET, "same", "one");
    server.put(BUCKET, "changed", "two");
    let requests = [condemned("same", &etag), condemned("changed", &etag), condemned("gone", &etag)];
    let outcomes = store.delete(BUCKET, &requests).await.unwrap();
    assert!(matches!(outcomes[..], [Ok(()), Err(S3Error::Changed), Ok(())]), "{outcomes:?}");
    assert_eq!(server.keys(BUCKET), ["changed"]);
}

#[tokio::test]
async fn a_version_that_arrives_before_the_deletion_survives_it() {
    let (server, store) = started().await;
    let etag = server.put(BUCKET, "k", "one");
    assert!(store.conditional_delete_honoured(BUCKET, "").await.unwrap());
    let gate = Gate::new();
    server.inject(FaultRule::on(Operation::DeleteObjects, Action::Hold(gate.clone())));
    let requests = [condemned("k", &etag)];
    let overtake = async {
        gate.reached().await;
        server.put(BUCKET, "k", "two");
        gate.open();
    };
    let (outcomes, ()) = tokio::join!(store.delete(BUCKET, &requests), overtake);
    assert!(matches!(outcomes.unwrap()[..], [Err(S3Error::Changed)]));
    assert_eq!(server.get(BUCKET, "k").unwrap(), "two");
}

#[tokio::test]
async fn a_deletion_whose_answer_was_lost_is_done_at_the_second_try() {
    let (server, store) = started().await;
    let etag = server.put(BUCKET, "k", "one");
    assert!(store.conditional_delete_honoured(BUCKET, "").await.unwrap());
    let rule = server.inject(FaultRule::on(Operation::DeleteObjects, Action::HangUp).times(1));
    assert_fails!(store.delete(BUCKET, &[condemned("k", &etag)]).await, S3Error::Transient { .. });
    assert_eq!(rule.hits(), 1);
    assert!(server.is_empty(BUCKET));
    assert!(matches!(store.delete(BUCKET, &[condemned("k", &etag)]).await.unwrap()[..], [Ok(())]));
}

#[tokio::test]
async fn errors_are_sorted_by_what_can_be_done_about_them() {
    let (server, store) = started().await;
    let etag = server.put(BUCKET, "k", "one");
    assert_fails!(store.get(&get_request("gone", &etag, 0)).await, S3Error::NotFound);
    assert_fails!(store.head(BUCKET, "gone").await, S3Error::NotFound);
    assert_fails!(store.list("no-such-bucket", &ListRequest::default()).await, S3Error::NoSuchBucket { .. });
    let class = Some("DEEP_ARCHIVE".to_owned());
    let cold = server.put_with(BUCKET, "cold", "x", PutOptions { storage_class: class, ..PutOptions::default() });
    assert_fails!(store.get(&get_request("cold", &cold, 0)).await, S3Error::Archived);
    server.inject(FaultRule::on(Operation::ListObjects, Action::Denied).times(1));
    assert_fails!(store.list(BUCKET, &ListRequest::default()).await, S3Error::Denied { action: "s3:ListBucket", .. });
    server.inject(FaultRule::on(Operation::HeadObject, Action::Denied).times(1));
    assert_fails!(store.head(BUCKET, "k").await, S3Error::Denied { action: "s3:GetObject", .. });
    server.inject(FaultRule::on(Operation::ListObjects, Action::Status(503, "SlowDown")).times(1));
    assert_fails!(store.list(BUCKET, &ListRequest::default()).await, S3Error::Transient { .. });
    server.inject(FaultRule::on(Operation::ListObjects, Action::Status(400, "ExpiredToken")).times(1));
    assert_fails!(store.list(BUCKET, &ListRequest::default()).await, S3Error::Credentials { .. });
    server.inject(FaultRule::on(Operation::ListObjects, Action::Status(301, "PermanentRedirect")).times(1));
    assert_fails!(store.list(BUCKET, &ListRequest::default()).await, S3Error::WrongRegion { .. });
}

#[tokio::test]
async fn transient_answers_are_tried_again_as_often_as_configured() {
    let server = EmbeddedS3::start().await.unwrap();
    server.create_bucket(BUCKET);
    let store = S3Store::connect(&S3 { max_attempts: 2, ..config(server.endpoint()) }).await.unwrap();
    let rule = server.inject(FaultRule::on(Operation::ListObjects, Action::Status(503, "SlowDown")).times(1));
    store.list(BUCKET, &ListRequest::default()).await.unwrap();
    assert_eq!((rule.hits(), count(&server.log(), Operation::ListObjects)), (1, 2));
}

#[tokio::test]
async fn a_wrong_secret_is_a_credentials_error() {
    let server = EmbeddedS3::start().await.unwrap();
    let wrong = Some(Secret::new("not it".to_owned()));
    let store = S3Store::connect(&S3 { secret_access_key: wrong, ..config(server.endpoint()) }).await.unwrap();
    assert_fails!(store.list(BUCKET, &ListRequest::default()).await, S3Error::Credentials { .. });
}

#[tokio::test]
async fn a_refused_connection_says_so() {
    let server = EmbeddedS3::start().await.unwrap();
    let endpoint = server.endpoint();
    drop(server);
    let store = S3Store::connect(&config(endpoint)).await.unwrap();
    // The port closes when the accept loop has seen the cancellation.
    for _ in 0..100 {
        match store.list(BUCKET, &ListRequest::default()).await {
            Err(S3Error::Transient { detail, .. }) if detail.contains("refused") => return,
            Err(S3Error::Transient { .. } | S3Error::NoSuchBucket { .. }) => tokio::task::yield_now().await,
            other => panic!("{other:?}"),
        }
    }
    panic!("the connection was never refused");
}

#[tokio::test]
async fn a_server_that_never_answers_meets_our_deadline() {
    let server = EmbeddedS3::start().await.unwrap();
    server.create_bucket(BUCKET);
    let short = Duration::from_millis(100);
    let store = S3Store::connect(&S3 { read_timeout: short, ..config(server.endpoint()) }).await.unwrap();
    let gate = Gate::new();
    server.inject(FaultRule::on(Operation::ListObjects, Action::Hold(gate.clone())));
    assert_fails!(store.list(BUCKET, &ListRequest::default()).await, S3Error::Transient { .. });
    gate.open();
}

#[tokio::test]
async fn the_log_keeps_the_order_of_arrival_and_the_status() {
    let (server, store) = started().await;
    let etag = server.put(BUCKET, "k", "one");
    get_all(&store, "k", &etag).await.unwrap();
    assert_fails!(store.head(BUCKET, "gone").await, S3Error::NotFound);
    let log = server.log();
    let seen: Vec<_> = log.iter().map(|entry| (entry.op, entry.key.as_str(), entry.status)).collect();
    assert_eq!(seen, [(Operation::GetObject, "k", 200), (Operation::HeadObject, "gone", 404)]);
    assert!(log[0].seq < log[1].seq);
}

#[tokio::test]
async fn a_hook_runs_before_the_request_has_any_effect() {
    let (server, store) = started().await;
    let server = std::sync::Arc::new(server);
    let etag = server.put(BUCKET, "k", "one");
    let (seen, mut arrived) = tokio::sync::mpsc::unbounded_channel();
    let inside = std::sync::Arc::downgrade(&server);
    server.on_request(move |info| {
        let (seen, inside) = (seen.clone(), std::sync::Weak::clone(&inside));
        Box::pin(async move {
            let present = inside.upgrade().is_some_and(|server| server.len(BUCKET) == 1);
            seen.send((info.op, present)).unwrap();
        })
    });
    assert!(matches!(store.delete(BUCKET, &[condemned("k", &etag)]).await.unwrap()[..], [Ok(())]));
    // The probe's request comes first.
    assert_eq!(arrived.recv().await, Some((Operation::DeleteObjects, true)));
    assert_eq!(arrived.recv().await, Some((Operation::DeleteObjects, true)));
    assert!(server.is_empty(BUCKET));
}

#[tokio::test]
async fn listing_faults_are_what_they_say() {
    let (server, store) = started().await;
    for nth in 0..1500 {
        server.put(BUCKET, &format!("{nth:04}"), "x");
    }
    server.inject(FaultRule::on(Operation::ListObjects, Action::EmptyPage).times(1));
    let empty = store.list(BUCKET, &ListRequest::default()).await.unwrap();
    assert!(empty.objects.is_empty() && empty.next.is_some());
    let request = ListRequest { token: empty.next, ..ListRequest::default() };
    assert_eq!(list_all(&store, request).await.0.len(), 1500);
    server.inject(FaultRule::on(Operation::ListObjects, Action::Unsorted).times(1));
    let page = store.list(BUCKET, &ListRequest::default()).await.unwrap();
    assert_eq!(page.objects[0].key, "0999");
    server.inject(FaultRule::on(Operation::ListObjects, Action::RepeatToken).times(1));
    let request = ListRequest { token: page.next.clone(), ..ListRequest::default() };
    assert_fails!(store.list(BUCKET, &request).await, S3Error::Transient { .. });
}
