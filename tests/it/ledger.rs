//! The ledger's statements against a model of what each may do, over random histories of three owners.
//!
//! After every operation the whole table is compared with the model, and every change of state is looked up in the
//! table of transitions. Time passes only where a history says so: delays are an hour, and end by a statement.

mod model;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use keyfall::app;
use keyfall::config::feed::{Feed, OnChange};
use keyfall::domain::lease::Lease;
use keyfall::domain::object::Listed;
use keyfall::domain::state::{Channel, SkipReason, State};
use keyfall::domain::verdict::{Failure, Verdict};
use keyfall::pipeline::discover::judge;
use keyfall::store::catalog::{self, Shape};
use keyfall::store::copy::{CopyFormat, CopyTarget, Load, LoadedCounts, Terms};
use keyfall::store::error::StoreError;
use keyfall::store::ledger::{Disposed, Found, LeaseLimits, Ledger, Loaded, SeriesPosition, Settlement};
use keyfall::store::pool::Pools;
use keyfall::store::stage::Staging;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{RngAlgorithm, TestError, TestRng, TestRunner};
use uuid::Uuid;

use crate::support::{ITEMS, Lab, item_key, loaded};
use model::{Disposal, Entry, Model, Pause, Transition};

const OWNERS: usize = 3;
const KEYS: usize = 8;
/// Histories that are the same in every run.
const FIXED: u32 = 48;
/// Histories that are new in every run.
const RANDOM: u32 = 16;
const HOUR: Duration = Duration::from_hours(1);
const MAX_ATTEMPTS: u32 = 3;
/// Versions of a key, and seconds at which one may become visible.
const VERSIONS: u8 = 2;
const SECONDS: i64 = 4;

/// One object of a page.
#[derive(Debug, Clone)]
struct Sighting {
    key: usize,
    version: u8,
    second: i64,
    archived: bool,
}

/// One of what there is; astray, where it is one that the operation is not meant for.
#[derive(Debug, Clone)]
struct Which {
    index: Index,
    astray: bool,
}

