//! The way of an object: discover → lease → fetch → decode → load → dispose. One file per stage.
//!
//! Stages do not know each other; [`worker`] sequences one lease through them, [`dispatcher`] bounds how many run.

pub mod decode;
pub mod discover;
pub mod dispatcher;
pub mod dispose;
pub mod duties;
pub mod fetch;
pub mod load;
pub mod progress;
pub mod renew;
pub mod worker;
