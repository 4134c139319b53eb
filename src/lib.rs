//! keyfall lands every new S3 object in PostgreSQL exactly once, at COPY speed, and can prove it.

pub mod config;
pub mod domain;
