//! Failures of SQS sorted by what can be done about them: by code, else by status.
//!
//! SQS answers in JSON and repeats the codes of its older protocol (`AWS.SimpleQueueService.NonExistentQueue`) in a
//! header, which the SDK prefers; other implementations send either.
#![warn(clippy::wildcard_enum_match_arm)]

use std::error::Error;

use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use crate::aws::classify::{Answer, FailedCredentials, causes, credentials, text};
use crate::domain::queue::QueueError;

/// What was being done when it failed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempt {
    /// The SQS action.
    pub(super) action: &'static str,
    /// The IAM permission it takes.
    pub(super) permission: &'static str,
}

/// Sorts a failed request.
pub(super) fn classify<E>(error: &SdkError<E, HttpResponse>, attempt: Attempt) -> QueueError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    match error {
        SdkError::ServiceError(context) => {
            let (status, metadata) = (context.raw().status().as_u16(), context.err().meta());
            let answer = Answer { status, code: metadata.code(), message: metadata.message(), bucket_region: None };
            answered(answer, attempt)
        }
        // The bytes of an answer made no sense: a proxy's page, a cut connection. The status still counts.
        SdkError::ResponseError(context) => {
            let status = context.raw().status().as_u16();
            let detail = format!("unreadable answer with status {status}: {}", causes(error));
            answered(Answer { status, message: Some(&detail), ..Answer::default() }, attempt)
        }
        SdkError::TimeoutError(_) => transient(attempt, causes(error)),
        SdkError::DispatchFailure(failure) => match credentials(error) {
            Some(failed) => without_credentials(failed, attempt),
            None if failure.is_user() => QueueError::Refused { action: attempt.action, detail: causes(error) },
            None => transient(attempt, causes(error)),
        },
        SdkError::ConstructionFailure(_) => match credentials(error) {
            Some(failed) => without_credentials(failed, attempt),
            None => QueueError::Refused { action: attempt.action, detail: causes(error) },
        },
        // The SDK reserves the right to add kinds.
        _ => transient(attempt, format!("a new kind of failure: {}", causes(error))),
    }
}

fn transient(attempt: Attempt, detail: String) -> QueueError {
    QueueError::Transient { action: attempt.action, detail }
}

fn without_credentials(failed: FailedCredentials, attempt: Attempt) -> QueueError {
    match failed {
        FailedCredentials::Unusable(detail) => QueueError::Credentials { detail },
        FailedCredentials::Late(detail) => transient(attempt, detail),
    }
}

fn answered(answer: Answer<'_>, attempt: Attempt) -> QueueError {
    by_code(answer, attempt).unwrap_or_else(|| by_status(answer, attempt))
}

fn by_code(answer: Answer<'_>, attempt: Attempt) -> Option<QueueError> {
    let (Attempt { action, permission }, detail) = (attempt, text(answer));
    let code = answer.code?;
    let says = |words: &str| answer.message.is_some_and(|message| message.contains(words));
    Some(match code.strip_prefix("AWS.SimpleQueueService.").unwrap_or(code) {
        "QueueDoesNotExist" | "NonExistentQueue" => QueueError::Gone { detail },
        // One code for several misfortunes: the message tells which.
        "SignatureDoesNotMatch" | "InvalidSignatureException"
            if says("Signature expired") || says("Signature not yet current") =>
        {
            QueueError::Clock { detail }
        }
        "SignatureDoesNotMatch" | "InvalidSignatureException" if says("valid region") => {
            QueueError::Refused { action, detail }
        }
        "RequestExpired" | "RequestTimeTooSkewed" => QueueError::Clock { detail },
        "ExpiredToken"
        | "ExpiredTokenException"
        | "InvalidClientTokenId"
        | "UnrecognizedClientException"
        | "SignatureDoesNotMatch"
        | "InvalidSignatureException"
        | "IncompleteSignature"
        | "IncompleteSignatureException"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "InvalidAccessKeyId"
        | "InvalidSecurity"
        | "OptInRequired" => QueueError::Credentials { detail },
        "OverLimit"
        | "RequestThrottled"
        | "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "RequestLimitExceeded"
        | "TooManyRequestsException"
        | "KMS.ThrottlingException"
        | "KmsThrottled" => QueueError::Throttled { action, detail },
        "AccessDenied" | "AccessDeniedException" | "AuthorizationError" => {
            QueueError::Denied { action: permission, detail }
        }
        // A key that is disabled, gone or not ours: whoever may use it has to mend it.
        kms if kms.starts_with("KMS.") || kms.starts_with("Kms") => QueueError::Denied { action: permission, detail },
        "InternalError" | "InternalFailure" | "ServiceUnavailable" | "RequestTimeout" => transient(attempt, detail),
        _ => return None,
    })
}

