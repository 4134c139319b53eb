//! Stage: one object's body as a stream that proves itself.
//!
//! Guarantees: every request carries the entity tag the object was discovered with; a broken body is resumed by range
//! under the same condition; the stream ends without an error only if the bytes received are exactly the size in
//! the ledger and match the store's own checksum where it keeps one. Deliberately not here: decompression.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::domain::object::ObjectRef;
use crate::domain::ports::{ByteStream, Checksum, GetRequest, ObjectStore, S3Error};
use crate::domain::verdict::Verdict;

use super::progress::Progress;

/// Resumptions in a row that bring not one byte, before the attempt is given up. The ledger tries again later.
const MAX_BARREN_RESUMES: u32 = 4;
/// Slowest body worth waiting for: a worker is not held for hours by a byte per second.
const MIN_BYTES_PER_SECOND: u64 = 1024;
/// How long the rate may stay below that. Only time spent waiting for S3 counts, never time spent in COPY.
const SLOW_WINDOW: Duration = Duration::from_mins(1);

/// Why a body could not be had whole.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// S3 refused or failed.
    #[error(transparent)]
    S3(#[from] S3Error),
    /// The bytes received are not as many as the ledger says.
    #[error("the body has {received} bytes, the object was discovered with {expected}")]
    Size {
        /// Size in the ledger.
        expected: u64,
        /// Bytes received, or announced.
        received: u64,
    },
    /// The bytes received do not match the store's checksum.
    #[error("the body does not match the store's {kind} checksum")]
    Corrupt {
        /// Kind of the checksum.
        kind: &'static str,
    },
    /// What was read first from the end is not what the body ends with.
    #[error("the end of the object, which was read first, is not the end of its body")]
    Tail,
    /// The archive copy is not what was loaded before.
    #[error("the archive copy does not have the bytes that were loaded before")]
    Archive,
    /// The body trickled in too slowly.
    #[error("the body arrived at less than {MIN_BYTES_PER_SECOND} bytes per second")]
    TooSlow,
}

impl FetchError {
    /// What follows for the object.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::S3(error) => match error {
                S3Error::NotFound => Verdict::Missing,
                S3Error::Changed => Verdict::Superseded,
                S3Error::NoSuchBucket { .. }
                | S3Error::Denied { .. }
                | S3Error::Credentials { .. }
                | S3Error::Clock { .. }
                | S3Error::WrongRegion { .. } => Verdict::Halt,
                S3Error::Archived => Verdict::Quarantine,
                S3Error::Transient { .. } | S3Error::Stalled { .. } => Verdict::Retry,
                S3Error::Exists | S3Error::Refused { .. } => Verdict::Suspect,
            },
            Self::Size { .. } | Self::Corrupt { .. } | Self::Tail => Verdict::Suspect,
            Self::Archive => Verdict::Quarantine,
            Self::TooSlow => Verdict::Retry,
        }
    }

    /// Stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::S3(error) => error.code(),
            Self::Size { .. } => "E-FETCH-SIZE",
            Self::Corrupt { .. } | Self::Tail => "E-FETCH-CHECKSUM",
            Self::Archive => "E-FETCH-ARCHIVE",
            Self::TooSlow => "E-FETCH-SLOW",
        }
    }

    /// One sentence for the operator.
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::S3(error) => error.advice(),
            Self::Size { .. } | Self::Corrupt { .. } | Self::Tail => {
                "the store or a proxy in between delivers wrong bytes; upload the object again, then `keyfall retry`"
            }
            Self::Archive => "find out who wrote over the copy; restore it from the bucket's older versions",
            Self::TooSlow => "look at the network between keyfall and the store; the object is tried again",
        }
    }
}

/// What a body that ended well proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// Bytes received: the ledger's size, or the stream would have failed.
    pub bytes: u64,
    /// SHA-256 over them.
    pub sha256: Vec<u8>,
}

/// An open body: its bytes go through [`Body::stream`], its verification is shared with whoever holds the `Body`.
#[derive(Clone)]
pub struct Body {
    reading: Arc<Mutex<Reading>>,
}

