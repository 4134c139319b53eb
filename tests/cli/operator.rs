//! A day of an operator: migrate, run, look, retry, skip, pause, sweep.

use keyfall::demo::s3::{Action, FaultRule, Operation};
use serde_json::{Value, json};

use crate::console::Ran;
use crate::world::World;

/// The feed's entry in `status --json`.
fn status(world: &World, feed: &str) -> Value {
    let answer = world.json(&["status"]);
    answer["feeds"].as_array().unwrap().iter().find(|entry| entry["feed"] == feed).unwrap().clone()
}

fn objects(world: &World, arguments: &[&str]) -> Vec<Value> {
    world.json(&[&["objects"], arguments].concat())["objects"].as_array().unwrap().clone()
}

/// Two good objects and one with a bad row, after one pass.
fn after_one_pass() -> (World, Ran) {
    let world = World::ready();
    world.put_department(1, "1,Sales\n2,\n");
    world.put_department(2, "3,Legal\n");
    world.put_department(3, "4,Support\nfive,Supply\n");
    let pass = world.run(&["run", "--once"]);
    (world, pass)
}

#[test]
fn without_a_ledger_commands_say_how_to_make_one() {
    let world = World::new();
    for command in [&["status"][..], &["objects"], &["sweep"], &["retry", "--all"], &["pause", "jobs"]] {
        world.run(command).exits(12).complains(&["no ledger yet", "keyfall migrate"]);
    }
    world.run(&["migrate"]).exits(0).says(&["V1__ledger", "V2__discovery", "V3__rows", "version 3"]);
    world.run(&["migrate"]).exits(0).says(&["already is at", "version 3"]);
    assert_eq!(world.json(&["migrate"]), json!({ "version": 3, "applied": [] }));
    world.run(&["status"]).exits(0);
}

#[test]
fn a_feed_without_objects_shows_zeros() {
    let world = World::ready();
    let jobs = status(&world, "jobs");
    assert_eq!(jobs["objects"]["loaded"], 0);
    assert_eq!(jobs["rows_loaded"], 0);
    assert_eq!(jobs["configured"], true);
    let table = world.run(&["status"]).exits(0).says(&["feed", "quarantined", "jobs", "departments"]);
    assert!(!table.stdout.contains(['│', '┌']), "borders in a pipe: {table:#?}");
}

#[test]
fn status_says_who_works_and_what_each_does_alone() {
    let world = World::ready();
    assert_eq!(world.json(&["status"])["instances"], json!([]));
    world.run(&["status"]).exits(0).says(&["no instance runs"]);
    let come = "WITH came AS (
             INSERT INTO keyfall.instances (id, name, version, feeds, declined, expires_at)
             SELECT gen_random_uuid(), name, '9.9', '{jobs}', '{}', now() + ends
               FROM (VALUES ('here', interval '1 h'), ('dead', interval '-1 h')) x (name, ends) RETURNING id, expires_at
         ), lent AS (
             INSERT INTO keyfall.duties SELECT 'jobs', duty, id, expires_at FROM came, (VALUES ('poll'), ('sweep')) d (duty)
              WHERE expires_at > now() RETURNING feed
         ) SELECT count(*) FROM lent";
    assert_eq!(world.number(come), 2);
    let told = world.json(&["status"]);
    let [here, dead] = told["instances"].as_array().unwrap().as_slice() else { panic!("{told}") };
    let facts = |row: &Value| ["name", "version", "alive", "leased", "duties"].map(|key| row[key].clone());
    assert_eq!(facts(here), [json!("here"), json!("9.9"), json!(true), json!(0), json!(["jobs:poll", "jobs:sweep"])]);
    assert_eq!(facts(dead), [json!("dead"), json!("9.9"), json!(false), json!(0), json!([])]);
    assert!(here["started_at"].is_string() && here["seen_at"].is_string());
    world.run(&["status"]).exits(0).says(&["instance", "last seen", "here", "jobs:poll jobs:sweep", "dead"]);
}

#[test]
fn one_pass_loads_and_says_where_the_feeds_stand() {
    let (world, pass) = after_one_pass();
    pass.exits(3).says(&["departments", "keyfall objects --feed departments --state quarantined"]);
    assert_eq!(world.number("SELECT count(*) FROM departments"), 3);
    let departments = status(&world, "departments");
    assert_eq!(departments["objects"]["loaded"], 2);
    assert_eq!(departments["objects"]["quarantined"], 1);
    assert_eq!(departments["rows_loaded"], 3);
}

#[test]
fn one_pass_without_trouble_exits_with_zero_and_can_answer_in_json() {
    let world = World::ready();
    world.put_department(1, "1,Sales\n");
    let pass = world.run(&["run", "--once", "--json"]).exits(0).json();
    assert_eq!(pass["feeds"][0]["feed"], "departments");
    assert_eq!(pass["feeds"][0]["objects"]["loaded"], 1);
}

