//! Every policy under random use, against a model of what must be loaded.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::cache::policy::{KeepAll, Lru, MemoryBudget, NoCache, PerStage, Ttl};
use crate::stage::{StageInfo, TranslateOptions, Translation};

const MODELS: usize = 12;
const BUDGET: u64 = 1_000;

#[derive(Clone, Copy, Debug)]
enum Op {
    /// Used and given back at once.
    Use(usize),
    /// Used until it is given back.
    Hold(usize),
    GiveBack(usize),
    Pin(usize, bool),
    Unload(usize),
    Sweep,
    Clear,
}

fn op() -> impl Strategy<Value = Op> {
    let which = || 0..MODELS;
    prop_oneof![
        60 => which().prop_map(Op::Use),
        12 => which().prop_map(Op::Hold),
        14 => (0usize..8).prop_map(Op::GiveBack),
        6 => (which(), prop::bool::weighted(0.3)).prop_map(|(i, pinned)| Op::Pin(i, pinned)),
        4 => which().prop_map(Op::Unload),
        3 => Just(Op::Sweep),
        1 => Just(Op::Clear),
    ]
}

struct Nothing;

impl Translator for Nothing {
    fn translate(&self, _: &[&str], _: &TranslateOptions, _: &Job) -> Vec<Result<Translation>> {
        Vec::new()
    }

    fn info(&self) -> StageInfo {
        StageInfo::new("own/nothing")
    }
}

fn id(i: usize) -> Id {
    Id { model: format!("own/{i}").parse().unwrap(), device: Device::Cpu, compute_type: ComputeType::F32 }
}

fn number(slot: &Slot<Entry>) -> usize {
    slot.item.id.model.to_string()["own/".len()..].parse().unwrap()
}

/// What is to be expected of a policy beyond that it leaves alone what is in use or pinned.
#[derive(Clone, Copy)]
enum Expect {
    Anything,
    /// The so many that were used last, exactly.
    Last(usize),
    /// Never more bytes than the budget, whatever is held.
    Budget,
    /// Nothing that is free, once it was asked.
    OnlyHeld,
    Nothing,
}

struct Sim {
    factory: Factory,
    expect: Expect,
    /// Leases, and whether the model was unloaded under them.
    held: Vec<(usize, Lease, bool)>,
    pinned: BTreeSet<usize>,
    /// What is loaded, the longest unused first.
    order: Vec<usize>,
}

impl Sim {
    fn new(policy: impl CachePolicy + 'static, expect: Expect) -> Self {
        let mut builder = Factory::builder().policy(policy);
        for i in 0..MODELS {
            let make = move || Ok(OwnModel::translator(Arc::new(Nothing)).bytes(40 + 25 * i as u64));
            builder = builder.own_model(id(i).model, make);
        }
        Self { factory: builder.build().unwrap(), expect, held: Vec::new(), pinned: BTreeSet::new(), order: Vec::new() }
    }

    /// As the factory does it, but on this thread.
    fn lease(&mut self, i: usize) -> Result<Lease> {
        let shelf = &self.factory.live().shelf;
        let lease = shelf.lease(&id(i), || Ok(()), |flight| shelf.land(&id(i), &flight, self.factory.load(&id(i))))?;
        if !self.order.contains(&i) {
            self.make_room(1);
        }
        self.touch(i);
        Ok(lease)
    }

    fn touch(&mut self, i: usize) {
        self.order.retain(|o| *o != i);
        self.order.push(i);
    }

    /// What [`Lru`] must do for so many that are new.
    fn make_room(&mut self, new: usize) {
        let Expect::Last(most) = self.expect else { return };
        let leaving: BTreeSet<_> = self.held.iter().filter(|h| h.2).map(|h| std::ptr::from_ref(h.1.slot())).collect();
        let mut surplus = (self.order.len() + leaving.len() + new).saturating_sub(most);
        let free: Vec<usize> = self.order.iter().copied().filter(|i| self.is_free(*i)).collect();
        self.order.retain(|i| {
            let goes = surplus > 0 && free.contains(i);
            surplus -= usize::from(goes);
            !goes
        });
    }

    fn is_free(&self, i: usize) -> bool {
        !self.pinned.contains(&i) && !self.held.iter().any(|(h, _, unloaded)| *h == i && !unloaded)
    }

    fn unloaded(&mut self, which: impl Fn(usize) -> bool) {
        self.held.iter_mut().filter(|h| which(h.0)).for_each(|h| h.2 = true);
        self.pinned.retain(|i| !which(*i));
        self.order.retain(|i| !which(*i));
    }

