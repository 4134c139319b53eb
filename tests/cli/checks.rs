//! `keyfall check`: proves what works, and names everything that does not with a key path and advice.

use keyfall::demo::s3::{Action, FaultRule, Operation};
use serde_json::Value;

use crate::console::Ran;
use crate::world::World;

/// Findings of `check --json` that are not in order: level, what, detail.
fn troubles(world: &World, exit: i32) -> Vec<(String, String, String)> {
    let answer = world.run(&["check", "--json"]).exits(exit).json();
    assert_eq!(answer["exit"], exit);
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
    let groups = answer["groups"].as_array().unwrap();
    let findings = groups.iter().flat_map(|group| group["findings"].as_array().unwrap());
    let troubles: Vec<_> = findings.filter(|finding| finding["level"] != "ok").collect();
    assert!(troubles.iter().all(|finding| finding["advice"].is_string()), "{answer:#}");
    troubles.iter().map(|finding| (text(finding, "level"), text(finding, "what"), text(finding, "detail"))).collect()
}

/// The one failure; `fsync` of the throwaway cluster is off, which only warns.
#[track_caller]
fn only_failure(world: &World, exit: i32) -> (String, String) {
    let mut failures: Vec<_> = troubles(world, exit).into_iter().filter(|(level, ..)| level == "fail").collect();
    assert_eq!(failures.len(), 1, "{failures:#?}");
    let (_, what, detail) = failures.remove(0);
    (what, detail)
}

#[track_caller]
fn warns(ran: &Ran, text: &str) {
    assert!(ran.stdout.lines().any(|line| line.contains("warn") && line.contains(text)), "{text:?}: {ran:#?}");
}

const ARCHIVE: &str = "disposal = { action = \"archive\", bucket = \"attic\", prefix = \"old/\" }";

#[test]
fn everything_in_order_is_shown_with_how_a_key_is_read() {
    let world = World::ready();
    world.s3.create_bucket("attic");
    world.configure(ARCHIVE);
    world.put_department(7, "1,Sales\n");
    let report = world.run(&["check"]).exits(0).says(&[
        "PostgreSQL",
        "schema version 3",
        "2 writable columns, 2 of them mapped",
        "\"departments/2024-01-07.csv\" as 2024-01-07T00:00:00Z",
        "s3:GetObject is granted",
        "s3:PutObject on s3://attic/old/ is granted",
        "s3:DeleteObject is granted",
    ]);
    assert!(!report.stdout.contains("FAIL"), "{report:#?}");
    warns(&report, "fsync");
    assert_eq!(
        world.s3.keys("drop"),
        ["departments/2024-01-07.csv"],
        "check leaves nothing behind and removes nothing"
    );
    assert!(world.s3.is_empty("attic"));
}

#[test]
fn a_missing_ledger_is_in_order_for_a_role_that_can_make_it() {
    let world = World::new();
    world.sql("CREATE TABLE departments (id integer, department text); CREATE TABLE jobs (id integer)");
    world.run(&["check"]).exits(0).says(&["no ledger yet"]);
    let role = world.role();
    world.sql(&format!("GRANT INSERT ON departments, jobs TO {role}"));
    world.run_as(&role, &["check"]).exits(12).says(&["may not create a schema", "GRANT CREATE"]);
}

#[test]
fn a_newer_ledger_is_refused() {
    let world = World::ready();
    world.sql(
        "INSERT INTO keyfall.schema_history (version, name, applied_on, checksum) VALUES (99, 'later', 'now', '0')",
    );
    world.run(&["check"]).exits(12).says(&["99"]);
    world.run(&["status"]).exits(12).complains(&["99"]);
}

#[test]
fn a_missing_table_is_named() {
    let world = World::ready();
    world.sql("DROP TABLE departments");
    let (what, detail) = only_failure(&world, 11);
    assert_eq!(what, "feeds.departments.table");
    assert!(detail.contains("does not exist"), "{detail}");
}

