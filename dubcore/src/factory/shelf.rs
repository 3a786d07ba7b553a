//! The concurrent heart of the factory: what is loaded, what is being loaded, and who uses it. It knows nothing of models,
//! so that a model checker (`loom/`) can run it through every order in which threads may meet.
//!
//! What holds at any moment:
//! - for one key there is one load at a time, however many ask;
//! - whoever waits for a load gets its outcome, or gives up by themselves;
//! - what is taken off the shelf as free is used by nobody, then or later; what is taken off in use, by nobody new.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use crate::sync::{Arc, AtomicBool, AtomicU64, Condvar, Mutex, Ordering, RwLock, RwLockWriteGuard};

/// How often somebody who waits looks whether they still want to.
const LOOK: Duration = Duration::from_millis(20);

/// What can lie on a shelf.
pub(crate) trait Item {
    /// A use begins or ends.
    fn touch(&self) {}
}

/// Something loaded, and how it is used.
pub(crate) struct Slot<V> {
    pub(crate) item: Arc<V>,
    /// Leases. Grows only under the residents' lock or beside another lease, so that what is seen as free under the lock,
    /// for writing, is free.
    in_use: AtomicU64,
    pinned: AtomicBool,
}

impl<V> Slot<V> {
    fn new(item: Arc<V>, pinned: bool) -> Self {
        Self { item, in_use: AtomicU64::new(0), pinned: AtomicBool::new(pinned) }
    }

    /// How many leases there are.
    pub(crate) fn in_use(&self) -> u64 {
        self.in_use.load(Ordering::Acquire)
    }

    pub(crate) fn pinned(&self) -> bool {
        self.pinned.load(Ordering::Acquire)
    }

    pub(crate) fn pin(&self, pinned: bool) {
        self.pinned.store(pinned, Ordering::Release);
    }

    /// Whether it may be taken off the shelf.
    pub(crate) fn is_free(&self) -> bool {
        self.in_use() == 0 && !self.pinned()
    }
}

/// The use of something by one call.
pub(crate) struct Lease<V: Item>(Arc<Slot<V>>);

impl<V: Item> Lease<V> {
    /// Of something new, which is not on a shelf yet.
    pub(crate) fn new(item: V) -> Self {
        Self::of(Arc::new(Slot::new(Arc::new(item), false)))
    }

    /// To be called where nobody can be taking the slot off the shelf: under the residents' lock, or while another lease
    /// is held.
    fn of(slot: Arc<Slot<V>>) -> Self {
        slot.in_use.fetch_add(1, Ordering::AcqRel);
        slot.item.touch();
        Self(slot)
    }

    pub(crate) fn slot(&self) -> &Slot<V> {
        &self.0
    }

    pub(crate) fn item(&self) -> &V {
        &self.0.item
    }

    /// The slot, for as long as somebody else keeps it.
    #[cfg(not(loom))]
    pub(crate) fn weak(&self) -> std::sync::Weak<Slot<V>> {
        Arc::downgrade(&self.0)
    }
}

