//! Every metric: name, kind, unit, labels and meaning in one table, and one typed function for each.
//!
//! Guaranteed: label values come from closed enums or from the configuration's names of feeds and queues, never from
//! keys, messages or requests. `docs/METRICS.md` says the same for readers; a test compares the two. Deliberately absent: the
//! recorder and its buckets, and any decision about when something is counted.
//!
//! There are two families. *Instance* metrics tell what this process did, as it happens. *Ledger* gauges are read
//! from the ledger before each scrape, filled with zeros, and so are the same whichever instance is asked.

mod emit;
mod labels;
mod ledger;

pub use emit::*;
pub use labels::*;
pub use ledger::*;

/// What Prometheus calls the type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations in buckets.
    Histogram,
}

impl Kind {
    /// The word in the exposition format.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Base units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Things counted; the metric's name says which.
    Count,
    /// Seconds, as a duration or since 1970.
    Seconds,
    /// Bytes.
    Bytes,
}

impl Unit {
    /// The word in the document.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Seconds => "seconds",
            Self::Bytes => "bytes",
        }
    }
}

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Full name.
    pub name: &'static str,
    /// Type.
    pub kind: Kind,
    /// Unit.
    pub unit: Unit,
    /// Label names, in the order the functions give them.
    pub labels: &'static [&'static str],
    /// Meaning, one sentence or two.
    pub help: &'static str,
}

macro_rules! table {
    ($($constant:ident: $kind:ident $name:literal $unit:ident [$($label:literal),*] $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $constant: Metric = Metric {
                name: concat!("keyfall_", $name),
                kind: Kind::$kind,
                unit: Unit::$unit,
                labels: &[$($label),*],
                help: $help,
            };
        )*

        /// Every metric, in the order of the document.
        pub const ALL: &[Metric] = &[$($constant),*];
    };
}

