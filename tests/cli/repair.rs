//! Undo, replay, rejected records and trials, as an operator types and reads them.

use serde_json::{Value, json};

use crate::world::World;

/// A world whose departments say where they come from, with three good records and two bad ones in two objects.
fn after_one_pass() -> World {
    let world = World::new();
    world.sql(
        "CREATE TABLE departments (id integer NOT NULL, department text, _object_id bigint, _record_no bigint);
         CREATE TABLE jobs (id integer, job text)",
    );
    world.configure("rejects = { max_rows = 10 }");
    world.run(&["migrate"]).exits(0);
    world.put_department(1, "1,Sales\ntwo,\u{1b}[2JLegal\n3,Supply\n");
    world.put_department(2, "four,Support\n5,Audit\n");
    world.run(&["run", "--once"]).exits(0);
    world
}

const ROWS: &str = "SELECT count(*) FROM departments";

fn rejections(world: &World, arguments: &[&str]) -> Vec<Value> {
    world.json(&[&["rejections", "list"], arguments].concat())["rejections"].as_array().unwrap().clone()
}

#[test]
fn rejected_records_are_listed_page_by_page_with_their_place_and_reason() {
    let world = World::new();
    world.run(&["rejections", "list"]).exits(12).complains(&["no ledger yet"]);
    let world = after_one_pass();
    let table = world.run(&["rejections", "list"]).exits(0).says(&["record", "column", "E-CELL-INT", "departments/"]);
    assert!(!table.stdout.contains('│') && table.stderr.is_empty(), "{table:#?}");
    let all = rejections(&world, &[]);
    let place = |row: &Value| ["record_no", "line", "byte_offset", "column", "code"].map(|name| row[name].clone());
    assert_eq!(place(&all[0]), [json!(2), json!(2), json!(8), json!("id"), json!("E-CELL-INT")]);
    assert_eq!(all.len(), 2);
    let first = world.run(&["rejections", "list", "--limit", "1"]).exits(0);
    let id = all[0]["id"].to_string();
    first.complains(&["and 1 more", &format!("--after {id}")]);
    assert_eq!(rejections(&world, &["--after", &id])[0]["id"], all[1]["id"]);
    assert_eq!(rejections(&world, &["--key", "s3://drop/departments/2024-01-02.csv"]).len(), 1);
    assert_eq!(rejections(&world, &["--key", "2024-01-0"]).len(), 2);
    for nothing in [["--code", "E-X"], ["--id", "999"], ["--from", "2999-01-01"], ["--feed", "jobs"]] {
        assert!(rejections(&world, &nothing).is_empty(), "{nothing:?}");
    }
    world.run(&["rejections", "list", "--feed", "departmnets"]).exits(2).complains(&["did you mean"]);
    world.run(&["status"]).exits(0).says(&["2 rejected records", "keyfall rejections list --feed departments"]);
    world.run(&["objects"]).exits(0).says(&["rejected", "filtered"]);
}

#[test]
fn a_rejected_record_is_shown_escaped_and_given_out_as_it_stood() {
    let world = after_one_pass();
    let id = rejections(&world, &[])[0]["id"].to_string();
    let shown = world.run(&["rejections", "show", &id]).exits(0).says(&["E-CELL-INT", "line", "record:", "\\u{1b}[2J"]);
    assert!(!shown.stdout.contains('\u{1b}'), "{shown:#?}");
    let raw = world.run(&["rejections", "show", &id, "--raw"]).exits(0);
    assert_eq!(raw.stdout, "two,\u{1b}[2JLegal\n");
    assert_eq!(world.json(&["rejections", "show", &id])["raw"], raw.stdout.as_str());
    world.run(&["rejections", "show", "999999"]).exits(1).complains(&["no rejection has this id"]);
}

#[test]
fn exported_records_are_a_file_again() {
    let world = after_one_pass();
    let export = world.run(&["rejections", "export"]).exits(0).complains(&["records written: 2"]);
    assert_eq!(export.stdout, "two,\u{1b}[2JLegal\nfour,Support\n");
    let path = world.folder().join("bad.csv");
    let name = path.to_str().unwrap();
    world.run(&["rejections", "export", "--output", name, "--key", "01-02"]).exits(0);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "four,Support\n");
    world.run(&["rejections", "export", "--output", name]).exits(1).complains(&["bad.csv"]);
    let reasons = world.run(&["rejections", "export", "--with-reasons"]).exits(0);
    let lines: Vec<Value> = reasons.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[1]["record_no"], &lines[1]["raw"]), (&json!(1), &json!("four,Support\n")));
    world.sql("UPDATE keyfall.rejections SET raw_bytes = 99999 WHERE record_no = 1");
    world.run(&["rejections", "export", "--output", "part.csv"]).exits(1).complains(&["1 of them", "--skip-cut"]);
    assert!(!world.folder().join("part.csv").exists());
    world.run(&["rejections", "export", "--skip-cut"]).exits(0).complains(&["left out", "records written: 1"]);
}

