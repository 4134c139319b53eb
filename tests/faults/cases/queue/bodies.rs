//! F61, F77–F79, F86: what messages say, and what they must not make the program do.

use std::collections::BTreeSet;
use std::time::Duration;

use ::keyfall::demo::notifier::{Envelope, Event, KeySpelling, compose, in_sns, test_event};
use ::keyfall::demo::s3::Operation as S3Operation;

use super::{by_queue, deliveries, demand, event, listening, read_once, redelivers, tell, until_dead, until_left};
use crate::case::{Case, Report, Trial};
use crate::lab::{BUCKET, Disposal, Lab, Settings, key};
use crate::mailbox::{DEAD, QUEUE};
use crate::oracle::{Body, Fate};

const SOON: Duration = Duration::from_secs(1);
/// Deliveries after which a message is dead.
const MOST: u32 = 3;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("F61-event", "events of objects that are gone, or were loaded and deleted", of_what_is_gone),
        Case::new("F77", "events out of order: removals first, an older version last", out_of_order),
        Case::new("F78", "messages nobody can read", unreadable),
        Case::new("F79", "every envelope, every spelling of a key, test events", every_envelope),
        Case::new("F86", "events of other buckets, prefixes and folders above", foreign).first_wave(),
        Case::new("F86-acknowledge", "the same where such events are to be acknowledged", foreign_acknowledged),
    ]
}

async fn of_what_is_gone(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    redelivers(&lab, SOON, MOST);
    let mut keyfall = lab.keyfall("a", &by_queue(Disposal::Delete));
    listening(&lab, &mut keyfall).await;
    lab.put(0..2, 5);
    let again = event(&lab, &key(0));
    tell(&lab, 0..2);
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE disposal = 'done'", 2).await;
    // Loaded and deleted: the event comes once more. Never there at all: an event, and no object.
    lab.mail.send(&compose(&[again], Envelope::S3, KeySpelling::Aws), Vec::new());
    let never = Event::put(BUCKET, &key(5), "0123456789abcdef0123456789abcdef", 60);
    lab.mail.send(&compose(&[never], Envelope::S3, KeySpelling::Aws), Vec::new());
    until_left(&lab, 0).await;
    lab.put(2..3, 5);
    tell(&lab, [2]);
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE disposal = 'done'", 3).await;
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects WHERE state = 'quarantined'").await, 0);
    assert_eq!(lab.mail.sqs.len(DEAD), 0, "an object that is gone is no poison");
    read_once(&lab, 0..3);
    lab.verify(&mut [&mut keyfall]).await
}

async fn out_of_order(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    redelivers(&lab, SOON, MOST);
    let mut keyfall = lab.keyfall("a", &by_queue(Disposal::Keep));
    listening(&lab, &mut keyfall).await;
    let send = |lab: &Lab, event: &Event, demands| {
        lab.mail.send(&compose(std::slice::from_ref(event), Envelope::S3, KeySpelling::Aws), demands)
    };
    // A removal that overtook the event of the object that is there now.
    lab.put(0..1, 5);
    send(&lab, &Event { sequencer: 9, ..Event::removed(BUCKET, &key(0)) }, Vec::new());
    let created = event(&lab, &key(0));
    send(&lab, &created, vec![demand(&created)]);
    // Two versions, the newer one told of first.
    lab.put(1..2, 5);
    let older = event(&lab, &key(1));
    let body = Body::new(1, 7, &mut lab.random);
    lab.put_body(&key(1), &body);
    lab.oracle.versions.iter_mut().filter(|version| version.is_displaced).for_each(|old| old.fate = Fate::Unread);
    let newer = Event { sequencer: 2, ..event(&lab, &key(1)) };
    send(&lab, &newer, vec![demand(&newer)]);
    lab.until_state("loaded", 2).await;
    send(&lab, &older, Vec::new());
    // Removed for good, and nothing follows from it.
    send(&lab, &Event { sequencer: 3, ..Event::removed(BUCKET, &key(1)) }, Vec::new());
    until_left(&lab, 0).await;
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE state IN ('pending', 'leased')", 0).await;
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects WHERE state = 'loaded'").await, 2);
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects WHERE state = 'quarantined'").await, 0);
    let ignored = keyfall.metric("keyfall_notifications_total", "outcome=\"ignored\"").await;
    assert!(ignored >= Some(2.0), "two removals: {ignored:?}");
    assert_eq!(lab.mail.sqs.len(DEAD), 0);
    lab.verify(&mut [&mut keyfall]).await
}

