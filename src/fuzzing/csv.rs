//! The whole decode stage: caps, dialects, positions. However the bytes are cut, the same records or the same error.

use std::io;

use bytes::Bytes;
use futures::stream;
use tokio::sync::mpsc;
use tokio_util::io::StreamReader;

use super::compression::is_compressed;
use super::{Choices, fixture, pieces, run};
use crate::config::feed::{Csv, Feed, Limits};
use crate::pipeline::decode::{self, Decoded, Decoding, Piece};

/// Longest input whose every byte arrives alone as well.
const BYTEWISE: usize = 2048;

/// What becomes of these pieces of an object in [`fixture::shape`]: tuples and counts, or code and message.
pub fn decode(feed: &Feed, pieces: Vec<Vec<u8>>) -> Result<(Vec<u8>, Decoded), String> {
    let size = pieces.iter().map(Vec::len).sum::<usize>() as u64;
    run(async move {
        let pieces = pieces.into_iter().map(|piece| Ok::<_, io::Error>(Bytes::from(piece)));
        let (sender, mut frames) = mpsc::channel(64);
        let (object, targets) = (fixture::object(size), fixture::targets());
        let decoding = Decoding { feed, object: &object, targets: &targets, rejects: feed.rejects };
        let take = async {
            let mut tuples = Vec::new();
            while let Some(piece) = frames.recv().await {
                if let Piece::Frame { bytes, .. } = piece {
                    tuples.extend_from_slice(&bytes);
                }
            }
            tuples
        };
        let work = decode::decode(decoding, StreamReader::new(stream::iter(pieces)), sender);
        let (decoded, tuples) = futures::future::join(work, take).await;
        decoded.map(|decoded| (tuples, decoded)).map_err(|error| format!("{} {error}", error.code()))
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
        ..fixture::feed().csv
    };
    let limits = Limits {
        max_bytes: choices.one(&[1 << 20, 4096, 300, 64, 17]),
        max_ratio: 1000,
        max_record_bytes: choices.one(&[1 << 20, 1024, 80, 16, 3]),
        max_fields: choices.one(&[5, 3, 2]),
        ..fixture::feed().limits
    };
    let seed = u64::from(choices.byte());
    let feed = Feed { csv, limits, ..fixture::feed() };
    let text = choices.rest();

    let whole = decode(&feed, vec![text.to_vec()]);
    // Of a damaged compressed stream, how far it was read before the damage shows depends on the pieces.
    let compressed = is_compressed(text);
    let compare = |other: Result<(Vec<u8>, Decoded), String>, how: &str| {
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
    if let Ok((tuples, decoded)) = &whole {
        assert!(decoded.bytes <= feed.limits.max_bytes + 1, "{decoded:?} is over the cap");
        assert_eq!(walk(tuples), decoded.loaded, "rows and tuples differ");
    }
}

/// Counts the tuples: each has three values, the last of which is its number.
fn walk(mut rest: &[u8]) -> u64 {
    fn take<'a>(rest: &mut &'a [u8], length: usize) -> &'a [u8] {
        let (taken, after) = rest.split_at_checked(length).unwrap_or_else(|| unreachable!("a tuple was cut off"));
        *rest = after;
        taken
    }
    let mut count = 0_u64;
    while !rest.is_empty() {
        assert_eq!(take(&mut rest, 2), [0, 3], "fields of a tuple");
        let mut value: &[u8] = &[];
        for _ in 0..3 {
            let length = take(&mut rest, 4).iter().fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte)).cast_signed();
            value = usize::try_from(length).map_or(&[], |length| take(&mut rest, length));
        }
        count += 1;
        assert_eq!(value, count.to_be_bytes(), "number of a record");
    }
    count
}
