//! `keyfall migrate`: make the ledger, or bring it to this program's schema version.

use serde::Serialize;

use crate::app;
use crate::store::migrate as migrations;

use super::exit::{Exit, Failure};
use super::session::{Kind, Session, block_on};

#[derive(Serialize)]
struct Answer<'a> {
    version: u32,
    applied: &'a [String],
}

pub(super) fn migrate(session: &Session) -> Result<Exit, Failure> {
    let loaded = session.load(Kind::Errand)?;
    let migrated = block_on(async { Ok(migrations::migrate(&app::pools(&loaded.config)?).await?) })
        .map_err(|failure: Failure| failure.at(&loaded.config.database.place()))?;
    if session.output.is_json() {
        session.output.json(&Answer { version: migrated.version, applied: &migrated.applied })?;
        return Ok(Exit::Success);
    }
    let mut lines: Vec<String> = migrated.applied.iter().map(|name| format!("applied {name}")).collect();
    let state = if migrated.applied.is_empty() { "already is at" } else { "now is at" };
    lines.push(format!("the ledger {state} schema version {}", migrated.version));
    session.output.text(&lines.join("\n"))?;
    Ok(Exit::Success)
}
