//! A throwaway PostgreSQL cluster on this machine's own binaries.
//!
//! It listens on 127.0.0.1 and on a socket in its own directory, trusts every login, and skips `fsync` unless told
//! otherwise. Server and directory go away with the value, and also with the process when that is killed: a small
//! shell holds the other end of a pipe, and the server gets a parent-death signal on top.
//! It is deliberately no deployment helper: nothing here keeps data or secures access.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context, bail, ensure};
use tokio_postgres::NoTls;

/// How long a server may take to accept connections: crash recovery of a test database takes well under a second,
/// a loaded machine some seconds.
const START_DEADLINE: Duration = Duration::from_mins(1);

/// Another process may take a free port between our probe and the server's bind; so many ports are tried.
const PORT_ATTEMPTS: usize = 5;

/// Longest socket directory that leaves room for `/.s.PGSQL.65535` in the 107 bytes of a socket address.
const LONGEST_SOCKET_DIRECTORY: usize = 88;

const WATCHDOG: &str = include_str!("watchdog.sh");

/// The settings every throwaway cluster starts with; the caller's own come after and win.
const SETTINGS: &[(&str, &str)] = &[
    ("listen_addresses", "127.0.0.1"),
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("max_connections", "200"),
    ("shared_buffers", "128MB"),
    ("max_wal_size", "4GB"),
    ("logging_collector", "off"),
    ("log_destination", "stderr"),
];

/// A running (or stopped, see [`Self::stop_immediate`]) cluster.
#[derive(Debug)]
pub struct ThrowawayPostgres {
    tools: Tools,
    account: Account,
    /// Everything lies below this; the watchdog or `Drop` removes it.
    directory: PathBuf,
    port: u16,
    watchdog: Option<Child>,
}

impl ThrowawayPostgres {
    /// Makes a cluster and waits until it accepts connections. `extra_conf` are lines for `postgresql.conf`; their
    /// values are quoted here.
    ///
    /// # Errors
    /// PostgreSQL is not installed, or `initdb` or the server failed: the message holds what they said.
    pub fn start(extra_conf: &[(&str, &str)]) -> anyhow::Result<Self> {
        let tools = Tools::find()?;
        let directory = tempfile::Builder::new()
            .prefix("keyfall-pg-")
            // The server's account has to pass through; what lies inside is private to it.
            .permissions(fs::Permissions::from_mode(0o711))
            .tempdir()
            .context("make a directory for a throwaway PostgreSQL")?;
        let account = Account::for_directory(directory.path())?;
        let mut cluster = Self { tools, account, directory: directory.keep(), port: 0, watchdog: None };
        cluster.initialise(extra_conf)?;
        cluster.start_on_free_port()?;
        Ok(cluster)
    }

