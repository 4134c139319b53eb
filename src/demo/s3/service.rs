//! The operations of S3, each a few lines over the store: look up, check the conditions, answer.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use hyper::{HeaderMap, StatusCode};
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput, CompleteMultipartUploadOutput,
    CopyObjectInput, CopyObjectOutput, CopyObjectResult, CopyPartResult, CopySource, CreateBucketInput,
    CreateBucketOutput, CreateMultipartUploadInput, CreateMultipartUploadOutput, DeleteObjectInput, DeleteObjectOutput,
    DeleteObjectsInput, DeleteObjectsOutput, DeletedObject, ETag, ETagCondition, Error, GetObjectInput,
    GetObjectOutput, HeadBucketInput, HeadBucketOutput, HeadObjectInput, HeadObjectOutput, ListObjectsV2Input,
    ListObjectsV2Output, ObjectIdentifier, PutObjectInput, PutObjectOutput, Range, StreamingBlob, UploadPartCopyInput,
    UploadPartCopyOutput, UploadPartInput, UploadPartOutput,
};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

use super::faults::Action;
use super::log::Operation;
use super::respond::{self, Token};
use super::state::{Call, State, Subject};
use super::store::{Attributes, Begin, Object, Page, Query, Removed, no_such_bucket, no_such_key, precondition_failed};

/// The HTTP service over this state.
pub(super) fn build(state: Arc<State>) -> S3Service {
    let keys = state.keys.clone();
    let mut builder = S3ServiceBuilder::new(Embedded(state));
    builder.set_auth(keys);
    builder.build()
}

struct Embedded(Arc<State>);

/// The headers a write gives an object. Three inputs have these fields and share no trait.
macro_rules! attributes_of {
    ($input:expr) => {
        Attributes {
            content_type: $input.content_type.clone(),
            content_encoding: $input.content_encoding.clone(),
            content_language: $input.content_language.clone(),
            content_disposition: $input.content_disposition.clone(),
            cache_control: $input.cache_control.clone(),
            metadata: $input.metadata.clone().unwrap_or_default(),
        }
    };
}

/// Whether a condition holds for what is there now.
fn holds(condition: &ETagCondition, object: &Object) -> bool {
    match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(etag) => etag.value() == object.etag,
    }
}

/// If-Match for requests that answer 404 where the key is missing.
fn must_match(condition: Option<&ETagCondition>, object: Option<&Object>) -> S3Result<()> {
    match (condition, object) {
        (None, _) => Ok(()),
        (Some(_), None) => Err(no_such_key()),
        (Some(condition), Some(object)) if holds(condition, object) => Ok(()),
        (Some(_), Some(_)) => Err(precondition_failed()),
    }
}

/// `If-None-Match: *`, the only form S3 knows for writes.
fn must_be_new(is_demanded: bool, object: Option<&Object>) -> S3Result<()> {
    if is_demanded && object.is_some() { Err(precondition_failed()) } else { Ok(()) }
}

fn demands_new(headers: &HeaderMap) -> bool {
    headers.get(hyper::header::IF_NONE_MATCH).is_some_and(|value| value.as_bytes() == b"*")
}

impl Embedded {
    /// The object a GET, HEAD or copy reads, conditions checked.
    fn source(
        &self,
        (bucket, key, version): (&str, &str, Option<&str>),
        condition: Option<&ETagCondition>,
        call: &Call,
    ) -> S3Result<Arc<Object>> {
        let object = self.0.store.get(bucket, key, version)?;
        if !call.ignores_conditions() {
            must_match(condition, Some(&object))?;
        }
        Ok(object)
    }

    /// The object a copy reads.
    fn copy_source(
        &self,
        source: &CopySource,
        condition: Option<&ETagCondition>,
        call: &Call,
    ) -> S3Result<Arc<Object>> {
        let CopySource::Bucket { bucket, key, version_id } = source else {
            return Err(S3Error::with_message(S3ErrorCode::NotImplemented, "only bucket/key can be copied"));
        };
        let object = self.source((bucket, key, version_id.as_deref()), condition, call)?;
        if object.is_archived() { Err(archived()) } else { Ok(object) }
    }

    fn delete_one(
        &self,
        (bucket, key, version): (&str, &str, Option<&str>),
        condition: Option<&ETagCondition>,
        call: &Call,
    ) -> S3Result<Removed> {
        if call.pretends() {
            return Ok(Removed::default());
        }
        let condition = condition.filter(|_| !call.ignores_conditions());
        self.0.store.remove_if(bucket, key, version, |object| must_match(condition, object))
    }

