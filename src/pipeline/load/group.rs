//! Small objects: each is decoded into memory first, then all of them share one transaction.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use tokio::sync::mpsc;

use crate::domain::lease::Lease;
use crate::failpoint::{self, Point};
use crate::store::catalog::Shape;
use crate::store::copy::{CopyTarget, Load, LoadedCounts};
use crate::store::error::StoreError;

use super::super::decode::{self, Decoded, Decoding, Piece};
use super::super::fetch;
use super::super::progress::Progress;
use super::{
    Context, FRAMES_AHEAD, LoadError, Ready, changed, cleared, counts, duplicates, fitting_shape, ready, table_changed,
};

/// Bodies of a group fetched at once.
const GROUP_FETCHES: usize = 8;

/// Encoded bytes one member of a group may take; whoever needs more is loaded alone, as a stream.
const GROUP_MEMBER_BYTES: usize = 4 << 20;

/// One member of a group, decoded into memory.
pub(super) struct Member {
    pub(super) index: usize,
    target: Option<CopyTarget>,
    frames: Vec<Bytes>,
    decoded: Decoded,
    pub(super) counts: LoadedCounts,
}

/// A group that could be prepared together.
pub struct Grouped {
    /// Transaction with the rows of all members; none where nobody could be prepared.
    pub ready: Option<Ready>,
    /// Indexes of the members in it.
    pub members: Vec<usize>,
    /// Members that failed by themselves, before any transaction.
    pub failed: Vec<(usize, LoadError)>,
}

/// Loads several small objects in one transaction.
///
/// A member that cannot be decoded fails alone; members with another set of columns, too many bytes, or the bytes of
/// another one are in neither list and have to be loaded alone. An error means that nothing was loaded and each member has to be
/// tried by itself.
pub async fn group(context: &Context, leases: &[Lease], progress: &Progress) -> Result<Grouped, LoadError> {
    let shape = fitting_shape(context).await?;
    let preparations: Vec<_> =
        leases.iter().enumerate().map(|(index, lease)| prepare(context, index, lease, &shape, progress)).collect();
    let prepared: Vec<Result<Option<Member>, LoadError>> =
        stream::iter(preparations).buffered(GROUP_FETCHES).collect().await;

    let mut failed = Vec::new();
    let mut members: Vec<Member> = Vec::new();
    for (index, outcome) in prepared.into_iter().enumerate() {
        match outcome {
            Ok(member) => members.extend(member),
            Err(error) => failed.push((index, error)),
        }
    }
    if !failed.is_empty() && table_changed(context, &shape, failed.iter().map(|(_, error)| error)).await {
        return Err(StoreError::ShapeChanged.into());
    }
    let target = members.iter().find_map(|member| member.target.clone());
    // An object without records fits any target.
    members.retain(|member| member.target.is_none() || member.target == target);
    failed.extend(duplicates::sort_out(context, leases, &mut members).await?);
    let indexes = members.iter().map(|member| member.index).collect();
    if members.is_empty() {
        return Ok(Grouped { ready: None, members: indexes, failed });
    }
    let ready = copy_members(context, leases, &shape, target, members).await.inspect_err(|_| {
        context.catalog.forget(&context.feed.table);
    })?;
    Ok(Grouped { ready: Some(ready), members: indexes, failed })
}

/// Fetches and decodes one member; `None` if it is too large after all.
async fn prepare(
    context: &Context,
    index: usize,
    lease: &Lease,
    shape: &Shape,
    progress: &Progress,
) -> Result<Option<Member>, LoadError> {
    let body = fetch::open(Arc::clone(&context.store), &lease.object, context.patience, progress.clone()).await?;
    failpoint::reach(Point::FetchOpened).await?;
    let (sender, mut pieces) = mpsc::channel(FRAMES_AHEAD);
    let decoding = Decoding { feed: &context.feed, shape, object_id: lease.object.id, size: lease.object.size };
    // Owns the receiver: giving up closes the channel, which ends the decoding.
    let collect = async move {
        let (mut target, mut frames, mut bytes) = (None, Vec::new(), 0);
        while let Some(piece) = pieces.recv().await {
            match piece {
                Piece::Target(found) => target = Some(found),
                Piece::Frame(frame) => {
                    bytes += frame.len();
                    frames.push(frame);
                }
            }
            if bytes > GROUP_MEMBER_BYTES {
                return None;
            }
        }
        Some((target, frames))
    };
    let (decoded, collected) = futures::future::join(decode::pump(decoding, &body, sender), collect).await;
    let Some((target, frames)) = collected else { return Ok(None) };
    let decoded = match decoded {
        Ok(decoded) => decoded,
        Err(error) => return Err(cleared(LoadError::Decode(error), &body).await),
    };
    let counts = counts(lease, decoded, &body).await?;
    Ok(Some(Member { index, target, frames, decoded, counts }))
}

async fn copy_members(
    context: &Context,
    leases: &[Lease],
    shape: &Shape,
    target: Option<CopyTarget>,
    members: Vec<Member>,
) -> Result<Ready, LoadError> {
    let held: Vec<&Lease> = members.iter().filter_map(|member| leases.get(member.index)).collect();
    changed::refuse_together(context, &held)?;
    let mut load = Load::begin(&context.pools, shape, &held).await?;
    changed::make_room(context, &mut load, shape, &held).await?;
    let sent: u64 = members.iter().map(|member| member.decoded.rows).sum();
    let decoded_bytes = members.iter().map(|member| member.decoded.bytes).sum();
    let mut counts = Vec::with_capacity(members.len());
    if let Some(target) = target {
        let mut rows = load.copy(shape, &target).await?;
        for member in members {
            for frame in member.frames {
                rows.send(frame).await?;
            }
            counts.push(member.counts);
        }
        let copied = rows.finish().await?;
        if copied != sent {
            return Err(LoadError::Count { copied, sent });
        }
    } else {
        counts.extend(members.into_iter().map(|member| member.counts));
    }
    ready(context, load, counts, decoded_bytes).await
}
