//! Asking before many objects are changed.

use std::io::{BufRead, IsTerminal};

use super::exit::{Exit, Failure};
use super::output::note;

/// In a pipe nobody can be asked; so many objects are never changed by a slip of the shell.
const UNASKED: usize = 100;

/// Asks at a terminal where more than one object is meant, after showing what they are.
pub(super) fn may_go_on(verb: &str, objects: usize, groups: impl IntoIterator<Item = String>) -> Result<bool, Failure> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() || !std::io::stderr().is_terminal() {
        if objects <= UNASKED {
            return Ok(true);
        }
        let message = format!("{objects} objects would be changed and nobody can be asked");
        return Err(Failure::new(Exit::Usage, message, "look with --dry-run, then add --yes"));
    }
    if objects == 1 {
        return Ok(true);
    }
    for group in groups {
        note(&format!("  {group}"));
    }
    note(&format!("{verb} these {objects} objects? [y/N]"));
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
