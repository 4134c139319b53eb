//! Which objects there are, and a look into some of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio_util::io::StreamReader;

use crate::config::feed::Feed;
use crate::domain::object::{Listed, ObjectRef};
use crate::domain::ports::{ListRequest, ObjectStore};
use crate::pipeline::decode::look::{Look, look};
use crate::pipeline::decode::{DecodeError, compression};
use crate::pipeline::fetch::{self, Body, FetchError};
use crate::pipeline::progress::Progress;

use super::error::ProposeError;
use super::sniff::{HEAD, Head};
use super::{Address, Wish};

/// Pages of a listing: keys enough to tell their shape.
const MOST_PAGES: usize = 20;

/// Kinds of keys beside the most frequent one that are looked at as well.
const OTHER_ENDINGS: usize = 3;

/// Where the objects are.
pub struct Shop {
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    /// How long a piece of a body may take.
    pub patience: Duration,
}

/// What lies under a prefix.
pub(super) struct Listing {
    pub(super) bucket: String,
    pub(super) prefix: String,
    /// Objects that can be looked at or are too young to hold anything.
    pub(super) objects: Vec<Listed>,
    pub(super) more: bool,
    pub(super) remarks: Vec<String>,
}

impl Listing {
    /// As an address.
    pub(super) fn place(&self) -> String {
        format!("s3://{}/{}", self.bucket, self.prefix.escape_debug())
    }
}

/// An object that was opened.
pub(super) struct Sample {
    pub(super) listed: Listed,
    pub(super) object: ObjectRef,
    pub(super) ending: String,
    pub(super) head: Head,
}

impl Sample {
    /// Opens the object.
    pub(super) async fn open(&self, shop: &Shop) -> Result<Body, FetchError> {
        open(shop, &self.object).await
    }

    /// Shows its records to somebody.
    pub(super) async fn show<L: Look>(&self, shop: &Shop, feed: &Feed, eye: &mut L) -> Result<(), DecodeError> {
        let body = self.open(shop).await?;
        look(feed, &self.object, &body, eye).await
    }
}

async fn open(shop: &Shop, object: &ObjectRef) -> Result<Body, FetchError> {
    fetch::open(Arc::clone(&shop.store), object, shop.patience, Progress::default()).await
}

/// Lists a prefix, as far as it takes to know the shape of its keys.
pub(super) async fn list(shop: &Shop, address: &Address) -> Result<Listing, ProposeError> {
    let Address { bucket, prefix } = address;
    let mut listing = Listing {
        bucket: bucket.clone(),
        prefix: prefix.clone(),
        objects: Vec::new(),
        more: false,
        remarks: Vec::new(),
    };
    let mut request = ListRequest { prefix: prefix.clone(), ..ListRequest::default() };
    for _ in 0..MOST_PAGES {
        let page = shop.store.list(bucket, &request).await;
        let page = page.map_err(|error| ProposeError::S3 { place: listing.place(), error })?;
        listing.objects.extend(page.objects);
        request.token = page.next;
        if request.token.is_none() {
            break;
        }
    }
    listing.more = request.token.is_some();
    listing.objects.retain(|listed| !listed.is_directory_marker());
    narrow(&mut listing);
    if listing.objects.is_empty() {
        return Err(ProposeError::Nothing { place: listing.place() });
    }
    Ok(listing)
}

/// A prefix without its slash is also the beginning of its neighbours' names.
fn narrow(listing: &mut Listing) {
    if listing.prefix.is_empty() || listing.prefix.ends_with('/') {
        return;
    }
    let folder = format!("{}/", listing.prefix);
    let inside = listing.objects.iter().filter(|listed| listed.key.starts_with(&folder)).count();
    let outside = listing.objects.len() - inside;
    if inside == 0 {
        return;
    }
    listing.objects.retain(|listed| listed.key.starts_with(&folder));
    if outside > 0 {
        let folder = folder.escape_debug();
        listing.remarks.push(format!("keys that begin so and are not in the folder {folder}, left out: {outside}"));
    }
    listing.prefix = folder;
}

/// Opens some of the objects: newest, oldest and some between, and one of each other ending.
pub(super) async fn take(shop: &Shop, listing: &Listing, wish: &Wish) -> Result<Vec<Sample>, ProposeError> {
    let is_readable = |listed: &&Listed| listed.size > 0 && !listed.is_archived();
    let mut groups: BTreeMap<String, Vec<&Listed>> = BTreeMap::new();
    for listed in listing.objects.iter().filter(is_readable) {
        groups.entry(ending(&listed.key).to_owned()).or_default().push(listed);
    }
    if groups.is_empty() {
        let archived = listing.objects.iter().filter(|listed| listed.is_archived()).count();
        let why = match (archived, listing.objects.len()) {
            (0, _) => "all are empty".to_owned(),
            (archived, all) => format!("{archived} of {all} are archived, the others are empty"),
        };
        return Err(ProposeError::NoSample { place: listing.place(), why });
    }
    let mut groups: Vec<(String, Vec<&Listed>)> = groups.into_iter().collect();
    groups.sort_by_key(|(_, objects)| std::cmp::Reverse(objects.len()));
    let mut samples = Vec::new();
    for (place, (ending, mut objects)) in groups.into_iter().take(1 + OTHER_ENDINGS).enumerate() {
        objects.sort_by(|a, b| (a.last_modified, &a.key).cmp(&(b.last_modified, &b.key)));
        for listed in spread(&objects, if place == 0 { wish.samples.max(1) } else { 1 }) {
            samples.push(opened(shop, listing, listed, &ending).await?);
        }
    }
    Ok(samples)
}

