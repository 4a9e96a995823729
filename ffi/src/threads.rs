//! The caller's threads.

use core::ffi::c_void;
use core::ptr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use triplet::cpu::ParallelFor;

use crate::float_state::{Standard, in_host};

/// A piece of work: called with the argument and a number.
pub type triplet_work_fn = Option<unsafe extern "C" fn(argument: *mut c_void, index: usize)>;

/// Spreads work over threads of the caller's: calls `work(argument, i)` for every `i` below `count`, on any threads in any
/// order, and returns when all calls have returned. `count` is at most the number of threads that the model was given; every
/// call works until nothing is left to do, and what is left after all is done by the library on the asking thread.
/// Called on the thread that asks or encodes, several times for every layer, and by several threads at once where several
/// ask. Must not throw.
pub type triplet_parallel_for_fn = Option<
    unsafe extern "C" fn(context: *mut c_void, count: usize, work: triplet_work_fn, argument: *mut c_void),
>;

/// Threads that a caller has given to a model.
pub(crate) struct CallersThreads {
    pub(crate) parallel_for: unsafe extern "C" fn(
        context: *mut c_void,
        count: usize,
        work: triplet_work_fn,
        argument: *mut c_void,
    ),
    pub(crate) context: *mut c_void,
    pub(crate) threads: usize,
}

// SAFETY: `context` is passed to `parallel_for` and to nothing else, which may be called on any thread, as its
// documentation says.
unsafe impl Send for CallersThreads {}
// SAFETY: as above.
unsafe impl Sync for CallersThreads {}

/// What the pieces of one operation share.
struct Job<'w> {
    work: &'w (dyn Fn(usize) + Sync),
    panicked: AtomicBool,
}

impl ParallelFor for CallersThreads {
    fn threads(&self) -> usize {
        self.threads
    }

    fn run(&self, count: usize, work: &(dyn Fn(usize) + Sync)) {
        let job = Job { work, panicked: AtomicBool::new(false) };
        // SAFETY: a function of this type by the caller's promise; it returns after the last call of `piece`, so that
        // `job` outlives them all.
        in_host(|| unsafe {
            (self.parallel_for)(self.context, count, Some(piece), ptr::from_ref(&job).cast_mut().cast());
        });
        assert!(
            !job.panicked.load(Ordering::Relaxed),
            "a piece of work panicked on a thread of the caller's"
        );
    }
}

/// Does one piece in the library's floating-point state; no panic leaves it.
unsafe extern "C" fn piece(argument: *mut c_void, index: usize) {
    let _standard = Standard::enter();
    // SAFETY: `argument` is the `Job` of a `run` that has not returned.
    let job = unsafe { &*argument.cast_const().cast::<Job>() };
    if catch_unwind(AssertUnwindSafe(|| (job.work)(index))).is_err() {
        job.panicked.store(true, Ordering::Relaxed);
    }
}
