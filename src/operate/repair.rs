//! `undo` and `replay`: which objects are meant, which of them can be repaired, and their repair, one transaction each.
//!
//! A choice is made first and can be shown without doing anything. Each object is then looked at again under lock: what
//! it has become meanwhile decides, not what was shown.

mod readable;
mod rows;

use std::sync::Arc;

use serde::Serialize;

use crate::config::Config;
use crate::config::feed::Feed;
use crate::domain::ports::ObjectStore;
use crate::domain::state::State;
use crate::store::error::StoreError;
use crate::store::ledger::{Ledger, RepairFilter, Repairable};
use crate::store::pool::Pools;

pub use readable::Unreadable;

/// What is to become of the objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aim {
    /// Their rows are deleted.
    Undo,
    /// Their rows are deleted and they are loaded again.
    Replay,
}

impl Aim {
    /// The word for messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Undo => "undo",
            Self::Replay => "replay",
        }
    }

    /// The states of objects that are taken where no id names them: what an operator set aside on purpose has to be
    /// named.
    const fn states(self, is_named: bool) -> &'static [State] {
        match (self, is_named) {
            (Self::Undo, _) => &[State::Loaded],
            (Self::Replay, false) => &[State::Loaded, State::Quarantined, State::Undone],
            (Self::Replay, true) => &[State::Loaded, State::Quarantined, State::Undone, State::Skipped, State::Missing],
        }
    }
}

/// Whether rows are deleted also where they are not as many as the ledger says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// They must be as many.
    No,
    /// However many there are.
    Yes,
}

/// Why an object is not repaired. Nothing of it was changed.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// Nobody knows its tables.
    #[error("feed {0:?} is not in the configuration, so its tables are not known")]
    NoFeed(String),
    /// Its rows cannot be told from others.
    #[error("table {0} has no column _object_id that keyfall fills: its rows cannot be told from others")]
    NoProvenance(String),
    /// It has become something else.
    #[error("it is {0} by now")]
    State(String),
    /// Somebody is at it.
    #[error("a version of its key is being loaded, replaced or repaired at this moment")]
    Busy,
    /// Its bytes may be gone in a moment.
    #[error("its disposal is under way at this moment")]
    InHand,
    /// Somebody changed its rows.
    #[error("its tables have {found} rows of it, the ledger knows of {expected}")]
    Rows {
        /// Rows it was loaded with.
        expected: u64,
        /// Rows that bear its id.
        found: u64,
    },
    /// It could not be loaded again.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// PostgreSQL failed, or refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The server rolled back what it had answered.
    #[error("COMMIT was answered, but the server says that it was rolled back")]
    RolledBack,
}

impl RepairError {
    /// What to do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::NoFeed(_) => "configure the feed again, or delete its rows yourself",
            Self::NoProvenance(_) => {
                "only objects loaded after ALTER TABLE … ADD COLUMN _object_id bigint can be undone"
            }
            Self::State(_) => "nothing to do, unless it should be something else: `keyfall objects --id`",
            Self::Busy | Self::InHand => "try again in a moment",
            Self::Rows { .. } => {
                "find out who deleted or added rows; --force deletes those that bear its id, however many there are"
            }
            Self::Unreadable(error) => error.advice(),
            Self::Store(StoreError::Server { sqlstate, .. }) if sqlstate == "23503" => {
                "rows of other tables refer to these: undo the objects they come from first, or delete them"
            }
            Self::Store(error) => error.advice(),
            Self::RolledBack => "do it again; if it stays, look into the server's log",
        }
    }
}

/// What became of one object, or would.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Repaired {
    /// Ledger id.
    pub id: i64,
    /// Feed.
    pub feed: String,
    /// `s3://bucket/key`.
    pub uri: String,
    /// Its state before.
    pub was: String,
    /// Rows that are deleted.
    pub rows: u64,
    /// Why it is left as it is, where it is.
    pub refused: Option<String>,
    /// What to do about that.
    pub advice: Option<String>,
}

impl Repaired {
    fn new(object: &Repairable, outcome: Result<u64, RepairError>) -> Self {
        let (rows, error) = match outcome {
            Ok(rows) => (rows, None),
            Err(error) => (0, Some(error)),
        };
        Self {
            id: object.id,
            feed: object.feed.clone(),
            uri: object.uri(),
            was: object.state.clone(),
            rows,
            refused: error.as_ref().map(ToString::to_string),
            advice: error.map(|error| error.advice().to_owned()),
        }
    }
}

/// What a repair works with.
pub struct Bench<'a> {
    /// Configuration.
    pub config: &'a Config,
    /// Connections.
    pub pools: &'a Pools,
    /// Ledger.
    pub ledger: &'a Ledger,
    /// Object store, where objects are to be loaded again.
    pub store: Option<Arc<dyn ObjectStore>>,
    /// What is to become of the objects.
    pub aim: Aim,
    /// Whether a count that differs is accepted.
    pub force: Force,
}

impl Bench<'_> {
    /// The objects that a filter means, as far as the aim takes them.
    pub async fn choose(&self, filter: RepairFilter) -> Result<Vec<Repairable>, StoreError> {
        let is_named = !filter.ids.is_empty() || filter.key.as_ref().is_some_and(|key| key.starts_with("s3://"));
        let states = self.aim.states(is_named).iter().map(|state| state.as_str()).collect();
        self.ledger.repairable(&RepairFilter { states, ..filter }).await
    }

    /// What would become of an object now; changes nothing.
    pub async fn foresee(&self, object: &Repairable) -> Repaired {
        let foreseen = async {
            if object.state == State::Loaded.as_str() {
                rows::look(self, object).await?;
                self.require_bytes(object).await?;
                return Ok(object.rows_loaded);
            }
            self.require_bytes(object).await?;
            Ok(0)
        };
        Repaired::new(object, foreseen.await)
    }

    /// Repairs one object.
    pub async fn repair(&self, object: &Repairable) -> Repaired {
        let outcome = if object.state == State::Loaded.as_str() {
            Box::pin(rows::repair(self, object)).await
        } else {
            Box::pin(self.send_back(object)).await
        };
        Repaired::new(object, outcome)
    }

    /// Nothing of it is loaded: it only becomes pending.
    async fn send_back(&self, object: &Repairable) -> Result<u64, RepairError> {
        self.require_bytes(object).await?;
        // Whoever was faster has changed its state; then this changes nothing.
        match self.ledger.retry(&[object.id]).await?.len() {
            1 => Ok(0),
            _ => Err(RepairError::State("no longer ".to_owned() + &object.state)),
        }
    }

    async fn require_bytes(&self, object: &Repairable) -> Result<(), RepairError> {
        match (&self.store, self.aim) {
            (Some(store), Aim::Replay) => Ok(readable::require(store.as_ref(), object).await?),
            _ => Ok(()),
        }
    }

    fn feed(&self, object: &Repairable) -> Result<&Arc<Feed>, RepairError> {
        let found = self.config.feeds.iter().find(|(name, _)| name.as_str() == object.feed);
        found.map(|(_, feed)| feed).ok_or_else(|| RepairError::NoFeed(object.feed.clone()))
    }
}
