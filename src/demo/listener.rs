//! The accept loop of the embedded servers: connections on loopback, each served until it ends or the server stops.
//!
//! Nagle's algorithm is off, or every answer on a kept connection would wait 40 ms for the client's delayed ACK.

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Serves connections until `stop`.
pub(super) async fn accept_loop<F>(
    listener: TcpListener,
    stop: CancellationToken,
    tasks: TaskTracker,
    serve: impl Fn(TcpStream) -> F + Send,
) where
    F: Future<Output = ()> + Send + 'static,
{
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, _peer)) => {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "an embedded server could not switch Nagle's algorithm off");
                }
                let connection = serve(stream);
                let stop = stop.clone();
                tasks.spawn(async move { stop.run_until_cancelled(connection).await });
            }
            // Out of file descriptors, or a peer that gave up while it queued: the next one may do better.
            Err(error) => {
                tracing::warn!(%error, "an embedded server could not accept a connection");
                tokio::task::yield_now().await;
            }
        }
    }
}
