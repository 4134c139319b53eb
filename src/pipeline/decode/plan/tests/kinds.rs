//! Values that say of what type they are, into columns of every type.

use super::given::{Given, Owned, column, given, json, load, shape, text};
use crate::config::feed::{ColumnMap, EpochUnit, Feed, Format, Rejects, Rules, Source, TimeFormat};
use crate::fuzzing::fixture;
use crate::store::encode::{ColumnType, encode_cell};

fn feed(rules: Rules, coerce: bool) -> Feed {
    let mut feed = fixture::feed();
    feed.format = Format::Json;
    feed.json.coerce = coerce;
    feed.rejects = Rejects { max_rows: 100, max_ratio: None };
    feed.routes[0].mapping.columns = vec![ColumnMap { column: "c".to_owned(), source: Source::field("v"), rules }];
    feed
}

fn payload(kind: &ColumnType, text: &str) -> Vec<u8> {
    let mut out = bytes::BytesMut::new();
    encode_cell(kind, text.as_bytes(), &jiff::tz::TimeZone::UTC, &mut out).unwrap();
    out[4..].to_vec()
}

fn outcome<const SCHEMA: bool>(
    feed: &Feed,
    kind: &ColumnType,
    reader: Given<SCHEMA>,
) -> Result<Option<Vec<u8>>, String> {
    let mut loaded = load(feed, vec![shape(vec![column("c", kind.clone())])], reader).unwrap();
    match loaded.rejections.pop() {
        Some(rejection) => Err(rejection.code),
        None => Ok(loaded.rows[0].pop().unwrap().pop().unwrap()),
    }
}

fn check<const SCHEMA: bool>(feed: &Feed, kind: &ColumnType, value: &str, expected: &str) {
    let found = outcome::<SCHEMA>(feed, kind, json(&[&format!("{{\"v\": {value}}}")]));
    let wanted = match expected {
        code if code.starts_with("E-") => Err(code.to_owned()),
        "∅" => Ok(None),
        text => Ok(Some(payload(kind, text))),
    };
    assert_eq!(found, wanted, "{kind:?} of {value}, schema {SCHEMA}, coerce {}", feed.json.coerce);
}

fn array(element: ColumnType) -> ColumnType {
    ColumnType::Array { element: Box::new(element), element_oid: 1 }
}

const KIND: &str = "E-CELL-KIND";

#[test]
fn json_values_go_into_columns_of_their_kind_or_are_coerced_by_option() {
    // Value, type, what becomes of it, what becomes of it where the feed coerces.
    let cases = [
        ("12", ColumnType::Int4, "12", "12"),
        ("\"12\"", ColumnType::Int4, KIND, "12"),
        ("\"x\"", ColumnType::Int4, KIND, "E-CELL-INT"),
        ("true", ColumnType::Int4, KIND, KIND),
        ("[1]", ColumnType::Int4, KIND, KIND),
        (
            "12345678901234567890.123456789",
            ColumnType::Numeric,
            "12345678901234567890.123456789",
            "12345678901234567890.123456789",
        ),
        ("1e3", ColumnType::Float8, "1000", "1000"),
        ("12", text(), KIND, "12"),
        ("1.50", text(), KIND, "1.50"),
        ("true", text(), KIND, "true"),
        ("{\"a\": 1.0}", text(), KIND, "{\"a\": 1.0}"),
        ("\"12\"", text(), "12", "12"),
        ("\"a\\u00e4\\n\"", text(), "aä\n", "aä\n"),
        ("true", ColumnType::Bool, "true", "true"),
        ("\"true\"", ColumnType::Bool, KIND, "true"),
        ("1", ColumnType::Bool, KIND, "1"),
        ("\"2024-02-29\"", ColumnType::Date, "2024-02-29", "2024-02-29"),
        ("20240229", ColumnType::Date, KIND, KIND),
        ("1700000000", ColumnType::Timestamptz, KIND, KIND),
        (
            "\"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11\"",
            ColumnType::Uuid,
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        ),
        ("\"\\\\x0102\"", ColumnType::Bytea, "\\x0102", "\\x0102"),
        ("\"a\\\"b\"", ColumnType::Jsonb, "\"a\\\"b\"", "\"a\\\"b\""),
        ("\"{}\"", ColumnType::Json, "\"{}\"", "\"{}\""),
        ("1.10", ColumnType::Jsonb, "1.10", "1.10"),
        ("false", ColumnType::Jsonb, "false", "false"),
        ("{\"a\":[1.000]}", ColumnType::Jsonb, "{\"a\":[1.000]}", "{\"a\":[1.000]}"),
        ("\"a\\u0000b\"", ColumnType::Jsonb, "E-CELL-JSON", "E-CELL-JSON"),
        ("\"a\\u0000b\"", text(), "E-CELL-NUL", "E-CELL-NUL"),
        ("null", ColumnType::Jsonb, "∅", "∅"),
        ("\"{1,2}\"", array(ColumnType::Int4), KIND, KIND),
        ("1", array(ColumnType::Int4), KIND, KIND),
    ];
    for (value, kind, strict, coerced) in &cases {
        check::<false>(&feed(Rules::default(), false), kind, value, strict);
        check::<false>(&feed(Rules::default(), true), kind, value, coerced);
    }
}

