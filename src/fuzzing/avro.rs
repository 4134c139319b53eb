//! Any bytes as an Avro container: the same records or the same error, within the caps.

use super::{Choices, records};
use crate::config::feed::Format;

/// Any bytes under some caps.
pub fn target(data: &[u8]) {
    let mut choices = Choices::new(data);
    let limits = records::limits(&mut choices);
    let seed = u64::from(choices.byte());
    records::hold(Format::Avro, limits, choices.rest(), seed);
}
