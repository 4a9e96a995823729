//! A stack of linear layers with an activation between them.
#![forbid(unsafe_code)]

use alloc::vec::Vec;

use super::Linear;
use crate::backend::{Activation, Backend, Epilogue, Matrix, View};
use crate::error::{Error, Result};
use crate::weights::Loader;

/// Linear layers, each but the last followed by the activation: the feed-forward part of a transformer layer, a
/// projector, a prediction head.
pub struct Mlp<B: Backend> {
    hidden: Vec<Linear<B>>,
    last: Linear<B>,
    activation: Activation,
}

impl<B: Backend> Mlp<B> {
    /// Loads the layers under `names`; layer `i` maps `widths[i]` to `widths[i + 1]` numbers.
    ///
    /// # Errors
    /// [`Error::Tensor`] where a tensor is missing or misshapen; [`Error::Shape`] unless there is at least one name and
    /// one width more than names.
    pub fn load<S: AsRef<str>>(
        loader: &Loader<B>,
        names: &[S],
        widths: &[usize],
        activation: Activation,
        bias: bool,
    ) -> Result<Mlp<B>> {
        let mut layers = Vec::with_capacity(names.len());
        for (name, pair) in names.iter().zip(widths.windows(2)) {
            if let [inputs, outputs] = *pair {
                layers.push(Linear::load(&loader.child(name.as_ref()), outputs, inputs, bias)?);
            }
        }
        Mlp::new(layers, activation)
    }

    /// A stack of layers that are loaded already.
    ///
    /// # Errors
    /// [`Error::Shape`] where there are none.
    pub fn new(mut layers: Vec<Linear<B>>, activation: Activation) -> Result<Mlp<B>> {
        match layers.pop() {
            Some(last) => Ok(Mlp { hidden: layers, last, activation }),
            None => Err(Error::Shape { operand: "mlp.layers", reason: "there are none".into() }),
        }
    }

    /// `x [rows, widths[0]]` to `[rows, widths[last]]`; the epilogue follows the last layer.
    ///
    /// # Errors
    /// [`Error::Shape`].
    pub fn forward(&self, backend: &B, x: View<B>, epilogue: Epilogue<B>) -> Result<Matrix<B>> {
        let mut current: Option<Matrix<B>> = None;
        for layer in &self.hidden {
            let input = current.as_ref().map_or(x, Matrix::view);
            current = Some(layer.forward(backend, input, Epilogue::activation(self.activation))?);
        }
        let input = current.as_ref().map_or(x, Matrix::view);
        self.last.forward(backend, input, epilogue)
    }
}
