//! What becomes of CSV with rejections, worked out a second time: record by record, from the whole text, without state.
#![expect(clippy::string_slice, reason = "places are those of ASCII characters that were found")]

use proptest::prelude::*;

use super::*;
use crate::config::feed::{BlankRecords, Ragged};
use crate::fuzzing::csv::check;

/// What must become of one record.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Loaded(Vec<String>),
    Rejected { code: &'static str, at: usize, line: usize, raw: String },
    Filtered,
}

/// A field as it stands, its value, and whether a quote in it is misplaced; `None` where its quote is never closed.
fn field<'t>(csv: &Csv, text: &'t str) -> Option<(&'t str, String, bool)> {
    let quote = csv.quote.map_or('\0', char::from);
    let delimiter = char::from(csv.delimiter);
    let plain_end = |from: usize| {
        let rest = &text[from..];
        from + rest.find([delimiter, '\n', '\r']).unwrap_or(rest.len())
    };
    if !text.starts_with(quote) {
        let raw = &text[..plain_end(0)];
        return Some((raw, raw.to_owned(), raw.contains(quote)));
    }
    let (mut value, mut chars) = (String::new(), text.char_indices().skip(1).peekable());
    while let Some((at, c)) = chars.next() {
        if csv.escape.map(char::from) == Some(c) {
            value.push(chars.next()?.1);
        } else if c != quote {
            value.push(c);
        } else if csv.escape.is_none() && chars.next_if(|(_, c)| *c == quote).is_some() {
            value.push(quote);
        } else {
            let end = plain_end(at + 1);
            return Some((&text[..end], value, end > at + 1));
        }
    }
    None
}

/// Whether a record whose quotes are misplaced may be rejected alone: one line, in no field of which a quote is left.
fn is_whole(csv: &Csv, record: &str, fields: &[&str]) -> bool {
    let quote = csv.quote.map_or('\0', char::from);
    let pairs = |field: &&str| {
        let (mut quotes, mut chars) = (0, field.chars());
        let in_quotes = field.starts_with(quote);
        let mut closed = false;
        while let Some(c) = chars.next() {
            if in_quotes && !closed && csv.escape.map(char::from) == Some(c) {
                chars.next();
                continue;
            }
            quotes += usize::from(c == quote);
            // Behind the quote that closes it an escape character is one like others.
            closed |= csv.escape.is_some() && c == quote && quotes > 1;
        }
        !field.trim_start_matches([' ', '\t']).starts_with(quote) || quotes % 2 == 0
    };
    !record.contains(['\n', '\r']) && fields.iter().all(pairs)
}

/// All records behind a header of two fields, or nothing where the object fails.
fn fates(csv: &Csv, text: &str, first_line: usize) -> Option<Vec<Fate>> {
    let (mut fates, mut at) = (Vec::new(), 0);
    loop {
        at += text[at..].len() - text[at..].trim_start_matches(['\n', '\r']).len();
        if at == text.len() {
            return Some(fates);
        }
        let (start, mut raws, mut values, mut is_misplaced) = (at, Vec::new(), Vec::new(), false);
        loop {
            let (raw, value, misplaced) = field(csv, &text[at..])?;
            at += raw.len();
            raws.push(raw);
            values.push(value);
            is_misplaced |= misplaced;
            if !text[at..].starts_with(char::from(csv.delimiter)) {
                break;
            }
            at += 1;
        }
        let record = &text[start..at];
        let line = first_line + text[..start].matches('\n').count();
        let rejected = |code| Fate::Rejected { code, at: start, line, raw: format!("{record}\n") };
        let is_blank = values.iter().all(|value| value.trim_ascii().is_empty());
        fates.push(if is_misplaced {
            if !is_whole(csv, record, &raws) {
                return None;
            }
            rejected("E-CSV-QUOTE")
        } else if is_blank && csv.blank_records == BlankRecords::Filter {
            Fate::Filtered
        } else if values.len() > 2 || values.len() < 2 && csv.ragged == Ragged::Reject {
            rejected("E-CSV-RAGGED")
        } else if values[0].chars().count() > 3 {
            rejected("E-CELL-TOO-LONG")
        } else {
            Fate::Loaded(values)
        });
    }
}

