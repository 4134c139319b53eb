//! What a case is, what it is given, and what it answers.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// Longest an ordinary case may take.
const LONGEST: Duration = Duration::from_mins(4);

/// What one run of a case is given.
#[derive(Debug, Clone)]
pub(crate) struct Trial {
    /// The case's id.
    pub(crate) id: String,
    /// Everything random comes from it.
    pub(crate) seed: u64,
}

impl Trial {
    /// A source of random numbers for one purpose, the same for the same seed.
    pub(crate) fn random(&self, purpose: &str) -> fastrand::Rng {
        let salt = purpose
            .bytes()
            .chain(self.id.bytes())
            .fold(0_u64, |sum, byte| sum.wrapping_mul(0x0100_0000_01b3).wrapping_add(u64::from(byte) + 1));
        fastrand::Rng::with_seed(self.seed ^ salt)
    }
}

/// What a case that passed can show: which faults struck how often.
#[derive(Debug, Clone, Default)]
pub(crate) struct Report {
    pub(crate) hits: Vec<(String, u64)>,
    /// Something else worth printing, such as figures.
    pub(crate) note: String,
}

impl Report {
    /// A case that this machine cannot run, with what is missing.
    pub(crate) fn not_run(why: impl std::fmt::Display) -> Self {
        Self { note: format!("NOT RUN: {why}"), ..Self::default() }
    }
}

type Run = dyn Fn(Trial) -> Pin<Box<dyn Future<Output = Report> + Send>> + Send + Sync;

/// One case.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) id: String,
    pub(crate) title: String,
    /// Runs in the default suite as well.
    pub(crate) is_first_wave: bool,
    /// Needs the machine for itself, because it looks at times or memory.
    pub(crate) is_alone: bool,
    /// Longer than this it hangs, and fails instead of holding the suite.
    pub(crate) longest: Duration,
    pub(crate) run: Arc<Run>,
}

impl Case {
    pub(crate) fn new<F, Fut>(id: impl Into<String>, title: impl Into<String>, run: F) -> Self
    where
        F: Fn(Trial) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Report> + Send + 'static,
    {
        let run: Arc<Run> = Arc::new(move |trial| Box::pin(run(trial)));
        Self { id: id.into(), title: title.into(), is_first_wave: false, is_alone: false, longest: LONGEST, run }
    }

    /// One of the twenty that would lose or double rows.
    pub(crate) fn first_wave(self) -> Self {
        Self { is_first_wave: true, ..self }
    }

    /// One of those that nobody lists by hand.
    pub(crate) fn is_of_matrix(&self) -> bool {
        self.id.starts_with("X-")
    }

    /// It takes this long at most, not the usual time.
    pub(crate) fn lasting(self, longest: Duration) -> Self {
        Self { longest, ..self }
    }

    /// Not beside other cases.
    pub(crate) fn alone(self) -> Self {
        Self { is_alone: true, ..self }
    }
}
