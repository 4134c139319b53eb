//! The server, the login, and the ledger in it.

use crate::config::Config;
use crate::store::error::StoreError;
use crate::store::inspect::{self, LedgerSchema, Server};
use crate::store::migrate;
use crate::store::pool::Pools;

use super::{Area, Finding};

/// What was found, and whether it makes sense to look at tables.
pub(super) struct Looked {
    pub(super) findings: Vec<Finding>,
    pub(super) usable: bool,
}

pub(super) async fn look(config: &Config, pools: &Pools) -> Looked {
    let server = match inspect::server(pools).await {
        Ok(server) => server,
        Err(error) => return Looked { findings: vec![unreachable(config, &error)], usable: false },
    };
    let mut findings = about_server(config, &server);
    match inspect::ledger(pools).await {
        Ok(schema) => findings.extend(about_ledger(&schema, migrate::verify(pools).await)),
        Err(error) => findings.push(failed("ledger", &error)),
    }
    Looked { findings, usable: true }
}

fn unreachable(config: &Config, error: &StoreError) -> Finding {
    let detail = format!("{}: {error}", config.database.place());
    Finding::fail(Area::Database, "database", detail, error.advice())
}

/// A failed look at something.
pub(super) fn failed(what: &str, error: &StoreError) -> Finding {
    let area = match error {
        StoreError::Migration { .. } => Area::Ledger,
        _ => Area::Database,
    };
    Finding::fail(area, what, error.to_string(), error.advice())
}

fn about_server(config: &Config, server: &Server) -> Vec<Finding> {
    let Server { version, user, database, .. } = server;
    let detail = format!("PostgreSQL {version} at {}, role {user:?}, database {database:?}", config.database.place());
    let mut findings = vec![Finding::ok(Area::Database, "database", detail)];
    if server.read_only {
        let detail = "the server takes no writes: it is a replica, or default_transaction_read_only is on";
        findings.push(Finding::fail(Area::Database, "database", detail, "connect to the primary"));
    }
    if server.settings_lost {
        let error = StoreError::SettingsLost;
        findings.push(Finding::fail(Area::Database, "database", error.to_string(), error.advice()));
    }
    for setting in &server.unsafe_settings {
        let detail = "is off: after a crash of the machine rows and ledger may be lost or damaged";
        let advice = format!("turn {setting} on, unless the data may be lost");
        findings.push(Finding::warn(Area::Database, setting.as_str(), detail, advice));
    }
    findings
}

fn about_ledger(schema: &LedgerSchema, verified: Result<(), StoreError>) -> Vec<Finding> {
    let mut findings = Vec::new();
    match (schema.version, verified) {
        (Some(version), Ok(())) => {
            findings.push(Finding::ok(
                Area::Ledger,
                "ledger",
                format!("schema version {version}, as this program knows it"),
            ));
        }
        (None, _) if !schema.missing_rights.is_empty() => {}
        (None, _) if schema.may_migrate => findings.push(Finding::ok(
            Area::Ledger,
            "ledger",
            "no ledger yet: `keyfall migrate` or the first start of the daemon makes it",
        )),
        (None, _) => findings.push(Finding::fail(
            Area::Ledger,
            "ledger",
            "no ledger yet, and the role may not create a schema in this database",
            "GRANT CREATE ON DATABASE … TO the role, or run `keyfall migrate` once with a role that has it",
        )),
        (Some(_), Err(error)) => findings.push(failed("ledger", &error)),
    }
    for right in &schema.missing_rights {
        let detail = format!("the role lacks {right}");
        findings.push(Finding::fail(Area::Database, "ledger", detail, format!("GRANT {right} TO the role")));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operate::check::Level;

    fn schema(version: Option<u32>, may_migrate: bool) -> LedgerSchema {
        LedgerSchema { version, missing_rights: Vec::new(), may_migrate }
    }

    fn mismatch() -> Result<(), StoreError> {
        Err(StoreError::Migration { detail: "the database has version 9, this program knows 1".to_owned() })
    }

    fn levels(findings: &[Finding]) -> Vec<(Level, Area)> {
        findings.iter().map(|finding| (finding.level, finding.area)).collect()
    }

    #[test]
    fn a_missing_ledger_is_no_problem_for_a_role_that_can_make_it() {
        assert_eq!(levels(&about_ledger(&schema(None, true), mismatch())), [(Level::Ok, Area::Ledger)]);
        assert_eq!(levels(&about_ledger(&schema(None, false), mismatch())), [(Level::Fail, Area::Ledger)]);
    }

    #[test]
    fn another_schema_version_fails() {
        assert_eq!(levels(&about_ledger(&schema(Some(9), true), mismatch())), [(Level::Fail, Area::Ledger)]);
        assert_eq!(levels(&about_ledger(&schema(Some(1), false), Ok(()))), [(Level::Ok, Area::Ledger)]);
    }

    #[test]
    fn each_missing_right_comes_with_its_grant() {
        let rights = vec!["INSERT on keyfall.objects".to_owned()];
        let lacking = LedgerSchema { missing_rights: rights, ..schema(Some(1), false) };
        let findings = about_ledger(&lacking, Ok(()));
        assert_eq!(findings[1].advice.as_deref(), Some("GRANT INSERT on keyfall.objects TO the role"));
    }
}
