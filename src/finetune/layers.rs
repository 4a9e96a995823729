//! Linear layers and norms over [`Parameters`]: forward, and backward into [`Gradients`].
#![forbid(unsafe_code)]

use super::builder::{Builder, Init};
use super::parameters::{Gradients, Id, Parameters};
use crate::backend::{Activation, Epilogue, LinearParameters, Matrix, Train, View};
use crate::error::Result;

/// `out = residual + scale * (x weight^T + bias)`
#[derive(Clone, Copy)]
pub(super) struct Linear {
    weight: Id,
    bias: Option<Id>,
    scale: Option<Id>,
}

impl Linear {
    /// `weight [outputs, inputs, ...]` and, where wanted, `bias [outputs]`; fresh ones uniform within the root of the inverse
    /// of the number of inputs, as PyTorch's `nn.Linear`.
    pub(super) fn build<B: Train>(builder: &mut Builder<B>, shape: &[usize], bias: bool) -> Result<Linear> {
        let inputs: usize = shape.iter().skip(1).product();
        let init = Init::Uniform(1.0 / libm::sqrt(inputs.max(1) as f64));
        Linear::build_as(builder, shape, bias, init)
    }

    /// As [`Linear::build`], zeros where fresh.
    pub(super) fn build_zero<B: Train>(builder: &mut Builder<B>, shape: &[usize]) -> Result<Linear> {
        Linear::build_as(builder, shape, true, Init::Constant(0.0))
    }

    fn build_as<B: Train>(
        builder: &mut Builder<B>,
        shape: &[usize],
        bias: bool,
        init: Init,
    ) -> Result<Linear> {
        let weight = builder.matrix("weight", shape, init)?;
        let outputs = shape.first().copied().unwrap_or(0);
        let bias = if bias { Some(builder.other("bias", &[outputs], 1, init)?) } else { None };
        Ok(Linear { weight, bias, scale: None })
    }

    /// The layer with a LayerScale.
    pub(super) fn scaled(self, scale: Option<Id>) -> Linear {
        Linear { scale, ..self }
    }

    /// `x [rows, inputs]` to `[rows, outputs]`; a layer with a scale has a residual.
    pub(super) fn forward<B: Train>(
        &self,
        backend: &B,
        parameters: &Parameters<B>,
        x: View<B>,
        residual: Option<View<B>>,
    ) -> Result<Matrix<B>> {
        let of = |id: Option<Id>| id.map(|id| parameters.get(id)).transpose();
        let epilogue = Epilogue { activation: Activation::Identity, scale: of(self.scale)?, residual };
        backend.linear(x, parameters.get(self.weight)?, of(self.bias)?, epilogue)
    }

    /// Adds to the gradients of the parameters.
    pub(super) fn learn<B: Train>(
        &self,
        backend: &B,
        parameters: &Parameters<B>,
        gradients: &mut Gradients<B>,
        x: View<B>,
        gradient: View<B>,
    ) -> Result<()> {
        let of = |id: Option<Id>| id.map(|id| parameters.get(id)).transpose();
        let layer = LinearParameters {
            weight: parameters.get(self.weight)?,
            bias: of(self.bias)?,
            scale: of(self.scale)?,
        };
        backend.linear_gradients(x, layer, gradient, gradients.linear(self.weight, self.bias, self.scale)?)
    }

    /// [`Linear::learn`], then the derivative by `x`.
    pub(super) fn backward<B: Train>(
        &self,
        backend: &B,
        parameters: &Parameters<B>,
        gradients: &mut Gradients<B>,
        x: View<B>,
        gradient: View<B>,
    ) -> Result<Matrix<B>> {
        self.learn(backend, parameters, gradients, x, gradient)?;
        let scale = self.scale.map(|id| parameters.get(id)).transpose()?;
        backend.linear_backward(parameters.get(self.weight)?, scale, gradient)
    }
}

/// A layer norm.
#[derive(Clone, Copy)]
pub(super) struct Norm {
    weight: Id,
    bias: Id,
    eps: f32,
}

impl Norm {
    /// `weight` and `bias` of `cols` numbers; fresh ones 1 and 0.
    pub(super) fn build<B: Train>(builder: &mut Builder<B>, cols: usize, eps: f32) -> Result<Norm> {
        let weight = builder.other("weight", &[cols], 1, Init::Constant(1.0))?;
        Ok(Norm { weight, bias: builder.other("bias", &[cols], 1, Init::Constant(0.0))?, eps })
    }

    /// Every row's `parts` runs, each normed on its own.
    pub(super) fn forward<B: Train>(
        &self,
        backend: &B,
        parameters: &Parameters<B>,
        x: View<B>,
        parts: usize,
    ) -> Result<Matrix<B>> {
        let (weight, bias) = (parameters.get(self.weight)?, parameters.get(self.bias)?);
        backend.layer_norm(x, parts, Some(weight), Some(bias), self.eps)
    }

    /// The derivative by `x`, plus `residual`.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn backward<B: Train>(
        &self,
        backend: &B,
        parameters: &Parameters<B>,
        gradients: &mut Gradients<B>,
        x: View<B>,
        parts: usize,
        gradient: View<B>,
        residual: Option<View<B>>,
    ) -> Result<Matrix<B>> {
        let weight = parameters.get(self.weight)?;
        let into = gradients.norm(self.weight, self.bias)?;
        backend.layer_norm_backward(x, parts, Some(weight), self.eps, gradient, residual, Some(into))
    }
}