    /// The cluster that all tests of this process share; it is made at the first call and ends with the process.
    ///
    /// # Errors
    /// What [`Self::start`] answered at the first call.
    pub fn shared() -> anyhow::Result<&'static Self> {
        static SHARED: OnceLock<Result<ThrowawayPostgres, String>> = OnceLock::new();
        match SHARED.get_or_init(|| Self::start(&[]).map_err(|error| format!("{error:#}"))) {
            Ok(cluster) => Ok(cluster),
            Err(reason) => bail!("no shared PostgreSQL for the tests: {reason}"),
        }
    }

    /// TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Connection URL of one database, as superuser `postgres`.
    pub fn url(&self, dbname: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{dbname}", self.port)
    }

    /// The directory of the cluster's Unix socket, where its path is short enough for one.
    pub fn socket_directory(&self) -> Option<PathBuf> {
        let socket = self.directory.join("socket");
        (socket.as_os_str().len() <= LONGEST_SOCKET_DIRECTORY).then_some(socket)
    }

    /// Creates a database with a new name and answers the name. A template must have no open connections.
    ///
    /// # Errors
    /// The server refused.
    pub async fn create_database(&self, template: Option<&str>) -> anyhow::Result<String> {
        let name = format!("t_{}", uuid::Uuid::new_v4().simple());
        let template = template.unwrap_or("template1").replace('"', "\"\"");
        let statement = format!("CREATE DATABASE {name} TEMPLATE \"{template}\"");
        let (client, connection) = tokio_postgres::connect(&self.url("postgres"), NoTls)
            .await
            .context("connect to the throwaway PostgreSQL")?;
        tokio::pin!(connection);
        tokio::select! {
            done = client.batch_execute(&statement) => done.context("create a database")?,
            ended = &mut connection => {
                ended.context("create a database")?;
                bail!("create a database: the connection ended");
            }
        }
        Ok(name)
    }

    /// Stops the server the way a crash does (`SIGQUIT`: no checkpoint, clients are cut); the data stay.
    ///
    /// # Errors
    /// The watchdog could not be told or waited for.
    pub fn stop_immediate(&mut self) -> anyhow::Result<()> {
        let Some(mut watchdog) = self.watchdog.take() else { return Ok(()) };
        // A server that ended by itself has no reader left on the pipe, which is no failure here.
        let told = watchdog.stdin.take().map_or(Ok(()), |mut pipe| pipe.write_all(b"stop\n"));
        watchdog.wait().context("wait for PostgreSQL to stop")?;
        match told {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("stop PostgreSQL"),
            _ => Ok(()),
        }
    }

    /// Starts the server again on the same port and waits until it accepts connections, crash recovery included.
    ///
    /// # Errors
    /// The server did not come up: the message holds the end of its log.
    pub fn start_again(&mut self) -> anyhow::Result<()> {
        self.stop_immediate()?;
        self.launch()
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    fn log(&self) -> PathBuf {
        self.directory.join("log")
    }

    fn initialise(&self, extra_conf: &[(&str, &str)]) -> anyhow::Result<()> {
        for name in ["data", "socket"] {
            let path = self.directory.join(name);
            let mut install = Command::new("install");
            install.args(["-d", "-m", "0700"]);
            if self.account == Account::Postgres {
                install.args(["-o", "postgres", "-g", "postgres"]);
            }
            run(install.arg(&path)).context("prepare the data directory")?;
        }
        let mut initdb = self.account.command(&self.tools.path("initdb"));
        initdb.args(["--no-sync", "-E", "UTF8", "--locale=C.UTF-8", "-A", "trust", "-U", "postgres", "-D"]);
        run(initdb.arg(self.data())).context("initdb")?;
        let mut conf = String::from("\n");
        let socket = self.socket_directory().map(|path| path.display().to_string()).unwrap_or_default();
        let socket_setting = [("unix_socket_directories", socket.as_str())];
        for (name, value) in SETTINGS.iter().chain(&socket_setting).chain(extra_conf) {
            writeln!(conf, "{name} = '{}'", value.replace('\'', "''"))?;
        }
        let path = self.data().join("postgresql.conf");
        let mut file = fs::OpenOptions::new().append(true).open(&path).context("open postgresql.conf")?;
        file.write_all(conf.as_bytes()).context("write postgresql.conf")
    }

    fn start_on_free_port(&mut self) -> anyhow::Result<()> {
        for _ in 1..PORT_ATTEMPTS {
            self.port = free_port()?;
            match self.launch() {
                Err(error) if format!("{error:#}").contains("could not bind") => {}
                outcome => return outcome,
            }
        }
        self.port = free_port()?;
        self.launch()
    }

    fn launch(&mut self) -> anyhow::Result<()> {
        let log_start = fs::metadata(self.log()).map_or(0, |log| log.len());
        let server = self.account.command(&self.tools.path("postgres"));
        let mut watchdog = Command::new("sh");
        watchdog.args(["-c", WATCHDOG, "watchdog"]).arg(&self.directory).arg(self.log());
        watchdog.arg(server.get_program()).args(server.get_args());
        watchdog.arg("-D").arg(self.data()).args(["-p", &self.port.to_string()]);
        // Its own group: a Ctrl-C at the terminal must reach the owner first, which then closes the pipe.
        watchdog.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        self.watchdog = Some(watchdog.spawn().context("start sh")?);
        self.wait_until_ready(log_start)
    }

    fn wait_until_ready(&mut self, log_start: u64) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            // The postmaster writes its state as the eighth line; a file left by a crash is rewritten at start, but
            // not before the server has begun, hence the comparison with our own log as well.
            let state = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
            let ready = state.lines().nth(7).is_some_and(|line| line.trim() == "ready");
            if ready && self.log_since(log_start).contains("ready to accept connections") {
                return Ok(());
            }
            let ended = self.watchdog.as_mut().and_then(|child| child.try_wait().transpose());
            if ended.is_some() {
                self.watchdog = None;
                bail!("PostgreSQL did not start; its log ends with:\n{}", self.log_since(log_start));
            }
            ensure!(
                Instant::now() < deadline,
                "PostgreSQL was not ready after {} s; its log ends with:\n{}",
                START_DEADLINE.as_secs(),
                self.log_since(log_start)
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn log_since(&self, start: u64) -> String {
        let log = fs::read(self.log()).unwrap_or_default();
        let start = usize::try_from(start).unwrap_or(usize::MAX);
        String::from_utf8_lossy(log.get(start..).unwrap_or_default()).into_owned()
    }
}

impl Drop for ThrowawayPostgres {
    fn drop(&mut self) {
        if let Some(mut watchdog) = self.watchdog.take() {
            // End of file tells the watchdog to stop the server and to remove the directory.
            drop(watchdog.stdin.take());
            if let Err(error) = watchdog.wait() {
                tracing::warn!(%error, "could not wait for the throwaway PostgreSQL to stop");
            }
        }
        match fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(%error, directory = %self.directory.display(), "could not remove the throwaway PostgreSQL");
            }
            _ => {}
        }
    }
}

