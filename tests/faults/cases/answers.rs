//! F35–F38, F41–F46, F49, F52: the server answers, and says no.
//!
//! Who is to blame decides: the weather is waited out, a feed whose target cannot be loaded is paused and goes on by
//! itself, and only an object whose content is refused is set aside.

use ::keyfall::demo::s3::Gate;
use tokio_postgres::Client;

use crate::case::{Case, Report, Trial};
use crate::control::Strike;
use crate::keyfall::Keyfall;
use crate::lab::{BUCKET, Disposal, Lab, Settings, connect, key, within};
use crate::oracle::{Body, Fate};

use super::postgres::{STREAMED, assert_unblamed, attempts, data_directory, migrated};

const PAUSED: &str = "SELECT count(*) FROM keyfall.feeds WHERE paused_by = 'halt'";

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("F35", "no connection is free", no_connection_free),
        Case::new("F36", "the table is locked for longer than lock_timeout", table_locked),
        Case::new("F37", "two loads lock each other out", deadlock),
        Case::new("F38", "a role that defaults to serializable, and a 40001", serializable),
        Case::new("F41", "the server turns read-only and back", read_only),
        Case::new("F42", "password changed, then INSERT revoked, while running", login_and_right_withdrawn),
        Case::new("F43", "malformed values near the end, more files than connections", malformed_values),
        Case::new("F44", "a unique key is there already", unique_key),
        Case::new("F45", "constraint and trigger that fail at COMMIT", fails_at_commit).first_wave(),
        Case::new("F46", "UNLOGGED target, synchronous_commit=off, fsync=off", not_durable).first_wave(),
        Case::new("F49", "a role whose settings would change everything", role_settings),
        Case::new("F52", "missing partition, and a check on one", partitions),
    ]
}

/// A login of its own that may make the ledger and fill `items`; answers its name.
async fn role(lab: &Lab, more: &str) -> String {
    let role = format!("role_{}", lab.database);
    let password = lab.password();
    lab.execute(&format!(
        "CREATE ROLE {role} LOGIN PASSWORD '{password}'; GRANT CREATE ON DATABASE {database} TO {role};
         GRANT SELECT, INSERT ON items TO {role}; {more}",
        database = lab.database,
        more = more.replace("$role", &role),
    ))
    .await;
    role
}

fn alone(settings: Settings) -> Settings {
    Settings { workers: "max = 1\ngroup_objects = 1".to_owned(), ..settings }
}

/// Another feed into another table, which must not notice anything.
const OTHER: &str = r#"
    [feeds.other]
    bucket = "drop"
    prefix = "other/"
    table = "other"
    poll_interval = "200ms"
    [feeds.other.csv]
    header = false
"#;

/// Objects for [`OTHER`].
pub(super) async fn put_others(lab: &Lab, objects: usize) {
    lab.execute("CREATE TABLE IF NOT EXISTS other (a int, b text)").await;
    for number in 0..objects {
        lab.s3.put(BUCKET, &format!("other/{number}.csv"), format!("{number},one\n{number},two\n"));
    }
}

pub(super) fn with_other(settings: Settings) -> Settings {
    Settings { more: format!("{}{OTHER}", settings.more), ..settings }
}

pub(super) const OTHERS_LOADED: &str = "SELECT count(*) FROM keyfall.objects WHERE feed = 'other' AND state = 'loaded'";
pub(super) const ITEMS_LOADED: &str = "SELECT count(*) FROM keyfall.objects WHERE feed = 'items' AND state = 'loaded'";

