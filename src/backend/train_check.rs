//! Shape checks of [`Train`](super::Train), one function per operation.
#![forbid(unsafe_code)]

use alloc::format;

use super::check::{attention, ensure, layer_norm, same, vector};
use super::{Attention, Backend, LinearGradients, LinearParameters, Matrix, NormGradients, View, Weight};
use crate::checked::Size;
use crate::error::{Error, Result};

/// [`Train::parameter`](super::Train::parameter).
///
/// # Errors
/// [`Error::Shape`]; [`Error::Limit`] where the shape overflows.
pub fn parameter(shape: &[usize], len: usize) -> Result<()> {
    let elements = Size::product(shape)?.get();
    ensure(elements == len, "parameter.data", || format!("{len} elements for {shape:?}"))
}

/// [`Train::activate_backward`](super::Train::activate_backward).
///
/// # Errors
/// [`Error::Shape`].
pub fn activate_backward<B: Backend>(x: View<B>, gradient: View<B>) -> Result<()> {
    same("activate_backward.gradient", gradient, x.rows(), x.cols())
}

/// [`Train::add_backward`](super::Train::add_backward).
///
/// # Errors
/// [`Error::Shape`].
pub fn add_backward<B: Backend>(gradient: View<B>, b: &Matrix<B>) -> Result<()> {
    let repeats = gradient.rows().is_multiple_of(b.rows());
    ensure(repeats && gradient.cols() == b.cols(), "add_backward.b", || {
        format!("{}x{} for a gradient of {}x{}", b.rows(), b.cols(), gradient.rows(), gradient.cols())
    })
}

/// Outputs and inputs of a stored `[n, k, ...]`.
fn affine<B: Backend>(weight: &Weight<B>) -> Option<(usize, usize)> {
    let (&n, rest) = weight.shape().split_first()?;
    (!rest.is_empty()).then_some(())?;
    Some((n, rest.iter().try_fold(1usize, |k, &dim| k.checked_mul(dim))?))
}

/// [`Train::linear_backward`](super::Train::linear_backward); returns the number of inputs.
///
/// # Errors
/// [`Error::Shape`].
pub fn linear_backward<B: Backend>(
    weight: &Weight<B>,
    scale: Option<&Weight<B>>,
    gradient: View<B>,
) -> Result<usize> {
    let sizes = affine(weight).filter(|&(n, _)| n == gradient.cols());
    let (n, k) = sizes.ok_or_else(|| Error::Shape {
        operand: "linear_backward.weight",
        reason: format!("shape {:?} for {} columns of the gradient", weight.shape(), gradient.cols()),
    })?;
    vector("linear_backward.scale", scale, n)?;
    Ok(k)
}

/// [`Train::linear_gradients`](super::Train::linear_gradients).
///
/// # Errors
/// [`Error::Shape`].
pub fn linear_gradients<B: Backend>(
    x: View<B>,
    layer: &LinearParameters<B>,
    gradient: View<B>,
    into: &LinearGradients<B>,
) -> Result<()> {
    let shape = layer.weight.shape();
    ensure(affine(layer.weight) == Some((gradient.cols(), x.cols())), "linear_gradients.weight", || {
        format!("shape {shape:?} for {} columns of x and {} of the gradient", x.cols(), gradient.cols())
    })?;
    let n = gradient.cols();
    same("linear_gradients.gradient", gradient, x.rows(), n)?;
    same("linear_gradients.into.weight", into.weight.view(), n, x.cols())?;
    let pair = |operand, parameter: Option<&Weight<B>>, sum: Option<View<B>>| {
        ensure(parameter.is_some() == sum.is_some(), operand, || {
            "a parameter without a gradient, or a gradient without a parameter".into()
        })?;
        vector(operand, parameter, n)?;
        sum.map_or(Ok(()), |sum| same(operand, sum, 1, n))
    };
    pair("linear_gradients.into.bias", layer.bias, into.bias.as_ref().map(|sum| sum.view()))?;
    pair("linear_gradients.into.scale", layer.scale, into.scale.as_ref().map(|sum| sum.view()))
}

