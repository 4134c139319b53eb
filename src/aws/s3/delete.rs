//! Conditional deletion in batches.
//!
//! Each key goes only while it has the entity tag it was loaded with. A key that is gone already counts as deleted.
//! A store that ignores conditions is found out with a key that does not exist, before the first real key is at
//! stake; from then on each key is looked at first and deleted without a condition, which leaves a gap of one request
//! in which a new version could arrive and be lost. That is said once, as a warning.

use std::collections::{HashMap, HashSet};

use aws_sdk_s3::operation::delete_objects::DeleteObjectsOutput;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use futures::{FutureExt, StreamExt, stream};

use super::{S3Store, get, quoted};
use crate::aws::classify::{Answer, Attempt, answered, transient};
use crate::domain::ports::{DeleteRequest, S3Error};

/// Keys in one `DeleteObjects` request, by the rules of S3.
const BATCH: usize = 1000;

/// Requests at once where keys go one by one.
const SINGLES: usize = 8;

type Outcome = Result<(), S3Error>;

pub(super) async fn delete(store: &S3Store, bucket: &str, requests: &[DeleteRequest]) -> Result<Vec<Outcome>, S3Error> {
    let Some(first) = requests.first() else { return Ok(Vec::new()) };
    let honoured = match store.deletes.known() {
        Some(known) => known,
        // Beside a key that is to be deleted, where permission to delete is to be expected.
        None => probe(store, bucket, &first.key).await?,
    };
    let mut outcomes = Vec::with_capacity(requests.len());
    for requests in requests.chunks(BATCH) {
        outcomes.extend(chunk(store, bucket, requests, honoured).await?);
    }
    Ok(outcomes)
}

async fn chunk(
    store: &S3Store,
    bucket: &str,
    requests: &[DeleteRequest],
    honoured: bool,
) -> Result<Vec<Outcome>, S3Error> {
    let mut batched = HashSet::new();
    // The answer names keys, so a key can stand in a batch once; and XML must be able to carry it.
    let (batch, singles): (Vec<_>, Vec<_>) = requests
        .iter()
        .enumerate()
        .partition(|(_, request)| honoured && fits_xml(&request.key) && batched.insert(request.key.as_str()));
    let mut outcomes: Vec<_> = requests.iter().map(|_| None).collect();
    for (place, outcome) in delete_batch(store, bucket, &batch).await? {
        put(&mut outcomes, place, outcome);
    }
    // Boxed and collected first: the compiler cannot see that a stream's closure serves every lifetime.
    let singles: Vec<_> =
        singles.into_iter().map(|(place, request)| one(store, bucket, place, request, honoured).boxed()).collect();
    let mut done = stream::iter(singles).buffer_unordered(SINGLES);
    while let Some((place, outcome)) = done.next().await {
        put(&mut outcomes, place, outcome);
    }
    let attempt = attempt(store, bucket);
    Ok(outcomes
        .into_iter()
        .map(|outcome| outcome.unwrap_or_else(|| Err(transient(attempt, "no outcome".to_owned()))))
        .collect())
}

fn put(outcomes: &mut [Option<Outcome>], place: usize, outcome: Outcome) {
    if let Some(slot) = outcomes.get_mut(place) {
        *slot = Some(outcome);
    }
}

fn attempt<'a>(store: &'a S3Store, bucket: &'a str) -> Attempt<'a> {
    store.attempt("DeleteObjects", "s3:DeleteObject", bucket)
}

/// Whether XML 1.0 can carry a key and every parser gives it back unchanged: carriage returns are not.
fn fits_xml(key: &str) -> bool {
    !key.chars().any(|c| c.is_control() || matches!(c, '\u{FFFE}' | '\u{FFFF}'))
}

async fn delete_batch(
    store: &S3Store,
    bucket: &str,
    batch: &[(usize, &DeleteRequest)],
) -> Result<Vec<(usize, Outcome)>, S3Error> {
    if batch.is_empty() {
        return Ok(Vec::new());
    }
    let keys = batch.iter().map(|(_, request)| (request.key.as_str(), request.etag.as_str()));
    let answer = BatchAnswer::new(send_batch(store, bucket, keys).await?);
    let mut outcomes = Vec::with_capacity(batch.len());
    for (place, request) in batch {
        let outcome = match answer.of(&request.key, attempt(store, bucket)) {
            Err(S3Error::Changed) => gone_or_changed(store, bucket, request).await,
            other => other,
        };
        outcomes.push((*place, outcome));
    }
    Ok(outcomes)
}

async fn send_batch<'a>(
    store: &S3Store,
    bucket: &str,
    keys: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<DeleteObjectsOutput, S3Error> {
    let attempt = attempt(store, bucket);
    let refused =
        |error: aws_sdk_s3::error::BuildError| S3Error::Refused { action: attempt.action, detail: error.to_string() };
    let mut delete = Delete::builder().quiet(false);
    for (key, etag) in keys {
        delete = delete.objects(ObjectIdentifier::builder().key(key).e_tag(quoted(etag)).build().map_err(refused)?);
    }
    let send = store.client().delete_objects().bucket(bucket).delete(delete.build().map_err(refused)?).send();
    store.within(attempt, send).await
}

/// What a batch did, by key.
struct BatchAnswer {
    deleted: HashSet<String>,
    failed: HashMap<String, aws_sdk_s3::types::Error>,
}

