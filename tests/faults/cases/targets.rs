//! F106, F107, F109, F110: what the configuration or the table gets wrong, or has changed under the loader.

use std::time::Duration;

use ::keyfall::demo::s3::{Gate, Operation};

use crate::case::{Case, Report, Trial};
use crate::control::Strike;
use crate::lab::{Disposal, Lab, Settings, key, within};
use crate::oracle::{Body, Fate};

/// Columns by name, so that one that is missing is missed.
const MAPPED: &str = "columns = { object = 1, line = 2, note = 3, amount = 4 }\n";

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("F106-bucket", "the bucket does not exist", wrong_bucket),
        Case::new("F106-prefix", "nothing lies under the prefix", wrong_prefix),
        Case::new("F106-table", "the table does not exist", |trial| {
            wrong_target(trial, "ALTER TABLE items RENAME TO away", "ALTER TABLE away RENAME TO items", "\"items\"")
        }),
        Case::new("F106-column", "a column does not exist", |trial| {
            wrong_target(
                trial,
                "ALTER TABLE items RENAME amount TO sum",
                "ALTER TABLE items RENAME sum TO amount",
                "\"amount\"",
            )
        }),
        Case::new("F107", "the archive lies where the feed looks", archive_in_the_way),
        Case::new("F109", "limits lowered below queued objects, and raised again", limits_lowered),
        Case::new("F110-drop", "DROP COLUMN between lease and COPY", |trial| {
            altered(trial, "ALTER TABLE items DROP amount", "ALTER TABLE items ADD amount numeric(12, 2)", "\"amount\"")
        }),
        Case::new("F110-not-null", "ADD COLUMN NOT NULL between lease and COPY", |trial| {
            altered(trial, "ALTER TABLE items ADD must int NOT NULL", "ALTER TABLE items DROP must", "\"must\"")
        }),
        Case::new("F110-stale", "what the table refused when it was looked at last, it takes now", stale_shape),
        Case::new("F110-type", "ALTER TYPE between lease and COPY", type_altered),
    ]
}

async fn wrong_bucket(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..5, 3);
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Delete));
    keyfall.rewrite("bucket = \"drop\"", "bucket = \"dorp\"");
    let (code, told) = keyfall.errand(&["check"]).await;
    assert_eq!(code, 10, "{told}");
    assert!(told.contains("feeds.items.bucket") && told.contains("dorp"), "{told}");
    keyfall.start();
    keyfall.says("the bucket cannot be listed").await;
    keyfall.answers_with("/readyz?verbose", 503, &["feed items", "dorp"]).await;
    keyfall.rewrite("bucket = \"dorp\"", "bucket = \"drop\"");
    keyfall.signal("HUP");
    keyfall.says("configuration reloaded").await;
    keyfall.answers("/readyz", 200).await;
    lab.verify(&mut [&mut keyfall]).await
}

/// No mistake that a program could tell from a feed whose first object is still to come: it says what it sees.
async fn wrong_prefix(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..5, 3);
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Delete));
    keyfall.rewrite("pattern = \"incoming/", "pattern = \"incomming/");
    let (code, told) = keyfall.errand(&["check"]).await;
    assert!(code == 0 && told.contains("s3://drop/incomming/: 0 objects"), "{code}: {told}");
    keyfall.start();
    keyfall.answers("/readyz", 200).await;
    keyfall.rewrite("pattern = \"incomming/", "pattern = \"incoming/");
    let (code, told) = keyfall.errand(&["check"]).await;
    assert!(code == 0 && told.contains("s3://drop/incoming/: 5 objects"), "{code}: {told}");
    keyfall.signal("HUP");
    lab.verify(&mut [&mut keyfall]).await
}

async fn wrong_target(trial: Trial, broken: &'static str, mended: &'static str, named: &'static str) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..5, 3);
    lab.execute(broken).await;
    let mut keyfall = lab.keyfall("a", &Settings { feed: MAPPED.to_owned(), ..Settings::new(Disposal::Delete) });
    let (code, told) = keyfall.errand(&["check"]).await;
    assert!(matches!(code, 11 | 78), "{code}: {told}");
    assert!(told.contains("FAIL") && told.contains(named), "{told}");
    keyfall.start();
    keyfall.says("feed paused").await;
    keyfall.answers_with("/readyz?verbose", 503, &["feed items", &named.replace('"', "\\\"")]).await;
    assert_eq!(
        lab.count("SELECT count(*) FROM keyfall.objects WHERE suspicions > 0 OR state = 'quarantined'").await,
        0
    );
    lab.execute(mended).await;
    lab.until_state("loaded", 5).await;
    keyfall.answers("/readyz", 200).await;
    lab.verify(&mut [&mut keyfall]).await
}

async fn archive_in_the_way(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..5, 3);
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Archive));
    for prefix in ["incoming/", "", "inc"] {
        let given = format!("prefix = \"{prefix}\"");
        keyfall.rewrite("prefix = \"archive/\"", &given);
        let (code, told) = keyfall.errand(&["check", "--offline"]).await;
        let refused = code == 78 && told.contains("feeds.items.disposal.prefix");
        // "incincoming/" is no key that the feed looks at.
        assert_eq!(refused, prefix != "inc", "{code}: {told}");
        if refused {
            keyfall.start();
            assert_eq!(keyfall.ended().await, 78, "{}", keyfall.log());
        }
        keyfall.rewrite(&given, "prefix = \"archive/\"");
    }
    assert!(lab.s3.log().is_empty(), "something was asked of S3");
    keyfall.start();
    lab.until_state("loaded", 5).await;
    keyfall.rewrite("prefix = \"archive/\"", "prefix = \"incoming/\"");
    keyfall.signal("HUP");
    keyfall.says("they would be loaded again").await;
    lab.put(5..8, 3);
    lab.verify(&mut [&mut keyfall]).await
}

