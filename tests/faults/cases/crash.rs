//! F01–F24: the process dies, freezes, panics or hangs at a step of an object's life.

use ::keyfall::demo::s3::{Gate, Operation};

use crate::case::{Case, Report, Trial};
use crate::control::Strike;
use crate::lab::{Disposal, Lab, Settings, key, within};

/// Enough rows for several COPY frames.
const STREAMED: u64 = 30_000;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("F04", "killed in the middle of COPY", killed_in_the_middle_of_copy).first_wave(),
        Case::new("F07", "killed after COMMIT, before anybody looked", killed_after_commit).first_wave(),
        Case::new("F20", "frozen in the middle of COPY for two leases", frozen_in_the_middle_of_copy).first_wave(),
    ]
}

async fn killed_in_the_middle_of_copy(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..1, STREAMED);
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Delete));
    let armed = keyfall.control.arm("copy.frame", 3, Strike::Kill);
    lab.expect_hits("copy.frame kill", &armed, 1);
    keyfall.start();
    keyfall.killed().await;
    assert_eq!(lab.count("SELECT count(*) FROM items").await, 0, "rows of a load that never committed are visible");
    lab.until_count(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'COPY%'",
        0,
    )
    .await;
    keyfall.start();
    lab.verify(&mut [&mut keyfall]).await
}

async fn killed_after_commit(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..1, STREAMED);
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Archive));
    let armed = keyfall.control.arm("commit.committed", 1, Strike::Kill);
    lab.expect_hits("commit.committed kill", &armed, 1);
    keyfall.start();
    keyfall.killed().await;
    assert_eq!(lab.count("SELECT count(*) FROM items").await, 30_000);
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects WHERE state = 'loaded'").await, 1);
    keyfall.start();
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE disposal = 'done'", 1).await;
    assert_eq!(lab.requests(Operation::GetObject, &key(0)), [200], "a loaded object was read again");
    lab.verify(&mut [&mut keyfall]).await
}

async fn frozen_in_the_middle_of_copy(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..1, STREAMED);
    let settings = Settings::new(Disposal::Delete);
    let mut frozen = lab.keyfall("frozen", &settings);
    let gate = Gate::new();
    let held = frozen.control.arm("copy.frame", 3, Strike::Hold(gate.clone()));
    lab.expect_hits("copy.frame hold", &held, 1);
    frozen.start();
    within("the first owner copies", gate.reached()).await;
    frozen.signal("STOP");
    let mut quick = lab.keyfall("quick", &settings);
    quick.start();
    // The frozen owner's transaction is open all the time.
    lab.until_state("loaded", 1).await;
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects WHERE lease_owner = 'quick'").await, 1);
    gate.open();
    frozen.signal("CONT");
    frozen.says("lease lost").await;
    lab.verify(&mut [&mut frozen, &mut quick]).await
}
