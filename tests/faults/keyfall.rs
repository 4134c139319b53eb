//! The real program as a child process, over all the lives a trial gives it.

use std::fs::OpenOptions;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::control::Control;

/// Longest wait for the program itself; only a failing case waits that long.
pub(crate) const DEADLINE: Duration = Duration::from_secs(90);

/// Number of SIGKILL.
const SIGKILL: i32 = 9;

/// One instance, with its control, its configuration and its log.
pub(crate) struct Keyfall {
    pub(crate) name: String,
    pub(crate) control: Control,
    pub(crate) lives: u32,
    /// Runs the program under this command, such as `prlimit --nofile=40`.
    pub(crate) wrapper: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    /// Its failpoints ask the control.
    pub(crate) is_controlled: bool,
    /// Where it listens, where its log does not say so.
    pub(crate) listen: Option<String>,
    config: PathBuf,
    log: PathBuf,
    /// Where the present life's log begins.
    life_begins: usize,
    child: Option<Child>,
}

impl Keyfall {
    pub(crate) fn new(name: &str, control: Control, config: PathBuf, directory: &Path) -> Self {
        Self {
            name: name.to_owned(),
            control,
            lives: 0,
            wrapper: Vec::new(),
            environment: Vec::new(),
            is_controlled: true,
            listen: None,
            config,
            log: directory.join(format!("{name}.log")),
            life_begins: 0,
            child: None,
        }
    }

    /// Begins a life.
    pub(crate) fn start(&mut self) {
        self.start_with(&["run"]);
    }

    /// Begins a life with another command.
    pub(crate) fn start_with(&mut self, arguments: &[&str]) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log = OpenOptions::new().create(true).append(true).open(&self.log).expect("a log file");
        self.life_begins = self.log().len();
        let program = env!("CARGO_BIN_EXE_keyfall").to_owned();
        let words: Vec<&String> = self.wrapper.iter().chain([&program]).collect();
        let (first, rest) = words.split_first().expect("a program");
        let mut command = Command::new(first);
        command.args(rest).args(arguments).arg("--config").arg(&self.config);
        command.env_remove("RUST_LOG").env_remove("KEYFALL_FAILPOINT_CONTROL");
        if self.is_controlled {
            command.env("KEYFALL_FAILPOINT_CONTROL", self.control.path());
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let errors = log.try_clone().expect("a second handle");
        let child = command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn().expect("the program starts");
        self.child = Some(child);
        self.lives += 1;
    }

    pub(crate) fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// The file it is configured by; a case may rewrite it and send `HUP`.
    pub(crate) fn config(&self) -> &Path {
        &self.config
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap_or_else(|| panic!("{} does not run", self.name)).id()
    }

