//! F66, F74, F75: listings that are refused, wrong, no listings at all, or very long.

use std::time::Instant;

use ::keyfall::demo::s3::{Action, Canned, FaultRule, Gate, Operation};

use super::{count_state, struck};
use crate::case::{Case, Report, Trial};
use crate::lab::{BUCKET, Disposal, Lab, Settings, key, within};

/// Keys of the large listing.
const MANY: usize = 200_000;
/// Keys of a day.
const DAY: usize = 86_400;
/// Keys on one page.
const PAGE: usize = 1000;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("F66", "LIST is throttled, repeats itself, is empty, unsorted, never ends", odd_pages),
        Case::new(
            "F66-unsorted",
            "a store that does not list in byte order: a late key long before the look-back",
            unsorted,
        ),
        Case::new("F74", "LIST answers broken XML, proxies' pages, 5 MB of error, compressed bytes", no_listing),
        Case::new("F74-get", "GET and DELETE answer a proxy's page", no_object),
        Case::new("F75", "200 000 keys at the first start", many_keys).alone(),
    ]
}

/// The first sweep is the only one who lists at first, so the n-th LIST call is the n-th page asked for.
async fn odd_pages(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..12, 20);
    let list = |action| FaultRule::on(Operation::ListObjects, action);
    let small = lab.s3.inject(list(Action::PageOf(3)));
    lab.expect_s3_any("pages of three", &small);
    let throttled = lab.s3.inject(list(Action::Status(503, "SlowDown")).times(5));
    lab.expect_s3("SlowDown", &throttled, 5);
    for (name, action, nth) in [
        ("last key again on the next page", Action::Overlap, 6),
        ("empty page", Action::EmptyPage, 7),
        ("unsorted page", Action::Unsorted, 8),
        ("key twice on one page", Action::Twice, 9),
    ] {
        let injected = lab.s3.inject(list(action).from_hit(nth).times(1));
        lab.expect_s3(name, &injected, 1);
    }
    // For ever: a sweep that believed it would never end, and never rest.
    let repeated = lab.s3.inject(list(Action::RepeatToken).from_hit(10));
    let mut keyfall = lab.keyfall("a", &Settings::new(Disposal::Keep));
    keyfall.start();
    keyfall.says("continuation token").await;
    struck(&repeated, 2).await;
    lab.expect_s3_any("repeated token", &repeated);
    lab.until_state("loaded", 8).await;
    // One page and one refusal for each try, with a pause between tries that doubles.
    assert!(repeated.hits() < 20, "{} pages of a listing that never ends", repeated.hits());
    assert_eq!(count_state(&lab, "quarantined").await, 0);
    lab.verify(&mut [&mut keyfall]).await
}

async fn unsorted(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(10 * DAY..10 * DAY + 3, 20);
    let reversed = lab.s3.inject(FaultRule::on(Operation::ListObjects, Action::Unsorted).times(1));
    lab.expect_s3("unsorted page", &reversed, 1);
    let feed = "lookback = \"10s\"\nlookback_interval = \"300ms\"".to_owned();
    let mut keyfall = lab.keyfall("a", &Settings { feed, ..Settings::new(Disposal::Keep) });
    keyfall.start();
    lab.until_state("loaded", 3).await;
    keyfall.says("does not list keys in byte order").await;
    lab.put(DAY..DAY + 1, 20);
    let by_poll = "SELECT count(*) FROM keyfall.objects WHERE discovered_by = 'poll' AND state = 'loaded'";
    lab.until_count(by_poll, 1).await;
    assert_eq!(keyfall.log().matches("in byte order").count(), 1, "warned again");
    lab.verify(&mut [&mut keyfall]).await
}

async fn no_listing(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    let settings = Settings { s3: "max_attempts = 1".to_owned(), ..Settings::new(Disposal::Delete) };
    let mut keyfall = lab.keyfall("a", &settings);
    lab.put(0..1, 20);
    keyfall.start();
    lab.until_state("loaded", 1).await;
    let cut = "<?xml version=\"1.0\"?><ListBucketResult><Name>drop</Name><Contents><Key>incoming/2024-05";
    let page = "<!DOCTYPE html><html><head><title>Log in</title></head><body>Welcome<br></body></html>";
    let huge = format!("<Error><Code>InternalError</Code><Message>{}</Message></Error>", "x".repeat(5 << 20));
    let answers = [
        ("cut XML", Action::Instead(Canned::new(200, "application/xml", cut))),
        ("no XML at all", Action::Instead(Canned::new(200, "application/xml", "\0\u{1}<<<&&&"))),
        ("empty answer", Action::Instead(Canned::new(200, "application/xml", ""))),
        ("another document", Action::Instead(Canned::new(200, "application/xml", "<Other></Other>"))),
        ("proxy's page", Action::Instead(Canned::new(200, "text/html", page))),
        ("proxy's page under 503", Action::Instead(Canned::new(503, "text/html", page))),
        ("proxy's page under 403", Action::Instead(Canned::new(403, "text/html", page))),
        ("5 MB of error", Action::Instead(Canned::new(500, "application/xml", huge))),
        ("compressed listing", Action::Gzip),
    ];
    for (number, (name, action)) in answers.into_iter().enumerate() {
        let number = number + 1;
        let injected = lab.s3.inject(FaultRule::on(Operation::ListObjects, action).times(2));
        let said = keyfall.log().matches("the bucket cannot be listed").count();
        lab.put(number..number + 1, 20);
        struck(&injected, 2).await;
        lab.until_state("loaded", i64::try_from(number + 1).expect("small")).await;
        lab.expect_s3(name, &injected, 2);
        let said = keyfall.log().matches("the bucket cannot be listed").count() - said;
        assert_eq!(said, 2, "{name} was taken for a listing");
    }
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects").await, 10);
    let longest = keyfall.log().lines().map(str::len).max().unwrap_or(0);
    assert!(longest < 4096, "a line of {longest} bytes in the log");
    lab.verify(&mut [&mut keyfall]).await
}

