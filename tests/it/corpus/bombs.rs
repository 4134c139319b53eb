//! Makers of bombs: little to store, endless to read. Each is made when it is needed and never held unpacked.

use std::io::Write as _;

use crate::support::gzip;

use super::compression::{bz2, xz, zstd};
use super::{Maker, Named, makers};

/// A frame of raw runs: four bytes for every 128 KiB of one byte.
fn zstd_of_runs(byte: u8, runs: usize) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 7 << 3];
    for run in 1..=runs {
        let header = (128_u32 << 10) << 3 | 1 << 1 | u32::from(run == runs);
        frame.extend_from_slice(&header.to_le_bytes()[..3]);
        frame.push(byte);
    }
    frame
}

/// So many times the same text through one encoder: only what comes out of it is held.
fn gzip_of(text: &[u8], times: usize) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let block = text.repeat((1 << 20) / text.len());
    for _ in 0..times {
        encoder.write_all(&block).expect("memory takes it");
    }
    encoder.finish().expect("memory takes it")
}

/// 2^20 bytes: a header, and a line that fills the rest.
fn mebibyte() -> Vec<u8> {
    [b"a\n", vec![b'x'; (1 << 20) - 2].as_slice()].concat()
}

const MIB_16: usize = 16 << 20;

/// A gigabyte, as many members of 16 MiB: cheap to make, as long as any to read.
fn gigabyte(member: &[u8]) -> Vec<u8> {
    member.repeat(64)
}

fn line() -> Vec<u8> {
    vec![b'x'; MIB_16]
}

/// A quote that is never closed: the field holds all the lines that follow.
fn quoted() -> Vec<u8> {
    [gzip(b"\""), gigabyte(&gzip(&b"x\n".repeat(MIB_16 / 2)))].concat()
}

makers! {
    ratio_at_one_mib => gzip(&mebibyte()),
    ratio_over => gzip(&[mebibyte(), b"xx".to_vec()].concat()),
    ratio_over_zst => zstd(&[mebibyte(), mebibyte()].concat()),
    bomb_gz_rows => gzip_of(b"1,a\n", 128),
    bomb_gz_zeros => gzip_of(b"\0", 128),
    bomb_gz_blank_lines => gzip_of(b"\n", 128),
    bomb_zst_runs => zstd_of_runs(b'\n', 1000),
    bomb_zst_zeros => zstd_of_runs(0, 1000),
    bomb_bz2_rows => bz2(&b"1,a\n".repeat(4 << 20)),
    bomb_xz_rows => xz(&b"1,a\n".repeat(4 << 20), 6),
    bomb_zst_layered => zstd(&zstd_of_runs(b'1', 1000)),
}

/// Those that go on for a gigabyte, for the caps that hold by default.
pub(super) const GIANTS: &[Named] = &[
    ("endless_line_gz", Maker::Body(|| gigabyte(&gzip(&line())))),
    ("endless_quoted_gz", Maker::Body(quoted)),
    ("endless_text_gz", Maker::Body(|| [gzip(b"{\"a\":\""), gigabyte(&gzip(&line()))].concat())),
    ("endless_line_zst", Maker::Body(|| gigabyte(&zstd(&line())))),
];
