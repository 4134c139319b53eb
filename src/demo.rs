//! What `keyfall demo` and the integration tests run against: real services, thrown away afterwards.
//!
//! Only built with the feature `demo`; the daemon itself never depends on it.

pub mod command;
mod listener;
pub mod notifier;
pub mod postgres;
pub mod proxy;
pub mod s3;
pub mod sqs;
mod strikes;
