//! Notifications: messages of one queue become rows of the ledger, and only then leave the queue.
//!
//! The ledger, not the message, is the work item (ADR-0012): nothing here waits for a load, so a message is needed for
//! as long as one statement takes. Whatever comes twice, late, out of order or not at all is the ledger's, the polls'
//! and the sweeps' to deal with. One consumer serves all feeds of a queue, on every instance. No URL in a message is
//! ever asked; no object is fetched here, at most a key is listed that an event tells too little of.

mod acknowledge;
mod pace;
mod plan;
mod record;
mod route;
mod shown;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::OnceCell;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::feed::Feed;
use crate::config::queue::Queue;
use crate::domain::backoff;
use crate::domain::feed::FeedName;
use crate::domain::queue::{Attributes, LARGEST_BATCH, Message, NotificationQueue, QueueError};
use crate::failpoint::{self, Point};
use crate::store::ledger::Ledger;
use crate::telemetry::metrics::{self, QueueAction};
use crate::telemetry::throttle::Throttle;

use self::acknowledge::outcome_of;
use self::pace::{Asked, Pace, Step};
use self::route::Routes;
use super::Discoverer;

/// Pauses while the ledger takes nothing: the messages in hand wait with us.
const LEDGER_PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));

/// A round that got nowhere takes this long at least, so that neither `wait = "0s"` nor a queue that hands the same
/// unreadable message out again at once makes a busy loop.
const LEAST_ROUND: Duration = Duration::from_secs(1);

/// How long the messages in hand may still take once we are told to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// Unreadable messages and the like are told of once in this time, with how many were not.
const SPEAK_EVERY: Duration = Duration::from_secs(10);

/// Messages hidden for less are likely to come twice while the database is slow.
const SHORT_VISIBILITY: Duration = Duration::from_secs(10);

/// The consumer of one queue.
pub struct Consumer {
    settings: Queue,
    queue: Arc<dyn NotificationQueue>,
    ledger: Ledger,
    feeds: Vec<Arc<Discoverer>>,
    routes: Routes,
    pace: Pace,
    /// Done once the ledger knows that notifications are received.
    noted: OnceCell<()>,
    unreadable: Throttle,
    left: Throttle,
}

impl Consumer {
    /// The consumer of a queue for the feeds that name it. `all` are the feeds of the configuration: what lies under their
    /// archives was put there by us.
    pub fn new(
        settings: &Queue,
        queue: Arc<dyn NotificationQueue>,
        ledger: Ledger,
        feeds: Vec<Arc<Discoverer>>,
        all: &[&Feed],
    ) -> Self {
        let watched: Vec<&Feed> = feeds.iter().map(|discoverer| discoverer.feed.as_ref()).collect();
        Self {
            routes: Routes::new(&watched, all),
            settings: settings.clone(),
            queue,
            ledger,
            feeds,
            pace: Pace::default(),
            noted: OnceCell::new(),
            unreadable: Throttle::new(SPEAK_EVERY),
            left: Throttle::new(SPEAK_EVERY),
        }
    }

    /// Receives until told to stop.
    pub async fn run(&self, stop: &CancellationToken) {
        let receivers = (0..self.settings.receivers).map(|_| self.receive_until(stop));
        tokio::join!(self.inspect(stop), futures::future::join_all(receivers));
    }

    /// Whether this feed is served.
    pub fn serves(&self, feed: &FeedName) -> bool {
        self.feeds.iter().any(|discoverer| discoverer.feed.name == *feed)
    }

    /// Why no notifications come at the moment, where that is so.
    pub fn trouble(&self) -> Option<String> {
        self.pace.trouble(Instant::now()).map(|trouble| format!("queue {:?}: {trouble}", self.settings.name))
    }

