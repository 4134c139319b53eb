//! Bodies that break, stall, lie or are damaged: never a shorter load, never a doubled one.

use keyfall::demo::s3::{Action, FaultRule, Injected, Operation};

use crate::support::{BUCKET, ITEMS, Lab, gzip, item_key};

/// Rows of an object large enough to be streamed: about 700 KB.
const ROWS: usize = 90_000;

/// Loads one object whose GETs are struck by an action as often as said; answers the statuses of its GETs.
async fn loaded_despite(action: Action, times: u64, rows: usize) -> Vec<u16> {
    let lab = Lab::with_items().await;
    lab.put_items(0..1, rows);
    let fault = lab.s3.inject(FaultRule::on(Operation::GetObject, action).times(times));
    let engine = lab.engine(ITEMS, &["s3.read_timeout=500ms"]).await;
    lab.until_objects("loaded", "none", 1).await;
    engine.drain().await;
    assert_eq!(fault.hits(), times);
    lab.assert_items(1, i64::try_from(rows).expect("a count")).await;
    lab.requests(Operation::GetObject, &item_key(0))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_truncated_body_is_resumed_by_range() {
    assert_eq!(loaded_despite(Action::Truncate(300_000), 1, ROWS).await, [200, 206]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_reset_twice_is_resumed_twice() {
    assert_eq!(loaded_despite(Action::ResetAfter(200_000), 2, ROWS).await, [200, 206, 206]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_body_is_resumed_after_the_read_timeout() {
    assert_eq!(loaded_despite(Action::StallAfter(300_000), 1, ROWS).await, [200, 206]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_body_broken_before_its_first_byte_is_read_again() {
    assert_eq!(loaded_despite(Action::ResetAfter(0), 1, 3).await.last(), Some(&200));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_body_broken_at_its_last_byte_is_resumed() {
    // Three lines of four bytes.
    assert_eq!(loaded_despite(Action::Truncate(11), 1, 3).await, [200, 206]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_announced_too_short_is_not_loaded_and_tried_again() {
    assert_eq!(loaded_despite(Action::EarlyCleanEnd(8), 1, 3).await, [200, 200]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_in_a_large_body_is_found_by_the_checksum() {
    assert_eq!(loaded_despite(Action::FlipByte(500_000), 1, ROWS).await, [200, 200]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_that_makes_bad_content_is_blamed_on_the_transport() {
    // Byte 0 becomes something that is no digit: without the checksum this would look like a bad record.
    assert_eq!(loaded_despite(Action::FlipByte(0), 1, 3).await, [200, 200]);
}

/// Strikes one of three objects for ever and answers how it ended; the others must load.
async fn quarantined_by(action: Action) -> (String, Injected) {
    let lab = Lab::with_items().await;
    lab.put_items(0..3, 3);
    let fault = lab.s3.inject(FaultRule::on(Operation::GetObject, action).key(item_key(1)));
    let engine = lab.engine(ITEMS, &["workers.max_attempts=3"]).await;
    lab.until_objects("quarantined", "none", 1).await;
    lab.until_objects("loaded", "none", 2).await;
    engine.drain().await;
    lab.assert_items(2, 3).await;
    assert!(lab.s3.get("drop", &item_key(1)).is_some(), "a quarantined object stays where it is");
    let error = lab.texts("SELECT key || ' ' || error_code FROM keyfall.objects WHERE state = 'quarantined'").await;
    (error.join(""), fault)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_always_too_short_is_quarantined_after_max_attempts() {
    let (error, fault) = quarantined_by(Action::EarlyCleanEnd(8)).await;
    assert_eq!(error, format!("{} E-FETCH-SIZE", item_key(1)));
    assert_eq!(fault.hits(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_always_damaged_is_quarantined_after_max_attempts() {
    let (error, fault) = quarantined_by(Action::FlipByte(5)).await;
    assert_eq!(error, format!("{} E-FETCH-CHECKSUM", item_key(1)));
    assert_eq!(fault.hits(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_anywhere_in_a_gzip_object_never_loads_other_rows() {
    let lab = Lab::new().await;
    lab.execute("CREATE TABLE flipped (id int, name text)").await;
    let good: String = (0..200).fold("id,name\n".to_owned(), |text, n| text + &format!("{n},Name {n}\n"));
    let whole = gzip(good.as_bytes());
    let mut flips = 0;
    // Bytes 4 to 9 of the header are time stamp, flags of the level and system: no part of the content.
    for at in (0..4).chain(10..whole.len()).step_by(37) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        lab.s3.put(BUCKET, &format!("flipped/{at}.gz"), bytes);
        flips += 1;
    }
    let feed = "[feeds.flipped]\nbucket = \"drop\"\nprefix = \"flipped/\"\ntable = \"flipped\"\n";
    assert_eq!(lab.once(feed).await, 3);
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects WHERE state = 'quarantined'").await, flips);
    assert_eq!(lab.count("SELECT count(*) FROM flipped").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_in_the_smallest_pieces_hold_the_same_records() {
    let lab = Lab::new().await;
    lab.execute("CREATE TABLE cells (a text, b text)").await;
    let text: String = (0..300).fold(String::new(), |text, n| text + &format!("{n},\"line\r\nof \"\"{n}\"\" 😀\"\r\n"));
    lab.s3.put(BUCKET, "drip/whole", text.clone());
    lab.s3.put(BUCKET, "drip/plain", text.clone());
    lab.s3.put(BUCKET, "drip/packed.gz", gzip(text.as_bytes()));
    let plain = FaultRule::on(Operation::GetObject, Action::Truncate(1000)).key("drip/plain").times(4);
    let packed = FaultRule::on(Operation::GetObject, Action::DripPerSecond(2000)).key("drip/packed.gz");
    let (plain, packed) = (lab.s3.inject(plain), lab.s3.inject(packed));
    let feed = "[feeds.drip]\nbucket = \"drop\"\nprefix = \"drip/\"\ntable = \"cells\"\ncsv.header = false\n";
    assert_eq!(lab.once(feed).await, 0);
    assert!(plain.hits() >= 4 && packed.hits() >= 1, "the faults were met");
    assert_eq!(lab.count("SELECT count(*) FROM cells").await, 900);
    assert_eq!(lab.count("SELECT count(*) FROM (SELECT 1 FROM cells GROUP BY a, b HAVING count(*) = 3) x").await, 300);
}
