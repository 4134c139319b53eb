//! F33, F50: what stands between the program and PostgreSQL: a real network that breaks, and a pooler.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use ::keyfall::demo::s3::Gate;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use crate::case::{Case, Report, Trial};
use crate::control::Strike;
use crate::lab::{Disposal, Lab, Settings, within};

use super::capacity::system;
use super::postgres::{COPYING, STREAMED, both, data_directory, until};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("F33", "the network breaks in the middle of COPY, for a minute", partitioned),
        Case::new("F50", "PgBouncer in between", pooler),
    ]
}

/// A network of two ends: the host's, and one in a namespace of its own. Gone with the value.
struct Cable {
    namespace: String,
    host: String,
    inside: String,
}

impl Cable {
    fn plug(random: &mut fastrand::Rng) -> Result<Self, String> {
        let (a, b) = (random.u8(..), random.u8(0..64) * 4);
        let cable = Self {
            namespace: format!("kf{}-{a}-{b}", std::process::id()),
            host: format!("10.213.{a}.{}", b + 1),
            inside: format!("10.213.{a}.{}", b + 2),
        };
        let (namespace, near, far) = (&cable.namespace, cable.near(), cable.far());
        system(&format!("ip netns add {namespace}"))?;
        system(&format!("ip link add {near} type veth peer name {far} netns {namespace}"))?;
        system(&format!("ip addr add {}/30 dev {near}; ip link set {near} up", cable.host))?;
        system(&format!("ip -n {namespace} addr add {}/30 dev {far}", cable.inside))?;
        system(&format!("ip -n {namespace} link set {far} up; ip -n {namespace} link set lo up"))?;
        Ok(cable)
    }

    fn near(&self) -> String {
        format!("h{}", self.inside.trim_start_matches("10.213."))
    }

    fn far(&self) -> String {
        format!("n{}", self.inside.trim_start_matches("10.213."))
    }

    /// Pulls or plugs the far end: from then on packets go nowhere, and nobody is told.
    fn set(&self, state: &str) {
        system(&format!("ip -n {} link set {} {state}", self.namespace, self.far())).expect("the cable");
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        // The far end goes with its namespace, the near one with the far end.
        if let Err(error) = system(&format!("ip netns del {}", self.namespace)) {
            eprintln!("{error}");
        }
    }
}

