//! Buckets and objects in memory.
//!
//! Keys stand in a B-tree in byte order, so a page of a listing costs its own length however many objects there are.
//! An object is immutable and shared: readers hold on to the version they opened while a writer replaces it.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use jiff::Timestamp;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Md5, Sha256};
use s3s::{S3Error, S3ErrorCode, S3Result};

use super::history::History;

/// Which checksum the store keeps with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChecksumKind {
    /// CRC-64/NVME over the whole object, as AWS does by default.
    #[default]
    Crc64Nvme,
    /// CRC-32 over the whole object.
    Crc32,
    /// CRC-32C over the whole object.
    Crc32c,
    /// SHA-256 over the whole object.
    Sha256,
    /// A checksum of part checksums, which says nothing about the whole object's bytes.
    Composite,
    /// None.
    None,
}

/// All that may be said about an object beside its bytes.
#[derive(Debug, Clone, Default)]
pub struct PutOptions {
    /// When it became visible; now where absent. Cut to whole seconds, as S3 does.
    pub last_modified: Option<Timestamp>,
    /// Entity tag without quotes; the MD5 of the bytes where absent.
    pub etag: Option<String>,
    /// Storage class; an archived one cannot be read.
    pub storage_class: Option<String>,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// User metadata.
    pub metadata: BTreeMap<String, String>,
    /// Checksum kept with it.
    pub checksum: ChecksumKind,
}

/// Headers that travel with an object.
#[derive(Debug, Clone, Default)]
pub(super) struct Attributes {
    pub(super) content_type: Option<String>,
    pub(super) content_encoding: Option<String>,
    pub(super) content_language: Option<String>,
    pub(super) content_disposition: Option<String>,
    pub(super) cache_control: Option<String>,
    pub(super) metadata: HashMap<String, String>,
}

static PLAIN: std::sync::LazyLock<Attributes> = std::sync::LazyLock::new(Attributes::default);

/// One object.
pub(super) struct Object {
    pub(super) data: Bytes,
    pub(super) etag: String,
    pub(super) last_modified: Timestamp,
    pub(super) storage_class: Option<String>,
    pub(super) checksum: s3s::dto::Checksum,
    // Boxed because most of a million objects have none.
    attributes: Option<Box<Attributes>>,
}

impl Object {
    /// An object of these bytes, visible from now on.
    pub(super) fn new(data: Bytes, attributes: Attributes) -> Self {
        let etag = hex(Md5::checksum(&data).as_ref());
        let checksum = checksum_of(&data, ChecksumKind::Crc64Nvme);
        let attributes = Some(Box::new(attributes));
        Self { data, etag, last_modified: whole_second(Timestamp::now()), storage_class: None, checksum, attributes }
    }

    /// The same bytes again, as a copy makes them: new time, no storage class, other headers where given.
    pub(super) fn copy(&self, attributes: Option<Attributes>) -> Self {
        Self {
            data: self.data.clone(),
            // The tag of a single-part copy is the MD5 of the bytes, also where the source came in parts.
            etag: if self.etag.contains('-') { hex(Md5::checksum(&self.data).as_ref()) } else { self.etag.clone() },
            last_modified: whole_second(Timestamp::now()),
            storage_class: None,
            checksum: self.checksum.clone(),
            attributes: attributes.map(Box::new).or_else(|| self.attributes.clone()),
        }
    }

    pub(super) fn with_etag(mut self, etag: String) -> Self {
        self.etag = etag;
        self
    }

    pub(super) fn attributes(&self) -> &Attributes {
        self.attributes.as_deref().unwrap_or(&PLAIN)
    }

    pub(super) fn is_archived(&self) -> bool {
        matches!(self.storage_class.as_deref(), Some("GLACIER" | "DEEP_ARCHIVE"))
    }
}

fn checksum_of(data: &[u8], kind: ChecksumKind) -> s3s::dto::Checksum {
    let mut hasher = ChecksumHasher::default();
    match kind {
        ChecksumKind::Crc64Nvme => hasher.crc64nvme = Some(Crc64Nvme::new()),
        ChecksumKind::Crc32 | ChecksumKind::Composite => hasher.crc32 = Some(Crc32::new()),
        ChecksumKind::Crc32c => hasher.crc32c = Some(Crc32c::new()),
        ChecksumKind::Sha256 => hasher.sha256 = Some(Sha256::new()),
        ChecksumKind::None => {}
    }
    hasher.update(data);
    let mut checksum = hasher.finalize();
    checksum.checksum_type = match kind {
        ChecksumKind::Crc64Nvme | ChecksumKind::Crc32 | ChecksumKind::Crc32c | ChecksumKind::Sha256 => {
            Some("FULL_OBJECT".to_owned().into())
        }
        ChecksumKind::Composite => {
            checksum.checksum_crc32 = checksum.checksum_crc32.map(|sum| format!("{sum}-2"));
            Some("COMPOSITE".to_owned().into())
        }
        ChecksumKind::None => None,
    };
    checksum
}

