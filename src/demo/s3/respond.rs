//! Answers of GET and LIST: ranges, chunked bodies with or without faults, encoded keys and continuation tokens.

use std::io;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt, stream};
use hyper::StatusCode;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use s3s::dto::{
    CommonPrefix, ETag, GetObjectInput, GetObjectOutput, ListObjectsV2Input, ListObjectsV2Output, Object as Listed,
    StreamingBlob, Timestamp,
};
use s3s::{Body, S3Error, S3ErrorCode, S3Response, S3Result};

use super::faults::Action;
use super::server::Control;
use super::state::Call;
use super::store::{Begin, Object, Page};

/// Bytes of one body frame: enough to fill a socket buffer, small enough to interleave connections.
const FRAME: usize = 256 * 1024;

/// How long a fault leaves hyper to flush the last good bytes before it breaks the connection.
const FLUSH: Duration = Duration::from_millis(20);

/// What AWS leaves as it is with `encoding-type=url`; spaces become `+`.
const LISTED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'*').remove(b'/').remove(b' ');

/// A time as the protocol crate wants it.
pub(super) fn timestamp(time: jiff::Timestamp) -> Timestamp {
    Timestamp::from(SystemTime::from(time))
}

/// The entity tag an object claims in this call.
pub(super) fn etag(object: &Object, call: &Call) -> ETag {
    let changed = call.has(|action| matches!(action, Action::ChangedEtag));
    ETag::Strong(if changed { "0".repeat(32) } else { object.etag.clone() })
}

/// The size an object claims in this call.
pub(super) fn claimed_size(object: &Object, call: &Call) -> u64 {
    let claimed = call.actions().iter().find_map(|action| match action {
        Action::ClaimSize(size) => Some(*size),
        _ => None,
    });
    claimed.unwrap_or(object.data.len() as u64)
}

/// Keys on a page, if the client wants no less.
pub(super) fn page_size(call: &Call) -> usize {
    let wanted = call.actions().iter().find_map(|action| match action {
        Action::PageOf(keys) => Some(*keys),
        _ => None,
    });
    wanted.unwrap_or(1000)
}

/// A whole object or a range of it.
pub(super) fn body(object: &Object, input: &GetObjectInput, call: &Call) -> S3Result<S3Response<GetObjectOutput>> {
    let total = object.data.len();
    let (bytes, content_range) = match input.range {
        None => (object.data.clone(), None),
        Some(range) => {
            let wanted = range.check(total as u64).map_err(|_unsatisfiable| {
                S3Error::with_message(S3ErrorCode::InvalidRange, "The requested range is not satisfiable")
            })?;
            let start = usize::try_from(wanted.start).unwrap_or(total);
            let end = usize::try_from(wanted.end).unwrap_or(total);
            (object.data.slice(start..end), Some(format!("bytes {start}-{}/{total}", end.saturating_sub(1))))
        }
    };
    let wants_checksum = input.checksum_mode.is_some() && content_range.is_none();
    let checksum = if wants_checksum { object.checksum.clone() } else { s3s::dto::Checksum::default() };
    let status = content_range.is_some().then_some(StatusCode::PARTIAL_CONTENT);
    let (length, blob) = shape(bytes, call);
    let attributes = object.attributes();
    let output = GetObjectOutput {
        accept_ranges: Some("bytes".to_owned()),
        body: Some(blob),
        content_length: length.and_then(|length| i64::try_from(length).ok()),
        content_range,
        e_tag: Some(etag(object, call)),
        last_modified: Some(timestamp(object.last_modified)),
        checksum_crc32: checksum.checksum_crc32,
        checksum_crc32c: checksum.checksum_crc32c,
        checksum_crc64nvme: checksum.checksum_crc64nvme,
        checksum_sha256: checksum.checksum_sha256,
        checksum_type: checksum.checksum_type,
        content_type: attributes.content_type.clone().or_else(|| Some("binary/octet-stream".to_owned())),
        content_encoding: attributes.content_encoding.clone(),
        content_language: attributes.content_language.clone(),
        content_disposition: attributes.content_disposition.clone(),
        cache_control: attributes.cache_control.clone(),
        metadata: Some(attributes.metadata.clone()),
        storage_class: object.storage_class.clone().map(Into::into),
        ..GetObjectOutput::default()
    };
    Ok(S3Response { status, ..S3Response::new(output) })
}

