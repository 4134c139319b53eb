//! The server against clients that behave badly, over real sockets.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Bytes;
use axum::routing::{get, post};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::http::readiness::Readiness;
use crate::http::router::{Sources, router};
use crate::telemetry::recorder::Recorder;

/// Longer than any deadline of a test, shorter than anybody's patience.
const PATIENCE: Duration = Duration::from_secs(20);

/// The deadline under test; the other one is out of reach.
const SOON: Duration = Duration::from_millis(300);

const NEVER: Duration = Duration::from_hours(1);

/// A running server; dropping it stops it.
struct Running {
    address: SocketAddr,
    stop: CancellationToken,
    tracker: TaskTracker,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn start(routes: Router, header_timeout: Duration, request_timeout: Duration) -> Running {
    start_capped(routes, Limits { header_timeout, request_timeout, max_connections: 16 }).await
}

async fn start_capped(routes: Router, limits: Limits) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, tracker) = (CancellationToken::new(), TaskTracker::new());
    tracker.spawn(serve(listener, routes, limits, tracker.clone(), stop.clone()));
    tracker.close();
    Running { address, stop, tracker }
}

/// Routes of a daemon with one dependency, and the number of scrapes so far.
fn daemon() -> (Router, Arc<Readiness>, Arc<AtomicUsize>) {
    let readiness = Arc::new(Readiness::expecting(["database"]));
    let scrapes = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&scrapes);
    let sources = Sources {
        readiness: Arc::clone(&readiness),
        recorder: Recorder::install().unwrap(),
        scrape: Arc::new(move || {
            counter.fetch_add(1, Ordering::SeqCst);
            Box::pin(std::future::ready(()))
        }),
    };
    (router(sources), readiness, scrapes)
}

async fn connect(running: &Running) -> TcpStream {
    TcpStream::connect(running.address).await.unwrap()
}

/// All that comes until the server closes, with a reset or without.
async fn until_closed(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut answer = Vec::new();
    let closed =
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the server never closed");
    assert!(closed.is_ok() || closed.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset));
    String::from_utf8(answer).unwrap()
}

async fn ask(running: &Running, request: &str) -> String {
    let mut stream = connect(running).await;
    stream.write_all(request.as_bytes()).await.unwrap();
    until_closed(&mut stream).await
}

