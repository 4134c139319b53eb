//! Merging sorted sides page by page. Knows neither S3 nor SQL.

use std::mem;

use tokio::sync::mpsc::{self, Receiver, Sender};

use super::Pair;
use crate::domain::object::Listed;
use crate::store::ledger::Entry;

/// Pages that wait for the merge: one is enough to have the next one on its way.
const AHEAD: usize = 1;

/// One page of a side.
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    /// Whether the side ends with it. A side that ends without such a page was broken off.
    pub(super) last: bool,
}

/// What a side consists of.
pub(super) trait Keyed {
    fn key(&self) -> &str;
}

impl Keyed for Listed {
    fn key(&self) -> &str {
        &self.key
    }
}

impl Keyed for Entry {
    fn key(&self) -> &str {
        &self.key
    }
}

/// An archive copy, by the key that it is a copy of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Copied {
    pub(super) key: String,
    pub(super) size: u64,
}

impl Keyed for Copied {
    fn key(&self) -> &str {
        &self.key
    }
}

/// Why a side cannot be merged.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// It jumps back.
    Unordered { before: String, after: String },
    /// It ended early.
    Off,
}

/// The two ends of one side.
pub(super) fn channel<T>() -> (Sender<Page<T>>, Side<T>) {
    let (sender, pages) = mpsc::channel(AHEAD);
    let side = Side { pages, page: Vec::new().into_iter(), is_last: false, head: None, before: String::new() };
    (sender, side)
}

/// One sorted side.
pub(super) struct Side<T> {
    pages: Receiver<Page<T>>,
    page: std::vec::IntoIter<T>,
    is_last: bool,
    head: Option<T>,
    before: String,
}

impl<T: Keyed> Side<T> {
    /// Makes sure that the head is there, unless the side has ended.
    async fn fill(&mut self) -> Result<(), Broken> {
        while self.head.is_none() {
            if let Some(item) = self.page.next() {
                if *item.key() < *self.before {
                    let before = mem::take(&mut self.before);
                    return Err(Broken::Unordered { before, after: item.key().to_owned() });
                }
                item.key().clone_into(&mut self.before);
                self.head = Some(item);
            } else if self.is_last {
                return Ok(());
            } else {
                let page = self.pages.recv().await.ok_or(Broken::Off)?;
                self.is_last = page.last;
                self.page = page.items.into_iter();
            }
        }
        Ok(())
    }

    fn head(&self) -> Option<&str> {
        self.head.as_ref().map(Keyed::key)
    }

    /// Takes everything with this key.
    async fn take(&mut self, key: &str, mut taken: impl FnMut(T)) -> Result<(), Broken> {
        while self.head().is_some_and(|head| head == key) {
            if let Some(item) = self.head.take() {
                taken(item);
            }
            self.fill().await?;
        }
        Ok(())
    }
}

/// Three sides, key by key.
pub(super) struct Merge {
    listing: Side<Listed>,
    ledger: Side<Entry>,
    archive: Side<Copied>,
}

impl Merge {
    pub(super) fn new(listing: Side<Listed>, ledger: Side<Entry>, archive: Side<Copied>) -> Self {
        Self { listing, ledger, archive }
    }

    /// The next key that the bucket or the ledger has; what lies in the archive alone is not ours to judge.
    pub(super) async fn next(&mut self) -> Result<Option<Pair>, Broken> {
        loop {
            self.listing.fill().await?;
            self.ledger.fill().await?;
            self.archive.fill().await?;
            let Some(key) = [self.listing.head(), self.ledger.head()].into_iter().flatten().min().map(str::to_owned)
            else {
                // The archive's rest is read to its end: its pages are on the way, and its own order counts too.
                if self.archive.head.take().is_none() {
                    return Ok(None);
                }
                continue;
            };
            if self.archive.head().is_some_and(|head| *head < *key) {
                self.archive.head = None;
                continue;
            }
            let mut pair = Pair { key: key.clone(), listed: None, known: Vec::new(), archived: None };
            // Some stores show a key on two pages; what was read later counts.
            self.listing.take(&key, |listed| pair.listed = Some(listed)).await?;
            self.ledger.take(&key, |entry| pair.known.push(entry)).await?;
            self.archive.take(&key, |copied| pair.archived = Some(copied.size)).await?;
            return Ok(Some(pair));
        }
    }
}
