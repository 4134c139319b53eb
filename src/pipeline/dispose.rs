//! Stage: what happens to a loaded object. An outbox, worked off batch by batch, retried for ever.
//!
//! Acts on [`Loaded`] values only, which the ledger alone makes. Every step is conditional on the loaded version and
//! may be repeated: a copy that exists already is compared, an object that is gone already is done. A newer version
//! under the same key is never touched; it is discovered instead.

mod name;

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::config::feed::{Disposal, Feed};
use crate::domain::backoff;
use crate::domain::duty::Duty;
use crate::domain::object::ObjectRef;
use crate::domain::ports::{CopyRequest, DeleteRequest, Head, ObjectStore, S3Error};
use crate::failpoint::{self, Point};
use crate::store::error::StoreError;
use crate::store::ledger::{Disposed, Ledger, Loaded};
use crate::telemetry::metrics::{self, DisposalAction, DisposalOutcome, Stage};

use super::discover::Discoverer;
use super::duties::{Duties, Leave};

/// Objects per batch: what one `DeleteObjects` takes.
const BATCH: usize = 1000;
/// Server-side copies at once.
const COPIES: usize = 16;
/// Look at the outbox at least this often: delays run out, other instances die.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// Delays after failures.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(10));

/// The disposer of one feed.
pub struct Disposer {
    /// Object store.
    pub store: Arc<dyn ObjectStore>,
    /// Ledger.
    pub ledger: Ledger,
    /// Feed.
    pub feed: Arc<Feed>,
    /// Looks up keys whose version changed.
    pub discoverer: Arc<Discoverer>,
    /// What of this is this instance's.
    pub duties: Duties,
    /// After this long an unfinished batch is taken again, by whichever instance.
    pub taken_for: Duration,
    /// Rung after a load.
    pub loaded: Arc<Notify>,
}

/// How one object's disposal ended.
enum Outcome {
    Done(Disposed),
    /// A newer version took the key.
    Changed(Disposed),
    Failed(Loaded, S3Error),
}

impl Disposer {
    /// Works the outbox off until told to stop, while it is this instance's duty; finishes the batch in hand. A batch
    /// that ends after another instance took the duty over is harmless: batches are taken row by row.
    pub async fn run(&self, stop: &CancellationToken) {
        let mut outage = 0;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.duties.given(&self.feed.name, Duty::Dispose) => {}
            }
            let leave = Leave::while_held(&self.duties, &self.feed.name, Duty::Dispose, stop);
            match self.work_off(&leave).await {
                Ok(()) => outage = 0,
                Err(error) => {
                    outage += 1;
                    tracing::warn!(feed = %self.feed.name, error = %error, "the disposal outbox cannot be read");
                }
            }
            let pause = LOOK_INTERVAL.max(backoff::delay(outage, LOOK_INTERVAL, LOOK_INTERVAL * 12, 0.0));
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.loaded.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn work_off(&self, leave: &Leave<'_>) -> Result<(), StoreError> {
        if self.feed.disposal == Disposal::Keep {
            return self.ledger.keep_instead(&self.feed.name).await.map(drop);
        }
        while !leave.is_over() {
            let batch = self.ledger.take_disposals(&self.feed.name, BATCH, self.taken_for).await?;
            if batch.is_empty() {
                return Ok(());
            }
            self.batch(batch).await?;
        }
        Ok(())
    }

    /// Copies where the feed archives, then deletes, then writes down. Killed anywhere in between, the batch comes
    /// back and finds each step done or undone by itself.
    async fn batch(&self, batch: Vec<Loaded>) -> Result<(), StoreError> {
        let begun = std::time::Instant::now();
        failpoint::reach(Point::DisposeTaken).await?;
        let (copied, mut outcomes) = match &self.feed.disposal {
            Disposal::Archive { bucket, prefix } => self.archive(batch, bucket, prefix).await,
            Disposal::Delete | Disposal::Keep => (batch.into_iter().map(|loaded| (loaded, None)).collect(), Vec::new()),
        };
        failpoint::reach(Point::DisposeArchived).await?;
        outcomes.extend(self.delete(copied).await);
        failpoint::reach(Point::DisposeDeleted).await?;
        metrics::stage(Stage::Dispose, metrics::Outcome::Ok, begun.elapsed());
        self.write_down(outcomes).await
    }

    /// Copies every object to the archive; answers those ready to be deleted, and those that ended here.
    async fn archive(
        &self,
        batch: Vec<Loaded>,
        bucket: &str,
        prefix: &str,
    ) -> (Vec<(Loaded, Option<String>)>, Vec<Outcome>) {
        let copies: Vec<_> = stream::iter(batch)
            .map(|loaded| async move {
                let copied = self.copy(loaded.object(), bucket, prefix).await;
                failpoint::pass(Point::DisposeCopied).await;
                (loaded, copied)
            })
            .buffer_unordered(COPIES)
            .collect()
            .await;
        let (mut ready, mut ended) = (Vec::new(), Vec::new());
        for (loaded, copied) in copies {
            match copied {
                Ok(archived_to) => ready.push((loaded, Some(archived_to))),
                Err(S3Error::NotFound) => {
                    let note = Some("the object was gone before it could be archived");
                    ended.push(Outcome::Done(Disposed { loaded, archived_to: None, note }));
                }
                Err(S3Error::Changed) => ended.push(changed(loaded, None)),
                Err(error) => ended.push(Outcome::Failed(loaded, error)),
            }
        }
        (ready, ended)
    }

