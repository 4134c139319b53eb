//! The whole decode stage on bytes alone: what it makes of them must not depend on how they arrive.

mod reference;

use proptest::prelude::*;

use super::*;
use crate::config::feed::{ColumnMap, Csv, Limits, Rules, Source};
use crate::fuzzing::compression::{KINDS, Kind, member};
use crate::fuzzing::csv::decode;
use crate::fuzzing::fixture;

fn feed(header: bool) -> Feed {
    let mut feed = fixture::feed();
    feed.csv.header = header;
    feed
}

/// A column filled by a field.
fn map(column: &str, field: &str) -> ColumnMap {
    ColumnMap { column: column.to_owned(), source: Source::field(field), rules: Rules::default() }
}

/// The object cut at these places, taken modulo its length.
fn cut(object: &[u8], places: &[usize]) -> Vec<Vec<u8>> {
    let mut places: Vec<usize> = places.iter().map(|place| place % (object.len() + 1)).collect();
    places.extend([0, object.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| object[pair[0]..pair[1]].to_vec()).collect()
}

/// Texts made of everything a CSV reader may stumble over.
fn texts() -> impl Strategy<Value = String> {
    let token = prop_oneof![
        4 => Just(","), 4 => Just("\n"), 3 => Just("\r\n"), 1 => Just("\r"), 3 => Just("\""), 1 => Just("\"\""),
        3 => Just("a"), 2 => Just("long"), 1 => Just("é"), 1 => Just("😀"), 1 => Just("\0"), 6 => Just("a,b\n"),
        2 => Just("a,\"b\nc\"\r\n"),
    ];
    let mark = prop_oneof![5 => Just(""), 1 => Just("\u{feff}")];
    (mark, prop::collection::vec(token, 0..24)).prop_map(|(mark, tokens)| mark.to_owned() + &tokens.concat())
}

/// The same with bytes that are no text in between, and marks where none belongs.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        8 => texts().prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..6),
        1 => Just(b"\xef\xbb\xbf".to_vec()),
        1 => Just(b"\n\n\r\n\r\r\n".to_vec()),
        1 => Just(b"\xf0\x9f".to_vec()),
    ];
    prop::collection::vec(token, 0..4).prop_map(|tokens| tokens.concat())
}

fn dialects() -> impl Strategy<Value = Csv> {
    let quote = prop::sample::select(vec![Some(b'"'), Some(b'\''), None]);
    let escape = prop::sample::select(vec![None, None, Some(b'\\')]);
    (prop::sample::select(b",;\t".to_vec()), quote, escape, any::<bool>())
        .prop_map(|(delimiter, quote, escape, header)| Csv { delimiter, quote, escape, header, ..fixture::feed().csv })
}

/// Caps around the sizes of what is generated.
fn caps() -> impl Strategy<Value = Limits> {
    (0..120_u64, 0..40_u64, 1..4_usize).prop_map(|(max_bytes, max_record_bytes, max_fields)| Limits {
        max_bytes: max_bytes + 1,
        max_ratio: 1000,
        max_record_bytes: max_record_bytes + 1,
        max_fields,
        ..fixture::feed().limits
    })
}

/// The bytes as members of one compressed stream, split at these places.
fn members(data: &[u8], places: &[usize], kind: Kind) -> Vec<u8> {
    // A stream begins with a member even if nothing is in it.
    let parts = cut(data, places);
    parts.iter().flat_map(|part| member(part, kind)).collect()
}

