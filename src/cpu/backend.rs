//! `impl Backend for Cpu`: check the shapes, allocate the output, run the operation.
#![forbid(unsafe_code)]

use alloc::vec::Vec;

use super::Cpu;
use super::conv2d::Windows;
use super::finish::Finish;
use super::mat::{Elements, Mat};
use super::product::{Right, product};
use super::{
    activate, add, attention, conv2d, depthwise, embedding, group_norm, layer_norm, resize, rms_norm, rope,
};
use crate::backend::{
    Activation, Attention, Backend, Conv, Epilogue, Grid, Matrix, Resize, View, Weight, check,
};
use crate::checked::Size;
use crate::error::{Error, Result};
use crate::weights::Tensor;

impl Cpu {
    /// Room for `rows * cols` elements: zeros, or NaN and a canary where the backend is poisoned.
    pub(super) fn allocate(&self, rows: usize, cols: usize) -> Result<Vec<f32>> {
        let (start, canary) = if self.poison { (f32::NAN, Cpu::CANARY) } else { (0.0, 0) };
        let len = Size::product(&[rows, cols])?.plus(canary)?;
        let bytes = len.times(size_of::<f32>())?.get() as u64;
        let mut buffer = Vec::new();
        buffer.try_reserve_exact(len.get()).map_err(|_| Error::Memory { bytes })?;
        buffer.resize(len.get(), start);
        Ok(buffer)
    }

    /// A new matrix whose elements `fill` writes.
    pub(super) fn matrix(
        &self,
        rows: usize,
        cols: usize,
        fill: impl FnOnce(&mut [f32]) -> Result<()>,
    ) -> Result<Matrix<Cpu>> {
        let mut buffer = self.allocate(rows, cols)?;
        fill(&mut buffer[..rows * cols])?;
        Ok(Matrix::from_buffer(buffer, rows, cols))
    }

    /// The elements of an optional vector.
    pub(super) fn vector(&self, weight: Option<&Weight<Cpu>>) -> Result<Option<Vec<f32>>> {
        weight.map(|weight| Ok(Elements::new(weight)?.to_vec(self.isa))).transpose()
    }
}

impl Backend for Cpu {
    type Buffer = Vec<f32>;
    type Stored = Tensor;

    fn store(&self, tensor: &Tensor) -> Result<Tensor> {
        Ok(tensor.clone())
    }

    fn zeros(&self, rows: usize, cols: usize) -> Result<Matrix<Cpu>> {
        self.matrix(rows, cols, |out| {
            out.fill(0.0);
            Ok(())
        })
    }

    fn upload(&self, rows: usize, cols: usize, data: &[f32]) -> Result<Matrix<Cpu>> {
        check::upload(rows, cols, data.len())?;
        self.matrix(rows, cols, |out| {
            out.copy_from_slice(data);
            Ok(())
        })
    }

    fn download(&self, x: View<Cpu>) -> Result<Vec<f32>> {
        let x = Mat::new(x)?;
        let len = Size::product(&[x.rows, x.cols])?;
        let bytes = len.times(size_of::<f32>())?.get() as u64;
        let mut data = Vec::new();
        data.try_reserve_exact(len.get()).map_err(|_| Error::Memory { bytes })?;
        x.iter().for_each(|row| data.extend_from_slice(row));
        Ok(data)
    }

    fn read(&self, weight: &Weight<Cpu>, rows: usize, cols: usize) -> Result<Matrix<Cpu>> {
        check::read(weight, rows, cols)?;
        let elements = Elements::new(weight)?;
        self.matrix(rows, cols, |out| {
            embedding::read(self, elements, out);
            Ok(())
        })
    }

    fn copy(&self, x: View<Cpu>, out: &mut Matrix<Cpu>, row: usize, col: usize) -> Result<()> {
        check::copy(x, out, row, col)?;
        let x = Mat::new(x)?;
        let cols = out.cols();
        let start = row * cols + col;
        if x.rows == 0 || x.cols == 0 {
            return Ok(());
        }
        let buffer = out.buffer_mut();
        for (i, from) in x.iter().enumerate() {
            buffer[start + i * cols..][..x.cols].copy_from_slice(from);
        }
        Ok(())
    }

    fn is_finite(&self, x: View<Cpu>) -> Result<bool> {
        // A product with 0 is 0 exactly for finite numbers, so the sum needs no branch.
        Ok(Mat::new(x)?.iter().all(|row| row.iter().fold(0.0, |sum, x| sum + x * 0.0) == 0.0))
    }

