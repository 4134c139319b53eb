//! Tables of cells and what becomes of them, without a server: errors, exact bytes, framing, panics.

#[cfg(feature = "demo")]
mod server;

use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::*;

fn encoded(kind: &ColumnType, cell: &[u8]) -> Result<Vec<u8>, CellError> {
    let mut out = BytesMut::new();
    encode_cell(kind, cell, &TimeZone::UTC, &mut out).map(|()| out.to_vec())
}

/// Length and payload.
fn framed(payload: &[u8]) -> Vec<u8> {
    [&i32::try_from(payload.len()).unwrap().to_be_bytes(), payload].concat()
}

#[track_caller]
fn check_refused(kind: &ColumnType, code: &str, cells: &[&str]) {
    for cell in cells {
        let error = encoded(kind, cell.as_bytes()).expect_err(cell);
        assert_eq!(error.code, code, "{kind:?} {cell:?}: {error}");
        // Short cells may occur in a sentence by chance.
        assert!(cell.len() < 6 || !error.reason.contains(cell), "{error} holds the value");
    }
}

#[track_caller]
fn check_same(kind: &ColumnType, payload: &[u8], cells: &[&str]) {
    for cell in cells {
        assert_eq!(encoded(kind, cell.as_bytes()), Ok(framed(payload)), "{kind:?} {cell:?}");
    }
}

#[test]
fn whole_numbers_take_a_sign_and_digits_and_keep_to_their_range() {
    check_same(&ColumnType::Int2, &32767_i16.to_be_bytes(), &["32767", "+32767", "00000000000000000000032767"]);
    check_same(&ColumnType::Int2, &(-32768_i16).to_be_bytes(), &["-32768"]);
    check_same(&ColumnType::Int4, &i32::MIN.to_be_bytes(), &["-2147483648"]);
    check_same(&ColumnType::Int8, &i64::MIN.to_be_bytes(), &["-9223372036854775808", "-009223372036854775808"]);
    check_same(&ColumnType::Int8, &i64::MAX.to_be_bytes(), &["9223372036854775807"]);
    check_same(&ColumnType::Int8, &0_i64.to_be_bytes(), &["0", "-0", "+0", "00000000000000000000000000"]);
    check_refused(&ColumnType::Int2, "E-CELL-INT-RANGE", &["32768", "-32769", "99999999999999999999999"]);
    check_refused(&ColumnType::Int4, "E-CELL-INT-RANGE", &["2147483648", "-2147483649"]);
    check_refused(
        &ColumnType::Int8,
        "E-CELL-INT-RANGE",
        &["9223372036854775808", "-9223372036854775809", "18446744073709551616", "-18446744073709551616"],
    );
    for kind in [ColumnType::Int2, ColumnType::Int4, ColumnType::Int8] {
        let bad =
            ["", "-", "+", "--1", "1e3", "8.0", " 42 ", "42 ", "٤٢", "0x10", "1_000", "1,000", "12345678901234567890x"];
        check_refused(&kind, "E-CELL-INT", &bad);
    }
}

#[test]
fn numeric_is_written_in_groups_of_four_digits_with_the_decimals_as_written() {
    let words = |words: &[i16]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>();
    check_same(&ColumnType::Numeric, &words(&[0, 0, 0, 0]), &["0", "-0", "+0", "0e5", "00000000000000000000000", "0."]);
    check_same(&ColumnType::Numeric, &words(&[0, 0, 0, 2]), &["0.00", "-.00", "0.0000e2"]);
    check_same(&ColumnType::Numeric, &words(&[1, 1, 0, 0, 1]), &["10000", "1e4", "1E+4", "00000000000000000000010000"]);
    check_same(&ColumnType::Numeric, &words(&[2, 0, 0x4000, 2, 123, 4500]), &["-123.45", "-12345e-2", "-0123.45"]);
    check_same(&ColumnType::Numeric, &words(&[1, -1, 0, 2, 500]), &["0.05", ".05", "5e-2"]);
    check_same(&ColumnType::Numeric, &words(&[1, -2, 0, 8, 1]), &["0.00000001", "1e-8"]);
    check_same(&ColumnType::Numeric, &words(&[4, 3, 0, 0, 9999, 9999, 9999, 9999]), &["9999999999999999"]);
    check_same(&ColumnType::Numeric, &words(&[5, 0, 0, 15, 1, 2345, 6789, 123, 4560]), &["1.234567890123456"]);
    let bad =
        ["", "-", ".", "-.", "e5", "1e", "1e+", "1.2.3", " 1", "1 ", "1,5", "0x10", "1_0", "NaN", "-inf", "+NAN", "١"];
    check_refused(&ColumnType::Numeric, "E-CELL-NUMERIC", &bad);
    check_refused(&ColumnType::Numeric, "E-CELL-NUMERIC-RANGE", &["1e131072", "1e999999999999999999999", "1e-16384"]);
}

