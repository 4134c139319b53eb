//! GET and HEAD.
//!
//! A body comes only in the version and from the offset asked for: a store that ignores the condition or the range is
//! caught by what it answers. Body bytes are handed on as the HTTP client received them, without a copy, and each
//! wait for the next piece has a deadline; it runs only while somebody waits, so back-pressure is no stall.

use std::time::Duration;

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream as SdkStream;
use aws_sdk_s3::types::ChecksumType;
use futures::stream;

use super::{S3Store, SOURCE_ETAG, quoted, unquoted};
use crate::aws::classify::causes;
use crate::domain::ports::{ByteStream, Checksum, GetRequest, Head, ObjectBody, S3Error};

const ACTION: &str = "GetObject";

pub(super) async fn get(store: &S3Store, request: &GetRequest<'_>) -> Result<ObjectBody, S3Error> {
    let send = store
        .client()
        .get_object()
        .bucket(request.bucket)
        .key(request.key)
        .if_match(quoted(request.etag))
        .set_version_id(request.version_id.map(str::to_owned))
        .set_range((request.offset > 0).then(|| format!("bytes={}-", request.offset)))
        .customize()
        // The header by hand rather than `checksum_mode`: that would make the SDK verify the body a second time, and
        // wrongly so for a body that is resumed.
        .mutate_request(|request| {
            request.headers_mut().insert("x-amz-checksum-mode", "ENABLED");
        })
        .send();
    let output = store.within(store.attempt(ACTION, "s3:GetObject", request.bucket), send).await?;
    body(output, request, store.read_timeout)
}

fn body(output: GetObjectOutput, request: &GetRequest<'_>, deadline: Duration) -> Result<ObjectBody, S3Error> {
    let etag = output.e_tag().map(|etag| unquoted(etag).to_owned());
    match etag.as_deref() {
        Some(etag) if etag != request.etag => return Err(S3Error::Changed),
        Some(_) => {}
        // The listing gave a tag, so the store has them: somebody else answered, a proxy with a page of its own for
        // instance. Its bytes say nothing about the object, so the object must not be blamed for them.
        None => {
            let detail = "the answer bears no entity tag: it is not the object's".to_owned();
            return Err(S3Error::Transient { action: ACTION, detail });
        }
    }
    let content_length = output.content_length().and_then(|length| u64::try_from(length).ok());
    let total_size = match output.content_range().map(parse_range) {
        None if request.offset == 0 => content_length,
        Some(Some((start, total))) if start == request.offset => total,
        // Anything else would be appended in the wrong place.
        range => {
            let detail = format!("asked for bytes from {}, got {range:?}", request.offset);
            return Err(S3Error::Refused { action: ACTION, detail });
        }
    };
    // With a range a store may state a checksum of the range alone.
    let checksum = if output.content_range().is_none() { checksum(&output) } else { None };
    Ok(ObjectBody { content_length, total_size, etag, checksum, stream: stream_of(output.body, deadline) })
}

/// Start and whole size of `bytes 5-9/10`; the size may be unknown.
fn parse_range(header: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = header.strip_prefix("bytes ")?.split_once('/')?;
    let start = range.split_once('-')?.0.parse().ok()?;
    Some((start, total.parse().ok()))
}

/// The checksum over the whole object, where there is one of a kind we can check.
fn checksum(output: &GetObjectOutput) -> Option<Checksum> {
    if output.checksum_type() == Some(&ChecksumType::Composite) {
        return None;
    }
    // A checksum of part checksums ends in "-N", which base64 cannot hold, so older stores are covered as well.
    let bytes = |text: Option<&str>| text.and_then(|text| aws_smithy_types::base64::decode(text).ok());
    let crc64 = bytes(output.checksum_crc64_nvme()).map(Checksum::Crc64Nvme);
    let crc32c = || bytes(output.checksum_crc32_c()).map(Checksum::Crc32c);
    let crc32 = || bytes(output.checksum_crc32()).map(Checksum::Crc32);
    let sha256 = || bytes(output.checksum_sha256()).map(Checksum::Sha256);
    crc64.or_else(crc32c).or_else(crc32).or_else(sha256)
}

fn stream_of(body: SdkStream, deadline: Duration) -> ByteStream {
    Box::pin(stream::unfold(Some(body), move |body| async move {
        let mut body = body?;
        match tokio::time::timeout(deadline, body.next()).await {
            Ok(Some(Ok(bytes))) => Some((Ok(bytes), Some(body))),
            Ok(None) => None,
            // After an error the connection is of no use; dropping the body closes it.
            Ok(Some(Err(error))) => {
                Some((Err(S3Error::Transient { action: "reading the body", detail: causes(&error) }), None))
            }
            Err(_elapsed) => Some((Err(S3Error::Stalled { seconds: deadline.as_secs() }), None)),
        }
    }))
}

pub(super) async fn head(store: &S3Store, bucket: &str, key: &str) -> Result<Head, S3Error> {
    let attempt = store.attempt("HeadObject", "s3:GetObject", bucket);
    let output = store.within(attempt, store.client().head_object().bucket(bucket).key(key).send()).await?;
    let (Some(etag), Some(size)) = (output.e_tag(), output.content_length()) else {
        return Err(S3Error::Refused { action: attempt.action, detail: "no entity tag or no length".to_owned() });
    };
    Ok(Head {
        etag: unquoted(etag).to_owned(),
        size: u64::try_from(size).unwrap_or_default(),
        source_etag: output.metadata().and_then(|metadata| metadata.get(SOURCE_ETAG)).cloned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read_with_and_without_a_total() {
        assert_eq!(parse_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(parse_range("bytes 5-9/*"), Some((5, None)));
        assert_eq!(parse_range("5-9/10"), None);
    }

    #[test]
    fn only_checksums_over_the_whole_object_are_used() {
        let whole = GetObjectOutput::builder().checksum_crc32("AAAAAQ==").build();
        assert_eq!(checksum(&whole), Some(Checksum::Crc32(vec![0, 0, 0, 1])));
        let parts = GetObjectOutput::builder().checksum_crc32("AAAAAQ==-2").build();
        assert_eq!(checksum(&parts), None);
        let composite = GetObjectOutput::builder().checksum_crc32("AAAAAQ==");
        assert_eq!(checksum(&composite.checksum_type(ChecksumType::Composite).build()), None);
    }
}
