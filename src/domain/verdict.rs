//! What follows from a failure. Every stage's error answers with exactly one of these.
#![warn(clippy::wildcard_enum_match_arm)]

use std::borrow::Cow;

use super::state::SkipReason;

/// The one question every failure answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Transient: try again later, as often as it takes.
    Retry,
    /// Perhaps the object's own fault: try again, and quarantine after `max_attempts` such failures.
    Suspect,
    /// The object's content is at fault: set it aside.
    Quarantine,
    /// The object is gone from the bucket.
    Missing,
    /// A newer version took the object's place.
    Superseded,
    /// The object is deliberately not loaded.
    Skip(SkipReason),
    /// The operator must act: pause the feed, keep its good objects pending.
    Halt,
    /// We are shutting down or lost the lease: give the object back untouched.
    Release,
}

impl Verdict {
    /// The word in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Suspect => "suspect",
            Self::Quarantine => "quarantined",
            Self::Missing => "missing",
            Self::Superseded => "superseded",
            Self::Skip(_) => "skipped",
            Self::Halt => "halt",
            Self::Release => "released",
        }
    }
}

/// A failure as the ledger and the operator see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What follows.
    pub verdict: Verdict,
    /// Stable, greppable code such as `E-CSV-RAGGED`.
    pub code: Cow<'static, str>,
    /// Where and what, never a secret and never a whole record.
    pub detail: String,
    /// What the operator can do about it, one sentence.
    pub advice: &'static str,
    /// The other object that it is about.
    pub relation: Option<Relation>,
}

/// What an object that is not loaded has to do with one that is, by its ledger id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// That one took its place.
    SupersededBy(i64),
    /// That one has the same bytes.
    DuplicateOf(i64),
}
