//! `keyfall rejections`: records that were rejected, as a list, in full, as a file, and loaded after all.

use std::io::Write as _;

use jiff::Timestamp;
use serde::Serialize;

use crate::app;
use crate::operate::lookup;
use crate::operate::rejections::{self, Bench, Cut, ExportError, Keep, Raw, Replayed, Style};
use crate::operate::window::Window;
use crate::store::ledger::{Kept, RejectionFilter, RejectionPage, RejectionRow};

use super::arguments::{
    RejectedArgs, RejectionsCommand, RejectionsExportArgs, RejectionsListArgs, RejectionsReplayArgs, RejectionsShowArgs,
};
use super::confirm;
use super::exit::{Exit, Failure};
use super::output::{Grid, Output, note, printable, properties};
use super::session::{Desk, Session};
use super::status::time;

pub(super) fn rejections(session: &Session, command: RejectionsCommand) -> Result<Exit, Failure> {
    let output = session.output;
    match command {
        RejectionsCommand::List(args) => session.with_ledger(async |desk| list(output, &desk, &args).await),
        RejectionsCommand::Show(args) => session.with_ledger(async |desk| show(output, &desk, &args).await),
        RejectionsCommand::Export(args) => session.with_ledger(async |desk| export(&desk, &args).await),
        RejectionsCommand::Replay(args) => replay(session, &args),
    }
}

async fn filter(desk: &Desk, args: &RejectedArgs, all: bool) -> Result<RejectionFilter, Failure> {
    if let Some(feed) = &args.feed {
        lookup::feed_anywhere(&desk.config, &desk.ledger, feed).await??;
    }
    let window = Window::read_utc(args.from.as_deref(), args.to.as_deref(), Timestamp::now())?;
    Ok(RejectionFilter {
        feed: args.feed.clone(),
        objects: args.id.clone(),
        key: args.key.clone(),
        rejected_at: (window.from, window.to),
        codes: args.code.clone(),
        ids: args.only.clone(),
        all,
    })
}

#[derive(Serialize)]
struct Listed<'a> {
    rejections: &'a [RejectionRow],
    /// How many come after them.
    more: u64,
}

async fn list(output: Output, desk: &Desk, args: &RejectionsListArgs) -> Result<Exit, Failure> {
    let filter = filter(desk, &args.which, args.all).await?;
    let RejectionPage { rows, total } = desk.ledger.rejections(&filter, args.after, args.limit).await?;
    let more = total.saturating_sub(rows.len() as u64);
    if output.is_json() {
        output.json(&Listed { rejections: &rows, more })?;
        return Ok(Exit::Success);
    }
    if rows.is_empty() {
        note("no rejected record fits");
        return Ok(Exit::Success);
    }
    let mut grid = Grid::new(&["id", "object", "record", "line", "byte", "column", "code", "reason", "key"]);
    let number = |number: Option<i64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    for row in &rows {
        grid.row(vec![
            row.id.to_string(),
            row.object_id.to_string(),
            row.record_no.to_string(),
            number(row.line),
            number(row.byte_offset),
            row.column.clone().unwrap_or_else(|| "-".to_owned()),
            row.code.clone(),
            row.reason.clone(),
            row.uri.clone(),
        ]);
    }
    output.text(&output.table_or_list(&grid))?;
    if let (1.., Some(last)) = (more, rows.last()) {
        note(&format!("and {more} more: --after {} shows the next ones", last.id));
    }
    Ok(Exit::Success)
}

#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    row: &'a RejectionRow,
    #[serde(flatten)]
    raw: Raw,
}

async fn show(output: Output, desk: &Desk, args: &RejectionsShowArgs) -> Result<Exit, Failure> {
    let filter = RejectionFilter { ids: vec![args.id], all: true, ..RejectionFilter::default() };
    let page = desk.ledger.rejections(&filter, 0, 1).await?;
    let kept = desk.ledger.kept_one(args.id).await?;
    let (Some(row), Some(kept)) = (page.rows.first(), kept) else {
        return Err(Failure::new(Exit::Failure, "no rejection has this id", "`keyfall rejections list` lists ids"));
    };
    if args.raw {
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(&kept.raw).and_then(|()| stdout.flush())?;
    } else if output.is_json() {
        output.json(&Shown { row, raw: Raw::of(&kept) })?;
    } else {
        output.text(&format!("{}record:\n{}", properties(&everything(row)), escaped(&kept)))?;
    }
    if kept.is_cut() {
        note(&format!("only the first {} of {} bytes are kept", kept.raw.len(), kept.raw_bytes));
    }
    Ok(Exit::Success)
}

