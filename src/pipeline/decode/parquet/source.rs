//! The bytes of a file: its end first, then everything in order.
//!
//! Guarantees: what was read first from the end is compared with what the stream ends with, so that a footer is
//! proven like every other byte; nothing is skipped unread, so that the body's own verification sees all of it.

use std::io;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::pipeline::fetch::{Body, FetchError};

use super::super::{DecodeError, Failure};

/// Read at once where bytes are passed over.
const STEP: usize = 64 * 1024;

/// Where the end of a file is to be had before its beginning.
pub enum Ending {
    /// By ranged requests.
    Ranged(Body),
    /// All of it is here.
    Whole(Bytes),
}

impl Ending {
    /// The last bytes: as many as asked for, or all there are.
    async fn read(&self, most: u64) -> Result<Bytes, DecodeError> {
        match self {
            Self::Ranged(body) => Ok(body.tail(most).await?),
            Self::Whole(bytes) => {
                let most = usize::try_from(most).unwrap_or(usize::MAX);
                Ok(bytes.slice(bytes.len().saturating_sub(most)..))
            }
        }
    }
}

/// A file being read.
pub(super) struct Source<R> {
    reader: R,
    ending: Ending,
    size: u64,
    at: u64,
    /// What was read first from the end.
    tail: Bytes,
}

impl<R: AsyncRead + Send + Unpin> Source<R> {
    /// A file of `size` bytes.
    pub(super) fn new(reader: R, ending: Ending, size: u64) -> Self {
        Self { reader, ending, size, at: 0, tail: Bytes::new() }
    }

    /// Its size.
    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    /// The last bytes: as many as asked for, or all there are.
    pub(super) async fn tail(&mut self, most: u64) -> Result<Bytes, DecodeError> {
        if (self.tail.len() as u64) < most.min(self.size) {
            self.tail = self.ending.read(most).await?;
        }
        Ok(self.tail.clone())
    }

    /// Up to `most` of the next bytes; fewer only at the end.
    pub(super) async fn take(&mut self, most: u64) -> Result<Bytes, Failure> {
        let length = usize::try_from(most.min(self.size.saturating_sub(self.at))).unwrap_or(usize::MAX);
        let mut bytes = Vec::with_capacity(length);
        (&mut self.reader).take(most).read_to_end(&mut bytes).await.map_err(Failure::Io)?;
        self.seen(&bytes)?;
        Ok(bytes.into())
    }

    /// Passes over everything before an offset that is not behind already.
    pub(super) async fn go_to(&mut self, offset: u64) -> Result<(), Failure> {
        let mut buffer = vec![0; STEP];
        while self.at < offset {
            let most = usize::try_from(offset - self.at).unwrap_or(STEP).min(STEP);
            let part = buffer.get_mut(..most).unwrap_or_default();
            let read = self.reader.read(part).await.map_err(Failure::Io)?;
            if read == 0 {
                return Err(Failure::Io(io::ErrorKind::UnexpectedEof.into()));
            }
            self.seen(buffer.get(..read).unwrap_or_default())?;
        }
        Ok(())
    }

    /// Reads the rest: only at its end a body says whether its bytes were right.
    pub(super) async fn finish(&mut self) -> Result<(), Failure> {
        let mut buffer = vec![0; STEP];
        loop {
            let read = self.reader.read(&mut buffer).await.map_err(Failure::Io)?;
            if read == 0 {
                return Ok(());
            }
            self.seen(buffer.get(..read).unwrap_or_default())?;
        }
    }

    /// Compares what arrives with what was read first from the end.
    fn seen(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        let begin = self.size - self.tail.len() as u64;
        let (from, to) = (self.at.max(begin), self.at + bytes.len() as u64);
        let part = |of: &[u8], at: u64| -> Option<Vec<u8>> {
            let range = usize::try_from(from - at).ok()?..usize::try_from(to - at).ok()?;
            of.get(range).map(<[u8]>::to_vec)
        };
        if from < to && part(bytes, self.at) != part(&self.tail, begin) {
            return Err(FetchError::Tail.into());
        }
        self.at = to;
        Ok(())
    }
}
