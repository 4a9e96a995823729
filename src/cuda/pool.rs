//! Memory of the device that is handed out and taken back without asking the driver.
//!
//! The driver gives chunks; a chunk is cut by first fit from its lowest address, and neighbours that are free are one again
//! at once. Where a block lies therefore follows from what is taken at the moment and from nothing earlier: a frame that
//! takes the same sizes in the same order gets the same addresses, which is what lets its launches be replayed.
//!
//! All work of a pool's blocks is in one stream, so that a block may be taken again as soon as its last launch was given to
//! the stream.
#![forbid(unsafe_code)]

use alloc::sync::Arc;
use alloc::vec::Vec;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::driver::{Context, DeviceMemory, DevicePointer, HostMemory};
use crate::checked::Size;
use crate::error::{Error, Result};

/// Every block begins at a multiple of as many bytes and takes a multiple of as many.
const STEP: usize = 256;

/// Bytes of a chunk, unless one block needs more.
const CHUNK: usize = 64 << 20;

/// Where blocks come from.
pub(super) struct Pool {
    context: Context,
    /// Whether chunks are memory of the host that the device reads in place.
    mapped: bool,
    chunks: Mutex<Vec<Chunk>>,
}

/// What a chunk is.
enum Memory {
    Device(DeviceMemory),
    Host(HostMemory, DevicePointer),
}

struct Chunk {
    memory: Memory,
    bytes: usize,
    /// What is free, by address, with something taken between any two.
    free: Vec<Run>,
}

/// Bytes of a chunk, not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    start: usize,
    end: usize,
}

impl Chunk {
    fn pointer(&self) -> DevicePointer {
        match &self.memory {
            Memory::Device(memory) => memory.pointer(),
            Memory::Host(_, pointer) => *pointer,
        }
    }
}

/// Takes `bytes` from the lowest run that has them.
fn take(free: &mut Vec<Run>, bytes: usize) -> Option<usize> {
    let index = free.iter().position(|run| run.end - run.start >= bytes)?;
    let run = free.get_mut(index)?;
    let start = run.start;
    run.start += bytes;
    if run.start == run.end {
        free.remove(index);
    }
    Some(start)
}

/// Gives a run back.
fn give(free: &mut Vec<Run>, run: Run) {
    let index = free.partition_point(|other| other.start < run.start);
    let before = index.checked_sub(1).filter(|&before| free.get(before).is_some_and(|x| x.end == run.start));
    let after = free.get(index).filter(|after| after.start == run.end).copied();
    match (before, after) {
        (Some(before), after) => {
            let end = after.map_or(run.end, |after| after.end);
            if let Some(before) = free.get_mut(before) {
                before.end = end;
            }
            if after.is_some() {
                free.remove(index);
            }
        }
        (None, Some(_)) => {
            if let Some(after) = free.get_mut(index) {
                after.start = run.start;
            }
        }
        (None, None) => free.insert(index, run),
    }
}

impl Pool {
    pub(super) fn new(context: &Context, mapped: bool) -> Pool {
        Pool { context: context.clone(), mapped, chunks: Mutex::new(Vec::new()) }
    }

    /// A block of `len` bytes, uninitialised. `what` is its name in errors.
    ///
    /// # Errors
    /// [`Error::Memory`], [`Error::Limit`] where the size overflows, [`Error::Device`].
    pub(super) fn take(self: &Arc<Pool>, what: &'static str, len: usize) -> Result<Block> {
        if len == 0 {
            return Ok(Block { pool: self.clone(), chunk: 0, start: 0, pointer: DevicePointer::NULL, len });
        }
        let bytes = Size::new(len).plus(STEP - 1)?.get() / STEP * STEP;
        let mut chunks = self.chunks();
        let found = chunks.iter_mut().enumerate().find_map(|(index, chunk)| {
            let start = take(&mut chunk.free, bytes)?;
            Some((index, start, chunk.pointer()))
        });
        let (chunk, start, base) = match found {
            Some(found) => found,
            None => {
                let mut chunk = self.chunk(what, bytes)?;
                let base = chunk.pointer();
                let start = take(&mut chunk.free, bytes).unwrap_or(0);
                chunks.push(chunk);
                (chunks.len() - 1, start, base)
            }
        };
        let pointer = base.offset(start as u64);
        Ok(Block { pool: self.clone(), chunk, start, pointer, len })
    }

