//! Undo, replay and the rejected records: rows and ledger change together, and nothing is lost on the way.

use std::sync::Arc;

use keyfall::app;
use keyfall::config::Config;
use keyfall::demo::s3::Operation;
use keyfall::operate::rejections::{self, Keep, Replayed};
use keyfall::operate::repair::{Aim, Bench, Force, Repaired};
use keyfall::store::ledger::{Ledger, RejectionFilter, RepairFilter};
use keyfall::store::pool::Pools;

use crate::support::{BUCKET, Lab, item_body, item_key, loaded};

/// Three columns with a header, provenance, and room for bad records.
fn feeds(more: &str, disposal: &str) -> String {
    format!(
        r#"
        [feeds.items]
        bucket = "drop"
        pattern = "items/{{time:%Y-%m-%d-%H-%M-%S}}.csv"
        table = "items"
        poll_interval = "200ms"
        csv.header = false
        {more}
        [feeds.items.rejects]
        max_rows = 100
        [feeds.items.disposal]
        {disposal}
        "#
    )
}

const KEEP: &str = "action = \"keep\"";
const ARCHIVE: &str = "action = \"archive\"\nprefix = \"archive/\"";

/// A lab whose table says which object and record its rows come from.
async fn lab() -> Lab {
    let lab = Lab::new().await;
    lab.execute(
        "CREATE TABLE items (object int NOT NULL, line int NOT NULL, _object_id bigint NOT NULL,
                             _record_no bigint NOT NULL)",
    )
    .await;
    lab.migrate().await;
    lab
}

struct Desk {
    config: Config,
    pools: Pools,
    ledger: Ledger,
}

impl Desk {
    fn of(lab: &Lab, feeds: &str) -> Self {
        let config = loaded(&lab.sources(feeds)).config;
        let pools = app::pools(&config).expect("pools");
        Self { ledger: Ledger::new(pools.clone()), pools, config }
    }

    async fn repair(&self, aim: Aim, force: Force, filter: RepairFilter) -> Vec<Repaired> {
        let store = Some(app::object_store(&self.config).await.expect("a store"));
        let Self { config, pools, ledger } = self;
        let bench = Bench { config, pools, ledger, store, aim, force };
        let mut repaired = Vec::new();
        for object in bench.choose(filter).await.expect("a choice") {
            repaired.push(bench.repair(&object).await);
        }
        repaired
    }

    async fn replay(&self, filter: &RejectionFilter, keep: Keep) -> Vec<Replayed> {
        let store = app::object_store(&self.config).await.expect("a store");
        let Self { config, pools, ledger } = self;
        let bench = rejections::Bench { config, pools, ledger, store };
        let mut replayed = Vec::new();
        for object in ledger.rejected_objects(filter).await.expect("objects") {
            replayed.push(bench.replay(&object, filter, keep).await);
        }
        replayed
    }
}

fn all() -> RepairFilter {
    RepairFilter { feed: Some("items".to_owned()), ..RepairFilter::default() }
}

