//! What an object is, from its first bytes: its format and, of CSV, its dialect.
//!
//! Every candidate of a dialect is tried with the reader that will load the object; nothing is split here.

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::config::feed::{BlankRecords, Csv, Encoding, Feed, Format, Ragged};
use crate::pipeline::decode::compression::UTF16;
use crate::pipeline::decode::look::look_at;

use super::header::{self, Header};
use super::survey::Survey;

/// So much of an object tells what it is.
pub(super) const HEAD: u64 = 256 << 10;

/// Delimiters, the rarer in texts and numbers first: with two that cut evenly, the comma is rather one of decimals.
const DELIMITERS: [u8; 4] = *b"\t|;,";

/// Share of the records that must have the same number of fields, in percent.
const EVEN: u64 = 80;

/// The beginning of an object.
#[derive(Debug)]
pub(super) struct Head {
    /// Its bytes, decompressed.
    pub(super) bytes: Vec<u8>,
    /// Whether they are all.
    pub(super) is_whole: bool,
    /// What they were compressed with.
    pub(super) compression: &'static str,
    /// What they are, where that is plainly no text.
    pub(super) foreign: Option<&'static str>,
}

/// What an object seems to be.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Guess {
    /// Nothing to be read in it.
    Empty,
    /// What cannot be loaded.
    Foreign(&'static str),
    /// Parquet or Avro.
    Schema(Format),
    /// A JSON object per line.
    Lines,
    /// JSON documents, with the way to the records where they lie inside one.
    Documents(Option<String>),
    /// Delimited text.
    Delimited(Box<Dialect>),
}

impl Guess {
    /// The format a feed needs for it.
    pub(super) const fn format(&self) -> Option<Format> {
        match self {
            Self::Empty | Self::Foreign(_) => None,
            Self::Schema(format) => Some(*format),
            Self::Lines => Some(Format::Jsonl),
            Self::Documents(_) => Some(Format::Json),
            Self::Delimited(_) => Some(Format::Csv),
        }
    }
}

/// How an object of CSV is written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Dialect {
    pub(super) delimiter: u8,
    pub(super) quote: Option<u8>,
    pub(super) encoding: Encoding,
    /// Whether the first record looks like names.
    pub(super) header: Header,
    /// The first record.
    pub(super) first: Vec<Vec<u8>>,
    /// Whether it is one of several, or fits them all.
    pub(super) is_even: bool,
}

/// Looks at the beginning of an object.
pub(super) async fn sniff(base: &Feed, head: &Head) -> Guess {
    match head.foreign {
        Some("Parquet") => return Guess::Schema(Format::Parquet),
        Some("Avro") => return Guess::Schema(Format::Avro),
        Some(UTF16) => return delimited(base, head, Encoding::Utf16).await,
        Some(other) => return Guess::Foreign(other),
        None => {}
    }
    let text = head.bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&head.bytes).trim_ascii_start();
    if text.is_empty() {
        return Guess::Empty;
    }
    if text.contains(&0) {
        return Guess::Foreign("bytes that are no text");
    }
    if let Some(json) = json(text, head.is_whole) {
        return json;
    }
    delimited(base, head, encoding(&head.bytes, head.is_whole)).await
}

/// The encoding of a text that is not UTF-16.
fn encoding(bytes: &[u8], is_whole: bool) -> Encoding {
    match std::str::from_utf8(bytes) {
        Ok(_) => Encoding::Utf8,
        Err(error) if error.error_len().is_none() && !is_whole => Encoding::Utf8,
        // Where Windows-1252 has no character, ISO 8859-1 has a control character at least.
        Err(_) if bytes.iter().any(|byte| matches!(byte, 0x81 | 0x8d | 0x8f | 0x90 | 0x9d)) => Encoding::Latin1,
        Err(_) => Encoding::Windows1252,
    }
}

