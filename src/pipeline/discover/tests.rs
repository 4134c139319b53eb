//! Discovery against a model of a bucket: random histories of late arrivals, held objects, listings that die half-way
//! and restarts. The bounds are the real ones; bucket and ledger are sets.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::bound::{self, Frontiers, Range, Reach};
use super::judge;
use crate::config::feed::Feed;
use crate::domain::object::Listed;
use crate::domain::pattern::KeyPattern;
use crate::fuzzing::fixture;
use crate::store::ledger::{SeriesPosition, Sweeps};

const LOOKBACK: SignedDuration = SignedDuration::from_hours(1);

/// Patterns with the prefixes that may be listed for them: one series and several, free and fixed widths.
const PATTERNS: [(&str, &[&str]); 5] = [
    ("feed/{time:%Y-%m-%d-%H-%M-%S}.csv", &["feed/", "", "feed/2024"]),
    ("feed/{vendor}/{time:%Y-%m-%d-%H-%M-%S}.csv", &["feed/", ""]),
    ("feed/{vendor}/x/{kind}/{time:%Y/%m/%d/%H%M%S}-x.csv", &["feed/"]),
    ("{time:%Y_%m_%d_%H_%M_%S}", &["", "2024_"]),
    ("feed/{time:%Y.%j.%H:%M:%S}.csv", &["feed/"]),
];

/// An object on its way into the bucket.
#[derive(Debug, Clone)]
struct Put {
    /// Stands for the captures.
    series: u8,
    /// Seconds that its time lies before the clock; some clocks run ahead.
    behind: i64,
    /// Which parts of its time are written without leading zeros.
    bare: Vec<bool>,
}

/// How a listing goes.
#[derive(Debug, Clone)]
struct Pages {
    size: usize,
    /// The process dies after so many pages, before it asks for another.
    dies_after: Option<usize>,
    /// Arrive one by one after each page.
    meanwhile: Vec<Put>,
}

#[derive(Debug, Clone)]
enum Op {
    Tick(i64),
    Arrive(Put),
    /// A key of another shape, or with an impossible time.
    Stray(u8),
    Poll(Pages),
    LookBack(Pages),
    Sweep(Pages),
    /// A discovered object becomes terminal; what stays open holds the frontier back.
    Finish(prop::sample::Index),
    /// An operator retries it.
    Reopen(prop::sample::Index),
    Restart,
}

fn puts() -> impl Strategy<Value = Put> {
    let behind = prop_oneof![
        4 => 0..60_i64,
        4 => 0..3600_i64,
        2 => 3500..3700_i64,
        2 => 0..200_000_i64,
        1 => -4000..0_i64,
        1 => -2_000_000..0_i64,
    ];
    (0..3_u8, behind, prop::collection::vec(any::<bool>(), 6)).prop_map(|(series, behind, bare)| Put {
        series,
        behind,
        bare,
    })
}

fn pages() -> impl Strategy<Value = Pages> {
    (1..6_usize, prop::option::weighted(0.2, 1..4_usize), prop::collection::vec(puts(), 0..3))
        .prop_map(|(size, dies_after, meanwhile)| Pages { size, dies_after, meanwhile })
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        3 => prop_oneof![0..120_i64, 0..7200_i64].prop_map(Op::Tick),
        8 => puts().prop_map(Op::Arrive),
        1 => any::<u8>().prop_map(Op::Stray),
        4 => pages().prop_map(Op::Poll),
        3 => pages().prop_map(Op::LookBack),
        1 => pages().prop_map(Op::Sweep),
        4 => any::<prop::sample::Index>().prop_map(Op::Finish),
        1 => any::<prop::sample::Index>().prop_map(Op::Reopen),
        1 => Just(Op::Restart),
    ];
    prop::collection::vec(op, 1..80)
}

/// A feed, and the clock its keys follow.
fn feeds() -> impl Strategy<Value = (Feed, &'static str)> {
    let pattern = prop::sample::select(PATTERNS.to_vec()).prop_flat_map(|(text, prefixes)| {
        (Just(text), prop::sample::select(prefixes.to_vec()), prop::sample::select(vec!["UTC", "Europe/Berlin"]))
    });
    (pattern, prop::option::weighted(0.2, 0..100_000_i64)).prop_map(|((text, prefix, zone), start)| {
        let feed = Feed {
            prefix: prefix.to_owned(),
            pattern: Some(KeyPattern::parse(text, TimeZone::get(zone).unwrap()).unwrap()),
            start_from: start.map(|seconds| begin() - SignedDuration::from_secs(seconds)),
            lookback: LOOKBACK.unsigned_abs(),
            ..fixture::feed()
        };
        (feed, zone)
    })
}

