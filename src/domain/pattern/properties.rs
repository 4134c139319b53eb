//! Properties of patterns over random times and spellings, against a renderer that shares no code with the matcher.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::{KeyPattern, KeyTime};

/// Formats whose byte order is time order, with the shortest bound they must yield for a series of no characters.
const ORDERED: [(&str, usize); 15] = [
    ("{time:%Y-%m-%d-%H-%M-%S}-events.json", 11),
    ("{time:%Y_%m_%d_%H_%M_%S}_events.json", 19),
    ("{time:%Y-%m-%dT%H:%M:%S.%fZ}", 15),
    ("{time:%Y-%m-%dT%H:%M:%S.%f-x}", 15),
    ("{time:%Y/%m/%d/%H%M%S%6f}.parquet", 23),
    ("{time:year=%Y/month=%m/day=%d/%Y%m%d%H%M%S%3f}.gz", 43),
    ("{time:%Y%m%d%H%M%S%9f}", 22),
    ("{time:%Y-%m-%d-%H-%M-%S}", 10),
    ("{time:%Y.%j.%H}*", 9),
    ("{time:%s}-x", 10),
    ("{time:%s%3f}.x", 13),
    ("{time:%Y%m%d%H%M%S%z}", 14),
    ("{time:%Y-%b-%d-%H}", 4),
    ("{time:%Y-%d-%m}", 4),
    ("{time:%Y/%Y-%m-%d %H.%M}x", 15),
];

const ZONES: [&str; 6] =
    ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Antarctica/Casey", "Asia/Kolkata"];

/// Renders a format by hand. Each part takes one choice: whether its leading zeros (a fraction's trailing ones) stay.
fn render(pattern: &str, zone: &TimeZone, time: Timestamp, choices: &[bool]) -> String {
    let local = zone.to_datetime(time);
    let mut choices = choices.iter().copied().cycle();
    let chars: Vec<char> = pattern.replace("{time:", "").replace('}', "").chars().collect();
    let mut out = String::new();
    let mut at = 0;
    while at < chars.len() {
        if chars[at] != '%' {
            // A wildcard matches nothing as well.
            out.extend(Some(chars[at]).filter(|c| *c != '*'));
            at += 1;
            continue;
        }
        let precision = chars[at + 1].to_digit(10);
        at += if precision.is_some() { 3 } else { 2 };
        if chars[at - 1] == '%' {
            out.push('%');
            continue;
        }
        let literal = chars.get(at) != Some(&'%') || chars.get(at + 1) == Some(&'%');
        let free = literal && chars.get(at).is_none_or(|next| !matches!(next, '*' | '0'..='9'));
        let bare = free && choices.next().unwrap();
        let number = |value: i64, width: usize| if bare { value.to_string() } else { format!("{value:0width$}") };
        let nanos = format!("{:09}", local.subsec_nanosecond());
        let part = match chars[at - 1] {
            'Y' => format!("{:04}", local.year()),
            'y' => format!("{:02}", local.year() % 100),
            'm' => number(local.month().into(), 2),
            'd' => number(local.day().into(), 2),
            'j' => number(local.day_of_year().into(), 3),
            'H' => number(local.hour().into(), 2),
            'M' => number(local.minute().into(), 2),
            'S' => number(local.second().into(), 2),
            'b' => local.strftime("%b").to_string(),
            's' => time.as_second().to_string(),
            'z' => zone.to_offset(time).to_string().replace(':', "") + if zone == &TimeZone::UTC { ":00" } else { "" },
            'f' => match precision {
                Some(digits) => nanos.chars().take(digits as usize).collect(),
                None if bare => {
                    let trimmed = nanos.trim_end_matches('0');
                    if trimmed.is_empty() { "0".to_owned() } else { trimmed.to_owned() }
                }
                None => nanos,
            },
            other => panic!("no such part: {other}"),
        };
        out.push_str(&part);
    }
    out
}