async fn fetch(running: &Running, target: &str) -> String {
    ask(running, &format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await
}

#[tokio::test]
async fn a_header_that_does_not_end_is_closed_in_time() {
    let running = start(daemon().0, SOON, NEVER).await;
    for beginning in ["", "GET /livez HTTP/1.1\r\nHost: x\r\n"] {
        let begun = Instant::now();
        ask(&running, beginning).await;
        assert!(begun.elapsed() >= SOON, "{beginning:?} was closed too early");
    }
}

#[tokio::test]
async fn a_header_that_trickles_is_closed_in_time() {
    let running = start(daemon().0, SOON, NEVER).await;
    let (mut reading, mut writing) = connect(&running).await.into_split();
    let trickle = async {
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        // Writing fails once the server has closed.
        while writing.write_all(b"x").await.is_ok() {
            tick.tick().await;
        }
    };
    let both = async { tokio::join!(trickle, until_closed(&mut reading)) };
    tokio::time::timeout(PATIENCE, both).await.expect("the server never closed");
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_time() {
    let running = start(daemon().0, SOON, NEVER).await;
    let answer = ask(&running, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_answered_and_closed_in_time() {
    let routes = Router::new().route("/echo", post(|body: Bytes| async { body }));
    let running = start(routes, NEVER, SOON).await;
    let answer = ask(&running, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n123").await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("application/problem+json") && answer.contains("\"status\":408"), "{answer}");
}

#[tokio::test]
async fn a_body_that_no_route_reads_does_not_keep_the_connection() {
    let running = start(daemon().0, SOON, SOON).await;
    let answer = ask(&running, "GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n123").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn a_client_that_does_not_read_is_closed_in_time() {
    let routes = Router::new().route("/large", get(|| async { vec![b'x'; 64 << 20] }));
    let running = start(routes, NEVER, SOON).await;
    let mut stream = connect(&running).await;
    stream.write_all(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    // The listener's own task leaves once it is stopped; the connection's only when it gives up on the client.
    let accepted = async {
        while running.tracker.len() < 2 {
            tokio::task::yield_now().await;
        }
        running.stop.cancel();
        running.tracker.wait().await;
    };
    tokio::time::timeout(PATIENCE, accepted).await.expect("the connection was kept");
    assert!(until_closed(&mut stream).await.len() < 64 << 20);
}

#[tokio::test]
async fn bodies_over_the_limit_are_refused() {
    let routes = Router::new().route("/echo", post(|body: Bytes| async { body }));
    let running = start(routes, NEVER, NEVER).await;
    let declared = format!(
        "POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        MAX_BODY_BYTES + 1
    );
    let chunk = "x".repeat(MAX_BODY_BYTES + 1);
    let chunked = format!(
        "POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{chunk}\r\n0\r\n\r\n",
        chunk.len()
    );
    for request in [declared, chunked] {
        let answer = ask(&running, &request).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        assert!(answer.contains("application/problem+json"), "{answer}");
    }
    let fits = "x".repeat(MAX_BODY_BYTES);
    let request = format!(
        "POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {MAX_BODY_BYTES}\r\n\r\n{fits}"
    );
    assert!(ask(&running, &request).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn connections_over_the_cap_wait_for_a_place() {
    let limits = Limits { header_timeout: NEVER, request_timeout: NEVER, max_connections: 1 };
    let running = start_capped(daemon().0, limits).await;
    let mut first = connect(&running).await;
    first.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut begun = [0; 12];
    first.read_exact(&mut begun).await.unwrap();
    let mut second = Box::pin(fetch(&running, "/livez"));
    // It connects, for the kernel has room, but nobody answers it while the first one is open.
    assert!(tokio::time::timeout(SOON, second.as_mut()).await.is_err(), "the cap does not hold");
    drop(first);
    let answer = tokio::time::timeout(PATIENCE, second).await.expect("the place was never given on");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn stopping_finishes_requests_and_closes_idle_connections() {
    let entered = Arc::new(Semaphore::new(0));
    let leave = Arc::new(Semaphore::new(0));
    let (inside, outside) = (Arc::clone(&entered), Arc::clone(&leave));
    let slow = move || async move {
        inside.add_permits(1);
        outside.acquire().await.unwrap().forget();
        "finished"
    };
    let running = start(Router::new().route("/slow", get(slow)), NEVER, NEVER).await;
    let mut idle = connect(&running).await;
    let request = fetch(&running, "/slow");
    let stopping = async {
        entered.acquire().await.unwrap().forget();
        running.stop.cancel();
        leave.add_permits(1);
        until_closed(&mut idle).await;
        running.tracker.wait().await;
    };
    let (answer, ()) = tokio::time::timeout(PATIENCE, async { tokio::join!(request, stopping) }).await.unwrap();
    assert!(answer.ends_with("finished"), "{answer}");
    assert!(TcpStream::connect(running.address).await.is_err(), "the listener is closed");
}

#[tokio::test]
async fn the_process_is_alive_while_it_is_not_ready() {
    let (routes, readiness, _) = daemon();
    let running = start(routes, NEVER, NEVER).await;
    assert!(fetch(&running, "/livez").await.starts_with("HTTP/1.1 200 "));
    readiness.report("database", Err("connection refused".to_owned()));
    for target in ["/readyz", "/healthz"] {
        let answer = fetch(&running, target).await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("not ready: database"), "{answer}");
        assert!(!answer.contains("connection refused"), "details are for those who ask");
    }
    let answer = fetch(&running, "/readyz?verbose").await;
    assert!(answer.contains(r#""database":{"detail":"connection refused","ok":false}"#), "{answer}");
    readiness.report("database", Ok(()));
    let answer = fetch(&running, "/readyz?verbose").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(r#""database":{"ok":true}"#), "{answer}");
}

#[tokio::test]
async fn metrics_are_scraped_first_and_have_no_summaries() {
    let (routes, _, scrapes) = daemon();
    let running = start(routes, NEVER, NEVER).await;
    metrics::pool_wait(Duration::from_millis(3));
    let answer = fetch(&running, "/metrics").await;
    assert_eq!(scrapes.load(Ordering::SeqCst), 1);
    assert!(answer.contains("text/plain; version=0.0.4"), "{answer}");
    assert!(answer.contains("# TYPE keyfall_pool_wait_seconds histogram"), "{answer}");
    assert!(!answer.lines().any(|line| line.starts_with("# TYPE") && line.ends_with(" summary")), "{answer}");
}

#[tokio::test]
async fn paths_that_clients_make_up_become_no_labels() {
    let running = start(daemon().0, NEVER, NEVER).await;
    let answer = fetch(&running, "/made-up-7f3a").await;
    assert!(answer.starts_with("HTTP/1.1 404 ") && answer.contains("application/problem+json"), "{answer}");
    assert!(ask(&running, "DELETE /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.contains(" 405 "));
    let text = fetch(&running, "/metrics").await;
    assert!(text.contains(r#"keyfall_http_requests_total{route="other",code="404"}"#), "{text}");
    assert!(text.contains(r#"keyfall_http_requests_total{route="/livez",code="405"}"#), "{text}");
    assert!(!text.contains("made-up-7f3a"), "{text}");
}

#[tokio::test]
async fn every_answer_says_that_it_is_not_to_be_kept_and_is_what_its_type_says() {
    let running = start(daemon().0, NEVER, NEVER).await;
    for request in ["GET /livez", "GET /readyz", "GET /healthz", "GET /metrics", "GET /nothing", "POST /livez"] {
        let answer = ask(&running, &format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await;
        let head = answer.split("\r\n\r\n").next().unwrap().to_lowercase();
        for header in ["cache-control: no-store", "x-content-type-options: nosniff"] {
            assert_eq!(head.matches(header).count(), 1, "{request}: {head}");
        }
        for header in ["server:", "access-control-"] {
            assert!(!head.contains(header), "{request}: {head}");
        }
    }
}
