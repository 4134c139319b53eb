//! F11, F61, F76–F88: the queue that tells of new objects loses, doubles, delays and garbles, refuses and goes away.
//!
//! A message is acknowledged once every object it tells of is in the ledger, so it never waits for a load and nothing
//! keeps it hidden for longer. I4 is looked at in every case, at every deletion.

mod acknowledge;
mod bodies;
pub(super) mod service;

use std::time::Duration;

use ::keyfall::demo::notifier::{Envelope, Event, KeySpelling, compose};
use ::keyfall::demo::s3::Operation as S3Operation;
use ::keyfall::demo::sqs::{LogEntry, Operation, QueueOptions};

use crate::case::Case;
use crate::keyfall::Keyfall;
use crate::lab::{BUCKET, Disposal, Lab, Settings, key, within};
use crate::mailbox::{DEAD, Demand, QUEUE};

pub(crate) fn cases() -> Vec<Case> {
    [acknowledge::cases(), bodies::cases(), service::cases()].concat()
}

/// Nothing but the queue tells of what comes after the first sweep.
fn by_queue(disposal: Disposal) -> Settings {
    let feed = "poll_interval = \"1h\"\npoll_interval_max = \"1h\"\nlookback_interval = \"1h\"".to_owned();
    Settings { feed, ..Settings::new(disposal) }.queued("")
}

/// A queue whose messages come back soon, and are dead after so many deliveries.
pub(super) fn redelivers(lab: &Lab, visibility: Duration, most: u32) {
    let redrive = Some((DEAD.to_owned(), most));
    lab.mail.sqs.create_queue(QUEUE, QueueOptions { visibility, redrive });
}

/// Starts a program and waits until it asks for messages. The bucket has been swept and polled then, by it or by another
/// before it: nothing that comes later is found but by what comes later.
async fn listening(lab: &Lab, keyfall: &mut Keyfall) {
    let asked = requests(lab, Operation::Receive).len();
    keyfall.start();
    keyfall.says("notifications are received").await;
    let listed = || {
        let log = lab.s3.log();
        log.iter().filter(|entry| entry.op == S3Operation::ListObjects && entry.status == 200).count()
    };
    within("the bucket is listed, and messages are asked for", async {
        while listed() < 2 || requests(lab, Operation::Receive).len() == asked {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// The event of an object that was put; it may be gone by now.
fn event(lab: &Lab, key: &str) -> Event {
    let version = lab.oracle.newest(key);
    Event::put(BUCKET, key, &version.etag, version.size)
}

fn demand(event: &Event) -> Demand {
    (event.key.clone(), event.etag.clone().unwrap_or_default())
}

/// Sends one message about these objects, as S3 does; answers its id.
pub(super) fn tell(lab: &Lab, numbers: impl IntoIterator<Item = usize>) -> String {
    let events: Vec<Event> = numbers.into_iter().map(|number| event(lab, &key(number))).collect();
    let demands = events.iter().map(demand).collect();
    lab.mail.send(&compose(&events, Envelope::S3, KeySpelling::Aws), demands)
}

/// Waits until the queue holds so many messages, hidden ones included.
async fn until_left(lab: &Lab, messages: usize) {
    within("messages leave the queue", async {
        while lab.mail.sqs.len(QUEUE) != messages {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// Waits until so many messages were given up by the queue; none of them may leave it in another way.
async fn until_dead(lab: &Lab, messages: usize) {
    within("messages are given up", async {
        loop {
            // In this order: a message that moves between the two questions is counted twice, not missed.
            let (left, dead) = (lab.mail.sqs.len(QUEUE), lab.mail.sqs.len(DEAD));
            if dead == messages {
                return;
            }
            assert!(left + dead >= messages, "of {messages} messages {left} are left and {dead} dead");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// How often a message was handed out.
fn deliveries(lab: &Lab, message: &str) -> usize {
    let handed = requests(lab, Operation::Receive);
    handed.iter().filter(|request| request.messages.iter().any(|id| id == message)).count()
}

/// Requests of one kind to the queue.
fn requests(lab: &Lab, op: Operation) -> Vec<LogEntry> {
    lab.mail.sqs.log().into_iter().filter(|request| request.op == op && request.queue == QUEUE).collect()
}

/// Nothing told by the queue was read more than once.
fn read_once(lab: &Lab, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let gets = lab.requests(S3Operation::GetObject, &key(number));
        assert_eq!(gets, [200], "{} was read so often", key(number));
    }
}
