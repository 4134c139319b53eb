//! Reconcile names every way in which bucket, archive and ledger can disagree, exactly, and nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use keyfall::app;
use keyfall::config::Config;
use keyfall::demo::s3::{Action, FaultRule, Operation};
use keyfall::domain::ports::{
    CopyRequest, DeleteRequest, GetRequest, Head, ListPage, ListRequest, ObjectBody, ObjectStore, S3Error,
};
use keyfall::operate::compare::CompareError;
use keyfall::operate::reconcile::{self, Fixed, Mode, Order, Reconciled};
use keyfall::operate::sweep::Progress;
use keyfall::operate::window::Window;
use keyfall::store::ledger::Ledger;
use tokio::sync::Notify;

use crate::scale::discover;
use crate::support::{BUCKET, ITEMS, Lab, item_body, item_key, items, loaded, within};

const EVERYTHING: Window = Window { from: None, to: None };
const LOOK: Order = Order { window: EVERYTHING, mode: Mode::Look, examples: 20 };
const FIX: Order = Order { mode: Mode::Fix, ..LOOK };
const ARCHIVE: &str = "action = \"archive\"\nprefix = \"archive/\"";

struct Desk {
    config: Config,
    ledger: Ledger,
    store: Arc<dyn ObjectStore>,
}

impl Desk {
    async fn of(lab: &Lab, feeds: &str) -> Self {
        let config = loaded(&lab.sources(feeds)).config;
        let ledger = Ledger::new(app::pools(&config).expect("pools"));
        let store = app::object_store(&config).await.expect("an object store");
        Self { config, ledger, store }
    }

    async fn try_on(&self, store: Arc<dyn ObjectStore>, order: Order) -> Result<Reconciled, CompareError> {
        let feed = self.config.feeds.values().next().expect("one feed");
        Box::pin(reconcile::reconcile(feed, store, &self.ledger, order, &Progress::default())).await
    }

    async fn reconcile(&self, order: Order) -> Reconciled {
        self.try_on(Arc::clone(&self.store), order).await.expect("a comparison")
    }

    /// A page of each side as it is now, to be shown later on.
    async fn stale(&self, prefixes: &[&str]) -> Arc<Stale> {
        let mut pages = BTreeMap::new();
        for prefix in prefixes {
            let request = ListRequest { prefix: (*prefix).to_owned(), ..ListRequest::default() };
            pages.insert((*prefix).to_owned(), self.store.list(BUCKET, &request).await.expect("a page"));
        }
        Arc::new(Stale { now: Arc::clone(&self.store), pages, asked: Notify::new(), go: None })
    }
}

/// What was found, as `word objects bytes`.
fn found(reconciled: &Reconciled) -> Vec<String> {
    let words = reconciled.findings.iter();
    words.map(|count| format!("{} {} {}", count.finding.as_str(), count.objects, count.bytes)).collect()
}

fn keys(reconciled: &Reconciled, word: &str) -> Vec<String> {
    let count = reconciled.findings.iter().find(|count| count.finding.as_str() == word);
    count.into_iter().flat_map(|count| count.examples.iter().map(|example| example.key.clone())).collect()
}

fn an_hour_ago() -> Timestamp {
    Timestamp::now().checked_sub(SignedDuration::from_hours(1)).expect("a time")
}

/// Old enough for the polls to have seen it.
fn put_old(lab: &Lab, n: usize, body: String) {
    lab.s3.put_at(BUCKET, &item_key(n), body, an_hour_ago());
}