#[derive(Debug, Clone)]
enum Op {
    Record(Vec<Sighting>),
    Lease {
        owner: usize,
        objects: usize,
    },
    Renew {
        owner: usize,
    },
    /// A lease's time runs out, and somebody looks for such leases.
    Expire(Which),
    Release {
        owner: usize,
        which: Which,
    },
    Settle {
        owner: usize,
        which: Which,
        verdict: Verdict,
        delay: Duration,
    },
    /// A load of some of the leases ever held: its transaction stays open.
    Begin {
        owner: usize,
        which: Vec<Which>,
    },
    Commit {
        owner: usize,
        disposal: Disposal,
    },
    /// The owner dies with its transaction.
    Abandon {
        owner: usize,
    },
    TakeDisposals(usize),
    MarkDisposed(Index),
    Postpone(Index),
    KeepInstead,
    /// Every delay is over.
    Ripen,
    Retry(Vec<Which>),
    Skip(Vec<Which>),
    Pause,
    Resume,
    Halt,
    ClearHalt,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let sighting = (0..VERSIONS, 0..SECONDS, prop::bool::weighted(0.1))
        .prop_map(|(version, second, archived)| Sighting { key: 0, version, second, archived });
    let page = prop::collection::btree_set(0..KEYS, 1..5).prop_flat_map(move |keys| {
        let keys: Vec<usize> = keys.into_iter().collect();
        prop::collection::vec(sighting.clone(), keys.len()).prop_map(move |page| {
            page.into_iter().zip(&keys).map(|(sighting, key)| Sighting { key: *key, ..sighting }).collect()
        })
    });
    let verdicts = [
        Verdict::Retry,
        Verdict::Suspect,
        Verdict::Suspect,
        Verdict::Quarantine,
        Verdict::Quarantine,
        Verdict::Missing,
        Verdict::Missing,
        Verdict::Missing,
        Verdict::Superseded,
        Verdict::Superseded,
        Verdict::Skip(SkipReason::Changed),
        Verdict::Halt,
        Verdict::Release,
    ];
    let which = || (any::<Index>(), prop::bool::weighted(0.25)).prop_map(|(index, astray)| Which { index, astray });
    let some = move || prop::collection::vec(which(), 1..4);
    let delay = prop::sample::select(vec![Duration::ZERO, Duration::ZERO, HOUR]);
    let disposal = prop::sample::select(vec![Disposal::Pending, Disposal::Pending, Disposal::None]);
    prop::collection::vec(
        prop_oneof![
            12 => page.prop_map(Op::Record),
            14 => (0..OWNERS, 1..4_usize).prop_map(|(owner, objects)| Op::Lease { owner, objects }),
            2 => (0..OWNERS).prop_map(|owner| Op::Renew { owner }),
            4 => which().prop_map(Op::Expire),
            2 => (0..OWNERS, which()).prop_map(|(owner, which)| Op::Release { owner, which }),
            10 => (0..OWNERS, which(), prop::sample::select(verdicts.to_vec()), delay)
                .prop_map(|(owner, which, verdict, delay)| Op::Settle { owner, which, verdict, delay }),
            16 => (0..OWNERS, some()).prop_map(|(owner, which)| Op::Begin { owner, which }),
            16 => (0..OWNERS, disposal).prop_map(|(owner, disposal)| Op::Commit { owner, disposal }),
            1 => (0..OWNERS).prop_map(|owner| Op::Abandon { owner }),
            5 => (1..3_usize).prop_map(Op::TakeDisposals),
            5 => any::<Index>().prop_map(Op::MarkDisposed),
            2 => any::<Index>().prop_map(Op::Postpone),
            1 => Just(Op::KeepInstead),
            2 => Just(Op::Ripen),
            4 => some().prop_map(Op::Retry),
            6 => some().prop_map(Op::Skip),
            1 => Just(Op::Pause),
            4 => Just(Op::Resume),
            1 => Just(Op::Halt),
            2 => Just(Op::ClearHalt),
        ],
        40..80,
    )
}

fn policies() -> impl Strategy<Value = OnChange> {
    let all = [OnChange::Load, OnChange::Replace, OnChange::Replace, OnChange::Ignore, OnChange::Quarantine];
    prop::sample::select(all.to_vec())
}

/// What one simulated instance holds. Leases are never forgotten: a lost one is tried again later.
#[derive(Default)]
struct Owner {
    leases: Vec<Lease>,
    load: Option<(Load, Vec<(i64, Uuid)>)>,
}

struct World<'a> {
    lab: &'a Lab,
    pools: &'a Pools,
    ledger: Ledger,
    feed: Arc<Feed>,
    shape: &'a Shape,
    owners: [Owner; OWNERS],
    taken: Vec<Disposed>,
    failed: Vec<(Loaded, String, f64)>,
    model: Model,
}

fn visible_at(second: i64) -> Timestamp {
    Timestamp::new(1_700_000_000 + second, 0).expect("an instant")
}

/// The last but one is from the future, and the last has an impossible time, and so none.
fn key(number: usize) -> String {
    match number {
        6 => "items/2999-01-01-00-00-00.csv".to_owned(),
        7 => "items/2024-13-01-00-00-00.csv".to_owned(),
        _ => item_key(number * 10),
    }
}

fn failure(verdict: Verdict) -> Failure {
    Failure {
        verdict,
        code: format!("E-{}", verdict.as_str()).into(),
        detail: "why".to_owned(),
        advice: "do",
        relation: None,
    }
}

/// One of what there is, if anything.
fn pick<'a, T>(of: &'a [T], which: &Index) -> Option<&'a T> {
    (!of.is_empty()).then(|| which.get(of))
}