#[test]
fn floats_refuse_words_and_what_they_cannot_hold() {
    check_same(&ColumnType::Float8, &1e23_f64.to_be_bytes(), &["1e23", "+1E+23", "100000000000000000000000"]);
    check_same(&ColumnType::Float8, &(-0.0_f64).to_be_bytes(), &["-0", "-0e400"]);
    check_same(&ColumnType::Float4, &0.1_f32.to_be_bytes(), &["0.1", ".1", "1e-1"]);
    check_same(&ColumnType::Float8, &5e-324_f64.to_be_bytes(), &["5e-324"]);
    for kind in [ColumnType::Float4, ColumnType::Float8] {
        check_refused(
            &kind,
            "E-CELL-FLOAT",
            &["", "NaN", "inf", "-Infinity", "1e", "e1", ".", "1,5", " 1", "0x1p3", "１"],
        );
        check_refused(&kind, "E-CELL-FLOAT-RANGE", &["1e400", "-1e400", "1e-400"]);
    }
    check_refused(&ColumnType::Float4, "E-CELL-FLOAT-RANGE", &["1e39", "1e-50"]);
}

#[test]
fn booleans_are_the_words_of_the_server_in_any_case() {
    check_same(&ColumnType::Bool, &[1], &["t", "true", "TRUE", "True", "y", "yes", "YES", "on", "On", "1", "T"]);
    check_same(&ColumnType::Bool, &[0], &["f", "false", "FALSE", "n", "no", "off", "OFF", "0"]);
    check_refused(&ColumnType::Bool, "E-CELL-BOOL", &["", "maybe", "2", "o", "ja", " t", "true ", "falsely"]);
}

#[test]
fn dates_and_times_are_strict_about_form_and_calendar() {
    check_same(&ColumnType::Date, &0_i32.to_be_bytes(), &["2000-01-01"]);
    check_same(&ColumnType::Date, &(-1_i32).to_be_bytes(), &["1999-12-31"]);
    let bad = ["", "2024-02-30", "2024-13-01", "0000-01-01", "2023-02-29", "now", "infinity", "01/02/2024"];
    check_refused(&ColumnType::Date, "E-CELL-DATE", &bad);
    check_refused(&ColumnType::Date, "E-CELL-DATE", &["2024-1-1", "20240101", "2024-01-01 ", "10000-01-01", "٢٠٢٤-٠١"]);
    check_same(
        &ColumnType::Time,
        &86_400_000_000_i64.to_be_bytes(),
        &["24:00", "24:00:00", "23:59:60", "23:59:59.9999999"],
    );
    check_same(&ColumnType::Time, &1_500_000_i64.to_be_bytes(), &["00:00:01.5", "00:00:01.500000000"]);
    let bad = [
        "",
        "24:00:01",
        "25:00",
        "12:60",
        "12:00:61",
        "1:00",
        "12",
        "12:00:",
        "12:00:00.",
        "12:00.5",
        "12:00:00.1234567890",
    ];
    check_refused(&ColumnType::Time, "E-CELL-TIME", &bad);
}

