//! Which models stay loaded: a policy sees the residents and says whom to evict.

use std::time::{Duration, Instant};

use crate::device::Device;
use crate::key::ModelKey;
use crate::stage::setters;

/// A loaded model, as a policy sees it.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct Resident {
    /// Which model.
    pub key: ModelKey,
    /// Bytes of its weights in memory.
    pub bytes: u64,
    /// Calls that are using it now. It cannot be evicted unless this is 0.
    pub in_use: usize,
    /// Whether the host pinned it. It cannot be evicted then.
    pub pinned: bool,
    /// When it was loaded.
    pub loaded: Instant,
    /// When it was last used.
    pub used: Instant,
}

impl Resident {
    fn is_free(&self) -> bool {
        self.in_use == 0 && !self.pinned
    }
}

/// What a policy decides on. The memory of the whole process is [`ProcessMemory::now`](crate::ProcessMemory::now).
#[non_exhaustive]
#[derive(Clone, Copy, Debug)]
pub struct Snapshot<'a> {
    /// The loaded models, without the newcomer.
    pub residents: &'a [Resident],
    /// The model that was just loaded and wants to stay, if one was.
    pub newcomer: Option<&'a Resident>,
    /// The time to measure ages against.
    pub now: Instant,
}

/// What becomes of a newcomer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It stays.
    Keep,
    /// The calls that wait for it use it, then it goes.
    UseOnce,
    /// It does not fit: the calls that wait for it get `OutOfMemory` with this explanation.
    Refuse(String),
}

/// A policy's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Residents to evict. Those in use or pinned stay, whatever is said here.
    pub evict: Vec<ModelKey>,
    /// What becomes of the newcomer.
    pub newcomer: Admission,
}

impl Decision {
    /// Everything stays.
    pub fn keep_all() -> Self {
        Self { evict: Vec::new(), newcomer: Admission::Keep }
    }
}

