//! Any bytes as a Parquet file: the library's panics are errors of the object, its allocations have caps.

use super::{Choices, records};
use crate::config::feed::Format;

/// Any bytes under some caps.
pub fn target(data: &[u8]) {
    let mut choices = Choices::new(data);
    let limits = records::limits(&mut choices);
    let seed = u64::from(choices.byte());
    records::hold(Format::Parquet, limits, choices.rest(), seed);
}
