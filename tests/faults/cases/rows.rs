//! F-isolate, F-upsert, F-replace: the process dies, is cut off or overtaken while it sifts refused rows, brings staged ones
//! into their table, or has emptied a table that it is to replace.

use ::keyfall::demo::s3::Gate;

use crate::case::{Case, Report, Trial};
use crate::control::Strike;
use crate::keyfall::Keyfall;
use crate::lab::{Disposal, Lab, Settings, key, within};
use crate::oracle::{Body, Fate};

/// Records of an object that the server refuses.
pub(super) const REFUSED: i64 = 5;

/// The table refuses them.
pub(super) const REFUSE: &str = "ALTER TABLE items ADD CONSTRAINT welcome CHECK (line < 100000)";

/// Rows take the place of those with the same numbers.
pub(super) const UPSERT: &str = "mode = \"upsert\"\nkey = [\"object\", \"line\"]";

/// What an upsert needs of the table.
pub(super) const KEY: &str = "ALTER TABLE items ADD UNIQUE (object, line)";

const REJECTIONS: &str = "SELECT count(*) FROM keyfall.rejections WHERE code = 'E-PG-23514'";

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (point, nth) in [("stage.filled", 1), ("isolate.window", 2), ("isolate.refused", 3), ("commit.fenced", 1)] {
        let (id, title) = (format!("F-isolate-{point}"), format!("killed at {point}, with refused rows in the object"));
        cases.push(Case::new(id, title, move |trial| killed_while_sifting(trial, point, nth)));
    }
    cases.extend([
        Case::new("F-isolate-cut", "cut off from the database while refused rows are sifted", cut_off_while_sifting),
        Case::new(
            "F-isolate-twice",
            "frozen while sifting, and another instance loads the object",
            frozen_while_sifting,
        ),
        Case::new("F-isolate-budget", "one refused row too many: nothing is loaded", one_too_many),
        Case::new("F-isolate-savepoint", "refused rows in every place: the others are loaded", in_every_place),
        Case::new("F-upsert-merged", "killed with the staged rows in their table", killed_when_merged),
        Case::new("F-upsert-twice", "frozen with the staged rows in their table, and overtaken", frozen_when_merged),
        Case::new("F-replace-emptied", "killed with the table emptied: nobody sees it empty", killed_when_emptied),
        Case::new(
            "F-replace-outdated",
            "the older table is loaded beside the newer one, which stays",
            older_beside_newer,
        ),
    ]);
    cases
}

/// Puts an object of so many good rows, refused ones before and behind them.
pub(super) fn put_refused(lab: &mut Lab, number: usize, rows: u64) {
    let mut body = Body::new(number, rows, &mut lab.random);
    let refused = |range: std::ops::Range<i64>| {
        range.fold(String::new(), |text, n| text + &format!("{number},{},x,1\n", 100_000 + n))
    };
    body.text = refused(0..2) + &body.text + &refused(2..REFUSED);
    lab.put_body(&key(number), &body);
}

/// Puts an object in which each of the first records is overtaken.
fn put_overtaken(lab: &mut Lab, number: usize, rows: u64) {
    let mut body = Body::new(number, rows, &mut lab.random);
    let older = (0..rows.min(9)).fold(String::new(), |text, line| text + &format!("{number},{line},older,1\n"));
    body.text = older + &body.text;
    lab.put_body(&key(number), &body);
}

fn tolerant() -> Settings {
    Settings { feed: "rejects.max_rows = 5".to_owned(), ..Settings::new(Disposal::Delete) }
}

async fn killed_while_sifting(trial: Trial, point: &'static str, nth: u64) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.execute(REFUSE).await;
    put_refused(&mut lab, 0, 3000);
    let mut keyfall = lab.keyfall("a", &tolerant());
    let armed = keyfall.control.arm(point, nth, Strike::Kill);
    lab.expect_hits(&format!("{point} kill"), &armed, 1);
    keyfall.start();
    keyfall.killed().await;
    let visible = "SELECT (SELECT count(*) FROM items) + (SELECT count(*) FROM keyfall.rejections)";
    assert_eq!(lab.count(visible).await, 0, "half a load is visible");
    keyfall.start();
    lab.until_state("loaded", 1).await;
    assert_eq!(lab.count(REJECTIONS).await, REFUSED);
    lab.verify(&mut [&mut keyfall]).await
}

/// A program that is held at a step, with one object put by `put`.
async fn held(lab: &mut Lab, step: &str, settings: &Settings) -> (Keyfall, Gate) {
    let mut keyfall = lab.keyfall("frozen", settings);
    let gate = Gate::new();
    let armed = keyfall.control.arm(step, 1, Strike::Hold(gate.clone()));
    lab.expect_hits(&format!("{step} hold"), &armed, 1);
    keyfall.start();
    within("the first load is held", gate.reached()).await;
    (keyfall, gate)
}

async fn cut_off_while_sifting(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.execute(REFUSE).await;
    put_refused(&mut lab, 0, 3000);
    let (mut keyfall, gate) = held(&mut lab, "isolate.window", &tolerant().through_proxy()).await;
    lab.proxy.reset_all();
    gate.open();
    lab.until_state("loaded", 1).await;
    assert_eq!(lab.count(REJECTIONS).await, REFUSED);
    let blamed = "SELECT count(*) FROM keyfall.objects WHERE suspicions > 0";
    assert_eq!(lab.count(blamed).await, 0, "the object was blamed for the network");
    lab.verify(&mut [&mut keyfall]).await
}

