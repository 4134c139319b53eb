//! The pattern of a feed's keys, from a listing.
//!
//! A proposal is believed only where [`KeyPattern`] reads it back and takes most of the keys apart into times that can
//! be; keys of another shape are named, not covered.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use crate::domain::pattern::{KeyPattern, KeyTime};

use super::times::{self, Reading};

/// Share of the keys that a pattern has to take, in percent.
const LEAST: usize = 60;
/// Share of the keys by which a finer time may stay behind a coarser one, in percent.
const FINER: usize = 90;
/// What parts of names are separated by.
const MARKS: [char; 5] = ['-', '_', '.', '=', ' '];

/// What keys have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    /// The pattern.
    pub(super) pattern: String,
    /// How many keys it takes.
    pub(super) taken: usize,
    /// Keys of another shape.
    pub(super) others: Vec<String>,
    /// Names of what stands before the time and varies.
    pub(super) captures: Vec<String>,
    /// Whether new keys are found from where the last ones were.
    pub(super) is_ordered: bool,
    /// Newest time.
    pub(super) newest: Option<Timestamp>,
}

/// The shape of most keys; `None` where they carry no time.
pub(super) fn infer(keys: &[&str], now: Timestamp) -> Option<Shape> {
    let mut read: Vec<(&str, Vec<Reading>)> = keys.iter().map(|key| (*key, times::find(key))).collect();
    let mut best: Option<Shape> = None;
    // What does not fit the first choice may be another feed's: the choice with most keys wins, the finer one of two.
    for _ in 0..4 {
        let Some(format) = choose(&read) else { break };
        if let Some(shape) = shape(&read, &format, keys, now)
            && best.as_ref().is_none_or(|best| shape.taken > best.taken)
        {
            best = Some(shape);
        }
        for (_, readings) in &mut read {
            readings.retain(|reading| reading.format != format);
        }
    }
    best.filter(|best| best.taken * 100 >= keys.len() * LEAST)
}

/// The format in which most keys have a time, the finest of those that do not fall behind.
fn choose(read: &[(&str, Vec<Reading>)]) -> Option<String> {
    let mut formats: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for (_, readings) in read {
        let mut seen: Vec<&str> = Vec::new();
        for reading in readings {
            if !seen.contains(&reading.format.as_str()) {
                seen.push(&reading.format);
                formats.entry(&reading.format).or_insert((reading.parts, 0)).1 += 1;
            }
        }
    }
    let most = formats.values().map(|(_, keys)| *keys).max()?;
    let close = formats.iter().filter(|(_, (_, keys))| keys * 100 >= most * FINER);
    close.max_by_key(|(_, (parts, keys))| (*parts, *keys)).map(|(format, _)| (*format).to_owned())
}

/// A key cut at its time.
struct Cut<'k> {
    before: &'k str,
    after: &'k str,
}

fn shape(read: &[(&str, Vec<Reading>)], format: &str, keys: &[&str], now: Timestamp) -> Option<Shape> {
    let (format, cuts) = widened(read, format)?;
    let cuts = most_alike(cuts, |cut| (slashes(cut.before), slashes(cut.after)));
    let mut names = Vec::new();
    let before = before(&cuts.iter().map(|cut| cut.before).collect::<Vec<_>>(), &mut names);
    let after = after(&cuts.iter().map(|cut| cut.after).collect::<Vec<_>>());
    let text = format!("{before}{{time:{format}}}{after}");
    let pattern = KeyPattern::parse(&text, TimeZone::UTC).ok()?;
    let latest = now.checked_add(48.hours()).unwrap_or(now);
    let (mut taken, mut others, mut newest) = (0, Vec::new(), None);
    for key in keys {
        match pattern.matches(key).map(|parts| parts.time) {
            Some(KeyTime::At(time)) if time <= latest => {
                taken += 1;
                newest = newest.max(Some(time));
            }
            _ => others.push((*key).to_owned()),
        }
    }
    let captures = pattern.captures().into_iter().map(str::to_owned).collect();
    Some(Shape { pattern: text, taken, others, captures, is_ordered: pattern.is_ordered(), newest })
}

