//! Connections: one pool for loads, one for the ledger, so that neither starves the other.
//!
//! Both ask the server for TCP keepalives, so that a vanished client's locks end within a minute; both have our own
//! timeouts, because the pool has none by default.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime};
use tokio_postgres::config::{ChannelBinding as PgChannelBinding, SslMode as PgSslMode, SslNegotiation};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, SimpleQueryMessage};

use crate::config::database::{ChannelBinding, Database};

use super::deadline::bounded;
use super::error::{StoreError, is_read_only};
use super::login::Opener;

/// A setting of ours that no server has by itself: where it is missing, all are.
pub(super) const TELLTALE: &str = "plan_cache_mode";
/// Its value.
pub(super) const TELLTALE_VALUE: &str = "force_custom_plan";

/// Connections for ledger statements besides one per worker: poll, renewal, disposal, scrape, command line.
const LEDGER_CONNECTIONS: usize = 6;

/// Both pools and what is needed to open a connection outside them.
#[derive(Clone)]
pub struct Pools {
    loads: Pool,
    ledger: Pool,
    direct: Arc<tokio_postgres::Config>,
    opener: Opener,
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
        let opener = Opener::new(database)?;
        let ledger_config = driver_config(database, Purpose::Ledger);
        Ok(Self {
            loads: pool(database, driver_config(database, Purpose::Load), &opener, workers)?,
            ledger: pool(database, ledger_config.clone(), &opener, LEDGER_CONNECTIONS)?,
            direct: Arc::new(ledger_config),
            opener,
            connect_timeout: database.connect_timeout,
            copy_stall_timeout: database.copy_stall_timeout,
            statement_timeout: database.statement_timeout,
        })
    }

    /// A connection for ledger statements.
    pub async fn ledger(&self) -> Result<Object, StoreError> {
        Ok(self.ledger.get().await?)
    }

    /// One statement outside the loads, with a deadline of ours: a server that vanished must not hold its caller.
    pub(super) async fn query(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, StoreError> {
        let client = self.ledger().await?;
        // The server has the same deadline as statement_timeout; ours allows it to answer first.
        let deadline = self.statement_timeout + Duration::from_secs(5);
        let work = async {
            let statement = client.prepare_cached(sql).await?;
            client.query(&statement, parameters).await
        };
        let answer = bounded("a ledger statement", deadline, work).await;
        match &answer {
            // It still waits for an answer: it must not serve anybody else.
            Err(StoreError::Timeout { .. }) => drop(Object::take(client)),
            // What was the primary may be a replica now: the next connection resolves the name again.
            Err(error) if is_read_only(error) => drop(Object::take(client)),
            _ => {}
        }
        answer
    }

    /// The same where the answer has exactly one row.
    pub(super) async fn query_one(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Row, StoreError> {
        let row = self.query(sql, parameters).await?.into_iter().next();
        row.ok_or_else(|| StoreError::Connection { detail: "the server answered without a row".to_owned() })
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
                <Opener as tokio_postgres::tls::MakeTlsConnect<tokio_postgres::Socket>>::Stream,
            >,
        ),
        StoreError,
    > {
        // The driver's own deadline ends with the TCP connect: looking the host up, TLS and the login are waited for
        // without one, and whoever accepts and stays silent would hold the start of the daemon for ever.
        bounded("a login", self.connect_timeout, self.direct.connect(self.opener.clone())).await
    }

    /// Refuses a connection that lost the session settings sent with the login: a pooler between us and the server
    /// dropped them, and would share prepared statements and timeouts between strangers.
    pub async fn refuse_pooler(client: &tokio_postgres::Client) -> Result<(), StoreError> {
        // Simple protocol: a pooler may have no prepared statements to offer.
        let answers = client.simple_query(&format!("SHOW {TELLTALE}")).await?;
        let arrived = answers.iter().any(|answer| match answer {
            SimpleQueryMessage::Row(row) => row.get(0) == Some(TELLTALE_VALUE),
            _ => false,
        });
        if arrived { Ok(()) } else { Err(StoreError::SettingsLost) }
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

fn pool(database: &Database, config: tokio_postgres::Config, opener: &Opener, size: usize) -> Result<Pool, StoreError> {
    // `Fast` only asks whether the connection is closed: a load that failed never comes back (see `copy::Load`),
    // and a ledger statement that meets a dead connection is retried by its caller.
    let manager_config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_config(config, opener.clone(), manager_config);
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
    if database.hosts.iter().all(|host| host.starts_with('/')) {
        // As in libpq, sockets of this machine know no TLS.
        config.ssl_mode(PgSslMode::Disable);
    } else {
        // "Direct" hands the bare socket to `Opener`, which asks for TLS as `sslmode` says.
        config.ssl_mode(PgSslMode::Require).ssl_negotiation(SslNegotiation::Direct);
    }
    config.channel_binding(match database.channel_binding {
        ChannelBinding::Disable => PgChannelBinding::Disable,
        ChannelBinding::Prefer => PgChannelBinding::Prefer,
        ChannelBinding::Require => PgChannelBinding::Require,
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
    let mut options = database.options.clone().unwrap_or_default();
    let (statement_timeout, idle_timeout) = match purpose {
        // COPY ignores the first while it waits for us; our own progress deadline stands in. Between two statements of
        // a load nothing takes time, and a COPY is not idle: a transaction that waits so long has lost its client or
        // its COMMIT on the way, and would keep the ledger rows it has changed locked for as long as somebody holds
        // the connection open. Ending it is safe at any moment: what is not committed is rolled back, the ledger is
        // asked, and the object is loaded again.
        Purpose::Load => (0, database.copy_stall_timeout.as_millis()),
        Purpose::Ledger => {
            // Our statements must not find functions or operators that somebody put into a schema of his own. Loads
            // set it for themselves (`copy::begin`): triggers of the target table keep the role's own path.
            options.push_str(" -c search_path=");
            (database.statement_timeout.as_millis(), 0)
        }
    };
    for (name, value) in [
        ("statement_timeout", statement_timeout),
        ("lock_timeout", database.lock_timeout.as_millis()),
        ("idle_in_transaction_session_timeout", idle_timeout),
        ("tcp_keepalives_idle", 30),
        ("tcp_keepalives_interval", 10),
        ("tcp_keepalives_count", 3),
        // Keepalives are for silence: an answer that was on its way when the network broke would be repeated for a
        // quarter of an hour, and the session with it.
        ("tcp_user_timeout", 60_000),
    ] {
        options += &format!(" -c {name}={value}");
    }
    // A plan kept from when the ledger was small would scan all of it for every object; planning takes a fraction of
    // a millisecond, and hardly any statement here runs more often than once per object.
    options += &format!(" -c {TELLTALE}={TELLTALE_VALUE}");
    // A load that kept its first snapshot could never pass the fence once its lease has been renewed.
    options.push_str(" -c default_transaction_isolation=read\\ committed");
    // Values are compared as instants; what the server reads and prints must not depend on its own settings.
    options.push_str(" -c TimeZone=UTC -c DateStyle=ISO,MDY -c IntervalStyle=postgres -c client_encoding=UTF8");
    options.trim_start().to_owned()
}
