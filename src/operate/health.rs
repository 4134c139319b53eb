//! Asking a running daemon whether it is ready, as a container's healthcheck does.
//!
//! One GET over a plain connection, with one deadline for all of it. It needs no configuration beyond the address and
//! reads no secret.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Healthchecks run every few seconds: an answer that takes longer is none.
const DEADLINE: Duration = Duration::from_secs(3);

/// More than any readiness answer; the rest is not read.
const ANSWER_LIMIT: u64 = 64 * 1024;

/// Why a daemon is not known to be ready.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// The URL is none we can ask.
    #[error("{0:?} is no URL such as http://127.0.0.1:9187/readyz")]
    Url(String),
    /// Nobody listens, or the connection broke.
    #[error("{address} does not answer: {source}")]
    Connection {
        /// Where we asked.
        address: String,
        /// What happened.
        source: std::io::Error,
    },
    /// No whole answer in time.
    #[error("{address} gave no answer within {} s", DEADLINE.as_secs())]
    Late {
        /// Where we asked.
        address: String,
    },
    /// The daemon says no.
    #[error("not ready ({status}): {body}")]
    NotReady {
        /// HTTP status.
        status: u16,
        /// What it said.
        body: String,
    },
    /// Whoever answers speaks something else.
    #[error("{address} did not answer in HTTP")]
    NotHttp {
        /// Where we asked.
        address: String,
    },
}

/// What to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    authority: String,
    path: String,
}

impl Target {
    /// Takes `http://host:port/path` apart; the path defaults to `/readyz`.
    pub fn parse(url: &str) -> Result<Self, HealthError> {
        let refused = || HealthError::Url(url.to_owned());
        let rest = url.strip_prefix("http://").ok_or_else(refused)?;
        let (authority, path) = match rest.split_once('/') {
            Some((authority, path)) if !path.is_empty() => (authority, format!("/{path}")),
            Some((authority, _)) => (authority, "/readyz".to_owned()),
            None => (rest, "/readyz".to_owned()),
        };
        let is_plain = |text: &str| !text.is_empty() && !text.contains(|c: char| c.is_control() || c.is_whitespace());
        if !is_plain(authority) || !is_plain(&path) || authority.contains('@') {
            return Err(refused());
        }
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let authority = if has_port { authority.to_owned() } else { format!("{authority}:80") };
        Ok(Self { authority, path })
    }

    /// The readiness of a daemon that listens here. A listener on all addresses is asked on loopback.
    pub fn listening_on(listen: SocketAddr) -> Self {
        let host = match listen.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        Self { authority: SocketAddr::new(host, listen.port()).to_string(), path: "/readyz".to_owned() }
    }
}

/// Asks once; answers what the daemon said.
pub async fn ask(target: &Target) -> Result<String, HealthError> {
    let address = || target.authority.clone();
    let answer = match tokio::time::timeout(DEADLINE, exchange(target)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(source)) => return Err(HealthError::Connection { address: address(), source }),
        Err(_elapsed) => return Err(HealthError::Late { address: address() }),
    };
    let (status, body) = read(&answer).ok_or_else(|| HealthError::NotHttp { address: address() })?;
    match status {
        200..=299 => Ok(body),
        status => Err(HealthError::NotReady { status, body }),
    }
}

async fn exchange(target: &Target) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(&target.authority).await?;
    // HTTP/1.0 keeps the body free of chunks, so the end of the connection is its end.
    let request =
        format!("GET {} HTTP/1.0\r\nHost: {}\r\nUser-Agent: keyfall-health\r\n\r\n", target.path, target.authority);
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_LIMIT).read_to_end(&mut answer).await?;
    Ok(answer)
}

/// Status and body of an answer.
fn read(answer: &[u8]) -> Option<(u16, String)> {
    let text = String::from_utf8_lossy(answer);
    let status = text.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.get(..3)?.parse().ok()?;
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body).trim();
    Some((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(authority: &str, path: &str) -> Target {
        Target { authority: authority.to_owned(), path: path.to_owned() }
    }

    #[test]
    fn urls_are_taken_apart() {
        for (url, expected) in [
            ("http://127.0.0.1:9187", target("127.0.0.1:9187", "/readyz")),
            ("http://127.0.0.1:9187/", target("127.0.0.1:9187", "/readyz")),
            ("http://keyfall/livez", target("keyfall:80", "/livez")),
            ("http://[::1]:9187/readyz", target("[::1]:9187", "/readyz")),
        ] {
            assert_eq!(Target::parse(url).unwrap(), expected, "{url}");
        }
    }

    #[test]
    fn urls_that_could_smuggle_a_header_or_need_tls_are_refused() {
        for url in ["https://host", "host:1", "http://", "http://a b/", "http://a/\r\nX: y", "http://user@host/"] {
            assert!(matches!(Target::parse(url), Err(HealthError::Url(_))), "{url:?}");
        }
    }

    #[test]
    fn a_listener_on_all_addresses_is_asked_on_loopback() {
        let asked = |listen: &str| Target::listening_on(listen.parse().unwrap()).authority;
        assert_eq!(asked("0.0.0.0:9187"), "127.0.0.1:9187");
        assert_eq!(asked("[::]:9187"), "[::1]:9187");
        assert_eq!(asked("10.0.0.7:9187"), "10.0.0.7:9187");
    }

    #[test]
    fn answers_are_read() {
        assert_eq!(read(b"HTTP/1.1 200 OK\r\nx: y\r\n\r\nready\n"), Some((200, "ready".to_owned())));
        assert_eq!(read(b"HTTP/1.0 503 No\r\n\r\n"), Some((503, String::new())));
        assert_eq!(read(b"SSH-2.0-OpenSSH"), None);
        assert_eq!(read(b""), None);
    }
}