fn archive_key(n: usize) -> String {
    format!("archive/{}", item_key(n))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feed_whose_objects_are_all_archived_is_complete() {
    let lab = Lab::with_items().await;
    lab.put_items(0..7, 2);
    let feeds = items(ARCHIVE);
    assert_eq!(lab.once(&feeds).await, 0);
    let reconciled = Desk::of(&lab, &feeds).await.reconcile(LOOK).await;
    assert_eq!(found(&reconciled), Vec::<String>::new());
    assert_eq!((reconciled.complete, reconciled.objects, reconciled.loaded), (true, 0, 7));
    let noted = "SELECT count(*) FROM keyfall.feeds WHERE reconcile_differences = 0 AND reconciled_at > now() - interval '1 min'";
    assert_eq!(lab.count(noted).await, 1);
}

/// Objects 0 to 9 are loaded and archived, 5 and 6 under their second names.
async fn archived_and_then_spoilt(lab: &Lab, feeds: &str) {
    for n in [5, 6] {
        lab.s3.put(BUCKET, &archive_key(n), "somebody else's");
    }
    for n in 0..10 {
        put_old(lab, n, item_body(n, 2));
    }
    put_old(lab, 22, "no number\n".to_owned());
    lab.s3.put_at(BUCKET, "items/readme.txt", "x", an_hour_ago());
    assert_eq!(lab.once(feeds).await, 3);
    let second = |n: usize| {
        let begin = format!("{}.", archive_key(n));
        lab.s3.keys(BUCKET).into_iter().find(|key| key.starts_with(&begin)).expect("a second name")
    };
    for n in [21, 23, 25, 27, 28] {
        put_old(lab, n, item_body(n, 1));
    }
    discover(lab, feeds).await;
    let set = async |n: usize, what: &str| {
        lab.execute(&format!("UPDATE keyfall.objects SET {what} WHERE key = '{}'", item_key(n))).await;
    };
    set(23, "state = 'missing'").await;
    set(27, "state = 'skipped', reason = 'excluded'").await;
    set(28, "state = 'missing'").await;
    set(2, "disposal = 'pending', disposal_not_before = '-infinity', archived_to = NULL").await;
    set(7, "state = 'undone', disposal = 'none'").await;
    put_old(lab, 7, item_body(7, 2));
    lab.s3.remove(BUCKET, &item_key(25));
    lab.s3.remove(BUCKET, &item_key(28));
    // Unknown, changed, back again; a copy gone, another one overwritten, a second name gone.
    put_old(lab, 20, item_body(20, 3));
    put_old(lab, 0, item_body(0, 4));
    put_old(lab, 1, item_body(1, 2));
    lab.s3.remove(BUCKET, &archive_key(3));
    lab.s3.put(BUCKET, &archive_key(4), "short");
    lab.s3.remove(BUCKET, &second(6));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_difference_is_named_with_its_objects() {
    let lab = Lab::with_items().await;
    let feeds = items(ARCHIVE);
    archived_and_then_spoilt(&lab, &feeds).await;
    let desk = Desk::of(&lab, &feeds).await;
    lab.s3.clear_log();
    let reconciled = desk.reconcile(LOOK).await;
    // Bodies are `n,row\n`: 4 or 5 bytes a row.
    assert_eq!(
        found(&reconciled),
        [
            "unknown 1 15",
            "changed 1 16",
            "quarantined 1 10",
            "set_aside 1 5",
            "undone 1 8",
            "wanted 1 5",
            "still_there 1 8",
            "gone 1 5",
            "archive_missing 2 16",
            "archive_differs 1 8",
            "waiting 1 5",
            "disposal_waiting 1 8",
            "never_read 1 5",
        ]
    );
    for (word, numbers) in [
        ("unknown", &[20][..]),
        ("changed", &[0]),
        ("quarantined", &[22]),
        ("set_aside", &[23]),
        ("undone", &[7]),
        ("wanted", &[27]),
        ("still_there", &[1]),
        ("gone", &[25]),
        ("archive_missing", &[3, 6]),
        ("archive_differs", &[4]),
        ("waiting", &[21]),
        ("disposal_waiting", &[2]),
        ("never_read", &[28]),
    ] {
        assert_eq!(keys(&reconciled, word), numbers.iter().map(|n| item_key(*n)).collect::<Vec<_>>(), "{word}");
    }
    assert_eq!((reconciled.complete, reconciled.differences, reconciled.waiting), (false, 11, 2));
    assert_eq!(reconciled.skipped, BTreeMap::from([("pattern".to_owned(), 1)]));
    // In the bucket: 0, 1, 7, 20, 21, 22, 23, 27 and the readme.
    assert_eq!((reconciled.objects, reconciled.loaded), (9, 9));
    let changes =
        lab.s3.log().into_iter().filter(|entry| !matches!(entry.op, Operation::ListObjects | Operation::HeadObject));
    assert_eq!(changes.count(), 0, "it only looks");
    assert_eq!(lab.count("SELECT reconcile_differences FROM keyfall.feeds").await, 11);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn examples_are_the_first_ones_and_a_window_leaves_the_rest_alone() {
    let lab = Lab::with_items().await;
    for n in 0..30 {
        put_old(&lab, n, item_body(n, 1));
    }
    lab.s3.put_at(BUCKET, "items/readme.txt", "x", an_hour_ago());
    let desk = Desk::of(&lab, ITEMS).await;
    let reconciled = desk.reconcile(Order { examples: 3, ..LOOK }).await;
    assert_eq!(reconciled.differences, 30);
    assert_eq!(keys(&reconciled, "unknown"), [item_key(0), item_key(1), item_key(2)]);

    lab.execute("UPDATE keyfall.feeds SET reconciled_at = NULL").await;
    let at = |n: i64| "2024-05-01T00:00:00Z".parse::<Timestamp>().expect("a time") + SignedDuration::from_secs(n);
    lab.s3.clear_log();
    let window = Window { from: Some(at(10)), to: Some(at(15)) };
    let reconciled = desk.reconcile(Order { window, ..LOOK }).await;
    assert_eq!(keys(&reconciled, "unknown"), (10..15).map(item_key).collect::<Vec<_>>());
    assert_eq!((reconciled.objects, reconciled.skipped.len()), (5, 0), "the readme has no time");
    assert_eq!(lab.count("SELECT count(reconciled_at) FROM keyfall.feeds").await, 0, "only whole feeds are noted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_object_that_is_gone_is_only_mentioned() {
    let lab = Lab::with_items().await;
    lab.put_items(0..5, 1);
    assert_eq!(lab.once(ITEMS).await, 0);
    lab.s3.remove(BUCKET, &item_key(3));
    let reconciled = Desk::of(&lab, ITEMS).await.reconcile(LOOK).await;
    assert_eq!(found(&reconciled), ["removed 1 4"]);
    assert!(reconciled.complete);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_that_have_just_come_are_on_their_way_and_not_unknown() {
    let lab = Lab::with_items().await;
    lab.put_items(0..3, 1);
    let reconciled = Desk::of(&lab, ITEMS).await.reconcile(LOOK).await;
    assert_eq!(found(&reconciled), ["waiting 3 12"]);
    assert_eq!((reconciled.complete, reconciled.differences), (false, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fixing_does_what_a_sweep_and_a_disposer_would_and_twice_is_once() {
    let lab = Lab::with_items().await;
    let feeds = items(ARCHIVE);
    archived_and_then_spoilt(&lab, &feeds).await;
    let desk = Desk::of(&lab, &feeds).await;
    // 20, 0 and 23 are recorded, 1 is disposed of again; 22, 7, 27, 25, 3, 6 and 4 are a person's.
    let first = desk.reconcile(FIX).await;
    assert_eq!((first.differences, first.fixed), (11, Some(Fixed { recorded: 3, rearmed: 1, left: 7 })));
    assert_eq!(lab.count("SELECT reconcile_differences FROM keyfall.feeds").await, 7);
    let second = desk.reconcile(FIX).await;
    assert_eq!((second.differences, second.fixed), (7, Some(Fixed { recorded: 0, rearmed: 0, left: 7 })));

    let engine = lab.engine(&feeds, &[]).await;
    // 0 (both versions), 1 to 6, 8, 9, and then 20, 21, 23.
    lab.until_objects("loaded", "done", 13).await;
    engine.drain().await;
    let last = desk.reconcile(LOOK).await;
    assert_eq!(last.waiting, 0, "{last:?}");
    let words: Vec<&str> = last.findings.iter().map(|count| count.finding.as_str()).collect();
    assert_eq!(words, ["quarantined", "undone", "wanted", "archive_missing", "archive_differs", "never_read"]);
}

/// A store whose listings are from an earlier moment, and which answers no HEAD before it may.
struct Stale {
    now: Arc<dyn ObjectStore>,
    pages: BTreeMap<String, ListPage>,
    asked: Notify,
    go: Option<Notify>,
}

#[async_trait]
impl ObjectStore for Stale {
    async fn list(&self, _: &str, request: &ListRequest) -> Result<ListPage, S3Error> {
        Ok(self.pages[&request.prefix].clone())
    }

    async fn get(&self, request: &GetRequest<'_>) -> Result<ObjectBody, S3Error> {
        self.now.get(request).await
    }

    async fn head(&self, bucket: &str, key: &str) -> Result<Head, S3Error> {
        self.asked.notify_one();
        if let Some(go) = &self.go {
            go.notified().await;
        }
        self.now.head(bucket, key).await
    }

    async fn copy(&self, request: &CopyRequest<'_>) -> Result<Option<String>, S3Error> {
        self.now.copy(request).await
    }

    async fn delete(&self, bucket: &str, requests: &[DeleteRequest]) -> Result<Vec<Result<(), S3Error>>, S3Error> {
        self.now.delete(bucket, requests).await
    }

    async fn conditional_delete_honoured(&self, bucket: &str, prefix: &str) -> Result<bool, S3Error> {
        self.now.conditional_delete_honoured(bucket, prefix).await
    }

    async fn probe_write(&self, bucket: &str, prefix: &str) -> Result<(), S3Error> {
        self.now.probe_write(bucket, prefix).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_loaded_and_archived_behind_the_listing_s_back_is_no_difference() {
    let lab = Lab::with_items().await;
    let feeds = items(ARCHIVE);
    lab.put_items(0..5, 1);
    let desk = Desk::of(&lab, &feeds).await;
    // Before: five objects in the bucket, none in the archive. Now: the other way round.
    let stale = desk.stale(&["items/", "archive/items/"]).await;
    assert_eq!(lab.once(&feeds).await, 0);
    let reconciled = desk.try_on(stale, LOOK).await.expect("a comparison");
    assert_eq!(found(&reconciled), Vec::<String>::new());
    assert_eq!((reconciled.objects, reconciled.loaded, reconciled.complete), (5, 5, true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_behind_the_listing_s_back_is_not_gone() {
    let lab = Lab::with_items().await;
    let desk = Desk::of(&lab, ITEMS).await;
    let stale = desk.stale(&["items/"]).await;
    for n in 0..5 {
        put_old(&lab, n, item_body(n, 1));
    }
    discover(&lab, ITEMS).await;
    let reconciled = desk.try_on(stale, LOOK).await.expect("a comparison");
    assert_eq!(found(&reconciled), ["waiting 5 20"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_loaded_and_deleted_between_two_looks_is_not_gone() {
    let lab = Lab::with_items().await;
    let feeds = items("action = \"delete\"");
    let desk = Desk::of(&lab, &feeds).await;
    let stale = desk.stale(&["items/"]).await;
    put_old(&lab, 0, item_body(0, 1));
    discover(&lab, &feeds).await;
    let store = Arc::into_inner(stale).map(|stale| Arc::new(Stale { go: Some(Notify::new()), ..stale })).expect("ours");
    // The ledger says pending, the listing does not know it; it is loaded and deleted before the bucket answers.
    let meanwhile = async {
        within("a HEAD", store.asked.notified()).await;
        assert_eq!(lab.once(&feeds).await, 0);
        store.go.as_ref().expect("a gate").notify_one();
    };
    let (reconciled, ()) = tokio::join!(desk.try_on(Arc::clone(&store) as Arc<dyn ObjectStore>, LOOK), meanwhile);
    let reconciled = reconciled.expect("a comparison");
    assert_eq!(found(&reconciled), Vec::<String>::new());
    assert_eq!((reconciled.loaded, reconciled.complete), (1, true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_replaced_behind_the_listing_s_back_is_not_changed() {
    let lab = Lab::with_items().await;
    let desk = Desk::of(&lab, ITEMS).await;
    put_old(&lab, 0, item_body(0, 1));
    assert_eq!(lab.once(ITEMS).await, 0);
    put_old(&lab, 0, item_body(0, 2));
    // The second version is listed, and the ledger only ever learns of the third.
    let stale = desk.stale(&["items/"]).await;
    put_old(&lab, 0, item_body(0, 3));
    assert_eq!(lab.once(ITEMS).await, 0);
    let reconciled = desk.try_on(stale, LOOK).await.expect("a comparison");
    assert_eq!(found(&reconciled), Vec::<String>::new());
    assert_eq!((reconciled.loaded, reconciled.complete), (2, true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_loads_meanwhile_causes_no_false_alarm() {
    let lab = Lab::with_items().await;
    let feeds = items(ARCHIVE);
    let engine = lab.engine(&feeds, &[]).await;
    let desk = Desk::of(&lab, &feeds).await;
    let mut put = 0;
    let mut runs = 0;
    while put < 3000 {
        lab.put_items(put..put + 150, 1);
        put += 150;
        let reconciled = desk.reconcile(LOOK).await;
        assert_eq!(reconciled.differences, 0, "{reconciled:#?}");
        runs += 1;
    }
    lab.until_objects("loaded", "done", 3000).await;
    engine.drain().await;
    let reconciled = desk.reconcile(LOOK).await;
    assert_eq!((runs, reconciled.complete, reconciled.loaded), (20, true, 3000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_out_of_order_is_refused_and_a_key_shown_twice_is_not() {
    let lab = Lab::with_items().await;
    for n in 0..1500 {
        put_old(&lab, n, item_body(n, 1));
    }
    let desk = Desk::of(&lab, ITEMS).await;
    let unsorted = lab.s3.inject(FaultRule::on(Operation::ListObjects, Action::Unsorted).times(1));
    let error = desk.try_on(Arc::clone(&desk.store), LOOK).await.expect_err("an error");
    assert!(matches!(error, CompareError::Unordered { .. }), "{error}");
    assert_eq!(unsorted.hits(), 1);
    assert_eq!(lab.count("SELECT count(reconciled_at) FROM keyfall.feeds").await, 0);

    let refused = lab.s3.inject(FaultRule::on(Operation::ListObjects, Action::Denied).from_hit(2).times(1));
    let error = desk.try_on(Arc::clone(&desk.store), LOOK).await.expect_err("an error");
    assert!(matches!(error, CompareError::S3 { .. }), "{error}");
    assert_eq!(refused.hits(), 1, "half a listing is no listing");
}
