//! What the ledger and the programs say about a storm when it is over.

use std::collections::BTreeMap;

use crate::keyfall::Keyfall;
use crate::lab::Lab;

/// Objects by the channel that found them.
const CHANNELS: &str = "SELECT discovered_by, count(*), count(late_seconds) FROM keyfall.objects GROUP BY 1 ORDER BY 1";

const LATENESS: &str = "SELECT coalesce(percentile_cont(0.5) WITHIN GROUP (ORDER BY late_seconds), 0),
     coalesce(percentile_cont(0.99) WITHIN GROUP (ORDER BY late_seconds), 0), coalesce(max(late_seconds), 0)
     FROM keyfall.objects";

/// Figures of one storm.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// By channel: found, and of these late.
    channels: BTreeMap<String, (i64, i64)>,
    missed: i64,
    /// Median, 99th percentile and maximum, in seconds.
    lateness: (f64, f64, f64),
    /// Late objects that the programs now alive have counted.
    counted_late: f64,
}

impl Tally {
    pub(super) async fn of(lab: &Lab, programs: &[Keyfall]) -> Self {
        let channels = lab.query(CHANNELS).await.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect();
        let missed = lab.count("SELECT count(*) FROM keyfall.objects WHERE notification = 'missed'").await;
        let row = lab.query(LATENESS).await.into_iter().next().expect("a row");
        let mut counted_late = 0.0;
        for program in programs {
            counted_late += program.metric("keyfall_late_objects_total", "").await.unwrap_or_default();
        }
        Self { channels, missed, lateness: (row.get(0), row.get(1), row.get(2)), counted_late }
    }

    pub(super) fn found(&self, channel: &str) -> i64 {
        self.channels.get(channel).map_or(0, |(found, _)| *found)
    }

    /// Late objects by whoever found them.
    pub(super) fn late(&self) -> i64 {
        self.channels.values().map(|(_, late)| late).sum()
    }

    pub(super) fn missed(&self) -> i64 {
        self.missed
    }

    pub(super) fn counted_late(&self) -> f64 {
        self.counted_late
    }

    /// One line for each figure.
    pub(super) fn lines(&self) -> Vec<(&'static str, String)> {
        let by_channel = |figure: fn(&(i64, i64)) -> i64| {
            let told: Vec<String> =
                self.channels.iter().map(|(channel, figures)| format!("{channel} {}", figure(figures))).collect();
            told.join(", ")
        };
        let (median, most_of_all, longest) = self.lateness;
        vec![
            ("discovered by", by_channel(|(found, _)| *found)),
            ("late, found by", by_channel(|(_, late)| *late)),
            ("lateness", format!("p50 {median:.0} s, p99 {most_of_all:.0} s, at most {longest:.0} s")),
            ("missed notifications", self.missed.to_string()),
        ]
    }
}