    /// One verified archive copy; answers where it lies.
    async fn copy(&self, object: &ObjectRef, bucket: &str, prefix: &str) -> Result<String, S3Error> {
        let plain = name::archive_key(prefix, &object.key, None);
        // Other content under the archive key is never overwritten: this version then gets its own name.
        let versioned = name::archive_key(prefix, &object.key, Some(&object.etag));
        let mut ended = S3Error::Exists;
        for to_key in [plain, versioned] {
            match self.copy_to(object, bucket, &to_key).await {
                Ok(true) => return Ok(format!("s3://{bucket}/{to_key}")),
                Ok(false) => {}
                // The source is gone, but its copy may lie under the second name.
                Err(S3Error::NotFound) => ended = S3Error::NotFound,
                Err(error) => return Err(error),
            }
        }
        Err(ended)
    }

    /// Whether the destination now holds exactly this version.
    async fn copy_to(&self, object: &ObjectRef, bucket: &str, to_key: &str) -> Result<bool, S3Error> {
        let request = CopyRequest {
            bucket: &object.bucket,
            key: &object.key,
            etag: &object.etag,
            version_id: object.version_id.as_deref(),
            size: object.size,
            to_bucket: bucket,
            to_key,
        };
        match self.store.copy(&request).await {
            Ok(Some(etag)) if etag == object.etag => Ok(true),
            // Multipart and encrypted copies get another tag: look at what was written.
            Ok(_) | Err(S3Error::Exists) => Ok(is_copy_of(object, &self.store.head(bucket, to_key).await?)),
            // Copied and deleted by somebody who died before writing it down?
            Err(S3Error::NotFound) => match self.store.head(bucket, to_key).await {
                Ok(head) if is_copy_of(object, &head) => Ok(true),
                _ => Err(S3Error::NotFound),
            },
            Err(error) => Err(error),
        }
    }

    async fn delete(&self, ready: Vec<(Loaded, Option<String>)>) -> Vec<Outcome> {
        let Some(bucket) = ready.first().map(|(loaded, _)| loaded.object().bucket.clone()) else {
            return Vec::new();
        };
        // A feed that moved to another bucket still has the old one's objects in its outbox.
        let (here, elsewhere): (Vec<_>, Vec<_>) =
            ready.into_iter().partition(|(loaded, _)| loaded.object().bucket == bucket);
        let mut outcomes = self.delete_in(&bucket, here).await;
        if !elsewhere.is_empty() {
            outcomes.extend(Box::pin(self.delete(elsewhere)).await);
        }
        outcomes
    }

    async fn delete_in(&self, bucket: &str, ready: Vec<(Loaded, Option<String>)>) -> Vec<Outcome> {
        let requests: Vec<DeleteRequest> = ready
            .iter()
            .map(|(loaded, _)| DeleteRequest { key: loaded.object().key.clone(), etag: loaded.object().etag.clone() })
            .collect();
        let answers = match self.store.delete(bucket, &requests).await {
            Ok(answers) => answers,
            Err(error) => {
                // One refusal for the whole batch: each object carries its words.
                let detail = error.to_string();
                return ready
                    .into_iter()
                    .map(|(loaded, _)| {
                        let error = S3Error::Transient { action: "s3:DeleteObject", detail: detail.clone() };
                        Outcome::Failed(loaded, error)
                    })
                    .collect();
            }
        };
        ready
            .into_iter()
            .zip(answers)
            .map(|((loaded, archived_to), answer)| match answer {
                Ok(()) | Err(S3Error::NotFound) => Outcome::Done(Disposed { loaded, archived_to, note: None }),
                Err(S3Error::Changed) => changed(loaded, archived_to),
                Err(error) => Outcome::Failed(loaded, error),
            })
            .collect()
    }

    async fn write_down(&self, outcomes: Vec<Outcome>) -> Result<(), StoreError> {
        let (mut done, mut failed, mut look_again) = (Vec::new(), Vec::new(), Vec::new());
        for outcome in outcomes {
            match outcome {
                Outcome::Done(disposed) => {
                    self.count(if disposed.note.is_some() { DisposalOutcome::Gone } else { DisposalOutcome::Done });
                    done.push(disposed);
                }
                Outcome::Changed(disposed) => {
                    self.count(DisposalOutcome::Changed);
                    look_again.push(disposed.loaded.object().key.clone());
                    done.push(disposed);
                }
                Outcome::Failed(loaded, error) => {
                    self.count(DisposalOutcome::Error);
                    let delay = backoff::delay(loaded.attempts(), RETRY.0, RETRY.1, fastrand::f64());
                    failed.push((loaded, error.to_string(), delay.as_secs_f64()));
                }
            }
        }
        if let Some((loaded, error, _)) = failed.first() {
            tracing::warn!(feed = %self.feed.name, object.key = %loaded.object().uri(), error = %error,
                failed = failed.len(), "disposals failed; they are tried again");
        }
        self.ledger.mark_disposed(&done).await?;
        failpoint::reach(Point::DisposeMarked).await?;
        self.ledger.postpone_disposals(&failed).await?;
        for key in look_again {
            self.discoverer.look_again(&key).await;
        }
        Ok(())
    }

    fn count(&self, outcome: DisposalOutcome) {
        let action = match self.feed.disposal {
            Disposal::Archive { .. } => DisposalAction::Archive,
            Disposal::Delete | Disposal::Keep => DisposalAction::Delete,
        };
        metrics::disposal(&self.feed.name, action, outcome);
    }
}

fn changed(loaded: Loaded, archived_to: Option<String>) -> Outcome {
    Outcome::Changed(Disposed { loaded, archived_to, note: Some("a newer version took the key; it was left alone") })
}

/// Whether what lies at the destination is this version: by the tag, or by the mark every copy of ours carries.
fn is_copy_of(object: &ObjectRef, head: &Head) -> bool {
    head.size == object.size && (head.etag == object.etag || head.source_etag.as_deref() == Some(&object.etag))
}