    fn step(&mut self, op: Op) {
        let brief = Job::new().timeout(Duration::ZERO);
        match op {
            Op::Use(i) => drop(self.lease(i)),
            Op::Hold(i) => {
                if let Ok(lease) = self.lease(i) {
                    self.held.push((i, lease, matches!(self.expect, Expect::Nothing)));
                }
            }
            Op::GiveBack(k) if k < self.held.len() => {
                let (i, lease, unloaded) = self.held.swap_remove(k);
                drop(lease);
                if !unloaded {
                    self.touch(i);
                }
            }
            Op::GiveBack(_) => {}
            Op::Pin(i, pinned) => {
                if self.factory.pin(&id(i).model, pinned) && pinned {
                    self.pinned.insert(i);
                } else {
                    self.pinned.remove(&i);
                }
            }
            Op::Unload(i) => {
                let _ = self.factory.unload(&id(i).model, &brief);
                self.unloaded(|o| o == i);
            }
            Op::Clear => {
                let _ = self.factory.clear(&brief);
                self.unloaded(|_| true);
            }
            Op::Sweep => {
                self.factory.sweep();
                self.make_room(0);
            }
        }
        self.check(op);
    }

    fn check(&self, op: Op) {
        let loaded: BTreeSet<usize> = self.factory.live().shelf.look(number).0.into_iter().collect();
        for (i, _, unloaded) in &self.held {
            assert!(*unloaded || loaded.contains(i), "{op:?}: {i} is in use and gone");
        }
        assert!(self.pinned.is_subset(&loaded), "{op:?}: {:?} are pinned, {loaded:?} are loaded", self.pinned);
        let model: BTreeSet<usize> = self.order.iter().copied().collect();
        match self.expect {
            Expect::Anything => assert_eq!(loaded, model, "{op:?}"),
            Expect::Last(_) => assert_eq!(loaded, model, "{op:?}"),
            Expect::Budget => {
                let (bytes, _) = self.factory.live().shelf.look(|slot| slot.item.loaded.bytes);
                let bytes = bytes.iter().chain(self.factory.leaving().iter().map(|r| &r.bytes)).sum::<u64>();
                assert!(bytes <= BUDGET, "{op:?}: {bytes} bytes");
            }
            Expect::OnlyHeld => {
                assert!(!matches!(op, Op::Sweep) || loaded.iter().all(|i| !self.is_free(*i)), "{op:?}: {loaded:?}")
            }
            Expect::Nothing => assert!(loaded.is_empty(), "{op:?}: {loaded:?}"),
        }
    }
}

/// Operations of a run.
const STEPS: usize = 2_000;

/// Enough for every day, unless `DUBCORE_TEST_RUNS` says how many.
fn runs() -> u32 {
    std::env::var("DUBCORE_TEST_RUNS").map_or(50, |runs| runs.parse().expect("DUBCORE_TEST_RUNS is a number"))
}

fn holds<P: CachePolicy + 'static>(policy: impl Fn() -> P, expect: Expect) {
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(runs()) });
    let result = runner.run(&prop::collection::vec(op(), STEPS), |ops| {
        let mut sim = Sim::new(policy(), expect);
        ops.into_iter().for_each(|op| sim.step(op));
        Ok(())
    });
    if let Err(e) = result {
        panic!("{e}");
    }
}

#[test]
fn keep_all_keeps_all() {
    holds(|| KeepAll, Expect::Anything);
}

#[test]
fn lru_keeps_the_last() {
    holds(|| Lru { models: 4 }, Expect::Last(4));
}

#[test]
fn per_stage_keeps_the_last_of_a_kind() {
    holds(|| PerStage::default().translator(3).stt(1), Expect::Last(3));
}

#[test]
fn a_budget_is_kept() {
    holds(|| MemoryBudget::new(BUDGET), Expect::Budget);
}

#[test]
fn a_budget_is_kept_beside_others() {
    holds(|| Lru { models: 6 }.and(Ttl::new(Duration::from_micros(300))).and(MemoryBudget::new(BUDGET)), Expect::Budget);
}

#[test]
fn age_ends_what_is_free() {
    holds(|| Ttl::new(Duration::ZERO), Expect::OnlyHeld);
}

#[test]
fn no_cache_keeps_nothing() {
    holds(|| NoCache, Expect::Nothing);
}
