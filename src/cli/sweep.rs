//! `keyfall sweep`: list whole prefixes into the ledger now, with a counter where somebody watches.

use std::sync::Arc;

use serde::Serialize;

use crate::app;
use crate::config::feed::Feed;
use crate::operate::lookup;
use crate::operate::sweep::{self, Progress};

use super::arguments::SweepArgs;
use super::exit::{Exit, Failure};
use super::output::{Grid, Output, note};
use super::session::{Desk, Session};
use super::watch::watched;

#[derive(Debug, Serialize)]
struct Swept {
    feed: String,
    seen: u64,
    new: u64,
    calls: u64,
}

#[derive(Serialize)]
struct Answer<'a> {
    feeds: &'a [Swept],
}

pub(super) fn sweep(session: &Session, args: &SweepArgs) -> Result<Exit, Failure> {
    session.with_ledger(async |desk| run(session.output, &desk, args).await)
}

/// Every feed is tried; what was listed is shown also where one feed failed.
async fn run(output: Output, desk: &Desk, args: &SweepArgs) -> Result<Exit, Failure> {
    let feeds: Vec<&Arc<Feed>> = match &args.feed {
        Some(name) => vec![lookup::feed(&desk.config, name)?],
        None => desk.config.feeds.values().collect(),
    };
    let store = app::object_store(&desk.config).await?;
    let mut swept = Vec::new();
    let mut failed: Option<Failure> = None;
    for feed in feeds {
        let progress = Progress::default();
        let work = sweep::sweep(feed, Arc::clone(&store), &desk.ledger, &progress);
        match watched(feed, &progress, work).await {
            Ok(listed) => swept.push(Swept {
                feed: feed.name.to_string(),
                seen: listed.seen,
                new: listed.new,
                calls: listed.calls,
            }),
            Err(error) => {
                let failure = Failure::from(error);
                if let Some(earlier) = failed.replace(failure) {
                    note(&earlier.to_string());
                }
            }
        }
    }
    print(output, &swept)?;
    failed.map_or(Ok(Exit::Success), Err)
}

fn print(output: Output, swept: &[Swept]) -> Result<(), Failure> {
    if output.is_json() {
        return Ok(output.json(&Answer { feeds: swept })?);
    }
    if swept.is_empty() {
        return Ok(());
    }
    let mut grid = Grid::new(&["feed", "seen", "new", "list calls"]);
    for feed in swept {
        grid.row(vec![feed.feed.clone(), feed.seen.to_string(), feed.new.to_string(), feed.calls.to_string()]);
    }
    Ok(output.text(&output.table(&grid))?)
}
