//! F92, F94, F95: the machine keyfall runs on: its clock, its disk, and whoever reads its logs.

use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;

use ::keyfall::demo::s3::Gate;

use crate::case::{Case, Report, Trial};
use crate::control::Strike;
use crate::lab::{Disposal, Lab, Settings, within};

/// What stands in place of a result where mount namespaces are not permitted.
pub(crate) const NO_NAMESPACE: &str = "needs root for `unshare -m`";

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("F92", "the wall clock jumps, stands still, changes its zone", clock_jumps),
        Case::new("F94", "no HOME, everything read-only, the folder for temporary files full", no_local_state),
        Case::new("F95", "nobody reads the logs, and the pipe is full", nobody_reads_the_logs),
    ]
}

/// Whether a command may have mounts of its own.
pub(crate) fn has_namespaces() -> bool {
    Command::new("unshare").args(["-m", "true"]).status().is_ok_and(|status| status.success())
}

/// The library that changes what a program takes for the time.
fn faketime() -> Option<String> {
    let found = std::fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path().join("faketime"));
    let mut folders = found.chain(["/usr/lib/faketime".into(), "/usr/lib64/faketime".into()]);
    folders.find_map(|folder| {
        let library = folder.join("libfaketime.so.1");
        library.exists().then(|| library.display().to_string())
    })
}

async fn clock_jumps(trial: Trial) -> Report {
    let Some(library) = faketime() else {
        return Report::not_run("`scripts/setup.sh faults` installs faketime");
    };
    let mut lab = Lab::start(&trial).await;
    lab.put(0..1, 1000);
    let more = "[telemetry]\nlog = \"info,keyfall=debug\"\n".to_owned();
    let mut odd = lab.keyfall("odd", &Settings { more, ..Settings::new(Disposal::Delete) });
    let clock = lab.directory().join("clock");
    let set = |time: &str| std::fs::write(&clock, format!("{time}\n")).expect("a file");
    set("+0");
    let path = clock.display().to_string();
    for (name, value) in [
        ("LD_PRELOAD", library.as_str()),
        ("FAKETIME_TIMESTAMP_FILE", &path),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("TZ", "Pacific/Apia"),
    ] {
        odd.environment.push((name.to_owned(), value.to_owned()));
    }
    let gate = Gate::new();
    let held = odd.control.arm("copy.begun", 1, Strike::Hold(gate.clone()));
    lab.expect_hits("copy.begun hold", &held, 1);
    odd.start();
    within("the odd one loads", gate.reached()).await;
    let mut other = lab.keyfall("other", &Settings::new(Disposal::Delete));
    other.start();
    // Together for longer than a lease lasts.
    let mut number = 1;
    for time in ["+2d", "-1h", "2024-12-24 20:30:00"] {
        set(time);
        lab.put(number..number + 3, 3);
        number += 3;
        let renewals = odd.control.hits("lease.renewed") + 2;
        within("renewals", odd.control.reached("lease.renewed", renewals)).await;
        lab.until_state("loaded", i64::try_from(number).expect("few") - 1).await;
    }
    let kept = "SELECT count(*) FROM keyfall.objects WHERE state = 'leased' AND lease_owner = 'odd' AND attempt = 1";
    assert_eq!(lab.count(kept).await, 1, "a lease was taken away because of somebody's clock");
    other.stop().await;
    // Alone with a clock that stands still, then with one that is right again.
    gate.open();
    lab.put(number..number + 3, 3);
    odd.says("\"timestamp\":\"2024-12-24T").await;
    lab.until_state("loaded", i64::try_from(number).expect("few") + 3).await;
    set("+0");
    lab.put(number + 3..number + 6, 3);
    lab.verify(&mut [&mut odd, &mut other]).await
}