impl World<'_> {
    /// One lease: mostly one that is still good, whoever holds it, else any that this owner ever had.
    fn some_lease(&self, owner: usize, which: &Which) -> Option<(usize, usize)> {
        let all = |owner: usize| (0..self.owners[owner].leases.len()).map(move |place| (owner, place));
        let places: Vec<_> = (0..OWNERS).flat_map(all).collect();
        let is_good = |(owner, place): &&(usize, usize)| {
            let lease = &self.owners[*owner].leases[*place];
            self.model.is_held((lease.object.id, lease.token))
        };
        let good: Vec<_> = places.iter().filter(is_good).copied().collect();
        let own: Vec<_> = places.into_iter().filter(|(holder, _)| *holder == owner).collect();
        pick(if which.astray || good.is_empty() { &own } else { &good }, &which.index).copied()
    }

    /// Objects for the operator: mostly such as the command is meant for.
    fn some_objects(&self, which: &[Which], meant: &[State]) -> Vec<i64> {
        let ids = |states: &[State]| states.iter().flat_map(|state| self.model.in_state(*state)).collect::<Vec<_>>();
        let (meant, all) = (ids(meant), ids(&State::ALL));
        let one = |which: &Which| pick(if which.astray { &all } else { &meant }, &which.index).copied();
        which.iter().filter_map(one).collect()
    }

    async fn run(&mut self, op: &Op) {
        match op {
            Op::Record(page) => self.record(page).await,
            Op::Lease { owner, objects } => self.lease(*owner, *objects).await,
            Op::Renew { owner } => self.renew(*owner).await,
            Op::Expire(which) => self.expire(which).await,
            Op::Release { owner, which } => {
                let Some((owner, place)) = self.some_lease(*owner, which) else { return };
                let lease = &self.owners[owner].leases[place];
                let held = (lease.object.id, lease.token);
                let released = self.ledger.release(&[held]).await.expect("an answer");
                assert_eq!(released, u64::from(self.model.release(held)), "leases given back");
            }
            Op::Settle { owner, which, verdict, delay } => {
                let Some((owner, place)) = self.some_lease(*owner, which) else { return };
                let lease = &self.owners[owner].leases[place];
                let settlement = Settlement::of(*verdict, lease, MAX_ATTEMPTS, *delay);
                let settled = self.ledger.settle(lease, settlement, &failure(*verdict)).await.expect("an answer");
                let expected = self.model.settle((lease.object.id, lease.token), *verdict, !delay.is_zero());
                assert_eq!(settled, expected, "settled as {verdict:?}");
            }
            Op::Begin { owner, which } => self.begin(*owner, which).await,
            Op::Commit { owner, disposal } => self.commit(*owner, *disposal).await,
            Op::Abandon { owner } => self.owners[*owner].load = None,
            Op::TakeDisposals(_) | Op::MarkDisposed(_) | Op::Postpone(_) | Op::KeepInstead => self.dispose(op).await,
            Op::Ripen => {
                self.lab.execute(RIPEN).await;
                self.model.ripen();
            }
            Op::Retry(_) | Op::Skip(_) | Op::Pause | Op::Resume | Op::Halt | Op::ClearHalt => self.operate(op).await,
        }
    }

    async fn record(&mut self, page: &[Sighting]) {
        let found: Vec<Found> = page.iter().map(|sighting| judge(&self.feed, listed(sighting))).collect();
        let recorded = self.ledger.record(&self.feed, &found, Channel::Poll).await.expect("an answer");
        let mut late: Vec<f64> = found.iter().filter_map(|found| self.model.lateness(found)).collect();
        let mut new = recorded.new.clone();
        new.sort_by(f64::total_cmp);
        late.sort_by(f64::total_cmp);
        assert_eq!(new, late, "seconds by which new objects are late");
        let outcome = self.model.record(&found);
        assert_eq!(recorded.skipped.len(), outcome.skipped, "objects skipped");
        assert_eq!(recorded.quarantined, outcome.quarantined, "objects quarantined");
        assert_eq!(recorded.revived, outcome.revived, "objects that are back");
        for entry in self.model.entries.iter_mut().filter(|entry| entry.id == 0) {
            let sql = "SELECT id FROM keyfall.objects WHERE key = $1 AND version = $2";
            let row = self.lab.sql.query_one(sql, &[&entry.key, &entry.version]).await.expect(sql);
            entry.id = row.get(0);
        }
        self.model.entries.sort_by_key(|entry| entry.id);
        // Short and growing; the history says when it is over.
        let frozen = self.lab.sql.execute(FREEZE, &[&self.model.delayed()]).await.expect(FREEZE);
        assert_eq!(frozen, self.model.delayed().len() as u64, "delays of objects that look as old as they were");
    }

    async fn lease(&mut self, owner: usize, objects: usize) {
        let limits = LeaseLimits { group_objects: objects, group_bytes: 100, budget: u64::MAX, lease: HOUR };
        let name = owner.to_string();
        let leases = self.ledger.lease(&self.feed.name, &name, limits).await.expect("an answer");
        let expected: Vec<_> = self.model.leasable().into_iter().take(objects).collect();
        let order: Vec<_> = leases.iter().map(|lease| (lease.object.key_time, lease.object.key.clone())).collect();
        assert_eq!(order, expected, "leased, in their order");
        for lease in leases {
            let entry = self.model.lease(lease.object.id, owner, lease.token);
            assert_eq!((lease.attempt, lease.suspicions), (entry.attempt, entry.suspicions));
            self.owners[owner].leases.push(lease);
        }
    }

    async fn renew(&mut self, owner: usize) {
        let held: Vec<_> = self.owners[owner].leases.iter().map(|lease| (lease.object.id, lease.token)).collect();
        let lost = self.ledger.renew(&held, HOUR).await.expect("an answer");
        let expected = held.iter().filter(|held| !self.model.is_held_or_loaded(**held)).map(|(_, token)| *token);
        assert_eq!(lost, expected.collect(), "leases that are lost");
    }

    async fn expire(&mut self, which: &Which) {
        // Mostly a lease whose load is on its way: the fence is for it.
        let loads = self.owners.iter().filter_map(|owner| owner.load.as_ref());
        let loading: Vec<i64> =
            loads.flat_map(|(_, held)| held).filter(|held| self.model.is_held(**held)).map(|(id, _)| *id).collect();
        let leased = self.model.in_state(State::Leased);
        let id = pick(if which.astray || loading.is_empty() { &leased } else { &loading }, &which.index).copied();
        self.lab.sql.execute(EXPIRE, &[&id]).await.expect(EXPIRE);
        assert_eq!(self.ledger.expire_leases().await.expect("an answer"), u64::from(id.is_some()), "leases expired");
        if let Some(id) = id {
            self.model.expire(id);
        }
    }

    async fn begin(&mut self, owner: usize, which: &[Which]) {
        let Some((owner, first)) = which.first().and_then(|which| self.some_lease(owner, which)) else { return };
        let others = which.iter().skip(1).filter_map(|which| self.some_lease(owner, which));
        let chosen: BTreeSet<usize> =
            others.filter(|(holder, _)| *holder == owner).map(|(_, place)| place).chain([first]).collect();
        let holder = &mut self.owners[owner];
        let leases: Vec<&Lease> = chosen.iter().map(|number| &holder.leases[*number]).collect();
        let held: Vec<_> = leases.iter().map(|lease| (lease.object.id, lease.token)).collect();
        let objects: BTreeSet<i64> = held.iter().map(|(id, _)| *id).collect();
        // One lease per object, as the worker has it; a dead transaction is given up before another begins.
        if held.is_empty() || objects.len() < held.len() {
            return;
        }
        let ids: Vec<i64> = objects.into_iter().collect();
        let keys = self.model.keys(&ids);
        if self.model.policy != OnChange::Load && keys.len() < ids.len() {
            return;
        }
        holder.load = None;
        let begun = Load::begin(self.pools, &[self.shape], &leases).await;
        if held.iter().all(|held| self.model.is_held(*held)) {
            let mut load = begun.expect("all leases are held");
            if self.model.policy == OnChange::Replace && !self.make_room(owner, &mut load, &ids).await {
                return;
            }
            let columns = vec!["_object_id".into(), "line".into()];
            let target = CopyTarget { columns, format: CopyFormat::Text, staging: Staging::None };
            let mut rows = load.copy(self.shape, &target).await.expect("a COPY");
            let lines = held.iter().fold(String::new(), |lines, (id, _)| lines + &format!("{id}\t1\n"));
            rows.send(Bytes::from(lines)).await.expect("rows are taken");
            assert_eq!(rows.finish().await.expect("an end"), held.len() as u64);
            self.owners[owner].load = Some((load, held));
        } else {
            assert!(matches!(begun, Err(StoreError::Transition { .. })), "a load of a lease that is lost");
        }
    }

    /// What a load does before COPY where the feed replaces; false where another load has one of the keys.
    async fn make_room(&self, owner: usize, load: &mut Load, ids: &[i64]) -> bool {
        let keys = self.model.keys(ids);
        let others = (0..OWNERS).filter(|other| *other != owner).filter_map(|other| self.owners[other].load.as_ref());
        let taken: Vec<i64> = others.flat_map(|(_, held)| held.iter().map(|(id, _)| *id)).collect();
        let is_free = self.model.keys(&taken).is_disjoint(&keys);
        let mut has_keys = load.try_keys(ids).await.expect("an answer");
        // The server may not have noticed yet that a transaction which had one was given up.
        let begun = std::time::Instant::now();
        while is_free && !has_keys && begun.elapsed() < Duration::from_secs(10) {
            tokio::time::sleep(Duration::from_millis(5)).await;
            has_keys = load.try_keys(ids).await.expect("an answer");
        }
        assert_eq!(has_keys, is_free, "keys that nobody has");
        if has_keys {
            let found = load.other_versions(ids).await.expect("an answer");
            let told: Vec<_> = found.iter().map(|other| (other.of, other.id, other.is_approved)).collect();
            assert_eq!(told, self.model.others(ids), "other versions that are loaded");
            let deleted = load.delete_others(&[self.shape], &found).await.expect("rows are deleted");
            assert_eq!(deleted, found.len() as u64, "rows of other versions");
        }
        has_keys
    }

    /// What a load asks before the fence where the feed wants one version; true where that sends it away.
    async fn is_refused(&self, load: &Load, ids: &[i64]) -> bool {
        if !matches!(self.model.policy, OnChange::Ignore | OnChange::Quarantine) {
            return false;
        }
        load.await_keys(ids).await.expect("the keys");
        let found = load.other_versions(ids).await.expect("an answer");
        let told: Vec<_> = found.iter().map(|other| (other.of, other.id, other.is_approved)).collect();
        assert_eq!(told, self.model.others(ids), "other versions that are loaded");
        found.iter().any(|other| !other.is_approved)
    }

    async fn commit(&mut self, owner: usize, disposal: Disposal) {
        // Whoever has something to commit, beginning with this one.
        let Some((load, held)) = (owner..owner + OWNERS).find_map(|owner| self.owners[owner % OWNERS].load.take())
        else {
            return;
        };
        let ids: Vec<i64> = held.iter().map(|(id, _)| *id).collect();
        if self.is_refused(&load, &ids).await {
            return;
        }
        let counts: Vec<LoadedCounts> = held
            .iter()
            .map(|(id, token)| LoadedCounts {
                id: *id,
                token: *token,
                read: 1,
                loaded: 1,
                bytes: 4,
                sha256: vec![0; 32],
                ..LoadedCounts::default()
            })
            .collect();
        let committed =
            load.commit(&counts, Terms { disposal: disposal.as_str(), fingerprint: "print", duplicates: false }).await;
        let expected = self.model.commit(&held, disposal);
        assert_eq!(committed.is_ok(), expected, "committed: {committed:?}");
        assert!(expected || matches!(committed, Err(StoreError::Transition { .. })), "{committed:?}");
        let read_back = self.ledger.loaded_among(&held).await.expect("an answer");
        let loaded = held.iter().filter(|held| self.model.was_loaded_by(**held)).map(|(id, _)| *id);
        assert_eq!(read_back, loaded.collect(), "read back");
    }

    async fn dispose(&mut self, op: &Op) {
        match op {
            Op::TakeDisposals(limit) => {
                let batch = self.ledger.take_disposals(&self.feed.name, *limit, HOUR).await.expect("an answer");
                assert_eq!(batch.len(), self.model.disposals_due().len().min(*limit), "disposals taken");
                for loaded in batch {
                    assert_eq!(loaded.attempts(), self.model.take_disposal(loaded.object().id));
                    if self.taken.len() > self.failed.len() {
                        self.failed.push((loaded, "denied".to_owned(), HOUR.as_secs_f64()));
                    } else {
                        self.taken.push(Disposed { loaded, archived_to: None, note: None });
                    }
                }
            }
            Op::MarkDisposed(which) => {
                let Some(done) = pick(&self.taken, which) else { return };
                let marked = self.ledger.mark_disposed(std::slice::from_ref(done)).await.expect("an answer");
                assert_eq!(marked, u64::from(self.model.mark_disposed(done.loaded.object().id)), "disposals done");
            }
            Op::Postpone(which) => {
                let Some(failed) = pick(&self.failed, which) else { return };
                self.ledger.postpone_disposals(std::slice::from_ref(failed)).await.expect("an answer");
                self.model.postpone(failed.0.object().id);
            }
            _ => {
                let kept = self.ledger.keep_instead(&self.feed.name).await.expect("an answer");
                assert_eq!(kept, self.model.keep_instead(), "disposals given up");
            }
        }
    }

    async fn operate(&mut self, op: &Op) {
        let name = self.feed.name.as_str();
        match op {
            Op::Retry(which) | Op::Skip(which) => {
                let meant: &[State] = match op {
                    Op::Retry(_) => &[State::Quarantined, State::Missing, State::Skipped],
                    _ => &[State::Quarantined, State::Missing],
                };
                let ids = self.some_objects(which, meant);
                let (changed, expected) = if matches!(op, Op::Retry(_)) {
                    (self.ledger.retry(&ids).await.expect("an answer"), self.model.retry(&ids))
                } else {
                    (self.ledger.skip(&ids).await.expect("an answer"), self.model.skip(&ids))
                };
                assert_eq!(changed.into_iter().collect::<BTreeSet<_>>(), expected, "{op:?}");
            }
            Op::Pause => {
                self.ledger.pause(name, "repairs").await.expect("an answer");
                self.model.pause = Pause::Operator;
            }
            Op::Resume => {
                let was = std::mem::replace(&mut self.model.pause, Pause::None);
                assert_eq!(self.ledger.resume(name).await.expect("an answer"), was != Pause::None, "resumed");
            }
            Op::Halt => {
                let failure = failure(Verdict::Halt);
                self.ledger.halt(&self.feed.name, &failure, HOUR, HOUR).await.expect("an answer");
                if self.model.pause == Pause::None {
                    self.model.pause = Pause::Halt;
                }
            }
            _ => {
                let cleared = self.ledger.clear_halt(&self.feed.name).await.expect("an answer");
                assert_eq!(cleared, self.model.pause == Pause::Halt, "halt cleared");
                if cleared {
                    self.model.pause = Pause::None;
                }
            }
        }
    }

    /// Compares every column the model knows, and the rows that are there.
    async fn compare(&self) {
        let rows = self.lab.sql.query(ENTRIES, &[]).await.expect(ENTRIES);
        let entries: Vec<Entry> = rows.iter().map(Entry::read).collect();
        assert_eq!(entries, self.model.entries, "ledger and model differ");
        let loaded = self
            .lab
            .texts("SELECT _object_id || ' ' || count(*) FROM items GROUP BY _object_id ORDER BY _object_id")
            .await;
        let expected: Vec<_> = self.model.in_state(State::Loaded).iter().map(|id| format!("{id} 1")).collect();
        assert_eq!(loaded, expected, "rows of loaded objects, once each");
    }

    /// What is computed from the ledger.
    async fn compare_counts(&self) {
        let feeds = [self.feed.name.clone()];
        let model = &self.model;
        let counts = self.ledger.feed_counts().await.expect("an answer");
        for counts in &counts {
            for (state, count) in &counts.states {
                let state: State = state.parse().expect("a state");
                assert_eq!(*count, model.in_state(state).len() as u64, "{state:?}");
            }
            assert_eq!(counts.rows_loaded, model.in_state(State::Loaded).len() as u64);
            assert_eq!(counts.disposal_pending, model.disposals_pending());
            assert_eq!(counts.frontier, model.frontier());
        }
        assert_eq!(counts.is_empty(), model.entries.is_empty());
        let gauges = self.ledger.gauges(&feeds).await.expect("an answer").remove(0);
        let of = |state| model.in_state(state).len() as u64;
        assert_eq!((gauges.pending, gauges.leased), (of(State::Pending), of(State::Leased)));
        assert_eq!((gauges.frontier, gauges.paused), (model.frontier(), model.pause != Pause::None));
        let work = self.ledger.open_work(&feeds).await.expect("an answer");
        let active = model.leasable().len() as u64 + of(State::Leased);
        assert_eq!((work.active, work.leased, work.quarantined), (active, of(State::Leased), of(State::Quarantined)));
        assert_eq!(work.waiting, of(State::Pending) - model.leasable().len() as u64);
        let series = ["items/".to_owned(), "other/".to_owned()];
        let positions = self.ledger.series_positions(&self.feed.name, &series).await.expect("an answer");
        let nothing = SeriesPosition { series: series[1].clone(), newest: None, oldest_open: None };
        assert_eq!(positions, [model.position(&series[0]), nothing]);
    }
}