/// Passes connections on to an address that cannot be reached from the namespace.
async fn forward(from: &str, to: SocketAddr) -> (SocketAddr, AbortOnDropHandle<()>) {
    let listener = TcpListener::bind((from, 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let serve = async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((mut near, _)) = listener.accept().await {
            connections.spawn(async move {
                if let Ok(mut far) = TcpStream::connect(to).await {
                    // A connection that breaks is what this case is about.
                    drop(tokio::io::copy_bidirectional(&mut near, &mut far).await);
                }
            });
        }
    };
    #[expect(clippy::disallowed_methods, reason = "ends with its handle")]
    let task = tokio::spawn(serve);
    (address, AbortOnDropHandle::new(task))
}

async fn partitioned(trial: Trial) -> Report {
    let cable = match Cable::plug(&mut trial.random("addresses")) {
        Ok(cable) => cable,
        Err(why) => return Report::not_run(why),
    };
    let addresses = format!("127.0.0.1,{}", cable.host);
    let mut lab = Lab::with_own_server(&trial, &[("listen_addresses", &addresses)]).await;
    let file = data_directory(&lab).await.join("pg_hba.conf");
    let rules = std::fs::read_to_string(&file).expect("pg_hba.conf");
    std::fs::write(&file, format!("{rules}\nhost all all {}/32 trust\n", cable.inside)).expect("pg_hba.conf");
    lab.execute("SELECT pg_reload_conf()").await;
    let s3 = lab.s3.endpoint().trim_start_matches("http://").parse().expect("an address");
    let (s3, _forwarding) = forward(&cable.host, s3).await;
    lab.put(0..1, STREAMED);

    let settings = Settings { s3: format!("endpoint_url = \"http://{s3}\""), ..Settings::new(Disposal::Delete) };
    let mut cut = lab.keyfall("cut", &settings);
    cut.wrapper = ["ip", "netns", "exec", &cable.namespace].map(str::to_owned).to_vec();
    let (port, database) = (lab.server().port(), lab.database.clone());
    let url = format!("postgres://postgres:{}@{}:{port}/{database}", lab.password(), cable.host);
    cut.environment.push(("KEYFALL__DATABASE__URL".to_owned(), url));
    let gate = Gate::new();
    let held = cut.control.arm("copy.frame", 3, Strike::Hold(gate.clone()));
    lab.expect_hits("copy.frame hold", &held, 1);
    cut.start();
    within("COPY", gate.reached()).await;
    lab.until_count(COPYING, 1).await;

    cable.set("down");
    let begun = Instant::now();
    let mut quick = lab.keyfall("quick", &Settings::new(Disposal::Delete));
    quick.start();
    quick.says("started").await;
    // Its discovery is rung out to all instances: words that nobody at the other end acknowledges. Keepalives do not
    // end such a session.
    lab.put(1..2, 3);
    lab.until_state("loaded", 2).await;
    let taken_over = begun.elapsed();
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects WHERE lease_owner = 'quick'").await, 2);
    let left = format!("SELECT count(*) FROM pg_stat_activity WHERE client_addr = '{}'", cable.inside);
    lab.until_count(&left, 0).await;
    let dropped = begun.elapsed();
    cable.set("up");
    gate.open();
    // Its renewal or its load, whichever asks first.
    until("the old owner notices", || {
        let log = cut.log();
        log.contains("lost to another instance") || log.contains("the lease had passed on")
    })
    .await;
    cut.stop().await;
    assert_eq!(lab.count("SELECT count(*) FROM items").await, 30_003);
    let report = lab.verify(&mut [&mut cut, &mut quick]).await;
    let note = format!(
        "taken over after {:.0} s, the server let go after {:.0} s",
        taken_over.as_secs_f64(),
        dropped.as_secs_f64()
    );
    both(report, Report { note, ..Report::default() })
}

/// A pooler in front of the lab's server; gone with the value.
struct Bouncer {
    child: Child,
    port: u16,
    _directory: TempDir,
}

impl Bouncer {
    async fn start(lab: &Lab, more: &str) -> Result<Self, String> {
        system("command -v pgbouncer")
            .map_err(|said| format!("no pgbouncer, see `scripts/setup.sh faults` ({said})"))?;
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let probe = std::net::TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
        let port = probe.local_addr().map_err(|error| error.to_string())?.port();
        drop(probe);
        let path = directory.path().display();
        let upstream = lab.url().rsplit_once(':').map(|(_, rest)| rest.to_owned()).unwrap_or_default();
        let upstream = upstream.split('/').next().unwrap_or_default().to_owned();
        let config = format!(
            "[databases]\n* = host=127.0.0.1 port={upstream}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nauth_type = any\nunix_socket_dir =\nlogfile = {path}/log\n{more}\n"
        );
        let config = config.replace("* = host", &format!("{} = user=postgres host", lab.database));
        std::fs::write(directory.path().join("ini"), config).map_err(|error| error.to_string())?;
        // It refuses to be root.
        system(&format!("[ $(id -u) != 0 ] || chown -R postgres {path}"))?;
        let mut command = Command::new("pgbouncer");
        command.arg("-q").arg(directory.path().join("ini"));
        if system("[ $(id -u) = 0 ]").is_ok() {
            command.args(["-u", "postgres"]);
        }
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = quiet.spawn().map_err(|error| error.to_string())?;
        let bouncer = Self { child, port, _directory: directory };
        within("the pooler listens", async {
            while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
        .await;
        Ok(bouncer)
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        if self.child.kill().is_ok() {
            drop(self.child.wait());
        }
    }
}

async fn pooler(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..3, 3);
    let mut refused = 0;
    for (name, more, says) in [
        ("plain", "pool_mode = transaction", "08P01"),
        ("lax", "pool_mode = transaction\nignore_startup_parameters = options", "did not arrive"),
        ("session", "pool_mode = session\nignore_startup_parameters = options", "did not arrive"),
    ] {
        let bouncer = match Bouncer::start(&lab, more).await {
            Ok(bouncer) => bouncer,
            Err(why) => return Report::not_run(why),
        };
        let mut keyfall = lab.keyfall(name, &Settings::new(Disposal::Delete));
        let url = format!("postgres://postgres:{}@127.0.0.1:{}/{}", lab.password(), bouncer.port, lab.database);
        keyfall.environment.push(("KEYFALL__DATABASE__URL".to_owned(), url));
        keyfall.start();
        let code = within("it refuses to start", keyfall.ended()).await;
        let log = keyfall.log();
        assert_ne!(code, 0, "{log}");
        assert!(log.contains(says) && log.contains("past PgBouncer"), "{name}: {log}");
        refused += 1;
    }
    let ledger = "SELECT count(*) FROM pg_namespace WHERE nspname = 'keyfall'";
    assert_eq!(lab.count(ledger).await, 0, "something was written through a pooler");
    lab.expect_count("refused at start", move || refused, 3);
    let mut direct = lab.keyfall("direct", &Settings::new(Disposal::Delete));
    direct.start();
    direct.says("started").await;
    lab.verify(&mut [&mut direct]).await
}