fn whole_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// Lower-case hexadecimal.
pub(in crate::demo) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        write!(text, "{byte:02x}").unwrap_or_default();
        text
    })
}

type Keys = BTreeMap<String, Arc<Object>>;

#[derive(Default)]
struct Bucket {
    /// What is there now: all that a listing shows.
    objects: Keys,
    /// What was there, once versioning is enabled.
    history: Option<History>,
}

impl Bucket {
    fn insert(&mut self, key: &str, object: Object) -> Option<String> {
        let object = Arc::new(object);
        self.objects.insert(key.to_owned(), Arc::clone(&object));
        self.history.as_mut().map(|history| history.push(key, Some(object)))
    }

    /// Without a version, a bucket with versioning gets a delete marker; with one, that version is gone for good.
    fn remove(&mut self, key: &str, version: Option<&str>) -> Removed {
        let (history, version) = match (&mut self.history, version) {
            (None, _) => {
                self.objects.remove(key);
                return Removed::default();
            }
            (Some(history), None) => {
                self.objects.remove(key);
                return Removed { version: Some(history.push(key, None)), is_marker: true };
            }
            (Some(history), Some(version)) => (history, version),
        };
        let (is_marker, newest) = history.remove(key, version);
        match newest {
            Some(object) => self.objects.insert(key.to_owned(), object),
            None => self.objects.remove(key),
        };
        Removed { version: Some(version.to_owned()), is_marker }
    }

    fn get(&self, key: &str, version: Option<&str>) -> S3Result<Arc<Object>> {
        match (version, &self.history) {
            (Some(version), Some(history)) => history.get(key, version),
            _ => self.objects.get(key).map(Arc::clone).ok_or_else(no_such_key),
        }
    }
}

/// What a deletion did where versioning is enabled.
#[derive(Debug, Default)]
pub(super) struct Removed {
    pub(super) version: Option<String>,
    /// A delete marker was made, or removed.
    pub(super) is_marker: bool,
}

/// What one page of a listing is asked for.
pub(super) struct Query<'a> {
    pub(super) prefix: &'a str,
    pub(super) delimiter: Option<&'a str>,
    pub(super) from: Begin<'a>,
    pub(super) limit: usize,
}

