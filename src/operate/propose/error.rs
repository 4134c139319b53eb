//! Why there is no proposal.

use crate::config::ConfigErrors;
use crate::domain::ports::S3Error;
use crate::pipeline::decode::DecodeError;

/// Why there is no proposal.
#[derive(Debug, thiserror::Error)]
pub enum ProposeError {
    /// The store refused.
    #[error("{place}: {error}")]
    S3 {
        /// What was asked of it.
        place: String,
        /// Its answer.
        error: S3Error,
    },
    /// No key begins so.
    #[error("there is no object under {place}")]
    Nothing {
        /// What was listed.
        place: String,
    },
    /// No object has a byte that can be read.
    #[error("no object under {place} can be looked at: {why}")]
    NoSample {
        /// What was listed.
        place: String,
        /// What they are.
        why: String,
    },
    /// What the objects are cannot be loaded.
    #[error("the objects under {place} cannot be loaded: they look like {found}")]
    Foreign {
        /// What was listed.
        place: String,
        /// What they look like.
        found: String,
    },
    /// No sample could be read by the format it seems to have.
    #[error("{place}: {error}")]
    Unreadable {
        /// Which objects.
        place: String,
        /// What is wrong with the last one.
        error: Box<DecodeError>,
    },
    /// The samples have no record.
    #[error("the objects under {place} have no records")]
    NoRecords {
        /// What was listed.
        place: String,
    },
    /// There is such a feed.
    #[error("there is a feed {feed:?} already")]
    Taken {
        /// Its name.
        feed: String,
    },
    /// Our own configuration refuses what was found out, or the table that was asked for.
    #[error("{0}")]
    Refused(ConfigErrors),
}

impl ProposeError {
    /// Whether the store is to blame.
    pub fn is_of_store(&self) -> bool {
        match self {
            Self::S3 { .. } => true,
            Self::Unreadable { error, .. } => matches!(**error, DecodeError::Fetch(_)),
            _ => false,
        }
    }

    /// What to do.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::S3 { error: S3Error::NoSuchBucket { .. }, .. } => {
                "correct the bucket's name, or [s3] if the bucket is in another store (s3.endpoint_url) or region"
            }
            Self::S3 { error, .. } => error.advice(),
            Self::Nothing { .. } => "correct the prefix (`aws s3 ls` shows what there is), or upload a sample object",
            Self::NoSample { .. } => "upload an object with some records, or name another prefix",
            Self::Foreign { .. } => "convert them to CSV, JSON, Parquet or Avro, or name another prefix",
            Self::Unreadable { error, .. } => error.advice(),
            Self::NoRecords { .. } => "upload an object with some records",
            Self::Taken { .. } => "choose another name with --name",
            Self::Refused(_) => "correct --table or --name; if neither was given, report this as a defect of keyfall",
        }
    }
}
