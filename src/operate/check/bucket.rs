//! A feed's bucket: there, listable, readable, with keys that fit the pattern, and every right its disposal needs.
//!
//! Reading and deleting are tried on keys that do not exist: "not found" means "you may".

use uuid::Uuid;

use crate::config::feed::{Disposal, Feed};
use crate::domain::object::Listed;
use crate::domain::ports::{ListRequest, ObjectStore, S3Error};
use crate::domain::state::SkipReason;
use crate::pipeline::discover::judge;
use crate::store::ledger::Found;

use super::{Area, Finding, path};

pub(super) async fn look(feed: &Feed, store: &dyn ObjectStore) -> Vec<Finding> {
    let request = ListRequest { prefix: feed.prefix.clone(), ..ListRequest::default() };
    let page = match store.list(&feed.bucket, &request).await {
        Ok(page) => page,
        // Whatever else is asked of this bucket fails for the same reason.
        Err(error) => return vec![refused(feed, "bucket", "s3:ListBucket", &error)],
    };
    let more = if page.next.is_some() { " or more" } else { "" };
    let detail = format!("s3://{}/{}: {}{more} objects", feed.bucket, feed.prefix, page.objects.len());
    let mut findings = vec![Finding::ok(Area::S3, path(feed, "bucket"), detail)];
    findings.extend(about_keys(feed, page.objects));
    findings.push(reading(feed, store).await);
    findings.extend(disposing(feed, store).await);
    findings
}

fn refused(feed: &Feed, key: &str, right: &str, error: &S3Error) -> Finding {
    Finding::fail(Area::S3, path(feed, key), format!("{right}: {error}"), error.advice())
}

async fn reading(feed: &Feed, store: &dyn ObjectStore) -> Finding {
    match readable(store, &feed.bucket, &feed.prefix).await {
        Ok(()) => Finding::ok(Area::S3, path(feed, "bucket"), "s3:GetObject is granted"),
        Err(error) => refused(feed, "bucket", "s3:GetObject", &error),
    }
}

async fn readable(store: &dyn ObjectStore, bucket: &str, prefix: &str) -> Result<(), S3Error> {
    let key = format!("{prefix}.keyfall-probe-{}", Uuid::new_v4().simple());
    match store.head(bucket, &key).await {
        Ok(_) | Err(S3Error::NotFound) => Ok(()),
        Err(error) => Err(error),
    }
}

async fn disposing(feed: &Feed, store: &dyn ObjectStore) -> Vec<Finding> {
    match &feed.disposal {
        Disposal::Keep => Vec::new(),
        Disposal::Delete => vec![deleting(feed, store).await],
        Disposal::Archive { bucket, prefix } => {
            let (written, seen, deleted) = futures::join!(
                store.probe_write(bucket, prefix),
                readable(store, bucket, prefix),
                deleting(feed, store)
            );
            let place = format!("s3://{bucket}/{prefix}");
            vec![
                archiving(feed, "s3:PutObject", &place, written),
                archiving(feed, "s3:GetObject", &place, seen),
                deleted,
            ]
        }
    }
}

fn archiving(feed: &Feed, right: &str, place: &str, outcome: Result<(), S3Error>) -> Finding {
    let what = path(feed, "disposal");
    match outcome {
        Ok(()) => Finding::ok(Area::S3, what, format!("{right} on {place} is granted")),
        // The store does not know the condition that makes the probe harmless.
        Err(S3Error::Refused { detail, .. }) => {
            let detail = format!("{right} on {place} could not be tried: {detail}");
            Finding::warn(Area::S3, what, detail, "look at the first archived object")
        }
        Err(error) => Finding::fail(Area::S3, what, format!("{right} on {place}: {error}"), error.advice()),
    }
}

async fn deleting(feed: &Feed, store: &dyn ObjectStore) -> Finding {
    match store.conditional_delete_honoured(&feed.bucket, &feed.prefix).await {
        Ok(true) => Finding::ok(Area::S3, path(feed, "disposal"), "s3:DeleteObject is granted"),
        Ok(false) => Finding::warn(
            Area::S3,
            path(feed, "disposal"),
            "s3:DeleteObject is granted, but the store ignores conditions of deletions",
            "each object is looked at before it is deleted; a version that arrives in between would be lost",
        ),
        Err(error) => refused(feed, "disposal", "s3:DeleteObject", &error),
    }
}

/// How the pattern and the filters read the keys of the first page.
fn about_keys(feed: &Feed, objects: Vec<Listed>) -> Vec<Finding> {
    let judged: Vec<Found> = objects.into_iter().map(|listed| judge(feed, listed)).collect();
    let Some(newest) = judged.iter().filter(|found| found.skip.is_none()).max_by_key(|found| found.key_time) else {
        return none_fit(feed, &judged);
    };
    let mut findings = Vec::new();
    if let Some(pattern) = &feed.pattern {
        let time = newest.key_time.map_or_else(|| "no time".to_owned(), |time| time.to_string());
        let detail = format!("{:?} reads {:?} as {time}", pattern.as_str(), newest.listed.key);
        findings.push(Finding::ok(Area::Config, path(feed, "pattern"), detail));
        findings.extend(misfits(feed, &judged));
        findings.extend(impossible_times(feed, &judged));
    }
    findings
}

fn none_fit(feed: &Feed, judged: &[Found]) -> Vec<Finding> {
    let Some(first) = judged.first() else { return Vec::new() };
    let reason = first.skip.map_or("none", SkipReason::as_str);
    let detail = format!(
        "none of the first {} objects would be loaded; {:?} is skipped: {reason}",
        judged.len(),
        first.listed.key
    );
    let advice = "compare pattern, include, exclude and start_from with the keys";
    vec![Finding::warn(Area::Config, path(feed, "pattern"), detail, advice)]
}

fn misfits(feed: &Feed, judged: &[Found]) -> Option<Finding> {
    let mut misfits = judged.iter().filter(|found| found.skip == Some(SkipReason::Pattern));
    let first = misfits.next()?;
    let count = misfits.count() + 1;
    let detail = format!(
        "{count} of the first {} keys do not fit and are skipped, {:?} for one",
        judged.len(),
        first.listed.key
    );
    let advice = "correct the pattern, or exclude such keys so that nobody wonders";
    Some(Finding::warn(Area::Config, path(feed, "pattern"), detail, advice))
}

fn impossible_times(feed: &Feed, judged: &[Found]) -> Option<Finding> {
    if !feed.pattern.as_ref().is_some_and(crate::domain::pattern::KeyPattern::has_time) {
        return None;
    }
    let mut timeless = judged.iter().filter(|found| found.skip.is_none() && found.key_time.is_none());
    let first = timeless.next()?;
    let count = timeless.count() + 1;
    let detail = format!("{count} keys carry an impossible time, {:?} for one", first.listed.key);
    Some(Finding::warn(Area::Config, path(feed, "pattern"), detail, "they are loaded, but only sweeps find them"))
}
