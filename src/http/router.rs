//! The routes: `/livez`, `/readyz` (also `/healthz`), `/metrics`.
//!
//! `/livez` says that the process answers, and depends on nothing else: a restart cures no database. `/readyz` says
//! whether the work can be done, and `?verbose` names each dependency. `/metrics` first has the ledger's gauges
//! refreshed, for a bounded time: without the ledger, the other metrics still answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use axum::http::{Response, StatusCode, Uri};
use axum::middleware::map_response;
use axum::response::IntoResponse;
use axum::routing::get;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::problem::Problem;
use super::readiness::Readiness;
use crate::telemetry::recorder::Recorder;

/// How long a scrape waits for the ledger's gauges: below Prometheus' own ten seconds.
const SCRAPE_PATIENCE: Duration = Duration::from_secs(5);

/// Prometheus' text format.
const METRICS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Refreshes what is only read at a scrape. It reports its own failures.
pub type Scrape = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// What the routes answer from.
#[derive(Clone)]
pub struct Sources {
    /// The checks.
    pub readiness: Arc<Readiness>,
    /// The metrics.
    pub recorder: Recorder,
    /// Called before metrics are rendered.
    pub scrape: Scrape,
}

/// The routes over these sources.
pub fn router(sources: Sources) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/healthz", get(readyz))
        .route("/metrics", get(metrics))
        .fallback(unknown)
        .with_state(sources)
        .layer(map_response(guarded))
}

/// What holds for every answer: it describes this moment, and it is what its type says.
async fn guarded(mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

async fn livez() -> impl IntoResponse {
    "alive\n"
}

async fn readyz(State(sources): State<Sources>, RawQuery(query): RawQuery) -> Response<Body> {
    let checks = sources.readiness.checks();
    let failing: Vec<&str> = checks.iter().filter(|(_, check)| check.is_err()).map(|(name, _)| name.as_str()).collect();
    let verbose = query.is_some_and(|query| {
        query.split('&').any(|pair| matches!(pair, "verbose" | "verbose=" | "verbose=1" | "verbose=true"))
    });
    if failing.is_empty() {
        let mut members = json!({ "ready": true });
        if verbose && let Some(members) = members.as_object_mut() {
            members.insert("checks".to_owned(), described(&checks));
        }
        axum::Json(members).into_response()
    } else {
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE)
            .with("detail", json!(format!("not ready: {}", failing.join(", "))))
            .with("ready", json!(false));
        let problem = if verbose { problem.with("checks", described(&checks)) } else { problem };
        problem.into_response()
    }
}

fn described(checks: &BTreeMap<String, Result<(), String>>) -> Value {
    let entries = checks.iter().map(|(name, check)| {
        let entry = match check {
            Ok(()) => json!({ "ok": true }),
            Err(detail) => json!({ "ok": false, "detail": detail }),
        };
        (name.clone(), entry)
    });
    Value::Object(entries.collect())
}

async fn metrics(State(sources): State<Sources>) -> impl IntoResponse {
    if tokio::time::timeout(SCRAPE_PATIENCE, (sources.scrape)()).await.is_err() {
        tracing::warn!(patience_s = SCRAPE_PATIENCE.as_secs(), "the ledger's gauges were not refreshed in time");
    }
    ([(CONTENT_TYPE, METRICS_TEXT)], sources.recorder.render())
}

async fn unknown(uri: Uri) -> Problem {
    let detail = format!("there is no {}; try /livez, /readyz or /metrics", uri.path());
    Problem::new(StatusCode::NOT_FOUND).with("detail", json!(detail))
}
