//! A lease: temporary, fenced ownership of one object.

use std::time::Duration;

use uuid::Uuid;

use super::object::ObjectRef;

/// Ownership of one object by one worker.
///
/// Not `Clone`: a lease is given up by moving it. Its token fences every later write; whoever lost the lease finds
/// no row for the token and rolls back. Expiry is compared with the database's clock only.
#[derive(Debug, PartialEq, Eq)]
pub struct Lease {
    /// What is leased.
    pub object: ObjectRef,
    /// The fence.
    pub token: Uuid,
    /// How often the object has been leased, this time included.
    pub attempt: u32,
    /// Failures so far that may be the object's own fault.
    pub suspicions: u32,
    /// How long ago the object was discovered when the lease was taken.
    pub age: Duration,
}
