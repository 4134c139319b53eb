//! `keyfall plan`: what would be loaded, from where and why.

use std::sync::Arc;

use serde::Serialize;

use crate::app;
use crate::config::Config;
use crate::operate::plan::{self, Amount, Draft, Plan, Planned, Reason};
use crate::operate::sweep::Progress;
use crate::store::inspect;
use crate::store::ledger::Ledger;
use crate::store::migrate;

use super::arguments::PlanArgs;
use super::exit::{Exit, Failure};
use super::output::{Grid, Output, Tone, note, size};
use super::session::{Kind, Session, block_on};
use super::status::time;
use super::watch::watched;
use super::window::chosen;

pub(super) fn plan(session: &Session, args: &PlanArgs) -> Result<Exit, Failure> {
    let config = session.load(Kind::Errand)?.config;
    let place = config.database.place();
    block_on(async { run(session.output, &config, args).await }).map_err(|failure| failure.at(&place))
}

#[derive(Serialize)]
struct Answer<'a> {
    /// Without a ledger everything is new.
    ledger: bool,
    feeds: &'a [Plan],
}

async fn run(output: Output, config: &Config, args: &PlanArgs) -> Result<Exit, Failure> {
    let feeds = chosen(config, &args.window)?;
    let pools = app::pools(config)?;
    let mut ledger = None;
    if inspect::ledger_version(&pools).await?.is_some() {
        migrate::verify(&pools).await?;
        ledger = Some(Ledger::new(pools));
    }
    let store = app::object_store(config).await?;
    let examples = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let mut plans = Vec::new();
    for (feed, window) in feeds {
        let progress = Progress::default();
        let draft = Draft { store: Arc::clone(&store), ledger: ledger.as_ref(), window, examples };
        plans.push(watched(feed, &progress, plan::plan(feed, &draft, &progress)).await?);
    }
    print(output, &Answer { ledger: ledger.is_some(), feeds: &plans })?;
    Ok(Exit::Success)
}

fn print(output: Output, answer: &Answer<'_>) -> Result<(), Failure> {
    if output.is_json() {
        return Ok(output.json(answer)?);
    }
    if !answer.ledger {
        note("there is no ledger yet in this database: everything is new");
    }
    let mut text = vec![output.table(&overview(answer.feeds))];
    text.extend(answer.feeds.iter().filter(|plan| plan.load.objects > 0).map(|plan| details(output, plan)));
    Ok(output.text(&text.join("\n"))?)
}

fn overview(plans: &[Plan]) -> Grid {
    let mut grid = Grid::new(&["feed", "to load", "size", "loaded", "waiting", "quarantined", "skipped"]);
    let count = |amount: Amount| amount.objects.to_string();
    for plan in plans {
        let skipped: Vec<String> = plan.skipped.iter().map(|(reason, objects)| format!("{objects} {reason}")).collect();
        grid.row(vec![
            plan.feed.clone(),
            count(plan.load),
            size(plan.load.bytes),
            count(plan.loaded),
            count(plan.waiting),
            count(plan.quarantined),
            if skipped.is_empty() { "0".to_owned() } else { skipped.join(", ") },
        ]);
    }
    grid
}

fn details(output: Output, plan: &Plan) -> String {
    let mut lines = vec![format!("\n{}: {} -> {}, then {}", plan.feed, plan.source, plan.table, plan.disposal)];
    if let Some(paused) = &plan.paused {
        let word = output.toned(Tone::Doubtful, "paused");
        lines.push(format!("  {word}, so nothing is loaded before `keyfall resume {}`: {paused}", plan.feed));
    }
    let mut grid = Grid::new(&["key time", "size", "key", "why"]);
    for Planned { key, key_time, size: bytes, reason } in &plan.first {
        grid.row(vec![time(*key_time), size(*bytes), key.clone(), why(reason)]);
    }
    lines.push(output.table(&grid));
    let more = plan.load.objects.saturating_sub(plan.first.len() as u64);
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines.join("\n")
}

fn why(reason: &Reason) -> String {
    match reason {
        Reason::New => "new".to_owned(),
        Reason::Changed { replaces: true } => "changed: replaces the older version's rows".to_owned(),
        Reason::Changed { replaces: false } => "changed: loaded beside the older version".to_owned(),
        Reason::Pending { since, attempt: _, after: None } => format!("pending since {}", time(Some(*since))),
        Reason::Pending { since, attempt, after: Some(code) } => {
            format!("pending since {}, attempt {attempt} after {code}", time(Some(*since)))
        }
        Reason::Back => "there again".to_owned(),
    }
}
