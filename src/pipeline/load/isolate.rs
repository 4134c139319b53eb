//! Loading an object of which the server has refused a row: the others are loaded, and each refused one is named.
//!
//! All rows lie in stages. They go into their tables window by window, each under a savepoint. A window that is refused
//! is halved until one record is left; what has gone in stays. Windows grow with what went in since the last refusal
//! and never beyond an eighth of it, so the work for a refusal is bounded by what came before it, and where every
//! second record is bad, one to three statements decide each. It ends with the first rejection too many (ADR-0023).
//!
//! A row that refers to a missing one is put aside: its parent may lie further down. Once everything else is in, those
//! are tried again for as long as one of them goes in.

mod rejecting;

use crate::store::copy::{Attempt, Load, LoadedCounts, Over, Sieve, Stage, Window};
use crate::store::error::StoreError;

use super::LoadError;
use super::copying::{Sent, stage};
use super::merge::{Object, moving};
use super::signed;
use rejecting::Rejecting;

/// Windows grow to this many records unconditionally: savepoints cost more than rows below it.
const SMALL: i64 = 1024;
/// And never beyond this many: one statement, and what it has to undo.
const LARGE: i64 = 65_536;

/// A record that refers to a missing row.
struct Orphan {
    route: usize,
    window: Window,
}

/// Whether records that refer to missing rows are put aside.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// Others are still to come.
    First,
    /// All others are in.
    Last,
}

/// Brings all staged rows into their tables; answers how many each route has loaded.
pub(super) async fn all(
    object: &Object<'_>,
    load: &mut Load,
    counts: &mut LoadedCounts,
) -> Result<Vec<u64>, LoadError> {
    let Object { context, lease, targets, sent, .. } = *object;
    load.ask_constraints().await?;
    let mut isolation = Isolation {
        object,
        load,
        rejecting: Rejecting::new(context, lease, counts),
        orphans: Vec::new(),
        loaded: vec![0; sent.len()],
        sieves: Vec::new(),
    };
    for route in 0..sent.len() {
        let sieve = match stage(&context.feed, targets, sent, route) {
            Some(stage) => Some(isolation.route(&stage).await?),
            None => None,
        };
        isolation.sieves.push(sieve);
    }
    isolation.adopt().await?;
    let Isolation { rejecting, loaded, .. } = isolation;
    for (route, (Sent { rows, .. }, taken)) in sent.iter().zip(&loaded).enumerate() {
        let is_whole = taken + rejecting.of_route(route) == *rows;
        // A trigger or rule drops rows: nobody could say which.
        if !is_whole && !stage(&context.feed, targets, sent, route).is_some_and(|stage| stage.is_upsert()) {
            return Err(LoadError::Count { copied: *taken, sent: *rows });
        }
    }
    let rejected = rejecting.finish(load).await?;
    let (taken, staged): (u64, u64) = (loaded.iter().sum(), sent.iter().map(|sent| sent.rows).sum());
    // Whatever is neither in a table nor rejected was overtaken by another record of its key.
    let overtaken = staged.checked_sub(taken + rejected).ok_or(LoadError::Count { copied: taken, sent: staged })?;
    counts.loaded -= signed(overtaken + rejected);
    counts.filtered += signed(overtaken);
    counts.rejected += signed(rejected);
    Ok(loaded)
}

struct Isolation<'a> {
    object: &'a Object<'a>,
    load: &'a mut Load,
    rejecting: Rejecting,
    orphans: Vec<Orphan>,
    loaded: Vec<u64>,
    sieves: Vec<Option<Sieve>>,
}

