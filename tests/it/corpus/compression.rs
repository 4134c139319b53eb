//! Makers of compressed objects: several members, damage, foreign content.

use std::io::Write as _;

use async_compression::Level;
use async_compression::tokio::write::{BzEncoder, XzEncoder};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use crate::support::gzip;

use super::makers;

/// One frame of zstd.
pub(super) fn zstd(data: &[u8]) -> Vec<u8> {
    // Nothing waits in it: it writes to memory.
    futures::executor::block_on(crate::support::zstd(data))
}

/// Everything through one encoder; nothing waits in it, for it writes to memory.
fn encoded<E: AsyncWrite + Unpin>(mut encoder: E, data: &[u8]) -> E {
    let all = async {
        encoder.write_all(data).await?;
        encoder.shutdown().await
    };
    futures::executor::block_on(all).expect("memory takes it");
    encoder
}

/// One stream of bzip2.
pub(super) fn bz2(data: &[u8]) -> Vec<u8> {
    encoded(BzEncoder::new(Vec::new()), data).into_inner()
}

/// One stream of xz, whose level chooses the window.
pub(super) fn xz(data: &[u8], level: i32) -> Vec<u8> {
    encoded(XzEncoder::with_quality(Vec::new(), Level::Precise(level)), data).into_inner()
}

/// Five hundred good rows of `staff`.
fn good() -> Vec<u8> {
    let rows = |text: String, n| text + &format!("{},Name {n},1.5,2020-01-01\n", 9000 + n);
    (0..500).fold("id,name,amount,born\n".to_owned(), rows).into_bytes()
}

fn cut(mut bytes: Vec<u8>, off: usize) -> Vec<u8> {
    bytes.truncate(bytes.len() - off);
    bytes
}

/// With one bit turned over, so many bytes before the end.
fn flipped(mut bytes: Vec<u8>, from_end: usize) -> Vec<u8> {
    let at = bytes.len() - from_end;
    bytes[at] ^= 0x10;
    bytes
}

fn half(bytes: Vec<u8>) -> Vec<u8> {
    let off = bytes.len() / 2;
    cut(bytes, off)
}

