//! What is known of a store's obedience to a kind of condition: nothing, that it obeys, or that it does not.

use std::sync::atomic::{AtomicU8, Ordering};

const UNKNOWN: u8 = 0;
const HONOURED: u8 = 1;
const IGNORED: u8 = 2;

/// One piece of knowledge, shared by all requests. It is about the store, so it is learnt once.
#[derive(Debug, Default)]
pub(super) struct Guard(AtomicU8);

impl Guard {
    /// Whether conditions are obeyed; none while nobody asked.
    pub(super) fn known(&self) -> Option<bool> {
        match self.0.load(Ordering::Relaxed) {
            HONOURED => Some(true),
            IGNORED => Some(false),
            _ => None,
        }
    }

    /// Records an answer; says whether it is news.
    ///
    /// Two requests may ask at once and both learn the same: the first to record it logs it.
    pub(super) fn learn(&self, honoured: bool) -> bool {
        let now = if honoured { HONOURED } else { IGNORED };
        self.0.compare_exchange(UNKNOWN, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}
