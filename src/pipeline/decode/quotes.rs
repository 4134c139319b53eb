//! Quotes where none may stand: text after a closing quote, and a quote inside a field that does not begin with one.
//!
//! The record splitter takes both for text, drops some of the quotes and says nothing: `"x"y` would be loaded as `xy`,
//! and a quote that was opened by mistake would swallow delimiters until the next one. So the bytes are looked at
//! once more on their way to it (ADR-0011): only quotes are, and a piece without one costs a single search. The first
//! offence is remembered with its place; the record reader blames it when it comes to the record that holds it. If that
//! record surely ends with its line ([`is_whole`]), the scan goes on behind it.

use memchr::memchr;

use crate::config::feed::Csv;

use super::splitter::State;

/// Comes before the first field and belongs to none.
pub const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What is wrong with a quote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offence {
    /// `"x"y`.
    TextAfterQuote,
    /// `x"y`.
    QuoteInText,
}

impl Offence {
    /// In words, for the operator.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::TextAfterQuote => {
                "text follows the closing quote of a field; set csv.quote = \"\" if quotes are data"
            }
            Self::QuoteInText => {
                "a quote stands inside a field that does not begin with one; set csv.quote = \"\" if quotes are data"
            }
        }
    }
}

/// The first offence and where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed {
    /// Byte of the object.
    pub byte: u64,
    /// What is wrong there.
    pub offence: Offence,
}

/// A dialect, its quote and escape spread over a word.
#[derive(Debug, Clone, Copy)]
struct Marks {
    delimiter: u8,
    quote: u8,
    /// Without an escape character a quote is doubled.
    escape: Option<u8>,
    quotes: u64,
    escapes: u64,
}

/// The scan of one object, piece by piece.
#[derive(Debug)]
pub struct Quotes {
    /// Nothing to look for: quotes are data.
    marks: Option<Marks>,
    /// Whether the bytes go on inside a quoted field.
    is_inside: bool,
    /// The byte before the next piece.
    before: u8,
    /// Whether that is a quote that closes a field, as far as was seen.
    is_closing: bool,
    /// The byte that an escape character protects, as an offset in the object.
    escaped: Option<u64>,
    found: Option<Malformed>,
    first: Option<u8>,
}

impl Quotes {
    /// A scan by the rules of a dialect.
    pub fn new(csv: &Csv) -> Self {
        let marks = csv.quote.map(|quote| Marks {
            delimiter: csv.delimiter,
            quote,
            escape: csv.escape,
            quotes: spread(quote),
            escapes: spread(csv.escape.unwrap_or(quote)),
        });
        // The first field begins as after a line end.
        Self { marks, is_inside: false, before: b'\n', is_closing: false, escaped: None, found: None, first: None }
    }

    /// The first offence in the bytes so far.
    #[inline]
    pub const fn found(&self) -> Option<Malformed> {
        self.found
    }

    /// The first byte looked at, a byte order mark left out.
    pub const fn first_byte(&self) -> Option<u8> {
        self.first
    }

    /// Looks at the next piece, which begins at byte `at` of the object.
    pub fn scan(&mut self, at: u64, piece: &[u8]) {
        // Behind an offence nothing is said until somebody knows where its record ends.
        let (Some(marks), None) = (self.marks, self.found) else { return };
        // The splitter passes over a byte order mark, so the first field begins behind it. The first piece never cuts
        // it: it holds all that was looked at to tell the format.
        let (at, piece) = match piece.strip_prefix(BYTE_ORDER_MARK) {
            Some(rest) if at == 0 => (at + BYTE_ORDER_MARK.len() as u64, rest),
            _ => (at, piece),
        };
        let (Some(&first), Some(&last)) = (piece.first(), piece.last()) else { return };
        self.first = self.first.or(Some(first));
        self.found = if std::mem::take(&mut self.is_closing) && !marks.may_follow(first) {
            Some(Malformed { byte: at, offence: Offence::TextAfterQuote })
        } else {
            self.look(marks, at, piece)
        };
        self.before = last;
    }

    /// Goes on at byte `at`, behind the record with the offence; `rest` is what was delivered from there on.
    pub fn resume(&mut self, at: u64, rest: &[u8]) {
        (self.found, self.is_inside, self.is_closing, self.escaped) = (None, false, false, None);
        self.before = b'\n';
        self.scan(at, rest);
    }