proptest! {
    #[test]
    fn no_way_of_cutting_the_bytes_changes_what_becomes_of_them(
        text in bytes(), csv in dialects(), places in prop::collection::vec(any::<usize>(), 0..12),
    ) {
        let feed = Feed { csv, ..fixture::feed() };
        let whole = decode(&feed, vec![text.clone()]);
        let bytes = text.iter().map(|byte| vec![*byte]).collect();
        prop_assert_eq!(&decode(&feed, bytes), &whole);
        prop_assert_eq!(&decode(&feed, cut(&text, &places)), &whole);
    }

    #[test]
    fn no_way_of_compressing_the_bytes_changes_what_becomes_of_them(
        text in texts(), header: bool, kind in prop::sample::select(KINDS.to_vec()),
        splits in prop::collection::vec(any::<usize>(), 0..4),
        places in prop::collection::vec(any::<usize>(), 0..12),
    ) {
        let feed = feed(header);
        let whole = decode(&feed, vec![text.clone().into_bytes()]);
        prop_assert_eq!(&decode(&feed, cut(&members(text.as_bytes(), &splits, kind), &places)), &whole);
    }

    #[test]
    fn which_cap_is_exceeded_and_where_does_not_depend_on_how_the_bytes_arrive(
        text in bytes(), csv in dialects(), limits in caps(), places in prop::collection::vec(any::<usize>(), 0..12),
    ) {
        let feed = Feed { csv, limits, ..fixture::feed() };
        let whole = decode(&feed, vec![text.clone()]);
        let bytes = text.iter().map(|byte| vec![*byte]).collect();
        prop_assert_eq!(&decode(&feed, bytes), &whole);
        prop_assert_eq!(&decode(&feed, cut(&text, &places)), &whole);
    }

    #[test]
    fn a_quote_opened_and_never_closed_is_always_found(rows in 0_usize..20, tail in "[a-z,\n]{0,20}") {
        let text = format!("{}a,\"{tail}", "a,b\n".repeat(rows));
        let message = decode(&feed(false), vec![text.into_bytes()]).unwrap_err();
        let place = format!("E-CSV-QUOTE line {0} (record {0}, byte {1}): ", rows + 1, rows * 4);
        prop_assert!(message.starts_with(&place), "{}", message);
    }
}

#[test]
fn a_bad_record_is_placed_exactly_whatever_ends_the_lines_before_it() {
    for (header, text, place) in [
        (false, "a,b\na,b\nlong,b\n", "line 3 (record 3, byte 8)"),
        (false, "a,b\r\na,b\r\nlong,b\r\n", "line 3 (record 3, byte 10)"),
        (true, "a,b\r\na,b\r\nlong,b\r\n", "line 3 (record 2, byte 10)"),
        (false, "\n\r\n\na,b\n\n\nlong,b", "line 7 (record 2, byte 10)"),
        (false, "a,\"b\r\nc\"\r\nlong,b\r\n", "line 3 (record 2, byte 10)"),
        (false, "\r\n\r\nlong,b\r\n", "line 3 (record 1, byte 4)"),
    ] {
        let cuts = (0..=text.len()).map(|at| vec![at]).chain([vec![], (0..text.len()).collect()]);
        for places in cuts {
            let message = decode(&feed(header), cut(text.as_bytes(), &places)).unwrap_err();
            assert!(message.starts_with(&format!("E-CELL-TOO-LONG {place}, column \"a\": ")), "{text:?}: {message}");
        }
    }
}

#[test]
fn a_record_longer_than_the_buffers_is_placed_where_it_begins() {
    let filler = format!("a,{}\r\n", "x".repeat(200_000));
    let text = format!("{filler}\r\n{filler}\r\nlong,{}\r\n", "y".repeat(300_000));
    let message = decode(&feed(false), cut(text.as_bytes(), &[200_003, 200_004, 200_005, 400_007])).unwrap_err();
    assert!(message.starts_with("E-CELL-TOO-LONG line 5 (record 3, byte 400012), "), "{message}");
    let text = format!("{filler}\r\n{}", "y".repeat(1_100_000));
    let message = decode(&feed(false), vec![text.into_bytes()]).unwrap_err();
    assert!(message.starts_with("E-LIMIT-RECORD the record at line 3 (byte 200006) "), "{message}");
}

#[test]
fn only_a_first_record_without_header_is_asked_whether_it_is_one() {
    let hint = |header, text: &str| decode(&feed(header), vec![text.into()]).unwrap_err().contains("csv.header = true");
    assert!(hint(false, "long,b\n"));
    assert!(!hint(false, "a,b\nlong,b\n"));
    assert!(!hint(true, "a,b\nlong,b\n"));
}

#[test]
fn a_mapping_that_cannot_fit_the_table_is_the_operators_and_one_that_misses_a_header_is_the_objects() {
    let mut feed = feed(true);
    feed.routes[0].mapping.columns = vec![map("gone", "a")];
    let message = decode(&feed, vec![b"a,b\n".to_vec()]).unwrap_err();
    assert!(message.starts_with("E-TARGET-COLUMN ") && message.contains("\"gone\""), "{message}");
    assert_eq!(DecodeError::Target(String::new()).verdict(), Verdict::Halt);
    feed.routes[0].mapping.columns = vec![map("a", "other")];
    let message = decode(&feed, vec![b"a,b\n".to_vec()]).unwrap_err();
    assert!(message.starts_with("E-CSV-HEADER ") && message.contains("it has \"a\", \"b\""), "{message}");
}

