//! `[database]`: where rows and ledger live, and how libpq's conventions map onto our driver.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bounds;
use super::dsn;
use super::report::Report;
use super::secret::{self, Alternatives, Secret};
use super::value::Span;

/// Deadline for a TCP connect and login.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Deadline of one ledger statement.
pub const DEFAULT_STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a load waits for a table lock.
pub const DEFAULT_LOCK_TIMEOUT: Duration = Duration::from_secs(30);
/// A COPY without progress for this long is given up.
pub const DEFAULT_COPY_STALL_TIMEOUT: Duration = Duration::from_mins(1);

/// Connection settings after every libpq source (URL or `key=value`, `PG*`, `.pgpass`) has been merged.
#[derive(Debug, Clone)]
pub struct Database {
    /// Host names, addresses or socket directories, tried in order.
    pub hosts: Vec<String>,
    /// One port for all hosts, or one per host.
    pub ports: Vec<u16>,
    /// Role.
    pub user: String,
    /// Password, where one is used.
    pub password: Option<Secret>,
    /// Database name.
    pub dbname: String,
    /// How far TLS is demanded.
    pub sslmode: SslMode,
    /// PEM file of trusted roots; the system's roots where absent.
    pub sslrootcert: Option<PathBuf>,
    /// Login methods the server may ask for. Where nothing is said: all of them under TLS, and without TLS only those
    /// that do not give the password away.
    pub require_auth: Option<Vec<LoginMethod>>,
    /// Whether the login must be bound to the TLS session.
    pub channel_binding: ChannelBinding,
    /// Client certificate and key, both or neither.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    /// Server options (`-c name=value`) from the connection string.
    pub options: Option<String>,
    /// Deadline for a TCP connect and login.
    pub connect_timeout: Duration,
    /// Deadline of one ledger statement, and of waiting for a connection.
    pub statement_timeout: Duration,
    /// How long a load may wait for a table lock.
    pub lock_timeout: Duration,
    /// A COPY that moves no byte for this long is given up and its socket closed.
    pub copy_stall_timeout: Duration,
}

impl Database {
    /// `host:port/database` for messages; never the role or the password.
    pub fn place(&self) -> String {
        let port = |index: usize| self.ports.get(index).or_else(|| self.ports.first());
        let hosts = self.hosts.iter().enumerate().map(|(index, host)| match port(index) {
            Some(port) => format!("{host}:{port}"),
            None => host.clone(),
        });
        format!("{}/{}", hosts.collect::<Vec<_>>().join(","), self.dbname)
    }
}

/// libpq's `sslmode`. `allow` is refused: it would send the password in the clear first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// TLS where the server offers it, unverified.
    Prefer,
    /// TLS always, certificate unverified (verified as `verify-ca` where `sslrootcert` is given, like libpq).
    Require,
    /// TLS always, certificate chain verified.
    VerifyCa,
    /// TLS always, certificate chain and host name verified.
    VerifyFull,
}

impl SslMode {
    /// Every mode, from the weakest.
    pub const ALL: [Self; 5] = [Self::Disable, Self::Prefer, Self::Require, Self::VerifyCa, Self::VerifyFull];

    /// libpq's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

/// How a server lets somebody in, in libpq's words for `require_auth`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginMethod {
    /// It asks for nothing: `trust`, `peer`, or a client certificate.
    None,
    /// It asks for the password itself.
    Password,
    /// It asks for an MD5 digest, which a listener can turn back into a login.
    Md5,
    /// It asks for a proof from which nothing can be learnt.
    Scram,
}

impl LoginMethod {
    /// Every method keyfall has.
    pub const ALL: [Self; 4] = [Self::None, Self::Password, Self::Md5, Self::Scram];

    /// libpq's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Password => "password",
            Self::Md5 => "md5",
            Self::Scram => "scram-sha-256",
        }
    }
}

/// Whether a login is bound to the TLS session it came by, so that nobody between can pass it on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Never.
    Disable,
    /// Where the server offers it.
    Prefer,
    /// Always: no other login is accepted.
    Require,
}

impl ChannelBinding {
    /// Every setting, from the weakest.
    pub const ALL: [Self; 3] = [Self::Disable, Self::Prefer, Self::Require];

    /// libpq's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
        }
    }
}