#[test]
fn objects_are_listed_by_feed_state_and_key() {
    let (world, _) = after_one_pass();
    assert_eq!(objects(&world, &[]).len(), 3);
    assert_eq!(objects(&world, &["--state", "loaded"]).len(), 2);
    assert_eq!(objects(&world, &["--state", "loaded,quarantined"]).len(), 3);
    assert_eq!(objects(&world, &["--key", "2024-01-02"]).len(), 1);
    assert_eq!(objects(&world, &["--feed", "jobs"]).len(), 0);
    assert_eq!(objects(&world, &["--limit", "2"]).len(), 2);
    world.run(&["objects", "--limit", "2"]).exits(0).says(&["2024-01-01"]).complains(&["--limit"]);
    world.run(&["objects", "--feed", "departmnets"]).exits(2).complains(&["did you mean \"departments\"?"]);
}

#[test]
fn a_single_object_shows_its_error_and_what_to_do() {
    let (world, _) = after_one_pass();
    let quarantined = &objects(&world, &["--state", "quarantined"])[0];
    let id = quarantined["id"].to_string();
    world.run(&["objects", "--id", &id]).exits(0).says(&[
        "s3://drop/departments/2024-01-03.csv",
        "quarantined",
        quarantined["error_code"].as_str().unwrap(),
        "line 2",
        "\"id\"",
        "what to do",
    ]);
    world.run(&["objects", "--id", "999999"]).exits(1).complains(&["no object has this id"]);
}

#[test]
fn a_dry_run_shows_what_would_be_retried_and_changes_nothing() {
    let (world, _) = after_one_pass();
    world
        .run(&["retry", "--feed", "departments", "--dry-run"])
        .exits(0)
        .says(&["quarantined", "to be loaded again: 1"]);
    let answer = world.json(&["retry", "--all", "--dry-run"]);
    assert_eq!((&answer["chosen"], &answer["changed"], &answer["dry_run"]), (&json!(1), &json!(0), &json!(true)));
    assert_eq!(objects(&world, &["--state", "quarantined"]).len(), 1);
}

#[test]
fn a_retried_object_is_loaded_once_its_cause_is_mended() {
    let (world, _) = after_one_pass();
    world.sql("ALTER TABLE departments ALTER COLUMN id TYPE text");
    world.run(&["retry", "--feed", "departments"]).exits(0).says(&["sent back to be loaded: 1 of 1"]);
    assert_eq!(objects(&world, &["--state", "pending"]).len(), 1);
    world.run(&["run", "--once"]).exits(0);
    assert_eq!(world.number("SELECT count(*) FROM departments"), 5);
}

#[test]
fn loaded_objects_are_neither_retried_nor_skipped() {
    let (world, _) = after_one_pass();
    let id = objects(&world, &["--state", "loaded"])[0]["id"].to_string();
    for command in ["retry", "skip"] {
        world.run(&[command, "--id", &id]).exits(1).complains(&[&id, "loaded"]);
        world.run(&[command, "--state", "loaded"]).exits(2).complains(&["quarantined"]);
    }
    assert_eq!(objects(&world, &["--state", "loaded"]).len(), 2);
}

#[test]
fn a_skipped_object_is_set_aside_and_no_longer_counts_as_trouble() {
    let (world, _) = after_one_pass();
    let id = objects(&world, &["--state", "quarantined"])[0]["id"].to_string();
    let answer = world.json(&["skip", "--id", &id]);
    assert_eq!((&answer["action"], &answer["changed"]), (&json!("skip"), &json!(1)));
    assert_eq!(objects(&world, &["--state", "skipped"])[0]["reason"], "operator");
    world.run(&["run", "--once"]).exits(0);
}

#[test]
fn many_objects_are_not_changed_unasked_where_nobody_can_answer() {
    let world = World::ready();
    world.run(&["sweep"]).exits(0);
    world.sql(
        "INSERT INTO keyfall.objects (feed, bucket, key, version, etag, size, visible_at, discovered_by, state)
         SELECT 'jobs', 'drop', 'jobs/' || n, n::text, n::text, 1, now(), 'sweep', 'quarantined'
           FROM generate_series(1, 101) n",
    );
    world.run(&["skip", "--all"]).exits(2).complains(&["101 objects", "--yes"]);
    assert_eq!(world.number("SELECT count(*) FROM keyfall.objects WHERE state = 'quarantined'"), 101);
    world.run(&["skip", "--all", "--yes"]).exits(0).says(&["set aside: 101 of 101"]);
    assert_eq!(world.number("SELECT count(*) FROM keyfall.objects WHERE state = 'skipped'"), 101);
}

