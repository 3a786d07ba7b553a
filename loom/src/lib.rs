//! dubcore's `shelf` and `gate`, the concurrent heart of its factory, the `rounds` of its kernels' threads, and the handle
//! table of its C library, under loom: each test is run in every order in which its threads may meet (up to `PREEMPTIONS`
//! switches that nothing forced). The files are dubcore's own. It is a crate of its own because `--cfg loom` would otherwise build all that dubcore depends on again.
//!
//! `cargo xtask test loom` runs them.
#![cfg(loom)]
#![allow(dead_code, unreachable_pub, reason = "the files serve dubcore, which uses more of them")]

#[path = "../../dubcore/src/gate.rs"]
mod gate;
#[path = "../../dubcore/src/team/rounds.rs"]
mod rounds;
#[path = "../../dubcore/src/factory/shelf.rs"]
mod shelf;
#[path = "../../dubcore/src/sync.rs"]
mod sync;
#[path = "../../dubcore-c/src/table.rs"]
mod table;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use loom::sync::Arc;
    use loom::sync::atomic::AtomicBool;
    use loom::thread::{self, JoinHandle};

    use crate::gate::{Gate, Refused};
    use crate::rounds::Rounds;
    use crate::shelf::{Item, Lease, Shelf, Slot};
    use crate::table::Table;

    /// Defects that need more than two such switches are rare, and each one more costs ten times the time.
    const PREEMPTIONS: usize = 2;

    /// Something loaded. A plain counter says which load made it.
    struct Thing(usize);

    impl Item for Thing {}

    type Error = &'static str;
    type Result<T> = std::result::Result<T, Error>;

    #[derive(Clone)]
    struct Factory(Arc<Inner>);

    struct Inner {
        shelf: Shelf<u8, Thing, Error>,
        /// Not loom's: what is counted takes no part in the order of things.
        loads: AtomicUsize,
        at_once: AtomicUsize,
        result: Option<Error>,
        keep: bool,
    }

    const KEY: u8 = 7;

    impl Factory {
        fn new(result: Option<Error>, keep: bool) -> Self {
            let (loads, at_once) = (AtomicUsize::new(0), AtomicUsize::new(0));
            Self(Arc::new(Inner { shelf: Shelf::new(), loads, at_once, result, keep }))
        }

        /// As dubcore's factory does it: the load runs on a thread of its own.
        fn lease(&self, check: impl FnMut() -> Result<()>) -> Result<Lease<Thing>> {
            self.0.shelf.lease(&KEY, check, |flight| {
                let factory = self.clone();
                thread::spawn(move || {
                    assert_eq!(factory.0.at_once.fetch_add(1, SeqCst), 0, "two loads at once");
                    let number = factory.0.loads.fetch_add(1, SeqCst) + 1;
                    let result = match factory.0.result {
                        Some(e) => Err(e),
                        None => Ok(Lease::new(Thing(number))),
                    };
                    if let (Ok(lease), true) = (&result, factory.0.keep) {
                        factory.0.shelf.residents().insert(KEY, lease);
                    }
                    factory.0.at_once.fetch_sub(1, SeqCst);
                    factory.0.shelf.land(&KEY, &flight, result);
                });
            })
        }

        /// Uses the thing for a moment in which others may do what they like.
        fn uses(&self) -> Result<usize> {
            let lease = self.lease(|| Ok(()))?;
            assert!(lease.slot().in_use() > 0);
            if self.0.keep {
                let (resident, _) = self.0.shelf.look(|slot| slot.item.0);
                assert_eq!(resident, [lease.item().0], "what is in use is on the shelf");
            }
            Ok(lease.item().0)
        }

        /// Takes what is free off the shelf, as a policy would.
        fn evict(&self) -> usize {
            let gone = self.0.shelf.residents().take(Slot::is_free);
            for slot in &gone {
                assert_eq!(slot.in_use(), 0, "what was evicted is used by nobody");
            }
            thread::yield_now();
            assert!(gone.iter().all(|slot| slot.in_use() == 0), "nor later");
            gone.len()
        }

        fn spawn<R: 'static>(&self, work: impl FnOnce(Self) -> R + 'static) -> JoinHandle<R> {
            let own = self.clone();
            thread::spawn(move || work(own))
        }

        fn loads(&self) -> usize {
            self.0.loads.load(SeqCst)
        }
    }

    fn model(test: impl Fn() + Send + Sync + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(PREEMPTIONS);
        builder.check(test);
    }

    #[test]
    fn one_load_serves_all_who_ask() {
        model(|| {
            let factory = Factory::new(None, true);
            let others = [factory.spawn(|f| f.uses()), factory.spawn(|f| f.uses())];
            assert_eq!(factory.uses(), Ok(1));
            assert!(others.into_iter().all(|o| o.join().unwrap() == Ok(1)));
            assert_eq!(factory.loads(), 1);
            assert!(factory.0.shelf.residents().slots().all(Slot::is_free), "every lease was given back");
        });
    }

    #[test]
    fn a_failure_goes_to_all_who_wait_and_the_next_call_tries_again() {
        model(|| {
            let factory = Factory::new(Some("broken"), true);
            let other = factory.spawn(|f| f.uses());
            assert_eq!(factory.uses(), Err("broken"));
            assert_eq!(other.join().unwrap(), Err("broken"));
            // Together, or one after the other.
            assert!((1..=2).contains(&factory.loads()));
            let before = factory.loads();
            assert_eq!(factory.uses(), Err("broken"));
            assert_eq!(factory.loads(), before + 1);
        });
    }

    #[test]
    fn who_gives_up_takes_nothing_from_the_others() {
        model(|| {
            let factory = Factory::new(None, true);
            let cancelled = Arc::new(AtomicBool::new(false));
            let flag = cancelled.clone();
            let impatient = factory.spawn(move |f| {
                let check = || if flag.load(loom::sync::atomic::Ordering::Acquire) { Err("cancelled") } else { Ok(()) };
                f.lease(check).map(|lease| lease.item().0)
            });
            let patient = factory.spawn(|f| f.uses());
            cancelled.store(true, loom::sync::atomic::Ordering::Release);
            assert!(matches!(impatient.join().unwrap(), Err("cancelled") | Ok(1)));
            assert_eq!(patient.join().unwrap(), Ok(1));
            assert_eq!(factory.uses(), Ok(1));
            assert_eq!(factory.loads(), 1);
            // Whoever launched the load may have left, so it may still be landing, with its own lease and no other.
            assert!(factory.0.shelf.residents().slots().all(|slot| slot.in_use() <= 1), "every other lease was given back");
        });
    }

    #[test]
    fn what_is_used_is_not_evicted() {
        model(|| {
            let factory = Factory::new(None, true);
            let evictor = factory.spawn(|f| f.evict());
            let user = factory.spawn(|f| f.uses());
            let mine = factory.uses().unwrap();
            let theirs = user.join().unwrap().unwrap();
            let evicted = evictor.join().unwrap();
            // Loaded again only where it was evicted in between.
            assert!(factory.loads() <= 1 + evicted && mine.max(theirs) <= factory.loads());
        });
    }

    #[test]
    fn no_more_are_inside_than_there_are_slots_and_all_get_in() {
        model(|| {
            let gate = Gate::new(1);
            let inside = Arc::new(loom::sync::atomic::AtomicUsize::new(0));
            let visit = {
                let (gate, inside) = (gate.clone(), inside.clone());
                move || {
                    let pass = Gate::enter(&gate, 8, || Ok::<_, Error>(())).unwrap();
                    assert_eq!(inside.fetch_add(1, loom::sync::atomic::Ordering::SeqCst), 0, "two at once");
                    thread::yield_now();
                    inside.fetch_sub(1, loom::sync::atomic::Ordering::SeqCst);
                    drop(pass);
                }
            };
            let others = [thread::spawn(visit.clone()), thread::spawn(visit.clone())];
            visit();
            others.into_iter().for_each(|o| o.join().unwrap());
            assert_eq!(gate.waiting(), 0);
        });
    }

    #[test]
    fn who_leaves_the_line_holds_up_nobody() {
        model(|| {
            let gate = Gate::new(1);
            let pass = Gate::enter(&gate, 2, || Ok::<_, Error>(())).unwrap();
            let (one, two) = (gate.clone(), gate.clone());
            // Comes and goes again, at once or when it has looked some times.
            let impatient = thread::spawn(move || Gate::enter(&one, 2, || Err("enough")).map(drop));
            let patient = thread::spawn(move || Gate::enter(&two, 2, || Ok::<_, Error>(())).map(drop));
            drop(pass);
            assert!(matches!(impatient.join().unwrap(), Ok(()) | Err(Refused::Left("enough"))));
            assert_eq!(patient.join().unwrap(), Ok(()));
            assert_eq!(Gate::enter(&gate, 0, || Ok::<_, Error>(())).map(drop), Ok(()));
        });
    }

    /// What lies in a table of handles: it counts how often it went.
    struct Object(u8, std::sync::Arc<AtomicUsize>);

    impl Object {
        fn new(number: u8) -> (Arc<Self>, std::sync::Arc<AtomicUsize>) {
            let gone = std::sync::Arc::new(AtomicUsize::new(0));
            (Arc::new(Self(number, gone.clone())), gone)
        }

        fn is_alive(&self) -> bool {
            self.1.load(SeqCst) == 0
        }
    }

    impl Drop for Object {
        fn drop(&mut self) {
            assert_eq!(self.1.fetch_add(1, SeqCst), 0, "it goes once");
        }
    }

    #[test]
    fn a_handle_that_is_freed_while_calls_use_it_harms_none() {
        model(|| {
            let table = Arc::new(Table::new());
            let (object, gone) = Object::new(1);
            let key = table.insert(object).unwrap();
            let call = {
                let table = table.clone();
                move || {
                    if let Some(object) = table.get(key) {
                        assert!(object.is_alive());
                        thread::yield_now();
                        assert!(object.is_alive(), "a call keeps what it has");
                    }
                }
            };
            let other = thread::spawn(call.clone());
            let freeing = {
                let table = table.clone();
                thread::spawn(move || table.remove(key).is_some())
            };
            call();
            other.join().unwrap();
            assert!(freeing.join().unwrap());
            assert!(table.get(key).is_none());
            assert_eq!(gone.load(SeqCst), 1, "it went with the last call");
        });
    }

    #[test]
    fn of_two_that_free_a_handle_one_does() {
        model(|| {
            let table = Arc::new(Table::new());
            let (object, gone) = Object::new(1);
            let key = table.insert(object).unwrap();
            let own = table.clone();
            let other = thread::spawn(move || own.remove(key).is_some());
            let mine = table.remove(key).is_some();
            assert!(mine != other.join().unwrap(), "one of them");
            assert_eq!(gone.load(SeqCst), 1);
        });
    }

    #[test]
    fn an_old_handle_never_finds_what_came_to_its_place() {
        model(|| {
            let table = Arc::new(Table::new());
            let old = table.insert(Object::new(1).0).unwrap();
            let own = table.clone();
            let renewing = thread::spawn(move || {
                drop(own.remove(old));
                own.insert(Object::new(2).0).unwrap()
            });
            let own = table.clone();
            let other = thread::spawn(move || own.insert(Object::new(3).0).unwrap());
            assert!(table.get(old).is_none_or(|object| object.0 == 1));
            let (new, third) = (renewing.join().unwrap(), other.join().unwrap());
            assert!(table.get(old).is_none() && table.remove(old).is_none());
            assert_eq!((table.get(new).unwrap().0, table.get(third).unwrap().0), (2, 3));
            assert_eq!(table.len(), 2);
        });
    }

    #[test]
    fn what_is_used_once_is_shared_by_those_who_waited_for_it() {
        model(|| {
            let factory = Factory::new(None, false);
            let other = factory.spawn(|f| f.uses());
            let mine = factory.uses().unwrap();
            let theirs = other.join().unwrap().unwrap();
            assert!(factory.loads() == mine.max(theirs) && factory.loads() <= 2);
            assert_eq!(factory.0.shelf.look(|_| ()).0.len(), 0);
        });
    }

    /// Looks for rounds so many times, as a helper does that is then put to sleep; counts those that it came into.
    fn helper(rounds: &Arc<Rounds>, looks: usize) -> JoinHandle<usize> {
        let rounds = rounds.clone();
        thread::spawn(move || {
            let (mut done, mut helped) = (None, 0);
            for _ in 0..looks {
                match rounds.open().filter(|round| Some(*round) != done) {
                    Some(round) if rounds.help(round) => (done, helped) = (Some(round), helped + 1),
                    _ => thread::yield_now(),
                }
            }
            helped
        })
    }

    #[test]
    fn each_part_of_a_round_is_done_once_before_it_ends() {
        model(|| {
            let rounds = Arc::new(Rounds::default());
            let helpers = [helper(&rounds, 2), helper(&rounds, 1)];
            for parts in [2, 1] {
                // On the caller's stack: a helper that came too late, or left too late, would find it gone.
                let counts: Vec<loom::cell::UnsafeCell<u32>> = (0..parts).map(|_| loom::cell::UnsafeCell::new(0)).collect();
                let counts = Shared(counts);
                let part = |i: usize| {
                    // SAFETY: a part is done once; loom would see two at the same.
                    counts.at(i).with_mut(|count| unsafe { *count += 1 });
                };
                // SAFETY: by this thread alone.
                assert!(unsafe { rounds.run(parts, &part, || {}) }.is_ok());
                // SAFETY: everybody is out.
                assert!((0..parts).all(|i| counts.at(i).with(|count| unsafe { *count }) == 1));
            }
            for helper in helpers {
                assert!(helper.join().unwrap() <= 2);
            }
        });
    }

    #[test]
    fn a_panic_of_a_helper_comes_to_the_caller_and_the_next_round_is_well() {
        model(|| {
            let rounds = Arc::new(Rounds::default());
            let helper = helper(&rounds, 1);
            let failing = |i: usize| {
                if i == 1 {
                    std::panic::panic_any("part 1");
                }
            };
            // SAFETY: by this thread alone.
            let panic = unsafe { rounds.run(2, &failing, || {}) }.expect_err("part 1 is done by one or the other");
            assert_eq!(panic.downcast_ref(), Some(&"part 1"));
            let done = AtomicUsize::new(0);
            let part = |_: usize| {
                done.fetch_add(1, SeqCst);
            };
            // SAFETY: as above.
            assert!(unsafe { rounds.run(2, &part, || {}) }.is_ok());
            assert_eq!(done.into_inner(), 2);
            helper.join().unwrap();
        });
    }

    /// Cells that several threads look at.
    struct Shared(Vec<loom::cell::UnsafeCell<u32>>);

    // SAFETY: loom watches every look.
    unsafe impl Sync for Shared {}

    impl Shared {
        fn at(&self, i: usize) -> &loom::cell::UnsafeCell<u32> {
            &self.0[i]
        }
    }
}
