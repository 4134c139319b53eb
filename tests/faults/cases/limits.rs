//! F22, F23: too little memory, too few descriptors.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::TcpStream;

use crate::case::{Case, Report, Trial};
use crate::keyfall::Keyfall;
use crate::lab::{Disposal, Lab, Settings};

use super::crash::STREAMED;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("F22", "memory is bounded, and running out of it loses nothing", too_little_memory).alone(),
        Case::new("F23", "no descriptors are left", too_few_descriptors).alone(),
    ]
}

/// What eight workers on large objects may take, all in all.
const ALLOWED: u64 = 150 << 20;

/// A memory cgroup (version 1) of one trial; removed with it.
struct MemoryGroup(PathBuf);

impl MemoryGroup {
    /// None where this machine has none, or does not let us make one.
    fn create(name: &str) -> Option<Self> {
        let folder = Path::new("/sys/fs/cgroup/memory").join(format!("keyfall-{}-{name}", std::process::id()));
        std::fs::create_dir(&folder).ok()?;
        let group = Self(folder);
        group.0.join("memory.limit_in_bytes").exists().then_some(group)
    }

    fn limit(&self, bytes: u64) {
        std::fs::write(self.0.join("memory.limit_in_bytes"), bytes.to_string()).expect("a limit");
        // Where there is swap, it must not stand in.
        drop(std::fs::write(self.0.join("memory.swappiness"), "0"));
    }

    fn largest(&self) -> u64 {
        let text = std::fs::read_to_string(self.0.join("memory.max_usage_in_bytes")).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }

    fn enter(&self, keyfall: &mut Keyfall) {
        let script = format!("echo $$ > {}/cgroup.procs; exec \"$0\" \"$@\"", self.0.display());
        keyfall.wrapper = ["sh", "-c"].map(str::to_owned).into_iter().chain([script]).collect();
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // A group whose process has just been killed may be busy for a moment; an empty folder harms nobody.
        for _ in 0..50 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

async fn too_little_memory(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    let Some(enough) = MemoryGroup::create("enough") else {
        return Report { hits: Vec::new(), note: "SKIPPED: no memory cgroup (version 1) can be made here".to_owned() };
    };
    // Both before the program, so that they are removed after it, whatever happens.
    let scarce = MemoryGroup::create("scarce").expect("a second group");
    let mut settings = Settings::new(Disposal::Delete);
    "max = 8\ngroup_objects = 1".clone_into(&mut settings.workers);
    let mut keyfall = lab.keyfall("a", &settings);
    enough.limit(ALLOWED);
    enough.enter(&mut keyfall);
    keyfall.start();
    keyfall.says("started").await;
    let idle = keyfall.own_memory();
    lab.put(0..8, 2 * STREAMED);
    // What the kernel cannot take back: the highest that was seen while it loaded.
    let mut busy = idle;
    while lab.count("SELECT count(*) FROM keyfall.objects WHERE state = 'loaded'").await < 8 {
        busy = busy.max(keyfall.own_memory());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (peak, charged) = (keyfall.peak_memory(), enough.largest());
    assert!(charged <= ALLOWED, "{charged} bytes");
    assert!(peak * 1024 < ALLOWED, "{peak} KiB were resident with eight workers");
    keyfall.stop().await;

    // Less than the load takes, and enough to start: the kernel kills it in the middle of its work.
    let limit = (idle + (busy - idle) / 4) * 1024;
    scarce.limit(limit);
    scarce.enter(&mut keyfall);
    lab.put(8..16, 2 * STREAMED);
    keyfall.start();
    keyfall.killed().await;
    let loaded = lab.count("SELECT coalesce(sum(rows_loaded), 0)::bigint FROM keyfall.objects").await;
    assert_eq!(
        lab.count("SELECT count(*) FROM items").await,
        loaded,
        "rows of a load that never committed are visible"
    );
    keyfall.wrapper.clear();
    keyfall.start();
    let mut report = lab.verify(&mut [&mut keyfall]).await;
    let mib = |bytes: u64| bytes >> 20;
    report.note = format!(
        "peak {} MiB of {} allowed; of its own {} MiB idle and {} MiB busy, killed at {} MiB",
        peak >> 10,
        mib(ALLOWED),
        idle >> 10,
        busy >> 10,
        mib(limit)
    );
    report
}

async fn too_few_descriptors(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    let mut settings = Settings::new(Disposal::Delete);
    "max = 4\ngroup_objects = 1".clone_into(&mut settings.workers);
    let mut keyfall = lab.keyfall("a", &settings);
    keyfall.wrapper = ["prlimit", "--nofile=40"].map(str::to_owned).to_vec();
    // Asking takes a descriptor as well, and a program that cannot ask dies.
    keyfall.is_controlled = false;
    keyfall.start();
    keyfall.says("started").await;
    lab.put(0..2, 5);
    lab.until_state("loaded", 2).await;
    // Idle clients take what is left.
    let address = keyfall.address().expect("it serves");
    let mut idle = Vec::new();
    for _ in 0..60 {
        idle.push(TcpStream::connect(&address).await.expect("the kernel takes connections"));
    }
    keyfall.says("accept failed").await;
    lab.put(2..20, 2000);
    let (cpu, said) = (keyfall.cpu(), keyfall.log().lines().count());
    // Not a wait for a state: how much it does in a time is what is looked at.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let (cpu, said) = (keyfall.cpu().saturating_sub(cpu), keyfall.log().lines().count() - said);
    assert!(keyfall.has_ended().is_none(), "it ended: {}", keyfall.log());
    assert!(cpu < Duration::from_secs(2), "{cpu:?} of processor time in four seconds without descriptors");
    assert!(said < 200, "{said} lines in four seconds without descriptors");
    drop(idle);
    lab.until_state("loaded", 20).await;
    assert_eq!(keyfall.lives, 1);
    let mut report = lab.verify(&mut [&mut keyfall]).await;
    report.note = format!("{} ms of processor time and {said} lines in 4 s without descriptors", cpu.as_millis());
    report
}
