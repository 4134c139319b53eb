//! Versions of the objects of a bucket with versioning enabled: what AWS keeps of what was replaced or deleted.

use std::collections::BTreeMap;
use std::sync::Arc;

use s3s::{S3Error, S3ErrorCode, S3Result};

use super::store::Object;

/// Version of an object that was there before versioning was enabled.
const NULL: &str = "null";

struct Version {
    id: String,
    /// None for a delete marker.
    object: Option<Arc<Object>>,
}

/// All versions by key, the newest last.
#[derive(Default)]
pub(super) struct History(BTreeMap<String, Vec<Version>>);

impl History {
    /// What a bucket held when versioning was enabled.
    pub(super) fn beginning_with(objects: &BTreeMap<String, Arc<Object>>) -> Self {
        let only = |object| vec![Version { id: NULL.to_owned(), object: Some(Arc::clone(object)) }];
        Self(objects.iter().map(|(key, object)| (key.clone(), only(object))).collect())
    }

    /// Adds the newest version, or a delete marker.
    pub(super) fn push(&mut self, key: &str, object: Option<Arc<Object>>) -> String {
        let id = uuid::Uuid::new_v4().simple().to_string();
        self.0.entry(key.to_owned()).or_default().push(Version { id: id.clone(), object });
        id
    }

    /// Id of the newest version, delete markers included.
    pub(super) fn newest(&self, key: &str) -> Option<String> {
        Some(self.0.get(key)?.last()?.id.clone())
    }

    /// One version; a delete marker cannot be read.
    pub(super) fn get(&self, key: &str, id: &str) -> S3Result<Arc<Object>> {
        let version = self.0.get(key).and_then(|versions| versions.iter().find(|version| version.id == id));
        match version.map(|version| &version.object) {
            Some(Some(object)) => Ok(Arc::clone(object)),
            Some(None) => Err(S3ErrorCode::MethodNotAllowed.into()),
            None => Err(S3Error::with_message(S3ErrorCode::NoSuchVersion, "The specified version does not exist.")),
        }
    }

    /// Removes a version for good; answers whether it was a delete marker, and what is newest now.
    pub(super) fn remove(&mut self, key: &str, id: &str) -> (bool, Option<Arc<Object>>) {
        let Some(versions) = self.0.get_mut(key) else { return (false, None) };
        let was_marker = versions.iter().any(|version| version.id == id && version.object.is_none());
        versions.retain(|version| version.id != id);
        (was_marker, versions.last().and_then(|version| version.object.clone()))
    }

    /// Ids of a key with their objects, the oldest first.
    pub(super) fn of(&self, key: &str) -> Vec<(String, Option<Arc<Object>>)> {
        let versions = self.0.get(key).map(Vec::as_slice).unwrap_or_default();
        versions.iter().map(|version| (version.id.clone(), version.object.clone())).collect()
    }
}
