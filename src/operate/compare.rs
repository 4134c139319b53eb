//! The bucket's listing and the ledger side by side, key by key, in one pass over each.
//!
//! Both come in byte order of the keys, so they are merged like two sorted files: a few pages of each are in memory,
//! however many millions of keys there are. A third side, the listing of the archive, joins where it is wanted. See
//! ADR-0017.
//!
//! There is no common snapshot: while the pages are read, objects arrive, are loaded and disposed of. What a pair
//! says is how its key looked at two or three different moments; whoever wants to call it a difference has to look
//! again.

mod merge;
mod pages;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;

use crate::config::feed::Feed;
use crate::domain::object::Listed;
use crate::domain::ports::{ObjectStore, S3Error};
use crate::store::error::StoreError;
use crate::store::ledger::{Entry, Ledger};

use super::sweep::Progress;
use super::window::Window;
use merge::{Broken, Merge};
use pages::Pages;

/// Why a comparison ended early.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// The bucket, or the archive.
    #[error("feed {feed}: bucket {bucket:?} cannot be read: {source}")]
    S3 {
        /// The feed.
        feed: String,
        /// The bucket.
        bucket: String,
        /// What the store said.
        source: S3Error,
    },
    /// The ledger.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A listing that jumps back cannot be merged: keys would seem missing that are not.
    #[error("feed {feed}: a listing is not in byte order: {after:?} came behind {before:?}")]
    Unordered {
        /// The feed.
        feed: String,
        /// The key before.
        before: String,
        /// The key that came behind it.
        after: String,
    },
    /// One side ended without saying that it was the end.
    #[error("feed {feed}: the comparison was broken off")]
    Broken {
        /// The feed.
        feed: String,
    },
}

impl CompareError {
    /// One sentence for the operator.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::S3 { source, .. } => source.advice(),
            Self::Store(error) => error.advice(),
            Self::Unordered { .. } => {
                "this store does not list keys in byte order, as S3 does: only sweeps and polls can work with that"
            }
            Self::Broken { .. } => "run it again; if it happens again, please report it",
        }
    }
}

/// One key, as each side has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The key.
    pub key: String,
    /// What lies in the bucket.
    pub listed: Option<Listed>,
    /// Every version that the ledger knows, in no order.
    pub known: Vec<Entry>,
    /// Size of the copy under this key in the archive.
    pub archived: Option<u64>,
}

/// Where archive copies under their plain names lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// Bucket.
    pub bucket: String,
    /// What is put before the whole key.
    pub prefix: String,
}

impl Archive {
    /// Where the copy of a key lies, unless something else lay there before or the name would be too long.
    pub fn uri(&self, key: &str) -> String {
        format!("s3://{}/{}{key}", self.bucket, self.prefix)
    }
}

/// What is compared.
pub struct Sides<'a> {
    /// The feed, whose prefix is listed.
    pub feed: &'a Feed,
    /// Where it lies.
    pub store: Arc<dyn ObjectStore>,
    /// The ledger, where there is one.
    pub ledger: Option<&'a Ledger>,
    /// The archive, where its listing is wanted.
    pub archive: Option<Archive>,
    /// Key times that are meant.
    pub window: Window,
}

/// Takes the pairs, in order of their keys.
#[async_trait]
pub trait Taker: Send {
    /// One key.
    async fn take(&mut self, pair: Pair) -> Result<(), CompareError>;
    /// There are no more.
    async fn end(&mut self) -> Result<(), CompareError>;
}

/// Hands every key that any side has, and that the window holds, to the taker; answers how many LIST calls it took.
pub async fn compare(sides: &Sides<'_>, progress: &Progress, taker: &mut impl Taker) -> Result<u64, CompareError> {
    let pages = Pages::new(sides);
    let (to_listing, listing) = merge::channel();
    let (to_ledger, ledger) = merge::channel();
    let (to_archive, archive) = merge::channel();
    let broken = |broken: Broken| match broken {
        Broken::Unordered { before, after } => {
            CompareError::Unordered { feed: sides.feed.name.to_string(), before, after }
        }
        Broken::Off => CompareError::Broken { feed: sides.feed.name.to_string() },
    };
    // All in one task: while the taker waits for an answer, the next page of each side is on its way.
    let merged = async {
        let mut merge = Merge::new(listing, ledger, archive);
        while let Some(pair) = merge.next().await.map_err(broken)? {
            progress.add(u64::from(pair.listed.is_some()));
            if sides.window.holds(sides.feed, &pair.key) {
                taker.take(pair).await?;
            }
        }
        taker.end().await
    };
    let (listing_calls, (), archive_calls, ()) =
        futures::try_join!(pages.listing(to_listing), pages.ledger(to_ledger), pages.archive(to_archive), merged)?;
    Ok(listing_calls + archive_calls)
}
