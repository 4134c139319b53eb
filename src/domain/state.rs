//! The states an object passes through in the ledger, and what is pending of its disposal.
#![warn(clippy::wildcard_enum_match_arm)]

use std::str::FromStr;

/// State of an object. `pending → leased → loaded` is the ordinary way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Known, not yet (or no longer) worked on; loadable once `not_before` has passed.
    Pending,
    /// Owned by one worker until its lease expires.
    Leased,
    /// Its rows are durable.
    Loaded,
    /// Set aside for its content; an operator decides.
    Quarantined,
    /// Deliberately not loaded; the ledger's `reason` says why.
    Skipped,
    /// Gone from the bucket before it could be read.
    Missing,
    /// A newer version of the key took its place before it was read.
    Superseded,
    /// Loaded once, its rows removed again by an operator.
    Undone,
}

impl State {
    /// Every state, in the order of an object's life.
    pub const ALL: [Self; 8] = [
        Self::Pending,
        Self::Leased,
        Self::Loaded,
        Self::Quarantined,
        Self::Skipped,
        Self::Missing,
        Self::Superseded,
        Self::Undone,
    ];

    /// The word the ledger, metrics and `--state` use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Leased => "leased",
            Self::Loaded => "loaded",
            Self::Quarantined => "quarantined",
            Self::Skipped => "skipped",
            Self::Missing => "missing",
            Self::Superseded => "superseded",
            Self::Undone => "undone",
        }
    }

    /// Whether work on the object is over: terminal objects do not hold the frontier back.
    pub const fn is_terminal(self) -> bool {
        match self {
            Self::Pending | Self::Leased => false,
            Self::Loaded | Self::Quarantined | Self::Skipped | Self::Missing | Self::Superseded | Self::Undone => true,
        }
    }
}

impl FromStr for State {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| {
            let known = Self::ALL.map(Self::as_str).join(", ");
            format!("{text:?} is no state; the states are {known}")
        })
    }
}

/// Why an object is `skipped`. Closed: it is a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SkipReason {
    /// The key does not have the shape of the feed's pattern.
    Pattern,
    /// An exclude glob matches the key, or no include glob does.
    Excluded,
    /// The key's time lies before the feed's `start_from`.
    BeforeStart,
    /// An empty object whose key ends in `/`.
    DirectoryMarker,
    /// The body lies in an archive tier and cannot be read.
    StorageClass,
    /// An operator skipped it.
    Operator,
    /// Other content was loaded from the same key before.
    Changed,
    /// The same bytes were loaded from another key before.
    Duplicate,
    /// It is a whole table, and a newer one was loaded before.
    Outdated,
}

impl SkipReason {
    /// Every reason.
    pub const ALL: [Self; 9] = [
        Self::Pattern,
        Self::Excluded,
        Self::BeforeStart,
        Self::DirectoryMarker,
        Self::StorageClass,
        Self::Operator,
        Self::Changed,
        Self::Duplicate,
        Self::Outdated,
    ];

    /// The word in the ledger and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pattern => "pattern",
            Self::Excluded => "excluded",
            Self::BeforeStart => "before_start",
            Self::DirectoryMarker => "directory_marker",
            Self::StorageClass => "storage_class",
            Self::Operator => "operator",
            Self::Changed => "changed",
            Self::Duplicate => "duplicate",
            Self::Outdated => "outdated",
        }
    }
}

/// How an object was discovered. Closed: it is a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Channel {
    /// Lexical poll from the newest or the look-back position.
    Poll,
    /// An event from the feed's queue.
    Notification,
    /// Full listing of the prefix.
    Sweep,
}

impl Channel {
    /// Every channel.
    pub const ALL: [Self; 3] = [Self::Poll, Self::Notification, Self::Sweep];

    /// The word in the ledger and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Poll => "poll",
            Self::Notification => "notification",
            Self::Sweep => "sweep",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_round_trips_through_its_word() {
        for state in State::ALL {
            assert_eq!(state.as_str().parse::<State>(), Ok(state));
        }
        assert!("done".parse::<State>().is_err());
    }

    #[test]
    fn only_pending_and_leased_hold_the_frontier_back() {
        let open: Vec<_> = State::ALL.into_iter().filter(|state| !state.is_terminal()).collect();
        assert_eq!(open, [State::Pending, State::Leased]);
    }
}
