//! The whole decode stage: caps, dialects, encodings, rejections, positions. However the bytes are cut, the same
//! records and rejections or the same error, and every record is counted once.

use std::io;

use bytes::Bytes;
use futures::stream;
use tokio::sync::mpsc;
use tokio_util::io::StreamReader;

use super::compression::is_compressed;
use super::{Choices, fixture, pieces, run};
use crate::config::feed::{BlankRecords, Csv, Encoding, Feed, Limits, Ragged, Rejects};
use crate::domain::record::{RAW_MOST, Rejection};
use crate::pipeline::decode::{self, Decoded, Decoding, Piece};

/// Longest input whose every byte arrives alone as well.
const BYTEWISE: usize = 2048;

/// Tuples, counts and rejections.
pub type Made = (Vec<u8>, Decoded, Vec<Rejection>);

/// What becomes of these pieces of an object in [`fixture::shape`]; code and message where it fails.
pub fn decode(feed: &Feed, pieces: Vec<Vec<u8>>) -> Result<Made, String> {
    let size = pieces.iter().map(Vec::len).sum::<usize>() as u64;
    run(async move {
        let pieces = pieces.into_iter().map(|piece| Ok::<_, io::Error>(Bytes::from(piece)));
        let (sender, mut frames) = mpsc::channel(64);
        let (object, targets) = (fixture::object(size), fixture::targets());
        let decoding = Decoding { feed, object: &object, targets: &targets, rejects: feed.rejects };
        let take = async {
            let (mut tuples, mut rejections) = (Vec::new(), Vec::new());
            while let Some(piece) = frames.recv().await {
                match piece {
                    Piece::Frame { bytes, .. } => tuples.extend_from_slice(&bytes),
                    Piece::Rejections(more) => rejections.extend(more),
                    Piece::Target { .. } => {}
                }
            }
            (tuples, rejections)
        };
        let work = decode::decode(decoding, StreamReader::new(stream::iter(pieces)), sender);
        let (decoded, (tuples, rejections)) = futures::future::join(work, take).await;
        decoded.map(|decoded| (tuples, decoded, rejections)).map_err(|error| format!("{} {error}", error.code()))
    })
}

/// Any bytes under any dialect and small caps.
pub fn target(data: &[u8]) {
    let mut choices = Choices::new(data);
    let csv = Csv {
        delimiter: choices.one(b",;\t|"),
        quote: choices.one(&[Some(b'"'), Some(b'"'), Some(b'\''), None]),
        escape: choices.one(&[None, None, Some(b'\\')]),
        header: choices.one(&[false, true]),
        encoding: choices.one(&[
            Encoding::Utf8,
            Encoding::Utf8,
            Encoding::Latin1,
            Encoding::Windows1252,
            Encoding::Utf16,
        ]),
        comment: choices.one(&[None, Some(b'#')]),
        ragged: choices.one(&[Ragged::Reject, Ragged::Pad]),
        blank_records: choices.one(&[BlankRecords::Keep, BlankRecords::Filter]),
    };
    let rejects = Rejects { max_rows: choices.one(&[0, 1000, 1]), max_ratio: None };
    let limits = Limits {
        max_bytes: choices.one(&[1 << 20, 4096, 300, 64, 17]),
        max_ratio: 1000,
        max_record_bytes: choices.one(&[1 << 20, 1024, 80, 16, 3]),
        max_fields: choices.one(&[5, 3, 2]),
        ..fixture::feed().limits
    };
    let seed = u64::from(choices.byte());
    let feed = Feed { csv, rejects, limits, ..fixture::feed() };
    let text = choices.rest();

    let whole = decode(&feed, vec![text.to_vec()]);
    // Of a damaged compressed stream, how far it was read before the damage shows depends on the pieces.
    let compressed = is_compressed(text);
    let compare = |other: Result<Made, String>, how: &str| {
        if compressed && whole.is_err() {
            assert!(other.is_err(), "{how}: accepted, in one piece {whole:?}");
        } else {
            assert_eq!(other, whole, "{how}");
        }
    };
    compare(decode(&feed, pieces(text, seed)), "in pieces");
    if text.len() <= BYTEWISE {
        compare(decode(&feed, text.iter().map(|byte| vec![*byte]).collect()), "byte by byte");
    }
    if let Ok(made) = &whole {
        assert!(made.1.bytes <= feed.limits.max_bytes + 1, "{:?} is over the cap", made.1);
        check(made);
        check_again(&feed, made);
    }
}

/// Every record is a tuple, a rejection or filtered, each once and in order.
pub fn check((tuples, decoded, rejections): &Made) {
    let loaded = walk(tuples);
    assert_eq!(loaded.len() as u64, decoded.loaded, "rows and tuples differ");
    assert_eq!(rejections.len() as u64, decoded.rejected, "rejections were lost");
    assert_eq!(decoded.read, decoded.loaded + decoded.rejected + decoded.filtered, "{decoded:?}");
    let rejected: Vec<u64> = rejections.iter().map(|rejection| rejection.position.record).collect();
    assert!(loaded.is_sorted() && rejected.is_sorted(), "out of order: {loaded:?}, {rejected:?}");
    let mut numbers = [loaded, rejected].concat();
    let all = numbers.len();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), all, "a record was counted twice");
    assert!(numbers.last().is_none_or(|last| *last <= decoded.read), "{numbers:?} of {decoded:?}");
    let places: Vec<_> =
        rejections.iter().map(|rejection| (rejection.position.byte, rejection.position.line)).collect();
    assert!(places.is_sorted() && places.is_sorted_by_key(|place| place.1), "{places:?}");
}

/// The rejected records under their header are a file of which every record is rejected for the same reason.
fn check_again(feed: &Feed, (_, decoded, rejections): &Made) {
    let Some(header) = decoded.header.clone() else { return };
    let mut file = header;
    for Rejection { raw, raw_bytes, .. } in rejections {
        if raw.len() as u64 != *raw_bytes || raw.len() > RAW_MOST {
            return;
        }
        file.extend_from_slice(raw);
    }
    let csv = Csv { encoding: Encoding::Utf8, ..feed.csv.clone() };
    let limits = Limits { max_fields: feed.limits.max_fields, ..fixture::feed().limits };
    let rejects = Rejects { max_rows: u64::MAX, max_ratio: None };
    let again = decode(&Feed { csv, rejects, limits, ..fixture::feed() }, vec![file]);
    let codes =
        |rejections: &[Rejection]| rejections.iter().map(|rejection| rejection.code.clone()).collect::<Vec<_>>();
    let Ok((_, counts, found)) = again else { unreachable!("rejected records are no file again: {again:?}") };
    assert_eq!((counts.loaded, codes(&found)), (0, codes(rejections)), "{rejections:?}");
}

/// The numbers of the tuples: each has three values, the last of which is it.
fn walk(mut rest: &[u8]) -> Vec<u64> {
    fn take<'a>(rest: &mut &'a [u8], length: usize) -> &'a [u8] {
        let (taken, after) = rest.split_at_checked(length).unwrap_or_else(|| unreachable!("a tuple was cut off"));
        *rest = after;
        taken
    }
    let mut numbers = Vec::new();
    while !rest.is_empty() {
        assert_eq!(take(&mut rest, 2), [0, 3], "fields of a tuple");
        let mut value: &[u8] = &[];
        for _ in 0..3 {
            let length = take(&mut rest, 4).iter().fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte)).cast_signed();
            value = usize::try_from(length).map_or(&[], |length| take(&mut rest, length));
        }
        numbers.push(value.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte)));
    }
    numbers
}
