//! keyfall lands every new S3 object in PostgreSQL exactly once, at COPY speed, and can prove it.
//!
//! ```text
//!  poll (StartAfter) ┐
//!  full sweep ───────┴─> discover ─> LEDGER (Postgres, the only queue)
//!                                      │
//!                                      v
//!  dispatcher: permits ─> lease ─> fetch ─> decode ─> COPY ─> commit      dispose (outbox)
//!                           └ renewed until the load ends       └─ ledger ─┘
//! ```
//!
//! Modules in reading order: the words, the settings, what is told to the operator, the two outside worlds, the
//! stages, and what wires them.

pub mod domain;

pub mod config;
pub mod failpoint;
pub mod telemetry;

pub mod aws;
pub mod store;

pub mod pipeline;

pub mod operate;

pub mod cli;
pub mod http;

pub mod app;
pub mod engine;
pub mod lifecycle;

#[cfg(feature = "demo")]
pub mod demo;

#[cfg(any(test, fuzzing))]
pub mod fuzzing;
