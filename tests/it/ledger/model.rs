//! What the ledger should do, in memory and one object at a time: no SQL, no locks, no time but "due" or not.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use keyfall::config::feed::OnChange;
use keyfall::domain::state::{SkipReason, State};
use keyfall::domain::verdict::Verdict;
use keyfall::store::ledger::{Found, SeriesPosition};
use tokio_postgres::Row;
use uuid::Uuid;

use super::MAX_ATTEMPTS;

/// The words of a state before and after; none before the object was known.
pub(crate) type Transition = (Option<&'static str>, &'static str);

/// Every transition there is. `undone` has no way in yet; the only way out of `loaded` is to be replaced.
pub(crate) const TRANSITIONS: [Transition; 19] = [
    // Discovery.
    (None, "pending"),
    (None, "skipped"),
    (None, "quarantined"),
    (Some("pending"), "superseded"),
    (Some("missing"), "pending"),
    (Some("superseded"), "pending"),
    // Work.
    (Some("pending"), "leased"),
    (Some("leased"), "pending"),
    (Some("leased"), "loaded"),
    (Some("loaded"), "superseded"),
    (Some("leased"), "quarantined"),
    (Some("leased"), "missing"),
    (Some("leased"), "superseded"),
    (Some("leased"), "skipped"),
    // The operator.
    (Some("quarantined"), "pending"),
    (Some("skipped"), "pending"),
    (Some("pending"), "skipped"),
    (Some("quarantined"), "skipped"),
    (Some("missing"), "skipped"),
];

/// What happens to a loaded object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disposal {
    None,
    Pending,
    Done,
}

impl Disposal {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pending => "pending",
            Self::Done => "done",
        }
    }
}

/// Whether and why the feed loads nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Pause {
    #[default]
    None,
    Operator,
    Halt,
}

/// One row of `keyfall.objects`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "columns of a row")]
pub(crate) struct Entry {
    /// Zero until the server's is known.
    pub(crate) id: i64,
    pub(crate) key: String,
    pub(crate) version: String,
    pub(crate) key_time: Option<Timestamp>,
    pub(crate) visible_at: Timestamp,
    pub(crate) state: State,
    pub(crate) reason: Option<String>,
    pub(crate) due: bool,
    pub(crate) attempt: u32,
    pub(crate) suspicions: u32,
    pub(crate) owner: Option<String>,
    pub(crate) token: Option<Uuid>,
    pub(crate) disposal: Disposal,
    pub(crate) disposal_due: bool,
    pub(crate) disposal_attempts: u32,
    pub(crate) code: Option<String>,
    pub(crate) is_superseded: bool,
    pub(crate) approved: bool,
}

impl Entry {
    pub(crate) fn read(row: &Row) -> Self {
        let count = |column| row.get::<_, i32>(column).unsigned_abs();
        Self {
            id: row.get(0),
            key: row.get(1),
            version: row.get(2),
            key_time: row.get(3),
            visible_at: row.get(4),
            state: row.get::<_, String>(5).parse().expect("a state"),
            reason: row.get(6),
            due: row.get(7),
            attempt: count(8),
            suspicions: count(9),
            owner: row.get(10),
            token: row.get(11),
            disposal: match row.get(12) {
                "none" => Disposal::None,
                "pending" => Disposal::Pending,
                "done" => Disposal::Done,
                other => panic!("disposal {other}"),
            },
            disposal_due: row.get(13),
            disposal_attempts: count(14),
            code: row.get(15),
            is_superseded: row.get(16),
            approved: row.get(17),
        }
    }

    fn discovered(found: &Found) -> Self {
        Self {
            id: 0,
            key: found.listed.key.clone(),
            version: found.listed.version(),
            key_time: found.key_time,
            visible_at: found.listed.last_modified,
            state: if found.skip.is_some() { State::Skipped } else { State::Pending },
            reason: found.skip.map(|reason| SkipReason::as_str(reason).to_owned()),
            due: true,
            attempt: 0,
            suspicions: 0,
            owner: None,
            token: None,
            disposal: Disposal::None,
            disposal_due: true,
            disposal_attempts: 0,
            code: None,
            is_superseded: false,
            approved: false,
        }
    }

    /// Nobody owns it any more.
    fn free(&mut self, state: State) {
        self.state = state;
        self.owner = None;
        self.token = None;
    }

    fn is(&self, found: &Found) -> bool {
        self.key == found.listed.key && self.version == found.listed.version()
    }
}

