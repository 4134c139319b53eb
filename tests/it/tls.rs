//! TLS and logins: against real servers with certificates made here, and against somebody in between.
//!
//! Each refusal says what is wrong, and a recorder on the wire proves that nothing but the request for TLS was sent in
//! the clear before it.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};

use keyfall::app::{self, Mode};
use keyfall::config::Sources;
use keyfall::demo::postgres::ThrowawayPostgres;
use keyfall::store::pool::Pools;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use crate::support::{BUCKET, ITEMS, Lab, connect, item_body, item_key, loaded};

/// The password of every role of these servers; a text that stands nowhere else.
const PASSWORD: &str = "wire5d1c9e77a0";

/// `SSLRequest` as the protocol has it: the only bytes that may cross in the clear.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// Certificates, each wrong in one way.
#[derive(Clone, Copy)]
enum Certificate {
    Good,
    OtherName,
    Expired,
}

/// A server with TLS, and logins by password for roles named after the method.
struct Server {
    postgres: ThrowawayPostgres,
    folder: TempDir,
}

impl Server {
    fn start(certificate: Certificate) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("an open folder");
        make_certificates(folder.path(), certificate);
        let hba = "local all all trust\nhost all postgres 127.0.0.1/32 trust\nhost all clear 127.0.0.1/32 password\n\
                   host all digest 127.0.0.1/32 md5\nhost all strong 127.0.0.1/32 scram-sha-256\n\
                   host all letin 127.0.0.1/32 trust\n";
        std::fs::write(folder.path().join("hba"), hba).expect("hba");
        let at = |name: &str| folder.path().join(name).display().to_string();
        let postgres = ThrowawayPostgres::start(&[
            ("ssl", "on"),
            ("ssl_cert_file", &at("server.pem")),
            ("ssl_key_file", &at("server.key")),
            ("hba_file", &at("hba")),
        ])
        .expect("PostgreSQL starts with TLS");
        Self { postgres, folder }
    }

    /// The server most tests share.
    async fn shared() -> &'static Self {
        static SHARED: OnceLock<Server> = OnceLock::new();
        static ROLES: tokio::sync::OnceCell<()> = tokio::sync::OnceCell::const_new();
        let server = SHARED.get_or_init(|| Self::start(Certificate::Good));
        let made = ROLES.get_or_init(|| async {
            let sql = connect(&server.postgres.url("postgres")).await;
            let roles = format!(
                "CREATE ROLE clear LOGIN PASSWORD '{PASSWORD}'; CREATE ROLE strong LOGIN PASSWORD '{PASSWORD}';
                 CREATE ROLE letin LOGIN; SET password_encryption = 'md5'; CREATE ROLE digest LOGIN PASSWORD '{PASSWORD}'"
            );
            sql.batch_execute(&roles).await.expect("roles");
        });
        made.await;
        server
    }

    fn roots(&self) -> String {
        self.folder.path().join("ca.pem").display().to_string()
    }
}

fn openssl(folder: &Path, arguments: &str) {
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output();
    let output = output.unwrap_or_else(|error| panic!("openssl: {error}; install it with `make setup`"));
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// An authority `ca`, another one `stranger`, and the server's key and certificate, readable by the server's account.
fn make_certificates(folder: &Path, certificate: Certificate) {
    let name = match certificate {
        Certificate::OtherName => "DNS:db.example",
        Certificate::Good | Certificate::Expired => "IP:127.0.0.1",
    };
    let (from, until) = match certificate {
        Certificate::Expired => ("20200101000000Z", "20200102000000Z"),
        Certificate::Good | Certificate::OtherName => ("20200101000000Z", "20991231235959Z"),
    };
    let text = format!(
        "[req]\ndistinguished_name = dn\nprompt = no\n[dn]\nCN = test\n[authority]\nbasicConstraints = critical,CA:TRUE\n\
         [leaf]\nbasicConstraints = CA:FALSE\nsubjectAltName = {name}\n[ca]\ndefault_ca = it\n[it]\ndatabase = index\n\
         new_certs_dir = .\nserial = serial\ndefault_md = sha256\npolicy = any\nunique_subject = no\n[any]\n\
         commonName = supplied\n"
    );
    std::fs::write(folder.join("conf"), text).expect("conf");
    std::fs::write(folder.join("index"), "").expect("index");
    std::fs::write(folder.join("serial"), "01\n").expect("serial");
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -config conf";
    for authority in ["ca", "stranger"] {
        let subject = format!("-subj /CN={authority} -extensions authority -days 30");
        openssl(folder, &format!("req -x509 {key} {subject} -keyout {authority}.key -out {authority}.pem"));
    }
    openssl(folder, &format!("req {key} -subj /CN=server -keyout server.key -out server.csr"));
    openssl(
        folder,
        &format!(
            "ca -batch -notext -config conf -extensions leaf -cert ca.pem -keyfile ca.key -startdate {from} -enddate {until} \
             -in server.csr -out server.pem"
        ),
    );
    let server_key = folder.join("server.key");
    std::fs::set_permissions(&server_key, std::fs::Permissions::from_mode(0o600)).expect("a private key");
    if std::fs::metadata(folder).expect("the folder").uid() == 0 {
        let owned = Command::new("chown").arg("postgres").arg(&server_key).status().expect("chown");
        assert!(owned.success(), "the server's account cannot own its key");
    }
}

/// Somebody on the wire.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wire {
    /// Who listens.
    Listens,
    /// Who answers that the server knows no TLS, and passes on the rest.
    Strips,
}

