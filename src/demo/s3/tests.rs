//! Versioning, keys and canned answers, seen through the SDK.

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region, ResponseChecksumValidation};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use super::*;

const BUCKET: &str = "landing";

async fn started() -> (EmbeddedS3, Client) {
    let server = EmbeddedS3::start().await.unwrap();
    server.create_bucket(BUCKET);
    let client = client(&server, ACCESS_KEY_ID, SECRET_ACCESS_KEY);
    (server, client)
}

fn client(server: &EmbeddedS3, id: &str, secret: &str) -> Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .credentials_provider(Credentials::new(id, secret, None, None, "test"))
        .region(Region::new(REGION))
        .endpoint_url(server.endpoint())
        .force_path_style(true)
        .retry_config(RetryConfig::disabled())
        // The bodies are to be seen as they came.
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .build();
    Client::from_conf(config)
}

fn code<T, E: ProvideErrorMetadata, R>(answer: Result<T, SdkError<E, R>>) -> String {
    answer.err().and_then(|error| error.code().map(str::to_owned)).unwrap_or_default()
}

async fn put(client: &Client, body: &'static str) -> (String, String) {
    let body = aws_sdk_s3::primitives::ByteStream::from_static(body.as_bytes());
    let answer = client.put_object().bucket(BUCKET).key("k").body(body).send().await.unwrap();
    (answer.version_id().unwrap_or_default().to_owned(), answer.e_tag().unwrap().to_owned())
}

async fn read(client: &Client, version: Option<&str>) -> Result<(Bytes, Option<String>), String> {
    let answer = client.get_object().bucket(BUCKET).key("k").set_version_id(version.map(str::to_owned)).send().await;
    match answer {
        Ok(answer) => {
            let version = answer.version_id().map(str::to_owned);
            Ok((answer.body.collect().await.unwrap().into_bytes(), version))
        }
        Err(error) => Err(error.code().unwrap_or_default().to_owned()),
    }
}

#[tokio::test]
async fn a_replaced_version_is_read_by_its_id_and_a_deleted_key_is_not_listed() {
    let (server, client) = started().await;
    server.put(BUCKET, "k", "zero");
    server.enable_versioning(BUCKET);
    let (first, _) = put(&client, "one").await;
    let (second, etag) = put(&client, "two").await;
    assert_eq!(read(&client, None).await, Ok((Bytes::from("two"), Some(second.clone()))));
    assert_eq!(read(&client, Some(&first)).await.unwrap().0, "one");
    assert_eq!(read(&client, Some("null")).await.unwrap().0, "zero");
    let stale = client.delete_object().bucket(BUCKET).key("k").if_match("\"other\"").send().await;
    assert_eq!(code(stale), "PreconditionFailed");
    let deleted = client.delete_object().bucket(BUCKET).key("k").if_match(etag).send().await.unwrap();
    assert_eq!(deleted.delete_marker(), Some(true));
    assert_eq!(read(&client, None).await, Err("NoSuchKey".to_owned()));
    assert_eq!(read(&client, Some(&second)).await.unwrap().0, "two");
    let listed = client.list_objects_v2().bucket(BUCKET).send().await.unwrap();
    assert_eq!(listed.contents().len(), 0);
    // Deleting the marker brings the newest version back; deleting a version is for good.
    let marker = deleted.version_id().unwrap();
    client.delete_object().bucket(BUCKET).key("k").version_id(marker).send().await.unwrap();
    assert_eq!(server.get(BUCKET, "k").unwrap(), "two");
    client.delete_object().bucket(BUCKET).key("k").version_id(&second).send().await.unwrap();
    assert_eq!(server.get(BUCKET, "k").unwrap(), "one");
    assert_eq!(read(&client, Some(&second)).await, Err("NoSuchVersion".to_owned()));
    assert_eq!(server.versions(BUCKET, "k").len(), 2);
}

#[tokio::test]
async fn a_key_that_was_rotated_away_has_expired() {
    let (server, client_of_old) = started().await;
    server.rotate_key("second", "other secret");
    let refused = client_of_old.list_objects_v2().bucket(BUCKET).send().await;
    assert_eq!(code(refused), "ExpiredToken");
    let client_of_new = client(&server, "second", "other secret");
    assert!(client_of_new.list_objects_v2().bucket(BUCKET).send().await.is_ok());
}

