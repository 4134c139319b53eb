//! One connection through the proxy: two pumps and what can befall them.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use super::trigger::{Action, LONGEST_PATTERN, Strike};
use super::{Control, Fault, Flow, What};

/// One read; about what a socket buffer holds, so that a COPY passes at full speed.
const READ_BYTES: usize = 64 * 1024;

/// After a cut the server gets so long to finish what it has been sent.
const FINISH_DEADLINE: Duration = Duration::from_secs(10);

/// State of one connection, seen by both its pumps.
#[derive(Debug)]
struct Link<'a> {
    control: &'a Control,
    answers_dropped: AtomicBool,
    blackholed: AtomicBool,
    lost_bytes: AtomicBool,
}

/// How a pump ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// Its source ended, or either side failed.
    Closed,
    /// Cut: the server finishes first.
    CutAfter,
    /// Cut: both sides end now.
    CutBefore,
    /// Bytes are missing in the stream that was to go on.
    Gap,
}

impl Link<'_> {
    fn flow(&self) -> Flow {
        let set = self.control.settings.borrow().flow;
        if set == Flow::Blackhole || self.blackholed.load(Ordering::SeqCst) {
            Flow::Blackhole
        } else if set == Flow::DropAnswers || self.answers_dropped.load(Ordering::SeqCst) {
            Flow::DropAnswers
        } else {
            Flow::Pass
        }
    }

    /// Counts a read that goes nowhere, and remembers that the stream has a gap from here on.
    fn swallow(&self, fault: Fault) {
        self.control.struck(fault);
        self.lost_bytes.store(true, Ordering::SeqCst);
    }

    fn has_gap(&self) -> bool {
        self.flow() == Flow::Pass && self.lost_bytes.load(Ordering::SeqCst)
    }

    fn read_bytes(&self) -> usize {
        // A limited connection moves in steps of a twentieth of a second, not in bursts of seconds.
        let limit = self.control.settings.borrow().bandwidth;
        limit.map_or(READ_BYTES, |limit| usize::try_from(limit.get() / 20).unwrap_or(READ_BYTES).clamp(1, READ_BYTES))
    }

    async fn delay(&self, bytes: usize) {
        let settings = *self.control.settings.borrow();
        let mut delay = settings.latency;
        if !delay.is_zero() {
            self.control.struck(Fault::Latency);
        }
        if let Some(limit) = settings.bandwidth {
            self.control.struck(Fault::Bandwidth);
            delay += Duration::from_secs_f64(bytes as f64 / limit.get() as f64);
        }
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
    }

    /// In a black hole nobody learns that the other side has gone.
    async fn end_of_stream(&self) {
        if self.blackholed.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let mut settings = self.control.settings.subscribe();
        // It fails only where the sender is gone, and the sender is borrowed by this very connection.
        drop(settings.wait_for(|settings| settings.flow != Flow::Blackhole).await);
    }
}

/// Carries one connection until it ends or is made to end.
pub(super) async fn serve(mut client: TcpStream, mut server: TcpStream, control: &Control) {
    // Small protocol messages must not wait for acknowledgements on either leg.
    if client.set_nodelay(true).and_then(|()| server.set_nodelay(true)).is_err() {
        return;
    }
    let reset = control.reset_token();
    let link = Link {
        control,
        answers_dropped: AtomicBool::new(false),
        blackholed: AtomicBool::new(false),
        lost_bytes: AtomicBool::new(false),
    };
    let end = reset.run_until_cancelled(carry(&link, &mut client, &mut server)).await;
    if matches!(end, None | Some(End::Gap)) {
        control.struck(Fault::Reset);
        for side in [&client, &server] {
            if let Err(error) = side.set_zero_linger() {
                tracing::debug!(%error, "a connection was closed instead of reset");
            }
        }
    }
}

async fn carry(link: &Link<'_>, client: &mut TcpStream, server: &mut TcpStream) -> End {
    let (client_read, client_write) = client.split();
    let (server_read, mut server_write) = server.split();
    let answers = pump_answers(link, server_read, client_write);
    tokio::pin!(answers);
    let end = tokio::select! {
        end = pump_requests(link, client_read, &mut server_write) => end,
        end = &mut answers => return end,
    };
    if end == End::CutBefore || end == End::Gap {
        return end;
    }
    // The server reads the end of the stream behind all it was sent, so when it closes, it has done everything.
    if server_write.shutdown().await.is_err() {
        return End::Closed;
    }
    if end == End::Closed {
        return answers.await;
    }
    drop(tokio::time::timeout(FINISH_DEADLINE, answers).await);
    end
}

async fn pump_requests(link: &Link<'_>, mut from: ReadHalf<'_>, to: &mut WriteHalf<'_>) -> End {
    let mut buffer = vec![0; READ_BYTES];
    let mut before = Vec::new();
    loop {
        let Some(read) = read_some(link, &mut from, &mut buffer).await else { return End::Closed };
        if link.has_gap() {
            return End::Gap;
        }
        if link.flow() == Flow::Blackhole {
            link.swallow(Fault::Blackhole);
            continue;
        }
        let strike = link.control.armed().iter().find_map(|armed| armed.look(&before, read));
        before.extend_from_slice(read);
        before.drain(..before.len().saturating_sub(LONGEST_PATTERN));
        let outcome = match strike {
            Some(strike) => strike_link(link, &strike, read, to).await,
            None => to.write_all(read).await.map(|()| None),
        };
        match outcome {
            Ok(None) => {}
            Ok(Some(end)) => return end,
            Err(_) => return End::Closed,
        }
    }
}

/// Carries a trigger's action out; answers how the pump ends, where it ends.
async fn strike_link(link: &Link<'_>, strike: &Strike, read: &[u8], to: &mut WriteHalf<'_>) -> io::Result<Option<End>> {
    let before = read.get(..strike.start).unwrap_or_default();
    let end = match strike.action {
        Action::CutBefore => {
            to.write_all(before).await?;
            Some(End::CutBefore)
        }
        Action::CutAfter => {
            link.answers_dropped.store(true, Ordering::SeqCst);
            to.write_all(read).await?;
            Some(End::CutAfter)
        }
        Action::DropAnswers => {
            link.answers_dropped.store(true, Ordering::SeqCst);
            to.write_all(read).await?;
            None
        }
        Action::Blackhole => {
            to.write_all(before).await?;
            link.blackholed.store(true, Ordering::SeqCst);
            None
        }
    };
    link.control.note(What::Struck(strike.action));
    strike.by.carried_out();
    Ok(end)
}

async fn pump_answers(link: &Link<'_>, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> End {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let Some(read) = read_some(link, &mut from, &mut buffer).await else { return End::Closed };
        if link.has_gap() {
            return End::Gap;
        }
        match link.flow() {
            Flow::DropAnswers => link.swallow(Fault::DropAnswers),
            Flow::Blackhole => link.swallow(Fault::Blackhole),
            Flow::Pass if to.write_all(read).await.is_err() => return End::Closed,
            Flow::Pass => {}
        }
    }
}

/// The next bytes, after the delays in force; none at the end of the stream.
async fn read_some<'b>(link: &Link<'_>, from: &mut ReadHalf<'_>, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
    let room = buffer.get_mut(..link.read_bytes())?;
    let bytes = from.read(room).await.unwrap_or(0);
    if bytes == 0 {
        link.end_of_stream().await;
        return None;
    }
    link.delay(bytes).await;
    buffer.get(..bytes)
}