/// What clients sent, per connection.
type Sent = Arc<Mutex<Vec<Vec<u8>>>>;

struct Recorder {
    port: u16,
    sent: Sent,
    _serve: AbortOnDropHandle<()>,
}

impl Recorder {
    async fn start(upstream: u16, wire: Wire) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let sent = Sent::default();
        let record = Arc::clone(&sent);
        #[expect(clippy::disallowed_methods, reason = "ends with the handle")]
        let serve = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let number = {
                    let mut all = record.lock().expect("the record");
                    all.push(Vec::new());
                    all.len() - 1
                };
                open.spawn(pass(client, upstream, wire, Arc::clone(&record), number));
            }
        });
        Self { port, sent, _serve: AbortOnDropHandle::new(serve) }
    }

    fn sent(&self) -> Vec<Vec<u8>> {
        self.sent.lock().expect("the record").clone()
    }

    /// Whether a text crossed the wire in the clear.
    fn saw(&self, text: &str) -> bool {
        self.sent().iter().any(|bytes| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
    }
}

async fn pass(mut client: TcpStream, upstream: u16, wire: Wire, record: Sent, number: usize) {
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", upstream)).await else { return };
    let note = |bytes: &[u8]| record.lock().expect("the record")[number].extend_from_slice(bytes);
    if wire == Wire::Strips {
        let mut first = [0; 8];
        if client.read_exact(&mut first).await.is_err() {
            return;
        }
        note(&first);
        let passed = if first == SSL_REQUEST { client.write_all(b"N").await } else { server.write_all(&first).await };
        if passed.is_err() {
            return;
        }
    }
    let (mut up, mut down) = ([0; 4096], [0; 4096]);
    loop {
        let done = tokio::select! {
            read = client.read(&mut up) => match read {
                Ok(0) | Err(_) => return,
                Ok(size) => { note(&up[..size]); server.write_all(&up[..size]).await }
            },
            read = server.read(&mut down) => match read {
                Ok(0) | Err(_) => return,
                Ok(size) => client.write_all(&down[..size]).await,
            },
        };
        if done.is_err() {
            return;
        }
    }
}

/// The pools of a lab's configuration with another address.
fn pools(lab: &Lab, url: &str) -> Pools {
    let sources = Sources { file: Some(lab.file_for(url, ITEMS)), ..Sources::default() };
    app::pools(&loaded(&sources).config).expect("pools")
}

/// Logs in and answers whether the connection is encrypted, or why there is none.
async fn login(lab: &Lab, url: &str) -> Result<bool, String> {
    let client = pools(lab, url).ledger().await.map_err(|error| error.to_string())?;
    let row = client.query_one("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", &[]).await;
    Ok(row.expect("a session").get(0))
}

