//! `keyfall undo` and `keyfall replay`: show what was chosen, ask where somebody can answer, act, say what came of it.

use jiff::Timestamp;
use serde::Serialize;

use crate::app;
use crate::operate::lookup;
use crate::operate::repair::{Aim, Bench, Force, Repaired};
use crate::operate::window::Window;
use crate::store::ledger::{RepairFilter, Repairable};

use super::arguments::{RejectedArgs, RejectionsReplayArgs, RepairArgs, ReplayArgs, UndoArgs};
use super::exit::{Exit, Failure};
use super::output::{Grid, Output, note, printable};
use super::session::{Desk, Session};
use super::{confirm, rejections};

/// Objects named in a text; `--json` has all of them.
const SHOWN: usize = 50;

pub(super) fn undo(session: &Session, args: &UndoArgs) -> Result<Exit, Failure> {
    let order = Order { aim: Aim::Undo, force: force(args.force), args: &args.repair };
    session.with_ledger(async |desk| order.run(session.output, &desk).await)
}

pub(super) fn replay(session: &Session, args: &ReplayArgs) -> Result<Exit, Failure> {
    if args.rejections {
        return rejections::replay(session, &of_rejections(&args.repair));
    }
    let order = Order { aim: Aim::Replay, force: force(args.force), args: &args.repair };
    session.with_ledger(async |desk| order.run(session.output, &desk).await)
}

const fn force(is_set: bool) -> Force {
    if is_set { Force::Yes } else { Force::No }
}

fn of_rejections(args: &RepairArgs) -> RejectionsReplayArgs {
    let (feed, key, id) = (args.feed.clone(), args.key.clone(), args.id.clone());
    let which = RejectedArgs { feed, id, key, ..RejectedArgs::default() };
    RejectionsReplayArgs { which, dry_run: args.dry_run, yes: args.yes }
}

struct Order<'a> {
    aim: Aim,
    force: Force,
    args: &'a RepairArgs,
}

#[derive(Serialize)]
struct Answer<'a> {
    action: &'static str,
    dry_run: bool,
    changed: usize,
    rows: u64,
    refused: usize,
    objects: &'a [Repaired],
    /// Ids that were named and are not among them.
    not_chosen: &'a [i64],
}

impl Order<'_> {
    async fn run(&self, output: Output, desk: &Desk) -> Result<Exit, Failure> {
        let store = match self.aim {
            Aim::Undo => None,
            Aim::Replay => Some(app::object_store(&desk.config).await?),
        };
        let Desk { config, pools, ledger } = desk;
        let bench = Bench { config, pools, ledger, store, aim: self.aim, force: self.force };
        let chosen = bench.choose(self.filter(desk).await?).await?;
        let not_chosen: Vec<i64> =
            self.args.id.iter().copied().filter(|id| chosen.iter().all(|object| object.id != *id)).collect();
        if !self.args.dry_run && !chosen.is_empty() && !self.args.yes && !self.may_go_on(&chosen)? {
            note("nothing was changed");
            return Ok(Exit::Failure);
        }
        let mut repaired = Vec::with_capacity(chosen.len());
        for object in &chosen {
            repaired.push(if self.args.dry_run { bench.foresee(object).await } else { bench.repair(object).await });
        }
        self.report(output, &repaired, &not_chosen)?;
        let is_whole = not_chosen.is_empty() && repaired.iter().all(|one| one.refused.is_none());
        Ok(if is_whole { Exit::Success } else { Exit::Failure })
    }

    async fn filter(&self, desk: &Desk) -> Result<RepairFilter, Failure> {
        let (args, now) = (self.args, Timestamp::now());
        let mut key_time = Window::default();
        if let Some(name) = &args.feed {
            lookup::feed_anywhere(&desk.config, &desk.ledger, name).await??;
            if args.from.is_some() || args.to.is_some() {
                let feed = lookup::feed(&desk.config, name)?;
                key_time = Window::read(feed, args.from.as_deref(), args.to.as_deref(), now)?;
            }
        }
        let loaded_at = Window::read_utc(args.loaded_from.as_deref(), args.loaded_to.as_deref(), now)?;
        Ok(RepairFilter {
            feed: args.feed.clone(),
            ids: args.id.clone(),
            key: args.key.clone(),
            key_time: (key_time.from, key_time.to),
            loaded_at: (loaded_at.from, loaded_at.to),
            states: Vec::new(),
        })
    }

    fn may_go_on(&self, chosen: &[Repairable]) -> Result<bool, Failure> {
        let rows: u64 = chosen.iter().filter(|object| object.state == "loaded").map(|object| object.rows_loaded).sum();
        confirm::may_go_on(self.aim.as_str(), chosen.len(), [format!("{rows} rows are deleted")])
    }

    fn report(&self, output: Output, repaired: &[Repaired], not_chosen: &[i64]) -> Result<(), Failure> {
        let changed = repaired.iter().filter(|one| one.refused.is_none()).count();
        let refused = repaired.len() - changed;
        let rows: u64 = repaired.iter().map(|one| one.rows).sum();
        let (action, dry_run) = (self.aim.as_str(), self.args.dry_run);
        if output.is_json() {
            let objects = repaired;
            return Ok(output.json(&Answer { action, dry_run, changed, rows, refused, objects, not_chosen })?);
        }
        if repaired.is_empty() {
            note("no object fits");
        } else {
            let verb = match (self.aim, dry_run) {
                (Aim::Undo, true) => "to be undone",
                (Aim::Undo, false) => "undone",
                (Aim::Replay, true) => "to be loaded again",
                (Aim::Replay, false) => "sent back to be loaded again",
            };
            let deleted = if dry_run { "rows to be deleted" } else { "rows deleted" };
            output.text(&format!(
                "{}\n{verb}: {changed} of {}, {deleted}: {rows}",
                output.table_or_list(&grid(repaired)),
                repaired.len()
            ))?;
        }
        for one in repaired.iter().filter(|one| one.refused.is_some()).take(SHOWN) {
            let (why, advice) = (one.refused.as_deref().unwrap_or_default(), one.advice.as_deref().unwrap_or_default());
            note(&format!("object {}: {}\n  {}", one.id, printable(why), printable(advice)));
        }
        if !not_chosen.is_empty() {
            let ids: Vec<String> = not_chosen.iter().map(ToString::to_string).collect();
            note(&format!("not changed, because unknown or in another state: {}", ids.join(", ")));
        }
        Ok(())
    }
}

fn grid(repaired: &[Repaired]) -> Grid {
    let mut grid = Grid::new(&["id", "feed", "state", "rows", "refused", "object"]);
    for one in repaired.iter().take(SHOWN) {
        grid.row(vec![
            one.id.to_string(),
            one.feed.clone(),
            one.was.clone(),
            one.rows.to_string(),
            if one.refused.is_some() { "yes" } else { "-" }.to_owned(),
            one.uri.clone(),
        ]);
    }
    grid
}
