//! Weights of linear layers in the order in which the blocked product reads them, packed once when they are loaded.
//!
//! A block of [`K_BLOCK`] elements of all columns follows the other, in it one panel after the other. The tensor is kept:
//! products of a few rows read it, and other instruction sets than the one that it was packed for.
#![forbid(unsafe_code)]

use alloc::sync::Arc;
use core::fmt;

use super::Cpu;
use super::isa::{Isa, Op};
use super::lanes::{K_BLOCK, Lanes, MAX_PANEL};
use crate::arena::{Arena, Buffer};
use crate::checked::Size;
use crate::error::Result;
use crate::weights::Tensor;

/// A matrix `[n, k]` of `f32` of the weights file and its copy in panels. Clones share the copy.
#[derive(Clone)]
pub struct Packed {
    tensor: Tensor,
    cells: Arc<Buffer>,
    /// Columns of a panel.
    width: usize,
    n: usize,
    k: usize,
}

impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Packed { tensor, width, n, k, .. } = self;
        write!(f, "Packed({}: {n}x{k} in panels of {width})", tensor.name())
    }
}

impl Packed {
    /// Packs the rows of a tensor of `n * k` elements for the instruction set of `cpu`, on its threads.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory).
    pub(super) fn new(cpu: &Cpu, tensor: &Tensor, [n, k]: [usize; 2]) -> Result<Packed> {
        let width = width(cpu.isa);
        let columns = Size::new(n).plus(width - 1)?.get() / width * width;
        let mut cells = Arena::HEAP.take("packed weight", Size::product(&[columns, k])?.get())?;
        let bytes = tensor.bytes();
        for (block, cells) in cells.chunks_mut(K_BLOCK * columns.max(1)).enumerate() {
            let from = block * K_BLOCK;
            let k_here = K_BLOCK.min(k - from);
            cpu.threads.rows(1, cells, k_here * width, |first, cells| {
                for (i, panel) in cells.chunks_exact_mut(k_here * width).enumerate() {
                    let col = (first + i) * width;
                    let bytes = &bytes[(col * k + from) * size_of::<f32>()..];
                    cpu.isa.run(Pack {
                        bytes,
                        width,
                        stride: k * size_of::<f32>(),
                        cols: n - col,
                        k: k_here,
                        panel,
                    });
                }
            });
        }
        Ok(Packed { tensor: tensor.clone(), cells: Arc::new(cells), width, n, k })
    }

    /// The tensor that was packed.
    pub fn tensor(&self) -> &Tensor {
        &self.tensor
    }

    /// Whether it is an `[n, k]` in panels of that instruction set.
    pub(super) fn fits(&self, isa: Isa, n: usize, k: usize) -> bool {
        self.width == width(isa) && [self.n, self.k] == [n, k]
    }

    /// Its sizes, `[n, k]`.
    #[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
    pub(super) fn sizes(&self) -> [usize; 2] {
        [self.n, self.k]
    }

    /// The panel that begins with column `col`, a multiple of its width: `k` elements from `first` on, the rest of a block.
    #[inline(always)]
    pub(super) fn panel(&self, col: usize, [first, k]: [usize; 2]) -> &[f32] {
        let start = first * self.n.next_multiple_of(self.width.max(1)) + col * k;
        &self.cells[start..start + k * self.width]
    }
}

/// Columns of the panels that an instruction set's product reads.
fn width(isa: Isa) -> usize {
    #[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
    if isa.matrix_unit().is_some() {
        return super::amx_thirds::PANEL;
    }
    isa.run(Width).max(1)
}

/// [`Lanes::PANEL`].
struct Width;

impl Op for Width {
    type Out = usize;

    #[inline(always)]
    fn run<L: Lanes>(self, _lanes: L) -> usize {
        L::PANEL
    }
}

/// [`Lanes::pack`] of at most a panel's columns, into panels of `width`.
struct Pack<'a> {
    bytes: &'a [u8],
    width: usize,
    stride: usize,
    cols: usize,
    k: usize,
    panel: &'a mut [f32],
}

impl Op for Pack<'_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Pack { bytes, width, stride, cols, k, panel } = self;
        if width == L::PANEL {
            return lanes.pack(bytes, stride, cols.min(width), k, panel);
        }
        let mut wide = [0.0; MAX_PANEL * K_BLOCK];
        lanes.pack(bytes, stride, cols.min(width), k, &mut wide);
        let rows = panel.chunks_exact_mut(width.max(1)).zip(wide.chunks_exact(L::PANEL));
        rows.for_each(|(row, wide)| row.copy_from_slice(&wide[..row.len()]));
    }
}
