//! What a stranger does: kills commands at random, retries what is being loaded, pauses in the middle.

use std::process::Stdio;
use std::time::Duration;

use ::keyfall::demo::s3::{Gate, Operation};

use crate::case::{Case, Report, Trial};
use crate::control::Strike;
use crate::keyfall::Keyfall;
use crate::lab::{Disposal, Lab, Settings, key, within};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("O-kill", "retry, skip and sweep killed at random beside a daemon", commands_killed),
        Case::new("O-leased", "retry and skip of an object that is being loaded", retried_while_loading),
        Case::new("O-pause", "pause in the middle of a load", paused_while_loading),
    ]
}

async fn commands_killed(trial: Trial) -> Report {
    const OBJECTS: usize = 200;
    let mut random = trial.random("kills");
    let mut lab = Lab::start(&trial).await;
    lab.put(0..OBJECTS, 3);
    let settings = Settings {
        feed: "limits.max_fields = 3".to_owned(),
        workers: "max = 1\ngroup_objects = 2".to_owned(),
        ..Settings::new(Disposal::Delete)
    };
    let mut keyfall = lab.keyfall("a", &settings);
    keyfall.start();
    lab.until_state("quarantined", 200).await;
    keyfall.stop().await;
    keyfall.rewrite("limits.max_fields = 3", "limits.max_fields = 4");
    keyfall.start();
    let commands: [&[&str]; 5] = [
        &["retry", "--all", "--yes"],
        &["skip", "--yes", "--state", "pending"],
        &["sweep"],
        &["retry", "--yes", "--state", "skipped"],
        &["skip", "--all", "--yes"],
    ];
    let (mut killed, mut ended) = (0, 0);
    for arguments in commands.into_iter().cycle().take(20) {
        let mut child = keyfall
            .errand_command(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        let moment = Duration::from_millis(random.u64(0..100));
        match tokio::time::timeout(moment, child.wait()).await {
            Ok(status) => {
                let status = status.expect("an ending");
                assert_eq!(status.code(), Some(0), "{arguments:?}");
                ended += 1;
            }
            Err(_still_running) => {
                child.kill().await.expect("it is killed");
                killed += 1;
            }
        }
    }
    assert!(killed > 0, "nobody was killed");
    for arguments in [&["retry", "--yes", "--state", "skipped"][..], &["retry", "--all", "--yes"], &["sweep"]] {
        let (code, told) = keyfall.errand(arguments).await;
        assert_eq!(code, 0, "{told}");
    }
    Report { note: format!("{killed} killed, {ended} ended first"), ..lab.verify(&mut [&mut keyfall]).await }
}

/// A program with one object in an open transaction.
async fn loading(lab: &mut Lab, point: &str) -> (Keyfall, Gate) {
    lab.put(0..1, 1000);
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Delete));
    let gate = Gate::new();
    let held = keyfall.control.arm(point, 1, Strike::Hold(gate.clone()));
    lab.expect_hits(&format!("{point} hold"), &held, 1);
    keyfall.start();
    within("a load is open", gate.reached()).await;
    (keyfall, gate)
}

async fn retried_while_loading(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    let (mut keyfall, gate) = loading(&mut lab, "copy.finished").await;
    let id = lab.count("SELECT id FROM keyfall.objects").await.to_string();
    let state = "SELECT concat_ws(' ', state, attempt, lease_token) FROM keyfall.objects";
    let before: String = lab.query(state).await.first().expect("an object").get(0);
    for action in ["retry", "skip"] {
        let (code, told) = keyfall.errand(&[action, "--id", &id]).await;
        assert!(code == 1 && told.contains("being loaded"), "{action}: {code}: {told}");
        let (code, told) = keyfall.errand(&[action, "--state", "leased"]).await;
        assert_eq!(code, 2, "{action}: {told}");
        let after: String = lab.query(state).await.first().expect("an object").get(0);
        assert_eq!(after, before, "{action} touched an object that is being loaded");
    }
    gate.open();
    lab.until_state("loaded", 1).await;
    for action in ["retry", "skip"] {
        let (code, told) = keyfall.errand(&[action, "--id", &id]).await;
        assert!(code == 1 && told.contains("loaded"), "{action}: {code}: {told}");
    }
    assert_eq!(lab.requests(Operation::GetObject, &key(0)), [200]);
    lab.verify(&mut [&mut keyfall]).await
}

async fn paused_while_loading(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    let (mut keyfall, gate) = loading(&mut lab, "copy.begun").await;
    let (code, told) = keyfall.errand(&["pause", "items", "--reason", "maintenance"]).await;
    assert_eq!(code, 0, "{told}");
    lab.put(1..4, 3);
    lab.until_state("pending", 3).await;
    gate.open();
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE state = 'loaded' AND disposal = 'done'", 1).await;
    // Several looks of the dispatcher, each of which could lease.
    let renewals = keyfall.control.hits("lease.renewed") + 2;
    within("time passes", keyfall.control.reached("lease.renewed", renewals)).await;
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects WHERE state = 'pending' AND attempt = 0").await, 3);
    keyfall.answers("/readyz", 200).await;
    let (code, told) = keyfall.errand(&["resume", "items"]).await;
    assert_eq!(code, 0, "{told}");
    lab.verify(&mut [&mut keyfall]).await
}
