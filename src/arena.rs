//! Memory that can be measured beforehand and may run out: buffers of `f32` from the heap, or from one block of a fixed
//! size, which may be the caller's.
//!
//! A block is a stack. A new buffer lies behind all others; room comes free when everything behind it is gone, and
//! [`Arena::settle`] moves the last buffer down over room that is free. Where a buffer lies follows from the order of the
//! calls and from the sizes before it, so that the peak of a run is a sum of sizes: a run that takes the same buffers with
//! no larger sizes has no larger peak. [`Arena::measuring`] does the same without memory.
//!
//! Without a fixed size a buffer is an allocation of its own; with a [`Arena::pooled`] heap, allocations that came free are
//! used again, so that the second run of the same work asks the system for nothing.
//!
//! Bookkeeping, a few dozen bytes for each buffer that lives, is on the heap.

mod lock;
mod pool;
mod slab;

use alloc::alloc::{Layout, handle_alloc_error};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem::MaybeUninit;
use core::ops::{Deref, DerefMut};
use core::ptr::{self, NonNull};
use core::slice;
use core::{fmt, mem};

pub(crate) use lock::Lock;
use pool::Pool;
use slab::{Pages, Slab};

use crate::checked::Size;
use crate::error::{Error, Result};

/// Every buffer begins at a multiple of as many bytes, and takes a multiple of as many; memory that is lent must begin so.
pub const ALIGNMENT: usize = 64;

/// Elements that fill [`ALIGNMENT`].
const STEP: usize = ALIGNMENT / size_of::<f32>();

/// Where buffers come from. Clones share the memory, which goes with the last of them and of the buffers.
#[derive(Clone)]
pub struct Arena {
    /// `None`: every buffer is an allocation of its own.
    block: Option<Arc<Block>>,
    /// Where allocations that come free wait.
    pool: Option<Arc<Pool>>,
}

impl Arena {
    /// The global allocator: no fixed size.
    pub const HEAP: Arena = Arena { block: None, pool: None };

    /// Bytes that a [`Arena::pooled`] heap holds for later where nobody says otherwise.
    pub const POOLED: usize = 1 << 28;

    /// As [`Arena::POOLED`], to train with: what a forward pass keeps comes free in the backward pass, and the next update takes
    /// it again. As free buffers are those that an update has used, the peak is hardly higher.
    pub const POOLED_TO_TRAIN: usize = 1 << 31;

    /// The global allocator, with buffers that came free held for later, at most `bytes` of them. They go with the last
    /// clone and the last buffer. With 0 this is [`Arena::HEAP`].
    pub fn pooled(bytes: usize) -> Arena {
        Arena { block: None, pool: (bytes > 0).then(|| Arc::new(Pool::new(bytes))) }
    }

