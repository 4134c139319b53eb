//! The other end of the failpoints' control socket: sees every hit of one program in the common order, and answers.
//!
//! A hold is an answer that is not given yet, so a program waits at a step without any of its threads being blocked.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use keyfall::demo::s3::Gate;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// What happens at a step.
#[derive(Debug, Clone)]
pub(crate) enum Strike {
    Kill,
    Hang,
    Panic,
    /// One of `retry`, `suspect`, `quarantine`, `halt`.
    Error(&'static str),
    /// Waits for the gate, then goes on.
    Hold(Gate),
}

/// A step in the order of all logs of a trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) seq: u64,
    /// The program's name in the trial.
    pub(crate) program: String,
    pub(crate) point: String,
}

/// A strike in force.
#[derive(Clone)]
pub(crate) struct Armed(Arc<Rule>);

impl Armed {
    /// How often it struck.
    pub(crate) fn hits(&self) -> u64 {
        self.0.hits.load(Ordering::SeqCst)
    }
}

struct Rule {
    point: String,
    strike: Strike,
    first: u64,
    times: u64,
    seen: AtomicU64,
    hits: AtomicU64,
}

impl Rule {
    fn strikes(&self) -> bool {
        let nth = self.seen.fetch_add(1, Ordering::SeqCst) + 1;
        let struck = nth >= self.first && nth - self.first < self.times;
        if struck {
            self.hits.fetch_add(1, Ordering::SeqCst);
        }
        struck
    }
}

struct Shared {
    program: String,
    sequence: Arc<AtomicU64>,
    rules: Mutex<Vec<Arc<Rule>>>,
    steps: Mutex<Vec<Step>>,
    count: watch::Sender<u64>,
}

/// The control of one program, over all its lives.
pub(crate) struct Control {
    shared: Arc<Shared>,
    path: PathBuf,
    _listening: AbortOnDropHandle<()>,
}

impl Control {
    pub(crate) fn start(directory: &Path, program: &str, sequence: Arc<AtomicU64>) -> Self {
        let path = directory.join(format!("{program}.control"));
        let listener = UnixListener::bind(&path).expect("a control socket");
        let shared = Arc::new(Shared {
            program: program.to_owned(),
            sequence,
            rules: Mutex::default(),
            steps: Mutex::default(),
            count: watch::Sender::default(),
        });
        let listening = AbortOnDropHandle::new(spawn(accept(listener, Arc::clone(&shared))));
        Self { shared, path, _listening: listening }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Strikes the `nth` hit from now on, once.
    pub(crate) fn arm(&self, point: &str, nth: u64, strike: Strike) -> Armed {
        self.arm_times(point, nth, 1, strike)
    }

    /// Strikes `times` hits in a row, beginning with the `nth` from now on.
    pub(crate) fn arm_times(&self, point: &str, nth: u64, times: u64, strike: Strike) -> Armed {
        let known = ::keyfall::failpoint::Point::ALL.iter().any(|known| known.name() == point);
        assert!(known, "there is no failpoint {point:?}");
        let rule = Arc::new(Rule {
            point: point.to_owned(),
            strike,
            first: nth,
            times,
            seen: AtomicU64::new(0),
            hits: AtomicU64::new(0),
        });
        lock(&self.shared.rules).push(Arc::clone(&rule));
        Armed(rule)
    }

    /// Forgets all strikes; a step that is held stays held until its gate opens.
    pub(crate) fn heal(&self) {
        lock(&self.shared.rules).clear();
    }

    /// All steps so far.
    pub(crate) fn steps(&self) -> Vec<Step> {
        lock(&self.shared.steps).clone()
    }

    /// How often a step was reached, over all lives.
    pub(crate) fn hits(&self, point: &str) -> usize {
        lock(&self.shared.steps).iter().filter(|step| step.point == point).count()
    }

    /// Waits until a step has been reached so often, over all lives.
    pub(crate) async fn reached(&self, point: &str, hits: usize) {
        let mut count = self.shared.count.subscribe();
        while self.hits(point) < hits {
            count.changed().await.expect("the sender lives in `self`");
        }
    }
}

fn spawn<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> tokio::task::JoinHandle<T> {
    #[expect(clippy::disallowed_methods, reason = "ends with the control, or with the runtime")]
    tokio::spawn(work)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: UnixListener, shared: Arc<Shared>) {
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            drop(spawn(answer(stream, Arc::clone(&shared))));
        }
    }
}

async fn answer(stream: UnixStream, shared: Arc<Shared>) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    // A program that was killed while it asked needs no answer.
    if stream.read_line(&mut line).await.is_err() {
        return;
    }
    let Some((point, _hit)) = line.trim().split_once(' ') else { return };
    let rules: Vec<Arc<Rule>> = {
        // Numbered under the lock, so that steps stand in the order of their numbers.
        let mut steps = lock(&shared.steps);
        let seq = shared.sequence.fetch_add(1, Ordering::SeqCst);
        steps.push(Step { seq, program: shared.program.clone(), point: point.to_owned() });
        lock(&shared.rules).iter().filter(|rule| rule.point == point && rule.strikes()).cloned().collect()
    };
    shared.count.send_modify(|count| *count += 1);
    let mut word = "go".to_owned();
    for rule in rules {
        match &rule.strike {
            Strike::Kill => "kill".clone_into(&mut word),
            Strike::Hang => "hang".clone_into(&mut word),
            Strike::Panic => "panic".clone_into(&mut word),
            Strike::Error(verdict) => word = format!("error:{verdict}"),
            Strike::Hold(gate) => gate.pass().await,
        }
    }
    // The same: nobody may be there any more.
    drop(stream.get_mut().write_all(format!("{word}\n").as_bytes()).await);
}
