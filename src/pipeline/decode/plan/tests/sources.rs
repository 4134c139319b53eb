//! Where values come from: fields by name and position, constants, metadata, and fields that nobody claimed.

use super::super::super::DecodeError;
use super::super::misfits;
use super::given::{Loaded, Owned, column, given, json, load, load_csv, load_object, shape, text};
use crate::config::feed::{ColumnMap, Feed, FieldPath, Format, Meta, NameMatch, Rejects, Rules, Source, Unknown};
use crate::domain::object::ObjectRef;
use crate::domain::pattern::KeyPattern;
use crate::fuzzing::fixture;
use crate::store::catalog::{Column, Shape};
use crate::store::encode::ColumnType;

fn csv_feed() -> Feed {
    let mut feed = fixture::feed();
    feed.csv.header = true;
    feed.rejects = Rejects { max_rows: 100, max_ratio: None };
    feed
}

fn json_feed() -> Feed {
    Feed { format: Format::Json, ..csv_feed() }
}

fn map(column: &str, source: Source) -> ColumnMap {
    ColumnMap { column: column.to_owned(), source, rules: Rules::default() }
}

fn ab() -> Vec<Shape> {
    vec![shape(vec![column("a", text()), column("b", text())])]
}

fn refused(loaded: Result<Loaded, DecodeError>) -> String {
    let error = loaded.unwrap_err();
    format!("{} {error}", error.code())
}

#[test]
fn metadata_and_constants_fill_columns() {
    let mut feed = csv_feed();
    feed.csv.header = false;
    feed.pattern = Some(KeyPattern::parse("in/{shop}/{time:%Y-%m-%d}.csv", jiff::tz::TimeZone::UTC).unwrap());
    let object = ObjectRef {
        bucket: "drop".to_owned(),
        key: "in/north/2024-06-01.csv".to_owned(),
        etag: "abc".to_owned(),
        size: 6,
        key_time: Some("2024-06-01T00:00:00Z".parse().unwrap()),
        visible_at: "2024-06-01T01:02:03.5Z".parse().unwrap(),
        ..fixture::object(6)
    };
    let sources = [
        Source::Position(1),
        Source::Constant("always".to_owned()),
        Source::Meta(Meta::Bucket),
        Source::Meta(Meta::Key),
        Source::Meta(Meta::Time),
        Source::Meta(Meta::Etag),
        Source::Meta(Meta::Size),
        Source::Meta(Meta::VisibleAt),
        Source::Meta(Meta::RecordNumber),
        Source::Meta(Meta::RecordLine),
        Source::Meta(Meta::KeyPart("shop".to_owned())),
    ];
    let name = |index: usize| format!("c{index}");
    let columns = (0..sources.len()).map(|index| column(&name(index), text())).collect();
    feed.routes[0].mapping.columns =
        sources.into_iter().enumerate().map(|(index, source)| map(&name(index), source)).collect();
    let loaded = load_object(&feed, vec![shape(columns)], &object, "x\n\ny\n").unwrap();
    let known = "always|drop|in/north/2024-06-01.csv|2024-06-01T00:00:00Z|abc|6|2024-06-01T01:02:03.5Z";
    assert_eq!(loaded.texts(0), [format!("x|{known}|1|1|north"), format!("y|{known}|2|3|north")]);
}

#[test]
fn what_is_not_known_is_null_or_the_default() {
    let mut feed = json_feed();
    let time = ColumnMap {
        rules: Rules { default: Some("1999-12-31".to_owned()), ..Rules::default() },
        ..map("t", Source::Meta(Meta::Time))
    };
    feed.routes[0].mapping.columns = vec![map("l", Source::Meta(Meta::RecordLine)), time];
    feed.routes[0].mapping.unknown = Unknown::Ignore;
    let columns = vec![column("l", ColumnType::Int8), column("t", ColumnType::Timestamptz)];
    let loaded = load::<false>(&feed, vec![shape(columns)], json(&["{}"])).unwrap();
    assert_eq!(loaded.rows[0][0][0], None);
    assert!(loaded.rows[0][0][1].is_some());
}

#[test]
fn the_first_alias_that_is_there_counts_and_a_field_that_is_not_there_needs_a_default() {
    let mut feed = csv_feed();
    let aliases = Source::Field(["x", "y", "z"].map(FieldPath::new).to_vec());
    feed.routes[0].mapping.columns = vec![map("a", aliases)];
    feed.routes[0].mapping.unknown = Unknown::Ignore;
    assert_eq!(load_csv(&feed, ab(), "q,z,y\n1,2,3\n").unwrap().texts(0), ["3"]);
    let told = refused(load_csv(&feed, ab(), "q,r\n1,2\n"));
    assert!(
        told.starts_with("E-CSV-HEADER column \"a\" takes field \"x\" or \"y\" or \"z\", which the header"),
        "{told}"
    );
    feed.routes[0].mapping.columns[0].rules.default = Some("none".to_owned());
    assert_eq!(load_csv(&feed, ab(), "q,r\n1,2\n").unwrap().texts(0), ["none"]);
}

