//! `keyfall config show|check|schema`. Asks no service.

use serde::Serialize;

use crate::config;
use crate::operate::check;

use super::arguments::{ConfigArgs, ConfigCommand};
use super::exit::{Exit, Failure};
use super::output::{Grid, properties};
use super::session::Session;

#[derive(Serialize)]
struct Shown<'a> {
    key: &'a str,
    value: &'a str,
    origin: &'a str,
}

pub(super) fn config(session: &Session, args: &ConfigArgs) -> Result<Exit, Failure> {
    match args.command {
        ConfigCommand::Show { origin } => show(session, origin),
        ConfigCommand::Check => valid(session),
        ConfigCommand::Schema => {
            session.output.json(&config::json_schema())?;
            Ok(Exit::Success)
        }
    }
}

fn show(session: &Session, origin: bool) -> Result<Exit, Failure> {
    let loaded = config::load(&session.sources)?;
    let keys = config::show(&loaded);
    let output = session.output;
    if output.is_json() {
        let keys: Vec<_> =
            keys.iter().map(|key| Shown { key: &key.key, value: &key.value, origin: &key.origin }).collect();
        output.json(&keys)?;
    } else if origin {
        let mut grid = Grid::new(&["key", "value", "origin"]);
        for key in keys {
            grid.row(vec![key.key, key.value, key.origin]);
        }
        output.text(&output.table(&grid))?;
    } else {
        let pairs: Vec<_> = keys.iter().map(|key| (key.key.as_str(), format!("= {}", key.value))).collect();
        output.text(&properties(&pairs))?;
    }
    Ok(Exit::Success)
}

fn valid(session: &Session) -> Result<Exit, Failure> {
    let report = match config::load(&session.sources) {
        Ok(loaded) => check::offline(&loaded),
        Err(errors) => check::invalid(&errors),
    };
    super::check::conclude(session.output, &report)
}
