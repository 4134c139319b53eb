//! Text that is not UTF-8 becomes it on its way from the decompressor to the record reader.
//!
//! A stream of its own, bounded by two buffers, that a feed of UTF-8 never has in its way. What stands behind it counts
//! UTF-8: caps and the bytes of positions are those of the transcoded text; records and lines are the same in both.
//! Only what is wrong with the encoding itself is placed by the byte of the object after decompression.
//!
//! Nothing is replaced and nothing guessed: bytes that mean nothing in the encoding fail the object, after all
//! records before them were handed on.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use encoding_rs::{Decoder, DecoderResult, UTF_16BE, UTF_16LE, WINDOWS_1252, mem};
use tokio::io::{AsyncRead, ReadBuf};

use crate::config::feed::Encoding;

/// Bytes that are transcoded at once; twice to three times as many come out.
const PIECE: usize = 16 * 1024;

/// Longest byte order mark.
const MARK: usize = 3;

/// The bytes are not in the encoding that the feed names.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("the object is not {}: {what} (byte {byte})", .encoding.as_str())]
pub struct EncodingError {
    /// What the feed names.
    pub encoding: Encoding,
    /// Byte of the decompressed object.
    pub byte: u64,
    /// What is wrong there.
    pub what: &'static str,
}

/// A stream of UTF-8 over one of another encoding.
pub struct Transcoder<R> {
    inner: R,
    encoding: Encoding,
    /// `None` for ISO 8859-1, which `encoding_rs` takes for Windows-1252; and before the first bytes.
    decoder: Option<Decoder>,
    begun: bool,
    raw: Vec<u8>,
    /// Offset of `raw` in the object.
    at: u64,
    text: Vec<u8>,
    /// How much of `text` was handed on.
    given: usize,
    /// What comes when `text` is used up: an error, or the end.
    last: Option<Result<(), EncodingError>>,
}

impl<R: AsyncRead + Unpin> Transcoder<R> {
    /// A transcoder from this encoding.
    pub fn new(inner: R, encoding: Encoding) -> Self {
        let (raw, text) = (Vec::with_capacity(PIECE), Vec::new());
        Self { inner, encoding, decoder: None, begun: false, raw, at: 0, text, given: 0, last: None }
    }

    /// Reads the next bytes behind those there are; false at the end.
    fn poll_raw(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let filled = self.raw.len();
        self.raw.resize(PIECE, 0);
        let mut buffer = ReadBuf::new(self.raw.get_mut(filled..).unwrap_or_default());
        let polled = Pin::new(&mut self.inner).poll_read(cx, &mut buffer);
        let read = buffer.filled().len();
        self.raw.truncate(filled + read);
        ready!(polled)?;
        Poll::Ready(Ok(read > 0))
    }

    /// Chooses the decoder by the first bytes and takes the mark away.
    fn begin(&mut self) {
        self.begun = true;
        let (decoder, mark) = match (self.encoding, self.raw.as_slice()) {
            // Latin letters nobody begins a text with, and a mark that is in no doubt.
            (_, [0xef, 0xbb, 0xbf, ..]) => {
                let what = "it begins with the byte order mark of UTF-8";
                self.last = Some(Err(EncodingError { encoding: self.encoding, byte: 0, what }));
                self.raw.clear();
                (None, 0)
            }
            (Encoding::Utf16, [0xfe, 0xff, ..]) => (Some(UTF_16BE), 2),
            (Encoding::Utf16, [0xff, 0xfe, ..]) => (Some(UTF_16LE), 2),
            (Encoding::Utf16, _) => (Some(UTF_16LE), 0),
            (Encoding::Windows1252, _) => (Some(WINDOWS_1252), 0),
            (Encoding::Latin1 | Encoding::Utf8, _) => (None, 0),
        };
        self.decoder = decoder.map(encoding_rs::Encoding::new_decoder_without_bom_handling);
        self.raw.drain(..mark);
        self.at = mark as u64;
    }

