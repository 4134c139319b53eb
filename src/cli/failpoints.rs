//! `keyfall failpoints list`: the steps at which this build can be killed, held or made to fail.

use serde::Serialize;

use crate::failpoint::Point;

use super::arguments::FailpointsCommand;
use super::exit::{Exit, Failure};
use super::session::Session;

#[derive(Serialize)]
struct Line {
    name: &'static str,
    can_fail: bool,
    about: &'static str,
}

pub(super) fn failpoints(session: &Session, command: FailpointsCommand) -> Result<Exit, Failure> {
    let FailpointsCommand::List = command;
    let lines: Vec<Line> = Point::ALL
        .iter()
        .map(|point| Line { name: point.name(), can_fail: point.can_fail(), about: point.about() })
        .collect();
    if session.output.is_json() {
        session.output.json(&lines)?;
    } else {
        let table: Vec<String> = lines.iter().map(|line| format!("{:<20} {}", line.name, line.about)).collect();
        session.output.text(&table.join("\n"))?;
    }
    Ok(Exit::Success)
}
