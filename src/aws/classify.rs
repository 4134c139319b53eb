//! SDK failures sorted by what can be done about them.
//!
//! Every kind of failure and every status has a place; what nobody foresaw is `Refused` where the store decided, and
//! `Transient` where it could not be understood. The detail holds the whole chain of causes, cut at a limit, and
//! never a credential.
#![warn(clippy::wildcard_enum_match_arm)]

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use crate::domain::ports::S3Error;

/// Characters of a detail: enough for a chain of causes, too few for an HTML error page to flood a log.
const DETAIL_LIMIT: usize = 600;

/// What was being done when it failed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempt<'a> {
    /// The S3 action, such as `GetObject`.
    pub(super) action: &'static str,
    /// The IAM permission it takes.
    pub(super) permission: &'static str,
    /// Bucket.
    pub(super) bucket: &'a str,
    /// Region the client signs for.
    pub(super) region: &'a str,
    /// What a 404 without an error code means.
    pub(super) missing: Missing,
}

/// What a 404 without an error code means: HEAD has no body to say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    Key,
    Bucket,
}

/// An error answer of the store, free of SDK types.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Answer<'a> {
    pub(super) status: u16,
    pub(super) code: Option<&'a str>,
    pub(super) message: Option<&'a str>,
    /// `x-amz-bucket-region`.
    pub(super) bucket_region: Option<&'a str>,
}

/// Sorts a failed request.
pub(super) fn classify<E>(error: &SdkError<E, HttpResponse>, attempt: Attempt<'_>) -> S3Error
where
    E: ProvideErrorMetadata + Error + 'static,
{
    match error {
        SdkError::ServiceError(context) => {
            let raw = context.raw();
            answered(
                Answer {
                    status: raw.status().as_u16(),
                    code: context.err().code(),
                    message: context.err().message(),
                    bucket_region: raw.headers().get("x-amz-bucket-region"),
                },
                attempt,
            )
        }
        // The bytes of an answer made no sense: a proxy's page, a cut connection. The status still counts.
        SdkError::ResponseError(context) => {
            let raw = context.raw();
            let status = raw.status().as_u16();
            let detail = format!("unreadable answer with status {status}: {}", causes(error));
            match status {
                200..=299 | 500.. => transient(attempt, detail),
                _ => answered(
                    Answer {
                        status,
                        message: Some(&detail),
                        bucket_region: raw.headers().get("x-amz-bucket-region"),
                        code: None,
                    },
                    attempt,
                ),
            }
        }
        SdkError::TimeoutError(_) => transient(attempt, causes(error)),
        SdkError::DispatchFailure(failure) => match credentials(error) {
            Some(failed) => without_credentials(failed, attempt),
            None if failure.is_user() => S3Error::Refused { action: attempt.action, detail: causes(error) },
            None => transient(attempt, causes(error)),
        },
        SdkError::ConstructionFailure(_) => match credentials(error) {
            Some(failed) => without_credentials(failed, attempt),
            None => S3Error::Refused { action: attempt.action, detail: causes(error) },
        },
        // The SDK reserves the right to add kinds.
        _ => transient(attempt, format!("a new kind of failure: {}", causes(error))),
    }
}

/// Sorts an error answer by its code, and by its status where the code is missing or unknown.
pub(super) fn answered(answer: Answer<'_>, attempt: Attempt<'_>) -> S3Error {
    by_code(answer, attempt).unwrap_or_else(|| by_status(answer, attempt))
}

fn by_code(answer: Answer<'_>, attempt: Attempt<'_>) -> Option<S3Error> {
    let code = answer.code?;
    let error = match code {
        "NoSuchKey" | "NoSuchVersion" => S3Error::NotFound,
        "NoSuchBucket" => no_such_bucket(attempt),
        "PreconditionFailed" => S3Error::Changed,
        "InvalidObjectState" => S3Error::Archived,
        "AccessDenied" | "AccessDeniedException" | "AllAccessDisabled" | "AccountProblem" | "InvalidPayer" => {
            denied(answer, attempt)
        }
        "ExpiredToken"
        | "ExpiredTokenException"
        | "TokenRefreshRequired"
        | "InvalidToken"
        | "InvalidAccessKeyId"
        | "InvalidSecurity"
        | "SignatureDoesNotMatch"
        | "RequestExpired"
        | "MissingSecurityHeader"
        | "MissingAuthenticationToken"
        | "UnrecognizedClientException"
        | "NotSignedUp" => S3Error::Credentials { detail: text(answer) },
        "RequestTimeTooSkewed" => S3Error::Clock { detail: text(answer) },
        "PermanentRedirect"
        | "TemporaryRedirect"
        | "Redirect"
        | "AuthorizationHeaderMalformed"
        | "IllegalLocationConstraintException" => wrong_region(answer, attempt),
        "SlowDown"
        | "ServiceUnavailable"
        | "InternalError"
        | "RequestTimeout"
        | "RequestTimeoutException"
        | "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "RequestThrottled"
        | "RequestLimitExceeded"
        | "BandwidthLimitExceeded"
        | "TooManyRequestsException"
        | "IncompleteBody"
        | "OperationAborted"
        | "ConditionalRequestConflict"
        | "BadDigest"
        | "XAmzContentChecksumMismatch" => transient(attempt, text(answer)),
        _ if code.starts_with("KMS.") && answer.status == 400 => denied(answer, attempt),
        _ => return None,
    };
    Some(error)
}

fn by_status(answer: Answer<'_>, attempt: Attempt<'_>) -> S3Error {
    let is_elsewhere = answer.bucket_region.is_some_and(|region| region != attempt.region);
    match answer.status {
        301 | 307 => wrong_region(answer, attempt),
        400 if is_elsewhere => wrong_region(answer, attempt),
        401 => S3Error::Credentials { detail: text(answer) },
        403 => denied(answer, attempt),
        404 if attempt.missing == Missing::Bucket => no_such_bucket(attempt),
        404 => S3Error::NotFound,
        412 => S3Error::Changed,
        501 => S3Error::Refused { action: attempt.action, detail: text(answer) },
        // 2xx: an error body under a good status, as a copy that fails late sends it.
        200..=299 | 408 | 409 | 429 | 500.. => transient(attempt, text(answer)),
        _ => S3Error::Refused { action: attempt.action, detail: text(answer) },
    }
}

fn no_such_bucket(attempt: Attempt<'_>) -> S3Error {
    S3Error::NoSuchBucket { bucket: attempt.bucket.to_owned() }
}

pub(super) fn transient(attempt: Attempt<'_>, detail: String) -> S3Error {
    S3Error::Transient { action: attempt.action, detail }
}

fn denied(answer: Answer<'_>, attempt: Attempt<'_>) -> S3Error {
    let mut detail = format!("bucket {:?}: {}", attempt.bucket, text(answer));
    if attempt.permission == "s3:GetObject" {
        detail.push_str("; S3 answers the same for a missing key where s3:ListBucket is not granted");
    }
    S3Error::Denied { action: attempt.permission, detail }
}

fn wrong_region(answer: Answer<'_>, attempt: Attempt<'_>) -> S3Error {
    let Attempt { bucket, region, .. } = attempt;
    // AuthorizationHeaderMalformed names the region only in its message: "the region 'x' is wrong; expecting 'y'".
    let expected = answer.bucket_region.or_else(|| answer.message?.split_once("expecting '")?.1.split('\'').next());
    let detail = match expected {
        Some(expected) => format!(
            "keyfall asks in {region:?}, but bucket {bucket:?} lives in {expected:?}; set s3.region to that ({})",
            text(answer)
        ),
        None => format!(
            "keyfall asks in {region:?}, but bucket {bucket:?} lives elsewhere; set s3.region ({})",
            text(answer)
        ),
    };
    S3Error::WrongRegion { detail }
}

pub(super) fn text(answer: Answer<'_>) -> String {
    let text = match (answer.code, answer.message) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(only), None) | (None, Some(only)) => only.to_owned(),
        (None, None) => format!("status {}", answer.status),
    };
    cut(text)
}

