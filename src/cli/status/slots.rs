//! What `status` says of slots in which nothing came.

use std::time::Duration;

use crate::operate::slots::{Expectation, FeedSlots, MissingSlot};

use super::super::output::{Output, Tone, printable};
use super::time;

/// Slots that are named; `--json` has all of them.
const NAMED: usize = 3;

pub(super) fn remarks(output: Output, feed: &str, slots: &FeedSlots) -> Vec<String> {
    let mut lines = Vec::new();
    match slots.cadence {
        Expectation::Declared { .. } | Expectation::Learnt { .. } if slots.missing == 0 => {}
        Expectation::Declared { seconds } | Expectation::Learnt { seconds } => {
            let learnt = matches!(slots.cadence, Expectation::Learnt { .. });
            let every = humantime::format_duration(Duration::from_secs(seconds));
            let source = if learnt { ", as learnt" } else { "" };
            let noun = if slots.missing == 1 { "slot" } else { "slots" };
            let word = output.toned(Tone::Bad, &format!("{} {noun} without an object", slots.missing));
            lines.push(format!("{feed}: {word}; one is expected every {every}{source}"));
            lines.extend(slots.slots.iter().take(NAMED).map(line));
            let more = slots.missing.saturating_sub(NAMED as u64);
            if more > 0 {
                lines.push(format!("  and {more} more: `keyfall status --json`"));
            }
        }
        Expectation::Irregular => {
            lines.push(format!("{feed}: its objects follow no cadence, so no slot can be missing"));
        }
        Expectation::TooFew => lines.push(format!("{feed}: too few objects came to learn a cadence from")),
    }
    if let Some(first) = slots.silent.first() {
        let (count, series) = (slots.silent.len(), printable(&first.series));
        lines.push(format!("{feed}: {count} series silent, such as {series} since {}", time(Some(first.since))));
    }
    lines
}

/// When, and how the key begins that never came.
fn line(slot: &MissingSlot) -> String {
    let rest = if slot.whole_key { "" } else { "…" };
    format!("  {}  {}{rest}", time(Some(slot.begins)), printable(&slot.key))
}
