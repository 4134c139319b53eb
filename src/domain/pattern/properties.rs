//! Properties of patterns over random times and spellings, against a renderer that shares no code with the matcher.

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
        let free = chars.get(at).is_none_or(|next| !matches!(next, '%' | '*' | '0'..='9'));
        let bare = free && choices.next().unwrap();
        let number = |value: i64, width: usize| if bare { value.to_string() } else { format!("{value:0width$}") };
        let nanos = format!("{:09}", local.subsec_nanosecond());
        let part = match chars[at - 1] {
            'Y' => format!("{:04}", local.year()),
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

/// Instants from 2002 to 2069, often at the bounds of hours, days and months, where spellings and zones bite.
fn instants() -> impl Strategy<Value = Timestamp> {
    let any = (1_010_000_000_i64..3_140_000_000, 0_i32..1_000_000_000);
    let round = (1_010_000_000_i64..3_140_000_000, prop::sample::select(vec![1_i64, 60, 3600, 86_400]))
        .prop_map(|(second, unit)| (second / unit * unit, 0));
    prop_oneof![any, round].prop_map(|(second, nano)| Timestamp::new(second, nano).unwrap())
}

/// Distances on every scale, nothing included.
fn distances() -> impl Strategy<Value = SignedDuration> {
    let scales: Vec<i64> = vec![1, 1_000, 1_000_000_000, 60_000_000_000, 3_600_000_000_000, 86_400_000_000_000];
    (0_i64..100, prop::sample::select(scales)).prop_map(|(count, scale)| SignedDuration::from_nanos(count * scale))
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