/// Midday, with two days behind it: keys of all histories lie in one year.
fn begin() -> Timestamp {
    "2024-06-10T12:00:00Z".parse().unwrap()
}

/// A key as a producer writes it: a free part with or without its leading zeros.
fn render(pattern: &KeyPattern, zone: &str, put: &Put, time: Timestamp) -> String {
    let text = pattern.as_str().replace("{vendor}", ["a", "b_2", "b"][usize::from(put.series)]);
    let text = text.replace("{kind}", "k").replace("{time:", "").replace('}', "");
    let mut bare = put.bare.iter().copied().cycle();
    let mut format = String::new();
    let mut parts = text.split('%');
    format.extend(parts.next());
    for part in parts {
        // A part ends in what follows its letter; where nothing does, the next part or the end.
        let is_last = text.ends_with(part);
        let free = part.chars().nth(1).map_or(is_last, |next| !next.is_ascii_digit());
        let short = !part.starts_with('Y') && free && bare.next().unwrap();
        format = format + if short { "%-" } else { "%" } + part;
    }
    time.in_tz(zone).unwrap().strftime(&format).to_string()
}

/// What lies in the bucket.
#[derive(Debug, Clone)]
struct Object {
    series: String,
    time: Option<Timestamp>,
    /// How far behind the newest key known of its series it was when it arrived, by what the next look-back goes by.
    late: SignedDuration,
    /// In which process's life it arrived.
    life: u32,
}

#[derive(Debug, Clone)]
struct Entry {
    series: String,
    time: Option<Timestamp>,
    open: bool,
}

struct World {
    feed: Feed,
    zone: &'static str,
    now: Timestamp,
    life: u32,
    before: Frontiers,
    bucket: BTreeMap<String, Object>,
    ledger: BTreeMap<String, Entry>,
}

impl World {
    fn new((feed, zone): (Feed, &'static str)) -> Self {
        Self {
            feed,
            zone,
            now: begin(),
            life: 0,
            before: Frontiers::new(),
            bucket: BTreeMap::new(),
            ledger: BTreeMap::new(),
        }
    }

    fn pattern(&self) -> KeyPattern {
        self.feed.pattern.clone().unwrap()
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Tick(seconds) => self.now += SignedDuration::from_secs(*seconds),
            Op::Arrive(put) => self.arrive(put),
            Op::Stray(which) => {
                let keys = ["feed/readme.txt", "feed/2024-13-01-00-00-00.csv", "feed/", "2024_6_31_0_0_0"];
                self.upload(keys[usize::from(*which) % keys.len()].to_owned());
            }
            Op::Poll(pages) => self.poll(Reach::Tip, pages),
            Op::LookBack(pages) => self.poll(Reach::LookBack(LOOKBACK.unsigned_abs()), pages),
            Op::Sweep(pages) => self.sweep(pages),
            Op::Finish(which) => self.set(*which, true),
            Op::Reopen(which) => self.set(*which, false),
            Op::Restart => self.restart(),
        }
    }

    fn restart(&mut self) {
        self.before.clear();
        self.life += 1;
    }

    fn arrive(&mut self, put: &Put) {
        let time = self.now - SignedDuration::from_secs(put.behind);
        self.upload(render(&self.pattern(), self.zone, put, time));
    }

    fn upload(&mut self, key: String) {
        let found = judge(&self.feed, listed(&key));
        let mut newest = self.position(&found.series).newest;
        if !self.before.contains_key(&found.series) {
            // Until its first poll a process has not noted where the series stands: a key from the future may be the newest
            // one by then.
            let mine = self.ledger.values().filter(|entry| entry.series == found.series);
            newest = newest.max(mine.filter_map(|entry| entry.time).max());
        }
        let late =
            found.key_time.zip(newest).map_or(SignedDuration::ZERO, |(time, newest)| newest.duration_since(time));
        let object = Object { series: found.series, time: found.key_time, late, life: self.life };
        self.bucket.entry(key).or_insert(object);
    }

