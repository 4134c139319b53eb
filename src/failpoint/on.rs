//! What happens at a failpoint.
//!
//! Two ways to say it. `KEYFALL_FAILPOINTS="commit.committed=kill@1;copy.frame=error:retry@3"` arms points from the
//! start, `@n` being the n-th hit and every hit without it. `KEYFALL_FAILPOINT_CONTROL` names a Unix socket that is
//! asked at every hit, by a connection of its own, and whose owner answers when he likes: that is how a test sees every
//! step in one order and pauses a process without blocking its threads. A control that has gone away kills the
//! process, so no test leaves one behind.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::Point;
use crate::config;
use crate::domain::verdict::Verdict;

/// Which points do what, by themselves.
const SPECIFICATION: &str = "KEYFALL_FAILPOINTS";
/// Socket that is asked at each hit.
const CONTROL: &str = "KEYFALL_FAILPOINT_CONTROL";

/// A failure that a test asked for.
#[derive(Debug, thiserror::Error)]
#[error("failpoint {point}")]
pub struct Injected {
    point: &'static str,
    verdict: Verdict,
}

impl Injected {
    /// What follows for the object.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }
}

/// Passes a step that can answer an error.
pub async fn reach(point: Point) -> Result<(), Injected> {
    match act(point).await {
        Some(verdict) => Err(Injected { point: point.name(), verdict }),
        None => Ok(()),
    }
}

/// Passes a step that has nobody to answer an error to.
pub async fn pass(point: Point) {
    // An error asked for here is one the table does not offer; the caller could do nothing with it.
    act(point).await;
}

/// Refuses a specification that cannot be read, before anything runs on it.
pub fn check() -> Result<(), String> {
    script().as_ref().map(drop).map_err(Clone::clone)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Go,
    Kill,
    Hang,
    Panic,
    Error(Verdict),
}

impl FromStr for Action {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "go" => Self::Go,
            "kill" => Self::Kill,
            "hang" => Self::Hang,
            "panic" => Self::Panic,
            "error:retry" => Self::Error(Verdict::Retry),
            "error:suspect" => Self::Error(Verdict::Suspect),
            "error:quarantine" => Self::Error(Verdict::Quarantine),
            "error:halt" => Self::Error(Verdict::Halt),
            _ => {
                let known = "kill, hang, panic, error:retry, error:suspect, error:quarantine, error:halt";
                return Err(format!("{SPECIFICATION}: {text:?} is no action; there are {known}"));
            }
        })
    }
}

struct Script {
    control: Option<PathBuf>,
    /// By name: the action and the only hit it strikes, if there is one.
    armed: BTreeMap<&'static str, (Action, Option<u64>)>,
}

fn script() -> &'static Result<Script, String> {
    static SCRIPT: OnceLock<Result<Script, String>> = OnceLock::new();
    SCRIPT.get_or_init(|| {
        let environment = config::environment();
        let text = environment.get(SPECIFICATION).map(String::as_str).unwrap_or_default();
        Ok(Script { control: environment.get(CONTROL).map(PathBuf::from), armed: parse(text)? })
    })
}

fn parse(text: &str) -> Result<BTreeMap<&'static str, (Action, Option<u64>)>, String> {
    let mut armed = BTreeMap::new();
    for entry in text.split(';').map(str::trim).filter(|entry| !entry.is_empty()) {
        let (name, action) =
            entry.split_once('=').ok_or_else(|| format!("{SPECIFICATION}: {entry:?} is not name=action"))?;
        let point = Point::ALL
            .iter()
            .find(|point| point.name() == name)
            .ok_or_else(|| format!("{SPECIFICATION}: no point is named {name:?}; see `keyfall failpoints list`"))?;
        let (action, nth) = match action.split_once('@') {
            Some((action, nth)) => {
                let nth = nth.parse().map_err(|_not_a_number| format!("{SPECIFICATION}: {entry:?}: @{nth}"))?;
                (action, Some(nth))
            }
            None => (action, None),
        };
        armed.insert(point.name(), (action.parse()?, nth));
    }
    Ok(armed)
}

async fn act(point: Point) -> Option<Verdict> {
    static HITS: [AtomicU64; Point::ALL.len()] = [const { AtomicU64::new(0) }; Point::ALL.len()];
    let Ok(script) = script() else { return None };
    let hit = HITS.get(point as usize).map_or(0, |hits| hits.fetch_add(1, Ordering::SeqCst) + 1);
    let action = match &script.control {
        Some(path) => ask(path, point, hit).await.unwrap_or(Action::Kill),
        None => match script.armed.get(point.name()) {
            Some((action, nth)) if nth.is_none_or(|nth| nth == hit) => *action,
            _ => Action::Go,
        },
    };
    match action {
        Action::Go => None,
        Action::Error(verdict) => Some(verdict),
        Action::Hang => std::future::pending().await,
        Action::Kill => die().await,
        #[expect(clippy::panic, reason = "asked for")]
        Action::Panic => panic!("failpoint {}", point.name()),
    }
}

/// Reports the hit and waits for the answer; none where nobody listens any more.
async fn ask(control: &Path, point: Point, hit: u64) -> Option<Action> {
    let mut stream = UnixStream::connect(control).await.ok()?;
    stream.write_all(format!("{} {hit}\n", point.name()).as_bytes()).await.ok()?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).await.ok()?;
    answer.trim().parse().ok()
}

/// SIGKILL to ourselves: no destructor, no flush, no rollback.
async fn die() -> ! {
    if let Err(error) = signal_hook::low_level::raise(signal_hook::consts::SIGKILL) {
        tracing::error!(error = %error, "the process could not kill itself");
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_specification_arms_points_and_names_what_it_cannot_read() {
        let armed = parse("commit.committed=kill@1; copy.frame=error:retry;").expect("a specification");
        assert_eq!(armed.get("commit.committed"), Some(&(Action::Kill, Some(1))));
        assert_eq!(armed.get("copy.frame"), Some(&(Action::Error(Verdict::Retry), None)));
        for (text, part) in [
            ("copy.row=kill", "no point is named \"copy.row\""),
            ("copy.frame=explode", "\"explode\" is no action"),
            ("copy.frame", "is not name=action"),
            ("copy.frame=kill@x", "@x"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn every_point_has_its_own_name_and_says_what_happened() {
        for (index, point) in Point::ALL.iter().enumerate() {
            assert_eq!(*point as usize, index);
            assert!(!point.about().is_empty());
            assert_eq!(Point::ALL.iter().filter(|other| other.name() == point.name()).count(), 1, "{}", point.name());
        }
    }
}
