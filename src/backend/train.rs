//! What a backend adds to train: the backward pass of every forward operation that a transformer needs, and the update
//! of parameters.
//!
//! The forward pass of training is [`Backend`] itself, so a trained model computes what inference computes, bit for bit.
//! A backward pass takes the operands of its forward namesake and `gradient`, the derivative of the loss by that
//! operation's output. Contract, beside that of [`Backend`]:
//! - the derivative by an activation is **returned**, written whole;
//! - the derivative by a parameter is **added** to a matrix of the caller, so that gradients accumulate over parts of a
//!   batch; each operation says which;
//! - sums over rows run in splits that depend on the operands' shapes only: the same bits for any number of threads;
//! - the definition is the namesake in `crate::reference`, which the tests hold against finite differences.
#![forbid(unsafe_code)]

use alloc::vec::Vec;

use super::{Activation, Attention, Backend, Matrix, View, Weight};
use crate::error::Result;

/// Derivatives by the three operands of [`Backend::attention`].
pub struct AttentionGradients<B: Backend> {
    /// Shape of `q`.
    pub q: Matrix<B>,
    /// Shape of `k`.
    pub k: Matrix<B>,
    /// Shape of `v`.
    pub v: Matrix<B>,
}

/// The parameters of `out = residual + scale * (x weight^T + bias)`.
pub struct LinearParameters<'a, B: Backend> {
    /// `[n, k, ...]`
    pub weight: &'a Weight<B>,
    /// `[n]`
    pub bias: Option<&'a Weight<B>>,
    /// LayerScale `[n]`.
    pub scale: Option<&'a Weight<B>>,
}

/// Sums of derivatives by [`LinearParameters`]; each is added to. `bias` and `scale` are there where the parameter is.
pub struct LinearGradients<'a, B: Backend> {
    /// `n x k`
    pub weight: &'a mut Matrix<B>,
    /// `1 x n`
    pub bias: Option<&'a mut Matrix<B>>,
    /// `1 x n`
    pub scale: Option<&'a mut Matrix<B>>,
}

/// Sums of derivatives by the parameters of [`Backend::layer_norm`]; both are added to.
pub struct NormGradients<'a, B: Backend> {
    /// `1 x cols / parts`
    pub weight: &'a mut Matrix<B>,
    /// `1 x cols / parts`
    pub bias: &'a mut Matrix<B>,
}

/// One update of [`Train::adamw`] (Loshchilov and Hutter, arXiv 1711.05101).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamwStep {
    /// Learning rate.
    pub rate: f64,
    /// Decay of the two moments.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Weight decay, times the rate.
    pub decay: f64,
    /// Number of this update, from 1; corrects the bias of the moments.
    pub step: u64,
    /// Factor on the gradient before anything else (clipping).
    pub factor: f32,
}

/// A backend that trains.
pub trait Train: Backend {
    /// A parameter of `shape` with the values `data`, row-major, kept as `f32`.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) where `data` has another length; as [`Backend::store`].
    fn parameter(&self, shape: &[usize], data: &[f32]) -> Result<Weight<Self>>;

    /// Returns `gradient * activation'(x)`; [`Activation::Relu`] has slope 0 at 0.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape).
    fn activate_backward(
        &self,
        x: View<Self>,
        activation: Activation,
        gradient: View<Self>,
    ) -> Result<Matrix<Self>>;

    /// [`Backend::add`] by its second operand: **adds** to `b[j]` the rows `gradient[i]` with `i mod b.rows = j`. By its
    /// first operand the derivative is `gradient` itself.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape).
    fn add_backward(&self, gradient: View<Self>, b: &mut Matrix<Self>) -> Result<()>;

    /// [`Backend::linear`] by `x`: **returns** `(gradient * scale) weight`, `[rows, k]`. An activation between the product
    /// and the scale is a step of its own ([`Train::activate_backward`]); by the residual the derivative is `gradient`.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape).
    fn linear_backward(
        &self,
        weight: &Weight<Self>,
        scale: Option<&Weight<Self>>,
        gradient: View<Self>,
    ) -> Result<Matrix<Self>>;

