//! Pieces become COPYs: one after the other on the load's connection, a new one wherever the table changes or rejected
//! records have to be written down in between.

use tokio::sync::mpsc;

use crate::config::feed::Feed;
use crate::store::copy::{CopyTarget, Load, Stage};
use crate::store::stage::Staging;

use super::super::decode::{Piece, Target};
use super::super::progress::Progress;
use super::LoadError;

/// What was sent for one route.
#[derive(Debug, Clone, Default)]
pub(super) struct Sent {
    /// Columns and encoding; none where nothing was sent.
    columns: Option<CopyTarget>,
    /// Tuples.
    pub(super) rows: u64,
}

/// The route's stage, where its rows were sent to one.
pub(super) fn stage<'a>(feed: &'a Feed, targets: &'a [Target], sent: &'a [Sent], route: usize) -> Option<Stage<'a>> {
    let (target, columns) = (targets.get(route)?, sent.get(route)?.columns.as_ref()?);
    let mode = &feed.routes.get(route)?.mode;
    (target.staging != Staging::None).then_some(Stage { route, shape: &target.shape, target: columns, mode })
}

/// Sends all pieces of one object; answers what was sent, route by route.
///
/// The channel also closes when the decoder failed: only its own word says that the object is complete.
pub(super) async fn all(
    load: &mut Load,
    (feed, targets): (&Feed, &[Target]),
    object_id: i64,
    (first, rest): (Piece, &mut mpsc::Receiver<Piece>),
    progress: &Progress,
) -> Result<Vec<Sent>, LoadError> {
    let mut sent = vec![Sent::default(); targets.len()];
    let mut next = Some(first);
    while let Some(piece) = next {
        next = match piece {
            Piece::Target { route, target } => {
                if let Some(known) = sent.get_mut(route) {
                    known.columns = Some(target);
                }
                if let Some(stage) = stage(feed, targets, &sent, route) {
                    load.create_stage(&stage).await?;
                }
                rest.recv().await
            }
            Piece::Rejections(rejections) => {
                load.reject(object_id, &rejections).await?;
                progress.step();
                rest.recv().await
            }
            Piece::Frame { route, .. } => {
                let (rows, following) = one(load, (feed, targets), &sent, (piece, rest), progress).await?;
                if let Some(known) = sent.get_mut(route) {
                    known.rows += rows;
                }
                following
            }
        };
    }
    Ok(sent)
}

/// One COPY: as long as frames of its route follow each other. Answers its rows and the piece that does not belong to it.
async fn one(
    load: &mut Load,
    (feed, targets): (&Feed, &[Target]),
    known: &[Sent],
    (first, rest): (Piece, &mut mpsc::Receiver<Piece>),
    progress: &Progress,
) -> Result<(u64, Option<Piece>), LoadError> {
    let Piece::Frame { route: own, .. } = first else { return Ok((0, Some(first))) };
    let unknown = LoadError::Count { copied: 0, sent: 1 };
    let mut copy = match stage(feed, targets, known, own) {
        Some(stage) => load.copy_staged(&stage).await?,
        None => match targets.get(own).zip(known.get(own).and_then(|sent| sent.columns.as_ref())) {
            Some((target, columns)) => load.copy(&target.shape, columns).await?,
            None => return Err(unknown),
        },
    };
    let mut sent = 0;
    let mut next = Some(first);
    loop {
        match next {
            Some(Piece::Frame { route, rows, bytes }) if route == own => {
                copy.send(bytes).await?;
                progress.step();
                sent += rows;
                next = rest.recv().await;
            }
            other => {
                let copied = copy.finish().await?;
                return if copied == sent { Ok((sent, other)) } else { Err(LoadError::Count { copied, sent }) };
            }
        }
    }
}