#[test]
fn each_record_of_an_open_format_says_which_alias_it_has() {
    let mut feed = json_feed();
    feed.routes[0].mapping.columns = vec![map("a", Source::Field(["x", "y"].map(FieldPath::new).to_vec()))];
    let records = [r#"{"x": "1"}"#, r#"{"y": "2"}"#, r#"{"y": "4", "x": "3"}"#, r#"{"x": null, "y": "5"}"#, "{}"];
    assert_eq!(load::<false>(&feed, ab(), json(&records)).unwrap().texts(0), ["1", "2", "3", "∅", "∅"]);
}

#[test]
fn names_are_compared_loosely_by_option_and_never_guessed() {
    let mut feed = csv_feed();
    feed.routes[0].mapping.names = NameMatch::Normalized;
    let columns = || vec![shape(vec![column("full_name", text()), column("id", text())])];
    assert_eq!(load_csv(&feed, columns(), " ID ,Full-Name\n1,x\n").unwrap().texts(0), ["x|1"]);
    let told = refused(load_csv(&feed, columns(), "id,full name,full_name\n1,x,y\n"));
    assert!(told.contains("fields \"full name\" and \"full_name\" both mean \"full_name\""), "{told}");
    let twins = vec![shape(vec![column("full name", text()), column("full_name", text())])];
    let told = refused(load_csv(&feed, twins, "Full Name\nx\n"));
    assert!(told.contains("columns \"full name\" and \"full_name\" take the same field"), "{told}");
    feed.routes[0].mapping.names = NameMatch::Exact;
    assert!(refused(load_csv(&feed, columns(), "ID,full_name\n1,x\n")).contains("\"ID\" of the header has no column"));
}

#[test]
fn a_column_must_be_filled_where_the_table_or_the_feed_says_so() {
    let strict = || {
        let b = Column { nullable: false, ..column("b", text()) };
        vec![shape(vec![column("a", text()), b])]
    };
    let told = refused(load_csv(&csv_feed(), strict(), "a\n1\n"));
    assert!(told.contains("column \"b\" is NOT NULL without a default and no field fills it"), "{told}");
    let mut feed = csv_feed();
    feed.routes[0].mapping.rules.required = true;
    let told = refused(load_csv(&feed, ab(), "a\n1\n"));
    assert!(told.contains("column \"b\" is required by the feed and no field fills it"), "{told}");
    assert_eq!(load_csv(&feed, ab(), "a,b\n1,\n").unwrap().rejected(), ["1 b E-ROW-NULL"]);
}

#[test]
fn a_mapping_that_no_table_could_take_is_the_operators_and_check_says_the_same() {
    let number = |name: &str| column(name, ColumnType::Int4);
    let cases: [(Vec<ColumnMap>, &str, &str); 7] = [
        (vec![map("a", Source::field("x")), map("a", Source::field("y"))], "columns.a", "two fields go to it"),
        (vec![map("n", Source::Constant("x".to_owned()))], "columns.n", "the constant is no value of it: not a whole"),
        (
            vec![map("n", Source::Meta(Meta::Time))],
            "columns.n",
            "it takes a moment, for timestamptz, and the column is",
        ),
        (vec![map("n", Source::Meta(Meta::Key))], "columns.n", "it takes a text, and the column is"),
        (vec![map("d", Source::Meta(Meta::Size))], "columns.d", "it takes a number, and the column is"),
        (
            vec![ColumnMap {
                rules: Rules { min: Some("x".to_owned()), ..Rules::default() },
                ..map("n", Source::field("x"))
            }],
            "columns.n",
            "min \"x\" is no value of the column",
        ),
        (
            vec![ColumnMap {
                rules: Rules { required: true, ..Rules::default() },
                ..map("n", Source::Constant(" ".to_owned()))
            }],
            "columns.n",
            "the constant is no value of it: the value is blank",
        ),
    ];
    for (columns, key, told) in cases {
        let mut feed = csv_feed();
        feed.routes[0].mapping.columns = columns;
        let table = || shape(vec![column("a", text()), number("n"), column("d", ColumnType::Date)]);
        let found = misfits(&feed, &feed.routes[0], &table());
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].key == key && found[0].detail.contains(told), "{found:?} should say {told}");
        let loaded = refused(load_csv(&feed, vec![table()], "x,y\n1,2\n"));
        assert!(loaded.starts_with("E-TARGET-COLUMN") && loaded.contains(told), "{loaded}");
    }
}

