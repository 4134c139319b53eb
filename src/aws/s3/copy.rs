//! Server-side copies: of one version of the source, never onto something else.
//!
//! The copy keeps the source's headers and user metadata and adds which version it was made of. `Expires`, tags of
//! multipart copies, ACLs and storage class are not carried over: the destination bucket's own rules apply.
//!
//! `If-None-Match: *` protects the destination. Until the store has shown that it honours it, the destination is
//! looked at first as well. It shows it when a copy we just made is copied onto itself under that condition: a store
//! that obeys refuses, one that does not rewrites our own bytes with the same.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, MetadataDirective};
use futures::{StreamExt, TryStreamExt, stream};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{S3Store, SOURCE_ETAG, bounded, get, quoted, unquoted};
use crate::aws::classify::Attempt;
use crate::domain::ports::{CopyRequest, S3Error};

/// What may stand unencoded in `x-amz-copy-source`: the unreserved characters and the slash.
const COPY_SOURCE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// Parts copied at once: enough to keep the store busy, few enough not to be throttled.
const PARTS_AT_ONCE: usize = 4;

/// Parts of one upload, by the rules of S3.
const MOST_PARTS: u64 = 10_000;

/// What a store copies per second at the very least: a copy of `n` bytes may take `n` / this longer than a small one.
const SLOWEST_COPY: u64 = 8 * 1024 * 1024;

/// A copy larger than this is not repeated only to learn whether the store honours a condition.
const LARGEST_PROBE: u64 = 64 * 1024 * 1024;

/// When and how copies are made in parts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Multipart {
    /// Larger sources are copied in parts.
    pub(super) above: u64,
    /// Bytes of a part, unless that makes too many parts.
    pub(super) part: u64,
}

impl Default for Multipart {
    fn default() -> Self {
        const GIB: u64 = 1024 * 1024 * 1024;
        // S3 copies at most 5 GiB in one request. Large parts make few requests, small ones a copy that fails late.
        Self { above: 5 * GIB, part: GIB / 2 }
    }
}

impl Multipart {
    /// `(number, first byte, last byte)` of every part.
    fn parts(self, size: u64) -> impl Iterator<Item = (i32, u64, u64)> {
        let part = self.part.max(size.div_ceil(MOST_PARTS)).max(1);
        (1..).zip(0..size.div_ceil(part)).map(move |(number, nth)| {
            let first = nth * part;
            (number, first, size.min(first + part) - 1)
        })
    }
}

/// A copy that is being made, with what the source said of itself.
struct Copying<'a> {
    store: &'a S3Store,
    request: &'a CopyRequest<'a>,
    source: HeadObjectOutput,
    size: u64,
    metadata: HashMap<String, String>,
}

pub(super) async fn copy(store: &S3Store, request: &CopyRequest<'_>) -> Result<Option<String>, S3Error> {
    if store.copies.known() != Some(true) {
        must_be_free(store, request).await?;
    }
    let copying = Copying::look(store, request).await?;
    let is_large = copying.size > store.multipart.above;
    let made = if is_large { Box::pin(copying.in_parts()).await } else { Box::pin(copying.at_once()).await };
    let etag = match made {
        Ok(etag) => etag,
        // The source's condition and the destination's fail with the same answer.
        Err(S3Error::Changed) => {
            must_be_free(store, request).await?;
            return Err(S3Error::Changed);
        }
        Err(error) => return Err(error),
    };
    if store.copies.known().is_none() {
        copying.learn().await;
    }
    Ok(etag)
}

async fn must_be_free(store: &S3Store, request: &CopyRequest<'_>) -> Result<(), S3Error> {
    match get::head(store, request.to_bucket, request.to_key).await {
        Ok(_) => Err(S3Error::Exists),
        Err(S3Error::NotFound) => Ok(()),
        Err(error) => Err(error),
    }
}

fn encoded_source(bucket: &str, key: &str, version_id: Option<&str>) -> String {
    let mut source = format!("{bucket}/{}", utf8_percent_encode(key, COPY_SOURCE));
    if let Some(version) = version_id {
        source.push_str("?versionId=");
        source.extend(utf8_percent_encode(version, COPY_SOURCE));
    }
    source
}