    /// One allocation of `bytes`, rounded down to whole [`ALIGNMENT`]s. Every page of it is there before it is used.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub fn with_size(bytes: usize) -> Result<Arena> {
        let steps = bytes / ALIGNMENT;
        let mut memory = Slab::new("arena", steps * STEP, Pages::Large)?;
        memory.touch();
        Ok(Arena::block(Memory::Own(memory), steps * STEP))
    }

    /// Memory of the caller's, rounded down to whole [`ALIGNMENT`]s. It is cleared once, so that every page of it is there
    /// before it is used.
    ///
    /// # Errors
    /// [`Error::Input`] `memory` where it does not begin at a multiple of [`ALIGNMENT`].
    pub fn of(memory: &'static mut [MaybeUninit<u8>]) -> Result<Arena> {
        Arena::HEAP.with_memory(memory)
    }

    /// As [`Arena::of`], with the bookkeeping of this arena where it has no other clone and no buffer left.
    ///
    /// # Errors
    /// As [`Arena::of`].
    pub fn with_memory(mut self, memory: &'static mut [MaybeUninit<u8>]) -> Result<Arena> {
        if !memory.as_ptr().addr().is_multiple_of(ALIGNMENT) {
            let reason = alloc::format!("does not begin at a multiple of {ALIGNMENT} bytes");
            return Err(Error::Input { field: "memory", reason });
        }
        memory.fill(MaybeUninit::new(0));
        let size = memory.len() / ALIGNMENT * STEP;
        let memory = Memory::Lent(NonNull::from(memory).cast::<f32>());
        let Some(block) = self.block.as_mut().and_then(Arc::get_mut) else {
            return Ok(Arena::block(memory, size));
        };
        (block.memory, block.size) = (memory, size);
        block.stack.with(|stack| {
            stack.spans.clear();
            stack.peak = 0;
        });
        Ok(self)
    }

    /// No memory at all, but the sizes of all that is taken; buffers read as empty.
    pub fn measuring() -> Arena {
        Arena::block(Memory::None, usize::MAX / ALIGNMENT * STEP)
    }

    fn block(memory: Memory, size: usize) -> Arena {
        let stack = Lock::new(Stack { spans: Vec::new(), peak: 0 });
        Arena { block: Some(Arc::new(Block { memory, size, stack })), pool: None }
    }

    /// Whether this is an [`Arena::measuring`].
    pub fn is_measuring(&self) -> bool {
        self.block.as_ref().is_some_and(|block| matches!(block.memory, Memory::None))
    }

    /// Most bytes that were taken at once, counted from the start of the block; 0 for the heap, which does not count.
    pub fn peak(&self) -> usize {
        self.block.as_ref().map_or(0, |block| block.stack.with(|stack| stack.peak) * size_of::<f32>())
    }

    /// Bytes that are taken now, counted from the start of the block; 0 for the heap.
    pub fn taken(&self) -> usize {
        self.block.as_ref().map_or(0, |block| block.stack.with(|stack| stack.top()) * size_of::<f32>())
    }

    /// A buffer of `len` elements, which hold anything. `what` is its name in errors.
    ///
    /// # Errors
    /// [`Error::Memory`] with the bytes that were asked for and those that were there.
    pub fn take(&self, what: &'static str, len: usize) -> Result<Buffer> {
        let Some(block) = &self.block else {
            let (slab, pool) = match &self.pool {
                None => (Slab::new(what, len, Pages::Large)?, None),
                Some(pool) => (pool.take(what, len, Pages::Large)?.0, Some(pool.clone())),
            };
            return Ok(Buffer { place: Place::Heap(slab, pool), len });
        };
        let room = Size::new(len).plus(STEP - 1)?.get() / STEP * STEP;
        let bytes = Size::new(room).times(size_of::<f32>())?.get() as u64;
        let start = block.stack.with(|stack| {
            let start = stack.top();
            let left = block.size - start;
            let left = (left * size_of::<f32>()) as u64;
            let refused = Error::Memory { what, bytes, left: Some(left) };
            if bytes > left || stack.spans.try_reserve(1).is_err() {
                return Err(refused);
            }
            if room > 0 {
                stack.spans.push(Span { start, end: start + room, live: true });
                stack.peak = stack.peak.max(start + room);
            }
            Ok(start)
        })?;
        Ok(Buffer { place: Place::Block(block.clone(), start), len })
    }

    /// A buffer of `len` zeros; fresh memory of the heap is not touched for it.
    ///
    /// # Errors
    /// As [`Arena::take`].
    pub fn zeros(&self, what: &'static str, len: usize) -> Result<Buffer> {
        if let Some(pool) = &self.pool {
            let (slab, used) = pool.take(what, len, Pages::Small)?;
            let mut buffer = Buffer { place: Place::Heap(slab, Some(pool.clone())), len };
            if used {
                buffer.fill(0.0);
            }
            return Ok(buffer);
        }
        if self.block.is_none() {
            return Ok(Buffer { place: Place::Heap(Slab::new(what, len, Pages::Small)?, None), len });
        }
        let mut buffer = self.take(what, len)?;
        buffer.fill(0.0);
        Ok(buffer)
    }

    /// Moves a buffer with its elements down over the free room before it, if nothing lies behind it.
    pub fn settle(&self, buffer: &mut Buffer) {
        let len = buffer.len;
        let (Place::Block(block, start), true) = (&mut buffer.place, len > 0) else { return };
        let Some(to) = block.stack.with(|stack| stack.settle(*start)) else { return };
        if let Some(base) = block.base() {
            // SAFETY: both runs of `len` elements lie within the block: the first is the buffer's own, the second lies
            // before it and belongs to no live buffer. `buffer` is borrowed for writing, so nobody reads either.
            unsafe { ptr::copy(base.add(*start).as_ptr(), base.add(to).as_ptr(), len) };
        }
        *start = to;
    }
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.block {
            None if self.pool.is_some() => f.write_str("Arena::pooled"),
            None => f.write_str("Arena::HEAP"),
            Some(_) => write!(f, "Arena {{ taken: {}, peak: {} }}", self.taken(), self.peak()),
        }
    }
}

