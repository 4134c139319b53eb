//! One queue in memory: what is ready, what is hidden for a while, and who holds a receipt.
//!
//! Every step costs the messages it hands out or takes away, however many the queue holds. A receipt is good for the
//! latest reception only, also after its visibility timeout, as in SQS.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use s3s::crypto::{Checksum as _, Md5};
use tokio::time::Instant;

use crate::demo::s3::hex;

/// How a queue behaves.
#[derive(Debug, Clone)]
pub struct QueueOptions {
    /// How long a received message stays hidden, where the request does not say.
    pub visibility: Duration,
    /// Name of the queue that takes messages received so often without being deleted.
    pub redrive: Option<(String, u32)>,
}

impl Default for QueueOptions {
    /// Thirty seconds and no redrive, as SQS has it.
    fn default() -> Self {
        Self { visibility: Duration::from_secs(30), redrive: None }
    }
}

/// A message, as a test sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Message id.
    pub id: String,
    /// Body.
    pub body: String,
    /// How often it was received.
    pub receives: u32,
    /// It is hidden: received and not deleted, or not to be delivered yet.
    pub is_hidden: bool,
}

/// What happened to a queue's messages since it was created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Messages sent, those from another queue's redrive included.
    pub sent: u64,
    /// Deliveries: a message received twice counts twice.
    pub delivered: u64,
    /// Messages deleted by their receivers.
    pub deleted: u64,
    /// Messages handed over to the dead letter queue.
    pub dead: u64,
}

/// A message on its way to a receiver.
pub(super) struct Delivery {
    pub(super) id: String,
    pub(super) body: Arc<str>,
    pub(super) md5: String,
    pub(super) receipt: String,
    pub(super) receives: u32,
    pub(super) sent: Timestamp,
}

/// Id and body of a message that goes to the dead letter queue.
type Dead = (String, Arc<str>);

struct Stored {
    id: String,
    body: Arc<str>,
    md5: String,
    sent: Timestamp,
    receives: u32,
    hidden_until: Option<Instant>,
}

/// One queue.
#[derive(Default)]
pub(super) struct Queue {
    pub(super) options: QueueOptions,
    pub(super) counts: Counts,
    next: u64,
    messages: BTreeMap<u64, Stored>,
    /// In the order of delivery; what was deleted meanwhile is passed over.
    ready: VecDeque<u64>,
    hidden: BTreeSet<(Instant, u64)>,
}

impl Queue {
    pub(super) fn new(options: QueueOptions) -> Self {
        Self { options, ..Self::default() }
    }

    /// Takes a new message that can be received at `visible_from`, or at once; answers its id.
    pub(super) fn send(&mut self, body: Arc<str>, visible_from: Option<Instant>) -> String {
        let id = uuid::Uuid::new_v4().to_string();
        self.take(id.clone(), body, visible_from);
        id
    }

    /// Takes a message that has its id already.
    pub(super) fn take(&mut self, id: String, body: Arc<str>, visible_from: Option<Instant>) {
        let md5 = md5(&body);
        let number = self.next;
        self.next += 1;
        self.counts.sent += 1;
        let stored = Stored { id, body, md5, sent: Timestamp::now(), receives: 0, hidden_until: None };
        self.messages.insert(number, stored);
        match visible_from {
            Some(at) => self.hide(number, at),
            None => self.ready.push_back(number),
        }
    }

    /// Hands out up to `max` messages and hides them; answers as well those that were received too often.
    pub(super) fn receive(&mut self, max: usize, visibility: Option<Duration>) -> (Vec<Delivery>, Vec<Dead>) {
        let now = Instant::now();
        self.show_expired(now);
        let (mut deliveries, mut dead) = (Vec::new(), Vec::new());
        while deliveries.len() < max
            && let Some(number) = self.ready.pop_front()
        {
            let limit = self.options.redrive.as_ref().map(|(_, times)| *times);
            if self.messages.get(&number).is_some_and(|stored| limit.is_some_and(|limit| stored.receives >= limit)) {
                dead.extend(self.messages.remove(&number).map(|stored| (stored.id, stored.body)));
                self.counts.dead += 1;
                continue;
            }
            let Some(stored) = self.messages.get_mut(&number) else { continue };
            stored.receives += 1;
            self.counts.delivered += 1;
            deliveries.push(Delivery {
                id: stored.id.clone(),
                body: Arc::clone(&stored.body),
                md5: stored.md5.clone(),
                receipt: format!("{number}-{}", stored.receives),
                receives: stored.receives,
                sent: stored.sent,
            });
            self.hide(number, now + visibility.unwrap_or(self.options.visibility));
        }
        (deliveries, dead)
    }

