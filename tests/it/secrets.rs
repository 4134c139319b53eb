//! Secrets: unique texts stand in for every one of them, and nothing that anybody can see may hold one.
//!
//! Seen is what a program writes (results, messages, logs at every level), what it serves, what the ledger keeps and
//! what the system shows of its arguments.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Output, Stdio};

use keyfall::demo::postgres::ThrowawayPostgres;
use keyfall::demo::s3::{ACCESS_KEY_ID, SECRET_ACCESS_KEY};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{BUCKET, ITEMS, Lab, connect, item_body, item_key, until};

/// The password PostgreSQL knows.
const RIGHT: &str = "pgRight4f8a2c71";
/// One it does not.
const WRONG: &str = "pgWrong91e7b350";
/// A secret key the store does not know.
const STRANGE: &str = "s3Strange55d0c6";
/// What stands where no secret is expected.
const MISPLACED: &str = "misplaced7be41d";

const SECRETS: [&str; 5] = [RIGHT, WRONG, STRANGE, MISPLACED, SECRET_ACCESS_KEY];

/// Everything anybody could see, by where it was seen.
#[derive(Default)]
struct Seen(Vec<(String, String)>);

impl Seen {
    fn add(&mut self, place: impl Into<String>, text: impl Into<String>) {
        self.0.push((place.into(), text.into()));
    }

    fn output(&mut self, place: &str, output: &Output) {
        self.add(format!("{place}: results"), String::from_utf8_lossy(&output.stdout));
        self.add(format!("{place}: messages"), String::from_utf8_lossy(&output.stderr));
    }

    /// Fails where a secret was seen, plainly or as base64 or hexadecimal digits.
    fn assert_clean(&self) {
        assert!(!self.0.is_empty());
        for (place, text) in &self.0 {
            for secret in SECRETS {
                let hex = secret.bytes().fold(String::new(), |mut hex, byte| {
                    write!(hex, "{byte:02x}").expect("memory takes it");
                    hex
                });
                assert!(!text.contains(secret) && !text.contains(&hex), "{secret} stands in {place}: {text}");
            }
        }
    }

    fn all(&self) -> String {
        self.0.iter().map(|(_, text)| text.as_str()).collect()
    }
}

/// A server that asks for passwords, a store, and a folder for files.
struct World {
    lab: Lab,
    postgres: ThrowawayPostgres,
    folder: TempDir,
}