impl<V: Item> Drop for Lease<V> {
    fn drop(&mut self) {
        self.0.item.touch();
        self.0.in_use.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A load that callers wait for.
pub(crate) struct Flight<V: Item, E> {
    state: Mutex<State<V, E>>,
    landed: Condvar,
}

enum State<V: Item, E> {
    /// So many are waiting.
    Loading(usize),
    /// A lease for each of them, taken before anyone could take the newcomer off the shelf again.
    Loaded(Vec<Lease<V>>),
    Failed(E),
}

/// What is loaded and being loaded, by key.
pub(crate) struct Shelf<K, V: Item, E> {
    residents: RwLock<HashMap<K, Arc<Slot<V>>>>,
    flights: Mutex<HashMap<K, Arc<Flight<V, E>>>>,
    /// How often `residents` has changed; written under their lock.
    changes: AtomicU64,
    /// The residents, to be read without a lock; written under theirs.
    #[cfg(not(loom))]
    published: Published<K, V>,
}

#[cfg(not(loom))]
type Published<K, V> = arc_swap::ArcSwap<Vec<(K, Arc<Slot<V>>)>>;

impl<K: Clone + Eq + Hash, V: Item, E: Clone> Shelf<K, V, E> {
    pub(crate) fn new() -> Self {
        Self::with(HashMap::new())
    }

    fn with(residents: HashMap<K, Arc<Slot<V>>>) -> Self {
        Self {
            #[cfg(not(loom))]
            published: arc_swap::ArcSwap::from_pointee(residents.iter().map(|(k, s)| (k.clone(), s.clone())).collect()),
            residents: RwLock::new(residents),
            flights: Mutex::new(HashMap::new()),
            changes: AtomicU64::new(0),
        }
    }

    /// A shelf for a child of the process that this one belongs to. It has the same things on it, used by nobody, since the
    /// other threads are gone; and nothing in flight. No lock of this one is touched.
    #[cfg(not(loom))]
    pub(crate) fn inherit(&self) -> Self {
        let inherited = self.published.load();
        let again = |slot: &Slot<V>| Arc::new(Slot::new(slot.item.clone(), slot.pinned()));
        Self::with(inherited.iter().map(|(key, slot)| (key.clone(), again(slot))).collect())
    }

    /// A lease on what has this key. Where it is not there, `launch` is to see to it that it is loaded, on another thread,
    /// and that [`Shelf::land`] is called; unless somebody's launch is doing so already. Whoever waits is asked by `check`
    /// now and then whether to go on.
    pub(crate) fn lease(
        &self,
        key: &K,
        mut check: impl FnMut() -> Result<(), E>,
        launch: impl FnOnce(Arc<Flight<V, E>>),
    ) -> Result<Lease<V>, E> {
        check()?;
        if let Some(lease) = self.resident(key) {
            return Ok(lease);
        }
        let (flight, first) = {
            let mut flights = self.flights.lock();
            // A flight that landed in between has left the map and put what it loaded among the residents.
            if let Some(lease) = self.resident(key) {
                return Ok(lease);
            }
            match flights.get(key) {
                Some(flight) => {
                    flight.join();
                    (flight.clone(), false)
                }
                None => {
                    let flight = Arc::new(Flight { state: Mutex::new(State::Loading(1)), landed: Condvar::new() });
                    flights.insert(key.clone(), flight.clone());
                    (flight, true)
                }
            }
        };
        if first {
            launch(flight.clone());
        }
        flight.wait(check)
    }

    fn resident(&self, key: &K) -> Option<Lease<V>> {
        self.residents.read().get(key).map(|slot| Lease::of(slot.clone()))
    }

    /// Ends a flight: everyone who waits gets a lease, or the error. What was loaded should be among the residents by now,
    /// or the next caller loads it again.
    pub(crate) fn land(&self, key: &K, flight: &Flight<V, E>, result: Result<Lease<V>, E>) {
        // From here on nobody joins.
        self.flights.lock().remove(key);
        let mut state = flight.state.lock();
        *state = match (result, &*state) {
            (Ok(lease), State::Loading(waiting)) => State::Loaded((0..*waiting).map(|_| Lease::of(lease.0.clone())).collect()),
            (Ok(_), _) => State::Loaded(Vec::new()),
            (Err(e), _) => State::Failed(e),
        };
        drop(state);
        flight.landed.notify_all();
    }

    /// What `each` makes of the residents, and the count of changes that they are at.
    pub(crate) fn look<R>(&self, each: impl Fn(&Slot<V>) -> R) -> (Vec<R>, u64) {
        let residents = self.residents.read();
        (residents.values().map(|slot| each(slot)).collect(), self.changes.load(Ordering::Acquire))
    }

    /// What is being loaded, and how many wait for it.
    pub(crate) fn loading(&self) -> Vec<(K, usize)> {
        let flights: Vec<_> = self.flights.lock().iter().map(|(key, flight)| (key.clone(), flight.clone())).collect();
        let waiting = |flight: &Flight<V, E>| match *flight.state.lock() {
            State::Loading(waiting) => waiting,
            _ => 0,
        };
        flights.into_iter().map(|(key, flight)| (key, waiting(&flight))).collect()
    }

    /// The residents, to be changed.
    pub(crate) fn residents(&self) -> Residents<'_, K, V> {
        Residents {
            map: self.residents.write(),
            changes: &self.changes,
            #[cfg(not(loom))]
            published: &self.published,
        }
    }
}

impl<V: Item, E: Clone> Flight<V, E> {
    fn join(&self) {
        if let State::Loading(waiting) = &mut *self.state.lock() {
            *waiting += 1;
        }
    }

    /// Waits as long as `check` allows.
    fn wait(&self, mut check: impl FnMut() -> Result<(), E>) -> Result<Lease<V>, E> {
        let mut state = self.state.lock();
        loop {
            match &mut *state {
                State::Loaded(leases) => return Ok(leases.pop().expect("there is one for each who waits")),
                State::Failed(e) => return Err(e.clone()),
                State::Loading(waiting) => {
                    if let Err(e) = check() {
                        *waiting -= 1;
                        return Err(e);
                    }
                }
            }
            self.landed.wait_for(&mut state, LOOK);
        }
    }
}

/// The residents of a shelf, locked. Nobody gets a lease on one of them meanwhile.
pub(crate) struct Residents<'a, K, V> {
    map: RwLockWriteGuard<'a, HashMap<K, Arc<Slot<V>>>>,
    changes: &'a AtomicU64,
    #[cfg(not(loom))]
    published: &'a Published<K, V>,
}

impl<K: Clone + Eq + Hash, V: Item> Residents<'_, K, V> {
    /// How often they have changed.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    pub(crate) fn slots(&self) -> impl Iterator<Item = &Slot<V>> {
        self.map.values().map(|slot| &**slot)
    }

    /// Puts something new among them.
    pub(crate) fn insert(&mut self, key: K, lease: &Lease<V>) {
        self.map.insert(key, lease.0.clone());
        self.changed(1);
    }

    fn changed(&self, times: u64) {
        self.changes.fetch_add(times, Ordering::AcqRel);
        #[cfg(not(loom))]
        if times > 0 {
            self.published.store(std::sync::Arc::new(self.map.iter().map(|(k, s)| (k.clone(), s.clone())).collect()));
        }
    }

    /// Takes out those that `which` names. A lease on one of them stays good, but the shelf no longer knows of it. To be
    /// dropped when the lock is released, for that takes time.
    pub(crate) fn take(&mut self, which: impl Fn(&Slot<V>) -> bool) -> Vec<Arc<Slot<V>>> {
        let keys: Vec<K> = self.map.iter().filter(|(_, slot)| which(slot)).map(|(key, _)| key.clone()).collect();
        let gone: Vec<_> = keys.iter().filter_map(|key| self.map.remove(key)).collect();
        self.changed(gone.len() as u64);
        gone
    }
}
