//! The object store and the queues behind their ports: the only user of the AWS SDK.
//!
//! Nothing outside this module names an SDK type. Failures leave it as [`crate::domain::ports::S3Error`] or
//! [`crate::domain::queue::QueueError`], already sorted by what can be done about them.

mod classify;
mod client;
mod renew;
pub mod s3;
pub mod sqs;
