//! One page of a listing.
//!
//! Keys may hold characters that XML cannot carry, so they are asked for URL-encoded and decoded here: the SDK passes
//! them through as they come. A page that cannot be understood is an error, never a shorter page or the end.

use std::borrow::Cow;

use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::types::{EncodingType, Object};
use jiff::Timestamp;
use percent_encoding::percent_decode_str;

use super::{S3Store, unquoted};
use crate::aws::classify::{Attempt, Missing, transient};
use crate::domain::object::Listed;
use crate::domain::ports::{ListPage, ListRequest, S3Error};

pub(super) async fn list(store: &S3Store, bucket: &str, request: &ListRequest) -> Result<ListPage, S3Error> {
    let attempt = Attempt { missing: Missing::Bucket, ..store.attempt("ListObjectsV2", "s3:ListBucket", bucket) };
    let send = store
        .client()
        .list_objects_v2()
        .bucket(bucket)
        .encoding_type(EncodingType::Url)
        .set_prefix(Some(request.prefix.clone()).filter(|prefix| !prefix.is_empty()))
        .set_start_after(request.start_after.clone())
        .set_delimiter(request.delimiter.map(String::from))
        .set_continuation_token(request.token.clone())
        .send();
    let output = store.within(attempt, send).await?;
    let page = page(output).and_then(|page| advances(page, request));
    page.map_err(|problem| transient(attempt, format!("bucket {bucket:?}: {problem}")))
}

/// A store that answers the token it was asked with would be asked the same for ever, without a pause. What the pages
/// before held is recorded already, and the next listing begins anew.
fn advances(page: ListPage, request: &ListRequest) -> Result<ListPage, String> {
    match &page.next {
        Some(next) if Some(next) == request.token.as_ref() => {
            Err("the continuation token is the one it was asked with".to_owned())
        }
        _ => Ok(page),
    }
}

fn page(output: ListObjectsV2Output) -> Result<ListPage, String> {
    // A store that does not encode does not say so in its answer either.
    let is_encoded = output.encoding_type() == Some(&EncodingType::Url);
    let text = |raw: String| if is_encoded { decoded(raw) } else { Ok(raw) };
    let next = if output.is_truncated() == Some(true) {
        Some(output.next_continuation_token.ok_or("a truncated page without a continuation token")?)
    } else {
        None
    };
    let objects = output.contents.unwrap_or_default().into_iter().map(|object| listed(object, &text));
    let prefixes = output.common_prefixes.unwrap_or_default().into_iter().filter_map(|common| common.prefix);
    Ok(ListPage {
        objects: objects.collect::<Result<_, _>>()?,
        common_prefixes: prefixes.map(text).collect::<Result<_, _>>()?,
        next,
    })
}

fn listed(object: Object, text: &impl Fn(String) -> Result<String, String>) -> Result<Listed, String> {
    let key = text(object.key.ok_or("an object without a key")?)?;
    let (Some(etag), Some(size), Some(modified)) = (object.e_tag, object.size, object.last_modified) else {
        return Err(format!("key {key:?} without entity tag, size or time"));
    };
    let size = u64::try_from(size).map_err(|_negative| format!("key {key:?} with a negative size"))?;
    let last_modified = Timestamp::new(modified.secs(), modified.subsec_nanos().cast_signed())
        .map_err(|error| format!("key {key:?} with an impossible time: {error}"))?;
    let storage_class = object.storage_class.map(|class| class.as_str().to_owned());
    Ok(Listed { key, etag: unquoted(&etag).to_owned(), size, last_modified, storage_class })
}

/// Undoes `encoding-type=url`: `%XX`, and `+` for a space as AWS writes it. A real plus comes as `%2B`.
pub(crate) fn decoded(raw: String) -> Result<String, String> {
    if !raw.contains(['%', '+']) {
        return Ok(raw);
    }
    let spaced = raw.replace('+', " ");
    match percent_decode_str(&spaced).decode_utf8() {
        Ok(Cow::Borrowed(text)) => Ok(text.to_owned()),
        Ok(Cow::Owned(text)) => Ok(text),
        Err(error) => Err(format!("key {raw:?} is not UTF-8: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_keys_are_decoded_once() {
        for (raw, key) in
            [("a+b", "a b"), ("a%2Bb", "a+b"), ("a%252B", "a%2B"), ("%C3%A9%01", "é\u{1}"), ("x/y", "x/y")]
        {
            assert_eq!(decoded(raw.to_owned()).as_deref(), Ok(key));
        }
        assert!(decoded("%FF".to_owned()).is_err());
    }

    #[test]
    fn a_truncated_page_without_a_token_is_not_the_end() {
        assert!(page(ListObjectsV2Output::builder().is_truncated(true).build()).is_err());
    }

    #[test]
    fn keys_of_a_store_that_does_not_encode_stay_as_they_are() {
        let modified = aws_smithy_types::DateTime::from_secs(0);
        let object = Object::builder().key("a+b%20").e_tag("\"x\"").size(1).last_modified(modified).build();
        let page = page(ListObjectsV2Output::builder().contents(object).build()).unwrap();
        assert_eq!(page.objects[0].key, "a+b%20");
        assert_eq!(page.objects[0].etag, "x");
    }
}