async fn frozen_while_sifting(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.execute(REFUSE).await;
    put_refused(&mut lab, 0, 3000);
    overtaken(lab, "isolate.window", tolerant(), REFUSED).await
}

/// The first owner is frozen at a step, the second loads the object; then the first wakes up.
async fn overtaken(mut lab: Lab, step: &str, settings: Settings, rejected: i64) -> Report {
    let (mut frozen, gate) = held(&mut lab, step, &settings).await;
    frozen.signal("STOP");
    let mut quick = lab.keyfall("quick", &settings);
    quick.start();
    // An upsert waits for the frozen owner's rows, until the server ends that session for standing still.
    lab.until_state("loaded", 1).await;
    gate.open();
    frozen.signal("CONT");
    frozen.says("lease").await;
    assert_eq!(lab.count(REJECTIONS).await, rejected);
    lab.verify(&mut [&mut frozen, &mut quick]).await
}

async fn one_too_many(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.execute(REFUSE).await;
    put_refused(&mut lab, 0, 3000);
    lab.oracle.expect(&key(0), Fate::Quarantined);
    let settings = Settings { feed: "rejects.max_rows = 4".to_owned(), ..tolerant() };
    let mut keyfall = lab.keyfall("a", &settings);
    keyfall.start();
    lab.until_state("quarantined", 1).await;
    let told = "SELECT count(*) FROM keyfall.objects WHERE error_code = 'E-REJECTS' AND error_detail LIKE '5 records%'";
    assert_eq!(lab.count(told).await, 1);
    assert_eq!(lab.count(REJECTIONS).await, 0);
    lab.verify(&mut [&mut keyfall]).await
}

async fn in_every_place(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.execute(REFUSE).await;
    for (number, rows) in [(0, 1), (1, 2), (2, 1023), (3, 1024), (4, 5000)] {
        put_refused(&mut lab, number, rows);
    }
    let mut keyfall = lab.keyfall("a", &tolerant());
    keyfall.start();
    lab.until_state("loaded", 5).await;
    assert_eq!(lab.count(REJECTIONS).await, 5 * REFUSED);
    let unequal = "SELECT count(*) FROM keyfall.objects WHERE rows_read <> rows_loaded + 5 OR rows_rejected <> 5";
    assert_eq!(lab.count(unequal).await, 0);
    lab.verify(&mut [&mut keyfall]).await
}

async fn killed_when_merged(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.execute(KEY).await;
    put_overtaken(&mut lab, 0, 3000);
    let settings = Settings { feed: UPSERT.to_owned(), ..Settings::new(Disposal::Archive) };
    let mut keyfall = lab.keyfall("a", &settings);
    let armed = keyfall.control.arm("stage.merged", 1, Strike::Kill);
    lab.expect_hits("stage.merged kill", &armed, 1);
    keyfall.start();
    keyfall.killed().await;
    assert_eq!(lab.count("SELECT count(*) FROM items").await, 0);
    keyfall.start();
    lab.until_state("loaded", 1).await;
    assert_eq!(lab.count("SELECT rows_filtered FROM keyfall.objects").await, 9);
    lab.verify(&mut [&mut keyfall]).await
}

async fn frozen_when_merged(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.execute(KEY).await;
    put_overtaken(&mut lab, 0, 3000);
    let settings = Settings {
        feed: UPSERT.to_owned(),
        // The second owner waits for the rows of the first, which the server gives up after this.
        database: "copy_stall_timeout = \"3s\"".to_owned(),
        ..Settings::new(Disposal::Keep)
    };
    overtaken(lab, "stage.merged", settings, 0).await
}

async fn killed_when_emptied(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.execute("INSERT INTO items SELECT 0, n, 'by hand', 1, 0, n FROM generate_series(1, 50) n").await;
    lab.put(0..1, 3000);
    let settings = Settings { feed: "mode = \"replace\"".to_owned(), ..Settings::new(Disposal::Delete) };
    let (mut keyfall, gate) = held(&mut lab, "replace.emptied", &settings).await;
    let by_hand = "SELECT count(*) FROM items WHERE note = 'by hand'";
    assert_eq!(lab.count(by_hand).await, 50, "readers see an empty table");
    keyfall.signal("KILL");
    keyfall.killed().await;
    gate.open();
    assert_eq!(lab.count(by_hand).await, 50);
    keyfall.start();
    lab.until_state("loaded", 1).await;
    assert_eq!(lab.count(by_hand).await, 0);
    lab.verify(&mut [&mut keyfall]).await
}

/// The older one is read first and comes to the table last: the lock shows it what was committed meanwhile.
async fn older_beside_newer(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..1, 300);
    lab.oracle.expect(&key(0), Fate::Replaced);
    let settings = Settings { feed: "mode = \"replace\"".to_owned(), ..Settings::new(Disposal::Keep) };
    let (mut slow, gate) = held(&mut lab, "copy.begun", &settings).await;
    lab.put(1..2, 200);
    let mut quick = lab.keyfall("quick", &settings);
    quick.start();
    lab.until_state("loaded", 1).await;
    gate.open();
    lab.until_state("skipped", 1).await;
    assert_eq!(lab.count("SELECT count(*) FROM items").await, 200);
    lab.verify(&mut [&mut slow, &mut quick]).await
}
