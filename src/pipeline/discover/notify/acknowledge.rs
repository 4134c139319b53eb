//! Taking messages out of the queue, as far as it lets us.

use std::time::Duration;

use crate::domain::backoff;
use crate::domain::queue::{LARGEST_BATCH, Message, QueueError};
use crate::telemetry::metrics::{self, QueueAction, QueueOutcome};

use super::Consumer;

/// How often a message is tried to be taken out. Giving up is harmless: it comes again and names what is known.
const TRIES: u32 = 3;

/// Pauses between them.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

impl Consumer {
    /// Acknowledges messages whose objects are all in the ledger, or that need nothing. Those that failed are tried again,
    /// and only those. An error is one of the whole request.
    pub(super) async fn acknowledge(&self, mut messages: Vec<&Message>) -> Result<(), QueueError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let error = match self.try_to_acknowledge(&messages).await {
                Ok(failed) if failed.is_empty() => return Ok(()),
                Ok(failed) => {
                    messages = failed;
                    None
                }
                Err(error) if error.may_pass() => Some(error),
                Err(error) => return Err(error),
            };
            if tries >= TRIES {
                return error.map_or(Ok(()), Err);
            }
            tokio::time::sleep(backoff::delay(tries, RETRY.0, RETRY.1, fastrand::f64())).await;
        }
    }

    /// One request per batch; answers which messages may be tried again.
    async fn try_to_acknowledge<'a>(&self, messages: &[&'a Message]) -> Result<Vec<&'a Message>, QueueError> {
        let mut again = Vec::new();
        for batch in messages.chunks(LARGEST_BATCH) {
            let answered = self.queue.acknowledge(batch).await;
            let is_partial = answered.as_ref().is_ok_and(|answers| answers.iter().any(Result::is_err));
            let outcome = if is_partial { QueueOutcome::Partial } else { outcome_of(answered.as_ref().err()) };
            metrics::queue_request(&self.settings.name, QueueAction::Acknowledge, outcome);
            for (message, answer) in batch.iter().zip(answered?) {
                let Err(error) = answer else { continue };
                tracing::debug!(queue = %self.settings.name, message.id = %message.id.escape_debug(), error = %error,
                    "a message was not taken out of the queue; it comes again");
                // A receipt that is refused stays so: somebody else has the message by now.
                if error.may_pass() {
                    again.push(*message);
                }
            }
        }
        Ok(again)
    }
}

/// The metric's word for how a request ended.
pub(super) fn outcome_of(error: Option<&QueueError>) -> QueueOutcome {
    match error {
        None => QueueOutcome::Ok,
        Some(QueueError::Throttled { .. }) => QueueOutcome::Throttled,
        Some(_) => QueueOutcome::Error,
    }
}
