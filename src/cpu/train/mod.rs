//! `impl Train for Cpu`: check the shapes, allocate what is returned, run the operation.
//!
//! Sums over rows are cut into runs of a fixed number of rows whose sums are added in order, so the number of threads
//! never changes a bit.
#![forbid(unsafe_code)]

mod activate_backward;
mod adamw;
mod add_backward;
mod attention_backward;
mod attention_each;
mod gather_scaled;
mod layer_norm_backward;
mod linear_backward;
mod outer;
mod sums;
mod turn;

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use super::Cpu;
use super::embedding;
use super::mat::{Elements, Mat};
use super::product;
use super::threads::Threads;
use crate::backend::{
    Activation, AdamwStep, Attention, AttentionGradients, LinearGradients, LinearParameters, Matrix,
    NormGradients, Train, View, Weight, train_check as check,
};
use crate::cpu::Stored;
use crate::error::{Error, Result};
use crate::weights::{Dtype, Tensor};

/// Numbers in a tensor's storage.
struct Floats(Vec<f32>);

impl AsRef<[u8]> for Floats {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

impl Cpu {
    /// A weight that owns its numbers.
    fn weight(&self, shape: &[usize], values: Vec<f32>) -> Result<Weight<Cpu>> {
        let bytes = values.len() * size_of::<f32>();
        let tensor =
            Tensor::new("parameter".into(), Dtype::F32, shape.to_vec(), Arc::new(Floats(values)), 0..bytes)?;
        Ok(Weight::new(Stored::Tensor(tensor), shape))
    }

    /// The elements of an optional vector.
    fn vector(&self, weight: Option<&Weight<Cpu>>) -> Result<Option<Vec<f32>>> {
        weight.map(|weight| self.values(weight)).transpose()
    }

    /// A copy of a weight's numbers.
    fn values(&self, weight: &Weight<Cpu>) -> Result<Vec<f32>> {
        let elements = Elements::new(weight)?;
        let mut values = self.reserve(weight.elements())?;
        embedding::read(self, elements, &mut values);
        Ok(values)
    }

    /// `len` zeros.
    fn reserve(&self, len: usize) -> Result<Vec<f32>> {
        let mut values = Vec::new();
        let bytes = (len as u64).saturating_mul(size_of::<f32>() as u64);
        values.try_reserve_exact(len).map_err(|_| Error::Memory { what: "parameter", bytes, left: None })?;
        values.resize(len, 0.0);
        Ok(values)
    }
}

/// The elements of a matrix without what a poisoned backend puts behind them.
fn elements(matrix: &mut Matrix<Cpu>) -> &mut [f32] {
    let len = matrix.rows() * matrix.cols();
    &mut matrix.buffer_mut()[..len]
}

/// The rows of a matrix.
fn rows(matrix: &mut Matrix<Cpu>) -> Vec<&mut [f32]> {
    let cols = matrix.cols().max(1);
    elements(matrix).chunks_mut(cols).collect()
}

impl Train for Cpu {
    fn parameter(&self, shape: &[usize], data: &[f32]) -> Result<Weight<Cpu>> {
        check::parameter(shape, data.len())?;
        let mut values = self.reserve(data.len())?;
        values.copy_from_slice(data);
        self.weight(shape, values)
    }

    fn activate_backward(
        &self,
        x: View<Cpu>,
        activation: Activation,
        gradient: View<Cpu>,
    ) -> Result<Matrix<Cpu>> {
        check::activate_backward(x, gradient)?;
        let (x, gradient) = (Mat::new(x)?, Mat::new(gradient)?);
        self.matrix("activate_backward", [x.rows, x.cols], 0, |out, _| {
            activate_backward::activate_backward(self, x, activation, gradient, out);
            Ok(())
        })
    }

    fn add_backward(&self, gradient: View<Cpu>, b: &mut Matrix<Cpu>) -> Result<()> {
        check::add_backward(gradient, b)?;
        let rows = b.rows();
        add_backward::add_backward(self, Mat::new(gradient)?, rows, elements(b));
        Ok(())
    }

