//! Which record goes to which table.

use super::given::{Loaded, column, json, load, load_csv, shape, text};
use crate::config::feed::{
    ColumnMap, Condition, Feed, FieldPath, Format, Rejects, Route, Rules, Source, Unknown, Unmatched,
};
use crate::fuzzing::fixture;
use crate::store::catalog::Shape;

fn condition(field: &str, values: &[&str]) -> Condition {
    Condition { field: FieldPath::new(field), values: values.iter().copied().map(str::to_owned).collect() }
}

/// A feed whose routes take the field `a` of the records for which these conditions hold.
fn feed(routes: &[&[Condition]], unmatched: Unmatched) -> Feed {
    let mut feed = fixture::feed();
    feed.csv.header = true;
    feed.rejects = Rejects { max_rows: 100, max_ratio: None };
    feed.unmatched = unmatched;
    let route = |when: &&[Condition]| {
        let mut mapping = fixture::mapping();
        mapping.unknown = Unknown::Ignore;
        let column = "a".to_owned();
        mapping.columns = vec![ColumnMap { column, source: Source::field("a"), rules: Rules::default() }];
        Route { when: when.to_vec(), mapping, ..fixture::feed().routes[0].clone() }
    };
    feed.routes = routes.iter().map(route).collect();
    feed
}

fn tables(count: usize) -> Vec<Shape> {
    (0..count).map(|_| shape(vec![column("a", text())])).collect()
}

fn of_json(routes: &[&[Condition]], records: &[&str]) -> Loaded {
    let feed = Feed { format: Format::Json, ..feed(routes, Unmatched::Filter) };
    load::<false>(&feed, tables(routes.len()), json(records)).unwrap()
}

#[test]
fn a_record_goes_to_the_first_route_that_takes_it_and_is_counted_once() {
    let routes: &[&[Condition]] = &[
        &[condition("k", &["x", "y"])],
        &[condition("k", &["y", "z"]), condition("n", &["1"])],
        &[condition("m", &[])],
    ];
    let csv = "a,k,n,m\n1,x,1,1\n2,y,1,\n3,z,1,1\n4,z,2,1\n5,z,2,\n6,,,\n7,,, \n8,X,1,0\n";
    let loaded = load_csv(&feed(routes, Unmatched::Filter), tables(3), csv).unwrap();
    assert_eq!(loaded.texts(0), ["1", "2"]);
    assert_eq!(loaded.texts(1), ["3"]);
    assert_eq!(loaded.texts(2), ["4", "8"]);
    let counts = (loaded.decoded.read, loaded.decoded.loaded, loaded.decoded.filtered, loaded.decoded.rejected);
    assert_eq!(counts, (8, 5, 3, 0));
    let loaded = load_csv(&feed(routes, Unmatched::Reject), tables(3), csv).unwrap();
    assert_eq!(loaded.rejected(), ["5 - E-ROW-UNMATCHED", "6 - E-ROW-UNMATCHED", "7 - E-ROW-UNMATCHED"]);
    assert_eq!((loaded.decoded.filtered, loaded.decoded.rejected), (0, 3));
}

#[test]
fn the_last_route_may_take_all_others() {
    let routes: &[&[Condition]] = &[&[condition("k", &["x"])], &[]];
    let loaded = load_csv(&feed(routes, Unmatched::Reject), tables(2), "a,k\n1,x\n2,y\n3,\n").unwrap();
    assert_eq!((loaded.texts(0), loaded.texts(1)), (vec!["1".to_owned()], vec!["2".to_owned(), "3".to_owned()]));
}

#[test]
fn conditions_hold_of_values_of_every_kind() {
    let taken = |condition: Condition, record: &str| of_json(&[&[condition]], &[record]).decoded.loaded == 1;
    assert!(taken(condition("b", &["true"]), "{\"b\": true}"));
    assert!(!taken(condition("b", &["true"]), "{\"b\": false}"));
    assert!(taken(condition("b", &["true"]), "{\"b\": \"true\"}"));
    assert!(taken(condition("n", &["1", "2"]), "{\"n\": 2}"));
    assert!(!taken(condition("n", &["1", "2"]), "{\"n\": 2.0}"));
    assert!(taken(condition("data.kind", &["x"]), "{\"data.kind\": \"x\"}"));
    for (record, has_value) in [
        ("{\"v\": false}", true),
        ("{\"v\": 0}", true),
        ("{\"v\": {}}", true),
        ("{\"v\": \"x\"}", true),
        ("{\"v\": \"\"}", false),
        ("{\"v\": \" \"}", false),
        ("{\"v\": null}", false),
        ("{}", false),
    ] {
        assert_eq!(taken(condition("v", &[]), record), has_value, "{record}");
    }
    assert!(!taken(condition("v", &[""]), "{}"));
    assert!(taken(condition("v", &[""]), "{\"v\": \"\"}"));
}

#[test]
fn a_condition_sees_values_trimmed_where_the_feed_trims() {
    let mut feed = feed(&[&[condition("k", &["x"])]], Unmatched::Filter);
    assert_eq!(load_csv(&feed, tables(1), "a,k\n1, x \n").unwrap().decoded.loaded, 0);
    feed.routes[0].mapping.rules.trim = true;
    assert_eq!(load_csv(&feed, tables(1), "a,k\n1, x \n").unwrap().decoded.loaded, 1);
}

#[test]
fn a_condition_on_a_field_that_the_header_lacks_is_told_with_what_there_is() {
    let feed = feed(&[&[condition("kind", &["x"])]], Unmatched::Filter);
    let told = load_csv(&feed, tables(1), "a,k\n1,x\n").unwrap_err().to_string();
    assert_eq!(told, "a route's condition names field \"kind\", which the header does not have; it has \"a\", \"k\"");
}

#[test]
fn a_bad_record_is_rejected_for_its_route_and_the_others_go_on() {
    let routes: &[&[Condition]] = &[&[condition("k", &["x"])], &[condition("k", &["y"])]];
    let mut feed = feed(routes, Unmatched::Filter);
    feed.routes[1].mapping.columns[0].rules.required = true;
    let loaded = load_csv(&feed, tables(2), "a,k\n,x\n,y\n1,y\n").unwrap();
    assert_eq!((loaded.texts(0), loaded.texts(1)), (vec!["∅".to_owned()], vec!["1".to_owned()]));
    assert_eq!(loaded.rejected(), ["2 a E-ROW-NULL"]);
    assert_eq!(loaded.rejections[0].table.as_deref(), Some("public.t"));
}
