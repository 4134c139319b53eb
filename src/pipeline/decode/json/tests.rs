//! Both layouts on bytes alone: what is a record, what is wrong with one, and what is wrong with an object.

use proptest::prelude::*;

use crate::config::feed::{DuplicateKeys, Feed, FieldPath, Format, Limits};
use crate::domain::record::Position;
use crate::fuzzing::compression::{KINDS, member};
use crate::fuzzing::json::Kept::{Absent, Bool, Nested, Null, Number, Text};
use crate::fuzzing::json::{Kept, Read, feed, read};

fn whole(feed: &Feed, text: impl Into<Vec<u8>>) -> (Vec<Read>, Result<u64, String>) {
    read(feed, vec![text.into()])
}

/// The records of an object that is read to its end.
fn good(feed: &Feed, text: impl Into<Vec<u8>>) -> Vec<Vec<Kept>> {
    let (reads, ended) = whole(feed, text);
    ended.unwrap();
    reads.into_iter().map(|read| read.values.unwrap()).collect()
}

/// What ends an object that is not read to its end.
fn refused(feed: &Feed, text: impl Into<Vec<u8>>) -> String {
    whole(feed, text).1.unwrap_err()
}

/// Code and reason of the only record of an object.
fn bad(feed: &Feed, text: impl Into<Vec<u8>>) -> String {
    let (reads, ended) = whole(feed, text);
    ended.unwrap();
    let [Read { values: Err((code, reason)), .. }] = reads.as_slice() else { panic!("{reads:?}") };
    format!("{code} {reason}")
}

fn lines() -> Feed {
    feed(Format::Jsonl)
}

fn documents() -> Feed {
    feed(Format::Json)
}

fn inside(path: &str) -> Feed {
    let mut feed = documents();
    feed.json.records = Some(FieldPath::new(path));
    feed
}

fn number(text: &str) -> Kept {
    Number(text.to_owned())
}

fn text(text: &str) -> Kept {
    Text(text.to_owned())
}

fn nested(text: &str) -> Kept {
    Nested(text.to_owned())
}

