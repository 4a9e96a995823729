//! Spreads pieces of work over a pool of threads; on the calling thread where there is no pool or little work.
//!
//! The caller cuts the work; pieces must not depend on the number of threads.
#![forbid(unsafe_code)]

use alloc::vec::Vec;

/// Work (roughly, multiply-adds or elements times ten) below which waking other threads costs more than it saves.
#[cfg(feature = "std")]
const WORTH_SHARING: usize = 1 << 18;

/// A pool of threads, or none. Clones share the pool.
#[derive(Clone)]
pub(super) struct Threads {
    #[cfg(feature = "std")]
    pool: Option<alloc::sync::Arc<rayon::ThreadPool>>,
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
        let build = || rayon::ThreadPoolBuilder::new().num_threads(count).build().ok();
        Threads { pool: if count > 1 { build().map(alloc::sync::Arc::new) } else { None } }
    }

    /// Threads in use.
    pub(super) fn count(&self) -> usize {
        self.pool.as_ref().map_or(1, |pool| pool.current_num_threads())
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
        match &self.pool {
            Some(pool) if items.len() > 1 && cost >= WORTH_SHARING => {
                pool.install(|| items.into_par_iter().with_max_len(1).for_each_init(scratch, work));
            }
            _ => inline(items, scratch, work),
        }
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
