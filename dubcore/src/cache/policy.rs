//! Which models stay loaded: a policy sees the residents and says whom to evict.

use std::time::Instant;

use crate::key::ModelKey;

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

/// What a policy decides on.
#[non_exhaustive]
#[derive(Debug)]
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
}

/// Never evicts.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeepAll;

impl CachePolicy for KeepAll {
    fn decide(&self, _: &Snapshot<'_>) -> Decision {
        Decision::keep_all()
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

/// Keeps the weights below a budget: above `high` of it, evicts those not used for longest until `low` is reached.
#[derive(Clone, Copy, Debug)]
pub struct MemoryBudget {
    /// Bytes of weights allowed.
    pub bytes: u64,
    /// Part of the budget above which eviction begins.
    pub high: f64,
    /// Part of the budget at which it ends.
    pub low: f64,
}

impl MemoryBudget {
    /// A budget with the usual marks, 0.8 and 0.7.
    pub fn new(bytes: u64) -> Self {
        Self { bytes, high: 0.8, low: 0.7 }
    }
}

impl CachePolicy for MemoryBudget {
    fn decide(&self, now: &Snapshot<'_>) -> Decision {
        let new = now.newcomer.map_or(0, |r| r.bytes);
        let mut total = new + now.residents.iter().map(|r| r.bytes).sum::<u64>();
        let part = |share: f64| (self.bytes as f64 * share) as u64;
        let mut evict = Vec::new();
        if total > part(self.high) {
            for r in oldest(now.residents) {
                if total <= part(self.low) {
                    break;
                }
                total -= r.bytes;
                evict.push(r.key.clone());
            }
        }
        let newcomer = if total > self.bytes && now.newcomer.is_some() {
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
    use std::time::Duration;

    fn resident(i: usize, start: Instant, bytes: u64, in_use: bool, pinned: bool, used: u64) -> Resident {
        let key = ModelKey::new(format!("model-{i}").parse().unwrap());
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
            let now = Snapshot { residents: &residents, newcomer: Some(&newcomer), now: start };
            for policy in [&MemoryBudget::new(100) as &dyn CachePolicy, &Lru { models: 3 }, &KeepAll] {
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
            let d = Lru { models: 3 }.decide(&now);
            let free = residents.iter().filter(|r| r.is_free()).count();
            prop_assert_eq!(d.evict.len(), free.min((residents.len() + 1).saturating_sub(3)));
        }
    }
}
