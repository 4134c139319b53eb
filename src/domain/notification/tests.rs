//! Bodies as AWS documents them and as other implementations send them, and bodies nobody should send.

use serde_json::{Value, json};

use super::*;

/// The example of the S3 user guide, shortened by what is not read.
const S3: &str = r#"{"Records":[{"eventVersion":"2.1","eventSource":"aws:s3","awsRegion":"us-west-2",
    "eventTime":"1970-01-01T00:00:00.001Z","eventName":"ObjectCreated:Put",
    "userIdentity":{"principalId":"AIDAJDPLRKLG7UEXAMPLE"},"requestParameters":{"sourceIPAddress":"127.0.0.1"},
    "responseElements":{"x-amz-request-id":"C3D13FE58DE4C810",
    "x-amz-id-2":"FMyUVURIY8/IgAtTv8xRjskZQpcIZ9KG4V5Wp6S7S/JRWeUWerMUE5JgHvANOjpD"},
    "s3":{"s3SchemaVersion":"1.0","configurationId":"testConfigRule",
    "bucket":{"name":"amzn-s3-demo-bucket","ownerIdentity":{"principalId":"A3NL1KOZZKExample"},
    "arn":"arn:aws:s3:::amzn-s3-demo-bucket"},
    "object":{"key":"HappyFace.jpg","size":1024,"eTag":"d41d8cd98f00b204e9800998ecf8427e",
    "versionId":"096fKKXTRTtl3on89fVO.nfljtsv6qko","sequencer":"0055AED6DCD90281E5"}}}]}"#;

/// The example of the EventBridge guide.
const BRIDGE: &str = r#"{"version":"0","id":"17793124-05d4-b198-2fde-7ededc63b103","detail-type":"Object Created",
    "source":"aws.s3","account":"111122223333","time":"2021-11-12T00:00:00Z","region":"ca-central-1",
    "resources":["arn:aws:s3:::amzn-s3-demo-bucket1"],
    "detail":{"version":"0","bucket":{"name":"amzn-s3-demo-bucket1"},
    "object":{"key":"example-key","size":5,"etag":"b1946ac92492d2347c6235b4d2611184",
    "version-id":"IYV3p45BT0ac8hjHg1houSdS1a.Mro8e","sequencer":"617f08299329d189"},
    "request-id":"N4N7GDK58NMKJ12R","requester":"123456789012","source-ip-address":"1.2.3.4","reason":"PutObject"}}"#;

const TEST: &str = r#"{"Service":"Amazon S3","Event":"s3:TestEvent","Time":"2014-10-13T15:57:02.089Z",
    "Bucket":"amzn-s3-demo-bucket","RequestId":"5582815E1AEA5ADF","HostId":"8cLeGAmw098X5cv4Zkwcmo8vvZa3eH3eKxsPzbB9"}"#;

fn sns(message: &str) -> String {
    json!({
        "Type": "Notification",
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": "arn:aws:sns:us-west-2:123456789012:MyTopic",
        "Subject": "Amazon S3 Notification",
        "Message": message,
        "Timestamp": "2012-05-02T00:54:06.655Z",
        "SignatureVersion": "1",
        "Signature": "EXAMPLEw6JRN",
        "SigningCertURL": "https://sns.us-west-2.amazonaws.com/SimpleNotificationService.pem",
        "UnsubscribeURL": "https://sns.us-west-2.amazonaws.com/?Action=Unsubscribe",
    })
    .to_string()
}

fn record(key: &str) -> Value {
    json!({
        "eventName": "ObjectCreated:Put",
        "eventTime": "2024-05-01T10:00:00.250Z",
        "s3": {"bucket": {"name": "drop"}, "object": {"key": key, "size": 3, "eTag": "abc"}},
    })
}

fn records(records: &[Value]) -> String {
    json!({"Records": records}).to_string()
}

fn events(body: &str) -> Events {
    match parse(body) {
        Notification::Events(events) => events,
        other => panic!("{other:?} of {body}"),
    }
}

fn one(body: &str) -> Created {
    let mut events = events(body);
    assert_eq!((events.created.len(), events.ignored, &events.unreadable), (1, 0, &None), "{body}");
    events.created.remove(0)
}

fn refused(body: &str) -> Unreadable {
    match parse(body) {
        Notification::Unreadable(reason) => reason,
        other => panic!("{other:?} of {body}"),
    }
}