#[test]
fn mended_records_are_replayed_and_the_others_stay() {
    let world = after_one_pass();
    assert_eq!(world.number(ROWS), 3);
    world.sql("ALTER TABLE departments ALTER id TYPE text; ALTER TABLE departments ADD CHECK (id <> 'x')");
    let look = world.json(&["rejections", "replay", "--dry-run", "--id", "1"]);
    assert_eq!((&look["dry_run"], &look["loaded"]), (&json!(true), &json!(1)));
    assert_eq!(world.number(ROWS), 3);
    world.run(&["replay", "--rejections", "--key", "01-02"]).exits(0).says(&["loaded: 1,", "still bad: 0"]);
    assert_eq!(world.number(ROWS), 4);
    world.run(&["rejections", "replay", "--yes"]).exits(0).says(&["loaded: 1,"]);
    assert_eq!(world.number(ROWS), 5);
    assert!(rejections(&world, &[]).is_empty());
    assert_eq!(rejections(&world, &["--all"]).len(), 2);
    world.run(&["rejections", "replay"]).exits(0).complains(&["no rejected record fits"]);
    let feed = world.json(&["status"])["feeds"][0].clone();
    assert_eq!((&feed["rows_read"], &feed["rows_loaded"], &feed["rows_rejected"]), (&json!(5), &json!(5), &json!(0)));
}

#[test]
fn rows_are_undone_and_loaded_again_by_object_feed_or_time() {
    let world = after_one_pass();
    world.run(&["undo"]).exits(2);
    world.run(&["undo", "--from", "2024-01-01", "--loaded-from", "today"]).exits(2).complains(&["--feed"]);
    let look = world.json(&["undo", "--feed", "departments", "--from", "2024-01-02", "--dry-run"]);
    assert_eq!((&look["changed"], &look["rows"], &look["dry_run"]), (&json!(1), &json!(1), &json!(true)));
    assert_eq!(world.number(ROWS), 3);
    world
        .run(&["undo", "--feed", "departments", "--from", "2024-01-02"])
        .exits(0)
        .says(&["undone: 1 of 1, rows deleted: 1"]);
    assert_eq!(world.number(ROWS), 2);
    assert_eq!(rejections(&world, &[]).len(), 1, "those of an undone object wait for nobody");
    world.run(&["undo", "--id", "2"]).exits(1).complains(&["not changed", "2"]);
    world.run(&["undo", "--loaded-to", "2001-01-01"]).exits(0).complains(&["no object fits"]);
    world.sql("DELETE FROM departments WHERE id = 1");
    world.run(&["undo", "--id", "1"]).exits(1).complains(&["have 1 rows of it, the ledger knows of 2", "--force"]);
    world.run(&["replay", "--feed", "departments", "--force"]).exits(0).says(&["sent back to be loaded again: 2 of 2"]);
    assert_eq!(world.number(ROWS), 0);
    world.run(&["run", "--once"]).exits(0);
    assert_eq!(world.number(ROWS), 3);
    assert_eq!(rejections(&world, &[]).len(), 2);
    world.run(&["objects", "--id", "1"]).exits(0).says(&["replays", "records read", "rejected"]);
    world.s3.remove("drop", "departments/2024-01-01.csv");
    world.run(&["replay", "--id", "1"]).exits(1).complains(&["no longer in the bucket"]);
    assert_eq!(world.number(ROWS), 3);
}

#[test]
fn a_trial_loads_for_real_and_leaves_nothing_behind() {
    let world = World::new();
    world.sql(
        "CREATE TABLE departments (id integer PRIMARY KEY, department text); CREATE TABLE jobs (id int, job text)",
    );
    world.run(&["migrate"]).exits(0);
    world.put_department(1, "1,Sales\n2,Legal\n");
    world.put_department(2, "3,Sales\nx,Legal\ny,Audit\n");
    let uri = |day: u32| format!("s3://drop/departments/2024-01-{day:02}.csv");
    let good = world.run(&["check", "--object", &uri(1)]).exits(0);
    let good = good.says(&["would be loaded by feed departments", "2 read = 2 loaded + 0 rejected + 0 filtered"]);
    good.says(&["2 into public.departments", "records per second"]).complains(&["rolled back"]);
    world.run(&["check", "--object", &uri(2), "--limit", "1"]).exits(3).says(&[
        "would be quarantined",
        "3 read = 1 loaded + 2 rejected",
        "which is exceeded",
        "E-CELL-INT",
        "and 1 more",
    ]);
    let tried = world.run(&["check", "--object", &uri(2), "--set", "feeds.departments.rejects.max_rows=2", "--json"]);
    let tried = tried.exits(0).json();
    assert_eq!(
        (&tried["outcome"], &tried["rows"]["rejected"], &tried["known"]),
        (&json!("loads"), &json!(2), &Value::Null)
    );
    assert_eq!(tried["rejections"][1]["line"], 3);
    for nothing in ["departments", "keyfall.objects", "keyfall.rejections"] {
        assert_eq!(world.number(&format!("SELECT count(*) FROM {nothing}")), 0, "{nothing}");
    }
    world.sql("INSERT INTO departments VALUES (2, 'there')");
    let refused = world.run(&["check", "--object", &uri(1), "--json"]).json();
    assert_eq!(refused["outcome"], "quarantined", "{refused}");
    world.run(&["check", "--object", "departments/x"]).exits(2).complains(&["s3://BUCKET/KEY"]);
    world.run(&["check", "--object", "s3://drop/departments/none.csv"]).exits(10).complains(&["there is no object"]);
    world.s3.put("drop", "departments/readme.txt", "1,x\n");
    let left_out = ["check", "--object", "s3://drop/departments/readme.txt"];
    world.run(&left_out).exits(2).complains(&["departments: pattern", "--feed"]);
    world.run(&[&left_out[..], &["--feed", "departments"]].concat()).exits(0).complains(&["leaves it out"]);
    assert_eq!(world.number("SELECT count(*) FROM keyfall.objects"), 0);
}