#[test]
fn values_of_a_schema_go_into_texts_and_texts_are_read_strictly() {
    let feed = feed(Rules::default(), false);
    for (value, kind, expected) in [
        ("\"12\"", ColumnType::Int4, "12"),
        ("\" 12\"", ColumnType::Int4, "E-CELL-INT"),
        ("12.0", ColumnType::Int4, "E-CELL-INT"),
        ("12.50", text(), "12.50"),
        ("true", text(), "true"),
        ("true", ColumnType::Int4, KIND),
        ("1", ColumnType::Bool, "1"),
        ("2", ColumnType::Bool, "E-CELL-BOOL"),
        ("\"{\\\"a\\\":1}\"", ColumnType::Jsonb, "{\"a\":1}"),
        ("\"a\"", ColumnType::Jsonb, "E-CELL-JSON"),
        ("1700000000", ColumnType::Timestamptz, KIND),
        ("[1]", text(), KIND),
        ("[1,null]", array(ColumnType::Int8), "{1,NULL}"),
        ("\"2024-02-30\"", ColumnType::Date, "E-CELL-DATE"),
    ] {
        check::<true>(&feed, &kind, value, expected);
    }
    let integral = load(
        &self::feed(Rules { integral_floats: true, ..Rules::default() }, false),
        vec![shape(vec![column("c", ColumnType::Int4)])],
        json::<true>(&["{\"v\": 12.0}", "{\"v\": 12.5}"]),
    );
    let integral = integral.unwrap();
    assert_eq!((integral.decoded.loaded, integral.rejected()), (1, vec!["2 c E-CELL-INT".to_owned()]));
}

#[test]
fn bytes_are_exact_and_texts_where_they_are_utf_8() {
    let feed = feed(Rules::default(), false);
    let bytes = |bytes: &[u8]| given::<true>(vec![vec![("v".to_owned(), Owned::Bytes(bytes.to_vec()))]]);
    let all: Vec<u8> = (0..=255).collect();
    assert_eq!(outcome(&feed, &ColumnType::Bytea, bytes(&all)), Ok(Some(all)));
    assert_eq!(outcome(&feed, &ColumnType::Bytea, bytes(b"")), Ok(Some(Vec::new())));
    assert_eq!(outcome(&feed, &text(), bytes("ä".as_bytes())), Ok(Some("ä".into())));
    assert_eq!(outcome(&feed, &text(), bytes(b"\xff")), Err("E-CELL-UTF8".to_owned()));
    assert_eq!(outcome(&feed, &ColumnType::Int4, bytes(b"1")), Err(KIND.to_owned()));
}