#[test]
fn the_rescue_column_must_be_there_and_jsonb_and_free() {
    let mut feed = csv_feed();
    feed.routes[0].mapping.unknown = Unknown::Rescue;
    let check = |feed: &Feed, columns: Vec<Column>, told: &str| {
        let found = misfits(feed, &feed.routes[0], &shape(columns.clone()));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].key == "rescue_column" && found[0].detail.contains(told), "{found:?}");
        let loaded = refused(load_csv(feed, vec![shape(columns)], "a,x\n1,2\n"));
        assert!(loaded.starts_with("E-TARGET-COLUMN") && loaded.contains(told), "{loaded}");
    };
    check(&feed, vec![column("a", text())], "does not have it");
    check(&feed, vec![column("a", text()), column("_rescued", ColumnType::Json)], "needs it to be jsonb");
    feed.routes[0].mapping.columns = vec![map("_rescued", Source::field("a"))];
    check(&feed, vec![column("a", text()), column("_rescued", ColumnType::Jsonb)], "a field is mapped to it");
}

fn rescue(feed: &mut Feed) -> Vec<Shape> {
    feed.routes[0].mapping.unknown = Unknown::Rescue;
    vec![shape(vec![column("a", text()), column("_rescued", ColumnType::Jsonb)])]
}

/// The second column of each row, without the version in front of `jsonb`.
fn rescued(loaded: &Loaded) -> Vec<Option<String>> {
    let json = |row: &Vec<Option<Vec<u8>>>| row[1].as_ref().map(|json| String::from_utf8(json[1..].to_vec()).unwrap());
    loaded.rows[0].iter().map(json).collect()
}

#[test]
fn fields_that_nobody_claimed_are_rescued_as_they_were_written() {
    let mut feed = json_feed();
    let shapes = rescue(&mut feed);
    let records = [
        "{\"a\": \"1\", \"n\": 12345678901234567890.1234567890, \"t\": \"q\\\"\\n\", \"o\": {\"x\": [1.00]}, \"b\": true}",
        "{\"a\": \"2\"}",
        "{\"a\": \"3\", \"x\": null, \"y\": \" \"}",
    ];
    let loaded = load::<false>(&feed, shapes, json(&records)).unwrap();
    let whole = r#"{"b":true,"n":12345678901234567890.1234567890,"o":{"x": [1.00]},"t":"q\"\n"}"#;
    assert_eq!(rescued(&loaded), [Some(whole.to_owned()), None, None]);
}