/// Opens an object's body.
///
/// Safe to run twice and to abandon anywhere: it changes nothing.
pub async fn open(
    store: Arc<dyn ObjectStore>,
    object: &ObjectRef,
    patience: Duration,
    progress: Progress,
) -> Result<Body, FetchError> {
    let object = located(store.as_ref(), object).await?;
    let answer = get(store.as_ref(), &object, 0).await?;
    check_announced(&object, answer.content_length)?;
    let reading = Reading {
        store,
        object,
        stream: answer.stream,
        received: 0,
        sha256: Context::new(&SHA256),
        digest: answer.checksum.map(ExpectedDigest::new),
        tail: None,
        barren_resumes: 0,
        patience,
        progress,
        pace: Pace::default(),
        proof: None,
    };
    Ok(Body { reading: Arc::new(Mutex::new(reading)) })
}

impl Body {
    /// The bytes. Ends without an error only after everything was verified.
    pub fn stream(&self) -> BoxStream<'static, io::Result<Bytes>> {
        let reading = Arc::clone(&self.reading);
        stream::unfold(Some(reading), |state| async move {
            let reading = state?;
            let piece = reading.lock().await.next().await;
            match piece {
                Ok(Some(bytes)) => Some((Ok(bytes), Some(reading))),
                Ok(None) => None,
                Err(error) => Some((Err(io::Error::other(error)), None)),
            }
        })
        .boxed()
    }

    /// The last bytes of the object, by requests of their own under the same condition.
    ///
    /// They are as many as asked for, or all there are, or this is an error. To be called before anything is read: when
    /// [`Body::stream`] comes to these bytes again they are compared, and are proven or an error like all others.
    pub async fn tail(&self, most: u64) -> Result<Bytes, FetchError> {
        let (store, object, patience, progress) = {
            let reading = self.reading.lock().await;
            (Arc::clone(&reading.store), reading.object.clone(), reading.patience, reading.progress.clone())
        };
        let offset = object.size.saturating_sub(most);
        let mut failures = 0;
        loop {
            let error = match tail(store.as_ref(), &object, offset, (patience, &progress)).await {
                Ok(bytes) => return self.reading.lock().await.expect_tail(offset, bytes),
                Err(error) => error,
            };
            let hopeless = !matches!(&error, FetchError::S3(S3Error::Transient { .. } | S3Error::Stalled { .. }));
            if hopeless || failures >= MAX_BARREN_RESUMES {
                return Err(error);
            }
            tokio::time::sleep(Duration::from_millis(100 << failures)).await;
            failures += 1;
        }
    }

    /// What the whole body proves; `None` until it has been read to its verified end.
    pub async fn proof(&self) -> Option<Proof> {
        self.reading.lock().await.proof.clone()
    }

    /// Reads the rest away to learn what the whole body is; `None` if it was broken off before.
    pub async fn read_to_end(&self) -> Result<Option<Proof>, FetchError> {
        let mut reading = self.reading.lock().await;
        while reading.proof.is_none() && reading.next().await?.is_some() {}
        Ok(reading.proof.clone())
    }

    /// Reads the rest away to learn whether the bytes were right: before content is blamed, the transport must be
    /// cleared. Does nothing where the store keeps no checksum and no other request has told of these bytes.
    pub async fn clear_transport(&self) -> Result<(), FetchError> {
        let mut reading = self.reading.lock().await;
        let is_known = reading.digest.is_some() || reading.tail.is_some();
        if !is_known || reading.proof.is_some() {
            return Ok(());
        }
        while reading.next().await?.is_some() {}
        Ok(())
    }
}

/// Where the bytes of an object lie now: under its own key, or in the archive, whose copy has an entity tag of its own.
///
/// The copy was verified when it was made. Whoever replaced it since is found out by its size here, and by the digest of
/// the first load at the end of the body.
pub async fn located(store: &dyn ObjectStore, object: &ObjectRef) -> Result<ObjectRef, FetchError> {
    let Some(copy) = &object.archived else { return Ok(object.clone()) };
    let head = store.head(&copy.bucket, &copy.key).await?;
    if head.size != object.size {
        return Err(FetchError::Size { expected: object.size, received: head.size });
    }
    let (bucket, key) = (copy.bucket.clone(), copy.key.clone());
    Ok(ObjectRef { bucket, key, etag: head.etag, version_id: None, ..object.clone() })
}

async fn get(
    store: &dyn ObjectStore,
    object: &ObjectRef,
    offset: u64,
) -> Result<crate::domain::ports::ObjectBody, FetchError> {
    let request = GetRequest {
        bucket: &object.bucket,
        key: &object.key,
        etag: &object.etag,
        version_id: object.version_id.as_deref(),
        offset,
    };
    let answer = store.get(&request).await?;
    // A store that ignores If-Match must not slip another version in, least of all in the middle of a body.
    match &answer.etag {
        Some(etag) if *etag != object.etag => Err(FetchError::S3(S3Error::Changed)),
        _ => Ok(answer),
    }
}

