//! Says repeating things once in a while, and how often it kept quiet.
//!
//! One throttle guards one message at one place. It never loses the count: what was swallowed is told with the next
//! message that passes, or when the fault is over.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lets one message through per interval.
#[derive(Debug)]
pub struct Throttle {
    interval: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    swallowed: u64,
}

impl Throttle {
    /// A throttle through which nothing has passed yet.
    pub const fn new(interval: Duration) -> Self {
        Self { interval, state: Mutex::new(State { last: None, swallowed: 0 }) }
    }

    /// Asks to speak at `now`: the number of messages swallowed before, or `None` where this one is swallowed too.
    pub fn pass(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let quiet = state.last.is_some_and(|last| now.saturating_duration_since(last) < self.interval);
        if quiet {
            state.swallowed += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.swallowed))
    }

    /// The fault is over: the number of messages swallowed since the last one that passed. The next fault is told at
    /// once.
    pub fn settle(&self) -> u64 {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.last = None;
        std::mem::take(&mut state.swallowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_message_passes_per_interval_and_names_the_swallowed_ones() {
        let throttle = Throttle::new(Duration::from_secs(10));
        let start = Instant::now();
        let at = |seconds| throttle.pass(start + Duration::from_secs(seconds));
        assert_eq!([at(0), at(1), at(9), at(10), at(11), at(30)], [Some(0), None, None, Some(2), None, Some(1)]);
    }

    #[test]
    fn a_new_fault_is_told_at_once() {
        let throttle = Throttle::new(Duration::from_secs(10));
        let start = Instant::now();
        assert_eq!(throttle.pass(start), Some(0));
        assert_eq!(throttle.pass(start), None);
        assert_eq!(throttle.settle(), 1);
        assert_eq!(throttle.settle(), 0);
        assert_eq!(throttle.pass(start), Some(0));
    }
}
