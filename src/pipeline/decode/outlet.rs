//! Where encoded rows and rejected records go: into the channel, frame by frame.
//!
//! One buffer per route, so that records of several tables may alternate without COPY starting over for each. What is
//! kept here is bounded: a frame per route, and few rejections.

use bytes::BytesMut;
use tokio::sync::mpsc;

use crate::config::feed::Rejects;
use crate::domain::record::{BadRecord, RAW_MOST, Rejection};
use crate::store::copy::CopyTarget;

use super::reader::RecordReader;
use super::{DecodeError, Decoded, Piece};

/// Frames of this size were fastest: at 64 KiB the backend waits for us too often, at 1 MiB we wait for it.
const FRAME: usize = 256 * 1024;

/// Rejections that are handed over together: few enough to be no memory, enough to be worth the end of a COPY.
const REJECTIONS: usize = 500;

/// Bytes of rejected records after which they are handed over.
const REJECTED_BYTES: usize = 1 << 20;

/// Output of one route.
struct Frame {
    /// Sent in front of the first frame, so that an object whose first frame is bad never reaches PostgreSQL.
    target: Option<CopyTarget>,
    buffer: BytesMut,
    rows: u64,
}

/// What is needed before the next record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// Nothing.
    Enough,
    /// This route's frame is full.
    Frame(usize),
    /// Enough rejections have come together.
    Rejections,
}

/// The decode stage's end of the channel.
pub struct Outlet {
    frames: Vec<Frame>,
    rejections: Vec<Rejection>,
    rejected_bytes: usize,
    pieces: mpsc::Sender<Piece>,
    budget: Rejects,
    /// What was counted so far.
    counts: Decoded,
}

impl Outlet {
    /// An outlet without routes.
    pub fn new(pieces: mpsc::Sender<Piece>, budget: Rejects) -> Self {
        let counts = Decoded::default();
        Self { frames: Vec::new(), rejections: Vec::new(), rejected_bytes: 0, pieces, budget, counts }
    }

    /// Opens a route for each target.
    pub fn begin(&mut self, targets: impl IntoIterator<Item = CopyTarget>) {
        let frame = |target| Frame { target: Some(target), buffer: BytesMut::new(), rows: 0 };
        self.frames = targets.into_iter().map(frame).collect();
    }

    /// Encodes a row into a route's frame; what a failed one left behind is taken back.
    #[inline]
    pub fn put(
        &mut self,
        route: usize,
        encode: impl FnOnce(&mut BytesMut) -> Result<(), BadRecord>,
    ) -> Result<Room, BadRecord> {
        let Some(frame) = self.frames.get_mut(route) else { return Ok(Room::Enough) };
        let start = frame.buffer.len();
        match encode(&mut frame.buffer) {
            Ok(()) => {
                frame.rows += 1;
                self.counts.loaded += 1;
                Ok(if frame.buffer.len() >= FRAME { Room::Frame(route) } else { Room::Enough })
            }
            Err(bad) => {
                frame.buffer.truncate(start);
                Err(bad)
            }
        }
    }

    /// Counts a record that goes nowhere, deliberately.
    pub const fn filter(&mut self) -> Room {
        self.counts.filtered += 1;
        Room::Enough
    }

    /// Keeps a record out; an error once the object has more bad records than it may.
    pub fn reject<R: RecordReader>(
        &mut self,
        reader: &R,
        mut bad: BadRecord,
        table: Option<String>,
    ) -> Result<Room, DecodeError> {
        reader.explain(&mut bad);
        self.counts.rejected += 1;
        let found = self.counts.rejected;
        if found > self.budget.max_rows {
            return Err(match self.budget.max_rows {
                0 => DecodeError::Record(bad),
                most => DecodeError::Budget { found, most, last: bad },
            });
        }
        let mut raw = Vec::new();
        let raw_bytes = reader.raw(RAW_MOST, &mut raw);
        let BadRecord { position, column, code, reason } = bad;
        self.rejected_bytes += raw.len();
        self.rejections.push(Rejection { position, table, column, code: code.to_owned(), reason, raw, raw_bytes });
        let is_enough = self.rejections.len() >= REJECTIONS || self.rejected_bytes >= REJECTED_BYTES;
        Ok(if is_enough { Room::Rejections } else { Room::Enough })
    }

    /// Makes the room that is needed; waits while nobody takes what is handed over.
    #[inline]
    pub async fn make(&mut self, room: Room) -> Result<(), DecodeError> {
        match room {
            Room::Enough => Ok(()),
            // Room for one record beyond the mark, so that filling the next frame rarely grows it.
            Room::Frame(route) => self.send(route, BytesMut::with_capacity(FRAME + FRAME / 16)).await,
            Room::Rejections => self.hand_over().await,
        }
    }

    /// Hands over all that is left.
    pub async fn finish(mut self, bytes: u64, header: Option<Vec<u8>>) -> Result<Decoded, DecodeError> {
        for route in 0..self.frames.len() {
            if self.frames.get(route).is_some_and(|frame| frame.rows > 0) {
                self.send(route, BytesMut::new()).await?;
            }
        }
        if !self.rejections.is_empty() {
            self.hand_over().await?;
        }
        let Decoded { loaded, rejected, filtered, .. } = self.counts;
        Ok(Decoded { read: loaded + rejected + filtered, bytes, header, ..self.counts })
    }

    async fn send(&mut self, route: usize, next: BytesMut) -> Result<(), DecodeError> {
        let Some(frame) = self.frames.get_mut(route) else { return Ok(()) };
        let bytes = std::mem::replace(&mut frame.buffer, next).freeze();
        let (target, rows) = (frame.target.take(), std::mem::take(&mut frame.rows));
        if let Some(target) = target {
            self.pass(Piece::Target { route, target }).await?;
        }
        self.pass(Piece::Frame { route, rows, bytes }).await
    }

    async fn hand_over(&mut self) -> Result<(), DecodeError> {
        self.rejected_bytes = 0;
        let rejections = std::mem::take(&mut self.rejections);
        self.pass(Piece::Rejections(rejections)).await
    }

    async fn pass(&self, piece: Piece) -> Result<(), DecodeError> {
        self.pieces.send(piece).await.map_err(|_closed| DecodeError::Abandoned)
    }
}