fn listed(sighting: &Sighting) -> Listed {
    Listed {
        key: key(sighting.key),
        etag: format!("v{}", sighting.version),
        size: 10,
        last_modified: visible_at(sighting.second),
        storage_class: sighting.archived.then(|| "GLACIER".to_owned()),
    }
}

const EXPIRE: &str = "UPDATE keyfall.objects SET lease_expires_at = now() - interval '1 s' WHERE id = $1";

const RIPEN: &str = "UPDATE keyfall.objects SET not_before = '-infinity', disposal_not_before = '-infinity'";

const FREEZE: &str = "UPDATE keyfall.objects SET not_before = 'infinity'
                       WHERE id = ANY($1) AND not_before > '-infinity'";

const ENTRIES: &str = "SELECT id, key, version, key_time, visible_at, state, reason, not_before <= now(), attempt,
                              suspicions, lease_owner, lease_token, disposal, disposal_not_before <= now(),
                              disposal_attempts, error_code, superseded_by IS NOT NULL, approved
                         FROM keyfall.objects ORDER BY id";

/// Runs one history from an empty ledger; answers the transitions it saw.
async fn history(lab: &Lab, pools: &Pools, shape: &Shape, policy: OnChange, ops: &[Op]) -> BTreeSet<Transition> {
    // Swept once: only then can an object be late.
    lab.execute(
        "TRUNCATE keyfall.objects, keyfall.rejections, keyfall.layouts, keyfall.drift, keyfall.feeds, items; INSERT INTO keyfall.feeds (feed, last_sweep_at) VALUES ('items', now())",
    )
    .await;
    let feeds = loaded(&lab.sources(ITEMS)).config.feeds;
    let feed = feeds.into_values().next().expect("a feed");
    let mut world = World {
        lab,
        pools,
        ledger: Ledger::new(pools.clone()),
        feed: Arc::new(Feed { on_change: policy, ..Feed::clone(&feed) }),
        shape,
        owners: Default::default(),
        taken: Vec::new(),
        failed: Vec::new(),
        model: Model::new(policy),
    };
    let mut seen = BTreeSet::new();
    for (number, op) in ops.iter().enumerate() {
        let before = world.model.states();
        world.run(op).await;
        world.compare().await;
        seen.extend(model::transitions(&before, &world.model.states()));
        if number % 8 == 0 || number + 1 == ops.len() {
            world.compare_counts().await;
        }
    }
    seen
}

