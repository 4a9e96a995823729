//! Makes parameters: from a file, or fresh by the initialisation that PyTorch gives the layer.
#![forbid(unsafe_code)]

use alloc::format;
use alloc::string::String;

use super::parameters::{Id, Parameters};
use super::rng::Rng;
use crate::backend::Train;
use crate::checked::Size;
use crate::error::Result;
use crate::weights::Loader;

/// How a fresh tensor starts.
#[derive(Clone, Copy, Debug)]
pub(super) enum Init {
    /// The same number everywhere.
    Constant(f32),
    /// Uniform over `(-bound, bound)`.
    Uniform(f64),
    /// Normal with mean 0.
    Normal(f64),
}

/// Takes tensors from a loader or makes them, and names them in [`Parameters`].
pub(super) struct Builder<'p, 'a, B: Train> {
    pub(super) backend: &'a B,
    pub(super) parameters: &'p mut Parameters<B>,
    pub(super) rng: &'p mut Rng,
    /// The file; `None` where everything is fresh.
    pub(super) loader: Option<Loader<'a, B>>,
    /// Whether the file is a state of training, which has every tensor.
    pub(super) resumed: bool,
    /// Prefix of the names of parameters, with its dot.
    pub(super) prefix: String,
}

impl<'a, B: Train> Builder<'_, 'a, B> {
    /// The builder of a part.
    pub(super) fn child(&mut self, name: &str) -> Builder<'_, 'a, B> {
        Builder {
            backend: self.backend,
            parameters: self.parameters,
            rng: self.rng,
            loader: self.loader.as_ref().map(|loader| loader.child(name)),
            resumed: self.resumed,
            prefix: format!("{}{name}.", self.prefix),
        }
    }

    /// The same place, but tensors that start anew unless training goes on.
    pub(super) fn fresh(&mut self) -> Builder<'_, 'a, B> {
        Builder {
            backend: self.backend,
            parameters: self.parameters,
            rng: self.rng,
            loader: self.loader.clone().filter(|_| self.resumed),
            resumed: self.resumed,
            prefix: self.prefix.clone(),
        }
    }

    /// The matrix of a linear layer, `[outputs, inputs, ...]`.
    pub(super) fn matrix(&mut self, name: &str, shape: &[usize], init: Init) -> Result<Id> {
        self.tensor(name, shape, shape.first().copied().unwrap_or(1), init, true)
    }

    /// Any other tensor; its gradient has `rows` rows.
    pub(super) fn other(&mut self, name: &str, shape: &[usize], rows: usize, init: Init) -> Result<Id> {
        self.tensor(name, shape, rows, init, false)
    }

    /// A tensor with given values, unless training goes on.
    pub(super) fn given(&mut self, name: &str, shape: &[usize], rows: usize, data: &[f32]) -> Result<Id> {
        if self.resumed {
            return self.other(name, shape, rows, Init::Constant(0.0));
        }
        let full = format!("{}{name}", self.prefix);
        self.parameters.push(self.backend, &full, shape, rows, data, false)
    }

    fn tensor(&mut self, name: &str, shape: &[usize], rows: usize, init: Init, matrix: bool) -> Result<Id> {
        let count = Size::product(shape)?.get();
        let data = match &self.loader {
            Some(loader) => {
                let weight = loader.weight(name, shape)?;
                self.backend.download(self.backend.read(&weight, 1, count)?.view())?
            }
            None => (0..count)
                .map(|_| match init {
                    Init::Constant(value) => value,
                    Init::Uniform(bound) => self.rng.between(-bound, bound) as f32,
                    Init::Normal(deviation) => (deviation * self.rng.normal()) as f32,
                })
                .collect(),
        };
        let full = format!("{}{name}", self.prefix);
        self.parameters.push(self.backend, &full, shape, rows, &data, matrix)
    }
}
