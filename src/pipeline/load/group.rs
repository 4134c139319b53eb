//! Small objects: each is decoded into memory first, then all of them share one transaction.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use tokio::sync::mpsc;

use crate::domain::lease::Lease;
use crate::domain::record::Rejection;
use crate::failpoint::{self, Point};
use crate::store::copy::{CopyTarget, Load, LoadedCounts};
use crate::store::error::StoreError;

use super::super::decode::{self, DecodeError, Decoding, Piece, Target};
use super::super::fetch;
use super::super::progress::Progress;
use super::{
    Context, FRAMES_AHEAD, LoadError, Ready, Way, changed, cleared, counts, duplicates, fitting_targets, ready,
    refused, shapes, tables_changed,
};

/// Bodies of a group fetched at once.
const GROUP_FETCHES: usize = 8;

/// Encoded bytes one member of a group may take; whoever needs more is loaded alone, as a stream.
const GROUP_MEMBER_BYTES: usize = 4 << 20;

/// One member of a group, decoded into memory.
pub(super) struct Member {
    pub(super) index: usize,
    routes: Vec<Tuples>,
    rejections: Vec<Rejection>,
    decoded_bytes: u64,
    pub(super) counts: LoadedCounts,
}

/// What a member has for one route.
#[derive(Default)]
struct Tuples {
    target: Option<CopyTarget>,
    frames: Vec<Bytes>,
    rows: u64,
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
    let targets = fitting_targets(context, Way::Straight).await?;
    let preparations: Vec<_> =
        leases.iter().enumerate().map(|(index, lease)| prepare(context, index, lease, &targets, progress)).collect();
    let prepared: Vec<Result<Option<Member>, LoadError>> =
        stream::iter(preparations).buffered(GROUP_FETCHES).collect().await;

    let mut failed = Vec::new();
    let mut members: Vec<Member> = Vec::new();
    for (index, outcome) in prepared.into_iter().enumerate() {
        match outcome {
            Ok(member) => members.extend(member),
            // Loaded alone, where columns can be added in between.
            Err(LoadError::Decode(DecodeError::NewFields(_))) => {}
            Err(error) => failed.push((index, error)),
        }
    }
    if !failed.is_empty() && tables_changed(context, &targets, failed.iter().map(|(_, error)| error)).await {
        return Err(StoreError::ShapeChanged.into());
    }
    let columns: Vec<Option<CopyTarget>> =
        (0..targets.len()).map(|route| members.iter().find_map(|member| member.target(route).cloned())).collect();
    // A member without records for a route fits any columns of it.
    members.retain(|member| {
        columns
            .iter()
            .enumerate()
            .all(|(route, columns)| member.target(route).is_none_or(|own| Some(own) == columns.as_ref()))
    });
    failed.extend(duplicates::sort_out(context, leases, &mut members).await?);
    let indexes = members.iter().map(|member| member.index).collect();
    if members.is_empty() {
        return Ok(Grouped { ready: None, members: indexes, failed });
    }
    let ready = copy_members(context, leases, (&targets, &columns), members).await.inspect_err(|_| {
        context.feed.tables().into_iter().for_each(|table| context.catalog.forget(table));
    })?;
    Ok(Grouped { ready: Some(ready), members: indexes, failed })
}

/// Fetches and decodes one member; `None` if it is too large after all.
async fn prepare(
    context: &Context,
    index: usize,
    lease: &Lease,
    targets: &[Target],
    progress: &Progress,
) -> Result<Option<Member>, LoadError> {
    let body = fetch::open(Arc::clone(&context.store), &lease.object, context.patience, progress.clone()).await?;
    failpoint::reach(Point::FetchOpened).await?;
    let (sender, mut pieces) = mpsc::channel(FRAMES_AHEAD);
    let decoding = Decoding { feed: &context.feed, object: &lease.object, targets, rejects: context.feed.rejects };
    // Owns the receiver: giving up closes the channel, which ends the decoding.
    let collect = async move {
        let mut routes: Vec<Tuples> = targets.iter().map(|_| Tuples::default()).collect();
        let (mut rejections, mut taken) = (Vec::new(), 0);
        while let Some(piece) = pieces.recv().await {
            match piece {
                Piece::Target { route, target } => {
                    if let Some(tuples) = routes.get_mut(route) {
                        tuples.target = Some(target);
                    }
                }
                Piece::Frame { route, rows, bytes } => {
                    taken += bytes.len();
                    if let Some(tuples) = routes.get_mut(route) {
                        tuples.rows += rows;
                        tuples.frames.push(bytes);
                    }
                }
                Piece::Rejections(more) => {
                    taken += more.iter().map(|rejection| rejection.raw.len()).sum::<usize>();
                    rejections.extend(more);
                }
            }
            if taken > GROUP_MEMBER_BYTES {
                return None;
            }
        }
        Some((routes, rejections))
    };
    let (decoded, collected) = futures::future::join(decode::pump(decoding, &body, sender), collect).await;
    let Some((routes, rejections)) = collected else { return Ok(None) };
    let decoded = match decoded {
        Ok(decoded) => decoded,
        Err(error) => return Err(cleared(LoadError::Decode(error), &body).await),
    };
    let decoded_bytes = decoded.bytes;
    let counts = counts(lease, decoded, &body).await?;
    refused::check_ratio(context.feed.rejects, &counts)?;
    Ok(Some(Member { index, routes, rejections, decoded_bytes, counts }))
}

impl Member {
    fn target(&self, route: usize) -> Option<&CopyTarget> {
        self.routes.get(route).and_then(|tuples| tuples.target.as_ref())
    }
}

async fn copy_members(
    context: &Context,
    leases: &[Lease],
    (targets, columns): (&[Target], &[Option<CopyTarget>]),
    mut members: Vec<Member>,
) -> Result<Ready, LoadError> {
    let held: Vec<&Lease> = members.iter().filter_map(|member| leases.get(member.index)).collect();
    changed::refuse_together(context, &held)?;
    let shapes = shapes(targets);
    let mut load = Load::begin(&context.pools, &shapes, &held).await?;
    changed::make_room(context, &mut load, &shapes, &held).await?;
    for (route, (target, columns)) in targets.iter().zip(columns).enumerate() {
        let Some(columns) = columns else { continue };
        let mut copy = load.copy(&target.shape, columns).await?;
        let mut sent = 0;
        for tuples in members.iter_mut().filter_map(|member| member.routes.get_mut(route)) {
            for frame in std::mem::take(&mut tuples.frames) {
                copy.send(frame).await?;
            }
            sent += tuples.rows;
        }
        let copied = copy.finish().await?;
        if copied != sent {
            return Err(LoadError::Count { copied, sent });
        }
    }
    let decoded_bytes = members.iter().map(|member| member.decoded_bytes).sum();
    let mut counts = Vec::with_capacity(members.len());
    for member in members {
        if !member.rejections.is_empty() {
            load.reject(member.counts.id, &member.rejections).await?;
        }
        counts.push(member.counts);
    }
    ready(context, load, counts, decoded_bytes).await
}