#[test]
fn no_history_of_three_owners_makes_the_ledger_do_what_its_model_does_not() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (lab, pools, shape) = runtime.block_on(async {
        let lab = Lab::with_items().await;
        lab.execute("ALTER TABLE items DROP COLUMN object; ALTER TABLE items ADD COLUMN _object_id bigint").await;
        let mut config = loaded(&lab.sources(ITEMS)).config;
        // A connection for every transaction that may be open at once.
        config.workers.max = OWNERS;
        let pools = app::pools(&config).expect("pools");
        let table = keyfall::config::feed::TableName { schema: "public".to_owned(), table: "items".to_owned() };
        let shape = catalog::read_shape(&pools, &table).await.expect("a table");
        (lab, pools, shape)
    });
    let seen = Mutex::new(BTreeMap::<Transition, usize>::new());
    let check = |mut runner: TestRunner| {
        let outcome = runner.run(&(policies(), ops()), |(policy, ops)| {
            for transition in runtime.block_on(history(&lab, &pools, &shape, policy, &ops)) {
                *seen.lock().expect("no history panicked inside").entry(transition).or_default() += 1;
            }
            Ok(())
        });
        match outcome {
            Ok(()) => {}
            Err(TestError::Fail(reason, (policy, ops))) => {
                panic!("{reason}\nthe shortest history, under {policy:?}: {ops:#?}")
            }
            Err(error) => panic!("{error}"),
        }
    };
    // Always the same histories, so that it is no matter of chance whether each transition is taken.
    let config = ProptestConfig { cases: FIXED, source_file: Some(file!()), ..ProptestConfig::default() };
    check(TestRunner::new_with_rng(config.clone(), TestRng::deterministic_rng(RngAlgorithm::ChaCha)));
    let fixed = seen.lock().expect("no history panicked inside").clone();
    println!("histories of {FIXED} that took each transition: {fixed:?}");
    // And others every time; each is some hundred statements, so they are few unless `PROPTEST_CASES` asks for more.
    let given = keyfall::config::environment().contains_key("PROPTEST_CASES");
    let cases = if given { ProptestConfig::default().cases } else { RANDOM };
    check(TestRunner::new(ProptestConfig { cases, ..config }));
    let seen: BTreeSet<Transition> = seen.into_inner().expect("no history panicked inside").into_keys().collect();
    let known: BTreeSet<Transition> = model::TRANSITIONS.into_iter().collect();
    let unknown: Vec<_> = seen.difference(&known).collect();
    assert!(unknown.is_empty(), "transitions that nobody wrote down: {unknown:?}");
    let missed: Vec<_> = known.iter().filter(|transition| !fixed.contains_key(*transition)).collect();
    assert!(missed.is_empty(), "transitions that no history took: {missed:?}");
}
