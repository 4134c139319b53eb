//! The listener for health checks and metrics.
//!
//! Guaranteed: no client can hold a connection longer than its deadlines, open more than the cap, or send more than
//! 64 KiB; every error is an RFC 9457 problem. Deliberately absent: TLS and tokens, because it listens on loopback and
//! changes nothing, and the checks themselves: whoever knows a dependency reports it to [`readiness::Readiness`].

mod problem;
pub mod readiness;
pub mod router;
pub mod server;
mod stall;
