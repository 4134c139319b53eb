//! Whether an object can be read again: nobody's rows are deleted for a load that cannot come.

use crate::domain::object::split_uri;
use crate::domain::ports::{ObjectStore, S3Error};
use crate::store::ledger::Repairable;

/// Why an object could not be loaded again.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It was deleted after it was loaded.
    #[error("it was deleted from the bucket after it was loaded")]
    Deleted,
    /// Somebody removed it.
    #[error("it is no longer in the bucket")]
    Gone,
    /// Another version lies under its key.
    #[error("another version lies under its key now")]
    Changed,
    /// The archive copy is gone or another.
    #[error("its archive copy {uri} {what}")]
    Archive {
        /// Where it should lie.
        uri: String,
        /// What is there instead.
        what: &'static str,
    },
    /// The store could not be asked.
    #[error(transparent)]
    S3(S3Error),
}

impl Unreadable {
    /// What to do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Deleted | Self::Gone => "upload it again, or `keyfall undo` if its rows are not wanted",
            Self::Changed => "the version under the key is loaded by itself; `keyfall undo` removes this one's rows",
            Self::Archive { .. } => "ask who changed the archive; restore the copy from the bucket's older versions",
            Self::S3(error) => error.advice(),
        }
    }
}

/// Asks the store with one HEAD. The conditional GET of the load decides in the end.
pub(super) async fn require(store: &dyn ObjectStore, object: &Repairable) -> Result<(), Unreadable> {
    let is_disposed_of = object.disposal == "done";
    let copy = object.archived_to.as_ref().filter(|_| is_disposed_of);
    if let Some(uri) = copy {
        let wrong = |what| Unreadable::Archive { uri: uri.clone(), what };
        let Some((bucket, key)) = split_uri(uri) else { return Err(wrong("is no address")) };
        return match store.head(&bucket, &key).await {
            Ok(head) if head.size == object.size => Ok(()),
            Ok(_) => Err(wrong("has another size")),
            Err(S3Error::NotFound) => Err(wrong("is not there")),
            Err(error) => Err(Unreadable::S3(error)),
        };
    }
    match store.head(&object.bucket, &object.key).await {
        Ok(head) if head.etag == object.etag && head.size == object.size => Ok(()),
        Ok(_) => Err(Unreadable::Changed),
        Err(S3Error::NotFound) if is_disposed_of => Err(Unreadable::Deleted),
        Err(S3Error::NotFound) => Err(Unreadable::Gone),
        Err(error) => Err(Unreadable::S3(error)),
    }
}
