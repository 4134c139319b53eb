//! `duplicate_content`: what a load does about the same bytes under another key (ADR-0016).
//!
//! A body's digest is known at its end. Where duplicates are not wanted, the ledger is asked right before the fence, with
//! the content locked; where they are only reported, the fence itself looks.

use std::collections::HashMap;

use crate::config::feed::{DuplicateContent, Feed};
use crate::domain::lease::Lease;
use crate::domain::state::SkipReason;
use crate::domain::verdict::{Relation, Verdict};
use crate::store::copy::{Duplicate, Load, LoadedCounts};
use crate::store::ledger::Ledger;

use super::super::fetch::Body;
use super::group::Member;
use super::{Context, LoadError};

/// The same bytes are loaded under another key.
#[derive(Debug, thiserror::Error)]
#[error("the same bytes were loaded from {uri} (object {of})")]
pub struct DuplicateError {
    /// The object that is loaded.
    of: i64,
    /// Where it was found.
    uri: String,
    policy: DuplicateContent,
}

impl DuplicateError {
    fn new(duplicate: Duplicate, feed: &Feed) -> Self {
        Self { of: duplicate.of, uri: duplicate.uri, policy: feed.duplicate_content }
    }

    /// What follows for the object.
    pub const fn verdict(&self) -> Verdict {
        match self.policy {
            DuplicateContent::Skip => Verdict::Skip(SkipReason::Duplicate),
            DuplicateContent::Warn | DuplicateContent::Quarantine | DuplicateContent::Load => Verdict::Quarantine,
        }
    }

    /// What the two have to do with each other.
    pub const fn relation(&self) -> Relation {
        Relation::DuplicateOf(self.of)
    }

    /// Stable code.
    pub const fn code(&self) -> &'static str {
        "E-DUPLICATE"
    }

    /// One sentence for the operator.
    pub const fn advice(&self) -> &'static str {
        match self.policy {
            DuplicateContent::Skip => {
                "nothing to do: the feed skips duplicates; `keyfall retry --id` loads it all the same"
            }
            DuplicateContent::Warn | DuplicateContent::Quarantine | DuplicateContent::Load => {
                "`keyfall retry` loads it all the same, `keyfall skip` leaves it for good"
            }
        }
    }
}

/// Whether the feed keeps duplicates out.
const fn refuses(feed: &Feed) -> bool {
    match feed.duplicate_content {
        DuplicateContent::Skip | DuplicateContent::Quarantine => true,
        DuplicateContent::Warn | DuplicateContent::Load => false,
    }
}

/// Before the fence: refuses duplicates, where the feed does.
///
/// Two objects with the same bytes never both pass: the second waits for the first one's COMMIT and then finds it.
pub(super) async fn refuse(context: &Context, load: &Load, counts: &[LoadedCounts]) -> Result<(), LoadError> {
    if !refuses(&context.feed) {
        return Ok(());
    }
    let filled: Vec<LoadedCounts> = counts.iter().filter(|count| count.read > 0).cloned().collect();
    if filled.is_empty() {
        return Ok(());
    }
    load.await_contents(&context.feed.name, &filled).await?;
    match load.duplicates(&filled).await?.into_iter().next() {
        None => Ok(()),
        Some(duplicate) => Err(DuplicateError::new(duplicate, &context.feed).into()),
    }
}

/// A table with a unique key refuses the rows of a duplicate in the middle of COPY: then the object is not to blame for
/// its content. Its digest needs the rest of the body.
pub(super) async fn explain(context: &Context, lease: &Lease, error: LoadError, body: &Body) -> LoadError {
    let is_the_tables = matches!(error, LoadError::Store(_)) && error.verdict() == Verdict::Quarantine;
    if !is_the_tables || !refuses(&context.feed) {
        return error;
    }
    let Ok(Some(proof)) = body.read_to_end().await else { return error };
    let object = LoadedCounts::of_content(lease, proof.sha256);
    match Ledger::new(context.pools.clone()).duplicates(&[object]).await {
        Ok(found) => match found.into_iter().next() {
            Some(duplicate) => DuplicateError::new(duplicate, &context.feed).into(),
            None => error,
        },
        // The error that is there already says enough.
        Err(_) => error,
    }
}

/// Of a group's members, takes out what must not be loaded with the others.
///
/// Duplicates of what is loaded already are answered with their reason. Duplicates within the group are only left out:
/// the first one's COMMIT is still to come, and until then the others must not be given up for its sake; they are tried
/// alone afterwards. Where duplicates are loaded, each is given its twin, which the ledger cannot know yet.
pub(super) async fn sort_out(
    context: &Context,
    leases: &[Lease],
    members: &mut Vec<Member>,
) -> Result<Vec<(usize, LoadError)>, LoadError> {
    match context.feed.duplicate_content {
        DuplicateContent::Load => Ok(Vec::new()),
        DuplicateContent::Warn => {
            for (position, twin) in twins(leases, members) {
                if let Some(member) = members.get_mut(position) {
                    member.counts.twin = Some(twin);
                }
            }
            Ok(Vec::new())
        }
        DuplicateContent::Skip | DuplicateContent::Quarantine => {
            let counts: Vec<LoadedCounts> = members.iter().map(|member| member.counts.clone()).collect();
            let mut failed = Vec::new();
            for duplicate in Ledger::new(context.pools.clone()).duplicates(&counts).await? {
                let id = duplicate.id;
                let error = DuplicateError::new(duplicate, &context.feed);
                let index = members.iter().find(|member| member.counts.id == id).map(|member| member.index);
                failed.extend(index.map(|index| (index, LoadError::from(error))));
                members.retain(|member| member.counts.id != id);
            }
            let left_out: Vec<usize> = twins(leases, members).into_iter().map(|(position, _)| position).collect();
            let mut position = 0;
            members.retain(|_| {
                position += 1;
                !left_out.contains(&(position - 1))
            });
            Ok(failed)
        }
    }
}

/// Positions of members that have the bytes of an earlier one under another key, with that one's id.
fn twins(leases: &[Lease], members: &[Member]) -> Vec<(usize, i64)> {
    let key = |member: &Member| leases.get(member.index).map(|lease| (&lease.object.bucket, &lease.object.key));
    let mut first: HashMap<&[u8], &Member> = HashMap::new();
    let mut found = Vec::new();
    for (position, member) in members.iter().enumerate().filter(|(_, member)| member.counts.read > 0) {
        let original = *first.entry(&member.counts.sha256).or_insert(member);
        if key(original) != key(member) {
            found.push((position, original.counts.id));
        }
    }
    found
}
