//! Instants as people write them.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// A time with its offset, such as `2024-01-01T00:00:00Z`; without one it is a time of this zone, and a date alone is
/// its midnight.
pub fn parse(text: &str, zone: &TimeZone) -> Option<Timestamp> {
    let local = || text.parse::<DateTime>().ok()?.to_zoned(zone.clone()).ok();
    text.parse::<Timestamp>().ok().or_else(|| Some(local()?.timestamp()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_begin_at_midnight_of_the_zone_and_times_say_their_offset() {
        let zone = TimeZone::get("Europe/Madrid").unwrap();
        assert_eq!(parse("2024-01-05", &zone).unwrap().to_string(), "2024-01-04T23:00:00Z");
        assert_eq!(parse("2024-01-05T06:00:00+01:00", &zone).unwrap().to_string(), "2024-01-05T05:00:00Z");
        assert_eq!(parse("2024-01-05T06:00", &zone).unwrap().to_string(), "2024-01-05T05:00:00Z");
        for text in ["", "now", "2024-13-01", "05.01.2024"] {
            assert_eq!(parse(text, &zone), None, "{text}");
        }
    }
}
