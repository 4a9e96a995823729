//! The caller's bump allocator: blocks are cut from one piece of memory from its start upwards. Only the newest block can
//! grow in its place or be given back; all others stay taken until the program ends.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// One piece of memory, for one thread.
pub struct Bump {
    start: AtomicPtr<u8>,
    size: AtomicUsize,
    used: AtomicUsize,
    most: AtomicUsize,
}

#[global_allocator]
static BUMP: Bump = Bump {
    start: AtomicPtr::new(null_mut()),
    size: AtomicUsize::new(0),
    used: AtomicUsize::new(0),
    most: AtomicUsize::new(0),
};

/// Gives the allocator its memory.
///
/// # Safety
/// The memory must be the allocator's alone from now on, for good.
pub unsafe fn give(start: *mut u8, size: usize) {
    BUMP.start.store(start, Ordering::Relaxed);
    BUMP.size.store(size, Ordering::Relaxed);
    BUMP.used.store(0, Ordering::Relaxed);
}

/// Most bytes in use at one time.
pub fn most() -> usize {
    BUMP.most.load(Ordering::Relaxed)
}

impl Bump {
    /// Where a block of this layout would start, behind `used` bytes, and where it would end, both from the start.
    fn place(&self, used: usize, layout: Layout) -> Option<[usize; 2]> {
        let start = self.start.load(Ordering::Relaxed) as usize;
        let address = start.checked_add(used)?.checked_next_multiple_of(layout.align())?;
        let first = address - start;
        let end = first.checked_add(layout.size())?;
        (end <= self.size.load(Ordering::Relaxed)).then_some([first, end])
    }

    fn take(&self, end: usize) {
        self.used.store(end, Ordering::Relaxed);
        self.most.fetch_max(end, Ordering::Relaxed);
    }

    /// Where a block starts, if it is the newest.
    fn newest(&self, block: *mut u8, size: usize) -> Option<usize> {
        let first = block as usize - self.start.load(Ordering::Relaxed) as usize;
        (first + size == self.used.load(Ordering::Relaxed)).then_some(first)
    }
}

// SAFETY: blocks lie within the caller's memory, aligned, and never overlap: each starts behind `used`, which goes back only
// to the start of the newest block when that is given back. There is one thread.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match self.place(self.used.load(Ordering::Relaxed), layout) {
            Some([first, end]) => {
                self.take(end);
                self.start.load(Ordering::Relaxed).wrapping_add(first)
            }
            None => null_mut(),
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(first) = self.newest(block, layout.size()) {
            self.take(first);
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if let Some(first) = self.newest(block, layout.size())
            && size <= self.size.load(Ordering::Relaxed) - first
        {
            self.take(first + size);
            return block;
        }
        if size <= layout.size() {
            return block;
        }
        let Ok(wider) = Layout::from_size_align(size, layout.align()) else { return null_mut() };
        // SAFETY: the new block does not overlap the old one and is longer.
        unsafe {
            let new = self.alloc(wider);
            if !new.is_null() {
                core::ptr::copy_nonoverlapping(block, new, layout.size());
            }
            new
        }
    }
}