#[test]
fn what_json_cannot_say_is_rescued_as_a_text_or_refused() {
    let mut feed = json_feed();
    let shapes = rescue(&mut feed);
    let field = |name: &str, value| vec![("a".to_owned(), Owned::Null), (name.to_owned(), value)];
    let records = vec![
        field("nan", Owned::Number("NaN".to_owned())),
        field("bytes", Owned::Bytes(b"\x00\xff".to_vec())),
        field("nul", Owned::Text("a\0b".to_owned())),
        vec![("d".to_owned(), Owned::Number("1".to_owned())), ("d".to_owned(), Owned::Number("2".to_owned()))],
    ];
    let loaded = load::<true>(&feed, shapes, given(records)).unwrap();
    let expected = [r#"{"nan":"NaN"}"#, r#"{"bytes":"\\x00ff"}"#, r#"{"d":1,"d":1}"#];
    assert_eq!(rescued(&loaded), expected.map(|text| Some(text.to_owned())));
    assert_eq!(loaded.rejected(), ["3 _rescued E-CELL-JSON"]);
}

#[test]
fn a_rescue_column_that_is_not_null_gets_an_empty_object() {
    let mut feed = csv_feed();
    let mut shapes = rescue(&mut feed);
    shapes[0].columns[1].nullable = false;
    let loaded = load_csv(&feed, shapes, "a,x\n1,2\n1,\n").unwrap();
    assert_eq!(rescued(&loaded), [Some("{\"x\":\"2\"}".to_owned()), Some("{}".to_owned())]);
}

#[test]
fn fields_without_names_are_rescued_by_position() {
    let mut feed = csv_feed();
    feed.csv.header = false;
    let shapes = rescue(&mut feed);
    feed.routes[0].mapping.columns = vec![map("a", Source::Position(2))];
    let loaded = load_csv(&feed, shapes, "x,1,y\n,2,\n").unwrap();
    assert_eq!(rescued(&loaded), [Some("{\"1\":\"x\",\"3\":\"y\"}".to_owned()), None]);
}

#[test]
fn a_file_that_fills_the_table_leaves_the_rescue_column_out() {
    let mut feed = csv_feed();
    let shapes = rescue(&mut feed);
    assert_eq!(rescued(&load_csv(&feed, shapes, "a\n1\n").unwrap()), [None]);
    feed.csv.header = false;
    let shapes = rescue(&mut feed);
    assert_eq!(rescued(&load_csv(&feed, shapes, "1\n").unwrap()), [None]);
}

#[test]
fn unknown_fields_are_ignored_rejected_or_set_the_object_aside() {
    let csv = "a,x\n1,2\n3,\n4, \n";
    let with = |unknown| {
        let mut feed = csv_feed();
        feed.routes[0].mapping.unknown = unknown;
        feed
    };
    assert_eq!(load_csv(&with(Unknown::Ignore), ab(), csv).unwrap().texts(0), ["1", "3", "4"]);
    let loaded = load_csv(&with(Unknown::Reject), ab(), csv).unwrap();
    assert_eq!(
        (loaded.texts(0), loaded.rejected()),
        (vec!["3".to_owned(), "4".to_owned()], vec!["1 - E-ROW-UNKNOWN".to_owned()])
    );
    assert!(
        refused(load_csv(&with(Unknown::Quarantine), ab(), csv)).starts_with("E-CSV-HEADER field \"x\" of the header")
    );
    assert!(
        matches!(load_csv(&with(Unknown::Add), ab(), csv), Err(DecodeError::NewFields(new)) if new.iter().map(|new| &new.name).eq(["x"]))
    );

    let records = ["{\"a\": \"1\", \"x\": 2}", "{\"a\": \"3\", \"x\": null}", "{\"a\": \"4\"}"];
    let open = |unknown| load::<false>(&Feed { format: Format::Json, ..with(unknown) }, ab(), json(&records));
    assert_eq!(open(Unknown::Ignore).unwrap().texts(0), ["1|∅", "3|∅", "4|∅"]);
    let loaded = open(Unknown::Reject).unwrap();
    assert_eq!(
        (loaded.texts(0), loaded.rejected()),
        (vec!["3|∅".to_owned(), "4|∅".to_owned()], vec!["1 - E-ROW-UNKNOWN".to_owned()])
    );
    assert!(refused(open(Unknown::Quarantine)).starts_with("E-SCHEMA field \"x\" has no column"));
    assert!(
        matches!(open(Unknown::Add), Err(DecodeError::NewFields(new)) if new.iter().map(|new| &new.name).eq(["x"]))
    );
}

#[test]
fn fields_of_a_schema_are_looked_at_before_the_first_record() {
    let load = |unknown| {
        let mut feed = json_feed();
        feed.routes[0].mapping.unknown = unknown;
        let mut reader = json::<true>(&["{\"a\": \"1\", \"x\": null}"]);
        reader.named = Some(vec!["a", "x"]);
        load(&feed, ab(), reader)
    };
    assert!(refused(load(Unknown::Quarantine)).starts_with("E-SCHEMA field \"x\" has no column"));
    // No value, no type: nothing is added for it.
    assert_eq!(load(Unknown::Add).unwrap().texts(0), ["1"]);
    assert_eq!(load(Unknown::Reject).unwrap().texts(0), ["1"]);
    let mut feed = json_feed();
    feed.routes[0].mapping.columns = vec![map("a", Source::field("gone"))];
    let mut reader = json::<true>(&[]);
    reader.named = Some(vec!["a"]);
    let told = refused(super::given::load(&feed, ab(), reader));
    assert_eq!(told, "E-SCHEMA column \"a\" takes field \"gone\", which the object does not have; it has \"a\"");
}

#[test]
fn fields_beyond_the_last_position_are_unknown_and_gaps_are_meant() {
    let load = |unknown, csv| {
        let mut feed = csv_feed();
        feed.csv.header = false;
        feed.routes[0].mapping.unknown = unknown;
        feed.routes[0].mapping.columns = vec![map("a", Source::Position(2))];
        load_csv(&feed, ab(), csv)
    };
    assert_eq!(load(Unknown::Quarantine, "x,1\n").unwrap().texts(0), ["1"]);
    for unknown in [Unknown::Quarantine, Unknown::Add] {
        let told = refused(load(unknown, "x,1,y\n"));
        assert!(told.starts_with("E-CSV-HEADER the first record has 3 fields, the mapping needs 2"), "{told}");
    }
    assert_eq!(load(Unknown::Ignore, "x,1,y\n").unwrap().texts(0), ["1"]);
    let loaded = load(Unknown::Reject, "x,1,\nx,2,y\n").unwrap();
    assert_eq!((loaded.texts(0), loaded.rejected()), (vec!["1".to_owned()], vec!["2 - E-ROW-UNKNOWN".to_owned()]));
    assert_eq!(loaded.rejections[0].reason, "field \"3\" has no column");
}