/// A tuple of the table, number included; a field that is not there is NULL.
fn tuple(values: &[String], number: usize) -> Vec<u8> {
    let mut out = vec![0, 3];
    for nth in 0..2 {
        let length = values.get(nth).map_or(-1, |value| i32::try_from(value.len()).unwrap());
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(values.get(nth).map_or(&[], |value| value.as_bytes()));
    }
    out.extend_from_slice(&8_i32.to_be_bytes());
    out.extend_from_slice(&(number as u64).to_be_bytes());
    out
}

proptest! {
    #[test]
    fn every_record_is_loaded_rejected_or_filtered_as_it_would_be_alone(
        tokens in prop::collection::vec(prop_oneof![
            5 => Just("a,b\n"), 3 => Just("\n"), 4 => Just("\""), 4 => Just(","), 2 => Just("x"), 1 => Just(" "),
            1 => Just("\r\n"), 1 => Just("\r"), 1 => Just("\\"), 2 => Just("\"a\",\"b\"\n"), 2 => Just("\"x\"y,z\n"),
            2 => Just("a,5\" pipe\n"), 1 => Just("long,b\n"), 1 => Just("a,\"b\nc\"\n"), 1 => Just(" ,\t\n"),
            1 => Just("1,\"5\" pipe\",2\n"), 1 => Just("é,"), 1 => Just("a\n"),
        ], 0..16),
        escape in prop::sample::select(vec![None, None, Some(b'\\')]),
        quote in prop::sample::select(vec![Some(b'"'), Some(b'"'), Some(b'"'), None]),
        pad: bool, filter: bool,
        places in prop::collection::vec(any::<usize>(), 0..6),
    ) {
        let ragged = if pad { Ragged::Pad } else { Ragged::Reject };
        let blank_records = if filter { BlankRecords::Filter } else { BlankRecords::Keep };
        let csv = Csv { escape, quote, ragged, blank_records, header: true, ..fixture::feed().csv };
        let mut feed = Feed { csv, rejects: Rejects { max_rows: 1000, max_ratio: None }, ..fixture::feed() };
        // Every field is a value, whatever stands in it.
        feed.routes[0].mapping.rules.null = Vec::new();
        feed.limits.max_fields = 100;
        let text = tokens.concat();
        let object = format!("a,b\n{text}").into_bytes();
        let made = decode(&feed, vec![object.clone()]);
        prop_assert_eq!(&decode(&feed, cut(&object, &places)), &made);
        prop_assert_eq!(&decode(&feed, object.iter().map(|byte| vec![*byte]).collect()), &made);

        let Some(fates) = fates(&feed.csv, &text, 2) else {
            let message = made.unwrap_err();
            prop_assert!(message.starts_with("E-CSV-QUOTE line "), "{}", message);
            return Ok(());
        };
        let made = made.unwrap();
        check(&made);
        let (tuples, decoded, rejections) = made;
        let (mut expected, mut rejected) = (Vec::new(), rejections.into_iter());
        for (index, fate) in fates.iter().enumerate() {
            match fate {
                Fate::Loaded(values) => expected.extend(tuple(values, index + 1)),
                Fate::Filtered => {}
                Fate::Rejected { code, at, line, raw } => {
                    let found = rejected.next().unwrap();
                    let position = Position { record: index as u64 + 1, line: *line as u64, byte: *at as u64 + 4 };
                    prop_assert_eq!((&found.code[..], found.position), (*code, position));
                    prop_assert_eq!((&found.raw[..], found.raw_bytes), (raw.as_bytes(), raw.len() as u64));
                }
            }
        }
        prop_assert_eq!(rejected.next(), None);
        prop_assert_eq!(tuples, expected);
        prop_assert_eq!(decoded.read, fates.len() as u64);
        prop_assert_eq!(decoded.filtered, fates.iter().filter(|fate| **fate == Fate::Filtered).count() as u64);
    }
}
