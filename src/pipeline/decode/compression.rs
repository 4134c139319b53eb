//! Compression by magic bytes, never by name: gzip (all members), zstd (all frames), bzip2 and xz (all streams).
//!
//! Multi-member decoding is switched on explicitly: the library's default stops after the first member and calls that
//! a success. What a few bytes may claim of memory is capped: a window of 8 MiB for zstd and xz; bzip2 cannot ask for
//! more than four.

use std::io::{self, Cursor};

use async_compression::codecs::Xz2Decoder;
use async_compression::codecs::lzma::params::LzmaDecoderParams;
use async_compression::tokio::bufread::{BzDecoder, GzipDecoder, LzmaDecoder, ZstdDecoder};
use async_compression::zstd::DParameter;
use tokio::io::{AsyncBufRead, AsyncRead, AsyncReadExt, BufReader};

/// Enough to tell every format apart.
const HEAD: usize = 16;

/// Buffer between decompressor and record reader.
const BUFFER: usize = 128 * 1024;

/// Largest window of a zstd frame, as a power of two: the 8 MiB that RFC 8878 asks of every decoder. A frame of a few
/// bytes may claim any window, and each worker would hold it.
pub const WINDOW_LOG: u32 = 23;

/// The same in bytes.
pub const LARGEST_WINDOW: u64 = 1 << WINDOW_LOG;

/// What the libraries say of a larger one; they have no code for it at this level.
pub const WINDOW_REFUSED: [&str; 2] = ["Frame requires too much memory", "memory limit reached"];

/// Memory of an xz decoder: the same window as zstd's, and its tables. The next larger window takes 12 MiB.
const XZ_MEMORY: u64 = LARGEST_WINDOW + (2 << 20);

/// Flag of xz: streams one after the other are one, with padding between them.
pub const XZ_CONCATENATED: u32 = 0x08;

/// Content that is compressed once more.
pub const TWICE: &str = "data that was compressed twice";

/// Text in an encoding that a feed must name.
pub const UTF16: &str = "UTF-16 text";

/// What a stream of xz begins with.
const XZ: &[u8] = b"\xfd7zXZ\0";

/// A decompressed stream.
pub struct Opened {
    /// Decompressed bytes.
    pub reader: Box<dyn AsyncRead + Send + Unpin>,
    /// What the compression was, for messages.
    pub format: &'static str,
    /// What the content is, where it is plainly no CSV.
    pub foreign: Option<&'static str>,
}

/// Looks at the first bytes and puts the right decompressor on top.
pub async fn open<R>(mut raw: R) -> io::Result<Opened>
where
    R: AsyncBufRead + Send + Unpin + 'static,
{
    let head = peek(&mut raw).await?;
    let chained = Cursor::new(head.clone()).chain(raw);
    if head.starts_with(&[0x1f, 0x8b]) {
        let mut decoder = GzipDecoder::new(chained);
        decoder.multiple_members(true);
        return inner(BufReader::with_capacity(BUFFER, decoder), "gzip").await;
    }
    if is_zstd(&head) {
        let mut decoder = ZstdDecoder::with_params(chained, &[DParameter::window_log_max(WINDOW_LOG)]);
        decoder.multiple_members(true);
        return inner(BufReader::with_capacity(BUFFER, decoder), "zstd").await;
    }
    if is_bzip2(&head) {
        let mut decoder = BzDecoder::new(chained);
        decoder.multiple_members(true);
        return inner(BufReader::with_capacity(BUFFER, decoder), "bzip2").await;
    }
    if head.starts_with(XZ) {
        // Not the library's decoder for xz: that one takes an old .lzma stream behind the first for a further one,
        // and those have neither a proper mark nor a checksum.
        let streams = LzmaDecoderParams::Stream { mem_limit: XZ_MEMORY, flags: XZ_CONCATENATED };
        let codec = Xz2Decoder::try_from(streams).map_err(io::Error::other)?;
        let decoder = LzmaDecoder::with_codec(chained, codec.into());
        return inner(BufReader::with_capacity(BUFFER, decoder), "xz").await;
    }
    Ok(Opened { reader: Box::new(chained), format: "uncompressed", foreign: foreign(&head) })
}

