//! What all connections share: the queues, the log, the faults and who waits for messages.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::faults::Faults;
use super::log::Log;
use super::queue::{Delivery, Queue, QueueOptions};

/// A message that is about to be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion {
    /// Name of its queue.
    pub queue: String,
    /// Its id.
    pub message: String,
    /// Its body.
    pub body: Arc<str>,
}

type Hook = Arc<dyn Fn(Vec<Deletion>) -> BoxFuture<'static, ()> + Send + Sync>;

type Queues = BTreeMap<String, Queue>;

/// Everything the server knows.
pub(super) struct State {
    pub(super) faults: Faults,
    pub(super) log: Log,
    queues: Mutex<Queues>,
    /// Rings for whoever waits for a message in any queue: there are few queues and few who wait.
    arrived: Notify,
    hook: RwLock<Option<Hook>>,
}

impl State {
    pub(super) fn new(sequence: Arc<AtomicU64>) -> Self {
        Self {
            faults: Faults::default(),
            log: Log::new(sequence),
            queues: Mutex::default(),
            arrived: Notify::new(),
            hook: RwLock::new(None),
        }
    }

    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with a queue; none where there is no such queue.
    pub(super) fn with<T>(&self, name: &str, work: impl FnOnce(&mut Queue) -> T) -> Option<T> {
        self.queues().get_mut(name).map(work)
    }

    /// Creates a queue, empty, and its dead letter queue where that is missing.
    pub(super) fn create(&self, name: &str, options: QueueOptions) {
        let mut queues = self.queues();
        if let Some((dead_letters, _)) = &options.redrive {
            queues.entry(dead_letters.clone()).or_default();
        }
        queues.insert(name.to_owned(), Queue::new(options));
        drop(queues);
        self.arrived.notify_waiters();
    }

    pub(super) fn drop_queue(&self, name: &str) -> bool {
        let was_there = self.queues().remove(name).is_some();
        self.arrived.notify_waiters();
        was_there
    }

    /// Sends a message; none where there is no such queue.
    pub(super) fn send(&self, name: &str, body: &str, delay: Duration) -> Option<String> {
        let visible_from = (!delay.is_zero()).then(|| Instant::now() + delay);
        let id = self.with(name, |queue| queue.send(body.into(), visible_from));
        self.arrived.notify_waiters();
        id
    }

    /// Waits for messages until `deadline`; none where there is no such queue, or no longer.
    pub(super) async fn receive(
        &self,
        name: &str,
        max: usize,
        visibility: Option<Duration>,
        deadline: Instant,
    ) -> Option<Vec<Delivery>> {
        loop {
            // Listens before it looks, so that a message that arrives in between is not slept over.
            let mut arrived = std::pin::pin!(self.arrived.notified());
            arrived.as_mut().enable();
            let (deliveries, next) = self.receive_now(name, max, visibility)?;
            if !deliveries.is_empty() || Instant::now() >= deadline {
                return Some(deliveries);
            }
            let until = next.map_or(deadline, |next| next.min(deadline));
            // Either way it looks again.
            tokio::time::timeout_at(until, arrived).await.unwrap_or_default();
        }
    }

    fn receive_now(
        &self,
        name: &str,
        max: usize,
        visibility: Option<Duration>,
    ) -> Option<(Vec<Delivery>, Option<Instant>)> {
        let mut queues = self.queues();
        let queue = queues.get_mut(name)?;
        let (deliveries, dead) = queue.receive(max, visibility);
        let next = queue.next_visible();
        let dead_letters = queue.options.redrive.as_ref().map(|(name, _)| name.clone());
        if let Some(dead_letters) = dead_letters.and_then(|name| queues.get_mut(&name)) {
            for (id, body) in dead {
                dead_letters.take(id, body, None);
            }
        }
        Some((deliveries, next))
    }

    pub(super) fn set_hook(&self, hook: Hook) {
        *self.hook.write().unwrap_or_else(PoisonError::into_inner) = Some(hook);
    }

    /// Awaits the hook for what is about to be deleted.
    pub(super) async fn announce(&self, deletions: Vec<Deletion>) {
        let hook = self.hook.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(hook) = hook.filter(|_| !deletions.is_empty()) {
            hook(deletions).await;
        }
    }
}