#[test]
fn tables_that_cannot_be_loaded_safely_are_refused() {
    let world = World::ready();
    world.sql("ALTER TABLE departments SET UNLOGGED");
    assert!(only_failure(&world, 11).1.contains("unlogged"));
    world.sql("DROP TABLE departments; CREATE VIEW departments AS SELECT 1 AS id, 'x' AS department");
    assert!(only_failure(&world, 11).1.contains("not a table"));
}

#[test]
fn a_missing_column_is_named_with_the_one_that_was_meant() {
    let world = World::ready();
    world.sql("ALTER TABLE departments RENAME department TO departmant");
    let (what, detail) = only_failure(&world, 11);
    assert_eq!(what, "feeds.departments.columns.department");
    assert!(detail.contains("field 2"), "{detail}");
    world.run(&["check"]).exits(11).says(&["did you mean \"departmant\"?"]);
}

#[test]
fn a_required_column_that_nothing_fills_is_named() {
    let world = World::ready();
    world.sql("ALTER TABLE departments ADD note text NOT NULL");
    let (what, detail) = only_failure(&world, 11);
    assert_eq!(what, "feeds.departments.columns");
    assert!(detail.contains("\"note\"") && detail.contains("NOT NULL"), "{detail}");
    world.sql("ALTER TABLE departments ALTER note SET DEFAULT ''");
    world.run(&["check"]).exits(0);
}

#[test]
fn columns_that_need_text_copy_are_mentioned() {
    let world = World::ready();
    world.sql("ALTER TABLE departments ALTER department TYPE tsvector USING NULL");
    world.run(&["check"]).exits(0).says(&["COPY as text because of department tsvector"]);
}

#[test]
fn missing_rights_are_named_with_their_grants() {
    let world = World::ready();
    world.sql("ALTER TABLE jobs ADD no serial");
    let role = world.role();
    let denied = world.run_as(&role, &["check"]).exits(11);
    let denied = denied.says(&["USAGE on schema keyfall", "INSERT on public.departments", "INSERT on public.jobs"]);
    denied.says(&["USAGE on sequence public.jobs_no_seq"]);
    world.sql(&format!(
        "GRANT USAGE ON SCHEMA keyfall TO {role}; GRANT INSERT ON departments, jobs TO {role};
         GRANT USAGE ON SEQUENCE jobs_no_seq TO {role};"
    ));
    world.run_as(&role, &["check"]).exits(11).says(&["UPDATE on keyfall.objects", "SELECT on keyfall.feed_status"]);
    world.sql(&format!("GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA keyfall TO {role}"));
    let duties = ["DELETE on keyfall.duties", "DELETE on keyfall.instances"];
    world.run_as(&role, &["check"]).exits(11).says(&duties);
    world.sql(&format!("GRANT DELETE ON keyfall.duties, keyfall.instances TO {role}"));
    world.run_as(&role, &["check"]).exits(0);
}

#[test]
fn a_read_only_server_is_refused() {
    let world = World::ready();
    let role = world.role();
    world.sql(&format!(
        "GRANT USAGE ON SCHEMA keyfall TO {role}; GRANT ALL ON ALL TABLES IN SCHEMA keyfall, public TO {role};
         ALTER ROLE {role} SET default_transaction_read_only = on"
    ));
    world.run_as(&role, &["check"]).exits(11).says(&["takes no writes", "primary"]);
}

#[test]
fn a_wrong_bucket_is_named_once() {
    let world = World::ready();
    world.configure("disposal = { action = \"delete\" }");
    let dorp = ["check", "--set", "feeds.departments.bucket=dorp"];
    let report = world.run(&dorp).exits(10).says(&["feeds.departments.bucket", "\"dorp\""]);
    assert_eq!(report.stdout.matches("FAIL").count(), 1, "{report:#?}");
}

