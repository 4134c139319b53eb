//! Choosing objects of the ledger and sending them back to work or setting them aside.
//!
//! A choice is made first and can be shown without doing anything; each transition then names the states it expects,
//! so an object that moved on in between is left alone and simply not among the changed.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::domain::state::State;
use crate::store::error::StoreError;
use crate::store::ledger::{Chosen, Ledger, ObjectFilter};

/// Objects changed by one statement: far below what the statement timeout allows, and no long row locks.
const BATCH: usize = 10_000;

/// What to do with the chosen objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Back to `pending`, counters at zero.
    Retry,
    /// To `skipped`, for good.
    Skip,
}

impl Action {
    /// The word for messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Skip => "skip",
        }
    }

    /// The states the action can begin from.
    pub const fn from_states(self) -> &'static [State] {
        match self {
            Self::Retry => &[State::Pending, State::Quarantined, State::Missing, State::Skipped, State::Undone],
            Self::Skip => &[State::Pending, State::Quarantined, State::Missing],
        }
    }

    /// The states of objects that are not named one by one: those that wait for an operator. What was skipped on
    /// purpose or waits out a delay has to be named.
    const fn default_states(self) -> &'static [State] {
        match self {
            Self::Retry | Self::Skip => &[State::Quarantined],
        }
    }
}

/// Which objects. Every part narrows the choice.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Only this feed.
    pub feed: Option<String>,
    /// Only these states.
    pub states: Vec<State>,
    /// Only keys that contain this.
    pub key: Option<String>,
    /// Only these.
    pub ids: Vec<i64>,
}

/// Why a selection cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectionError {
    /// Objects in this state are not to be touched by this action.
    #[error("objects that are {} cannot be {}", state.as_str(), match action { Action::Retry => "retried", Action::Skip => "skipped" })]
    State {
        /// What was to be done.
        action: Action,
        /// The state that was named.
        state: State,
    },
}

impl SelectionError {
    /// What to type instead.
    pub fn advice(&self) -> String {
        let Self::State { action, .. } = self;
        let words: Vec<&str> = action.from_states().iter().map(|state| state.as_str()).collect();
        format!("{} takes the states {}", action.as_str(), words.join(", "))
    }
}

impl Selection {
    /// The ledger's filter for an action.
    fn filter(&self, action: Action) -> Result<ObjectFilter, SelectionError> {
        if let Some(&state) = self.states.iter().find(|state| !action.from_states().contains(state)) {
            return Err(SelectionError::State { action, state });
        }
        let states = match (self.states.as_slice(), self.ids.as_slice()) {
            ([], []) => action.default_states(),
            ([], _) => action.from_states(),
            (named, _) => named,
        };
        Ok(ObjectFilter {
            feed: self.feed.clone(),
            states: states.iter().map(|state| state.as_str().to_owned()).collect(),
            key: self.key.clone(),
            ids: self.ids.clone(),
            limit: i64::MAX,
        })
    }
}

/// What was chosen, and what became of it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Choice {
    /// How many objects, by feed and state.
    pub groups: Vec<Group>,
    /// Their ledger ids.
    pub ids: Vec<i64>,
    /// Ids that were named and are not among them: unknown, loaded, or being loaded.
    pub not_chosen: Vec<i64>,
}

/// Objects of one feed in one state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Group {
    /// Feed.
    pub feed: String,
    /// State.
    pub state: String,
    /// Objects.
    pub objects: u64,
}

/// Looks which objects an action would change.
pub async fn choose(
    ledger: &Ledger,
    action: Action,
    selection: &Selection,
) -> Result<Result<Choice, SelectionError>, StoreError> {
    let filter = match selection.filter(action) {
        Ok(filter) => filter,
        Err(error) => return Ok(Err(error)),
    };
    let chosen = ledger.choose(&filter).await?;
    Ok(Ok(summarise(chosen, &selection.ids)))
}

/// Carries the action out; answers the ids that changed. Broken off half-way, the rest is as it was: do it again.
pub async fn apply(ledger: &Ledger, action: Action, choice: &Choice) -> Result<Vec<i64>, StoreError> {
    let mut changed = Vec::with_capacity(choice.ids.len());
    for ids in choice.ids.chunks(BATCH) {
        changed.extend(match action {
            Action::Retry => ledger.retry(ids).await?,
            Action::Skip => ledger.skip(ids).await?,
        });
    }
    Ok(changed)
}

fn summarise(chosen: Vec<Chosen>, named: &[i64]) -> Choice {
    let mut groups: BTreeMap<(String, String), u64> = BTreeMap::new();
    let mut ids = Vec::with_capacity(chosen.len());
    for object in chosen {
        ids.push(object.id);
        *groups.entry((object.feed, object.state)).or_default() += 1;
    }
    Choice {
        not_chosen: named.iter().copied().filter(|id| !ids.contains(id)).collect(),
        groups: groups.into_iter().map(|((feed, state), objects)| Group { feed, state, objects }).collect(),
        ids,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states(selection: &Selection, action: Action) -> Vec<String> {
        selection.filter(action).unwrap().states
    }

    #[test]
    fn only_what_waits_for_an_operator_is_taken_unless_a_state_or_an_id_is_named() {
        let all = Selection::default();
        assert_eq!(states(&all, Action::Retry), ["quarantined"]);
        assert_eq!(states(&all, Action::Skip), ["quarantined"]);
        let named = Selection { ids: vec![7], ..Selection::default() };
        assert_eq!(states(&named, Action::Skip), ["pending", "quarantined", "missing"]);
        let stated = Selection { states: vec![State::Skipped], ids: vec![7], ..Selection::default() };
        assert_eq!(states(&stated, Action::Retry), ["skipped"]);
    }

    #[test]
    fn loaded_objects_can_be_neither_retried_nor_skipped() {
        for action in [Action::Retry, Action::Skip] {
            for state in [State::Loaded, State::Leased, State::Superseded] {
                let selection = Selection { states: vec![state], ..Selection::default() };
                let error = selection.filter(action).unwrap_err();
                assert_eq!(error, SelectionError::State { action, state });
                assert!(error.advice().contains("quarantined"), "{}", error.advice());
            }
        }
    }

    #[test]
    fn objects_are_counted_by_feed_and_state() {
        let object = |id, feed: &str| Chosen { id, feed: feed.to_owned(), state: "quarantined".to_owned() };
        let choice = summarise(vec![object(1, "b"), object(2, "a"), object(3, "b")], &[1, 9]);
        assert_eq!(choice.ids, [1, 2, 3]);
        assert_eq!(choice.not_chosen, [9]);
        let counts: Vec<_> = choice.groups.iter().map(|group| (group.feed.as_str(), group.objects)).collect();
        assert_eq!(counts, [("a", 1), ("b", 2)]);
    }
}
