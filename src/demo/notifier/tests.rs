//! Spelling, envelopes and luck.

use serde_json::Value;

use super::*;
use crate::demo::sqs::QueueOptions;

#[test]
fn a_key_is_spelled_as_each_sender_spells_it() {
    let check = |spelling, expected| assert_eq!(spell("in/a b+ü.csv", spelling), expected);
    check(KeySpelling::Aws, "in/a+b%2B%C3%BC.csv");
    check(KeySpelling::Percent, "in/a%20b%2B%C3%BC.csv");
    check(KeySpelling::Slashes, "in%2Fa+b%2B%C3%BC.csv");
    check(KeySpelling::Plain, "in/a b+ü.csv");
}

#[test]
fn each_envelope_holds_the_object() {
    let event = Event::put("landing", "in/a b", "e1", 7);
    let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let raw = read(&compose(std::slice::from_ref(&event), Envelope::S3, KeySpelling::Aws));
    assert_eq!(raw["Records"][0]["s3"]["object"]["key"], "in/a+b");
    assert_eq!(raw["Records"][0]["s3"]["object"]["eTag"], "e1");
    let sns = read(&compose(std::slice::from_ref(&event), Envelope::Sns, KeySpelling::Aws));
    assert_eq!(read(sns["Message"].as_str().unwrap())["Records"][0]["s3"]["object"]["size"], 7);
    let bridged = read(&compose(&[event], Envelope::EventBridge, KeySpelling::Aws));
    assert_eq!(bridged["detail"]["object"]["key"], "in/a b");
    assert_eq!(bridged["detail"]["object"]["etag"], "e1");
}

#[tokio::test]
async fn luck_depends_on_the_seed_alone() {
    let sqs = EmbeddedSqs::start().await.unwrap();
    let run = |name: &str| {
        sqs.create_queue(name, QueueOptions::default());
        let losing = Unreliability { dropped: 5.0, doubled: 5.0, ..Unreliability::default() };
        let mut notifier = Notifier::new(name, 42).losing(losing);
        for number in 0..2000 {
            notifier.tell(&sqs, &Event::put("b", &format!("k{number}"), "e", 1));
        }
        (notifier.told(), sqs.len(name) as u64)
    };
    let (told, messages) = run("one");
    assert_eq!(told.sent + told.dropped, 2000);
    assert_eq!(messages, told.sent + told.doubled);
    assert!((60..140).contains(&told.dropped) && (60..140).contains(&told.doubled), "{told:?}");
    assert_eq!(run("other"), (told, messages));
}
