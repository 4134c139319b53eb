//! What an operator does: look whether everything is in place, list a bucket now, choose objects of the ledger and
//! send them back or set them aside.
//!
//! Decides and acts, prints nothing. Used by the command line, and by whatever else speaks for an operator.

pub mod check;
pub mod compare;
pub mod health;
pub mod lookup;
pub mod plan;
pub mod propose;
pub mod reconcile;
pub mod rejections;
pub mod repair;
pub mod select;
pub mod slots;
pub mod status;
pub mod sweep;
pub mod trial;
pub mod window;
