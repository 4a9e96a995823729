//! Named parameters and, parallel to them, their gradients; layers hold [`Id`]s.
#![forbid(unsafe_code)]

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::backend::{Backend, LinearGradients, Matrix, NormGradients, Train, Weight};
use crate::checked::Size;
use crate::error::{Error, Result};

/// Place of a parameter in its [`Parameters`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id(usize);

/// A tensor that is trained.
pub struct Parameter<B: Backend> {
    /// Name in files.
    pub name: String,
    /// Its values.
    pub weight: Weight<B>,
    /// Rows of its gradient; the columns follow.
    pub rows: usize,
    /// Whether it is the matrix of a linear layer: what timm's weight decay is confined to.
    pub matrix: bool,
}

/// All parameters of a model, in the order in which they were made.
pub struct Parameters<B: Backend> {
    list: Vec<Parameter<B>>,
}

impl<B: Train> Default for Parameters<B> {
    fn default() -> Self {
        Parameters { list: Vec::new() }
    }
}

impl<B: Train> Parameters<B> {
    /// Adds a parameter; its gradient has `rows` rows.
    ///
    /// # Errors
    /// [`Error::Shape`] where `data` does not fit `shape` or `rows` does not divide it.
    pub(super) fn push(
        &mut self,
        backend: &B,
        name: &str,
        shape: &[usize],
        rows: usize,
        data: &[f32],
        matrix: bool,
    ) -> Result<Id> {
        let weight = backend.parameter(shape, data)?;
        self.list.push(Parameter { name: name.to_string(), weight, rows, matrix });
        Ok(Id(self.list.len() - 1))
    }

    /// The values of a parameter.
    pub(super) fn get(&self, id: Id) -> Result<&Weight<B>> {
        self.list.get(id.0).map(|parameter| &parameter.weight).ok_or_else(|| missing("parameters"))
    }

    /// All parameters in order.
    pub fn iter(&self) -> core::slice::Iter<'_, Parameter<B>> {
        self.list.iter()
    }

    /// All parameters in order, to change.
    pub(super) fn iter_mut(&mut self) -> core::slice::IterMut<'_, Parameter<B>> {
        self.list.iter_mut()
    }

    /// Number of trained tensors.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether nothing is trained.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// A matrix of zeros for every parameter, as gradients and moments are kept.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub(super) fn zeros(&self, backend: &B) -> Result<Vec<Matrix<B>>> {
        self.list
            .iter()
            .map(|parameter| {
                let elements = Size::product(parameter.weight.shape())?.get();
                backend.zeros(parameter.rows, elements.checked_div(parameter.rows).unwrap_or(0))
            })
            .collect()
    }
}

/// The gradient of every parameter.
pub struct Gradients<B: Backend> {
    list: Vec<Matrix<B>>,
}

impl<B: Train> Gradients<B> {
    /// Zeros.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub(super) fn zeros(backend: &B, parameters: &Parameters<B>) -> Result<Gradients<B>> {
        Ok(Gradients { list: parameters.zeros(backend)? })
    }

    /// The gradients in the order of the parameters.
    pub fn iter(&self) -> core::slice::Iter<'_, Matrix<B>> {
        self.list.iter()
    }

    /// One gradient.
    pub(super) fn get(&mut self, id: Id) -> Result<&mut Matrix<B>> {
        self.list.get_mut(id.0).ok_or_else(|| missing("gradients"))
    }

    /// The gradients of a linear layer.
    pub(super) fn linear(
        &mut self,
        weight: Id,
        bias: Option<Id>,
        scale: Option<Id>,
    ) -> Result<LinearGradients<'_, B>> {
        let (mut w, mut b, mut s) = (None, None, None);
        for (index, gradient) in self.list.iter_mut().enumerate() {
            let here = Id(index);
            if here == weight {
                w = Some(gradient);
            } else if bias == Some(here) {
                b = Some(gradient);
            } else if scale == Some(here) {
                s = Some(gradient);
            }
        }
        Ok(LinearGradients { weight: w.ok_or_else(|| missing("gradients"))?, bias: b, scale: s })
    }

    /// The gradients of a norm.
    pub(super) fn norm(&mut self, weight: Id, bias: Id) -> Result<NormGradients<'_, B>> {
        let [weight, bias] =
            self.list.get_disjoint_mut([weight.0, bias.0]).map_err(|_| missing("gradients"))?;
        Ok(NormGradients { weight, bias })
    }
}

fn missing(operand: &'static str) -> Error {
    Error::Shape { operand, reason: "an id of another model".into() }
}
