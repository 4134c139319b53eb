//! Blocks are opened in memory, with a cap on what comes out.
//!
//! Not by the library, whose cap is one for the whole process; only Snappy is left to it, which says beforehand how
//! much there will be.

use async_compression::codecs::Xz2Decoder;
use async_compression::codecs::lzma::params::LzmaDecoderParams;
use async_compression::tokio::bufread::{BzDecoder, LzmaDecoder, ZstdDecoder};
use async_compression::zstd::DParameter;
use flate2::{Decompress, FlushDecompress, Status};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::super::caps::LimitError;
use super::super::{DecodeError, compression};
use super::damaged;

/// What a decoder of xz may allocate: the dictionary of the highest level, which the Avro library writes by default,
/// and some. A header may ask for any amount.
const XZ_MEMORY: u64 = 80 << 20;

/// Output is taken in steps of this size at first.
const STEP: usize = 64 * 1024;

/// A codec of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codec {
    Null,
    Deflate,
    Snappy,
    Zstandard,
    Bzip2,
    Xz,
}

impl Codec {
    /// By the name in the header; none is null.
    pub(super) fn named(name: Option<&[u8]>) -> Result<Self, DecodeError> {
        Ok(match name {
            None | Some(b"null") => Self::Null,
            Some(b"deflate") => Self::Deflate,
            Some(b"snappy") => Self::Snappy,
            Some(b"zstandard") => Self::Zstandard,
            Some(b"bzip2") => Self::Bzip2,
            Some(b"xz") => Self::Xz,
            Some(other) => {
                let name = super::shown(&String::from_utf8_lossy(other));
                return Err(damaged(format!("the blocks are compressed with {name}, which is not read")));
            }
        })
    }

    /// What the block holds, if that is no more than `most` bytes.
    pub(super) async fn open(self, block: Vec<u8>, most: u64) -> Result<Vec<u8>, DecodeError> {
        let opened = match self {
            Self::Null => block,
            Self::Deflate => inflate(&block, most)?,
            Self::Snappy => unsnap(block, most)?,
            Self::Zstandard => {
                let params = [DParameter::window_log_max(compression::WINDOW_LOG)];
                let mut decoder = ZstdDecoder::with_params(block.as_slice(), &params);
                decoder.multiple_members(true);
                read(decoder, most, "zstd").await?
            }
            Self::Bzip2 => {
                let mut decoder = BzDecoder::new(block.as_slice());
                decoder.multiple_members(true);
                read(decoder, most, "bzip2").await?
            }
            Self::Xz => {
                let streams = LzmaDecoderParams::Stream { mem_limit: XZ_MEMORY, flags: compression::XZ_CONCATENATED };
                let codec = Xz2Decoder::try_from(streams).map_err(|_library| broken())?;
                read(LzmaDecoder::with_codec(block.as_slice(), codec.into()), most, "xz").await?
            }
        };
        if opened.len() as u64 > most { Err(too_large(most)) } else { Ok(opened) }
    }
}

fn too_large(most: u64) -> DecodeError {
    LimitError::Block { what: "block, opened,", bytes: most.saturating_add(1), cap: most }.into()
}

fn broken() -> DecodeError {
    damaged("a block cannot be opened: it is damaged")
}

async fn read(decoder: impl AsyncRead + Unpin, most: u64, format: &'static str) -> Result<Vec<u8>, DecodeError> {
    let mut opened = Vec::new();
    let read = decoder.take(most.saturating_add(1)).read_to_end(&mut opened).await;
    read.map(|_| opened).map_err(|error| {
        let told = error.to_string();
        let is_window = compression::WINDOW_REFUSED.iter().any(|window| told.contains(window));
        if is_window { DecodeError::Window(format) } else { broken() }
    })
}

/// Plain deflate has neither length nor checksum, so its end must be where the block's is.
fn inflate(block: &[u8], most: u64) -> Result<Vec<u8>, DecodeError> {
    let mut state = Decompress::new(false);
    let mut opened = Vec::with_capacity(STEP);
    loop {
        let read = usize::try_from(state.total_in()).unwrap_or(usize::MAX);
        let before = (state.total_in(), state.total_out());
        let rest = block.get(read..).unwrap_or_default();
        match state.decompress_vec(rest, &mut opened, FlushDecompress::Finish) {
            Ok(Status::StreamEnd) if state.total_in() == block.len() as u64 => return Ok(opened),
            Ok(Status::StreamEnd) | Err(_) => return Err(broken()),
            Ok(Status::Ok | Status::BufError) => {}
        }
        if opened.len() as u64 > most {
            return Err(too_large(most));
        }
        if opened.len() == opened.capacity() {
            opened.reserve(opened.len().max(STEP));
        } else if before == (state.total_in(), state.total_out()) {
            return Err(broken());
        }
    }
}

/// Says in front how long it will be; four bytes behind it are a checksum.
fn unsnap(mut block: Vec<u8>, most: u64) -> Result<Vec<u8>, DecodeError> {
    let mut claimed = 0_u64;
    for (place, byte) in block.iter().take(5).enumerate() {
        claimed |= u64::from(byte & 0x7f) << (7 * place);
        if *byte < 0x80 {
            break;
        }
    }
    if claimed > most {
        return Err(too_large(most));
    }
    apache_avro::Codec::Snappy.decompress(&mut block).map_err(|_library| broken())?;
    Ok(block)
}
