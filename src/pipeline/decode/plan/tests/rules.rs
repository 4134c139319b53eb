//! Each rule at its boundary, and what rules never fit.

use super::super::super::DecodeError;
use super::given::{column, load_csv, shape, text};
use crate::config::feed::{ColumnMap, EpochUnit, Feed, Rejects, Rules, Source, TimeFormat};
use crate::fuzzing::fixture;
use crate::store::catalog::Column;
use crate::store::encode::{ColumnType, encode_cell};

/// A feed of one column under these rules.
fn feed(rules: Rules) -> Feed {
    let mut feed = fixture::feed();
    feed.rejects = Rejects { max_rows: 100, max_ratio: None };
    feed.routes[0].mapping.columns = vec![ColumnMap { column: "c".to_owned(), source: Source::Position(1), rules }];
    feed
}

/// What becomes of one cell: the payload that goes over the wire, NULL, or a code.
fn outcome(rules: &Rules, target: Column, cell: &str) -> Result<Option<Vec<u8>>, String> {
    let csv = format!("\"{}\"\n", cell.replace('"', "\"\""));
    let mut loaded = load_csv(&feed(rules.clone()), vec![shape(vec![target])], &csv).unwrap();
    match loaded.rejections.pop() {
        Some(rejection) => {
            assert!(cell.len() < 6 || !rejection.reason.contains(cell), "{} holds the value", rejection.reason);
            assert_eq!(loaded.decoded.rejected, 1);
            Err(rejection.code)
        }
        None => Ok(loaded.rows[0].pop().unwrap().pop().unwrap()),
    }
}

fn payload(kind: &ColumnType, text: &str) -> Vec<u8> {
    let mut out = bytes::BytesMut::new();
    encode_cell(kind, text.as_bytes(), &jiff::tz::TimeZone::UTC, &mut out).unwrap();
    out[4..].to_vec()
}

