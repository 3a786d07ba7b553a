//! The heart of the handles: a table whose places are used again, and never confused. It knows nothing of what lies in it,
//! so that a model checker (`loom/`) can run it through every order in which threads may meet.
//!
//! What holds at any moment:
//! - a key finds the value it was given for, or nothing, however often its place was used again;
//! - of several that remove one key, one gets the value;
//! - what was found stays alive as long as its finder keeps it.

use crate::sync::{Mutex, MutexGuard};

/// Names a value: the place where it lies, and how often that was used before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// Values by key. `V` is cheap to clone, an `Arc` say, and is never dropped while the lock is held.
pub(crate) struct Table<V>(Mutex<Slots<V>>);

pub(crate) struct Slots<V> {
    all: Vec<Slot<V>>,
    free: Vec<u32>,
}

struct Slot<V> {
    /// Of its present value, or of its next one. Never 0, so that a key of zeros names nothing.
    generation: u32,
    value: Option<V>,
}

impl<V: Clone> Table<V> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Slots { all: Vec::new(), free: Vec::new() }))
    }

    /// Puts a value in. `None` where there is no place left: all 2^32 are taken or worn out.
    pub(crate) fn insert(&self, value: V) -> Option<Key> {
        let mut slots = self.0.lock();
        if let Some(slot) = slots.free.pop() {
            let place = &mut slots.all[slot as usize];
            place.value = Some(value);
            return Some(Key { slot, generation: place.generation });
        }
        let slot = u32::try_from(slots.all.len()).ok()?;
        slots.all.push(Slot { generation: 1, value: Some(value) });
        Some(Key { slot, generation: 1 })
    }

    /// The value of a key, if it is still there.
    pub(crate) fn get(&self, key: Key) -> Option<V> {
        let slots = self.0.lock();
        slots.all.get(key.slot as usize).filter(|slot| slot.generation == key.generation)?.value.clone()
    }

    /// Takes a value out. The key names nothing from then on.
    pub(crate) fn remove(&self, key: Key) -> Option<V> {
        let mut slots = self.0.lock();
        let slot = slots.all.get_mut(key.slot as usize).filter(|slot| slot.generation == key.generation)?;
        let value = slot.value.take()?;
        // A place whose numbers are used up is left empty for ever: an old key must not find a new value.
        if let Some(next) = slot.generation.checked_add(1) {
            slot.generation = next;
            slots.free.push(key.slot);
        }
        Some(value)
    }

    /// How many values there are.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().all.iter().filter(|slot| slot.value.is_some()).count()
    }

    /// Keeps everyone else out, for a `fork()`.
    pub(crate) fn hold(&self) -> MutexGuard<'_, Slots<V>> {
        self.0.lock()
    }

    /// Makes the first place look as if it had been used so often.
    #[cfg(test)]
    pub(crate) fn wear(&self, generation: u32) {
        self.0.lock().all[0].generation = generation;
    }
}
