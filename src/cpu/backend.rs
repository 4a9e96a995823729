//! `impl Backend for Cpu`: check the shapes, allocate the output, run the operation.
#![forbid(unsafe_code)]

use alloc::format;

use super::Cpu;
use super::cache::Held;
use super::conv2d::Windows;
use super::finish::Finish;
use super::mat::{Elements, Mat, Rows, Stored};
use super::packed::Packed;
use super::packed_int8::PackedInt8;
use super::product::{self, Right, product};
use super::room::vector;
use super::{
    activate, add, attention, cache, depthwise, embedding, group_norm, layer_norm, matvec, product_int4,
    product_int8, resize, rms_norm, rope,
};
#[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
use super::{conv2d_thirds, product_thirds};
use crate::arena::{Arena, Buffer, Room};
use crate::backend::{
    Activation, Attention, Backend, CacheType, Conv, Epilogue, Grid, Matrix, Resize, SelectToken, Selected,
    View, Weight, check, select,
};
use crate::checked::{Size, quotient};
use crate::error::{Error, Result};
use crate::reference::LONGEST;
use crate::weights::{Dtype, Quantised, Scheme, Tensor};

impl Cpu {
    /// Room for `rows * cols` elements; NaN and a canary where the backend is poisoned.
    pub(super) fn take(&self, what: &'static str, rows: usize, cols: usize) -> Result<Buffer> {
        let canary = if self.poison { Cpu::CANARY } else { 0 };
        let mut buffer = self.arena.take(what, Size::product(&[rows, cols])?.plus(canary)?.get())?;
        if self.poison {
            buffer.fill(f32::NAN);
        }
        Ok(buffer)
    }

    /// A new matrix whose elements `fill` writes, with `scratch` elements more while it does. `what` is the operation.
    pub(super) fn matrix(
        &self,
        what: &'static str,
        [rows, cols]: [usize; 2],
        scratch: usize,
        fill: impl FnOnce(&mut [f32], &mut [f32]) -> Result<()>,
    ) -> Result<Matrix<Cpu>> {
        let mut buffer = self.take(what, rows, cols)?;
        let mut scratch = self.take(what, 1, scratch)?;
        if !self.arena.is_measuring() {
            let end = scratch.len() - if self.poison { Cpu::CANARY } else { 0 };
            fill(&mut buffer[..rows * cols], &mut scratch[..end])?;
        }
        Ok(Matrix::from_buffer(buffer, rows, cols))
    }
}

/// A quantised matrix can only be used as a whole, in its own shape.
fn check_quantised(weight: &Weight<Cpu>, stored: &Quantised, sizes: [usize; 2]) -> Result<()> {
    if stored.sizes() == sizes && weight.columns().is_none() {
        return Ok(());
    }
    let reason = format!("a quantised matrix of {:?} as one of {sizes:?}", stored.sizes());
    Err(Error::Shape { operand: "linear.weight", reason })
}

impl Backend for Cpu {
    type Buffer = Buffer;
    type Stored = Stored;

    fn store(&self, tensor: &Tensor) -> Result<Stored> {
        Ok(Stored::Tensor(tensor.clone()))
    }

    fn store_matrix(&self, tensor: &Tensor, sizes: [usize; 2], taps: usize) -> Result<Stored> {
        let elements = Size::product(&sizes)?.get();
        let whole = tensor.dtype() == Dtype::F32 && tensor.bytes().len() / size_of::<f32>() == elements;
        if !self.packs || !whole || elements == 0 {
            return self.store(tensor);
        }
        // Convolutions on vectors gather their windows in the order of the tensor.
        let by_taps = self.isa.has_matrix_unit() && sizes[1].is_multiple_of(taps);
        let taps = if by_taps { taps } else { 1 };
        Ok(Stored::Packed(Packed::new(self, tensor, sizes, taps)?))
    }

    fn copied_bytes(stored: &Stored) -> usize {
        match stored {
            Stored::Packed(packed) => packed.bytes(),
            Stored::PackedInt8(packed) => packed.bytes(),
            _ => 0,
        }
    }

    fn store_quantised(&self, matrix: &Quantised) -> Result<Stored> {
        if self.packs && matrix.scheme() == Scheme::Int8 && !matrix.bytes().is_empty() {
            return Ok(Stored::PackedInt8(PackedInt8::new(self, matrix)?));
        }
        Ok(Stored::Quantised(matrix.clone()))
    }

