//! The fault script: which request goes wrong, and how.
//!
//! A rule names an operation, perhaps a key, and which of the matching requests it strikes; it counts its strikes,
//! so that a test can fail when its fault was never met. Several rules may strike one request: it waits for all
//! delays and gates first, then the first rule that decides the answer wins.

use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use super::canned::Canned;
use super::log::Operation;
use crate::demo::strikes::{Gate, Injected, Turns};

/// What goes wrong.
#[derive(Debug, Clone)]
pub enum Action {
    /// Answers this status and S3 error code; nothing is done.
    Status(u16, &'static str),
    /// Answers 403 `AccessDenied`; nothing is done.
    Denied,
    /// Waits before anything is done.
    Delay(Duration),
    /// Waits until the gate opens before anything is done.
    Hold(Gate),
    /// Does the work, then answers this status and S3 error code.
    FailAfter(u16, &'static str),
    /// Does the work, then closes the connection without an answer.
    HangUp,
    /// Answers success and does nothing. Only for deletions.
    Pretend,
    /// GET announces the full length and the connection closes after this many bytes.
    Truncate(usize),
    /// The same, ended by RST rather than FIN.
    ResetAfter(usize),
    /// GET sends this many bytes and then nothing, for ever.
    StallAfter(usize),
    /// GET sends this many bytes a second.
    DripPerSecond(usize),
    /// GET announces and sends only this many bytes, cleanly.
    EarlyCleanEnd(usize),
    /// GET announces and sends this many bytes more than the object has.
    TooLong(usize),
    /// GET announces no length, sends this many bytes in chunks, and ends cleanly.
    Unannounced(usize),
    /// GET sends this many bytes, pauses, and goes on.
    PauseAfter(usize, Duration),
    /// GET sends the right length with one bit of this byte flipped.
    FlipByte(usize),
    /// GET and HEAD claim another entity tag.
    ChangedEtag,
    /// COPY does nothing and answers 200 with an `<Error>` body.
    CopyError200,
    /// The request's conditions (If-Match, If-None-Match, entity tags of a batch) are not looked at.
    IgnoreConditions,
    /// LIST answers an empty page that claims to be truncated; the next page begins where this one would have.
    EmptyPage,
    /// LIST answers the continuation token it was asked with.
    RepeatToken,
    /// LIST answers its page backwards.
    Unsorted,
    /// LIST answers pages of at most this many keys.
    PageOf(usize),
    /// LIST shows the last key of its page again on the next.
    Overlap,
    /// LIST shows the first key of its page twice.
    Twice,
    /// LIST does not show this key, as if it became visible late.
    Hide(String),
    /// HEAD tells this size; a copy of a part takes a range beyond the end for an empty one.
    ClaimSize(u64),
    /// Answers this and does nothing.
    Instead(Canned),
    /// Answers with a compressed body, which nobody asked for.
    Gzip,
}

/// One line of the fault script.
#[derive(Debug, Clone)]
pub struct FaultRule {
    op: Operation,
    action: Action,
    key: KeyMatch,
    turns: Turns,
}

#[derive(Debug, Clone)]
enum KeyMatch {
    Any,
    Exactly(String),
    Containing(String),
}

impl KeyMatch {
    fn matches(&self, key: Option<&str>) -> bool {
        match (self, key) {
            (Self::Any, _) => true,
            (Self::Exactly(wanted), Some(key)) => wanted == key,
            (Self::Containing(part), Some(key)) => key.contains(part),
            (Self::Exactly(_) | Self::Containing(_), None) => false,
        }
    }
}

impl FaultRule {
    /// Strikes every request of this kind until it is narrowed.
    pub fn on(op: Operation, action: Action) -> Self {
        Self { op, action, key: KeyMatch::Any, turns: Turns::EVERY }
    }

    /// Only this key.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = KeyMatch::Exactly(key.into());
        self
    }

    /// Only keys that contain this.
    #[must_use]
    pub fn key_containing(mut self, part: impl Into<String>) -> Self {
        self.key = KeyMatch::Containing(part.into());
        self
    }

    /// Not before the `n`-th matching request, counted from 1.
    #[must_use]
    pub fn from_hit(mut self, n: u64) -> Self {
        self.turns.first = n;
        self
    }

    /// At most this often.
    #[must_use]
    pub fn times(mut self, count: u64) -> Self {
        self.turns.count = count;
        self
    }
}

#[derive(Debug)]
struct Rule {
    script: FaultRule,
    injected: Injected,
}

/// All rules in force.
#[derive(Default)]
pub(super) struct Faults {
    rules: RwLock<Vec<Rule>>,
}

impl Faults {
    pub(super) fn inject(&self, script: FaultRule) -> Injected {
        let injected = Injected::new(script.turns);
        let rule = Rule { script, injected: injected.clone() };
        self.rules.write().unwrap_or_else(PoisonError::into_inner).push(rule);
        injected
    }

    pub(super) fn clear(&self) {
        self.rules.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The actions that strike this request, in the order of the script. A request without a key of its own is
    /// struck only by rules that name none.
    pub(super) fn strike(&self, op: Operation, key: Option<&str>) -> Vec<Action> {
        let rules = self.rules.read().unwrap_or_else(PoisonError::into_inner);
        let matching = rules.iter().filter(|rule| rule.script.op == op && rule.script.key.matches(key));
        matching.filter_map(Rule::strike).collect()
    }

    /// The actions that strike one key of a batch: only those of rules that name a key.
    pub(super) fn strike_key(&self, op: Operation, key: &str) -> Vec<Action> {
        let rules = self.rules.read().unwrap_or_else(PoisonError::into_inner);
        let named = rules.iter().filter(|rule| rule.script.op == op && !matches!(rule.script.key, KeyMatch::Any));
        named.filter(|rule| rule.script.key.matches(Some(key))).filter_map(Rule::strike).collect()
    }
}

impl Rule {
    fn strike(&self) -> Option<Action> {
        self.injected.strikes().then(|| self.script.action.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_strikes_the_hits_it_names_and_counts_them() {
        let faults = Faults::default();
        let rule = faults.inject(FaultRule::on(Operation::GetObject, Action::Denied).key("k").from_hit(2).times(2));
        let struck: Vec<_> = (0..5).map(|_| !faults.strike(Operation::GetObject, Some("k")).is_empty()).collect();
        assert_eq!(struck, [false, true, true, false, false]);
        assert!(faults.strike(Operation::HeadObject, Some("k")).is_empty());
        assert!(faults.strike(Operation::GetObject, Some("other")).is_empty());
        assert_eq!(rule.hits(), 2);
    }
}