/// The same look at what came out of the decompressor.
async fn inner<R>(mut decoder: R, format: &'static str) -> io::Result<Opened>
where
    R: AsyncBufRead + Send + Unpin + 'static,
{
    let head = peek(&mut decoder).await?;
    let is_compressed = head.starts_with(&[0x1f, 0x8b]) || is_zstd(&head) || is_bzip2(&head) || head.starts_with(XZ);
    let foreign = if is_compressed { Some(TWICE) } else { foreign(&head) };
    Ok(Opened { reader: Box::new(Cursor::new(head).chain(decoder)), format, foreign })
}

async fn peek<R: AsyncRead + Unpin>(reader: &mut R) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(HEAD);
    reader.take(HEAD as u64).read_to_end(&mut head).await?;
    // A byte order mark and nothing else: to the record reader an end before the end.
    if head == b"\xef\xbb\xbf" {
        head.clear();
    }
    Ok(head)
}

/// What begins with a frame of zstd: one with data, or one to be skipped, as parallel compressors write it first.
fn is_zstd(head: &[u8]) -> bool {
    matches!(head, [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}

/// What begins with a stream of bzip2, or with as much of one as there is: its size, then a block or the end.
fn is_bzip2(head: &[u8]) -> bool {
    const BLOCK: [u8; 6] = [0x31, 0x41, 0x59, 0x26, 0x53, 0x59];
    const END: [u8; 6] = [0x17, 0x72, 0x45, 0x38, 0x50, 0x90];
    let [b'B', b'Z', b'h', b'1'..=b'9', rest @ ..] = head else { return false };
    [BLOCK, END].iter().any(|next| rest.iter().zip(next).all(|(byte, wanted)| byte == wanted))
}

/// Formats whose magic bytes no sensible CSV begins with.
fn foreign(head: &[u8]) -> Option<&'static str> {
    const MAGIC: [(&[u8], &str); 14] = [
        (b"PAR1", "Parquet"),
        (b"Obj\x01", "Avro"),
        (b"%PDF-", "PDF"),
        (b"PK\x03\x04", "a ZIP archive or a spreadsheet"),
        (b"\x04\x22\x4d\x18", "lz4"),
        (b"\x1f\x9d", "compress"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
        (b"\x78\x01", "zlib"),
        (b"\x78\x9c", "zlib"),
        (b"\x78\xda", "zlib"),
        (b"\xff\xfe", UTF16),
        (b"\xfe\xff", UTF16),
        (b"ORC", "ORC"),
        (b"\x7fELF", "a program"),
    ];
    let lower = head.to_ascii_lowercase();
    if lower.starts_with(b"<!doctype") || lower.starts_with(b"<html") || lower.starts_with(b"<?xml") {
        return Some("HTML or XML");
    }
    if let [a, 0, b, 0, c, 0, ..] | [0, a, 0, b, 0, c, ..] = head
        && [a, b, c].iter().all(|byte| **byte != 0)
    {
        return Some(UTF16);
    }
    MAGIC.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use async_compression::Level;
    use async_compression::tokio::write::{BzEncoder, GzipEncoder, LzmaEncoder, XzEncoder, ZstdEncoder};
    use async_compression::zstd::CParameter;
    use tokio::io::AsyncWriteExt;

    use super::*;

    async fn read(bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        let mut opened = open(Cursor::new(bytes)).await?;
        let mut out = Vec::new();
        opened.reader.read_to_end(&mut out).await?;
        Ok(out)
    }

    /// The data in one stream of an encoder.
    macro_rules! encoded {
        ($encoder:expr, $data:expr) => {{
            let mut encoder = $encoder;
            encoder.write_all($data).await.unwrap();
            encoder.shutdown().await.unwrap();
            encoder.into_inner()
        }};
    }

    async fn gzip(data: &[u8]) -> Vec<u8> {
        encoded!(GzipEncoder::new(Vec::new()), data)
    }

    async fn xz(data: &[u8], level: i32) -> Vec<u8> {
        encoded!(XzEncoder::with_quality(Vec::new(), Level::Precise(level)), data)
    }

    /// The same in a stream of each kind.
    async fn all(data: &[u8]) -> [Vec<u8>; 4] {
        [
            gzip(data).await,
            // Without the flag a frame of zstd has no checksum, and damage to its text shows nowhere.
            encoded!(
                ZstdEncoder::with_quality_and_params(Vec::new(), Level::Default, &[CParameter::checksum_flag(true)]),
                data
            ),
            encoded!(BzEncoder::new(Vec::new()), data),
            xz(data, 6).await,
        ]
    }

    #[tokio::test]
    async fn every_member_of_a_concatenated_stream_is_read() {
        let empty = all(b"").await;
        for (make, empty) in all(b"one,").await.into_iter().zip(empty) {
            assert_eq!(read(empty.clone()).await.unwrap(), b"");
            assert_eq!(read([make.as_slice(), &empty, &make].concat()).await.unwrap(), b"one,one,");
        }
        // Streams of xz may be padded to multiples of four bytes.
        let one = xz(b"one,", 6).await;
        let padded = |zeros: usize| [one.as_slice(), &vec![0; zeros], &one, &vec![0; zeros]].concat();
        assert_eq!(read(padded(8)).await.unwrap(), b"one,one,");
        assert!(read(padded(7)).await.is_err());
    }

    #[tokio::test]
    async fn plain_bytes_pass_unchanged_even_if_shorter_than_the_magic() {
        for text in [&b""[..], b"a", b"id,name\n1,x\n"] {
            assert_eq!(read(text.to_vec()).await.unwrap(), text);
        }
    }

    #[tokio::test]
    async fn a_truncated_or_damaged_stream_is_an_error_at_every_length() {
        for whole in all(b"some text that is long enough").await {
            // The magic alone must be there, or it is plain text.
            for cut in 6..whole.len() {
                assert!(read(whole[..cut].to_vec()).await.is_err(), "cut at {cut} of {}", whole.len());
            }
            // The last member cut, and what is no member behind it: another format's neither.
            for cut in 1..whole.len() {
                assert!(read([&whole, &whole[..cut]].concat()).await.is_err(), "cut at {cut} in the second");
            }
            assert!(read([&whole[..], b"garbage after the last member"].concat()).await.is_err());
            // Behind the magic, the longest of which is bzip2's.
            for (at, byte) in whole.iter().enumerate().skip(10) {
                let mut damaged = whole.clone();
                damaged[at] = !byte;
                let read = read(damaged).await;
                // What gzip's header says for people alone, time and system, has no checksum.
                assert!(read.as_deref().is_ok_and(|read| read == b"some text that is long enough") || read.is_err());
            }
        }
        let old = encoded!(LzmaEncoder::new(Vec::new()), b"two,");
        assert!(read([xz(b"one,", 6).await, old].concat()).await.is_err(), "an old stream behind a new one");
    }

    #[tokio::test]
    async fn what_only_begins_like_bzip2_is_text() {
        for text in ["BZh", "BZh0\n", "BZhx,1\n", "BZh9,1\n", "BZh91AX"] {
            assert_eq!(read(text.into()).await.unwrap(), text.as_bytes());
        }
    }

    #[tokio::test]
    async fn a_frame_may_claim_a_window_up_to_the_cap() {
        // One block of one byte, behind a window of two to the power of 10 and the number.
        let frame = |log: u8| [&[0x28, 0xb5, 0x2f, 0xfd, 0, (log - 10) << 3][..], &[9, 0, 0, b'a']].concat();
        assert_eq!(read(frame(23)).await.unwrap(), b"a");
        for log in [24, 27, 28, 31, 41] {
            let error = read(frame(log)).await.unwrap_err().to_string();
            assert!(error.contains(WINDOW_REFUSED[0]), "{log}: {error}");
        }
        // Of xz the level chooses the window: 8 MiB with the default, 16 with the next, whatever there is to hold.
        assert_eq!(read(xz(b"a", 6).await).await.unwrap(), b"a");
        for level in 7..=9 {
            let error = read(xz(b"a", level).await).await.unwrap_err().to_string();
            assert!(error.contains(WINDOW_REFUSED[1]), "{level}: {error}");
        }
    }

    #[tokio::test]
    async fn foreign_formats_are_named_also_inside_compression() {
        let parquet = open(Cursor::new(b"PAR1....".to_vec())).await.unwrap();
        assert_eq!(parquet.foreign, Some("Parquet"));
        let inside = gzip(b"%PDF-1.7").await;
        assert_eq!(open(Cursor::new(inside)).await.unwrap().foreign, Some("PDF"));
        for once in all(b"x").await {
            for twice in all(&once).await {
                assert_eq!(open(Cursor::new(twice)).await.unwrap().foreign, Some(TWICE));
            }
        }
    }
}
