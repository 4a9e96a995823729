//! Weights of linear layers and convolutions in the order in which the blocked product reads them, packed once when they are
//! loaded.
//!
//! A block of [`K_BLOCK`] elements of all columns follows the other, in it one panel after the other; of a convolution, a block
//! of [`K_BLOCK`] channels has one for every tap. The tensor is kept: products of a few rows read it, and other instruction sets
//! than the one that it was packed for.
#![forbid(unsafe_code)]

use alloc::sync::Arc;
use core::fmt;

use super::Cpu;
use super::isa::{Isa, Op};
use super::lanes::{K_BLOCK, Lanes, MAX_PANEL};
use crate::arena::Buffer;
use crate::checked::{Size, quotient, remainder};
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
    order: Order,
}

/// How the elements of a row follow each other, cut into blocks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Order {
    /// Elements of a row.
    k: usize,
    /// Taps of the kernel, one behind the other for every channel in the tensor; 1 for a linear layer.
    taps: usize,
}

impl Order {
    /// Channels.
    fn channels(self) -> usize {
        quotient(self.k, self.taps)
    }

    /// Number of blocks.
    pub(super) fn blocks(self) -> usize {
        self.channels().div_ceil(K_BLOCK) * self.taps
    }

    /// Which block of channels a block has, and which tap.
    #[inline(always)]
    pub(super) fn place(self, block: usize) -> [usize; 2] {
        [quotient(block, self.taps), remainder(block, self.taps)]
    }

    /// The elements of all blocks before a block, and its own.
    #[inline(always)]
    pub(super) fn elements(self, block: usize) -> [usize; 2] {
        let [channels, tap] = self.place(block);
        let here = K_BLOCK.min(self.channels() - channels * K_BLOCK);
        [channels * K_BLOCK * self.taps + tap * here, here]
    }
}

impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Packed { tensor, width, n, order: Order { k, .. }, .. } = self;
        write!(f, "Packed({}: {n}x{k} in panels of {width})", tensor.name())
    }
}

impl Packed {
    /// Packs the rows of a tensor of `n * k` elements for the instruction set of `cpu`, on its threads.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory).
    pub(super) fn new(cpu: &Cpu, tensor: &Tensor, [n, k]: [usize; 2], taps: usize) -> Result<Packed> {
        let width = width(cpu.isa);
        let columns = Size::new(n).plus(width - 1)?.get() / width * width;
        let mut cells = cpu.for_copies().take("packed weight", Size::product(&[columns, k])?.get())?;
        let order = Order { k, taps };
        // While sizes are measured there are no cells.
        let blocks = if cells.is_empty() { 0 } else { order.blocks() };
        let mut rest = &mut cells[..];
        for block in 0..blocks {
            let ([_, here], [channels, tap]) = (order.elements(block), order.place(block));
            let first = channels * K_BLOCK * taps + tap;
            let cells;
            (cells, rest) = rest.split_at_mut(here * columns);
            cpu.threads.rows(1, cells, here * width, |start, cells| {
                for (i, panel) in cells.chunks_exact_mut(here * width).enumerate() {
                    let col = (start + i) * width;
                    let bytes = &tensor.bytes()[(col * k + first) * size_of::<f32>()..];
                    cpu.isa.run(Pack { bytes, width, stride: k, taps, cols: n - col, k: here, panel });
                }
            });
        }
        Ok(Packed { tensor: tensor.clone(), cells: Arc::new(cells), width, n, order })
    }

    /// Bytes of the copy.
    pub(super) fn bytes(&self) -> usize {
        self.cells.bytes()
    }

    /// The tensor that was packed.
    pub fn tensor(&self) -> &Tensor {
        &self.tensor
    }

    /// Whether it is an `[n, k]` of so many taps in panels of that instruction set.
    pub(super) fn fits(&self, isa: Isa, [n, k, taps]: [usize; 3]) -> bool {
        self.width == width(isa) && self.n == n && self.order == Order { k, taps }
    }

    /// The order of its elements.
    #[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
    pub(super) fn order(&self) -> Order {
        self.order
    }

    /// Its sizes, `[n, k]`.
    #[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
    pub(super) fn sizes(&self) -> [usize; 2] {
        [self.n, self.order.k]
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
    /// Elements from row to row.
    stride: usize,
    /// Elements from one to the next.
    taps: usize,
    cols: usize,
    k: usize,
    panel: &'a mut [f32],
}

impl Op for Pack<'_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Pack { bytes, width, stride, taps, cols, k, panel } = self;
        let (cols, stride) = (cols.min(width), stride * size_of::<f32>());
        let mut apart = [0.0; MAX_PANEL * K_BLOCK];
        let (bytes, stride) = match taps {
            1 => (bytes, stride),
            _ => {
                for (j, out) in apart.chunks_exact_mut(K_BLOCK).enumerate().take(cols) {
                    let elements = bytes[j * stride..].as_chunks().0.iter().step_by(taps);
                    out[..k].iter_mut().zip(elements).for_each(|(out, &x)| *out = f32::from_le_bytes(x));
                }
                (bytemuck::cast_slice(&apart), K_BLOCK * size_of::<f32>())
            }
        };
        if width == L::PANEL {
            return lanes.pack(bytes, stride, cols, k, panel);
        }
        let mut wide = [0.0; MAX_PANEL * K_BLOCK];
        lanes.pack(bytes, stride, cols, k, &mut wide);
        let rows = panel.chunks_exact_mut(width.max(1)).zip(wide.chunks_exact(L::PANEL));
        rows.for_each(|(row, wide)| row.copy_from_slice(&wide[..row.len()]));
    }
}