#[test]
fn json_arrays_become_arrays() {
    let (strict, coerce) = (feed(Rules::default(), false), feed(Rules::default(), true));
    for (value, element, expected) in [
        ("[]", ColumnType::Int4, "{}"),
        ("[1, 2 ,null]", ColumnType::Int4, "{1,2,NULL}"),
        ("[[1,2],[3,null]]", ColumnType::Int4, "{{1,2},{3,NULL}}"),
        ("[[1],[2,3]]", ColumnType::Int4, "E-CELL-ARRAY"),
        ("[1,[2]]", ColumnType::Int4, "E-CELL-ARRAY"),
        ("[[]]", ColumnType::Int4, "E-CELL-ARRAY"),
        ("[[[[[[[1]]]]]]]", ColumnType::Int4, "E-CELL-ARRAY"),
        ("[\"a\",\"NULL\",\"\",\"b\\\"\\\\,{}\",\" \",null]", text(), r#"{a,"NULL","","b\"\\,{}"," ",NULL}"#),
        ("[true,false]", ColumnType::Bool, "{t,f}"),
        ("[\"2024-02-29\"]", ColumnType::Date, "{2024-02-29}"),
        ("[1.10]", ColumnType::Numeric, "{1.10}"),
        ("[{\"a\":1},[1,2],\"x\",1,null]", ColumnType::Jsonb, r#"{"{\"a\":1}","[1,2]","\"x\"",1,NULL}"#),
        ("[{}]", ColumnType::Int4, KIND),
        ("[\"1\"]", ColumnType::Int4, KIND),
        ("[1]", text(), KIND),
        ("[1,99999999999]", ColumnType::Int4, "E-CELL-INT-RANGE"),
        ("{\"a\":1}", ColumnType::Int4, KIND),
    ] {
        check::<false>(&strict, &array(element), value, expected);
    }
    check::<false>(&coerce, &array(ColumnType::Int4), "[\"1\"]", "{1}");
    check::<false>(&coerce, &array(text()), "[1,true]", "{1,true}");
}

#[test]
fn numbers_are_times_by_the_feeds_word_only() {
    let epoch = |unit| Rules { time_format: Some(TimeFormat::Epoch(unit)), ..Rules::default() };
    let kind = ColumnType::Timestamptz;
    check::<false>(&feed(epoch(EpochUnit::Millis), false), &kind, "1700000000123", "2023-11-14 22:13:20.123Z");
    check::<false>(&feed(epoch(EpochUnit::Seconds), false), &kind, "1.700000000123e9", "2023-11-14 22:13:20.123Z");
    check::<false>(&feed(epoch(EpochUnit::Seconds), false), &kind, "\"1700000000\"", "2023-11-14 22:13:20Z");
    check::<true>(&feed(epoch(EpochUnit::Nanos), false), &kind, "1700000000123000000", "2023-11-14 22:13:20.123Z");
    check::<false>(&feed(epoch(EpochUnit::Seconds), false), &kind, "true", KIND);
    let pattern = Rules { time_format: Some(TimeFormat::Pattern("%Y%m%d".to_owned())), ..Rules::default() };
    check::<false>(&feed(pattern, false), &ColumnType::Date, "20240229", "2024-02-29");
}

#[test]
fn rules_hold_for_values_with_kinds() {
    let rules = Rules { null: vec![String::new(), "-999".to_owned()], max: Some("10".to_owned()), ..Rules::default() };
    let feed = feed(rules, true);
    check::<false>(&feed, &ColumnType::Numeric, "-999", "∅");
    check::<false>(&feed, &ColumnType::Numeric, "10.0", "10.0");
    check::<false>(&feed, &ColumnType::Numeric, "10.01", "E-RULE-MAX");
    check::<false>(&feed, &ColumnType::Numeric, "\" \"", "∅");
    let one_of = Rules { one_of: vec!["true".to_owned()], ..Rules::default() };
    check::<false>(&self::feed(one_of.clone(), false), &ColumnType::Bool, "true", "true");
    check::<false>(&self::feed(one_of, false), &ColumnType::Bool, "false", "E-RULE-ONE-OF");
}

#[test]
fn a_refusal_names_the_kind_and_what_would_take_it() {
    let load = |value: &str, coerce| {
        let mut loaded = load(
            &feed(Rules::default(), coerce),
            vec![shape(vec![column("c", ColumnType::Int4)])],
            json::<false>(&[&format!("{{\"v\": {value}}}")]),
        );
        loaded.as_mut().unwrap().rejections.pop().unwrap().reason
    };
    assert_eq!(load("\"12\"", false), "a text, which the column's type does not take unless json.coerce = true (int4)");
    assert_eq!(load("{}", false), "an array or object, which the column's type does not take (int4)");
}