/// Decides which models stay loaded.
///
/// Called from any thread, with no lock held: it may call the factory, but not wait for the newcomer that it decides on,
/// which is not there before it answers.
pub trait CachePolicy: Send + Sync {
    /// Whom to evict, and whether the newcomer stays.
    fn decide(&self, now: &Snapshot<'_>) -> Decision;

    /// This policy and another one: what either evicts goes, and a newcomer stays if both let it. The other one sees what the
    /// first one leaves.
    ///
    /// ```
    /// use dubcore::{CachePolicy, Factory, MemoryBudget, PerStage, Ttl};
    /// use std::time::Duration;
    /// // No more than two recognisers, none of anything unused for ten minutes, two gigabytes in all.
    /// let policy = PerStage::default().stt(2).and(Ttl::new(Duration::from_secs(600))).and(MemoryBudget::new(2 << 30));
    /// let factory = Factory::builder().policy(policy).build()?;
    /// # Ok::<(), dubcore::Error>(())
    /// ```
    fn and<P: CachePolicy>(self, other: P) -> Both<Self, P>
    where
        Self: Sized,
    {
        Both(self, other)
    }
}

impl<P: CachePolicy + ?Sized> CachePolicy for Box<P> {
    fn decide(&self, now: &Snapshot<'_>) -> Decision {
        (**self).decide(now)
    }
}

/// Two policies in turn: see [`CachePolicy::and`].
#[derive(Clone, Copy, Debug)]
pub struct Both<A, B>(A, B);

impl<A: CachePolicy, B: CachePolicy> CachePolicy for Both<A, B> {
    fn decide(&self, now: &Snapshot<'_>) -> Decision {
        let first = self.0.decide(now);
        // One that is unloaded and still in use has the key of the one that was loaded in its place.
        let goes = |r: &&Resident| r.is_free() && first.evict.contains(&r.key);
        let left: Vec<Resident> = now.residents.iter().filter(|r| !goes(r)).cloned().collect();
        // One that is used once or refused is nobody that the other one need make room for.
        let newcomer = now.newcomer.filter(|_| first.newcomer == Admission::Keep);
        let second = self.1.decide(&Snapshot { residents: &left, newcomer, ..*now });
        let newcomer = match (first.newcomer, second.newcomer) {
            (Admission::Keep, other) => other,
            (refused, _) => refused,
        };
        match newcomer {
            // It takes no place, so nobody has to go for it; what is too old goes at the next sweep.
            Admission::Refuse(_) => Decision { evict: Vec::new(), newcomer },
            _ => Decision { evict: first.evict.into_iter().chain(second.evict).collect(), newcomer },
        }
    }
}

/// Never evicts.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeepAll;

impl CachePolicy for KeepAll {
    fn decide(&self, _: &Snapshot<'_>) -> Decision {
        Decision::keep_all()
    }
}

/// Keeps nothing: a model is loaded for the calls that wait for it, and again for the next ones.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCache;

impl CachePolicy for NoCache {
    fn decide(&self, now: &Snapshot<'_>) -> Decision {
        Decision { evict: oldest(now.residents).map(|r| r.key.clone()).collect(), newcomer: Admission::UseOnce }
    }
}

/// Evicts what was not used for so long. The factory asks at each load and in [`Factory::sweep`](crate::Factory::sweep).
#[derive(Clone, Copy, Debug)]
pub struct Ttl {
    /// How long a model may lie idle.
    pub idle: Duration,
}

impl Ttl {
    /// Models may lie idle for so long.
    pub fn new(idle: Duration) -> Self {
        Self { idle }
    }
}

impl CachePolicy for Ttl {
    fn decide(&self, now: &Snapshot<'_>) -> Decision {
        let old = oldest(now.residents).take_while(|r| now.now.saturating_duration_since(r.used) > self.idle);
        Decision { evict: old.map(|r| r.key.clone()).collect(), newcomer: Admission::Keep }
    }
}

/// Keeps at most so many models of each kind of stage, evicting those of the kind that were not used for longest. Default:
/// any number.
#[non_exhaustive]
#[derive(Clone, Copy, Debug)]
pub struct PerStage {
    /// Most recognisers, at least 1.
    pub stt: usize,
    /// Most translators, at least 1.
    pub translator: usize,
    /// Most voices, at least 1.
    pub tts: usize,
}

impl Default for PerStage {
    fn default() -> Self {
        Self { stt: usize::MAX, translator: usize::MAX, tts: usize::MAX }
    }
}

setters! { PerStage:
    /// Sets [`PerStage::stt`].
    stt: usize,
    /// Sets [`PerStage::translator`].
    translator: usize,
    /// Sets [`PerStage::tts`].
    tts: usize,
}

impl CachePolicy for PerStage {
    fn decide(&self, now: &Snapshot<'_>) -> Decision {
        let mut evict = Vec::new();
        for (kind, most) in [("stt", self.stt), ("translator", self.translator), ("tts", self.tts)] {
            let of_kind = |r: &&Resident| r.key.model_type == kind;
            let count = now.residents.iter().chain(now.newcomer).filter(of_kind).count();
            let surplus = count.saturating_sub(most.max(1));
            evict.extend(oldest(now.residents).filter(of_kind).take(surplus).map(|r| r.key.clone()));
        }
        Decision { evict, newcomer: Admission::Keep }
    }
}

/// Keeps at most so many models, evicting those that were not used for longest.
#[derive(Clone, Copy, Debug)]
pub struct Lru {
    /// Most models to keep, at least 1.
    pub models: usize,
}

impl CachePolicy for Lru {
    fn decide(&self, now: &Snapshot<'_>) -> Decision {
        let count = now.residents.len() + usize::from(now.newcomer.is_some());
        let surplus = count.saturating_sub(self.models.max(1));
        Decision { evict: oldest(now.residents).take(surplus).map(|r| r.key.clone()).collect(), newcomer: Admission::Keep }
    }
}

/// Keeps the weights on a device, or on all of them, below a budget: above `high` of it, evicts those not used for longest
/// until `low` is reached.
#[derive(Clone, Copy, Debug)]
pub struct MemoryBudget {
    /// Bytes of weights allowed.
    pub bytes: u64,
    /// Part of the budget above which eviction begins.
    pub high: f64,
    /// Part of the budget at which it ends.
    pub low: f64,
    /// The device whose models count; [`Device::Auto`] (default) for all.
    pub device: Device,
}

impl MemoryBudget {
    /// A budget with the usual marks, 0.8 and 0.7.
    pub fn new(bytes: u64) -> Self {
        Self { bytes, high: 0.8, low: 0.7, device: Device::Auto }
    }

