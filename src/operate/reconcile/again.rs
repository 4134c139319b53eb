//! Looking again before anything is called a difference.
//!
//! While listing and ledger are read, a running daemon discovers, loads and disposes, so a pair may show a key at two
//! different moments: listed before it was deleted, and read from the ledger afterwards. Therefore everything that is
//! not settled is asked again in a fixed order: ledger, then bucket and archive, then the ledger once more. What
//! depends on the moment is believed only if both looks at the ledger say the same of the same look at the bucket:
//!
//! * *still there*, *set aside*, *archive …*: the ledger called the disposal (or the object) done before the bucket
//!   was asked, so the bucket's answer cannot be older than the ledger's.
//! * *gone*: the ledger still called it open after the bucket had answered that it is not there; a load that deleted
//!   it in between would have left another state behind.
//! * *changed*: the version was there, and the ledger, asked afterwards, did not know it.
//!
//! The other kinds are the ledger's own words and as true as its last answer.

use std::collections::HashMap;
use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;

use super::finding::Finding;
use super::judge::{Copy, Found, Judged, Rules, judge};
use crate::domain::object::{Listed, version_of};
use crate::domain::ports::{Head, ObjectStore, S3Error};
use crate::operate::compare::{CompareError, Pair};
use crate::store::ledger::{Entry, Ledger};

/// HEAD requests at once: as many as disposal copies at once.
const HEADS: usize = 16;

/// Looks again.
pub(super) struct Again<'a> {
    pub(super) rules: Rules<'a>,
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) ledger: &'a Ledger,
}

/// What has to be asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Doubt {
    /// What lies under the key, and in the archive.
    Key,
    /// Its archive copies alone.
    Copies,
}

impl Doubt {
    fn of(judged: &Judged) -> Option<Self> {
        let depends = |found: &Found| found.finding.depends_on_the_moment();
        let of_archive = |found: &Found| matches!(found.finding, Finding::ArchiveMissing | Finding::ArchiveDiffers);
        if judged.found.iter().any(|found| depends(found) && !of_archive(found)) {
            return Some(Self::Key);
        }
        (!judged.unseen.is_empty() || judged.found.iter().any(of_archive)).then_some(Self::Copies)
    }
}

impl Again<'_> {
    /// Judges pairs by what bucket and ledger say now; answers each with what is true of it.
    pub(super) async fn look(&self, pairs: Vec<Pair>) -> Result<Vec<(Pair, Judged)>, CompareError> {
        let before = self.refreshed(pairs).await?;
        let mut settled = Vec::with_capacity(before.len());
        let mut places = Vec::new();
        let mut doubtful = Vec::new();
        for pair in before {
            let judged = judge(&self.rules, &pair, &[]);
            if let Some(doubt) = Doubt::of(&judged) {
                places.push(settled.len());
                settled.push(None);
                doubtful.push((pair, doubt));
            } else {
                settled.push(Some((pair, judged)));
            }
        }
        for (place, answer) in places.into_iter().zip(self.looked_at(doubtful).await?) {
            if let Some(slot) = settled.get_mut(place) {
                *slot = Some(answer);
            }
        }
        Ok(settled.into_iter().flatten().collect())
    }

    /// The pairs with what the ledger says of their keys now.
    async fn refreshed(&self, pairs: Vec<Pair>) -> Result<Vec<Pair>, CompareError> {
        let keys: Vec<&str> = pairs.iter().map(|pair| pair.key.as_str()).collect();
        let mut known: HashMap<String, Vec<Entry>> = HashMap::new();
        for entry in self.ledger.known(self.rules.feed, &keys).await? {
            known.entry(entry.key.clone()).or_default().push(entry);
        }
        let renew = |pair: Pair| Pair { known: known.remove(&pair.key).unwrap_or_default(), ..pair };
        Ok(pairs.into_iter().map(renew).collect())
    }

    /// Bucket, archive and then the ledger once more.
    async fn looked_at(&self, before: Vec<(Pair, Doubt)>) -> Result<Vec<(Pair, Judged)>, CompareError> {
        let looked: Vec<(Pair, Vec<(i64, Copy)>)> =
            stream::iter(before).map(|(pair, doubt)| self.heads(pair, doubt)).buffered(HEADS).try_collect().await?;
        let (pairs, looks): (Vec<Pair>, Vec<_>) = looked.into_iter().unzip();
        let after = self.refreshed(pairs.clone()).await?;
        let judged = pairs.iter().zip(after).zip(looks).map(|((before, after), copies)| {
            let first = judge(&self.rules, before, &copies);
            let mut second = judge(&self.rules, &after, &copies);
            // A copy that was made since was not looked at; it was made by the very disposal that says so.
            second.unseen.clear();
            second.found.retain(|found| !found.finding.depends_on_the_moment() || first.has(found.finding, found.id));
            (after, second)
        });
        Ok(judged.collect())
    }

    /// What lies under the key, where that is in doubt, and under the names of its archive copies, now.
    async fn heads(&self, pair: Pair, doubt: Doubt) -> Result<(Pair, Vec<(i64, Copy)>), CompareError> {
        let listed = if doubt == Doubt::Key {
            let head = self.head(&self.rules.feed.bucket, &pair.key).await?;
            head.map(|head| listed(&pair, &head))
        } else {
            pair.listed.clone()
        };
        let mut copies = Vec::new();
        for entry in &pair.known {
            let Some((bucket, key)) = entry.archived_to.as_deref().and_then(place) else { continue };
            let copy = self.head(bucket, key).await?.map_or(Copy::Absent, |head| compared(entry, &head));
            copies.push((entry.id, copy));
        }
        Ok((Pair { listed, ..pair }, copies))
    }

    async fn head(&self, bucket: &str, key: &str) -> Result<Option<Head>, CompareError> {
        match self.store.head(bucket, key).await {
            Ok(head) => Ok(Some(head)),
            Err(S3Error::NotFound) => Ok(None),
            Err(source) => {
                let feed = self.rules.feed.name.to_string();
                Err(CompareError::S3 { feed, bucket: bucket.to_owned(), source })
            }
        }
    }
}

/// The answer as a listing would give it. It tells no time: that of the same version is known, and one that nobody has
/// seen before has only just come.
fn listed(pair: &Pair, head: &Head) -> Listed {
    let version = version_of(&head.etag, head.size);
    if let Some(listed) = pair.listed.as_ref().filter(|listed| listed.version() == version) {
        return listed.clone();
    }
    let known = pair.known.iter().find(|entry| entry.version == version).map(|entry| entry.visible_at);
    Listed {
        key: pair.key.clone(),
        etag: head.etag.clone(),
        size: head.size,
        last_modified: known.unwrap_or_else(Timestamp::now),
        storage_class: None,
    }
}

/// By the tag, or by the mark that every copy of ours carries; see `pipeline::dispose`.
fn compared(entry: &Entry, head: &Head) -> Copy {
    let is_copy = head.etag == entry.etag || head.source_etag.as_deref() == Some(&entry.etag);
    if head.size == entry.size && is_copy { Copy::Same } else { Copy::Other }
}

/// Bucket and key of `s3://bucket/key`.
fn place(uri: &str) -> Option<(&str, &str)> {
    uri.strip_prefix("s3://")?.split_once('/')
}
