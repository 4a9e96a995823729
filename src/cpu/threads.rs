//! Spreads pieces of work over a pool of threads; on the calling thread where there is no pool or little work.
//!
//! The caller cuts the work; pieces must not depend on the number of threads. Workers take the next piece until there is
//! none, so that it does not matter how often, or by whom, they are called.
#![forbid(unsafe_code)]

#[cfg(feature = "std")]
use alloc::sync::Arc;
#[cfg(feature = "finetune")]
use alloc::vec::Vec;
#[cfg(feature = "std")]
use core::sync::atomic::{AtomicUsize, Ordering};

#[cfg(feature = "std")]
use super::crew::Crew;

/// Work (roughly, multiply-adds or elements times ten) below which waking other threads costs more than it saves.
#[cfg(feature = "std")]
const WORTH_SHARING: usize = 1 << 18;

/// Threads of the caller's, for [`Cpu::with_parallel_for`](super::Cpu::with_parallel_for).
#[cfg(feature = "std")]
pub trait ParallelFor: Send + Sync {
    /// Threads that take part, the calling one included; for information.
    fn threads(&self) -> usize;

    /// Calls `work(i)` for every `i` below `count`, on any threads in any order, and returns when all calls have
    /// returned. Every call works until nothing is left to do: one that is left out leaves its work to the others, and one
    /// too many does nothing.
    fn run(&self, count: usize, work: &(dyn Fn(usize) + Sync));
}

/// Who does the work.
#[cfg(feature = "std")]
#[derive(Clone)]
enum Pool {
    Own(Arc<Crew>),
    Callers(Arc<dyn ParallelFor>),
}

/// A pool of threads, or none. Clones share the pool.
#[derive(Clone)]
pub(super) struct Threads {
    #[cfg(feature = "std")]
    pool: Option<Pool>,
}

/// Cores that this process may use.
#[cfg(feature = "std")]
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get())
}

/// Without threads, one.
#[cfg(not(feature = "std"))]
pub(super) fn cores() -> usize {
    1
}

#[cfg(feature = "std")]
impl Threads {
    /// `count` threads; the calling thread alone for 0 and 1, or where the system starts no threads.
    pub(super) fn new(count: usize) -> Threads {
        let crew = (count > 1).then(|| Crew::new(count - 1)).filter(|crew| crew.helpers() > 0);
        Threads { pool: crew.map(|crew| Pool::Own(Arc::new(crew))) }
    }

    /// The caller's threads.
    pub(super) fn of_caller(threads: Arc<dyn ParallelFor>) -> Threads {
        Threads { pool: Some(Pool::Callers(threads)) }
    }

    /// Threads in use.
    pub(super) fn count(&self) -> usize {
        match &self.pool {
            None => 1,
            Some(Pool::Own(crew)) => crew.helpers() + 1,
            Some(Pool::Callers(threads)) => threads.threads(),
        }
    }

    /// Calls `work(worker, piece)` once for every piece below `pieces`, in any order, on any thread. `worker` is below
    /// [`Threads::workers`], and never in two calls at once. `cost` is the whole work in multiply-adds.
    pub(super) fn run(&self, cost: usize, pieces: usize, work: &(dyn Fn(usize, usize) + Sync)) {
        let Some(pool) = self.pool.as_ref().filter(|_| pieces > 1 && cost >= WORTH_SHARING) else {
            return (0..pieces).for_each(|piece| work(0, piece));
        };
        let crew = self.workers().min(pieces);
        let workers = Workers::new(self.workers());
        let next = AtomicUsize::new(0);
        let take = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&piece| piece < pieces);
        let help = || {
            let Some(worker) = workers.enter() else { return };
            while let Some(piece) = take() {
                work(worker, piece);
            }
            workers.leave(worker);
        };
        match pool {
            Pool::Own(own) => own.run(crew - 1, &help),
            Pool::Callers(threads) => {
                threads.run(crew, &|_| help());
                help();
            }
        }
    }
}

/// Which workers are at work: a bit for each that is not.
#[cfg(feature = "std")]
struct Workers(AtomicUsize);

#[cfg(feature = "std")]
impl Workers {
    fn new(count: usize) -> Workers {
        Workers(AtomicUsize::new(usize::MAX >> (usize::BITS as usize - count)))
    }

    /// A worker that nobody else is; `None` where all are at work.
    fn enter(&self) -> Option<usize> {
        let lowest = |idle: usize| (idle != 0).then(|| idle & (idle - 1));
        let idle = self.0.fetch_update(Ordering::Acquire, Ordering::Relaxed, lowest).ok()?;
        Some(idle.trailing_zeros() as usize)
    }

    fn leave(&self, worker: usize) {
        self.0.fetch_or(1 << worker, Ordering::Release);
    }
}

#[cfg(not(feature = "std"))]
impl Threads {
    /// The calling thread.
    pub(super) fn new(_count: usize) -> Threads {
        Threads {}
    }

    /// One.
    pub(super) fn count(&self) -> usize {
        1
    }

    /// Calls `work(0, piece)` for every piece below `pieces`.
    pub(super) fn run(&self, _cost: usize, pieces: usize, work: &(dyn Fn(usize, usize) + Sync)) {
        (0..pieces).for_each(|piece| work(0, piece));
    }
}

impl Threads {
    /// Most threads that take part in one operation; as many shares of scratch are made.
    pub(super) fn workers(&self) -> usize {
        self.count().clamp(1, usize::BITS as usize)
    }
}

#[cfg(feature = "finetune")]
impl Threads {
    /// Calls `work` once for every item, in any order, on any thread, for pieces that consist of several parts; `scratch`
    /// makes the memory that successive calls of one worker share.
    #[cfg(feature = "std")]
    pub(super) fn each<T: Send, S: Send>(
        &self,
        cost: usize,
        items: Vec<T>,
        scratch: impl Fn() -> S,
        work: impl Fn(&mut S, T) + Sync,
    ) {
        use std::sync::{Mutex, PoisonError};
        let items: Vec<Mutex<Option<T>>> = items.into_iter().map(|item| Mutex::new(Some(item))).collect();
        let shares: Vec<Mutex<S>> = (0..self.workers()).map(|_| Mutex::new(scratch())).collect();
        self.run(cost, items.len(), &|worker, piece| {
            let item = items[piece].lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(item) = item {
                work(&mut shares[worker].lock().unwrap_or_else(PoisonError::into_inner), item);
            }
        });
    }

    /// Calls `work` once for every item.
    #[cfg(not(feature = "std"))]
    pub(super) fn each<T, S>(
        &self,
        _cost: usize,
        items: Vec<T>,
        scratch: impl Fn() -> S,
        work: impl Fn(&mut S, T),
    ) {
        let mut scratch = scratch();
        items.into_iter().for_each(|item| work(&mut scratch, item));
    }
}