/// Whether credentials will not come by waiting, or only did not come this time.
pub(super) enum FailedCredentials {
    Unusable(String),
    Late(String),
}

fn without_credentials(failed: FailedCredentials, attempt: Attempt<'_>) -> S3Error {
    match failed {
        FailedCredentials::Unusable(detail) => S3Error::Credentials { detail },
        FailedCredentials::Late(detail) => transient(attempt, detail),
    }
}

/// Looks for the credential chain's own error among the causes.
pub(super) fn credentials(error: &(dyn Error + 'static)) -> Option<FailedCredentials> {
    let found = chain(error).find_map(|cause| cause.downcast_ref::<CredentialsError>())?;
    let detail = causes(error);
    Some(match found {
        CredentialsError::CredentialsNotLoaded(_)
        | CredentialsError::InvalidConfiguration(_)
        | CredentialsError::ProviderError(_)
        | CredentialsError::Unhandled(_) => FailedCredentials::Unusable(detail),
        CredentialsError::ProviderTimedOut(_) => FailedCredentials::Late(detail),
        // The SDK reserves the right to add kinds.
        _ => FailedCredentials::Late(format!("a new kind of failure: {detail}")),
    })
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |cause: &&'a (dyn Error + 'static)| (*cause).source())
}

/// An error with all its causes on one line. A cause that its parent already quotes is left out.
pub(super) fn causes(error: &(dyn Error + 'static)) -> String {
    let mut line = String::new();
    for cause in chain(error) {
        let cause = cause.to_string();
        if !line.ends_with(&cause) {
            if !line.is_empty() {
                line.push_str(": ");
            }
            line.push_str(&cause);
        }
    }
    cut(line)
}

/// One line of bounded length. What a server or a provider says may hold line breaks; a log line must not.
fn cut(text: String) -> String {
    let words = text.split(|c: char| c.is_control()).map(str::trim).filter(|piece| !piece.is_empty());
    let mut line = words.collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = line.char_indices().nth(DETAIL_LIMIT) {
        line.truncate(end);
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: Attempt<'static> = Attempt {
        action: "GetObject",
        permission: "s3:GetObject",
        bucket: "landing",
        region: "us-east-1",
        missing: Missing::Key,
    };

    fn kind(error: &S3Error) -> &'static str {
        match error {
            S3Error::NotFound => "missing",
            S3Error::NoSuchBucket { .. } => "bucket",
            S3Error::Changed => "changed",
            S3Error::Exists => "exists",
            S3Error::Denied { .. } => "denied",
            S3Error::Credentials { .. } => "credentials",
            S3Error::Clock { .. } => "clock",
            S3Error::WrongRegion { .. } => "region",
            S3Error::Archived => "archived",
            S3Error::Transient { .. } => "transient",
            S3Error::Stalled { .. } => "stalled",
            S3Error::Refused { .. } => "refused",
        }
    }

    fn check(status: u16, code: &str, expected: &str) {
        let answer = Answer { status, code: Some(code).filter(|code| !code.is_empty()), ..Answer::default() };
        assert_eq!(kind(&answered(answer, GET)), expected, "{status} {code}");
    }

    #[test]
    fn codes_come_before_the_status() {
        check(404, "NoSuchKey", "missing");
        check(404, "NoSuchBucket", "bucket");
        check(412, "PreconditionFailed", "changed");
        check(403, "InvalidObjectState", "archived");
        check(403, "AccessDenied", "denied");
        check(400, "KMS.DisabledException", "denied");
        check(400, "ExpiredToken", "credentials");
        check(403, "SignatureDoesNotMatch", "credentials");
        check(403, "RequestTimeTooSkewed", "clock");
        check(400, "AuthorizationHeaderMalformed", "region");
        check(503, "SlowDown", "transient");
        check(200, "InternalError", "transient");
        check(400, "RequestTimeout", "transient");
        check(409, "ConditionalRequestConflict", "transient");
    }

    #[test]
    fn the_status_decides_where_the_code_is_missing_or_unknown() {
        check(301, "", "region");
        check(307, "", "region");
        check(400, "", "refused");
        check(403, "", "denied");
        check(404, "", "missing");
        check(412, "", "changed");
        check(418, "Teapot", "refused");
        check(429, "Whoa", "transient");
        check(500, "", "transient");
        check(501, "NotImplemented", "refused");
        check(502, "", "transient");
        check(200, "SomethingNew", "transient");
    }

    #[test]
    fn a_404_on_a_listing_is_a_missing_bucket() {
        let list = Attempt { missing: Missing::Bucket, ..GET };
        assert_eq!(kind(&answered(Answer { status: 404, ..Answer::default() }, list)), "bucket");
    }

    #[test]
    fn a_wrong_region_names_both_regions() {
        let by_header = Answer { status: 301, bucket_region: Some("eu-west-1"), ..Answer::default() };
        let by_message = Answer {
            status: 400,
            code: Some("AuthorizationHeaderMalformed"),
            message: Some("the region 'us-east-1' is wrong; expecting 'eu-west-1'"),
            ..Answer::default()
        };
        for answer in [by_header, by_message] {
            let error = answered(answer, GET).to_string();
            assert!(error.contains(r#""us-east-1""#) && error.contains(r#""eu-west-1""#), "{error}");
        }
    }

    #[test]
    fn a_400_in_the_bucket_s_own_region_is_no_region_problem() {
        let answer = Answer { status: 400, bucket_region: Some("us-east-1"), ..Answer::default() };
        assert_eq!(kind(&answered(answer, GET)), "refused");
    }

    #[test]
    fn a_denial_names_the_permission() {
        let error = answered(Answer { status: 403, ..Answer::default() }, GET).to_string();
        assert!(error.starts_with("access denied: s3:GetObject"), "{error}");
    }

    #[test]
    fn a_detail_is_one_line() {
        let answer = Answer { status: 503, message: Some("first\n  second\u{1b}[31m"), ..Answer::default() };
        assert_eq!(answered(answer, GET).to_string(), "GetObject failed: first second [31m");
    }

    #[test]
    fn a_long_detail_is_cut() {
        let page = "<html>é".repeat(1000);
        let answer = Answer { status: 503, message: Some(&page), ..Answer::default() };
        assert!(answered(answer, GET).to_string().chars().count() < 700);
    }
}