/// Everything from an offset to the end, at once. Callers ask for few bytes.
async fn tail(
    store: &dyn ObjectStore,
    object: &ObjectRef,
    offset: u64,
    (patience, progress): (Duration, &Progress),
) -> Result<Bytes, FetchError> {
    let expected = object.size - offset;
    if expected == 0 {
        return Ok(Bytes::new());
    }
    let mut answer = get(store, object, offset).await?;
    if let Some(whole) = answer.total_size {
        check_announced(object, Some(whole))?;
    }
    if answer.content_length.is_some_and(|length| length != expected) {
        let received = offset + answer.content_length.unwrap_or_default();
        return Err(FetchError::Size { expected: object.size, received });
    }
    let mut bytes = Vec::new();
    loop {
        let piece = timeout(patience, answer.stream.next()).await;
        match piece.map_err(|_elapsed| S3Error::Stalled { seconds: patience.as_secs() })? {
            Some(piece) => bytes.extend_from_slice(&piece?),
            None => break,
        }
        progress.step();
        if bytes.len() as u64 > expected {
            return Err(FetchError::Size { expected: object.size, received: offset + bytes.len() as u64 });
        }
    }
    if (bytes.len() as u64) < expected {
        let detail = format!("the end of the object ended after {} of {expected} bytes", bytes.len());
        return Err(S3Error::Transient { action: "s3:GetObject", detail }.into());
    }
    Ok(bytes.into())
}

fn check_announced(object: &ObjectRef, announced: Option<u64>) -> Result<(), FetchError> {
    match announced {
        Some(received) if received != object.size => Err(FetchError::Size { expected: object.size, received }),
        _ => Ok(()),
    }
}

/// A body being read, across resumptions.
struct Reading {
    store: Arc<dyn ObjectStore>,
    object: ObjectRef,
    stream: ByteStream,
    received: u64,
    sha256: Context,
    digest: Option<ExpectedDigest>,
    /// What was read first from the end, and where it begins.
    tail: Option<(u64, Bytes)>,
    barren_resumes: u32,
    patience: Duration,
    progress: Progress,
    pace: Pace,
    proof: Option<Proof>,
}

impl Reading {
    /// The next piece; `None` once everything is there and verified.
    async fn next(&mut self) -> Result<Option<Bytes>, FetchError> {
        loop {
            let begun = Instant::now();
            let piece = timeout(self.patience, self.stream.next()).await;
            self.pace.waited(begun.elapsed())?;
            match piece {
                Ok(Some(Ok(bytes))) => {
                    self.take(&bytes)?;
                    return Ok(Some(bytes));
                }
                // An end that comes early looks like any other: only the count tells.
                Ok(None) if self.received == self.object.size => return self.verify().map(|()| None),
                Ok(None) => self.resume(self.short()).await?,
                Ok(Some(Err(error))) => self.resume(error).await?,
                Err(_elapsed) => self.resume(S3Error::Stalled { seconds: self.patience.as_secs() }).await?,
            }
        }
    }

    fn short(&self) -> S3Error {
        let detail = format!("the body ended after {} of {} bytes", self.received, self.object.size);
        S3Error::Transient { action: "s3:GetObject", detail }
    }

    /// Notes what the body has to end with. A longer end must end with the shorter one: who asked for more did so for
    /// what he read there.
    fn expect_tail(&mut self, offset: u64, bytes: Bytes) -> Result<Bytes, FetchError> {
        if self.tail.as_ref().is_some_and(|(_, shorter)| !bytes.ends_with(shorter)) {
            return Err(FetchError::Tail);
        }
        self.tail = Some((offset, bytes.clone()));
        Ok(bytes)
    }