    fn zeros(&self, rows: usize, cols: usize) -> Result<Matrix<Cpu>> {
        if self.poison {
            return self.matrix("zeros", [rows, cols], 0, |out, _| {
                out.fill(0.0);
                Ok(())
            });
        }
        let buffer = self.arena.zeros("zeros", Size::product(&[rows, cols])?.get())?;
        Ok(Matrix::from_buffer(buffer, rows, cols))
    }

    fn written(
        &self,
        rows: usize,
        cols: usize,
        write: &mut dyn FnMut(&mut [f32]) -> Result<()>,
    ) -> Result<Matrix<Cpu>> {
        self.matrix("written", [rows, cols], 0, |out, _| write(out))
    }

    fn download_to(&self, x: View<Cpu>, out: &mut [f32]) -> Result<()> {
        if self.arena.is_measuring() {
            return Ok(());
        }
        check::download(x, out.len())?;
        let x = Mat::new(x)?;
        if x.cols > 0 {
            x.iter().zip(out.chunks_exact_mut(x.cols)).for_each(|(row, out)| out.copy_from_slice(row));
        }
        Ok(())
    }

    fn arena(&self) -> &Arena {
        &self.arena
    }

    fn settle(&self, mut x: Matrix<Cpu>) -> Matrix<Cpu> {
        self.arena.settle(x.buffer_mut());
        x
    }

    fn read(&self, weight: &Weight<Cpu>, rows: usize, cols: usize) -> Result<Matrix<Cpu>> {
        check::read(weight, rows, cols)?;
        let elements = Elements::new(weight)?;
        self.matrix("read", [rows, cols], 0, |out, _| {
            embedding::read(self, elements, out);
            Ok(())
        })
    }

    fn copy(&self, x: View<Cpu>, out: &mut Matrix<Cpu>, row: usize, col: usize) -> Result<()> {
        check::copy(x, out, row, col)?;
        if x.rows() == 0 || x.cols() == 0 || self.arena.is_measuring() {
            return Ok(());
        }
        let x = Mat::new(x)?;
        let cols = out.cols();
        let start = row * cols + col;
        let buffer = out.buffer_mut();
        for (i, from) in x.iter().enumerate() {
            buffer[start + i * cols..][..x.cols].copy_from_slice(from);
        }
        Ok(())
    }

    fn is_finite(&self, x: View<Cpu>) -> Result<bool> {
        if self.arena.is_measuring() {
            return Ok(true);
        }
        // A product with 0 is 0 exactly for finite numbers, so the sum needs no branch.
        Ok(Mat::new(x)?.iter().all(|row| row.iter().fold(0.0, |sum, x| sum + x * 0.0) == 0.0))
    }

    fn gather(&self, x: View<Cpu>, rows: &[usize]) -> Result<Matrix<Cpu>> {
        check::gather(x, rows)?;
        self.matrix("gather", [rows.len(), x.cols()], 0, |out, _| {
            let x = Mat::new(x)?;
            if x.cols > 0 {
                out.chunks_exact_mut(x.cols)
                    .zip(rows)
                    .for_each(|(out, &row)| out.copy_from_slice(x.row(row)));
            }
            Ok(())
        })
    }

    fn embedding(&self, table: &Weight<Cpu>, ids: &[u32]) -> Result<Matrix<Cpu>> {
        let cols = check::embedding(table, ids)?;
        let elements = Elements::new(table)?;
        self.matrix("embedding", [ids.len(), cols], 0, |out, _| {
            embedding::embedding(self, elements, ids, cols, out);
            Ok(())
        })
    }

    fn add(&self, a: View<Cpu>, b: View<Cpu>) -> Result<Matrix<Cpu>> {
        check::add(a, b)?;
        self.matrix("add", [a.rows(), a.cols()], 0, |out, _| {
            add::add(self, Mat::new(a)?, Mat::new(b)?, out);
            Ok(())
        })
    }

    fn activate(&self, x: View<Cpu>, activation: Activation) -> Result<Matrix<Cpu>> {
        self.matrix("activate", [x.rows(), x.cols()], 0, |out, _| {
            activate::activate(self, Mat::new(x)?, None, activation, out);
            Ok(())
        })
    }

