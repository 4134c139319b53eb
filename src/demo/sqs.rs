//! An SQS server inside this process, for tests: standard queues over the AWS JSON protocol on a free loopback port.
//!
//! Messages have ids, receipts, an MD5, a visibility timeout and a receive count; long polling answers as soon as one
//! arrives; what is received too often goes to the dead letter queue. Every request is logged in an order that other
//! logs share, and a [`FaultRule`] makes the n-th matching request fail in a chosen way. A hook sees each deletion
//! before it takes effect.
//!
//! It checks no signatures, knows no FIFO queues, message attributes or policies, and delivers in the order of sending
//! unless a message is delayed.

mod faults;
mod log;
mod queue;
mod server;
mod service;
mod state;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

pub use self::faults::{Action, FaultRule};
pub use self::log::{LogEntry, Operation};
pub use self::queue::{Counts, Message, QueueOptions};
pub use self::state::Deletion;
use self::state::State;
use super::listener::accept_loop;
use super::strikes::Injected;

/// The region clients should sign for; any is accepted.
pub const REGION: &str = "us-east-1";
/// The account in queue URLs and ARNs.
pub const ACCOUNT: &str = "000000000000";

/// A running server. Dropping it closes the port and every connection.
pub struct EmbeddedSqs {
    state: Arc<State>,
    address: SocketAddr,
    // Cancels the accept loop and the connections when the handle goes.
    _stop: DropGuard,
}

impl EmbeddedSqs {
    /// Starts a server on a free port of 127.0.0.1, inside the current tokio runtime.
    pub async fn start() -> std::io::Result<Self> {
        Self::start_with_sequence(Arc::new(AtomicU64::new(0))).await
    }

    /// The same, numbering the request log from a counter that other logs of a test share.
    pub async fn start_with_sequence(sequence: Arc<AtomicU64>) -> std::io::Result<Self> {
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State::new(sequence));
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let serving = Arc::clone(&state);
        let serve = move |stream| server::serve(stream, Arc::clone(&serving));
        tasks.spawn(accept_loop(listener, stop.clone(), tasks.clone(), serve));
        Ok(Self { state, address, _stop: stop.drop_guard() })
    }

    /// `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// URL of a queue, whether it exists or not.
    pub fn url(&self, queue: &str) -> String {
        format!("{}/{ACCOUNT}/{queue}", self.endpoint())
    }

    /// Creates an empty queue, and the dead letter queue it names; one of the same name is gone.
    pub fn create_queue(&self, queue: &str, options: QueueOptions) {
        self.state.create(queue, options);
    }

    /// Deletes a queue with all its messages; answers whether there was one.
    pub fn delete_queue(&self, queue: &str) -> bool {
        self.state.drop_queue(queue)
    }

    /// Forgets all messages of a queue.
    pub fn purge(&self, queue: &str) {
        self.state.with(queue, queue::Queue::purge).unwrap_or_default();
    }

    /// Sends a message without HTTP; answers its id, or none where there is no such queue.
    pub fn send(&self, queue: &str, body: &str) -> Option<String> {
        self.send_later(queue, body, Duration::ZERO)
    }

    /// The same, not to be received before this time has passed: that is how messages overtake each other.
    pub fn send_later(&self, queue: &str, body: &str, delay: Duration) -> Option<String> {
        self.state.send(queue, body, delay)
    }

    /// All messages of a queue in the order of sending, hidden ones included.
    pub fn messages(&self, queue: &str) -> Vec<Message> {
        self.state.with(queue, |queue| queue.messages()).unwrap_or_default()
    }

    /// How many messages a queue holds, hidden ones included.
    pub fn len(&self, queue: &str) -> usize {
        self.state.with(queue, |queue| queue.len().0).unwrap_or_default()
    }

    /// Whether a queue holds no message.
    pub fn is_empty(&self, queue: &str) -> bool {
        self.len(queue) == 0
    }

    /// What happened to a queue's messages so far.
    pub fn counts(&self, queue: &str) -> Counts {
        self.state.with(queue, |queue| queue.counts).unwrap_or_default()
    }

    /// All requests so far, in the order in which they arrived.
    pub fn log(&self) -> Vec<LogEntry> {
        self.state.log.entries()
    }

    /// Forgets the requests so far.
    pub fn clear_log(&self) {
        self.state.log.clear();
    }

    /// Adds a fault. The answer counts how often it struck.
    pub fn inject(&self, rule: FaultRule) -> Injected {
        self.state.faults.inject(rule)
    }

    /// Removes all faults; requests held at a gate stay held until it opens.
    pub fn heal(&self) {
        self.state.faults.clear();
    }

    /// Awaits `hook` with the messages of each deletion before it has any effect.
    pub fn on_delete(&self, hook: impl Fn(Vec<Deletion>) -> BoxFuture<'static, ()> + Send + Sync + 'static) {
        self.state.set_hook(Arc::new(hook));
    }
}

/// The queue a URL means: its last part.
fn name_of(url: &str) -> &str {
    url.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
}
