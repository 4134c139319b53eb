//! F-undo, F-replay: an operator's repair is killed, held or met by somebody else, and leaves all of it or nothing.

use ::keyfall::demo::s3::Gate;

use crate::case::{Case, Report, Trial};
use crate::control::Strike;
use crate::keyfall::Keyfall;
use crate::lab::{BUCKET, Disposal, Lab, Settings, key, within};
use crate::oracle::{Body, Fate, row_hash};

/// The steps of a repair: the crash matrix runs daemons, which never come by.
pub(super) const STEPS: &str = "repair.";

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("F-undo-deleted", "an undo is killed with the rows deleted", |trial| undo_killed(trial, "deleted")),
        Case::new("F-undo-marked", "an undo is killed before COMMIT", |trial| undo_killed(trial, "marked")),
        Case::new("F-undo-committed", "an undo is killed after COMMIT", |trial| undo_killed(trial, "committed")),
        Case::new("F-undo-count", "an object is undone of whose rows some are gone", undo_miscounted),
        Case::new("F-undo-busy", "an object is undone twice at once", undone_twice),
        Case::new("F-undo-disposal", "an object is undone while a disposer has it in hand", undone_in_hand),
        Case::new("F-replay-marked", "a replay is killed before COMMIT", |trial| replay_killed(trial, "marked")),
        Case::new("F-replay-committed", "a replay is killed after COMMIT", |trial| replay_killed(trial, "committed")),
        Case::new(
            "F-replay-rejections",
            "a replay of rejected records is killed at each of its steps",
            rejections_killed,
        ),
    ]
}

/// Runs a command whose failpoints ask the program's control.
async fn struck(keyfall: &Keyfall, arguments: &[&str]) -> (i32, String) {
    use std::os::unix::process::ExitStatusExt as _;
    let mut command = keyfall.errand_command(arguments);
    let output = command.env("KEYFALL_FAILPOINT_CONTROL", keyfall.control.path()).output().await;
    let output = output.expect("the program starts");
    let code = output.status.code().or_else(|| output.status.signal().map(|signal| 128 + signal));
    let printed = [output.stdout, output.stderr].concat();
    (code.expect("an ending"), String::from_utf8_lossy(&printed).into_owned())
}

/// The same, killed at a step.
async fn killed(lab: &mut Lab, keyfall: &Keyfall, step: &str, arguments: &[&str]) {
    let point = format!("{STEPS}{step}");
    let armed = keyfall.control.arm(&point, 1, Strike::Kill);
    lab.expect_hits(&format!("{point} kill"), &armed, 1);
    let (code, told) = struck(keyfall, arguments).await;
    assert_eq!(code, 137, "not killed at {point}: {told}");
    // The server has noticed that the dead client is gone.
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
                  AND xact_start IS NOT NULL AND query LIKE '%copy::%'";
    lab.until_count(sql, 0).await;
}

/// Rows of the first object, and its state as a number: 1 where it is this one.
async fn visible(lab: &Lab, state: &str) -> (i64, i64) {
    let rows = "SELECT count(*) FROM items WHERE object = 0";
    let objects = format!("SELECT count(*) FROM keyfall.objects WHERE key = '{}' AND state = '{state}'", key(0));
    (lab.count(rows).await, lab.count(&objects).await)
}

/// The counters of a life that loaded what was undone since count more than the ledger has.
async fn verified(lab: Lab, mut keyfall: Keyfall) -> Report {
    keyfall.stop().await;
    keyfall.start();
    keyfall.says("started").await;
    lab.verify(&mut [&mut keyfall]).await
}

async fn undo_killed(trial: Trial, step: &'static str) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..3, 10);
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Keep));
    keyfall.start();
    lab.until_state("loaded", 3).await;
    let undo = ["undo", "--key", &key(0)];
    killed(&mut lab, &keyfall, step, &undo).await;
    if step == "committed" {
        assert_eq!(visible(&lab, "undone").await, (0, 1));
    } else {
        assert_eq!(visible(&lab, "loaded").await, (10, 1), "half an undo is visible");
        let (code, told) = keyfall.errand(&undo).await;
        assert!(code == 0 && told.contains("rows deleted: 10"), "{code}: {told}");
    }
    let (code, told) = keyfall.errand(&undo).await;
    assert!(code == 0 && told.contains("no object fits"), "{code}: {told}");
    assert_eq!(visible(&lab, "undone").await, (0, 1));
    lab.oracle.expect(&key(0), Fate::Unread);
    verified(lab, keyfall).await
}

