//! Compression by magic bytes, never by name: gzip (all members) and zstd (all frames).
//!
//! Multi-member decoding is switched on explicitly: the library's default stops after the first member and calls that
//! a success.

use std::io::{self, Cursor};

use async_compression::tokio::bufread::{GzipDecoder, ZstdDecoder};
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

/// What the library says of a frame with a larger one; it has no code for it at this level.
pub const WINDOW_REFUSED: &str = "Frame requires too much memory";

/// Content that is compressed once more.
pub const TWICE: &str = "data that was compressed twice";

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
    Ok(Opened { reader: Box::new(chained), format: "uncompressed", foreign: foreign(&head) })
}

/// The same look at what came out of the decompressor.
async fn inner<R>(mut decoder: R, format: &'static str) -> io::Result<Opened>
where
    R: AsyncBufRead + Send + Unpin + 'static,
{
    let head = peek(&mut decoder).await?;
    let foreign = match head.as_slice() {
        [0x1f, 0x8b, ..] => Some(TWICE),
        head if is_zstd(head) => Some(TWICE),
        head => foreign(head),
    };
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

/// Formats whose magic bytes no sensible CSV begins with.
fn foreign(head: &[u8]) -> Option<&'static str> {
    const MAGIC: [(&[u8], &str); 16] = [
        (b"PAR1", "Parquet"),
        (b"Obj\x01", "Avro"),
        (b"%PDF-", "PDF"),
        (b"PK\x03\x04", "a ZIP archive or a spreadsheet"),
        (b"BZh", "bzip2"),
        (b"\xfd7zXZ\0", "xz"),
        (b"\x04\x22\x4d\x18", "lz4"),
        (b"\x1f\x9d", "compress"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
        (b"\x78\x01", "zlib"),
        (b"\x78\x9c", "zlib"),
        (b"\x78\xda", "zlib"),
        (b"\xff\xfe", "UTF-16 text"),
        (b"\xfe\xff", "UTF-16 text"),
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
        return Some("UTF-16 text");
    }
    MAGIC.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use async_compression::tokio::write::{GzipEncoder, ZstdEncoder};
    use tokio::io::AsyncWriteExt;

    use super::*;

    async fn read(bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        let mut opened = open(Cursor::new(bytes)).await?;
        let mut out = Vec::new();
        opened.reader.read_to_end(&mut out).await?;
        Ok(out)
    }

    async fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = GzipEncoder::new(Vec::new());
        encoder.write_all(data).await.unwrap();
        encoder.shutdown().await.unwrap();
        encoder.into_inner()
    }

    async fn zstd(data: &[u8]) -> Vec<u8> {
        let mut encoder = ZstdEncoder::new(Vec::new());
        encoder.write_all(data).await.unwrap();
        encoder.shutdown().await.unwrap();
        encoder.into_inner()
    }

    #[tokio::test]
    async fn every_member_of_a_concatenated_stream_is_read() {
        for make in [gzip(b"one,").await, zstd(b"one,").await] {
            let twice = [make.clone(), make].concat();
            assert_eq!(read(twice).await.unwrap(), b"one,one,");
        }
    }

    #[tokio::test]
    async fn plain_bytes_pass_unchanged_even_if_shorter_than_the_magic() {
        for text in [&b""[..], b"a", b"id,name\n1,x\n"] {
            assert_eq!(read(text.to_vec()).await.unwrap(), text);
        }
    }

    #[tokio::test]
    async fn a_truncated_or_damaged_stream_is_an_error_at_every_length() {
        for whole in [gzip(b"some text that is long enough").await, zstd(b"some text that is long enough").await] {
            // The magic alone must be there, or it is plain text.
            for cut in 5..whole.len() {
                assert!(read(whole[..cut].to_vec()).await.is_err(), "cut at {cut} of {}", whole.len());
            }
        }
        let mut trailing = gzip(b"x").await;
        trailing.extend_from_slice(b"garbage after the last member");
        assert!(read(trailing).await.is_err());
    }

    #[tokio::test]
    async fn a_frame_may_claim_a_window_up_to_the_cap() {
        // One block of one byte, behind a window of two to the power of 10 and the number.
        let frame = |log: u8| [&[0x28, 0xb5, 0x2f, 0xfd, 0, (log - 10) << 3][..], &[9, 0, 0, b'a']].concat();
        assert_eq!(read(frame(23)).await.unwrap(), b"a");
        for log in [24, 27, 28, 31, 41] {
            let error = read(frame(log)).await.unwrap_err().to_string();
            assert!(error.contains(WINDOW_REFUSED), "{log}: {error}");
        }
    }

    #[tokio::test]
    async fn foreign_formats_are_named_also_inside_compression() {
        let parquet = open(Cursor::new(b"PAR1....".to_vec())).await.unwrap();
        assert_eq!(parquet.foreign, Some("Parquet"));
        let inside = gzip(b"%PDF-1.7").await;
        assert_eq!(open(Cursor::new(inside)).await.unwrap().foreign, Some("PDF"));
        let twice = gzip(&gzip(b"x").await).await;
        assert_eq!(open(Cursor::new(twice)).await.unwrap().foreign, Some("data that was compressed twice"));
    }
}
