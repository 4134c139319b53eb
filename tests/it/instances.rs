//! Several instances on one bucket: each object is loaded by one of them, and all of them work; listing, sweeping and
//! disposal are each done by one at a time.

use std::time::Duration;

use keyfall::demo::s3::Operation;
use keyfall::engine::Engine;

use crate::support::{ITEMS, Lab, items, loaded, until};

const OBJECTS: usize = 2000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_share_two_thousand_objects_and_load_each_once() {
    let lab = Lab::with_items().await;
    lab.put_items(0..OBJECTS, 2);
    let feeds = items("action = \"archive\"\nprefix = \"archive/\"");
    let (one, other) = tokio::join!(
        lab.engine(&feeds, &["instance=one", "workers.group_objects=16"]),
        lab.engine(&feeds, &["instance=other", "workers.group_objects=16"]),
    );
    lab.until_objects("loaded", "done", 2000).await;
    tokio::join!(one.drain(), other.drain());

    lab.assert_items(2000, 2).await;
    assert_eq!(lab.count("SELECT count(*) FROM (SELECT FROM items GROUP BY object HAVING count(*) <> 2) x").await, 0);
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects").await, 2000);
    let owners = "SELECT DISTINCT lease_owner FROM keyfall.objects ORDER BY 1";
    assert_eq!(lab.texts(owners).await, ["one", "other"]);
    let keys = lab.s3.keys("drop");
    assert_eq!(keys.len(), OBJECTS);
    assert!(keys.iter().all(|key| key.starts_with("archive/items/")), "not archived: {keys:?}");
}

/// Writes down who does what: each instance logs in under a role of its own.
const WITNESS: &str = "
    CREATE TABLE acts (act text NOT NULL, who text NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp());
    CREATE FUNCTION witness() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN INSERT INTO public.acts (act, who) VALUES (tg_argv[0], session_user); RETURN NULL; END $$;
    CREATE TRIGGER swept AFTER UPDATE ON keyfall.feeds FOR EACH ROW
        WHEN (old.last_sweep_at IS DISTINCT FROM new.last_sweep_at) EXECUTE FUNCTION witness('sweep');
    CREATE TRIGGER polled AFTER UPDATE ON keyfall.feeds FOR EACH ROW
        WHEN (old.last_sweep_at IS NOT DISTINCT FROM new.last_sweep_at
              AND old.last_poll_at IS DISTINCT FROM new.last_poll_at) EXECUTE FUNCTION witness('poll');
    CREATE TRIGGER disposed AFTER UPDATE ON keyfall.objects FOR EACH ROW
        WHEN (old.disposal_attempts < new.disposal_attempts) EXECUTE FUNCTION witness('dispose')";

/// A feed that does all three all the time.
fn busy() -> String {
    let feeds = items("action = \"delete\"");
    feeds.replacen("poll_interval", "sweep_interval = \"1s\"\npoll_interval_max = \"200ms\"\npoll_interval", 1)
}

/// A lab with that feed and the witness.
async fn witnessed() -> Lab {
    let lab = Lab::with_items().await;
    lab.execute(WITNESS).await;
    lab
}

impl Lab {
    fn role(&self, name: &str) -> String {
        format!("{name}_{}", self.database)
    }

    /// An instance with a role of its own.
    async fn instance(&self, name: &str, feeds: &str, lease: &str) -> Engine {
        let role = self.role(name);
        self.execute(&format!("CREATE ROLE {role} LOGIN SUPERUSER")).await;
        let url = self.postgres.url(&self.database).replace("postgres@", &format!("{role}@"));
        let (name, lease) = (format!("instance={name}"), format!("workers.lease={lease}"));
        self.engine_at(&url, feeds, &[&name, &lease, "workers.max=1"]).await
    }

    /// Every act since, with those who did it.
    async fn doers(&self) -> Vec<String> {
        self.texts("SELECT act || ': ' || string_agg(DISTINCT who, ' ') FROM acts GROUP BY act ORDER BY act").await
    }

    /// Waits until each of so many instances alive holds so many duties.
    async fn until_shared(&self, instances: i64, duties: i64) {
        let sql =
            format!("SELECT count(*) FROM keyfall.instance_status WHERE alive AND cardinality(duties) = {duties}");
        self.until_count(&sql, instances).await;
    }

