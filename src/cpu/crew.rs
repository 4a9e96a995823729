//! Threads that help the calling one: it shares out a piece of work, takes part itself, and leaves when all are done.
//!
//! A helper that comes late finds the work closed, so that nobody waits for a thread that was not scheduled in time; that is
//! right because work that is shared out is the same however many take part. Whoever waits looks for [`PATIENCE`], as the
//! next operation of a frame begins within microseconds, and then sleeps until it is woken.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long a thread that waits stays awake.
const PATIENCE: Duration = Duration::from_micros(100);

/// Work that is shared out: every call takes part until nothing is left.
type Work<'a> = dyn Fn() + Sync + 'a;

/// Threads that sleep until there is work.
pub(super) struct Crew {
    shared: Arc<Shared>,
    helpers: Vec<JoinHandle<()>>,
    /// Held by the thread whose work is shared out.
    turn: Mutex<()>,
}

struct Shared {
    state: Mutex<State>,
    /// For helpers: there is work, or an end.
    begin: Condvar,
    /// For the caller: nobody is at work.
    end: Condvar,
    /// Number of the last work, for looking without the lock; written under it.
    number: AtomicUsize,
    /// Helpers at work; likewise.
    inside: AtomicUsize,
}

struct State {
    /// What is shared out now.
    work: Option<Pointer>,
    number: usize,
    /// Helpers that may still begin.
    wanted: usize,
    /// Helpers that have to be woken.
    asleep: usize,
    panicked: bool,
    quit: bool,
}

/// The work of a caller that waits.
#[derive(Clone, Copy)]
struct Pointer(*const Work<'static>);

// SAFETY: what it points to may be called from any thread (`Sync`), and lives until all helpers have left.
unsafe impl Send for Pointer {}

impl Shared {
    /// The state; a panic never leaves it half written.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(condition: &Condvar, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        condition.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// What a helper does all its life.
    fn help(&self) {
        let mut seen = 0;
        let mut state = self.lock();
        loop {
            if state.quit {
                return;
            }
            let work = state.work.filter(|_| state.number != seen && state.wanted > 0);
            seen = state.number;
            let Some(work) = work else {
                drop(state);
                look_for(|| self.number.load(Ordering::Relaxed) != seen);
                state = self.lock();
                state.asleep += 1;
                while state.number == seen && !state.quit {
                    state = Shared::wait(&self.begin, state);
                }
                state.asleep -= 1;
                continue;
            };
            state.wanted -= 1;
            self.inside.fetch_add(1, Ordering::Relaxed);
            drop(state);
            // SAFETY: the work was there under the lock, and its caller stays in `Crew::run` until `inside` is 0 again.
            let result = catch_unwind(AssertUnwindSafe(|| unsafe { (*work.0)() }));
            state = self.lock();
            state.panicked |= result.is_err();
            if self.inside.fetch_sub(1, Ordering::Relaxed) == 1 && state.work.is_none() {
                self.end.notify_one();
            }
        }
    }
}

/// Looks for something to happen, for a while.
fn look_for(happened: impl Fn() -> bool) {
    let start = Instant::now();
    while !happened() && start.elapsed() < PATIENCE {
        for _ in 0..16 {
            core::hint::spin_loop();
        }
    }
}

/// Closes the work and waits for those at it, also where the caller's own part panics.
struct Closing<'a>(&'a Shared);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.lock().wanted = 0;
        look_for(|| self.0.inside.load(Ordering::Relaxed) == 0);
        let mut state = self.0.lock();
        state.work = None;
        while self.0.inside.load(Ordering::Relaxed) > 0 {
            state = Shared::wait(&self.0.end, state);
        }
    }
}

