//! `keyfall pause` and `keyfall resume`.

use serde::Serialize;

use crate::operate::lookup;

use super::arguments::{PauseArgs, ResumeArgs};
use super::exit::{Exit, Failure};
use super::output::Output;
use super::session::Session;

#[derive(Serialize)]
struct Answer<'a> {
    feed: &'a str,
    paused: bool,
    changed: bool,
}

pub(super) fn pause(session: &Session, args: &PauseArgs) -> Result<Exit, Failure> {
    session.with_ledger(async |desk| {
        lookup::feed(&desk.config, &args.feed)?;
        desk.ledger.pause(&args.feed, &args.reason).await?;
        let text = format!("{} is paused; `keyfall resume {}` ends it", args.feed, args.feed);
        say(session.output, &Answer { feed: &args.feed, paused: true, changed: true }, &text)
    })
}

pub(super) fn resume(session: &Session, args: &ResumeArgs) -> Result<Exit, Failure> {
    session.with_ledger(async |desk| {
        lookup::feed(&desk.config, &args.feed)?;
        let changed = desk.ledger.resume(&args.feed).await?;
        let text = if changed { format!("{} goes on", args.feed) } else { format!("{} was not paused", args.feed) };
        say(session.output, &Answer { feed: &args.feed, paused: false, changed }, &text)
    })
}

fn say(output: Output, answer: &Answer<'_>, text: &str) -> Result<Exit, Failure> {
    if output.is_json() {
        output.json(answer)?;
    } else {
        output.text(text)?;
    }
    Ok(Exit::Success)
}