    async fn receive_until(&self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            let begun = Instant::now();
            let useful = tokio::select! {
                // A long poll is not waited for: what was on its way to us stays hidden for a while and comes again.
                () = stop.cancelled() => return,
                received = self.receive() => match received {
                    Some(messages) => tokio::select! {
                        useful = Box::pin(self.handle(messages)) => useful,
                        // Cut short anywhere, the same: what is not acknowledged comes again.
                        () = patience(stop) => return,
                    },
                    None => continue,
                },
            };
            if !useful {
                let rest = begun + LEAST_ROUND;
                tokio::select! { () = stop.cancelled() => return, () = tokio::time::sleep_until(rest) => {} }
            }
        }
    }

    /// Messages; none after a failure, which is noted.
    async fn receive(&self) -> Option<Vec<Message>> {
        let turn = self.pace.turn().await;
        let begun = Instant::now();
        let received = self.queue.receive(LARGEST_BATCH, self.settings.wait).await;
        metrics::queue_request(&self.settings.name, QueueAction::Receive, outcome_of(received.as_ref().err()));
        let messages = match received {
            Ok(messages) => messages,
            Err(error) => {
                self.failed(Step::Receive, begun, &error);
                return None;
            }
        };
        self.pace.worked(Step::Receive);
        drop(turn);
        // Failing is harmless: without it nothing is awaited, and the next answer tries again.
        let names: Vec<FeedName> = self.feeds.iter().map(|discoverer| discoverer.feed.name.clone()).collect();
        if let Err(error) = self.noted.get_or_try_init(|| self.ledger.note_notified(&names)).await {
            tracing::debug!(queue = %self.settings.name, error = %error, "the ledger does not know of the queue yet");
        }
        Some(messages)
    }

    /// Writes down what messages tell, then acknowledges those that are no longer needed; answers whether there were
    /// any.
    async fn handle(&self, messages: Vec<Message>) -> bool {
        if messages.is_empty() {
            return false;
        }
        failpoint::pass(Point::NotifyReceived).await;
        let now = Timestamp::now();
        let mut plans = Vec::with_capacity(messages.len());
        for message in messages {
            plans.push(self.plan(message, now).await);
        }
        let mut failures = 0;
        // The messages are kept in hand while the ledger is away: received anew each time, an outage would use up their
        // deliveries and send them all to the dead-letter queue.
        while let Err(error) = self.record(&mut plans).await {
            failures += 1;
            tracing::warn!(queue = %self.settings.name, messages = plans.len(), failures, error = %error,
                "notifications cannot be written down; they stay in the queue");
            tokio::time::sleep(backoff::delay(failures, LEDGER_PAUSE.0, LEDGER_PAUSE.1, fastrand::f64())).await;
        }
        failpoint::pass(Point::NotifyRecorded).await;
        // Every object of these messages is in the ledger, committed. Killed here, the messages come again, name what is
        // known, and are acknowledged then.
        let done: Vec<&Message> = plans.iter().filter(|plan| !plan.keep).map(|plan| &plan.message).collect();
        if done.is_empty() {
            return false;
        }
        let begun = Instant::now();
        match self.acknowledge(done).await {
            Ok(()) => self.pace.worked(Step::Acknowledge),
            Err(error) => self.failed(Step::Acknowledge, begun, &error),
        }
        failpoint::pass(Point::NotifyAcknowledged).await;
        true
    }

    fn failed(&self, step: Step, begun: Instant, error: &QueueError) {
        let asked = Asked { begun, now: Instant::now() };
        let Some(failures) = self.pace.failed(step, asked, error) else { return };
        let (queue, code, advice) = (&self.settings.name, error.code(), error.advice());
        if error.may_pass() {
            tracing::warn!(queue, failures, error.code = code, error = %error, "{}", step.failure());
        } else {
            tracing::error!(queue, failures, error.code = code, error = %error, advice, "{}", step.failure());
        }
    }

    /// Says once how the queue is set up. Under `strict` the program has asked before it started.
    async fn inspect(&self, stop: &CancellationToken) {
        let name = &self.settings.name;
        tokio::select! {
            () = stop.cancelled() => {}
            answer = attributes(name, self.queue.as_ref()) => match answer {
                Ok(attributes) => self.say(&attributes),
                Err(error) => tracing::warn!(queue = %name, error.code = error.code(), error = %error,
                    advice = error.advice(), "the queue does not tell how it is set up"),
            }
        }
    }

    fn say(&self, attributes: &Attributes) {
        let name = &self.settings.name;
        tracing::info!(queue = %name, feeds = self.feeds.len(), receivers = self.settings.receivers,
            waiting = attributes.waiting, "notifications are received");
        if !attributes.has_redrive {
            let error = QueueError::NoRedrive;
            tracing::warn!(queue = %name, error.code = error.code(), advice = error.advice(), "{error}");
        }
        if attributes.visibility.is_some_and(|visibility| visibility < SHORT_VISIBILITY) {
            tracing::warn!(queue = %name, "the queue hides messages for less than {} s: while the database is slow they come twice, which is harmless and costs requests",
                SHORT_VISIBILITY.as_secs());
        }
    }
}

/// Lets a little time pass after we are told to stop.
async fn patience(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(STOP_PATIENCE).await;
}

async fn attributes(name: &str, queue: &dyn NotificationQueue) -> Result<Attributes, QueueError> {
    let answer = queue.attributes().await;
    metrics::queue_request(name, QueueAction::Attributes, outcome_of(answer.as_ref().err()));
    answer
}

/// Asks what `strict` demands: a redrive policy.
pub async fn require_redrive(name: &str, queue: &dyn NotificationQueue) -> Result<(), QueueError> {
    let attributes = attributes(name, queue).await?;
    if attributes.has_redrive { Ok(()) } else { Err(QueueError::NoRedrive) }
}
