//! F89–F91, F93, F96, F97: names, partitions, silence, slow disks, clocks that S3 refuses, credentials that do not come.

use std::time::Duration;

use ::keyfall::demo::proxy::{Fault, Flow};
use ::keyfall::demo::s3::{Action, FaultRule, Gate, Operation};
use tokio::net::TcpListener;

use crate::case::{Case, Report, Trial};
use crate::cases::local::{NO_NAMESPACE, has_namespaces};
use crate::control::Strike;
use crate::lab::{Disposal, Lab, Settings, within};

mod credentials;

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::new("F89", "names of database and S3 do not resolve, at start and later", names_do_not_resolve),
        Case::new("F90", "everything is cut off for a while, in the middle of a load", partitioned),
        Case::new("F91-postgres", "PostgreSQL accepts and never answers, at start", silent_postgres),
        Case::new("F91-s3", "S3 accepts and never answers", silent_s3),
        Case::new("F93", "S3 says that our clock is wrong", skewed),
        Case::new("F96", "slow WAL and one checkpoint after another", slow_wal),
    ];
    cases.extend(credentials::cases());
    cases
}

/// Short deadlines, so that silence is found out within the case.
fn impatient() -> Settings {
    Settings {
        database: "connect_timeout = \"1s\"\nstatement_timeout = \"1s\"\ncopy_stall_timeout = \"2s\"".to_owned(),
        s3: "connect_timeout = \"1s\"\nread_timeout = \"1s\"\nmax_attempts = 1".to_owned(),
        ..Settings::new(Disposal::Delete)
    }
}

async fn names_do_not_resolve(trial: Trial) -> Report {
    if !has_namespaces() {
        return Report::not_run(NO_NAMESPACE);
    }
    let mut lab = Lab::start(&trial).await;
    lab.put(0..5, 3);
    let mut keyfall = lab.keyfall("a", &impatient().through_proxy());
    keyfall.rewrite("@127.0.0.1:", "@db.test:");
    keyfall.rewrite("http://127.0.0.1:", "http://s3.test:");
    let (hosts, resolver) = (lab.directory().join("hosts"), lab.directory().join("resolv.conf"));
    std::fs::write(&hosts, "127.0.0.1 localhost\n").expect("a file");
    std::fs::write(&resolver, "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n").expect("a file");
    let script = format!(
        "mount --bind {} /etc/hosts && mount --bind {} /etc/resolv.conf && exec \"$@\"",
        hosts.display(),
        resolver.display()
    );
    keyfall.wrapper = ["unshare", "-m", "sh", "-c", &script, "sh"].map(str::to_owned).to_vec();
    let resolve = |names: &str| std::fs::write(&hosts, format!("127.0.0.1 localhost {names}\n")).expect("a file");
    keyfall.start();
    keyfall.says_times("waiting for PostgreSQL", 2).await;
    assert_eq!(lab.proxy.accepted(), 0);
    resolve("db.test");
    keyfall.says("the bucket cannot be listed").await;
    keyfall.answers("/readyz", 503).await;
    resolve("db.test s3.test");
    lab.until_state("loaded", 5).await;
    resolve("");
    lab.proxy.reset_all();
    lab.put(5..10, 3);
    keyfall.says("cannot be asked").await;
    keyfall.answers("/readyz", 503).await;
    resolve("db.test s3.test");
    assert!(keyfall.log().contains("lookup"), "the error says what failed: {}", keyfall.log());
    lab.verify(&mut [&mut keyfall]).await
}

async fn partitioned(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..1, 30_000);
    lab.put(1..20, 3);
    let mut keyfall = lab.keyfall("a", &impatient().through_proxy());
    let (copying, never) = (Gate::new(), Gate::new());
    let held = keyfall.control.arm("copy.frame", 3, Strike::Hold(copying.clone()));
    lab.expect_hits("copy.frame hold", &held, 1);
    keyfall.start();
    within("a load is in COPY", copying.reached()).await;
    lab.proxy.set_flow(Flow::Blackhole);
    for op in [
        Operation::ListObjects,
        Operation::GetObject,
        Operation::HeadObject,
        Operation::CopyObject,
        Operation::DeleteObjects,
    ] {
        lab.s3.inject(FaultRule::on(op, Action::Hold(never.clone())));
    }
    copying.open();
    lab.put(20..40, 3);
    keyfall.says_times("the ledger cannot be asked", 3).await;
    keyfall.answers("/readyz", 503).await;
    keyfall.answers("/livez", 200).await;
    assert!(lab.proxy.hits(Fault::Blackhole) > 0 && keyfall.is_running());
    lab.verify(&mut [&mut keyfall]).await
}

