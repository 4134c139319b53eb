//! Least privilege: what a role needs and what it cannot do with it, and that nobody's schema reaches our statements.

use crate::support::{BUCKET, ITEMS, Lab, connect, item_body, item_key, items};

/// The grants of docs/OPERATING.md for a role that does not own the ledger.
fn documented_grants(role: &str) -> String {
    let document = include_str!("../../docs/OPERATING.md");
    let (_, rest) = document.split_once("CREATE ROLE keyfall_loader").expect("the grants of the loader");
    let (block, _) = rest.split_once("```").expect("the end of the block");
    // The role is made by the test, the target is its own.
    let grants: Vec<_> = block.lines().filter(|line| line.starts_with("GRANT") || line.starts_with("  ")).collect();
    assert_eq!(grants.len(), 8, "{grants:#?}");
    grants.join("\n").replace("keyfall_loader", role).replace("public.departments", "public.items")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documented_grants_are_enough_to_load_and_for_nothing_else() {
    let lab = Lab::with_items().await;
    let role = format!("loader_{}", lab.database);
    lab.execute(&format!("CREATE ROLE {role} LOGIN; {}", documented_grants(&role))).await;
    lab.put_items(0..5, 3);
    let url = lab.postgres.url(&lab.database).replace("postgres@", &format!("{role}@"));
    let feeds = items("action = \"archive\"\nprefix = \"archive/\"");
    assert_eq!(lab.once_set(&feeds, &[&format!("database.url={url}")]).await, 0, "{:?}", lab.ledger().await);
    lab.until_objects("loaded", "done", 5).await;
    // The daemon keeps duties as well.
    let engine = lab.engine_at(&url, &feeds, &[]).await;
    lab.put_items(5..6, 3);
    lab.until_objects("loaded", "done", 6).await;
    engine.drain().await;
    lab.assert_items(6, 3).await;
    // A header, which is noted, and a record that is rejected.
    lab.s3.put(BUCKET, &item_key(6), "object,line,more\n6,0,\n6,x,\n".to_owned());
    let at = format!("database.url={url}");
    let settings =
        [&at, "feeds.items.csv.header=true", "feeds.items.rejects.max_rows=1", "feeds.items.unknown_fields=ignore"];
    assert_eq!(lab.once_set(&feeds, &settings).await, 0, "{:?}", lab.ledger().await);
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.rejections").await, 1);
    lab.execute("DELETE FROM items WHERE object = 6").await;

    let own = connect(&url).await;
    for statement in [
        "DROP TABLE items",
        "TRUNCATE items",
        "DELETE FROM items",
        "UPDATE items SET line = 0",
        "SELECT * FROM items",
        "ALTER TABLE items ADD c int",
        "CREATE TABLE public.x ()",
        "CREATE TABLE keyfall.x ()",
        "CREATE SCHEMA x",
        "CREATE EXTENSION pg_stat_statements",
        "DELETE FROM keyfall.objects",
        "TRUNCATE keyfall.objects",
        "TRUNCATE keyfall.feeds",
        "DELETE FROM keyfall.rejections",
        "UPDATE keyfall.rejections SET replayed_at = now()",
        "DROP SCHEMA keyfall CASCADE",
        "DELETE FROM keyfall.schema_history",
        "UPDATE keyfall.schema_history SET version = 99",
        "COPY (SELECT 1) TO PROGRAM 'id'",
        "COPY items FROM PROGRAM 'id'",
        "COPY (SELECT 1) TO '/tmp/x'",
        "COPY items FROM '/etc/passwd'",
        "SELECT pg_read_file('/etc/passwd')",
        "ALTER SYSTEM SET fsync = off",
        "SET ROLE postgres",
        "SET session_replication_role = replica",
    ] {
        let refused = own.batch_execute(statement).await.expect_err(statement);
        let state = refused.code().map(|code| code.code().to_owned());
        assert_eq!(state.as_deref(), Some("42501"), "{statement}: {refused}");
    }
    lab.assert_items(6, 3).await;
    lab.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

/// Functions, a type and an operator with the names our statements use, in a schema that the role's path puts first.
/// Each notes that it was called.
const SHADOWS: &str = r"
    CREATE TABLE called (what text);
    CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
        $$ INSERT INTO public.called VALUES ('clock_timestamp'); SELECT pg_catalog.clock_timestamp() $$;
    CREATE FUNCTION public.now() RETURNS timestamptz LANGUAGE sql VOLATILE AS
        $$ INSERT INTO public.called VALUES ('now'); SELECT pg_catalog.now() $$;
    CREATE FUNCTION public.md5(text) RETURNS text LANGUAGE sql VOLATILE AS
        $$ INSERT INTO public.called VALUES ('md5'); SELECT pg_catalog.md5($1) $$;
    CREATE FUNCTION public.row_security_active(oid) RETURNS boolean LANGUAGE sql VOLATILE AS
        $$ INSERT INTO public.called VALUES ('row_security_active'); SELECT false $$;
    CREATE FUNCTION public.format_type(oid, int) RETURNS text LANGUAGE sql VOLATILE AS
        $$ INSERT INTO public.called VALUES ('format_type'); SELECT 'shadow' $$;
    CREATE FUNCTION public.make_interval(secs double precision) RETURNS interval LANGUAGE sql VOLATILE AS
        $$ INSERT INTO public.called VALUES ('make_interval'); SELECT pg_catalog.make_interval(secs => $1) $$;
    CREATE FUNCTION public.same(uuid, uuid) RETURNS boolean LANGUAGE sql VOLATILE AS
        $$ INSERT INTO public.called VALUES ('uuid ='); SELECT $1 OPERATOR(pg_catalog.=) $2 $$;
    CREATE OPERATOR public.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = public.same);
    CREATE FUNCTION public.same(text, text) RETURNS boolean LANGUAGE sql VOLATILE AS
        $$ INSERT INTO public.called VALUES ('text ='); SELECT $1 OPERATOR(pg_catalog.=) $2 $$;
    CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = text, FUNCTION = public.same);
    CREATE TABLE public.pg_class (oid oid, relname text);
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_in_a_schema_of_the_roles_path_is_called_by_our_statements_and_triggers_keep_that_path() {
    for grouped in ["workers.group_objects=1", "workers.group_objects=100"] {
        let lab = Lab::with_items().await;
        lab.execute(SHADOWS).await;
        lab.execute(
            "CREATE TABLE audit (object int);
             CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN INSERT INTO audit VALUES (NEW.object); RETURN NULL; END $$;
             CREATE TRIGGER note AFTER INSERT ON items FOR EACH ROW EXECUTE FUNCTION note()",
        )
        .await;
        let name = &lab.database;
        lab.execute(&format!("ALTER DATABASE {name} SET search_path = public, pg_catalog")).await;
        // The trap works: a session with that path falls into it.
        let url = lab.postgres.url(name);
        connect(&url).await.batch_execute("SELECT now(), clock_timestamp(), md5('x')").await.expect("the shadows");
        assert_eq!(lab.count("SELECT count(*) FROM called").await, 3);
        lab.execute("TRUNCATE called").await;

        lab.put_items(0..4, 3);
        lab.s3.put(BUCKET, &item_key(9), "x,y\n");
        let feeds = items("action = \"delete\"");
        assert_eq!(lab.once_set(&feeds, &[grouped]).await, 3, "{:?}", lab.ledger().await);
        lab.assert_items(4, 3).await;
        assert_eq!(lab.count("SELECT count(*) FROM audit").await, 12);
        assert_eq!(lab.texts("SELECT DISTINCT what FROM public.called").await, Vec::<String>::new(), "{grouped}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sessions_of_the_ledger_have_an_empty_search_path_whatever_was_asked_for() {
    let lab = Lab::with_items().await;
    lab.s3.put(BUCKET, &item_key(0), item_body(0, 1));
    let url = format!("{}?options=-c%20search_path%3Dpublic", lab.postgres.url(&lab.database));
    let sources = keyfall::config::Sources { file: Some(lab.file_for(&url, ITEMS)), ..Default::default() };
    let pools = keyfall::app::pools(&crate::support::loaded(&sources).config).expect("pools");
    for (what, expected) in [("ledger", "\"\""), ("load", "public")] {
        let client = if what == "ledger" { pools.ledger().await } else { pools.load().await }.expect("a session");
        let path: String = client.query_one("SHOW search_path", &[]).await.expect("the path").get(0);
        let path = if path.is_empty() { "\"\"".to_owned() } else { path };
        assert_eq!(path, expected, "{what}");
    }
}
