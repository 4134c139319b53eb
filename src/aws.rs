//! The object store behind the port: the only user of the AWS SDK.
//!
//! Nothing outside this module names an SDK type. Failures leave it as [`crate::domain::ports::S3Error`], already
//! sorted by what can be done about them.

mod classify;
mod client;
pub mod s3;
