//! `keyfall retry` and `keyfall skip`: show what was chosen, ask where somebody can answer, act, say what came of it.

use serde::Serialize;

use crate::operate::lookup;
use crate::operate::select::{self, Action, Choice, Group, Selection, SelectionError};

use super::arguments::ReviseArgs;
use super::confirm;
use super::exit::{Exit, Failure};
use super::output::{Grid, Output, note};
use super::session::{Desk, Session};

pub(super) fn retry(session: &Session, args: &ReviseArgs) -> Result<Exit, Failure> {
    session.with_ledger(async |desk| revise(session.output, &desk, Action::Retry, args).await)
}

pub(super) fn skip(session: &Session, args: &ReviseArgs) -> Result<Exit, Failure> {
    session.with_ledger(async |desk| revise(session.output, &desk, Action::Skip, args).await)
}

async fn revise(output: Output, desk: &Desk, action: Action, args: &ReviseArgs) -> Result<Exit, Failure> {
    if let Some(feed) = &args.feed {
        lookup::feed_anywhere(&desk.config, &desk.ledger, feed).await??;
    }
    let choice = select::choose(&desk.ledger, action, &selection(args)).await??;
    let chosen = choice.ids.len();
    if args.dry_run || chosen == 0 {
        report(output, action, &choice, None)?;
        return Ok(exit(&choice));
    }
    if !args.yes && !may_go_on(action, &choice)? {
        note("nothing was changed");
        return Ok(Exit::Failure);
    }
    let changed = select::apply(&desk.ledger, action, &choice).await?;
    report(output, action, &choice, Some(&changed))?;
    Ok(exit(&choice))
}

fn selection(args: &ReviseArgs) -> Selection {
    Selection { feed: args.feed.clone(), states: args.state.clone(), key: args.key.clone(), ids: args.id.clone() }
}

/// Somebody who named an id that could not be changed wants to know.
fn exit(choice: &Choice) -> Exit {
    if choice.not_chosen.is_empty() { Exit::Success } else { Exit::Failure }
}

fn may_go_on(action: Action, choice: &Choice) -> Result<bool, Failure> {
    let group = |group: &Group| format!("{} {} of {}", group.objects, group.state, group.feed);
    confirm::may_go_on(action.as_str(), choice.ids.len(), choice.groups.iter().map(group))
}

#[derive(Serialize)]
struct Answer<'a> {
    action: &'static str,
    dry_run: bool,
    chosen: usize,
    changed: usize,
    #[serde(flatten)]
    choice: &'a Choice,
}

fn report(output: Output, action: Action, choice: &Choice, changed: Option<&[i64]>) -> Result<(), Failure> {
    if output.is_json() {
        return Ok(output.json(&Answer {
            action: action.as_str(),
            dry_run: changed.is_none(),
            chosen: choice.ids.len(),
            changed: changed.map_or(0, <[i64]>::len),
            choice,
        })?);
    }
    if choice.ids.is_empty() {
        note("no object fits");
    } else {
        let mut grid = Grid::new(&["feed", "state", "objects"]);
        for group in &choice.groups {
            grid.row(vec![group.feed.clone(), group.state.clone(), group.objects.to_string()]);
        }
        let count = choice.ids.len();
        let verdict = match (action, changed) {
            (Action::Retry, None) => format!("to be loaded again: {count}"),
            (Action::Skip, None) => format!("to be set aside: {count}"),
            (Action::Retry, Some(changed)) => format!("sent back to be loaded: {} of {count}", changed.len()),
            (Action::Skip, Some(changed)) => format!("set aside: {} of {count}", changed.len()),
        };
        output.text(&format!("{}\n{verdict}", output.table(&grid)))?;
    }
    if !choice.not_chosen.is_empty() {
        let ids: Vec<String> = choice.not_chosen.iter().map(ToString::to_string).collect();
        note(&format!("not changed, because unknown, loaded or being loaded: {}", ids.join(", ")));
    }
    Ok(())
}

impl From<SelectionError> for Failure {
    fn from(error: SelectionError) -> Self {
        Self::new(Exit::Usage, error.to_string(), error.advice())
    }
}