#[test]
fn each_permission_of_the_disposal_is_proven() {
    let world = World::ready();
    world.s3.create_bucket("attic");
    world.configure(ARCHIVE);
    let deny = |operation| FaultRule::on(operation, Action::Denied);
    for (operation, right) in [
        (Operation::ListObjects, "s3:ListBucket"),
        (Operation::PutObject, "s3:PutObject"),
        (Operation::DeleteObjects, "s3:DeleteObject"),
        (Operation::HeadObject, "s3:GetObject"),
    ] {
        let rule = world.s3.inject(deny(operation));
        world.run(&["check"]).exits(10).says(&["FAIL", right]);
        assert!(rule.hits() > 0, "{right}");
        world.s3.heal();
    }
    world.run(&["check"]).exits(0);
}

#[test]
fn a_store_that_ignores_conditions_is_warned_about_and_left_as_it_was() {
    let world = World::ready();
    world.s3.create_bucket("attic");
    world.configure(ARCHIVE);
    for operation in [Operation::PutObject, Operation::DeleteObjects] {
        world.s3.inject(FaultRule::on(operation, Action::IgnoreConditions));
    }
    let report = world.run(&["check"]).exits(0);
    warns(&report, "ignores conditions of deletions");
    assert!(world.s3.is_empty("attic"), "{:?}", world.s3.keys("attic"));
}

#[test]
fn keys_that_do_not_fit_the_pattern_are_warned_about() {
    let world = World::ready();
    world.s3.put("drop", "departments/readme.txt", "hello");
    warns(&world.run(&["check"]).exits(0), "\"departments/readme.txt\" is skipped: pattern");
    world.put_department(1, "1,Sales\n");
    world.s3.put("drop", "departments/2024-13-01.csv", "1,Sales\n");
    let report = world.run(&["check"]).exits(0);
    warns(&report, "1 of the first 3 keys do not fit");
    warns(&report, "1 keys carry an impossible time");
}

#[test]
fn several_kinds_of_trouble_are_all_shown_and_exit_with_one() {
    let world = World::ready();
    world.sql("DROP TABLE departments");
    world.run(&["check", "--set", "feeds.jobs.bucket=dorp"]).exits(1).says(&["does not exist", "\"dorp\""]);
}

#[test]
fn buckets_are_looked_at_although_postgres_is_down() {
    let world = World::ready();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let down = format!("database.url=postgres://postgres@127.0.0.1:{free}/x?sslmode=disable");
    let report = world.run(&["check", "--set", &down]).exits(11);
    report.says(&["FAIL", "refused", &format!("127.0.0.1:{free}"), "not looked at", "s3:GetObject is granted"]);
}

#[test]
fn an_unusable_endpoint_is_a_finding_like_any_other() {
    let world = World::ready();
    let report = world.run(&["check", "--set", "s3.endpoint_url=http://127.0.0.1:1"]).exits(10);
    report.says(&["FAIL", "feeds.jobs.bucket", "schema version 3"]);
}

#[test]
fn replacing_needs_the_column_its_index_and_the_right_to_delete() {
    let world = World::ready();
    world.configure("on_change = \"replace\"");
    let (what, detail) = only_failure(&world, 11);
    assert_eq!(what, "feeds.departments.table");
    assert!(detail.contains("needs a column _object_id"), "{detail}");
    world.sql("ALTER TABLE departments ADD COLUMN _object_id int");
    let (_, detail) = only_failure(&world, 11);
    assert!(detail.contains("_object_id") && detail.contains("is integer"), "{detail}");
    world.sql("ALTER TABLE departments ALTER COLUMN _object_id TYPE bigint");
    let report = world.run(&["check"]).exits(0).says(&["2 writable columns"]);
    warns(&report, "no index on _object_id");
    world.sql("CREATE INDEX ON departments (_object_id)");
    assert!(!world.run(&["check"]).exits(0).stdout.contains("no index"));
    let role = world.role();
    world.sql(&format!(
        "GRANT USAGE ON SCHEMA keyfall TO {role}; GRANT ALL ON ALL TABLES IN SCHEMA keyfall TO {role};
         GRANT INSERT ON departments, jobs TO {role}"
    ));
    world.run_as(&role, &["check"]).exits(11).says(&[
        "the role lacks DELETE on public.departments",
        "the role lacks SELECT (_object_id) on public.departments",
    ]);
    world.sql(&format!("GRANT DELETE, SELECT (_object_id) ON departments TO {role}"));
    world.run_as(&role, &["check"]).exits(0);
}

