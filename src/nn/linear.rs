//! The affine map.
#![forbid(unsafe_code)]

use crate::backend::{Backend, Epilogue, Matrix, View, Weight};
use crate::error::Result;
use crate::weights::Loader;

/// `y = x weight^T + bias`: rows of `inputs` numbers to rows of `outputs` numbers.
pub struct Linear<B: Backend> {
    weight: Weight<B>,
    bias: Option<Weight<B>>,
}

impl<B: Backend> Linear<B> {
    /// Loads `weight [outputs, inputs]`, which may be quantised where the loader allows it, and, where `bias` is set, `bias [outputs]`.
    ///
    /// # Errors
    /// [`Error::Tensor`](crate::Error::Tensor) where one is missing or of another shape.
    pub fn load(loader: &Loader<B>, outputs: usize, inputs: usize, bias: bool) -> Result<Linear<B>> {
        Linear::load_as(loader, &[outputs, inputs], bias)
    }

    /// As [`Linear::load`] for a weight with trailing dimensions, such as the `[outputs, inputs, 1, 1]` of a pointwise
    /// convolution; all dimensions after the first count as inputs.
    ///
    /// # Errors
    /// As [`Linear::load`].
    pub fn load_as(loader: &Loader<B>, shape: &[usize], bias: bool) -> Result<Linear<B>> {
        let weight = loader.matrix("weight", shape)?;
        let bias = match (bias, shape.first()) {
            (true, Some(&outputs)) => Some(loader.weight("bias", &[outputs])?),
            _ => None,
        };
        Ok(Linear { weight, bias })
    }

    /// A layer from weights that are loaded already; for names that do not end in `weight` and `bias`.
    pub fn from_parts(weight: Weight<B>, bias: Option<Weight<B>>) -> Linear<B> {
        Linear { weight, bias }
    }

    /// `x [rows, inputs]` to `[rows, outputs]`, then the epilogue.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape).
    pub fn forward(&self, backend: &B, x: View<B>, epilogue: Epilogue<B>) -> Result<Matrix<B>> {
        backend.linear(x, &self.weight, self.bias.as_ref(), epilogue)
    }

    /// Whether the weight is integers with scales.
    pub fn is_quantised(&self) -> bool {
        self.weight.is_quantised()
    }
}
