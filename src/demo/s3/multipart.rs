//! Multipart uploads: enough of them for a server-side copy in parts and for a client that uploads a large file.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use s3s::crypto::{Checksum as _, Md5};
use s3s::{S3Error, S3ErrorCode, S3Result};

use super::store::{Attributes, Object, hex};

/// Uploads neither completed nor aborted.
#[derive(Default)]
pub(super) struct Uploads {
    open: Mutex<HashMap<String, Upload>>,
}

struct Upload {
    attributes: Attributes,
    parts: BTreeMap<i32, Bytes>,
}

impl Uploads {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Upload>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    pub(super) fn create(&self, attributes: Attributes) -> String {
        let id = uuid::Uuid::new_v4().simple().to_string();
        self.lock().insert(id.clone(), Upload { attributes, parts: BTreeMap::new() });
        id
    }

    /// Adds a part and answers its entity tag.
    pub(super) fn add(&self, id: &str, number: i32, data: Bytes) -> S3Result<String> {
        let etag = hex(Md5::checksum(&data).as_ref());
        self.lock().get_mut(id).ok_or_else(no_such_upload)?.parts.insert(number, data);
        Ok(etag)
    }

    /// The object made of these parts; the upload stays open until [`Uploads::close`].
    pub(super) fn assemble(&self, id: &str, numbers: &[i32]) -> S3Result<Object> {
        let open = self.lock();
        let upload = open.get(id).ok_or_else(no_such_upload)?;
        let mut data = BytesMut::new();
        let mut digests = Vec::new();
        for number in numbers {
            let part = upload.parts.get(number).ok_or(S3ErrorCode::InvalidPart)?;
            data.extend_from_slice(part);
            digests.extend_from_slice(Md5::checksum(part).as_ref());
        }
        let etag = format!("{}-{}", hex(Md5::checksum(&digests).as_ref()), numbers.len());
        Ok(Object::new(data.freeze(), upload.attributes.clone()).with_etag(etag))
    }

    pub(super) fn close(&self, id: &str) -> S3Result<()> {
        self.lock().remove(id).map(drop).ok_or_else(no_such_upload)
    }
}

fn no_such_upload() -> S3Error {
    S3Error::with_message(S3ErrorCode::NoSuchUpload, "The specified multipart upload does not exist")
}