    fn gated(&self, gate: View<Cpu>, up: View<Cpu>, activation: Activation) -> Result<Matrix<Cpu>> {
        check::gated(gate, up)?;
        self.matrix("gated", [gate.rows(), gate.cols()], 0, |out, _| {
            activate::activate(self, Mat::new(gate)?, Some(Mat::new(up)?), activation, out);
            Ok(())
        })
    }

    fn linear(
        &self,
        x: View<Cpu>,
        weight: &Weight<Cpu>,
        bias: Option<&Weight<Cpu>>,
        epilogue: Epilogue<Cpu>,
    ) -> Result<Matrix<Cpu>> {
        let n = check::linear(x, weight, bias, &epilogue)?;
        let of_finish = Finish::scratch(bias, &epilogue);
        let (rows, k) = (x.rows(), x.cols());
        let quantised = weight.stored().quantised();
        if let Some(matrix) = quantised {
            check_quantised(weight, matrix, [n, k])?;
        }
        let in_integers =
            |matrix: &&Quantised| !self.exact && (matrix.scheme() == Scheme::Int4 || k <= LONGEST);
        if let Some(matrix) = quantised.filter(in_integers) {
            let eight = matrix.scheme() == Scheme::Int8;
            let scratch = if eight { product_int8::scratch } else { product_int4::scratch };
            let scratch = of_finish.saturating_add(scratch(self, rows, k));
            return self.matrix("linear", [rows, n], scratch, |out, scratch| {
                let mut room = Room::new(scratch);
                let finish = Finish::new(self.isa, bias, &epilogue, &mut room)?;
                let (x, scratch) = (Mat::new(x)?, room.rest());
                match weight.stored() {
                    Stored::PackedInt8(packed) => {
                        let panels = packed.panels(self.isa);
                        product_int8::product(self, x, (matrix, panels), &finish, scratch, out);
                    }
                    _ if eight => product_int8::product(self, x, (matrix, None), &finish, scratch, out),
                    _ => product_int4::product(self, x, matrix, &finish, scratch, out),
                }
                Ok(())
            });
        }
        #[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
        if let (Stored::Packed(packed), Some(unit)) = (weight.stored(), self.isa.matrix_unit())
            && packed.fits(self.isa, [n, k, 1])
        {
            let scratch = of_finish + product_thirds::scratch(self, rows, packed);
            return self.matrix("linear", [rows, n], scratch, |out, scratch| {
                let mut room = Room::new(scratch);
                let finish = Finish::new(self.isa, bias, &epilogue, &mut room)?;
                product_thirds::product(self, unit, Mat::new(x)?, packed, &finish, room.rest(), out);
                Ok(())
            });
        }
        let right = match weight.stored() {
            Stored::Packed(packed) if packed.fits(self.isa, [n, k, 1]) && rows > matvec::FEW => {
                Right::Packed(packed)
            }
            Stored::Tensor(_) | Stored::Packed(_) => Right::Weight(Rows::new(weight, n, k)?),
            Stored::Quantised(matrix) => Right::Quantised(matrix),
            Stored::PackedInt8(packed) => Right::Quantised(packed.matrix()),
        };
        let scratch = of_finish + product::scratch(self, rows, k, n);
        self.matrix("linear", [rows, n], scratch, |out, scratch| {
            let mut room = Room::new(scratch);
            let finish = Finish::new(self.isa, bias, &epilogue, &mut room)?;
            match right {
                Right::Weight(weight) if rows <= matvec::FEW => {
                    matvec::matvec(self, Mat::new(x)?, weight, n, &finish, out);
                }
                right => product(self, &Mat::new(x)?, right, n, &finish, room.rest(), out),
            }
            Ok(())
        })
    }

    fn matmul(&self, a: View<Cpu>, b: View<Cpu>, transpose_b: bool) -> Result<Matrix<Cpu>> {
        let n = check::matmul(a, b, transpose_b)?;
        let scratch = product::scratch(self, a.rows(), a.cols(), n);
        self.matrix("matmul", [a.rows(), n], scratch, |out, scratch| {
            let (a, b) = (Mat::new(a)?, Mat::new(b)?);
            let right = if transpose_b { Right::Rows(b) } else { Right::Columns(b) };
            product(self, &a, right, n, &Finish::NONE, scratch, out);
            Ok(())
        })
    }