    /// One key of a batch, logged and struck by faults on its own.
    fn delete_of_batch(&self, bucket: &str, wanted: &ObjectIdentifier, whole: &Call) -> S3Result<Removed> {
        let seq = self.0.log.arrive(Operation::DeleteObjects, bucket, &wanted.key);
        let mut actions = self.0.faults.strike_key(Operation::DeleteObjects, &wanted.key);
        let inherited = |action: &&Action| matches!(action, Action::IgnoreConditions | Action::Pretend);
        actions.extend(whole.actions().iter().filter(inherited).cloned());
        let call = Call::part(actions);
        let condition = wanted.e_tag.clone().map(ETagCondition::ETag);
        let done = call
            .refusal()
            .and_then(|()| {
                let version = wanted.version_id.as_deref();
                self.delete_one((bucket, &wanted.key, version), condition.as_ref(), &call)
            })
            .and_then(|removed| call.afterwards().map(|()| removed));
        let status = done.as_ref().err().map_or(Some(StatusCode::NO_CONTENT), S3Error::status_code);
        self.0.log.answer(seq, status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR).as_u16());
        done
    }
}

fn archived() -> S3Error {
    S3Error::with_message(S3ErrorCode::InvalidObjectState, "The operation is not valid for the object's storage class")
}

async fn collect(body: Option<StreamingBlob>) -> S3Result<Bytes> {
    let Some(body) = body else { return Ok(Bytes::new()) };
    let mut data = BytesMut::new();
    let mut frames = body.into_stream();
    while let Some(frame) =
        frames.try_next().await.map_err(|error| S3Error::with_source(S3ErrorCode::IncompleteBody, error))?
    {
        data.extend_from_slice(&frame);
    }
    Ok(data.freeze())
}

#[async_trait::async_trait]
impl S3 for Embedded {
    async fn create_bucket(&self, req: S3Request<CreateBucketInput>) -> S3Result<S3Response<CreateBucketOutput>> {
        let bucket = &req.input.bucket;
        let subject = Subject { op: Operation::CreateBucket, bucket, key: "" };
        let work = |_: &Call| {
            if !self.0.store.create_bucket(bucket) {
                return Err(S3ErrorCode::BucketAlreadyOwnedByYou.into());
            }
            Ok(S3Response::new(CreateBucketOutput { location: Some(format!("/{bucket}")) }))
        };
        self.0.run(subject, &req.extensions, work).await
    }

    async fn head_bucket(&self, req: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        let bucket = &req.input.bucket;
        let subject = Subject { op: Operation::HeadBucket, bucket, key: "" };
        let work = |_: &Call| {
            if self.0.store.has_bucket(bucket) {
                Ok(S3Response::new(HeadBucketOutput::default()))
            } else {
                Err(no_such_bucket())
            }
        };
        self.0.run(subject, &req.extensions, work).await
    }

