//! The name of an archived copy: the whole key under the archive prefix, or as much of it as S3 allows.
//!
//! The same object always gets the same name: a disposal may be repeated by whoever takes it next, and must find what
//! was copied before.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};

/// Longest key of S3, in bytes of UTF-8.
const LONGEST_KEY: usize = 1024;

/// Bytes of the digest in a shortened name: 128 bits are never met twice.
const KEPT: usize = 16;

/// The key under a prefix; `version` tells it from other content that lies there already.
pub(super) fn archive_key(prefix: &str, key: &str, version: Option<&str>) -> String {
    let whole = match version {
        None => format!("{prefix}{key}"),
        Some(version) => format!("{prefix}{key}.{version}"),
    };
    if whole.len() <= LONGEST_KEY {
        return whole;
    }
    // The digest is of the whole name: two keys that only differ behind the cut keep two names.
    let mut ending = String::from("~");
    for byte in digest(&SHA256, whole.as_bytes()).as_ref().iter().take(KEPT) {
        // Writing to a String cannot fail.
        write!(ending, "{byte:02x}").unwrap_or_default();
    }
    let mut name = whole;
    name.truncate(name.floor_char_boundary(LONGEST_KEY - ending.len()));
    name + &ending
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_fits_is_kept_whole() {
        assert_eq!(archive_key("archive/", "a/b.csv", None), "archive/a/b.csv");
        assert_eq!(archive_key("archive/", "a/b.csv", Some("e1")), "archive/a/b.csv.e1");
        let longest = "k".repeat(LONGEST_KEY - 2);
        assert_eq!(archive_key("a/", &longest, None), format!("a/{longest}"));
    }

    #[test]
    fn a_longer_one_is_cut_between_characters_and_told_apart_by_its_digest() {
        for letter in ["k", "é", "😀"] {
            let key = letter.repeat(LONGEST_KEY / letter.len());
            let name = archive_key("a/", &key, None);
            assert!((LONGEST_KEY - 3..=LONGEST_KEY).contains(&name.len()), "{} bytes", name.len());
            assert!(name.starts_with(&format!("a/{letter}")) && name.contains('~'), "{name}");
            assert_eq!(archive_key("a/", &key, None), name, "the same every time");
            let twin = format!("{}z", key.strip_suffix(letter).unwrap());
            let others = [
                archive_key("a/", &key, Some("e1")),
                archive_key("a/", &key, Some("e2")),
                archive_key("archive/", &twin, None),
                archive_key("archive/", &key, None),
            ];
            for (n, other) in others.iter().enumerate() {
                assert!(other.len() <= LONGEST_KEY && *other != name, "{other}");
                assert!(!others[..n].contains(other), "{other}");
            }
        }
        // Written down: an object that was copied by an older release is found under the same name by the next.
        let name = archive_key("archive/", &"k".repeat(LONGEST_KEY), None);
        assert!(name.ends_with("k~6669f3f06c41c5cf064caf12ac7a0790"), "{name}");
    }
}
