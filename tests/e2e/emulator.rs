//! A foreign S3 and SQS as a child process on a free port; it ends with the value, and also when the test is killed.

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::net::TcpStream;

/// Longest wait for an emulator; a loaded machine imports its Python slowly.
const START_DEADLINE: Duration = Duration::from_mins(2);

/// Which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    LocalStack,
    Moto,
}

impl Kind {
    pub(crate) const ALL: [Self; 2] = [Self::LocalStack, Self::Moto];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::LocalStack => "localstack",
            Self::Moto => "moto",
        }
    }
}

/// A running emulator.
pub(crate) struct Emulator {
    pub(crate) kind: Kind,
    pub(crate) endpoint: String,
    /// Has boto3.
    pub(crate) python: PathBuf,
    child: Child,
    directory: TempDir,
}

impl Emulator {
    pub(crate) async fn start(kind: Kind) -> Self {
        let home = std::env::var_os("KEYFALL_E2E_HOME").map_or_else(default_home, PathBuf::from).join(kind.name());
        let python = home.join("bin/python");
        assert!(python.exists(), "{} is not installed in {}; `make e2e` does that", kind.name(), home.display());
        let directory = tempfile::tempdir().expect("a directory");
        let port = free_port();
        let address = format!("127.0.0.1:{port}");
        let log = std::fs::File::create(directory.path().join("log")).expect("a log file");
        // The kernel ends it with us, whatever ends us.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(&python).process_group(0).current_dir(directory.path());
        command.env_remove("PYTHONDONTWRITEBYTECODE").env_remove("AWS_CA_BUNDLE").stdin(Stdio::null());
        command.stderr(log.try_clone().expect("a second handle")).stdout(log);
        match kind {
            Kind::LocalStack => {
                let settings = [
                    ("GATEWAY_LISTEN", address.as_str()),
                    ("LOCALSTACK_HOST", &address),
                    ("SQS_ENDPOINT_STRATEGY", "path"),
                    ("SERVICES", "s3,sqs,sns,events,iam,sts"),
                    // Nothing is reported, fetched or resolved outside.
                    ("DISABLE_EVENTS", "1"),
                    ("SKIP_SSL_CERT_DOWNLOAD", "1"),
                    ("DNS_ADDRESS", "0"),
                ];
                command.envs(settings).env("HOME", directory.path());
                command.env("FILESYSTEM_ROOT", directory.path().join("fs")).env("PATH", path_with(&home));
                command.args(["-m", "localstack.runtime.main"]);
            }
            Kind::Moto => {
                command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p"]).arg(port.to_string());
            }
        }
        let child = command.spawn().expect("util-linux's setpriv starts it");
        let mut emulator = Self { kind, endpoint: format!("http://{address}"), python, child, directory };
        emulator.answers(&address).await;
        emulator
    }

    async fn answers(&mut self, address: &str) {
        let begun = Instant::now();
        while TcpStream::connect(address).await.is_err() {
            let ended = self.child.try_wait().expect("a child");
            assert!(ended.is_none() && begun.elapsed() < START_DEADLINE, "{} {ended:?}: {}", self.endpoint, self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let group = rustix::process::Pid::from_child(&self.child);
        let killed = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let waited = self.child.wait();
        drop((killed, waited));
    }
}

fn default_home() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").expect("a home")).join(".cache"));
    cache.join("keyfall-e2e")
}

fn path_with(home: &std::path::Path) -> std::ffi::OsString {
    let known = std::env::var_os("PATH").unwrap_or_default();
    let all = std::iter::once(home.join("bin")).chain(std::env::split_paths(&known));
    std::env::join_paths(all).expect("a search path")
}

/// Another process may take it before the emulator does; then the emulator ends, and the test says so.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}
