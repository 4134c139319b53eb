//! The words of keyfall: what an object, a feed, a lease and a verdict are.
//!
//! Pure values. Nothing here does I/O, knows the AWS SDK, SQL or metrics.

pub mod backoff;
pub mod cadence;
pub mod drift;
pub mod duty;
pub mod feed;
pub mod lease;
pub mod moment;
pub mod notification;
pub mod object;
pub mod pattern;
pub mod ports;
pub mod queue;
pub mod record;
pub mod state;
pub mod verdict;
