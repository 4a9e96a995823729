//! The loader: what a module sees of the weights, under its own prefix, and the record of what was taken.
#![forbid(unsafe_code)]

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::Cell;

use super::{Tensor, Weights};
use crate::backend::{Backend, Weight};
use crate::checked::Size;
use crate::error::{Error, Result};

/// Hands a module its tensors. Children and clones share one record of the names that were taken.
pub struct Loader<'a, B: Backend> {
    weights: &'a Weights,
    backend: &'a B,
    prefix: String,
    /// By place in [`Weights::names`].
    taken: Rc<[Cell<bool>]>,
    /// Bytes that the backend has copied.
    copied: Rc<Cell<usize>>,
    /// Whether [`Loader::matrix`] takes quantised matrices.
    quantised: bool,
}

impl<B: Backend> Clone for Loader<'_, B> {
    fn clone(&self) -> Self {
        Loader {
            prefix: self.prefix.clone(),
            taken: self.taken.clone(),
            copied: self.copied.clone(),
            ..*self
        }
    }
}

impl<'a, B: Backend> Loader<'a, B> {
    /// A loader of the tensors whose names start with `prefix` and a dot; an empty prefix means all.
    pub fn new(weights: &'a Weights, backend: &'a B, prefix: &str) -> Loader<'a, B> {
        Loader {
            weights,
            backend,
            prefix: prefix.to_owned(),
            taken: weights.names().map(|_| Cell::new(false)).collect(),
            copied: Rc::default(),
            quantised: false,
        }
    }

    /// The loader of a part, for example `layers.0`.
    pub fn child(&self, name: &str) -> Loader<'a, B> {
        Loader { prefix: self.full(name), ..self.clone() }
    }

    /// The same loader for a part whose linear layers may be quantised ([`Loader::matrix`]), and the parts of that.
    pub fn quantised(&self) -> Loader<'a, B> {
        Loader { quantised: true, ..self.clone() }
    }

    /// The backend that holds the weights.
    pub fn backend(&self) -> &'a B {
        self.backend
    }

    /// Full name of this part, without a dot at the end.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Whether the file has this name.
    pub fn has(&self, name: &str) -> bool {
        self.weights.has(&self.full(name))
    }

    /// Shape of the tensor, `None` where there is none of this name and a usable type.
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.weights.get(&self.full(name)).map(|tensor| tensor.shape().to_vec())
    }

    /// The tensor as it lies in the file.
    ///
    /// # Errors
    /// [`Error::Tensor`] with its full name where it is missing, of another shape or of an unusable type.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<&'a Tensor> {
        let full = self.full(name);
        let tensor = self.weights.tensor(&full)?;
        if tensor.shape() != shape {
            let reason =
                format!("is of shape {:?}, but the configuration asks for {shape:?}", tensor.shape());
            return Err(Error::Tensor { name: full, reason });
        }
        self.take(&full);
        Ok(tensor)
    }

    /// The tensor in the backend's hands.
    ///
    /// # Errors
    /// As [`Loader::tensor`]; [`Error::Memory`] where a device cannot hold it.
    pub fn weight(&self, name: &str, shape: &[usize]) -> Result<Weight<B>> {
        let tensor = self.tensor(name, shape)?;
        Ok(Weight::new(self.backend.store(tensor)?, shape))
    }

    /// The weight of a linear layer, which may be quantised in a part that allows it: then its integers and their scales
    /// `{name}_scale` are taken.
    ///
    /// # Errors
    /// As [`Loader::weight`]; [`Error::Tensor`] with the full name of the integers where the part takes none, of the scales
    /// where they are missing, misshapen, or belong to a weight that is not quantised.
    pub fn matrix(&self, name: &str, shape: &[usize]) -> Result<Weight<B>> {
        let full = self.full(name);
        if self.quantised {
            let scales = format!("{full}_scale");
            if let Some(quantised) = self.weights.quantised(&full, shape)? {
                self.take(&full);
                self.take(&scales);
                return Ok(Weight::of_integers(self.count(self.backend.store_quantised(&quantised)?), shape));
            }
            if self.weights.has(&scales) && self.weights.has(&full) {
                let reason = format!("are scales, but {full} is not quantised");
                return Err(Error::Tensor { name: scales, reason });
            }
        }
        let tensor = self.tensor(name, shape)?;
        let (&n, inputs) = shape.split_first().unwrap_or((&0, &[]));
        let sizes = [n, Size::product(inputs)?.get()];
        Ok(Weight::new(self.count(self.backend.store_matrix(tensor, sizes, 1)?), shape))
    }

    /// The weight `[outputs, inputs, height, width]` of a dense convolution of that stride.
    ///
    /// # Errors
    /// As [`Loader::weight`].
    pub fn kernel(&self, name: &str, shape: [usize; 4], stride: usize) -> Result<Weight<B>> {
        let tensor = self.tensor(name, &shape)?;
        let [outputs, inputs, height, width] = shape;
        let taps = Size::product(&[height, width])?.get();
        let sizes = [outputs, Size::product(&[inputs, taps])?.get()];
        let taps = if stride == 1 { taps } else { 1 };
        Ok(Weight::new(self.count(self.backend.store_matrix(tensor, sizes, taps)?), &shape))
    }

    /// As [`Loader::weight`], `None` where the file has no such name.
    ///
    /// # Errors
    /// As [`Loader::weight`], but a missing name is none.
    pub fn optional(&self, name: &str, shape: &[usize]) -> Result<Option<Weight<B>>> {
        if self.has(name) { self.weight(name, shape).map(Some) } else { Ok(None) }
    }

    /// Names under the prefix that nothing has taken so far, in alphabetic order: the warnings of a loaded model.
    pub fn unused(&self) -> Vec<&'a str> {
        let inside = |name: &&str| {
            let rest = name.strip_prefix(self.prefix.as_str());
            self.prefix.is_empty() || rest.is_some_and(|rest| rest.starts_with('.'))
        };
        let names = self.weights.names().zip(&*self.taken);
        names.filter(|(_, taken)| !taken.get()).map(|(name, _)| name).filter(inside).collect()
    }

    fn count(&self, stored: B::Stored) -> B::Stored {
        self.copied.set(self.copied.get().saturating_add(B::copied_bytes(&stored)));
        stored
    }

    /// Bytes of the host's memory that the backend has copied tensors to so far, under any prefix.
    pub fn copied_bytes(&self) -> usize {
        self.copied.get()
    }

    /// Bytes of all tensors that were taken so far, under any prefix.
    pub fn taken_bytes(&self) -> usize {
        let names = self.weights.names().zip(&*self.taken).filter(|(_, taken)| taken.get());
        names.map(|(name, _)| self.weights.bytes(name)).sum()
    }

    /// Notes that a name was taken.
    fn take(&self, full: &str) {
        if let Some(taken) = self.weights.place(full).and_then(|place| self.taken.get(place)) {
            taken.set(true);
        }
    }

    fn full(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}.{name}", self.prefix) }
    }
}