fn zones() -> impl Strategy<Value = TimeZone> {
    prop_oneof![
        (-14_i8..=14).prop_map(|hours| TimeZone::fixed(jiff::tz::offset(hours))),
        prop::sample::select(ZONES.to_vec()).prop_map(|name| TimeZone::get(name).unwrap()),
    ]
}

/// Instants from 2002 to 2068, the last year of two digits, often at the bounds of hours, days and months, where spellings and zones bite.
fn instants() -> impl Strategy<Value = Timestamp> {
    let any = (1_010_000_000_i64..3_120_000_000, 0_i32..1_000_000_000);
    let round = (1_010_000_000_i64..3_120_000_000, prop::sample::select(vec![1_i64, 60, 3600, 86_400]))
        .prop_map(|(second, unit)| (second / unit * unit, 0));
    prop_oneof![any, round].prop_map(|(second, nano)| Timestamp::new(second, nano).unwrap())
}

/// Distances on every scale, nothing included.
fn distances() -> impl Strategy<Value = SignedDuration> {
    let scales: Vec<i64> = vec![1, 1_000, 1_000_000_000, 60_000_000_000, 3_600_000_000_000, 86_400_000_000_000];
    (0_i64..100, prop::sample::select(scales)).prop_map(|(count, scale)| SignedDuration::from_nanos(count * scale))
}

/// Parts of a time, from coarse to fine.
const FINENESS: [&str; 11] = ["%Y", "%m", "%d", "%j", "%H", "%M", "%S", "%3f", "%6f", "%9f", "%f"];

/// A time format from coarse to fine with anything between its parts, what follows it, and the finest part it has.
fn formats() -> impl Strategy<Value = (String, &'static str)> {
    // Around the digits in byte order, beyond them, and nothing at all.
    let gaps = ["-", "_", ".", "/", ":", "T", " ", "", "", "é", "%%", "!", "~", "-0", "x/"];
    let ends = ["", "", "-x.csv", ".csv", "z", "*", "_1", "0.gz", "/part"];
    let day = prop::sample::select(vec![vec!["%m", "%d"], vec!["%j"], vec!["%m", "%d", "%Y", "%m"]]);
    let fraction = prop::sample::select(vec!["%f", "%3f", "%6f", "%9f"]);
    let gaps = prop::collection::vec(prop::sample::select(gaps.to_vec()), 10);
    (day, fraction, gaps, prop::sample::select(ends.to_vec()), 1..11_usize).prop_filter_map(
        "an open fraction may not be followed by a digit",
        |(day, fraction, gaps, end, length)| {
            let parts: Vec<&str> =
                [vec!["%Y"], day, vec!["%H", "%M", "%S", fraction]].concat().into_iter().take(length).collect();
            let mut text = "{time:".to_owned();
            for (index, part) in parts.iter().enumerate() {
                text = text + if index > 0 { gaps[index - 1] } else { "" } + part;
            }
            let text = text + "}" + end;
            KeyPattern::parse(&text, TimeZone::UTC).ok()?;
            let finest = FINENESS.into_iter().rfind(|part| parts.contains(part))?;
            Some((text, finest))
        },
    )
}

/// The local time cut to the part it was written to.
fn cut(local: DateTime, finest: &str) -> DateTime {
    let (date, clock) = (local.date(), local.time());
    let date = match finest {
        "%Y" => date.first_of_year(),
        "%m" => date.first_of_month(),
        _ => date,
    };
    let nanos = clock.subsec_nanosecond();
    let (hour, minute, second) = (clock.hour(), clock.minute(), clock.second());
    match finest {
        "%Y" | "%m" | "%d" | "%j" => date.at(0, 0, 0, 0),
        "%H" => date.at(hour, 0, 0, 0),
        "%M" => date.at(hour, minute, 0, 0),
        "%S" => date.at(hour, minute, second, 0),
        "%3f" => date.at(hour, minute, second, nanos / 1_000_000 * 1_000_000),
        "%6f" => date.at(hour, minute, second, nanos / 1000 * 1000),
        _ => date.at(hour, minute, second, nanos),
    }
}

