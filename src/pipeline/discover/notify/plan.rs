//! What a message asks for: which rows, and whether it may leave the queue once they are written.

use std::sync::Arc;

use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};

use crate::config::queue::ForeignEvents;
use crate::domain::notification::{self, Created, Events, Notification, Unreadable};
use crate::domain::object::Listed;
use crate::domain::queue::Message;
use crate::domain::state::Channel;
use crate::store::ledger::Found;
use crate::telemetry::metrics::{self, NotificationOutcome};

use super::super::select::judge;
use super::super::{DiscoverError, Discoverer};
use super::Consumer;
use super::route::Route;
use super::shown::excerpt;

/// Keys looked up at once, of events that tell too little.
const LOOK_UPS: usize = 8;

/// An event from so far ahead has no time that could be compared with others': S3's clock is not that wrong.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(15);

/// One message and what follows from it.
pub(super) struct Plan {
    pub(super) message: Message,
    /// Rows to be written, each with the place of its feed.
    pub(super) rows: Vec<(usize, Found)>,
    /// It stays in the queue: something in it was not understood, not looked up, or is nobody's.
    pub(super) keep: bool,
}

impl Consumer {
    /// Reads one message. What stays in it is counted here, rows when they are written.
    pub(super) async fn plan(&self, message: Message, now: Timestamp) -> Plan {
        let mut plan = Plan { rows: Vec::new(), keep: false, message };
        match notification::parse(&plan.message.body) {
            Notification::Test => self.count(NotificationOutcome::Test, 1),
            Notification::Unreadable(reason) => {
                plan.keep = true;
                self.cannot_read(&plan.message, 1, reason);
            }
            Notification::Events(events) => self.sort(&mut plan, events, now).await,
        }
        plan
    }

    async fn sort(&self, plan: &mut Plan, events: Events, now: Timestamp) {
        if let Some((records, reason)) = events.unreadable {
            plan.keep = true;
            self.cannot_read(&plan.message, records, reason);
        }
        let nothing = events.created.is_empty() && events.unreadable.is_none();
        self.count(NotificationOutcome::Ignored, if nothing { events.ignored.max(1) } else { events.ignored });
        let mut look_ups = Vec::new();
        for created in events.created {
            match self.routes.of(&created.bucket, &created.key) {
                Route::Watched(feeds) => match listed(&created, now) {
                    Some(listed) => plan.rows.extend(feeds.into_iter().filter_map(|at| self.row(at, listed.clone()))),
                    None => look_ups.extend(feeds.into_iter().map(|feed| (feed, created.key.clone()))),
                },
                Route::Ours => self.count(NotificationOutcome::Ignored, 1),
                Route::Foreign => {
                    self.count(NotificationOutcome::Foreign, 1);
                    plan.keep |= self.settings.foreign_events == ForeignEvents::Leave;
                }
            }
        }
        self.look_up(plan, look_ups).await;
    }

    /// Asks the bucket for what events left out.
    async fn look_up(&self, plan: &mut Plan, keys: Vec<(usize, String)>) {
        let look_ups: Vec<_> =
            keys.into_iter().filter_map(|(at, key)| Some((at, Arc::clone(self.feeds.get(at)?), key))).collect();
        let mut answers = stream::iter(look_ups)
            .map(|(at, feed, key)| async move { (at, feed.look_up(&key, Channel::Notification).await) })
            .buffer_unordered(LOOK_UPS);
        while let Some((at, answer)) = answers.next().await {
            match answer {
                Ok(Some(listed)) => plan.rows.extend(self.row(at, listed)),
                // It is gone: there is nothing to load, and nothing more to learn from the message.
                Ok(None) => self.count(NotificationOutcome::Ignored, 1),
                Err(error) => {
                    plan.keep = true;
                    self.not_done(&plan.message, &error);
                }
            }
        }
    }

    fn row(&self, at: usize, listed: Listed) -> Option<(usize, Found)> {
        let discoverer: &Discoverer = self.feeds.get(at)?;
        Some((at, judge(&discoverer.feed, listed)))
    }

    pub(super) fn count(&self, outcome: NotificationOutcome, n: u64) {
        metrics::notifications(&self.settings.name, outcome, n);
    }

    /// Counts what could not be read, and says so now and then: such a message comes again and again, until the redrive
    /// policy takes it away.
    fn cannot_read(&self, message: &Message, records: u64, reason: Unreadable) {
        self.count(NotificationOutcome::Unreadable, records);
        let Some(suppressed) = self.unreadable.pass(std::time::Instant::now()) else { return };
        // A subscription's body holds the token that would confirm it.
        let body = if reason == Unreadable::Subscription { String::new() } else { excerpt(&message.body) };
        tracing::warn!(queue = %self.settings.name, message.id = %message.id.escape_debug(),
            message.receive_count = message.receive_count, records, suppressed, reason = %reason, body,
            "a message cannot be understood; it stays in the queue");
    }

    /// Counts an event that was understood and led to nothing, and says so now and then.
    pub(super) fn not_done(&self, message: &Message, error: &DiscoverError) {
        self.count(NotificationOutcome::Error, 1);
        let Some(suppressed) = self.left.pass(std::time::Instant::now()) else { return };
        tracing::warn!(queue = %self.settings.name, message.id = %message.id.escape_debug(),
            message.receive_count = message.receive_count, suppressed, error = %error,
            "an object that a notification names cannot be recorded; the message stays in the queue");
    }
}

/// What a listing would say of the object, where the event tells enough.
///
/// Listings show whole seconds, so the event's time is cut to them: the ledger compares the two. The version that S3
/// gave the object is left alone, because a listing does not know it (ADR-0002).
fn listed(created: &Created, now: Timestamp) -> Option<Listed> {
    let time = created.time.filter(|time| *time <= now.saturating_add(CLOCK_SKEW).unwrap_or(Timestamp::MAX))?;
    Some(Listed {
        key: created.key.clone(),
        etag: created.etag.clone()?,
        size: created.size?,
        last_modified: Timestamp::from_second(time.as_second()).ok()?,
        storage_class: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn created() -> Created {
        Created {
            bucket: "drop".to_owned(),
            key: "a".to_owned(),
            etag: Some("e".to_owned()),
            size: Some(3),
            time: Some("2024-05-01T10:00:00.999Z".parse().unwrap()),
        }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn an_event_is_like_a_listing_with_its_time_in_whole_seconds() {
        let listed = listed(&created(), at("2024-05-01T10:00:05Z")).unwrap();
        assert_eq!((listed.version(), listed.last_modified), ("e-3".to_owned(), at("2024-05-01T10:00:00Z")));
    }

    #[test]
    fn an_event_that_tells_too_little_or_comes_from_the_future_is_looked_up() {
        let now = at("2024-05-01T10:00:05Z");
        assert_eq!(listed(&Created { etag: None, ..created() }, now), None);
        assert_eq!(listed(&Created { size: None, ..created() }, now), None);
        assert_eq!(listed(&Created { time: None, ..created() }, now), None);
        // Clocks differ a little, and nobody is to be pushed aside by an event from next year.
        assert!(listed(&created(), at("2024-05-01T09:50:00Z")).is_some());
        assert_eq!(listed(&created(), at("2024-05-01T09:40:00Z")), None);
        assert!(listed(&created(), Timestamp::MAX).is_some());
    }
}
