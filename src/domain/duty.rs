//! What one instance at a time does for a feed.
#![warn(clippy::wildcard_enum_match_arm)]

/// A duty. Loading is none: every instance does that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Duty {
    /// Listing from the tip and from behind the frontier.
    Poll,
    /// Listing everything.
    Sweep,
    /// Deleting and archiving loaded objects.
    Dispose,
}

impl Duty {
    /// Every duty.
    pub const ALL: [Self; 3] = [Self::Poll, Self::Sweep, Self::Dispose];

    /// The word in the ledger.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Poll => "poll",
            Self::Sweep => "sweep",
            Self::Dispose => "dispose",
        }
    }
}
