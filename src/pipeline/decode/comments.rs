//! Comment lines: blanked on their way to the record splitter.
//!
//! Every byte of a comment but its line end becomes a carriage return, which is a blank line to the splitter and to
//! whoever counts positions: bytes, lines and records stay exact, and a quote in a comment opens nothing. The
//! splitter's own comments end at a line feed only: in a file of lone carriage returns the first comment would
//! swallow all records behind it without a word.
//!
//! Only feeds that set `csv.comment` have this in their way. It has to know where lines begin, so it walks the states
//! of the splitter, also where the splitter is lenient; a test holds the two together.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use crate::config::feed::Csv;

use super::quotes::BYTE_ORDER_MARK;
use super::splitter::State;

/// A stream without comments.
pub struct Comments<R> {
    inner: R,
    csv: Csv,
    comment: u8,
    state: State,
    is_comment: bool,
    begun: bool,
}

impl<R> Comments<R> {
    /// Blanks lines that begin with `comment`.
    pub fn new(inner: R, csv: &Csv, comment: u8) -> Self {
        Self { inner, csv: csv.clone(), comment, state: State::Line, is_comment: false, begun: false }
    }

    fn blank(&mut self, piece: &mut [u8]) {
        // As in the scan for quotes: the first piece never cuts a byte order mark.
        let skipped = if !self.begun && piece.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
        self.begun |= !piece.is_empty();
        for byte in piece.iter_mut().skip(skipped) {
            let is_line_end = matches!(byte, b'\n' | b'\r');
            self.is_comment = !is_line_end && (self.is_comment || self.state == State::Line && *byte == self.comment);
            if self.is_comment {
                *byte = b'\r';
            }
            // A comment leaves the state where it was: before a record.
            self.state = self.state.next(&self.csv, *byte);
        }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Comments<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        if let Some(piece) = buf.filled_mut().get_mut(before..) {
            self.blank(piece);
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use csv_async::{AsyncReaderBuilder, ByteRecord};
    use proptest::prelude::*;

    use super::*;

    fn blanked(csv: &Csv, text: &[u8], piece: usize) -> Vec<u8> {
        let mut comments = Comments::new((), csv, b'#');
        let mut text = text.to_vec();
        // The first piece is never shorter than the byte order mark, as long as there is more.
        let first = piece.max(3).min(text.len());
        comments.blank(&mut text[..first]);
        for piece in text[first..].chunks_mut(piece) {
            comments.blank(piece);
        }
        text
    }

    /// Records and the line on which the next begins.
    fn records(csv: &Csv, text: &[u8], comment: Option<u8>) -> Vec<(ByteRecord, u64)> {
        let mut builder = AsyncReaderBuilder::new();
        builder.has_headers(false).flexible(true).quoting(csv.quote.is_some()).escape(csv.escape);
        builder.double_quote(csv.escape.is_none()).comment(comment);
        crate::fuzzing::run(async {
            let (mut reader, mut records, mut record) = (builder.create_reader(text), Vec::new(), ByteRecord::new());
            while reader.read_byte_record(&mut record).await.unwrap() {
                let mut plain = ByteRecord::new();
                plain.extend(&record);
                records.push((plain, reader.position().line()));
            }
            records
        })
    }

    proptest! {
        #[test]
        fn the_splitter_finds_the_records_it_would_find_without_the_comments(
            tokens in prop::collection::vec(prop_oneof![
                4 => Just("\n"), 3 => Just("#"), 3 => Just("\""), 3 => Just(","), 2 => Just("x"), 1 => Just("\r\n"),
                1 => Just("\\"), 2 => Just("\n# don't \"say\n"), 2 => Just("\"a\n#b\",1\n"), 1 => Just("\u{feff}"),
            ], 0..24),
            escape in prop::sample::select(vec![None, Some(b'\\')]),
            quote in prop::sample::select(vec![Some(b'"'), Some(b'"'), None]),
            piece in 1_usize..9,
        ) {
            let csv = Csv { quote, escape, ..crate::fuzzing::fixture::feed().csv };
            // With line feeds alone, the last one included, where the splitter's own comments do what they should.
            let text = (tokens.concat().replace('\r', "") + "\n").into_bytes();
            let blank = blanked(&csv, &text, piece);
            prop_assert_eq!(records(&csv, &blank, None), records(&csv, &text, Some(b'#')));
            // Whatever ends the lines: the same bytes are blanked however they are cut, and no line end is.
            let text = tokens.concat().into_bytes();
            let blank = blanked(&csv, &text, piece);
            prop_assert_eq!(&blanked(&csv, &text, 1000), &blank);
            for (before, after) in text.iter().zip(&blank) {
                prop_assert!(before == after || *after == b'\r' && *before != b'\n');
            }
        }
    }

    #[test]
    fn a_comment_ends_with_its_line_whatever_that_ends_with() {
        let csv = crate::fuzzing::fixture::feed().csv;
        let blank = |text: &str| String::from_utf8(blanked(&csv, text.as_bytes(), 1000)).unwrap();
        assert_eq!(blank("#a\n1,b\n"), "\r\r\n1,b\n");
        assert_eq!(blank("#a\r1,b\r#\"\r2,c"), "\r\r\r1,b\r\r\r\r2,c");
        assert_eq!(blank("\u{feff}#a\r\n1,#b\n"), "\u{feff}\r\r\r\n1,#b\n");
        assert_eq!(blank("1,\"\n#b\"\n #c\n"), "1,\"\n#b\"\n #c\n");
        assert_eq!(blank("1,\"a\"x\n#\"\n2,x\"y\n#c"), "1,\"a\"x\n\r\r\n2,x\"y\n\r\r");
    }
}