/// What a page came to.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) skipped: usize,
    pub(crate) quarantined: u64,
    pub(crate) revived: u64,
}

#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) policy: OnChange,
    /// By id.
    pub(crate) entries: Vec<Entry>,
    pub(crate) pause: Pause,
}

/// The transitions between two looks at all states.
pub(crate) fn transitions(before: &BTreeMap<i64, State>, after: &BTreeMap<i64, State>) -> Vec<Transition> {
    let change = |(id, state): (&i64, &State)| {
        let old = before.get(id).copied();
        (old != Some(*state)).then(|| (old.map(State::as_str), state.as_str()))
    };
    after.iter().filter_map(change).collect()
}

impl Model {
    pub(crate) fn new(policy: OnChange) -> Self {
        Self { policy, entries: Vec::new(), pause: Pause::None }
    }

    pub(crate) fn states(&self) -> BTreeMap<i64, State> {
        self.entries.iter().map(|entry| (entry.id, entry.state)).collect()
    }

    pub(crate) fn in_state(&self, state: State) -> Vec<i64> {
        self.entries.iter().filter(|entry| entry.state == state).map(|entry| entry.id).collect()
    }

    fn entry(&mut self, id: i64) -> &mut Entry {
        self.entries.iter_mut().find(|entry| entry.id == id).expect("a known id")
    }

    /// The entry, where the lease is still what it says.
    fn held(&mut self, held: (i64, Uuid)) -> Option<&mut Entry> {
        self.is_held(held).then(|| self.entry(held.0))
    }

    /// Whether the object is in this state under this token.
    fn is_under(&self, (id, token): (i64, Uuid), state: State) -> bool {
        self.entries.iter().any(|entry| entry.id == id && entry.state == state && entry.token == Some(token))
    }

    pub(crate) fn is_held(&self, held: (i64, Uuid)) -> bool {
        self.is_under(held, State::Leased)
    }

    /// Loaded, and perhaps replaced since.
    pub(crate) fn was_loaded_by(&self, held: (i64, Uuid)) -> bool {
        self.is_under(held, State::Loaded) || self.is_under(held, State::Superseded)
    }

    pub(crate) fn is_held_or_loaded(&self, held: (i64, Uuid)) -> bool {
        self.is_held(held) || self.was_loaded_by(held)
    }

    // Discovery.

    /// Seconds by which an object lies behind the newest key time known, if it does, where it is new and to be loaded.
    pub(crate) fn lateness(&self, found: &Found) -> Option<f64> {
        let known = self.entries.iter().any(|entry| entry.is(found));
        let newest = self.position(&found.series).newest;
        let late = newest.zip(found.key_time).map_or(0.0, |(newest, time)| newest.duration_since(time).as_secs_f64());
        let late = late.max(0.0);
        (!known && found.skip.is_none() && self.set_aside(found).is_none()).then_some(late)
    }

    pub(crate) fn record(&mut self, page: &[Found]) -> Outcome {
        let mut outcome = Outcome::default();
        for found in page {
            let set_aside = self.set_aside(found);
            let written = match self.entries.iter_mut().find(|entry| entry.is(found)) {
                None => {
                    let mut entry = Entry::discovered(found);
                    if let Some(state) = set_aside {
                        entry.state = state;
                        entry.reason = (state == State::Skipped).then(|| "changed".to_owned());
                        entry.code = Some("E-CHANGED".to_owned());
                    }
                    outcome.skipped += usize::from(entry.state == State::Skipped);
                    outcome.quarantined += u64::from(entry.state == State::Quarantined);
                    let is_skipped = entry.state == State::Skipped;
                    self.entries.push(entry);
                    !is_skipped
                }
                Some(entry) => {
                    let back = found.skip.is_none() && is_back(entry, found.listed.last_modified);
                    outcome.revived += u64::from(back);
                    back
                }
            };
            if written && found.skip.is_none() {
                self.supersede(found);
            }
        }
        outcome
    }

    /// What becomes of a new object of whose key another version is loaded.
    fn set_aside(&self, found: &Found) -> Option<State> {
        let loaded = |entry: &Entry| entry.key == found.listed.key && entry.state == State::Loaded;
        let is_changed = found.skip.is_none() && self.entries.iter().any(loaded);
        match self.policy {
            OnChange::Ignore if is_changed => Some(State::Skipped),
            OnChange::Quarantine if is_changed => Some(State::Quarantined),
            _ => None,
        }
    }

