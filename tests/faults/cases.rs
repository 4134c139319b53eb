//! All cases, by what is broken.

mod answers;
mod between;
mod capacity;
mod crash;
mod duties;
mod errands;
mod frozen;
mod instances;
mod limits;
mod local;
mod matrix;
mod network;
mod operator;
mod postgres;
mod queue;
mod reload;
mod repair;
mod rows;
mod s3;
mod signals;
mod soak;
mod storm;
mod targets;
mod versions;

use crate::case::Case;

/// Every case, in the order of its id's chapter.
pub(crate) fn all() -> Vec<Case> {
    [
        crash::cases(),
        signals::cases(),
        frozen::cases(),
        limits::cases(),
        postgres::cases(),
        answers::cases(),
        capacity::cases(),
        between::cases(),
        s3::cases(),
        network::cases(),
        local::cases(),
        queue::cases(),
        instances::cases(),
        versions::cases(),
        duties::cases(),
        operator::cases(),
        repair::cases(),
        targets::cases(),
        rows::cases(),
        reload::cases(),
        errands::cases(),
        storm::cases(),
        matrix::cases(),
    ]
    .concat()
}

/// The random kills, which take their number of lives from the command line.
pub(crate) fn soak(lives: u32) -> Case {
    soak::case(lives)
}

/// The storm, which takes its number of objects from the command line.
pub(crate) fn storm(objects: usize) -> Case {
    storm::case(objects)
}
