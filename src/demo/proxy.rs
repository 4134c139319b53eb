//! A TCP proxy between a client and PostgreSQL that breaks connections on demand.
//!
//! Every fault counts how often it struck, so that a test can prove that what it armed really happened. Patterns are
//! looked for in the plain byte stream, also across reads: connections through the proxy must not use TLS.
//! It deliberately knows nothing of the protocol it carries, and it never alters a byte that it passes on.

mod link;
mod trigger;

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use trigger::{Action, Armed, Trigger};

/// What happens to bytes that arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Flow {
    /// They are passed on.
    #[default]
    Pass,
    /// The server's are swallowed, the client's passed on.
    DropAnswers,
    /// All are swallowed, ends of streams too: the peer seems to be there and to say nothing.
    Blackhole,
}

/// The faults that are counted by [`Proxy::hits`]; a [`Trigger`] counts its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A read was delayed by the latency.
    Latency,
    /// A read was delayed by the bandwidth limit.
    Bandwidth,
    /// A read from the server was swallowed by [`Flow::DropAnswers`].
    DropAnswers,
    /// A read was swallowed by [`Flow::Blackhole`].
    Blackhole,
    /// A connection was reset by [`Proxy::reset_all`], or because it had lost bytes when the flow was restored.
    Reset,
}

#[derive(Debug, Clone, Copy, Default)]
struct Settings {
    latency: Duration,
    bandwidth: Option<NonZeroU64>,
    flow: Flow,
}

/// Something the proxy did, in the order that it shares with other logs of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// Place in the common order.
    pub seq: u64,
    /// What it did.
    pub what: What,
}

/// What a proxy logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A connection was accepted.
    Accepted,
    /// A trigger was carried out.
    Struck(Action),
    /// A connection was reset.
    Reset,
}

/// What the handle and all connections share.
#[derive(Debug)]
struct Control {
    settings: watch::Sender<Settings>,
    triggers: Mutex<Vec<Arc<Armed>>>,
    /// Connections of now; replaced at each reset.
    reset: Mutex<CancellationToken>,
    accepted: AtomicU64,
    hits: [AtomicU64; 5],
    sequence: Arc<AtomicU64>,
    log: Mutex<Vec<Event>>,
}

impl Control {
    fn counter(&self, fault: Fault) -> &AtomicU64 {
        let [latency, bandwidth, answers, blackhole, reset] = &self.hits;
        match fault {
            Fault::Latency => latency,
            Fault::Bandwidth => bandwidth,
            Fault::DropAnswers => answers,
            Fault::Blackhole => blackhole,
            Fault::Reset => reset,
        }
    }

    /// Logs under the lock, so that events stand in the order of their numbers.
    fn note(&self, what: What) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.push(Event { seq: self.sequence.fetch_add(1, Ordering::SeqCst), what });
    }

    fn struck(&self, fault: Fault) {
        if fault == Fault::Reset {
            self.note(What::Reset);
        }
        self.counter(fault).fetch_add(1, Ordering::SeqCst);
    }

    fn armed(&self) -> Vec<Arc<Armed>> {
        self.triggers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn reset_token(&self) -> CancellationToken {
        self.reset.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A running proxy; dropping it closes its port and all its connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    control: Arc<Control>,
    stop: CancellationToken,
}

impl Proxy {
    /// Listens on a free port of 127.0.0.1 and forwards to `upstream`.
    ///
    /// # Errors
    /// No port could be had.
    pub async fn start(upstream: SocketAddr) -> anyhow::Result<Self> {
        Self::start_with_sequence(upstream, Arc::default()).await
    }

    /// The same, numbering its log from a counter that other logs of a test share.
    ///
    /// # Errors
    /// No port could be had.
    pub async fn start_with_sequence(upstream: SocketAddr, sequence: Arc<AtomicU64>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("listen on a free port")?;
        let address = listener.local_addr().context("listen on a free port")?;
        let control = Arc::new(Control {
            settings: watch::Sender::default(),
            triggers: Mutex::default(),
            reset: Mutex::default(),
            accepted: AtomicU64::new(0),
            hits: Default::default(),
            sequence,
            log: Mutex::default(),
        });
        let stop = CancellationToken::new();
        let serve = accept(listener, upstream, Arc::clone(&control));
        // The accept loop owns the tracker of its connections' tasks, and all of them end with the token.
        drop(TaskTracker::new().spawn(stop.clone().run_until_cancelled_owned(serve)));
        Ok(Self { address, control, stop })
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port clients connect to.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Delays every read by this much, both ways; zero ends that.
    pub fn set_latency(&self, latency: Duration) {
        self.control.settings.send_modify(|settings| settings.latency = latency);
    }

    /// Passes on at most so many bytes per second, per connection and direction; none ends that.
    pub fn set_bandwidth(&self, bytes_per_second: Option<NonZeroU64>) {
        self.control.settings.send_modify(|settings| settings.bandwidth = bytes_per_second);
    }

    /// Sets what happens to bytes from now on. A connection that lost bytes is reset when it comes back to
    /// [`Flow::Pass`]: it must not go on with a gap in its stream.
    pub fn set_flow(&self, flow: Flow) {
        self.control.settings.send_modify(|settings| settings.flow = flow);
    }

    /// Resets all connections of now, both ways (`RST`). New ones are served.
    pub fn reset_all(&self) {
        let mut current = self.control.reset.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *current).cancel();
    }

    /// Arms a trigger; it counts occurrences from now on, over all connections.
    pub fn arm(&self, trigger: Trigger) -> Arc<Armed> {
        let armed = Arc::new(Armed::new(trigger));
        self.control.triggers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&armed));
        armed
    }

    /// Removes all triggers.
    pub fn disarm(&self) {
        self.control.triggers.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// How often a fault struck.
    pub fn hits(&self, fault: Fault) -> u64 {
        self.control.counter(fault).load(Ordering::SeqCst)
    }

    /// What it did so far, in order.
    pub fn log(&self) -> Vec<Event> {
        self.control.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> u64 {
        self.control.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn accept(listener: TcpListener, upstream: SocketAddr, control: Arc<Control>) {
    // Dropped with this future, which ends the tasks: a tracker alone would let them run on.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        control.accepted.fetch_add(1, Ordering::SeqCst);
        control.note(What::Accepted);
        let control = Arc::clone(&control);
        connections.spawn(async move {
            match TcpStream::connect(upstream).await {
                Ok(server) => link::serve(client, server, &control).await,
                // The client sees its connection closed, as it would without us see it refused.
                Err(error) => tracing::debug!(%error, "the proxy could not reach its upstream"),
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

#[cfg(test)]
mod tests;