/// The announced length and the body that faults make of these bytes.
fn shape(bytes: Bytes, call: &Call) -> (Option<usize>, StreamingBlob) {
    let length = bytes.len();
    let first = |count: &usize| bytes.slice(..(*count).min(length));
    for action in call.actions() {
        match action {
            Action::Truncate(count) => return (Some(length), broken(first(count), None)),
            Action::ResetAfter(count) => return (Some(length), broken(first(count), call.control().cloned())),
            Action::StallAfter(count) => {
                let never = stream::once(std::future::pending::<io::Result<Bytes>>());
                return (Some(length), StreamingBlob::wrap(frames(first(count)).chain(never)));
            }
            Action::DripPerSecond(count) => return (Some(length), drip(bytes, (*count).max(1))),
            Action::EarlyCleanEnd(count) => {
                let shorter = first(count);
                return (Some(shorter.len()), whole(shorter));
            }
            Action::TooLong(extra) => {
                let longer = [bytes.as_ref(), &b"\n".repeat(*extra)].concat();
                return (Some(longer.len()), whole(longer.into()));
            }
            Action::Unannounced(count) => return (None, StreamingBlob::wrap(frames(first(count)))),
            Action::PauseAfter(count, time) => {
                let (time, rest) = (*time, bytes.slice((*count).min(length)..));
                let pause = stream::once(tokio::time::sleep(time)).filter_map(async |()| None);
                return (Some(length), StreamingBlob::wrap(frames(first(count)).chain(pause).chain(frames(rest))));
            }
            Action::FlipByte(at) => return (Some(length), whole(flip(&bytes, *at))),
            _ => {}
        }
    }
    (Some(length), whole(bytes))
}

fn whole(bytes: Bytes) -> StreamingBlob {
    if bytes.len() <= FRAME { StreamingBlob::from(Body::from(bytes)) } else { StreamingBlob::wrap(frames(bytes)) }
}

fn frames(bytes: Bytes) -> impl Stream<Item = io::Result<Bytes>> + Send + Sync {
    let length = bytes.len();
    stream::iter((0..length).step_by(FRAME).map(move |at| Ok(bytes.slice(at..length.min(at + FRAME)))))
}

fn broken(head: Bytes, reset: Option<Control>) -> StreamingBlob {
    let end = stream::once(async move {
        tokio::time::sleep(FLUSH).await;
        if let Some(control) = reset {
            control.reset_at_end();
        }
        Err(io::Error::other("a fault rule broke the body off"))
    });
    StreamingBlob::wrap(frames(head).chain(end))
}

fn drip(bytes: Bytes, per_second: usize) -> StreamingBlob {
    let drops = stream::unfold(bytes, move |mut rest| async move {
        if rest.is_empty() {
            return None;
        }
        let drop = rest.split_to(per_second.min(rest.len()));
        tokio::time::sleep(Duration::from_secs(1)).await;
        Some((Ok::<_, io::Error>(drop), rest))
    });
    StreamingBlob::wrap(drops)
}

fn flip(bytes: &Bytes, at: usize) -> Bytes {
    let mut copy = BytesMut::from(bytes.as_ref());
    if let Some(byte) = copy.get_mut(at) {
        *byte ^= 1;
    }
    copy.freeze()
}

/// What tells tokens apart that name the same place.
const AGAIN: char = '~';

/// Where a continuation token says to begin.
pub(super) struct Token {
    text: String,
    is_prefix: bool,
}

