//! Our own accept loop around hyper: `axum::serve` has no deadline for headers and no cap on connections.
//!
//! Guaranteed, for whatever routes it is given: a header is complete within `header_timeout` (an idle connection counts
//! as a header that does not come); a request, its body included, is handled within `request_timeout`; an answer
//! that is not read closes its connection after the same time; at most `max_connections` are open and the rest wait in
//! the kernel's queue; bodies end at 64 KiB; on `stop`, requests under way are finished and no others begun.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{Response, StatusCode};
use axum::middleware::{Next, from_fn, from_fn_with_state, map_response};
use axum::response::IntoResponse;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_http::limit::RequestBodyLimitLayer;
use tracing::{debug, warn};

use super::problem::{Problem, as_problem};
use super::stall::Impatient;
use crate::telemetry::metrics;
use crate::telemetry::throttle::Throttle;

/// Largest request body.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// Request line and headers; hyper's own default of 400 KiB is more than any client of ours has to say.
const MAX_HEADER_BYTES: usize = 32 * 1024;

/// Pause after a failed `accept`: out of file descriptors, trying again at once would only burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often a failing `accept` is told of.
const TELL_EVERY: Duration = Duration::from_mins(1);

/// What bounds the connections.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For a whole header, and for an idle connection.
    pub header_timeout: Duration,
    /// For a whole request, its body included.
    pub request_timeout: Duration,
    /// Connections at once.
    pub max_connections: usize,
}

/// Serves `router` on `listener` until `stop`; connections run on `tracker`, which the caller waits for.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    tracker: TaskTracker,
    stop: CancellationToken,
) {
    let router = bounded(router, limits);
    let places = Arc::new(Semaphore::new(limits.max_connections.min(Semaphore::MAX_PERMITS)));
    let throttle = Throttle::new(TELL_EVERY);
    while let Some(Some((stream, place))) = stop.run_until_cancelled(accept(&listener, &places, &throttle)).await {
        let connection = Connection { router: router.clone(), limits, stop: stop.clone(), _place: place };
        tracker.spawn(connection.run(stream));
    }
}

/// The next connection, taken from the kernel only once there is a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
    throttle: &Throttle,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    // The semaphore is never closed; should it be, the loop ends rather than spin.
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                throttle.settle();
                return Some((stream, place));
            }
            Err(error) => {
                if let Some(swallowed) = throttle.pass(Instant::now()) {
                    warn!(%error, swallowed, "accept failed; trying again");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One connection and its place under the cap.
struct Connection {
    router: Router,
    limits: Limits,
    stop: CancellationToken,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    async fn run(self, stream: TcpStream) {
        // Answers are small and waited for; without this they may wait for the client's delayed acknowledgement.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "set TCP_NODELAY");
        }
        let stream = TokioIo::new(Impatient::new(stream, self.limits.request_timeout));
        let service = TowerToHyperService::new(self.router);
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.header_timeout)
            .max_buf_size(MAX_HEADER_BYTES)
            .serve_connection(stream, service);
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            debug!(%error, "connection ended");
        }
    }
}

/// Puts the limits around all routes; the outermost layer comes last.
fn bounded(router: Router, limits: Limits) -> Router {
    router
        .layer(RequestBodyLimitLayer::new(MAX_BODY_BYTES))
        .layer(from_fn_with_state(limits.request_timeout, timed))
        .layer(map_response(as_problem))
        .layer(from_fn(counted))
}

/// Ends a request that takes too long. The handler is dropped where it waits, so handlers must bear that.
async fn timed(State(limit): State<Duration>, request: Request, next: Next) -> Response<Body> {
    if let Ok(response) = tokio::time::timeout(limit, next.run(request)).await {
        return response;
    }
    let detail = format!("the request was not complete within {} s", limit.as_secs_f64());
    Problem::new(StatusCode::REQUEST_TIMEOUT).with("detail", json!(detail)).into_response()
}

/// Counts requests by route template: a path that a client made up is no label.
async fn counted(request: Request, next: Next) -> Response<Body> {
    let route =
        request.extensions().get::<MatchedPath>().map_or_else(|| "other".to_owned(), |path| path.as_str().to_owned());
    let response = next.run(request).await;
    metrics::http_request(&route, response.status().as_u16());
    response
}

#[cfg(test)]
mod tests;
