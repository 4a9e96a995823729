//! Dense convolution: the product with the windows of the map as left rows, which are gathered block by block and only stored as a
//! whole where a matrix unit multiplies them.
#![forbid(unsafe_code)]

#[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
use super::Cpu;
use super::mat::Mat;
use super::product::Left;
use crate::backend::{Conv, Grid};
use crate::checked::{quotient, remainder};

/// The windows of a map: one row per output cell, elements in the order of the weight (channel, kernel row, kernel column).
pub(super) struct Windows<'a> {
    pub(super) x: Mat<'a>,
    pub(super) grid: Grid,
    pub(super) kernel: Grid,
    pub(super) conv: Conv,
    pub(super) output: Grid,
}

impl Windows<'_> {
    /// Index of the map's cell under tap (`y`, `x`) of output cell `cell`; `None` in the padding.
    pub(super) fn cell(&self, cell: usize, y: usize, x: usize) -> Option<usize> {
        let Conv { stride, padding, .. } = self.conv;
        let row = (quotient(cell, self.output.width) * stride + y).checked_sub(padding)?;
        let col = (remainder(cell, self.output.width) * stride + x).checked_sub(padding)?;
        (row < self.grid.height && col < self.grid.width).then(|| row * self.grid.width + col)
    }
}

#[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
impl Windows<'_> {
    /// Writes all windows, one after the other.
    pub(super) fn gather(&self, cpu: &Cpu, out: &mut [f32]) {
        // As much work as two multiply-adds an element: it moves.
        cpu.threads.rows(2, out, self.k(), |first, out| {
            let rows = out.chunks_exact_mut(self.k().max(1)).enumerate();
            rows.for_each(|(i, out)| self.copy(first + i, 0, out));
        });
    }
}

impl Left for Windows<'_> {
    fn rows(&self) -> usize {
        self.output.cells()
    }

    fn k(&self) -> usize {
        self.x.cols * self.kernel.cells()
    }

    fn copy(&self, row: usize, first: usize, out: &mut [f32]) {
        let taps = self.kernel.cells().max(1);
        for y in 0..self.kernel.height {
            for x in 0..self.kernel.width {
                let tap = y * self.kernel.width + x;
                // The first element at or after `first` that belongs to this tap.
                let channel = first.saturating_sub(tap).div_ceil(taps);
                let start = channel * taps + tap - first;
                if start >= out.len() {
                    continue;
                }
                let cells = out[start..].iter_mut().step_by(taps);
                match self.cell(row, y, x) {
                    Some(cell) => {
                        cells.zip(&self.x.row(cell)[channel..]).for_each(|(out, x)| *out = *x);
                    }
                    None => cells.for_each(|out| *out = 0.0),
                }
            }
        }
    }
}
