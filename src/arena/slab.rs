//! Allocations of the heap that begin with a cache line.

use alloc::alloc::{Layout, alloc_zeroed, dealloc};
use core::ptr::NonNull;

use super::ALIGNMENT;
use crate::checked::Size;
use crate::error::{Error, Result};

/// Bytes of the smallest pages.
const PAGE: usize = 4096;
/// Bytes from which on large pages, of 2 MB on most machines, are worth asking for.
const LARGE: usize = 1 << 22;

/// Which pages an allocation would have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Pages {
    /// Those of the system: what is not touched takes no memory.
    Small,
    /// Large ones where the system has some: weights and activations of some megabytes then miss in the table of pages less
    /// often, which is 4 % of the time of a ViT-B on Linux.
    Large,
}

/// An allocation of the heap, cleared.
///
/// It is asked for at [`Slab::NATURAL`] and a little larger than it is used: the standard library leaves it to the system to
/// clear what has no stricter alignment, and the system need not touch fresh pages for that.
pub(super) struct Slab {
    pub(super) start: NonNull<f32>,
    pub(super) len: usize,
    /// Bytes of the allocation before `start`.
    skipped: usize,
}

// SAFETY: an allocation of its own.
unsafe impl Send for Slab {}
// SAFETY: as above; it is written through `&mut` only.
unsafe impl Sync for Slab {}

impl Slab {
    pub(super) const EMPTY: Slab = Slab { start: NonNull::dangling(), len: 0, skipped: 0 };

    /// An alignment that every allocator gives without being asked.
    const NATURAL: usize = align_of::<u64>();

    /// Room of an allocation for `bytes` that begin at a multiple of [`ALIGNMENT`].
    fn layout(bytes: usize) -> Option<Layout> {
        let room = bytes.checked_add(ALIGNMENT - Slab::NATURAL)?;
        Layout::from_size_align(room, Slab::NATURAL).ok()
    }

    /// `len` zeros on such pages.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub(super) fn new(what: &'static str, len: usize, pages: Pages) -> Result<Slab> {
        if len == 0 {
            return Ok(Slab::EMPTY);
        }
        let bytes = Size::new(len).times(size_of::<f32>())?.get();
        let refused = || Error::Memory { what, bytes: bytes as u64, left: None };
        let layout = Slab::layout(bytes).ok_or_else(refused)?;
        // SAFETY: the layout is not empty.
        let memory = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or_else(refused)?;
        let skipped = memory.addr().get().next_multiple_of(ALIGNMENT) - memory.addr().get();
        // SAFETY: less than `ALIGNMENT` and a multiple of `NATURAL`, which the allocation has room for beside `bytes`.
        let start = unsafe { memory.byte_add(skipped) };
        if pages == Pages::Large && bytes >= LARGE {
            advise(start, bytes);
        }
        Ok(Slab { start: start.cast(), len, skipped })
    }

    /// Writes to every page, so that none of them has to be fetched later.
    pub(super) fn touch(&mut self) {
        for at in (0..self.len).step_by(PAGE / size_of::<f32>()) {
            // SAFETY: within the allocation, which is borrowed for writing. Volatile, or zeros over zeros would be left out.
            unsafe { self.start.add(at).write_volatile(0.0) };
        }
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        if self.len > 0 {
            let bytes = self.len * size_of::<f32>() + ALIGNMENT - Slab::NATURAL;
            // SAFETY: where the allocation begins, with its layout, which was valid then.
            unsafe {
                let memory = self.start.cast::<u8>().byte_sub(self.skipped);
                dealloc(memory.as_ptr(), Layout::from_size_align_unchecked(bytes, Slab::NATURAL));
            }
        }
    }
}

/// Asks for large pages. It is a wish: where it is not granted, nothing changes.
#[cfg(all(feature = "std", target_os = "linux", not(miri)))]
fn advise(start: NonNull<u8>, bytes: usize) {
    let skipped = start.addr().get().next_multiple_of(PAGE) - start.addr().get();
    let whole = bytes.saturating_sub(skipped) / PAGE * PAGE;
    // SAFETY: whole pages within an allocation that nobody else has seen; only how the system backs them changes.
    unsafe { libc::madvise(start.as_ptr().add(skipped).cast(), whole, libc::MADV_HUGEPAGE) };
}

/// Other systems decide for themselves.
#[cfg(not(all(feature = "std", target_os = "linux", not(miri))))]
fn advise(_start: NonNull<u8>, _bytes: usize) {}
