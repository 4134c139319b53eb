//! Whether this instance can do its work: one named check per dependency, reported by whoever knows it.
//!
//! An instance is ready when every check it was told to expect has been reported well. Deliberately absent: asking.
//! A probe only reads what was reported last, so probes cost nothing and cannot be used to load a dependency.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

/// What a check says before its first report.
const UNKNOWN: &str = "not checked yet";

/// The state of all checks, shared by those who report and those who answer probes.
#[derive(Debug)]
pub struct Readiness {
    checks: RwLock<BTreeMap<String, Result<(), String>>>,
}

impl Readiness {
    /// Expects these checks; each is failing until it is reported.
    pub fn expecting<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let checks = names.into_iter().map(|name| (name.to_owned(), Err(UNKNOWN.to_owned()))).collect();
        Self { checks: RwLock::new(checks) }
    }

    /// Reports a check, a new one included. The text of a failure is shown to probes: never put a secret into it.
    pub fn report(&self, name: &str, outcome: Result<(), String>) {
        self.checks.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), outcome);
    }

    /// Drops a check, for a dependency that a reload took away.
    pub fn forget(&self, name: &str) {
        self.checks.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// Whether every check is well.
    pub fn ready(&self) -> bool {
        self.checks.read().unwrap_or_else(PoisonError::into_inner).values().all(Result::is_ok)
    }

    /// All checks by name.
    pub fn checks(&self) -> BTreeMap<String, Result<(), String>> {
        self.checks.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_means_that_every_expected_check_was_reported_well() {
        let readiness = Readiness::expecting(["database", "s3"]);
        assert!(!readiness.ready());
        assert_eq!(readiness.checks()["s3"], Err(UNKNOWN.to_owned()));
        readiness.report("database", Ok(()));
        assert!(!readiness.ready());
        readiness.report("s3", Ok(()));
        assert!(readiness.ready());
        readiness.report("feeds", Err("orders is paused".to_owned()));
        assert!(!readiness.ready());
        readiness.forget("feeds");
        assert!(readiness.ready());
    }
}