table! {
    OBJECTS_DISCOVERED: Counter "objects_discovered_total" Count ["feed", "channel"]
        "Objects recorded in the ledger for the first time, by the channel that found them.";
    OBJECTS: Counter "objects_total" Count ["feed", "outcome"]
        "Attempts on objects that ended, by outcome; an object that is tried again counts once per attempt.";
    OBJECTS_SKIPPED: Counter "objects_skipped_total" Count ["feed", "reason"]
        "Objects deliberately not loaded, by reason.";
    DUPLICATES: Counter "duplicates_total" Count ["feed", "outcome"]
        "Objects with the same bytes as one that was loaded before under another key, by what became of them.";
    DRIFT: Counter "drift_total" Count ["feed", "kind"]
        "Differences between the fields of an object and those of earlier ones, by kind.";
    ROWS: Counter "rows_total" Count ["feed", "outcome"]
        "Rows of committed objects: read is the sum of loaded, rejected and filtered.";
    READ_BYTES: Counter "read_bytes_total" Bytes ["feed"]
        "Bytes received from the object store, before decompression.";
    DECODED_BYTES: Counter "decoded_bytes_total" Bytes ["feed"]
        "Bytes after decompression, as the decoder saw them.";
    OBJECT_DURATION: Histogram "object_duration_seconds" Seconds ["feed"]
        "Time from an object's lease to its commit.";
    LATENCY: Histogram "latency_seconds" Seconds ["feed"]
        "Time from an object's visibility in the bucket to its commit.";
    STAGE_DURATION: Histogram "stage_duration_seconds" Seconds ["stage", "outcome"]
        "Time spent in one stage for one object, or for one page of a listing.";
    LIST_CALLS: Counter "list_calls_total" Count ["feed", "channel"]
        "LIST requests sent to the object store.";
    NOTIFICATIONS: Counter "notifications_total" Count ["queue", "outcome"]
        "Events received from the queue, by what became of them; an event counts once for each feed that watches its key, a message without a readable event counts once.";
    NOTIFICATIONS_MISSED: Counter "notifications_missed_total" Count ["feed"]
        "Objects found by poll or sweep whose notification did not come within two minutes.";
    QUEUE_REQUESTS: Counter "queue_requests_total" Count ["queue", "action", "outcome"]
        "Requests sent to the queue, by action and outcome.";
    LATE_OBJECTS: Counter "late_objects_total" Count ["feed", "found_by"]
        "Objects found only after the frontier had passed their time, by the channel that found them.";
    LATENESS: Histogram "lateness_seconds" Seconds ["feed"]
        "How far behind the frontier late objects were.";
    LOOKBACK: Gauge "lookback_seconds" Seconds ["feed"]
        "How far before the frontier this instance's last look-back began; absent before the first.";
    LEASES_IN_FLIGHT: Gauge "leases_in_flight" Count []
        "Objects this instance holds a lease on.";
    IN_FLIGHT_BYTES: Gauge "in_flight_bytes" Bytes []
        "Sum of the sizes of the objects this instance holds a lease on.";
    LEASE_EXPIRATIONS: Counter "lease_expirations_total" Count []
        "Leases of any instance that this instance found expired and took back.";
    LEASE_LOST: Counter "lease_lost_total" Count []
        "Attempts rolled back because the lease no longer was this instance's.";
    WORKER_PANICS: Counter "worker_panics_total" Count []
        "Loads and background tasks that panicked; each one is a bug.";
    LOG_LINES_DROPPED: Counter "log_lines_dropped_total" Count []
        "Log lines dropped because nobody read standard error; loading does not wait for its reader.";
    POOL_WAIT: Histogram "pool_wait_seconds" Seconds []
        "Time spent waiting for a database connection.";
    POOL_CONNECTIONS: Gauge "pool_connections" Count ["state"]
        "Database connections in the pool; waiting counts the requests without one.";
    DISPOSALS: Counter "disposals_total" Count ["feed", "action", "outcome"]
        "Attempts to dispose of loaded objects, by action and outcome.";
    HTTP_REQUESTS: Counter "http_requests_total" Count ["route", "code"]
        "Requests answered, by route template and status code; a path without a route counts as other.";
    CONFIG_RELOAD_SUCCESSFUL: Gauge "config_last_reload_successful" Count []
        "1 where the last load of the configuration was accepted, 0 where it was refused and the old one kept.";
    CONFIG_RELOAD_TIMESTAMP: Gauge "config_last_reload_timestamp_seconds" Seconds []
        "When a configuration was accepted last, since 1970.";
    BUILD_INFO: Gauge "build_info" Count ["version"]
        "Always 1; the label tells the version.";
    LAST_COMMIT_TIMESTAMP: Gauge "last_commit_timestamp_seconds" Seconds ["feed"]
        "When an object of the feed was committed last by any instance, since 1970; 0 before the first. From the ledger.";
    LEDGER_OBJECTS: Gauge "ledger_objects" Count ["feed", "state"]
        "Objects by state, every state named, 0 included. From the ledger.";
    LEDGER_OLDEST_PENDING_TIMESTAMP: Gauge "ledger_oldest_pending_timestamp_seconds" Seconds ["feed"]
        "When the oldest object that is not yet terminal became visible, since 1970; 0 where none is open. From the ledger.";
    FRONTIER_TIMESTAMP: Gauge "frontier_timestamp_seconds" Seconds ["feed"]
        "Key time of the frontier, since 1970; 0 before the first. Freshness is now minus this. From the ledger.";
    DISPOSE_PENDING: Gauge "dispose_pending" Count ["feed"]
        "Loaded objects whose disposal is not done yet. From the ledger.";
    OPEN_REJECTIONS: Gauge "open_rejections" Count ["feed"]
        "Rejected records of loaded objects that nobody has had loaded or undone since. From the ledger.";
    FEED_PAUSED: Gauge "feed_paused" Count ["feed"]
        "1 where the feed is paused, by an operator or by an error that needs one. From the ledger.";
    MISSING_SLOTS: Gauge "missing_slots" Count ["feed"]
        "Spans of the feed's cadence in which no object came, 0 where it has none. From the ledger, once a minute.";
    RECONCILED_TIMESTAMP: Gauge "reconciled_timestamp_seconds" Seconds ["feed"]
        "When the whole feed was reconciled last, since 1970; 0 before the first time. From the ledger, once a minute.";
    RECONCILE_DIFFERENCES: Gauge "reconcile_differences" Count ["feed"]
        "Objects that were not as they should be when the whole feed was reconciled last. From the ledger, once a minute.";
}

/// The metric of this name.
pub fn named(name: &str) -> Option<&'static Metric> {
    ALL.iter().find(|metric| metric.name == name)
}