#[tokio::test]
async fn a_canned_answer_takes_the_place_of_the_work_and_of_the_answer() {
    let (server, client) = started().await;
    server.put(BUCKET, "k", "one");
    let redirect = Canned::error(301, "PermanentRedirect", "elsewhere").header("x-amz-bucket-region", "eu-west-1");
    server.inject(FaultRule::on(Operation::DeleteObject, Action::Instead(redirect)).times(1));
    let error = client.delete_object().bucket(BUCKET).key("k").send().await.unwrap_err();
    let raw = error.raw_response().unwrap();
    assert_eq!((raw.status().as_u16(), raw.headers().get("x-amz-bucket-region")), (301, Some("eu-west-1")));
    assert_eq!(server.log().last().map(|entry| entry.status), Some(301));
    assert_eq!(server.len(BUCKET), 1);
    client.delete_object().bucket(BUCKET).key("k").send().await.unwrap();
    assert_eq!(server.len(BUCKET), 0);
}

#[tokio::test]
async fn a_code_the_protocol_crate_does_not_know_is_answered_as_it_is() {
    let (server, client) = started().await;
    for code_of_rule in ["KMS.AccessDeniedException", "ConditionalRequestConflict", "RequestTimeTooSkewed"] {
        server.inject(FaultRule::on(Operation::ListObjects, Action::Status(400, code_of_rule)).times(1));
        assert_eq!(code(client.list_objects_v2().bucket(BUCKET).send().await), code_of_rule);
    }
}

#[tokio::test]
async fn a_compressed_answer_is_compressed() {
    let (server, client) = started().await;
    server.put(BUCKET, "k", "one");
    server.inject(FaultRule::on(Operation::GetObject, Action::Gzip).times(1));
    let answer = client.get_object().bucket(BUCKET).key("k").send().await.unwrap();
    assert_eq!(answer.content_encoding(), Some("gzip"));
    assert!(answer.body.collect().await.unwrap().into_bytes().starts_with(&[0x1f, 0x8b]));
}

#[tokio::test]
async fn bodies_of_another_length_come_as_they_are_announced() {
    let (server, client) = started().await;
    server.put(BUCKET, "k", "0123456789");
    let pause = Action::PauseAfter(4, std::time::Duration::from_millis(10));
    for (action, length, body) in [
        (Action::TooLong(2), Some(12), "0123456789\n\n"),
        (Action::Unannounced(4), None, "0123"),
        (pause, Some(10), "0123456789"),
    ] {
        server.inject(FaultRule::on(Operation::GetObject, action).times(1));
        let answer = client.get_object().bucket(BUCKET).key("k").send().await.unwrap();
        assert_eq!(answer.content_length(), length);
        assert_eq!(answer.body.collect().await.unwrap().into_bytes(), body);
    }
}

#[tokio::test]
async fn listings_show_keys_twice_on_two_pages_or_not_at_all() {
    let (server, client) = started().await;
    for key in ["a", "b", "c"] {
        server.put(BUCKET, key, "x");
    }
    server.inject(FaultRule::on(Operation::ListObjects, Action::PageOf(2)));
    for (action, pages) in [
        (Action::Overlap, vec![vec!["a", "b"], vec!["b", "c"]]),
        (Action::Twice, vec![vec!["a", "b", "a"], vec!["c"]]),
        (Action::Hide("b".to_owned()), vec![vec!["a"], vec!["c"]]),
    ] {
        server.inject(FaultRule::on(Operation::ListObjects, action).times(1));
        let (mut seen, mut token) = (Vec::new(), None);
        loop {
            let page = client.list_objects_v2().bucket(BUCKET).set_continuation_token(token).send().await.unwrap();
            seen.push(page.contents().iter().map(|object| object.key().unwrap().to_owned()).collect::<Vec<_>>());
            token = page.next_continuation_token().map(str::to_owned);
            if token.is_none() {
                break;
            }
        }
        assert_eq!(seen, pages);
    }
}

#[tokio::test]
async fn a_claimed_size_is_told_and_can_be_copied_in_parts() {
    let (server, client) = started().await;
    server.put(BUCKET, "k", "one");
    server.inject(FaultRule::on(Operation::HeadObject, Action::ClaimSize(1 << 40)).key("k"));
    server.inject(FaultRule::on(Operation::UploadPartCopy, Action::ClaimSize(0)));
    let head = client.head_object().bucket(BUCKET).key("k").send().await.unwrap();
    assert_eq!(head.content_length(), Some(1 << 40));
    let upload = client.create_multipart_upload().bucket(BUCKET).key("copy").send().await.unwrap();
    let part = client
        .upload_part_copy()
        .copy_source("landing/k")
        .copy_source_range("bytes=100-199")
        .bucket(BUCKET)
        .key("copy")
        .upload_id(upload.upload_id().unwrap())
        .part_number(1);
    assert!(part.send().await.is_ok());
}
