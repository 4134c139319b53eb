//! `NOTIFY` and `LISTEN`: a discovery on one instance wakes the dispatchers of the others at once.
//!
//! Only a shortcut: every dispatcher looks into the ledger each second anyway, so a lost notification, or a pooler that
//! cannot carry `LISTEN`, costs latency and nothing else.

use std::time::Duration;

use futures::stream;
use futures::{StreamExt, TryStreamExt};
use tokio::sync::Notify;
use tokio_postgres::AsyncMessage;
use tokio_util::sync::CancellationToken;

use crate::domain::backoff;

use super::error::StoreError;
use super::ledger::Ledger;
use super::pool::Pools;

/// Pauses between tries to listen again.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

impl Ledger {
    /// Tells the other instances that there is new work.
    pub async fn ring(&self) -> Result<(), StoreError> {
        self.query("SELECT pg_notify('keyfall_work', '')", &[]).await.map(drop)
    }
}

/// Rings `wake` for every notification until told to stop.
pub async fn listen(pools: &Pools, wake: &Notify, stop: &CancellationToken) {
    let mut failures = 0;
    while !stop.is_cancelled() {
        let ended = tokio::select! { () = stop.cancelled() => return, ended = listen_once(pools, wake) => ended };
        if let Err(error) = ended {
            tracing::debug!(error = %error, "not listening for other instances' discoveries");
        }
        failures += 1;
        let pause = backoff::delay(failures, RETRY.0, RETRY.1, fastrand::f64());
        tokio::select! { () = stop.cancelled() => return, () = tokio::time::sleep(pause) => {} }
    }
}

/// Listens until the connection ends.
async fn listen_once(pools: &Pools, wake: &Notify) -> Result<(), StoreError> {
    let (client, mut connection) = pools.direct().await?;
    let mut messages = stream::poll_fn(move |context| connection.poll_message(context)).boxed();
    // The connection only moves while its messages are read.
    let subscribe = client.batch_execute("LISTEN keyfall_work");
    tokio::pin!(subscribe);
    let mut subscribed = false;
    loop {
        tokio::select! {
            done = &mut subscribe, if !subscribed => {
                done?;
                subscribed = true;
            }
            message = messages.try_next() => match message? {
                Some(AsyncMessage::Notification(_)) => wake.notify_one(),
                Some(_) => {}
                None => return Ok(()),
            }
        }
    }
}