/// The cuts of all keys that have this format. A coarser time before it, as in `2024/05/06/x-20240506T07.csv`, belongs to
/// it where what stands between them is always the same: keys are found by what comes first.
fn widened<'k>(read: &[(&'k str, Vec<Reading>)], format: &str) -> Option<(String, Vec<Cut<'k>>)> {
    let mut found = Vec::new();
    for (key, readings) in read {
        if let Some(main) = readings.iter().find(|reading| reading.format == format) {
            found.push((*key, readings, main));
        }
    }
    let (key, readings, main) = found.first()?;
    let mut leads: Vec<&Reading> = readings.iter().filter(|lead| lead.range.end < main.range.start).collect();
    leads.sort_by_key(|lead| std::cmp::Reverse(lead.parts));
    for lead in leads {
        let between = key.get(lead.range.end..main.range.start)?;
        if between.contains(['{', '}', '*']) || lead.format.contains("%s") || format.contains("%s") {
            continue;
        }
        let same = |(key, readings, main): &(&'k str, &Vec<Reading>, &Reading)| {
            let lead = readings.iter().find(|own| own.format == lead.format && own.range.end < main.range.start)?;
            (key.get(lead.range.end..main.range.start)? == between)
                .then_some(Cut { before: key.get(..lead.range.start)?, after: key.get(main.range.end..)? })
        };
        let cuts: Vec<Cut<'k>> = found.iter().filter_map(same).collect();
        if cuts.len() * 100 >= found.len() * FINER {
            return Some((format!("{}{}{format}", lead.format, between.replace('%', "%%")), cuts));
        }
    }
    let cut = |(key, _, main): &(&'k str, &Vec<Reading>, &Reading)| {
        Some(Cut { before: key.get(..main.range.start)?, after: key.get(main.range.end..)? })
    };
    Some((format.to_owned(), found.iter().filter_map(cut).collect()))
}

fn slashes(text: &str) -> usize {
    text.matches('/').count()
}

/// The largest group of those that have the same mark.
fn most_alike<T, M: Ord>(items: Vec<T>, mark: impl Fn(&T) -> M) -> Vec<T> {
    let mut groups: BTreeMap<M, Vec<T>> = BTreeMap::new();
    for item in items {
        groups.entry(mark(&item)).or_default().push(item);
    }
    groups.into_values().max_by_key(Vec::len).unwrap_or_default()
}

/// What stands before the time, folder by folder.
fn before(texts: &[&str], names: &mut Vec<String>) -> String {
    let folders: Vec<Vec<&str>> = texts.iter().map(|text| text.split('/').collect()).collect();
    let count = folders.first().map_or(0, Vec::len);
    let mut out = Vec::with_capacity(count);
    for place in 0..count {
        let parts: Vec<&str> = folders.iter().filter_map(|parts| parts.get(place).copied()).collect();
        let Some((head, tail)) = varying(&parts) else {
            out.push(escaped(parts.first().copied().unwrap_or_default()));
            continue;
        };
        let is_last = place + 1 == count;
        let is_empty = parts.iter().any(|part| part.len() == head.len() + tail.len());
        // A name needs something behind it to end at, and at least one character.
        let middle = if is_empty || (is_last && tail.is_empty()) {
            "*".to_owned()
        } else {
            format!("{{{}}}", name(head, names))
        };
        out.push(format!("{}{middle}{}", escaped(head), escaped(tail)));
    }
    out.join("/")
}

/// What stands behind the time: nobody needs a name there.
fn after(texts: &[&str]) -> String {
    let folders: Vec<Vec<&str>> = texts.iter().map(|text| text.split('/').collect()).collect();
    let count = folders.first().map_or(0, Vec::len);
    let part = |place: usize| {
        let parts: Vec<&str> = folders.iter().filter_map(|parts| parts.get(place).copied()).collect();
        match varying(&parts) {
            Some((head, tail)) => format!("{}*{}", escaped(head), escaped(tail)),
            None => escaped(parts.first().copied().unwrap_or_default()),
        }
    };
    (0..count).map(part).collect::<Vec<_>>().join("/")
}

