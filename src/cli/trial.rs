//! `keyfall check --object`: what a load of one object would come to.

use crate::app;
use crate::operate::lookup;
use crate::operate::trial::{Bench, Outcome, TrialError, Tried};

use super::arguments::CheckArgs;
use super::exit::{Exit, Failure};
use super::output::{Grid, Output, Tone, note, printable, properties, size};
use super::session::{Desk, Session};

pub(super) fn trial(session: &Session, uri: &str, args: &CheckArgs) -> Result<Exit, Failure> {
    session.with_ledger(async |desk| run(session.output, &desk, uri, args).await)
}

async fn run(output: Output, desk: &Desk, uri: &str, args: &CheckArgs) -> Result<Exit, Failure> {
    let feed = args.feed.as_ref().map(|name| lookup::feed(&desk.config, name)).transpose()?;
    let store = app::object_store(&desk.config).await?;
    let bench = Bench { config: &desk.config, pools: &desk.pools, store };
    let tried = Box::pin(bench.run(uri, feed, args.limit)).await?;
    if output.is_json() {
        output.json(&tried)?;
    } else {
        print(output, &tried)?;
    }
    Ok(exit(&tried))
}

/// Would it be loaded? Whatever stands in the way of every object has the exit code of its own kind.
fn exit(tried: &Tried) -> Exit {
    let code = tried.failure.as_ref().map(|ended| ended.code.as_str()).unwrap_or_default();
    match tried.outcome {
        Outcome::Loads => Exit::Success,
        Outcome::Quarantined => Exit::Quarantined,
        Outcome::Fails if code.starts_with("E-S3-") || code.starts_with("E-FETCH-") => Exit::S3,
        Outcome::Fails if code.starts_with("E-PG-") || code.starts_with("E-TARGET") => Exit::Postgres,
        Outcome::Fails => Exit::Failure,
    }
}

fn print(output: Output, tried: &Tried) -> Result<(), Failure> {
    let word = match tried.outcome {
        Outcome::Loads => output.toned(Tone::Good, "would be loaded"),
        Outcome::Quarantined => output.toned(Tone::Bad, "would be quarantined"),
        Outcome::Fails => output.toned(Tone::Bad, "could not be loaded"),
    };
    let mut text = vec![format!("{}: {word} by feed {}", printable(&tried.uri), tried.feed)];
    text.push(properties(&facts(tried)).trim_end().to_owned());
    if let Some(ended) = &tried.failure {
        text.push(format!("{}: {}", ended.code, printable(&ended.detail)));
        text.push(format!("  -> {}", printable(&ended.advice)));
    }
    if !tried.rejections.is_empty() {
        text.push(output.table_or_list(&rejected(tried)));
        let more = tried.rows.rejected.saturating_sub(tried.rejections.len() as u64);
        if more > 0 {
            text.push(format!("and {more} more"));
        }
    }
    output.text(&text.join("\n"))?;
    if !tried.new_columns.is_empty() {
        let names: Vec<String> = tried.new_columns.iter().map(|name| printable(name)).collect();
        note(&format!("a load would add these columns, whose values the trial leaves out: {}", names.join(", ")));
    }
    if let Some((id, state)) = &tried.known {
        note(&format!(
            "the ledger has this version as object {id}, {state}: rows with a unique key collide with its own"
        ));
    }
    if let Some(reason) = tried.left_out {
        note(&format!("the feed leaves it out by itself ({reason})"));
    }
    note("everything was rolled back; only sequences keep the numbers they gave");
    Ok(())
}

fn facts(tried: &Tried) -> Vec<(&'static str, String)> {
    let rows = tried.rows;
    let budget = match (tried.budget.max_rows, tried.budget.max_ratio) {
        (rows, None) => format!("{rows} rejected records"),
        (rows, Some(ratio)) => format!("{rows} rejected records and {ratio} of those read"),
    };
    let exceeded = if tried.budget.is_exceeded { ", which is exceeded" } else { "" };
    let seconds = tried.seconds;
    let mut facts = vec![
        ("bytes", format!("{} stored, {} decoded", size(tried.bytes), size(tried.decoded_bytes))),
        (
            "records",
            format!(
                "{} read = {} loaded + {} rejected + {} filtered",
                rows.read, rows.loaded, rows.rejected, rows.filtered
            ),
        ),
    ];
    for table in &tried.tables {
        let rows = table.rows.map_or_else(|| "not known".to_owned(), |rows| rows.to_string());
        facts.push(("rows", format!("{rows} into {}", table.table)));
    }
    facts.push(("budget", format!("{budget}{exceeded}")));
    facts.push((
        "seconds",
        format!(
            "find {:.3}, load {:.3} (of it waiting for S3: {:.3} for its answer, {:.3} for bytes), rollback {:.3}",
            seconds.find, seconds.load, seconds.open, seconds.body, seconds.rollback
        ),
    ));
    facts.push(("speed", format!("{:.0} records per second", tried.rows_per_second)));
    facts
}

fn rejected(tried: &Tried) -> Grid {
    let mut grid = Grid::new(&["record", "line", "byte", "column", "code", "reason"]);
    for one in &tried.rejections {
        let place = |number: u64| if one.line == 0 { "-".to_owned() } else { number.to_string() };
        grid.row(vec![
            one.record.to_string(),
            place(one.line),
            place(one.byte),
            one.column.clone().unwrap_or_else(|| "-".to_owned()),
            one.code.clone(),
            one.reason.clone(),
        ]);
    }
    grid
}

impl From<TrialError> for Failure {
    fn from(error: TrialError) -> Self {
        let (message, advice) = (error.to_string(), error.advice());
        match error {
            TrialError::Address(_) | TrialError::NoFeed { .. } | TrialError::Several { .. } => {
                Self::new(Exit::Usage, message, advice)
            }
            TrialError::NotThere(_) => Self::new(Exit::S3, message, advice),
            TrialError::S3(error) => error.into(),
            TrialError::Store(error) => error.into(),
        }
    }
}
