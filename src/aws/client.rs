//! The clients: region, credentials, endpoint, timeouts and retries from the configuration.
//!
//! Behaviour is pinned to a dated version, so that an upgrade of the SDK cannot change retries or timeouts silently.
//! The SDK's HTTP client sets `TCP_NODELAY` by itself. Its stalled-stream protection is off: bodies have deadlines of
//! our own, and a body that waits because COPY is busy is not stalled.

use std::time::Duration;

use aws_config::meta::region::RegionProviderChain;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation, StalledStreamProtectionConfig,
};

use super::renew::Keys;
use crate::config::s3::S3;
use crate::domain::ports::S3Error;

/// Region to sign for where an S3-compatible store is used and nobody names one: most such stores take any.
const COMPATIBLE_REGION: &str = "us-east-1";

/// Builds a client and names the region it signs for. Credentials are read lazily: missing ones show at the first
/// request.
pub(super) async fn connect(config: &S3) -> Result<(Client, String), S3Error> {
    if let Some(url) = &config.endpoint_url
        && !is_endpoint(url)
    {
        let detail = format!("s3.endpoint_url = {url:?} is no URL such as \"https://s3.example.com:9000\"");
        return Err(S3Error::Refused { action: "connecting to S3", detail });
    }
    let shared = shared_config(config, &Service::s3(config)).await;
    let Some(region) = shared.region().map(ToString::to_string) else {
        let detail = "no AWS region is known: set s3.region, AWS_REGION or a region in the AWS profile".to_owned();
        return Err(S3Error::Refused { action: "connecting to S3", detail });
    };
    let s3 = aws_sdk_s3::config::Builder::from(&shared)
        .force_path_style(config.force_path_style)
        // Trailing checksums on requests break several S3-compatible stores; S3 demands one for DeleteObjects only.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        // The pipeline verifies whole objects itself, across resumed ranges; once is enough.
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .build();
    Ok((Client::from_conf(s3), region))
}

/// Where the credentials of a configuration come from.
pub(super) fn keys(config: &S3) -> Keys {
    if config.access_key_id.is_some() { Keys::Configured } else { Keys::Chain }
}

/// What the client of one service needs beside the credentials, which all share.
pub(super) struct Service<'a> {
    /// Region to sign for, where it is known.
    pub(super) region: Option<&'a str>,
    /// Where requests go; AWS where absent.
    pub(super) endpoint_url: Option<&'a str>,
    /// Deadline for the first byte of an answer.
    pub(super) read_timeout: Duration,
    /// How often the SDK tries one request.
    pub(super) max_attempts: u32,
}

impl<'a> Service<'a> {
    fn s3(config: &'a S3) -> Self {
        Self {
            region: config.region.as_deref(),
            endpoint_url: config.endpoint_url.as_deref(),
            read_timeout: config.read_timeout,
            max_attempts: config.max_attempts,
        }
    }
}

/// What the clients of all services have in common.
pub(super) async fn shared_config(config: &S3, service: &Service<'_>) -> SdkConfig {
    let timeouts =
        TimeoutConfig::builder().connect_timeout(config.connect_timeout).read_timeout(service.read_timeout).build();
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .timeout_config(timeouts)
        .retry_config(RetryConfig::standard().with_max_attempts(service.max_attempts.max(1)))
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    if let Some(region) = service.region {
        loader = loader.region(Region::new(region.to_owned()));
    } else if service.endpoint_url.is_some() {
        // Not the whole default chain: it ends with a slow question to an instance metadata service that is not there.
        let variable = aws_config::environment::EnvironmentVariableRegionProvider::new();
        loader = loader.region(RegionProviderChain::first_try(variable).or_else(COMPATIBLE_REGION));
    }
    if let Some(url) = service.endpoint_url {
        loader = loader.endpoint_url(url);
    }
    if let (Some(id), Some(secret)) = (&config.access_key_id, &config.secret_access_key) {
        loader =
            loader.credentials_provider(Credentials::new(id, secret.expose(), None, None, "keyfall configuration"));
    }
    loader.load().await
}

/// Whether the SDK could connect to this at all; it would retry a URL without a scheme like a failed connection.
fn is_endpoint(url: &str) -> bool {
    url.parse::<hyper::Uri>()
        .is_ok_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_needs_a_scheme_and_a_host() {
        for good in ["http://127.0.0.1:9000", "https://s3.example.com", "https://example.com/s3/"] {
            assert!(is_endpoint(good), "{good}");
        }
        for bad in ["localhost:9000", "not a url", "ftp://example.com", "/s3", ""] {
            assert!(!is_endpoint(bad), "{bad}");
        }
    }
}