    fn linear_backward(
        &self,
        weight: &Weight<Cpu>,
        scale: Option<&Weight<Cpu>>,
        gradient: View<Cpu>,
    ) -> Result<Matrix<Cpu>> {
        let k = check::linear_backward(weight, scale, gradient)?;
        let (gradient, weight, scale) = (Mat::new(gradient)?, Elements::new(weight)?, self.vector(scale)?);
        let scratch = product::scratch(self, gradient.rows, gradient.cols, k);
        self.matrix("linear_backward", [gradient.rows, k], scratch, |out, scratch| {
            linear_backward::linear_backward(self, weight, scale.as_deref(), gradient, k, scratch, out);
            Ok(())
        })
    }

    fn linear_gradients(
        &self,
        x: View<Cpu>,
        layer: LinearParameters<Cpu>,
        gradient: View<Cpu>,
        into: LinearGradients<Cpu>,
    ) -> Result<()> {
        check::linear_gradients(x, &layer, gradient, &into)?;
        let (x, gradient) = (Mat::new(x)?, Mat::new(gradient)?);
        let weight_sum = elements(into.weight);
        let (Some(scale), Some(scale_sum)) = (self.vector(layer.scale)?, into.scale) else {
            outer::outer(self, gradient, x, true, weight_sum)?;
            if let Some(bias_sum) = into.bias {
                add_backward::add_backward(self, gradient, 1, elements(bias_sum));
            }
            return Ok(());
        };
        let bias = self.vector(layer.bias)?;
        let scaled = linear_backward::Scaled {
            weight: Elements::new(layer.weight)?,
            bias: bias.as_deref().zip(into.bias.map(elements)),
            scale: &scale,
            scale_sum: elements(scale_sum),
        };
        linear_backward::scaled_gradients(self, x, gradient, scaled, weight_sum)
    }

    fn layer_norm_backward(
        &self,
        x: View<Cpu>,
        parts: usize,
        weight: Option<&Weight<Cpu>>,
        eps: f32,
        gradient: View<Cpu>,
        residual: Option<View<Cpu>>,
        into: Option<NormGradients<Cpu>>,
    ) -> Result<Matrix<Cpu>> {
        check::layer_norm_backward(x, parts, weight, gradient, residual, into.as_ref())?;
        let (x, gradient) = (Mat::new(x)?, Mat::new(gradient)?);
        let weight = self.vector(weight)?;
        let norm = layer_norm_backward::Norm {
            x,
            part: x.cols / parts,
            weight: weight.as_deref(),
            eps,
            gradient,
            residual: residual.map(Mat::new).transpose()?,
        };
        let into = into.map(|into| [elements(into.weight), elements(into.bias)]);
        self.matrix("layer_norm_backward", [x.rows, x.cols], 0, |out, _| {
            layer_norm_backward::layer_norm_backward(self, &norm, into, out)
        })
    }

    fn attention_backward(
        &self,
        q: View<Cpu>,
        k: View<Cpu>,
        v: View<Cpu>,
        attention: &Attention,
        gradient: View<Cpu>,
    ) -> Result<AttentionGradients<Cpu>> {
        check::attention_backward(q, k, v, attention, gradient)?;
        let (q, k, v, gradient) = (Mat::new(q)?, Mat::new(k)?, Mat::new(v)?, Mat::new(gradient)?);
        let empty = |x: Mat| self.matrix("attention_backward", [x.rows, x.cols], 0, |_, _| Ok(()));
        let mut gradients = AttentionGradients { q: empty(q)?, k: empty(k)?, v: empty(v)? };
        let AttentionGradients { q: by_q, k: by_k, v: by_v } = &mut gradients;
        let out = [rows(by_q), rows(by_k), rows(by_v)];
        let sequence = attention_backward::Sequence { operands: [q, k, v, gradient], out };
        attention_backward::attention_backward(self, attention, vec![sequence]);
        Ok(gradients)
    }

    fn attention_each(
        &self,
        q: View<Cpu>,
        k: View<Cpu>,
        v: View<Cpu>,
        attention: &Attention,
        tokens: usize,
    ) -> Result<Matrix<Cpu>> {
        check::attention_each(q, k, v, attention, tokens)?;
        attention_each::attention_each(self, [q, k, v], attention, tokens)
    }