    fn look(&mut self, marks: Marks, at: u64, piece: &[u8]) -> Option<Malformed> {
        // Most pieces of most objects have no quote at all, and an escape means nothing outside quotes.
        let skipped = if self.is_inside { 0 } else { memchr(marks.quote, piece)? & !7 };
        // Where there are quotes there are many: words are looked at rather than a search set up for each.
        let (words, rest) = piece.get(skipped..)?.as_chunks::<8>();
        for (number, word) in words.iter().enumerate() {
            let mut hits = marks.hits(u64::from_le_bytes(*word));
            while hits != 0 {
                let place = skipped + number * 8 + hits.trailing_zeros() as usize / 8;
                hits &= hits - 1;
                if let Some(malformed) = self.meet(marks, at, piece, place) {
                    return Some(malformed);
                }
            }
        }
        let from = piece.len() - rest.len();
        let is_mark = |byte: u8| byte == marks.quote || Some(byte) == marks.escape;
        let places = rest.iter().enumerate().filter(|(_, byte)| is_mark(**byte)).map(|(place, _)| from + place);
        places.into_iter().find_map(|place| self.meet(marks, at, piece, place))
    }

    /// What a quote or an escape character means where it stands.
    #[inline]
    fn meet(&mut self, marks: Marks, at: u64, piece: &[u8], place: usize) -> Option<Malformed> {
        let byte = at + place as u64;
        if marks.escape.is_some() {
            if self.escaped.take() == Some(byte) {
                return None;
            }
            if piece.get(place) == marks.escape.as_ref() {
                self.escaped = self.is_inside.then_some(byte + 1);
                return None;
            }
        }
        self.is_inside = !self.is_inside;
        if self.is_inside {
            // Behind a quote outside quotes is behind one that seemed to close: the second half of a doubled one.
            let before = place.checked_sub(1).and_then(|before| piece.get(before)).copied().unwrap_or(self.before);
            return (!marks.may_follow(before)).then_some(Malformed { byte, offence: Offence::QuoteInText });
        }
        let Some(&after) = piece.get(place + 1) else {
            self.is_closing = true;
            return None;
        };
        (!marks.may_follow(after)).then_some(Malformed { byte: byte + 1, offence: Offence::TextAfterQuote })
    }
}

/// Whether a record with a misplaced quote, its line end left out, surely is one line of the object and nothing else.
///
/// Only then may it be rejected alone. The splitter's word is not enough: a quote that was opened by mistake has it
/// take line ends for text, and a quote that was closed by mistake has it take text for line ends. So the record must
/// hold no line end, which leaves every other line as if this one were not there; and no field that begins with a
/// quote, blanks before it left out, may hold an odd number of them, because then one is open at the end of the line
/// in any reading that pairs them, and the next line may be its text. A quote in the middle of a text opens nothing.
pub fn is_whole(csv: &Csv, record: &[u8]) -> bool {
    let (mut state, mut opens, mut quotes) = (State::Line, None, 0_u64);
    for &byte in record {
        let is_quote = csv.quote == Some(byte) && state != State::Escaped;
        state = state.next(csv, byte);
        match state {
            _ if matches!(byte, b'\n' | b'\r') => return false,
            State::Field if opens == Some(true) && !quotes.is_multiple_of(2) => return false,
            State::Field => (opens, quotes) = (None, 0),
            _ => {
                quotes += u64::from(is_quote);
                opens = opens.or((!matches!(byte, b' ' | b'\t')).then_some(is_quote));
            }
        }
    }
    !matches!(state, State::Quoted | State::Escaped) && (opens != Some(true) || quotes.is_multiple_of(2))
}

impl Marks {
    /// Whether a byte may stand next to the outer side of a quote: an end of the field, or another quote.
    #[inline]
    fn may_follow(self, byte: u8) -> bool {
        let is_doubled = byte == self.quote && self.escape.is_none();
        byte == self.delimiter || byte == b'\n' || byte == b'\r' || is_doubled
    }

    /// The highest bit of each byte that is a quote or an escape character.
    #[inline]
    const fn hits(self, word: u64) -> u64 {
        zeros(word ^ self.quotes) | zeros(word ^ self.escapes)
    }
}

