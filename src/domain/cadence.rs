//! When objects are expected: slots of equal length on the clock that key names follow. Pure.
//!
//! Slots are counted on the civil clock, from midnight of 1970-01-01, weeks from a Monday: a slot of `1d` is a local
//! day, which may have 23 or 25 hours, and a slot of `1h` begins at the full hour whatever the zone's offset is. Where
//! clocks jump ahead, slots that never were are left out; where they are set back, the last slot before lasts as much
//! longer, because a name written in the repeated hour reads as the first of its two times.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};

/// How far back slots are looked at: what was missing a week ago is known by now, or nobody will ever look.
pub const LONGEST_LOOK: Duration = Duration::from_hours(7 * 24);
/// A cadence longer than the look still has this many slots in it.
const FEWEST_SLOTS: u32 = 3;
/// Slots looked at, the latest ones: a cadence of a second would have 604,800 in a week.
pub const MOST_SLOTS: usize = 1000;
/// Times a cadence is learnt from at least, and at most.
pub const FEWEST_TIMES: usize = 10;
/// See [`FEWEST_TIMES`].
pub const MOST_TIMES: usize = 200;

/// No zone sets its clocks back by more at once.
const FURTHEST_BACK: Duration = Duration::from_hours(3);
const WEEK_NANOS: i128 = 7 * 24 * 3600 * 1_000_000_000;
/// Monday 1969-12-29, before the epoch.
const MONDAY_NANOS: i128 = -3 * 24 * 3600 * 1_000_000_000;

/// Spans that a learnt cadence may have, in seconds: what people schedule by. All divide a day, a week or each other.
const ROUND: [u64; 30] = [
    1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30, 60, 120, 180, 240, 300, 360, 600, 720, 900, 1200, 1800, 3600, 7200, 10_800,
    14_400, 21_600, 28_800, 43_200, 86_400,
];
/// The longest of them: a week.
const ROUND_WEEK: u64 = 604_800;
/// A gap may differ from a multiple of the cadence by this share of it: schedulers are a little late.
const TOLERANCE: f64 = 0.1;
/// This share of the gaps has to be regular.
const REGULAR: f64 = 0.9;

/// One span in which an object is expected: from `begins` up to, and without, `ends`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    /// Its first instant.
    pub begins: Timestamp,
    /// The first instant after it.
    pub ends: Timestamp,
}

/// The slots of one cadence on one clock.
#[derive(Debug, Clone)]
pub struct SlotClock {
    span: Duration,
    zone: TimeZone,
}

impl SlotClock {
    /// Slots of this length by this clock; a span of zero counts as a second.
    pub fn new(span: Duration, zone: TimeZone) -> Self {
        let span = if span.is_zero() { Duration::from_secs(1) } else { span };
        Self { span, zone }
    }

    /// Length of a slot on the clock.
    pub fn span(&self) -> Duration {
        self.span
    }

    /// How far back slots are looked at.
    pub fn look(&self) -> Duration {
        LONGEST_LOOK.max(self.span.saturating_mul(FEWEST_SLOTS))
    }

    /// The latest slots that begin at or after `from` and end at or before `until`, at most `most`, oldest first.
    pub fn slots(&self, from: Timestamp, until: Timestamp, most: usize) -> Vec<Slot> {
        let mut slots = Vec::new();
        // In a repeated hour the local time is that of an earlier slot.
        let Some(mut index) = until.checked_add(FURTHEST_BACK).ok().map(|late| self.index(late)) else { return slots };
        while slots.len() < most {
            let (Some(begins), Some(ends)) = (self.begins(index), self.begins(index + 1)) else { break };
            if begins < from {
                break;
            }
            // A slot that clocks jumped over has no length.
            if ends <= until && begins < ends {
                slots.push(Slot { begins, ends });
            }
            index -= 1;
        }
        slots.reverse();
        slots
    }

