//! `[s3]`: how the object store is reached.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bounds;
use super::report::Report;
use super::secret::{Alternatives, Secret};
use super::value::{Count, Span};

/// Deadline for a TCP connect.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Deadline for each piece of an answer.
pub const DEFAULT_READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Tries of one request; the ledger retries the object beyond that.
pub const DEFAULT_MAX_ATTEMPTS: u64 = 3;

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

/// How the object store is reached. Without keys here, credentials come from the AWS chain: environment, profile,
/// web identity, container or instance role.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawS3 {
    /// Region of the buckets, such as `eu-central-1`; default: the AWS chain's (`AWS_REGION`, profile, instance). A
    /// wrong one is refused by S3.
    region: Option<String>,
    /// Endpoint of an S3-compatible store, such as `http://127.0.0.1:9000`; default: AWS.
    endpoint_url: Option<String>,
    /// Address buckets as `http://host/bucket` instead of `http://bucket.host`; default false. Most S3-compatible
    /// stores need true.
    force_path_style: bool,
    /// Static access key, for stores without a credential chain; default: the AWS chain. Needs its secret beside it.
    access_key_id: Option<String>,
    /// The secret of `access_key_id`, plainly. Better in a file or a credential.
    secret_access_key: Option<Secret>,
    /// A file that holds the secret of `access_key_id` on one line.
    secret_access_key_file: Option<PathBuf>,
    /// A systemd credential (`LoadCredential=`) that holds the secret of `access_key_id`.
    secret_access_key_credential: Option<String>,
    /// Deadline for a TCP connect; default 5 s. Too short a one fails on a slow network, too long a one delays the
    /// retry.
    connect_timeout: Span,
    /// Deadline for the first byte of an answer and for each further piece of a body; default 30 s. Too short a one
    /// breaks downloads that a busy store lets wait.
    read_timeout: Span,
    /// How often one request is tried before the object is given back, from 1 to 20; default 3. Many attempts make
    /// failures slow to show.
    max_attempts: Count,
}

impl Default for RawS3 {
    fn default() -> Self {
        Self {
            region: None,
            endpoint_url: None,
            force_path_style: false,
            access_key_id: None,
            secret_access_key: None,
            secret_access_key_file: None,
            secret_access_key_credential: None,
            connect_timeout: Span(DEFAULT_CONNECT_TIMEOUT),
            read_timeout: Span(DEFAULT_READ_TIMEOUT),
            max_attempts: Count(DEFAULT_MAX_ATTEMPTS),
        }
    }
}

/// Checks the section.
pub(super) fn validate(raw: &RawS3, environment: &BTreeMap<String, String>, report: &mut Report) -> S3 {
    report.not_blank("s3.region", raw.region.as_deref());
    report.not_blank("s3.access_key_id", raw.access_key_id.as_deref());
    report.within("s3.connect_timeout", raw.connect_timeout, bounds::SHORTEST..=bounds::DAY);
    report.within("s3.read_timeout", raw.read_timeout, bounds::SHORTEST..=bounds::DAY);
    report.within("s3.max_attempts", raw.max_attempts, Count(1)..=Count(20));
    check_endpoint(raw, report);
    S3 {
        region: raw.region.clone(),
        endpoint_url: raw.endpoint_url.clone(),
        force_path_style: raw.force_path_style,
        access_key_id: raw.access_key_id.clone(),
        secret_access_key: secret(raw, environment, report),
        connect_timeout: raw.connect_timeout.0,
        read_timeout: raw.read_timeout.0,
        max_attempts: bounds::to_u32(raw.max_attempts),
    }
}

fn secret(raw: &RawS3, environment: &BTreeMap<String, String>, report: &mut Report) -> Option<Secret> {
    let alternatives = Alternatives {
        key: "s3.secret_access_key",
        plain: raw.secret_access_key.as_ref(),
        file: raw.secret_access_key_file.as_deref(),
        credential: raw.secret_access_key_credential.as_deref(),
    };
    let given = raw.secret_access_key.is_some()
        || raw.secret_access_key_file.is_some()
        || raw.secret_access_key_credential.is_some();
    if given && raw.access_key_id.is_none() {
        report.missing(
            "s3.access_key_id",
            "a secret access key needs its access_key_id; leave both out for the AWS chain",
        );
    }
    if !given && raw.access_key_id.is_some() {
        let advice = "add secret_access_key_file or secret_access_key_credential, or leave both out for the AWS chain";
        report.missing("s3.secret_access_key", advice);
    }
    alternatives.resolve(environment, report)
}

fn check_endpoint(raw: &RawS3, report: &mut Report) {
    let Some(url) = raw.endpoint_url.as_deref() else { return };
    let plain = url.strip_prefix("http://");
    let rest = plain.or_else(|| url.strip_prefix("https://")).unwrap_or_default();
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        // The text is not repeated: what stands before the `@` may be a password.
        let advice = "write only scheme, host and port; keys belong into access_key_id and secret_access_key_file";
        report.problem("s3.endpoint_url", "holds a user name", advice);
        return;
    }
    if authority.is_empty() || url.contains(char::is_whitespace) {
        let advice = "write scheme, host and port, such as \"http://127.0.0.1:9000\"";
        report.problem("s3.endpoint_url", format!("{url:?} is no endpoint"), advice);
        return;
    }
    if plain.is_some() && raw.access_key_id.is_some() && !is_loopback(authority) {
        report.warn(format!("s3.endpoint_url = {url} is not encrypted: objects cross the network in the clear"));
    }
}

fn is_loopback(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}
