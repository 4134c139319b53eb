//! `s3://bucket/prefix`, as somebody types it.

/// Where to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The bucket.
    pub bucket: String,
    /// What keys begin with; a key is one as well.
    pub prefix: String,
}

/// What is no address of objects.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no address of objects: {what}")]
pub struct AddressError {
    text: String,
    what: &'static str,
}

impl std::str::FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let refused = |what| AddressError { text: text.to_owned(), what };
        let Some(rest) = text.strip_prefix("s3://") else {
            return Err(refused("it does not begin with s3://"));
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if bucket.is_empty() {
            return Err(refused("it names no bucket"));
        }
        if !bucket.chars().all(is_plain) {
            return Err(refused("the bucket's name has characters that no bucket has"));
        }
        if prefix.contains(['*', '?', '{']) {
            return Err(refused("write the beginning of the keys alone; their pattern is found out"));
        }
        Ok(Self { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart_and_everything_else_is_refused() {
        let address = |text: &str| text.parse::<Address>().map(|address| (address.bucket, address.prefix));
        let found = |bucket: &str, prefix: &str| Ok((bucket.to_owned(), prefix.to_owned()));
        assert_eq!(address("s3://drop"), found("drop", ""));
        assert_eq!(address("s3://drop/"), found("drop", ""));
        assert_eq!(address("s3://drop/a/b.csv"), found("drop", "a/b.csv"));
        assert_eq!(address("s3://drop/a b/é"), found("drop", "a b/é"));
        for text in ["drop/a", "https://drop/a", "s3:/drop", "s3://", "s3:///a", "s3://dr op/a", "s3://drop/*.csv", ""]
        {
            assert!(address(text).is_err(), "{text}");
        }
    }
}
