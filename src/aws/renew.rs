//! A client that is replaced when its credentials are refused.
//!
//! The SDK reads a profile once and keeps its keys for as long as the client lives, so keys that were rotated on disk
//! would be found by a restart only. Requests that are under way keep the client they have; whoever was refused is
//! tried again by his caller.

use std::future::Future;
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// Credentials are read again no more often than this, however many requests were refused at once.
const RENEWAL_PAUSE: Duration = Duration::from_secs(2);

/// Whether credentials can have changed since the client was built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keys {
    /// They stand in the configuration and come with a reload.
    Configured,
    /// They come from the AWS chain.
    Chain,
}

/// The client of now.
pub(super) struct Renewable<C> {
    client: RwLock<C>,
    renewed: Mutex<Option<Instant>>,
    keys: Keys,
}

impl<C: Clone> Renewable<C> {
    pub(super) fn new(client: C, keys: Keys) -> Self {
        Self { client: RwLock::new(client), renewed: Mutex::default(), keys }
    }

    pub(super) fn client(&self) -> C {
        self.client.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Builds the client anew, which reads the credentials again, unless that has just been done.
    pub(super) async fn renew<E: std::fmt::Display>(&self, connect: impl Future<Output = Result<C, E>>) {
        let is_due = {
            let mut renewed = self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
            let is_due = renewed.is_none_or(|at| at.elapsed() > RENEWAL_PAUSE);
            if is_due {
                *renewed = Some(Instant::now());
            }
            is_due
        };
        if !is_due || self.keys == Keys::Configured {
            return;
        }
        match connect.await {
            Ok(client) => {
                *self.client.write().unwrap_or_else(PoisonError::into_inner) = client;
                tracing::info!("the credentials were refused and are read again");
            }
            Err(error) => tracing::debug!(%error, "the credentials could not be read again"),
        }
    }
}