#[test]
fn timestamps_have_one_meaning_whatever_their_spelling() {
    let noon = 43_200_000_000_i64.to_be_bytes();
    check_same(&ColumnType::Timestamp, &noon, &["2000-01-01 12:00", "2000-01-01T12:00:00", "2000-01-01 12:00:00.000Z"]);
    check_same(&ColumnType::Timestamp, &noon, &["2000-01-01T12:00:00+00", "2000-01-01T12:00:00-00:00"]);
    check_same(
        &ColumnType::Timestamp,
        &0_i64.to_be_bytes(),
        &["2000-01-01", "1999-12-31 24:00:00", "1999-12-31T23:59:60"],
    );
    check_refused(&ColumnType::Timestamp, "E-CELL-TIMESTAMP", &["2000-01-01 12:00+01", "2000-01-01T12:00:00-0130"]);
    let same = [
        "2000-01-01T12:00Z",
        "2000-01-01 14:00+02",
        "2000-01-01 14:00:00+0200",
        "2000-01-01T17:30:00+05:30",
        "2000-01-01 12:00",
    ];
    check_same(&ColumnType::Timestamptz, &noon, &same);
    for kind in [ColumnType::Timestamp, ColumnType::Timestamptz] {
        let bad = [
            "",
            "now",
            "infinity",
            "2000-02-30 00:00",
            "2000-01-01T",
            "2000-01-01 ",
            "2000-01-01 12",
            "2000-01-01  12:00",
        ];
        check_refused(&kind, "E-CELL-TIMESTAMP", &bad);
        let bad = [
            "2000-01-01 12:00 UTC",
            "2000-01-01 12:00+1",
            "2000-01-01 12:00+16",
            "2000-01-01 12:00+01:60",
            "946684800",
        ];
        check_refused(&kind, "E-CELL-TIMESTAMP", &bad);
    }
}

#[test]
fn a_local_time_is_read_on_the_zones_clock() {
    let new_york = TimeZone::get("America/New_York").unwrap();
    let utc = |cell: &str| {
        let mut out = BytesMut::new();
        encode_cell(&ColumnType::Timestamptz, cell.as_bytes(), &new_york, &mut out).unwrap();
        let micros = i64::from_be_bytes(out[4..].try_into().unwrap());
        let epoch: jiff::Timestamp = "2000-01-01T00:00:00Z".parse().unwrap();
        (epoch + jiff::SignedDuration::from_micros(micros)).to_string()
    };
    assert_eq!(utc("2024-07-01 12:00"), "2024-07-01T16:00:00Z");
    assert_eq!(utc("2024-01-01"), "2024-01-01T05:00:00Z");
    assert_eq!(utc("2024-01-01 24:00:00"), "2024-01-02T05:00:00Z");
    // Skipped by the clock: read with the offset before the jump, so it shows an hour later.
    assert_eq!(utc("2024-03-10 02:30"), "2024-03-10T07:30:00Z");
    // Shown twice by the clock: the first time counts.
    assert_eq!(utc("2024-11-03 01:30"), "2024-11-03T05:30:00Z");
    // An offset in the text wins.
    assert_eq!(utc("2024-11-03 01:30Z"), "2024-11-03T01:30:00Z");
}

#[test]
fn text_is_utf8_without_nul_and_within_its_limit() {
    let text = ColumnType::Text { max_chars: None };
    check_same(&text, b"", &[""]);
    check_same(&text, "grün €😀".as_bytes(), &["grün €😀"]);
    for length in 0..40 {
        for position in 0..length {
            let mut cell = vec![b'x'; length];
            cell[position] = 0;
            assert_eq!(encoded(&text, &cell).unwrap_err().code, "E-CELL-NUL", "{length} {position}");
            cell[position] = 0xff;
            assert_eq!(encoded(&text, &cell).unwrap_err().code, "E-CELL-UTF8", "{length} {position}");
            cell[position] = 0x7f;
            assert_eq!(encoded(&text, &cell), Ok(framed(&cell)));
        }
    }
    for bytes in [&b"\xc0\x80"[..], b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"ab\xc3"] {
        assert_eq!(encoded(&text, bytes).unwrap_err().code, "E-CELL-UTF8");
    }
    let five = ColumnType::Text { max_chars: Some(5) };
    check_same(&five, "größe".as_bytes(), &["größe"]);
    check_refused(&five, "E-CELL-TOO-LONG", &["größer", "abcde ", "abcdef"]);
    let char_five = ColumnType::Char { max_chars: Some(5) };
    check_same(&char_five, b"abc      ", &["abc      "]);
    check_refused(&char_five, "E-CELL-TOO-LONG", &["abcdef   ", "größer"]);
}

