//! Times in keys: where one may stand, and in which format of DESIGN's patterns it is written.
//!
//! Every reading that makes sense is offered; which one is meant only all keys together can tell.

use std::ops::Range;

/// A text that reads as a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reading {
    /// Where.
    pub(super) range: Range<usize>,
    /// In which format.
    pub(super) format: String,
    /// How many parts of a time it has.
    pub(super) parts: usize,
}

/// What may stand between the parts of a date.
const DATE_MARKS: [&str; 5] = ["-", "/", "_", ".", ""];
/// What may stand between date and time of day.
const MIDDLES: [&str; 9] = ["T", "t", "-", "_", "/", " ", ".", "", "%20"];
/// What may stand between the parts of a time of day.
const CLOCK_MARKS: [&str; 6] = ["-", ":", "_", ".", "/", ""];
/// What may stand before a fraction of a second.
const FRACTION_MARKS: [&str; 5] = [".", ",", "-", "_", ""];

/// Every reading of every place in a key.
pub(super) fn find(key: &str) -> Vec<Reading> {
    let bytes = key.as_bytes();
    let mut found = Vec::new();
    for start in 0..bytes.len() {
        let before = start.checked_sub(1).and_then(|before| bytes.get(before));
        if before.is_some_and(u8::is_ascii_digit) || !bytes.get(start).is_some_and(u8::is_ascii_digit) {
            continue;
        }
        let mut readings = dates(key, start);
        readings.extend(epoch(key, start));
        found.extend(readings.into_iter().filter(|reading| !found.contains(reading)).collect::<Vec<_>>());
    }
    found
}

/// Seconds or milliseconds since 1970 that lie between 2001 and 2100.
fn epoch(key: &str, start: usize) -> Option<Reading> {
    let digits = digits_at(key, start);
    let format = match digits.len() {
        10 => "%s",
        13 => "%s%3f",
        _ => return None,
    };
    let seconds: u64 = digits.get(..10)?.parse().ok()?;
    let is_likely = (1_000_000_000..4_102_444_800).contains(&seconds);
    is_likely.then(|| Reading { range: start..start + digits.len(), format: format.to_owned(), parts: 1 })
}

/// A reading that grows part by part.
#[derive(Clone)]
struct Growing<'k> {
    key: &'k str,
    at: usize,
    format: String,
    parts: usize,
}

impl<'k> Growing<'k> {
    fn rest(&self) -> &'k str {
        self.key.get(self.at..).unwrap_or_default()
    }

    /// With this text behind it.
    fn mark(&self, mark: &str) -> Option<Self> {
        self.rest().starts_with(mark).then(|| Self {
            at: self.at + mark.len(),
            format: format!("{}{}", self.format, mark.replace('%', "%%")),
            ..self.clone()
        })
    }

    /// With `/month=` or the like behind it.
    fn labelled(&self) -> Option<Self> {
        let label: String = self.rest().strip_prefix('/')?.chars().take_while(char::is_ascii_alphabetic).collect();
        if label.is_empty() {
            return None;
        }
        self.mark(&format!("/{label}="))
    }

    /// With a part of two digits behind it; of one where it may lack its zero.
    fn part(&self, directive: &str, range: Range<u32>, joined: bool) -> Option<Self> {
        let digits = digits_at(self.key, self.at);
        let length = if joined { 2 } else { digits.len() };
        if !(1..=2).contains(&length) || (joined && digits.len() < 2) {
            return None;
        }
        let value: u32 = digits.get(..length)?.parse().ok()?;
        range.contains(&value).then(|| self.plus(directive, length))
    }

    fn plus(&self, directive: &str, length: usize) -> Self {
        let format = format!("{}{directive}", self.format);
        Self { key: self.key, at: self.at + length, format, parts: self.parts + 1 }
    }

    /// Whether the digits end here.
    fn is_closed(&self) -> bool {
        !self.rest().starts_with(|next: char| next.is_ascii_digit())
    }
}

fn digits_at(key: &str, start: usize) -> &str {
    let rest = key.get(start..).unwrap_or_default();
    let end = rest.bytes().take_while(u8::is_ascii_digit).count();
    rest.get(..end).unwrap_or_default()
}

/// Readings that begin with a year, or with a day where the year comes last.
fn dates(key: &str, start: usize) -> Vec<Reading> {
    let mut found = Vec::new();
    let mut keep = |growing: &Growing<'_>| {
        if growing.is_closed() && growing.parts >= 2 {
            let Growing { at, format, parts, .. } = growing.clone();
            found.push(Reading { range: start..at, format, parts });
        }
    };
    let begin = Growing { key, at: start, format: String::new(), parts: 0 };
    let Some(year) = year(&begin) else {
        for mark in DATE_MARKS.iter().filter(|mark| !mark.is_empty()) {
            if let Some(date) = day_first(&begin, mark) {
                keep(&date);
                for clock in clocks(&date) {
                    keep(&clock);
                }
            }
        }
        return found;
    };
    for (marked, joined) in marked(&year, &DATE_MARKS) {
        let Some(month) = marked.part("%m", 1..13, joined) else { continue };
        keep(&month);
        let mark = marked.format.get(year.format.len()..).unwrap_or_default();
        let same = if mark.ends_with('=') { month.labelled() } else { month.mark(mark) };
        let Some(day) = same.and_then(|same| same.part("%d", 1..32, joined)) else { continue };
        keep(&day);
        for clock in clocks(&day) {
            keep(&clock);
        }
    }
    found
}