#[test]
fn modes_need_a_key_and_rights_of_their_own() {
    let world = World::ready();
    world.configure("mode = \"upsert\"\nkey = \"id\"");
    let (what, detail) = only_failure(&world, 11);
    assert!(what == "feeds.departments.key" && detail.contains("no unique index"), "{what}: {detail}");
    world.sql("CREATE UNIQUE INDEX ON departments (id)");
    world.run(&["check"]).exits(0);
    let role = world.role();
    world.sql(&format!(
        "GRANT USAGE ON SCHEMA keyfall TO {role}; GRANT ALL ON ALL TABLES IN SCHEMA keyfall TO {role};
         GRANT INSERT ON departments, jobs TO {role};
         DO $$ BEGIN EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database()); END $$"
    ));
    world.run_as(&role, &["check"]).exits(11).says(&[
        "the role lacks SELECT on public.departments",
        "the role lacks UPDATE on public.departments",
        "the role lacks TEMPORARY on database",
    ]);
    world.configure("rejects.max_rows = 1");
    let report = world.run_as(&role, &["check"]).exits(11).says(&["the role lacks TEMPORARY on database"]);
    assert!(!report.stdout.contains("UPDATE"), "{report:#?}");
    world.sql(&format!(
        "GRANT SELECT, UPDATE (department) ON departments TO {role};
         DO $$ BEGIN EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO PUBLIC', current_database()); END $$"
    ));
    world.configure("mode = \"upsert\"\nkey = \"id\"");
    world.put_department(7, "1,Sales\n1,Purchase\n");
    world.run_as(&role, &["check"]).exits(0);
    world.run_as(&role, &["run", "--once"]).exits(0);
    world.configure("mode = \"replace\"");
    world.run_as(&role, &["check"]).exits(11).says(&["the role lacks DELETE on public.departments"]);
    world.sql("ALTER TABLE departments ADD PRIMARY KEY (id); CREATE TABLE staff (d int REFERENCES departments)");
    warns(&world.run(&["check"]).exits(0), "public.staff (staff_d_fkey) refer to public.departments");
    world.sql("DROP TABLE staff; CREATE TABLE staff (d int REFERENCES departments ON DELETE CASCADE)");
    let (what, detail) = only_failure(&world, 11);
    assert!(what == "feeds.departments.mode" && detail.contains("public.staff"), "{what}: {detail}");
}

#[test]
fn rules_that_do_not_fit_their_column_are_named_like_the_halt_would() {
    let world = World::ready();
    let columns = "columns = { id = { position = 1, min = \"one\" }, department = { position = 2, min = 1 } }";
    world.rewrite("columns = { id = 1, department = 2 }", columns);
    let report = world.run(&["check"]).exits(11);
    report.says(&[
        "feeds.departments.columns.id",
        "min \"one\" is no value of the column: not a whole number",
        "feeds.departments.columns.department",
        "min is for numbers, dates and times",
    ]);
    world.configure("unknown_fields = \"rescue\"");
    let (what, detail) = only_failure(&world, 11);
    assert_eq!(what, "feeds.departments.rescue_column");
    assert!(detail.contains("\"_rescued\": table public.departments does not have it"), "{detail}");
    world.sql("ALTER TABLE departments ADD _rescued json");
    assert!(only_failure(&world, 11).1.contains("needs it to be jsonb, and it is json"));
    world.sql("ALTER TABLE departments ALTER _rescued TYPE jsonb");
    world.run(&["check"]).exits(0);
}