#[test]
fn a_misplaced_quote_is_blamed_on_its_record_before_anything_else_in_it() {
    let message = |header, text: &str| decode(&feed(header), vec![text.into()]).unwrap_err();
    let after = message(false, "a,b\r\n\"a\nb\",c\r\n\r\n\"x\"y,b\r\n");
    assert!(after.starts_with("E-CSV-QUOTE line 5 (record 3, byte 16): text follows the closing quote"), "{after}");
    let inside = message(true, "a,b\na,b\nlong,5\" pipe,ragged\n");
    assert!(inside.starts_with("E-CSV-QUOTE line 3 (record 2, byte 8): a quote stands inside a field"), "{inside}");
    // The quote opened in the second record is closed by the next one that opens.
    let opened = message(false, "a,b\na,\"b\na,\"b\"\n");
    assert!(opened.starts_with("E-CSV-QUOTE line 2 (record 2, byte 4): text follows the closing quote"), "{opened}");
    // An earlier record that is bad for another reason comes first, a header is none of the records.
    assert!(message(false, "long,b\n\"x\"y,b\n").starts_with("E-CELL-TOO-LONG line 1"));
    assert!(message(true, "a\"b,b\na,b\n").starts_with("E-CSV-QUOTE line 1 "));
    let mut plain = feed(false);
    plain.csv.quote = None;
    assert_eq!(decode(&plain, vec![b"\"x,\"y\"z\n".to_vec()]).unwrap().1.loaded, 1);
}

/// A feed of rejections and this dialect, with a header.
fn tolerant(change: impl FnOnce(&mut Csv)) -> Feed {
    let mut feed = Feed { rejects: Rejects { max_rows: 1000, max_ratio: None }, ..feed(true) };
    change(&mut feed.csv);
    feed
}

/// Rows loaded, rejected and left out.
fn counts(feed: &Feed, object: &[u8]) -> Result<(u64, u64, u64), String> {
    let made = decode(feed, vec![object.to_vec()])?;
    crate::fuzzing::csv::check(&made);
    Ok((made.1.loaded, made.1.rejected, made.1.filtered))
}

#[test]
fn a_text_is_read_in_the_encoding_its_feed_names_and_blamed_for_another() {
    let read = |encoding, object: &[u8]| counts(&tolerant(|csv| csv.encoding = encoding), object);
    let utf16: Vec<u8> = "\u{feff}a,b\n1,ä\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(read(Encoding::Utf16, &utf16), Ok((1, 0, 0)));
    assert_eq!(read(Encoding::Latin1, b"a,b\n1,\xe4\n"), Ok((1, 0, 0)));
    // Three characters are three characters, however many bytes they are here or there.
    assert_eq!(read(Encoding::Windows1252, b"a,b\n\x80\x80\x80,b\n\x80\x80\x80\x80,b\n"), Ok((1, 1, 0)));
    let message = read(Encoding::Utf8, &utf16).unwrap_err();
    assert_eq!(message, "E-FORMAT the object looks like UTF-16 text, the feed expects csv");
    let cut = read(Encoding::Utf16, &utf16[..utf16.len() - 1]).unwrap_err();
    assert_eq!(cut, "E-ENCODING the object is not utf-16: the last character is cut (byte 16)");
    for (error, word) in [
        (DecodeError::Format { found: compression::UTF16, expected: Format::Csv }, "csv.encoding"),
        (bad(Position::default(), None, "E-CELL-UTF8", "not UTF-8"), "csv.encoding"),
    ] {
        assert!(error.advice().contains(word), "{}", error.advice());
    }
}

#[test]
fn blank_records_are_left_out_and_counted_also_where_there_is_nothing_else() {
    use crate::config::feed::BlankRecords::Filter;
    let blanks = |header| tolerant(|csv| (csv.header, csv.blank_records) = (header, Filter));
    assert_eq!(counts(&blanks(true), b" ,\na,b\n1,x\n,\n \t\n\"\"\n2,y\n\n"), Ok((2, 0, 3)));
    assert_eq!(counts(&blanks(false), b",,,\n  \n1,x\n,\n"), Ok((1, 0, 3)));
    assert_eq!(counts(&blanks(false), b",\n \n"), Ok((0, 0, 2)));
    assert_eq!(counts(&blanks(true), b",\n \n"), Ok((0, 0, 0)));
    assert_eq!(counts(&tolerant(|_| ()), b"a,b\n,\n"), Ok((1, 0, 0)));
}