/// Which JSON a text is; `None` where it is none.
fn json(text: &[u8], is_whole: bool) -> Option<Guess> {
    if !matches!(text.first(), Some(b'{' | b'[')) {
        return None;
    }
    let mut values = serde_json::Deserializer::from_slice(text).into_iter::<&RawValue>();
    let (mut count, mut is_per_line, mut before) = (0_usize, true, 0_usize);
    let failure = loop {
        match values.next() {
            Some(Ok(value)) => {
                let gap = text.get(before..values.byte_offset() - value.get().len()).unwrap_or_default();
                is_per_line &= !value.get().contains('\n') && (count == 0 || gap.contains(&b'\n'));
                before = values.byte_offset();
                count += 1;
            }
            Some(Err(error)) => break Some(error),
            None => break None,
        }
    };
    let is_cut = failure.as_ref().is_some_and(serde_json::Error::is_eof) && !is_whole;
    if count == 0 && !is_cut {
        return None;
    }
    if text.first() == Some(&b'[') {
        // Several arrays of values are rather a text in brackets.
        return (count <= 1).then_some(Guess::Documents(None));
    }
    if count > 1 {
        return Some(if is_per_line { Guess::Lines } else { Guess::Documents(None) });
    }
    let records = envelope(text);
    if records.is_none() && count == 1 && is_per_line {
        return Some(Guess::Lines);
    }
    Some(Guess::Documents(records))
}

/// The way to the only array of several objects in a document; what was read before its end counts.
fn envelope(text: &[u8]) -> Option<String> {
    let mut arrays = Vec::new();
    let seed = Members { path: String::new(), arrays: &mut arrays };
    // The end of the text may be missing: what stands before it is found nevertheless.
    drop(seed.deserialize(&mut serde_json::Deserializer::from_slice(text)));
    match arrays.as_mut_slice() {
        [one] => Some(std::mem::take(one)),
        _ => None,
    }
}

/// Looks for arrays of objects among the members of an object.
struct Members<'a> {
    path: String,
    arrays: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Members<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let depth = self.path.matches('.').count() + usize::from(!self.path.is_empty());
        while let Some(name) = map.next_key::<String>()? {
            if depth >= 2 || name.contains('.') {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let path = if self.path.is_empty() { name } else { format!("{}.{name}", self.path) };
            map.next_value_seed(Members { path, arrays: self.arrays })?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let mut objects = 0_u64;
        while let Some(is_object) = items.next_element::<IsObject>()? {
            objects += u64::from(is_object.0);
            if objects == 2 && !self.path.is_empty() {
                self.arrays.push(self.path.clone());
            }
        }
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// Whether a value is an object; it is passed over.
struct IsObject(bool);

impl<'de> serde::Deserialize<'de> for IsObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        Ok(Self(raw.get().starts_with('{')))
    }
}

/// The dialect with which most records have the same number of fields.
async fn delimited(base: &Feed, head: &Head, encoding: Encoding) -> Guess {
    let mut bytes = head.bytes.as_slice();
    if !head.is_whole && encoding != Encoding::Utf16 {
        // The last line is cut.
        bytes = bytes.iter().rposition(|byte| *byte == b'\n').and_then(|end| bytes.get(..=end)).unwrap_or(bytes);
    }
    let mut best: Option<(u64, Dialect)> = None;
    for quote in [Some(b'"'), None] {
        for delimiter in DELIMITERS {
            let feed = with(base, delimiter, quote, encoding);
            let mut survey = Survey::apart();
            survey.begin();
            let ended = look_at(&feed, bytes.to_vec(), &mut survey).await;
            let (even, uneven) = (survey.records + survey.blank, survey.bad("E-CSV-RAGGED"));
            let is_usable = ended.is_ok() || (!head.is_whole && even > 0);
            let is_even = even * 100 >= (even + uneven) * EVEN;
            if !is_usable || survey.first.len() < 2 || !is_even {
                continue;
            }
            if best.as_ref().is_none_or(|(most, _)| even > *most) {
                let header = header::judge(&survey.first, &survey.fields);
                let first = survey.first;
                best = Some((even, Dialect { delimiter, quote, encoding, header, first, is_even: uneven == 0 }));
            }
        }
        if best.is_some() {
            break;
        }
    }
    if let Some((_, dialect)) = best {
        return Guess::Delimited(Box::new(dialect));
    }
    lone_column(base, bytes, encoding).await
}

