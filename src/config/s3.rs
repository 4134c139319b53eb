//! `[s3]`: how the object store is reached.

use std::time::Duration;

use super::secret::Secret;

/// S3 client settings. Credentials come from the AWS chain unless both keys are given.
#[derive(Debug, Clone)]
pub struct S3 {
    /// Region; the AWS chain's where absent.
    pub region: Option<String>,
    /// Endpoint of an S3-compatible store; AWS where absent.
    pub endpoint_url: Option<String>,
    /// `http://host/bucket/key` instead of `http://bucket.host/key`.
    pub force_path_style: bool,
    /// Static access key, for stores without a credential chain.
    pub access_key_id: Option<String>,
    /// Its secret.
    pub secret_access_key: Option<Secret>,
    /// Deadline for a TCP connect.
    pub connect_timeout: Duration,
    /// Deadline for the first byte of an answer, and for each further piece of a body.
    pub read_timeout: Duration,
    /// How often the SDK tries one request.
    pub max_attempts: u32,
}
