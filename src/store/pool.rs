//! Connections: one pool for loads, one for the ledger, so that neither starves the other.
//!
//! Both ask the server for TCP keepalives, so that a vanished client's locks end within a minute; both have our own
//! timeouts, because the pool has none by default.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime};
use tokio_postgres::config::SslMode as PgSslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::config::database::{Database, SslMode};

use super::error::StoreError;
use super::tls;

/// Connections for ledger statements besides one per worker: poll, renewal, disposal, scrape, command line.
const LEDGER_CONNECTIONS: usize = 6;

/// Both pools and what is needed to open a connection outside them.
#[derive(Clone)]
pub struct Pools {
    loads: Pool,
    ledger: Pool,
    direct: Arc<tokio_postgres::Config>,
    tls: MakeRustlsConnect,
    connect_timeout: Duration,
    copy_stall_timeout: Duration,
    statement_timeout: Duration,
}

/// What a connection is for; decides its server-side timeouts.
#[derive(Clone, Copy)]
enum Purpose {
    Load,
    Ledger,
}

impl Pools {
    /// Builds both pools; connects to nothing yet.
    pub fn new(database: &Database, workers: usize) -> Result<Self, StoreError> {
        let tls = MakeRustlsConnect::new(tls::client_config(database)?);
        let ledger_config = driver_config(database, Purpose::Ledger);
        Ok(Self {
            loads: pool(database, driver_config(database, Purpose::Load), &tls, workers)?,
            ledger: pool(database, ledger_config.clone(), &tls, LEDGER_CONNECTIONS)?,
            direct: Arc::new(ledger_config),
            tls,
            connect_timeout: database.connect_timeout,
            copy_stall_timeout: database.copy_stall_timeout,
            statement_timeout: database.statement_timeout,
        })
    }

    /// A connection for ledger statements.
    pub async fn ledger(&self) -> Result<Object, StoreError> {
        Ok(self.ledger.get().await?)
    }

    /// A connection for one load; see [`super::copy::Load`] for how it is given back.
    pub async fn load(&self) -> Result<Object, StoreError> {
        Ok(self.loads.get().await?)
    }

    /// A connection of its own, outside the pools: for migrations and `LISTEN`.
    pub async fn direct(
        &self,
    ) -> Result<
        (
            tokio_postgres::Client,
            tokio_postgres::Connection<
                tokio_postgres::Socket,
                <MakeRustlsConnect as tokio_postgres::tls::MakeTlsConnect<tokio_postgres::Socket>>::Stream,
            >,
        ),
        StoreError,
    > {
        // The driver's own deadline ends with the TCP connect: looking the host up, TLS and the login are waited for
        // without one, and whoever accepts and stays silent would hold the start of the daemon for ever.
        match tokio::time::timeout(self.connect_timeout, self.direct.connect(self.tls.clone())).await {
            Ok(connected) => Ok(connected?),
            Err(_elapsed) => Err(StoreError::Timeout { what: "a login", seconds: self.connect_timeout.as_secs() }),
        }
    }

    /// After how long without progress a COPY is given up.
    pub fn copy_stall_timeout(&self) -> Duration {
        self.copy_stall_timeout
    }

    /// Deadline of one statement on our side, also where the server cannot answer.
    pub fn statement_timeout(&self) -> Duration {
        self.statement_timeout
    }

    /// Connections (in use, idle) over both pools, for metrics.
    pub fn usage(&self) -> (usize, usize) {
        [self.loads.status(), self.ledger.status()].iter().fold((0, 0), |(used, idle), status| {
            (used + status.size.saturating_sub(status.available), idle + status.available)
        })
    }
}

fn pool(
    database: &Database,
    config: tokio_postgres::Config,
    tls: &MakeRustlsConnect,
    size: usize,
) -> Result<Pool, StoreError> {
    // `Fast` only asks whether the connection is closed: a load that failed never comes back (see `copy::Load`),
    // and a ledger statement that meets a dead connection is retried by its caller.
    let manager_config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_config(config, tls.clone(), manager_config);
    Pool::builder(manager)
        .max_size(size)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(database.statement_timeout))
        .create_timeout(Some(database.connect_timeout))
        .recycle_timeout(Some(database.connect_timeout))
        .build()
        .map_err(|error| StoreError::Connection { detail: error.to_string() })
}

fn driver_config(database: &Database, purpose: Purpose) -> tokio_postgres::Config {
    let mut config = tokio_postgres::Config::new();
    for host in &database.hosts {
        config.host(host);
    }
    for port in &database.ports {
        config.port(*port);
    }
    config.user(&database.user).dbname(&database.dbname).application_name("keyfall");
    if let Some(password) = &database.password {
        config.password(password.expose());
    }
    config.ssl_mode(match database.sslmode {
        SslMode::Disable => PgSslMode::Disable,
        SslMode::Prefer => PgSslMode::Prefer,
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => PgSslMode::Require,
    });
    config.connect_timeout(database.connect_timeout);
    config.tcp_user_timeout(Duration::from_mins(1));
    config.keepalives_idle(Duration::from_secs(30));
    config.keepalives_interval(Duration::from_secs(10));
    config.keepalives_retries(3);
    config.options(server_options(database, purpose));
    config
}

/// Session settings sent with the login, so that a role's own defaults cannot cut a COPY short or leave a dead
/// client's locks behind.
fn server_options(database: &Database, purpose: Purpose) -> String {
    let statement_timeout = match purpose {
        // COPY ignores it while it waits for us; our own progress deadline stands in.
        Purpose::Load => 0,
        Purpose::Ledger => database.statement_timeout.as_millis(),
    };
    let mut options = database.options.clone().unwrap_or_default();
    for (name, value) in [
        ("statement_timeout", statement_timeout),
        ("lock_timeout", database.lock_timeout.as_millis()),
        ("idle_in_transaction_session_timeout", 0),
        ("tcp_keepalives_idle", 30),
        ("tcp_keepalives_interval", 10),
        ("tcp_keepalives_count", 3),
    ] {
        options += &format!(" -c {name}={value}");
    }
    // A plan kept from when the ledger was small would scan all of it for every object; planning takes a fraction of
    // a millisecond, and hardly any statement here runs more often than once per object.
    options.push_str(" -c plan_cache_mode=force_custom_plan");
    // Values are compared as instants; what the server prints must not depend on its own settings.
    options.push_str(" -c TimeZone=UTC -c DateStyle=ISO -c client_encoding=UTF8");
    options.trim_start().to_owned()
}