    /// An open object becomes terminal, or a terminal one open.
    fn set(&mut self, which: prop::sample::Index, open: bool) {
        let mut such: Vec<_> = self.ledger.values_mut().filter(|entry| entry.open == open).collect();
        if !such.is_empty() {
            which.get_mut(&mut such).open = !open;
        }
    }

    /// What the ledger would answer.
    fn position(&self, series: &str) -> SeriesPosition {
        let entries = self.ledger.values().filter(|entry| entry.series == series);
        SeriesPosition {
            series: series.to_owned(),
            newest: entries.clone().filter_map(|entry| entry.time).filter(|time| *time <= self.now).max(),
            oldest_open: entries.filter(|entry| entry.open).filter_map(|entry| entry.time).min(),
        }
    }

    /// The series that delimiter listing finds.
    fn series(&self) -> Vec<String> {
        let pattern = self.pattern();
        let mut heads = BTreeSet::from([pattern.series_root().to_owned()]);
        for level in pattern.series_levels() {
            let child = |head: &String, key: &String| {
                let (name, _) = key.strip_prefix(head.as_str())?.split_once(level.delimiter)?;
                Some(level.below(&format!("{head}{name}{}", level.delimiter)))
            };
            heads = heads.iter().flat_map(|head| self.bucket.keys().filter_map(move |key| child(head, key))).collect();
        }
        heads.into_iter().collect()
    }

    /// Lists into the ledger; false where the process died before the end.
    fn list(&mut self, range: &Range, left: &mut Option<usize>, pages: &Pages) -> bool {
        let mut after = range.start_after.clone().unwrap_or_default();
        let mut meanwhile = pages.meanwhile.iter();
        loop {
            let beyond = self.bucket.keys().filter(|key| **key > after && key.starts_with(&range.prefix));
            let page: Vec<String> = beyond.take(pages.size).cloned().collect();
            for key in &page {
                let found = judge(&self.feed, listed(key));
                let entry = Entry { series: found.series, time: found.key_time, open: found.skip.is_none() };
                self.ledger.entry(key.clone()).or_insert(entry);
            }
            let Some(last) = page.last().filter(|_| page.len() == pages.size) else { return true };
            after.clone_from(last);
            if left.as_mut().is_some_and(|left| std::mem::replace(left, left.saturating_sub(1)) <= 1) {
                self.restart();
                return false;
            }
            if let Some(put) = meanwhile.next() {
                self.arrive(put);
            }
        }
    }

    fn sweep(&mut self, pages: &Pages) {
        let there = self.bucket.clone();
        if self.list(&bound::everything(&self.feed), &mut { pages.dies_after }, pages) {
            self.knows("the sweep is over", &there, |_| true);
        }
    }

    fn poll(&mut self, reach: Reach, pages: &Pages) {
        let (there, pattern, life) = (self.bucket.clone(), self.pattern(), self.life);
        let positions: Vec<_> = self.series().iter().map(|series| self.position(series)).collect();
        let mut left = pages.dies_after;
        for position in &positions {
            let range = bound::poll(&self.feed, &pattern, reach, position, &self.before);
            self.check_bound(reach, &range, position);
            if !self.list(&range, &mut left, pages) {
                return;
            }
            bound::remember(&mut self.before, reach, position);
        }
        let newest = |object: &Object| {
            positions.iter().find(|position| position.series == object.series).and_then(|position| position.newest)
        };
        self.knows("the tip was polled", &there, |object| {
            object.time.is_some_and(|time| newest(object).is_none_or(|newest| time >= newest))
        });
        if matches!(reach, Reach::LookBack(_)) {
            self.knows("a look-back, late by what is known now", &there, |object| {
                let late = object.time.zip(newest(object)).map(|(time, newest)| newest.duration_since(time));
                object.time.is_some() && late.is_none_or(|late| late < LOOKBACK)
            });
            let now = self.now;
            self.knows("a look-back, late by the clock", &there, |object| {
                object.time.is_some_and(|time| now.duration_since(time) < LOOKBACK)
            });
            self.knows("a look-back, late by what was known on arrival", &there, |object| {
                object.time.is_some() && object.life == life && object.late < LOOKBACK
            });
        }
    }

