//! `impl Backend for Cuda`: check the shapes, allocate the output, launch.
#![forbid(unsafe_code)]

use alloc::sync::Arc;
use alloc::vec::Vec;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::conv2d::Shapes;
use super::operand::{ELEMENT, Elements, Operand, elements, narrow};
use super::queue::{Item, Queue};
use super::signature::Argument;
use super::transfer::Transfer;
use super::{
    Block, Cuda, Integers, Shared, Stored, activate, add, attention, conv2d, copy, embedding, group_norm,
    is_finite, layer_norm, linear, mask_pixels, matmul, prepare, resize, rms_norm, rope, select_token,
};
use crate::arena::Arena;
use crate::backend::{
    Activation, Attention, Backend, Conv, Epilogue, Grid, Matrix, Resize, SelectToken, Selected, View,
    Weight, check,
};
use crate::error::Result;
use crate::image::{ImageView, Preprocessor, Square};
use crate::weights::{Quantised, Tensor};

/// A byte that makes NaN of every float.
const NAN: u8 = 0xFF;

/// Most blocks that are kept for [`Cuda::early`]: for as many threads that choose tokens at once.
const MOST_EARLY: usize = 16;

/// What a thread left behind that panicked is sound: nothing under these locks is half done between calls.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn queue(&self) -> MutexGuard<'_, Queue> {
        locked(&self.queue)
    }

    pub(super) fn transfer(&self) -> MutexGuard<'_, Transfer> {
        locked(&self.transfer)
    }
}

impl Cuda {
    /// A new matrix, uninitialised; NaN where the backend is poisoned. `what` is the operation.
    pub(super) fn matrix(&self, what: &'static str, rows: usize, cols: usize) -> Result<Matrix<Cuda>> {
        let bytes = crate::checked::Size::new(elements(rows, cols)?).times(ELEMENT)?.get();
        let block = self.shared.pool.take(what, bytes)?;
        if self.poison {
            self.fill(&block, NAN)?;
        }
        Ok(Matrix::from_buffer(block, rows, cols))
    }

    /// Sets every byte of a block.
    pub(super) fn fill(&self, block: &Block, value: u8) -> Result<()> {
        if block.bytes() == 0 {
            return Ok(());
        }
        self.push(Item::Fill(block.pointer(), block.bytes(), value))
    }

    /// A block of the host's bytes, for one launch.
    pub(super) fn uploaded(&self, what: &'static str, bytes: &[u8]) -> Result<Block> {
        let block = self.shared.pool.take(what, bytes.len())?;
        self.flush()?;
        self.shared.transfer().upload(&self.shared.stream, &block, bytes, false)?;
        Ok(block)
    }

    /// As [`Cuda::uploaded`] without ending the run of launches that waits: nothing of it touches the block.
    /// [`Cuda::keep_early`] takes the block once its launches were waited for.
    pub(super) fn early(&self, what: &'static str, bytes: &[u8]) -> Result<Block> {
        let kept = {
            let mut early = locked(&self.shared.early);
            let index = early.iter().position(|block| block.bytes() == bytes.len());
            index.map(|index| early.swap_remove(index))
        };
        let block = match kept {
            Some(block) => block,
            None => {
                let block = self.shared.pool.take(what, bytes.len())?;
                // What waits may still use what this was before.
                self.flush()?;
                block
            }
        };
        self.shared.transfer().upload(&self.shared.stream, &block, bytes, false)?;
        Ok(block)
    }

    /// Keeps a block of [`Cuda::early`] for the next call; no launch that waits uses it.
    pub(super) fn keep_early(&self, block: Block) {
        let mut early = locked(&self.shared.early);
        if early.len() < MOST_EARLY {
            early.push(block);
        }
    }

    /// A block of weights.
    fn weight(&self, bytes: &[u8]) -> Result<Arc<Block>> {
        let block = self.shared.weights.take("weights", bytes.len())?;
        self.flush()?;
        self.shared.transfer().upload(&self.shared.stream, &block, bytes, true)?;
        Ok(Arc::new(block))
    }

    /// As [`Cuda::uploaded`], kept for the next call with the same bytes.
    pub(super) fn constant(&self, what: &'static str, bytes: &[u8]) -> Result<Arc<Block>> {
        let mut constants = locked(&self.shared.constants);
        if let Some(block) = constants.find(bytes) {
            return Ok(block);
        }
        let block = Arc::new(self.uploaded(what, bytes)?);
        constants.keep(bytes, block.clone());
        Ok(block)
    }