/// A member with the longest fields a header may have.
fn gzip_with_large_header(data: &[u8]) -> Vec<u8> {
    let header =
        flate2::GzBuilder::new().extra(vec![7; 65_535]).filename(vec![b'n'; 65_536]).comment(vec![b'c'; 65_536]);
    let mut encoder = header.write(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

/// A frame that holds `data` as it is and asks for a window of two to this power.
fn zstd_with_window(log: u8, data: &[u8]) -> Vec<u8> {
    let size = u32::try_from(data.len()).expect("a small block") << 3 | 1;
    [&[0x28, 0xb5, 0x2f, 0xfd, 0, (log - 10) << 3], &size.to_le_bytes()[..3], data].concat()
}

/// The same after a dictionary that nobody has.
fn zstd_with_dictionary(data: &[u8]) -> Vec<u8> {
    let size = u32::try_from(data.len()).expect("a small block") << 3 | 1;
    [&[0x28, 0xb5, 0x2f, 0xfd, 3, 0, 7, 0, 0, 0], &size.to_le_bytes()[..3], data].concat()
}

fn skippable() -> Vec<u8> {
    [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], &[1, 2, 3]].concat()
}

makers! {
    gz => gzip(b"1,a\n"),
    zst => zstd(b"1,a\n"),
    bz2 => bz2(b"1,a\n"),
    xz => xz(b"1,a\n", 6),
    bz2_empty => bz2(b""),
    xz_empty => xz(b"", 6),
    gz_empty => gzip(b""),
    gz_header_only => gzip(b"a,b\n"),
    gz_bom => gzip("\u{feff}1,a\n".as_bytes()),
    gz_members => [gzip(b"1,a\n2,\"b"), gzip(b""), gzip(b"\"\n3,c")].concat(),
    zst_frames => [zstd(b"1,a\n2,\"b"), zstd(b"\"\n3,c")].concat(),
    zst_three_frames => [zstd(b"1,a\n"), zstd(b"2,b\n"), zstd(b"3,c\n")].concat(),
    bz2_streams => [bz2(b"1,a\n2,\"b"), bz2(b""), bz2(b"\"\n3,c")].concat(),
    xz_streams => [xz(b"1,a\n2,\"b", 6), xz(b"", 6), xz(b"\"\n3,c", 6)].concat(),
    xz_padded => [xz(b"1,a\n", 6), vec![0; 8], xz(b"2,b\n", 6), vec![0; 4]].concat(),
    gz_large_header => gzip_with_large_header(b"1,a\n"),
    zst_skippable => [zstd(b"1,a\n"), skippable(), zstd(b"2,b\n")].concat(),
    zst_skippable_first => [skippable(), zstd(b"1,a\n")].concat(),
    zst_window_23 => zstd_with_window(23, b"1,a\n"),

    gz_cut => half(gzip(&good())),
    gz_cut_in_header => gzip(&good())[..7].to_vec(),
    gz_without_trailer => cut(gzip(&good()), 8),
    gz_cut_in_trailer => cut(gzip(&good()), 1),
    gz_crc => flipped(gzip(&good()), 8),
    gz_isize => flipped(gzip(&good()), 2),
    gz_second_member_cut => [gzip(&good()), half(gzip(b"9999,Last,1,2020-01-01\n"))].concat(),
    zst_cut => half(zstd(&good())),
    zst_cut_at_the_end => cut(zstd(&good()), 3),
    bz2_cut => half(bz2(&good())),
    bz2_cut_at_the_end => cut(bz2(&good()), 1),
    bz2_crc => flipped(bz2(&good()), 3),
    bz2_second_stream_cut => [bz2(&good()), half(bz2(b"9999,Last,1,2020-01-01\n"))].concat(),
    bz2_magic_only => b"BZh91AY&SY",
    xz_cut => half(xz(&good(), 6)),
    xz_cut_at_the_end => cut(xz(&good(), 6), 1),
    xz_crc => flipped(xz(&good(), 6), 60),
    xz_second_stream_cut => [xz(&good(), 6), half(xz(b"9999,Last,1,2020-01-01\n", 6))].concat(),
    xz_magic_only => b"\xfd7zXZ\0\0\x04",
    bz2_then_garbage => [bz2(&good()), b"garbage".to_vec()].concat(),
    bz2_then_gz => [bz2(&good()), gzip(&good())].concat(),
    xz_then_garbage => [xz(&good(), 6), b"garbage!".to_vec()].concat(),
    xz_then_odd_zeros => [xz(&good(), 6), vec![0; 6]].concat(),
    xz_window_16_mib => xz(b"a", 7),
    xz_window_64_mib => xz(b"a", 9),
    bz2_in_xz => xz(&bz2(&good()), 6),
    xz_in_bz2 => bz2(&xz(&good(), 6)),
    gz_then_garbage => [gzip(&good()), b"garbage".to_vec()].concat(),
    gz_then_zeros => [gzip(&good()), vec![0; 512]].concat(),
    zst_then_garbage => [zstd(&good()), b"garbage".to_vec()].concat(),
    zst_window_24 => zstd_with_window(24, b"a"),
    zst_window_27 => zstd_with_window(27, b"a"),
    zst_window_28 => zstd_with_window(28, b"a"),
    zst_window_31 => zstd_with_window(31, b"a"),
    zst_dictionary => zstd_with_dictionary(b"id,name\n"),
    gz_in_gz => gzip(&gzip(&good())),
    zst_in_zst => zstd(&zstd(&good())),
    gz_in_zst => zstd(&gzip(&good())),
    pdf_in_gz => gzip(b"%PDF-1.7 and more of it"),
    zip_in_gz => gzip(b"PK\x03\x04\x14\0\x08\x08\x08\0"),
    zip => b"PK\x03\x04\x0a\0\0\0\0\0",
    lz4 => b"\x04\x22\x4d\x18\x64\x40\xa7\x04\0\0\x80id,n",
    zlib => b"\x78\x9c\x4b\x4c\x4a\x06\x00\x02\x4d\x01\x27",
}
