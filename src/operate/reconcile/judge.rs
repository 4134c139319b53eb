//! What a pair says, by one look at each side. Pure.

use std::time::Duration;

use jiff::Timestamp;

use super::finding::Finding;
use crate::config::feed::{Disposal, Feed};
use crate::domain::object::Listed;
use crate::domain::state::{SkipReason, State};
use crate::operate::compare::{Archive, Pair};
use crate::pipeline::discover;
use crate::store::ledger::Entry;

/// A key that is younger than the longest poll interval and this is not unknown yet: the poll may be on its way.
const ON_ITS_WAY: Duration = Duration::from_secs(10);

/// What holds for every pair of a run.
pub(super) struct Rules<'a> {
    pub(super) feed: &'a Feed,
    /// Where copies under their plain names lie; their listing is a side of the pair.
    pub(super) archive: Option<&'a Archive>,
    /// When the run began, by our clock: how old an object is.
    pub(super) now: Timestamp,
    /// The same by the database's clock. What was discovered later was perhaps put behind the listing's back.
    pub(super) begun: Timestamp,
}

/// One thing found of a pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) finding: Finding,
    /// The ledger's entry it is about; none where the ledger does not know the object.
    pub(super) id: Option<i64>,
    pub(super) size: u64,
    /// Since when the object has been there.
    pub(super) since: Timestamp,
    pub(super) detail: Option<String>,
}

/// All that was found of a pair.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Judged {
    pub(super) found: Vec<Found>,
    /// Versions whose rows are durable.
    pub(super) loaded: u64,
    /// Why the object in the bucket is not wanted.
    pub(super) skipped: Option<String>,
    /// Copies that only a look at their own names can tell of.
    pub(super) unseen: Vec<i64>,
    /// Whether recording the object, as a sweep would, changes something.
    pub(super) records: bool,
}

impl Judged {
    /// Whether nothing has to be looked at again.
    pub(super) fn is_settled(&self) -> bool {
        self.unseen.is_empty()
            && self.found.iter().all(|found| found.finding.class() == super::finding::Class::Information)
    }

    pub(super) fn has(&self, finding: Finding, id: Option<i64>) -> bool {
        self.found.iter().any(|found| found.finding == finding && found.id == id)
    }

    fn add(&mut self, finding: Finding, entry: &Entry, detail: Option<String>) {
        self.found.push(Found { finding, id: Some(entry.id), size: entry.size, since: entry.visible_at, detail });
    }
}

/// How the archive holds the copy of one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Copy {
    Same,
    Other,
    Absent,
}

/// Judges a pair. `looked` are the copies that were asked for by name.
pub(super) fn judge(rules: &Rules<'_>, pair: &Pair, looked: &[(i64, Copy)]) -> Judged {
    let mut judged = Judged::default();
    let version = pair.listed.as_ref().map(Listed::version);
    let current = pair.known.iter().find(|entry| Some(&entry.version) == version.as_ref());
    if let Some(listed) = &pair.listed {
        let skip = discover::judge(rules.feed, listed.clone()).skip;
        match current {
            None => not_known(rules, pair, listed, skip, &mut judged),
            Some(entry) => known_and_there(rules, entry, skip, &mut judged),
        }
    }
    let last = pair.known.iter().map(|entry| entry.id).max();
    for entry in pair.known.iter().filter(|entry| current.is_none_or(|current| current.id != entry.id)) {
        // Of versions that are not there the last one speaks for the key, unless another version is there.
        let speaks = pair.listed.is_none() && last == Some(entry.id);
        known_and_not_there(rules, entry, speaks, &mut judged);
    }
    for entry in &pair.known {
        archived(rules, pair, entry, looked, &mut judged);
    }
    judged
}

fn not_known(rules: &Rules<'_>, pair: &Pair, listed: &Listed, skip: Option<SkipReason>, judged: &mut Judged) {
    if let Some(reason) = skip {
        judged.skipped = Some(reason.as_str().to_owned());
        return;
    }
    judged.records = true;
    let age = rules.now.duration_since(listed.last_modified);
    let is_young = age.is_negative() || age.unsigned_abs() < rules.feed.poll_interval_max + ON_ITS_WAY;
    let finding = match (is_young, pair.known.is_empty()) {
        (true, _) => Finding::Waiting,
        (false, true) => Finding::Unknown,
        (false, false) => Finding::Changed,
    };
    let detail = is_young.then(|| "not discovered yet".to_owned());
    judged.found.push(Found { finding, id: None, size: listed.size, since: listed.last_modified, detail });
}