/// What is not known is left out.
fn everything(row: &RejectionRow) -> Vec<(&'static str, String)> {
    let pairs = [
        ("id", Some(row.id.to_string())),
        ("feed", Some(row.feed.clone())),
        ("object", Some(format!("{} ({}, {})", row.uri, row.object_id, row.object_state))),
        ("record", Some(row.record_no.to_string())),
        ("line", row.line.map(|line| line.to_string())),
        ("byte", row.byte_offset.map(|byte| byte.to_string())),
        ("table", row.table.clone()),
        ("column", row.column.clone()),
        ("code", Some(row.code.clone())),
        ("reason", Some(row.reason.clone())),
        ("rejected at", Some(time(Some(row.rejected_at)))),
        ("loaded at", row.replayed_at.map(|at| time(Some(at)))),
        ("length", Some(format!("{} bytes", row.raw_bytes))),
    ];
    pairs.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// The record as a terminal may see it: line ends stay, every other control character and what is no UTF-8 is escaped.
fn escaped(kept: &Kept) -> String {
    let mut text = String::new();
    for chunk in kept.raw.utf8_chunks() {
        for (index, line) in chunk.valid().split('\n').enumerate() {
            text.push_str(if index > 0 { "\n" } else { "" });
            text.push_str(&printable(line));
        }
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    text
}

async fn export(desk: &Desk, args: &RejectionsExportArgs) -> Result<Exit, Failure> {
    let filter = filter(desk, &args.which, args.all).await?;
    let style = if args.with_reasons { Style::Reasons } else { Style::Plain };
    let cut = if args.skip_cut || args.with_reasons { Cut::Skip } else { Cut::Refuse };
    let is_stdout = args.output.as_os_str() == "-";
    let mut sink: Box<dyn std::io::Write> = if is_stdout {
        Box::new(std::io::BufWriter::new(std::io::stdout()))
    } else {
        let file = std::fs::OpenOptions::new().write(true).create_new(true).open(&args.output);
        let refused = |error| {
            let path = args.output.display();
            Failure::new(Exit::Failure, format!("{path}: {error}"), "name a file that is not there yet")
        };
        Box::new(std::io::BufWriter::new(file.map_err(refused)?))
    };
    let exported = match rejections::export(&desk.ledger, &filter, (style, cut), sink.as_mut()).await {
        Ok(exported) => exported,
        // `keyfall rejections export | head` is an ordinary thing to type.
        Err(ExportError::Io(error)) if is_stdout && error.kind() == std::io::ErrorKind::BrokenPipe => {
            return Ok(Exit::Success);
        }
        Err(error) => {
            drop(sink);
            if !is_stdout {
                // Half a file is none.
                std::fs::remove_file(&args.output)?;
            }
            return Err(error.into());
        }
    };
    note(&format!("records written: {}", exported.records));
    if exported.cut > 0 {
        note(&format!("left out, because only their beginning is kept: {}", exported.cut));
    }
    if exported.headers > 1 {
        note(&format!("the objects have {} different headers, each stands in front of its records", exported.headers));
    }
    Ok(Exit::Success)
}

impl From<ExportError> for Failure {
    fn from(error: ExportError) -> Self {
        let advice = error.advice();
        match error {
            ExportError::Store(error) => error.into(),
            ExportError::Feeds(_) => Self::new(Exit::Usage, error.to_string(), advice),
            ExportError::Cut(_) | ExportError::Io(_) => Self::new(Exit::Failure, error.to_string(), advice),
        }
    }
}

pub(super) fn replay(session: &Session, args: &RejectionsReplayArgs) -> Result<Exit, Failure> {
    session.with_ledger(async |desk| load(session.output, &desk, args).await)
}

async fn load(output: Output, desk: &Desk, args: &RejectionsReplayArgs) -> Result<Exit, Failure> {
    let filter = filter(desk, &args.which, false).await?;
    let objects = desk.ledger.rejected_objects(&filter).await?;
    let records: u64 = objects.iter().map(|object| object.rejections).sum();
    if !args.dry_run && !args.yes && !objects.is_empty() {
        let groups = [format!("{records} rejected records")];
        if !confirm::may_go_on("replay the rejected records of", objects.len(), groups)? {
            note("nothing was changed");
            return Ok(Exit::Failure);
        }
    }
    let store = app::object_store(&desk.config).await?;
    let Desk { config, pools, ledger } = desk;
    let bench = Bench { config, pools, ledger, store };
    let keep = if args.dry_run { Keep::Nothing } else { Keep::Rows };
    let mut replayed = Vec::with_capacity(objects.len());
    for object in &objects {
        replayed.push(bench.replay(object, &filter, keep).await);
    }
    report(output, args.dry_run, &replayed)?;
    let is_refused = replayed.iter().any(|one| one.refused.is_some());
    Ok(if is_refused { Exit::Failure } else { Exit::Success })
}

#[derive(Serialize)]
struct Answer<'a> {
    dry_run: bool,
    loaded: u64,
    filtered: u64,
    rejected: u64,
    cut: u64,
    objects: &'a [Replayed],
}

fn report(output: Output, dry_run: bool, replayed: &[Replayed]) -> Result<(), Failure> {
    let sum = |of: fn(&Replayed) -> u64| replayed.iter().map(of).sum::<u64>();
    let (loaded, filtered) = (sum(|one| one.loaded), sum(|one| one.filtered));
    let (rejected, cut) = (sum(|one| one.rejected), sum(|one| one.cut));
    if output.is_json() {
        return Ok(output.json(&Answer { dry_run, loaded, filtered, rejected, cut, objects: replayed })?);
    }
    if replayed.is_empty() {
        note("no rejected record fits");
        return Ok(());
    }
    let mut grid = Grid::new(&["object", "feed", "loaded", "filtered", "still bad", "cut", "refused", "key"]);
    for one in replayed {
        grid.row(vec![
            one.id.to_string(),
            one.feed.clone(),
            one.loaded.to_string(),
            one.filtered.to_string(),
            one.rejected.to_string(),
            one.cut.to_string(),
            if one.refused.is_some() { "yes" } else { "-" }.to_owned(),
            one.uri.clone(),
        ]);
    }
    let verb = if dry_run { "would be loaded" } else { "loaded" };
    output.text(&format!(
        "{}\n{verb}: {loaded}, left out: {filtered}, still bad: {rejected}, kept in part only: {cut}",
        output.table_or_list(&grid)
    ))?;
    for one in replayed.iter().filter(|one| one.refused.is_some()) {
        let (why, advice) = (one.refused.as_deref().unwrap_or_default(), one.advice.as_deref().unwrap_or_default());
        note(&format!("object {}: {}\n  {}", one.id, printable(why), printable(advice)));
    }
    if cut > 0 {
        note("records kept in part only come back with their object: `keyfall replay --id`");
    }
    Ok(())
}