impl Isolation<'_> {
    /// Brings the rows of one route into their table; answers the sieve for what was put aside.
    async fn route(&mut self, stage: &Stage<'_>) -> Result<Sieve, LoadError> {
        let rows = self.object.sent.get(stage.route).map_or(0, |Sent { rows, .. }| *rows);
        moving(self.object.progress, self.load.index_stage(stage, rows)).await?;
        let keyless = self.load.take_without_key(stage).await?;
        for trace in keyless {
            let rejection = rejecting::without_key(stage, trace);
            self.rejecting.add(self.load, rejection).await?;
        }
        let over = if stage.is_upsert() { Over::Ranked } else { Over::Records };
        if over == Over::Ranked {
            if stage.may_refuse_keys() {
                let keys = self.load.sieve(stage, Over::Keys).await?;
                self.through(stage, &keys).await?;
            }
            moving(self.object.progress, self.load.rank_stage(stage, rows)).await?;
        }
        let sieve = self.load.sieve(stage, over).await?;
        let taken = self.through(stage, &sieve).await?;
        self.count(stage.route, taken);
        Ok(sieve)
    }

    fn count(&mut self, route: usize, taken: u64) {
        if let Some(loaded) = self.loaded.get_mut(route) {
            *loaded += taken;
        }
    }

    /// Tries every window; answers how many rows went in.
    async fn through(&mut self, stage: &Stage<'_>, sieve: &Sieve) -> Result<u64, LoadError> {
        let Some((first, end)) = sieve.bounds else { return Ok(0) };
        let mut windows = Windows::new(first, end);
        let mut taken = 0;
        while let Some(window) = windows.next() {
            self.object.progress.step();
            match self.load.attempt(sieve, window).await? {
                Attempt::Taken(rows) => {
                    taken += rows;
                    windows.took(window);
                }
                Attempt::Refused(_) if window.to - window.from > 1 => windows.halve(window),
                Attempt::Refused(error) => {
                    taken += self.refused(stage, sieve, (window, error), Pass::First).await?;
                    windows.gave_up(window);
                }
            }
        }
        self.load.end_attempts().await?;
        Ok(taken)
    }

    /// One record is refused. Where it has a key, the one that it would have overtaken is tried in its place, and so on;
    /// answers how many rows went in.
    async fn refused(
        &mut self,
        stage: &Stage<'_>,
        sieve: &Sieve,
        (mut window, mut error): (Window, StoreError),
        pass: Pass,
    ) -> Result<u64, LoadError> {
        loop {
            if error.is_orphan() && pass == Pass::First {
                self.rejecting.put_aside(self.orphans.len(), error)?;
                self.orphans.push(Orphan { route: stage.route, window });
                return Ok(0);
            }
            let Some(trace) = self.load.traced(sieve, window).await? else {
                return Err(error.into());
            };
            self.rejecting.refuse(self.load, (stage, trace), error).await?;
            match sieve.over() {
                Over::Records => return Ok(0),
                Over::Keys => {
                    self.load.remove(sieve, window).await?;
                    return Ok(0);
                }
                Over::Ranked => window.place += 1,
            }
            match self.load.attempt(sieve, window).await? {
                Attempt::Taken(rows) => return Ok(rows),
                Attempt::Refused(next) => error = next,
            }
        }
    }

    /// Tries what was put aside, as long as something of it goes in. What is left has no parent.
    async fn adopt(&mut self) -> Result<(), LoadError> {
        let sieves = std::mem::take(&mut self.sieves);
        loop {
            let (mut moved, mut left) = (false, Vec::new());
            for Orphan { route, window } in std::mem::take(&mut self.orphans) {
                let Some(Some(sieve)) = sieves.get(route) else { continue };
                self.object.progress.step();
                match self.load.attempt(sieve, window).await? {
                    Attempt::Taken(rows) => {
                        moved = true;
                        self.count(route, rows);
                    }
                    Attempt::Refused(error) => left.push((Orphan { route, window }, error)),
                }
            }
            self.load.end_attempts().await?;
            if !moved {
                return self.abandon(&sieves, left).await;
            }
            self.orphans.extend(left.into_iter().map(|(orphan, _)| orphan));
        }
    }

    async fn abandon(&mut self, sieves: &[Option<Sieve>], left: Vec<(Orphan, StoreError)>) -> Result<(), LoadError> {
        let Object { context, targets, sent, .. } = *self.object;
        for (Orphan { route, window }, error) in left {
            let Some(Some(sieve)) = sieves.get(route) else { continue };
            let Some(stage) = stage(&context.feed, targets, sent, route) else { continue };
            let taken = self.refused(&stage, sieve, (window, error), Pass::Last).await?;
            self.count(route, taken);
        }
        Ok(self.load.end_attempts().await?)
    }
}

