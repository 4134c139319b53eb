//! All cases, by what is broken.

mod answers;
mod capacity;
mod crash;
mod frozen;
mod limits;
mod matrix;
mod signals;
mod network;
mod postgres;
mod soak;

use crate::case::Case;

/// Every case, in the order of its id's chapter.
pub(crate) fn all() -> Vec<Case> {
    [crash::cases(), signals::cases(), frozen::cases(), limits::cases(), matrix::cases()].concat()
    [crash::cases(), matrix::cases(), postgres::cases(), answers::cases(), capacity::cases(), network::cases()].concat()
}

/// The random kills, which take their number of lives from the command line.
pub(crate) fn soak(lives: u32) -> Case {
    soak::case(lives)
}
