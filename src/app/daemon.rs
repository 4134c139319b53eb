//! The daemon: start, serve, reload, drain.

use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::http::Http;
use crate::config::{self, Config, Loaded, Sources};
use crate::engine::{Discovery, Engine, Ports};
use crate::failpoint::{self, Point};
use crate::http::router::{Sources as Routes, router};
use crate::http::server;
use crate::lifecycle::{Request, SignalStream, forced_exit_code, service};
use crate::store::error::StoreError;
use crate::store::inspect;
use crate::store::pool::Pools;
use crate::telemetry::metrics::{self, Reload};
use crate::telemetry::recorder::Recorder;

use super::scrape::Scrape;
use super::{Patience, exit, exit_code, object_store, open_ledger, pools, queues, refuse_lax_queues};

/// How often readiness is looked at without being asked.
const HEALTH_INTERVAL: Duration = Duration::from_secs(5);

pub(super) async fn run(loaded: Loaded, sources: Sources) -> anyhow::Result<u8> {
    // Before anything else: a signal during start-up must end it in order.
    let mut signals = SignalStream::install()?;
    let config = loaded.config;
    let recorder = Recorder::install()?;
    metrics::touch();
    metrics::build_info(env!("CARGO_PKG_VERSION"));
    metrics::config_reload(Reload::Accepted, Timestamp::now());
    let end = CancellationToken::new();
    let (current, watching) = watch::channel(None);
    let scrape = Arc::new(Scrape::new(watching));
    let server = serve(&config.http, recorder, &scrape, end.clone()).await?;

    let outcome = tokio::select! {
        engine = start_engine(&config, Patience::Endless) => engine,
        request = first_stop(&mut signals) => {
            tracing::info!(signal = request, "stopped while starting");
            return Ok(exit::OK);
        }
    };
    let engine = match outcome {
        Ok(engine) => Arc::new(engine),
        Err((code, error)) => {
            tracing::error!(error = %error, "keyfall cannot start");
            return Ok(code);
        }
    };
    current.send_replace(Some(Arc::clone(&engine)));
    scrape.refresh().await;
    service::ready();
    tracing::info!(feeds = config.feeds.len(), instance = %config.instance, version = env!("CARGO_PKG_VERSION"), "started");

    let mut daemon = Daemon { config, sources, engine, retired: Vec::new(), current, scrape };
    let code = daemon.supervise(&mut signals).await;
    end.cancel();
    server.wait().await;
    Ok(code)
}

struct Daemon {
    config: Config,
    sources: Sources,
    engine: Arc<Engine>,
    /// Engines that a reload replaced and that still finish what they had.
    retired: Vec<Weak<Engine>>,
    current: watch::Sender<Option<Arc<Engine>>>,
    scrape: Arc<Scrape>,
}

impl Daemon {
    async fn supervise(&mut self, signals: &mut SignalStream) -> u8 {
        let mut health = tokio::time::interval(HEALTH_INTERVAL);
        let mut watchdog = tokio::time::interval(service::watchdog_interval().unwrap_or(HEALTH_INTERVAL));
        loop {
            tokio::select! {
                request = signals.next() => match request {
                    Request::Reload => self.reload().await,
                    Request::Stop(signal) => return self.stop(signal, signals).await,
                },
                _ = health.tick() => self.scrape.refresh().await,
                _ = watchdog.tick() => service::alive(),
            }
        }
    }

    /// Drains; a second signal ends at once, which is safe at any moment.
    async fn stop(&self, signal: i32, signals: &mut SignalStream) -> u8 {
        tracing::info!(signal, grace_s = self.config.lifecycle.grace.as_secs(), "stopping: running loads may finish");
        service::stopping();
        failpoint::pass(Point::ShutdownBegun).await;
        tokio::select! {
            () = self.drain_all() => {
                tracing::info!("stopped");
                exit::OK
            }
            again = first_stop(signals) => {
                tracing::warn!(signal = again, "stopped at once by a second signal");
                forced_exit_code(again)
            }
        }
    }

    /// The engine of now and those that reloads have replaced: the grace period is for all their loads.
    async fn drain_all(&self) {
        let retired: Vec<Arc<Engine>> = self.retired.iter().filter_map(Weak::upgrade).collect();
        let drains = retired.iter().chain([&self.engine]).map(|engine| engine.drain());
        futures::future::join_all(drains).await;
    }

