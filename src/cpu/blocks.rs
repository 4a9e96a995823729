//! An output matrix cut into blocks, each of which one piece of work writes.

use core::marker::PhantomData;
use core::slice;

use super::threads::Threads;
use crate::checked::{quotient, remainder};

/// A rectangle of an output matrix, for one piece of work alone.
pub(super) struct Block<'a> {
    start: *mut f32,
    /// Elements from row to row.
    stride: usize,
    rows: usize,
    cols: usize,
    matrix: PhantomData<&'a mut [f32]>,
}

impl<'a> Block<'a> {
    /// A whole matrix of `cols` columns.
    pub(super) fn of(matrix: &'a mut [f32], cols: usize) -> Block<'a> {
        let rows = if cols == 0 { 0 } else { quotient(matrix.len(), cols) };
        Block { start: matrix.as_mut_ptr(), stride: cols, rows, cols, matrix: PhantomData }
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn cols(&self) -> usize {
        self.cols
    }

    /// Row `i` of the block.
    pub(super) fn row(&mut self, i: usize) -> &mut [f32] {
        assert!(i < self.rows);
        // SAFETY: the row lies in the matrix, which `'a` borrows; the block is nobody else's, and borrowed for writing.
        unsafe { slice::from_raw_parts_mut(self.start.add(i * self.stride), self.cols) }
    }

    /// All rows, of a block as wide as its matrix.
    pub(super) fn whole(&mut self) -> &mut [f32] {
        assert!(self.cols == self.stride);
        // SAFETY: the rows follow each other in the matrix, which `'a` borrows; the block is nobody else's.
        unsafe { slice::from_raw_parts_mut(self.start, self.rows * self.cols) }
    }
}

/// A pointer that pieces of work on any thread may use.
#[derive(Clone, Copy)]
struct Shared(*mut f32);

// SAFETY: `blocks` hands every element to one piece of work at a time.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    fn get(self) -> *mut f32 {
        self.0
    }
}

impl Threads {
    /// Calls `work(scratch, [row, col], block)` for every block of at most `height x width` elements of `out`, a matrix of
    /// `cols` columns; (`row`, `col`) is its upper left element. Successive calls of one worker share a
    /// [`Threads::workers`]-th of `scratch`. `cost` is the whole work in multiply-adds.
    pub(super) fn blocks(
        &self,
        cost: usize,
        out: &mut [f32],
        cols: usize,
        [height, width]: [usize; 2],
        scratch: &mut [f32],
        work: impl Fn(&mut [f32], [usize; 2], Block) + Sync,
    ) {
        if cols == 0 || out.is_empty() || height == 0 || width == 0 {
            return;
        }
        debug_assert!(out.len().is_multiple_of(cols));
        let rows = quotient(out.len(), cols);
        let across = cols.div_ceil(width);
        let share = quotient(scratch.len(), self.workers());
        let (out, scratch) = (Shared(out.as_mut_ptr()), Shared(scratch.as_mut_ptr()));
        self.run(cost, rows.div_ceil(height) * across, &|worker, piece| {
            let (row, col) = (quotient(piece, across) * height, remainder(piece, across) * width);
            // SAFETY: `worker` is below `workers`, so that its share lies in `scratch`, and no other call has the same
            // worker at the same time.
            let scratch = unsafe { slice::from_raw_parts_mut(scratch.get().add(worker * share), share) };
            let block = Block {
                // SAFETY: `row` and `col` are below `rows` and `cols`. Every piece comes once, and pieces do not overlap.
                start: unsafe { out.get().add(row * cols + col) },
                stride: cols,
                rows: height.min(rows - row),
                cols: width.min(cols - col),
                matrix: PhantomData,
            };
            work(scratch, [row, col], block);
        });
    }

    /// Calls `work(first row, rows)` for blocks of whole rows of `out` (`cols` elements each). `cost` is the work for one
    /// element.
    pub(super) fn rows(
        &self,
        cost: usize,
        out: &mut [f32],
        cols: usize,
        work: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        self.rows_with(cost, out, cols, &mut [], |_, first, rows| work(first, rows));
    }

    /// As [`Threads::rows`], with a worker's share of `scratch`.
    pub(super) fn rows_with(
        &self,
        cost: usize,
        out: &mut [f32],
        cols: usize,
        scratch: &mut [f32],
        work: impl Fn(&mut [f32], usize, &mut [f32]) + Sync,
    ) {
        /// Elements of one piece, about 64 KB of output.
        const PIECE: usize = 1 << 14;
        let block = (PIECE / cols.max(1)).max(1);
        let total = out.len().saturating_mul(cost);
        self.blocks(total, out, cols, [block, cols], scratch, |scratch, [first, _], mut rows| {
            work(scratch, first, rows.whole());
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;
    #[cfg(feature = "std")]
    use {crate::cpu::ParallelFor, alloc::sync::Arc, std::thread};

    /// Three threads of a caller's, which Miri can watch; it stops at what `rayon` does with addresses.
    #[cfg(feature = "std")]
    struct Scoped;

    #[cfg(feature = "std")]
    impl ParallelFor for Scoped {
        fn threads(&self) -> usize {
            3
        }

        fn run(&self, count: usize, work: &(dyn Fn(usize) + Sync)) {
            thread::scope(|scope| (0..count).for_each(|index| drop(scope.spawn(move || work(index)))));
        }
    }

    fn pools() -> Vec<Threads> {
        let mut pools = vec![Threads::new(1)];
        if cfg!(not(miri)) {
            pools.push(Threads::new(3));
        }
        #[cfg(feature = "std")]
        pools.push(Threads::of_caller(Arc::new(Scoped)));
        pools
    }

    #[test]
    fn every_element_is_written_once_by_its_block() {
        for threads in pools() {
            for (rows, cols, size) in [(7, 5, [2, 2]), (1, 9, [4, 4]), (6, 6, [6, 6]), (5, 3, [1, 3])] {
                let mut out = vec![0.0; rows * cols];
                let mut scratch = vec![0.0; 4 * threads.workers()];
                threads.blocks(
                    usize::MAX,
                    &mut out,
                    cols,
                    size,
                    &mut scratch,
                    |scratch, [row, col], mut block| {
                        scratch.fill(row as f32);
                        for i in 0..block.rows() {
                            for (j, cell) in block.row(i).iter_mut().enumerate() {
                                *cell += ((row + i) * cols + col + j) as f32 + scratch[0] - row as f32;
                            }
                        }
                    },
                );
                assert!(out.iter().enumerate().all(|(i, &x)| x == i as f32), "{rows}x{cols} {size:?}");
            }
            threads.blocks(9, &mut [], 3, [1, 1], &mut [], |_, _, _| panic!("there are no blocks"));
        }
    }
}
