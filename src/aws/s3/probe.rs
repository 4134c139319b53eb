//! Finding out whether writing is permitted, without leaving anything behind.
//!
//! S3 checks the permission before it looks at the condition, so "there is nothing to replace" means "you may". A store
//! that ignores the condition writes an empty object, which is deleted again; where even that fails, its name is logged.

use aws_sdk_s3::primitives::ByteStream;

use super::{S3Store, delete, quoted};
use crate::domain::ports::S3Error;

/// Tries to replace a key that does not exist.
pub(super) async fn write(store: &S3Store, bucket: &str, prefix: &str) -> Result<(), S3Error> {
    let key = delete::probe_key(prefix);
    let etag = quoted(&uuid::Uuid::new_v4().simple().to_string());
    let send =
        store.client().put_object().bucket(bucket).key(&key).if_match(etag).body(ByteStream::from_static(b"")).send();
    // On the heap: an SDK request is a future of many kilobytes.
    match Box::pin(store.within(store.attempt("PutObject", "s3:PutObject", bucket), send)).await {
        Ok(_) => {
            remove(store, bucket, &key).await;
            Ok(())
        }
        Err(S3Error::NotFound | S3Error::Changed) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes what a store wrote although it was told not to. Nobody else can know this key.
async fn remove(store: &S3Store, bucket: &str, key: &str) {
    let send = store.client().delete_object().bucket(bucket).key(key).send();
    if let Err(error) = Box::pin(store.within(store.attempt("DeleteObject", "s3:DeleteObject", bucket), send)).await {
        tracing::warn!(bucket, key, error = %error,
            "this object store ignores conditions of writes and left an empty probe object, which could not be removed");
    }
}

#[cfg(feature = "demo")]
#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::s3::S3;
    use crate::config::secret::Secret;
    use crate::demo::s3::{ACCESS_KEY_ID, Action, EmbeddedS3, FaultRule, Operation, SECRET_ACCESS_KEY};
    use crate::domain::ports::ObjectStore;

    async fn connected() -> (EmbeddedS3, S3Store) {
        let server = EmbeddedS3::start().await.unwrap();
        server.create_bucket("archive");
        let config = S3 {
            region: None,
            endpoint_url: Some(server.endpoint()),
            force_path_style: true,
            access_key_id: Some(ACCESS_KEY_ID.to_owned()),
            secret_access_key: Some(Secret::new(SECRET_ACCESS_KEY.to_owned())),
            connect_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_secs(5),
            max_attempts: 1,
        };
        let store = S3Store::connect(&config).await.unwrap();
        (server, store)
    }

    #[tokio::test]
    async fn a_permitted_write_is_found_without_writing() {
        let (server, store) = connected().await;
        store.probe_write("archive", "a/").await.unwrap();
        assert!(server.is_empty("archive"));
        assert!(server.log().iter().all(|entry| entry.op == Operation::PutObject));
    }

    #[tokio::test]
    async fn a_store_that_ignores_conditions_is_left_as_it_was() {
        let (server, store) = connected().await;
        let ignored = server.inject(FaultRule::on(Operation::PutObject, Action::IgnoreConditions));
        store.probe_write("archive", "a/").await.unwrap();
        assert_eq!(ignored.hits(), 1);
        assert!(server.is_empty("archive"), "{:?}", server.keys("archive"));
    }

    #[tokio::test]
    async fn a_denied_write_names_the_permission() {
        let (server, store) = connected().await;
        server.inject(FaultRule::on(Operation::PutObject, Action::Denied));
        let error = store.probe_write("archive", "a/").await.unwrap_err();
        assert!(matches!(error, S3Error::Denied { action: "s3:PutObject", .. }), "{error}");
    }

    #[tokio::test]
    async fn a_missing_bucket_is_no_permission() {
        let (_server, store) = connected().await;
        let error = store.probe_write("elsewhere", "a/").await.unwrap_err();
        assert!(matches!(error, S3Error::NoSuchBucket { .. }), "{error}");
    }
}