async fn no_local_state(trial: Trial) -> Report {
    if !has_namespaces() {
        return Report::not_run(NO_NAMESPACE);
    }
    let mut lab = Lab::start(&trial).await;
    lab.put(0..1, 30_000);
    lab.put(1..10, 3);
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Archive));
    let full = lab.directory().join("full");
    std::fs::create_dir(&full).expect("a folder");
    let script = format!(
        "mount -t tmpfs -o size=4k tmpfs {full} && cd {full} && {{ yes >fill 2>/dev/null || test -s fill; }} && \
         mount -o remount,bind,ro / && ! touch /tmp/x 2>/dev/null && ! touch {full}/y 2>/dev/null; \
         exec env -u HOME -u XDG_CONFIG_HOME TMPDIR={full} \"$@\"",
        full = full.display()
    );
    keyfall.wrapper = ["unshare", "-m", "sh", "-ec", &script, "sh"].map(str::to_owned).to_vec();
    keyfall.start();
    lab.until_count("SELECT count(*) FROM keyfall.objects WHERE disposal = 'done'", 10).await;
    let folder = std::fs::read_link(format!("/proc/{}/cwd", keyfall.pid())).expect("a process");
    assert_eq!(folder, full);
    let mounts = std::fs::read_to_string(format!("/proc/{}/mounts", keyfall.pid())).expect("a process");
    let root = mounts.lines().rev().find(|line| line.split(' ').nth(1) == Some("/")).unwrap_or_default();
    assert!(root.contains(" ro,"), "{mounts}");
    lab.verify(&mut [&mut keyfall]).await
}

/// A pipe that is full to its last byte. Whoever writes to it waits until somebody reads.
fn full_pipe(path: &Path) -> std::fs::File {
    let made = Command::new("mkfifo").arg(path).status();
    assert!(made.expect("mkfifo").success());
    let mut pipe = std::fs::OpenOptions::new().read(true).write(true).open(path).expect("a pipe");
    pipe.write_all(&vec![b'x'; 65536]).expect("the pipe takes as much as it holds");
    pipe
}

async fn nobody_reads_the_logs(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..5, 1);
    let more = "[telemetry]\nlog = \"info,keyfall=debug\"\n".to_owned();
    let mut keyfall = lab.keyfall("a", &Settings { more, ..Settings::new(Disposal::Delete) });
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    keyfall.rewrite("listen = \"127.0.0.1:0\"", &format!("listen = \"127.0.0.1:{port}\""));
    keyfall.listen = Some(format!("127.0.0.1:{port}"));
    let path = lab.directory().join("pipe");
    let mut pipe = full_pipe(&path);
    let script = format!("exec \"$@\" >{0} 2>{0}", path.display());
    keyfall.wrapper = ["sh", "-c", &script, "sh"].map(str::to_owned).to_vec();
    keyfall.start();
    lab.until_state("loaded", 5).await;
    keyfall.answers("/readyz", 200).await;
    // The end of the process does not wait for a reader either.
    keyfall.stop().await;
    lab.put(5..1500, 1);
    keyfall.start();
    lab.until_state("loaded", 1500).await;
    let dropped = keyfall.metric("keyfall_log_lines_dropped_total", "").await.expect("a metric");
    assert!(dropped > 0.0, "nothing was dropped: there was room for all lines");
    // Somebody reads again: what was queued arrives, and how much is missing.
    let (tell, told) = tokio::sync::oneshot::channel();
    let mut tell = Some(tell);
    std::thread::spawn(move || {
        let (mut text, mut chunk): (Vec<u8>, _) = (Vec::new(), [0; 4096]);
        // Ends with the test: it holds the other end itself.
        while let Ok(read) = pipe.read(&mut chunk) {
            text.extend(chunk.iter().take(read));
            if text.windows(22).any(|window| window == b"log lines were dropped")
                && let Some(tell) = tell.take()
            {
                tell.send(()).expect("the case waits");
            }
        }
    });
    within("the gap is told", told).await.expect("the reader lives");
    Report { note: format!("{dropped} lines dropped"), ..lab.verify(&mut [&mut keyfall]).await }
}
