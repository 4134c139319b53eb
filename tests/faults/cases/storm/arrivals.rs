//! What the writers put, in the order in which it appears in the bucket: a function of the seed and the number alone.
//!
//! Each writer has a clock of its own, a few seconds beside the others', and names an object after the moment its data
//! began: mostly just now, sometimes a minute ago, now and then up to an hour. Half of the writers do not pad their
//! numbers, as real ones do not, so their names sort beside the others' and not by time.

use fastrand::Rng;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Writers.
pub(super) const WRITERS: usize = 8;
/// Key time that the storm covers, in seconds.
const SPAN: f64 = 3.0 * 3600.0;
/// Longest lateness, in seconds.
const LATEST: f64 = 3600.0;
/// How far a writer's clock may be beside the others', in seconds.
const SKEW: f64 = 3.0;

/// One object, still to be put.
#[derive(Debug, Clone)]
pub(super) struct Arrival {
    pub(super) number: usize,
    pub(super) key: String,
    pub(super) is_padded: bool,
}

/// All of them.
pub(super) fn plan(objects: usize, random: &mut Rng) -> Vec<Arrival> {
    let begin = "2024-05-01T03:00:00Z".parse::<Timestamp>().expect("a time").as_second() as f64;
    let skews: Vec<f64> = (0..WRITERS).map(|_| (random.f64() - 0.5) * 2.0 * SKEW).collect();
    (0..objects)
        .map(|number| {
            let writer = random.usize(..WRITERS);
            let now = begin + SPAN * number as f64 / objects as f64 + skews.get(writer).copied().unwrap_or_default();
            #[expect(clippy::cast_possible_truncation, reason = "seconds of this century")]
            let time = Timestamp::from_second((now - lateness(random)) as i64).expect("a time");
            let is_padded = writer.is_multiple_of(2);
            Arrival { number, key: name(time, writer, number, is_padded), is_padded }
        })
        .collect()
}

fn lateness(random: &mut Rng) -> f64 {
    let longest = match random.u8(..100) {
        0..75 => 2.0,
        75..90 => 60.0,
        _ => LATEST,
    };
    random.f64() * longest
}

fn name(time: Timestamp, writer: usize, number: usize, is_padded: bool) -> String {
    let time = time.to_zoned(TimeZone::UTC);
    let (year, month, day) = (time.year(), time.month(), time.day());
    let (hour, minute, second) = (time.hour(), time.minute(), time.second());
    let time = if is_padded {
        format!("{year}-{month:02}-{day:02}-{hour:02}-{minute:02}-{second:02}")
    } else {
        format!("{year}-{month}-{day}-{hour}-{minute}-{second}")
    };
    format!("incoming/{time}-w{writer}.{number:06}.csv")
}