/// Cells that are taken for the value of another text, `∅` for NULL, or refused with a code.
fn check(rules: Rules, kind: ColumnType, cells: &[(&str, &str)]) {
    for (cell, expected) in cells {
        let found = outcome(&rules, column("c", kind.clone()), cell);
        let wanted = match *expected {
            code if code.starts_with("E-") => Err(code.to_owned()),
            "∅" => Ok(None),
            value => Ok(Some(payload(&kind, value))),
        };
        assert_eq!(found, wanted, "{kind:?} {cell:?} under {rules:?}");
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the rules hold options")]
fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().copied().map(str::to_owned).collect()
}

#[test]
fn blanks_alone_are_null_where_the_empty_text_is_and_nowhere_else() {
    check(Rules::default(), text(), &[("", "∅"), (" ", "∅"), (" \t\r\n", "∅"), (" a ", " a "), ("NULL", "NULL")]);
    let rules = Rules { null: texts(&["NULL", "\\N"]), ..Rules::default() };
    check(rules, text(), &[("NULL", "∅"), ("\\N", "∅"), ("", ""), ("  ", "  "), ("null", "null"), (" NULL", " NULL")]);
    let rules = Rules { null: texts(&["", "NULL"]), trim: true, ..Rules::default() };
    check(rules, text(), &[(" NULL ", "∅"), ("  ", "∅"), ("  a b ", "a b")]);
    let rules = Rules { null: Vec::new(), ..Rules::default() };
    check(rules, text(), &[("", ""), ("  ", "  ")]);
}

#[test]
fn a_default_stands_in_for_null_before_a_value_is_required_and_comes_under_the_rules() {
    let rules = Rules { default: some("7"), required: true, min: some("5"), ..Rules::default() };
    check(rules, ColumnType::Int4, &[("", "7"), (" ", "7"), ("5", "5"), ("4", "E-RULE-MIN")]);
    let rules = Rules { required: true, ..Rules::default() };
    check(rules, ColumnType::Int4, &[("", "E-ROW-NULL"), ("\t", "E-ROW-NULL"), ("0", "0")]);
    let strict = Column { nullable: false, ..column("c", ColumnType::Int4) };
    assert_eq!(outcome(&Rules::default(), strict, " "), Err("E-ROW-NULL".to_owned()));
}

#[test]
fn the_smallest_and_the_largest_value_are_compared_as_the_columns_type() {
    let between = |min: &str, max: &str| Rules { min: some(min), max: some(max), ..Rules::default() };
    check(
        between("-5", "10"),
        ColumnType::Int2,
        &[("-6", "E-RULE-MIN"), ("-5", "-5"), ("9", "9"), ("10", "10"), ("11", "E-RULE-MAX"), ("x", "E-CELL-INT")],
    );
    check(
        between("0.10", "99999999999999999999.5"),
        ColumnType::Numeric,
        &[
            ("0.0999999999999999999999999999", "E-RULE-MIN"),
            ("0.1", "0.1"),
            ("99999999999999999999.5", "99999999999999999999.5"),
            ("99999999999999999999.50000000001", "E-RULE-MAX"),
        ],
    );
    check(between("0", "1"), ColumnType::Float8, &[("-0.0", "-0.0"), ("-1e-300", "E-RULE-MIN"), ("1.1", "E-RULE-MAX")]);
    check(
        between("2024-02-28", "2024-03-01"),
        ColumnType::Date,
        &[
            ("2024-02-27", "E-RULE-MIN"),
            ("2024-02-28", "2024-02-28"),
            ("2024-03-01", "2024-03-01"),
            ("2024-03-02", "E-RULE-MAX"),
        ],
    );
    check(between("08:00", "17:00"), ColumnType::Time, &[("07:59:59.999999", "E-RULE-MIN"), ("17:00:00", "17:00")]);
    check(
        between("2024-01-01", "2024-01-02"),
        ColumnType::Timestamp,
        &[("2024-01-02 00:00:00.000001", "E-RULE-MAX"), ("2024-01-02T00:00Z", "2024-01-02")],
    );
}

#[test]
fn moments_are_compared_by_the_zone_of_the_mapping() {
    let rules = Rules { min: some("2024-06-01 00:00"), ..Rules::default() };
    let mut feed = feed(rules);
    feed.routes[0].mapping.timezone = jiff::tz::TimeZone::get("Europe/Madrid").unwrap();
    // Midnight there is ten in the evening in Greenwich.
    let csv = "2024-05-31 21:59:59Z\n2024-05-31 22:00Z\n2024-06-01 00:00\n2024-05-31 23:59\n";
    let loaded = load_csv(&feed, vec![shape(vec![column("c", ColumnType::Timestamptz)])], csv).unwrap();
    assert_eq!(loaded.rejected(), ["1 c E-RULE-MIN", "4 c E-RULE-MIN"]);
    assert_eq!(loaded.decoded.loaded, 2);
}

#[test]
fn texts_are_held_against_lists_patterns_and_lengths() {
    let rules = Rules { one_of: texts(&["on", "off"]), trim: true, ..Rules::default() };
    check(rules, text(), &[("on", "on"), (" off ", "off"), ("On", "E-RULE-ONE-OF"), ("o", "E-RULE-ONE-OF"), ("", "∅")]);
    let matches = regex::bytes::Regex::new("^(?:[A-Z]{2}|[A-Z]{2}-[0-9]+)$").unwrap();
    let rules = Rules { matches: Some(matches), ..Rules::default() };
    check(
        rules,
        text(),
        &[
            ("AB", "AB"),
            ("AB-1", "AB-1"),
            ("AB-", "E-RULE-MATCHES"),
            ("AB\n", "E-RULE-MATCHES"),
            ("xAB", "E-RULE-MATCHES"),
        ],
    );
    let rules = Rules { min_length: Some(2), max_length: Some(3), ..Rules::default() };
    check(
        rules,
        text(),
        &[("ä", "E-RULE-LENGTH"), ("äö", "äö"), ("äöü", "äöü"), ("abcd", "E-RULE-LENGTH"), ("😀😀😀", "😀😀😀")],
    );
}

#[test]
fn a_pattern_that_nobody_anchored_must_still_match_the_whole_text() {
    let rules = Rules { matches: Some(regex::bytes::Regex::new("[0-9]+").unwrap()), ..Rules::default() };
    check(rules, text(), &[("12", "12"), ("12a", "E-RULE-MATCHES"), ("a12", "E-RULE-MATCHES")]);
}

#[test]
fn fractions_of_zeros_are_whole_numbers_by_option_only() {
    check(Rules::default(), ColumnType::Int4, &[("8.0", "E-CELL-INT")]);
    let rules = Rules { integral_floats: true, max: some("8"), ..Rules::default() };
    check(
        rules.clone(),
        ColumnType::Int4,
        &[
            ("8.0", "8"),
            ("-8.000", "-8"),
            ("8", "8"),
            ("9.0", "E-RULE-MAX"),
            ("8.", "E-CELL-INT"),
            (".0", "E-CELL-INT"),
            ("8.01", "E-CELL-INT"),
            ("8.0.0", "E-CELL-INT"),
            ("8e0", "E-CELL-INT"),
        ],
    );
    // A rule for all columns changes nothing in those that are no integers.
    check(Rules { max: None, ..rules }, text(), &[("8.0", "8.0")]);
}

#[test]
fn dates_are_read_strictly() {
    for cell in ["now", "today", "infinity", "-infinity", "2024-02-30", "2023-02-29", "1/2/2024", "20240101", "24-1-1"]
    {
        check(Rules::default(), ColumnType::Date, &[(cell, "E-CELL-DATE")]);
        check(Rules::default(), ColumnType::Timestamptz, &[(cell, "E-CELL-TIMESTAMP")]);
    }
    check(Rules::default(), ColumnType::Date, &[("2024-02-29", "2024-02-29"), ("epoch", "E-CELL-DATE")]);
    check(Rules::default(), ColumnType::Time, &[("allballs", "E-CELL-TIME"), ("24:00:01", "E-CELL-TIME")]);
}

fn epoch(unit: EpochUnit) -> Rules {
    Rules { time_format: Some(TimeFormat::Epoch(unit)), ..Rules::default() }
}

fn pattern(pattern: &str) -> Rules {
    Rules { time_format: Some(TimeFormat::Pattern(pattern.to_owned())), ..Rules::default() }
}

#[test]
fn seconds_since_1970_are_exact_in_every_unit() {
    check(
        epoch(EpochUnit::Seconds),
        ColumnType::Timestamptz,
        &[
            ("0", "1970-01-01 00:00Z"),
            ("1700000000", "2023-11-14 22:13:20Z"),
            ("1700000000.123456", "2023-11-14 22:13:20.123456Z"),
            ("1700000000.1234560000000000", "2023-11-14 22:13:20.123456Z"),
            ("1.7e9", "2023-11-14 22:13:20Z"),
            ("-0.5", "1969-12-31 23:59:59.5Z"),
            ("-62135596800", "0001-01-01 00:00Z"),
            ("-62135596801", "E-RULE-TIME"),
            ("253402207200", "9999-12-30 22:00Z"),
            ("1e99", "E-RULE-TIME"),
            ("1700000000.1234567891", "E-RULE-TIME"),
            ("1700000000.", "E-RULE-TIME"),
            (".5", "E-RULE-TIME"),
            ("0x10", "E-RULE-TIME"),
            ("2023-11-14", "E-RULE-TIME"),
            ("1e9999", "E-RULE-TIME"),
            ("99999999999999999999999999999999999999999999", "E-RULE-TIME"),
        ],
    );
    check(epoch(EpochUnit::Millis), ColumnType::Timestamp, &[("1700000000123", "2023-11-14 22:13:20.123")]);
    check(epoch(EpochUnit::Millis), ColumnType::Timestamptz, &[("1700000000123.4", "2023-11-14 22:13:20.1234Z")]);
    check(epoch(EpochUnit::Micros), ColumnType::Timestamptz, &[("1700000000123456", "2023-11-14 22:13:20.123456Z")]);
    check(
        epoch(EpochUnit::Nanos),
        ColumnType::Timestamptz,
        &[("1700000000123456000", "2023-11-14 22:13:20.123456Z"), ("0.5", "E-RULE-TIME")],
    );
    check(epoch(EpochUnit::Seconds), ColumnType::Date, &[("1700000000", "2023-11-14"), ("-1", "1969-12-31")]);
    check(epoch(EpochUnit::Seconds), ColumnType::Time, &[("1700000000", "22:13:20"), ("-1", "23:59:59")]);
    let rules = Rules { max: some("2024-01-01 00:00Z"), ..epoch(EpochUnit::Seconds) };
    check(rules, ColumnType::Timestamptz, &[("1704067200", "2024-01-01 00:00Z"), ("1704067201", "E-RULE-MAX")]);
}

#[test]
fn patterns_read_the_whole_text_and_days_that_exist() {
    check(
        pattern("%d/%m/%Y"),
        ColumnType::Date,
        &[
            ("29/02/2024", "2024-02-29"),
            ("1/2/2024", "2024-02-01"),
            ("30/02/2024", "E-RULE-TIME"),
            ("2024-02-29", "E-RULE-TIME"),
            ("29/02/2024x", "E-RULE-TIME"),
            ("29/02/2024 10:00", "E-RULE-TIME"),
            (" 29/02/2024", "E-RULE-TIME"),
            ("29/ 2/2024", "E-RULE-TIME"),
            ("now", "E-RULE-TIME"),
            ("31/12/0000", "E-RULE-TIME"),
        ],
    );
    check(pattern("%Y%m%d"), ColumnType::Date, &[("20240229", "2024-02-29"), ("20240230", "E-RULE-TIME")]);
    check(pattern("%b %e, %Y"), ColumnType::Date, &[("Feb  3, 2024", "2024-02-03"), ("Feb 13, 2024", "2024-02-13")]);
    check(pattern("%I:%M %p"), ColumnType::Time, &[("01:30 PM", "13:30"), ("13:30 PM", "E-RULE-TIME")]);
    check(
        pattern("%d.%m.%Y %H:%M:%S%.f"),
        ColumnType::Timestamp,
        &[("29.02.2024 10:11:12.5", "2024-02-29 10:11:12.5"), ("29.02.2024 10:11:12", "2024-02-29 10:11:12")],
    );
    check(
        pattern("%Y-%m-%dT%H:%M:%S%z"),
        ColumnType::Timestamptz,
        &[("2024-02-29T10:00:00+0200", "2024-02-29 08:00Z"), ("2024-02-29T10:00:00", "E-RULE-TIME")],
    );
    let offset = pattern("%Y-%m-%dT%H:%M:%S%z");
    check(
        offset,
        ColumnType::Timestamp,
        &[("2024-02-29T10:00:00+0000", "2024-02-29 10:00"), ("2024-02-29T10:00:00+0200", "E-RULE-TIME")],
    );
}

#[test]
fn a_pattern_without_offset_is_read_by_the_zone_of_the_mapping() {
    let mut feed = feed(pattern("%d/%m/%Y %H:%M"));
    feed.routes[0].mapping.timezone = jiff::tz::TimeZone::get("Europe/Madrid").unwrap();
    let kind = ColumnType::Timestamptz;
    let loaded = load_csv(&feed, vec![shape(vec![column("c", kind.clone())])], "01/06/2024 00:00\n").unwrap();
    assert_eq!(loaded.rows[0][0][0].as_deref(), Some(&*payload(&kind, "2024-05-31 22:00Z")));
}

/// What the operator is told of rules that do not fit.
fn misfit(rules: Rules, kind: ColumnType) -> String {
    let told = load_csv(&feed(rules), vec![shape(vec![column("c", kind)])], "1\n");
    match told {
        Err(DecodeError::Target(told)) => told,
        other => panic!("{other:?}"),
    }
}

#[test]
fn rules_that_can_never_hold_are_the_operators() {
    let min = |min: &str| Rules { min: some(min), ..Rules::default() };
    for (rules, kind, told) in [
        (min("1"), ColumnType::Bool, "min is for numbers, dates and times"),
        (min("a"), text(), "min is for numbers"),
        (min("one"), ColumnType::Int4, "min \"one\" is no value of the column: not a whole number"),
        (min("40000"), ColumnType::Int2, "min \"40000\" is no value of the column: out of range"),
        (Rules { max: some("2024-02-30"), ..Rules::default() }, ColumnType::Date, "max \"2024-02-30\" is no value"),
        (Rules { max: some("1"), ..min("2") }, ColumnType::Numeric, "min \"2\" is larger than max \"1\""),
        (
            Rules { default: some("x"), ..Rules::default() },
            ColumnType::Int4,
            "the default is no value of it: not a whole",
        ),
        (Rules { default: some("1"), ..min("2") }, ColumnType::Int4, "the default is no value of it: below 2"),
        (epoch(EpochUnit::Seconds), ColumnType::Int8, "time_format is for columns of type date"),
        (pattern("%H:%M"), ColumnType::Date, "time_format \"%H:%M\" does not tell the day"),
        (pattern("%Y-%m-%d"), ColumnType::Time, "does not tell the hour"),
        (pattern("%d/%m"), ColumnType::Timestamptz, "does not tell the day and time"),
        (pattern("%Y-%m-%d %"), ColumnType::Date, "time_format"),
        (pattern("100%E"), ColumnType::Date, "time_format"),
    ] {
        let found = misfit(rules, kind);
        assert!(found.starts_with("column \"c\" of public.t: ") && found.contains(told), "{found} should say {told}");
    }
}
