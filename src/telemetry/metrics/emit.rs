//! One typed function per instance metric, and the only three places that speak to the recorder.

use std::time::Duration;

use jiff::Timestamp;
use metrics::Label;

use super::{
    BUILD_INFO, CONFIG_RELOAD_SUCCESSFUL, CONFIG_RELOAD_TIMESTAMP, DECODED_BYTES, DISPOSALS, DRIFT, DUPLICATES,
    DisposalAction, DisposalOutcome, DuplicateOutcome, HTTP_REQUESTS, IN_FLIGHT_BYTES, LATE_OBJECTS, LATENCY, LATENESS,
    LEASE_EXPIRATIONS, LEASE_LOST, LEASES_IN_FLIGHT, LIST_CALLS, LOG_LINES_DROPPED, LOOKBACK, Metric, NOTIFICATIONS,
    NOTIFICATIONS_MISSED, NotificationOutcome, OBJECT_DURATION, OBJECTS, OBJECTS_DISCOVERED, OBJECTS_SKIPPED,
    ObjectOutcome, Outcome, POOL_CONNECTIONS, POOL_WAIT, PoolState, QUEUE_REQUESTS, QueueAction, QueueOutcome,
    READ_BYTES, ROWS, Reload, RowOutcome, STAGE_DURATION, Stage, WORKER_PANICS,
};
use crate::domain::drift::DriftKind;
use crate::domain::feed::FeedName;
use crate::domain::state::{Channel, SkipReason};

/// Pairs a metric's label names with their values, in the order of the table.
fn labels<const N: usize>(metric: &'static Metric, values: [&str; N]) -> Vec<Label> {
    debug_assert_eq!(metric.labels.len(), N, "{} has other labels", metric.name);
    metric.labels.iter().zip(values).map(|(name, value)| Label::new(*name, value.to_owned())).collect()
}

#[expect(clippy::disallowed_macros, reason = "this is the typed door to the recorder")]
fn count<const N: usize>(metric: &'static Metric, values: [&str; N], n: u64) {
    metrics::counter!(metric.name, labels(metric, values)).increment(n);
}

#[expect(clippy::disallowed_macros, reason = "this is the typed door to the recorder")]
pub(super) fn set<const N: usize>(metric: &'static Metric, values: [&str; N], value: f64) {
    metrics::gauge!(metric.name, labels(metric, values)).set(value);
}

#[expect(clippy::disallowed_macros, reason = "this is the typed door to the recorder")]
fn observe<const N: usize>(metric: &'static Metric, values: [&str; N], duration: Duration) {
    metrics::histogram!(metric.name, labels(metric, values)).record(duration.as_secs_f64());
}

/// Seconds since 1970 as a gauge holds them; 0 where there is no instant.
pub(super) fn seconds(instant: Option<Timestamp>) -> f64 {
    instant.map_or(0.0, |instant| instant.as_duration().as_secs_f64())
}

/// New objects were recorded in the ledger.
pub fn objects_discovered(feed: &FeedName, channel: Channel, n: u64) {
    count(&OBJECTS_DISCOVERED, [feed.as_str(), channel.as_str()], n);
}

/// An attempt on an object ended.
pub fn object(feed: &FeedName, outcome: ObjectOutcome) {
    count(&OBJECTS, [feed.as_str(), outcome.as_str()], 1);
}

/// Objects were skipped.
pub fn objects_skipped(feed: &FeedName, reason: SkipReason, n: u64) {
    count(&OBJECTS_SKIPPED, [feed.as_str(), reason.as_str()], n);
}

/// An object had the bytes of another.
pub fn duplicate(feed: &FeedName, outcome: DuplicateOutcome) {
    count(&DUPLICATES, [feed.as_str(), outcome.as_str()], 1);
}

/// The fields of an object are others than before.
pub fn drift(feed: &FeedName, kind: DriftKind) {
    count(&DRIFT, [feed.as_str(), kind.as_str()], 1);
}

/// Rows of a committed object.
pub fn rows(feed: &FeedName, outcome: RowOutcome, n: u64) {
    count(&ROWS, [feed.as_str(), outcome.as_str()], n);
}

/// Bytes received from the object store.
pub fn read_bytes(feed: &FeedName, n: u64) {
    count(&READ_BYTES, [feed.as_str()], n);
}

/// Bytes after decompression.
pub fn decoded_bytes(feed: &FeedName, n: u64) {
    count(&DECODED_BYTES, [feed.as_str()], n);
}

/// An object was committed so long after its lease.
pub fn object_duration(feed: &FeedName, duration: Duration) {
    observe(&OBJECT_DURATION, [feed.as_str()], duration);
}

/// An object was committed so long after it became visible.
pub fn latency(feed: &FeedName, duration: Duration) {
    observe(&LATENCY, [feed.as_str()], duration);
}

/// A stage ended.
pub fn stage(stage: Stage, outcome: Outcome, duration: Duration) {
    observe(&STAGE_DURATION, [stage.as_str(), outcome.as_str()], duration);
}

/// A LIST request was sent.
pub fn list_call(feed: &FeedName, channel: Channel) {
    count(&LIST_CALLS, [feed.as_str(), channel.as_str()], 1);
}

