//! `keyfall status`: where every feed stands.

mod slots;

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::domain::state::State;
use crate::operate::status::{self, FeedStatus};
use crate::store::ledger::InstanceRow;

use super::exit::{Exit, Failure};
use super::output::{Grid, Output, Tone, printable};
use super::session::Session;

pub(super) fn status(session: &Session) -> Result<Exit, Failure> {
    session.with_ledger(async |desk| {
        let feeds = status::status(&desk.config, &desk.ledger, Timestamp::now()).await?;
        let instances = desk.ledger.instances().await?;
        print(session.output, &feeds, Some(&instances))?;
        Ok(Exit::Success)
    })
}

#[derive(Serialize)]
struct Answer<'a> {
    feeds: &'a [FeedStatus],
    #[serde(skip_serializing_if = "Option::is_none")]
    instances: Option<&'a [InstanceRow]>,
}

/// Prints a table and, below it, why feeds are paused and what to do about it; then who works on them, where that is
/// wanted.
pub(super) fn print(output: Output, feeds: &[FeedStatus], instances: Option<&[InstanceRow]>) -> Result<(), Failure> {
    if output.is_json() {
        return Ok(output.json(&Answer { feeds, instances })?);
    }
    // A window is narrow; a script wants the same columns every time.
    let grid = if output.is_watched() { grid(feeds).without_zeros(&RARE) } else { grid(feeds) };
    let mut text = vec![output.table_or_list(&grid)];
    text.extend(feeds.iter().flat_map(|feed| remarks(output, feed)));
    match instances {
        None => {}
        Some([]) => text.push("\nno instance runs".to_owned()),
        Some(instances) => text.push(format!("\n{}", output.table(&who(instances)))),
    }
    Ok(output.text(&text.join("\n"))?)
}

/// Columns that are of interest only where there is something in them.
const RARE: [&str; 9] =
    ["leased", "skipped", "missing", "superseded", "undone", "to dispose", "empty slots", "rejected", "filtered"];

fn grid(feeds: &[FeedStatus]) -> Grid {
    let mut grid = Grid::new(&[
        "feed",
        "pending",
        "leased",
        "loaded",
        "quarantined",
        "skipped",
        "missing",
        "superseded",
        "undone",
        "to dispose",
        "empty slots",
        "read",
        "rows",
        "rejected",
        "filtered",
        "frontier",
        "oldest",
        "state",
    ]);
    for feed in feeds {
        let mut row = vec![feed.feed.clone()];
        row.extend(State::ALL.map(|state| feed.count(state).to_string()));
        row.extend([
            feed.disposal_pending.to_string(),
            feed.slots.as_ref().map_or(0, |slots| slots.missing).to_string(),
            feed.rows_read.to_string(),
            feed.rows_loaded.to_string(),
            feed.rows_rejected.to_string(),
            feed.rows_filtered.to_string(),
            time(feed.frontier),
            feed.oldest_waiting_seconds.map_or_else(|| "-".to_owned(), age),
            word(feed).to_owned(),
        ]);
        grid.row(row);
    }
    grid
}

fn who(instances: &[InstanceRow]) -> Grid {
    let mut grid = Grid::new(&["instance", "version", "alive", "started", "last seen", "leased", "duties"]);
    for instance in instances {
        grid.row(vec![
            instance.name.clone(),
            instance.version.clone(),
            if instance.alive { "yes" } else { "no" }.to_owned(),
            time(Some(instance.started_at)),
            time(Some(instance.seen_at)),
            instance.leased.to_string(),
            if instance.duties.is_empty() { "-".to_owned() } else { instance.duties.join(" ") },
        ]);
    }
    grid
}

fn word(feed: &FeedStatus) -> &'static str {
    match (&feed.paused, feed.configured) {
        (Some(pause), _) if pause.by == "operator" => "paused",
        (Some(_), _) => "halted",
        (None, false) => "not configured",
        (None, true) => "ok",
    }
}

fn remarks(output: Output, feed: &FeedStatus) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(pause) = &feed.paused {
        let until = pause.until.map(|until| format!(", tried again at {}", time(Some(until)))).unwrap_or_default();
        let by = if pause.by == "operator" { "paused by an operator" } else { "halted by keyfall" };
        let by = output.toned(Tone::Doubtful, by);
        lines.push(format!("{}: {by}{until}: {}", feed.feed, printable(&pause.reason)));
        if !pause.advice.is_empty() {
            lines.push(format!("  -> {}", printable(&pause.advice)));
        }
    }
    if feed.count(State::Quarantined) > 0 {
        let look = format!("keyfall objects --feed {} --state quarantined", feed.feed);
        lines.push(format!("{}: {} in quarantine: `{look}`", feed.feed, feed.count(State::Quarantined)));
    }
    if feed.rows_rejected > 0 {
        let look = format!("keyfall rejections list --feed {}", feed.feed);
        lines.push(format!("{}: {} rejected records: `{look}`", feed.feed, feed.rows_rejected));
    }
    if let Some(slots) = &feed.slots {
        lines.extend(slots::remarks(output, &feed.feed, slots));
    }
    if let Some(last) = feed.reconciled.as_ref().filter(|last| last.differences > 0) {
        let word = output.toned(Tone::Bad, &format!("{} differences", last.differences));
        let at = time(Some(last.at));
        lines.push(format!("{}: {word} found at {at}: `keyfall reconcile --feed {}`", feed.feed, feed.feed));
    }
    lines
}

/// An instant to the second, in UTC.
pub(super) fn time(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "-".to_owned(), |at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// An age in its two largest units.
pub(super) fn age(seconds: u64) -> String {
    let text = humantime::format_duration(Duration::from_secs(seconds)).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_two_units_at_most() {
        assert_eq!(age(0), "0s");
        assert_eq!(age(59), "59s");
        assert_eq!(age(3 * 3600 + 62), "3h 1m");
        assert_eq!(age(2 * 86400 + 3661), "2days 1h");
    }

    #[test]
    fn times_are_whole_seconds_in_utc() {
        assert_eq!(time("2019-06-01T15:17:03.25-03:00".parse().ok()), "2019-06-01T18:17:03Z");
        assert_eq!(time(None), "-");
    }
}