    fn attention_each_backward(
        &self,
        q: View<Cpu>,
        k: View<Cpu>,
        v: View<Cpu>,
        attention: &Attention,
        tokens: usize,
        gradient: View<Cpu>,
    ) -> Result<Matrix<Cpu>> {
        let cols = check::attention_each(q, k, v, attention, tokens)?;
        check::attention_backward(q, k, v, attention, gradient)?;
        let sequences = attention_each::sequences([q, k, v, gradient], tokens)?;
        self.matrix("attention_backward", [q.rows(), cols], 0, |out, _| {
            let mut rows = out.chunks_exact_mut(cols.max(1));
            let mut ready = Vec::with_capacity(sequences.len());
            for operands in sequences {
                let mut out = [Vec::new(), Vec::new(), Vec::new()];
                for row in rows.by_ref().take(tokens) {
                    let (by_q, row) = row.split_at_mut(operands[0].cols);
                    let (by_k, by_v) = row.split_at_mut(operands[1].cols);
                    let [q, k, v] = &mut out;
                    q.push(by_q);
                    k.push(by_k);
                    v.push(by_v);
                }
                ready.push(attention_backward::Sequence { operands, out });
            }
            attention_backward::attention_backward(self, attention, ready);
            Ok(())
        })
    }

    fn side_by_side<T: Send, R: Send>(
        &self,
        items: Vec<T>,
        work: impl Fn(&Cpu, T) -> Result<R> + Sync,
    ) -> Result<Vec<R>> {
        /// Items a thread, at least, so that the last ones leave nobody idle for long.
        const ITEMS: usize = 4;
        let workers = self.threads.workers();
        if workers == 1 || items.len() < ITEMS * workers {
            return items.into_iter().map(|item| work(self, item)).collect();
        }
        let alone = Cpu { threads: Threads::new(1), ..self.clone() };
        let mut results: Vec<Option<Result<R>>> = items.iter().map(|_| None).collect();
        let items = items.into_iter().zip(&mut results).collect();
        self.threads.each(
            usize::MAX,
            items,
            || (),
            |(), (item, result): (T, &mut Option<Result<R>>)| *result = Some(work(&alone, item)),
        );
        results.into_iter().flatten().collect()
    }

    fn gather_scaled(&self, x: View<Cpu>, rows: &[usize], factors: &[f32]) -> Result<Matrix<Cpu>> {
        check::gather_scaled(x.rows(), rows, factors)?;
        let x = Mat::new(x)?;
        self.matrix("gather_scaled", [rows.len(), x.cols], 0, |out, _| {
            gather_scaled::gather_scaled(self, x, rows, factors, out);
            Ok(())
        })
    }

    fn gather_scaled_backward(
        &self,
        gradient: View<Cpu>,
        rows: &[usize],
        factors: &[f32],
        count: usize,
    ) -> Result<Matrix<Cpu>> {
        check::gather_scaled_backward(gradient, rows, factors, count)?;
        let gradient = Mat::new(gradient)?;
        self.matrix("gather_scaled_backward", [count, gradient.cols], 0, |out, _| {
            gather_scaled::gather_scaled_backward(self, gradient, rows, factors, out);
            Ok(())
        })
    }

    fn sum_of_squares(&self, x: View<Cpu>) -> Result<f64> {
        Ok(sums::sum_of_squares(self, Mat::new(x)?))
    }

    fn adamw(
        &self,
        weight: &mut Weight<Cpu>,
        gradient: View<Cpu>,
        first: &mut Matrix<Cpu>,
        second: &mut Matrix<Cpu>,
        step: &AdamwStep,
    ) -> Result<()> {
        check::adamw(weight, gradient, first, second)?;
        let mut values = self.reserve(weight.elements())?;
        let (gradient, moments) = (Mat::new(gradient)?, [elements(first), elements(second)]);
        let stored = Elements::new(weight)?;
        match bytemuck::try_cast_slice(stored.bytes) {
            Ok(old) if stored.dtype == Dtype::F32 => {
                adamw::adamw(self, old, &mut values, gradient, moments, step);
            }
            _ => adamw::adamw(self, &self.values(weight)?, &mut values, gradient, moments, step),
        }
        *weight = self.weight(weight.shape(), values)?;
        Ok(())
    }

    fn lerp(&self, weight: &mut Weight<Cpu>, to: &Weight<Cpu>, amount: f32) -> Result<()> {
        check::lerp(weight, to)?;
        let mut values = self.values(weight)?;
        adamw::lerp(self, &mut values, &self.values(to)?, amount);
        *weight = self.weight(weight.shape(), values)?;
        Ok(())
    }
}