fn by_status(answer: Answer<'_>, attempt: Attempt) -> QueueError {
    let (Attempt { action, permission }, detail) = (attempt, text(answer));
    match answer.status {
        401 => QueueError::Credentials { detail },
        403 => QueueError::Denied { action: permission, detail },
        429 => QueueError::Throttled { action, detail },
        // 2xx: an answer that made no sense.
        200..=299 | 408 | 500.. => transient(attempt, detail),
        _ => QueueError::Refused { action, detail },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECEIVE: Attempt = Attempt { action: "ReceiveMessage", permission: "sqs:ReceiveMessage" };

    fn check(status: u16, code: &str, message: &str, expected: &str) {
        let some = |text| Some(text).filter(|text: &&str| !text.is_empty());
        let answer = Answer { status, code: some(code), message: some(message), bucket_region: None };
        assert_eq!(answered(answer, RECEIVE).code(), expected, "{status} {code} {message}");
    }

    #[test]
    fn codes_come_before_the_status() {
        check(400, "AWS.SimpleQueueService.NonExistentQueue", "", "E-SQS-QUEUE");
        check(400, "QueueDoesNotExist", "", "E-SQS-QUEUE");
        check(403, "AccessDenied", "", "E-SQS-DENIED");
        check(400, "AccessDeniedException", "", "E-SQS-DENIED");
        check(400, "KMS.AccessDeniedException", "", "E-SQS-DENIED");
        check(400, "KMS.NotFoundException", "", "E-SQS-DENIED");
        check(400, "KMS.ThrottlingException", "", "E-SQS-THROTTLED");
        check(403, "OverLimit", "", "E-SQS-THROTTLED");
        check(403, "RequestThrottled", "", "E-SQS-THROTTLED");
        check(403, "InvalidClientTokenId", "", "E-SQS-CREDENTIALS");
        check(403, "ExpiredToken", "", "E-SQS-CREDENTIALS");
        check(400, "InternalFailure", "", "E-SQS-TRANSIENT");
    }

    #[test]
    fn a_signature_is_refused_for_several_reasons() {
        let code = "SignatureDoesNotMatch";
        check(403, code, "The request signature we calculated does not match", "E-SQS-CREDENTIALS");
        check(403, code, "Signature expired: 20240101T000000Z is now earlier than", "E-SQS-CLOCK");
        check(403, code, "Signature not yet current: 20240101T000000Z", "E-SQS-CLOCK");
        check(403, code, "Credential should be scoped to a valid region", "E-SQS-REFUSED");
    }

    #[test]
    fn the_status_decides_where_the_code_is_missing_or_unknown() {
        check(401, "", "", "E-SQS-CREDENTIALS");
        check(403, "", "", "E-SQS-DENIED");
        check(403, "Whoa", "", "E-SQS-DENIED");
        check(404, "", "", "E-SQS-REFUSED");
        check(429, "", "", "E-SQS-THROTTLED");
        check(500, "", "", "E-SQS-TRANSIENT");
        check(503, "Whoa", "", "E-SQS-TRANSIENT");
        check(200, "", "<html>", "E-SQS-TRANSIENT");
        check(400, "InvalidAddress", "", "E-SQS-REFUSED");
    }

    #[test]
    fn a_denial_names_the_permission() {
        let error = answered(Answer { status: 403, ..Answer::default() }, RECEIVE).to_string();
        assert!(error.starts_with("access denied: sqs:ReceiveMessage"), "{error}");
    }
}