    fn check_bound(&self, reach: Reach, range: &Range, position: &SeriesPosition) {
        let Some(bound) = &range.start_after else { return };
        if reach == Reach::Tip {
            return;
        }
        for (key, entry) in self.ledger.iter().filter(|(_, entry)| entry.open && entry.series == position.series) {
            assert!(entry.time.is_none() || key > bound, "the bound {bound} lies past {key}, which is not terminal");
        }
        let Some(frontier) = position.frontier() else { return };
        // What lies before `start_from` is not wanted.
        let from = (frontier - LOOKBACK).max(self.feed.start_from.unwrap_or(Timestamp::MIN));
        for bare in [false, true] {
            let put = Put { series: 0, behind: 0, bare: vec![bare] };
            let vendors = ["feed/b_2/", "feed/b/"].iter().position(|head| position.series.starts_with(head));
            let put = Put { series: vendors.map_or(0, |at| u8::try_from(at).unwrap() + 1), ..put };
            let key = render(&self.pattern(), self.zone, &put, from);
            assert!(key > *bound, "the bound {bound} lies past {key}, which is the look-back before the frontier");
        }
    }

    /// Asserts that every object of these that is wanted is in the ledger.
    fn knows(&self, when: &str, there: &BTreeMap<String, Object>, wanted: impl Fn(&Object) -> bool) {
        let early = |object: &Object| object.time.zip(self.feed.start_from).is_some_and(|(time, start)| time < start);
        let inside = |key: &String| key.starts_with(&self.feed.prefix);
        // Below the feed's own beginning nothing is listed where it starts at a time; nothing there has the shape.
        let shaped = |key: &String, object: &Object| {
            object.time.is_some() || self.feed.start_from.is_none() || {
                bound::everything(&self.feed).start_after.is_none_or(|start| *key > start)
            }
        };
        for (key, object) in there.iter().filter(|(_, object)| wanted(object) && !early(object)) {
            if inside(key) && shaped(key, object) {
                assert!(self.ledger.contains_key(key), "{when}, but {key} is not known (late by {:?})", object.late);
            }
        }
    }
}

fn listed(key: &str) -> Listed {
    let etag = "e".to_owned();
    Listed { key: key.to_owned(), etag, size: 1, last_modified: begin(), storage_class: None }
}

proptest! {
    #[test]
    fn no_history_hides_an_object_from_the_look_that_must_find_it(feed in feeds(), ops in ops()) {
        let mut world = World::new(feed);
        for op in &ops {
            world.run(op);
        }
        let pages = Pages { size: 3, dies_after: None, meanwhile: Vec::new() };
        world.sweep(&pages);
    }

    #[test]
    fn a_sweep_is_due_when_anything_may_have_been_missed(
        gap: bool,
        seconds_since in prop::option::of(0.0..200_000.0_f64),
    ) {
        let wait = bound::until_sweep(Duration::from_hours(24), Sweeps { seconds_since, gap });
        let over = seconds_since.is_none_or(|seconds| seconds >= 86_400.0);
        prop_assert_eq!(wait.is_none(), gap || over);
        if let Some((wait, since)) = wait.zip(seconds_since) {
            prop_assert!((wait.as_secs_f64() + since - 86_400.0).abs() < 0.001, "{:?} after {}", wait, since);
        }
    }

    #[test]
    fn polls_wait_for_a_tenth_of_the_time_since_the_last_find_within_their_bounds(
        since in 0..10_000_u64, least in 1..20_u64, more in 0..100_u64,
    ) {
        let feed = Feed {
            poll_interval: Duration::from_secs(least),
            poll_interval_max: Duration::from_secs(least + more),
            ..fixture::feed()
        };
        let wait = bound::until_poll(&feed, Duration::from_secs(since));
        prop_assert!(wait >= feed.poll_interval && wait <= feed.poll_interval_max);
        let tenth = Duration::from_millis(since * 100);
        if wait > feed.poll_interval && wait < feed.poll_interval_max {
            prop_assert_eq!(wait, tenth);
        }
        prop_assert!(wait <= feed.poll_interval || wait <= tenth);
        prop_assert_eq!(bound::until_poll(&feed, Duration::ZERO), feed.poll_interval, "found: back to the shortest");
    }

    #[test]
    fn the_look_back_reaches_twice_as_far_as_objects_were_late_within_its_bounds(
        lateness in prop::option::of(0.0..1e9_f64), least in 1..100_000_u64, more in 0..100_000_u64,
    ) {
        let feed = Feed {
            lookback: Duration::from_secs(least),
            lookback_max: Duration::from_secs(least + more),
            ..fixture::feed()
        };
        let distance = bound::lookback(&feed, lateness);
        prop_assert!(distance >= feed.lookback && distance <= feed.lookback_max);
        if distance < feed.lookback_max {
            prop_assert!(lateness.is_none_or(|lateness| distance.as_secs_f64() >= 2.0 * lateness - 0.001));
        }
        if distance > feed.lookback && distance < feed.lookback_max {
            prop_assert!((distance.as_secs_f64() - 2.0 * lateness.unwrap()).abs() < 0.001);
        }
    }

    /// One object late, everything terminal, the tip far ahead: the look-back that follows the lateness finds it.
    #[test]
    fn an_object_late_by_less_than_the_look_back_is_found(
        (feed, zone) in feeds(),
        lateness in prop::option::of(1.0..40_000.0_f64),
        late in 1..100_000_i64,
        bare: bool,
    ) {
        let feed = Feed { start_from: None, lookback_max: Duration::from_hours(24), ..feed };
        let distance = bound::lookback(&feed, lateness);
        let mut world = World::new((feed, zone));
        let pages = Pages { size: 3, dies_after: None, meanwhile: Vec::new() };
        let put = |behind| Op::Arrive(Put { series: 0, behind, bare: vec![bare] });
        for op in [put(0), Op::Poll(pages.clone()), put(late)] {
            world.run(&op);
            world.ledger.values_mut().for_each(|entry| entry.open = false);
        }
        let inside = world.bucket.keys().filter(|key| key.starts_with(&world.feed.prefix)).count();
        world.poll(Reach::LookBack(distance), &pages);
        if Duration::from_secs(late.unsigned_abs()) < distance {
            prop_assert_eq!(world.ledger.len(), inside, "late by {} s, looked back {:?}", late, distance);
        }
    }
}