    /// When the next hidden message can be received again.
    pub(super) fn next_visible(&self) -> Option<Instant> {
        self.hidden.first().map(|(at, _)| *at)
    }

    /// Id and body behind a receipt. None where the message is gone or was received again since.
    pub(super) fn receipt(&self, receipt: &str) -> Option<(String, Arc<str>)> {
        let stored = self.messages.get(&self.number(receipt)?)?;
        Some((stored.id.clone(), Arc::clone(&stored.body)))
    }

    /// Whether this text was ever given as a receipt.
    pub(super) fn knows_receipt(&self, receipt: &str) -> bool {
        parse(receipt).is_some_and(|(number, _)| number < self.next)
    }

    /// Deletes a message; a receipt that is no longer good deletes nothing, and SQS does not say so.
    pub(super) fn delete(&mut self, receipt: &str) {
        if let Some(number) = self.number(receipt)
            && let Some(stored) = self.messages.remove(&number)
        {
            self.counts.deleted += 1;
            if let Some(at) = stored.hidden_until {
                self.hidden.remove(&(at, number));
            }
        }
    }

    /// Hides a received message for so long from now on; answers whether it is hidden at all.
    pub(super) fn change_visibility(&mut self, receipt: &str, visibility: Duration) -> bool {
        self.show_expired(Instant::now());
        let Some(number) = self.number(receipt) else { return false };
        let Some(at) = self.messages.get(&number).and_then(|stored| stored.hidden_until) else { return false };
        self.hidden.remove(&(at, number));
        self.hide(number, Instant::now() + visibility);
        true
    }

    pub(super) fn purge(&mut self) {
        self.messages.clear();
        self.ready.clear();
        self.hidden.clear();
    }

    /// How many messages it holds, hidden ones included, and how many of them are hidden.
    pub(super) fn len(&self) -> (usize, usize) {
        (self.messages.len(), self.hidden.len())
    }

    pub(super) fn messages(&self) -> Vec<Message> {
        let message = |stored: &Stored| Message {
            id: stored.id.clone(),
            body: stored.body.as_ref().to_owned(),
            receives: stored.receives,
            is_hidden: stored.hidden_until.is_some_and(|at| at > Instant::now()),
        };
        self.messages.values().map(message).collect()
    }

    fn number(&self, receipt: &str) -> Option<u64> {
        let (number, receives) = parse(receipt)?;
        (self.messages.get(&number)?.receives == receives).then_some(number)
    }

    fn hide(&mut self, number: u64, until: Instant) {
        if let Some(stored) = self.messages.get_mut(&number) {
            stored.hidden_until = Some(until);
            self.hidden.insert((until, number));
        }
    }

    fn show_expired(&mut self, now: Instant) {
        while let Some((at, number)) = self.hidden.first().copied().filter(|(at, _)| *at <= now) {
            self.hidden.remove(&(at, number));
            if let Some(stored) = self.messages.get_mut(&number) {
                stored.hidden_until = None;
                self.ready.push_back(number);
            }
        }
    }
}

/// MD5 of a body in hexadecimal, which clients may compare.
pub(super) fn md5(body: &str) -> String {
    hex(Md5::checksum(body.as_bytes()).as_ref())
}

fn parse(receipt: &str) -> Option<(u64, u32)> {
    let (number, receives) = receipt.split_once('-')?;
    Some((number.parse().ok()?, receives.parse().ok()?))
}
