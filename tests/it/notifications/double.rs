//! A queue in memory that does what a test tells it to.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use keyfall::domain::queue::{Attributes, Message, NotificationQueue, QueueError};
use tokio::sync::Notify;

use crate::support::until;

#[derive(Default)]
struct State {
    sent: usize,
    visible: Vec<Message>,
    in_flight: Vec<Message>,
    acknowledged: Vec<String>,
    deliveries: BTreeMap<String, u64>,
    /// Ids of each request to take messages out.
    tries: Vec<Vec<String>>,
    /// How often taking a message out fails.
    refusals: BTreeMap<String, u64>,
    failure: Option<QueueError>,
    paused: bool,
    waiting: usize,
}

/// The double. Messages stay hidden until [`Double::redeliver`].
#[derive(Default)]
pub(crate) struct Double {
    state: Mutex<State>,
    changed: Notify,
}

impl Double {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a message in; answers its id.
    pub(crate) fn send(&self, body: String) -> String {
        self.send_refused(body, 0)
    }

    /// The same; taking it out fails so often.
    pub(crate) fn send_refused(&self, body: String, refusals: u64) -> String {
        let id = {
            let mut state = self.state();
            state.sent += 1;
            let id = format!("m{}", state.sent);
            state.refusals.insert(id.clone(), refusals);
            state.visible.push(Message { id: id.clone(), receipt: id.clone(), body, receive_count: 0 });
            id
        };
        self.changed.notify_waiters();
        id
    }

    /// Hands nothing out until [`Self::go_on`].
    pub(crate) fn pause(&self) {
        self.state().paused = true;
    }

    pub(crate) fn go_on(&self) {
        self.state().paused = false;
        self.changed.notify_waiters();
    }

    /// Taking this message out fails so often.
    pub(crate) fn refuse(&self, id: &str, times: u64) {
        self.state().refusals.insert(id.to_owned(), times);
    }

    /// Every request for messages fails like this from now on, those that wait as well.
    pub(crate) fn fail(&self, failure: Option<QueueError>) {
        self.state().failure = failure;
        self.changed.notify_waiters();
    }

    /// The time for which messages are hidden is over.
    pub(crate) fn redeliver(&self) {
        {
            let mut state = self.state();
            let hidden = std::mem::take(&mut state.in_flight);
            state.visible.extend(hidden);
        }
        self.changed.notify_waiters();
    }

    pub(crate) fn acknowledged(&self) -> Vec<String> {
        self.state().acknowledged.clone()
    }

    pub(crate) fn in_flight(&self) -> Vec<String> {
        self.state().in_flight.iter().map(|message| message.id.clone()).collect()
    }

    pub(crate) fn deliveries(&self, id: &str) -> u64 {
        self.state().deliveries.get(id).copied().unwrap_or(0)
    }

    pub(crate) fn tries(&self) -> Vec<Vec<String>> {
        self.state().tries.clone()
    }

    /// Requests that wait for messages.
    pub(crate) fn waiting(&self) -> usize {
        self.state().waiting
    }

    pub(crate) async fn until_acknowledged(&self, ids: &[String]) {
        let all = async || ids.iter().all(|id| self.state().acknowledged.contains(id));
        until(&format!("{ids:?} are acknowledged"), all).await;
    }

    fn take(&self, most: usize) -> Result<Vec<Message>, QueueError> {
        let mut state = self.state();
        if let Some(failure) = &state.failure {
            return Err(failure.clone());
        }
        if state.paused {
            return Ok(Vec::new());
        }
        let count = most.min(state.visible.len());
        let mut taken: Vec<Message> = state.visible.drain(..count).collect();
        for message in &mut taken {
            message.receive_count += 1;
            *state.deliveries.entry(message.id.clone()).or_default() += 1;
        }
        state.in_flight.extend(taken.clone());
        Ok(taken)
    }
}

/// Counts a waiting request for as long as it waits, also where it is dropped.
struct Waiting<'a>(&'a Double);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.state().waiting -= 1;
    }
}

#[async_trait]
impl NotificationQueue for Double {
    async fn receive(&self, most: usize, wait: Duration) -> Result<Vec<Message>, QueueError> {
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Before the look, or what happens between the two would be missed.
            changed.as_mut().enable();
            let taken = self.take(most)?;
            if !taken.is_empty() {
                return Ok(taken);
            }
            self.state().waiting += 1;
            let waiting = Waiting(self);
            let over = tokio::time::timeout_at(deadline, changed).await.is_err();
            drop(waiting);
            if over {
                return Ok(Vec::new());
            }
        }
    }

    async fn acknowledge(&self, messages: &[&Message]) -> Result<Vec<Result<(), QueueError>>, QueueError> {
        let mut state = self.state();
        state.tries.push(messages.iter().map(|message| message.id.clone()).collect());
        let mut answers = Vec::new();
        for message in messages {
            let left = state.refusals.entry(message.id.clone()).or_default();
            if *left > 0 {
                *left -= 1;
                let detail = "InternalError".to_owned();
                answers.push(Err(QueueError::Transient { action: "DeleteMessageBatch", detail }));
                continue;
            }
            state.in_flight.retain(|hidden| hidden.id != message.id);
            state.acknowledged.push(message.id.clone());
            answers.push(Ok(()));
        }
        Ok(answers)
    }

    async fn attributes(&self) -> Result<Attributes, QueueError> {
        Ok(Attributes { has_redrive: true, visibility: Some(Duration::from_secs(30)), waiting: None })
    }

    async fn probe(&self) -> Result<(), QueueError> {
        Ok(())
    }
}
