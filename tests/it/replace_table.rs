//! Mode `replace`: an object is a whole table, readers see the old or the new one, and no older one comes back.

use crate::support::{BUCKET, Lab, connect, until};
use crate::upsert::{counts, load};

/// A feed of files with header, a day in each key, into table `t`.
fn feed(more: &str) -> String {
    format!(
        "[feeds.f]\nbucket = \"drop\"\npattern = \"f/{{time:%Y-%m-%d}}.csv\"\ntable = \"t\"\nmode = \"replace\"\n{more}\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_object_is_the_table_and_an_older_one_is_skipped() {
    let lab = Lab::new().await;
    lab.execute("CREATE TABLE t (id int PRIMARY KEY, v text)").await;
    lab.execute("INSERT INTO t VALUES (99, 'by hand')").await;
    load(&lab, &feed(""), &[("f/2024-01-02.csv", "id,v\n1,a\n2,b\n")]).await;
    load(&lab, &feed(""), &[("f/2024-01-03.csv", "id,v\n2,c\n3,d\n")]).await;
    assert_eq!(lab.texts("SELECT concat_ws(' ', id, v) FROM t ORDER BY id").await, ["2 c", "3 d"]);
    load(&lab, &feed(""), &[("f/2024-01-01.csv", "id,v\n1,old\n")]).await;
    assert_eq!(counts(&lab, "f/2024-01-01.csv").await, "skipped outdated");
    assert_eq!(counts(&lab, "f/2024-01-02.csv").await, "loaded 2 2 0 0", "what was loaded stays so");
    assert_eq!(lab.count("SELECT count(*) FROM t").await, 2);
    assert_eq!(lab.s3.len(BUCKET), 3);
    // Whoever sends it back wants it all the same.
    let id = lab.count("SELECT id FROM keyfall.objects WHERE key = 'f/2024-01-01.csv'").await;
    let config = crate::support::loaded(&lab.sources(&feed(""))).config;
    let ledger = keyfall::store::ledger::Ledger::new(keyfall::app::pools(&config).expect("pools"));
    assert_eq!(ledger.retry(&[id]).await.expect("the ledger answers"), [id]);
    assert_eq!(lab.once(&feed("")).await, 0);
    assert_eq!(lab.texts("SELECT concat_ws(' ', id, v) FROM t ORDER BY id").await, ["1 old"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_see_the_old_table_until_the_new_one_is_whole() {
    let lab = Lab::new().await;
    lab.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text);
         CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN IF NEW.v = 'wait' THEN PERFORM pg_advisory_xact_lock(4711); END IF; RETURN NEW; END $$;
         CREATE TRIGGER wait BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION wait()",
    )
    .await;
    load(&lab, &feed(""), &[("f/2024-01-01.csv", "id,v\n1,a\n2,b\n")]).await;
    let holder = connect(&lab.postgres.url(&lab.database)).await;
    holder.batch_execute("SELECT pg_advisory_lock(4711)").await.expect("the lock");
    lab.s3.put(BUCKET, "f/2024-01-02.csv", "id,v\n3,c\n4,wait\n");
    let engine = lab.engine(&feed("poll_interval = \"200ms\""), &["database.lock_timeout=60s"]).await;
    until("the load waits in the middle of COPY", async || {
        lab.count("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted").await == 1
    })
    .await;
    assert_eq!(lab.texts("SELECT v FROM t ORDER BY id").await, ["a", "b"]);
    holder.batch_execute("SELECT pg_advisory_unlock(4711)").await.expect("unlocked");
    lab.until_objects("loaded", "none", 2).await;
    assert_eq!(lab.texts("SELECT v FROM t ORDER BY id").await, ["c", "wait"]);
    engine.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_without_a_row_empties_no_table() {
    let lab = Lab::new().await;
    lab.execute("CREATE TABLE t (id int PRIMARY KEY, v text CHECK (v <> 'bad'))").await;
    let feeds = feed("rejects.max_rows = 5");
    load(&lab, &feeds, &[("f/2024-01-01.csv", "id,v\n1,a\n")]).await;
    for (key, body) in
        [("f/2024-01-02.csv", ""), ("f/2024-01-03.csv", "id,v\n"), ("f/2024-01-04.csv", "id,v\n1,bad\nx,y\n")]
    {
        load(&lab, &feeds, &[(key, body)]).await;
        assert_eq!(counts(&lab, key).await, "quarantined E-REPLACE-EMPTY");
    }
    assert_eq!(lab.texts("SELECT v FROM t").await, ["a"]);
    // One good row is a table.
    load(&lab, &feeds, &[("f/2024-01-05.csv", "id,v\n1,bad\n2,b\n2,again\n")]).await;
    assert_eq!(counts(&lab, "f/2024-01-05.csv").await, "loaded 3 1 2 0");
    assert_eq!(lab.texts("SELECT v FROM t").await, ["b"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_others_refer_to_pause_the_feed_unless_the_key_is_asked_at_commit() {
    let lab = Lab::new().await;
    lab.execute("CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE u (id int REFERENCES t)").await;
    load(&lab, &feed(""), &[("f/2024-01-01.csv", "id,v\n1,a\n")]).await;
    lab.execute("INSERT INTO u VALUES (1)").await;
    lab.s3.put(BUCKET, "f/2024-01-02.csv", "id,v\n1,b\n");
    assert_eq!(lab.once_set(&feed(""), &["workers.retry_min=30s", "workers.retry_max=60s"]).await, 1);
    let told = lab.texts("SELECT paused_reason FROM keyfall.feeds WHERE paused_by = 'halt'").await.concat();
    assert!(told.contains("cannot be replaced") && told.contains("\"u\""), "{told}");
    lab.execute(
        "ALTER TABLE u ALTER CONSTRAINT u_id_fkey DEFERRABLE INITIALLY DEFERRED;
         UPDATE keyfall.feeds SET paused_by = NULL, paused_until = '-infinity';
         UPDATE keyfall.objects SET not_before = '-infinity'",
    )
    .await;
    assert_eq!(lab.once(&feed("")).await, 0, "{:?}", lab.entry("f/2024-01-02.csv").await);
    assert_eq!(lab.texts("SELECT v FROM t").await, ["b"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_for_one_table_take_turns_and_the_newest_stays() {
    let lab = Lab::new().await;
    lab.execute("CREATE TABLE t (id int PRIMARY KEY, day int)").await;
    for day in 1..=9 {
        let body = (0..2000).fold("id,day\n".to_owned(), |body, id| format!("{body}{id},{day}\n"));
        lab.s3.put(BUCKET, &format!("f/2024-01-0{day}.csv"), body);
    }
    let code = lab.once_set(&feed(""), &["workers.max=4"]).await;
    assert_eq!(code, 0, "{:#?}", lab.ledger().await);
    assert_eq!(lab.texts("SELECT concat_ws(' ', count(*), min(day), max(day)) FROM t").await, ["2000 9 9"]);
    let all =
        "SELECT count(*) FROM keyfall.objects WHERE state = 'loaded' OR (state, reason) = ('skipped', 'outdated')";
    assert_eq!(lab.count(all).await, 9);
}