/// What a capture may hold: anything but a slash, also what looks like a part of the pattern.
fn captured() -> impl Strategy<Value = String> {
    "[-_.a-z0-9é%{}*]{1,8}"
}

fn time_of(pattern: &KeyPattern, key: &str) -> Timestamp {
    match pattern.matches(key).map(|parts| parts.time) {
        Some(KeyTime::At(time)) => time,
        other => panic!("{key}: {other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8192))]

    #[test]
    fn every_key_at_or_after_the_bound_sorts_after_it(
        (text, least) in prop::sample::select(ORDERED.to_vec()),
        zone in zones(),
        start in instants(),
        distance in distances(),
        ahead in distances(),
        choices in prop::collection::vec(any::<bool>(), 1..12),
    ) {
        let pattern = KeyPattern::parse(&format!("feed/{text}"), zone.clone()).unwrap();
        let key = format!("feed/{}", render(text, &zone, start + distance, &choices));
        let time = time_of(&pattern, &key);
        let series = pattern.matches(&key).unwrap().series;
        // Any bound at or before the key's own time must leave the key in the listing.
        for from in [time, time - ahead, start.min(time)] {
            let bound = pattern.lower_bound(&series, from);
            prop_assert!(*key > *bound, "{} is not after {} (from {}, time {})", key, bound, from, time);
            prop_assert!(bound.len() >= "feed/".len() + least, "{} says too little", bound);
        }
    }

    #[test]
    fn what_is_written_is_read_back_to_the_part_that_was_written(
        zone in (-14_i8..=14).prop_map(|hours| TimeZone::fixed(jiff::tz::offset(hours))),
        time in instants(),
        choices in prop::collection::vec(any::<bool>(), 1..12),
    ) {
        for (text, nanos) in [
            ("{time:%Y-%m-%d-%H-%M-%S}-x", 1_000_000_000),
            ("{time:%Y.%j_%H:%M:%S.%f}", 1),
            ("{time:%Y/%m/%d/%H%M%S%6f}.x", 1_000),
            ("{time:%d-%b-%Y %H%M%S%3f}", 1_000_000),
            ("{time:%s%9f}", 1),
            ("{time:%s}.x", 1_000_000_000),
            ("{time:%m-%d-%Y %H.%M.%S %z}", 1_000_000_000),
            ("{time:%y%m%d%%%H%M%S}", 1_000_000_000),
            ("{time:%y-%b-%d_%H:%M:%S.%9f}", 1),
        ] {
            let key = render(text, &zone, time, &choices);
            let pattern = KeyPattern::parse(text, zone.clone()).unwrap();
            let truncated = time.as_nanosecond() / nanos * nanos;
            prop_assert_eq!(time_of(&pattern, &key).as_nanosecond(), truncated, "{} {}", text, key);
        }
    }

    #[test]
    fn a_later_start_never_lists_more_on_a_steady_clock(zone in zones(), start in instants(), ahead in distances()) {
        let pattern = KeyPattern::parse("{time:%Y%m%d%H%M%S}.x", zone.clone()).unwrap();
        if zone.to_fixed_offset().is_ok() {
            prop_assert!(pattern.lower_bound("", start) <= pattern.lower_bound("", start + ahead));
        }
    }

    #[test]
    fn any_format_from_coarse_to_fine_is_read_back_and_bounded(
        (text, finest) in formats(),
        hours in -14_i8..=14,
        start in instants(),
        distance in distances(),
        choices in prop::collection::vec(any::<bool>(), 1..12),
    ) {
        let zone = TimeZone::fixed(jiff::tz::offset(hours));
        let pattern = KeyPattern::parse(&format!("feed/{text}"), zone.clone()).unwrap();
        let written = start + distance;
        let key = format!("feed/{}", render(&text, &zone, written, &choices));
        let time = time_of(&pattern, &key);
        prop_assert_eq!(zone.to_datetime(time), cut(zone.to_datetime(written), finest), "{} {}", text, key);
        prop_assert!(pattern.is_ordered(), "{}", text);
        let series = pattern.matches(&key).unwrap().series;
        for from in [time, start.min(time)] {
            let bound = pattern.lower_bound(&series, from);
            prop_assert!(*key > *bound, "{}: {} is not after {} (from {})", text, key, bound, from);
        }
    }

    #[test]
    fn the_series_is_what_stands_before_the_time_and_delimiter_listing_finds_it(
        (a, b, c) in (captured(), captured(), captured()),
        time in instants(),
        choices in prop::collection::vec(any::<bool>(), 1..12),
    ) {
        for (text, series) in [
            ("x/{a}/{time:%Y-%m-%d}.csv", format!("x/{a}/")),
            ("{a}/{time:%Y/%m/%d/%H}-x", format!("{a}/")),
            ("x/{a}/y/z/{b}/{time:%s}", format!("x/{a}/y/z/{b}/")),
            ("x-{a}/{b}.d/q-{time:%Y%m%d}", format!("x-{a}/{b}.d/q-")),
            ("{a}/{b}/{c}/t={time:%Y_%j_%H}*", format!("{a}/{b}/{c}/t=")),
        ] {
            let pattern = KeyPattern::parse(text, TimeZone::UTC).unwrap();
            let format = text.rsplit_once("{time:").unwrap().1;
            let key = format!("{series}{}", render(&format!("{{time:{format}"), &TimeZone::UTC, time, &choices));
            let parts = pattern.matches(&key).unwrap();
            prop_assert_eq!(&parts.series, &series);
            let wanted = [("a", &a), ("b", &b), ("c", &c)].map(|(name, value)| (name.to_owned(), value.clone()));
            prop_assert_eq!(&parts.captures[..], &wanted[..parts.captures.len()], "{}", key);
            let mut found = pattern.series_root().to_owned();
            for level in pattern.series_levels() {
                let (name, _) = key.strip_prefix(&found).unwrap().split_once(level.delimiter).unwrap();
                found = level.below(&format!("{found}{name}{}", level.delimiter));
            }
            prop_assert_eq!(found, series, "as delimiter listing finds it");
        }
    }

    #[test]
    fn no_foreign_key_makes_a_pattern_panic_or_hides_behind_its_own_bound(
        (text, _) in formats(),
        zone in zones(),
        time in instants(),
        any in any::<String>(),
        (place, other) in (any::<prop::sample::Index>(), any::<char>()),
    ) {
        let pattern = KeyPattern::parse(&format!("feed/{text}"), zone.clone()).unwrap();
        let own = format!("feed/{}", render(&text, &zone, time, &[true, false]));
        let mut near: Vec<char> = own.chars().collect();
        *place.get_mut(&mut near) = other;
        let near: String = near.into_iter().collect();
        for key in [&any, &format!("feed/{any}"), &near, &own.repeat(40)] {
            if let Some(parts) = pattern.matches(key) {
                prop_assert!(key.starts_with(&parts.series));
                let KeyTime::At(time) = parts.time else { continue };
                let bound = pattern.lower_bound(&parts.series, time);
                prop_assert!(*key > bound, "{:?} is not after {:?}", key, bound);
            }
        }
    }

    #[test]
    fn no_text_makes_parse_or_match_panic(text in "[-{}*%a-zYmdHMSfé/0-9:]{0,40}", key in "[-{}a-z0-9é/*]{0,60}") {
        if let Ok(pattern) = KeyPattern::parse(&text, TimeZone::UTC) {
            if let Some(parts) = pattern.matches(&key) {
                prop_assert!(key.starts_with(&parts.series));
                prop_assert!(parts.series.starts_with(pattern.series_root()));
            }
            let bound = pattern.lower_bound("s", Timestamp::MIN);
            prop_assert!(bound.starts_with('s'));
        }
    }
}
