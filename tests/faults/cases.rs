//! All cases, by what is broken.

mod crash;
mod matrix;
mod s3;
mod soak;

use crate::case::Case;

/// Every case, in the order of its id's chapter.
pub(crate) fn all() -> Vec<Case> {
    [crash::cases(), s3::cases(), matrix::cases()].concat()
}

/// The random kills, which take their number of lives from the command line.
pub(crate) fn soak(lives: u32) -> Case {
    soak::case(lives)
}
