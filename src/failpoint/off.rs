//! The build without failpoints: nothing happens, at no cost.

use std::future::{Ready, ready};

use super::Point;
use crate::domain::verdict::Verdict;

/// An injected failure; without the feature there is none.
#[derive(Debug, thiserror::Error)]
pub enum Injected {}

impl Injected {
    /// What follows for the object.
    pub fn verdict(&self) -> Verdict {
        match *self {}
    }
}

/// Does nothing.
pub fn reach(_: Point) -> Ready<Result<(), Injected>> {
    ready(Ok(()))
}

/// Does nothing.
pub fn pass(_: Point) -> Ready<()> {
    ready(())
}
