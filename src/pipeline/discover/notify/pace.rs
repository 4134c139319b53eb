//! How fast a queue is asked while it fails, and what of it is shown.
//!
//! While a queue answers, every receiver asks. Once it fails one receiver at a time does, after a pause that doubles, so
//! that an outage costs as few calls with thirty-two receivers as with one: seven in the first minute, then about one.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::domain::backoff;
use crate::domain::queue::QueueError;

/// Pauses after failures.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// A failure that may pass is shown from the second one on: long polls are cut now and then.
const SHOWN_FROM: u32 = 2;

/// Without messages nothing proves that they can be acknowledged again: after so long the failure is no longer shown.
const SHOWN_FOR: Duration = Duration::from_mins(5);

/// What is asked of a queue all the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Receive,
    Acknowledge,
}

impl Step {
    pub(super) const fn failure(self) -> &'static str {
        match self {
            Self::Receive => "notifications cannot be received; polls and sweeps go on",
            Self::Acknowledge => {
                "notifications cannot be acknowledged; they come again, which is harmless until they end in the dead-letter queue"
            }
        }
    }
}

/// When a request was sent and when it ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) begun: Instant,
    pub(super) now: Instant,
}

/// The pace of one queue, shared by its receivers.
#[derive(Default)]
pub(super) struct Pace {
    state: Mutex<State>,
    /// Whose turn it is while the queue fails.
    turns: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    failures: u32,
    failed_at: Option<Instant>,
    /// When it may be asked again.
    next: Option<Instant>,
    receiving: Option<String>,
    acknowledging: Option<(Instant, String)>,
}

impl Pace {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the queue may be asked. While it fails the turn is held until the answer is noted.
    pub(super) async fn turn(&self) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        self.state().next?;
        let turn = self.turns.lock().await;
        // Meanwhile whoever had the turn may have found it mended.
        let next = self.state().next?;
        sleep_until(next).await;
        Some(turn)
    }

    /// Notes a failure; answers how many there were in a row, or none where the request was under way when another
    /// failed and says nothing new.
    pub(super) fn failed(&self, step: Step, asked: Asked, error: &QueueError) -> Option<u32> {
        let Asked { begun, now } = asked;
        let mut state = self.state();
        if state.failed_at.is_some_and(|failed_at| begun < failed_at) {
            return None;
        }
        state.failures += 1;
        state.failed_at = Some(now);
        state.next = Some(now + backoff::delay(state.failures, RETRY.0, RETRY.1, fastrand::f64()));
        if !error.may_pass() || state.failures >= SHOWN_FROM {
            let trouble = format!("{}: {error}; {}", step.failure(), error.advice());
            match step {
                Step::Receive => state.receiving = Some(trouble),
                Step::Acknowledge => state.acknowledging = Some((now, trouble)),
            }
        }
        Some(state.failures)
    }

    /// Notes that a step worked.
    pub(super) fn worked(&self, step: Step) {
        let mut state = self.state();
        match step {
            Step::Receive => state.receiving = None,
            Step::Acknowledge => state.acknowledging = None,
        }
        // Receiving well is no reason to hurry while nothing can be acknowledged.
        if state.acknowledging.is_none() {
            *state = State { failed_at: state.failed_at, receiving: state.receiving.take(), ..State::default() };
        }
    }

    /// What is to be shown.
    pub(super) fn trouble(&self, now: Instant) -> Option<String> {
        let state = self.state();
        let is_fresh = |since: Instant| now.saturating_duration_since(since) < SHOWN_FOR;
        let acknowledging = state.acknowledging.as_ref().filter(|(since, _)| is_fresh(*since));
        state.receiving.clone().or_else(|| acknowledging.map(|(_, trouble)| trouble.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken() -> QueueError {
        QueueError::Transient { action: "ReceiveMessage", detail: "status 500".to_owned() }
    }

    fn denied() -> QueueError {
        QueueError::Denied { action: "sqs:DeleteMessage", detail: String::new() }
    }

    /// A request that ends as soon as it is sent.
    fn at(now: Instant) -> Asked {
        Asked { begun: now, now }
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    /// Calls within this time of a queue that fails every one of them at once.
    fn calls(within: Duration) -> usize {
        let (pace, begun) = (Pace::default(), Instant::now());
        let (mut now, mut calls) = (begun, 0);
        while now < begun + within {
            calls += 1;
            pace.failed(Step::Receive, at(now), &broken());
            now = pace.state().next.unwrap();
        }
        calls
    }

    #[test]
    fn an_outage_costs_few_calls() {
        for _ in 0..100 {
            let minute = calls(seconds(60));
            assert!((6..=9).contains(&minute), "{minute} calls");
        }
        let hour = calls(seconds(3600));
        assert!((60..=130).contains(&hour), "{hour} calls");
    }

    #[tokio::test]
    async fn while_a_queue_fails_one_receiver_at_a_time_has_the_turn() {
        let (pace, now) = (Pace::default(), Instant::now());
        assert!(pace.turn().await.is_none(), "it works: everybody asks");
        pace.failed(Step::Receive, at(now), &broken());
        let turn = pace.turn().await;
        assert!(turn.is_some() && now.elapsed() >= seconds(1) / 2, "the pause was kept");
        let second = pace.turn();
        tokio::pin!(second);
        assert!(futures::poll!(&mut second).is_pending(), "the others wait");
        pace.worked(Step::Receive);
        drop(turn);
        assert!(second.await.is_none(), "and find it mended");
    }

    #[test]
    fn requests_that_fail_together_count_as_one_failure() {
        let (pace, begun) = (Pace::default(), Instant::now());
        let asked = |from, to| Asked { begun: begun + seconds(from), now: begun + seconds(to) };
        assert_eq!(pace.failed(Step::Receive, asked(0, 1), &broken()), Some(1));
        assert_eq!(pace.failed(Step::Receive, asked(0, 2), &broken()), None);
        assert_eq!(pace.failed(Step::Receive, asked(2, 3), &broken()), Some(2));
    }

    #[test]
    fn what_may_pass_is_shown_when_it_does_not_and_the_rest_at_once() {
        let (pace, now) = (Pace::default(), Instant::now());
        pace.failed(Step::Receive, at(now), &broken());
        assert_eq!(pace.trouble(now), None);
        pace.failed(Step::Receive, at(now), &broken());
        assert!(pace.trouble(now).is_some_and(|trouble| trouble.contains("status 500")));
        pace.worked(Step::Receive);
        assert_eq!(pace.trouble(now), None);
        pace.failed(Step::Receive, at(now), &denied());
        assert!(pace.trouble(now).is_some_and(|trouble| trouble.contains("sqs:DeleteMessage")));
    }

    #[test]
    fn a_denied_acknowledgement_outlives_empty_answers_but_not_for_ever() {
        let (pace, now) = (Pace::default(), Instant::now());
        pace.failed(Step::Acknowledge, at(now), &denied());
        pace.worked(Step::Receive);
        assert!(pace.trouble(now).is_some() && pace.state().next.is_some());
        assert_eq!(pace.trouble(now + SHOWN_FOR), None);
        pace.worked(Step::Acknowledge);
        assert!(pace.trouble(now).is_none() && pace.state().next.is_none());
    }
}