async fn silent_postgres(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..5, 3);
    lab.proxy.set_flow(Flow::Blackhole);
    let settings = impatient().through_proxy();
    let (mut plain, mut tls) = (lab.keyfall("plain", &settings), lab.keyfall("tls", &settings));
    tls.rewrite(&format!("/{}\"", lab.database), &format!("/{}?sslmode=require\"", lab.database));
    plain.start();
    tls.start();
    for program in [&plain, &tls] {
        program.says_times("waiting for PostgreSQL", 2).await;
        program.answers("/readyz", 503).await;
    }
    assert!(plain.log().contains("gave no answer to a login within 1 s"), "{}", plain.log());
    let (code, told) = plain.errand(&["check"]).await;
    assert_eq!(code, 11, "{told}");
    let (code, told) = plain.errand(&["migrate"]).await;
    assert_eq!(code, 11, "{told}");
    // A signal while it waits ends it in order.
    tls.signal("TERM");
    assert_eq!(tls.ended().await, 0, "{}", tls.log());
    assert!(lab.proxy.hits(Fault::Blackhole) > 0);
    lab.proxy.set_flow(Flow::Pass);
    plain.says("started").await;
    // Once more, now with connections in the pools.
    lab.until_state("loaded", 5).await;
    lab.proxy.set_flow(Flow::Blackhole);
    plain.says("the ledger cannot be asked").await;
    lab.put(5..10, 3);
    lab.proxy.set_flow(Flow::Pass);
    lab.verify(&mut [&mut plain, &mut tls]).await
}

async fn silent_s3(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..5, 3);
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let silent = silent.local_addr().expect("an address");
    let never = Gate::new();
    let listed = lab.s3.inject(FaultRule::on(Operation::ListObjects, Action::Hold(never.clone())));
    lab.expect_s3_any("LIST hold", &listed);
    let (mut plain, mut tls) = (lab.keyfall("plain", &impatient()), lab.keyfall("tls", &impatient()));
    tls.rewrite(&lab.s3.endpoint(), &format!("https://{silent}"));
    plain.start();
    tls.start();
    for program in [&plain, &tls] {
        program.says_times("the bucket cannot be listed", 2).await;
        program.answers("/readyz", 503).await;
    }
    let (code, told) = tls.errand(&["check"]).await;
    assert_eq!(code, 10, "{told}");
    tls.stop().await;
    lab.s3.heal();
    let read = lab.s3.inject(FaultRule::on(Operation::GetObject, Action::Hold(never.clone())));
    lab.expect_s3_any("GET hold", &read);
    plain.says("object not loaded").await;
    let blamed = "SELECT count(*) FROM keyfall.objects WHERE suspicions > 0 OR state = 'quarantined'";
    assert_eq!(lab.count(blamed).await, 0);
    lab.verify(&mut [&mut plain, &mut tls]).await
}

async fn skewed(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..5, 3);
    let refuse = |op| FaultRule::on(op, Action::Status(403, "RequestTimeTooSkewed"));
    let read = lab.s3.inject(refuse(Operation::GetObject));
    let mut keyfall = lab.keyfall("a", &Settings { workers: "max_attempts = 2".to_owned(), ..impatient() });
    keyfall.start();
    keyfall.says_times("feed paused", 3).await;
    let listed = lab.s3.inject(refuse(Operation::ListObjects));
    keyfall.says("the bucket cannot be listed").await;
    lab.expect_s3_any("GET refused", &read);
    lab.expect_s3_any("LIST refused", &listed);
    keyfall.answers_with("/readyz?verbose", 503, &["RequestTimeTooSkewed", "clock"]).await;
    let blamed = "SELECT count(*) FROM keyfall.objects WHERE suspicions > 0 OR state = 'quarantined'";
    assert_eq!(lab.count(blamed).await, 0, "a wrong clock is not the objects' fault");
    lab.verify(&mut [&mut keyfall]).await
}

async fn slow_wal(trial: Trial) -> Report {
    let slow = [
        ("fsync", "on"),
        ("commit_delay", "100000"),
        ("commit_siblings", "0"),
        ("full_page_writes", "on"),
        ("max_wal_size", "32MB"),
        ("wal_buffers", "64kB"),
        ("checkpoint_completion_target", "0"),
    ];
    let mut lab = Lab::with_own_server(&trial, &slow).await;
    lab.put(0..2, 30_000);
    lab.put(2..30, 20);
    let settings = Settings { workers: "group_objects = 4".to_owned(), ..Settings::new(Disposal::Delete) };
    let mut keyfall = lab.keyfall("a", &settings);
    keyfall.start();
    keyfall.says("started").await;
    let client = lab.client().await;
    let mut checkpoints = 0;
    while lab.count("SELECT count(*) FROM keyfall.objects WHERE disposal = 'done'").await < 30 {
        client.batch_execute("CHECKPOINT").await.expect("a checkpoint");
        checkpoints += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(checkpoints > 0, "{checkpoints} checkpoints");
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects WHERE attempt <> 1").await, 0, "slowness is no failure");
    for trouble in ["object not loaded", "could not be renewed", "cannot be"] {
        assert!(!keyfall.log().contains(trouble), "{}", keyfall.log());
    }
    Report { note: format!("{checkpoints} checkpoints"), ..lab.verify(&mut [&mut keyfall]).await }
}
