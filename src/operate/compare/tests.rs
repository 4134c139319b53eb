//! The merge against sets, over random sides cut into random pages.

use std::collections::BTreeMap;

use futures::executor::block_on;
use jiff::Timestamp;
use proptest::prelude::*;

use super::Pair;
use super::merge::{Broken, Copied, Merge, Page, Side, channel};
use crate::domain::object::Listed;
use crate::domain::state::State;
use crate::store::ledger::Entry;

fn listed(key: &str, size: u64) -> Listed {
    let last_modified = Timestamp::UNIX_EPOCH;
    Listed { key: key.to_owned(), etag: "e".to_owned(), size, last_modified, storage_class: None }
}

fn entry(key: &str, id: i64) -> Entry {
    Entry {
        id,
        key: key.to_owned(),
        version: id.to_string(),
        etag: "e".to_owned(),
        size: 1,
        visible_at: Timestamp::UNIX_EPOCH,
        discovered_at: Timestamp::UNIX_EPOCH,
        state: State::Pending,
        reason: None,
        attempt: 0,
        not_before: None,
        error_code: None,
        disposal: "none".to_owned(),
        archived_to: None,
    }
}

/// Sends items in pages of these lengths, empty ones among them, the rest in one; then says that it was all.
async fn feed<T: Clone>(
    sender: tokio::sync::mpsc::Sender<Page<T>>,
    items: &[T],
    lengths: &[usize],
) -> Result<(), Broken> {
    let mut rest = items;
    for length in lengths {
        let (page, behind) = rest.split_at((*length).min(rest.len()));
        rest = behind;
        sender.send(Page { items: page.to_vec(), last: false }).await.map_err(|_closed| Broken::Off)?;
    }
    sender.send(Page { items: rest.to_vec(), last: true }).await.map_err(|_closed| Broken::Off)
}

async fn all(listing: Side<Listed>, ledger: Side<Entry>, archive: Side<Copied>) -> Result<Vec<Pair>, Broken> {
    let mut merge = Merge::new(listing, ledger, archive);
    let mut pairs = Vec::new();
    while let Some(pair) = merge.next().await? {
        pairs.push(pair);
    }
    Ok(pairs)
}

/// Merges three sides cut into pages.
fn merged(bucket: &[Listed], known: &[Entry], copies: &[Copied], lengths: &[usize]) -> Result<Vec<Pair>, Broken> {
    let (to_listing, listing) = channel();
    let (to_ledger, ledger) = channel();
    let (to_archive, archive) = channel();
    block_on(async {
        let (pairs, ..) = futures::try_join!(
            all(listing, ledger, archive),
            feed(to_listing, bucket, lengths),
            feed(to_ledger, known, lengths),
            feed(to_archive, copies, lengths)
        )?;
        Ok(pairs)
    })
}

/// Letters around the separators that keys use, so that prefixes of one another are common.
fn keys(most: usize) -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("[ab/.é-]{1,4}", 0..most)
}

proptest! {
    #[test]
    fn every_key_of_bucket_or_ledger_comes_once_with_all_that_is_known_of_it(
        mut bucket in keys(40), mut known in keys(60), mut copies in keys(40),
        lengths in prop::collection::vec(0_usize..7, 0..30),
    ) {
        for keys in [&mut bucket, &mut copies] {
            keys.sort();
            keys.dedup();
        }
        known.sort();
        let bucket: Vec<Listed> = bucket.iter().map(|key| listed(key, 7)).collect();
        let known: Vec<Entry> = known.iter().zip(1..).map(|(key, id)| entry(key, id)).collect();
        let copies: Vec<Copied> = copies.iter().map(|key| Copied { key: key.clone(), size: 9 }).collect();

        let mut expected: BTreeMap<String, Pair> = BTreeMap::new();
        let empty = |key: &str| Pair { key: key.to_owned(), listed: None, known: Vec::new(), archived: None };
        for object in &bucket {
            expected.entry(object.key.clone()).or_insert_with(|| empty(&object.key)).listed = Some(object.clone());
        }
        for one in &known {
            expected.entry(one.key.clone()).or_insert_with(|| empty(&one.key)).known.push(one.clone());
        }
        for copy in &copies {
            if let Some(pair) = expected.get_mut(&copy.key) {
                pair.archived = Some(copy.size);
            }
        }
        let expected: Vec<Pair> = expected.into_values().collect();
        prop_assert_eq!(merged(&bucket, &known, &copies, &lengths), Ok(expected));
    }

    #[test]
    fn a_side_out_of_order_is_never_merged(mut keys in keys(30), at in 0_usize..30) {
        keys.sort();
        keys.dedup();
        prop_assume!(keys.len() > 1);
        let at = at % (keys.len() - 1);
        keys.swap(at, at + 1);
        let bucket: Vec<Listed> = keys.iter().map(|key| listed(key, 7)).collect();
        let broken = Broken::Unordered { before: keys[at].clone(), after: keys[at + 1].clone() };
        prop_assert_eq!(merged(&bucket, &[], &[], &[3, 3, 3]), Err(broken));
    }
}

#[test]
fn a_key_shown_twice_counts_as_it_was_shown_last() {
    let pairs = merged(&[listed("a", 1), listed("a", 2)], &[], &[], &[1]).unwrap();
    assert_eq!(pairs.len(), 1);
    assert_eq!(pairs[0].listed.as_ref().unwrap().size, 2);
}

#[test]
fn a_side_that_ends_without_its_last_page_is_no_shorter_side() {
    let (to_listing, listing) = channel();
    let (to_ledger, ledger) = channel();
    let (to_archive, archive) = channel();
    let outcome = block_on(async {
        let cut = async {
            let sent = to_listing.send(Page { items: vec![listed("a", 1)], last: false }).await;
            drop(to_listing);
            sent.map_err(|_closed| Broken::Off)
        };
        futures::try_join!(all(listing, ledger, archive), cut, feed(to_ledger, &[], &[]), feed(to_archive, &[], &[]))
    });
    assert_eq!(outcome.map(|_| ()), Err(Broken::Off));
}
