//! Decompression by magic bytes: what was compressed comes back whatever its members and pieces, and nothing else is
//! taken for it.

use std::io::{self, Write as _};

use async_compression::Level;
use async_compression::tokio::write::{BzEncoder, XzEncoder, ZstdEncoder};
use bytes::Bytes;
use futures::stream;
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_util::io::StreamReader;

use super::{Choices, fixture, pieces, run};
use crate::config::feed::{Csv, Feed, Limits};
use crate::pipeline::decode::compression;

/// No more than this is read out of one input: a few bytes may stand for many.
const MOST: u64 = 1 << 20;

/// The bytes below the compression, up to [`MOST`]; none where the stream is damaged.
fn opened(pieces: Vec<Vec<u8>>) -> Option<(Vec<u8>, &'static str, Option<&'static str>)> {
    let pieces = pieces.into_iter().map(|piece| Ok::<_, io::Error>(Bytes::from(piece)));
    run(async {
        let opened = compression::open(StreamReader::new(stream::iter(pieces))).await.ok()?;
        let mut out = Vec::new();
        opened.reader.take(MOST).read_to_end(&mut out).await.ok()?;
        Some((out, opened.format, opened.foreign))
    })
}

/// A way of compressing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// gzip.
    Gzip,
    /// zstd.
    Zstd,
    /// bzip2.
    Bzip2,
    /// xz.
    Xz,
}

/// All of them.
pub const KINDS: [Kind; 4] = [Kind::Gzip, Kind::Zstd, Kind::Bzip2, Kind::Xz];

/// One member, frame or stream.
pub fn member(data: &[u8], kind: Kind) -> Vec<u8> {
    // The fastest: larger windows cost more to set up than all that is put through them here.
    let level = Level::Fastest;
    let whole = || -> io::Result<Vec<u8>> {
        Ok(match kind {
            Kind::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(data)?;
                encoder.finish()?
            }
            Kind::Zstd => encoded(ZstdEncoder::new(Vec::new()), data)?.into_inner(),
            Kind::Bzip2 => encoded(BzEncoder::with_quality(Vec::new(), level), data)?.into_inner(),
            Kind::Xz => encoded(XzEncoder::with_quality(Vec::new(), level), data)?.into_inner(),
        })
    };
    whole().unwrap_or_else(|error| unreachable!("memory takes it: {error}"))
}

fn encoded<E: AsyncWrite + Unpin>(mut encoder: E, data: &[u8]) -> io::Result<E> {
    run(async {
        encoder.write_all(data).await?;
        encoder.shutdown().await?;
        Ok(encoder)
    })
}

/// Whether bytes begin like a compressed stream.
pub fn is_compressed(data: &[u8]) -> bool {
    let magic: [&[u8]; 4] = [&[0x1f, 0x8b], &[0x28, 0xb5, 0x2f, 0xfd], b"BZh", b"\xfd7zXZ\0"];
    magic.iter().any(|magic| data.starts_with(magic))
}

/// Any bytes, first as they are, then compressed in members.
pub fn target(data: &[u8]) {
    let mut choices = Choices::new(data);
    let (seed, kind) = (u64::from(choices.byte()), choices.one(&KINDS));
    let data = choices.rest();

    let (whole, cut) = (opened(vec![data.to_vec()]), opened(pieces(data, seed)));
    let is_full = |(out, ..): &(Vec<u8>, _, _)| out.len() as u64 == MOST;
    // Where no more is read, damage behind it may or may not have been seen.
    if !whole.as_ref().or(cut.as_ref()).is_some_and(is_full) {
        assert_eq!(cut, whole, "in pieces");
    }
    if let Some((out, "uncompressed", _)) = &whole {
        let mark_alone = data == b"\xef\xbb\xbf";
        assert!(mark_alone && out.is_empty() || out.as_slice() == data, "plain bytes were changed");
    }
    caps_hold(data);

    let longest = (data.len() / (1 + usize::from(choices_of(data)) % 4)).max(1);
    let members: Vec<u8> = data.chunks(longest).flat_map(|part| member(part, kind)).collect();
    let Some((out, format, _)) = opened(pieces(&members, seed)) else { unreachable!("a sound stream was refused") };
    let mark_alone = data == b"\xef\xbb\xbf";
    assert!(mark_alone && out.is_empty() || out == data, "{format}: other bytes came back");
    if members.len() > 5 {
        let cut = members.len() - 1 - usize::from(choices_of(data)) % 4;
        assert_eq!(opened(vec![members.get(..cut).unwrap_or_default().to_vec()]), None, "cut at {cut}");
    }
}

fn choices_of(data: &[u8]) -> u8 {
    data.last().copied().unwrap_or_default()
}

/// Whatever the bytes decompress to, no more of it than the caps allow is decoded.
fn caps_hold(data: &[u8]) {
    const CAP: u64 = 4096;
    let limits = Limits { max_bytes: CAP, max_record_bytes: CAP, ..fixture::feed().limits };
    let csv = Csv { quote: None, ..fixture::feed().csv };
    let feed = Feed { csv, limits, ..fixture::feed() };
    if let Ok((_, decoded, _)) = super::csv::decode(&feed, vec![data.to_vec()]) {
        assert!(decoded.bytes <= CAP + 1, "{decoded:?}");
    }
}
