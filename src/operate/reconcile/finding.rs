//! What may be found of an object, and what it means for the feed.
#![warn(clippy::wildcard_enum_match_arm)]

use serde::{Serialize, Serializer};

/// How something found counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Not as it should be, and time alone does not mend it.
    Difference,
    /// The daemon is at it, or will be: complete later.
    Waiting,
    /// Worth knowing, and nothing is missing.
    Information,
}

/// What was found of one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Finding {
    /// It lies in the bucket, and the ledger does not know its key.
    Unknown,
    /// The ledger knows the key, and not in the version that is there now.
    Changed,
    /// Known and not loaded yet, or so new that no poll has come by.
    Waiting,
    /// Set aside for its content.
    Quarantined,
    /// Marked missing or superseded, although it is there.
    SetAside,
    /// Its rows were removed again.
    Undone,
    /// Skipped for a reason that the configuration of now does not give.
    Wanted,
    /// Loaded, and still there although it should have been disposed of.
    StillThere,
    /// Loaded, and its disposal is outstanding.
    DisposalWaiting,
    /// Known as not loaded yet, and gone from the bucket.
    Gone,
    /// Archived by the ledger, and there is no copy.
    ArchiveMissing,
    /// The archive holds something else in its place.
    ArchiveDiffers,
    /// Loaded and kept, and gone from the bucket since.
    Removed,
    /// It had left the bucket before it could be read.
    NeverRead,
}

impl Finding {
    /// Every finding, in the order in which they are shown.
    pub const ALL: [Self; 14] = [
        Self::Unknown,
        Self::Changed,
        Self::Quarantined,
        Self::SetAside,
        Self::Undone,
        Self::Wanted,
        Self::StillThere,
        Self::Gone,
        Self::ArchiveMissing,
        Self::ArchiveDiffers,
        Self::Waiting,
        Self::DisposalWaiting,
        Self::Removed,
        Self::NeverRead,
    ];

    /// The word in tables and in `--json`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Changed => "changed",
            Self::Waiting => "waiting",
            Self::Quarantined => "quarantined",
            Self::SetAside => "set_aside",
            Self::Undone => "undone",
            Self::Wanted => "wanted",
            Self::StillThere => "still_there",
            Self::DisposalWaiting => "disposal_waiting",
            Self::Gone => "gone",
            Self::ArchiveMissing => "archive_missing",
            Self::ArchiveDiffers => "archive_differs",
            Self::Removed => "removed",
            Self::NeverRead => "never_read",
        }
    }

    /// How it counts.
    pub const fn class(self) -> Class {
        match self {
            Self::Unknown
            | Self::Changed
            | Self::Quarantined
            | Self::SetAside
            | Self::Undone
            | Self::Wanted
            | Self::StillThere
            | Self::Gone
            | Self::ArchiveMissing
            | Self::ArchiveDiffers => Class::Difference,
            Self::Waiting | Self::DisposalWaiting => Class::Waiting,
            Self::Removed | Self::NeverRead => Class::Information,
        }
    }

    /// Whether it may come of looking at bucket, archive and ledger at different moments, so that bucket or archive
    /// have to be asked again before it is believed.
    pub(super) const fn depends_on_the_moment(self) -> bool {
        match self {
            Self::Changed
            | Self::SetAside
            | Self::StillThere
            | Self::Gone
            | Self::ArchiveMissing
            | Self::ArchiveDiffers => true,
            Self::Unknown
            | Self::Waiting
            | Self::Quarantined
            | Self::Undone
            | Self::Wanted
            | Self::DisposalWaiting
            | Self::Removed
            | Self::NeverRead => false,
        }
    }

    /// What it means, after the word "objects".
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Unknown => "in the bucket and not in the ledger",
            Self::Changed => "in the bucket in a version that the ledger does not know, while it knows another",
            Self::Waiting => "not loaded yet",
            Self::Quarantined => "in quarantine",
            Self::SetAside => "marked missing or superseded although they are there",
            Self::Undone => "undone: their rows were removed again",
            Self::Wanted => "skipped for a reason that the configuration no longer gives",
            Self::StillThere => "loaded and not disposed of",
            Self::DisposalWaiting => "loaded, their disposal is outstanding",
            Self::Gone => "not loaded and gone from the bucket",
            Self::ArchiveMissing => "archived, and the copy is missing",
            Self::ArchiveDiffers => "archived, and something else lies in place of the copy",
            Self::Removed => "loaded and kept, and gone from the bucket since",
            Self::NeverRead => "gone from the bucket before they could be read",
        }
    }

    /// What to do; none where there is nothing to do.
    pub const fn advice(self) -> Option<&'static str> {
        match self {
            Self::Unknown | Self::Changed | Self::SetAside => {
                Some("the next sweep finds them; `keyfall reconcile --fix` records them now")
            }
            Self::StillThere => Some("`keyfall reconcile --fix` has them disposed of again"),
            Self::Quarantined => Some("`keyfall objects --state quarantined` says why; then `keyfall retry` or `skip`"),
            Self::Undone | Self::Wanted => Some("`keyfall retry --id` with their ids loads them"),
            Self::Gone => Some("ask who removed them; the daemon marks them missing"),
            Self::ArchiveMissing => Some("ask who removed the copies; restore them from the bucket's older versions"),
            Self::ArchiveDiffers => Some("look who writes to the archive"),
            Self::Waiting | Self::DisposalWaiting | Self::Removed | Self::NeverRead => None,
        }
    }

    /// Whether `--fix` mends it.
    pub const fn is_fixable(self) -> bool {
        matches!(self, Self::Unknown | Self::Changed | Self::SetAside | Self::StillThere)
    }
}

impl Serialize for Finding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_difference_says_what_to_do_and_nothing_else_is_fixed() {
        let mut words = std::collections::BTreeSet::new();
        for finding in Finding::ALL {
            assert!(words.insert(finding.as_str()), "{finding:?} twice");
            assert_eq!(finding.advice().is_some(), finding.class() == Class::Difference, "{finding:?}");
            assert!(!finding.is_fixable() || finding.class() == Class::Difference, "{finding:?}");
        }
    }
}