/// Which records are tried next.
struct Windows {
    next: i64,
    end: i64,
    /// How many the next window may have.
    width: i64,
    /// Where the last refusal was.
    refused: i64,
    /// A record before this is refused; none where nothing is known.
    suspect: Option<i64>,
}

impl Windows {
    const fn new(first: i64, end: i64) -> Self {
        Self { next: first, end, width: SMALL, refused: first, suspect: None }
    }

    fn next(&self) -> Option<Window> {
        if self.next >= self.end {
            return None;
        }
        let most = match self.suspect {
            // The refused record is among these: half of them, or the one that is left.
            Some(suspect) => ((suspect - self.next) / 2).max(1),
            None => self.end - self.next,
        };
        Some(Window { from: self.next, to: self.next + self.width.min(most), place: 1 })
    }

    /// All of the window went in.
    fn took(&mut self, window: Window) {
        self.next = window.to;
        if self.suspect.is_some_and(|suspect| suspect <= self.next) {
            self.suspect = None;
        }
        let most = ((self.next - self.refused) / 8).clamp(SMALL, LARGE);
        self.width = self.width.saturating_mul(2).min(most);
    }

    /// Something in the window was refused.
    fn halve(&mut self, window: Window) {
        self.suspect = Some(window.to);
        self.width = window.to - window.from;
    }

    /// The only record of the window was refused: as many are tried next as went in before it.
    fn gave_up(&mut self, window: Window) {
        self.width = (window.from - self.refused).clamp(1, SMALL);
        self.next = window.to;
        self.refused = window.to;
        self.suspect = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Statements it takes, and rows that are sent in vain, to find exactly these records.
    fn sift(records: i64, is_bad: impl Fn(i64) -> bool) -> (Vec<i64>, u64, i64) {
        let mut windows = Windows::new(1, records + 1);
        let (mut found, mut statements, mut in_vain, mut expected) = (Vec::new(), 0, 0, 1);
        while let Some(window) = windows.next() {
            assert!(window.from == expected && window.to > window.from && window.to <= records + 1, "{window:?}");
            statements += 1;
            let first = (window.from..window.to).find(|record| is_bad(*record));
            match first {
                None => {
                    expected = window.to;
                    windows.took(window);
                }
                Some(_) if window.to - window.from > 1 => {
                    in_vain += window.to - window.from;
                    windows.halve(window);
                }
                Some(bad) => {
                    found.push(bad);
                    expected = window.to;
                    windows.gave_up(window);
                }
            }
        }
        assert_eq!(expected, records + 1, "every record was tried");
        (found, statements, in_vain)
    }

    fn check(records: i64, is_bad: impl Fn(i64) -> bool + Copy) -> (u64, i64) {
        let (found, statements, in_vain) = sift(records, is_bad);
        assert_eq!(found, (1..=records).filter(|record| is_bad(*record)).collect::<Vec<_>>());
        (statements, in_vain)
    }

    #[test]
    fn every_bad_record_is_found_wherever_it_stands() {
        for records in [1, 2, 3, 1023, 1024, 1025, 5000] {
            check(records, |_| false);
            check(records, |_| true);
            check(records, |record| record == 1);
            check(records, |record| record == records);
            check(records, |record| record == 1 || record == 2 || record == records);
            check(records, |record| record % 7 == 3);
        }
    }

    #[test]
    fn a_hundred_bad_records_in_a_million_cost_little_beyond_the_clean_ones() {
        let (statements, in_vain) = check(1_000_000, |record| record % 10_000 == 4321);
        assert!(statements < 3000 && in_vain < 300_000, "{statements} statements, {in_vain} rows in vain");
        let (statements, in_vain) = check(1_000_000, |_| false);
        assert!(statements < 120 && in_vain == 0, "{statements} statements");
    }

    #[test]
    fn where_every_second_record_is_bad_few_statements_decide_each() {
        let (statements, in_vain) = check(100_000, |record| record % 2 == 0);
        assert!(statements <= 160_000 && in_vain <= 110_000, "{statements} statements, {in_vain} rows in vain");
    }
}
