//! Pieces become COPYs: one after the other on the load's connection, a new one wherever the table changes or rejected
//! records have to be written down in between.

use tokio::sync::mpsc;

use crate::store::copy::{CopyTarget, Load};

use super::super::decode::{Piece, Target};
use super::super::progress::Progress;
use super::LoadError;

/// Sends all pieces of one object.
///
/// The channel also closes when the decoder failed: only its own word says that the object is complete.
pub(super) async fn all(
    load: &mut Load,
    targets: &[Target],
    object_id: i64,
    (first, rest): (Piece, &mut mpsc::Receiver<Piece>),
    progress: &Progress,
) -> Result<(), LoadError> {
    let mut columns: Vec<Option<CopyTarget>> = vec![None; targets.len()];
    let mut next = Some(first);
    while let Some(piece) = next {
        next = match piece {
            Piece::Target { route, target } => {
                if let Some(known) = columns.get_mut(route) {
                    *known = Some(target);
                }
                rest.recv().await
            }
            Piece::Rejections(rejections) => {
                load.reject(object_id, &rejections).await?;
                progress.step();
                rest.recv().await
            }
            Piece::Frame { route, .. } => {
                let known = targets.get(route).zip(columns.get(route).and_then(Option::as_ref));
                let Some((target, columns)) = known else { return Err(LoadError::Count { copied: 0, sent: 1 }) };
                one(load, target, columns, (piece, rest), progress).await?
            }
        };
    }
    Ok(())
}

/// One COPY: as long as frames of its route follow each other. Answers the piece that does not belong to it.
async fn one(
    load: &mut Load,
    target: &Target,
    columns: &CopyTarget,
    (first, rest): (Piece, &mut mpsc::Receiver<Piece>),
    progress: &Progress,
) -> Result<Option<Piece>, LoadError> {
    let mut copy = load.copy(&target.shape, columns).await?;
    let (mut sent, mut current) = (0, None);
    let mut next = Some(first);
    loop {
        match next {
            Some(Piece::Frame { route, rows, bytes }) if *current.get_or_insert(route) == route => {
                copy.send(bytes).await?;
                progress.step();
                sent += rows;
                next = rest.recv().await;
            }
            other => {
                let copied = copy.finish().await?;
                return if copied == sent { Ok(other) } else { Err(LoadError::Count { copied, sent }) };
            }
        }
    }
}