    /// The slot that the local time of an instant lies in.
    fn index(&self, at: Timestamp) -> i128 {
        let local = Offset::UTC.to_timestamp(self.zone.to_datetime(at)).unwrap_or(at);
        (local.as_nanosecond() - self.anchor()).div_euclid(self.nanos())
    }

    /// The instant at which a slot begins; none beyond the calendar.
    fn begins(&self, index: i128) -> Option<Timestamp> {
        let local = index.checked_mul(self.nanos())?.checked_add(self.anchor())?;
        let local = Offset::UTC.to_datetime(Timestamp::from_nanosecond(local).ok()?);
        instant(&self.zone, local)
    }

    fn nanos(&self) -> i128 {
        i128::try_from(self.span.as_nanos()).unwrap_or(i128::MAX)
    }

    fn anchor(&self) -> i128 {
        if self.nanos() % WEEK_NANOS == 0 { MONDAY_NANOS } else { 0 }
    }
}

/// The instant of a local time: the first of two, and for one that clocks jumped over the instant of the jump.
fn instant(zone: &TimeZone, local: DateTime) -> Option<Timestamp> {
    let ambiguous = zone.to_ambiguous_timestamp(local);
    match ambiguous.offset() {
        AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => ambiguous.earlier().ok(),
        AmbiguousOffset::Gap { .. } => {
            // Read by the later offset it lies before the jump, by less than the jump's length.
            let before = ambiguous.earlier().ok()?;
            zone.following(before).next().map(|jump| jump.timestamp())
        }
    }
}

/// What the latest times of a feed say about its cadence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learnt {
    /// An object came in every span of this length, but for a few.
    Every(Duration),
    /// There are not enough times to tell.
    TooFew,
    /// They follow no cadence.
    Irregular,
}

/// Learns a cadence from the latest distinct times of some series, each in ascending order.
///
/// The median gap within a series is rounded to the nearest span that people schedule by. Nine gaps of ten must be a
/// multiple of it, give or take a tenth of it, and as many must lead into another slot: objects that come now before,
/// now after the beginning of a slot would make every other slot look missed. Gaps of several slots, which an outage
/// leaves behind, are as regular as gaps of one.
pub fn learn(series: &[Vec<Timestamp>], zone: &TimeZone) -> Learnt {
    if series.iter().map(Vec::len).max().unwrap_or(0) < FEWEST_TIMES {
        return Learnt::TooFew;
    }
    let pairs: Vec<(Timestamp, Timestamp)> =
        series.iter().flat_map(|times| times.iter().copied().zip(times.iter().copied().skip(1))).collect();
    let seconds = |pair: &(Timestamp, Timestamp)| pair.1.duration_since(pair.0).as_secs_f64();
    let mut gaps: Vec<f64> = pairs.iter().map(seconds).collect();
    gaps.sort_by(f64::total_cmp);
    let Some(span) = gaps.get(gaps.len() / 2).and_then(|median| round(*median)) else { return Learnt::Irregular };
    let clock = SlotClock::new(Duration::from_secs(span), zone.clone());
    let unit = Duration::from_secs(span).as_secs_f64();
    let is_multiple = |gap: f64| {
        let slots = (gap / unit).round();
        slots >= 1.0 && (gap - slots * unit).abs() <= TOLERANCE * unit
    };
    let even = gaps.iter().filter(|gap| is_multiple(**gap)).count();
    let apart = pairs.iter().filter(|(one, next)| clock.index(*next) > clock.index(*one)).count();
    let enough = REGULAR * gaps.len() as f64;
    if even as f64 >= enough && apart as f64 >= enough {
        Learnt::Every(Duration::from_secs(span))
    } else {
        Learnt::Irregular
    }
}