    async fn list_objects_v2(&self, req: S3Request<ListObjectsV2Input>) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = &req.input;
        let prefix = input.prefix.as_deref().unwrap_or_default();
        let subject = Subject { op: Operation::ListObjects, bucket: &input.bucket, key: prefix };
        let work = |call: &Call| {
            let token = input.continuation_token.as_deref().map(Token::parse).transpose()?;
            let after = input.start_after.as_deref().map_or(Begin::Start, Begin::After);
            let limit = usize::try_from(input.max_keys.unwrap_or(1000)).unwrap_or(0).min(respond::page_size(call));
            let query = Query {
                prefix,
                delimiter: input.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty()),
                from: token.as_ref().map_or(after, Token::begin),
                limit,
            };
            let page = if limit == 0 { Page::default() } else { self.0.store.list(&input.bucket, &query)? };
            Ok(S3Response::new(respond::listing(input, page, call)))
        };
        self.0.run(subject, &req.extensions, work).await
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = &req.input;
        let subject = Subject { op: Operation::GetObject, bucket: &input.bucket, key: &input.key };
        let work = |call: &Call| {
            let version = input.version_id.as_deref();
            let object = self.source((&input.bucket, &input.key, version), input.if_match.as_ref(), call)?;
            if object.is_archived() {
                return Err(archived());
            }
            let mut answer = respond::body(&object, input, call)?;
            answer.output.version_id =
                input.version_id.clone().or_else(|| self.0.store.version(&input.bucket, &input.key));
            Ok(answer)
        };
        self.0.run(subject, &req.extensions, work).await
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = &req.input;
        let subject = Subject { op: Operation::HeadObject, bucket: &input.bucket, key: &input.key };
        let work = |call: &Call| {
            let version = input.version_id.as_deref();
            let object = self.source((&input.bucket, &input.key, version), input.if_match.as_ref(), call)?;
            let attributes = object.attributes().clone();
            Ok(S3Response::new(HeadObjectOutput {
                content_length: i64::try_from(respond::claimed_size(&object, call)).ok(),
                version_id: input.version_id.clone().or_else(|| self.0.store.version(&input.bucket, &input.key)),
                e_tag: Some(respond::etag(&object, call)),
                last_modified: Some(respond::timestamp(object.last_modified)),
                content_type: attributes.content_type.or_else(|| Some("binary/octet-stream".to_owned())),
                content_encoding: attributes.content_encoding,
                content_language: attributes.content_language,
                content_disposition: attributes.content_disposition,
                cache_control: attributes.cache_control,
                metadata: Some(attributes.metadata),
                storage_class: object.storage_class.clone().map(Into::into),
                ..Default::default()
            }))
        };
        self.0.run(subject, &req.extensions, work).await
    }

    async fn put_object(&self, mut req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let data = collect(req.input.body.take()).await?;
        let input = &req.input;
        let subject = Subject { op: Operation::PutObject, bucket: &input.bucket, key: &input.key };
        let work = |call: &Call| {
            let object = Object::new(data, attributes_of!(input));
            let e_tag = Some(ETag::Strong(object.etag.clone()));
            let version_id = self.0.store.insert_if(&input.bucket, &input.key, object, |present| {
                if call.ignores_conditions() {
                    return Ok(());
                }
                must_be_new(input.if_none_match.is_some(), present)?;
                must_match(input.if_match.as_ref(), present)
            })?;
            Ok(S3Response::new(PutObjectOutput { e_tag, version_id, ..Default::default() }))
        };
        self.0.run(subject, &req.extensions, work).await
    }

    async fn copy_object(&self, req: S3Request<CopyObjectInput>) -> S3Result<S3Response<CopyObjectOutput>> {
        let input = &req.input;
        let subject = Subject { op: Operation::CopyObject, bucket: &input.bucket, key: &input.key };
        let work = |call: &Call| {
            let source = self.copy_source(&input.copy_source, input.copy_source_if_match.as_ref(), call)?;
            let is_replaced =
                input.metadata_directive.as_ref().is_some_and(|directive| directive.as_str() == "REPLACE");
            let attributes = is_replaced.then(|| attributes_of!(input));
            let copy = source.copy(attributes);
            let result = CopyObjectResult {
                e_tag: Some(ETag::Strong(copy.etag.clone())),
                last_modified: Some(respond::timestamp(copy.last_modified)),
                ..Default::default()
            };
            let demands_new = demands_new(&req.headers) && !call.ignores_conditions();
            let allowed = |present: Option<&Object>| must_be_new(demands_new, present);
            let version_id = self.0.store.insert_if(&input.bucket, &input.key, copy, allowed)?;
            Ok(S3Response::new(CopyObjectOutput { copy_object_result: Some(result), version_id, ..Default::default() }))
        };
        self.0.run(subject, &req.extensions, work).await
    }

    async fn delete_object(&self, req: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        let input = &req.input;
        let subject = Subject { op: Operation::DeleteObject, bucket: &input.bucket, key: &input.key };
        let work = |call: &Call| {
            let version = input.version_id.as_deref();
            let removed = self.delete_one((&input.bucket, &input.key, version), input.if_match.as_ref(), call)?;
            let output = DeleteObjectOutput {
                delete_marker: removed.is_marker.then_some(true),
                version_id: removed.version,
                ..Default::default()
            };
            Ok(S3Response::with_status(output, StatusCode::NO_CONTENT))
        };
        self.0.run(subject, &req.extensions, work).await
    }

    async fn delete_objects(&self, req: S3Request<DeleteObjectsInput>) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let input = &req.input;
        let subject = Subject { op: Operation::DeleteObjects, bucket: &input.bucket, key: "" };
        let work = |call: &Call| {
            if !self.0.store.has_bucket(&input.bucket) {
                return Err(no_such_bucket());
            }
            if input.delete.objects.len() > 1000 {
                return Err(S3ErrorCode::MalformedXML.into());
            }
            let mut output = DeleteObjectsOutput::default();
            for wanted in &input.delete.objects {
                let key = Some(wanted.key.clone());
                match self.delete_of_batch(&input.bucket, wanted, call) {
                    Ok(removed) => output.deleted.get_or_insert_default().push(DeletedObject {
                        key,
                        delete_marker: removed.is_marker.then_some(true),
                        delete_marker_version_id: removed.version.filter(|_| removed.is_marker),
                        version_id: wanted.version_id.clone(),
                    }),
                    Err(error) => output.errors.get_or_insert_default().push(Error {
                        key,
                        code: Some(error.code().as_str().to_owned()),
                        message: error.message().map(str::to_owned),
                        version_id: None,
                    }),
                }
            }
            if input.delete.quiet == Some(true) {
                output.deleted = None;
            }
            Ok(S3Response::new(output))
        };
        self.0.run(subject, &req.extensions, work).await
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let input = &req.input;
        let subject = Subject { op: Operation::CreateUpload, bucket: &input.bucket, key: &input.key };
        let work = |_: &Call| {
            if !self.0.store.has_bucket(&input.bucket) {
                return Err(no_such_bucket());
            }
            let id = self.0.uploads.create(attributes_of!(input));
            Ok(S3Response::new(CreateMultipartUploadOutput {
                bucket: Some(input.bucket.clone()),
                key: Some(input.key.clone()),
                upload_id: Some(id),
                ..Default::default()
            }))
        };
        self.0.run(subject, &req.extensions, work).await
    }

    async fn upload_part(&self, mut req: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        let data = collect(req.input.body.take()).await?;
        let input = &req.input;
        let subject = Subject { op: Operation::UploadPart, bucket: &input.bucket, key: &input.key };
        let work = |_: &Call| {
            let e_tag = self.0.uploads.add(&input.upload_id, input.part_number, data)?;
            Ok(S3Response::new(UploadPartOutput { e_tag: Some(ETag::Strong(e_tag)), ..Default::default() }))
        };
        self.0.run(subject, &req.extensions, work).await
    }

    async fn upload_part_copy(
        &self,
        req: S3Request<UploadPartCopyInput>,
    ) -> S3Result<S3Response<UploadPartCopyOutput>> {
        let input = &req.input;
        let subject = Subject { op: Operation::UploadPartCopy, bucket: &input.bucket, key: &input.key };
        let work = |call: &Call| {
            let source = self.copy_source(&input.copy_source, input.copy_source_if_match.as_ref(), call)?;
            let mut data = source.data.clone();
            if let Some(range) = &input.copy_source_range {
                let range = Range::parse(range).map_err(|_malformed| S3ErrorCode::InvalidArgument)?;
                data = match range.check(data.len() as u64) {
                    Ok(wanted) => {
                        let bound = |at: u64| usize::try_from(at).map_err(|_huge| S3ErrorCode::InvalidArgument);
                        data.slice(bound(wanted.start)?..bound(wanted.end)?)
                    }
                    Err(_outside) if call.has(|action| matches!(action, Action::ClaimSize(_))) => Bytes::new(),
                    Err(_outside) => return Err(S3ErrorCode::InvalidArgument.into()),
                };
            }
            let e_tag = self.0.uploads.add(&input.upload_id, input.part_number, data)?;
            let result = CopyPartResult { e_tag: Some(ETag::Strong(e_tag)), ..Default::default() };
            Ok(S3Response::new(UploadPartCopyOutput { copy_part_result: Some(result), ..Default::default() }))
        };
        self.0.run(subject, &req.extensions, work).await
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = &req.input;
        let subject = Subject { op: Operation::CompleteUpload, bucket: &input.bucket, key: &input.key };
        let work = |call: &Call| {
            let parts = input.multipart_upload.as_ref().and_then(|upload| upload.parts.as_deref()).unwrap_or_default();
            let numbers: Vec<_> = parts.iter().filter_map(|part| part.part_number).collect();
            let object = self.0.uploads.assemble(&input.upload_id, &numbers)?;
            let e_tag = Some(ETag::Strong(object.etag.clone()));
            let demands_new = input.if_none_match.is_some() && !call.ignores_conditions();
            let allowed = |present: Option<&Object>| must_be_new(demands_new, present);
            let version_id = self.0.store.insert_if(&input.bucket, &input.key, object, allowed)?;
            self.0.uploads.close(&input.upload_id)?;
            Ok(S3Response::new(CompleteMultipartUploadOutput { e_tag, version_id, ..Default::default() }))
        };
        self.0.run(subject, &req.extensions, work).await
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let input = &req.input;
        let subject = Subject { op: Operation::AbortUpload, bucket: &input.bucket, key: &input.key };
        let work = |_: &Call| {
            self.0.uploads.close(&input.upload_id)?;
            Ok(S3Response::with_status(AbortMultipartUploadOutput::default(), StatusCode::NO_CONTENT))
        };
        self.0.run(subject, &req.extensions, work).await
    }
}
