//! The queue of a trial: messages with what each of them demands of the ledger, and I4 as it happens.
//!
//! A demand is written down when the message is sent, by the test that knows what the message is about; no body is
//! read here.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use keyfall::demo::notifier::{Event, Notifier};
use keyfall::demo::sqs::{Deletion, EmbeddedSqs, QueueOptions};
use tokio_postgres::Client;

use crate::lab::{BUCKET, connect};

/// Queue of every trial, and the one that its poison goes to where a case wants that.
pub(crate) const QUEUE: &str = "uploads";
pub(crate) const DEAD: &str = "dead";

/// Version of an object: key and entity tag.
pub(crate) type Demand = (String, String);

/// How many of these are not in the ledger. One look-up each, whatever is known about the size of the table.
const UNKNOWN: &str = "SELECT count(*) FROM unnest($1::text[], $2::text[]) AS d (key, etag)
     WHERE (SELECT o.id FROM keyfall.objects o WHERE o.feed = 'items' AND o.bucket = $3 AND o.key = d.key
                AND o.etag = d.etag LIMIT 1) IS NULL";

/// A message that left the queue and did not prove to be recorded.
#[derive(Debug, Clone)]
pub(crate) struct Unproven {
    pub(crate) message: String,
    pub(crate) demands: Vec<Demand>,
    /// The ledger was asked, and did not know all of them.
    pub(crate) is_certain: bool,
}

#[derive(Default)]
struct Watch {
    demands: Mutex<HashMap<String, Vec<Demand>>>,
    unproven: Mutex<Vec<Unproven>>,
    /// One connection for all questions; another one after a failure.
    client: tokio::sync::Mutex<Option<Client>>,
}

/// The server with the trial's queue.
pub(crate) struct Mailbox {
    pub(crate) sqs: EmbeddedSqs,
    watch: Arc<Watch>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Mailbox {
    /// An empty queue; `url` is where the ledger is asked.
    pub(crate) async fn start(sequence: Arc<AtomicU64>, url: String) -> Self {
        let sqs = EmbeddedSqs::start_with_sequence(sequence).await.expect("an SQS server");
        sqs.create_queue(QUEUE, QueueOptions::default());
        let watch = Arc::new(Watch::default());
        let watching = Arc::clone(&watch);
        sqs.on_delete(move |deletions| {
            let (watch, url) = (Arc::clone(&watching), url.clone());
            Box::pin(async move { watch.check(deletions, &url).await })
        });
        Self { sqs, watch }
    }

    /// Sends a message that may leave the queue once all these are in the ledger.
    pub(crate) fn send(&self, body: &str, demands: Vec<Demand>) -> String {
        let id = self.sqs.send(QUEUE, body).expect("the queue is there");
        self.demand(&id, demands);
        id
    }

    /// Tells an event; what it tells of has to be in the ledger before the message leaves the queue.
    pub(crate) fn tell(&self, notifier: &mut Notifier, event: &Event) -> Vec<String> {
        let ids = notifier.tell(&self.sqs, event);
        let etag = event.etag.clone().filter(|_| event.bucket == BUCKET);
        for id in &ids {
            self.demand(id, etag.iter().map(|etag| (event.key.clone(), etag.clone())).collect());
        }
        ids
    }

    fn demand(&self, message: &str, demands: Vec<Demand>) {
        lock(&self.watch.demands).insert(message.to_owned(), demands);
    }

    /// Messages that left the queue too early, or perhaps.
    pub(crate) fn unproven(&self) -> Vec<Unproven> {
        lock(&self.watch.unproven).clone()
    }
}

impl Watch {
    async fn check(&self, deletions: Vec<Deletion>, url: &str) {
        for deletion in deletions {
            let demands = lock(&self.demands).get(&deletion.message).cloned().unwrap_or_default();
            let unknown = if demands.is_empty() { Some(0) } else { self.unknown(&demands, url).await };
            if unknown != Some(0) {
                let is_certain = unknown.is_some();
                lock(&self.unproven).push(Unproven { message: deletion.message, demands, is_certain });
            }
        }
    }

    /// How many of these the ledger does not know; none where it could not be asked.
    async fn unknown(&self, demands: &[Demand], url: &str) -> Option<i64> {
        let (keys, etags): (Vec<&str>, Vec<&str>) =
            demands.iter().map(|(key, etag)| (key.as_str(), etag.as_str())).unzip();
        let mut client = self.client.lock().await;
        if client.as_ref().is_none_or(Client::is_closed) {
            *client = connect(url).await;
        }
        client.as_ref()?.query_one(UNKNOWN, &[&keys, &etags, &BUCKET]).await.ok().map(|row| row.get(0))
    }
}
