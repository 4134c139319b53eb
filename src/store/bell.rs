//! `NOTIFY` and `LISTEN`: a discovery on one instance wakes the dispatchers of the others at once.
//!
//! The same bell tells the others that duties were given back. Only a shortcut: every dispatcher looks into the ledger
//! each second anyway and every keeper of duties each third of a lease, so a lost notification, or a pooler that cannot
//! carry `LISTEN`, costs latency and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use futures::stream;
use futures::{StreamExt, TryStreamExt};
use tokio::sync::Notify;
use tokio_postgres::AsyncMessage;
use tokio_util::sync::CancellationToken;

use crate::domain::backoff;
use crate::domain::feed::FeedName;

use super::error::StoreError;
use super::ledger::Ledger;
use super::pool::Pools;

/// Pauses between tries to listen again.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

impl Ledger {
    /// Notes that something new was found of a feed, and tells the other instances that there is work.
    pub async fn announce(&self, feed: &FeedName) -> Result<(), StoreError> {
        self.query(ANNOUNCE, &[&feed.as_str()]).await.map(drop)
    }

    /// Tells the other instances that duties are free.
    pub async fn ring_for_duties(&self) -> Result<(), StoreError> {
        self.query("SELECT pg_notify('keyfall_work', 'duties')", &[]).await.map(drop)
    }
}

/// Once a second is often enough for a pause that is a tenth of the time since: pages of a long listing write nothing.
const ANNOUNCE: &str = "-- bell::announce
    WITH noted AS (
        INSERT INTO keyfall.feeds AS f (feed, last_found_at) VALUES ($1, now())
        ON CONFLICT (feed) DO UPDATE SET last_found_at = now()
         WHERE f.last_found_at IS NULL OR f.last_found_at < now() - interval '1 s'
    )
    SELECT pg_notify('keyfall_work', '')";

/// What notifications ring.
#[derive(Debug, Clone, Default)]
pub struct Bells {
    /// There may be work.
    pub work: Arc<Notify>,
    /// There may be free duties.
    pub duties: Arc<Notify>,
    /// Process of the server that holds our connection; 0 while there is none.
    session: Arc<AtomicI32>,
}

impl Bells {
    /// Process of the server that holds our connection: it ends when ours does, however that happens.
    pub fn session(&self) -> Option<i32> {
        Some(self.session.load(Ordering::Relaxed)).filter(|pid| *pid != 0)
    }

    fn attach(&self, session: i32) {
        self.session.store(session, Ordering::Relaxed);
        // The others should know it soon: a heartbeat tells them.
        self.duties.notify_one();
    }
}

/// Rings for every notification until told to stop.
pub async fn listen(pools: &Pools, bells: &Bells, stop: &CancellationToken) {
    let mut failures = 0;
    while !stop.is_cancelled() {
        let ended = tokio::select! { () = stop.cancelled() => return, ended = listen_once(pools, bells) => ended };
        bells.session.store(0, Ordering::Relaxed);
        if let Err(error) = ended {
            tracing::debug!(error = %error, "not listening for other instances' discoveries");
        }
        failures += 1;
        let pause = backoff::delay(failures, RETRY.0, RETRY.1, fastrand::f64());
        tokio::select! { () = stop.cancelled() => return, () = tokio::time::sleep(pause) => {} }
    }
}

/// Listens until the connection ends.
async fn listen_once(pools: &Pools, bells: &Bells) -> Result<(), StoreError> {
    let (client, mut connection) = pools.direct().await?;
    let mut messages = stream::poll_fn(move |context| connection.poll_message(context)).boxed();
    // The connection only moves while its messages are read.
    let subscribe = async {
        client.batch_execute("LISTEN keyfall_work").await?;
        client.query_one("SELECT pg_backend_pid()", &[]).await?.try_get(0)
    };
    tokio::pin!(subscribe);
    let mut subscribed = false;
    loop {
        tokio::select! {
            done = &mut subscribe, if !subscribed => {
                bells.attach(done?);
                subscribed = true;
            }
            message = messages.try_next() => match message? {
                Some(AsyncMessage::Notification(told)) if told.payload() == "duties" => bells.duties.notify_one(),
                Some(AsyncMessage::Notification(_)) => bells.work.notify_one(),
                Some(_) => {}
                None => return Ok(()),
            }
        }
    }
}
