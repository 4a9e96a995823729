//! Where the library's memory comes from: the system, or functions that the host sets before the first call.

use core::alloc::{GlobalAlloc, Layout};
use core::ffi::c_void;
use core::hint;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU8, Ordering};
use std::alloc::System;

use crate::guard::guard;
use crate::memory;
use crate::status::{Failure, TRIPLET_BUSY, triplet_status};

/// Where memory comes from. All functions may be called on any thread, several at once, and must not throw. Never changes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct triplet_allocator {
    /// `size` bytes, more than 0, whose address is a multiple of `alignment`, a power of 2; NULL where there are none.
    pub allocate:
        Option<unsafe extern "C" fn(context: *mut c_void, size: usize, alignment: usize) -> *mut c_void>,
    /// Takes back what `allocate` gave for the same size and alignment.
    pub release: Option<
        unsafe extern "C" fn(context: *mut c_void, memory: *mut c_void, size: usize, alignment: usize),
    >,
    /// Passed to both.
    pub context: *mut c_void,
}

/// Nothing has been allocated yet.
const UNDECIDED: u8 = 0;
/// The host's functions are being stored.
const DECIDING: u8 = 1;
/// The system's allocator.
const SYSTEM: u8 = 2;
/// The host's functions.
const HOST: u8 = 3;

static DECISION: AtomicU8 = AtomicU8::new(UNDECIDED);
/// The host's functions, read where `DECISION` is `HOST` and written while it is `DECIDING`.
static ALLOCATE: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut());
static RELEASE: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut());
static CONTEXT: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

struct Chosen;

#[global_allocator]
static CHOSEN: Chosen = Chosen;

/// The decision; the first allocation decides for the system.
fn decision() -> u8 {
    loop {
        match DECISION.load(Ordering::Acquire) {
            UNDECIDED => {
                let _ = DECISION.compare_exchange(UNDECIDED, SYSTEM, Ordering::AcqRel, Ordering::Acquire);
            }
            DECIDING => hint::spin_loop(),
            decided => return decided,
        }
    }
}

type Allocate = unsafe extern "C" fn(*mut c_void, usize, usize) -> *mut c_void;
type Release = unsafe extern "C" fn(*mut c_void, *mut c_void, usize, usize);

// SAFETY: the system's allocator keeps the contract, the host's functions by the host's promise; which of the two is used
// is decided before the first allocation and never changes, so that memory goes back to where it came from.
unsafe impl GlobalAlloc for Chosen {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if decision() == SYSTEM {
            // SAFETY: the caller's promise.
            return unsafe { System.alloc(layout) };
        }
        // SAFETY: `ALLOCATE` holds a function of this type since the decision.
        let allocate = unsafe { core::mem::transmute::<*mut (), Allocate>(ALLOCATE.load(Ordering::Relaxed)) };
        // SAFETY: the host's promise.
        unsafe { allocate(CONTEXT.load(Ordering::Relaxed), layout.size(), layout.align()) }.cast()
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if decision() == SYSTEM {
            // SAFETY: the caller's promise.
            return unsafe { System.alloc_zeroed(layout) };
        }
        // SAFETY: the caller's promise.
        let memory = unsafe { self.alloc(layout) };
        if !memory.is_null() {
            // SAFETY: as many bytes were just allocated.
            unsafe { ptr::write_bytes(memory, 0, layout.size()) };
        }
        memory
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        if decision() == SYSTEM {
            // SAFETY: the caller's promise; the memory came from the system.
            return unsafe { System.dealloc(memory, layout) };
        }
        // SAFETY: `RELEASE` holds a function of this type since the decision.
        let release = unsafe { core::mem::transmute::<*mut (), Release>(RELEASE.load(Ordering::Relaxed)) };
        // SAFETY: the host's promise; the memory came from its `allocate`.
        unsafe { release(CONTEXT.load(Ordering::Relaxed), memory.cast(), layout.size(), layout.align()) };
    }
}

/// Has all of the library's memory come from the host, for the whole process and for good. It must be called before any
/// other function of the library that allocates, best before all others; TRIPLET_BUSY where that is too late. Where
/// `allocate` returns NULL for anything that grows with picture, model or context (activations, scratch, key-value cache,
/// masks and depth maps), the call is TRIPLET_OUT_OF_MEMORY; where for anything small (texts, lists, handles), the process
/// is aborted. What the C library allocates by itself (threads, files) does not pass through here.
///
/// Any thread. TRIPLET_BUSY, TRIPLET_INVALID_ARGUMENT.
///
/// # Safety
/// `allocator` can be read; its functions keep their word until the process ends.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn triplet_set_allocator(allocator: *const triplet_allocator) -> triplet_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let host = unsafe { memory::read("allocator", allocator) }?;
        let (Some(allocate), Some(release)) = (host.allocate, host.release) else {
            return Err(Failure::argument("allocator", "lacks a function"));
        };
        let decided = DECISION.compare_exchange(UNDECIDED, DECIDING, Ordering::AcqRel, Ordering::Acquire);
        if decided.is_err() {
            return Err(Failure::new(TRIPLET_BUSY, "allocator comes too late: memory has been allocated"));
        }
        ALLOCATE.store(allocate as *mut (), Ordering::Relaxed);
        RELEASE.store(release as *mut (), Ordering::Relaxed);
        CONTEXT.store(host.context, Ordering::Relaxed);
        DECISION.store(HOST, Ordering::Release);
        Ok(())
    })
}