/// An object was found so far behind the frontier.
pub fn late_object(feed: &FeedName, found_by: Channel, lateness: Duration) {
    count(&LATE_OBJECTS, [feed.as_str(), found_by.as_str()], 1);
    observe(&LATENESS, [feed.as_str()], lateness);
}

/// A look-back begins so far before the frontier.
pub fn lookback(feed: &FeedName, distance: Duration) {
    set(&LOOKBACK, [feed.as_str()], distance.as_secs_f64());
}

/// So many events of a queue had this outcome. `queue` is its name in the configuration.
pub fn notifications(queue: &str, outcome: NotificationOutcome, n: u64) {
    count(&NOTIFICATIONS, [queue, outcome.as_str()], n);
}

/// Objects whose notification did not come.
pub fn notifications_missed(feed: &FeedName, n: u64) {
    count(&NOTIFICATIONS_MISSED, [feed.as_str()], n);
}

/// A request to a queue ended.
pub fn queue_request(queue: &str, action: QueueAction, outcome: QueueOutcome) {
    count(&QUEUE_REQUESTS, [queue, action.as_str(), outcome.as_str()], 1);
}

/// What this instance holds leases on now.
pub fn in_flight(leases: usize, bytes: u64) {
    set(&LEASES_IN_FLIGHT, [], leases as f64);
    set(&IN_FLIGHT_BYTES, [], bytes as f64);
}

/// Expired leases were taken back.
pub fn leases_expired(n: u64) {
    count(&LEASE_EXPIRATIONS, [], n);
}

/// An attempt was rolled back because its lease was another's by then.
pub fn lease_lost() {
    count(&LEASE_LOST, [], 1);
}

/// A worker panicked.
pub fn worker_panicked() {
    count(&WORKER_PANICS, [], 1);
}

/// A log line found no room.
pub fn log_line_dropped() {
    count(&LOG_LINES_DROPPED, [], 1);
}

/// A connection was waited for.
pub fn pool_wait(duration: Duration) {
    observe(&POOL_WAIT, [], duration);
}

/// Connections in this state now.
pub fn pool_connections(state: PoolState, n: usize) {
    set(&POOL_CONNECTIONS, [state.as_str()], n as f64);
}

/// A disposal was tried.
pub fn disposal(feed: &FeedName, action: DisposalAction, outcome: DisposalOutcome) {
    count(&DISPOSALS, [feed.as_str(), action.as_str(), outcome.as_str()], 1);
}

/// A request was answered. `route` is a template of our own, never a path a client sent.
pub fn http_request(route: &str, code: u16) {
    count(&HTTP_REQUESTS, [route, &code.to_string()], 1);
}

/// A configuration was accepted or refused.
pub fn config_reload(reload: Reload, at: Timestamp) {
    match reload {
        Reload::Accepted => {
            set(&CONFIG_RELOAD_SUCCESSFUL, [], 1.0);
            set(&CONFIG_RELOAD_TIMESTAMP, [], seconds(Some(at)));
        }
        Reload::Refused => set(&CONFIG_RELOAD_SUCCESSFUL, [], 0.0),
    }
}

/// The version that is running.
pub fn build_info(version: &str) {
    set(&BUILD_INFO, [version], 1.0);
}

/// Gives every counter of this process its first zero, so that `rate()` sees the first increment.
pub fn touch() {
    count(&LEASE_EXPIRATIONS, [], 0);
    count(&LEASE_LOST, [], 0);
    count(&WORKER_PANICS, [], 0);
    count(&LOG_LINES_DROPPED, [], 0);
    in_flight(0, 0);
    for state in PoolState::ALL {
        pool_connections(*state, 0);
    }
}

/// Gives every counter of a feed its first zero. Call it again for feeds that a reload adds: zeros change nothing.
pub fn touch_feed(feed: &FeedName) {
    for channel in Channel::ALL {
        objects_discovered(feed, channel, 0);
        count(&LIST_CALLS, [feed.as_str(), channel.as_str()], 0);
        count(&LATE_OBJECTS, [feed.as_str(), channel.as_str()], 0);
    }
    notifications_missed(feed, 0);
    for outcome in ObjectOutcome::ALL {
        count(&OBJECTS, [feed.as_str(), outcome.as_str()], 0);
    }
    for reason in SkipReason::ALL {
        objects_skipped(feed, reason, 0);
    }
    for outcome in DuplicateOutcome::ALL {
        count(&DUPLICATES, [feed.as_str(), outcome.as_str()], 0);
    }
    for kind in DriftKind::ALL {
        count(&DRIFT, [feed.as_str(), kind.as_str()], 0);
    }
    for outcome in RowOutcome::ALL {
        rows(feed, *outcome, 0);
    }
    read_bytes(feed, 0);
    decoded_bytes(feed, 0);
    for action in DisposalAction::ALL {
        for outcome in DisposalOutcome::ALL {
            count(&DISPOSALS, [feed.as_str(), action.as_str(), outcome.as_str()], 0);
        }
    }
}

/// Gives every counter of a queue its first zero.
pub fn touch_queue(queue: &str) {
    for outcome in NotificationOutcome::ALL {
        notifications(queue, *outcome, 0);
    }
    for action in QueueAction::ALL {
        for outcome in QueueOutcome::ALL {
            count(&QUEUE_REQUESTS, [queue, action.as_str(), outcome.as_str()], 0);
        }
    }
}