async fn undo_miscounted(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..2, 10);
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Keep));
    keyfall.start();
    lab.until_state("loaded", 2).await;
    lab.execute("DELETE FROM items WHERE object = 0 AND line = 3").await;
    let (code, told) = keyfall.errand(&["undo", "--key", &key(0)]).await;
    assert!(code == 1 && told.contains("have 9 rows of it, the ledger knows of 10"), "{code}: {told}");
    assert_eq!(visible(&lab, "loaded").await, (9, 1));
    let (code, told) = keyfall.errand(&["undo", "--force", "--key", &key(0)]).await;
    assert!(code == 0 && told.contains("rows deleted: 9"), "{code}: {told}");
    lab.oracle.expect(&key(0), Fate::Unread);
    verified(lab, keyfall).await
}

async fn undone_twice(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..2, 10);
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Keep));
    keyfall.start();
    lab.until_state("loaded", 2).await;
    let gate = Gate::new();
    let held = keyfall.control.arm("repair.deleted", 1, Strike::Hold(gate.clone()));
    lab.expect_hits("repair.deleted hold", &held, 1);
    let undo = ["undo", "--key", &key(0)];
    let (first, second) = tokio::join!(struck(&keyfall, &undo), async {
        within("the rows are deleted", gate.reached()).await;
        let second = keyfall.errand(&undo).await;
        gate.open();
        second
    });
    assert!(second.0 == 1 && second.1.contains("at this moment"), "the second waits for nobody: {second:?}");
    assert!(first.0 == 0 && first.1.contains("rows deleted: 10"), "{first:?}");
    lab.oracle.expect(&key(0), Fate::Unread);
    verified(lab, keyfall).await
}

/// Its bytes are about to be deleted: an undo in between would leave neither bytes nor rows.
async fn undone_in_hand(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..1, 10);
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Delete));
    let gate = Gate::new();
    let held = keyfall.control.arm("dispose.taken", 1, Strike::Hold(gate.clone()));
    lab.expect_hits("dispose.taken hold", &held, 1);
    keyfall.start();
    within("the object is taken", gate.reached()).await;
    for command in ["undo", "replay"] {
        let (code, told) = keyfall.errand(&[command, "--key", &key(0)]).await;
        assert!(code == 1 && told.contains("disposal is under way"), "{code}: {told}");
    }
    assert_eq!(visible(&lab, "loaded").await, (10, 1));
    assert!(lab.s3.etag(BUCKET, &key(0)).is_some());
    gate.open();
    lab.verify(&mut [&mut keyfall]).await
}

async fn replay_killed(trial: Trial, step: &'static str) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..2, 10);
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Archive));
    keyfall.start();
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE disposal = 'done'", 2).await;
    let replay = ["replay", "--key", &key(0)];
    killed(&mut lab, &keyfall, step, &replay).await;
    if step == "marked" {
        assert_eq!(visible(&lab, "loaded").await, (10, 1), "half a replay is visible");
        let (code, told) = keyfall.errand(&replay).await;
        assert!(code == 0 && told.contains("rows deleted: 10"), "{code}: {told}");
    }
    // From the archive; the original is gone.
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE state = 'loaded' AND replays = 1", 1).await;
    assert_eq!(visible(&lab, "loaded").await, (10, 1));
    verified(lab, keyfall).await
}

async fn rejections_killed(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    let mut body = Body::new(0, 10, &mut lab.random);
    // Two digits more than the column takes.
    let amount = "123456789012.00";
    body.text += &format!("0,10,late,{amount}\n");
    body.sum += row_hash(0, 10, Some("late"), Some(amount));
    body.rows += 1;
    lab.put_body(&key(0), &body);
    let settings = Settings { feed: "rejects = { max_rows = 5 }".to_owned(), ..Settings::new(Disposal::Keep) };
    let mut keyfall = lab.keyfall("a", &settings);
    keyfall.start();
    lab.until_state("loaded", 1).await;
    assert_eq!(visible(&lab, "loaded").await, (10, 1));
    lab.execute("ALTER TABLE items ALTER amount TYPE numeric(20, 2)").await;
    let replay = ["rejections", "replay"];
    let open = "SELECT count(*) FROM keyfall.rejection_status WHERE open";
    for (step, rows, left) in [("copied", 10, 1), ("marked", 10, 1), ("committed", 11, 0)] {
        killed(&mut lab, &keyfall, step, &replay).await;
        assert_eq!((visible(&lab, "loaded").await, lab.count(open).await), ((rows, 1), left), "killed at {step}");
    }
    let (code, told) = keyfall.errand(&replay).await;
    assert!(code == 0 && told.contains("no rejected record fits"), "{code}: {told}");
    assert_eq!(visible(&lab, "loaded").await, (11, 1), "a record was loaded twice");
    verified(lab, keyfall).await
}
