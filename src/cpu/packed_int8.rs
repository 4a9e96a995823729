//! Weights of eight bits in the order in which products read them, packed once when they are loaded: one panel after the other.
//! The matrix is kept: products of a few rows read it, and other instruction sets than the one that it was packed for.
#![forbid(unsafe_code)]

use alloc::sync::Arc;
use core::fmt;

use super::Cpu;
use super::bytes::STEP;
use super::dots::{DotOp, Dots, Strip};
use super::isa::Isa;
use crate::arena::Buffer;
use crate::checked::Size;
use crate::error::Result;
use crate::weights::Quantised;

/// A matrix of [`Scheme::Int8`](crate::weights::Scheme) and its copy in panels. Clones share the copy.
#[derive(Clone)]
pub struct PackedInt8 {
    matrix: Quantised,
    cells: Arc<Buffer>,
    isa: Isa,
}

impl fmt::Debug for PackedInt8 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PackedInt8({}: {:?} for {})", self.matrix.name(), self.matrix.sizes(), self.isa.name())
    }
}

impl PackedInt8 {
    /// Packs a matrix for the instruction set of `cpu`, on its threads.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory).
    pub(super) fn new(cpu: &Cpu, matrix: &Quantised) -> Result<PackedInt8> {
        let ([n, k], cols) = (matrix.sizes(), cpu.isa.run_dots(Columns));
        let words = Size::new(k.div_ceil(STEP)).times(STEP / size_of::<f32>())?.times(cols)?.get();
        let size = Size::new(n.div_ceil(cols.max(1))).times(words)?.get();
        let mut cells = cpu.for_copies().take("packed weight", size)?;
        cpu.threads.rows(1, &mut cells, words, |first, cells| {
            for (i, panel) in cells.chunks_exact_mut(words.max(1)).enumerate() {
                let panel = bytemuck::cast_slice_mut(panel);
                cpu.isa.run_dots(Pack { matrix, col: (first + i) * cols, panel });
            }
        });
        Ok(PackedInt8 { matrix: matrix.clone(), cells: Arc::new(cells), isa: cpu.isa })
    }

    /// Bytes of the copy.
    pub(super) fn bytes(&self) -> usize {
        self.cells.bytes()
    }

    /// The matrix that was packed.
    pub fn matrix(&self) -> &Quantised {
        &self.matrix
    }

    /// All panels, where they are for that instruction set.
    pub(super) fn panels(&self, isa: Isa) -> Option<&[u8]> {
        (self.isa == isa).then(|| bytemuck::cast_slice(&self.cells))
    }
}

/// [`Bytes::COLS`](super::bytes::Bytes::COLS).
struct Columns;

impl DotOp for Columns {
    type Out = usize;

    #[inline(always)]
    fn run<D: Dots>(self, _dots: D) -> usize {
        D::COLS
    }
}

/// [`Bytes::pack_bytes`](super::bytes::Bytes::pack_bytes) of the columns from `col` on.
struct Pack<'a> {
    matrix: &'a Quantised,
    col: usize,
    panel: &'a mut [u8],
}

impl DotOp for Pack<'_> {
    type Out = ();

    #[inline(always)]
    fn run<D: Dots>(self, dots: D) {
        let Pack { matrix, col, panel } = self;
        let [n, k] = matrix.sizes();
        let cols = D::COLS.min(n.saturating_sub(col));
        if cols > 0 {
            let bytes = &matrix.bytes()[col * k..];
            dots.pack_bytes(Strip { bytes, stride: k, cols, k, kind: () }, panel);
        }
    }
}