    /// [`Backend::linear`] by its parameters. With `G = gradient^T x` and `g` the sum of the rows of `gradient`, **adds**
    /// `scale * G` to the weight's, `scale * g` to the bias's and `sum_k G[n, k] weight[n, k] + g[n] bias[n]` to the
    /// scale's gradients (the output before the scale is not needed).
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape), also where a parameter has no gradient or a gradient no parameter.
    fn linear_gradients(
        &self,
        x: View<Self>,
        layer: LinearParameters<Self>,
        gradient: View<Self>,
        into: LinearGradients<Self>,
    ) -> Result<()>;

    /// [`Backend::layer_norm`] by `x`, plus `residual`: **returns**, with `z` the normed run and `g = gradient * weight`,
    /// `residual + (g - mean(g) - z mean(g z)) / sqrt(variance + eps)`. **Adds** the sums over runs of `gradient * z` and of
    /// `gradient` to `into`.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape).
    #[allow(clippy::too_many_arguments)]
    fn layer_norm_backward(
        &self,
        x: View<Self>,
        parts: usize,
        weight: Option<&Weight<Self>>,
        eps: f32,
        gradient: View<Self>,
        residual: Option<View<Self>>,
        into: Option<NormGradients<Self>>,
    ) -> Result<Matrix<Self>>;

    /// [`Backend::attention`]: **returns** the derivatives by all three operands. A key that a query may not attend to has
    /// probability 0; unlike in the forward pass its numbers must be finite.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape).
    fn attention_backward(
        &self,
        q: View<Self>,
        k: View<Self>,
        v: View<Self>,
        attention: &Attention,
        gradient: View<Self>,
    ) -> Result<AttentionGradients<Self>>;

    /// [`Backend::attention`] of sequences: every run of `tokens` rows, the same rows of all operands, by itself.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape), also where `tokens` does not divide the rows.
    fn attention_each(
        &self,
        q: View<Self>,
        k: View<Self>,
        v: View<Self>,
        attention: &Attention,
        tokens: usize,
    ) -> Result<Matrix<Self>>;

    /// [`Train::attention_each`]: **returns** the derivatives by `q`, `k` and `v` side by side,
    /// `[rows, q.cols + k.cols + v.cols]`; otherwise as [`Train::attention_backward`].
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape), also where `tokens` does not divide the rows.
    fn attention_each_backward(
        &self,
        q: View<Self>,
        k: View<Self>,
        v: View<Self>,
        attention: &Attention,
        tokens: usize,
        gradient: View<Self>,
    ) -> Result<Matrix<Self>>;

    /// Calls `work` for every item and gives the results in the order of the items. Calls may run at the same time, each with
    /// a backend that has a share of this one's threads; their number changes no bit of what operations compute.
    ///
    /// # Errors
    /// The first error in the order of the items.
    fn side_by_side<T: Send, R: Send>(
        &self,
        items: Vec<T>,
        work: impl Fn(&Self, T) -> Result<R> + Sync,
    ) -> Result<Vec<R>> {
        items.into_iter().map(|item| work(self, item)).collect()
    }

    /// `out[i] = factors[i] * x[rows[i]]`: rows repeated, masked, or both. A factor of 0 gives zeros whatever the row holds.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) where a row does not exist or the lengths differ.
    fn gather_scaled(&self, x: View<Self>, rows: &[usize], factors: &[f32]) -> Result<Matrix<Self>>;

    /// [`Train::gather_scaled`] by `x`, which has `count` rows: **returns** at row `j` the sum of
    /// `factors[i] * gradient[i]` over the `i` with `rows[i] = j`, in ascending order; rows never taken get 0.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape).
    fn gather_scaled_backward(
        &self,
        gradient: View<Self>,
        rows: &[usize],
        factors: &[f32],
        count: usize,
    ) -> Result<Matrix<Self>>;

    /// Sum of the squares of all elements.
    ///
    /// # Errors
    /// Device errors only.
    fn sum_of_squares(&self, x: View<Self>) -> Result<f64>;

    /// One AdamW update as PyTorch orders it. **Overwrites** `weight`, `first` (mean of gradients) and `second` (mean of
    /// squared gradients); copies of the weight's handle keep the old values. All have as many elements as `gradient`.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape); as [`Train::parameter`].
    fn adamw(
        &self,
        weight: &mut Weight<Self>,
        gradient: View<Self>,
        first: &mut Matrix<Self>,
        second: &mut Matrix<Self>,
        step: &AdamwStep,
    ) -> Result<()>;

    /// **Overwrites** `weight` with `weight + amount * (to - weight)`.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape); as [`Train::parameter`].
    fn lerp(&self, weight: &mut Weight<Self>, to: &Weight<Self>, amount: f32) -> Result<()>;
}