impl Token {
    /// Reads a token of ours; anything else is the client's mistake.
    pub(super) fn parse(token: &str) -> S3Result<Self> {
        let bad =
            || S3Error::with_message(S3ErrorCode::InvalidArgument, "The continuation token provided is incorrect");
        let (kind, text) = token.trim_start_matches(AGAIN).split_once('.').ok_or_else(bad)?;
        let text = percent_decode_str(text).decode_utf8().map_err(|_not_text| bad())?.into_owned();
        match kind {
            "k" => Ok(Self { text, is_prefix: false }),
            "p" => Ok(Self { text, is_prefix: true }),
            _ => Err(bad()),
        }
    }

    pub(super) fn begin(&self) -> Begin<'_> {
        if self.is_prefix { Begin::AfterAll(&self.text) } else { Begin::After(&self.text) }
    }

    fn write(text: &str, is_prefix: bool) -> String {
        format!("{}.{}", if is_prefix { "p" } else { "k" }, utf8_percent_encode(text, NON_ALPHANUMERIC))
    }
}

/// One page as XML wants it.
pub(super) fn listing(input: &ListObjectsV2Input, mut page: Page, call: &Call) -> ListObjectsV2Output {
    let is_encoded = input.encoding_type.as_ref().is_some_and(|kind| kind.as_str() == "url");
    let text = |plain: &str| {
        if is_encoded { utf8_percent_encode(plain, LISTED).to_string().replace(' ', "+") } else { plain.to_owned() }
    };
    let mut next = page.last.take().filter(|_| page.truncated).map(|(last, is_prefix)| Token::write(&last, is_prefix));
    for action in call.actions() {
        match action {
            Action::EmptyPage => {
                page = Page { truncated: true, ..Page::default() };
                let here = input.continuation_token.clone().unwrap_or_else(|| Token::write("", false));
                // Another token for the same place: a token that repeats itself is another fault.
                next = Some(format!("{AGAIN}{here}"));
            }
            Action::RepeatToken if input.continuation_token.is_some() => {
                page.truncated = true;
                next.clone_from(&input.continuation_token);
            }
            Action::Unsorted => page.objects.reverse(),
            Action::Overlap if page.truncated && page.objects.len() > 1 => {
                let before_last = page.objects.len() - 2;
                next = page.objects.get(before_last).map(|(key, _)| Token::write(key, false));
            }
            Action::Twice => page.objects.extend(page.objects.first().cloned()),
            Action::Hide(hidden) => page.objects.retain(|(key, _)| key != hidden),
            _ => {}
        }
    }
    let contents = page.objects.iter().map(|(key, object)| Listed {
        key: Some(text(key)),
        e_tag: Some(ETag::Strong(object.etag.clone())),
        last_modified: Some(timestamp(object.last_modified)),
        size: i64::try_from(object.data.len()).ok(),
        storage_class: Some(object.storage_class.clone().unwrap_or_else(|| "STANDARD".to_owned()).into()),
        ..Listed::default()
    });
    let contents: Vec<_> = contents.collect();
    let prefixes: Vec<_> = page.prefixes.iter().map(|prefix| CommonPrefix { prefix: Some(text(prefix)) }).collect();
    ListObjectsV2Output {
        name: Some(input.bucket.clone()),
        prefix: Some(text(input.prefix.as_deref().unwrap_or_default())),
        delimiter: input.delimiter.as_deref().map(text),
        start_after: input.start_after.as_deref().map(text),
        max_keys: Some(input.max_keys.unwrap_or(1000)),
        key_count: i32::try_from(contents.len() + prefixes.len()).ok(),
        continuation_token: input.continuation_token.clone(),
        is_truncated: Some(page.truncated),
        next_continuation_token: next,
        encoding_type: input.encoding_type.clone(),
        contents: Some(contents),
        common_prefixes: Some(prefixes),
        ..ListObjectsV2Output::default()
    }
}
