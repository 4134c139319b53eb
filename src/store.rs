//! PostgreSQL: connections, the catalogue, the row encoder, COPY and the ledger.
//!
//! The only user of the PostgreSQL driver. Nothing here knows S3 or the order of the pipeline.

pub mod bell;
pub mod catalog;
pub mod copy;
mod deadline;
pub mod encode;
pub mod error;
pub mod identifier;
pub mod inspect;
pub mod ledger;
pub mod login;
pub mod migrate;
pub mod pool;
pub mod stage;
mod tls;
pub mod widen;