    /// Sends a signal by its name, such as `STOP`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("sh").arg("-c").arg(format!("kill -{name} {}", self.pid())).status();
        assert!(sent.expect("a shell").success(), "{} is gone: {}", self.name, self.log());
    }

    /// `kill -9` from outside, and waits until the process is gone.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("the process is killed");
        child.wait().expect("the process is gone");
    }

    /// Whether this life has ended by itself, with its exit code as [`Self::ended`] answers it.
    pub(crate) fn has_ended(&mut self) -> Option<i32> {
        let status = self.child.as_mut()?.try_wait().expect("a child")?;
        self.child = None;
        Some(status.code().or_else(|| status.signal().map(|signal| 128 + signal)).expect("an ending"))
    }

    /// Waits for the end and answers the exit code; a signal counts as 128 and its number.
    pub(crate) async fn ended(&mut self) -> i32 {
        let begun = Instant::now();
        loop {
            assert!(self.is_running(), "{} does not run", self.name);
            if let Some(code) = self.has_ended() {
                return code;
            }
            assert!(begun.elapsed() < DEADLINE, "{} still runs: {}", self.name, self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until a failpoint has killed it.
    pub(crate) async fn killed(&mut self) {
        let code = self.ended().await;
        assert_eq!(code, 128 + SIGKILL, "{} ended by itself: {}", self.name, self.log());
    }

    /// Ends in order, within the grace period.
    pub(crate) async fn stop(&mut self) {
        self.signal("TERM");
        let code = self.ended().await;
        assert_eq!(code, 0, "{} did not stop in order: {}", self.name, self.log());
    }

    /// Runs another command of the program with the same configuration; answers its exit code and all it printed.
    pub(crate) async fn errand(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.errand_command(arguments).output().await.expect("the program starts");
        let printed = [output.stdout, output.stderr].concat();
        let code = output.status.code().or_else(|| output.status.signal().map(|signal| 128 + signal));
        (code.expect("an ending"), String::from_utf8_lossy(&printed).into_owned())
    }

    /// The same, not started yet; it is killed when it is dropped.
    pub(crate) fn errand_command(&self, arguments: &[&str]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_keyfall"));
        command.args(arguments).arg("--config").arg(&self.config).env_remove("RUST_LOG").kill_on_drop(true);
        command.stdin(Stdio::null());
        command
    }

    /// Changes the configuration file; the program learns of it at its next start or `HUP`.
    pub(crate) fn rewrite(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(&self.config).expect("a configuration file");
        assert!(text.contains(from), "{from:?} is not in the configuration");
        std::fs::write(&self.config, text.replace(from, to)).expect("a configuration file");
    }

    /// Waits until the log of this life holds a text so often.
    pub(crate) async fn says_times(&self, text: &str, times: usize) {
        let begun = Instant::now();
        while self.log_of_this_life().matches(text).count() < times {
            assert!(begun.elapsed() < DEADLINE, "{} did not say {text:?} {times} times: {}", self.name, self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until a probe gets this status.
    pub(crate) async fn answers(&self, path: &str, status: u16) {
        self.answers_with(path, status, &[]).await;
    }

    /// Waits until a probe gets this status with a body that holds all these texts.
    pub(crate) async fn answers_with(&self, path: &str, status: u16, texts: &[&str]) {
        let begun = Instant::now();
        loop {
            let answer = self.http(path).await;
            match answer {
                Some((code, body)) if code == status && texts.iter().all(|text| body.contains(text)) => return,
                other => assert!(begun.elapsed() < DEADLINE, "{path} answers {other:?}, not {status}: {}", self.log()),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the log of this life holds a text.
    pub(crate) async fn says(&self, text: &str) {
        let begun = Instant::now();
        while !self.log_of_this_life().contains(text) {
            assert!(begun.elapsed() < DEADLINE, "{} never said {text:?}: {}", self.name, self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// All it ever logged.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    pub(crate) fn log_of_this_life(&self) -> String {
        self.log().get(self.life_begins..).unwrap_or_default().to_owned()
    }

    /// Where this life listens.
    pub(crate) fn address(&self) -> Option<String> {
        self.listen.clone().or_else(|| self.told_address())
    }

    fn told_address(&self) -> Option<String> {
        let log = self.log_of_this_life();
        let (_, rest) = log.split_once("serving /livez")?;
        let (_, rest) = rest.split_once("address=").or_else(|| rest.split_once("\"address\":\""))?;
        Some(rest.chars().take_while(|c| c.is_ascii_digit() || ".:".contains(*c)).collect())
    }

    /// GET on its own listener; answers status and body. None where it does not answer.
    pub(crate) async fn http(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(self.address()?).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    /// Sum of a metric over all its series whose labels hold this text.
    pub(crate) async fn metric(&self, name: &str, label: &str) -> Option<f64> {
        let (_, text) = self.http("/metrics").await?;
        let lines = text.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])) && line.contains(label)
        });
        Some(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    /// Peak resident memory of this life in KiB.
    pub(crate) fn peak_memory(&self) -> u64 {
        self.status("VmHWM:")
    }

    /// Resident memory now in KiB.
    pub(crate) fn memory(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// Resident memory in KiB that is not a mapped file: what the kernel cannot take back.
    pub(crate) fn own_memory(&self) -> u64 {
        self.status("RssAnon:")
    }

    fn status(&self, field: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
        line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
    }

    /// Processor time of this life, in steps of 10 ms.
    pub(crate) fn cpu(&self) -> Duration {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        // After the name, which may hold anything: user and system time are the 12th and 13th field.
        let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
        Duration::from_millis(fields.filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * 10)
    }

    /// Open file descriptors.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).map_or(0, Iterator::count)
    }

    /// Its arguments, as everybody on the machine can read them.
    pub(crate) fn command_line(&self) -> String {
        let bytes = std::fs::read(format!("/proc/{}/cmdline", self.pid())).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\0', " ")
    }
}

impl Drop for Keyfall {
    fn drop(&mut self) {
        // A stopped process does not notice; SIGKILL ends it all the same.
        if let Some(child) = &mut self.child
            && child.kill().is_ok()
        {
            drop(child.wait());
        }
    }
}