    /// Older versions of the key that nobody has begun with.
    fn supersede(&mut self, found: &Found) {
        let older = |entry: &&mut Entry| {
            entry.key == found.listed.key
                && !entry.is(found)
                && entry.state == State::Pending
                && entry.visible_at < found.listed.last_modified
        };
        for entry in self.entries.iter_mut().filter(older) {
            entry.state = State::Superseded;
            entry.is_superseded = true;
        }
    }

    /// Objects whose delay has to end by the history, not by the clock.
    pub(crate) fn delayed(&self) -> Vec<i64> {
        self.entries.iter().filter(|entry| !entry.due).map(|entry| entry.id).collect()
    }

    pub(crate) fn ripen(&mut self) {
        for entry in &mut self.entries {
            entry.due = true;
            entry.disposal_due = true;
        }
    }

    // Leases.

    /// Key time and key of what may be leased, oldest first.
    pub(crate) fn leasable(&self) -> Vec<(Option<Timestamp>, String)> {
        let open = |entry: &&Entry| entry.state == State::Pending && entry.due && self.pause == Pause::None;
        let mut open: Vec<_> = self.entries.iter().filter(open).collect();
        open.sort_by_key(|entry| (entry.key_time.is_none(), entry.key_time, entry.key.clone()));
        open.into_iter().map(|entry| (entry.key_time, entry.key.clone())).collect()
    }

    pub(crate) fn lease(&mut self, id: i64, owner: usize, token: Uuid) -> &Entry {
        let entry = self.entry(id);
        assert!(entry.state == State::Pending && entry.due, "leased: {entry:?}");
        entry.state = State::Leased;
        entry.owner = Some(owner.to_string());
        entry.token = Some(token);
        entry.attempt += 1;
        entry
    }

    pub(crate) fn expire(&mut self, id: i64) {
        self.entry(id).free(State::Pending);
    }

    pub(crate) fn release(&mut self, held: (i64, Uuid)) -> bool {
        let Some(entry) = self.held(held) else { return false };
        entry.free(State::Pending);
        entry.attempt -= 1;
        true
    }

    pub(crate) fn settle(&mut self, held: (i64, Uuid), verdict: Verdict, delayed: bool) -> bool {
        let Some(entry) = self.held(held) else { return false };
        let state = match verdict {
            Verdict::Retry | Verdict::Halt | Verdict::Release => State::Pending,
            Verdict::Suspect if entry.suspicions + 1 < MAX_ATTEMPTS => {
                entry.suspicions += 1;
                State::Pending
            }
            Verdict::Suspect | Verdict::Quarantine => State::Quarantined,
            Verdict::Missing => State::Missing,
            Verdict::Superseded => State::Superseded,
            Verdict::Skip(reason) => {
                entry.reason = Some(reason.as_str().to_owned());
                State::Skipped
            }
        };
        entry.free(state);
        entry.due = state != State::Pending || !delayed;
        entry.code = Some(format!("E-{}", verdict.as_str()));
        true
    }

    /// Each of these objects with another version of its key that is loaded, and whether an operator approved the first.
    pub(crate) fn others(&self, ids: &[i64]) -> Vec<(i64, i64, bool)> {
        let mut others = Vec::new();
        for object in self.entries.iter().filter(|entry| ids.contains(&entry.id)) {
            let other =
                |entry: &&Entry| entry.key == object.key && entry.id != object.id && entry.state == State::Loaded;
            others.extend(self.entries.iter().filter(other).map(|other| (object.id, other.id, object.approved)));
        }
        others
    }

    /// Keys of these objects, each once.
    pub(crate) fn keys(&self, ids: &[i64]) -> BTreeSet<String> {
        self.entries.iter().filter(|entry| ids.contains(&entry.id)).map(|entry| entry.key.clone()).collect()
    }

    pub(crate) fn commit(&mut self, held: &[(i64, Uuid)], disposal: Disposal) -> bool {
        let all = held.iter().all(|held| self.is_held(*held));
        let ids: Vec<i64> = held.iter().map(|(id, _)| *id).collect();
        let replaced = if all && self.policy == OnChange::Replace { self.others(&ids) } else { Vec::new() };
        for (_, other, _) in replaced {
            let other = self.entry(other);
            other.state = State::Superseded;
            other.is_superseded = true;
            other.disposal = Disposal::None;
        }
        for entry in held.iter().filter(|_| all).map(|(id, _)| *id).collect::<Vec<_>>() {
            let entry = self.entry(entry);
            entry.state = State::Loaded;
            entry.reason = None;
            entry.code = None;
            entry.approved = false;
            entry.disposal = disposal;
            entry.disposal_due = true;
        }
        all
    }