    async fn forget_roles(&self, names: &[&str]) {
        for name in names {
            self.execute(&format!("DROP ROLE {}", self.role(name))).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_instances_share_the_duties_and_each_is_done_by_one_at_a_time() {
    let lab = witnessed().await;
    let feeds = busy();
    let one = lab.instance("one", &feeds, "5s").await;
    lab.until_shared(1, 3).await;
    let other = lab.instance("other", &feeds, "5s").await;
    let third = lab.instance("third", &feeds, "5s").await;
    lab.until_shared(3, 1).await;
    // A poll or batch that began before its duty was given away may end after that.
    until("each is at it", async || {
        lab.count("SELECT count(*) FROM acts WHERE at > now() - interval '300 ms'").await > 0
    })
    .await;
    let holders = "SELECT d.duty || ': ' || i.name || '_' || current_database()
                     FROM keyfall.duties d JOIN keyfall.instances i ON i.id = d.owner ORDER BY 1";
    let holders = lab.texts(holders).await;
    lab.execute("TRUNCATE acts").await;
    lab.s3.clear_log();
    lab.put_items(0..60, 2);
    lab.until_objects("loaded", "done", 60).await;
    until("twenty polls and three sweeps", async || {
        lab.count("SELECT least(count(*) FILTER (WHERE act = 'poll') / 20, count(*) FILTER (WHERE act = 'sweep') / 3) FROM acts").await
            > 0
    })
    .await;
    let lists = lab.s3.log().iter().filter(|entry| entry.op == Operation::ListObjects).count();
    let listed = lab.count("SELECT count(*) FROM acts WHERE act <> 'dispose'").await;
    assert_eq!(lab.doers().await, holders, "each by the one instance that holds it");
    tokio::join!(one.drain(), other.drain(), third.drain());
    let lists = i64::try_from(lists).expect("few");
    assert!((lists - listed).abs() <= 2, "{lists} LIST calls for {listed} polls and sweeps of one page");
    lab.assert_items(60, 2).await;
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.instances").await, 0, "all signed off");
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.duties").await, 0, "all was given back");
    lab.forget_roles(&["one", "other", "third"]).await;
}

/// How long a duty may stay undone when its holder stops in order: much less than the heartbeat of 5 s.
const AT_ONCE: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_stops_hands_its_duties_over_at_once() {
    let lab = witnessed().await;
    let feeds = busy();
    let one = lab.instance("one", &feeds, "60s").await;
    lab.until_shared(1, 3).await;
    let other = lab.instance("other", &feeds, "60s").await;
    // Two for the one and one for the other, whichever way round.
    lab.until_count("SELECT count(*) FROM keyfall.instance_status WHERE alive AND duties <> '{}'", 2).await;
    one.drain().await;
    lab.execute("TRUNCATE acts").await;
    lab.put_items(0..1, 2);
    let begun = std::time::Instant::now();
    lab.until_count("SELECT count(DISTINCT act) FROM acts", 3).await;
    // The sweep has an interval of a second of its own.
    assert!(begun.elapsed() < AT_ONCE, "everything was done again after {:?}", begun.elapsed());
    let other_role = lab.role("other");
    assert_eq!(lab.doers().await, ["dispose", "poll", "sweep"].map(|act| format!("{act}: {other_role}")));
    lab.until_objects("loaded", "done", 1).await;
    other.drain().await;
    lab.assert_items(1, 2).await;
    lab.forget_roles(&["one", "other"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_hands_the_duties_to_the_new_engine_at_once() {
    let lab = witnessed().await;
    let feeds = busy();
    let old = lab.instance("old", &feeds, "60s").await;
    lab.until_shared(1, 3).await;
    let new = lab.instance("new", &feeds, "60s").await;
    old.retire().await;
    lab.execute("TRUNCATE acts").await;
    let begun = std::time::Instant::now();
    lab.until_count("SELECT count(DISTINCT act) FROM acts WHERE act <> 'dispose'", 2).await;
    assert!(begun.elapsed() < AT_ONCE, "polled and swept again after {:?}", begun.elapsed());
    new.drain().await;
    lab.forget_roles(&["old", "new"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_instance_is_replaced_within_the_lease_and_by_itself_at_once() {
    let lab = Lab::with_items().await;
    let settings = ["workers.lease=60s"];
    let mut first = lab.daemon(ITEMS, &settings);
    lab.until_count("SELECT count(*) FROM keyfall.instances WHERE session IS NOT NULL", 1).await;
    let polled = "SELECT count(*) FROM keyfall.feeds WHERE last_poll_at > last_sweep_at";
    lab.until_count(polled, 1).await;
    first.kill();
    // Its duties are lent for 15 s, but its session has ended: whoever starts next does not wait.
    lab.put_items(0..1, 2);
    let begun = std::time::Instant::now();
    let second = lab.daemon(ITEMS, &settings);
    lab.until_objects("loaded", "none", 1).await;
    assert!(begun.elapsed() < Duration::from_secs(8), "started and found it after {:?}", begun.elapsed());
    let status =
        "SELECT name || ' ' || alive || ' ' || cardinality(duties) FROM keyfall.instance_status ORDER BY seen_at";
    let told = lab.texts(status).await;
    assert!(told.len() == 2 && told[0].ends_with("false 0") && told[1].ends_with("true 3"), "{told:?}");
    // One that runs already takes over at its next heartbeat.
    let survivor = lab.engine(ITEMS, &["instance=survivor", "workers.lease=60s"]).await;
    lab.until_count("SELECT count(*) FROM keyfall.instances WHERE expires_at > now() AND session IS NOT NULL", 2).await;
    drop(second);
    lab.put_items(1..2, 2);
    let begun = std::time::Instant::now();
    lab.until_count(
        "SELECT count(*) FROM keyfall.instance_status WHERE name = 'survivor' AND cardinality(duties) = 3",
        1,
    )
    .await;
    assert!(begun.elapsed() < Duration::from_secs(15), "taken over after {:?}", begun.elapsed());
    lab.until_objects("loaded", "none", 2).await;
    survivor.drain().await;
    lab.assert_items(2, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_without_the_right_to_keep_duties_says_so_and_finds_nothing() {
    let lab = Lab::with_items().await;
    let role = lab.role("poor");
    lab.execute(&format!(
        "CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA keyfall TO {role};
         GRANT SELECT, INSERT, UPDATE ON keyfall.objects, keyfall.feeds TO {role}"
    ))
    .await;
    let url = lab.postgres.url(&lab.database).replace("postgres@", &format!("{role}@"));
    lab.put_items(0..1, 2);
    let engine = lab.engine_at(&url, ITEMS, &[]).await;
    until("it is told", async || {
        let troubles = engine.troubles().await.expect("the ledger answers");
        troubles.iter().any(|(_, trouble)| trouble.as_ref().is_some_and(|text| text.contains("permission denied")))
    })
    .await;
    engine.drain().await;
    assert!(lab.s3.log().is_empty(), "nothing is listed by whoever cannot say that he lists");
    lab.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_instances_and_duties_nobody_wants_are_forgotten() {
    let lab = Lab::with_items().await;
    lab.execute(
        "INSERT INTO keyfall.instances (id, name, version, feeds, declined, expires_at)
         SELECT gen_random_uuid(), name, '0', '{items}', '{}', now() - age
           FROM (VALUES ('old', interval '25 h'), ('recent', interval '1 h')) x (name, age);
         INSERT INTO keyfall.duties (feed, duty, owner, expires_at)
         SELECT feed, 'poll', gen_random_uuid(), now() - age
           FROM (VALUES ('gone', interval '25 h'), ('away', interval '1 h'), ('items', interval '25 h')) x (feed, age)",
    )
    .await;
    let engine = lab.engine(ITEMS, &["instance=now"]).await;
    lab.until_shared(1, 3).await;
    assert_eq!(lab.texts("SELECT name FROM keyfall.instances ORDER BY name").await, ["now", "recent"]);
    let feeds = "SELECT feed || ' ' || count(*) FROM keyfall.duties GROUP BY feed ORDER BY feed";
    assert_eq!(lab.texts(feeds).await, ["away 1", "items 3"]);
    engine.drain().await;
}

/// The instance that could take the duties cannot list; the one that can has them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_cannot_reach_the_bucket_leaves_its_feeds_to_others() {
    let lab = Lab::with_items().await;
    let nowhere = ["instance=lost", "workers.lease=5s", "s3.endpoint_url=http://127.0.0.1:9", "s3.max_attempts=1"];
    let lost = lab.engine(ITEMS, &nowhere).await;
    lab.until_count("SELECT count(*) FROM keyfall.instances WHERE declined = '{items}'", 1).await;
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.duties").await, 3, "nobody else is there: it goes on trying");
    let found = lab.engine(ITEMS, &["instance=found", "workers.lease=5s"]).await;
    lab.put_items(0..3, 2);
    let holder = "SELECT DISTINCT i.name FROM keyfall.duties d JOIN keyfall.instances i ON i.id = d.owner";
    until("the other has all of them", async || lab.texts(holder).await == ["found"]).await;
    until("all is found", async || lab.count("SELECT count(*) FROM keyfall.objects").await == 3).await;
    lost.drain().await;
    lab.until_objects("loaded", "none", 3).await;
    found.drain().await;
}

/// Feeds of different instances need not be the same: a duty goes only to those that have its feed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feed_that_one_instance_has_is_its_own() {
    let lab = Lab::with_items().await;
    let more = format!("{ITEMS}\n[feeds.more]\nbucket = \"drop\"\nprefix = \"more/\"\ntable = \"items\"\n");
    assert_eq!(loaded(&lab.sources(&more)).config.feeds.len(), 2);
    let both = lab.engine(&more, &["instance=both", "workers.lease=5s"]).await;
    let one = lab.engine(ITEMS, &["instance=one", "workers.lease=5s"]).await;
    let holders = "SELECT d.feed || ' ' || string_agg(DISTINCT i.name, ' ' ORDER BY i.name) || ' ' || count(*)
                     FROM keyfall.duties d JOIN keyfall.instances i ON i.id = d.owner GROUP BY d.feed ORDER BY 1";
    until("shared", async || lab.texts(holders).await == ["items both one 3", "more both 3"]).await;
    tokio::join!(both.drain(), one.drain());
}