    /// A new engine takes over, the old one finishes what it has. A bad configuration changes nothing.
    async fn reload(&mut self) {
        service::reloading();
        let replaced = self.replace().await;
        let outcome = if replaced.is_ok() { Reload::Accepted } else { Reload::Refused };
        metrics::config_reload(outcome, Timestamp::now());
        match replaced {
            Ok(old) => {
                failpoint::pass(Point::ReloadApplied).await;
                tracing::info!(feeds = self.config.feeds.len(), "configuration reloaded");
                service::status("loading");
                self.retired.retain(|engine| engine.strong_count() > 0);
                self.retired.push(Arc::downgrade(&old));
                #[expect(clippy::disallowed_methods, reason = "ends by itself, or is cut short by `drain_all`")]
                drop(tokio::spawn(async move { old.retire().await }));
            }
            Err(error) => {
                tracing::error!(error = %error, "the configuration was not reloaded; the old one stays in force");
                service::status("loading, with the old configuration: the new one is invalid");
            }
        }
    }

    async fn replace(&mut self) -> anyhow::Result<Arc<Engine>> {
        let loaded = config::load(&self.sources)?;
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        if loaded.config.http.listen != self.config.http.listen {
            tracing::warn!("http.listen changed: that needs a restart");
        }
        // No patience: signals are not looked at meanwhile, and the old configuration is in force all the same.
        let engine = start_engine(&loaded.config, Patience::None).await.map_err(|(_, error)| anyhow::anyhow!(error))?;
        self.config = loaded.config;
        let old = std::mem::replace(&mut self.engine, Arc::new(engine));
        self.current.send_replace(Some(Arc::clone(&self.engine)));
        Ok(old)
    }
}

/// Starts the listener, where there is one; health and metrics answer from the first moment on.
async fn serve(
    http: &Http,
    recorder: Recorder,
    scrape: &Arc<Scrape>,
    end: CancellationToken,
) -> anyhow::Result<TaskTracker> {
    let tracker = TaskTracker::new();
    tracker.spawn(recorder.clone().upkeep_until(end.clone()));
    if let Some(address) = http.listen {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("http.listen = \"{address}\" cannot be bound; is another keyfall running?"))?;
        tracing::info!(address = %listener.local_addr()?, "serving /livez, /readyz and /metrics");
        let limits = server::Limits {
            header_timeout: http.header_timeout,
            request_timeout: http.request_timeout,
            max_connections: http.max_connections,
        };
        // Gauges are refreshed in the background: a scrape never waits for the database.
        let routes = Routes { readiness: scrape.readiness(), recorder, scrape: Arc::new(|| Box::pin(async {})) };
        tracker.spawn(server::serve(listener, router(routes), limits, tracker.clone(), end));
    }
    tracker.close();
    Ok(tracker)
}

async fn first_stop(signals: &mut SignalStream) -> i32 {
    loop {
        if let Request::Stop(signal) = signals.next().await {
            return signal;
        }
    }
}

/// Said at every start: rows whose objects are deleted may be gone after a power loss.
async fn warn_of_unsafe_settings(pools: &Pools) {
    match inspect::server(pools).await {
        Ok(server) => {
            for setting in server.unsafe_settings {
                tracing::warn!("{setting} is off: after a crash of the machine rows and ledger may be lost or damaged");
            }
        }
        Err(error) => tracing::debug!(error = %error, "the server's settings could not be read"),
    }
}

async fn start_engine(config: &Config, patience: Patience) -> Result<Engine, (u8, String)> {
    let refused = |error: StoreError| (exit_code(&error), format!("{error}; {}", error.advice()));
    let store = object_store(config).await.map_err(|error| (exit::S3, format!("{error}; {}", error.advice())))?;
    let queues = queues(config).await.map_err(|error| (exit::S3, format!("{error}; {}", error.advice())))?;
    let pools = pools(config).map_err(refused)?;
    open_ledger(&pools, patience).await.map_err(refused)?;
    warn_of_unsafe_settings(&pools).await;
    refuse_lax_queues(config, &queues, patience).await.map_err(|error| (exit::S3, error))?;
    for queue in queues.keys() {
        metrics::touch_queue(queue);
    }
    for feed in config.feeds.keys() {
        metrics::touch_feed(feed);
    }
    Ok(Engine::start(config, pools, Ports { store, queues }, Discovery::Continuous))
}