/// [`Train::layer_norm_backward`](super::Train::layer_norm_backward).
///
/// # Errors
/// [`Error::Shape`].
pub fn layer_norm_backward<B: Backend>(
    x: View<B>,
    parts: usize,
    weight: Option<&Weight<B>>,
    gradient: View<B>,
    residual: Option<View<B>>,
    into: Option<&NormGradients<B>>,
) -> Result<()> {
    layer_norm(x, parts, weight, None)?;
    same("layer_norm_backward.gradient", gradient, x.rows(), x.cols())?;
    if let Some(residual) = residual {
        same("layer_norm_backward.residual", residual, x.rows(), x.cols())?;
    }
    into.map_or(Ok(()), |into| {
        let width = x.cols() / parts;
        same("layer_norm_backward.into.weight", into.weight.view(), 1, width)?;
        same("layer_norm_backward.into.bias", into.bias.view(), 1, width)
    })
}

/// [`Train::attention_backward`](super::Train::attention_backward).
///
/// # Errors
/// [`Error::Shape`].
pub fn attention_backward<B: Backend>(
    q: View<B>,
    k: View<B>,
    v: View<B>,
    parameters: &Attention,
    gradient: View<B>,
) -> Result<()> {
    let cols = attention(q, k, v, parameters)?;
    same("attention_backward.gradient", gradient, q.rows(), cols)
}

/// [`Train::attention_each`](super::Train::attention_each); returns the number of columns of all operands together.
///
/// # Errors
/// [`Error::Shape`].
pub fn attention_each<B: Backend>(
    q: View<B>,
    k: View<B>,
    v: View<B>,
    parameters: &Attention,
    tokens: usize,
) -> Result<usize> {
    attention(q, k, v, parameters)?;
    ensure(k.rows() == q.rows(), "attention_each.k", || format!("{} rows for {}", k.rows(), q.rows()))?;
    ensure(tokens > 0 && q.rows().is_multiple_of(tokens), "attention_each.tokens", || {
        format!("{tokens} do not divide {} rows", q.rows())
    })?;
    Ok(Size::new(q.cols()).plus(k.cols())?.plus(v.cols())?.get())
}

/// [`Train::gather_scaled`](super::Train::gather_scaled) from `count` rows.
///
/// # Errors
/// [`Error::Shape`].
pub fn gather_scaled(count: usize, rows: &[usize], factors: &[f32]) -> Result<()> {
    ensure(rows.len() == factors.len(), "gather_scaled.factors", || {
        format!("{} factors for {} rows", factors.len(), rows.len())
    })?;
    let beyond = rows.iter().find(|&&row| row >= count);
    beyond.map_or(Ok(()), |row| ensure(false, "gather_scaled.rows", || format!("row {row} of {count}")))
}

/// [`Train::gather_scaled_backward`](super::Train::gather_scaled_backward).
///
/// # Errors
/// [`Error::Shape`].
pub fn gather_scaled_backward<B: Backend>(
    gradient: View<B>,
    rows: &[usize],
    factors: &[f32],
    count: usize,
) -> Result<()> {
    gather_scaled(count, rows, factors)?;
    ensure(gradient.rows() == rows.len(), "gather_scaled_backward.gradient", || {
        format!("{} rows for {} gathered", gradient.rows(), rows.len())
    })
}

/// [`Train::adamw`](super::Train::adamw).
///
/// # Errors
/// [`Error::Shape`].
pub fn adamw<B: Backend>(
    weight: &Weight<B>,
    gradient: View<B>,
    first: &Matrix<B>,
    second: &Matrix<B>,
) -> Result<()> {
    let elements = Size::product(&[gradient.rows(), gradient.cols()])?.get();
    vector("adamw.weight", Some(weight), elements)?;
    same("adamw.first", first.view(), gradient.rows(), gradient.cols())?;
    same("adamw.second", second.view(), gradient.rows(), gradient.cols())
}

/// [`Train::lerp`](super::Train::lerp).
///
/// # Errors
/// [`Error::Shape`].
pub fn lerp<B: Backend>(weight: &Weight<B>, to: &Weight<B>) -> Result<()> {
    ensure(weight.shape() == to.shape(), "lerp.to", || {
        format!("shape {:?} towards {:?}", weight.shape(), to.shape())
    })
}