impl World {
    async fn new() -> Self {
        let lab = Lab::new().await;
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("an open folder");
        let hba = folder.path().join("hba");
        std::fs::write(&hba, "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
            .expect("hba");
        let postgres = ThrowawayPostgres::start(&[("hba_file", &hba.display().to_string())]).expect("PostgreSQL");
        let sql = connect(&postgres.url("postgres")).await;
        let prepare = format!(
            "CREATE ROLE app LOGIN PASSWORD '{RIGHT}'; GRANT CREATE ON DATABASE postgres TO app;
             CREATE TABLE items (object int, line int); GRANT INSERT ON items TO app"
        );
        sql.batch_execute(&prepare).await.expect("a role");
        lab.s3.put(BUCKET, &item_key(0), item_body(0, 3));
        lab.s3.put(BUCKET, &item_key(1), "x,y\n");
        Self { lab, postgres, folder }
    }

    /// A configuration file; `database` and `s3` are the lines of these sections.
    fn file(&self, name: &str, database: &str, s3: &str) -> String {
        let text = format!(
            "[database]\nconnect_timeout = \"2s\"\n{database}\n[s3]\nforce_path_style = true\nmax_attempts = 1\n{s3}\n\
             [http]\nlisten = \"127.0.0.1:0\"\n{ITEMS}"
        );
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).expect("a file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("a private file");
        path.display().to_string()
    }

    fn url(&self, password: &str) -> String {
        let password = if password.is_empty() { String::new() } else { format!(":{password}") };
        format!("url = \"postgres://app{password}@127.0.0.1:{}/postgres\"", self.postgres.port())
    }

    fn s3(&self, secret: &str) -> String {
        format!(
            "endpoint_url = \"{}\"\naccess_key_id = \"{ACCESS_KEY_ID}\"\nsecret_access_key = \"{secret}\"",
            self.lab.s3.endpoint()
        )
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyfall"));
        command.args(arguments).env_clear().env("HOME", self.folder.path()).stdin(Stdio::null());
        command
    }

    /// Runs a command and notes what it says; answers its exit code.
    async fn run(&self, seen: &mut Seen, mut command: Command) -> i32 {
        let place = format!("{:?}", command.get_args().collect::<Vec<_>>());
        // The store answers inside this process.
        let output = tokio::task::spawn_blocking(move || command.output()).await.expect("joined").expect("it starts");
        seen.output(&place, &output);
        output.status.code().expect("it ends by itself")
    }
}

/// Every log level and shape worth a difference.
const LOGS: [&str; 2] = ["telemetry.log=trace", "telemetry.format=text"];

/// Files that configure the program rightly and wrongly, with the exit code each leads to.
fn configurations(world: &World) -> Vec<(String, i32)> {
    let password = world.folder.path().join("password");
    std::fs::write(&password, RIGHT).expect("a file");
    std::fs::set_permissions(&password, std::fs::Permissions::from_mode(0o600)).expect("a private file");
    let by_file = format!("{}\npassword_file = \"{}\"", world.url(""), password.display());
    let by_credential = format!("{}\npassword_credential = \"password\"", world.url(""));
    let good_s3 = world.s3(SECRET_ACCESS_KEY);
    let unreachable =
        format!("endpoint_url = \"http://127.0.0.1:1\"\naccess_key_id = \"x\"\nsecret_access_key = \"{STRANGE}\"");
    let nowhere = format!("url = \"postgres://app:{RIGHT}@127.0.0.1:1/postgres\"");
    let good = world.file("good.toml", &world.url(RIGHT), &good_s3);
    vec![
        (good.clone(), 3),
        (world.file("file.toml", &by_file, &good_s3), 3),
        (world.file("credential.toml", &by_credential, &good_s3), 3),
        (world.file("environment.toml", &world.url(""), &good_s3), 3),
        (world.file("wrong.toml", &world.url(WRONG), &good_s3), 11),
        (world.file("stranger.toml", &world.url(RIGHT), &world.s3(STRANGE)), 10),
        (world.file("no-store.toml", &world.url(RIGHT), &unreachable), 10),
        (world.file("no-server.toml", &nowhere, &good_s3), 11),
        (world.file("typo.toml", &format!("{}\npasswrd = \"{MISPLACED}\"", world.url(RIGHT)), &good_s3), 78),
        (world.file("syntax.toml", &format!("password = {MISPLACED}"), &good_s3), 78),
        (world.file("string.toml", &format!("url = \"postgres://app:{MISPLACED}/x@h/d\""), &good_s3), 78),
        (world.file("port.toml", &format!("url = \"postgres://app@h:{MISPLACED}/d\""), &good_s3), 78),
    ]
}

/// One pass of a file at every log level; there is something to do each time: a pass with nothing new has little to say.
async fn passes(world: &World, seen: &mut Seen, file: &str, code: i32, objects: &mut std::ops::RangeFrom<usize>) {
    for logs in [&LOGS[..], &LOGS[..1], &[]] {
        let n = objects.next().expect("a number");
        world.lab.s3.put(BUCKET, &item_key(n), item_body(n, 1));
        let mut started = world.command(&["--config", file, "run", "--once"]);
        for set in logs {
            started.arg("--set").arg(set);
        }
        started.env("CREDENTIALS_DIRECTORY", world.folder.path());
        if file.ends_with("environment.toml") {
            started.env("PGPASSWORD", RIGHT);
        }
        let ended = world.run(seen, started).await;
        assert_eq!(ended, code, "{file} {logs:?}: {}", seen.0.last().expect("seen").1);
    }
}

/// What an operator asks of the same file.
async fn errands(world: &World, seen: &mut Seen, file: &str) {
    for arguments in [
        &["check"][..],
        &["check", "--json"],
        &["status"],
        &["config", "show"],
        &["config", "show", "--json"],
        &["config", "check"],
    ] {
        let mut started = world.command(&[&["--config", file, "-vv"], arguments].concat());
        started.env("CREDENTIALS_DIRECTORY", world.folder.path()).env("PGPASSWORD", RIGHT);
        world.run(seen, started).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_seen_whatever_goes_right_or_wrong() {
    let world = World::new().await;
    let mut seen = Seen::default();
    let cases = configurations(&world);
    let good = cases.first().expect("a sound one").0.clone();
    let mut objects = 2..;
    for (file, code) in &cases {
        passes(&world, &mut seen, file, *code, &mut objects).await;
        errands(&world, &mut seen, file).await;
    }
    for secret in [format!("database.password={MISPLACED}"), format!("s3.secret_access_key={MISPLACED}")] {
        let refused = world.command(&["--config", &good, "--set", &secret, "config", "check"]);
        let mut told = Seen::default();
        assert_eq!(world.run(&mut told, refused).await, 78);
        // The argument is ours; what the program says of it is not to repeat it.
        for (_, text) in told.0 {
            seen.add("a secret as an argument", text);
        }
    }
    let unknown = world.command(&["--config", &good, "--pg-password", "x", "run"]);
    assert_eq!(world.run(&mut seen, unknown).await, 2);
    let sql = connect(&world.postgres.url("postgres")).await;
    for table in ["objects", "feeds"] {
        let query = format!("SELECT t::text FROM keyfall.{table} t");
        for row in sql.query(&query, &[]).await.expect("the ledger") {
            seen.add(format!("keyfall.{table}"), row.get::<_, String>(0));
        }
    }
    seen.assert_clean();
    // What was looked through is what was meant: both outcomes of a pass, debug lines, masks, refusals.
    for text in
        ["quarantined", " DEBUG ", "\"DEBUG\"", "***", "password authentication failed", "SignatureDoesNotMatch"]
    {
        assert!(seen.all().contains(text), "{text:?} was never seen");
    }
}

/// A daemon with its log in a file.
struct Running {
    child: Child,
    log: std::path::PathBuf,
}

impl Running {
    fn start(world: &World, file: &str, more: &[&str]) -> Self {
        let log = world.folder.path().join(format!("{}.log", uuid::Uuid::new_v4()));
        let output = std::fs::File::create(&log).expect("a log");
        let mut command = world.command(&["--config", file, "run"]);
        for set in more {
            command.arg("--set").arg(set);
        }
        let child = command.stdout(output.try_clone().expect("a handle")).stderr(output).spawn().expect("it starts");
        Self { child, log }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("the log")
    }

    /// The port of the listener, once it is there.
    async fn port(&self) -> u16 {
        until("the listener is announced", async || self.log().contains("serving /livez")).await;
        let log = self.log();
        let line = log.lines().find(|line| line.contains("serving /livez")).expect("the line");
        let digits = line.split("127.0.0.1:").nth(1).expect("an address on loopback");
        digits.chars().take_while(char::is_ascii_digit).collect::<String>().parse().expect("a port")
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("sh").arg("-c").arg(format!("kill -{name} {}", self.child.id())).status();
        assert!(sent.expect("a shell").success(), "the process is gone: {}", self.log());
    }

    fn shown(&self, name: &str) -> String {
        let bytes = std::fs::read(format!("/proc/{}/{name}", self.child.id())).expect(name);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.child.kill().is_ok() {
            drop(self.child.wait());
        }
    }
}

pub(crate) async fn fetch(port: u16, path: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("the daemon listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_daemon_shows_no_secret_and_listens_on_loopback_alone() {
    let world = World::new().await;
    let mut seen = Seen::default();
    let file = world.file("good.toml", &world.url(RIGHT), &world.s3(SECRET_ACCESS_KEY));
    let daemon = Running::start(&world, &file, &["telemetry.log=trace"]);
    let port = daemon.port().await;
    let sql = connect(&world.postgres.url("postgres")).await;
    until("both objects are judged", async || {
        let query = "SELECT count(*) FROM keyfall.objects WHERE state IN ('loaded', 'quarantined')";
        sql.query_one(query, &[]).await.is_ok_and(|row| row.get::<_, i64>(0) == 2)
    })
    .await;
    for path in ["/livez", "/readyz?verbose", "/healthz", "/metrics", &format!("/{MISPLACED}")] {
        let answer = fetch(port, path).await;
        assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
        if !path.contains(MISPLACED) {
            seen.add(path, answer);
        }
    }
    let metrics = fetch(port, "/metrics").await;
    assert!(metrics.contains("keyfall_objects_total") && !metrics.contains(MISPLACED), "{metrics}");
    assert!(!metrics.contains("2024-05-01"), "a key became a label: {metrics}");
    for name in ["cmdline", "comm", "status", "limits"] {
        seen.add(name, daemon.shown(name));
    }
    // The daemon's connections name themselves in pg_stat_activity, for everybody who may look.
    for row in sql.query("SELECT a::text FROM pg_stat_activity a", &[]).await.expect("activity") {
        seen.add("pg_stat_activity", row.get::<_, String>(0));
    }
    assert_eq!(listeners(daemon.child.id()), [format!("0100007F:{port:04X}")]);
    // A reload that fails must not quote what it could not read.
    std::fs::write(&file, format!("[database]\npassword = {MISPLACED}\n")).expect("a broken file");
    daemon.signal("HUP");
    until("the reload is refused", async || daemon.log().contains("was not reloaded")).await;
    daemon.signal("TERM");
    until("it stops", async || daemon.log().contains("\"stopped\"")).await;
    let log = daemon.log();
    for line in log.lines() {
        let parsed: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(parsed["level"].is_string(), "{line}");
    }
    seen.add("the log", log);
    seen.assert_clean();
}

/// Local addresses on which a process listens, as the kernel writes them.
fn listeners(pid: u32) -> Vec<String> {
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors");
    let links = descriptors.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
    let inodes: Vec<String> =
        links.filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())).collect();
    let mut found = Vec::new();
    for table in ["tcp", "tcp6", "udp", "udp6"] {
        let text = std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        for line in text.lines().skip(1) {
            let fields: Vec<_> = line.split_whitespace().collect();
            // 0A is LISTEN; an open UDP socket is 07.
            let waits = matches!(fields.get(3), Some(&"0A" | &"07"));
            if waits && fields.get(9).is_some_and(|inode| inodes.iter().any(|own| own == inode)) {
                found.push(fields[1].to_owned());
            }
        }
    }
    found
}

#[test]
fn by_default_only_loopback_is_listened_on() {
    let environment = std::collections::BTreeMap::from([("HOME".to_owned(), "/nonexistent".to_owned())]);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("keyfall.toml");
    let text =
        "[database]\nurl = \"postgres://u@localhost/d\"\n[feeds.f]\nbucket = \"b\"\nprefix = \"p/\"\ntable = \"t\"\n";
    std::fs::write(&file, text).expect("a file");
    let sources = keyfall::config::Sources { file: Some(file), environment, ..Default::default() };
    let listen = crate::support::loaded(&sources).config.http.listen.expect("a listener");
    assert!(listen.ip().is_loopback(), "{listen}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_dies_leaves_no_core_dump() {
    let world = World::new().await;
    let file = world.file("good.toml", &world.url(RIGHT), &world.s3(SECRET_ACCESS_KEY));
    let aborted = |script: String| {
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).current_dir(world.folder.path()).env("HOME", world.folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().expect("a shell")
    };
    // The trap works: another program with the same limits does leave one.
    let mut other = aborted("ulimit -c unlimited && kill -ABRT $$".to_owned());
    let died = other.wait().expect("it ends");
    assert_eq!(died.signal(), Some(6), "{died:?}");
    assert!(died.core_dumped(), "this machine dumps no cores at all: raise its limit (ulimit -Hc) and core_pattern");
    let binary = env!("CARGO_BIN_EXE_keyfall");
    let mut daemon = aborted(format!("ulimit -c unlimited && exec {binary} --config {file} run"));
    let sql = connect(&world.postgres.url("postgres")).await;
    until("it runs", async || {
        let query = "SELECT count(*) FROM keyfall.objects WHERE state = 'loaded'";
        sql.query_one(query, &[]).await.is_ok_and(|row| row.get::<_, i64>(0) == 1)
    })
    .await;
    let sent = Command::new("sh").arg("-c").arg(format!("kill -ABRT {}", daemon.id())).status();
    assert!(sent.expect("a shell").success());
    let died = daemon.wait().expect("it ends");
    assert_eq!((died.signal(), died.core_dumped()), (Some(6), false));
}
