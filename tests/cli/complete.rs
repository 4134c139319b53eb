//! Is everything there? `plan`, `reconcile` and missing slots, as they are typed and read.

use jiff::{SignedDuration, Timestamp};
use keyfall::demo::s3::{Action, FaultRule, Operation};
use serde_json::{Value, json};

use crate::world::World;

/// Puts an object that was there before any poll could have missed it.
fn put_old(world: &World, day: u32, content: &str) {
    let key = format!("departments/2024-01-{day:02}.csv");
    let an_hour_ago = Timestamp::now().checked_sub(SignedDuration::from_hours(1)).unwrap();
    world.s3.put_at("drop", &key, content.to_owned(), an_hour_ago);
}

fn feed(answer: &Value, name: &str) -> Value {
    answer["feeds"].as_array().unwrap().iter().find(|entry| entry["feed"] == name).unwrap().clone()
}

#[test]
fn an_empty_bucket_is_complete_and_there_is_nothing_to_plan() {
    let world = World::ready();
    let table = world.run(&["reconcile"]).exits(0).says(&["departments", "jobs", "complete", "yes"]);
    assert!(!table.stdout.contains('│'), "borders in a pipe: {table:#?}");
    assert_eq!(world.json(&["reconcile"])["complete"], true);
    world.run(&["plan"]).exits(0).says(&["departments", "to load"]);
}

#[test]
fn what_is_not_loaded_is_named_and_the_exit_code_says_so() {
    let world = World::ready();
    put_old(&world, 1, "1,Sales\n");
    put_old(&world, 2, "2,Legal\n");
    world.run(&["reconcile"]).exits(4).says(&[
        "departments: unknown: 2 objects, 16 B: in the bucket and not in the ledger",
        "departments/2024-01-01.csv",
        "-> the next sweep finds them; `keyfall reconcile --fix` records them now",
    ]);
    let cut = world.run(&["reconcile", "--feed", "departments", "--limit", "1", "--json"]).exits(4).json();
    let departments = feed(&cut, "departments");
    assert_eq!((&cut["complete"], &departments["differences"]), (&json!(false), &json!(2)));
    let found = &departments["findings"][0];
    assert_eq!(
        (&found["finding"], &found["class"], &found["objects"]),
        (&json!("unknown"), &json!("difference"), &json!(2))
    );
    assert_eq!(found["examples"].as_array().unwrap().len(), 1);
    assert_eq!(found["examples"][0]["key"], "departments/2024-01-01.csv");
    assert_eq!(world.number("SELECT count(*) FROM keyfall.objects"), 0, "nothing was recorded");
    world
        .run(&["status"])
        .exits(0)
        .says(&["departments: 2 differences found at", "keyfall reconcile --feed departments"]);

    world.run(&["reconcile", "--fix"]).exits(4).says(&["departments: fixed: 2 recorded"]);
    world.run(&["reconcile"]).exits(4).says(&["departments: waiting: 2 objects", "not loaded yet"]);
    world.run(&["run", "--once"]).exits(0);
    world.run(&["reconcile"]).exits(0);
    let status = feed(&world.json(&["status"]), "departments");
    assert_eq!(status["reconciled"]["differences"], 0);
}

#[test]
fn one_day_may_be_complete_where_another_is_not() {
    let world = World::ready();
    put_old(&world, 1, "1,Sales\n");
    world.run(&["run", "--once"]).exits(0);
    put_old(&world, 2, "2,Legal\n");
    let day = |from: &str, to: &str| world.run(&["reconcile", "--from", from, "--to", to]);
    day("2024-01-01", "2024-01-02").exits(0);
    day("2024-01-02", "2024-01-03T00:00").exits(4).says(&["departments/2024-01-02.csv"]);
    day("yesterday", "today").exits(0);
    day("2024-01-02", "2024-01-02").exits(2).complains(&["--from lies at or after --to"]);
    day("last week", "today").exits(2).complains(&["\"last week\" is no time", "yesterday"]);
    let planned = world.json(&["plan", "--from", "2024-01-02"]);
    assert_eq!(feed(&planned, "departments")["load"], json!({ "objects": 1, "bytes": 8 }));
}

