//! Connections, each served by hyper, and what a fault may do to them.

use std::io::{self, Write as _};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::body::Incoming;
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use s3s::service::S3Service;
use s3s::{Body, StdError};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::canned::Canned;

/// Longest body that a fault compresses.
const LARGEST_COMPRESSED: usize = 64 << 20;

/// Serves one connection until it ends.
pub(super) async fn serve(stream: TcpStream, service: S3Service) {
    let control = Control::default();
    let io = TokioIo::new(Connection { stream, control: control.clone() });
    let answer = service_fn(move |request| answer(service.clone(), control.clone(), request));
    if let Err(error) = http1::Builder::new().serve_connection(io, answer).await {
        tracing::debug!(%error, "embedded S3 connection ended early");
    }
}

async fn answer(service: S3Service, control: Control, request: Request<Incoming>) -> Result<Response<Body>, StdError> {
    let mut request = request.map(Body::from);
    request.extensions_mut().insert(control.clone());
    let response = service.call(request).await.map_err(StdError::from)?;
    if control.hang_up.load(Ordering::SeqCst) {
        // An error instead of an answer makes hyper close the connection: the client never learns the outcome.
        return Err("a fault rule hung up".into());
    }
    if let Some(canned) = control.instead.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return Ok(canned.into_response()?);
    }
    if control.compress.swap(false, Ordering::SeqCst) {
        return compressed(response).await;
    }
    Ok(response)
}

async fn compressed(response: Response<Body>) -> Result<Response<Body>, StdError> {
    let (mut head, mut body) = response.into_parts();
    let plain = body.store_all_limited(LARGEST_COMPRESSED).await?;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&plain)?;
    head.headers.remove(CONTENT_LENGTH);
    head.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    Ok(Response::from_parts(head, Body::from(Bytes::from(encoder.finish()?))))
}

/// What a fault may do to the connection its request came on.
#[derive(Clone, Default)]
pub(super) struct Control {
    reset: Arc<AtomicBool>,
    hang_up: Arc<AtomicBool>,
    compress: Arc<AtomicBool>,
    instead: Arc<Mutex<Option<Canned>>>,
}

impl Control {
    /// The connection will end with RST rather than FIN.
    pub(super) fn reset_at_end(&self) {
        self.reset.store(true, Ordering::SeqCst);
    }

    /// The body of this request's answer is compressed.
    pub(super) fn compress(&self) {
        self.compress.store(true, Ordering::SeqCst);
    }

    /// This request is answered with something else.
    pub(super) fn answer_instead(&self, canned: Canned) {
        *self.instead.lock().unwrap_or_else(PoisonError::into_inner) = Some(canned);
    }

    /// The connection ends instead of this request's answer.
    pub(super) fn hang_up(&self) {
        self.hang_up.store(true, Ordering::SeqCst);
    }
}

/// A socket that can be told to end with RST.
struct Connection {
    stream: TcpStream,
    control: Control,
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.control.reset.load(Ordering::SeqCst)
            && let Err(error) = self.stream.set_zero_linger()
        {
            tracing::debug!(%error, "embedded S3 could not reset a connection");
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
