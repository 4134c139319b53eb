//! Rejections of records that the server refused, within what the feed tolerates.

use std::collections::BTreeMap;

use crate::config::feed::Rejects;
use crate::domain::lease::Lease;
use crate::domain::record::Rejection;
use crate::failpoint::{self, Point};
use crate::store::copy::{Load, LoadedCounts, Stage};
use crate::store::error::StoreError;
use crate::store::stage::Trace;

use super::super::refused::{self, RefusedError};
use super::super::{Context, LoadError};

/// Rejections that are written together, and bytes of theirs: few enough to be no memory.
const TOGETHER: usize = 500;
const BYTES_TOGETHER: usize = 1 << 20;

/// Rejections of one object.
pub(super) struct Rejecting {
    object_id: i64,
    budget: Rejects,
    /// Rows without a parent wait for it: they are no rejections yet, and the object is none for now.
    waits: bool,
    /// Records that the decoder has rejected.
    before: u64,
    /// Those of the server, written or not.
    found: u64,
    by_route: BTreeMap<usize, u64>,
    unwritten: Vec<Rejection>,
    bytes: usize,
}

impl Rejecting {
    pub(super) fn new(context: &Context, lease: &Lease, counts: &LoadedCounts) -> Self {
        Self {
            object_id: lease.object.id,
            budget: context.feed.rejects,
            waits: refused::waits(context, lease),
            before: counts.rejected.unsigned_abs(),
            found: 0,
            by_route: BTreeMap::new(),
            unwritten: Vec::new(),
            bytes: 0,
        }
    }

    /// Refused records of a route.
    pub(super) fn of_route(&self, route: usize) -> u64 {
        self.by_route.get(&route).copied().unwrap_or_default()
    }

    /// A record whose parent may come further down; an error where it would be one too many all the same.
    pub(super) fn put_aside(&self, others: usize, error: StoreError) -> Result<(), LoadError> {
        let found = self.before + self.found + others as u64 + 1;
        if found <= self.budget.max_rows {
            return Ok(());
        }
        Err(match (self.waits, self.budget.max_rows) {
            (true, _) => RefusedError::Waiting(error),
            (false, 0) => RefusedError::Orphan(error),
            (false, most) => RefusedError::Budget { found, most, last: error.to_string() },
        }
        .into())
    }

    /// Rejects a record that the server refused.
    pub(super) async fn refuse(
        &mut self,
        load: &Load,
        (stage, trace): (&Stage<'_>, Trace),
        error: StoreError,
    ) -> Result<(), LoadError> {
        if error.is_orphan() && self.waits {
            return Err(RefusedError::Waiting(error).into());
        }
        failpoint::reach(Point::IsolateRefused).await?;
        let code = error.code().into_owned();
        let column = match &error {
            StoreError::Server { column, .. } => column.clone(),
            _ => None,
        };
        *self.by_route.entry(stage.route).or_default() += 1;
        self.add(load, rejection(stage, trace, (code, column, error.to_string()))).await
    }

    /// Rejects a record; an error once the object has more bad records than it may.
    pub(super) async fn add(&mut self, load: &Load, rejection: Rejection) -> Result<(), LoadError> {
        self.found += 1;
        let (found, most) = (self.before + self.found, self.budget.max_rows);
        if found > most {
            let told = refused::told(&rejection);
            return Err(match most {
                0 => RefusedError::Record { code: rejection.code, told },
                most => RefusedError::Budget { found, most, last: told },
            }
            .into());
        }
        self.bytes += rejection.raw.len();
        self.unwritten.push(rejection);
        if self.unwritten.len() >= TOGETHER || self.bytes >= BYTES_TOGETHER {
            self.write(load).await?;
        }
        Ok(())
    }

    async fn write(&mut self, load: &Load) -> Result<(), LoadError> {
        self.bytes = 0;
        let rejections = std::mem::take(&mut self.unwritten);
        Ok(load.reject(self.object_id, &rejections).await?)
    }

    /// Writes what is left; answers how many records the server refused.
    pub(super) async fn finish(mut self, load: &Load) -> Result<u64, LoadError> {
        if !self.unwritten.is_empty() {
            self.write(load).await?;
        }
        Ok(self.found)
    }
}

/// A record without a value in a column of the key: no row could be matched by it.
pub(super) fn without_key(stage: &Stage<'_>, trace: Trace) -> Rejection {
    let reason = "there is no value (NULL) in a column of the key".to_owned();
    rejection(stage, trace, (refused::KEY.to_owned(), None, reason))
}

fn rejection(
    stage: &Stage<'_>,
    Trace { position, raw, raw_bytes }: Trace,
    (code, column, reason): (String, Option<String>, String),
) -> Rejection {
    Rejection { position, table: Some(stage.shape.table.to_string()), column, code, reason, raw, raw_bytes }
}