/// What becomes of a record with this key.
fn key(raw: &str) -> Result<String, Unreadable> {
    let events = events(&records(&[record(raw)]));
    match (events.created.into_iter().next(), events.unreadable) {
        (Some(created), None) => Ok(created.key),
        (None, Some((1, reason))) => Err(reason),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_example_of_s3_is_read_by_itself_and_in_sns() {
    let expected = Created {
        bucket: "amzn-s3-demo-bucket".to_owned(),
        key: "HappyFace.jpg".to_owned(),
        etag: Some("d41d8cd98f00b204e9800998ecf8427e".to_owned()),
        size: Some(1024),
        time: Some("1970-01-01T00:00:00.001Z".parse().unwrap()),
    };
    assert_eq!(one(S3), expected);
    assert_eq!(one(&sns(S3)), expected);
    assert_eq!(one(&sns(&sns(S3))), expected);
    // A text editor's byte order mark.
    assert_eq!(one(&format!("\u{feff}{S3}")), expected);
}

#[test]
fn the_example_of_eventbridge_is_read_by_itself_and_in_sns() {
    let expected = Created {
        bucket: "amzn-s3-demo-bucket1".to_owned(),
        key: "example-key".to_owned(),
        etag: Some("b1946ac92492d2347c6235b4d2611184".to_owned()),
        size: Some(5),
        time: Some("2021-11-12T00:00:00Z".parse().unwrap()),
    };
    assert_eq!(one(BRIDGE), expected);
    assert_eq!(one(&sns(BRIDGE)), expected);
}

#[test]
fn a_test_event_is_one_by_itself_and_in_sns() {
    for body in [TEST.to_owned(), sns(TEST)] {
        assert_eq!(parse(&body), Notification::Test);
    }
}

#[test]
fn keys_of_records_are_form_decoded_exactly_once() {
    for (raw, decoded) in [
        // AWS, LocalStack, moto.
        ("a+b%2B", "a b+"),
        ("a%20b", "a b"),
        ("in%2Fa+b", "in/a b"),
        ("red+flower%2B1.csv", "red flower+1.csv"),
        ("%E2%82%AC", "€"),
        ("€", "€"),
        // Decoded twice these would be other keys.
        ("a%252Bb", "a%2Bb"),
        ("a%2520b", "a%20b"),
        ("a%25zz", "a%zz"),
        ("items/..csv", "items/..csv"),
    ] {
        assert_eq!(key(raw).as_deref(), Ok(decoded), "{raw}");
    }
}

#[test]
fn keys_of_eventbridge_are_taken_as_they_are() {
    for raw in ["a+b%2B", "a%20b", "in%2Fa+b", "%zz", "€ %"] {
        let body = BRIDGE.replace("example-key", raw);
        assert_eq!(one(&body).key, raw);
    }
}

#[test]
fn keys_that_no_object_has_are_refused_with_their_reason() {
    for (raw, reason) in [
        ("%zz", Unreadable::KeyEncoding),
        ("%", Unreadable::KeyEncoding),
        ("a%2", Unreadable::KeyEncoding),
        ("%FF", Unreadable::KeyText),
        ("%C3", Unreadable::KeyText),
        ("", Unreadable::KeyEmpty),
        ("a%00b", Unreadable::KeyNul),
        ("items/../secret.csv", Unreadable::KeyClimbs),
        ("items%2F..%2Fsecret.csv", Unreadable::KeyClimbs),
        ("..", Unreadable::KeyClimbs),
        (&"k".repeat(1025), Unreadable::KeyTooLong),
    ] {
        assert_eq!(key(raw), Err(reason), "{raw}");
    }
    assert!(key(&"k".repeat(1024)).is_ok());
    // Decoded it is short enough.
    assert!(key(&"%41".repeat(1024)).is_ok());
    for (raw, reason) in [("", Unreadable::KeyEmpty), ("a/../b", Unreadable::KeyClimbs)] {
        assert_eq!(refused(&BRIDGE.replace("example-key", raw)), reason);
    }
}

#[test]
fn what_an_event_does_not_tell_sensibly_is_taken_for_missing() {
    for (field, values) in [
        ("size", vec![json!(null), json!(-1), json!("3"), json!(1.5), json!(u64::MAX), json!(1_u64 << 63)]),
        ("eTag", vec![json!(null), json!(""), json!("\"\""), json!(7), json!("a\u{0}b"), json!("e".repeat(129))]),
    ] {
        for value in values {
            let mut record = record("a");
            record["s3"]["object"][field] = value.clone();
            let created = one(&records(&[record]));
            let missing = if field == "size" { created.size.is_none() } else { created.etag.is_none() };
            assert!(missing, "{field} {value}");
        }
    }
    for time in [json!(null), json!("yesterday"), json!(0), json!("-000044-03-15T12:00:00Z")] {
        let mut record = record("a");
        record["eventTime"] = time.clone();
        assert_eq!(one(&records(&[record])).time, None, "{time}");
    }
    let mut bare = record("a");
    bare["s3"]["object"] = json!({"key": "a"});
    let created = one(&records(&[bare]));
    assert_eq!((created.etag, created.size), (None, None));
}

#[test]
fn sizes_at_the_edges_are_believed_and_quotes_are_stripped() {
    for size in [0, 5_497_558_138_880, i64::MAX as u64] {
        let mut record = record("a");
        record["s3"]["object"]["size"] = json!(size);
        assert_eq!(one(&records(&[record])).size, Some(size));
    }
    for tag in ["\"abc-2\"", "W/\"abc-2\"", "abc-2"] {
        let mut record = record("a");
        record["s3"]["object"]["eTag"] = json!(tag);
        assert_eq!(one(&records(&[record])).etag.as_deref(), Some("abc-2"));
    }
}

#[test]
fn every_record_of_a_message_is_read_and_a_bad_one_spoils_no_other() {
    let mut all: Vec<Value> = (0..10).map(|n| record(&format!("items/{n}"))).collect();
    all[6]["s3"]["object"]["key"] = json!("%zz");
    all[8]["s3"]["bucket"] = json!({});
    all.push(json!("no record"));
    all.push(json!({"eventName": "ObjectRemoved:Delete"}));
    let events = events(&records(&all));
    let keys: Vec<_> = events.created.iter().map(|created| created.key.as_str()).collect();
    assert_eq!(keys, ["items/0", "items/1", "items/2", "items/3", "items/4", "items/5", "items/7", "items/9"]);
    assert_eq!((events.ignored, events.unreadable), (1, Some((3, Unreadable::KeyEncoding))));
}

#[test]
fn only_creations_tell_of_something_to_load() {
    for name in [
        "ObjectCreated:Put",
        "ObjectCreated:Post",
        "ObjectCreated:Copy",
        "ObjectCreated:CompleteMultipartUpload",
        "s3:ObjectCreated:Put",
    ] {
        let mut record = record("a");
        record["eventName"] = json!(name);
        one(&records(&[record]));
    }
    for name in [
        "ObjectRemoved:Delete",
        "ObjectRemoved:DeleteMarkerCreated",
        "s3:ObjectRemoved:Delete",
        "ObjectRestore:Completed",
        "ReducedRedundancyLostObject",
        "LifecycleExpiration:Delete",
        "ObjectTagging:Put",
        "ObjectAcl:Put",
    ] {
        // What it is about is not even looked at.
        let body = records(&[json!({"eventName": name, "s3": {"object": {"key": "%zz"}}})]);
        assert_eq!(events(&body), Events { ignored: 1, ..Events::default() }, "{name}");
    }
    for kind in ["Object Deleted", "Object Tags Added", "Object Restore Completed"] {
        let body = BRIDGE.replace("Object Created", kind);
        assert_eq!(events(&body), Events { ignored: 1, ..Events::default() }, "{kind}");
    }
    assert_eq!(events(r#"{"Records":[]}"#), Events::default());
}

#[test]
fn what_nobody_should_send_is_refused_with_its_reason() {
    for body in ["", "hello", "{", "\u{0}", "{\"Records\":[", "NaN", &"[".repeat(10_000)] {
        assert!(matches!(refused(body), Unreadable::NotJson { .. }), "{body}");
    }
    for body in [
        "{}",
        "[]",
        "null",
        "\"x\"",
        "7",
        r#"{"Records":7}"#,
        r#"{"Records":{}}"#,
        r#"{"Records":null}"#,
        r#"{"Type":"Other","Message":"x"}"#,
        r#"{"Event":"s3:Other"}"#,
        r#"{"detail-type":7}"#,
    ] {
        assert_eq!(refused(body), Unreadable::UnknownShape, "{body}");
    }
    assert_eq!(refused(r#"{"Type":"Notification"}"#), Unreadable::Field("Message"));
    assert_eq!(refused(r#"{"Type":"Notification","Message":{}}"#), Unreadable::Field("Message"));
    assert!(matches!(refused(&sns("no JSON")), Unreadable::NotJson { .. }));
    assert_eq!(refused(&sns(&sns(&sns(S3)))), Unreadable::Nested);
    assert_eq!(refused(&BRIDGE.replace("aws.s3", "acme.s3")), Unreadable::OtherSource);
    assert_eq!(refused(&BRIDGE.replace("\"name\":", "\"nom\":")), Unreadable::Field("detail.bucket.name"));
    assert_eq!(refused(&" ".repeat(LONGEST_BODY + 1)), Unreadable::TooLong);
    let missing = |record: Value| events(&records(&[record])).unreadable;
    assert_eq!(missing(json!({})), Some((1, Unreadable::Field("eventName"))));
    let mut nameless = record("a");
    nameless["s3"]["object"] = json!({});
    assert_eq!(missing(nameless), Some((1, Unreadable::Field("s3.object.key"))));
}

#[test]
fn a_subscription_is_left_to_a_person_and_its_reason_names_no_url() {
    for kind in ["SubscriptionConfirmation", "UnsubscribeConfirmation"] {
        let body = json!({
            "Type": kind,
            "Token": "2336412f37f",
            "Message": "You have chosen to subscribe to the topic",
            "SubscribeURL": "http://169.254.169.254/latest/meta-data/",
        });
        let reason = refused(&body.to_string());
        assert_eq!(reason, Unreadable::Subscription);
        let text = reason.to_string();
        assert!(!text.contains("http") && !text.contains("2336412f37f") && text.contains("confirm"), "{text}");
    }
}