    /// Counts the models on one device only: [`CachePolicy::and`] joins the budgets of several.
    #[must_use]
    pub fn on(self, device: Device) -> Self {
        Self { device, ..self }
    }
}

impl CachePolicy for MemoryBudget {
    fn decide(&self, now: &Snapshot<'_>) -> Decision {
        let counts = |r: &&Resident| self.device == Device::Auto || r.key.device == self.device;
        let newcomer = now.newcomer.filter(counts);
        let new = newcomer.map_or(0, |r| r.bytes);
        let mut total = new + now.residents.iter().filter(counts).map(|r| r.bytes).sum::<u64>();
        let part = |share: f64| (self.bytes as f64 * share) as u64;
        let mut evict = Vec::new();
        if total > part(self.high) {
            for r in oldest(now.residents).filter(counts) {
                if total <= part(self.low) {
                    break;
                }
                total -= r.bytes;
                evict.push(r.key.clone());
            }
        }
        let newcomer = if total > self.bytes && newcomer.is_some() {
            let used = total - new;
            evict.clear();
            Admission::Refuse(format!(
                "its weights take {new} bytes where the budget of {} has {} left that is not pinned or in use: raise the budget or wait",
                self.bytes,
                self.bytes.saturating_sub(used)
            ))
        } else {
            Admission::Keep
        };
        Decision { evict, newcomer }
    }
}

/// Those that may be evicted, the longest unused first.
fn oldest(residents: &[Resident]) -> impl Iterator<Item = &Resident> {
    let mut free: Vec<_> = residents.iter().filter(|r| r.is_free()).collect();
    free.sort_by_key(|r| r.used);
    free.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KINDS: [&str; 3] = ["stt", "translator", "tts"];

    fn resident(i: usize, start: Instant, bytes: u64, in_use: bool, pinned: bool, used: u64) -> Resident {
        let mut key = ModelKey::new(format!("model-{i}").parse().unwrap());
        key.model_type = KINDS[i % 3].into();
        Resident { key, bytes, in_use: in_use.into(), pinned, loaded: start, used: start + Duration::from_secs(used) }
    }

    proptest! {
        #[test]
        fn budgets_hold_and_nothing_held_is_evicted(
            models in prop::collection::vec((0u64..60, any::<bool>(), any::<bool>(), 0u64..50), 0..8),
            new in 0u64..120,
        ) {
            let start = Instant::now();
            let residents: Vec<_> =
                models.iter().enumerate().map(|(i, m)| resident(i, start, m.0, m.1, m.2, m.3)).collect();
            let newcomer = resident(99, start, new, false, false, 99);
            let time = start + Duration::from_secs(50);
            let now = Snapshot { residents: &residents, newcomer: Some(&newcomer), now: time };
            let ttl = Ttl::new(Duration::from_secs(20));
            for policy in [&MemoryBudget::new(100) as &dyn CachePolicy, &Lru { models: 3 }, &KeepAll, &NoCache, &ttl] {
                let d = policy.decide(&now);
                for r in residents.iter().filter(|r| d.evict.contains(&r.key)) {
                    prop_assert!(r.is_free());
                    let older = |other: &&Resident| other.is_free() && other.used < r.used;
                    prop_assert!(residents.iter().filter(older).all(|other| d.evict.contains(&other.key)));
                }
            }
            let d = MemoryBudget::new(100).decide(&now);
            let left: u64 = residents.iter().filter(|r| !d.evict.contains(&r.key)).map(|r| r.bytes).sum();
            match d.newcomer {
                Admission::Keep => prop_assert!(left + new <= 100),
                _ => prop_assert!(d.evict.is_empty()),
            }
            // Another device's budget has nothing to say here.
            let other = MemoryBudget::new(0).on(Device::Cuda(0));
            prop_assert_eq!(other.decide(&now), Decision::keep_all());
            let own = MemoryBudget::new(100).on(Device::Cpu).and(other).decide(&now);
            prop_assert_eq!(own, MemoryBudget::new(100).decide(&now));
            let free = |of: &dyn Fn(&Resident) -> bool| residents.iter().filter(|r| r.is_free() && of(r)).count();
            let d = Lru { models: 3 }.decide(&now);
            prop_assert_eq!(d.evict.len(), free(&|_| true).min((residents.len() + 1).saturating_sub(3)));
            prop_assert_eq!(NoCache.decide(&now), Decision { evict: NoCache.decide(&now).evict, newcomer: Admission::UseOnce });
            prop_assert_eq!(NoCache.decide(&now).evict.len(), free(&|_| true));
            prop_assert_eq!(ttl.decide(&now).evict.len(), free(&|r| time - r.used > ttl.idle));
            for (i, kind) in KINDS.into_iter().enumerate() {
                let most = PerStage::default();
                let d = [most.stt(1), most.translator(1), most.tts(1)][i].decide(&now);
                let of_kind = residents.iter().chain(now.newcomer).filter(|r| r.key.model_type == kind).count();
                prop_assert_eq!(d.evict.len(), free(&|r| r.key.model_type == kind).min(of_kind.saturating_sub(1)));
                prop_assert!(d.evict.iter().all(|key| key.model_type == kind));
            }
            // Together: what the first evicts, and what is then still too much for the second.
            let both = ttl.and(MemoryBudget::new(100)).decide(&now);
            let old = ttl.decide(&now).evict;
            let rest: Vec<_> = residents.iter().filter(|r| !old.contains(&r.key)).cloned().collect();
            let second = MemoryBudget::new(100).decide(&Snapshot { residents: &rest, ..now });
            prop_assert_eq!(&both.newcomer, &second.newcomer);
            match second.newcomer {
                Admission::Keep => prop_assert_eq!(both.evict, [old, second.evict].concat()),
                _ => prop_assert!(both.evict.is_empty()),
            }
            let never = NoCache.and(MemoryBudget::new(100)).decide(&now);
            prop_assert_eq!(never.newcomer, Admission::UseOnce);
            prop_assert_eq!(KeepAll.and(KeepAll).decide(&now), Decision::keep_all());
        }
    }
}
