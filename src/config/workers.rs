//! `[workers]`: how much is done at once, and how failures are spaced.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bounds;
use super::report::Report;
use super::value::{Count, GIB, KIB, MIB, Size, Span};

/// Loads at once where the configuration names no number.
pub const DEFAULT_MAX: u64 = 4;
/// Bytes in work where the configuration names no number.
pub const DEFAULT_MAX_IN_FLIGHT_BYTES: u64 = 4 * GIB;
/// A lease lasts this long: three renewals fit, and a dead instance's objects are free within a minute.
pub const DEFAULT_LEASE: Duration = Duration::from_mins(1);
/// Suspicious failures before quarantine.
pub const DEFAULT_MAX_ATTEMPTS: u64 = 5;
/// First delay after a failure.
pub const DEFAULT_RETRY_MIN: Duration = Duration::from_secs(1);
/// Largest delay after a failure.
pub const DEFAULT_RETRY_MAX: Duration = Duration::from_mins(5);
/// A load that does not move for this long is given up; longer than everything that has a deadline of its own.
pub const DEFAULT_STALL_TIMEOUT: Duration = Duration::from_mins(15);
/// Small objects in one transaction.
pub const DEFAULT_GROUP_OBJECTS: u64 = 64;
/// Size up to which an object is small.
pub const DEFAULT_GROUP_BYTES: u64 = 64 * KIB;
/// Grouped objects are held in memory whole, so their size is bounded.
pub const MAX_GROUP_BYTES: u64 = 4 * MIB;
/// A shorter lease would be lost to an ordinary pause of the machine.
pub const MIN_LEASE: Duration = Duration::from_secs(5);

/// Bounds on concurrent work.
#[derive(Debug, Clone)]
pub struct Workers {
    /// Loads at once over all feeds.
    pub max: usize,
    /// Sum of the sizes of the objects in work; a single larger object still goes through, alone.
    pub max_in_flight_bytes: u64,
    /// How long a lease lasts without renewal.
    pub lease: Duration,
    /// Suspicious failures after which an object is quarantined.
    pub max_attempts: u32,
    /// First delay after a failure; doubles with jitter.
    pub retry_min: Duration,
    /// Largest delay after a failure.
    pub retry_max: Duration,
    /// A load that does not move for this long is rolled back and counts as a suspicious failure.
    pub stall_timeout: Duration,
    /// Small objects loaded in one transaction: at most this many (1 turns grouping off).
    pub group_objects: usize,
    /// Objects up to this size may share a transaction.
    pub group_bytes: u64,
}

/// How much is done at once, and how failures are spaced.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawWorkers {
    /// Loads at once over all feeds, from 1 to 1024; default 4. Each takes one database connection and a few MiB. Too
    /// many only queue in the server; 1 loads one object after the other.
    max: Count,
    /// Sum of the sizes of the objects in work, in bytes; default 4 GiB. A single larger object still goes through,
    /// alone. Too little leaves workers idle.
    max_in_flight_bytes: Size,
    /// How long a lease lasts without renewal, at least 5 s; default 60 s. Short leases are lost to pauses of the
    /// machine and the load is done again; long ones keep a dead instance's objects waiting.
    lease: Span,
    /// Suspicious failures after which an object is quarantined, from 1 to 1000; default 5. Transient failures do not
    /// count.
    max_attempts: Count,
    /// First delay after a failure, doubled with jitter each time; default 1 s. Very short delays hammer a service that
    /// is down.
    retry_min: Span,
    /// Largest delay after a failure; default 5 m. Long delays slow the recovery after an outage.
    retry_max: Span,
    /// A load that neither reads nor sends a byte for this long is rolled back and tried again, as a suspicious failure;
    /// at least 1 s, default 15 m. The last resort, behind the deadlines of S3 and PostgreSQL: shorter than theirs, it
    /// gives up loads that only wait.
    stall_timeout: Span,
    /// Small objects loaded in one transaction at most, from 1 to 1000; default 64. 1 turns grouping off. When one of a
    /// group fails, all are loaded again one by one.
    group_objects: Count,
    /// Objects up to this size in bytes may share a transaction, at most 4 MiB; default 64 KiB. They are held in memory
    /// whole.
    group_bytes: Size,
}

impl Default for RawWorkers {
    fn default() -> Self {
        Self {
            max: Count(DEFAULT_MAX),
            max_in_flight_bytes: Size(DEFAULT_MAX_IN_FLIGHT_BYTES),
            lease: Span(DEFAULT_LEASE),
            max_attempts: Count(DEFAULT_MAX_ATTEMPTS),
            retry_min: Span(DEFAULT_RETRY_MIN),
            retry_max: Span(DEFAULT_RETRY_MAX),
            stall_timeout: Span(DEFAULT_STALL_TIMEOUT),
            group_objects: Count(DEFAULT_GROUP_OBJECTS),
            group_bytes: Size(DEFAULT_GROUP_BYTES),
        }
    }
}

/// Checks the section.
pub(super) fn validate(raw: &RawWorkers, report: &mut Report) -> Workers {
    report.within("workers.max", raw.max, Count(1)..=Count(1024));
    report.within("workers.max_in_flight_bytes", raw.max_in_flight_bytes, Size(1)..=Size(i64::MAX.unsigned_abs()));
    report.within("workers.lease", raw.lease, Span(MIN_LEASE)..=bounds::DAY);
    report.within("workers.max_attempts", raw.max_attempts, Count(1)..=Count(1000));
    report.within("workers.retry_min", raw.retry_min, Span::millis(10)..=bounds::DAY);
    report.within("workers.retry_max", raw.retry_max, Span::millis(10)..=bounds::DAY);
    report.within("workers.stall_timeout", raw.stall_timeout, Span::millis(1000)..=bounds::DAY);
    report.within("workers.group_objects", raw.group_objects, Count(1)..=Count(1000));
    report.within("workers.group_bytes", raw.group_bytes, Size(0)..=Size(MAX_GROUP_BYTES));
    if raw.retry_min > raw.retry_max {
        let message = format!("{} is longer than workers.retry_max, {}", raw.retry_min, raw.retry_max);
        report.problem("workers.retry_min", message, "make retry_min the shorter of the two");
    }
    Workers {
        max: bounds::to_usize(raw.max),
        max_in_flight_bytes: raw.max_in_flight_bytes.0,
        lease: raw.lease.0,
        max_attempts: bounds::to_u32(raw.max_attempts),
        retry_min: raw.retry_min.0,
        retry_max: raw.retry_max.0,
        stall_timeout: raw.stall_timeout.0,
        group_objects: bounds::to_usize(raw.group_objects),
        group_bytes: raw.group_bytes.0,
    }
}
