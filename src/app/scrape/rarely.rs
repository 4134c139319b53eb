//! Gauges that change slowly and cost more: missing slots, and what the last reconcile left.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::engine::Engine;
use crate::operate::slots;
use crate::store::error::StoreError;
use crate::telemetry::metrics;

/// No more often than this: a slot is missing for its grace already when it is first seen.
const INTERVAL: Duration = Duration::from_mins(1);
/// And the questions may take this share of the time at most.
const SHARE: u32 = 20;

/// When they were asked for last, and of which feeds.
#[derive(Default)]
pub(super) struct Rarely(Mutex<Option<Asked>>);

struct Asked {
    due: Instant,
    /// A reload brings another engine, whose feeds are asked at once.
    engine: usize,
}

impl Rarely {
    /// Sets the gauges, where that is due.
    pub(super) async fn refresh(&self, engine: &Arc<Engine>) -> Result<(), StoreError> {
        let mut asked = self.0.lock().await;
        let (begun, this) = (Instant::now(), Arc::as_ptr(engine).addr());
        if asked.as_ref().is_some_and(|asked| asked.engine == this && begun < asked.due) {
            return Ok(());
        }
        let reconciled = engine.ledger.reconciliations().await?;
        for feed in engine.discoverers.iter().map(|discoverer| discoverer.feed()) {
            let missing = slots::missing(feed, &engine.ledger, Timestamp::now()).await?;
            metrics::missing_slots(&feed.name, missing.map_or(0, |slots| slots.missing));
            let last = reconciled.iter().find(|last| last.feed == feed.name.as_str());
            metrics::reconciled(&feed.name, last.map(|last| last.at), last.map_or(0, |last| last.differences));
        }
        let due = Instant::now() + INTERVAL.max(begun.elapsed() * SHARE);
        *asked = Some(Asked { due, engine: this });
        Ok(())
    }
}
