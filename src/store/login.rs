//! How a connection is opened: TLS is negotiated here, and the server's way of asking for a password is judged here.
//!
//! The driver answers whatever login method a server names. Without TLS that would let anybody who answers ask for the
//! password itself, so such a request ends the connection before a byte of the password is sent, unless `require_auth`
//! allows it. With `sslmode=require` and above nothing but the request for TLS ever crosses the network in the clear.
//! Sockets of this machine do not come here: who may answer there is a matter of their directory's owner.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_postgres::Socket;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::config::database::{Database, LoginMethod, SslMode};

use super::error::StoreError;
use super::tls;

/// `SSLRequest`: length and code, as the protocol has them.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// A backend message's type and length, and the code an authentication request begins with.
const HEAD: usize = 9;

type Rustls = <MakeRustlsConnect as MakeTlsConnect<Socket>>::TlsConnect;
type Encrypted = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;

/// Opens connections as a configuration asks.
#[derive(Clone)]
pub struct Opener {
    rustls: MakeRustlsConnect,
    terms: Terms,
}

/// What is demanded of a connection.
#[derive(Clone)]
struct Terms {
    sslmode: SslMode,
    require_auth: Option<Vec<LoginMethod>>,
}

impl Terms {
    fn accepts(&self, method: LoginMethod, is_encrypted: bool) -> bool {
        match &self.require_auth {
            Some(methods) => methods.contains(&method),
            None => is_encrypted || matches!(method, LoginMethod::None | LoginMethod::Scram),
        }
    }
}

impl Opener {
    pub(super) fn new(database: &Database) -> Result<Self, StoreError> {
        let terms = Terms { sslmode: database.sslmode, require_auth: database.require_auth.clone() };
        Ok(Self { rustls: MakeRustlsConnect::new(tls::client_config(database)?), terms })
    }
}

impl MakeTlsConnect<Socket> for Opener {
    type Stream = Judged<Link>;
    type TlsConnect = Opening;
    type Error = Box<dyn Error + Send + Sync>;

    fn make_tls_connect(&mut self, domain: &str) -> Result<Opening, Self::Error> {
        let rustls = MakeTlsConnect::<Socket>::make_tls_connect(&mut self.rustls, domain)?;
        Ok(Opening { rustls, terms: self.terms.clone() })
    }
}

/// One connection about to be opened.
pub struct Opening {
    rustls: Rustls,
    terms: Terms,
}

impl TlsConnect<Socket> for Opening {
    type Stream = Judged<Link>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Judged<Link>>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(self.open(socket))
    }
}

impl Opening {
    async fn open(self, mut socket: Socket) -> io::Result<Judged<Link>> {
        let is_encrypted = self.terms.sslmode != SslMode::Disable && offers_tls(&mut socket).await?;
        if !is_encrypted && !matches!(self.terms.sslmode, SslMode::Disable | SslMode::Prefer) {
            // The connection ends here: user, database and password were never sent.
            return Err(io::Error::other(format!(
                "the server does not offer TLS, and sslmode={} demands it",
                self.terms.sslmode.as_str()
            )));
        }
        let link =
            if is_encrypted { Link::Tls(Box::new(self.rustls.connect(socket).await?)) } else { Link::Plain(socket) };
        Ok(Judged { link, terms: self.terms, is_encrypted, head: Vec::with_capacity(HEAD), given: 0, ended: false })
    }
}

/// Asks for TLS. Exactly one byte is read: whatever somebody in between appends would otherwise count as encrypted.
async fn offers_tls(socket: &mut Socket) -> io::Result<bool> {
    socket.write_all(&SSL_REQUEST).await?;
    socket.flush().await?;
    match socket.read_u8().await? {
        b'S' => Ok(true),
        b'N' => Ok(false),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the server did not understand the request for TLS")),
    }
}

/// The bytes below the protocol.
pub enum Link {
    /// Encrypted.
    Tls(Box<Encrypted>),
    /// In the clear.
    Plain(Socket),
}

/// A connection whose first message from the server is read before the driver sees any of it.
pub struct Judged<S> {
    link: S,
    terms: Terms,
    is_encrypted: bool,
    head: Vec<u8>,
    given: usize,
    ended: bool,
}

