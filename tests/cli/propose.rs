//! `keyfall feed init`: from a bucket nobody has described to a section that `check` accepts.

use keyfall::demo::s3::{Action, FaultRule, Operation};
use tempfile::TempDir;

use crate::console::{self, Ran};
use crate::world::World;

/// The program in a folder without configuration, with the store's settings in its environment alone.
fn bare(world: &World, arguments: &[&str]) -> Ran {
    let folder = TempDir::new().unwrap();
    let mut command = console::keyfall(folder.path());
    for (key, value) in [
        ("ENDPOINT_URL", world.s3.endpoint().as_str()),
        ("FORCE_PATH_STYLE", "true"),
        ("ACCESS_KEY_ID", keyfall::demo::s3::ACCESS_KEY_ID),
        ("SECRET_ACCESS_KEY", keyfall::demo::s3::SECRET_ACCESS_KEY),
        ("MAX_ATTEMPTS", "1"),
    ] {
        command.env(format!("KEYFALL__S3__{key}"), value);
    }
    console::ran(command.args(["feed", "init"]).args(arguments))
}

fn with_orders() -> World {
    let world = World::new();
    world.s3.put("drop", "orders/2024-01-07.csv", "id,order,sum\n1,a,1.5\n2,b,\n".to_owned());
    world
}

#[test]
fn neither_a_file_nor_a_database_is_needed() {
    let world = with_orders();
    let ran = bare(&world, &["s3://drop/orders"]).exits(0);
    let ran =
        ran.says(&["[feeds.orders]", "pattern = \"orders/{time:%Y-%m-%d}.csv\"", "#     \"order\" text NOT NULL,"]);
    let ran = ran.complains(&["looked at orders/2024-01-07.csv (csv, uncompressed)", "sum numeric"]);
    assert!(!ran.stdout.contains("looked at"), "{ran:#?}");
    let sql = bare(&world, &["s3://drop/orders", "--sql", "--table", "shop.orders"]).exits(0);
    assert!(sql.stdout.starts_with("CREATE SCHEMA IF NOT EXISTS shop;\nCREATE TABLE shop.orders ("), "{sql:#?}");
    let json = bare(&world, &["s3://drop/orders", "--json", "--name", "o"]).exits(0).json();
    assert_eq!(json["feed"], "o");
    assert_eq!(json["columns"][2]["type"], "numeric");
    assert_eq!(json["columns"][2]["not_null"], false);
}

#[test]
fn what_it_prints_can_be_appended_and_is_accepted() {
    let world = with_orders();
    world.sql("CREATE TABLE departments (id integer, department text); CREATE TABLE jobs (id integer, job text)");
    let section = world.run(&["feed", "init", "s3://drop/orders/"]).exits(0).stdout;
    let table = world.run(&["feed", "init", "s3://drop/orders/", "--sql"]).exits(0).stdout;
    world.sql(&table);
    let file = world.folder().join("keyfall.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}\n{section}")).unwrap();
    world.run(&["check"]).exits(0).says(&["feed orders"]);
    world.run(&["run", "--once"]).exits(0);
    assert_eq!(world.number("SELECT count(*) FROM orders"), 2);
    // Once it is there, the next one gets another name, and is told that it would load the same objects.
    world
        .run(&["feed", "init", "s3://drop/orders/"])
        .exits(0)
        .says(&["[feeds.orders_2]"])
        .complains(&["`check` will refuse it"]);
    world.run(&["feed", "init", "s3://drop/orders/", "--name", "orders"]).exits(2).complains(&["--name"]);
}

#[test]
fn each_kind_of_trouble_has_its_exit_code_and_advice() {
    let world = with_orders();
    bare(&world, &["drop/orders"]).exits(2).complains(&["does not begin with s3://"]);
    bare(&world, &["s3://nowhere/orders"]).exits(10).complains(&["no such bucket", "correct the bucket's name"]);
    bare(&world, &["s3://drop/nothing/"]).exits(1).complains(&["there is no object under s3://drop/nothing/"]);
    world.s3.put("drop", "empty/a.csv", String::new());
    bare(&world, &["s3://drop/empty/"]).exits(1).complains(&["all are empty"]);
    bare(&world, &["s3://drop/orders", "--table", "a.b.c"]).exits(2).complains(&["--table"]);
    bare(&world, &["s3://drop/orders", "--name", "No"]).exits(2);
    bare(&world, &["s3://drop/orders", "--samples", "0"]).exits(2);
    world.s3.inject(FaultRule::on(Operation::GetObject, Action::Denied));
    bare(&world, &["s3://drop/orders"]).exits(10).complains(&["s3:GetObject", "grant the IAM action"]);
}