/// A run of the block, in elements.
struct Span {
    start: usize,
    end: usize,
    live: bool,
}

/// Which runs of a block are taken, in order; the last one lives.
struct Stack {
    spans: Vec<Span>,
    peak: usize,
}

impl Stack {
    fn top(&self) -> usize {
        self.spans.last().map_or(0, |span| span.end)
    }

    fn free(&mut self, start: usize) {
        let index = self.spans.binary_search_by_key(&start, |span| span.start);
        if let Some(span) = index.ok().and_then(|index| self.spans.get_mut(index)) {
            span.live = false;
        }
        while self.spans.pop_if(|span| !span.live).is_some() {}
    }

    /// Where the span that begins at `start` begins after it was moved down; `None` where it stays.
    fn settle(&mut self, start: usize) -> Option<usize> {
        let last = self.spans.pop_if(|span| span.start == start && span.end > start)?;
        while self.spans.pop_if(|span| !span.live).is_some() {}
        let to = self.top();
        self.spans.push(Span { start: to, end: to + (last.end - start), live: true });
        (to < start).then_some(to)
    }
}

/// What is behind a block.
enum Memory {
    None,
    Own(Slab),
    Lent(NonNull<f32>),
}

/// Memory of a fixed size and what is taken of it.
struct Block {
    memory: Memory,
    /// In elements.
    size: usize,
    stack: Lock<Stack>,
}

// SAFETY: the memory is only reached through buffers, each of which has its run for itself.
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

impl Block {
    fn base(&self) -> Option<NonNull<f32>> {
        match &self.memory {
            Memory::None => None,
            Memory::Own(slab) => Some(slab.start),
            Memory::Lent(start) => Some(*start),
        }
    }
}

enum Place {
    /// With the pool that it returns to.
    Heap(Slab, Option<Arc<Pool>>),
    /// First element within the block.
    Block(Arc<Block>, usize),
}

/// Elements of an [`Arena`], for as long as it lives; dereferences to a slice (an empty one while measuring).
pub struct Buffer {
    place: Place,
    len: usize,
}

impl Buffer {
    /// A copy of `values` on the heap.
    ///
    /// # Errors
    /// As [`Arena::take`].
    pub fn of(values: &[f32]) -> Result<Buffer> {
        let mut buffer = Arena::HEAP.take("buffer", values.len())?;
        buffer.copy_from_slice(values);
        Ok(buffer)
    }

    /// Bytes that were asked for, also while measuring.
    pub(crate) fn bytes(&self) -> usize {
        self.len * size_of::<f32>()
    }