impl Crew {
    /// Starts `count` helpers; fewer where the system refuses.
    pub(super) fn new(count: usize) -> Crew {
        let state = State { work: None, number: 0, wanted: 0, asleep: 0, panicked: false, quit: false };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            begin: Condvar::new(),
            end: Condvar::new(),
            number: AtomicUsize::new(0),
            inside: AtomicUsize::new(0),
        });
        let start = |index: usize| {
            let shared = shared.clone();
            thread::Builder::new().name(format!("triplet-{index}")).spawn(move || shared.help()).ok()
        };
        let helpers = (1..=count).map_while(start).collect();
        Crew { shared, helpers, turn: Mutex::new(()) }
    }

    /// Number of helpers.
    pub(super) fn helpers(&self) -> usize {
        self.helpers.len()
    }

    /// Calls `work` on this thread and on up to `helpers` others. Where the crew is at somebody else's work, on this thread
    /// alone.
    ///
    /// # Panics
    /// Where `work` does, on any thread.
    pub(super) fn run(&self, helpers: usize, work: &Work<'_>) {
        let _turn = match self.turn.try_lock() {
            Ok(turn) => turn,
            Err(TryLockError::Poisoned(turn)) => turn.into_inner(),
            Err(TryLockError::WouldBlock) => return work(),
        };
        let pointer: *const Work<'_> = work;
        // SAFETY: only the lifetime changes; `Closing` keeps this function from ending before the last helper has left.
        let pointer =
            Pointer(unsafe { core::mem::transmute::<*const Work<'_>, *const Work<'static>>(pointer) });
        let mut state = self.shared.lock();
        state.work = Some(pointer);
        state.wanted = helpers;
        state.number = state.number.wrapping_add(1);
        state.panicked = false;
        self.shared.number.store(state.number, Ordering::Relaxed);
        let asleep = state.asleep.min(helpers);
        drop(state);
        (0..asleep).for_each(|_| self.shared.begin.notify_one());
        let closing = Closing(&self.shared);
        work();
        drop(closing);
        assert!(!self.shared.lock().panicked, "a thread panicked at work that was shared out");
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.shared.lock().quit = true;
        self.shared.number.fetch_add(1, Ordering::Relaxed);
        self.shared.begin.notify_all();
        for helper in self.helpers.drain(..) {
            // A helper catches the panics of its work, so that it ends without one.
            let _ = helper.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_done_once_by_however_many_come() {
        for helpers in [0, 1, 3] {
            let crew = Crew::new(helpers);
            assert_eq!(crew.helpers(), helpers);
            for round in 0..200 {
                let (next, sum) = (AtomicUsize::new(0), AtomicUsize::new(0));
                crew.run(helpers, &|| {
                    loop {
                        let piece = next.fetch_add(1, Ordering::Relaxed);
                        if piece >= 20 {
                            return;
                        }
                        sum.fetch_add(piece + round, Ordering::Relaxed);
                    }
                });
                assert_eq!(sum.into_inner(), 190 + 20 * round);
            }
        }
    }

    #[test]
    fn helpers_take_part() {
        let crew = Crew::new(1);
        let here = AtomicUsize::new(0);
        crew.run(1, &|| {
            // Each waits for the other, so that one alone would never end.
            here.fetch_add(1, Ordering::SeqCst);
            while here.load(Ordering::SeqCst) < 2 {
                thread::yield_now();
            }
        });
        assert_eq!(here.into_inner(), 2);
    }

    #[test]
    fn two_callers_at_once_and_work_within_work() {
        let crew = Crew::new(2);
        let calls = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        crew.run(2, &|| {
                            crew.run(2, &|| {
                                calls.fetch_add(1, Ordering::Relaxed);
                            });
                        });
                    }
                });
            }
        });
        assert!(calls.into_inner() >= 100);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_crew_goes_on() {
        let crew = Crew::new(1);
        let here = AtomicUsize::new(0);
        let result = catch_unwind(AssertUnwindSafe(|| {
            crew.run(1, &|| {
                here.fetch_add(1, Ordering::SeqCst);
                while here.load(Ordering::SeqCst) < 2 {
                    thread::yield_now();
                }
                if thread::current().name() == Some("triplet-1") {
                    panic!("for the test");
                }
            });
        }));
        assert!(result.is_err());
        crew.run(1, &|| ());
    }
}