async fn no_connection_free(trial: Trial) -> Report {
    let mut lab = Lab::with_own_server(&trial, &[("max_connections", "16")]).await;
    lab.put(0..6, STREAMED);
    let user = role(&lab, "CREATE ROLE filler LOGIN").await;
    let url = lab.url().replace("postgres@", "filler@");
    let mut fillers: Vec<Client> = Vec::new();
    while let Some(client) = connect(&url).await {
        fillers.push(client);
    }
    // Three are the superuser's, one may still be closing.
    assert!((12..=13).contains(&fillers.len()), "{}", fillers.len());
    let mut keyfall = lab.keyfall("a", &Settings { user, ..Settings::new(Disposal::Delete) });
    let gate = Gate::new();
    let held = keyfall.control.arm("copy.begun", 1, Strike::Hold(gate.clone()));
    keyfall.start();
    keyfall.says("53300").await;
    keyfall.answers("/readyz", 503).await;
    // One for the notifications, one at least for the ledger: four loads cannot share what is left.
    fillers.truncate(fillers.len() - 4);
    keyfall.says("E-PG-53300").await;
    drop(fillers);
    gate.open();
    lab.until_state("loaded", 6).await;
    assert_unblamed(&lab).await;
    assert!(held.hits() <= 1);
    let refused = keyfall.log();
    lab.expect_count("53300", move || u64::from(refused.contains("E-PG-53300")), 1);
    lab.verify(&mut [&mut keyfall]).await
}

async fn table_locked(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..4, STREAMED);
    put_others(&lab, 6).await;
    let settings = Settings {
        database: "lock_timeout = \"500ms\"".to_owned(),
        workers: "max = 2".to_owned(),
        ..with_other(Settings::new(Disposal::Delete))
    };
    migrated(&lab, &settings).await;
    let holder = lab.client().await;
    holder.batch_execute("BEGIN; LOCK TABLE items IN ACCESS EXCLUSIVE MODE").await.expect("a lock");
    let mut keyfall = lab.keyfall("a", &settings);
    keyfall.start();
    keyfall.says("E-PG-55P03").await;
    // Both workers have waited for the lock by now, and still the other feed's turn comes.
    lab.until_count(OTHERS_LOADED, 6).await;
    for number in 6..12 {
        lab.s3.put(BUCKET, &format!("other/{number}.csv"), format!("{number},late\n"));
    }
    lab.until_count(OTHERS_LOADED, 12).await;
    assert_eq!(lab.count(ITEMS_LOADED).await, 0);
    holder.batch_execute("COMMIT").await.expect("the lock goes");
    lab.until_count(ITEMS_LOADED, 4).await;
    assert_unblamed(&lab).await;
    lab.expect_count("55P03", seen(&keyfall, "E-PG-55P03"), 1);
    lab.verify(&mut [&mut keyfall]).await
}

/// Whether the log holds a word, as a hit.
fn seen(keyfall: &Keyfall, word: &str) -> impl Fn() -> u64 + Send + Sync + use<> {
    let seen = u64::from(keyfall.log().contains(word));
    move || seen
}

/// How often the log holds a word, as hits.
fn told(keyfall: &Keyfall, word: &str) -> impl Fn() -> u64 + Send + Sync + use<> {
    let told = keyfall.log().matches(word).count() as u64;
    move || told
}

async fn deadlock(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..2, STREAMED);
    // As a unique key would, only that each side surely has its first lock.
    lab.execute(&format!(
        "CREATE FUNCTION lock_both() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             IF NEW.line = 0 THEN PERFORM pg_advisory_xact_lock(37, NEW.object); END IF;
             IF NEW.line = {} THEN PERFORM pg_advisory_xact_lock(37, 1 - NEW.object); END IF;
             RETURN NEW;
         END $$;
         CREATE TRIGGER lock_both BEFORE INSERT ON items FOR EACH ROW EXECUTE FUNCTION lock_both()",
        STREAMED - 1
    ))
    .await;
    let settings = alone(Settings::new(Disposal::Delete));
    migrated(&lab, &settings).await;
    let mut programs = [lab.keyfall("a", &settings), lab.keyfall("b", &settings)];
    let gate = Gate::new();
    for program in &mut programs {
        let held = program.control.arm("copy.frame", 3, Strike::Hold(gate.clone()));
        lab.expect_hits(&format!("copy.frame hold of {}", program.name), &held, 1);
        program.start();
        within("COPY", program.control.reached("copy.frame", 3)).await;
    }
    lab.until_count(
        "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
          WHERE l.locktype = 'advisory' AND l.classid = 37 AND l.granted AND d.datname = current_database()",
        2,
    )
    .await;
    gate.open();
    lab.until_state("loaded", 2).await;
    assert_eq!(attempts(&lab).await, 3);
    assert_unblamed(&lab).await;
    let [mut a, mut b] = programs;
    let (by_a, by_b) = (told(&a, "E-PG-40P01"), told(&b, "E-PG-40P01"));
    lab.expect_count("40P01", move || by_a() + by_b(), 1);
    lab.verify(&mut [&mut a, &mut b]).await
}

