//! Makers of JSON: lines and documents, values at the edges of their types, and what is almost JSON.

use crate::support::gzip;

use super::makers;
use super::runner::SECRET;

/// Two good lines of `cells` and a bad one, whose value is secret.
fn third(line: &str) -> String {
    format!("{{\"a\":\"1\"}}\n{{\"a\":\"2\"}}\n{line}\n").replace("SECRET", SECRET)
}

/// A line whose second cell is the culprit.
fn value(json: &str) -> String {
    format!("{{\"id\":1,\"culprit\":{json}}}\n")
}

fn nested(levels: usize) -> String {
    value(&format!("{}0{}", "[".repeat(levels - 1), "]".repeat(levels - 1)))
}

fn utf16(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
    text.encode_utf16().flat_map(bytes).collect()
}

/// An object of so many keys.
fn keys(count: usize) -> String {
    let keys: Vec<String> = (0..count).map(|n| format!("\"k{n}\":0")).collect();
    format!("{{\"a\":\"1\",{}}}\n", keys.join(","))
}

/// A million records in one array, in little space.
fn million() -> Vec<u8> {
    let record = b"{\"a\": 1},\n".repeat(10_000);
    let member = gzip(&record);
    [gzip(b"[\n"), member.repeat(100), gzip(b"{\"a\": 1}]\n")].concat()
}

makers! {
    lines => "{\"a\":\"1\",\"b\":\"x\"}\n{\"a\":\"2\"}\n",
    lines_blank => "\r\n  \t\r\n {\"a\":\"1\"}\t\r\n\n\n{ \"a\" : \"2\" , \"b\" : null }",
    lines_bom => "\u{feff}{\"a\":\"1\"}\n",
    bom_alone => "\u{feff}",
    nothing => "",
    blank_lines_alone => "\n\r\n \n",
    escapes => r#"{"a":"\u00e9\ud83d\ude00\"\\\/","\u0062":"\nx"}"#,

    duplicate => third(r#"{"a":"SECRET","a":"SECRET"}"#),
    duplicate_below => third(r#"{"a":"3","c":[{"d":1,"\u0064":2}]}"#),
    duplicate_last => "{\"a\":\"1\",\"a\":\"2\"}\n{\"a\":{\"x\":\"1\"},\"a\":\"3\"}\n",
    bad_among_good => "{\"a\":\"1\"}\n{\"a\":}\n12\n{\"a\":\"2\",\"a\":1}\n{\"a\":\"3\"}\n",

    integer_of_21_digits => value("18446744073709551616"),
    fraction_of_30_digits => value("123456789012345678.901234567890"),
    exponent => value("1e400"),
    nul => third(r#"{"a":"SECRET\u0000"}"#),
    nul_in_jsonb => value(r#"{"x":"\u0000"}"#),
    half_a_pair => third(r#"{"a":"SECRET\ud800"}"#),
    half_a_pair_beside => third(r#"{"a":"3","c":{"d":["SECRET\udc00 "]}}"#),
    levels_64 => nested(64),
    levels_65 => nested(65),
    levels_127 => nested(127),
    levels_128 => nested(128),
    levels_100_000 => nested(100_000),

    not_a_number => third(r#"{"a":NaN}"#),
    infinity => third(r#"{"a":-Infinity}"#),
    point_first => third(r#"{"a":.5}"#),
    zero_first => third(r#"{"a":01}"#),
    comment => third(r#"{"a":"SECRET"} // SECRET"#),
    single_quotes => third("{'a':'SECRET'}"),
    trailing_comma => third(r#"{"a":"SECRET",}"#),
    bare_key => third(r#"{a:"SECRET"}"#),
    control_character => third("{\"a\":\"SECRET\t\"}"),
    not_utf8 => [third("").as_bytes(), b"{\"a\":\"\xe9\"}\n"].concat(),
    two_on_a_line => third(r#"{"a":"SECRET"} {"a":"SECRET"}"#),
    garbage_behind => third(r#"{"a":"SECRET"}SECRET"#),
    number_alone => third("4711"),
    array_alone => third(r#"["SECRET"]"#),
    truncated => third(r#"{"a":"3","b":"SECRE"#).trim_end(),
    truncated_gz => gzip(third(r#"{"a":"3","b""#).trim_end().as_bytes()),

    unknown_key => "{\"a\":\"1\",\"x\":{\"y\":2}}\n",
    unknown_null => "{\"a\":\"1\",\"x\":null}\n",
    odd_keys => "{\"__proto__\":\"1\",\"a\":\"2\",\"constructor\":{},\"\":1,\"x\\\"; DROP TABLE cells; --\":\"3\"}\n",
    dots => "{\"a.b\":\"whole\",\"a\":{\"b\":\"stepped\"}}\n{\"a\":{\"b\":\"stepped\"}}\n{\"a\":\"b\"}\n{\"a\":[{\"b\":\"listed\"}]}\n",
    text_for_integer => value("\"12\""),
    number_for_text => third(r#"{"a":4711}"#),
    object_for_text => third(r#"{"a":{"b":"SECRET"}}"#),
    object_for_integer => value("{}"),
    text_of_17_mib => format!("{{\"a\":\"{}\"}}\n", "x".repeat(17 << 20)),
    text_at_the_cap => format!("{{\"a\":\"{}\"}}\n", "x".repeat(92)),
    text_over_the_cap => format!("{{\"a\":\"{}\"}}\n", "x".repeat(93)),
    keys_1600 => keys(1599),
    keys_1601 => keys(1600),
    keys_1_000_000 => keys(1_000_000),

    array => "[{\"a\":\"1\"},\n {\"a\":\"2\",\"b\":\"]\"}]\n",
    pretty => "{\n  \"a\": \"1\",\n  \"b\": \"x\"\n}\n",
    concatenated => "{\"a\":\"1\"}{\"a\":\"2\"}\r\n[{\"a\":\"3\"}]",
    array_empty => "[]",
    array_cut => "[{\"a\":\"1\"},\n{\"a\":\"S3CRET\"}",
    array_cut_in_record => "[{\"a\":\"1\"},\n{\"a\":\"S3CRE",
    array_trailing_comma => "[{\"a\":\"1\"},]",
    array_without_comma => "[{\"a\":\"1\"}\n{\"a\":\"S3CRET\"}]",
    array_of_numbers => "[{\"a\":\"1\"}, 4711]",
    array_with_mistake => "[{\"a\":\"1\"},\n {\"a\":S3CRET}]",
    array_lost_bracket => format!("[{{\"a\":[\"1\"}},{}{{}}]", "{\"a\":\"2\"},".repeat(200)),
    array_of_a_million => million(),
    enveloped => "{\"n\":2,\"data\":{\"skip\":[{\"a\":\"9\"}],\"items\":[{\"a\":\"1\"},{\"a\":\"2\"}]},\"next\":null}",
    enveloped_elsewhere => "{\"data\":{\"things\":[]}}",
    enveloped_cut => "{\"data\":{\"items\":[{\"a\":\"1\"}]}",
    csv => "a,b\n1,x\n",
    utf16_marked => utf16("\u{feff}{\"a\":\"1\"}\n", u16::to_le_bytes),
    utf16_big_endian => utf16("\u{feff}{\"a\":\"1\"}\n", u16::to_be_bytes),
    utf16_bare => utf16("{\"a\":\"1\"}\n", u16::to_le_bytes),
}
