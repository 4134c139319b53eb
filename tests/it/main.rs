//! Integration tests: the real engine on a real PostgreSQL and an in-process S3.
//!
//! One binary, one module per promise; `support` holds the services.

#![cfg(feature = "demo")]
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "this crate is a test: a panic is its verdict"
)]

mod bodies;
mod changed;
mod columnar;
mod commit;
mod corpus;
mod discovery;
mod disposal;
mod drift;
mod duplicates;
mod hostile;
mod instances;
mod isolate;
mod kill;
mod leases;
mod ledger;
mod lifecycle;
mod loads;
mod migration;
mod notifications;
mod parents;
mod plan;
mod policy;
mod privileges;
mod propose;
mod realdata;
mod reconcile;
mod repair;
mod replace_table;
mod replaced;
mod scale;
mod secrets;
mod slots;
mod strict;
mod support;
mod targets;
mod tls;
mod turns;
mod types;
mod upsert;