async fn serializable(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..1, STREAMED);
    let user = role(&lab, "ALTER ROLE $role SET default_transaction_isolation = 'serializable'").await;
    lab.execute(&format!(
        "CREATE SEQUENCE tries; GRANT USAGE ON SEQUENCE tries TO {user};
         CREATE FUNCTION refuse_once() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             IF nextval('public.tries') = 1 THEN
                 RAISE EXCEPTION 'could not serialize access' USING ERRCODE = '40001';
             END IF;
             RETURN NULL;
         END $$;
         CREATE TRIGGER refuse_once AFTER INSERT ON items FOR EACH STATEMENT EXECUTE FUNCTION refuse_once()"
    ))
    .await;
    let mut keyfall = lab.keyfall("a", &Settings { user, ..Settings::new(Disposal::Delete) });
    keyfall.start();
    keyfall.says("E-PG-40001").await;
    lab.until_state("loaded", 1).await;
    // A load that outlasts a renewal of its own lease has an old snapshot, where snapshots are kept.
    let gate = Gate::new();
    let held = keyfall.control.arm("copy.frame", 3, Strike::Hold(gate.clone()));
    lab.expect_hits("copy.frame hold", &held, 1);
    lab.put(1..2, STREAMED);
    within("COPY", gate.reached()).await;
    within("two renewals", keyfall.control.reached("lease.renewed", keyfall.control.hits("lease.renewed") + 2)).await;
    gate.open();
    lab.until_state("loaded", 2).await;
    assert_eq!(attempts(&lab).await, 3);
    assert_unblamed(&lab).await;
    lab.expect_count("40001", told(&keyfall, "E-PG-40001"), 1);
    lab.verify(&mut [&mut keyfall]).await
}

async fn read_only(trial: Trial) -> Report {
    let mut lab = Lab::with_own_server(&trial, &[]).await;
    lab.put(0..1, 3);
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Delete));
    keyfall.start();
    keyfall.says("started").await;
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE disposal = 'done'", 1).await;
    let sessions = "SELECT pid FROM pg_stat_activity WHERE application_name = 'keyfall' AND query NOT LIKE 'LISTEN%'";
    let before: Vec<i32> = lab.query(sessions).await.iter().map(|row| row.get(0)).collect();
    let set = async |lab: &Lab, value: &str| {
        lab.execute(&format!("ALTER SYSTEM SET default_transaction_read_only = {value}")).await;
        lab.execute("SELECT pg_reload_conf()").await;
    };
    set(&lab, "on").await;
    lab.put(1..4, 3);
    keyfall.says("25006").await;
    // Those whose server became a standby must look for the new primary.
    let others = format!(
        "SELECT count(*) FROM (SELECT FROM ({sessions}) x WHERE pid <> ALL ('{{{}}}') LIMIT 1) y",
        list(&before)
    );
    lab.until_count(&others, 1).await;
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects WHERE state = 'loaded'").await, 1);
    assert_eq!(lab.s3.keys(BUCKET).len(), 3);
    lab.expect_count("25006", seen(&keyfall, "25006"), 1);
    set(&lab, "off").await;
    lab.until_state("loaded", 4).await;
    assert_unblamed(&lab).await;
    lab.verify(&mut [&mut keyfall]).await
}