impl<S> Judged<S> {
    /// Only the first message can ask for a password: the driver takes no other answer to its start packet.
    fn judge(&self) -> io::Result<()> {
        let [b'R', _, _, _, _, code @ ..] = self.head.as_slice() else { return Ok(()) };
        let method = match code {
            [0, 0, 0, 0] => LoginMethod::None,
            [0, 0, 0, 3] => LoginMethod::Password,
            [0, 0, 0, 5] => LoginMethod::Md5,
            [0, 0, 0, 10] => LoginMethod::Scram,
            // The driver has no other and says so.
            _ => return Ok(()),
        };
        if self.terms.accepts(method, self.is_encrypted) {
            return Ok(());
        }
        let why = match (&self.terms.require_auth, method) {
            (Some(_), _) => "require_auth does not allow that",
            (None, LoginMethod::Password) => "without TLS that gives the password to whoever listens",
            (None, _) => "without TLS that gives a login to whoever listens",
        };
        let detail = format!("the server asks for login method {}: {why}; nothing was sent", method.as_str());
        Err(io::Error::new(io::ErrorKind::PermissionDenied, detail))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Judged<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.head.len() < HEAD && !this.ended {
            let mut space = [0; HEAD];
            let wanted = space.get_mut(this.head.len()..).unwrap_or_default();
            let mut read = ReadBuf::new(wanted);
            ready!(Pin::new(&mut this.link).poll_read(cx, &mut read))?;
            this.ended = read.filled().is_empty();
            this.head.extend_from_slice(read.filled());
            this.judge()?;
        }
        let rest = this.head.get(this.given..).unwrap_or_default();
        if rest.is_empty() {
            return Pin::new(&mut this.link).poll_read(cx, buf);
        }
        let part = rest.get(..buf.remaining()).unwrap_or(rest);
        buf.put_slice(part);
        this.given += part.len();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Judged<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.link).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.link).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.link).poll_shutdown(cx)
    }
}

impl TlsStream for Judged<Link> {
    fn channel_binding(&self) -> ChannelBinding {
        match &self.link {
            Link::Tls(stream) => stream.channel_binding(),
            Link::Plain(_) => ChannelBinding::none(),
        }
    }
}

impl AsyncRead for Link {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Link {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the driver reads of these bytes, given to it in pieces of this size.
    async fn read(
        bytes: &[u8],
        piece: usize,
        require_auth: Option<Vec<LoginMethod>>,
        tls: bool,
    ) -> Result<Vec<u8>, String> {
        let mut script = pieces(bytes, piece);
        let terms = Terms { sslmode: SslMode::Prefer, require_auth };
        let mut judged =
            Judged { link: &mut script, terms, is_encrypted: tls, head: Vec::new(), given: 0, ended: false };
        let mut out = Vec::new();
        judged.read_to_end(&mut out).await.map_err(|error| error.to_string())?;
        Ok(out)
    }

    /// A reader that answers at most so many bytes at a time.
    fn pieces(bytes: &[u8], piece: usize) -> Pieces {
        Pieces { bytes: bytes.to_vec(), at: 0, piece }
    }

    struct Pieces {
        bytes: Vec<u8>,
        at: usize,
        piece: usize,
    }

    impl AsyncRead for Pieces {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let end = self.bytes.len().min(self.at + self.piece.min(buf.remaining()));
            buf.put_slice(&self.bytes[self.at..end]);
            self.at = end;
            Poll::Ready(Ok(()))
        }
    }

    fn asks(code: u8) -> Vec<u8> {
        let mut message = vec![b'R', 0, 0, 0, 12, 0, 0, 0, code];
        message.extend_from_slice(b"saltZ\0\0\0\x05I");
        message
    }

    #[tokio::test]
    async fn a_password_is_asked_for_in_the_clear_only_under_tls_or_where_that_is_allowed() {
        for piece in [1, 2, 8, 9, 64] {
            for (code, word, clear, encrypted) in [
                (0, "none", true, true),
                (3, "password", false, true),
                (5, "md5", false, true),
                (10, "scram", true, true),
            ] {
                for (tls, expected) in [(false, clear), (true, encrypted)] {
                    let said = read(&asks(code), piece, None, tls).await;
                    match said {
                        Ok(bytes) => assert!(expected && bytes == asks(code), "{word} {tls} {piece}: {bytes:?}"),
                        Err(error) => assert!(!expected && error.contains(word) && error.contains("TLS"), "{error}"),
                    }
                }
            }
            let only = Some(vec![LoginMethod::Md5]);
            assert_eq!(read(&asks(5), piece, only.clone(), false).await.unwrap(), asks(5));
            let refused = read(&asks(10), piece, only, true).await.unwrap_err();
            assert!(refused.contains("scram-sha-256") && refused.contains("require_auth"), "{refused}");
        }
    }

    #[tokio::test]
    async fn anything_else_reaches_the_driver_untouched() {
        for bytes in [b"E\0\0\0\x06SX\0".to_vec(), b"R\0".to_vec(), Vec::new(), asks(7), vec![b'E'; 5000]] {
            for piece in [1, 9, 1000] {
                assert_eq!(read(&bytes, piece, None, false).await.unwrap(), bytes);
            }
        }
    }
}
