//! All cases, by what is broken.

mod crash;
mod errands;
mod instances;
mod local;
mod matrix;
mod network;
mod operator;
mod reload;
mod soak;
mod targets;

use crate::case::Case;

/// Every case, in the order of its id's chapter.
pub(crate) fn all() -> Vec<Case> {
    [
        crash::cases(),
        network::cases(),
        local::cases(),
        instances::cases(),
        operator::cases(),
        targets::cases(),
        reload::cases(),
        errands::cases(),
        matrix::cases(),
    ]
    .concat()
}

/// The random kills, which take their number of lives from the command line.
pub(crate) fn soak(lives: u32) -> Case {
    soak::case(lives)
}
