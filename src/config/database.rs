//! `[database]`: where rows and ledger live, and how libpq's conventions map onto our driver.

use std::path::PathBuf;
use std::time::Duration;

use super::secret::Secret;

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