fn url(role: &str, port: u16, parameters: &str) -> String {
    let password = if role == "letin" { String::new() } else { format!(":{PASSWORD}") };
    format!("postgres://{role}{password}@127.0.0.1:{port}/postgres?{parameters}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verify_full_loads_objects_and_shows_nothing_on_the_wire() {
    let (lab, server) = (Lab::new().await, Server::shared().await);
    let database = server.postgres.create_database(None).await.expect("a database");
    let sql = connect(&server.postgres.url(&database)).await;
    let prepare = format!(
        "CREATE TABLE items (object int, line int); GRANT CREATE ON DATABASE {database} TO strong; GRANT INSERT ON items TO strong"
    );
    sql.batch_execute(&prepare).await.expect("a table");
    lab.s3.put(BUCKET, &item_key(0), item_body(0, 3));
    let wire = Recorder::start(server.postgres.port(), Wire::Listens).await;
    let secured = url("strong", wire.port, &format!("sslmode=verify-full&sslrootcert={}", server.roots()))
        .replace("/postgres?", &format!("/{database}?"));
    let sources = Sources { file: Some(lab.file_for(&secured, ITEMS)), ..Sources::default() };
    let ended = Box::pin(app::run(loaded(&sources), sources, Mode::Once)).await;
    assert_eq!(ended.expect("the pass ends"), 0);
    let rows: i64 = sql.query_one("SELECT count(*) FROM items", &[]).await.expect("rows").get(0);
    assert_eq!(rows, 3);
    let sent = wire.sent();
    assert!(!sent.is_empty());
    for bytes in sent {
        // TLS begins right after the request for it: a handshake record.
        assert_eq!((&bytes[..8], bytes[8]), (SSL_REQUEST.as_slice(), 22));
    }
    for text in [PASSWORD, "strong", "keyfall", "COPY", database.as_str()] {
        assert!(!wire.saw(text), "{text:?} crossed in the clear");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_not_the_right_one_is_refused_by_name() {
    let (lab, good) = (Lab::new().await, Server::shared().await);
    let (other, expired) = (Server::start(Certificate::OtherName), Server::start(Certificate::Expired));
    let stranger = good.folder.path().join("stranger.pem").display().to_string();
    for (what, server, mode, roots, says) in [
        ("another name", &other, "verify-full", other.roots(), "not valid for name"),
        ("an expired certificate", &expired, "verify-full", expired.roots(), "expired"),
        ("an expired certificate", &expired, "verify-ca", expired.roots(), "expired"),
        ("an unknown authority", good, "verify-full", stranger.clone(), "UnknownIssuer"),
        ("an unknown authority", good, "verify-ca", stranger.clone(), "UnknownIssuer"),
        ("an unknown authority", good, "require", stranger, "UnknownIssuer"),
    ] {
        let wire = Recorder::start(server.postgres.port(), Wire::Listens).await;
        let parameters = format!("sslmode={mode}&sslrootcert={roots}");
        let refused = login(&lab, &url("strong", wire.port, &parameters)).await;
        let said = refused.expect_err(&format!("{what} was accepted with {mode}"));
        assert!(said.contains("TLS") && said.contains(says), "{what}, {mode}: {said}");
        let sent = wire.sent();
        assert!(
            !sent.is_empty() && sent.iter().all(|bytes| bytes[..9] == [0, 0, 0, 8, 4, 210, 22, 47, 22]),
            "{sent:?}"
        );
        assert!(!wire.saw(PASSWORD) && !wire.saw("strong"), "{what}, {mode}");
    }
    // What the weaker modes let pass, as libpq does.
    for (server, mode, roots) in [(&other, "verify-ca", Some(&other)), (&expired, "require", None)] {
        let roots = roots.map_or_else(String::new, |server| format!("&sslrootcert={}", server.roots()));
        let parameters = format!("sslmode={mode}{roots}");
        let own = format!("postgres://postgres@127.0.0.1:{}/postgres?{parameters}", server.postgres.port());
        assert_eq!(login(&lab, &own).await, Ok(true), "{mode}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_tls_and_one_whose_tls_is_stripped_get_nothing_from_those_who_demand_it() {
    let (lab, server) = (Lab::new().await, Server::shared().await);
    let plain = Recorder::start(lab.postgres.port(), Wire::Listens).await;
    let stripped = Recorder::start(server.postgres.port(), Wire::Strips).await;
    for wire in [&plain, &stripped] {
        for mode in ["require", "verify-ca", "verify-full"] {
            let parameters = format!("sslmode={mode}&sslrootcert={}", server.roots());
            let said = login(&lab, &url("strong", wire.port, &parameters)).await.expect_err(mode);
            assert!(said.contains("does not offer TLS") && said.contains(&format!("sslmode={mode}")), "{said}");
        }
        let sent = wire.sent();
        assert!(!sent.is_empty() && sent.iter().all(|bytes| *bytes == SSL_REQUEST), "{sent:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disable_and_prefer_do_what_their_names_say() {
    let (lab, server) = (Lab::new().await, Server::shared().await);
    let port = server.postgres.port();
    assert_eq!(login(&lab, &url("strong", port, "sslmode=disable")).await, Ok(false));
    assert_eq!(login(&lab, &url("strong", port, "sslmode=prefer")).await, Ok(true));
    assert_eq!(login(&lab, &url("strong", port, "sslmode=require")).await, Ok(true));
    assert_eq!(login(&lab, &url("letin", port, "sslmode=disable")).await, Ok(false));
    let never = Recorder::start(port, Wire::Listens).await;
    assert_eq!(login(&lab, &url("strong", never.port, "sslmode=disable")).await, Ok(false));
    assert!(never.sent().iter().all(|bytes| bytes[..8] != SSL_REQUEST), "TLS was asked for");
    let stripped = Recorder::start(port, Wire::Strips).await;
    assert_eq!(login(&lab, &url("strong", stripped.port, "sslmode=prefer")).await, Ok(false));
    assert!(stripped.saw("strong") && !stripped.saw(PASSWORD), "SCRAM shows the role and not the password");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_password_is_given_away_without_tls_unless_that_is_allowed() {
    let (lab, server) = (Lab::new().await, Server::shared().await);
    let port = server.postgres.port();
    for (role, method) in [("clear", "password"), ("digest", "md5")] {
        for (mode, wire) in [("disable", Wire::Listens), ("prefer", Wire::Strips)] {
            let wire = Recorder::start(port, wire).await;
            let said = login(&lab, &url(role, wire.port, &format!("sslmode={mode}"))).await.expect_err(role);
            assert!(said.contains(&format!("login method {method}")) && said.contains("without TLS"), "{said}");
            // A password message begins with `p`; the start packet and the request for TLS have no type.
            assert!(wire.saw(role) && !wire.saw(PASSWORD) && !wire.saw("md5"), "{role} {mode}");
        }
        assert_eq!(login(&lab, &url(role, port, "sslmode=require")).await, Ok(true), "{role}");
        let allowed = format!("sslmode=disable&require_auth={method}");
        assert_eq!(login(&lab, &url(role, port, &allowed)).await, Ok(false), "{role}");
        let forbidden = "sslmode=require&require_auth=scram-sha-256";
        let said = login(&lab, &url(role, port, forbidden)).await.expect_err(role);
        assert!(said.contains("require_auth does not allow"), "{said}");
    }
    let said = login(&lab, &url("letin", port, "sslmode=require&require_auth=scram-sha-256")).await.expect_err("letin");
    assert!(said.contains("login method none"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_can_be_bound_to_its_tls_session() {
    let (lab, server) = (Lab::new().await, Server::shared().await);
    let port = server.postgres.port();
    assert_eq!(login(&lab, &url("strong", port, "sslmode=require&channel_binding=require")).await, Ok(true));
    assert_eq!(login(&lab, &url("strong", port, "sslmode=require&channel_binding=disable")).await, Ok(true));
    for (role, parameters) in [
        ("strong", "sslmode=disable&channel_binding=require"),
        ("clear", "sslmode=require&channel_binding=require"),
        ("digest", "sslmode=require&channel_binding=require"),
        ("letin", "sslmode=require&channel_binding=require"),
    ] {
        let said = login(&lab, &url(role, port, parameters)).await.expect_err(role);
        assert!(said.contains("channel binding"), "{role} {parameters}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_never_finishes_the_login_meets_our_deadline() {
    let lab = Lab::new().await;
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = silent.local_addr().expect("an address").port();
    for mode in ["disable", "require"] {
        let address = url("strong", port, &format!("sslmode={mode}&connect_timeout=1"));
        let begun = std::time::Instant::now();
        let said = pools(&lab, &address).direct().await.err().expect("nobody answers").to_string();
        assert!(said.contains("login") && begun.elapsed().as_secs() < 10, "{said}");
    }
}