    /// Copies a block from byte `from` on to the host, after all that was launched.
    pub(super) fn downloaded(&self, block: &Block, from: usize, bytes: &mut [u8]) -> Result<()> {
        self.flush()?;
        self.shared.transfer().download(&self.shared.stream, block, from, bytes)
    }
}

impl Backend for Cuda {
    type Buffer = Block;
    type Stored = Stored;

    fn store(&self, tensor: &Tensor) -> Result<Stored> {
        let block = self.weight(tensor.bytes())?;
        Ok(Stored { block, dtype: tensor.dtype(), integers: None, laid_out: Arc::default() })
    }

    fn store_quantised(&self, matrix: &Quantised) -> Result<Stored> {
        let scales = self.weight(matrix.scales().bytes())?;
        let integers = Integers { scheme: matrix.scheme(), sizes: matrix.sizes(), scales };
        let block = self.weight(matrix.bytes())?;
        let dtype = matrix.scales().dtype();
        Ok(Stored { block, dtype, integers: Some(integers), laid_out: Arc::default() })
    }

    fn zeros(&self, rows: usize, cols: usize) -> Result<Matrix<Cuda>> {
        let out = self.matrix("zeros", rows, cols)?;
        self.fill(out.buffer(), 0)?;
        Ok(out)
    }

    fn written(
        &self,
        rows: usize,
        cols: usize,
        write: &mut dyn FnMut(&mut [f32]) -> Result<()>,
    ) -> Result<Matrix<Cuda>> {
        let out = self.matrix("written", rows, cols)?;
        let mut host = self.arena().take("written", rows * cols)?;
        write(&mut host)?;
        self.flush()?;
        let bytes = bytemuck::cast_slice(&host);
        self.shared.transfer().upload(&self.shared.stream, out.buffer(), bytes, false)?;
        Ok(out)
    }

    fn prepare(&self, preprocessor: &Preprocessor, image: &ImageView) -> Result<Matrix<Cuda>> {
        prepare::prepare(self, preprocessor, image)
    }

    fn download_to(&self, x: View<Cuda>, out: &mut [f32]) -> Result<()> {
        check::download(x, out.len())?;
        if out.is_empty() {
            return Ok(());
        }
        Operand::new(self, x)?;
        let bytes = bytemuck::cast_slice_mut(out);
        if x.stride() == x.cols() || x.rows() == 1 {
            return self.downloaded(x.buffer(), x.offset() * ELEMENT, bytes);
        }
        let mut whole = self.matrix("download", x.rows(), x.cols())?;
        self.copy(x, &mut whole, 0, 0)?;
        self.downloaded(whole.buffer(), 0, bytes)
    }

    fn arena(&self) -> &Arena {
        // What is read back is a few numbers; a device's memory is not the caller's to give.
        &Arena::HEAP
    }

    fn settle(&self, x: Matrix<Cuda>) -> Matrix<Cuda> {
        x
    }

    fn read(&self, weight: &Weight<Cuda>, rows: usize, cols: usize) -> Result<Matrix<Cuda>> {
        check::read(weight, rows, cols)?;
        copy::read(self, Elements::new(self, weight)?, cols, [rows, cols])
    }

    fn copy(&self, x: View<Cuda>, out: &mut Matrix<Cuda>, row: usize, col: usize) -> Result<()> {
        check::copy(x, out, row, col)?;
        if x.rows() == 0 || x.cols() == 0 {
            return Ok(());
        }
        // The whole output lies in its buffer, on this device.
        Operand::new(self, out.view())?;
        copy::copy(self, x, out.buffer(), out.cols(), [row, col])
    }

    fn is_finite(&self, x: View<Cuda>) -> Result<bool> {
        is_finite::is_finite(self, x)
    }

    fn gather(&self, x: View<Cuda>, rows: &[usize]) -> Result<Matrix<Cuda>> {
        check::gather(x, rows)?;
        let ids = rows.iter().map(|&row| narrow(row)).collect::<Result<Vec<u32>>>()?;
        let table = Operand::new(self, x)?;
        let table = [table.pointer, Argument::U32(0), table.stride];
        embedding::embedding(self, "gather", table, &ids, x.cols())
    }

    fn embedding(&self, table: &Weight<Cuda>, ids: &[u32]) -> Result<Matrix<Cuda>> {
        let cols = check::embedding(table, ids)?;
        let elements = Elements::new(self, table)?;
        let table = [elements.pointer, elements.dtype, Argument::U32(narrow(cols)?)];
        embedding::embedding(self, "embedding", table, ids, cols)
    }