fn known_and_there(rules: &Rules<'_>, entry: &Entry, skip: Option<SkipReason>, judged: &mut Judged) {
    match entry.state {
        State::Pending | State::Leased => judged.add(Finding::Waiting, entry, Some(progress(entry))),
        State::Loaded => {
            judged.loaded += 1;
            match (&rules.feed.disposal, entry.disposal.as_str()) {
                (Disposal::Keep, _) => {}
                (_, "pending" | "failed") => judged.add(Finding::DisposalWaiting, entry, None),
                _ => judged.add(Finding::StillThere, entry, Some(format!("disposal {}", entry.disposal))),
            }
        }
        State::Quarantined => judged.add(Finding::Quarantined, entry, entry.error_code.clone()),
        State::Skipped if skip.is_none() && is_the_configurations(entry) => {
            judged.add(Finding::Wanted, entry, entry.reason.clone());
        }
        State::Skipped => judged.skipped = Some(entry.reason.clone().unwrap_or_else(|| "unknown".to_owned())),
        State::Missing | State::Superseded => {
            judged.skipped = skip.map(|reason| reason.as_str().to_owned());
            if judged.skipped.is_none() {
                judged.records = true;
                judged.add(Finding::SetAside, entry, Some(entry.state.as_str().to_owned()));
            }
        }
        State::Undone => judged.add(Finding::Undone, entry, None),
    }
}

fn known_and_not_there(rules: &Rules<'_>, entry: &Entry, speaks: bool, judged: &mut Judged) {
    let is_kept = rules.feed.disposal == Disposal::Keep;
    match entry.state {
        // Sent back by `keyfall replay`: it is read from the archive.
        State::Pending | State::Leased if entry.disposal == "done" => {
            judged.add(Finding::Waiting, entry, Some(progress(entry)));
        }
        State::Pending | State::Leased if speaks => judged.add(Finding::Gone, entry, Some(progress(entry))),
        State::Quarantined if speaks => judged.add(Finding::Quarantined, entry, entry.error_code.clone()),
        State::Missing if speaks => judged.add(Finding::NeverRead, entry, None),
        State::Loaded => {
            judged.loaded += 1;
            let outstanding = matches!(entry.disposal.as_str(), "pending" | "failed");
            if outstanding && !is_kept {
                judged.add(Finding::DisposalWaiting, entry, None);
            } else if speaks && entry.disposal == "none" && entry.discovered_at < rules.begun {
                judged.add(Finding::Removed, entry, None);
            }
        }
        // What was replaced before it was read, skipped, or undone has left nothing to be done behind.
        State::Pending
        | State::Leased
        | State::Quarantined
        | State::Skipped
        | State::Missing
        | State::Superseded
        | State::Undone => {}
    }
}

/// A loaded object that the ledger says was archived has its copy, of the same size.
fn archived(rules: &Rules<'_>, pair: &Pair, entry: &Entry, looked: &[(i64, Copy)], judged: &mut Judged) {
    let is_done = entry.state == State::Loaded && entry.disposal == "done";
    let Some(uri) = entry.archived_to.as_ref().filter(|_| is_done) else { return };
    let is_plain = rules.archive.is_some_and(|archive| *uri == archive.uri(&entry.key));
    let seen = match looked.iter().find(|(id, _)| *id == entry.id) {
        Some((_, copy)) => *copy,
        None if !is_plain => return judged.unseen.push(entry.id),
        None => match pair.archived {
            Some(size) if size == entry.size => Copy::Same,
            Some(_) => Copy::Other,
            None => Copy::Absent,
        },
    };
    match seen {
        Copy::Same => {}
        Copy::Other => judged.add(Finding::ArchiveDiffers, entry, Some(uri.clone())),
        Copy::Absent => judged.add(Finding::ArchiveMissing, entry, Some(uri.clone())),
    }
}

/// Reasons that pattern, globs and `start_from` give: with other ones, the same object is wanted.
fn is_the_configurations(entry: &Entry) -> bool {
    let reasons = [SkipReason::Pattern, SkipReason::Excluded, SkipReason::BeforeStart, SkipReason::StorageClass];
    reasons.iter().any(|reason| entry.reason.as_deref() == Some(reason.as_str()))
}

fn progress(entry: &Entry) -> String {
    let mut text = entry.state.as_str().to_owned();
    if let Some(code) = &entry.error_code {
        text += &format!(", attempt {} after {code}", entry.attempt + u32::from(entry.state == State::Pending));
    }
    text
}