#[test]
fn values_stay_as_they_were_written() {
    for raw in
        ["18446744073709551616", "0.1000000000000000055511151231257827", "-0", "-0.0", "1E+2", "1e400", "52.45133"]
    {
        let found = good(&lines(), format!(r#"{{"a":{raw} ,"d":[{raw}]}}"#));
        assert_eq!(found, [[number(raw), Absent, Absent, nested(&format!("[{raw}]"))]]);
    }
    let found = good(&lines(), r#"{ "a" : { "b" : { "c" : "x\"\u00e9\ud83d\ude00\n" } , "z" : 1 } , "d" : null }"#);
    let inner = r#"{ "c" : "x\"\u00e9\ud83d\ude00\n" }"#;
    let outer = format!(r#"{{ "b" : {inner} , "z" : 1 }}"#);
    assert_eq!(found, [[nested(&outer), nested(inner), text("x\"é😀\n"), Null]]);
    assert_eq!(good(&lines(), r#"{"d":true,"a":false}"#), [[Bool(false), Absent, Absent, Bool(true)]]);
    assert_eq!(good(&lines(), r#"{"d":"a\u0000b","a":""}"#), [[text(""), Absent, Absent, text("a\0b")]]);
}

#[test]
fn a_path_leads_through_objects_alone_and_a_key_with_dots_is_matched_first() {
    let b = |object: &str| good(&lines(), object)[0][1].clone();
    assert_eq!(b(r#"{"a":{"b":1}}"#), number("1"));
    assert_eq!(b(r#"{"a":{"b":1},"a.b":2}"#), number("2"));
    assert_eq!(b(r#"{"a.b":2,"a":{"b":1}}"#), number("2"));
    assert_eq!(b(r#"{"a.b":null,"a":{"b":1}}"#), Null);
    for other in [r#"{"a":[{"b":1}]}"#, r#"{"a":"b"}"#, r#"{"a":null}"#, r#"{"b":1}"#, "{}", r#"{"x":{"a":{"b":1}}}"#] {
        assert_eq!(b(other), Absent, "{other}");
    }
    assert_eq!(good(&lines(), r#"{"\u0061":{"\u0062":{"c":3}}}"#)[0][2], number("3"));
}

#[test]
fn fields_nobody_asked_for_are_told_and_those_on_a_way_are_not() {
    let (reads, _) = whole(&lines(), r#"{"a":{"x":1},"e":{"f":[2]},"\u0067":"h\t","i":3.0,"d":0,"j":false,"k":null}"#);
    let named = |name: &str, value| (name.to_owned(), value);
    let others = [
        named("e", nested(r#"{"f":[2]}"#)),
        named("g", text("h\t")),
        named("i", number("3.0")),
        named("j", Bool(false)),
        named("k", Null),
    ];
    assert_eq!(reads[0].others, others);
}

#[test]
fn lines_are_records_and_blank_ones_are_not() {
    let text = "\u{feff}\r\n{\"a\":1}\r\n\r\n  \t\n \t{\"a\":2} \r\n{\"a\":3}";
    let (reads, ended) = whole(&lines(), text);
    assert_eq!(ended, Ok(text.len() as u64));
    let places = [(1, 2, 5), (2, 5, 22), (3, 6, 32)];
    for (read, (record, line, byte)) in reads.iter().zip(places) {
        assert_eq!(read.position, Position { record, line, byte });
        assert_eq!(
            (&read.values.as_ref().unwrap()[0], &read.raw),
            (&number(&record.to_string()), &format!("{{\"a\":{record}}}\n"))
        );
    }
    assert_eq!(reads.len(), 3);
    for empty in ["", "\u{feff}", "\n\r\n \n", " "] {
        assert_eq!(whole(&lines(), empty), (vec![], Ok(if empty == "\u{feff}" { 0 } else { empty.len() as u64 })));
        assert!(whole(&documents(), empty).0.is_empty());
    }
}

#[test]
fn a_bad_line_takes_no_other_with_it() {
    let cases = [
        (r#"{"a":NaN}"#, "E-JSON-SYNTAX"),
        (r#"{"a":Infinity}"#, "E-JSON-SYNTAX"),
        (r#"{"a":.5}"#, "E-JSON-SYNTAX"),
        (r#"{"a":01}"#, "E-JSON-SYNTAX"),
        (r#"{"a":+1}"#, "E-JSON-SYNTAX"),
        (r#"{"a":0x1}"#, "E-JSON-SYNTAX"),
        (r"{'a':1}", "E-JSON-SYNTAX"),
        (r"{a:1}", "E-JSON-SYNTAX"),
        (r#"{"a":1,}"#, "E-JSON-SYNTAX"),
        (r#"{"a":[1,]}"#, "E-JSON-SYNTAX"),
        (r#"{"a":1}/**/"#, "E-JSON-SYNTAX"),
        (r#"{"a":1} {"a":2}"#, "E-JSON-SYNTAX"),
        (r#"{"a":1}x"#, "E-JSON-SYNTAX"),
        (r#"{"a":1"#, "E-JSON-SYNTAX"),
        (r#"{"a":"\ud800"}"#, "E-JSON-SYNTAX"),
        (r#"{"e":["\ud800\u0041"]}"#, "E-JSON-SYNTAX"),
        (r#"{"\udc00":1}"#, "E-JSON-SYNTAX"),
        ("{\"a\":\"\t\"}", "E-JSON-SYNTAX"),
        (r#"{"a" 1}"#, "E-JSON-SYNTAX"),
        (r#"{"a":1 "d":2}"#, "E-JSON-SYNTAX"),
        (r#"{"a":[1 {}]}"#, "E-JSON-SYNTAX"),
        (r#"{"a":[1}]"#, "E-JSON-SYNTAX"),
        ("[1]", "E-JSON-RECORD"),
        ("12", "E-JSON-RECORD"),
        ("\"{}\"", "E-JSON-RECORD"),
        ("null", "E-JSON-RECORD"),
        (r#"{"a":1,"a":1}"#, "E-JSON-DUPLICATE"),
        (r#"{"a":{"x":1,"x":2}}"#, "E-JSON-DUPLICATE"),
        (r#"{"e":[{"f":1,"\u0066":2}]}"#, "E-JSON-DUPLICATE"),
    ];
    for (line, code) in cases {
        let (reads, ended) = whole(&lines(), format!("{{}}\n{line}\n{{\"a\":3}}\n"));
        ended.unwrap();
        assert_eq!(reads.len(), 3, "{line}");
        let (found, reason) = reads[1].values.clone().unwrap_err();
        assert_eq!(found, code, "{line}: {reason}");
        assert_eq!(
            (reads[1].position, &reads[1].raw),
            (Position { record: 2, line: 2, byte: 3 }, &format!("{line}\n"))
        );
        assert_eq!(reads[2].values.as_ref().unwrap()[0], number("3"), "{line}");
    }
    let (reads, _) = whole(&lines(), b"{}\n{\"a\":\"\xff\"}\n{\"a\":\"\xc3\"}\n{\"a\":\"\xc3\n".to_vec());
    let told: Vec<_> = reads[1..].iter().map(|read| read.values.clone().unwrap_err()).collect();
    assert_eq!(told[0], ("E-JSON-SYNTAX", "not valid JSON: not UTF-8 at byte 6 of the record".to_owned()));
    assert_eq!(told[2], ("E-JSON-SYNTAX", "not valid JSON: it ends in the middle".to_owned()));
}

#[test]
fn a_reason_tells_the_place_and_never_the_value() {
    let message = bad(&lines(), r#"{"a":"S3CRET" "d":"S3CRET"}"#);
    assert_eq!(message, "E-JSON-SYNTAX not valid JSON: expected `,` or `}` at byte 14 of the record");
    let message = bad(&lines(), r#"{"e":"x","a":"S3CRET\ud800"}"#);
    assert_eq!(message, "E-JSON-SYNTAX not valid JSON: unexpected end of hex escape at byte 26 of the record");
    let long = "k".repeat(100);
    let message = bad(&lines(), format!(r#"{{"{long}":"S3CRET","{long}":2}}"#));
    assert_eq!(message, format!("E-JSON-DUPLICATE an object has the key \"{}…\" twice", "k".repeat(63)));
    let message = refused(&documents(), "\n[\n  {\"a\": 1},\n  {\n \"a\": S3CRET}]");
    assert_eq!(message, "E-JSON-SYNTAX JSON: line 4 (byte 17): not valid JSON: expected value at byte 8 of the record");
}

#[test]
fn of_equal_keys_the_last_counts_where_the_feed_says_so() {
    let mut feed = lines();
    feed.json.duplicate_keys = DuplicateKeys::Last;
    let found = |object: &str| good(&feed, object)[0].clone();
    assert_eq!(found(r#"{"d":1,"d":2}"#)[3], number("2"));
    assert_eq!(found(r#"{"d":1,"d":null}"#)[3], Null);
    // The last object has no such field, whatever an earlier one had.
    assert_eq!(found(r#"{"a":{"b":{"c":1}},"a":{"x":1}}"#)[1..3], [Absent, Absent]);
    assert_eq!(found(r#"{"a":{"b":{"c":1}},"a":5}"#)[..3], [number("5"), Absent, Absent]);
    let (reads, _) = whole(&feed, r#"{"e":1,"f":2,"\u0065":3}"#);
    assert_eq!(reads[0].others, [("f".to_owned(), number("2")), ("e".to_owned(), number("3"))]);
}

#[test]
fn many_keys_are_compared_as_few_are() {
    let object = |last: &str| {
        let keys: Vec<String> = (0..40).map(|n| format!("\"k{n}\":{{\"a\":{n}}}")).collect();
        format!("{{{},{last}}}", keys.join(","))
    };
    assert_eq!(good(&lines(), object("\"d\":7"))[0][3], number("7"));
    for twice in ["k0", "k15", "k16", "k39"] {
        let message = bad(&lines(), object(&format!("\"{twice}\":1")));
        assert!(message.starts_with("E-JSON-DUPLICATE") && message.contains(twice), "{message}");
    }
}

#[test]
fn what_the_record_before_had_does_not_matter() {
    let first = r#"{"x":{"a":1},"a":{"b":2},"e":[{"f":1}]}"#;
    for (line, values) in [
        (r#"{"x":1,"a":1,"a":2}"#, None),
        (r#"{"x":{"a":1,"a":1}}"#, None),
        (r#"{"x":{"a":1},"a":{"b":2},"e":[{"f":1,"f":2}]}"#, None),
        (r#"{"x":{"a":1},"a":{"b":2},"e":[{"f":1}],"x":3}"#, None),
        (r#"{"x":{"a":1},"a":{"b":2},"e":[{"f":1},{"f":1}]}"#, Some(number("2"))),
        (r#"{"x":{"a":1},"a":[{"b":2}]}"#, Some(Absent)),
        (r#"{"x":{"a":{"b":2}}}"#, Some(Absent)),
        (r#"{"x":[{"a":1}],"a":{"b":3}}"#, Some(number("3"))),
        (r#"{"a":{"b":4},"x":{"a":1}}"#, Some(number("4"))),
        (r#"{"\u0061":{"b":5}}"#, Some(number("5"))),
        ("{}", Some(Absent)),
    ] {
        // Twice, so that it also follows itself.
        let (reads, ended) = whole(&lines(), format!("{first}\n{line}\n{line}\n{first}"));
        ended.unwrap();
        for read in &reads[1..3] {
            let found = read.values.as_ref().map(|values| values[1].clone());
            assert_eq!(found.as_ref().ok(), values.as_ref(), "{line}: {found:?}");
            assert!(found.is_ok() || found.is_err_and(|(code, _)| *code == "E-JSON-DUPLICATE"), "{line}");
        }
        assert_eq!(reads[3].values, reads[0].values, "{line}");
    }
}

#[test]
fn depth_and_number_of_keys_are_capped_to_the_level_and_the_key() {
    let caps = |max_depth, max_fields| {
        let mut feed = lines();
        feed.limits = Limits { max_fields, max_depth, ..feed.limits };
        feed
    };
    let deep = |levels: usize| format!("{{\"d\":{}0{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1));
    for most in [1, 2, 64, 126, 127] {
        assert_eq!(good(&caps(most, 10), deep(most)).len(), 1, "{most}");
        let message = bad(&caps(most, 10), deep(most + 1));
        assert_eq!(message, format!("E-JSON-DEPTH nested deeper than limits.max_depth ({most})"));
    }
    // Objects like arrays; and the parser's own limit holds whatever the feed says.
    assert!(bad(&caps(2, 10), r#"{"a":{"b":{}}}"#).starts_with("E-JSON-DEPTH "));
    assert!(bad(&caps(1000, 10), deep(128)).starts_with("E-JSON-DEPTH "));
    assert!(bad(&caps(1000, 10), deep(100_000)).starts_with("E-JSON-DEPTH "));
    for nested in [false, true] {
        let object = |keys: usize| {
            let keys: Vec<String> = (0..keys).map(|n| format!("\"{n}\":0")).collect();
            if nested { format!("{{\"e\":[{{{}}}]}}", keys.join(",")) } else { format!("{{{}}}", keys.join(",")) }
        };
        assert_eq!(good(&caps(9, 30), object(29)).len() + good(&caps(9, 30), object(30)).len(), 2);
        assert_eq!(bad(&caps(9, 30), object(31)), "E-JSON-FIELDS an object has more keys than limits.max_fields (30)");
    }
}

#[test]
fn a_record_is_capped_to_the_byte_and_placed_where_it_begins() {
    let capped = |format| {
        let mut feed = feed(format);
        feed.limits.max_record_bytes = 20;
        feed
    };
    let object = |length: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(length - 8));
    for end in ["", "\n"] {
        for length in [19, 20] {
            assert_eq!(good(&capped(Format::Jsonl), format!("{{}}\n{}{end}", object(length))).len(), 2);
            assert_eq!(good(&capped(Format::Json), format!("[{{}},\n{}{end}]", object(length))).len(), 2);
        }
        let message = refused(&capped(Format::Jsonl), format!("{{}}\n{}{end}", object(21)));
        assert!(message.starts_with("E-LIMIT-RECORD the record at line 2 (byte 3) is longer"), "{message}");
        let message = refused(&capped(Format::Json), format!("[{{}},\n{}{end}]", object(21)));
        assert!(message.starts_with("E-LIMIT-RECORD the record at line 2 (byte 5) is longer"), "{message}");
    }
    // Where a bracket is missing, that is what is said.
    let message = refused(&capped(Format::Json), format!("[{{\"a\":[1}},{}]", "{},".repeat(30)));
    assert!(message.starts_with("E-JSON-SYNTAX JSON: line 1 (byte 1): "), "{message}");
}

#[test]
fn the_caps_on_all_bytes_hold_whatever_the_layout() {
    let line = "{\"a\":1}\n";
    for (format, most) in [(Format::Jsonl, 80), (Format::Json, 80)] {
        let mut feed = feed(format);
        feed.limits.max_bytes = most;
        assert_eq!(good(&feed, line.repeat(9)).len(), 9);
        assert_eq!(good(&feed, line.repeat(10)).len(), 10);
        let (reads, ended) = whole(&feed, line.repeat(11));
        assert!(ended.unwrap_err().starts_with("E-LIMIT-BYTES "));
        assert_eq!(reads.len(), 10);
        // Two mebibytes out of two kilobytes.
        feed.limits = Limits { max_bytes: 1 << 30, max_ratio: 10, ..feed.limits };
        for kind in KINDS {
            let bomb = member(&line.repeat(2 << 17).into_bytes(), kind);
            assert!(refused(&feed, bomb).starts_with("E-LIMIT-RATIO "));
        }
    }
}

#[test]
fn an_object_that_ends_in_a_record_is_never_a_shorter_load() {
    let object = r#"{"a": {"b": [1, -2.5e3, true, "x\ud83d\ude00é"]}, "d": null}"#;
    for cut in 1..object.len() {
        let text = [b"{}\n", &object.as_bytes()[..cut]].concat();
        let (reads, ended) = whole(&lines(), text);
        assert_eq!(reads.len(), 1, "cut at {cut}");
        let told = "E-JSON-SYNTAX JSON lines: line 2 (record 2, byte 3): not valid JSON: it ends in the middle";
        assert_eq!(ended.unwrap_err(), told, "cut at {cut}");
        for around in ["[", "[{},", ""] {
            let text = [around.as_bytes(), &object.as_bytes()[..cut]].concat();
            let message = refused(&documents(), text);
            assert!(message.ends_with("not valid JSON: it ends in the middle"), "cut at {cut}: {message}");
        }
    }
    // Also where something else is wrong with the record.
    let message = refused(&lines(), "{}\n{\"a\":1,\"a\":2,\"b");
    assert!(message.ends_with("it ends in the middle"), "{message}");
    for text in ["[", "[{}", "[{},", "[{}, "] {
        assert!(refused(&documents(), text).ends_with("it ends in the middle"), "{text}");
    }
}

#[test]
fn an_object_of_another_layout_is_named() {
    let document = "E-FORMAT the object looks like one JSON document, the feed expects jsonl";
    for text in ["[{\"a\":1}]", "\n [\n", "{\n  \"a\": 1\n}\n", "{\n}", "{\"a\":\n\n\n1}"] {
        assert_eq!(refused(&lines(), text), document, "{text:?}");
    }
    // A broken line in front of a good one is a broken line.
    assert_eq!(whole(&lines(), "{\"a\":\n{\"a\":1}\n").0.len(), 2);
    assert_eq!(whole(&lines(), "{\"a\":\n\n").0.len(), 1);
    assert_eq!(
        refused(&lines(), "id,name\n1,x\n"),
        "E-FORMAT the object looks like text that is no JSON, the feed expects jsonl"
    );
    assert_eq!(
        refused(&documents(), "id,name\n1,x\n"),
        "E-FORMAT the object looks like text that is no JSON, the feed expects json"
    );
    assert_eq!(
        refused(&inside("a"), "id,name\n"),
        "E-FORMAT the object looks like text that is no JSON, the feed expects json"
    );
}

#[test]
fn documents_of_every_layout_have_the_same_records() {
    for text in [
        r#"[{"a":1},{"a":2},{"a":3}]"#,
        "[ {\"a\" : 1 } , {\n\"a\":\n2\n}\r\n,\t{\"a\":3}\n]\n\n",
        r#"{"a":1}{"a":2}{"a":3}"#,
        "\u{feff}{\"a\":1}\n{\"a\":2}\n\n{\"a\":3}",
        r#"[{"a":1}][] [{"a":2},{"a":3}]"#,
    ] {
        let found: Vec<Kept> = good(&documents(), text).into_iter().map(|values| values[0].clone()).collect();
        assert_eq!(found, [number("1"), number("2"), number("3")], "{text}");
    }
    assert!(good(&documents(), "[]").is_empty());
    let braces = r#"[{"a":"]}\"\\"},{"d":{"x":["{"]}}]"#;
    assert_eq!(good(&documents(), braces)[0][0], text("]}\"\\"));
    let (reads, _) = whole(&documents(), "[\n {\"a\":1},\n\n {\n\"a\":2\n}]");
    let places: Vec<_> =
        reads.iter().map(|read| (read.position.record, read.position.line, read.position.byte)).collect();
    assert_eq!(places, [(1, 2, 3), (2, 4, 14)]);
    assert_eq!(reads[1].raw, "{\n\"a\":2\n}\n");
}

#[test]
fn a_bad_record_of_a_document_is_one_and_a_mistake_between_records_ends_it() {
    let (reads, ended) = whole(&documents(), r#"[1, "x", [{}], {"a":1,"a":2}, {"a":3}]"#);
    ended.unwrap();
    let codes: Vec<_> = reads.iter().map(|read| read.values.as_ref().err().map(|(code, _)| *code)).collect();
    let record = Some("E-JSON-RECORD");
    assert_eq!(codes, [record, record, record, Some("E-JSON-DUPLICATE"), None]);
    for text in
        ["[{},]", "[,{}]", "[{} {}]", "[{}}", "{},{}", "[{}]x", "{}]", "[NaN]", "[{}:{}]", "[{'a':1}]", "[{}//\n]"]
    {
        let message = refused(&documents(), text);
        assert!(message.starts_with("E-JSON-SYNTAX JSON: line 1 (byte "), "{text}: {message}");
    }
}

#[test]
fn records_inside_a_document_are_found_on_their_way() {
    let a = |feed: &Feed, text: &str| -> Vec<Kept> { good(feed, text).into_iter().map(|row| row[0].clone()).collect() };
    let both = [number("1"), number("2")];
    assert_eq!(a(&inside("items"), r#"{"n":[{"a":9}],"items":[{"a":1},{"a":2}],"next":"]"}"#), both);
    assert_eq!(a(&inside("x.y"), r#"{"y":[],"x":{"n":{"y":[3]},"y":[{"a":1},{"a":2}],"z":0},"w":null}"#), both);
    assert_eq!(a(&inside("x.y"), r#"{"x.y":[{"a":1},{"a":2}]}"#), both);
    assert_eq!(a(&inside("items"), r#"{"items":[{"a":1}]} {"\u0069tems":[{"a":2}]}"#), both);
    assert!(a(&inside("items"), r#"{"items":[]}"#).is_empty());
    for (text, told) in [
        (r#"{"other":[]}"#, "E-JSON-RECORD JSON: line 1 (byte 12): the document has nothing at \"items\""),
        ("{}", "E-JSON-RECORD JSON: line 1 (byte 2): the document has nothing"),
        (r#"{"items":null}"#, "E-JSON-RECORD JSON: line 1 (byte 9): the document has no array at"),
        (r#"{"items":{"a":1}}"#, "E-JSON-RECORD JSON: line 1 (byte 9): the document has no array at"),
        (r#"{"items":[{}],"items":[{}]}"#, "E-JSON-DUPLICATE JSON: line 1 (byte 14): an object has the key"),
        (r#"{"x":1,"x":2,"items":[]}"#, "E-JSON-DUPLICATE "),
        (r#"{"x":{"y":1,"y":2},"items":[]}"#, "E-JSON-DUPLICATE "),
        (r#"{"x":nothing,"items":[]}"#, "E-JSON-SYNTAX "),
        (r#"{"x":1 "items":[]}"#, "E-JSON-SYNTAX "),
        (r#"{"items":[{}]"#, "E-JSON-SYNTAX JSON: line 1 (byte 13): not valid JSON: it ends in the middle"),
        (r#"{"items":[{}],"x":"#, "E-JSON-SYNTAX JSON: line 1 (byte 18): not valid JSON: it ends in the middle"),
        (r#"{"items":[{}],}"#, "E-JSON-SYNTAX "),
        (r#"{"items":[{}]}}"#, "E-JSON-SYNTAX "),
        (r"{items:[{}]}", "E-JSON-SYNTAX "),
        ("[{}]", "E-JSON-RECORD JSON: line 1 (byte 0): the document is no object"),
    ] {
        let message = refused(&inside("items"), text);
        assert!(message.starts_with(told), "{text}: {message}");
    }
    let mut last = inside("items");
    last.json.duplicate_keys = DuplicateKeys::Last;
    let message = refused(&last, r#"{"items":[{}],"items":[{}]}"#);
    assert!(message.starts_with("E-JSON-RECORD ") && message.contains("more than one array"), "{message}");
    assert!(refused(&inside("x.y"), r#"{"x":[]}"#).contains("has nothing at"), "what is no object leads nowhere");
}

#[test]
fn what_lies_beside_the_records_is_capped_as_they_are() {
    let mut feed = inside("items");
    feed.limits = Limits { max_record_bytes: 30, max_depth: 3, max_fields: 3, ..feed.limits };
    let with = |value: &str| whole(&feed, format!("{{\"x\":{value},\"items\":[{{}}]}}")).1;
    assert!(with(&format!("\"{}\"", "x".repeat(28))).is_ok());
    assert!(with(&format!("\"{}\"", "x".repeat(29))).unwrap_err().starts_with("E-LIMIT-RECORD "));
    assert!(with("[[[]]]").is_ok());
    assert!(with("[[[[]]]]").unwrap_err().starts_with("E-JSON-DEPTH "));
    assert!(with(r#"1,"y":2"#).is_ok());
    assert!(with(r#"1,"y":2,"z":3"#).unwrap_err().starts_with("E-JSON-FIELDS "));
    assert!(with("\"\\ud800\"").unwrap_err().starts_with("E-JSON-SYNTAX "));
}

/// Texts made of everything a JSON reader may stumble over.
fn texts() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        6 => Just(&b"{\"a\":1}"[..]), 4 => Just(&b"\n"[..]), 2 => Just(&b"\r\n"[..]), 3 => Just(&b","[..]),
        2 => Just(&b"["[..]), 2 => Just(&b"]"[..]), 2 => Just(&b"{"[..]), 2 => Just(&b"}"[..]),
        2 => Just(&b"\""[..]), 1 => Just(&b"\\"[..]), 2 => Just(&b"\"a\":"[..]), 1 => Just(&b"\"\\ud83d\""[..]),
        2 => Just(&b"{\"a\":{\"b\":{\"c\":-1.50}},\"d\":\"\\u00e9\\\"\"}"[..]), 1 => Just(&b"true"[..]),
        1 => Just(&b" \t"[..]), 1 => Just(&b"\xc3\xa9"[..]), 1 => Just(&b"\xff"[..]), 1 => Just(&b"{\"e\":[1,{\"f\":\"}]\"}]}"[..]),
    ];
    let mark = prop_oneof![5 => Just(&b""[..]), 1 => Just(&b"\xef\xbb\xbf"[..])];
    (mark, prop::collection::vec(token, 0..20)).prop_map(|(mark, tokens)| [mark, &tokens.concat()].concat())
}

fn feeds() -> impl Strategy<Value = Feed> {
    let records = prop::sample::select(vec![None, None, Some("a"), Some("a.b")]);
    (any::<bool>(), records, any::<bool>(), 0..120_u64, 0..60_u64).prop_map(
        |(is_lines, records, last, bytes, record)| {
            let mut feed = feed(if is_lines { Format::Jsonl } else { Format::Json });
            feed.json.records = records.map(FieldPath::new);
            feed.json.duplicate_keys = if last { DuplicateKeys::Last } else { DuplicateKeys::Reject };
            // Often no cap at all.
            feed.limits.max_bytes = if bytes < 30 { 1 << 20 } else { bytes };
            feed.limits.max_record_bytes = if record < 10 { 1 << 20 } else { record };
            feed
        },
    )
}

/// The object cut at these places, taken modulo its length.
fn cut(object: &[u8], places: &[usize]) -> Vec<Vec<u8>> {
    let mut places: Vec<usize> = places.iter().map(|place| place % (object.len() + 1)).collect();
    places.extend([0, object.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| object[pair[0]..pair[1]].to_vec()).collect()
}

proptest! {
    #[test]
    fn no_way_of_cutting_the_bytes_changes_the_records(
        text in texts(), feed in feeds(), places in prop::collection::vec(any::<usize>(), 0..12),
    ) {
        let whole = read(&feed, vec![text.clone()]);
        prop_assert_eq!(&read(&feed, text.iter().map(|byte| vec![*byte]).collect()), &whole);
        prop_assert_eq!(&read(&feed, cut(&text, &places)), &whole);
    }

    #[test]
    fn no_way_of_compressing_the_bytes_changes_the_records(
        text in texts(), feed in feeds(), kind in prop::sample::select(&KINDS[..]), split in any::<usize>(),
        places in prop::collection::vec(any::<usize>(), 0..12),
    ) {
        let whole = read(&feed, vec![text.clone()]);
        let stream: Vec<u8> = cut(&text, &[split]).iter().flat_map(|part| member(part, kind)).collect();
        prop_assert_eq!(&read(&feed, cut(&stream, &places)), &whole);
    }

    #[test]
    fn what_was_written_is_read_back(
        rows in prop::collection::vec((any::<i64>(), any::<String>(), any::<bool>()), 0..20), pretty: bool, is_array: bool,
    ) {
        let value = |(a, d, b): &(i64, String, bool)| serde_json::json!({"a": a, "d": d, "x": {"y": [b]}});
        let values: Vec<_> = rows.iter().map(value).collect();
        let print = |value: &serde_json::Value| if pretty { format!("{value:#}") } else { value.to_string() };
        let text = if is_array {
            print(&values.clone().into())
        } else {
            values.iter().map(print).collect::<Vec<_>>().join("\n")
        };
        let expected: Vec<Vec<Kept>> =
            rows.iter().map(|(a, d, _)| vec![number(&a.to_string()), Absent, Absent, Text(d.clone())]).collect();
        prop_assert_eq!(good(&documents(), text.clone()), expected.clone());
        if !pretty && !is_array {
            prop_assert_eq!(good(&lines(), text), expected);
        }
    }
}
