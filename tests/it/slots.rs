//! A feed that says how often an object comes names those that never came.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use keyfall::app;
use keyfall::operate::slots::{self, Expectation, FeedSlots};
use keyfall::store::ledger::Ledger;

use crate::secrets::fetch;
use crate::support::{BUCKET, ITEMS, Lab, item_body, loaded, until};

/// A feed of daily objects by Madrid's clock.
const DAILY: &str = r#"
    [feeds.daily]
    bucket = "drop"
    pattern = "daily/{time:%Y-%m-%d}.csv"
    timezone = "Europe/Madrid"
    table = "items"
    cadence = "1d"
"#;

/// Hourly objects of several vendors.
const VENDORS: &str = r#"
    [feeds.vendors]
    bucket = "drop"
    pattern = "v/{vendor}/{time:%Y-%m-%d-%H}.csv"
    table = "items"
    cadence = "1h"
"#;

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

async fn missing(lab: &Lab, feeds: &str, now: &str) -> Option<FeedSlots> {
    let config = loaded(&lab.sources(feeds)).config;
    let ledger = Ledger::new(app::pools(&config).expect("pools"));
    let feed = config.feeds.values().next().expect("one feed");
    slots::missing(feed, &ledger, at(now)).await.expect("the ledger answers")
}

fn begins(slots: &FeedSlots) -> Vec<(String, String)> {
    assert_eq!(slots.missing, slots.slots.len() as u64);
    slots.slots.iter().map(|slot| (slot.begins.to_string(), slot.key.clone())).collect()
}

