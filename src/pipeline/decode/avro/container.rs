//! The container: a header with schema and codec, then blocks, each with the mark of the header behind it.
//!
//! Guarantees: what a block claims is held against the caps before it is read, and memory grows with the bytes that
//! arrive, not with the claim. The end of the bytes is an end only between two blocks; that all of them arrived is the
//! stream's to know, as for a file that was cut exactly there.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, BufReader};

use crate::config::feed::{Format, Limits};

use super::super::caps::LimitError;
use super::super::{DecodeError, Failure};
use super::codec::Codec;
use super::damaged;

/// Buffer in front of the blocks.
const BUFFER: usize = 64 * 1024;

/// A block, opened.
pub(super) struct Block {
    pub(super) records: u64,
    pub(super) bytes: Vec<u8>,
}

/// A file being read.
pub(super) struct Container<R> {
    reader: BufReader<R>,
    mark: [u8; 16],
    codec: Codec,
    most: u64,
}

impl<R: AsyncRead + Send + Unpin> Container<R> {
    pub(super) fn new(bytes: R, limits: &Limits) -> Self {
        let reader = BufReader::with_capacity(BUFFER, bytes);
        Self { reader, mark: [0; 16], codec: Codec::Null, most: limits.max_block_bytes }
    }

    /// Reads the header; answers the schema as it is written there.
    pub(super) async fn header(&mut self) -> Result<Vec<u8>, Failure> {
        let mut magic = Vec::new();
        (&mut self.reader).take(4).read_to_end(&mut magic).await.map_err(Failure::Io)?;
        match magic.as_slice() {
            b"Obj\x01" => {}
            b"" => return Err(damaged("the object is empty").into()),
            _ => return Err(DecodeError::Format { found: "something else", expected: Format::Avro }.into()),
        }
        let (mut schema, mut codec, mut read) = (None, None, 0);
        loop {
            let count = self.long().await?;
            if count < 0 {
                self.long().await?;
            }
            if count == 0 {
                break;
            }
            for _ in 0..count.unsigned_abs() {
                let (name, value) = (self.text(&mut read).await?, self.text(&mut read).await?);
                match name.as_slice() {
                    b"avro.schema" => schema = Some(value),
                    b"avro.codec" => codec = Some(value),
                    _ => {}
                }
            }
        }
        self.reader.read_exact(&mut self.mark).await.map_err(cut)?;
        self.codec = Codec::named(codec.as_deref())?;
        Ok(schema.ok_or_else(|| damaged("the header has no schema"))?)
    }

    /// Reads the next block; `None` at the proper end. `admit` is told how many records it claims, and how many bytes
    /// it has when opened.
    pub(super) async fn block(
        &mut self,
        mut admit: impl FnMut(u64, u64) -> Result<(), LimitError> + Send,
    ) -> Result<Option<Block>, Failure> {
        use tokio::io::AsyncBufReadExt as _;
        if self.reader.fill_buf().await.map_err(Failure::Io)?.is_empty() {
            return Ok(None);
        }
        let records = self.count("records").await?;
        let length = self.count("bytes").await?;
        if length > self.most {
            return Err(DecodeError::from(LimitError::Block { what: "block", bytes: length, cap: self.most }).into());
        }
        let stored = self.take(length).await?;
        let mut mark = [0; 16];
        self.reader.read_exact(&mut mark).await.map_err(cut)?;
        if mark != self.mark {
            return Err(damaged("the mark behind a block is not the file's").into());
        }
        let bytes = if stored.is_empty() && records == 0 { stored } else { self.codec.open(stored, self.most).await? };
        admit(records, bytes.len() as u64).map_err(DecodeError::from)?;
        Ok(Some(Block { records, bytes }))
    }

    async fn count(&mut self, of: &str) -> Result<u64, Failure> {
        let claimed = self.long().await?;
        u64::try_from(claimed).map_err(|_negative| damaged(format!("a block claims a negative number of {of}")).into())
    }

    /// Bytes with their length in front, of a header that may come to so many.
    async fn text(&mut self, read: &mut u64) -> Result<Vec<u8>, Failure> {
        let length = self.count("bytes").await?;
        *read = read.saturating_add(length).saturating_add(1);
        if *read > self.most {
            return Err(DecodeError::from(LimitError::Block { what: "header", bytes: *read, cap: self.most }).into());
        }
        self.take(length).await
    }

    async fn take(&mut self, length: u64) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        (&mut self.reader).take(length).read_to_end(&mut bytes).await.map_err(Failure::Io)?;
        if (bytes.len() as u64) < length { Err(cut(io::ErrorKind::UnexpectedEof.into())) } else { Ok(bytes) }
    }

    async fn long(&mut self) -> Result<i64, Failure> {
        let mut raw = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.reader.read_u8().await.map_err(cut)?;
            if shift == 63 && byte > 1 {
                break;
            }
            raw |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed());
            }
        }
        Err(damaged("a number has more than 64 bits").into())
    }
}

/// An end where there should be none. Errors of the transport stay what they are.
fn cut(error: io::Error) -> Failure {
    if error.kind() == io::ErrorKind::UnexpectedEof
        && error.get_ref().is_none_or(|inner| !inner.is::<super::FetchError>())
    {
        return damaged("the file ends within a block or its header: it was cut off, or bytes were added").into();
    }
    Failure::Io(error)
}