/// A byte in all places of a word.
const fn spread(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

/// The highest bit of each byte that is zero.
#[inline]
const fn zeros(word: u64) -> u64 {
    const LOW: u64 = spread(0x7f);
    !(((word & LOW) + LOW) | word | LOW)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn dialect(escape: Option<u8>) -> Csv {
        Csv { escape, ..crate::fuzzing::fixture::feed().csv }
    }

    fn scan(csv: &Csv, pieces: &[&[u8]]) -> Option<Malformed> {
        let (mut quotes, mut at) = (Quotes::new(csv), 0);
        for piece in pieces {
            quotes.scan(at, piece);
            at += piece.len() as u64;
        }
        quotes.found()
    }

    /// The rules once more, field by field and without any state.
    fn expected(csv: &Csv, text: &[u8]) -> Option<Malformed> {
        let ends = |at: usize| text.get(at).is_none_or(|byte| matches!(byte, b',' | b'\n' | b'\r'));
        let mut at = if text.starts_with(BYTE_ORDER_MARK) { 3 } else { 0 };
        while at < text.len() {
            if text[at] == b'"' {
                at += 1;
                while at < text.len() && text[at] != b'"' || csv.escape.is_none() && text[at..].starts_with(b"\"\"") {
                    let is_pair = text[at] == b'"' || csv.escape == Some(text[at]);
                    at += if is_pair { 2 } else { 1 };
                }
                if at >= text.len() {
                    return None;
                }
                at += 1;
                if !ends(at) {
                    return Some(Malformed { byte: at as u64, offence: Offence::TextAfterQuote });
                }
            }
            while !ends(at) {
                if text[at] == b'"' {
                    return Some(Malformed { byte: at as u64, offence: Offence::QuoteInText });
                }
                at += 1;
            }
            at += 1;
        }
        None
    }

    proptest! {
        #[test]
        fn the_first_offence_is_found_wherever_the_pieces_are_cut(
            tokens in prop::collection::vec(prop_oneof![
                4 => Just("\""), 3 => Just(","), 2 => Just("\n"), 1 => Just("\r\n"), 2 => Just("x"), 1 => Just("\\"),
                1 => Just("\u{feff}"), 2 => Just("\"a\",\"b\"\n"), 2 => Just("\"a\"\"b\","),
            ], 0..24),
            with_escape: bool, place in any::<prop::sample::Index>(),
        ) {
            let csv = dialect(with_escape.then_some(b'\\'));
            let text = tokens.concat().into_bytes();
            let wanted = expected(&csv, &text);
            prop_assert_eq!(scan(&csv, &[&text]), wanted);
            // The first piece is never shorter than the byte order mark, as long as there is more.
            let (first, second) = text.split_at(text.len().min(place.index(text.len() + 1).max(3)));
            prop_assert_eq!(scan(&csv, &[first, second]), wanted);
            let bytes: Vec<&[u8]> = second.chunks(1).collect();
            prop_assert_eq!(scan(&csv, &[&[first][..], &bytes].concat()), wanted);
        }
    }

    #[test]
    fn what_is_well_formed_passes_and_what_is_not_is_placed() {
        let found = |text: &str| scan(&dialect(None), &[text.as_bytes()]).map(|found| (found.byte, found.offence));
        for good in ["", "\"", "\"\"", "a,\"b\"\n\"c\"\r\n", "\"\"\"\"", "\"a\nb\",", "\u{feff}\"a\"\n", "a,\"open\n"] {
            assert_eq!(found(good), None, "{good:?}");
        }
        assert_eq!(found("\"x\"y"), Some((3, Offence::TextAfterQuote)));
        assert_eq!(found("\"x\" ,y"), Some((3, Offence::TextAfterQuote)));
        assert_eq!(found("a,5\" pipe"), Some((3, Offence::QuoteInText)));
        assert_eq!(found("a, \"b\""), Some((3, Offence::QuoteInText)));
        let none = Csv { quote: None, ..dialect(None) };
        assert_eq!(scan(&none, &[b"\"x\"y"]), None);
    }

    #[test]
    fn a_record_is_whole_where_no_reading_has_a_quote_open_at_its_end() {
        let whole = |escape, record: &str| is_whole(&dialect(escape), record.as_bytes());
        for record in ["\"x\"y", "1,5\" pipe,b", "1, \"abc\" ,2", "\"x\"y,z\"w\",5\"", "a\"b,\"c\"", "1,\"a\"\"b\"c,2"]
        {
            assert!(whole(None, record), "{record}");
        }
        for record in [
            // Closed by the quote that opens the next record's field; a line end inside.
            "1,\"abc\n2,\"b\"",
            "1,\"a\nb\",5\" pipe",
            "1,a\"b\rc",
            // Open in one reading: three quotes may be two and one that opens or closes elsewhere.
            "1,\"5\" pipe\",2",
            "1, \"abc, d",
            "\"a\"b\",c",
            "\"a\"b,\"c",
        ] {
            assert!(!whole(None, record), "{record}");
        }
        assert!(whole(Some(b'\\'), "\"a\"\"b\"") && whole(Some(b'\\'), "\"a\\\"b\"c"));
        assert!(!whole(Some(b'\\'), "\"a\\\\\"b\"") && !whole(Some(b'\\'), "\"a\"b,\"c\\"));
    }
}
