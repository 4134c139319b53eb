//! The bytes of a file: its end first, then everything in order.
//!
//! Nothing is skipped unread: the body verifies itself when all of it has gone by, and with it what was read first from
//! the end.

use std::io;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::config::feed::Limits;
use crate::pipeline::fetch::Body;

use super::super::{DecodeError, Failure};
use super::footer::{FIRST, TRAILER, length};

/// Read at once where bytes are passed over.
const STEP: usize = 64 * 1024;

/// The last bytes of an object: the footer is among them, unless it claims more than it may. Judges nothing.
pub async fn ending(body: &Body, limits: &Limits) -> Result<Bytes, DecodeError> {
    let first = body.tail(FIRST).await?;
    match length(&first) {
        Some(length) if length + TRAILER > FIRST && length <= limits.max_block_bytes => {
            Ok(body.tail(length + TRAILER).await?)
        }
        _ => Ok(first),
    }
}

/// A file being read.
pub(super) struct Source<R> {
    reader: R,
    size: u64,
    at: u64,
    ending: Bytes,
}

impl<R: AsyncRead + Send + Unpin> Source<R> {
    /// A file of `size` bytes that ends so.
    pub(super) fn new(reader: R, ending: Bytes, size: u64) -> Self {
        Self { reader, ending, size, at: 0 }
    }

    /// Its size.
    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    /// Its last bytes.
    pub(super) fn ending(&self) -> Bytes {
        self.ending.clone()
    }

    /// Up to `most` of the next bytes; fewer only at the end.
    pub(super) async fn take(&mut self, most: u64) -> Result<Bytes, Failure> {
        let length = usize::try_from(most.min(self.size.saturating_sub(self.at))).unwrap_or(usize::MAX);
        let mut bytes = Vec::with_capacity(length);
        (&mut self.reader).take(most).read_to_end(&mut bytes).await.map_err(Failure::Io)?;
        self.at += bytes.len() as u64;
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
            self.at += read as u64;
        }
        Ok(())
    }

    /// Reads the rest: only at its end a body says whether its bytes were right.
    pub(super) async fn finish(&mut self) -> Result<(), Failure> {
        let mut buffer = vec![0; STEP];
        while self.reader.read(&mut buffer).await.map_err(Failure::Io)? > 0 {}
        Ok(())
    }
}
