//! `keyfall objects`: what the ledger knows of objects, as a list or in full.

use jiff::Timestamp;
use serde::Serialize;

use crate::operate::lookup;
use crate::store::ledger::{ObjectFilter, ObjectRow};

use super::arguments::ObjectsArgs;
use super::exit::{Exit, Failure};
use super::output::{Grid, Output, note, properties};
use super::session::{Desk, Session};
use super::status::time;

pub(super) fn objects(session: &Session, args: &ObjectsArgs) -> Result<Exit, Failure> {
    session.with_ledger(async |desk| list(session.output, &desk, args).await)
}

async fn list(output: Output, desk: &Desk, args: &ObjectsArgs) -> Result<Exit, Failure> {
    if let Some(feed) = &args.feed {
        lookup::feed_anywhere(&desk.config, &desk.ledger, feed).await??;
    }
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let mut found = desk.ledger.objects(&filter(args)).await?;
    let more = found.len() > limit;
    found.truncate(limit);
    if output.is_json() {
        output.json(&Answer { objects: &found, more })?;
    } else if args.id.is_empty() {
        print_list(output, &found)?;
    } else {
        let whole: Vec<String> = found.iter().map(|object| properties(&everything(object))).collect();
        output.text(&whole.join("\n"))?;
    }
    if more {
        note(&format!("only the first {limit}: narrow the choice, or raise --limit"));
    }
    if !args.id.is_empty() && found.is_empty() {
        return Err(Failure::new(Exit::Failure, "no object has this id", "`keyfall objects` lists ids"));
    }
    Ok(Exit::Success)
}

/// One more than is shown, to know whether there are more.
fn filter(args: &ObjectsArgs) -> ObjectFilter {
    ObjectFilter {
        feed: args.feed.clone(),
        states: args.state.iter().map(|state| state.as_str().to_owned()).collect(),
        key: args.key.clone(),
        ids: args.id.clone(),
        limit: i64::from(args.limit) + 1,
    }
}

#[derive(Serialize)]
struct Answer<'a> {
    objects: &'a [ObjectRow],
    more: bool,
}

fn print_list(output: Output, found: &[ObjectRow]) -> Result<(), Failure> {
    if found.is_empty() {
        note("no object fits");
        return Ok(());
    }
    let mut grid = Grid::new(&[
        "id", "feed", "state", "key time", "read", "rows", "rejected", "filtered", "size", "object", "why",
    ]);
    for object in found {
        let why = object.error_code.clone().or_else(|| object.reason.clone()).unwrap_or_default();
        grid.row(vec![
            object.id.to_string(),
            object.feed.clone(),
            object.state.clone(),
            time(object.key_time),
            number(object.rows_read),
            number(object.rows_loaded),
            number(object.rows_rejected),
            number(object.rows_filtered),
            object.size.to_string(),
            object.uri.clone(),
            why,
        ]);
    }
    Ok(output.text(&output.table(&grid))?)
}

fn number(value: Option<u64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// Everything known of one object; what is not known is left out.
fn everything(object: &ObjectRow) -> Vec<(&'static str, String)> {
    let known = |at: Option<Timestamp>| at.map(|at| at.to_string());
    let text = |rows: Option<u64>| rows.map(|rows| rows.to_string());
    let pairs = [
        ("id", Some(object.id.to_string())),
        ("feed", Some(object.feed.clone())),
        ("object", Some(object.uri.clone())),
        ("state", Some(object.state.clone())),
        ("reason", object.reason.clone()),
        ("size", Some(format!("{} bytes", object.size))),
        ("key time", known(object.key_time)),
        ("visible since", Some(object.visible_at.to_string())),
        ("attempts", Some(object.attempt.to_string())),
        ("loaded at", known(object.loaded_at)),
        ("records read", text(object.rows_read)),
        ("rows loaded", text(object.rows_loaded)),
        ("rejected", text(object.rows_rejected)),
        ("filtered", text(object.rows_filtered)),
        ("replays", (object.replays > 0).then(|| object.replays.to_string())),
        ("error", object.error_code.clone()),
        ("detail", object.error_detail.clone()),
        ("what to do", object.error_advice.clone()),
        ("disposal", Some(object.disposal.clone())),
        ("disposal note", object.disposal_error.clone()),
        ("archived to", object.archived_to.clone()),
    ];
    pairs.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}
