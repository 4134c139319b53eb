//! `keyfall feed init`: a feed and its table from what sample objects show.
//!
//! The proposal is the result; what is uncertain goes to standard error, so that the section can be appended to a file.

use crate::app;
use crate::config::proposal;
use crate::operate::propose::{self, Proposal, Shop, Wish};

use super::arguments::{FeedArgs, FeedCommand, FeedInitArgs};
use super::exit::{Exit, Failure};
use super::output::{Output, note, printable};
use super::session::{Kind, Session, block_on};

pub(super) fn feed(session: &Session, args: &FeedArgs) -> Result<Exit, Failure> {
    match &args.command {
        FeedCommand::Init(args) => init(session, args),
    }
}

fn init(session: &Session, args: &FeedInitArgs) -> Result<Exit, Failure> {
    let outset = proposal::outset(&session.sources)?;
    session.log(&outset.telemetry, Kind::Errand)?;
    let wish = Wish {
        address: args.address.clone(),
        feed: args.name.clone(),
        table: args.table.clone(),
        samples: usize::from(args.samples),
        taken: outset.feeds,
    };
    let mut proposal = block_on(async {
        let store = app::object_store_of(&outset.s3).await?;
        let shop = Shop { store, patience: outset.s3.read_timeout };
        Ok(Box::pin(propose::propose(&shop, &wish)).await?)
    })?;
    if let Err(errors) = proposal::try_beside(&session.sources, &proposal.section) {
        let problems = errors.problems.iter();
        proposal.remarks.extend(problems.map(|problem| {
            format!("`check` will refuse it: {}: {}; {}", problem.key, problem.message, problem.advice)
        }));
    }
    print(session.output, args, &proposal)?;
    Ok(Exit::Success)
}

fn print(output: Output, args: &FeedInitArgs, proposal: &Proposal) -> Result<(), Failure> {
    if output.is_json() {
        return Ok(output.json(proposal)?);
    }
    for sample in &proposal.samples {
        note(&format!("looked at {} ({}, {})", printable(&sample.key), sample.format, sample.compression));
    }
    for remark in &proposal.remarks {
        note(&printable(remark));
    }
    let text = if args.sql { proposal.ddl.clone() } else { proposal.file() };
    Ok(output.text(&text)?)
}
