//! Which access keys the server takes: one at the start, others after a rotation.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use s3s::auth::{S3Auth, SecretKey};
use s3s::{S3Error, S3ErrorCode, S3Result};

/// Secrets by access key; none for a key that has expired.
#[derive(Clone, Default)]
pub(super) struct Keyring(Arc<RwLock<BTreeMap<String, Option<String>>>>);

impl Keyring {
    pub(super) fn of(access_key: &str, secret: &str) -> Self {
        let ring = Self::default();
        ring.rotate(access_key, secret);
        ring
    }

    /// Takes this key from now on; all others have expired.
    pub(super) fn rotate(&self, access_key: &str, secret: &str) {
        let mut keys = self.0.write().unwrap_or_else(PoisonError::into_inner);
        keys.values_mut().for_each(|secret| *secret = None);
        keys.insert(access_key.to_owned(), Some(secret.to_owned()));
    }
}

#[async_trait::async_trait]
impl S3Auth for Keyring {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        match self.0.read().unwrap_or_else(PoisonError::into_inner).get(access_key) {
            Some(Some(secret)) => Ok(SecretKey::from(secret.as_str())),
            Some(None) => Err(S3Error::with_message(S3ErrorCode::ExpiredToken, "The provided token has expired.")),
            None => Err(S3Error::with_message(S3ErrorCode::InvalidAccessKeyId, "The access key does not exist.")),
        }
    }
}
