//! What a queue's URL says: whom to ask, and where AWS keeps the queue.

/// Where a queue lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address<'a> {
    /// Scheme, host and port.
    pub(super) endpoint: String,
    /// Region, where the host names one.
    pub(super) region: Option<&'a str>,
}

impl<'a> Address<'a> {
    /// None where the text is no URL with a host.
    pub(super) fn of(url: &'a str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https"))?;
        let authority = rest.split(['/', '?', '#']).next()?;
        let endpoint = format!("{scheme}://{authority}");
        endpoint.parse::<hyper::Uri>().ok().filter(|uri| uri.host().is_some_and(|host| !host.is_empty()))?;
        let host = authority.rsplit_once(':').map_or(authority, |(host, port)| {
            // The last colon of an IPv6 address stands before no port.
            if port.ends_with(']') { authority } else { host }
        });
        Some(Self { endpoint, region: region(host) })
    }
}

/// Region in a host such as `sqs.REGION.amazonaws.com`, `vpce-1.sqs.REGION.vpce.amazonaws.com`, or the old
/// `REGION.queue.amazonaws.com`; emulators imitate the first.
fn region(host: &str) -> Option<&str> {
    if host == "queue.amazonaws.com" {
        return Some("us-east-1");
    }
    let labels: Vec<&str> = host.split('.').collect();
    let pairs = labels.iter().zip(labels.iter().skip(1));
    pairs.into_iter().find_map(|(first, second)| match (*first, *second) {
        ("sqs" | "sqs-fips", region) | (region, "queue") if is_region(region) => Some(region),
        _ => None,
    })
}

/// Whether it looks like `eu-central-1`.
fn is_region(label: &str) -> bool {
    let parts: Vec<&str> = label.split('-').collect();
    let (Some(first), Some(last)) = (parts.first(), parts.last()) else { return false };
    let word = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase());
    parts.len() >= 3 && word(first) && !last.is_empty() && last.chars().all(|c| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_asked_and_names_its_region_where_it_does() {
        for (url, endpoint, region) in [
            (
                "https://sqs.eu-central-1.amazonaws.com/123456789012/q",
                "https://sqs.eu-central-1.amazonaws.com",
                Some("eu-central-1"),
            ),
            (
                "https://sqs.cn-north-1.amazonaws.com.cn/1/q",
                "https://sqs.cn-north-1.amazonaws.com.cn",
                Some("cn-north-1"),
            ),
            (
                "https://sqs-fips.us-gov-west-1.amazonaws.com/1/q",
                "https://sqs-fips.us-gov-west-1.amazonaws.com",
                Some("us-gov-west-1"),
            ),
            (
                "https://vpce-0a-1b.sqs.us-east-2.vpce.amazonaws.com/1/q",
                "https://vpce-0a-1b.sqs.us-east-2.vpce.amazonaws.com",
                Some("us-east-2"),
            ),
            ("https://queue.amazonaws.com/1/q", "https://queue.amazonaws.com", Some("us-east-1")),
            ("https://eu-west-1.queue.amazonaws.com/1/q", "https://eu-west-1.queue.amazonaws.com", Some("eu-west-1")),
            (
                "http://sqs.us-east-1.localhost.localstack.cloud:4566/000000000000/q",
                "http://sqs.us-east-1.localhost.localstack.cloud:4566",
                Some("us-east-1"),
            ),
            ("http://localhost:4566/000000000000/q", "http://localhost:4566", None),
            ("http://127.0.0.1:5000/1/q", "http://127.0.0.1:5000", None),
            ("http://[::1]:5000/1/q", "http://[::1]:5000", None),
            ("http://[::1]/1/q", "http://[::1]", None),
            ("https://sqs.example.com/q?x=/", "https://sqs.example.com", None),
        ] {
            let address = Address::of(url).unwrap_or_else(|| panic!("{url}"));
            assert_eq!((address.endpoint.as_str(), address.region), (endpoint, region), "{url}");
        }
        for bad in ["", "q", "sqs.eu-central-1.amazonaws.com/1/q", "ftp://h/q", "https:///q", "https://a b/q"] {
            assert_eq!(Address::of(bad), None, "{bad}");
        }
    }
}
