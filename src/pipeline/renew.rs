//! Keeping leases alive while their loads run, and returning those whose owner died.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::domain::lease::Lease;
use crate::failpoint::{self, Point};
use crate::store::ledger::Ledger;
use crate::telemetry::metrics;

/// The leases this instance holds, each with the switch that stops its load.
#[derive(Clone, Default)]
pub struct Held {
    leases: Arc<Mutex<HashMap<Uuid, (i64, CancellationToken)>>>,
}

impl Held {
    /// Enters leases that share one switch; they leave when the guard is dropped.
    pub fn enter(&self, entered: &[Lease], switch: &CancellationToken) -> HeldGuard {
        let mut leases = self.lock();
        for lease in entered {
            leases.insert(lease.token, (lease.object.id, switch.clone()));
        }
        HeldGuard { held: self.clone(), tokens: entered.iter().map(|lease| lease.token).collect() }
    }

    fn ids_and_tokens(&self) -> Vec<(i64, Uuid)> {
        self.lock().iter().map(|(token, (id, _))| (*id, *token)).collect()
    }

    fn stop(&self, token: &Uuid) {
        if let Some((_, switch)) = self.lock().get(token) {
            switch.cancel();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, (i64, CancellationToken)>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leases in work; dropping it ends their renewal.
pub struct HeldGuard {
    held: Held,
    tokens: Vec<Uuid>,
}

impl Drop for HeldGuard {
    fn drop(&mut self) {
        let mut leases = self.held.lock();
        for token in &self.tokens {
            leases.remove(token);
        }
    }
}

/// Renews until told to stop. Three renewals fit into one lease, so two may fail before it expires.
///
/// Losing a lease is harmless for the data: the fence refuses the commit. Stopping the load early only saves work.
pub async fn run(ledger: &Ledger, held: &Held, lease: Duration, stop: &CancellationToken) {
    let mut tick = tokio::time::interval(lease / 3);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        match ledger.renew(&held.ids_and_tokens(), lease).await {
            Ok(lost) => {
                for token in lost {
                    tracing::warn!(lease.token = %token, "lease lost to another instance; its load is stopped");
                    metrics::lease_lost();
                    held.stop(&token);
                }
            }
            Err(error) => tracing::warn!(error = %error, "leases could not be renewed"),
        }
        failpoint::pass(Point::LeaseRenewed).await;
        match ledger.expire_leases().await {
            Ok(0) => {}
            Ok(expired) => {
                metrics::leases_expired(expired);
                tracing::warn!(expired, "leases expired: their owner died or froze; the objects are pending again");
            }
            Err(error) => tracing::debug!(error = %error, "expired leases could not be returned"),
        }
    }
}
