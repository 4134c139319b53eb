//! Exit codes, and how a failure becomes one. The codes are an interface: scripts and service managers act on them.

use std::fmt;
use std::process::ExitCode;

use crate::app::exit as engine;
use crate::config::ConfigErrors;
use crate::domain::ports::S3Error;
use crate::operate::compare::CompareError;
use crate::operate::lookup::UnknownFeed;
use crate::operate::propose::ProposeError;
use crate::operate::sweep::SweepError;
use crate::operate::window::WindowError;
use crate::store::error::StoreError;

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Success,
    /// Something failed, or things of several kinds did.
    Failure,
    /// The command line makes no sense.
    Usage,
    /// Finished, but objects are in quarantine.
    Quarantined,
    /// `reconcile` found something that is not loaded or not disposed of.
    Incomplete,
    /// The object store refused or could not be reached.
    S3,
    /// PostgreSQL refused or could not be reached.
    Postgres,
    /// The ledger is not there, or has another schema version than this program.
    Migration,
    /// The configuration is invalid. The systemd unit does not start again after this one.
    Config,
    /// What the engine answered: one of the above, or 128 plus a signal's number.
    Engine(u8),
}

impl Exit {
    /// The number.
    pub const fn code(self) -> u8 {
        match self {
            Self::Success => engine::OK,
            Self::Failure => engine::FAILURE,
            Self::Usage => 2,
            Self::Quarantined => engine::QUARANTINED,
            Self::Incomplete => 4,
            Self::S3 => engine::S3,
            Self::Postgres => engine::POSTGRES,
            Self::Migration => engine::MIGRATION,
            Self::Config => 78,
            Self::Engine(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command ends without its result: what happened, what to do, and the exit code that says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    message: String,
    advice: Option<String>,
}

impl Failure {
    /// A failure with what to do about it.
    pub fn new(exit: Exit, message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { exit, message: message.into(), advice: Some(advice.into()) }
    }
}

impl Failure {
    /// Says which database it was, where one was asked in vain.
    #[must_use]
    pub fn at(mut self, place: &str) -> Self {
        if self.exit == Exit::Postgres {
            self.message = format!("{place}: {}", self.message);
        }
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        match &self.advice {
            Some(advice) => write!(f, "\n  {advice}"),
            None => Ok(()),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let exit = match error {
            StoreError::Migration { .. } => Exit::Migration,
            _ => Exit::Postgres,
        };
        Self::new(exit, error.to_string(), error.advice())
    }
}

impl From<S3Error> for Failure {
    fn from(error: S3Error) -> Self {
        Self::new(Exit::S3, error.to_string(), error.advice())
    }
}

impl From<ConfigErrors> for Failure {
    fn from(errors: ConfigErrors) -> Self {
        Self { exit: Exit::Config, message: errors.to_string(), advice: None }
    }
}

impl From<UnknownFeed> for Failure {
    fn from(unknown: UnknownFeed) -> Self {
        Self::new(Exit::Usage, unknown.to_string(), unknown.advice())
    }
}

impl From<SweepError> for Failure {
    fn from(error: SweepError) -> Self {
        let exit = match error {
            SweepError::S3 { .. } => Exit::S3,
            SweepError::Store(error) => return Self::from(error),
            SweepError::Stopped => Exit::Failure,
        };
        Self::new(exit, error.to_string(), error.advice())
    }
}

impl From<CompareError> for Failure {
    fn from(error: CompareError) -> Self {
        let exit = match error {
            CompareError::S3 { .. } | CompareError::Unordered { .. } => Exit::S3,
            CompareError::Store(error) => return Self::from(error),
            CompareError::Broken { .. } => Exit::Failure,
        };
        Self::new(exit, error.to_string(), error.advice())
    }
}

impl From<ProposeError> for Failure {
    fn from(error: ProposeError) -> Self {
        let exit = match error {
            _ if error.is_of_store() => Exit::S3,
            ProposeError::Taken { .. } | ProposeError::Refused(_) => Exit::Usage,
            ProposeError::S3 { .. }
            | ProposeError::Nothing { .. }
            | ProposeError::NoSample { .. }
            | ProposeError::Foreign { .. }
            | ProposeError::Unreadable { .. }
            | ProposeError::NoRecords { .. } => Exit::Failure,
        };
        Self::new(exit, error.to_string(), error.advice())
    }
}

impl From<WindowError> for Failure {
    fn from(error: WindowError) -> Self {
        Self::new(Exit::Usage, error.to_string(), error.advice())
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self { exit: Exit::Failure, message: format!("{error:#}"), advice: None }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(Exit::Failure, format!("write the result: {error}"), "is the disk behind standard output full?")
    }
}