/// Bodies that say nothing that could be used; each has to end with the dead.
fn poison() -> Vec<String> {
    let put = |key: &str| Event::put(BUCKET, key, "0123456789abcdef0123456789abcdef", 60);
    let with_key = |spelled: &str| {
        compose(&[put("KEY")], Envelope::S3, KeySpelling::Plain).replace("\"KEY\"", &format!("\"{spelled}\""))
    };
    let whole = compose(&[put(&key(0))], Envelope::S3, KeySpelling::Aws);
    let confirm = "{\"Type\":\"SubscriptionConfirmation\",\"Token\":\"t\",\"Message\":\"m\",\
                   \"SubscribeURL\":\"http://127.0.0.1:9/latest/meta-data\"}";
    vec![
        "{}".to_owned(),
        "not JSON at all".to_owned(),
        "\u{feff}".to_owned(),
        "{\"Records\":{\"a\":1}}".to_owned(),
        "{\"Records\":[7]}".to_owned(),
        whole.get(..whole.len() / 2).expect("half of it").to_owned(),
        format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)),
        confirm.to_owned(),
        in_sns("{}"),
        in_sns(&in_sns(&in_sns(&whole))),
        with_key("incoming/%zz.csv"),
        with_key("incoming/%"),
        with_key("incoming/%ff%fe.csv"),
        with_key(""),
        "{\"detail-type\":\"Object Created\",\"source\":\"aws.s4\",\"detail\":{}}".to_owned(),
    ]
}

async fn unreadable(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    redelivers(&lab, SOON, MOST);
    let mut keyfall = lab.keyfall("a", &by_queue(Disposal::Delete));
    listening(&lab, &mut keyfall).await;
    lab.put(0..20, 5);
    let bodies = poison();
    let mut ids = BTreeSet::new();
    for (number, body) in bodies.iter().enumerate() {
        ids.insert(lab.mail.send(body, vec![("nothing".to_owned(), "recorded".to_owned())]));
        tell(&lab, [number]);
    }
    // With a mark before it, as some editors write.
    let marked = [event(&lab, &key(15))];
    let body = format!("\u{feff}{}", compose(&marked, Envelope::S3, KeySpelling::Aws));
    lab.mail.send(&body, marked.iter().map(demand).collect());
    tell(&lab, 16..20);
    // The others flow although poison lies between them.
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE disposal = 'done'", 20).await;
    until_dead(&lab, bodies.len()).await;
    until_left(&lab, 0).await;
    let dead: BTreeSet<String> = lab.mail.sqs.messages(DEAD).into_iter().map(|message| message.id).collect();
    assert_eq!(dead, ids);
    for id in &ids {
        assert_eq!(deliveries(&lab, id), MOST as usize);
    }
    let metric = keyfall.metric("keyfall_notifications_total", "outcome=\"unreadable\"").await;
    let deliveries = bodies.len() * MOST as usize;
    assert_eq!(metric, Some(deliveries as f64));
    let lines = keyfall.log().lines().filter(|line| ids.iter().any(|id| line.contains(id.as_str()))).count();
    assert!(lines <= bodies.len(), "{lines} lines about {} messages delivered {deliveries} times", bodies.len());
    let longest = keyfall.log().lines().map(str::len).max().unwrap_or(0);
    assert!(longest < 4096, "a line of {longest} bytes in the log");
    read_once(&lab, 0..20);
    Report { note: format!("{lines} lines in the log"), ..lab.verify(&mut [&mut keyfall]).await }
}

/// A key whose time is `n` and whose ending every spelling writes in another way. `%2B` stands in the key itself: who
/// decodes twice reads a plus there.
fn awkward(n: usize) -> String {
    key(n).replace(".csv", &format!(" größe+{n}%2B&=x.csv"))
}

async fn every_envelope(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    redelivers(&lab, SOON, MOST);
    let mut keyfall = lab.keyfall("a", &by_queue(Disposal::Delete));
    keyfall.rewrite("%S}.csv", "%S}*.csv");
    listening(&lab, &mut keyfall).await;
    let spellings = [KeySpelling::Aws, KeySpelling::Percent, KeySpelling::Slashes];
    let mut spoken = vec![(Envelope::EventBridge, KeySpelling::Plain)];
    for envelope in [Envelope::S3, Envelope::Sns] {
        spoken.extend(spellings.map(|spelling| (envelope, spelling)));
    }
    for (number, (envelope, spelling)) in spoken.iter().enumerate() {
        let body = Body::new(number, 5, &mut lab.random);
        lab.put_body(&awkward(number), &body);
        let event = event(&lab, &awkward(number));
        lab.mail.send(&compose(std::slice::from_ref(&event), *envelope, *spelling), vec![demand(&event)]);
    }
    let tests = [test_event(BUCKET), in_sns(&test_event(BUCKET))];
    for body in &tests {
        lab.mail.send(body, Vec::new());
    }
    until_left(&lab, 0).await;
    let wanted = i64::try_from(spoken.len()).expect("few");
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE disposal = 'done'", wanted).await;
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects").await, wanted, "a key was read in two ways");
    let by_queue = "SELECT count(*) FROM keyfall.objects WHERE discovered_by = 'notification'";
    assert_eq!(lab.count(by_queue).await, wanted);
    assert_eq!(keyfall.metric("keyfall_notifications_total", "outcome=\"test\"").await, Some(2.0));
    assert_eq!((lab.mail.sqs.len(DEAD), lab.mail.sqs.counts(QUEUE).delivered), (0, spoken.len() as u64 + 2));
    lab.verify(&mut [&mut keyfall]).await
}

