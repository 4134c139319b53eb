//! Signals and the service manager: how the process is told to stop or reload, and how it says how it fares.

use std::io;
use std::time::Duration;

use futures::StreamExt;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook_tokio::{Handle, Signals, SignalsInfo};

/// Keeps this process out of core dumps and away from other processes of its account: its memory holds credentials.
/// The unit's `LimitCORE=0` does not hold where the kernel pipes dumps to a program, nor outside the unit.
pub fn forbid_core_dumps() -> io::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Finish what runs, then end. Carries the signal's number.
    Stop(i32),
    /// Read the configuration again.
    Reload,
}

/// The signals of this process.
pub struct SignalStream {
    signals: SignalsInfo,
    handle: Handle,
}

impl SignalStream {
    /// Takes the signals over.
    pub fn install() -> io::Result<Self> {
        let signals = Signals::new([SIGTERM, SIGINT, SIGQUIT, SIGHUP])?;
        let handle = signals.handle();
        Ok(Self { signals, handle })
    }

    /// The next request.
    pub async fn next(&mut self) -> Request {
        match self.signals.next().await {
            Some(SIGHUP) => Request::Reload,
            Some(number) => Request::Stop(number),
            // The stream ends only when its handle is closed, which is when we are done anyway.
            None => std::future::pending().await,
        }
    }
}

impl Drop for SignalStream {
    fn drop(&mut self) {
        self.handle.close();
    }
}

/// Exit code of a process that a second signal ended: 128 plus its number, as shells have it.
pub fn forced_exit_code(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(1)
}

/// Messages to systemd; each does nothing where there is none.
pub mod service {
    use super::{Duration, NotifyState};

    /// Start-up is complete: ledger reachable, work begun.
    pub fn ready() {
        send(&[NotifyState::Ready, NotifyState::Status("loading")]);
    }

    /// A line for `systemctl status`.
    pub fn status(text: &str) {
        send(&[NotifyState::Status(text)]);
    }

    /// The configuration is being read again.
    pub fn reloading() {
        send(&[NotifyState::Status("reloading the configuration")]);
    }

    /// Draining.
    pub fn stopping() {
        send(&[NotifyState::Stopping, NotifyState::Status("finishing running loads")]);
    }

    /// We are alive.
    pub fn alive() {
        send(&[NotifyState::Watchdog]);
    }

    /// How often [`alive`] is expected; half of what systemd allows.
    pub fn watchdog_interval() -> Option<Duration> {
        sd_notify::watchdog_enabled().map(|allowed| allowed / 2)
    }

    fn send(states: &[NotifyState<'_>]) {
        if let Err(error) = sd_notify::notify(states) {
            tracing::debug!(error = %error, "systemd could not be notified");
        }
    }
}