#[test]
fn a_plan_needs_no_ledger_and_names_what_is_loaded_first() {
    let world = World::new();
    for day in [3, 1, 2] {
        put_old(&world, day, "1,Sales\n");
    }
    world.s3.put("drop", "departments/readme.txt", "x");
    let plan = world.run(&["plan", "--feed", "departments", "--limit", "2"]).exits(0);
    let plan = plan.complains(&["no ledger yet", "everything is new"]);
    let plan = plan.says(&["s3://drop/departments/ -> public.departments, then keep", "1 pattern", "and 1 more"]);
    let place = |day: &str| plan.stdout.find(&format!("departments/2024-01-{day}.csv"));
    assert!(place("01") < place("02") && place("01").is_some() && place("03").is_none(), "{plan:#?}");
    let answer = world.json(&["plan"]);
    assert_eq!(answer["ledger"], false);
    let departments = feed(&answer, "departments");
    assert_eq!(departments["first"][0]["reason"], json!({ "why": "new" }));
    assert_eq!(departments["load"]["objects"], 3);
    world.run(&["reconcile"]).exits(12).complains(&["no ledger yet", "keyfall migrate"]);
    world.run(&["migrate"]).exits(0);
    world.run(&["sweep"]).exits(0);
    world.run(&["pause", "departments", "--reason", "year-end closing"]).exits(0);
    let after = world.run(&["plan"]).exits(0).says(&["pending since", "paused", "year-end closing"]);
    assert!(after.stderr.is_empty(), "{after:#?}");
}

#[test]
fn whatever_cannot_be_asked_is_named_with_its_own_exit_code() {
    let world = World::ready();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let down = format!("database.url=postgres://postgres@127.0.0.1:{free}/x?sslmode=disable");
    for command in ["plan", "reconcile"] {
        world.run(&[command, "--feed", "departmnets"]).exits(2).complains(&["did you mean \"departments\"?"]);
        world.run(&[command, "--set", &down]).exits(11).complains(&["refused", "[database]"]);
        world.run(&[command, "--set", "feeds.jobs.bucket=dorp"]).exits(10).complains(&["jobs", "dorp"]);
    }
    let denied = world.s3.inject(FaultRule::on(Operation::ListObjects, Action::Denied));
    world.run(&["reconcile", "--feed", "jobs"]).exits(10).complains(&["s3:ListBucket"]);
    assert_eq!(denied.hits(), 1);
}

#[test]
fn status_names_the_objects_that_never_came() {
    let world = World::ready();
    world.configure("cadence = \"1d\"");
    assert_eq!(feed(&world.json(&["status"]), "departments")["slots"]["missing"], 0);
    assert_eq!(feed(&world.json(&["status"]), "jobs")["slots"], Value::Null);
    let day = |back: i64| {
        let at = Timestamp::now().checked_sub(SignedDuration::from_hours(24 * back)).unwrap();
        format!("departments/{}.csv", at.strftime("%Y-%m-%d"))
    };
    for back in [6, 4] {
        world.s3.put("drop", &day(back), "1,Sales\n");
    }
    world.run(&["run", "--once"]).exits(0);
    let slots = feed(&world.json(&["status"]), "departments")["slots"].clone();
    assert_eq!((&slots["missing"], &slots["cadence"]), (&json!(3), &json!({ "state": "declared", "seconds": 86_400 })));
    let keys: Vec<_> = slots["slots"].as_array().unwrap().iter().map(|slot| slot["key"].clone()).collect();
    assert_eq!(keys, [day(5), day(3), day(2)]);
    world.run(&["status"]).exits(0).says(&[
        "empty slots",
        "departments: 3 slots without an object; one is expected every 1day",
        &day(5),
    ]);
    world.configure("cadence = \"learn\"");
    world.run(&["status"]).exits(0).says(&["departments: too few objects came to learn a cadence from"]);
}
