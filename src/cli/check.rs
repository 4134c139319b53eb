//! `keyfall check`: one line per finding, in groups, with what to do below those that are not in order.

use serde::Serialize;

use crate::app;
use crate::operate::check::{self, Area, Finding, Level, Report, Services};

use super::arguments::CheckArgs;
use super::exit::{Exit, Failure};
use super::output::{Output, Tone, printable};
use super::session::{Kind, Session, block_on};
use super::trial;

pub(super) fn check(session: &Session, args: &CheckArgs) -> Result<Exit, Failure> {
    if let Some(uri) = &args.object {
        return trial::trial(session, uri, args);
    }
    let loaded = match crate::config::load(&session.sources) {
        Ok(loaded) => loaded,
        Err(errors) => return conclude(session.output, &check::invalid(&errors)),
    };
    session.log(&loaded.config.telemetry, Kind::Errand)?;
    let report = if args.offline {
        check::offline(&loaded)
    } else {
        block_on(async {
            let pools = app::pools(&loaded.config)?;
            let store = app::object_store(&loaded.config).await;
            let queues = app::queues(&loaded.config).await;
            Ok(check::online(&loaded, &pools, Services { store, queues }).await)
        })?
    };
    conclude(session.output, &report)
}

/// Prints the report and turns it into an exit code.
pub(super) fn conclude(output: Output, report: &Report) -> Result<Exit, Failure> {
    let exit = exit(report);
    if output.is_json() {
        output.json(&Answer { ok: exit == Exit::Success, exit: exit.code(), report })?;
    } else {
        output.text(&render(output, report))?;
    }
    Ok(exit)
}

#[derive(Serialize)]
struct Answer<'a> {
    ok: bool,
    exit: u8,
    #[serde(flatten)]
    report: &'a Report,
}

/// One kind of trouble has its own code; of several kinds none is the right one.
fn exit(report: &Report) -> Exit {
    match report.failed_areas().as_slice() {
        [] => Exit::Success,
        [Area::Config] => Exit::Config,
        [Area::Database] => Exit::Postgres,
        [Area::Ledger] => Exit::Migration,
        [Area::S3] => Exit::S3,
        _ => Exit::Failure,
    }
}

fn render(output: Output, report: &Report) -> String {
    let mut lines = Vec::new();
    for group in &report.groups {
        lines.push(group.title.clone());
        let width = group.findings.iter().map(|finding| finding.what.chars().count()).max().unwrap_or(0);
        for finding in &group.findings {
            let Finding { what, detail, .. } = finding;
            lines.push(format!("  {}  {what:width$}  {}", word(output, finding.level), printable(detail)));
            let advice = finding.advice.iter();
            lines.extend(advice.map(|advice| format!("        {:width$}  -> {}", "", printable(advice))));
        }
    }
    lines.push(verdict(report));
    lines.join("\n")
}

fn word(output: Output, level: Level) -> String {
    match level {
        Level::Ok => output.toned(Tone::Good, "ok  "),
        Level::Warn => output.toned(Tone::Doubtful, "warn"),
        Level::Fail => output.toned(Tone::Bad, "FAIL"),
    }
}

fn verdict(report: &Report) -> String {
    match (report.count(Level::Fail), report.count(Level::Warn)) {
        (0, 0) => "all is in order".to_owned(),
        (0, warnings) => format!("in order, warnings: {warnings}"),
        (failures, warnings) => format!("failures: {failures}, warnings: {warnings}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operate::check::Group;

    fn report(failed: &[Area]) -> Report {
        let finding = |area: &Area| Finding {
            area: *area,
            level: Level::Fail,
            what: "feeds.jobs.table".to_owned(),
            detail: "is not there".to_owned(),
            advice: Some("create it".to_owned()),
        };
        Report { groups: vec![Group { title: "x".to_owned(), findings: failed.iter().map(finding).collect() }] }
    }

    #[test]
    fn one_kind_of_trouble_has_its_own_exit_code_and_several_have_none() {
        for (failed, expected) in [
            (vec![], 0),
            (vec![Area::Config], 78),
            (vec![Area::Database, Area::Database], 11),
            (vec![Area::Ledger], 12),
            (vec![Area::S3], 10),
            (vec![Area::S3, Area::Database], 1),
        ] {
            assert_eq!(exit(&report(&failed)).code(), expected, "{failed:?}");
        }
    }
}
