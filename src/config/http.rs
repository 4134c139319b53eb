//! `[http]`: the health and metrics listener.

use std::net::SocketAddr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bounds;
use super::report::Report;
use super::value::{Count, Span};

/// Loopback only: health and metrics carry no secrets, but nobody asked for them to be public.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:9187";
/// Deadline for a whole request header.
pub const DEFAULT_HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Deadline for a whole request.
pub const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections at once.
pub const DEFAULT_MAX_CONNECTIONS: u64 = 64;

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

/// The health and metrics listener.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawHttp {
    /// Address and port of the listener; default `127.0.0.1:9187`, an empty text turns it off. It answers everybody who
    /// reaches it, so another address than loopback belongs behind a firewall.
    listen: String,
    /// Deadline for a whole request header; default 5 s. Long deadlines let slow clients hold connections.
    header_timeout: Span,
    /// Deadline for a whole request, its body included; default 10 s. Too short a one fails a scrape of many feeds.
    request_timeout: Span,
    /// Connections at once, from 1 to 10000; default 64. Further ones wait in the kernel's queue.
    max_connections: Count,
}

impl Default for RawHttp {
    fn default() -> Self {
        Self {
            listen: DEFAULT_LISTEN.to_owned(),
            header_timeout: Span(DEFAULT_HEADER_TIMEOUT),
            request_timeout: Span(DEFAULT_REQUEST_TIMEOUT),
            max_connections: Count(DEFAULT_MAX_CONNECTIONS),
        }
    }
}

/// Checks the section.
pub(super) fn validate(raw: &RawHttp, report: &mut Report) -> Http {
    report.within("http.header_timeout", raw.header_timeout, bounds::SHORTEST..=bounds::DAY);
    report.within("http.request_timeout", raw.request_timeout, bounds::SHORTEST..=bounds::DAY);
    report.within("http.max_connections", raw.max_connections, Count(1)..=Count(10_000));
    Http {
        listen: listen(&raw.listen, report),
        header_timeout: raw.header_timeout.0,
        request_timeout: raw.request_timeout.0,
        max_connections: bounds::to_usize(raw.max_connections),
    }
}

fn listen(text: &str, report: &mut Report) -> Option<SocketAddr> {
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    // A name may resolve to several addresses; only the one everybody means is accepted.
    let address = text.strip_prefix("localhost:").map_or_else(|| text.to_owned(), |port| format!("127.0.0.1:{port}"));
    let Ok(address) = address.parse::<SocketAddr>() else {
        let advice = "write an IP address and a port such as \"127.0.0.1:9187\" or \"[::1]:9187\"";
        report.problem("http.listen", format!("{text:?} is no address to listen on"), advice);
        return None;
    };
    if !address.ip().is_loopback() {
        report.warn(format!(
            "http.listen = {address} can be reached from other machines, and health and metrics ask for no password: keep a firewall before it"
        ));
    }
    Some(address)
}
