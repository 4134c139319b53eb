//! Makers of cells that their column's type or rules do not take.

use super::makers;

/// A header, two good records and one whose second cell is the culprit.
fn third(cell: &str) -> String {
    after("", cell)
}

/// The same for a type that takes no NULL.
fn after(good: &str, cell: &str) -> String {
    format!("id,culprit\n1,{good}\n2,{good}\n3,\"{}\"\n", cell.replace('"', "\"\""))
}

/// A header and one record for each cell.
fn each(cells: &[&str]) -> String {
    let rows = (1..).zip(cells).map(|(id, cell)| format!("{id},\"{}\"\n", cell.replace('"', "\"\"")));
    "id,culprit\n".to_owned() + &rows.collect::<String>()
}

/// A line of JSON for each value.
fn lines(values: &[&str]) -> String {
    let lines = (1..).zip(values).map(|(id, value)| format!("{{\"id\":{id},\"culprit\":{value}}}"));
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

makers! {
    booleans => each(&["yes", "on", "1", "t", "TRUE", "y", "no", "off", "0", "f", "FALSE", "n"]),
    integers => each(&["+42", "-0", "007", "2147483647", "-2147483648"]),
    float_in_hexadecimal => third("0x1p3"),
    float_shapes => each(&["-0", "1e308", "1e-300", ".5", "5."]),
    numeric_shapes => each(&["-0", "1e10", ".5", "5.", "00.10"]),
    uuid_with_braces => each(&["{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}", "A0EEBC999C0B4EF8BB6D6BB9BD380A11"]),
    inet_with_mask => each(&["10.0.0.1/8", "::1/128"]),
    varchar_at_its_length => each(&["äöü", "abc", "a  "]),
    varchar_with_blanks_beyond => third("abc   "),
    float_nan => third("NaN"),
    float_infinity => third("-Infinity"),
    numeric_nan => third("NaN"),
    date_infinity => third("infinity"),
    boolean_maybe => third("maybe"),
    smallint_32768 => third("32768"),
    integer_with_point => third("8.0"),
    integer_with_blank => third(" 42"),
    integer_with_exponent => third("1e3"),
    integer_in_arabic_digits => third("٤٢"),
    bigint_too_large => third("9223372036854775808"),
    float_1e400 => third("1e400"),
    numeric_with_comma => third("1,5"),
    numeric_overflow => third("123.45"),
    varchar_too_long => third("toolong"),
    character_too_long => third("toolong"),
    bytea_no_hex => third("\\xzz"),
    date_that_never_was => third("2023-02-29"),
    date_with_slashes => third("01/02/2023"),
    timestamp_at_25 => third("2023-01-01T25:00:00"),
    uuid_of_letters => third("not-a-uuid"),
    json_bare_word => third("{oops}"),
    jsonb_unfinished => third("[1,"),
    enum_unknown => third("angry"),
    array_of_letters => third("{1,oops}"),
    domain_check => third("-7777"),
    domain_too_long => after("x", "toolong"),
    inet_300 => third("300.1.1.1"),
    interval_fortnights => third("3 fortnights"),
    point_semicolon => third("(1;2)"),
    oid_too_large => third("99999999999"),
    bit_of_letters => third("10z"),
    tsquery_doubled => third("quick & & fox"),
    xml_open => third("<open>"),
    range_backwards => third("[5,1]"),
    macaddr_of_letters => third("08:00:zz"),
    regclass_unknown => third("no_such_relation"),
    json_scalars => lines(&["12", "\"12\"", "true", "[1]", "{\"a\":1}", "null", "1.0", "1e3", "\"S3CRET\""]),
    json_arrays => lines(&["[1,null]", "[[1],[2]]", "[]", "[\"1\"]", "[{}]", "{}", "1", "\"{1}\"", "[[1],[2,3]]"]),
    json_times => lines(&["1700000000", "1700000000.123456", "1.7e9", "\"1700000000\"", "\"2023-11-14T22:13:20Z\"", "true"]),
    json_nanos => lines(&["1700000000123456789", "1700000000123456000.5", "-1"]),
    int_trouble => each(&["9223372036854775808", "1e3", " 42 ", "٤٢", "8.0", "", "42", "0x1F", "1_000", "S3CRET"]),
    float_trouble => each(&["NaN", "Infinity", "-0", "1e400", "1e-400", "1.5", "1,5", "S3CRET"]),
    numeric_trouble => each(&["NaN", "-Infinity", "-0", "1e400", "1e200000", "1.5.0", "-", "S3CRET"]),
    date_trouble => each(&["now", "infinity", "2024-02-30", "2024-02-29", "1900-02-29", "0000-01-01", "24-01-01", " "]),
    timestamptz_trouble => each(&["2024-03-10 02:30", "2024-11-03 01:30", "today", "2024-03-10 02:30Z", "2024-03-10 24:01"]),
    boolean_trouble => each(&["yes", "on", "1", "t", "TRUE", "maybe", "2", "ja", "tr"]),
    uuid_trouble => each(&["{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}", "a0eebc99", "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
    json_trouble => each(&["{\"a\":1}", "{a:1}", "[1,", "\"a\\u0000\"", "NaN"]),
    bounds_of_int => each(&["-6", "-5", "-4", "9", "10", "11", ""]),
    bounds_of_numeric => each(&["0.0999999999999999999999", "0.10", "1e2", "100.00", "100.0000000000000000000001"]),
    bounds_of_float => each(&["-1e-300", "-0", "0", "1", "1.0000000000000002"]),
    bounds_of_date => each(&["2023-12-31", "2024-01-01", "2024-12-31", "2025-01-01"]),
    bounds_of_time => each(&["07:59:59.999999", "08:00", "17:00:00.000000", "17:00:00.000001"]),
    bounds_of_timestamptz => each(&["2023-12-31 22:59:59.999999Z", "2023-12-31 23:00Z", "2024-01-01 00:00", "2023-12-31 23:59"]),
    words => each(&["on", "off", "On", "o", "offf", " on", ""]),
    codes => each(&["AB-1", "AB-", "AB", "xAB", "AB\n", "ab"]),
    lengths => each(&["ä", "äö", "äöü", "äöüß", "  ", "😀😀"]),
    null_words => each(&["NULL", "n/a", "null", "", "  ", "x"]),
    blanks_around => each(&[" 7 ", "\t8\t", "  ", "9"]),
    blanks => each(&["", " ", "\t", "0"]),
    fractions_of_zeros => each(&["8.0", "-8.000", "8.", ".0", "8.01", "8e0", "8"]),
    epoch_seconds => each(&["0", "1700000000.123456", "-1", "1.7e9", "2024-01-01", "1e20", "0.0000000001", "253402300800"]),
    epoch_millis => each(&["1700000000123", "1700000000123.5", "1700000000", "S3CRET"]),
    days_in_words => each(&["29/02/2024", "1/3/2024", "30/02/2024", "2024-02-29", "29/02/2024 10:00", " 29/02/2024", "29/02/24x"]),
}