/// Where a page begins.
pub(super) enum Begin<'a> {
    /// At the first key.
    Start,
    /// After this key.
    After(&'a str),
    /// After all keys that begin with this common prefix.
    AfterAll(&'a str),
}

/// One page of a listing.
#[derive(Default)]
pub(super) struct Page {
    pub(super) objects: Vec<(String, Arc<Object>)>,
    pub(super) prefixes: Vec<String>,
    pub(super) truncated: bool,
    /// The last thing on the page and whether it is a common prefix.
    pub(super) last: Option<(String, bool)>,
}

/// All buckets.
#[derive(Default)]
pub(super) struct Store {
    buckets: RwLock<BTreeMap<String, Bucket>>,
}

impl Store {
    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<String, Bucket>> {
        self.buckets.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<String, Bucket>> {
        self.buckets.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn create_bucket(&self, bucket: &str) -> bool {
        let mut buckets = self.write();
        let is_new = !buckets.contains_key(bucket);
        if is_new {
            buckets.insert(bucket.to_owned(), Bucket::default());
        }
        is_new
    }

    pub(super) fn has_bucket(&self, bucket: &str) -> bool {
        self.read().contains_key(bucket)
    }

    pub(super) fn put(&self, bucket: &str, key: &str, data: Bytes, options: PutOptions) -> String {
        let etag = options.etag.unwrap_or_else(|| hex(Md5::checksum(&data).as_ref()));
        let has_attributes = options.content_type.is_some() || !options.metadata.is_empty();
        let attributes = has_attributes.then(|| {
            let metadata = options.metadata.into_iter().collect();
            Box::new(Attributes { content_type: options.content_type, metadata, ..Attributes::default() })
        });
        let object = Object {
            checksum: checksum_of(&data, options.checksum),
            data,
            etag: etag.clone(),
            last_modified: whole_second(options.last_modified.unwrap_or_else(Timestamp::now)),
            storage_class: options.storage_class,
            attributes,
        };
        self.write().entry(bucket.to_owned()).or_default().insert(key, object);
        etag
    }

    /// Stores one object under many keys: what each costs is its key.
    pub(super) fn put_everywhere(&self, bucket: &str, keys: impl IntoIterator<Item = String>, data: Bytes) {
        let object = Arc::new(Object::new(data, Attributes::default()));
        let mut buckets = self.write();
        let bucket = buckets.entry(bucket.to_owned()).or_default();
        bucket.objects.extend(keys.into_iter().map(|key| (key, Arc::clone(&object))));
    }

    /// Keeps what is replaced or deleted from now on, as AWS does.
    pub(super) fn enable_versioning(&self, bucket: &str) {
        let mut buckets = self.write();
        let bucket = buckets.entry(bucket.to_owned()).or_default();
        if bucket.history.is_none() {
            bucket.history = Some(History::beginning_with(&bucket.objects));
        }
    }

    /// Stores an object if `allowed` agrees with what is there now; both happen under one lock. Answers its version
    /// where versioning is enabled.
    pub(super) fn insert_if(
        &self,
        bucket: &str,
        key: &str,
        object: Object,
        allowed: impl FnOnce(Option<&Object>) -> S3Result<()>,
    ) -> S3Result<Option<String>> {
        let mut buckets = self.write();
        let bucket = buckets.get_mut(bucket).ok_or_else(no_such_bucket)?;
        allowed(bucket.objects.get(key).map(AsRef::as_ref))?;
        Ok(bucket.insert(key, object))
    }

    /// Removes an object if `allowed` agrees with what is there now; both happen under one lock.
    pub(super) fn remove_if(
        &self,
        bucket: &str,
        key: &str,
        version: Option<&str>,
        allowed: impl FnOnce(Option<&Object>) -> S3Result<()>,
    ) -> S3Result<Removed> {
        let mut buckets = self.write();
        let bucket = buckets.get_mut(bucket).ok_or_else(no_such_bucket)?;
        let present = bucket.get(key, version).ok();
        allowed(present.as_deref())?;
        Ok(bucket.remove(key, version))
    }

    /// What is under a key, or was in this version.
    pub(super) fn get(&self, bucket: &str, key: &str, version: Option<&str>) -> S3Result<Arc<Object>> {
        self.read().get(bucket).ok_or_else(no_such_bucket)?.get(key, version)
    }

    /// Version of what is under a key, where versioning is enabled.
    pub(super) fn version(&self, bucket: &str, key: &str) -> Option<String> {
        self.read().get(bucket)?.history.as_ref()?.newest(key)
    }

    /// All versions of a key, the oldest first; none for a delete marker.
    pub(super) fn versions(&self, bucket: &str, key: &str) -> Vec<(String, Option<Arc<Object>>)> {
        let buckets = self.read();
        let history = buckets.get(bucket).and_then(|bucket| bucket.history.as_ref());
        history.map(|history| history.of(key)).unwrap_or_default()
    }

    pub(super) fn peek(&self, bucket: &str, key: &str) -> Option<Arc<Object>> {
        self.read().get(bucket)?.objects.get(key).map(Arc::clone)
    }

    pub(super) fn remove(&self, bucket: &str, key: &str) -> bool {
        self.write().get_mut(bucket).is_some_and(|bucket| {
            let was_there = bucket.objects.contains_key(key);
            drop(bucket.remove(key, None));
            was_there
        })
    }

    pub(super) fn keys(&self, bucket: &str) -> Vec<String> {
        self.read().get(bucket).map(|bucket| bucket.objects.keys().cloned().collect()).unwrap_or_default()
    }

    pub(super) fn len(&self, bucket: &str) -> usize {
        self.read().get(bucket).map_or(0, |bucket| bucket.objects.len())
    }

    pub(super) fn list(&self, bucket: &str, query: &Query<'_>) -> S3Result<Page> {
        let buckets = self.read();
        Ok(page(&buckets.get(bucket).ok_or_else(no_such_bucket)?.objects, query))
    }
}

fn page(objects: &Keys, query: &Query<'_>) -> Page {
    let mut page = Page::default();
    let mut lower = match query.from {
        Begin::After(key) if key >= query.prefix => Bound::Excluded(key.to_owned()),
        Begin::AfterAll(prefix) => Bound::Included(successor(prefix)),
        Begin::Start | Begin::After(_) => Bound::Included(query.prefix.to_owned()),
    };
    'seek: loop {
        let start = lower.as_ref().map(String::as_str);
        for (key, object) in objects.range::<str, _>((start, Bound::Unbounded)) {
            let Some(rest) = key.strip_prefix(query.prefix) else { break 'seek };
            if page.objects.len() + page.prefixes.len() == query.limit {
                page.truncated = true;
                break 'seek;
            }
            let folded =
                query.delimiter.and_then(|delimiter| rest.split_once(delimiter).map(|(head, _)| (head, delimiter)));
            if let Some((head, delimiter)) = folded {
                // All keys of the fold are jumped over at once, however many there are.
                let common = format!("{}{head}{delimiter}", query.prefix);
                lower = Bound::Included(successor(&common));
                page.last = Some((common.clone(), true));
                page.prefixes.push(common);
                continue 'seek;
            }
            page.objects.push((key.clone(), Arc::clone(object)));
        }
        break;
    }
    // The last thing is whichever of the two lists reaches further.
    if let Some((key, _)) = page.objects.last()
        && page.last.as_ref().is_none_or(|(prefix, _)| prefix < key)
    {
        page.last = Some((key.clone(), false));
    }
    page
}

/// The smallest text that sorts after everything that begins with `prefix`.
fn successor(prefix: &str) -> String {
    let mut text = prefix.to_owned();
    while let Some(last) = text.pop() {
        // UTF-8 sorts as its code points do; the gap of the surrogates is jumped.
        let next = if last == '\u{D7FF}' { Some('\u{E000}') } else { char::from_u32(u32::from(last) + 1) };
        if let Some(next) = next {
            text.push(next);
            return text;
        }
    }
    // Only reached for a prefix made of the highest character alone: nothing sorts after it.
    char::MAX.to_string().repeat(prefix.len() + 1)
}

pub(super) fn no_such_bucket() -> S3Error {
    S3Error::with_message(S3ErrorCode::NoSuchBucket, "The specified bucket does not exist")
}

pub(super) fn no_such_key() -> S3Error {
    S3Error::with_message(S3ErrorCode::NoSuchKey, "The specified key does not exist.")
}

pub(super) fn precondition_failed() -> S3Error {
    S3Error::with_message(
        S3ErrorCode::PreconditionFailed,
        "At least one of the pre-conditions you specified did not hold",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(keys: &[&str]) -> Keys {
        let object = |_: &&str| Arc::new(Object::new(Bytes::new(), Attributes::default()));
        keys.iter().map(|key| ((*key).to_owned(), object(key))).collect()
    }

    fn walk(objects: &Keys, delimiter: Option<&str>, limit: usize) -> Vec<String> {
        let mut seen = Vec::new();
        let mut last: Option<(String, bool)> = None;
        loop {
            let from = match &last {
                None => Begin::Start,
                Some((prefix, true)) => Begin::AfterAll(prefix),
                Some((key, false)) => Begin::After(key),
            };
            let page = page(objects, &Query { prefix: "", delimiter, from, limit });
            let mut names: Vec<_> = page.objects.into_iter().map(|(key, _)| key).chain(page.prefixes).collect();
            names.sort();
            seen.extend(names);
            if !page.truncated {
                return seen;
            }
            last = page.last;
        }
    }

    #[test]
    fn pages_of_any_size_show_every_key_once_in_byte_order() {
        let keys = ["a", "a/1", "a/2", "b", "b!", "é", "\u{FFFF}", "😀"];
        let objects = bucket(&keys);
        for limit in 1..=9 {
            assert_eq!(walk(&objects, None, limit), keys, "limit {limit}");
        }
    }

    #[test]
    fn folding_shows_each_common_prefix_once_at_any_page_size() {
        let objects = bucket(&["a", "a/1", "a/2", "a0", "b/1", "b/c/2", "c"]);
        for limit in 1..=6 {
            assert_eq!(walk(&objects, Some("/"), limit), ["a", "a/", "a0", "b/", "c"], "limit {limit}");
        }
    }

    #[test]
    fn the_successor_skips_surrogates_and_the_end_of_unicode() {
        assert_eq!(successor("a/"), "a0");
        assert_eq!(successor("\u{D7FF}"), "\u{E000}");
        assert_eq!(successor("a\u{10FFFF}"), "b");
    }
}