impl<'a> Copying<'a> {
    /// Reads the source's headers; fails where it is gone or changed.
    async fn look(store: &'a S3Store, request: &'a CopyRequest<'a>) -> Result<Self, S3Error> {
        let send = store
            .client()
            .head_object()
            .bucket(request.bucket)
            .key(request.key)
            .if_match(quoted(request.etag))
            .set_version_id(request.version_id.map(str::to_owned))
            .send();
        let source = store.within(store.attempt("HeadObject", "s3:GetObject", request.bucket), send).await?;
        if source.e_tag().is_some_and(|etag| unquoted(etag) != request.etag) {
            return Err(S3Error::Changed);
        }
        let size = source.content_length().and_then(|length| u64::try_from(length).ok()).unwrap_or(request.size);
        let mut metadata = source.metadata().cloned().unwrap_or_default();
        metadata.insert(SOURCE_ETAG.to_owned(), request.etag.to_owned());
        Ok(Self { store, request, source, size, metadata })
    }

    fn attempt(&self, action: &'static str) -> Attempt<'a> {
        self.store.attempt(action, "s3:PutObject", self.request.to_bucket)
    }

    /// Deadline for copying this many bytes inside the store.
    fn deadline(&self, bytes: u64) -> Duration {
        self.store.deadline + Duration::from_secs(bytes / SLOWEST_COPY)
    }

    /// A store may send nothing until a large copy is done, so the read timeout follows the size.
    fn patience(&self, bytes: u64) -> aws_sdk_s3::config::Builder {
        let read = self.store.read_timeout + Duration::from_secs(bytes / SLOWEST_COPY);
        let timeouts = aws_sdk_s3::config::timeout::TimeoutConfig::builder().read_timeout(read).build();
        aws_sdk_s3::config::Builder::new().timeout_config(timeouts)
    }

    fn source(&self) -> String {
        encoded_source(self.request.bucket, self.request.key, self.request.version_id)
    }

    async fn at_once(&self) -> Result<Option<String>, S3Error> {
        let request = self
            .single(self.source())
            .copy_source_if_match(quoted(self.request.etag))
            .customize()
            .config_override(self.patience(self.size));
        let copied = bounded(self.deadline(self.size), self.attempt("CopyObject"), request.send()).await?;
        Ok(copied.copy_object_result().and_then(|result| result.e_tag()).map(|etag| unquoted(etag).to_owned()))
    }

    /// A copy of `source` to the destination, if that is free, with the headers of the original.
    fn single(&self, source: String) -> aws_sdk_s3::operation::copy_object::builders::CopyObjectFluentBuilder {
        self.store
            .client()
            .copy_object()
            .copy_source(source)
            .bucket(self.request.to_bucket)
            .key(self.request.to_key)
            .if_none_match("*")
            .metadata_directive(MetadataDirective::Replace)
            .set_metadata(Some(self.metadata.clone()))
            .set_content_type(self.source.content_type.clone())
            .set_content_encoding(self.source.content_encoding.clone())
            .set_content_language(self.source.content_language.clone())
            .set_content_disposition(self.source.content_disposition.clone())
            .set_cache_control(self.source.cache_control.clone())
    }

    /// Finds out whether the store honours `If-None-Match: *`, with the copy just made as its own source.
    async fn learn(&self) {
        if self.size > LARGEST_PROBE {
            return;
        }
        let itself = encoded_source(self.request.to_bucket, self.request.to_key, None);
        let again = bounded(self.deadline(self.size), self.attempt("CopyObject"), self.single(itself).send()).await;
        let honoured = match again {
            Err(S3Error::Changed) => true,
            Ok(_) | Err(S3Error::Refused { .. } | S3Error::Denied { .. }) => false,
            // Nothing learnt this time.
            Err(_) => return,
        };
        if self.store.copies.learn(honoured) && !honoured {
            tracing::warn!(
                bucket = self.request.to_bucket,
                "this object store does not show that it refuses to copy onto an existing key: keyfall looks at the \
                 destination before each copy"
            );
        }
    }

    async fn in_parts(&self) -> Result<Option<String>, S3Error> {
        let create = self
            .store
            .client()
            .create_multipart_upload()
            .bucket(self.request.to_bucket)
            .key(self.request.to_key)
            .set_metadata(Some(self.metadata.clone()))
            .set_content_type(self.source.content_type.clone())
            .set_content_encoding(self.source.content_encoding.clone())
            .set_content_language(self.source.content_language.clone())
            .set_content_disposition(self.source.content_disposition.clone())
            .set_cache_control(self.source.cache_control.clone());
        let attempt = self.attempt("CreateMultipartUpload");
        let created = Box::pin(self.store.within(attempt, create.send())).await?;
        let Some(upload) = created.upload_id() else {
            return Err(S3Error::Refused { action: attempt.action, detail: "no upload id in the answer".to_owned() });
        };
        let done = self.fill(upload).await;
        if done.is_err() {
            self.abort(upload).await;
        }
        // Joined parts have a tag of their own, which says nothing about the content.
        done.map(|()| None)
    }

    /// Copies all parts and joins them.
    async fn fill(&self, upload: &str) -> Result<(), S3Error> {
        let parts = stream::iter(self.store.multipart.parts(self.size))
            .map(|part| self.part(upload, part))
            .buffered(PARTS_AT_ONCE)
            .try_collect::<Vec<_>>()
            .await?;
        let complete = self
            .store
            .client()
            .complete_multipart_upload()
            .bucket(self.request.to_bucket)
            .key(self.request.to_key)
            .upload_id(upload)
            .if_none_match("*")
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts)).build())
            .customize()
            .config_override(self.patience(self.size));
        let attempt = self.attempt("CompleteMultipartUpload");
        bounded(self.deadline(self.size), attempt, complete.send()).await.map(drop)
    }

    async fn part(&self, upload: &str, (number, first, last): (i32, u64, u64)) -> Result<CompletedPart, S3Error> {
        let bytes = last - first + 1;
        let copy = self
            .store
            .client()
            .upload_part_copy()
            .copy_source(self.source())
            .copy_source_if_match(quoted(self.request.etag))
            .copy_source_range(format!("bytes={first}-{last}"))
            .bucket(self.request.to_bucket)
            .key(self.request.to_key)
            .upload_id(upload)
            .part_number(number)
            .customize()
            .config_override(self.patience(bytes));
        let attempt = self.attempt("UploadPartCopy");
        let copied = bounded(self.deadline(bytes), attempt, copy.send()).await?;
        let Some(etag) = copied.copy_part_result().and_then(|part| part.e_tag()) else {
            return Err(S3Error::Transient {
                action: attempt.action,
                detail: "no entity tag in the answer".to_owned(),
            });
        };
        Ok(CompletedPart::builder().part_number(number).e_tag(etag).build())
    }

    /// Frees the parts. They cost money until they are gone, so a failure is worth a line.
    async fn abort(&self, upload: &str) {
        let abort = self
            .store
            .client()
            .abort_multipart_upload()
            .bucket(self.request.to_bucket)
            .key(self.request.to_key)
            .upload_id(upload);
        if let Err(error) = self.store.within(self.attempt("AbortMultipartUpload"), abort.send()).await {
            tracing::warn!(
                %error, bucket = self.request.to_bucket, key = self.request.to_key, upload,
                "an incomplete multipart copy was left behind"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copy_sources_are_encoded_byte_by_byte() {
        assert_eq!(encoded_source("b", "a b+c%/é?", None), "b/a%20b%2Bc%25/%C3%A9%3F");
        assert_eq!(encoded_source("b", "k", Some("v+1")), "b/k?versionId=v%2B1");
    }

    #[test]
    fn parts_cover_the_object_without_gaps() {
        let rule = Multipart { above: 0, part: 4 };
        assert_eq!(rule.parts(9).collect::<Vec<_>>(), [(1, 0, 3), (2, 4, 7), (3, 8, 8)]);
        assert_eq!(rule.parts(8).collect::<Vec<_>>(), [(1, 0, 3), (2, 4, 7)]);
    }

    #[test]
    fn the_largest_object_fits_into_the_allowed_number_of_parts() {
        let size = 50 * 1024 * 1024 * 1024 * 1024;
        let parts: Vec<_> = Multipart::default().parts(size).collect();
        assert!(parts.len() <= 10_000);
        assert_eq!(parts.last().map(|part| part.2), Some(size - 1));
    }
}