const COUNTS: &str =
    "SELECT format('%s: %s = %s + %s + %s', state, rows_read, rows_loaded, rows_rejected, rows_filtered)
                        FROM keyfall.objects ORDER BY id";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_undone_object_has_no_rows_and_the_others_keep_theirs() {
    let lab = lab().await;
    lab.put_items(0..3, 4);
    let feeds = feeds("", KEEP);
    assert_eq!(lab.once(&feeds).await, 0);
    let desk = Desk::of(&lab, &feeds);
    let key = format!("s3://{BUCKET}/{}", item_key(1));
    let filter = RepairFilter { key: Some(key), ..RepairFilter::default() };
    let undone = desk.repair(Aim::Undo, Force::No, filter.clone()).await;
    assert_eq!((undone.len(), undone[0].rows, &undone[0].refused), (1, 4, &None));
    assert_eq!(lab.texts("SELECT DISTINCT object::text FROM items ORDER BY 1").await, ["0", "2"]);
    assert_eq!(lab.count("SELECT count(*) FROM items").await, 8);
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects WHERE state = 'undone'").await, 1);
    assert!(desk.repair(Aim::Undo, Force::No, filter).await.is_empty(), "it is no longer loaded");
    // It stays undone whoever looks.
    assert_eq!(lab.once(&feeds).await, 0);
    assert_eq!(lab.count("SELECT count(*) FROM items").await, 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_count_that_differs_is_refused_with_both_numbers_unless_forced() {
    let lab = lab().await;
    lab.put_items(0..1, 4);
    let feeds = feeds("", KEEP);
    assert_eq!(lab.once(&feeds).await, 0);
    lab.execute("DELETE FROM items WHERE line = 2").await;
    let desk = Desk::of(&lab, &feeds);
    let refused = desk.repair(Aim::Undo, Force::No, all()).await;
    let told = refused[0].refused.clone().expect("a refusal");
    assert!(told.contains("have 3 rows") && told.contains("knows of 4"), "{told}");
    assert_eq!(lab.count("SELECT count(*) FROM items").await, 3);
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects WHERE state = 'loaded'").await, 1);
    let forced = desk.repair(Aim::Undo, Force::Yes, all()).await;
    assert_eq!((forced[0].rows, &forced[0].refused), (3, &None));
    assert_eq!(lab.count("SELECT count(*) FROM items").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_told_apart_or_is_referred_to_is_refused_and_nothing_is_done() {
    let lab = lab().await;
    lab.put_items(0..1, 2);
    let feeds = feeds("", KEEP);
    assert_eq!(lab.once(&feeds).await, 0);
    lab.execute(
        "ALTER TABLE items ADD UNIQUE (object, line);
         CREATE TABLE children (object int, line int, FOREIGN KEY (object, line) REFERENCES items (object, line));
         INSERT INTO children VALUES (0, 1)",
    )
    .await;
    let desk = Desk::of(&lab, &feeds);
    let refused = desk.repair(Aim::Undo, Force::Yes, all()).await;
    let (why, advice) = (refused[0].refused.clone().expect("why"), refused[0].advice.clone().expect("advice"));
    assert!(why.contains("23503") && advice.contains("undo the objects they come from first"), "{why} {advice}");
    assert_eq!(lab.count("SELECT count(*) FROM items").await, 2);

    lab.execute("DROP TABLE children; ALTER TABLE items DROP COLUMN _object_id").await;
    let refused = desk.repair(Aim::Undo, Force::Yes, all()).await;
    assert!(refused[0].refused.as_ref().is_some_and(|why| why.contains("_object_id")), "{refused:?}");
    assert_eq!(lab.count("SELECT count(*) FROM items").await, 2);
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects WHERE state = 'loaded'").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replayed_object_is_loaded_again_also_from_the_archive() {
    for disposal in [KEEP, ARCHIVE] {
        let lab = lab().await;
        lab.put_items(0..3, 4);
        let feeds = feeds("", disposal);
        assert_eq!(lab.once(&feeds).await, 0);
        let desk = Desk::of(&lab, &feeds);
        let sent_back = desk.repair(Aim::Replay, Force::No, all()).await;
        assert_eq!(sent_back.iter().map(|one| one.rows).sum::<u64>(), 12, "{sent_back:?}");
        assert_eq!(lab.count("SELECT count(*) FROM items").await, 0);
        assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects WHERE state = 'pending' AND replays = 1").await, 3);
        // The archive is not listed: what waits there is no longer in the bucket.
        assert_eq!(lab.once(&feeds).await, 0, "{:?}", lab.ledger().await);
        lab.assert_items(3, 4).await;
        assert_eq!(lab.count("SELECT count(DISTINCT _object_id) FROM items").await, 3);
        let done = "SELECT count(*) FROM keyfall.objects WHERE disposal = 'done' AND archived_to IS NOT NULL";
        let archived = if disposal == ARCHIVE { 3 } else { 0 };
        assert_eq!(lab.count(done).await, archived);
        let copy = format!("archive/{}", item_key(0));
        let reads = if disposal == ARCHIVE { vec![200] } else { vec![] };
        assert_eq!(lab.requests(Operation::GetObject, &copy), reads);
        assert_eq!(lab.s3.keys(BUCKET).len(), 3, "nothing was copied or deleted twice");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_copy_with_other_bytes_is_not_taken_for_the_object() {
    let lab = lab().await;
    lab.put_items(0..1, 4);
    let feeds = feeds("", ARCHIVE);
    assert_eq!(lab.once(&feeds).await, 0);
    let desk = Desk::of(&lab, &feeds);
    let copy = format!("archive/{}", item_key(0));
    // The same length.
    lab.s3.put(BUCKET, &copy, item_body(7, 4));
    assert_eq!(desk.repair(Aim::Replay, Force::No, all()).await[0].refused, None);
    assert_eq!(lab.once(&feeds).await, 3);
    assert_eq!(lab.entry(&item_key(0)).await.code, "E-FETCH-ARCHIVE");
    assert_eq!(lab.count("SELECT count(*) FROM items").await, 0);
    // Put right, it is loaded.
    lab.s3.put(BUCKET, &copy, item_body(0, 4));
    assert_eq!(desk.repair(Aim::Replay, Force::No, all()).await[0].refused, None);
    assert_eq!(lab.once(&feeds).await, 0);
    lab.assert_items(1, 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_deleted_for_a_load_that_cannot_come() {
    for (disposal, told) in [("action = \"delete\"", "was deleted"), (KEEP, "no longer in the bucket")] {
        let lab = lab().await;
        lab.put_items(0..1, 4);
        let feeds = feeds("", disposal);
        assert_eq!(lab.once(&feeds).await, 0);
        if disposal == KEEP {
            lab.s3.remove(BUCKET, &item_key(0));
        }
        let desk = Desk::of(&lab, &feeds);
        let refused = desk.repair(Aim::Replay, Force::Yes, all()).await;
        assert!(refused[0].refused.as_ref().is_some_and(|why| why.contains(told)), "{refused:?}");
        lab.assert_items(1, 4).await;
        // Its rows alone can go.
        assert_eq!(desk.repair(Aim::Undo, Force::No, all()).await[0].rows, 4);
        let refused = desk.repair(Aim::Replay, Force::Yes, all()).await;
        assert!(refused[0].refused.as_ref().is_some_and(|why| why.contains(told)), "{refused:?}");
        assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects WHERE state = 'undone'").await, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_in_a_disposers_hand_is_left_alone_until_it_is_done() {
    let lab = lab().await;
    lab.put_items(0..1, 4);
    let feeds = feeds("", KEEP);
    assert_eq!(lab.once(&feeds).await, 0);
    lab.execute("UPDATE keyfall.objects SET disposal = 'pending'").await;
    let desk = Desk::of(&lab, &feeds);
    let name = "items".parse().expect("a name");
    let taken = desk.ledger.take_disposals(&name, 10, std::time::Duration::from_mins(1)).await.expect("a batch");
    assert_eq!(taken.len(), 1);
    for aim in [Aim::Undo, Aim::Replay] {
        let refused = desk.repair(aim, Force::Yes, all()).await;
        assert!(refused[0].refused.as_ref().is_some_and(|why| why.contains("disposal")), "{refused:?}");
    }
    lab.assert_items(1, 4).await;
    // An instance that failed gives it back; an undone object is no disposer's any more.
    let failed = taken.into_iter().map(|loaded| (loaded, "denied".to_owned(), 600.0)).collect::<Vec<_>>();
    desk.ledger.postpone_disposals(&failed).await.expect("postponed");
    assert_eq!(desk.repair(Aim::Undo, Force::No, all()).await[0].refused, None);
    assert!(desk.ledger.take_disposals(&name, 10, std::time::Duration::ZERO).await.expect("a batch").is_empty());
    assert_eq!(lab.ledger().await, [format!("{} undone none", item_key(0))]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rejected_records_are_loaded_once_the_cause_is_mended_each_under_its_own_number() {
    let lab = lab().await;
    lab.s3.put(BUCKET, &item_key(0), "0,0\nx,1\n0,2\n0,\n0,99999999999\n");
    let feeds = feeds("", KEEP);
    assert_eq!(lab.once(&feeds).await, 0, "{:?}", lab.ledger().await);
    assert_eq!(lab.texts(COUNTS).await, ["loaded: 5 = 2 + 3 + 0"]);
    let desk = Desk::of(&lab, &feeds);
    let every = RejectionFilter::default();
    // Nothing has changed: all of them are as bad as before.
    let again = desk.replay(&every, Keep::Rows).await;
    assert_eq!((again[0].loaded, again[0].rejected, &again[0].refused), (0, 3, &None));
    lab.execute("ALTER TABLE items ALTER line TYPE bigint, ALTER line DROP NOT NULL").await;
    let looked = desk.replay(&every, Keep::Nothing).await;
    assert_eq!((looked[0].loaded, looked[0].rejected), (2, 1));
    assert_eq!(lab.texts(COUNTS).await, ["loaded: 5 = 2 + 3 + 0"], "a look changes nothing");
    let replayed = desk.replay(&every, Keep::Rows).await;
    assert_eq!((replayed[0].loaded, replayed[0].rejected), (2, 1));
    assert_eq!(lab.texts(COUNTS).await, ["loaded: 5 = 4 + 1 + 0"]);
    let rows = "SELECT format('%s %s', _record_no, line) FROM items ORDER BY _record_no";
    assert_eq!(lab.texts(rows).await, ["1 0", "3 2", "4 ", "5 99999999999"]);
    assert_eq!(lab.count("SELECT count(DISTINCT _object_id) FROM items").await, 1);
    assert_eq!(lab.texts("SELECT record_no::text FROM keyfall.rejections WHERE replayed_at IS NULL").await, ["2"]);
    assert_eq!(desk.replay(&every, Keep::Rows).await[0].loaded, 0);
    // All of its rows go with it, those loaded later as well.
    assert_eq!(desk.repair(Aim::Undo, Force::No, all()).await[0].rows, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replays_and_an_undo_at_once_never_load_a_row_twice() {
    let lab = lab().await;
    for n in 0..4 {
        lab.s3.put(BUCKET, &item_key(n), format!("{n},0\n{n},\n{n},\n"));
    }
    let feeds = feeds("", KEEP);
    assert_eq!(lab.once(&feeds).await, 0);
    lab.execute("ALTER TABLE items ALTER line DROP NOT NULL").await;
    let desk = Arc::new(Desk::of(&lab, &feeds));
    let every = RejectionFilter::default();
    let (one, other, undone) = tokio::join!(
        desk.replay(&every, Keep::Rows),
        desk.replay(&every, Keep::Rows),
        desk.repair(Aim::Undo, Force::No, all())
    );
    // Whoever met a lock of another says so, and nothing else; then it is done again.
    for refused in one.iter().chain(&other).filter_map(|one| one.refused.as_ref()) {
        assert!(refused.contains("at this moment") || refused.contains("undone"), "{refused}");
    }
    for refused in undone.iter().filter_map(|one| one.refused.as_ref()) {
        assert!(refused.contains("at this moment"), "{refused}");
    }
    let twice = "SELECT count(*) FROM (SELECT FROM items GROUP BY _object_id, _record_no HAVING count(*) > 1) x";
    assert_eq!(lab.count(twice).await, 0);
    let wrong = "SELECT count(*) FROM keyfall.objects o
                  WHERE (SELECT count(*) FROM items i WHERE i._object_id = o.id)
                        <> CASE WHEN o.state = 'loaded' THEN o.rows_loaded ELSE 0 END
                     OR o.rows_read <> o.rows_loaded + o.rows_rejected + o.rows_filtered";
    assert_eq!(lab.count(wrong).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_kept_in_part_is_neither_loaded_nor_forgotten() {
    let lab = lab().await;
    lab.execute("ALTER TABLE items ADD note text").await;
    let long = "x".repeat(70_000);
    lab.s3.put(BUCKET, &item_key(0), format!("0,0,a\n0,,{long}\n0,,b\n"));
    let feeds = feeds("columns = { object = 1, line = 2, note = 3 }", KEEP);
    assert_eq!(lab.once(&feeds).await, 0, "{:?}", lab.ledger().await);
    lab.execute("ALTER TABLE items ALTER line DROP NOT NULL").await;
    let desk = Desk::of(&lab, &feeds);
    let replayed = desk.replay(&RejectionFilter::default(), Keep::Rows).await;
    assert_eq!((replayed[0].loaded, replayed[0].cut, replayed[0].rejected), (1, 1, 0));
    assert_eq!(lab.texts(COUNTS).await, ["loaded: 3 = 2 + 1 + 0"]);
    // With its object it comes back.
    assert_eq!(desk.repair(Aim::Replay, Force::No, all()).await[0].rows, 2);
    assert_eq!(lab.once(&feeds).await, 0);
    assert_eq!(lab.texts(COUNTS).await, ["loaded: 3 = 3 + 0 + 0"]);
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.rejections").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replayed_record_that_the_server_refuses_stays_rejected_with_its_reason() {
    let lab = lab().await;
    lab.execute("ALTER TABLE items ADD UNIQUE (object, line)").await;
    lab.s3.put(BUCKET, &item_key(0), "0,0\n0,\nx,1\n0,0\n0,2\n");
    let feeds = feeds("", KEEP);
    assert_eq!(lab.once(&feeds).await, 0, "{:?}", lab.ledger().await);
    assert_eq!(lab.texts(COUNTS).await, ["loaded: 5 = 2 + 3 + 0"]);
    lab.execute("ALTER TABLE items ALTER line DROP NOT NULL").await;
    let desk = Desk::of(&lab, &feeds);
    let replayed = desk.replay(&RejectionFilter::default(), Keep::Rows).await;
    assert_eq!((replayed[0].loaded, replayed[0].rejected, &replayed[0].refused), (1, 2, &None));
    assert_eq!(lab.texts(COUNTS).await, ["loaded: 5 = 3 + 2 + 0"]);
    let open = "SELECT format('%s %s %s', record_no, code, length(raw)) FROM keyfall.rejections
                 WHERE replayed_at IS NULL ORDER BY record_no";
    assert_eq!(lab.texts(open).await, ["3 E-CELL-INT 4", "4 E-PG-23505 4"]);
    // The row that stood in its way is gone: now there is room for it.
    lab.execute("DELETE FROM items WHERE line = 0").await;
    assert_eq!(desk.replay(&RejectionFilter::default(), Keep::Rows).await[0].loaded, 1);
    assert_eq!(lab.texts("SELECT _record_no::text FROM items ORDER BY 1").await, ["2", "4", "5"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rejected_records_of_json_and_of_a_header_are_replayed_as_they_stood() {
    let bodies = [
        ("format = \"jsonl\"", "{\"object\":0,\"line\":0}\n{\"object\":0,\"line\":99999999999}\n"),
        ("format = \"json\"", "[{\"object\":0,\"line\":0},\n {\"object\":0,\n  \"line\":99999999999}]"),
        ("", "line,object\n0,0\n99999999999,0\n"),
    ];
    for (format, body) in bodies {
        let lab = lab().await;
        lab.s3.put(BUCKET, &item_key(0), body);
        let feeds = feeds(format, KEEP);
        let feeds = feeds.replace("csv.header = false", "");
        assert_eq!(lab.once(&feeds).await, 0, "{format}: {:?}", lab.ledger().await);
        assert_eq!(lab.texts(COUNTS).await, ["loaded: 2 = 1 + 1 + 0"], "{format}");
        lab.execute("ALTER TABLE items ALTER line TYPE bigint").await;
        let desk = Desk::of(&lab, &feeds);
        let replayed = desk.replay(&RejectionFilter::default(), Keep::Rows).await;
        assert_eq!((replayed[0].loaded, &replayed[0].refused), (1, &None), "{format}");
        let rows = "SELECT format('%s %s', _record_no, line) FROM items ORDER BY _record_no";
        assert_eq!(lab.texts(rows).await, ["1 0", "2 99999999999"], "{format}");
    }
}