    fn conv2d(
        &self,
        x: View<Cpu>,
        grid: Grid,
        weight: &Weight<Cpu>,
        bias: Option<&Weight<Cpu>>,
        conv: Conv,
        epilogue: Epilogue<Cpu>,
    ) -> Result<Matrix<Cpu>> {
        let check::ConvSizes { kernel, channels, output } =
            check::conv2d(x, grid, weight, bias, conv, &epilogue)?;
        let elements = Elements::new(weight)?;
        let of_finish = Finish::scratch(bias, &epilogue);
        let k = x.cols().saturating_mul(kernel.cells());
        #[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
        if let (Stored::Packed(packed), Some(unit)) = (weight.stored(), self.isa.matrix_unit())
            && packed.fits(self.isa, [channels, k, kernel.cells()])
            && conv.stride == 1
        {
            let own = conv2d_thirds::scratch(self, [kernel, output], [x.cols(), channels]);
            let scratch = of_finish.saturating_add(own);
            return self.matrix("conv2d", [output.cells(), channels], scratch, |out, scratch| {
                let windows = Windows { x: Mat::new(x)?, grid, kernel, conv, output };
                let mut room = Room::new(scratch);
                let finish = Finish::new(self.isa, bias, &epilogue, &mut room)?;
                conv2d_thirds::conv2d(self, unit, &windows, packed, &finish, room.rest(), out);
                Ok(())
            });
        }
        let packed = match weight.stored() {
            Stored::Packed(packed) if packed.fits(self.isa, [channels, k, 1]) => Some(packed),
            _ => None,
        };
        #[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
        if let (Some(packed), Some(unit)) = (packed, self.isa.matrix_unit()) {
            let gathered = output.cells().saturating_mul(k);
            let own = gathered.saturating_add(product_thirds::scratch(self, output.cells(), packed));
            let scratch = of_finish.saturating_add(own);
            return self.matrix("conv2d", [output.cells(), channels], scratch, |out, scratch| {
                let windows = Windows { x: Mat::new(x)?, grid, kernel, conv, output };
                let mut room = Room::new(scratch);
                let finish = Finish::new(self.isa, bias, &epilogue, &mut room)?;
                let rows = room.take(gathered);
                windows.gather(self, rows);
                let rows = Mat::whole(rows, output.cells(), k);
                product_thirds::product(self, unit, rows, packed, &finish, room.rest(), out);
                Ok(())
            });
        }
        let own = match conv.depthwise {
            true => depthwise::scratch(self, kernel.cells(), channels),
            false => product::scratch(self, output.cells(), k, channels),
        };
        self.matrix("conv2d", [output.cells(), channels], of_finish.saturating_add(own), |out, scratch| {
            let windows = Windows { x: Mat::new(x)?, grid, kernel, conv, output };
            let mut room = Room::new(scratch);
            let finish = Finish::new(self.isa, bias, &epilogue, &mut room)?;
            let right = packed.map_or_else(|| Right::Weight(Rows::whole(elements, k)), Right::Packed);
            match conv.depthwise {
                true => depthwise::depthwise(self, &windows, elements, &finish, room, out),
                false => product(self, &windows, right, channels, &finish, room.rest(), out),
            }
            Ok(())
        })
    }

    fn layer_norm(
        &self,
        x: View<Cpu>,
        parts: usize,
        weight: Option<&Weight<Cpu>>,
        bias: Option<&Weight<Cpu>>,
        eps: f32,
    ) -> Result<Matrix<Cpu>> {
        check::layer_norm(x, parts, weight, bias)?;
        let scratch = vector(weight) + vector(bias);
        self.matrix("layer_norm", [x.rows(), x.cols()], scratch, |out, scratch| {
            let mut room = Room::new(scratch);
            let (weight, bias) = (room.vector(weight, self.isa)?, room.vector(bias, self.isa)?);
            layer_norm::layer_norm(self, Mat::new(x)?, parts, weight, bias, eps, out);
            Ok(())
        })
    }

    fn rms_norm(&self, x: View<Cpu>, weight: &Weight<Cpu>, eps: f32) -> Result<Matrix<Cpu>> {
        check::rms_norm(x, weight)?;
        let elements = Elements::new(weight)?;
        self.matrix("rms_norm", [x.rows(), x.cols()], weight.elements(), |out, scratch| {
            let weight = Room::new(scratch).elements(elements, self.isa);
            rms_norm::rms_norm(self, Mat::new(x)?, weight, eps, out);
            Ok(())
        })
    }