    /// A chunk with room for `bytes`: a large one, or one of that size where there is no memory for a large one.
    fn chunk(&self, what: &'static str, bytes: usize) -> Result<Chunk> {
        let size = bytes.max(CHUNK);
        let memory = match self.memory(what, size) {
            Err(Error::Memory { .. }) if size > bytes => {
                self.memory(what, bytes).map(|memory| (memory, bytes))
            }
            memory => memory.map(|memory| (memory, size)),
        };
        let (memory, bytes) = memory.map_err(|error| match error {
            Error::Memory { what, bytes, .. } => {
                Error::Memory { what, bytes, left: self.context.free_memory().ok() }
            }
            error => error,
        })?;
        Ok(Chunk { memory, bytes, free: alloc::vec![Run { start: 0, end: bytes }] })
    }

    fn memory(&self, what: &'static str, bytes: usize) -> Result<Memory> {
        if !self.mapped {
            return Ok(Memory::Device(self.context.allocate(what, bytes)?));
        }
        let memory = self.context.allocate_host(what, bytes)?;
        let pointer = memory.device_pointer()?;
        Ok(Memory::Host(memory, pointer))
    }

    /// Bytes that the driver gave.
    pub(super) fn held_bytes(&self) -> u64 {
        self.chunks().iter().map(|chunk| chunk.bytes as u64).sum()
    }

    /// Nothing that happens under the lock leaves it half done.
    fn chunks(&self) -> MutexGuard<'_, Vec<Chunk>> {
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Memory on the device, for as long as it lives.
pub struct Block {
    pool: Arc<Pool>,
    chunk: usize,
    /// First byte within the chunk.
    start: usize,
    pointer: DevicePointer,
    len: usize,
}

impl Block {
    /// Its size in bytes.
    pub fn bytes(&self) -> usize {
        self.len
    }

    pub(super) fn pointer(&self) -> DevicePointer {
        self.pointer
    }

    pub(super) fn is_of(&self, pool: &Arc<Pool>) -> bool {
        Arc::ptr_eq(&self.pool, pool)
    }

    /// Hands the block's memory to `work`: where it lies on the device, or the bytes themselves where the host can write
    /// them.
    pub(super) fn with<T>(&self, work: impl FnOnce(Place) -> Result<T>) -> Result<T> {
        let mut chunks = self.pool.chunks();
        let outside = || Error::Shape { operand: "block", reason: "lies outside its chunk".into() };
        match chunks.get_mut(self.chunk).map(|chunk| &mut chunk.memory) {
            Some(Memory::Device(memory)) => work(Place::Device(memory, self.start)),
            Some(Memory::Host(memory, _)) => {
                let bytes =
                    memory.bytes_mut()?.get_mut(self.start..).and_then(|rest| rest.get_mut(..self.len));
                work(Place::Host(bytes.ok_or_else(outside)?))
            }
            None => Err(outside()),
        }
    }
}

/// Where a block's bytes are.
pub(super) enum Place<'a> {
    /// On the device, from this byte on.
    Device(&'a DeviceMemory, usize),
    /// On the host.
    Host(&'a mut [u8]),
}

impl Drop for Block {
    fn drop(&mut self) {
        if self.len == 0 {
            return;
        }
        let run = Run { start: self.start, end: self.start + self.len.next_multiple_of(STEP) };
        if let Some(chunk) = self.pool.chunks().get_mut(self.chunk) {
            give(&mut chunk.free, run);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn what_is_free_depends_on_what_is_taken_alone() {
        let whole = vec![Run { start: 0, end: 100 }];
        let mut free = whole.clone();
        let starts: Vec<_> = [10, 20, 30, 40].map(|bytes| take(&mut free, bytes)).to_vec();
        assert_eq!(starts, [Some(0), Some(10), Some(30), Some(60)]);
        assert_eq!((take(&mut free, 1), free.len()), (None, 0));
        let runs = [(0, 10), (10, 30), (30, 60), (60, 100)].map(|(start, end)| Run { start, end });
        // Every order of giving back ends with one run.
        for order in permutations(&[0, 1, 2, 3]) {
            let mut free = Vec::new();
            for index in order {
                give(&mut free, runs[index]);
                assert!(free.windows(2).all(|pair| pair[0].end < pair[1].start), "{free:?}");
            }
            assert_eq!(free, whole);
        }
        // The lowest hole that is large enough.
        let mut free =
            vec![Run { start: 0, end: 10 }, Run { start: 30, end: 60 }, Run { start: 70, end: 100 }];
        assert_eq!(take(&mut free, 20), Some(30));
        assert_eq!(take(&mut free, 10), Some(0));
        assert_eq!(free, [Run { start: 50, end: 60 }, Run { start: 70, end: 100 }]);
    }

    fn permutations(items: &[usize]) -> Vec<Vec<usize>> {
        match items {
            [] => vec![vec![]],
            _ => items
                .iter()
                .flat_map(|&first| {
                    let rest: Vec<usize> = items.iter().copied().filter(|&x| x != first).collect();
                    permutations(&rest).into_iter().map(move |tail| [vec![first], tail].concat())
                })
                .collect(),
        }
    }
}
