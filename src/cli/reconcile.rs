//! `keyfall reconcile`: is everything in the bucket loaded and disposed of?

use std::fmt::Write as _;
use std::sync::Arc;

use serde::Serialize;

use crate::app;
use crate::operate::reconcile::{self, Class, Count, Example, Fixed, Mode, Order, Reconciled};
use crate::operate::sweep::Progress;

use super::arguments::ReconcileArgs;
use super::exit::{Exit, Failure};
use super::output::{Grid, Output, Tone, note, printable, size};
use super::session::{Desk, Session};
use super::status::{age, time};
use super::watch::watched;
use super::window::chosen;

#[derive(Serialize)]
struct Answer<'a> {
    complete: bool,
    feeds: &'a [Reconciled],
}

pub(super) fn reconcile(session: &Session, args: &ReconcileArgs) -> Result<Exit, Failure> {
    session.with_ledger(async |desk| run(session.output, &desk, args).await)
}

/// Every feed is tried; what was found is shown also where one feed failed.
async fn run(output: Output, desk: &Desk, args: &ReconcileArgs) -> Result<Exit, Failure> {
    let feeds = chosen(&desk.config, &args.window)?;
    let store = app::object_store(&desk.config).await?;
    let mode = if args.fix { Mode::Fix } else { Mode::Look };
    let examples = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let mut found = Vec::new();
    let mut failed: Option<Failure> = None;
    for (feed, window) in feeds {
        let progress = Progress::default();
        let order = Order { window, mode, examples };
        let work = reconcile::reconcile(feed, Arc::clone(&store), &desk.ledger, order, &progress);
        match watched(feed, &progress, Box::pin(work)).await {
            Ok(reconciled) => found.push(reconciled),
            Err(error) => {
                if let Some(earlier) = failed.replace(Failure::from(error)) {
                    note(&earlier.to_string());
                }
            }
        }
    }
    let complete = failed.is_none() && found.iter().all(|reconciled| reconciled.complete);
    print(output, &Answer { complete, feeds: &found })?;
    match failed {
        Some(failure) => Err(failure),
        None if complete => Ok(Exit::Success),
        None => Ok(Exit::Incomplete),
    }
}

fn print(output: Output, answer: &Answer<'_>) -> Result<(), Failure> {
    if output.is_json() {
        return Ok(output.json(answer)?);
    }
    if answer.feeds.is_empty() {
        return Ok(());
    }
    let mut text = output.table_or_list(&overview(answer.feeds));
    for reconciled in answer.feeds {
        for count in &reconciled.findings {
            text += &details(output, &reconciled.feed, count);
        }
        if let Some(fixed) = reconciled.fixed {
            text += &mended(&reconciled.feed, fixed);
        }
    }
    Ok(output.text(&text)?)
}

fn overview(found: &[Reconciled]) -> Grid {
    let mut grid = Grid::new(&["feed", "objects", "loaded", "skipped", "waiting", "differences", "complete"]);
    for reconciled in found {
        grid.row(vec![
            reconciled.feed.clone(),
            reconciled.objects.to_string(),
            reconciled.loaded.to_string(),
            reconciled.skipped.values().sum::<u64>().to_string(),
            reconciled.waiting.to_string(),
            reconciled.differences.to_string(),
            if reconciled.complete { "yes" } else { "no" }.to_owned(),
        ]);
    }
    grid
}

/// One kind of finding: how many, what it means, the first of them, what to do.
fn details(output: Output, feed: &str, count: &Count) -> String {
    let tone = match count.class {
        Class::Difference => Tone::Bad,
        Class::Waiting => Tone::Doubtful,
        Class::Information => Tone::Faint,
    };
    let word = output.toned(tone, count.finding.as_str());
    let noun = if count.objects == 1 { "object" } else { "objects" };
    let mut text =
        format!("\n\n{feed}: {word}: {} {noun}, {}: {}", count.objects, size(count.bytes), count.finding.meaning());
    if count.class == Class::Waiting {
        text += &format!(", the oldest for {}", age(count.oldest_seconds));
    }
    for example in &count.examples {
        text += &format!("\n  {}", line(example));
    }
    let more = count.objects.saturating_sub(count.examples.len() as u64);
    if more > 0 && !count.examples.is_empty() {
        text += &format!("\n  and {more} more");
    }
    if let Some(advice) = count.finding.advice() {
        text += &format!("\n  -> {advice}");
    }
    text
}

fn line(example: &Example) -> String {
    let mut text = printable(&example.key);
    if let Some(id) = example.id {
        // Writing to a String cannot fail.
        write!(text, "  id {id}").unwrap_or_default();
    }
    write!(text, "  {}  since {}", size(example.size), time(Some(example.since))).unwrap_or_default();
    match &example.detail {
        Some(detail) => format!("{text}  {}", printable(detail)),
        None => text,
    }
}

fn mended(feed: &str, fixed: Fixed) -> String {
    let Fixed { recorded, rearmed, left } = fixed;
    let mut text = format!("\n\n{feed}: fixed: {recorded} recorded, {rearmed} to be disposed of again");
    if left > 0 {
        text += &format!("; {left} left that only a person can mend");
    }
    text
}
