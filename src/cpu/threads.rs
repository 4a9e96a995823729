//! Spreads pieces of work over a pool of threads; on the calling thread where there is no pool or little work.
//!
//! The caller cuts the work; pieces must not depend on the number of threads.
#![forbid(unsafe_code)]

#[cfg(feature = "std")]
use alloc::format;
#[cfg(feature = "std")]
use alloc::sync::Arc;
use alloc::vec::Vec;
#[cfg(feature = "std")]
use std::sync::{Mutex, PoisonError};

/// Work (roughly, multiply-adds or elements times ten) below which waking other threads costs more than it saves.
#[cfg(feature = "std")]
const WORTH_SHARING: usize = 1 << 18;

/// Threads of the caller's, for [`Cpu::with_parallel_for`](super::Cpu::with_parallel_for).
#[cfg(feature = "std")]
pub trait ParallelFor: Send + Sync {
    /// Threads that take part, the calling one included; for information.
    fn threads(&self) -> usize;

    /// Calls `work(i)` for every `i` below `count`, on any threads in any order, and returns when all calls have
    /// returned. A call that is left out is made by the library, one that is made twice does nothing the second time.
    fn run(&self, count: usize, work: &(dyn Fn(usize) + Sync));
}

/// Who does the work.
#[cfg(feature = "std")]
#[derive(Clone)]
enum Pool {
    Own(Arc<rayon::ThreadPool>),
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
        let name = |index: usize| format!("triplet-{index}");
        let build = || rayon::ThreadPoolBuilder::new().num_threads(count).thread_name(name).build().ok();
        Threads { pool: if count > 1 { build().map(|pool| Pool::Own(Arc::new(pool))) } else { None } }
    }

    /// The caller's threads.
    pub(super) fn of_caller(threads: Arc<dyn ParallelFor>) -> Threads {
        Threads { pool: Some(Pool::Callers(threads)) }
    }

    /// Threads in use.
    pub(super) fn count(&self) -> usize {
        match &self.pool {
            None => 1,
            Some(Pool::Own(pool)) => pool.current_num_threads(),
            Some(Pool::Callers(threads)) => threads.threads(),
        }
    }

    /// Calls `work` once for every item, in any order, on any thread; `scratch` makes the memory that successive calls on
    /// one thread may share. `cost` is the whole work in multiply-adds.
    pub(super) fn each<T: Send, S>(
        &self,
        cost: usize,
        items: Vec<T>,
        scratch: impl Fn() -> S + Send + Sync,
        work: impl Fn(&mut S, T) + Send + Sync,
    ) {
        use rayon::prelude::*;
        match self.pool.as_ref().filter(|_| items.len() > 1 && cost >= WORTH_SHARING) {
            None => inline(items, scratch, work),
            Some(Pool::Own(pool)) => {
                pool.install(|| items.into_par_iter().with_max_len(1).for_each_init(scratch, work));
            }
            Some(Pool::Callers(threads)) => by_caller(&**threads, items, scratch, work),
        }
    }
}

/// Has the caller's threads take the items one by one, and takes what they leave.
#[cfg(feature = "std")]
fn by_caller<T: Send, S>(
    threads: &dyn ParallelFor,
    items: Vec<T>,
    scratch: impl Fn() -> S + Send + Sync,
    work: impl Fn(&mut S, T) + Send + Sync,
) {
    let items: Vec<Mutex<Option<T>>> = items.into_iter().map(|item| Mutex::new(Some(item))).collect();
    let take = |index: usize| {
        let item = items.get(index)?;
        item.lock().unwrap_or_else(PoisonError::into_inner).take()
    };
    threads.run(items.len(), &|index| {
        if let Some(item) = take(index) {
            work(&mut scratch(), item);
        }
    });
    inline((0..items.len()).filter_map(take).collect(), &scratch, &work);
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

    /// Calls `work` once for every item.
    pub(super) fn each<T: Send, S>(
        &self,
        _cost: usize,
        items: Vec<T>,
        scratch: impl Fn() -> S + Send + Sync,
        work: impl Fn(&mut S, T) + Send + Sync,
    ) {
        inline(items, scratch, work);
    }
}

impl Threads {
    /// Calls `work(first row, rows)` for blocks of rows of `out` (`cols` elements each). `cost` is the work for one
    /// element.
    pub(super) fn rows(
        &self,
        cost: usize,
        out: &mut [f32],
        cols: usize,
        work: impl Fn(usize, &mut [f32]) + Send + Sync,
    ) {
        /// Elements of one piece, about 64 KB of output.
        const PIECE: usize = 1 << 14;
        if cols == 0 || out.is_empty() {
            return;
        }
        let total = out.len().saturating_mul(cost);
        let block = (PIECE / cols).max(1);
        let items: Vec<_> = out.chunks_mut(block.saturating_mul(cols)).enumerate().collect();
        self.each(total, items, || (), |(), (index, rows)| work(index * block, rows));
    }
}

fn inline<T, S>(items: Vec<T>, scratch: impl Fn() -> S, work: impl Fn(&mut S, T)) {
    let mut scratch = scratch();
    for item in items {
        work(&mut scratch, item);
    }
}
