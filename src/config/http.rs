//! `[http]`: the health and metrics listener.

use std::net::SocketAddr;
use std::time::Duration;

/// Listener settings.
#[derive(Debug, Clone)]
pub struct Http {
    /// Address; none turns the listener off. Loopback by default.
    pub listen: Option<SocketAddr>,
    /// Deadline for a whole request header.
    pub header_timeout: Duration,
    /// Deadline for a whole request, its body included.
    pub request_timeout: Duration,
    /// Connections at once; further ones wait in the kernel's queue.
    pub max_connections: usize,
}
