//! The fault script: which request goes wrong, and how.
//!
//! Several rules may strike one request: it waits for all delays and gates first, then the first rule that decides the
//! answer wins.

use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use super::log::Operation;
use crate::demo::strikes::{Gate, Injected, Turns};

/// What goes wrong.
#[derive(Debug, Clone)]
pub enum Action {
    /// Answers this status and error code, such as `(400, "ThrottlingException")`; nothing is done.
    Status(u16, &'static str),
    /// Answers this status with a page that is no answer of SQS at all; nothing is done.
    Page(u16),
    /// Waits before anything is done.
    Delay(Duration),
    /// Waits until the gate opens before anything is done; a gate that nobody opens hangs the request.
    Hold(Gate),
    /// Does the work, then answers this status and error code.
    FailAfter(u16, &'static str),
    /// Closes the connection without an answer; nothing is done.
    Drop,
    /// Does the work, then closes the connection without an answer.
    HangUp,
    /// The k-th entry of a batch, counted from 1, fails for a reason of the server's; the others are done.
    FailEntry(usize),
    /// The k-th entry of a batch is neither done nor mentioned in the answer.
    ForgetEntry(usize),
    /// Receipts are told to be no longer valid; nothing is done.
    ExpireReceipts,
    /// Answers success and does nothing. Only for deletions.
    Pretend,
}

/// One line of the fault script.
#[derive(Debug, Clone)]
pub struct FaultRule {
    op: Operation,
    action: Action,
    queue: Option<String>,
    turns: Turns,
}

impl FaultRule {
    /// Strikes every request of this kind until it is narrowed.
    pub fn on(op: Operation, action: Action) -> Self {
        Self { op, action, queue: None, turns: Turns::EVERY }
    }

    /// Only this queue.
    #[must_use]
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queue = Some(queue.into());
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

/// All rules in force.
#[derive(Default)]
pub(super) struct Faults(RwLock<Vec<(FaultRule, Injected)>>);

impl Faults {
    pub(super) fn inject(&self, rule: FaultRule) -> Injected {
        let injected = Injected::new(rule.turns);
        self.0.write().unwrap_or_else(PoisonError::into_inner).push((rule, injected.clone()));
        injected
    }

    pub(super) fn clear(&self) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The actions that strike this request, in the order of the script.
    pub(super) fn strike(&self, op: Operation, queue: &str) -> Vec<Action> {
        let rules = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let matching =
            rules.iter().filter(|(rule, _)| rule.op == op && rule.queue.as_deref().is_none_or(|only| only == queue));
        matching.filter(|(_, injected)| injected.strikes()).map(|(rule, _)| rule.action.clone()).collect()
    }
}
