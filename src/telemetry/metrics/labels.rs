//! Closed label values. Channels, states and skip reasons are the domain's own words and have theirs there.
#![warn(clippy::wildcard_enum_match_arm)]

use crate::domain::verdict::Verdict;

macro_rules! label {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$doc])* $variant,)* }

        impl $name {
            /// Every value.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The word in the label.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }
    };
}

label! {
    /// How an attempt on an object ended.
    ObjectOutcome {
        /// Its rows are durable.
        Loaded = "loaded",
        /// Loaded, and there was no row in it.
        Empty = "empty",
        /// Set aside for its content.
        Quarantined = "quarantined",
        /// Gone from the bucket.
        Missing = "missing",
        /// A newer version took its place.
        Superseded = "superseded",
        /// Deliberately not loaded.
        Skipped = "skipped",
        /// Will be tried again.
        Retry = "retry",
        /// Will be tried again, a few times.
        Suspect = "suspect",
        /// The feed was paused: an operator must act.
        Halt = "halt",
        /// Given back untouched.
        Released = "released",
    }
}

impl From<Verdict> for ObjectOutcome {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Retry => Self::Retry,
            Verdict::Suspect => Self::Suspect,
            Verdict::Quarantine => Self::Quarantined,
            Verdict::Missing => Self::Missing,
            Verdict::Superseded => Self::Superseded,
            Verdict::Skip(_) => Self::Skipped,
            Verdict::Halt => Self::Halt,
            Verdict::Release => Self::Released,
        }
    }
}

label! {
    /// What became of an object whose bytes were loaded before under another key.
    DuplicateOutcome {
        /// It was loaded as well.
        Loaded = "loaded",
        /// It was skipped.
        Skipped = "skipped",
        /// It was set aside for a person.
        Quarantined = "quarantined",
    }
}

label! {
    /// What became of a row.
    RowOutcome {
        /// It was in the object.
        Read = "read",
        /// It is in the table.
        Loaded = "loaded",
        /// It broke a rule.
        Rejected = "rejected",
        /// It was not wanted.
        Filtered = "filtered",
    }
}

label! {
    /// A stage of the pipeline.
    Stage {
        /// One page of a listing.
        List = "list",
        /// Leasing objects.
        Lease = "lease",
        /// From the request to the first byte.
        Fetch = "fetch",
        /// Decoding and COPY, which run as one stream.
        Copy = "copy",
        /// COMMIT and the reading back.
        Commit = "commit",
        /// Deleting or archiving.
        Dispose = "dispose",
    }
}

label! {
    /// How a stage, or a disposal, ended.
    Outcome {
        /// As it should.
        Ok = "ok",
        /// With an error.
        Error = "error",
        /// Stopped by us: shutdown, or a lease that was lost.
        Cancelled = "cancelled",
    }
}

label! {
    /// What disposal does with a loaded object.
    DisposalAction {
        /// It is deleted.
        Delete = "delete",
        /// It is copied, verified and deleted.
        Archive = "archive",
    }
}

label! {
    /// How a disposal ended.
    DisposalOutcome {
        /// The object is where it should be.
        Done = "done",
        /// It was gone already.
        Gone = "gone",
        /// A newer version is there; it was left alone.
        Changed = "changed",
        /// It failed and will be tried again.
        Error = "error",
    }
}

label! {
    /// What became of an event, or of a message without one.
    NotificationOutcome {
        /// Its object was not known, or is to be looked at again, and is in the ledger now.
        Recorded = "recorded",
        /// Its object was in the ledger already.
        Known = "known",
        /// It was S3's test whether it may send.
        Test = "test",
        /// It told of nothing to load: a removal, an archived copy of ours, a key that is gone.
        Ignored = "ignored",
        /// No feed of the queue watches its key.
        Foreign = "foreign",
        /// It could not be understood and stays in the queue.
        Unreadable = "unreadable",
        /// Its object could not be looked up or written down; it stays in the queue.
        Error = "error",
    }
}

label! {
    /// What was asked of a queue.
    QueueAction {
        /// Messages.
        Receive = "receive",
        /// To take messages out.
        Acknowledge = "acknowledge",
        /// How it is set up.
        Attributes = "attributes",
    }
}

label! {
    /// How a request to a queue ended.
    QueueOutcome {
        /// As it should.
        Ok = "ok",
        /// Done for some messages of a batch and refused for others.
        Partial = "partial",
        /// Asked to slow down.
        Throttled = "throttled",
        /// With an error.
        Error = "error",
    }
}

label! {
    /// State of a pooled connection.
    PoolState {
        /// Free.
        Idle = "idle",
        /// In use.
        Used = "used",
        /// Wanted, and not there.
        Waiting = "waiting",
    }
}

label! {
    /// What became of a configuration.
    Reload {
        /// It is in force.
        Accepted = "accepted",
        /// It was refused; the old one is in force.
        Refused = "refused",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::state::{SkipReason, State};

    #[test]
    fn verdicts_keep_their_words() {
        for verdict in [
            Verdict::Retry,
            Verdict::Suspect,
            Verdict::Quarantine,
            Verdict::Missing,
            Verdict::Superseded,
            Verdict::Skip(SkipReason::Changed),
            Verdict::Halt,
            Verdict::Release,
        ] {
            assert_eq!(ObjectOutcome::from(verdict).as_str(), verdict.as_str());
        }
    }

    #[test]
    fn outcomes_that_are_states_use_the_ledger_s_words() {
        for outcome in [ObjectOutcome::Loaded, ObjectOutcome::Quarantined, ObjectOutcome::Missing] {
            assert!(outcome.as_str().parse::<State>().is_ok());
        }
    }
}
