//! Where the pages of each side come from, and where each side begins and ends.

use tokio::sync::mpsc::Sender;

use super::merge::{Copied, Page};
use super::{Archive, CompareError, Sides};
use crate::domain::object::Listed;
use crate::domain::ports::{ListPage, ListRequest, S3Error};
use crate::store::ledger::{Entry, Place};

/// Reads the sides, all from the same key on.
pub(super) struct Pages<'a> {
    sides: &'a Sides<'a>,
    /// Keys up to this one belong to no side: they are older than what is asked for.
    bound: Option<String>,
}

impl<'a> Pages<'a> {
    /// Begins where the window or the feed's `start_from` does, where the order of keys says something about time and
    /// they have no part before it; else every key is read, and the window is only a filter. As in a sweep.
    pub(super) fn new(sides: &'a Sides<'a>) -> Self {
        let from = sides.window.from.max(sides.feed.start_from);
        let pattern =
            sides.feed.pattern.as_ref().filter(|pattern| pattern.has_time() && pattern.series_levels().is_empty());
        let bound = pattern.zip(from).map(|(pattern, from)| pattern.lower_bound(pattern.series_root(), from));
        Self { sides, bound }
    }

    /// What lies in the bucket; answers the number of LIST calls.
    pub(super) async fn listing(&self, to: Sender<Page<Listed>>) -> Result<u64, CompareError> {
        let feed = self.sides.feed;
        let request =
            ListRequest { prefix: feed.prefix.clone(), start_after: self.bound.clone(), ..ListRequest::default() };
        self.list(&feed.bucket, request, to, Some).await
    }

    /// The copies under their plain names.
    pub(super) async fn archive(&self, to: Sender<Page<Copied>>) -> Result<u64, CompareError> {
        let Some(Archive { bucket, prefix }) = &self.sides.archive else {
            send(&to, Page { items: Vec::new(), last: true }).await;
            return Ok(0);
        };
        let request = ListRequest {
            prefix: format!("{prefix}{}", self.sides.feed.prefix),
            start_after: self.bound.as_ref().map(|bound| format!("{prefix}{bound}")),
            ..ListRequest::default()
        };
        // The prefix is the same for all, so the keys behind it are in order as well.
        let copied = |listed: Listed| {
            let key = listed.key.strip_prefix(prefix.as_str())?.to_owned();
            Some(Copied { key, size: listed.size })
        };
        self.list(bucket, request, to, copied).await
    }

    async fn list<T>(
        &self,
        bucket: &str,
        mut request: ListRequest,
        to: Sender<Page<T>>,
        read: impl Fn(Listed) -> Option<T>,
    ) -> Result<u64, CompareError> {
        let mut calls = 0;
        loop {
            let asked = self.sides.store.list(bucket, &request).await;
            let ListPage { objects, next, .. } = asked.map_err(|source| self.refused(bucket, source))?;
            calls += 1;
            let last = next.is_none();
            request.token = next;
            send(&to, Page { items: objects.into_iter().filter_map(&read).collect(), last }).await;
            if last {
                return Ok(calls);
            }
        }
    }

    /// What the ledger knows.
    pub(super) async fn ledger(&self, to: Sender<Page<Entry>>) -> Result<(), CompareError> {
        let feed = self.sides.feed;
        let Some(ledger) = self.sides.ledger else {
            send(&to, Page { items: Vec::new(), last: true }).await;
            return Ok(());
        };
        let bound = self.bound.as_deref().unwrap_or_default();
        let mut place = Place::before(feed.prefix.as_str().max(bound));
        loop {
            let mut items = ledger.walk(feed, &place).await?;
            let end = items.last().map(Place::behind);
            // Keys in byte order: behind the first one without the prefix there is none with it.
            let inside = items.iter().take_while(|entry| entry.key.starts_with(&feed.prefix)).count();
            let last = inside < items.len() || end.is_none();
            items.truncate(inside);
            // `StartAfter` leaves its own key out.
            items.retain(|entry| *entry.key > *bound || self.bound.is_none());
            send(&to, Page { items, last }).await;
            match end {
                Some(end) if !last => place = end,
                _ => return Ok(()),
            }
        }
    }

    fn refused(&self, bucket: &str, source: S3Error) -> CompareError {
        CompareError::S3 { feed: self.sides.feed.name.to_string(), bucket: bucket.to_owned(), source }
    }
}

/// A merge that has ended on an error takes no more pages; its error is the one that is told.
async fn send<T>(to: &Sender<Page<T>>, page: Page<T>) {
    if to.send(page).await.is_err() {
        tracing::trace!("nobody reads this side any more");
    }
}