impl BatchAnswer {
    fn new(output: DeleteObjectsOutput) -> Self {
        let deleted = output.deleted.unwrap_or_default().into_iter().filter_map(|deleted| deleted.key);
        let failed = output.errors.unwrap_or_default().into_iter();
        Self {
            deleted: deleted.collect(),
            failed: failed.filter_map(|error| Some((error.key.clone()?, error))).collect(),
        }
    }

    fn of(&self, key: &str, attempt: Attempt<'_>) -> Outcome {
        if let Some(error) = self.failed.get(key) {
            let answer = Answer { code: error.code(), message: error.message(), ..Answer::default() };
            return gone_is_gone(answered(answer, attempt));
        }
        if self.deleted.contains(key) {
            return Ok(());
        }
        Err(transient(attempt, format!("the answer does not mention key {key:?}")))
    }
}

fn gone_is_gone(error: S3Error) -> Outcome {
    if matches!(error, S3Error::NotFound) { Ok(()) } else { Err(error) }
}

/// Some stores fail the condition of a key that is gone, for instance because an earlier try deleted it.
async fn gone_or_changed(store: &S3Store, bucket: &str, request: &DeleteRequest) -> Outcome {
    match get::head(store, bucket, &request.key).await {
        Ok(head) if head.etag == request.etag => {
            let detail = "the condition failed although the entity tag is the one named".to_owned();
            Err(transient(attempt(store, bucket), detail))
        }
        Ok(_) => Err(S3Error::Changed),
        Err(error) => gone_is_gone(error),
    }
}

/// A key on its own: conditionally where the store can do that, else looked at first.
async fn one(store: &S3Store, bucket: &str, place: usize, request: &DeleteRequest, honoured: bool) -> (usize, Outcome) {
    let outcome = if honoured {
        delete_single(store, bucket, request).await
    } else {
        look_and_delete(store, bucket, request).await
    };
    (place, outcome)
}

async fn delete_single(store: &S3Store, bucket: &str, request: &DeleteRequest) -> Outcome {
    let send = store.client().delete_object().bucket(bucket).key(&request.key).if_match(quoted(&request.etag)).send();
    match store.within(store.attempt("DeleteObject", "s3:DeleteObject", bucket), send).await {
        Ok(_) => Ok(()),
        Err(S3Error::Changed) => gone_or_changed(store, bucket, request).await,
        Err(error) => gone_is_gone(error),
    }
}

async fn look_and_delete(store: &S3Store, bucket: &str, request: &DeleteRequest) -> Outcome {
    match get::head(store, bucket, &request.key).await {
        Ok(head) if head.etag == request.etag => {}
        Ok(_) => return Err(S3Error::Changed),
        Err(error) => return gone_is_gone(error),
    }
    let send = store.client().delete_object().bucket(bucket).key(&request.key).send();
    match store.within(store.attempt("DeleteObject", "s3:DeleteObject", bucket), send).await {
        Ok(_) => Ok(()),
        Err(error) => gone_is_gone(error),
    }
}

/// Asks for the deletion of a key that does not exist, under a condition that therefore cannot hold.
pub(super) async fn probe(store: &S3Store, bucket: &str, prefix: &str) -> Result<bool, S3Error> {
    let key = probe_key(prefix);
    let etag = uuid::Uuid::new_v4().simple().to_string();
    let honoured = match send_batch(store, bucket, std::iter::once((key.as_str(), etag.as_str()))).await {
        Ok(output) => match BatchAnswer::new(output).failed.remove(&key) {
            None => false,
            Some(error) => {
                let answer = Answer { code: error.code(), message: error.message(), ..Answer::default() };
                understood(answered(answer, attempt(store, bucket)))?
            }
        },
        // A store that does not know the element may refuse the whole request.
        Err(S3Error::Refused { .. }) => false,
        Err(error) => return Err(error),
    };
    if store.deletes.learn(honoured) && !honoured {
        tracing::warn!(
            bucket,
            "this object store ignores conditions of deletions: keyfall looks at each object before it deletes it, \
             and a version that arrives in between would be lost"
        );
    }
    Ok(honoured)
}

/// A key that does not exist, beside keys that a permission is expected for.
pub(super) fn probe_key(beside: &str) -> String {
    let beside: String = beside.chars().filter(|c| !c.is_control()).collect();
    format!("{}.keyfall-probe-{}", shortened(&beside), uuid::Uuid::new_v4().simple())
}

/// Whether a refusal to delete a missing key shows that the condition was looked at.
fn understood(error: S3Error) -> Result<bool, S3Error> {
    match error {
        S3Error::NotFound | S3Error::Changed => Ok(true),
        S3Error::Refused { .. } => Ok(false),
        other => Err(other),
    }
}

/// Leaves room for the probe's own name within the 1024 bytes of a key.
fn shortened(prefix: &str) -> &str {
    let end = prefix.floor_char_boundary(900);
    prefix.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_xml_changes_stay_out_of_batches() {
        assert!(fits_xml("a b+c%é<&>\"'/😀"));
        for key in ["a\rb", "a\nb", "\u{1}", "\u{7f}", "\u{FFFF}"] {
            assert!(!fits_xml(key), "{key:?}");
        }
    }

    #[test]
    fn a_long_prefix_leaves_room_for_the_probe() {
        assert_eq!(shortened(&"é".repeat(600)).len(), 900);
        assert_eq!(shortened("in/"), "in/");
    }
}