fn list(numbers: &[i32]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

async fn login_and_right_withdrawn(trial: Trial) -> Report {
    let mut lab = Lab::with_own_server(&trial, &[]).await;
    let user = role(&lab, "").await;
    let directory = data_directory(&lab).await;
    std::fs::write(
        directory.join("pg_hba.conf"),
        "local all all trust\nhost all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n",
    )
    .expect("pg_hba.conf");
    lab.execute("SELECT pg_reload_conf()").await;
    lab.put(0..1, 3);
    let mut keyfall =
        lab.keyfall("a", &Settings { user: user.clone(), ..Settings::new(Disposal::Delete).through_proxy() });
    keyfall.start();
    keyfall.says("started").await;
    lab.until_state("loaded", 1).await;

    lab.execute(&format!("ALTER ROLE {user} PASSWORD 'another'")).await;
    lab.execute(&format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{user}'")).await;
    lab.put(1..3, 3);
    keyfall.says("28P01").await;
    let logins = lab.proxy.accepted();
    keyfall.answers("/readyz", 503).await;
    // A wrong password must not be tried at full speed: some servers lock the role for that.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    let logins = lab.proxy.accepted() - logins;
    assert!(logins < 80, "{logins} logins");
    lab.expect_count("28P01", seen(&keyfall, "28P01"), 1);
    lab.execute(&format!("ALTER ROLE {user} PASSWORD '{}'", lab.password())).await;
    lab.until_state("loaded", 3).await;
    keyfall.answers("/readyz", 200).await;

    lab.execute(&format!("REVOKE INSERT ON items FROM {user}")).await;
    lab.put(3..5, 3);
    lab.until_count(PAUSED, 1).await;
    let reason = "SELECT count(*) FROM keyfall.feeds WHERE paused_reason LIKE '%permission denied%'
                     AND paused_advice LIKE '%INSERT%'";
    assert_eq!(lab.count(reason).await, 1);
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects WHERE state = 'loaded'").await, 3);
    lab.expect_count("42501", seen(&keyfall, "E-PG-42501"), 1);
    lab.execute(&format!("GRANT INSERT ON items TO {user}")).await;
    lab.until_state("loaded", 5).await;
    lab.until_count(PAUSED, 0).await;
    assert_unblamed(&lab).await;
    let report = lab.verify(&mut [&mut keyfall]).await;
    super::postgres::both(report, Report { note: format!("{logins} logins refused"), ..Report::default() })
}

async fn malformed_values(trial: Trial) -> Report {
    const ROWS: u64 = 3000;
    let mut lab = Lab::start(&trial).await;
    // `oid` is parsed by the server, `numeric` by us.
    lab.execute("ALTER TABLE items ALTER line TYPE oid").await;
    let workers = "max = 2\ngroup_objects = 1".to_owned();
    let mut keyfall = lab.keyfall("a", &Settings { workers, ..Settings::new(Disposal::Delete) });
    let bad = 6;
    for number in 0..bad {
        let mut body = Body::new(number, ROWS, &mut lab.random);
        let (line, amount) = if number % 2 == 0 { ("9999", "12zzz") } else { ("99zzz", "12") };
        body.text += &format!("{number},{line},bad,{amount}\n{number},10000,good,1\n");
        lab.put_body(&key(number), &body);
        lab.oracle.expect(&key(number), Fate::Quarantined);
    }
    lab.put(bad..bad + 2, ROWS);
    keyfall.start();
    keyfall.says("started").await;
    lab.until_state("quarantined", 6).await;
    lab.until_state("loaded", 2).await;
    let told = format!("SELECT count(*) FROM keyfall.objects WHERE error_detail LIKE '%record {}%'", ROWS + 1);
    assert_eq!(lab.count(&told).await, 6);
    for (column, code) in [("amount", "E-"), ("line", "E-PG-22P02")] {
        let told = format!(
            "SELECT count(*) FROM keyfall.objects WHERE error_detail LIKE '%{column}%' AND error_code LIKE '{code}%'"
        );
        assert_eq!(lab.count(&told).await, 3, "{column}");
    }
    let leaked = "SELECT count(*) FROM keyfall.objects WHERE error_detail LIKE '%zzz%'";
    assert_eq!(lab.count(leaked).await, 0);
    assert!(!keyfall.log().contains("zzz"), "{}", keyfall.log());
    // Not one of six broken COPYs has kept its session.
    let left = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
                   AND (query LIKE 'COPY%' AND state = 'active' OR state LIKE 'idle in transaction%')";
    lab.until_count(left, 0).await;
    lab.expect_count("quarantined", told_quarantined(&keyfall), 6);
    lab.verify(&mut [&mut keyfall]).await
}

fn told_quarantined(keyfall: &Keyfall) -> impl Fn() -> u64 + Send + Sync + use<> {
    told(keyfall, "object quarantined")
}

async fn unique_key(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.execute("ALTER TABLE items ADD CONSTRAINT only_once UNIQUE (object, line)").await;
    lab.put(10_000..10_001, 3000);
    // The same rows under a later key.
    let mut again = Body::new(10_000, 3000, &mut lab.random);
    again.text += "10001,0,new,1\n";
    lab.put_body(&key(10_001), &again);
    lab.oracle.expect(&key(10_001), Fate::Quarantined);
    lab.put(10_002..10_003, 3);
    let mut keyfall = lab.keyfall("a", &alone(Settings::new(Disposal::Delete)));
    keyfall.start();
    keyfall.says("started").await;
    lab.until_state("quarantined", 1).await;
    lab.until_state("loaded", 2).await;
    let told = "SELECT count(*) FROM keyfall.objects WHERE error_code = 'E-PG-23505' AND attempt = 1
                   AND error_detail LIKE '%only_once%' AND error_detail NOT LIKE '%10000%'";
    assert_eq!(lab.count(told).await, 1, "{}", keyfall.log());
    assert!(!keyfall.log().contains("10000"), "the log shows a value of the row: {}", keyfall.log());
    lab.expect_count("quarantined", told_quarantined(&keyfall), 1);
    lab.verify(&mut [&mut keyfall]).await
}

async fn fails_at_commit(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.execute(
        "CREATE TABLE parents (id int PRIMARY KEY);
         INSERT INTO parents SELECT generate_series(1, 5);
         ALTER TABLE items ADD FOREIGN KEY (object) REFERENCES parents DEFERRABLE INITIALLY DEFERRED;
         CREATE FUNCTION raise() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             IF NEW.object = 2 THEN RAISE EXCEPTION 'object 2 is unwelcome'; END IF;
             RETURN NULL;
         END $$;
         CREATE CONSTRAINT TRIGGER raise AFTER INSERT ON items DEFERRABLE INITIALLY DEFERRED
                FOR EACH ROW EXECUTE FUNCTION raise()",
    )
    .await;
    // 0 has no parent, 2 is refused by the trigger; 3 and 4 are too large for the group.
    lab.put(0..3, 3);
    lab.put(3..4, STREAMED);
    lab.put(6..7, STREAMED);
    for number in [0, 2, 6] {
        lab.oracle.expect(&key(number), Fate::Quarantined);
    }
    let feed = "parent_wait = \"0s\"".to_owned();
    let mut keyfall = lab.keyfall("a", &Settings { feed, ..Settings::new(Disposal::Delete) });
    keyfall.start();
    lab.until_state("quarantined", 3).await;
    lab.until_state("loaded", 2).await;
    let states = lab.query("SELECT key, state, coalesce(error_code, '') FROM keyfall.objects ORDER BY key").await;
    let states: Vec<(String, String, String)> = states.iter().map(|r| (r.get(0), r.get(1), r.get(2))).collect();
    let expected = [
        (0, "quarantined", "E-PG-23503"),
        (1, "loaded", ""),
        (2, "quarantined", "E-PG-P0001"),
        (3, "loaded", ""),
        (6, "quarantined", "E-PG-23503"),
    ];
    let expected = expected.map(|(number, state, code)| (key(number), state.to_owned(), code.to_owned()));
    assert_eq!(states, expected);
    lab.expect_count("quarantined", told_quarantined(&keyfall), 3);
    lab.verify(&mut [&mut keyfall]).await
}

async fn not_durable(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    let user = role(&lab, "ALTER ROLE $role SET synchronous_commit = off").await;
    lab.execute(&format!(
        "CREATE TABLE seen (setting text); GRANT INSERT ON seen TO {user};
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             IF NEW.line = 0 THEN INSERT INTO public.seen VALUES (current_setting('synchronous_commit')); END IF;
             RETURN NULL;
         END $$;
         CREATE CONSTRAINT TRIGGER note AFTER INSERT ON items DEFERRABLE INITIALLY DEFERRED
                FOR EACH ROW EXECUTE FUNCTION note();
         ALTER TABLE items SET UNLOGGED"
    ))
    .await;
    lab.put(0..3, 3);
    lab.put(3..4, STREAMED);
    let mut keyfall = lab.keyfall("a", &Settings { user: user.clone(), ..Settings::new(Disposal::Delete) });
    keyfall.start();
    let ended = "SELECT count(*) FROM (SELECT FROM keyfall.feeds WHERE paused_by = 'halt'
                 UNION ALL SELECT FROM keyfall.objects WHERE state = 'loaded' LIMIT 1) x";
    keyfall.says("started").await;
    lab.until_count(ended, 1).await;
    let reason =
        "SELECT count(*) FROM keyfall.feeds WHERE paused_reason LIKE '%unlogged%' AND paused_advice LIKE '%LOGGED%'";
    assert_eq!(lab.count(reason).await, 1, "an unlogged table was loaded: {}", keyfall.log());
    assert_eq!(lab.count("SELECT count(*) FROM items").await, 0);
    lab.execute("ALTER TABLE items SET LOGGED").await;
    lab.until_state("loaded", 4).await;
    assert_unblamed(&lab).await;
    // As it was when the commit's own triggers ran.
    assert_eq!(lab.count("SELECT count(*) FROM seen WHERE setting = 'on'").await, 4);
    assert_eq!(lab.count("SELECT count(*) FROM seen").await, 4);
    // The lab's shared server runs without fsync.
    lab.expect_count("fsync warned about", told(&keyfall, "fsync is off"), 1);
    lab.expect_count("unlogged refused", seen(&keyfall, "E-TARGET"), 1);
    lab.verify(&mut [&mut keyfall]).await
}

/// What a role's owner may have set for its own reasons, none of it meant for a loader.
const STRANGE: &str = "
    ALTER ROLE $role SET statement_timeout = '2s';
    ALTER ROLE $role SET lock_timeout = '1ms';
    ALTER ROLE $role SET idle_in_transaction_session_timeout = '100ms';
    ALTER ROLE $role SET search_path = 'nowhere';
    ALTER ROLE $role SET DateStyle = 'German, DMY';
    ALTER ROLE $role SET TimeZone = 'Asia/Kathmandu';
    ALTER ROLE $role SET IntervalStyle = 'sql_standard';
    ALTER ROLE $role SET client_encoding = 'LATIN1';
    ALTER ROLE $role SET standard_conforming_strings = off;
    ALTER ROLE $role SET bytea_output = 'escape';
    ALTER ROLE $role SET extra_float_digits = -10;
    ALTER ROLE $role SET default_transaction_isolation = 'repeatable read';
    ALTER ROLE $role SET default_transaction_deferrable = on;
    GRANT INSERT ON dates TO $role";

const DATES: &str = "a int, at date, moment timestamptz, local timestamp, span interval, days daterange, word text";

async fn role_settings(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.execute(&format!("CREATE TABLE dates ({DATES})")).await;
    let user = role(&lab, STRANGE).await;
    lab.put(0..1, STREAMED);
    lab.s3.put(
        BUCKET,
        "dates/1.csv",
        "1,2024-05-06,2024-05-06T07:08:09,2024-05-06 07:08:09,-1 day 02:03:04,\"[2024-05-06,2024-06-07)\",größe∑\n\
         2,2024-05-06,2024-05-06T07:08:09+02:00,2024-05-06 07:08:09,-1 2:03:04,\"[05/06/2024,06/07/2024)\",\\x\n",
    );
    let more = OTHER.replace("other", "dates");
    let mut keyfall = lab.keyfall("a", &Settings { more, user, ..Settings::new(Disposal::Delete) });
    let gate = Gate::new();
    let held = keyfall.control.arm("copy.frame", 3, Strike::Hold(gate.clone()));
    lab.expect_hits("copy.frame hold", &held, 1);
    keyfall.start();
    within("COPY", gate.reached()).await;
    let outlasted = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'COPY%'
                        AND state = 'active' AND clock_timestamp() - query_start > interval '3 s'";
    lab.until_count(outlasted, 1).await;
    gate.open();
    lab.until_state("loaded", 2).await;
    assert_eq!(attempts(&lab).await, 2);
    assert_unblamed(&lab).await;
    let rows = "SELECT concat_ws(' | ', a, to_char(at, 'YYYYMMDD'), extract(epoch FROM moment)::bigint,
                       to_char(local, 'YYYYMMDD HH24MISS'), extract(epoch FROM span)::bigint,
                       to_char(lower(days), 'YYYYMMDD'), word) FROM dates ORDER BY a";
    let rows: Vec<String> = lab.query(rows).await.iter().map(|row| row.get(0)).collect();
    assert_eq!(
        rows,
        [
            "1 | 20240506 | 1714979289 | 20240506 070809 | -79016 | 20240506 | größe∑",
            // A cell that only the server can read means what it means under PostgreSQL's own defaults.
            "2 | 20240506 | 1714972089 | 20240506 070809 | -79016 | 20240506 | \\x",
        ]
    );
    lab.verify(&mut [&mut keyfall]).await
}