async fn limits_lowered(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Delete));
    keyfall.start();
    keyfall.says("started").await;
    let (code, told) = keyfall.errand(&["pause", "items", "--reason", "test"]).await;
    assert_eq!(code, 0, "{told}");
    lab.put(0..3, 200);
    lab.put(3..6, 2);
    lab.until_state("pending", 6).await;
    keyfall.rewrite("table = \"items\"", "table = \"items\"\nlimits.max_bytes = \"2 KiB\"");
    keyfall.signal("HUP");
    keyfall.says("configuration reloaded").await;
    let (code, told) = keyfall.errand(&["resume", "items"]).await;
    assert_eq!(code, 0, "{told}");
    lab.until_state("loaded", 3).await;
    lab.until_state("quarantined", 3).await;
    let told = "SELECT count(*) FROM keyfall.objects WHERE state = 'quarantined' AND error_detail LIKE '%max_bytes%'";
    assert_eq!(lab.count(told).await, 3, "the limit is named");
    assert_eq!(lab.count("SELECT count(*) FROM items").await, 6);
    keyfall.rewrite("2 KiB", "2 MiB");
    keyfall.signal("HUP");
    keyfall.says_times("configuration reloaded", 2).await;
    let (code, told) = keyfall.errand(&["retry", "--all"]).await;
    assert_eq!(code, 0, "{told}");
    lab.verify(&mut [&mut keyfall]).await
}

/// Leaves an object between its GET and its COPY, and answers the gate that lets it go on.
async fn opened(lab: &mut Lab, settings: &Settings) -> (crate::keyfall::Keyfall, Gate) {
    let mut keyfall = lab.keyfall("a", settings);
    let gate = Gate::new();
    let held = keyfall.control.arm("fetch.opened", 1, Strike::Hold(gate.clone()));
    lab.expect_hits("fetch.opened hold", &held, 1);
    keyfall.start();
    within("the object is open", gate.reached()).await;
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects WHERE state = 'leased'").await, 1);
    (keyfall, gate)
}

async fn altered(trial: Trial, ddl: &'static str, undo: &'static str, named: &'static str) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..1, 50);
    let settings = Settings { feed: MAPPED.to_owned(), ..Settings::new(Disposal::Delete) };
    let (mut keyfall, gate) = opened(&mut lab, &settings).await;
    lab.execute(ddl).await;
    gate.open();
    keyfall.says("feed paused").await;
    let reason = lab.query("SELECT paused_reason FROM keyfall.feeds WHERE paused_by = 'halt'").await;
    let reason: String = reason.first().expect("the feed is paused").get(0);
    assert!(reason.contains(named), "{reason}");
    assert_eq!(lab.count("SELECT count(*) FROM items").await, 0);
    lab.execute(undo).await;
    lab.verify(&mut [&mut keyfall]).await
}

/// Body `number` of one row, the first that fits.
fn body(lab: &mut Lab, number: usize, fits: impl Fn(&str) -> bool) -> Body {
    let found = (0..10_000).map(|_| Body::new(number, 1, &mut lab.random)).find(|body| fits(&body.text));
    found.expect("one of many fits")
}

async fn stale_shape(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.execute("ALTER TABLE items ALTER note SET NOT NULL").await;
    let full = body(&mut lab, 0, |text| !text.contains(",,"));
    lab.put_body(&key(0), &full);
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Keep));
    keyfall.start();
    lab.until_state("loaded", 1).await;
    lab.execute("ALTER TABLE items ALTER note DROP NOT NULL").await;
    // Alone, then several at once: each way of loading keeps what it knows of the table.
    for number in 1..5 {
        let blank = body(&mut lab, number, |text| text.contains(&format!("{number},0,,")));
        lab.put_body(&key(number), &blank);
        if number == 1 {
            lab.until_state("loaded", 2).await;
        }
    }
    lab.until_state("loaded", 5).await;
    let blamed = "SELECT count(*) FROM keyfall.objects WHERE state = 'quarantined' OR suspicions > 0";
    assert_eq!(lab.count(blamed).await, 0);
    lab.verify(&mut [&mut keyfall]).await
}

async fn type_altered(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..1, 50);
    let (mut keyfall, gate) = opened(&mut lab, &Settings::new(Disposal::Delete)).await;
    lab.execute("ALTER TABLE items ALTER amount TYPE int USING amount::int").await;
    gate.open();
    lab.until_state("quarantined", 1).await;
    let detail = lab.query("SELECT error_detail FROM keyfall.objects").await;
    let detail: String = detail.first().expect("an object").get(0);
    assert!(detail.contains("\"amount\""), "{detail}");
    assert_eq!(lab.count("SELECT count(*) FROM items").await, 0);
    assert_eq!(lab.s3.len("drop"), 1, "a quarantined object stays where it is");
    lab.oracle.expect(&key(0), Fate::Quarantined);
    lab.execute("ALTER TABLE items ALTER amount TYPE numeric(12, 2)").await;
    let (code, told) = keyfall.errand(&["retry", "--all"]).await;
    assert_eq!(code, 0, "{told}");
    lab.oracle.expect(&key(0), Fate::Loaded);
    lab.until_state("loaded", 1).await;
    tokio::time::timeout(Duration::from_mins(1), async {
        while lab.requests(Operation::DeleteObjects, &key(0)).is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("it is deleted");
    lab.verify(&mut [&mut keyfall]).await
}
