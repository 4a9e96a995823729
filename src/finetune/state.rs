//! The state of a run as a safetensors file, and the run that goes on from it, bit for bit.
//!
//! Parameters lie under their names, moments under `optimiser.first.` and `optimiser.second.`, the moving average under
//! `average.`, the factor of the targets in `teacher.factor`. The two 64-bit numbers, `run.updates` and `run.random`, lie
//! as four numbers of 16 bits each, lowest first, which `f32` holds exactly.
#![forbid(unsafe_code)]

use alloc::format;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use super::config::AlignConfig;
use super::export::{Named, file, numbers};
use super::rng::Rng;
use super::trainer::Trainer;
use crate::backend::{Matrix, Train};
use crate::error::{Error, Result};
use crate::weights::Loader;

impl<B: Train> Trainer<B> {
    /// Everything that the run needs to go on, as a safetensors file; the configuration is the caller's to keep.
    ///
    /// # Errors
    /// [`Error::Input`] between the parts of an update.
    pub fn state(&self, backend: &B) -> Result<Vec<u8>> {
        file(&self.state_tensors(backend)?)
    }

    /// The tensors of [`Trainer::state`].
    ///
    /// # Errors
    /// As [`Trainer::state`].
    pub(super) fn state_tensors(&self, backend: &B) -> Result<Vec<Named>> {
        if self.gradients().is_some() {
            let reason = "can only be taken after an update, not between its parts".to_string();
            return Err(Error::Input { field: "state", reason });
        }
        let mut tensors = Vec::new();
        let moments = self.optimiser.first.iter().zip(&self.optimiser.second);
        for (index, (parameter, (first, second))) in self.parameters.iter().zip(moments).enumerate() {
            let (name, shape) = (&parameter.name, parameter.weight.shape());
            let mut push = |name, data| tensors.push(Named { name, shape: shape.to_vec(), data });
            push(name.clone(), numbers(backend, &parameter.weight)?);
            push(format!("optimiser.first.{name}"), backend.download(first.view())?);
            push(format!("optimiser.second.{name}"), backend.download(second.view())?);
            if let Some(average) = self.ema.as_ref().and_then(|ema| ema.weights.get(index)) {
                push(format!("average.{name}"), numbers(backend, average)?);
            }
        }
        let mut small = |name: &str, data: Vec<f32>| {
            tensors.push(Named { name: name.to_string(), shape: vec![data.len()], data });
        };
        small("teacher.factor", vec![self.teacher.factor()]);
        small("run.updates", split(self.optimiser.updates).to_vec());
        small("run.random", split(self.rng.state()).to_vec());
        Ok(tensors)
    }

    /// The run that [`Trainer::state`] saved, under the same configuration; teacher and a frozen encoder come from their
    /// own weights. What follows has the bits that it would have had without the interruption.
    ///
    /// # Errors
    /// As [`Trainer::new`]; [`Error::Tensor`] naming what the state lacks.
    pub fn resume(
        backend: &B,
        config: AlignConfig,
        teacher: &Loader<B>,
        encoder: &Loader<B>,
        state: &Loader<B>,
    ) -> Result<Trainer<B>> {
        let mut run = Trainer::with_parameters(backend, config, teacher, encoder, state, 0)?;
        let read =
            |name: &str, len: usize| -> Result<Vec<f32>> { numbers(backend, &state.weight(name, &[len])?) };
        let whole = |name: &str| -> Result<u64> {
            joined(&read(name, 4)?).ok_or_else(|| Error::Tensor {
                name: name.to_string(),
                reason: "does not hold four whole numbers of 16 bits".to_string(),
            })
        };
        run.optimiser.updates = whole("run.updates")?;
        run.rng = Rng::new(whole("run.random")?);
        let factor = read("teacher.factor", 1)?.first().copied().filter(|factor| factor.is_finite());
        run.teacher.set_factor(factor.ok_or_else(|| Error::Tensor {
            name: "teacher.factor".to_string(),
            reason: "is not finite".to_string(),
        })?);
        let Trainer { parameters, optimiser, ema, .. } = &mut run;
        for (index, parameter) in parameters.iter().enumerate() {
            let (name, shape) = (&parameter.name, parameter.weight.shape());
            let moment = |name: &str, matrix: &mut Matrix<B>| -> Result<()> {
                let stored = state.weight(name, shape)?;
                *matrix = backend.read(&stored, matrix.rows(), matrix.cols())?;
                Ok(())
            };
            let pair = optimiser.first.get_mut(index).zip(optimiser.second.get_mut(index));
            if let Some((first, second)) = pair {
                moment(&format!("optimiser.first.{name}"), first)?;
                moment(&format!("optimiser.second.{name}"), second)?;
            }
            if let Some(average) = ema.as_mut().and_then(|ema| ema.weights.get_mut(index)) {
                let stored = numbers(backend, &state.weight(&format!("average.{name}"), shape)?)?;
                *average = backend.parameter(shape, &stored)?;
            }
        }
        Ok(run)
    }
}

/// Four parts of 16 bits, lowest first.
fn split(number: u64) -> [f32; 4] {
    [0, 16, 32, 48].map(|shift| f32::from((number >> shift) as u16))
}

/// The number of four parts; `None` where one is no whole number of 16 bits.
fn joined(parts: &[f32]) -> Option<u64> {
    parts.iter().zip([0, 16, 32, 48]).try_fold(0, |number, (&part, shift)| {
        let whole = part as u16;
        (f32::from(whole) == part).then_some(number | u64::from(whole) << shift)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_in_parts() {
        for number in [0, 1, u64::MAX, 0x0123_4567_89AB_CDEF] {
            assert_eq!(joined(&split(number)), Some(number));
        }
        for wrong in [0.5, -1.0, 65536.0, f32::NAN] {
            assert_eq!(joined(&[1.0, wrong, 0.0, 0.0]), None);
        }
    }
}