#[test]
fn a_paused_feed_says_why_and_goes_on_after_resume() {
    let world = World::ready();
    world.put_department(1, "1,Sales\n");
    world.run(&["pause", "departments", "--reason", "year-end closing"]).exits(0).says(&["keyfall resume departments"]);
    let paused = status(&world, "departments")["paused"].clone();
    assert_eq!((&paused["by"], &paused["reason"]), (&json!("operator"), &json!("year-end closing")));
    world.run(&["status"]).exits(0).says(&[
        "paused by an operator",
        "year-end closing",
        "-> keyfall resume departments",
    ]);
    world.run(&["run", "--once"]).exits(1);
    assert_eq!(world.number("SELECT count(*) FROM departments"), 0);

    world.run(&["resume", "departments"]).exits(0).says(&["goes on"]);
    world.run(&["resume", "departments"]).exits(0).says(&["was not paused"]);
    world.run(&["run", "--once"]).exits(0);
    assert_eq!(world.number("SELECT count(*) FROM departments"), 1);
}

#[test]
fn a_feed_that_does_not_exist_cannot_be_paused() {
    let world = World::ready();
    for command in ["pause", "resume"] {
        world.run(&[command, "job"]).exits(2).complains(&["no feed \"job\"", "did you mean \"jobs\"?"]);
    }
    world.run(&["sweep", "--feed", "payments"]).exits(2).complains(&["departments, jobs"]);
}

#[test]
fn a_sweep_lists_the_prefix_into_the_ledger_and_loads_nothing() {
    let world = World::ready();
    world.put_department(1, "1,Sales\n");
    world.put_department(2, "2,Legal\n");
    let feeds = |answer: Value| answer["feeds"][0].clone();
    let first = feeds(world.json(&["sweep", "--feed", "departments"]));
    assert_eq!(first, json!({ "feed": "departments", "seen": 2, "new": 2, "calls": 1 }));
    assert_eq!(feeds(world.json(&["sweep", "--feed", "departments"]))["new"], 0);
    assert_eq!(objects(&world, &["--state", "pending"]).len(), 2);
    world.run(&["sweep"]).exits(0).says(&["departments", "jobs", "seen"]);
}

#[test]
fn a_bucket_that_cannot_be_listed_is_named_with_what_to_do() {
    let world = World::ready();
    world
        .run(&["sweep", "--set", "feeds.jobs.bucket=dorp"])
        .exits(10)
        .complains(&["jobs", "dorp"])
        .says(&["departments"]);
    let denied = world.s3.inject(FaultRule::on(Operation::ListObjects, Action::Denied));
    world.run(&["sweep", "--feed", "jobs"]).exits(10).complains(&["s3:ListBucket"]);
    assert_eq!(denied.hits(), 1);
}

#[test]
fn postgres_that_is_down_is_named_with_what_to_do() {
    let world = World::ready();
    // A port nobody listens on: bound for a moment, then given back.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let down = format!("database.url=postgres://postgres@127.0.0.1:{free}/x?sslmode=disable");
    for command in [&["status"][..], &["objects"], &["migrate"], &["retry", "--all"], &["run", "--once"]] {
        world.run(&[command, &["--set", &down]].concat()).exits(11).complains(&["refused", "[database]"]);
    }
    world.run(&["status", "--set", &down]).exits(11).complains(&[&format!("127.0.0.1:{free}/x")]);
    let unknown = format!("database.url={}", world.url("nobody"));
    world.run(&["status", "--set", &unknown]).exits(11).complains(&["nobody", "[database]"]);
}

#[test]
fn keys_that_would_forge_output_are_escaped() {
    let world = World::ready();
    world.s3.put("drop", "departments/a\nb.csv", "1,x\n");
    world.run(&["sweep", "--feed", "departments"]).exits(0);
    world.run(&["objects"]).exits(0).says(&["departments/a\\nb.csv"]);
    assert_eq!(objects(&world, &[])[0]["uri"], "s3://drop/departments/a\nb.csv");
}

#[test]
fn a_pass_without_rights_on_the_ledger_ends_with_a_message() {
    let world = World::ready();
    world.put_department(1, "1,Sales\n");
    let role = world.role();
    world.sql(&format!(
        "GRANT USAGE ON SCHEMA keyfall TO {role}; GRANT SELECT ON ALL TABLES IN SCHEMA keyfall TO {role};
         GRANT INSERT ON keyfall.objects TO {role}; GRANT INSERT, UPDATE ON keyfall.feeds TO {role}"
    ));
    world.run_as(&role, &["run", "--once"]).exits(11).complains(&["permission denied"]);
}