/// The round span nearest to a gap, where one is near.
fn round(gap: f64) -> Option<u64> {
    let distance = |span: u64| {
        let span = Duration::from_secs(span).as_secs_f64();
        (gap - span).abs() / span
    };
    let nearest = ROUND.into_iter().chain([ROUND_WEEK]).min_by(|a, b| distance(*a).total_cmp(&distance(*b)))?;
    (distance(nearest) <= TOLERANCE).then_some(nearest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);
    const DAY: Duration = Duration::from_hours(24);

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn madrid() -> TimeZone {
        TimeZone::get("Europe/Madrid").unwrap()
    }

    fn begins(clock: &SlotClock, from: &str, until: &str) -> Vec<String> {
        clock.slots(at(from), at(until), MOST_SLOTS).iter().map(|slot| slot.begins.to_string()).collect()
    }

    #[test]
    fn slots_lie_within_the_window_and_touch() {
        let clock = SlotClock::new(HOUR, TimeZone::UTC);
        let slots = clock.slots(at("2024-05-01T10:30:00Z"), at("2024-05-01T13:59:59Z"), MOST_SLOTS);
        assert_eq!(
            slots.iter().map(|slot| slot.begins).collect::<Vec<_>>(),
            [at("2024-05-01T11:00:00Z"), at("2024-05-01T12:00:00Z")]
        );
        assert_eq!(slots[0].ends, slots[1].begins);
        assert_eq!(clock.slots(at("2024-05-01T00:00:00Z"), at("2024-05-01T12:00:00Z"), 3).len(), 3);
        assert_eq!(
            clock.slots(at("2024-05-01T00:00:00Z"), at("2024-05-01T12:00:00Z"), 3)[2].ends,
            at("2024-05-01T12:00:00Z")
        );
        assert_eq!(clock.slots(at("2024-05-01T12:00:00Z"), at("2024-05-01T12:00:00Z"), 3), []);
    }

    #[test]
    fn a_daily_slot_is_a_local_day_also_where_clocks_jump() {
        let clock = SlotClock::new(DAY, madrid());
        assert_eq!(
            begins(&clock, "2024-03-29T23:00:00Z", "2024-04-01T22:00:00Z"),
            ["2024-03-29T23:00:00Z", "2024-03-30T23:00:00Z", "2024-03-31T22:00:00Z"]
        );
        let short = clock.slots(at("2024-03-30T23:00:00Z"), at("2024-03-31T22:00:00Z"), 9);
        assert_eq!(short[0].ends.duration_since(short[0].begins).as_hours(), 23);
        let long = clock.slots(at("2024-10-26T22:00:00Z"), at("2024-10-27T23:00:00Z"), 9);
        assert_eq!(long[0].ends.duration_since(long[0].begins).as_hours(), 25);
    }

    #[test]
    fn an_hour_that_never_was_is_no_slot_and_a_repeated_one_is_one() {
        let clock = SlotClock::new(HOUR, madrid());
        // 01:00, then 03:00 local.
        assert_eq!(
            begins(&clock, "2024-03-31T00:00:00Z", "2024-03-31T02:00:00Z"),
            ["2024-03-31T00:00:00Z", "2024-03-31T01:00:00Z"]
        );
        // 01:00, 02:00 twice, 03:00 local.
        assert_eq!(
            begins(&clock, "2024-10-26T23:00:00Z", "2024-10-27T03:00:00Z"),
            ["2024-10-26T23:00:00Z", "2024-10-27T00:00:00Z", "2024-10-27T02:00:00Z"]
        );
        let quarters = SlotClock::new(Duration::from_mins(15), madrid());
        let slots = quarters.slots(at("2024-10-27T00:00:00Z"), at("2024-10-27T02:00:00Z"), 99);
        assert_eq!(slots.len(), 4);
        assert_eq!(slots[3].ends, at("2024-10-27T02:00:00Z"), "the last one lasts until the clocks agree again");
    }

    #[test]
    fn a_day_that_a_zone_skipped_is_no_slot() {
        let clock = SlotClock::new(DAY, TimeZone::get("Pacific/Apia").unwrap());
        let slots = clock.slots(at("2011-12-28T10:00:00Z"), at("2012-01-01T10:00:00Z"), 99);
        assert_eq!(slots.len(), 4, "30 December 2011 was not: {slots:?}");
    }

    #[test]
    fn odd_spans_count_from_the_epoch_and_weeks_from_a_monday() {
        let odd = SlotClock::new(Duration::from_mins(7), TimeZone::UTC);
        assert_eq!(
            begins(&odd, "1970-01-01T00:00:00Z", "1970-01-01T00:21:00Z"),
            ["1970-01-01T00:00:00Z", "1970-01-01T00:07:00Z", "1970-01-01T00:14:00Z"]
        );
        let week = SlotClock::new(7 * DAY, TimeZone::UTC);
        assert_eq!(
            begins(&week, "2024-05-01T00:00:00Z", "2024-05-20T00:00:00Z"),
            ["2024-05-06T00:00:00Z", "2024-05-13T00:00:00Z"]
        );
        assert_eq!(week.look(), 21 * DAY);
        assert_eq!(odd.look(), LONGEST_LOOK);
    }

    /// Times every `step` seconds, without those in `left_out`, each moved by `moved(n)` seconds.
    fn times(step: i64, count: i64, left_out: std::ops::Range<i64>, moved: impl Fn(i64) -> i64) -> Vec<Timestamp> {
        let begin = at("2024-05-01T00:00:00Z");
        (0..count)
            .filter(|n| !left_out.contains(n))
            .map(|n| begin.checked_add(jiff::SignedDuration::from_secs(n * step + moved(n))).unwrap())
            .collect()
    }

    #[test]
    fn a_regular_cadence_is_learnt_and_rounded() {
        for (step, span) in [(300, 300), (3600, 3600), (86_400, 86_400), (604_800, 604_800), (1, 1)] {
            let learnt = learn(&[times(step, 40, 0..0, |_| 0)], &TimeZone::UTC);
            assert_eq!(learnt, Learnt::Every(Duration::from_secs(span)), "{step}");
        }
        // Some seconds late now and then, as schedulers are, but always within the slot.
        let late = times(3600, 40, 0..0, |n| 20 + n * 37 % 120);
        assert_eq!(learn(&[late], &TimeZone::UTC), Learnt::Every(HOUR));
    }

    #[test]
    fn an_outage_does_not_hide_the_cadence() {
        let broken = times(3600, 120, 30..100, |_| 0);
        assert_eq!(learn(&[broken], &TimeZone::UTC), Learnt::Every(HOUR));
    }

    #[test]
    fn daily_objects_are_regular_across_the_change_of_clocks() {
        let zone = madrid();
        let days = SlotClock::new(DAY, zone.clone()).slots(at("2024-03-20T23:00:00Z"), at("2024-04-12T22:00:00Z"), 99);
        let days: Vec<Timestamp> = days.iter().map(|slot| slot.begins).collect();
        assert_eq!(learn(&[days], &zone), Learnt::Every(DAY));
    }

    #[test]
    fn what_follows_no_cadence_is_said_to_follow_none() {
        let chance = times(3600, 60, 0..0, |n| n * n * 1234 % 3000);
        assert_eq!(learn(&[chance], &TimeZone::UTC), Learnt::Irregular);
        let no_round_span = times(1000, 40, 0..0, |_| 0);
        assert_eq!(learn(&[no_round_span], &TimeZone::UTC), Learnt::Irregular);
        // Now just before, now just after the full hour: every other slot would seem empty.
        let astride = times(3600, 40, 0..0, |n| if n % 2 == 0 { 30 } else { -30 });
        assert_eq!(learn(&[astride], &TimeZone::UTC), Learnt::Irregular);
    }

    #[test]
    fn few_times_teach_nothing() {
        assert_eq!(learn(&[times(3600, 9, 0..0, |_| 0)], &TimeZone::UTC), Learnt::TooFew);
        assert_eq!(learn(&[], &TimeZone::UTC), Learnt::TooFew);
        assert_eq!(learn(&[times(3600, 10, 0..0, |_| 0), Vec::new()], &TimeZone::UTC), Learnt::Every(HOUR));
    }
}