#[test]
fn look_backs_bear_any_lateness() {
    let feed = Feed { lookback_max: Duration::from_hours(24), ..fixture::feed() };
    for lateness in [f64::MAX, f64::INFINITY, f64::NAN] {
        assert_eq!(bound::lookback(&feed, Some(lateness)), feed.lookback_max);
    }
    assert_eq!(bound::lookback(&feed, Some(-1.0)), feed.lookback_max, "no lateness is negative: look far");
}

/// The shortest history that the model found when each look-back began at the frontier of its own moment.
#[test]
fn an_object_that_came_before_the_tip_moved_on_is_found_by_the_next_look_back() {
    let feed = Feed {
        prefix: "feed/".to_owned(),
        pattern: Some(KeyPattern::parse(PATTERNS[0].0, TimeZone::UTC).unwrap()),
        lookback: LOOKBACK.unsigned_abs(),
        ..fixture::feed()
    };
    let mut world = World::new((feed, "UTC"));
    let pages = Pages { size: 3, dies_after: None, meanwhile: Vec::new() };
    let arrive = |behind| Op::Arrive(Put { series: 0, behind, bare: vec![false] });
    let first = [arrive(0), Op::Poll(pages.clone()), Op::Poll(pages.clone())];
    let then = [arrive(3500), Op::Tick(110), arrive(0), Op::Poll(pages.clone()), Op::LookBack(pages)];
    for op in first.iter().chain(&then) {
        world.run(op);
        // Everything is loaded at once: nothing holds the frontier back.
        world.ledger.values_mut().for_each(|entry| entry.open = false);
    }
    assert_eq!(world.ledger.len(), 3);
}

#[test]
fn a_series_of_which_nothing_is_known_is_listed_from_its_first_key() {
    let feed = Feed { lookback: LOOKBACK.unsigned_abs(), ..fixture::feed() };
    let pattern = KeyPattern::parse("{time:%Y%m%d}", TimeZone::UTC).unwrap();
    let position = SeriesPosition { series: String::new(), newest: None, oldest_open: None };
    for reach in [Reach::Tip, Reach::LookBack(feed.lookback)] {
        let range = bound::poll(&feed, &pattern, reach, &position, &Frontiers::new());
        assert_eq!(range, Range { prefix: String::new(), start_after: None });
    }
}