fn year<'k>(begin: &Growing<'k>) -> Option<Growing<'k>> {
    let digits = digits_at(begin.key, begin.at);
    let year: u32 = digits.get(..4)?.parse().ok()?;
    (1970..2100).contains(&year).then(|| begin.plus("%Y", 4))
}

/// `31-12-2024`. That it is no month first only a day above the twelfth can tell, and that the caller has to see.
fn day_first<'k>(begin: &Growing<'k>, mark: &str) -> Option<Growing<'k>> {
    let day = begin.part("%d", 1..32, false)?.mark(mark)?;
    let month = day.part("%m", 1..13, false)?.mark(mark)?;
    (digits_at(month.key, month.at).len() == 4).then(|| year(&month)).flatten()
}

/// The same with each mark that is there, and whether it is none, so that the digits are joined.
fn marked<'k>(growing: &Growing<'k>, marks: &[&str]) -> Vec<(Growing<'k>, bool)> {
    let plain = marks.iter().filter_map(|mark| Some((growing.mark(mark)?, mark.is_empty())));
    plain.chain(growing.labelled().map(|labelled| (labelled, false))).collect()
}

/// Readings that go on with a time of day.
fn clocks<'k>(day: &Growing<'k>) -> Vec<Growing<'k>> {
    let mut found = Vec::new();
    for (middle, _) in marked(day, &MIDDLES) {
        for mark in CLOCK_MARKS {
            let joined = mark.is_empty();
            let Some(hour) = middle.part("%H", 0..24, joined) else { continue };
            // A lone digit behind a date is rather the number of a part.
            if hour.at == middle.at + 2 {
                found.push(hour.clone());
            }
            let next = if middle.format.ends_with('=') { hour.labelled() } else { hour.mark(mark) };
            let Some(minute) = next.and_then(|next| next.part("%M", 0..60, joined)) else { continue };
            found.push(minute.clone());
            let next = if middle.format.ends_with('=') { minute.labelled() } else { minute.mark(mark) };
            let Some(second) = next.and_then(|next| next.part("%S", 0..60, joined)) else { continue };
            found.push(second.clone());
            found.extend(fractions(&second));
        }
    }
    found
}

fn fractions<'k>(second: &Growing<'k>) -> Vec<Growing<'k>> {
    let marked = FRACTION_MARKS.iter().filter_map(|mark| second.mark(mark));
    let counted = marked.filter_map(|marked| match digits_at(marked.key, marked.at).len() {
        3 => Some(marked.plus("%3f", 3)),
        6 => Some(marked.plus("%6f", 6)),
        9 => Some(marked.plus("%9f", 9)),
        _ => None,
    });
    counted.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reading with most parts.
    fn best(key: &str) -> Option<(String, String)> {
        let found = find(key);
        let most = found.iter().map(|reading| reading.parts).max()?;
        let best = found.into_iter().find(|reading| reading.parts == most)?;
        Some((best.format, key.get(best.range)?.to_owned()))
    }

    #[test]
    fn times_are_found_in_every_usual_spelling() {
        for (key, format, text) in [
            ("d/2019-06-01-15-17-3-events.json", "%Y-%m-%d-%H-%M-%S", "2019-06-01-15-17-3"),
            ("t/2024/11/05/142003123456.parquet", "%Y/%m/%d/%H%M%S%6f", "2024/11/05/142003123456"),
            ("a_20240131T235959Z.csv", "%Y%m%dT%H%M%S", "20240131T235959"),
            ("a-20240131.csv", "%Y%m%d", "20240131"),
            ("a/2024-01.csv", "%Y-%m", "2024-01"),
            ("year=2024/month=01/day=31/hour=05/x.json", "%Y/month=%m/day=%d/hour=%H", "2024/month=01/day=31/hour=05"),
            ("dt=2024-01-31/x.json", "%Y-%m-%d", "2024-01-31"),
            ("2024-11-20 15_22_10.531518.json", "%Y-%m-%d %H_%M_%S.%6f", "2024-11-20 15_22_10.531518"),
            ("x-1706702400.csv", "%s", "1706702400"),
            ("x-1706702400123.csv", "%s%3f", "1706702400123"),
            ("31.12.2024.csv", "%d.%m.%Y", "31.12.2024"),
            ("2024-05-06-1.csv", "%Y-%m-%d", "2024-05-06"),
            ("20240101-20240131.csv", "%Y%m%d", "20240101"),
        ] {
            assert_eq!(best(key), Some((format.to_owned(), text.to_owned())), "{key}");
        }
    }

    #[test]
    fn other_numbers_are_no_times() {
        for key in ["part-00001.csv", "a/12345678.csv", "2024.csv", "v1.2.3/x", "99999999999", "2024-13-01.csv", ""] {
            assert_eq!(best(key), None, "{key}");
        }
    }
}