    // Disposal.

    pub(crate) fn disposals_due(&self) -> Vec<i64> {
        let due = |entry: &&Entry| entry.disposal == Disposal::Pending && entry.disposal_due;
        self.entries.iter().filter(due).map(|entry| entry.id).collect()
    }

    pub(crate) fn disposals_pending(&self) -> u64 {
        self.entries.iter().filter(|entry| entry.disposal == Disposal::Pending).count() as u64
    }

    pub(crate) fn take_disposal(&mut self, id: i64) -> u32 {
        assert!(self.disposals_due().contains(&id), "{id} was not due");
        let entry = self.entry(id);
        assert_eq!(entry.state, State::Loaded, "disposal of what is not loaded");
        entry.disposal_due = false;
        entry.disposal_attempts += 1;
        entry.disposal_attempts
    }

    pub(crate) fn mark_disposed(&mut self, id: i64) -> bool {
        let entry = self.entry(id);
        let pending = entry.disposal == Disposal::Pending;
        if pending {
            entry.disposal = Disposal::Done;
        }
        pending
    }

    pub(crate) fn postpone(&mut self, id: i64) {
        let entry = self.entry(id);
        if entry.disposal == Disposal::Pending {
            entry.disposal_due = false;
        }
    }

    pub(crate) fn keep_instead(&mut self) -> u64 {
        let mut kept = 0;
        for entry in self.entries.iter_mut().filter(|entry| entry.disposal == Disposal::Pending) {
            entry.disposal = Disposal::None;
            kept += 1;
        }
        kept
    }

    // The operator.

    pub(crate) fn retry(&mut self, ids: &[i64]) -> BTreeSet<i64> {
        let from = [State::Pending, State::Quarantined, State::Missing, State::Skipped, State::Undone];
        self.change(ids, &from, |entry| {
            let of_changed = entry.state == State::Quarantined && entry.code.as_deref() == Some("E-CHANGED");
            entry.approved |= of_changed || entry.reason.as_deref() == Some("changed");
            entry.state = State::Pending;
            entry.reason = None;
            entry.due = true;
            entry.suspicions = 0;
            entry.code = None;
        })
    }

    pub(crate) fn skip(&mut self, ids: &[i64]) -> BTreeSet<i64> {
        self.change(ids, &[State::Pending, State::Quarantined, State::Missing], |entry| {
            entry.state = State::Skipped;
            entry.reason = Some("operator".to_owned());
        })
    }

    fn change(&mut self, ids: &[i64], from: &[State], change: impl Fn(&mut Entry)) -> BTreeSet<i64> {
        let mut changed = BTreeSet::new();
        for entry in self.entries.iter_mut().filter(|entry| ids.contains(&entry.id) && from.contains(&entry.state)) {
            change(entry);
            changed.insert(entry.id);
        }
        changed
    }

    // Positions.

    pub(crate) fn position(&self, series: &str) -> SeriesPosition {
        let open = self.entries.iter().filter(|entry| !entry.state.is_terminal());
        let now = Timestamp::now();
        SeriesPosition {
            series: series.to_owned(),
            newest: self.entries.iter().filter_map(|entry| entry.key_time).filter(|time| *time <= now).max(),
            oldest_open: open.filter_map(|entry| entry.key_time).min(),
        }
    }

    /// The oldest key time that is not terminal, or the newest of all.
    pub(crate) fn frontier(&self) -> Option<Timestamp> {
        self.position("").oldest_open.or_else(|| self.entries.iter().filter_map(|entry| entry.key_time).max())
    }
}

/// Whether a known version is back: gone or replaced, or loaded and disposed of, and uploaded again.
fn is_back(entry: &mut Entry, visible_at: Timestamp) -> bool {
    let newer = visible_at > entry.visible_at;
    match entry.state {
        State::Missing | State::Superseded if visible_at >= entry.visible_at => {
            entry.state = State::Pending;
            entry.suspicions = 0;
            // As old as it was: perhaps a stale page, so not at once.
            entry.due = newer;
        }
        State::Loaded if entry.disposal == Disposal::Done && newer => {
            entry.disposal = Disposal::Pending;
            entry.disposal_due = true;
            entry.due = true;
        }
        _ => return false,
    }
    entry.visible_at = visible_at;
    entry.is_superseded = false;
    true
}