async fn no_object(trial: Trial) -> Report {
    let mut lab = Lab::start(&trial).await;
    lab.put(0..4, 20);
    let page = "<!DOCTYPE html><html><head><title>Log in</title></head><body>Welcome<br></body></html>";
    let on_get = |number, answer| FaultRule::on(Operation::GetObject, Action::Instead(answer)).key(key(number));
    // More often than an object is suspected before it is quarantined.
    let login = lab.s3.inject(on_get(0, Canned::new(200, "text/html", page)).times(8));
    lab.expect_s3("GET: proxy's page", &login, 8);
    let gateway = lab.s3.inject(on_get(1, Canned::new(502, "text/html", page)).times(8));
    lab.expect_s3("GET: proxy's page under 502", &gateway, 8);
    let huge = "x".repeat(5 << 20);
    let huge = lab.s3.inject(on_get(2, Canned::new(500, "text/plain", huge)).times(2));
    lab.expect_s3("GET: 5 MB of error", &huge, 2);
    // The first question is whether the store honours conditions; the second is the deletion.
    let delete = FaultRule::on(Operation::DeleteObjects, Action::Instead(Canned::new(200, "text/html", page)));
    let delete = lab.s3.inject(delete.from_hit(2).times(1));
    lab.expect_s3("DELETE: proxy's page", &delete, 1);
    let settings = Settings {
        s3: "max_attempts = 1".to_owned(),
        workers: "group_objects = 1\nretry_min = \"50ms\"\nretry_max = \"100ms\"".to_owned(),
        ..Settings::new(Disposal::Delete)
    };
    let mut keyfall = lab.keyfall("a", &settings);
    keyfall.start();
    super::until_ended(&lab, 4).await;
    assert_eq!(count_state(&lab, "quarantined").await, 0, "objects were blamed for a proxy");
    lab.verify(&mut [&mut keyfall]).await
}

/// Not verified like the others: most objects are still pending when it ends.
async fn many_keys(trial: Trial) -> Report {
    let lab = Lab::start(&trial).await;
    for n in 0..MANY {
        lab.s3.put(BUCKET, &key(n), format!("{n},0,n,1.10\n"));
    }
    let gate = Gate::new();
    let half = MANY / PAGE / 2;
    let rule = FaultRule::on(Operation::ListObjects, Action::Hold(gate.clone())).from_hit(half as u64 + 1).times(1);
    let held = lab.s3.inject(rule);
    // One worker: the case is about listing, and listing and loading share two cores.
    let settings = Settings {
        feed: "poll_interval = \"1h\"".to_owned(),
        workers: "max = 1\ngroup_objects = 8".to_owned(),
        ..Settings::new(Disposal::Keep)
    };
    let mut keyfall = lab.keyfall("a", &settings);
    let begun = Instant::now();
    keyfall.start();
    within("half of the pages are listed", gate.reached()).await;
    let first = "SELECT least(count(*), 1) FROM keyfall.objects WHERE state = 'loaded'";
    lab.until_count(first, 1).await;
    let half_way = keyfall.memory();
    gate.open();
    keyfall.says("swept").await;
    assert_eq!(lab.count("SELECT count(*) FROM keyfall.objects").await, i64::try_from(MANY).expect("a count"));
    assert_eq!(held.hits(), 1);
    let swept = begun.elapsed();
    let end = keyfall.memory();
    let peak = keyfall.peak_memory();
    let calls = lab.s3.log().iter().filter(|entry| entry.op == Operation::ListObjects).count();
    // The poll that follows the sweep begins at the newest key.
    assert!((MANY / PAGE..=MANY / PAGE + 2).contains(&calls), "{calls} LIST calls for {} pages", MANY / PAGE);
    assert!(end < half_way + 32 * 1024, "{half_way} KiB half-way, {end} KiB at the end: memory grows with the keys");
    assert!(peak < lab.memory_limit, "{peak} KiB resident");
    keyfall.stop().await;
    let loaded = count_state(&lab, "loaded").await;
    assert_eq!(lab.count("SELECT count(DISTINCT object) FROM items").await, loaded);
    assert_eq!(lab.count("SELECT count(*) FROM items").await, loaded);
    assert_eq!(count_state(&lab, "pending").await, i64::try_from(MANY).expect("a count") - loaded);
    let first = "SELECT extract(epoch FROM min(loaded_at) - min(discovered_at))::float8 FROM keyfall.objects";
    let first: f64 = lab.query(first).await.first().expect("one row").get(0);
    assert!(first < 10.0, "the first object was loaded {first} s after it was found");
    Report {
        hits: vec![("LIST held half-way".to_owned(), held.hits())],
        note: format!(
            "first loaded {first:.1} s after it was found, swept after {:.1} s with {calls} LIST calls and {loaded} loaded, {} MiB half-way, \
             {} MiB at the end, {} MiB at most",
            swept.as_secs_f64(),
            half_way / 1024,
            end / 1024,
            peak / 1024
        ),
    }
}