    /// First element and their number.
    fn parts(&self) -> (NonNull<f32>, usize) {
        match &self.place {
            Place::Heap(slab, _) => (slab.start, self.len),
            Place::Block(block, start) => match block.base() {
                // SAFETY: the run lies within the block.
                Some(base) => (unsafe { base.add(*start) }, self.len),
                None => (NonNull::dangling(), 0),
            },
        }
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        let (start, len) = self.parts();
        // SAFETY: aligned, within one allocation, initialised when it was made, and nobody else's while the buffer lives.
        unsafe { slice::from_raw_parts(start.as_ptr(), len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        let (start, len) = self.parts();
        // SAFETY: as for `deref`, and the buffer is borrowed for writing.
        unsafe { slice::from_raw_parts_mut(start.as_ptr(), len) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        match &mut self.place {
            Place::Block(block, start) if self.len > 0 => block.stack.with(|stack| stack.free(*start)),
            Place::Heap(slab, Some(pool)) => pool.put(mem::replace(slab, Slab::EMPTY)),
            Place::Block(..) | Place::Heap(_, None) => {}
        }
    }
}

impl Clone for Buffer {
    /// A copy on the heap, wherever this one lies. As with a `Vec`, the program ends where the heap has no room for it.
    fn clone(&self) -> Buffer {
        let copy = Buffer::of(self);
        copy.unwrap_or_else(|_| handle_alloc_error(Layout::for_value(&**self)))
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.deref().fmt(f)
    }
}

/// A buffer of scratch that is cut from the front.
pub(crate) struct Room<'a> {
    left: &'a mut [f32],
}

impl<'a> Room<'a> {
    pub(crate) fn new(left: &'a mut [f32]) -> Room<'a> {
        Room { left }
    }

    /// The next `len` elements, which hold anything.
    pub(crate) fn take(&mut self, len: usize) -> &'a mut [f32] {
        let (taken, left) = core::mem::take(&mut self.left).split_at_mut(len);
        self.left = left;
        taken
    }

    /// The next elements as `len` numbers of no stricter alignment, which hold anything.
    pub(crate) fn take_as<T: bytemuck::Pod>(&mut self, len: usize) -> &'a mut [T] {
        let taken = self.take((len * size_of::<T>()).div_ceil(size_of::<f32>()));
        &mut bytemuck::cast_slice_mut(taken)[..len]
    }

    /// All that is left.
    pub(crate) fn rest(self) -> &'a mut [f32] {
        self.left
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::boxed::Box;
    use alloc::vec;

    fn lent(bytes: usize) -> &'static mut [MaybeUninit<u8>] {
        let memory = Box::leak(vec![MaybeUninit::<u8>::new(7); bytes + ALIGNMENT].into_boxed_slice());
        let skip = memory.as_ptr().align_offset(ALIGNMENT);
        &mut memory[skip..skip + bytes]
    }

    /// Takes, frees and settles; the same on every arena.
    fn run(arena: &Arena) -> Result<[usize; 4]> {
        let mut first = arena.take("first", 10)?;
        first.fill(1.0);
        let second = arena.take("second", 17)?;
        let mut third = arena.take("third", 16)?;
        third.iter_mut().enumerate().for_each(|(i, x)| *x = i as f32);
        let before = arena.taken();
        drop(second);
        let pinned = arena.taken();
        arena.settle(&mut third);
        assert!(third.iter().enumerate().all(|(i, &x)| x == i as f32), "the elements move along");
        assert!(first.iter().all(|&x| x == 1.0));
        let settled = arena.taken();
        drop(first);
        arena.settle(&mut third);
        let empty = arena.take("empty", 0)?;
        assert!(empty.is_empty());
        drop(third);
        Ok([before, pinned, settled, arena.taken()])
    }

    #[test]
    fn what_was_measured_is_enough_and_a_step_less_is_not() {
        let measuring = Arena::measuring();
        let taken = run(&measuring).unwrap();
        assert_eq!(taken, [256, 256, 128, 0]);
        assert_eq!(measuring.peak(), 256);
        for arena in [Arena::with_size(256).unwrap(), Arena::of(lent(256)).unwrap()] {
            assert_eq!(run(&arena).unwrap(), taken);
            assert_eq!(arena.peak(), 256);
        }
        for arena in [Arena::with_size(255).unwrap(), Arena::of(lent(192)).unwrap()] {
            let error = run(&arena).unwrap_err();
            assert_eq!(error, Error::Memory { what: "third", bytes: 64, left: Some(0) });
            assert_eq!(arena.taken(), 0, "everything was given back");
        }
        run(&Arena::HEAP).unwrap();
    }