    /// Turns all that was read into text.
    fn transcode(&mut self, is_last: bool) {
        self.text.clear();
        self.given = 0;
        let Some(decoder) = &mut self.decoder else {
            self.text.resize(self.raw.len() * 2, 0);
            let written = mem::convert_latin1_to_utf8(&self.raw, &mut self.text);
            self.text.truncate(written);
            self.at += self.raw.len() as u64;
            self.raw.clear();
            return;
        };
        // The library says how much room is enough; it cannot be more than memory for a piece of this size.
        let room = decoder.max_utf8_buffer_length_without_replacement(self.raw.len()).unwrap_or(PIECE * 4);
        self.text.resize(room, 0);
        let (result, read, written) = decoder.decode_to_utf8_without_replacement(&self.raw, &mut self.text, is_last);
        self.text.truncate(written);
        self.at += read as u64;
        self.raw.clear();
        if let DecoderResult::Malformed(bytes, behind) = result {
            let byte = self.at.saturating_sub(u64::from(bytes) + u64::from(behind));
            let what = if bytes == 1 { "the last character is cut" } else { "half of a surrogate pair stands alone" };
            self.last = Some(Err(EncodingError { encoding: self.encoding, byte, what }));
        }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Transcoder<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let rest = self.text.get(self.given..).unwrap_or_default();
            if !rest.is_empty() {
                let given = rest.len().min(buf.remaining());
                buf.put_slice(rest.get(..given).unwrap_or_default());
                self.given += given;
                return Poll::Ready(Ok(()));
            }
            if let Some(last) = self.last.clone() {
                return Poll::Ready(last.map_err(io::Error::other));
            }
            let more = ready!(self.poll_raw(cx))?;
            if !self.begun {
                if more && self.raw.len() < MARK {
                    continue;
                }
                self.begin();
            }
            if self.last.is_none() {
                self.transcode(!more);
            }
            if !more && self.last.is_none() {
                self.last = Some(Ok(()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::stream;
    use proptest::prelude::*;
    use tokio::io::AsyncReadExt as _;
    use tokio_util::io::StreamReader;

    use super::*;

    /// The text of these pieces, and the error behind it.
    fn read(encoding: Encoding, pieces: &[&[u8]]) -> (Vec<u8>, Option<EncodingError>) {
        let pieces: Vec<_> = pieces.iter().map(|piece| io::Result::Ok(Bytes::copy_from_slice(piece))).collect();
        crate::fuzzing::run(async {
            let mut reader = Transcoder::new(StreamReader::new(stream::iter(pieces)), encoding);
            let mut text = Vec::new();
            let error = reader.read_to_end(&mut text).await.err();
            (text, error.map(|error| error.downcast().unwrap()))
        })
    }

    fn utf16(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(bytes).collect()
    }

    fn wrong(byte: u64, what: &'static str) -> EncodingError {
        EncodingError { encoding: Encoding::Utf16, byte, what }
    }

    const HALF: &str = "half of a surrogate pair stands alone";
    const CUT: &str = "the last character is cut";

    #[test]
    fn every_byte_of_latin1_is_its_own_character_and_windows_1252_has_others() {
        let all: Vec<u8> = (0..=255).collect();
        let latin1: String = all.iter().map(|byte| char::from(*byte)).collect();
        assert_eq!(read(Encoding::Latin1, &[&all]), (latin1.into_bytes(), None));
        let (text, error) = read(Encoding::Windows1252, &[b"\x80 \x93caf\xe9\x94 \xff"]);
        assert_eq!((String::from_utf8(text).unwrap().as_str(), error), ("€ “café” ÿ", None));
        assert_eq!(read(Encoding::Windows1252, &[&all]).1, None);
    }

    #[test]
    fn a_mark_tells_the_order_of_utf_16_and_belongs_to_no_text() {
        let text = "id,näme\r\n1,😀\n";
        for (mark, bytes) in
            [("\u{feff}", u16::to_le_bytes as fn(u16) -> _), ("\u{feff}", u16::to_be_bytes), ("", u16::to_le_bytes)]
        {
            let raw = utf16(&format!("{mark}{text}"), bytes);
            assert_eq!(read(Encoding::Utf16, &[&raw]), (text.into(), None));
        }
        for none in [&b""[..], b"\xff\xfe", b"\xfe\xff"] {
            assert_eq!(read(Encoding::Utf16, &[none]), (Vec::new(), None));
        }
    }

    #[test]
    fn what_is_no_utf_16_is_placed_after_all_text_before_it() {
        assert_eq!(read(Encoding::Utf16, &[b"\xff\xfea\0b"]), (b"a".into(), Some(wrong(4, CUT))));
        assert_eq!(read(Encoding::Utf16, &[b"a"]), (b"".into(), Some(wrong(0, CUT))));
        // The first half alone, before another character and at the end; the second half alone.
        assert_eq!(read(Encoding::Utf16, &[b"a\0\x3d\xd8b\0"]), (b"a".into(), Some(wrong(2, HALF))));
        assert_eq!(read(Encoding::Utf16, &[b"a\0\x3d\xd8"]), (b"a".into(), Some(wrong(2, HALF))));
        assert_eq!(read(Encoding::Utf16, &[b"a\0\0\xdeb\0"]), (b"a".into(), Some(wrong(2, HALF))));
        let told = wrong(7, CUT).to_string();
        assert_eq!(told, "the object is not utf-16: the last character is cut (byte 7)");
    }

    #[test]
    fn a_mark_of_utf_8_is_no_text_of_another_encoding() {
        for encoding in [Encoding::Latin1, Encoding::Windows1252, Encoding::Utf16] {
            let (text, error) = read(encoding, &["\u{feff}id\n".as_bytes()]);
            assert_eq!((text.len(), error.unwrap().byte), (0, 0));
        }
    }

    proptest! {
        #[test]
        fn no_way_of_cutting_the_bytes_changes_the_text_or_the_error(
            raw in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..40),
                prop::collection::vec(any::<char>(), 0..20)
                    .prop_map(|text| utf16(&text.into_iter().collect::<String>(), u16::to_le_bytes)),
                // Longer than a piece.
                (16_000_usize..17_000).prop_map(|units| utf16(&"ä😀".repeat(units / 3), u16::to_be_bytes)),
            ],
            encoding in prop::sample::select(vec![Encoding::Latin1, Encoding::Windows1252, Encoding::Utf16]),
            place in any::<prop::sample::Index>(),
        ) {
            let whole = read(encoding, &[&raw]);
            let (first, second) = raw.split_at(place.index(raw.len() + 1));
            prop_assert_eq!(&read(encoding, &[first, second]), &whole);
            let bytes: Vec<&[u8]> = raw.chunks(1).collect();
            prop_assert_eq!(&read(encoding, &bytes), &whole);
            prop_assert!(std::str::from_utf8(&whole.0).is_ok());
        }
    }
}