#[test]
fn comments_are_no_records_and_move_no_position() {
    let feed = tolerant(|csv| csv.comment = Some(b'#'));
    let text = "#a \"note\na,b\n# it's \"\n1,#x\r\n#,,,\r\n\"#2\",y\nlong,z\n#end";
    let (_, decoded, rejections) = decode(&feed, vec![text.into()]).unwrap();
    assert_eq!((decoded.loaded, decoded.rejected), (2, 1));
    assert_eq!(rejections[0].position, Position { record: 3, line: 7, byte: 41 });
    // Lines that a lone carriage return ends are lines of their own.
    assert_eq!(counts(&feed, b"a,b\r#\"c\r1,x\r#\r2,y"), Ok((2, 0, 0)));
    // What only quotes keep from being a comment is kept from it also in front of rejected records.
    let odd = decode(&feed, vec![b"\"#\",a\n1,2\n".to_vec()]).unwrap_err();
    assert!(odd.starts_with("E-CSV-HEADER "), "{odd}");
}

#[test]
fn short_records_are_padded_with_what_is_absent_and_long_ones_are_not_cut() {
    let mut feed = tolerant(|csv| csv.ragged = crate::config::feed::Ragged::Pad);
    assert_eq!(counts(&feed, b"a,b\n1\n1,2,3\n1,2,\n"), Ok((1, 2, 0)));
    feed.routes[0].mapping.rules.required = true;
    assert_eq!(counts(&feed, b"a,b\n1\n1,2\n"), Ok((1, 1, 0)));
}

#[test]
fn a_misplaced_quote_is_rejected_alone_where_its_record_surely_ends() {
    let reject = |text: &str| counts(&tolerant(|_| ()), format!("a,b\n{text}").as_bytes());
    assert_eq!(reject("1,x\n\"x\"y,b\n2,y\na,5\" pipe\r\n3,z\n1, \"b\"\n4,\"x\ny\"\n"), Ok((4, 3, 0)));
    assert_eq!(reject("5\",b"), Ok((0, 1, 0)));
    for text in ["1,\"x\n2,\"b\"\n", "1,\"5\" pipe\",2\n", "1, \"x\n2,y\"\n", "1,\"x\"y,\"open\n2,z\n"] {
        let message = reject(text).unwrap_err();
        assert!(message.starts_with("E-CSV-QUOTE line 2 ") && message.ends_with("is not certain"), "{message}");
    }
    // The first record of a file without header tells how many fields there are.
    let headless = tolerant(|csv| csv.header = false);
    let message = counts(&headless, b"1,5\"\n2,x\n").unwrap_err();
    assert!(message.ends_with("without its first record"), "{message}");
    // A record longer than what is kept of it cannot be looked at as a whole.
    let long = format!("1,{}\"\n2,y\n", "x".repeat(70_000));
    assert!(reject(&long).unwrap_err().ends_with("is not certain"));
}

#[test]
fn names_that_mean_the_same_are_one_unless_two_fields_have_them() {
    use crate::config::feed::NameMatch::Normalized;
    let read = |columns: &[(&str, &str)], header: &str| {
        let mut feed = tolerant(|_| ());
        feed.routes[0].mapping.names = Normalized;
        feed.routes[0].mapping.columns = columns.iter().map(|(column, field)| map(column, field)).collect();
        counts(&feed, format!("{header}\n1,x\n").as_bytes())
    };
    for header in ["A,B", "\u{feff} A ,b", "\"A\",\" B\""] {
        assert_eq!(read(&[], header), Ok((1, 0, 0)), "{header}");
    }
    let mapped = [("a", "employee_id"), ("b", "full name")];
    for header in ["employee_id,full name", "Employee-ID,Full.Name", "EMPLOYEE ID,full_name"] {
        assert_eq!(read(&mapped, header), Ok((1, 0, 0)), "{header}");
    }
    let both = read(&[("b", "full name")], "Full-Name,FULL_NAME").unwrap_err();
    assert!(both.starts_with("E-CSV-HEADER ") && both.contains("\"Full-Name\" and \"FULL_NAME\""), "{both}");
    // The one spelt as it is wanted is meant; the other then has no column.
    let other = read(&[("b", "full name")], "full name,FULL_NAME").unwrap_err();
    assert!(other.starts_with("E-CSV-HEADER ") && other.contains("\"FULL_NAME\""), "{other}");
    assert!(read(&[], "a,a").unwrap_err().contains("twice"));
}