/// A text without a delimiter that cuts it.
async fn lone_column(base: &Feed, bytes: &[u8], encoding: Encoding) -> Guess {
    let mut survey = Survey::apart();
    survey.begin();
    let quote = Some(b'"');
    let ended = look_at(&with(base, b',', quote, encoding), bytes.to_vec(), &mut survey).await;
    let header = header::judge(&survey.first, &survey.fields);
    let is_even = ended.is_ok() && survey.bad.is_empty();
    Guess::Delimited(Box::new(Dialect { delimiter: b',', quote, encoding, header, first: survey.first, is_even }))
}

/// The feed with a dialect, without header.
pub(super) fn with(base: &Feed, delimiter: u8, quote: Option<u8>, encoding: Encoding) -> Feed {
    let csv = Csv {
        delimiter,
        quote,
        encoding,
        header: false,
        ragged: Ragged::Reject,
        blank_records: BlankRecords::Keep,
        ..base.csv.clone()
    };
    Feed { format: Format::Csv, csv, ..base.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzzing::fixture;

    fn head(bytes: &[u8]) -> Head {
        Head { bytes: bytes.to_vec(), is_whole: true, compression: "uncompressed", foreign: None }
    }

    async fn dialect(text: &str) -> Dialect {
        match sniff(&feed(), &head(text.as_bytes())).await {
            Guess::Delimited(dialect) => *dialect,
            other => panic!("{text:?}: {other:?}"),
        }
    }

    fn feed() -> Feed {
        let mut feed = fixture::feed();
        feed.limits.max_fields = 100;
        feed
    }

    #[tokio::test]
    async fn the_delimiter_is_the_one_that_cuts_evenly() {
        for (text, delimiter) in [
            ("1,a\n2,b\n", b','),
            ("1;a, b\n2;c, d, e\n3;f\n", b';'),
            ("1,5;2,5\n3,5;4,5\n", b';'),
            ("1\tx\n2\ty\n", b'\t'),
            ("1|x\n2|y\n", b'|'),
            ("alone\nand alone\n", b','),
            ("\"a,b\";1\n\"c\";2\n", b';'),
        ] {
            assert_eq!(dialect(text).await.delimiter, delimiter, "{text:?}");
        }
        assert_eq!(dialect("a 5\" nail,1\na 6\" nail,2\n").await.quote, None);
        assert_eq!(dialect("\"a, b\",1\nc,2\n").await.quote, Some(b'"'));
    }

    #[tokio::test]
    async fn json_is_told_by_where_its_objects_end() {
        for (text, expected) in [
            ("{\"a\":1}\n{\"a\":2}\n", Guess::Lines),
            ("{\"a\":1}", Guess::Lines),
            ("{\"a\":1}{\"a\":2}", Guess::Documents(None)),
            ("{\n\"a\":1\n}\n{\n\"a\":2\n}", Guess::Documents(None)),
            ("[{\"a\":1},\n{\"a\":2}]", Guess::Documents(None)),
            ("{\"n\":2,\"data\":{\"items\":[{\"a\":1},{\"a\":2}]}}", Guess::Documents(Some("data.items".to_owned()))),
        ] {
            assert_eq!(sniff(&feed(), &head(text.as_bytes())).await, expected, "{text}");
        }
        let cut = Head { is_whole: false, ..head(b"{\"n\":2,\"items\":[{\"a\":1},{\"a\":2},{\"a\"") };
        assert_eq!(sniff(&feed(), &cut).await, Guess::Documents(Some("items".to_owned())));
        assert!(matches!(sniff(&feed(), &head(b"[x],1\n[y],2\n")).await, Guess::Delimited(_)));
    }

    #[test]
    fn encodings_are_told_by_their_bytes() {
        assert_eq!(encoding("é".as_bytes(), true), Encoding::Utf8);
        assert_eq!(encoding(b"caf\xc3", false), Encoding::Utf8);
        assert_eq!(encoding(b"caf\xe9", true), Encoding::Windows1252);
        assert_eq!(encoding(b"caf\xe9 \x81", true), Encoding::Latin1);
    }

    #[tokio::test]
    async fn what_is_no_data_is_named() {
        assert_eq!(sniff(&feed(), &head(b" \n")).await, Guess::Empty);
        assert_eq!(sniff(&feed(), &head(b"a\0b")).await, Guess::Foreign("bytes that are no text"));
        let pdf = Head { foreign: Some("PDF"), ..head(b"%PDF-") };
        assert_eq!(sniff(&feed(), &pdf).await, Guess::Foreign("PDF"));
    }
}