/// What texts that differ begin and end with, up to a mark; `None` where they are all the same.
fn varying<'t>(texts: &[&'t str]) -> Option<(&'t str, &'t str)> {
    let first = *texts.first()?;
    if texts.iter().all(|text| *text == first) {
        return None;
    }
    let common = |text: &&str| first.bytes().zip(text.bytes()).take_while(|(one, other)| one == other).count();
    let head = texts.iter().map(common).min().unwrap_or(0);
    let head = first.get(..head).unwrap_or_default();
    let head = head.rfind(MARKS).map_or("", |mark| head.get(..=mark).unwrap_or_default());
    let rest: Vec<&str> = texts.iter().filter_map(|text| text.get(head.len()..)).collect();
    let first = first.get(head.len()..).unwrap_or_default();
    let common =
        |text: &&str| first.bytes().rev().zip(text.bytes().rev()).take_while(|(one, other)| one == other).count();
    let tail = rest.iter().map(common).min().unwrap_or(0);
    let tail = first.get(first.len() - tail..).unwrap_or_default();
    let tail = tail.find(MARKS).map_or("", |mark| tail.get(mark..).unwrap_or_default());
    Some((head, tail))
}

/// A name for a part: what it is called in the key, as in `vendor=acme`, or a number.
fn name(head: &str, names: &mut Vec<String>) -> String {
    let called: String = head.strip_suffix('=').map(plain).unwrap_or_default();
    let is_usable =
        called.starts_with(|c: char| c.is_ascii_lowercase()) && called != "time" && !names.contains(&called);
    let name = if is_usable { called } else { format!("part{}", names.len() + 1) };
    names.push(name.clone());
    name
}

fn plain(text: &str) -> String {
    let last = text.rsplit(MARKS).next().unwrap_or_default();
    last.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').map(|c| c.to_ascii_lowercase()).collect()
}

fn escaped(text: &str) -> String {
    text.replace('{', "{{").replace('}', "}}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(keys: &[&str], pattern: Option<&str>, taken: usize) {
        let shape = infer(keys, "2025-01-01T00:00:00Z".parse().unwrap());
        assert_eq!(shape.as_ref().map(|shape| shape.pattern.as_str()), pattern, "{keys:?}");
        assert_eq!(shape.map_or(0, |shape| shape.taken), taken, "{keys:?}");
    }

    #[test]
    fn literals_stay_and_what_varies_is_named_before_the_time_only() {
        check(&["departments/2024-01-07.csv"], Some("departments/{time:%Y-%m-%d}.csv"), 1);
        check(
            &["data/2019-06-01-15-17-3-events.json", "data/2019-06-01-15-17-10-events.json"],
            Some("data/{time:%Y-%m-%d-%H-%M-%S}-events.json"),
            2,
        );
        check(
            &["t/design/2024/11/05/142003123456.parquet", "t/staff/2024/11/06/142003123457.parquet"],
            Some("t/{part1}/{time:%Y/%m/%d/%H%M%S%6f}.parquet"),
            2,
        );
        check(
            &["x/vendor=acme/dt=2024-01-31/a1.json.gz", "x/vendor=b-b/dt=2024-02-01/b7.json.gz"],
            Some("x/vendor={vendor}/dt={time:%Y-%m-%d}/*.json.gz"),
            2,
        );
        check(&["l/web-1_20240131.log", "l/web-12_20240131.log"], Some("l/web-{part1}_{time:%Y%m%d}.log"), 2);
        check(&["a{1}/20240131.csv"], Some("a{{1}}/{time:%Y%m%d}.csv"), 1);
    }

    #[test]
    fn folders_of_days_are_read_together_with_the_finer_time_below() {
        check(
            &["e/2024/05/06/e-20240506T0708.csv", "e/2024/05/07/e-20240507T0910.csv"],
            Some("e/{time:%Y/%m/%d/e-%Y%m%dT%H%M}.csv"),
            2,
        );
    }

    #[test]
    fn numbers_of_parts_are_not_taken_for_hours() {
        check(&["p/2024-05-06-1.csv", "p/2024-05-06-2.csv", "p/2024-05-06-31.csv"], Some("p/{time:%Y-%m-%d}-*.csv"), 3);
    }

    #[test]
    fn other_keys_are_named_and_no_time_is_no_pattern() {
        let keys = ["a/2024-01-01.csv", "a/2024-01-02.csv", "a/2024-01-03.csv", "a/README"];
        let shape = infer(&keys, Timestamp::now()).unwrap();
        assert_eq!((shape.taken, shape.others.as_slice()), (3, &["a/README".to_owned()][..]));
        assert!(shape.is_ordered);
        check(&["a/employees.csv", "a/jobs.csv"], None, 0);
        check(&["a/2124-01-01.csv"], None, 0);
        check(&[], None, 0);
    }
}