/// So many of the items, from the first to the last.
fn spread<'l>(items: &[&'l Listed], count: usize) -> Vec<&'l Listed> {
    if items.len() <= count {
        return items.to_vec();
    }
    if count < 2 {
        return items.last().copied().into_iter().collect();
    }
    let last = items.len() - 1;
    (0..count).filter_map(|step| items.get(step * last / (count - 1)).copied()).collect()
}

async fn opened(shop: &Shop, listing: &Listing, listed: &Listed, ending: &str) -> Result<Sample, ProposeError> {
    let object = ObjectRef {
        id: 0,
        bucket: listing.bucket.clone(),
        key: listed.key.clone(),
        etag: listed.etag.clone(),
        version_id: None,
        size: listed.size,
        key_time: None,
        visible_at: listed.last_modified,
        archived: None,
    };
    let body = match open(shop, &object).await {
        Ok(body) => body,
        Err(FetchError::S3(error)) => return Err(ProposeError::S3 { place: object.uri(), error }),
        Err(other) => return Err(ProposeError::Unreadable { place: object.uri(), error: Box::new(other.into()) }),
    };
    let head = head(&body).await;
    Ok(Sample { listed: listed.clone(), object, ending: ending.to_owned(), head })
}

/// The beginning of a body. What is damaged there is said by the reader that stumbles over it.
async fn head(body: &Body) -> Head {
    let opened = match compression::open(StreamReader::new(body.stream())).await {
        Ok(opened) => opened,
        Err(_said_later) => {
            return Head {
                bytes: Vec::new(),
                is_whole: true,
                compression: "unknown",
                foreign: Some("a damaged stream"),
            };
        }
    };
    let mut bytes = Vec::new();
    let read = opened.reader.take(HEAD + 1).read_to_end(&mut bytes).await;
    let is_whole = read.is_ok() && (bytes.len() as u64) <= HEAD;
    bytes.truncate(usize::try_from(HEAD).unwrap_or(usize::MAX));
    Head { bytes, is_whole, compression: opened.format, foreign: opened.foreign }
}

/// How a key ends, compression included: `.csv.gz`.
pub(super) fn ending(key: &str) -> &str {
    const PACKED: [&str; 6] = [".gz", ".zst", ".zstd", ".bz2", ".xz", ".gzip"];
    let name = key.rsplit('/').next().unwrap_or_default();
    let bare = PACKED.iter().find_map(|packed| name.strip_suffix(packed)).unwrap_or(name);
    let is_ending = |ending: &&str| {
        ending.len() <= 8
            && ending.starts_with(|c: char| c.is_ascii_alphabetic())
            && ending.chars().all(|c| c.is_ascii_alphanumeric())
    };
    let inner = bare.rsplit_once('.').map(|(_, ending)| ending).filter(is_ending).map_or(0, |ending| ending.len() + 1);
    let length = inner + name.len() - bare.len();
    key.get(key.len() - length..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_are_words_behind_the_last_point() {
        for (key, expected) in [
            ("a/b.csv", ".csv"),
            ("a/b.csv.gz", ".csv.gz"),
            ("a.b/c", ""),
            ("a/2024-11-20 15_22_10.531518.json", ".json"),
            ("a/x.531518", ""),
            ("a/x.gz", ".gz"),
        ] {
            assert_eq!(ending(key), expected, "{key}");
        }
    }

    #[test]
    fn samples_are_spread_from_the_oldest_to_the_newest() {
        let listed = |number: usize| Listed {
            key: number.to_string(),
            etag: String::new(),
            size: 1,
            last_modified: jiff::Timestamp::UNIX_EPOCH,
            storage_class: None,
        };
        let all: Vec<Listed> = (0..10).map(listed).collect();
        let all: Vec<&Listed> = all.iter().collect();
        let keys = |count| spread(&all, count).iter().map(|listed| listed.key.clone()).collect::<Vec<_>>();
        assert_eq!(keys(3), ["0", "4", "9"]);
        assert_eq!(keys(1), ["9"]);
        assert_eq!(keys(20).len(), 10);
    }
}