#[test]
fn bytea_uuid_enum_and_json_refuse_what_is_none() {
    check_same(&ColumnType::Bytea, b"\xde\xad", &[r"\xdeAD", r"\xde ad", r"\336\255"]);
    check_same(&ColumnType::Bytea, b"a\\b", &[r"a\\b", r"\x615c62"]);
    check_refused(&ColumnType::Bytea, "E-CELL-BYTEA", &[r"\xabc", r"\xzz", r"a\b", r"\8", r"\400", r"abc\"]);
    let bytes = [0x12, 0x3e, 0x45, 0x67, 0xe8, 0x9b, 0x12, 0xd3, 0xa4, 0x56, 0x42, 0x66, 0x14, 0x17, 0x40, 0];
    let spellings = [
        "123e4567-e89b-12d3-a456-426614174000",
        "{123E4567e89b12d3a456426614174000}",
        "123e-4567e89b12d3-a456-4266-1417-4000",
    ];
    check_same(&ColumnType::Uuid, &bytes, &spellings);
    let bad = [
        "",
        "123e4567",
        "{123e4567-e89b-12d3-a456-426614174000",
        "123e4567-e89b-12d3-a456-426614174000-",
        "123e4567--e89b-12d3-a456-426614174000",
    ];
    check_refused(&ColumnType::Uuid, "E-CELL-UUID", &bad);
    let colour = ColumnType::Enum { labels: vec!["red".to_owned()].into() };
    check_same(&colour, b"red", &["red"]);
    check_refused(&colour, "E-CELL-ENUM", &["", "Red", "red ", "green"]);
    for kind in [ColumnType::Json, ColumnType::Jsonb] {
        check_refused(
            &kind,
            "E-CELL-JSON",
            &["", "{", "{'a': 1}", "[1,]", "01", "nul", "\"\t\"", r#""\x""#, "1 2", "NaN"],
        );
        let deep = format!("{}{}", "[".repeat(1001), "]".repeat(1001));
        check_refused(&kind, "E-CELL-JSON", &[&deep]);
    }
    check_same(&ColumnType::Json, br#"{"a": "\u0000"} "#, &[r#"{"a": "\u0000"} "#]);
    check_same(&ColumnType::Jsonb, b"\x01[1e3]", &["[1e3]"]);
    let bad = [
        r#""\u0000""#,
        r#""\ud800""#,
        r#""\udc00""#,
        r#""\ud800\u0041""#,
        "[1e200000]",
        "1e-20000",
        r#"{"\u0000": 1}"#,
    ];
    check_refused(&ColumnType::Jsonb, "E-CELL-JSON", &bad);
    assert!(encoded(&ColumnType::Jsonb, br#"["\\u0000", "\ud83d\ude00", "1e200000"]"#).is_ok());
}

#[test]
fn arrays_are_rectangular_and_name_the_element_that_is_wrong() {
    let ints = ColumnType::Array { element: Box::new(ColumnType::Int2), element_oid: 21 };
    check_same(&ints, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 21], &["{}", " { } "]);
    let two = [0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 21, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2, 0, 7, 0xff, 0xff, 0xff, 0xff];
    check_same(&ints, &two, &["{7,NULL}", " { 7 , null } ", "{\"7\",NuLL}"]);
    let bad = [
        "",
        "7",
        "{",
        "{1",
        "{1,",
        "{1,}",
        "{,1}",
        "{1}{2}",
        "{1}x",
        "{{1},2}",
        "{1,{2}}",
        "{{1,2},{3}}",
        "[0:1]={1,2}",
        "{{}}",
        "{{{{{{{1}}}}}}}",
        "{\"1}",
        "{1\"2\"}",
        "{\"1\"2}",
        "{1\\",
    ];
    check_refused(&ints, "E-CELL-ARRAY", &bad);
    let error = encoded(&ints, b"{{1,2},{3,70000}}").unwrap_err();
    assert_eq!((error.code, &*error.reason), ("E-CELL-INT-RANGE", "element 4: out of range for smallint"));
    check_refused(&ints, "E-CELL-INT", &["{\"null\"}", "{n\\ull}", "{\"\"}"]);
}

#[test]
fn the_frame_is_that_of_copy_binary() {
    let mut out = BytesMut::new();
    put_header(&mut out);
    begin_tuple(2, &mut out);
    put_null(&mut out);
    encode_cell(&ColumnType::Int2, b"1", &TimeZone::UTC, &mut out).unwrap();
    put_trailer(&mut out);
    let expected = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x02\xff\xff\xff\xff\0\0\0\x02\0\x01\xff\xff";
    assert_eq!(&out[..], expected);
}

#[test]
fn text_lines_escape_what_would_end_a_cell_or_the_data() {
    let line = |cell: &[u8]| {
        let mut out = BytesMut::new();
        encode_text_cell(&ColumnType::Other, cell, &TimeZone::UTC, &mut out).unwrap();
        String::from_utf8(out.to_vec()).unwrap()
    };
    assert_eq!(line(b"a\\b\tc\nd\re\x08\x0b\x0cf"), r"a\\b\tc\nd\re\b\v\ff");
    assert_eq!(line(b"\\."), r"\\.");
    assert_eq!(line(b"\\N"), r"\\N");
    let mut out = BytesMut::from(&b"before"[..]);
    let outcome = encode_text_cell(&ColumnType::Int4, b"x", &TimeZone::UTC, &mut out);
    assert_eq!((outcome.unwrap_err().code, &out[..]), ("E-CELL-INT", &b"before"[..]));
    assert_eq!(encode_text_cell(&ColumnType::Other, b"\0", &TimeZone::UTC, &mut out).unwrap_err().code, "E-CELL-NUL");
}

#[test]
fn a_timestamptz_gets_its_offset_in_text_and_an_array_of_them_must_have_it() {
    let kolkata = TimeZone::get("Asia/Kolkata").unwrap();
    let line = |kind: &ColumnType, cell: &str| {
        let mut out = BytesMut::new();
        let outcome = encode_text_cell(kind, cell.as_bytes(), &kolkata, &mut out);
        outcome.map(|()| String::from_utf8(out.to_vec()).unwrap()).map_err(|error| error.code)
    };
    let kind = ColumnType::Timestamptz;
    assert_eq!(line(&kind, "2024-01-02 12:00").unwrap(), "2024-01-02 12:00+05:30:00");
    assert_eq!(line(&kind, "2024-01-02").unwrap(), "2024-01-02 00:00:00+05:30:00");
    assert_eq!(line(&kind, "2024-01-02 12:00Z").unwrap(), "2024-01-02 12:00Z");
    let kind = ColumnType::Array { element: Box::new(kind), element_oid: 1184 };
    assert_eq!(line(&kind, "{2024-01-02 12:00Z}").unwrap(), "{2024-01-02 12:00Z}");
    assert_eq!(line(&kind, "{2024-01-02 12:00Z,2024-01-02}"), Err("E-CELL-TIMESTAMP"));
}

#[test]
fn catalogue_entries_become_types_with_their_limits() {
    assert_eq!(ColumnType::from_catalog(1043, 14, None), ColumnType::Text { max_chars: Some(10) });
    assert_eq!(ColumnType::from_catalog(1043, -1, None), ColumnType::Text { max_chars: None });
    assert_eq!(ColumnType::from_catalog(1042, 5, None), ColumnType::Char { max_chars: Some(1) });
    assert_eq!(ColumnType::from_catalog(1700, 786_438, None), ColumnType::Numeric);
    assert_eq!(ColumnType::from_catalog(869, -1, None), ColumnType::Other);
    let labels = vec!["a".to_owned()];
    assert_eq!(ColumnType::from_catalog(16385, -1, Some(labels.clone())), ColumnType::Enum { labels: labels.into() });
    assert!(!ColumnType::Array { element: Box::new(ColumnType::Other), element_oid: 1 }.is_binary());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_cell_makes_the_encoder_panic_or_leave_half_a_value(
        cell in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..40),
            proptest::string::bytes_regex(r#"[-+{}\[\]"\\,.:TZeExX 0-9aunltrfNUL]{0,24}"#).unwrap(),
        ]
    ) {
        for kind in crate::fuzzing::cell::types() {
            for encode in [encode_cell, encode_text_cell] {
                let mut out = BytesMut::from(&b"before"[..]);
                let outcome = encode(&kind, &cell, &TimeZone::UTC, &mut out);
                prop_assert!(out.starts_with(b"before"));
                if outcome.is_err() {
                    prop_assert_eq!(&out[..], b"before");
                }
            }
            let mut out = BytesMut::new();
            if encode_cell(&kind, &cell, &TimeZone::UTC, &mut out).is_ok() {
                let length = i32::from_be_bytes(out[..4].try_into().unwrap());
                prop_assert_eq!(usize::try_from(length).unwrap(), out.len() - 4);
            }
        }
    }
}