    /// Whether the next bytes are those that were read there before, as far as any were.
    fn fits_tail(&self, next: &[u8]) -> bool {
        let Some((offset, tail)) = &self.tail else { return true };
        let place = |from: u64, to: u64| usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX);
        let next = next.get(place(self.received, *offset)..).unwrap_or_default();
        let known = tail.get(place(*offset, self.received)..).unwrap_or_default();
        next.iter().zip(known).all(|(byte, before)| byte == before)
    }

    fn take(&mut self, bytes: &Bytes) -> Result<(), FetchError> {
        if !self.fits_tail(bytes) {
            return Err(FetchError::Tail);
        }
        self.received += bytes.len() as u64;
        if self.received > self.object.size {
            return Err(FetchError::Size { expected: self.object.size, received: self.received });
        }
        self.barren_resumes = 0;
        self.progress.step();
        self.pace.received(bytes.len() as u64);
        self.sha256.update(bytes);
        if let Some(digest) = &mut self.digest {
            digest.update(bytes);
        }
        Ok(())
    }

    /// Asks for the rest. The condition on the entity tag makes sure that it is the rest of the same bytes.
    async fn resume(&mut self, cause: S3Error) -> Result<(), FetchError> {
        let hopeless = !matches!(cause, S3Error::Transient { .. } | S3Error::Stalled { .. });
        if hopeless || self.barren_resumes >= MAX_BARREN_RESUMES {
            return Err(FetchError::S3(cause));
        }
        // 0.1, 0.2, 0.4, 0.8 s: most breaks are one connection's; longer outages are the ledger's to wait out.
        tokio::time::sleep(Duration::from_millis(100 << self.barren_resumes)).await;
        self.barren_resumes += 1;
        tracing::debug!(object.key = %self.object.uri(), offset = self.received, error = %cause, "resuming body");
        if self.received == self.object.size {
            // Everything is here, only the end did not come; a range from the end would be refused.
            self.stream = stream::empty().boxed();
            return Ok(());
        }
        let answer = get(self.store.as_ref(), &self.object, self.received).await?;
        let whole = answer.total_size.unwrap_or(self.object.size);
        let rest = answer.content_length.unwrap_or(self.object.size - self.received);
        if whole != self.object.size || rest != self.object.size - self.received {
            return Err(FetchError::Size { expected: self.object.size, received: self.received + rest });
        }
        self.stream = answer.stream;
        Ok(())
    }

    fn verify(&mut self) -> Result<(), FetchError> {
        if let Some(digest) = self.digest.take() {
            digest.verify()?;
        }
        let sha256 = self.sha256.clone().finish().as_ref().to_vec();
        let known = self.object.archived.as_ref().and_then(|copy| copy.sha256.as_ref());
        if known.is_some_and(|known| *known != sha256) {
            return Err(FetchError::Archive);
        }
        self.proof = Some(Proof { bytes: self.received, sha256 });
        Ok(())
    }
}

/// How fast the body arrives while we wait for it.
#[derive(Default)]
struct Pace {
    waited: Duration,
    bytes: u64,
}

impl Pace {
    fn received(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    fn waited(&mut self, time: Duration) -> Result<(), FetchError> {
        self.waited += time;
        if self.waited < SLOW_WINDOW {
            return Ok(());
        }
        let slow = self.bytes < self.waited.as_secs() * MIN_BYTES_PER_SECOND;
        *self = Self::default();
        if slow { Err(FetchError::TooSlow) } else { Ok(()) }
    }
}

/// The store's checksum and ours so far.
enum ExpectedDigest {
    Crc { kind: &'static str, running: Box<Digest>, expected: Vec<u8>, width: usize },
    Sha256 { running: Context, expected: Vec<u8> },
}

impl ExpectedDigest {
    fn new(checksum: Checksum) -> Self {
        let crc = |kind, algorithm, expected, width| Self::Crc {
            kind,
            running: Box::new(Digest::new(algorithm)),
            expected,
            width,
        };
        match checksum {
            Checksum::Crc32(expected) => crc("CRC32", CrcAlgorithm::Crc32IsoHdlc, expected, 4),
            Checksum::Crc32c(expected) => crc("CRC32C", CrcAlgorithm::Crc32Iscsi, expected, 4),
            Checksum::Crc64Nvme(expected) => crc("CRC64NVME", CrcAlgorithm::Crc64Nvme, expected, 8),
            Checksum::Sha256(expected) => Self::Sha256 { running: Context::new(&SHA256), expected },
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Crc { running, .. } => running.update(bytes),
            Self::Sha256 { running, .. } => running.update(bytes),
        }
    }

    fn verify(self) -> Result<(), FetchError> {
        let (kind, matches) = match self {
            Self::Crc { kind, running, expected, width } => {
                let value = running.finalize().to_be_bytes();
                (kind, value.get(8 - width..).is_some_and(|tail| tail == expected.as_slice()))
            }
            Self::Sha256 { running, expected } => ("SHA256", running.finish().as_ref() == expected.as_slice()),
        };
        if matches { Ok(()) } else { Err(FetchError::Corrupt { kind }) }
    }
}