/// Rows of the ledger as discovery writes them.
async fn known(lab: &Lab, feed: &str, series: &str, times: &[&str]) {
    for time in times {
        lab.execute(&format!(
            "INSERT INTO keyfall.objects (feed, bucket, key, version, etag, size, series, key_time, visible_at,
                                          discovered_by, state)
             VALUES ('{feed}', 'drop', '{series}{time}', 'v', 'v', 1, '{series}', '{time}', now(), 'sweep', 'pending')"
        ))
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_days_are_named_with_their_keys_by_the_feeds_clock() {
    let lab = Lab::with_items().await;
    // Midnights of 27, 28, 29 March and 1, 2 April in Madrid; clocks change on the 31st.
    let midnights = ["2024-03-26T23:00:00Z", "2024-03-27T23:00:00Z", "2024-03-28T23:00:00Z"];
    known(&lab, "daily", "daily/", &midnights).await;
    known(&lab, "daily", "daily/", &["2024-03-31T22:00:00Z"]).await;
    // The slot of 2 April ended at 22:00Z and may be filled until a day later.
    let seen = missing(&lab, DAILY, "2024-04-03T21:59:59Z").await.expect("slots");
    let expected = [("2024-03-29T23:00:00Z", "daily/2024-03-30.csv"), ("2024-03-30T23:00:00Z", "daily/2024-03-31.csv")];
    assert_eq!(begins(&seen), expected.map(|(time, key)| (time.to_owned(), key.to_owned())));
    assert!(seen.slots.iter().all(|slot| slot.whole_key));
    assert_eq!(seen.cadence, Expectation::Declared { seconds: 86_400 });
    assert_eq!(missing(&lab, DAILY, "2024-04-03T22:00:00Z").await.expect("slots").missing, 3, "now it is due");
    let eager = DAILY.replace("\"1d\"", "\"1d\"\ncadence_grace = \"0s\"");
    assert_eq!(missing(&lab, &eager, "2024-04-03T21:59:59Z").await.expect("slots").missing, 3);
    assert_eq!(missing(&lab, &eager, "2024-04-03T22:00:00Z").await.expect("slots").missing, 4);
    // A week back, and no further.
    assert_eq!(missing(&lab, DAILY, "2024-04-30T12:00:00Z").await.expect("slots").missing, 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_fills_its_slot_whatever_became_of_it_but_not_where_it_is_left_out() {
    let lab = Lab::with_items().await;
    let days: Vec<String> = (1..=7).map(|day| format!("2024-05-{day:02}T22:00:00Z")).collect();
    known(&lab, "daily", "daily/", &days.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let now = "2024-05-10T12:00:00Z";
    assert_eq!(missing(&lab, DAILY, now).await.expect("slots").missing, 0);
    for (day, state, reason) in [
        (2, "quarantined", "NULL"),
        (3, "skipped", "'operator'"),
        (4, "missing", "NULL"),
        (5, "skipped", "'excluded'"),
        (6, "skipped", "'directory_marker'"),
    ] {
        let sql = format!(
            "UPDATE keyfall.objects SET state = '{state}', reason = {reason} WHERE key_time = '2024-05-{day:02}T22:00:00Z'"
        );
        lab.execute(&sql).await;
    }
    let keys: Vec<String> =
        begins(&missing(&lab, DAILY, now).await.expect("slots")).into_iter().map(|(_, key)| key).collect();
    assert_eq!(keys, ["daily/2024-05-06.csv", "daily/2024-05-07.csv"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_missing_before_the_first_object_unless_the_feed_says_when_it_begins() {
    let lab = Lab::with_items().await;
    let now = "2024-05-10T12:00:00Z";
    assert_eq!(missing(&lab, DAILY, now).await.expect("slots").missing, 0);
    assert_eq!(missing(&lab, ITEMS, now).await, None, "no cadence, no slots");
    let begun = DAILY.replace("cadence", "start_from = \"2024-05-06\"\ncadence");
    let expected = ["daily/2024-05-06.csv", "daily/2024-05-07.csv", "daily/2024-05-08.csv"];
    let keys = |slots: FeedSlots| begins(&slots).into_iter().map(|(_, key)| key).collect::<Vec<_>>();
    assert_eq!(keys(missing(&lab, &begun, now).await.expect("slots")), expected);
    known(&lab, "daily", "daily/", &["2024-05-06T22:00:00Z"]).await;
    assert_eq!(keys(missing(&lab, &begun, now).await.expect("slots")), [expected[0], expected[2]]);
    assert_eq!(keys(missing(&lab, DAILY, now).await.expect("slots")), [expected[2]]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_series_has_its_own_slots_and_a_series_given_up_is_silent() {
    let lab = Lab::with_items().await;
    known(&lab, "vendors", "v/acme/", &["2024-05-09T08:00:00Z", "2024-05-09T09:00:00Z", "2024-05-09T11:00:00Z"]).await;
    known(&lab, "vendors", "v/bolt/", &["2024-05-09T10:00:00Z"]).await;
    known(&lab, "vendors", "v/gone/", &["2024-04-01T10:00:00Z"]).await;
    let seen = missing(&lab, VENDORS, "2024-05-09T13:30:00Z").await.expect("slots");
    let expected =
        [("2024-05-09T10:00:00Z", "v/acme/2024-05-09-10.csv"), ("2024-05-09T11:00:00Z", "v/bolt/2024-05-09-11.csv")];
    assert_eq!(begins(&seen), expected.map(|(time, key)| (time.to_owned(), key.to_owned())));
    let silent: Vec<_> = seen.silent.iter().map(|silent| (silent.series.as_str(), silent.since)).collect();
    assert_eq!(silent, [("v/gone/", at("2024-04-01T10:00:00Z"))]);
    // A month later nobody has been heard of: the feed itself has stopped, and that is not forgotten.
    let later = missing(&lab, VENDORS, "2024-06-09T13:30:00Z").await.expect("slots");
    // The first slot of the week has begun before it.
    assert_eq!((later.missing, later.silent.len()), (7 * 24 - 1, 2));
    assert!(later.slots.iter().all(|slot| slot.series == "v/acme/"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cadence_is_learnt_from_what_came() {
    let lab = Lab::with_items().await;
    let feeds = ITEMS.replace("poll_interval", "cadence = \"learn\"\npoll_interval");
    let few = missing(&lab, &feeds, "2024-05-01T00:00:00Z").await.expect("slots");
    assert_eq!((few.cadence, few.missing), (Expectation::TooFew, 0));
    let rows = |step: &str| {
        format!(
            "INSERT INTO keyfall.objects (feed, bucket, key, version, etag, size, series, key_time, visible_at, discovered_by, state)
             SELECT 'items', 'drop', 'items/' || n, 'v', 'v', 1, 'items/', '2024-05-01T00:00:10Z'::timestamptz + {step}, now(), 'sweep', 'pending'
               FROM generate_series(0, 99) n WHERE n NOT IN (50, 51)"
        )
    };
    lab.execute(&rows("n * interval '5 min'")).await;
    // The last one came at 08:15:10.
    let learnt = missing(&lab, &feeds, "2024-05-01T08:25:00Z").await.expect("slots");
    assert_eq!(learnt.cadence, Expectation::Learnt { seconds: 300 });
    let holes: Vec<String> = begins(&learnt).into_iter().map(|(time, _)| time).collect();
    assert_eq!(holes, ["2024-05-01T04:10:00Z", "2024-05-01T04:15:00Z"]);
    assert_eq!(learnt.slots[0].key, "items/2024-05-01-04-");
    assert!(!learnt.slots[0].whole_key);

    lab.execute("TRUNCATE keyfall.objects CASCADE").await;
    lab.execute(&rows("n * interval '5 min' + (n * n % 7) * interval '41 s'")).await;
    let irregular = missing(&lab, &feeds, "2024-05-02T08:25:00Z").await.expect("slots");
    assert_eq!((irregular.cadence, irregular.missing), (Expectation::Irregular, 0));
}

/// A table that nobody has analysed yet is where the planner guesses worst.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_of_a_hundred_thousand_fresh_rows_are_found_by_look_ups() {
    let lab = Lab::with_items().await;
    lab.execute("ALTER TABLE keyfall.objects SET (autovacuum_enabled = false)").await;
    // A minute apart, a hundred objects each, but for every fiftieth minute; and ten series that hold little.
    lab.execute(
        "INSERT INTO keyfall.objects (feed, bucket, key, version, etag, size, series, key_time, visible_at, discovered_by, state)
         SELECT 'items', 'drop', format('items/%s-%s', n, i), 'v', 'v', 1, 'items/',
                '2024-05-01T00:00:00Z'::timestamptz + n * interval '1 min', now(), 'sweep', 'quarantined'
           FROM generate_series(0, 999) n, generate_series(1, 100) i WHERE n % 50 <> 7",
    )
    .await
    ;
    let feeds = ITEMS.replace("poll_interval", "cadence = \"1m\"\npoll_interval");
    let begun = Instant::now();
    let seen = missing(&lab, &feeds, "2024-05-01T16:41:00Z").await.expect("slots");
    assert_eq!((seen.missing, seen.slots.len()), (20, 20));
    let learnt = missing(&lab, &feeds.replace("\"1m\"", "\"learn\""), "2024-05-01T16:41:00Z").await.expect("slots");
    assert_eq!((learnt.cadence, learnt.missing), (Expectation::Learnt { seconds: 60 }, 20));
    // Both take well under a second; reading all rows for each of a thousand slots takes minutes.
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_latest_thousand_slots_are_looked_at() {
    let lab = Lab::with_items().await;
    known(&lab, "items", "items/", &["2024-05-01T00:00:00Z"]).await;
    let feeds = ITEMS.replace("poll_interval", "cadence = \"1m\"\npoll_interval");
    let seen = missing(&lab, &feeds, "2024-05-02T00:00:00Z").await.expect("slots");
    assert_eq!((seen.missing, seen.slots.len()), (1000, 1000));
    let last = at("2024-05-02T00:00:00Z") - SignedDuration::from_mins(2);
    assert_eq!(seen.slots[999].begins, last);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_daemon_says_how_many_slots_are_missing_and_what_the_last_reconcile_left() {
    let lab = Lab::with_items().await;
    let today = Timestamp::now();
    for back in [5, 3] {
        let day = today.checked_sub(SignedDuration::from_hours(24 * back)).expect("a time");
        lab.s3.put(BUCKET, &format!("daily/{}.csv", day.strftime("%Y-%m-%d")), item_body(1, 1));
    }
    let feeds = format!("{}\n[feeds.daily.csv]\nheader = false\n{ITEMS}", DAILY.replace("Europe/Madrid", "UTC"));
    assert_eq!(lab.once(&feeds).await, 0);
    lab.execute("UPDATE keyfall.feeds SET reconciled_at = 'epoch', reconcile_differences = 7 WHERE feed = 'daily'")
        .await;
    let daemon = lab.daemon(&feeds, &["http.listen=127.0.0.1:0", "telemetry.log=info"]);
    daemon.says("serving /livez").await;
    let log = daemon.log();
    let port = log.split("serving /livez").nth(1).and_then(|rest| rest.split("127.0.0.1:").nth(1)).expect("an address");
    let port = port.chars().take_while(char::is_ascii_digit).collect::<String>().parse().expect("a port");
    until("the gauges are there", async || {
        let metrics = fetch(port, "/metrics").await;
        // Four days ago and the day before yesterday; the feed without a cadence says 0.
        [
            "missing_slots{feed=\"daily\"} 2",
            "missing_slots{feed=\"items\"} 0",
            "reconcile_differences{feed=\"daily\"} 7",
            "reconcile_differences{feed=\"items\"} 0",
            "reconciled_timestamp_seconds{feed=\"daily\"} 0",
        ]
        .iter()
        .all(|line| metrics.contains(&format!("\nkeyfall_{line}\n")))
    })
    .await;
}
