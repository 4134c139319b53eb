//! A child process and what it cost: wall time, CPU seconds, peak resident memory.
//!
//! Read from /proc while it runs and once more between its end and its burial, when the CPU times are final. The peak
//! is the kernel's own high-water mark; a child that ends within the last look may have raised it unseen, by little.

use std::fs;
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// Between two looks. It bounds the error of the wall time.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// Linux counts CPU time in hundredths of a second wherever programs can see it.
const TICKS_PER_SECOND: f64 = 100.0;

/// What a process cost.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    /// Seconds from its start to its end.
    pub(crate) wall: f64,
    /// CPU seconds in user and system mode.
    pub(crate) cpu: f64,
    /// Highest resident memory in MiB.
    pub(crate) rss: f64,
}

/// Runs a command to its end.
pub(crate) fn cost_of(command: &mut Command) -> anyhow::Result<Cost> {
    let (cost, status) = observe(command)?;
    if !status.success() {
        bail!("{} ended with {status}", command.get_program().display());
    }
    Ok(cost)
}

/// The same, whatever the exit code.
pub(crate) fn observe(command: &mut Command) -> anyhow::Result<(Cost, ExitStatus)> {
    let begun = Instant::now();
    let mut child = command.spawn().with_context(|| format!("start {}", command.get_program().display()))?;
    let cost = watch(&child, begun);
    Ok((cost, child.wait()?))
}

/// A process that runs beside us until it is told to stop.
pub(crate) struct Running(Child);

impl Running {
    /// Starts it.
    pub(crate) fn start(command: &mut Command) -> anyhow::Result<Self> {
        Ok(Self(command.spawn().with_context(|| format!("start {}", command.get_program().display()))?))
    }

    /// CPU time so far and highest resident memory.
    pub(crate) fn cost(&self) -> Cost {
        let mut cost = Cost::default();
        look(&format!("/proc/{}", self.0.id()), &mut cost);
        cost
    }

    /// Ends it in order.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        let told = Command::new("kill").arg(self.0.id().to_string()).status().context("start kill")?;
        let status = self.0.wait()?;
        if !told.success() || !status.success() {
            bail!("a process that was told to stop ended with {status}");
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Ended already, unless a benchmark failed half-way.
        if matches!(self.0.try_wait(), Ok(None)) && self.0.kill().is_ok() {
            drop(self.0.wait());
        }
    }
}

/// Watches several at once, from the first start to the last end.
pub(crate) fn cost_of_all(commands: &mut [Command]) -> anyhow::Result<f64> {
    let begun = Instant::now();
    let children: Result<Vec<Child>, _> = commands.iter_mut().map(Command::spawn).collect();
    for mut child in children? {
        let status = child.wait()?;
        if !status.success() {
            bail!("a process ended with {status}");
        }
    }
    Ok(begun.elapsed().as_secs_f64())
}

fn watch(child: &Child, begun: Instant) -> Cost {
    let directory = format!("/proc/{}", child.id());
    let mut cost = Cost::default();
    loop {
        let ended = look(&directory, &mut cost);
        cost.wall = begun.elapsed().as_secs_f64();
        if ended {
            return cost;
        }
        thread::sleep(LOOK_INTERVAL);
    }
}

/// Answers whether the process has ended.
fn look(directory: &str, cost: &mut Cost) -> bool {
    let Ok(stat) = fs::read_to_string(format!("{directory}/stat")) else { return true };
    // The name in parentheses may hold anything; the fields behind it are numbers, beginning with the state.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or_default();
    cost.cpu = (ticks(11) + ticks(12)) / TICKS_PER_SECOND;
    let status = fs::read_to_string(format!("{directory}/status")).unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    if let Some(kib) = peak.and_then(|peak| peak.trim().trim_end_matches(" kB").parse::<f64>().ok()) {
        cost.rss = kib / 1024.0;
    }
    matches!(fields.first(), Some(&"Z" | &"X"))
}