    fn group_norm(
        &self,
        x: View<Cpu>,
        groups: usize,
        weight: &Weight<Cpu>,
        bias: &Weight<Cpu>,
        eps: f32,
        activation: Activation,
    ) -> Result<Matrix<Cpu>> {
        check::group_norm(x, groups, weight, bias)?;
        let (factors, offsets) = (Elements::new(weight)?, Elements::new(bias)?);
        let scratch = weight.elements() + bias.elements() + group_norm::scratch(x.rows(), x.cols());
        self.matrix("group_norm", [x.rows(), x.cols()], scratch, |out, scratch| {
            let mut room = Room::new(scratch);
            let weight = room.elements(factors, self.isa);
            let bias = room.elements(offsets, self.isa);
            let x = Mat::new(x)?;
            group_norm::group_norm(self, x, groups, weight, bias, eps, activation, room, out);
            Ok(())
        })
    }

    fn attention(
        &self,
        q: View<Cpu>,
        k: View<Cpu>,
        v: View<Cpu>,
        attention: &Attention,
    ) -> Result<Matrix<Cpu>> {
        let cols = check::attention(q, k, v, attention)?;
        let e = quotient(v.cols(), attention.kv_heads);
        let (sizes, widths) = ([q.rows(), k.rows()], [quotient(q.cols(), attention.heads), e]);
        let scratch = attention::scratch(self, sizes, widths, CacheType::F32, attention);
        self.matrix("attention", [q.rows(), cols], scratch, |out, scratch| {
            let plain = |x| Mat::new(x).map(|mat| Held::plain(mat, attention.kv_heads));
            attention::attention(self, Mat::new(q)?, plain(k)?, plain(v)?, attention, scratch, out);
            Ok(())
        })
    }

    fn cache_columns(&self, kind: CacheType, heads: usize, d: usize) -> Result<usize> {
        kind.columns(heads, d)
    }

    fn cache(
        &self,
        x: View<Cpu>,
        heads: usize,
        kind: CacheType,
        out: &mut Matrix<Cpu>,
        row: usize,
    ) -> Result<()> {
        check::cache(x, heads, kind, out, row)?;
        if self.arena.is_measuring() {
            return Ok(());
        }
        let rows = row * out.cols()..(row + x.rows()) * out.cols();
        cache::cache(self, Mat::new(x)?, heads, kind, &mut out.buffer_mut()[rows]);
        Ok(())
    }

    fn attention_cached(
        &self,
        q: View<Cpu>,
        k: View<Cpu>,
        v: View<Cpu>,
        kind: CacheType,
        attention: &Attention,
    ) -> Result<Matrix<Cpu>> {
        let d = check::attention_cached(q, k, v, kind, attention)?;
        let scratch = attention::scratch(self, [q.rows(), k.rows()], [d, d], kind, attention);
        self.matrix("attention_cached", [q.rows(), q.cols()], scratch, |out, scratch| {
            let held = |x| Mat::new(x).map(|mat| Held { mat, kind, d });
            attention::attention(self, Mat::new(q)?, held(k)?, held(v)?, attention, scratch, out);
            Ok(())
        })
    }

    fn rope(&self, x: View<Cpu>, heads: usize, first: usize, frequencies: &[f32]) -> Result<Matrix<Cpu>> {
        check::rope(x, heads, frequencies.len())?;
        let scratch = rope::scratch(self, frequencies.len());
        self.matrix("rope", [x.rows(), x.cols()], scratch, |out, scratch| {
            rope::rope(self, Mat::new(x)?, heads, first, frequencies, scratch, out);
            Ok(())
        })
    }

    fn resize(&self, x: View<Cpu>, from: Grid, to: Grid, resize: Resize) -> Result<Matrix<Cpu>> {
        let rows = check::resize(x, from, to)?;
        self.matrix("resize", [rows, x.cols()], resize::scratch(to), |out, scratch| {
            resize::resize(self, Mat::new(x)?, from, to, resize, scratch, out);
            Ok(())
        })
    }

    fn select_token(&self, logits: View<Cpu>, select: &mut SelectToken) -> Result<Selected> {
        select::on_host(self, logits, select)
    }
}