    fn add(&self, a: View<Cuda>, b: View<Cuda>) -> Result<Matrix<Cuda>> {
        check::add(a, b)?;
        add::add(self, a, b)
    }

    fn activate(&self, x: View<Cuda>, activation: Activation) -> Result<Matrix<Cuda>> {
        activate::activate(self, "activate", x, None, activation)
    }

    fn gated(&self, gate: View<Cuda>, up: View<Cuda>, activation: Activation) -> Result<Matrix<Cuda>> {
        check::gated(gate, up)?;
        activate::activate(self, "gated", gate, Some(up), activation)
    }

    fn linear(
        &self,
        x: View<Cuda>,
        weight: &Weight<Cuda>,
        bias: Option<&Weight<Cuda>>,
        epilogue: Epilogue<Cuda>,
    ) -> Result<Matrix<Cuda>> {
        let n = check::linear(x, weight, bias, &epilogue)?;
        linear::linear(self, x, weight, bias, &epilogue, n)
    }

    fn matmul(&self, a: View<Cuda>, b: View<Cuda>, transpose_b: bool) -> Result<Matrix<Cuda>> {
        let n = check::matmul(a, b, transpose_b)?;
        matmul::matmul(self, a, b, transpose_b, n)
    }

    fn conv2d(
        &self,
        x: View<Cuda>,
        grid: Grid,
        weight: &Weight<Cuda>,
        bias: Option<&Weight<Cuda>>,
        conv: Conv,
        epilogue: Epilogue<Cuda>,
    ) -> Result<Matrix<Cuda>> {
        let sizes = check::conv2d(x, grid, weight, bias, conv, &epilogue)?;
        conv2d::conv2d(self, x, weight, bias, &epilogue, &Shapes { grid, conv, sizes })
    }

    fn layer_norm(
        &self,
        x: View<Cuda>,
        parts: usize,
        weight: Option<&Weight<Cuda>>,
        bias: Option<&Weight<Cuda>>,
        eps: f32,
    ) -> Result<Matrix<Cuda>> {
        check::layer_norm(x, parts, weight, bias)?;
        layer_norm::layer_norm(self, x, parts, weight, bias, eps)
    }

    fn rms_norm(&self, x: View<Cuda>, weight: &Weight<Cuda>, eps: f32) -> Result<Matrix<Cuda>> {
        check::rms_norm(x, weight)?;
        rms_norm::rms_norm(self, x, weight, eps)
    }

    fn group_norm(
        &self,
        x: View<Cuda>,
        groups: usize,
        weight: &Weight<Cuda>,
        bias: &Weight<Cuda>,
        eps: f32,
        activation: Activation,
    ) -> Result<Matrix<Cuda>> {
        check::group_norm(x, groups, weight, bias)?;
        group_norm::group_norm(self, x, groups, [weight, bias], eps, activation)
    }

    fn attention(
        &self,
        q: View<Cuda>,
        k: View<Cuda>,
        v: View<Cuda>,
        attention: &Attention,
    ) -> Result<Matrix<Cuda>> {
        let cols = check::attention(q, k, v, attention)?;
        attention::attention(self, q, k, v, attention, cols)
    }

    fn rope(&self, x: View<Cuda>, heads: usize, first: usize, frequencies: &[f32]) -> Result<Matrix<Cuda>> {
        check::rope(x, heads, frequencies.len())?;
        rope::rope(self, x, first, frequencies)
    }

    fn resize(&self, x: View<Cuda>, from: Grid, to: Grid, resize: Resize) -> Result<Matrix<Cuda>> {
        let rows = check::resize(x, from, to)?;
        resize::resize(self, x, [from, to], rows, resize)
    }

    fn mask_pixels(
        &self,
        maps: View<Cuda>,
        grid: Grid,
        square: &Square,
        threshold: f32,
    ) -> Result<Option<Vec<u32>>> {
        check::mask_pixels(maps, grid)?;
        mask_pixels::mask_pixels(self, maps, grid, square, threshold).map(Some)
    }

    fn select_token(&self, logits: View<Cuda>, select: &mut SelectToken) -> Result<Selected> {
        check::select_token(logits)?;
        let selected = select_token::select_token(self, None, logits, select)?;
        Ok(selected.unwrap_or(Selected::NotFinite))
    }

    fn select_finite(
        &self,
        hidden: View<Cuda>,
        logits: View<Cuda>,
        select: &mut SelectToken,
    ) -> Result<Option<Selected>> {
        check::select_token(logits)?;
        select_token::select_token(self, Some(hidden), logits, select)
    }
}
