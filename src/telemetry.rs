//! What keyfall says about itself: metrics for machines, logs for people.
//!
//! Names, labels, units and descriptions of all metrics stand in [`metrics`]; nothing else may emit one. Deliberately
//! absent: configuration (callers pass values), the listener that serves `/metrics`, and tracing exporters.

pub mod metrics;
pub mod outlet;
pub mod recorder;
pub mod throttle;
pub mod tracing;
