//! What the pipeline needs from a queue of notifications, without naming the SDK that gives it.

use std::time::Duration;

use async_trait::async_trait;

/// Most messages that one request receives or acknowledges: more SQS does not allow.
pub const LARGEST_BATCH: usize = 10;

/// One delivery of a message. It stays in the queue, hidden for a while, until it is acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The queue's name for the message, for logs.
    pub id: String,
    /// What acknowledges this delivery of it.
    pub receipt: String,
    /// The text.
    pub body: String,
    /// How often it was delivered, this time included; 0 where the queue does not say.
    pub receive_count: u64,
}

/// How a queue is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes {
    /// Whether messages that nobody acknowledges are moved elsewhere after a number of deliveries.
    pub has_redrive: bool,
    /// How long a delivered message stays hidden, where the queue says so.
    pub visibility: Option<Duration>,
    /// Messages waiting, roughly.
    pub waiting: Option<u64>,
}

/// What the pipeline needs from SQS. Every method has its own deadline and retries nothing.
#[async_trait]
pub trait NotificationQueue: Send + Sync {
    /// Up to `most` messages; waits up to `wait` for the first one.
    async fn receive(&self, most: usize, wait: Duration) -> Result<Vec<Message>, QueueError>;
    /// Takes up to [`LARGEST_BATCH`] messages out of the queue; one answer per message, in order.
    async fn acknowledge(&self, messages: &[&Message]) -> Result<Vec<Result<(), QueueError>>, QueueError>;
    /// How the queue is set up.
    async fn attributes(&self) -> Result<Attributes, QueueError>;
    /// Whether receiving is permitted. Receives like anybody and lets the message, if there is one, be seen again at
    /// once; its receive count has grown by one.
    async fn probe(&self) -> Result<(), QueueError>;
}

/// Why a request to a queue failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// The queue does not exist.
    #[error("no such queue: {detail}")]
    Gone {
        /// What SQS said.
        detail: String,
    },
    /// Permission is missing.
    #[error("access denied: {action} ({detail})")]
    Denied {
        /// The IAM action that was refused.
        action: &'static str,
        /// What SQS said.
        detail: String,
    },
    /// No credentials, or expired ones.
    #[error("no usable AWS credentials: {detail}")]
    Credentials {
        /// What the chain or SQS said.
        detail: String,
    },
    /// SQS takes our clock for wrong.
    #[error("the clock is wrong: {detail}")]
    Clock {
        /// What SQS said.
        detail: String,
    },
    /// SQS asks us to slow down.
    #[error("{action} was throttled: {detail}")]
    Throttled {
        /// The SQS action.
        action: &'static str,
        /// What SQS said.
        detail: String,
    },
    /// SQS failed or could not be reached; trying again may help.
    #[error("{action} failed: {detail}")]
    Transient {
        /// The SQS action.
        action: &'static str,
        /// What happened, with its causes.
        detail: String,
    },
    /// Messages that nobody can read would stay in the queue until they are too old.
    #[error("the queue has no redrive policy")]
    NoRedrive,
    /// SQS refused the request and will refuse it again.
    #[error("{action} was refused: {detail}")]
    Refused {
        /// The SQS action.
        action: &'static str,
        /// What SQS said.
        detail: String,
    },
}

impl QueueError {
    /// Stable code for `grep`.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Gone { .. } => "E-SQS-QUEUE",
            Self::Denied { .. } => "E-SQS-DENIED",
            Self::Credentials { .. } => "E-SQS-CREDENTIALS",
            Self::Clock { .. } => "E-SQS-CLOCK",
            Self::Throttled { .. } => "E-SQS-THROTTLED",
            Self::Transient { .. } => "E-SQS-TRANSIENT",
            Self::NoRedrive => "E-SQS-REDRIVE",
            Self::Refused { .. } => "E-SQS-REFUSED",
        }
    }

    /// One sentence for the operator.
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::Gone { .. } => {
                "correct `url` under [queues], or create the queue; until then polls and sweeps find new objects"
            }
            Self::Denied { .. } => {
                "grant the action named above on this queue, and on its KMS key if it has one; `keyfall check` tries them"
            }
            Self::Credentials { .. } => "give the process AWS credentials: instance role, environment or profile",
            Self::Clock { .. } => "set this machine's clock (NTP): SQS takes requests that are at most 15 minutes off",
            Self::Throttled { .. } | Self::Transient { .. } => "nothing to do if it passes: it is tried again",
            Self::NoRedrive => {
                "give the queue a redrive policy with a dead-letter queue, where messages end up that nobody can read"
            }
            Self::Refused { .. } => "see the answer; compare `url` and `region` under [queues] with the queue",
        }
    }

    /// Whether it may pass without anybody doing anything.
    pub const fn may_pass(&self) -> bool {
        match self {
            Self::Throttled { .. } | Self::Transient { .. } => true,
            Self::Gone { .. }
            | Self::Denied { .. }
            | Self::Credentials { .. }
            | Self::Clock { .. }
            | Self::NoRedrive
            | Self::Refused { .. } => false,
        }
    }
}