    fn gather(&self, x: View<Cpu>, rows: &[usize]) -> Result<Matrix<Cpu>> {
        check::gather(x, rows)?;
        let x = Mat::new(x)?;
        self.matrix(rows.len(), x.cols, |out| {
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
        self.matrix(ids.len(), cols, |out| {
            embedding::embedding(self, elements, ids, cols, out);
            Ok(())
        })
    }

    fn add(&self, a: View<Cpu>, b: View<Cpu>) -> Result<Matrix<Cpu>> {
        check::add(a, b)?;
        let (a, b) = (Mat::new(a)?, Mat::new(b)?);
        self.matrix(a.rows, a.cols, |out| {
            add::add(self, a, b, out);
            Ok(())
        })
    }

    fn activate(&self, x: View<Cpu>, activation: Activation) -> Result<Matrix<Cpu>> {
        let x = Mat::new(x)?;
        self.matrix(x.rows, x.cols, |out| {
            activate::activate(self, x, None, activation, out);
            Ok(())
        })
    }

    fn gated(&self, gate: View<Cpu>, up: View<Cpu>, activation: Activation) -> Result<Matrix<Cpu>> {
        check::gated(gate, up)?;
        let (gate, up) = (Mat::new(gate)?, Mat::new(up)?);
        self.matrix(gate.rows, gate.cols, |out| {
            activate::activate(self, gate, Some(up), activation, out);
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
        let (x, elements) = (Mat::new(x)?, Elements::new(weight)?);
        let finish = Finish::new(self.isa, bias, &epilogue)?;
        self.matrix(x.rows, n, |out| product(self, &x, Right::Weight(elements), n, &finish, out))
    }

    fn matmul(&self, a: View<Cpu>, b: View<Cpu>, transpose_b: bool) -> Result<Matrix<Cpu>> {
        let n = check::matmul(a, b, transpose_b)?;
        let (a, b) = (Mat::new(a)?, Mat::new(b)?);
        let right = if transpose_b { Right::Rows(b) } else { Right::Columns(b) };
        self.matrix(a.rows, n, |out| product(self, &a, right, n, &Finish::NONE, out))
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
        let windows = Windows { x: Mat::new(x)?, grid, kernel, conv, output };
        let elements = Elements::new(weight)?;
        let finish = Finish::new(self.isa, bias, &epilogue)?;
        self.matrix(output.cells(), channels, |out| {
            if conv.depthwise {
                depthwise::depthwise(self, &windows, elements, &finish, out);
                return Ok(());
            }
            conv2d::conv2d(self, &windows, elements, channels, &finish, out)
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
        let x = Mat::new(x)?;
        let (weight, bias) = (self.vector(weight)?, self.vector(bias)?);
        self.matrix(x.rows, x.cols, |out| {
            layer_norm::layer_norm(self, x, parts, weight.as_deref(), bias.as_deref(), eps, out);
            Ok(())
        })
    }

    fn rms_norm(&self, x: View<Cpu>, weight: &Weight<Cpu>, eps: f32) -> Result<Matrix<Cpu>> {
        check::rms_norm(x, weight)?;
        let x = Mat::new(x)?;
        let weight = Elements::new(weight)?.to_vec(self.isa);
        self.matrix(x.rows, x.cols, |out| {
            rms_norm::rms_norm(self, x, &weight, eps, out);
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
        let x = Mat::new(x)?;
        let weight = Elements::new(weight)?.to_vec(self.isa);
        let bias = Elements::new(bias)?.to_vec(self.isa);
        self.matrix(x.rows, x.cols, |out| {
            group_norm::group_norm(self, x, groups, &weight, &bias, eps, activation, out);
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
        let (q, k, v) = (Mat::new(q)?, Mat::new(k)?, Mat::new(v)?);
        self.matrix(q.rows, cols, |out| {
            attention::attention(self, q, k, v, attention, out);
            Ok(())
        })
    }

    fn rope(&self, x: View<Cpu>, heads: usize, first: usize, frequencies: &[f32]) -> Result<Matrix<Cpu>> {
        check::rope(x, heads, frequencies.len())?;
        let x = Mat::new(x)?;
        self.matrix(x.rows, x.cols, |out| {
            rope::rope(self, x, heads, first, frequencies, out);
            Ok(())
        })
    }

    fn resize(&self, x: View<Cpu>, from: Grid, to: Grid, resize: Resize) -> Result<Matrix<Cpu>> {
        let rows = check::resize(x, from, to)?;
        let x = Mat::new(x)?;
        self.matrix(rows, x.cols, |out| {
            resize::resize(self, x, from, to, resize, out);
            Ok(())
        })
    }
}