async fn partitions(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.execute(
        "ALTER TABLE items RENAME TO plain;
         CREATE TABLE items (LIKE plain) PARTITION BY RANGE (object);
         CREATE TABLE items_low PARTITION OF items FOR VALUES FROM (0) TO (10);
         CREATE TABLE items_high PARTITION OF items FOR VALUES FROM (20) TO (30);
         ALTER TABLE items_high ADD CONSTRAINT few CHECK (line < 2)",
    )
    .await;
    lab.put(1..3, 3);
    lab.put(11..12, 3);
    lab.put(20..21, 2);
    lab.put(21..22, 3);
    lab.put(3..4, STREAMED);
    for number in [11, 21] {
        lab.oracle.expect(&key(number), Fate::Quarantined);
    }
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Delete));
    keyfall.start();
    keyfall.says("started").await;
    lab.until_state("quarantined", 2).await;
    lab.until_state("loaded", 4).await;
    let told = "SELECT count(*) FROM keyfall.objects WHERE error_code = 'E-PG-23514'
                   AND (error_detail LIKE '%no partition%' OR error_detail LIKE '%few%')";
    assert_eq!(lab.count(told).await, 2);
    assert_eq!(lab.count("SELECT count(*) FROM items_low").await, 30_006);
    lab.expect_count("quarantined", told_quarantined(&keyfall), 2);
    // What was set aside is loaded when the table has become able to take it.
    lab.execute("CREATE TABLE items_mid PARTITION OF items FOR VALUES FROM (10) TO (20)").await;
    let again = std::process::Command::new(env!("CARGO_BIN_EXE_keyfall"))
        .args(["retry", "--feed", "items", "--state", "quarantined", "--config"])
        .arg(keyfall.config())
        .output()
        .expect("a program");
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    lab.oracle.expect(&key(11), Fate::Loaded);
    lab.until_state("loaded", 5).await;
    lab.until_state("quarantined", 1).await;
    lab.verify(&mut [&mut keyfall]).await
}