/// Another bucket, another prefix, a key that matches no pattern, folders above, and the archive.
fn strangers() -> Vec<Event> {
    let put = |bucket: &str, key: &str| Event::put(bucket, key, "0123456789abcdef0123456789abcdef", 60);
    vec![
        put("other-bucket", &key(0)),
        put(BUCKET, "outgoing/2024-05-01-00-00-00.csv"),
        put(BUCKET, "incoming/../secret/2024-05-01-00-00-00.csv"),
        put(BUCKET, "../incoming/2024-05-01-00-00-00.csv"),
        put(BUCKET, "Incoming/2024-05-01-00-00-00.csv"),
    ]
}

/// Puts every stranger where it says it lies, so that a fetch would succeed.
fn put_strangers(lab: &Lab) -> Vec<Event> {
    let events = strangers();
    for event in &events {
        lab.s3.put(&event.bucket, &event.key, "7,0,n,1.10\n");
    }
    events
}

fn asked_for_strangers(lab: &Lab, events: &[Event]) -> Vec<(S3Operation, String)> {
    let asked = lab.s3.log().into_iter().filter(|entry| entry.op != S3Operation::ListObjects);
    let strange =
        asked.filter(|entry| events.iter().any(|event| event.bucket == entry.bucket && event.key == entry.key));
    strange.map(|entry| (entry.op, entry.key)).collect()
}

async fn foreign(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    redelivers(&lab, SOON, MOST);
    let mut keyfall = lab.keyfall("a", &by_queue(Disposal::Delete));
    listening(&lab, &mut keyfall).await;
    let events = put_strangers(&lab);
    for event in &events {
        let body = compose(std::slice::from_ref(event), Envelope::S3, KeySpelling::Aws);
        lab.mail.send(&body, vec![("nothing".to_owned(), "recorded".to_owned())]);
    }
    // One of ours and one of another's in the same message: ours is loaded, the message stays.
    lab.put(0..3, 5);
    let mixed: Vec<Event> = events.iter().take(1).cloned().chain([event(&lab, &key(0))]).collect();
    lab.mail.send(&compose(&mixed, Envelope::S3, KeySpelling::Aws), vec![("nothing".to_owned(), "r".to_owned())]);
    tell(&lab, 1..3);
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE disposal = 'done'", 3).await;
    until_dead(&lab, events.len() + 1).await;
    until_left(&lab, 0).await;
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects").await, 3);
    assert_eq!(asked_for_strangers(&lab, &events), []);
    let refused = keyfall.metric("keyfall_notifications_total", "outcome=\"foreign\"").await.unwrap_or_default()
        + keyfall.metric("keyfall_notifications_total", "outcome=\"unreadable\"").await.unwrap_or_default();
    assert!(refused >= events.len() as f64, "{refused} refused");
    lab.verify(&mut [&mut keyfall]).await
}

async fn foreign_acknowledged(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    redelivers(&lab, SOON, MOST);
    let settings = Settings { queue: Some("foreign_events = \"acknowledge\"".to_owned()), ..by_queue(Disposal::Keep) };
    let mut keyfall = lab.keyfall("a", &settings);
    listening(&lab, &mut keyfall).await;
    let events: Vec<Event> = put_strangers(&lab).into_iter().filter(|event| !event.key.contains("..")).collect();
    for event in &events {
        lab.mail.send(&compose(std::slice::from_ref(event), Envelope::S3, KeySpelling::Aws), Vec::new());
    }
    until_left(&lab, 0).await;
    lab.put(0..2, 5);
    tell(&lab, 0..2);
    lab.until_state("loaded", 2).await;
    assert_eq!(lab.mail.sqs.len(DEAD), 0);
    assert_eq!(asked_for_strangers(&lab, &events), []);
    let counted = keyfall.metric("keyfall_notifications_total", "outcome=\"foreign\"").await;
    assert_eq!(counted, Some(events.len() as f64));
    lab.verify(&mut [&mut keyfall]).await
}