/// Where rows and ledger live. What is not said here is taken from `PGHOST`, `PGPORT`, `PGUSER`, `PGPASSWORD`,
/// `PGDATABASE`, `PGSSLMODE`, `PGSSLROOTCERT`, `PGREQUIREAUTH`, `PGCHANNELBINDING`, `PGOPTIONS`, `PGCONNECT_TIMEOUT` and
/// `.pgpass`, as `psql` does.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawDatabase {
    /// Connection string: `postgresql://user@host:5432/database?sslmode=verify-full` or `host=... dbname=...`. Default:
    /// the `PG*` variables. Anything weaker than `sslmode=verify-full` trusts whoever answers.
    url: Option<Secret>,
    /// A file that holds the whole connection string on one line, instead of `url`.
    url_file: Option<PathBuf>,
    /// The password, plainly. Better in a file, a credential or `.pgpass`.
    password: Option<Secret>,
    /// A file that holds the password on one line.
    password_file: Option<PathBuf>,
    /// A systemd credential (`LoadCredential=`) that holds the password.
    password_credential: Option<String>,
    /// Deadline for a TCP connect and login; default 10 s, or `connect_timeout` of the connection string. Too short a
    /// one fails during a failover, too long a one delays the next host.
    connect_timeout: Span,
    /// Deadline of one ledger statement and of waiting for a connection, up to a day; default 30 s. Too short a one
    /// fails on a large ledger, too long a one hides a hanging server.
    statement_timeout: Span,
    /// How long a load may wait for a table lock, up to a day; default 30 s. Long waits hold a worker; short ones retry
    /// often beside maintenance.
    lock_timeout: Span,
    /// A COPY that moves no byte for this long is given up and its connection closed; default 60 s. Shorter than a
    /// checkpoint's stall, it gives up healthy loads.
    copy_stall_timeout: Span,
}

impl Default for RawDatabase {
    fn default() -> Self {
        Self {
            url: None,
            url_file: None,
            password: None,
            password_file: None,
            password_credential: None,
            connect_timeout: Span(DEFAULT_CONNECT_TIMEOUT),
            statement_timeout: Span(DEFAULT_STATEMENT_TIMEOUT),
            lock_timeout: Span(DEFAULT_LOCK_TIMEOUT),
            copy_stall_timeout: Span(DEFAULT_COPY_STALL_TIMEOUT),
        }
    }
}

/// The section, and what the connection comes to (parameter, value, origin) for `config show`.
pub(super) type Validated = (Database, Vec<(String, String, String)>);

/// Checks the section and asks every source libpq would ask.
pub(super) fn validate(
    raw: &RawDatabase,
    environment: &BTreeMap<String, String>,
    report: &mut Report,
) -> Option<Validated> {
    report.within("database.connect_timeout", raw.connect_timeout, bounds::SHORTEST..=bounds::DAY);
    report.within("database.statement_timeout", raw.statement_timeout, bounds::SHORTEST..=bounds::DAY);
    report.within("database.lock_timeout", raw.lock_timeout, bounds::SHORTEST..=bounds::DAY);
    report.within("database.copy_stall_timeout", raw.copy_stall_timeout, Span::seconds(1)..=bounds::DAY);
    let password = Alternatives {
        key: "database.password",
        plain: raw.password.as_ref(),
        file: raw.password_file.as_deref(),
        credential: raw.password_credential.as_deref(),
    }
    .resolve(environment, report);
    let (key, text) = url(raw, report)?;
    let connection = dsn::resolve(dsn::Input { key, text: text.as_ref(), password, environment }, report)?;
    // An explicit key is nearer to us than a parameter of the string.
    let from_string = connection.connect_timeout.filter(|_| !report.is_given("database.connect_timeout"));
    let database = Database {
        hosts: connection.hosts,
        ports: connection.ports,
        user: connection.user,
        password: connection.password,
        dbname: connection.dbname,
        sslmode: connection.sslmode,
        sslrootcert: connection.sslrootcert,
        require_auth: connection.require_auth,
        channel_binding: connection.channel_binding,
        client_certificate: connection.client_certificate,
        options: connection.options,
        connect_timeout: from_string.unwrap_or(raw.connect_timeout.0),
        statement_timeout: raw.statement_timeout.0,
        lock_timeout: raw.lock_timeout.0,
        copy_stall_timeout: raw.copy_stall_timeout.0,
    };
    warn_of_weak_tls(&database, report);
    Some((database, connection.shown))
}

/// The connection string and its key; nothing at all where it could not be read.
fn url(raw: &RawDatabase, report: &mut Report) -> Option<(&'static str, Option<Secret>)> {
    match (&raw.url, &raw.url_file) {
        (Some(_), Some(_)) => {
            report.problem("database.url", "database.url and database.url_file are given together", "keep one of them");
            None
        }
        (None, Some(path)) => Some(("database.url_file", Some(secret::read("database.url_file", path, report)?))),
        (Some(url), None) if url.expose().trim().is_empty() => {
            report.not_blank("database.url", Some(""));
            None
        }
        (url, None) if report.has_problem("database.url") && url.is_none() => None,
        (url, None) => Some(("database.url", url.clone())),
    }
}

/// Only `verify-full` is quiet, except where the connection does not leave the machine.
fn warn_of_weak_tls(database: &Database, report: &mut Report) {
    let stays_here = |host: &String| {
        let address = host.parse::<std::net::IpAddr>();
        host.starts_with('/') || host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    };
    let risk = match database.sslmode {
        SslMode::VerifyFull => return,
        SslMode::Disable => "the connection is never encrypted",
        SslMode::Prefer => "the connection may be unencrypted and the server is not verified",
        SslMode::Require if database.sslrootcert.is_none() => "the server is not verified",
        SslMode::Require | SslMode::VerifyCa => "the server's name is not verified",
    };
    if !database.hosts.iter().all(stays_here) {
        report.warn(format!("sslmode={}: {risk}; use sslmode=verify-full", database.sslmode.as_str()));
    }
}
