//! Where the service's log lines go: into a bounded queue, from which a thread of its own writes them.
//!
//! Guaranteed: logging never waits. Standard error is often a pipe, and a write to a full one stops the thread that
//! writes; done by the runtime's threads, a reader that stops reading would stop the loading. Lines that find the
//! queue full are dropped and counted, and the count is told as soon as somebody reads again. Deliberately absent:
//! files, rotation, and a promise that lines survive a kill.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

use super::metrics;

/// Lines that wait at most. A line is a few hundred bytes and never more than some thousand, so this is some hundred
/// kilobytes, and a burst of errors about a thousand objects fits.
const LINES: usize = 1024;

/// How long the end of the process waits for its last lines, where nobody reads them.
const LAST_LINES: Duration = Duration::from_secs(1);

/// How often a full queue is looked at while the process ends.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

enum Entry {
    Line(Vec<u8>),
    /// Everything before it has been written.
    Mark(SyncSender<()>),
}

/// The queue's entrance. Clones share it.
#[derive(Clone)]
pub struct Outlet {
    sender: SyncSender<Entry>,
    dropped: Arc<AtomicU64>,
}

impl Outlet {
    /// Starts the thread that writes. It ends with the last clone.
    pub fn new(writer: impl Write + Send + 'static) -> io::Result<Self> {
        Self::with_room(LINES, writer)
    }

    fn with_room(lines: usize, writer: impl Write + Send + 'static) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(lines);
        let dropped = Arc::default();
        let counted = Arc::clone(&dropped);
        let thread = std::thread::Builder::new().name("log".to_owned());
        drop(thread.spawn(move || write_out(&receiver, writer, &counted))?);
        Ok(Self { sender, dropped })
    }

    /// Waits until everything logged so far has been written, but not for ever.
    pub fn flush(&self) {
        let begun = Instant::now();
        let (done, written) = sync_channel(1);
        let mut mark = Entry::Mark(done);
        while let Err(TrySendError::Full(again)) = self.sender.try_send(mark) {
            if begun.elapsed() > LAST_LINES {
                return;
            }
            mark = again;
            std::thread::sleep(LOOK_INTERVAL);
        }
        if written.recv_timeout(LAST_LINES).is_err() {
            // Nobody reads, and the process ends all the same.
            metrics::log_line_dropped();
        }
    }
}

impl<'a> MakeWriter<'a> for Outlet {
    type Writer = Self;

    fn make_writer(&'a self) -> Self::Writer {
        self.clone()
    }
}

impl Write for Outlet {
    /// Takes a whole line, or drops it; never waits and never fails.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.sender.try_send(Entry::Line(line.to_vec())).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            metrics::log_line_dropped();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_out(entries: &Receiver<Entry>, mut writer: impl Write, dropped: &AtomicU64) {
    while let Ok(entry) = entries.recv() {
        match entry {
            Entry::Line(line) => {
                // A closed standard error is nobody's business: lines are lost, loading goes on.
                drop(writer.write_all(&line).and_then(|()| writer.flush()));
                match dropped.swap(0, Ordering::Relaxed) {
                    0 => {}
                    // Goes into the queue like any other line; there is room for it, because one was just taken out.
                    lines => tracing::warn!(lines, "log lines were dropped: nobody read standard error"),
                }
            }
            // Nobody waits any more where the flush gave up.
            Entry::Mark(done) => drop(done.try_send(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, MutexGuard};

    use super::*;

    /// A reader that stops: writes wait until the test lets go of the lock.
    #[derive(Clone, Default)]
    struct Stuck {
        gate: Arc<Mutex<()>>,
        written: Arc<Mutex<Vec<u8>>>,
        waiting: Arc<AtomicU64>,
    }

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.waiting.fetch_add(1, Ordering::SeqCst);
            drop(self.gate.lock().unwrap());
            self.written.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn log(outlet: &mut Outlet, line: &str) {
        outlet.write_all(line.as_bytes()).unwrap();
    }

    fn wait_for_a_write(stuck: &Stuck) {
        while stuck.waiting.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_reader_that_stops_costs_lines_and_no_time() {
        let stuck = Stuck::default();
        let gate = Arc::clone(&stuck.gate);
        let closed: MutexGuard<'_, ()> = gate.lock().unwrap();
        let mut outlet = Outlet::with_room(2, stuck.clone()).unwrap();
        log(&mut outlet, "in the writer's hands\n");
        wait_for_a_write(&stuck);
        for line in ["waits\n", "waits too\n", "lost\n", "lost too\n"] {
            log(&mut outlet, line);
        }
        assert_eq!(outlet.dropped.load(Ordering::Relaxed), 2);
        drop(closed);
        outlet.flush();
        let written = String::from_utf8(stuck.written.lock().unwrap().clone()).unwrap();
        assert_eq!(written, "in the writer's hands\nwaits\nwaits too\n");
        assert_eq!(outlet.dropped.load(Ordering::Relaxed), 0, "told");
    }

    #[test]
    fn the_end_of_the_process_does_not_wait_for_ever() {
        let stuck = Stuck::default();
        let gate = Arc::clone(&stuck.gate);
        let _closed = gate.lock().unwrap();
        let mut outlet = Outlet::with_room(1, stuck.clone()).unwrap();
        log(&mut outlet, "one\n");
        wait_for_a_write(&stuck);
        log(&mut outlet, "two\n");
        let begun = Instant::now();
        outlet.flush();
        assert!(begun.elapsed() < LAST_LINES * 5, "{:?}", begun.elapsed());
    }
}