    #[test]
    fn every_allocation_begins_at_a_multiple_and_holds_zeros() {
        for len in [1, 3, 16, 17, 1000, 1 << 18] {
            for arena in [Arena::HEAP, Arena::pooled(1 << 22), Arena::with_size(len * 4 + 64).unwrap()] {
                let buffers: Vec<Buffer> = (0..3).map_while(|_| arena.zeros("some", len).ok()).collect();
                assert!(!buffers.is_empty());
                for mut buffer in buffers {
                    assert_eq!(buffer.as_ptr().addr() % ALIGNMENT, 0);
                    assert!(buffer.len() == len && buffer.iter().all(|&x| x == 0.0));
                    buffer.fill(1.0);
                }
            }
        }
    }

    #[cfg(all(target_os = "linux", feature = "std", not(miri)))]
    #[test]
    fn fresh_zeros_take_no_memory_until_they_are_written() {
        let resident = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
            line.split_whitespace().next().unwrap().parse::<usize>().unwrap()
        };
        let before = resident();
        let buffer = Arena::pooled(1 << 30).zeros("much", 1 << 27).unwrap();
        let taken = resident().saturating_sub(before);
        assert!(taken < 1 << 18, "{taken} KB of {} are there", buffer.len() / 256);
    }

    #[test]
    fn a_buffer_with_another_behind_it_stays() {
        let arena = Arena::with_size(1024).unwrap();
        let first = arena.take("first", 16).unwrap();
        let mut second = arena.take("second", 16).unwrap();
        let third = arena.take("third", 16).unwrap();
        drop(first);
        arena.settle(&mut second);
        assert_eq!(arena.taken(), 192);
        drop(third);
        assert_eq!(arena.taken(), 128);
        arena.settle(&mut second);
        assert_eq!(arena.taken(), 64);
        drop(arena);
        assert_eq!(second.len(), 16, "a buffer keeps the memory");
    }

    #[test]
    fn bad_sizes_are_refused() {
        for arena in [Arena::HEAP, Arena::with_size(64).unwrap(), Arena::measuring()] {
            for len in [usize::MAX, usize::MAX / 4, usize::MAX / 8] {
                if let Err(error) = arena.take("much", len) {
                    assert!(matches!(error, Error::Memory { .. } | Error::Limit { .. }), "{error}");
                } else {
                    assert!(arena.is_measuring());
                }
            }
        }
        let memory = lent(128);
        assert!(matches!(Arena::of(&mut memory[1..]), Err(Error::Input { field: "memory", .. })));
    }

    #[cfg(feature = "std")]
    #[test]
    fn threads_share_an_arena_and_none_is_given_anothers_memory() {
        let rounds = if cfg!(miri) { 12 } else { 300 };
        for arena in [Arena::pooled(1 << 16), Arena::with_size(1 << 20).unwrap()] {
            std::thread::scope(|scope| {
                for own in 0..4 {
                    let arena = &arena;
                    scope.spawn(move || {
                        for round in 0..rounds {
                            let mark = (own * rounds + round) as f32;
                            // A block may be full until another thread gives something back.
                            let Ok(mut buffer) = arena.take("one", 1 + (own + round) % 3 * 4096) else {
                                continue;
                            };
                            let last = buffer.len() - 1;
                            (buffer[0], buffer[last]) = (mark, mark);
                            std::thread::yield_now();
                            assert_eq!((buffer[0], buffer[last]), (mark, mark));
                        }
                    });
                }
            });
            assert_eq!(arena.taken(), 0);
        }
    }
}
