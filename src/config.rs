//! Configuration: one TOML file, overridden in layers, checked whole, never re-checked downstream.

pub mod database;
pub mod feed;
pub mod http;
pub mod lifecycle;
pub mod s3;
pub mod secret;
pub mod telemetry;
pub mod workers;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::feed::FeedName;

/// A configuration that has passed every check that needs no service.
#[derive(Debug, Clone)]
pub struct Config {
    /// Name of this instance in leases and in `status`; default `host-pid`.
    pub instance: String,
    /// Where rows and ledger live.
    pub database: database::Database,
    /// How the object store is reached.
    pub s3: s3::S3,
    /// How much is done at once.
    pub workers: workers::Workers,
    /// Health and metrics listener.
    pub http: http::Http,
    /// Logs.
    pub telemetry: telemetry::Telemetry,
    /// Shutdown.
    pub lifecycle: lifecycle::Lifecycle,
    /// What is loaded, by name.
    pub feeds: BTreeMap<FeedName, Arc<feed::Feed>>,
}
