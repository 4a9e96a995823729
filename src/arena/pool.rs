//! Allocations that came free and wait to be used again.
#![forbid(unsafe_code)]

use alloc::collections::VecDeque;

use super::lock::Lock;
use super::slab::{Pages, Slab};
use crate::checked::Size;
use crate::error::Result;

/// Allocations are whole multiples of as many elements, so that sizes that differ by little share them: 16 KB.
const STEP: usize = 1 << 12;

/// Free allocations, up to a number of bytes.
pub(super) struct Pool {
    most: usize,
    free: Lock<Free>,
}

struct Free {
    slabs: VecDeque<Slab>,
    elements: usize,
}

impl Pool {
    /// Holds at most `bytes` bytes that nobody uses.
    pub(super) const fn new(bytes: usize) -> Pool {
        Pool { most: bytes / size_of::<f32>(), free: Lock::new(Free { slabs: VecDeque::new(), elements: 0 }) }
    }

    /// An allocation of at least `len` elements, and whether it was used before (a fresh one holds zeros). The smallest
    /// free one that is large enough and less than twice as large is used again, whatever its pages.
    pub(super) fn take(&self, what: &'static str, len: usize, pages: Pages) -> Result<(Slab, bool)> {
        let room = Size::new(len).plus(STEP - 1)?.get() / STEP * STEP;
        let found = self.free.with(|free| {
            let fits = |slab: &Slab| (room..=room.saturating_mul(2)).contains(&slab.len);
            let fitting = free.slabs.iter().enumerate().filter(|(_, slab)| fits(slab));
            let (index, _) = fitting.min_by_key(|(_, slab)| slab.len).filter(|_| room > 0)?;
            let slab = free.slabs.swap_remove_back(index)?;
            free.elements -= slab.len;
            Some(slab)
        });
        match found {
            Some(slab) => Ok((slab, true)),
            None => Ok((Slab::new(what, room, pages)?, false)),
        }
    }

    /// Holds an allocation for later; what was held longest makes room for it.
    pub(super) fn put(&self, slab: Slab) {
        if slab.len == 0 || slab.len > self.most {
            return;
        }
        self.free.with(|free| {
            while free.elements + slab.len > self.most
                && let Some(oldest) = free.slabs.pop_front()
            {
                free.elements -= oldest.len;
            }
            if free.slabs.try_reserve(1).is_ok() {
                free.elements += slab.len;
                free.slabs.push_back(slab);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_free_is_used_again_where_it_fits() {
        let pool = Pool::new(4 * 5 * STEP);
        let (small, used) = pool.take("small", 1, Pages::Small).unwrap();
        assert!(!used && small.len == STEP);
        let (large, used) = pool.take("large", 3 * STEP, Pages::Small).unwrap();
        assert!(!used && large.len == 3 * STEP);
        let start = large.start;
        pool.put(small);
        pool.put(large);
        let (again, used) = pool.take("two thirds", 2 * STEP - 5, Pages::Small).unwrap();
        assert!(used && again.len == 3 * STEP && again.start == start, "the smallest that fits");
        let (other, used) = pool.take("another", 2 * STEP, Pages::Small).unwrap();
        assert!(!used && other.len == 2 * STEP);
        pool.put(again);
        pool.put(other);
        assert_eq!(pool.free.with(|free| free.elements), 5 * STEP, "the first made room");
        let (beyond, _) = pool.take("beyond", 6 * STEP, Pages::Small).unwrap();
        pool.put(beyond);
        assert_eq!(pool.free.with(|free| free.elements), 5 * STEP, "what is larger than all is not held");
        let (none, used) = pool.take("none", 0, Pages::Small).unwrap();
        assert!(!used && none.len == 0);
        assert!(pool.take("overflow", usize::MAX, Pages::Small).is_err());
    }
}