/// Where the server's programs lie.
#[derive(Debug, Clone)]
struct Tools {
    /// None: found on the search path.
    directory: Option<PathBuf>,
}

impl Tools {
    /// The search path first, then Debian's versioned directories, newest first.
    fn find() -> anyhow::Result<Self> {
        let on_path = Self { directory: None };
        if on_path.usable() {
            return Ok(on_path);
        }
        let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
            .collect();
        versions.sort();
        let newest_first = versions.into_iter().rev().map(|(_, bin)| Self { directory: Some(bin) });
        newest_first.into_iter().find(Self::usable).context(
            "no PostgreSQL server found (looked for initdb and postgres on the search path and in \
             /usr/lib/postgresql/*/bin): install it, on Debian and Ubuntu with `apt-get install postgresql`",
        )
    }

    fn path(&self, tool: &str) -> PathBuf {
        self.directory.as_ref().map_or_else(|| PathBuf::from(tool), |directory| directory.join(tool))
    }

    fn usable(&self) -> bool {
        ["initdb", "postgres"].iter().all(|tool| succeeds(Command::new(self.path(tool)).arg("--version")))
    }
}

/// Who runs the server: `initdb` and `postgres` refuse root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Account {
    /// Whoever runs us.
    Own,
    /// The account that the PostgreSQL package made, because we are root.
    Postgres,
}

impl Account {
    /// Our own directory's owner is who we are; there is no other safe way to ask.
    fn for_directory(own: &Path) -> anyhow::Result<Self> {
        let owner = fs::metadata(own).context("look at the temporary directory")?.uid();
        Ok(if owner == 0 { Self::Postgres } else { Self::Own })
    }

    /// A command under this account that gets `SIGQUIT` (PostgreSQL's immediate shutdown, which unlike `SIGKILL`
    /// leaves no shared memory behind) when its parent dies, where util-linux offers that.
    fn command(self, program: &Path) -> Command {
        let guarded = succeeds(Command::new("setpriv").args(["--pdeathsig", "QUIT", "true"]));
        let mut command = Command::new(if guarded { "setpriv" } else { "env" });
        match (self, guarded) {
            (Self::Postgres, true) => {
                command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--pdeathsig", "QUIT"]);
            }
            (Self::Own, true) => {
                command.args(["--pdeathsig", "QUIT"]);
            }
            (Self::Postgres, false) => {
                command.args(["runuser", "-u", "postgres", "--"]);
            }
            (Self::Own, false) => {}
        }
        // The caller's directory may be closed to the server's account.
        command.arg(program).current_dir("/");
        command
    }
}

fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("start {}", program(command)))?;
    ensure!(
        output.status.success(),
        "{} failed ({}): {}",
        program(command),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

fn program(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

fn free_port() -> anyhow::Result<u16> {
    let probe = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("look for a free port")?;
    Ok(probe.local_addr().context("look for a free port")?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn one_value(url: &str, query: &str) -> anyhow::Result<i64> {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        tokio::pin!(connection);
        tokio::select! {
            row = client.query_one(query, &[]) => Ok(row?.get(0)),
            _ = &mut connection => bail!("the connection ended"),
        }
    }

    fn wait_for(what: &str, condition: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(15);
        while !condition() {
            assert!(Instant::now() < deadline, "not within 15 s: {what}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    #[tokio::test]
    async fn databases_are_copies_of_their_template_and_apart_from_each_other() {
        let cluster = ThrowawayPostgres::shared().unwrap();
        let template = cluster.create_database(None).await.unwrap();
        one_value(&cluster.url(&template), "WITH made AS (SELECT 1) SELECT count(*) FROM made").await.unwrap();
        let (client, connection) = tokio_postgres::connect(&cluster.url(&template), NoTls).await.unwrap();
        let pump = tokio_util::task::TaskTracker::new().spawn(connection);
        client.batch_execute("CREATE TABLE t AS SELECT generate_series(1, 7) AS n").await.unwrap();
        drop(client);
        pump.await.unwrap().unwrap();
        let copy = cluster.create_database(Some(&template)).await.unwrap();
        assert_ne!(copy, template);
        assert_eq!(one_value(&cluster.url(&copy), "SELECT count(*) FROM t").await.unwrap(), 7);
        let empty = cluster.create_database(None).await.unwrap();
        assert!(one_value(&cluster.url(&empty), "SELECT count(*) FROM t").await.is_err());
    }

    #[tokio::test]
    async fn committed_rows_survive_an_immediate_stop_and_the_port_stays() {
        let mut cluster = ThrowawayPostgres::start(&[("work_mem", "5MB")]).unwrap();
        let (url, port) = (cluster.url("postgres"), cluster.port());
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
        let pump = tokio_util::task::TaskTracker::new().spawn(connection);
        client.batch_execute("CREATE TABLE t AS SELECT generate_series(1, 5) AS n").await.unwrap();
        let work_mem: String = client.query_one("SHOW work_mem", &[]).await.unwrap().get(0);
        assert_eq!(work_mem, "5MB");
        cluster.stop_immediate().unwrap();
        pump.await.unwrap().unwrap_err();
        assert!(tokio_postgres::connect(&url, NoTls).await.is_err());
        cluster.start_again().unwrap();
        assert_eq!(cluster.port(), port);
        assert_eq!(one_value(&url, "SELECT count(*) FROM t").await.unwrap(), 5);
        let directory = cluster.directory.clone();
        drop(cluster);
        assert!(!directory.exists());
    }

    #[test]
    fn a_setting_the_server_refuses_is_reported_with_the_servers_words() {
        let error = ThrowawayPostgres::start(&[("no_such_setting", "1")]).unwrap_err();
        assert!(format!("{error:#}").contains("no_such_setting"), "{error:#}");
    }

    #[test]
    fn server_and_directory_go_when_only_the_pipe_closes() {
        // What the kernel does for a process killed by SIGKILL: the pipe closes and no destructor runs.
        let mut cluster = ThrowawayPostgres::start(&[]).unwrap();
        let mut watchdog = cluster.watchdog.take().unwrap();
        drop(watchdog.stdin.take());
        wait_for("the server and its directory are gone", || !cluster.directory.exists());
        watchdog.wait().unwrap();
        assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, cluster.port())).is_ok());
    }

    #[test]
    fn the_server_goes_when_the_watchdog_is_killed() {
        let mut cluster = ThrowawayPostgres::start(&[]).unwrap();
        let mut watchdog = cluster.watchdog.take().unwrap();
        watchdog.kill().unwrap();
        watchdog.wait().unwrap();
        wait_for("the server released its port", || TcpListener::bind((Ipv4Addr::LOCALHOST, cluster.port())).is_ok());
    }
}
