//! Probing: how much of what a picture holds, and where, can be read off a frozen encoder's tokens by a small head.
//!
//! Every patch gets the classes of which it shows a part ("union"), or every picture those of its patches ("global-union"). A
//! head learns them with binary cross-entropy; [`Score`] says how well it does on other pictures. The first measures local
//! knowledge, the second global knowledge, as in arXiv 2410.11087, section 4.
#![forbid(unsafe_code)]

mod score;

use alloc::format;
use alloc::string::String;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

pub use score::Score;

use super::builder::Builder;
use super::decoder::{self, Decoder, DecoderConfig};
use super::layers::Linear;
use super::masks::Masks;
use super::optimiser::{AdamwConfig, Optimiser};
use super::parameters::{Gradients, Parameters};
use super::rng::Rng;
use super::schedule::Schedule;
use crate::backend::{Activation, Matrix, Train, View};
use crate::checked::Size;
use crate::error::{Error, Result};

/// The head that reads the tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeHead {
    /// One linear layer.
    Linear,
    /// A hidden layer four times as wide as a token, GELU, a linear layer.
    Mlp,
    /// Learned positions, two transformer blocks without LayerScale, a norm, a linear layer.
    Transformer,
}

/// What is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeLabels {
    /// Of every patch, the classes of which it shows a part.
    Union,
    /// Of every picture, the classes that it shows; its logits are the means of its patches' logits.
    GlobalUnion,
}

/// A probe.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProbeConfig {
    /// The head.
    pub head: ProbeHead,
    /// The labels.
    pub labels: ProbeLabels,
    /// Number of classes.
    pub classes: usize,
    /// Channels of a token.
    pub width: usize,
    /// Patch tokens of a picture.
    pub patches: usize,
    /// Attention heads of the transformer; divides `width`.
    pub heads: usize,
    /// The learning rate.
    pub schedule: Schedule,
    /// The optimiser.
    pub optimiser: AdamwConfig,
}

/// A head on a frozen encoder.
pub struct Probe<B: Train> {
    config: ProbeConfig,
    parameters: Parameters<B>,
    optimiser: Optimiser<B>,
    head: Head,
}

enum Head {
    Linear(Linear),
    Mlp { fc1: Linear, fc2: Linear },
    Transformer(Decoder),
}

/// What the backward pass needs of the forward pass.
enum Kept<B: Train> {
    Linear,
    Mlp(Matrix<B>),
    Transformer(decoder::Kept<B>),
}

impl<B: Train> Probe<B> {
    /// A head that has learnt nothing, drawn from `seed`.
    ///
    /// # Errors
    /// [`Error::Input`] naming the field.
    pub fn new(backend: &B, config: ProbeConfig, seed: u64) -> Result<Probe<B>> {
        for (field, value) in
            [("classes", config.classes), ("width", config.width), ("patches", config.patches)]
        {
            if value == 0 {
                return Err(Error::Input { field, reason: "must be above 0".to_string() });
            }
        }
        config.schedule.check()?;
        config.optimiser.check()?;
        let (mut parameters, mut rng) = (Parameters::default(), Rng::new(seed));
        let mut builder = Builder {
            backend,
            parameters: &mut parameters,
            rng: &mut rng,
            loader: None,
            resumed: false,
            prefix: String::new(),
        };
        let ProbeConfig { classes, width, patches, heads, .. } = config;
        let head = match config.head {
            ProbeHead::Linear => {
                Head::Linear(Linear::build(&mut builder.child("head"), &[classes, width], true)?)
            }
            ProbeHead::Mlp => {
                let hidden = Size::new(width).times(4)?.get();
                Head::Mlp {
                    fc1: Linear::build(&mut builder.child("fc1"), &[hidden, width], true)?,
                    fc2: Linear::build(&mut builder.child("fc2"), &[classes, hidden], true)?,
                }
            }
            ProbeHead::Transformer => {
                let shape = DecoderConfig {
                    layers: 2,
                    width,
                    heads,
                    qkv_bias: true,
                    qk_norm: false,
                    layer_scale: None,
                    activation: Activation::Gelu,
                    eps: 1e-6,
                };
                Head::Transformer(Decoder::build(&mut builder, &shape, classes, [0, patches], false)?)
            }
        };
        let optimiser = Optimiser::new(backend, &parameters)?;
        Ok(Probe { config, parameters, optimiser, head })
    }

    /// Learns from the patch tokens of pictures, `[pictures * patches, width]`, and their labels, `[pictures * patches,
    /// classes]` or `[pictures, classes]`; returns the mean binary cross-entropy before.
    ///
    /// # Errors
    /// [`Error::Shape`] where tokens and labels do not fit the probe; [`Error::NonFinite`], and nothing is changed then.
    pub fn update(&mut self, backend: &B, tokens: View<B>, labels: &[bool]) -> Result<f64> {
        let (patch_logits, kept) = self.forward(backend, tokens)?;
        let logits = self.pooled(&backend.download(patch_logits.view())?);
        if logits.len() != labels.len() {
            let reason = format!("{} labels for {} logits", labels.len(), logits.len());
            return Err(Error::Shape { operand: "probe.labels", reason });
        }
        let (loss, gradient) = cross_entropy(&logits, labels);
        if !loss.is_finite() {
            return Err(Error::NonFinite { module: "loss".to_string() });
        }
        let gradient = self.spread(gradient);
        let gradient = backend.upload(patch_logits.rows(), patch_logits.cols(), &gradient)?;
        let mut gradients = Gradients::zeros(backend, &self.parameters)?;
        self.backward(backend, tokens, kept, &gradient, &mut gradients)?;
        let rate = self.config.schedule.at(self.optimiser.updates);
        let Probe { optimiser, parameters, config, .. } = self;
        optimiser.update(backend, parameters, &gradients, &config.optimiser, rate)?;
        Ok(loss)
    }

    /// The logits of pictures, laid out as the labels of [`Probe::update`].
    ///
    /// # Errors
    /// [`Error::Shape`] where the tokens do not fit the probe.
    pub fn predict(&self, backend: &B, tokens: View<B>) -> Result<Vec<f32>> {
        let (logits, _) = self.forward(backend, tokens)?;
        Ok(self.pooled(&backend.download(logits.view())?))
    }

    /// Logits of every patch.
    fn forward(&self, backend: &B, tokens: View<B>) -> Result<(Matrix<B>, Kept<B>)> {
        let ProbeConfig { patches, width, .. } = self.config;
        if tokens.cols() != width || tokens.rows() == 0 || !tokens.rows().is_multiple_of(patches) {
            let reason = format!("{} tokens of {} for {patches} of {width}", tokens.rows(), tokens.cols());
            return Err(Error::Shape { operand: "probe.tokens", reason });
        }
        match &self.head {
            Head::Linear(head) => Ok((head.forward(backend, &self.parameters, tokens, None)?, Kept::Linear)),
            Head::Mlp { fc1, fc2 } => {
                let hidden = fc1.forward(backend, &self.parameters, tokens, None)?;
                let active = backend.activate(hidden.view(), Activation::Gelu)?;
                let logits = fc2.forward(backend, &self.parameters, active.view(), None)?;
                Ok((logits, Kept::Mlp(hidden)))
            }
            Head::Transformer(head) => {
                let all = Masks::new(vec![true; tokens.rows()], patches, 1)?;
                let (logits, kept) = head.forward(backend, &self.parameters, tokens, &all, true)?;
                Ok((logits, Kept::Transformer(kept)))
            }
        }
    }

    /// Adds to the gradients from the derivative by the logits of every patch.
    fn backward(
        &self,
        backend: &B,
        tokens: View<B>,
        kept: Kept<B>,
        gradient: &Matrix<B>,
        gradients: &mut Gradients<B>,
    ) -> Result<()> {
        let parameters = &self.parameters;
        match (&self.head, kept) {
            (Head::Linear(head), _) => head.learn(backend, parameters, gradients, tokens, gradient.view()),
            (Head::Mlp { fc1, fc2 }, Kept::Mlp(hidden)) => {
                let active = backend.activate(hidden.view(), Activation::Gelu)?;
                let by = fc2.backward(backend, parameters, gradients, active.view(), gradient.view())?;
                let by = backend.activate_backward(hidden.view(), Activation::Gelu, by.view())?;
                fc1.learn(backend, parameters, gradients, tokens, by.view())
            }
            (Head::Transformer(head), Kept::Transformer(kept)) => {
                head.backward(backend, parameters, gradients, kept, gradient.view()).map(drop)
            }
            _ => Err(Error::Shape { operand: "probe.kept", reason: "is of another head".into() }),
        }
    }

    /// Logits in the layout of the labels.
    fn pooled(&self, logits: &[f32]) -> Vec<f32> {
        let ProbeConfig { labels, classes, patches, .. } = self.config;
        if labels == ProbeLabels::Union {
            return logits.to_vec();
        }
        let mut out = Vec::with_capacity(logits.len() / patches);
        for picture in logits.chunks_exact(patches * classes) {
            for class in 0..classes {
                let sum: f64 = picture.iter().skip(class).step_by(classes).map(|&x| f64::from(x)).sum();
                out.push((sum / patches as f64) as f32);
            }
        }
        out
    }

    /// The derivative by the logits of every patch from the one by [`Probe::pooled`].
    fn spread(&self, gradient: Vec<f32>) -> Vec<f32> {
        let ProbeConfig { labels, classes, patches, .. } = self.config;
        if labels == ProbeLabels::Union {
            return gradient;
        }
        let mut out = Vec::with_capacity(gradient.len() * patches);
        for picture in gradient.chunks_exact(classes) {
            let share: Vec<f32> = picture.iter().map(|x| x / patches as f32).collect();
            for _ in 0..patches {
                out.extend_from_slice(&share);
            }
        }
        out
    }
}

/// Mean over all elements of `log(1 + exp(-x))` for a label and `log(1 + exp(x))` for none, and its derivative.
fn cross_entropy(logits: &[f32], labels: &[bool]) -> (f64, Vec<f32>) {
    let count = logits.len().max(1) as f64;
    let (mut sum, mut gradient) = (0.0, Vec::with_capacity(logits.len()));
    for (&x, &label) in logits.iter().zip(labels) {
        let x = f64::from(x);
        // exp of a number that is not positive cannot overflow.
        let small = libm::exp(-x.abs());
        let wrong = if label { -x } else { x };
        sum += wrong.max(0.0) + libm::log1p(small);
        let probability = if x >= 0.0 { 1.0 / (1.0 + small) } else { small / (1.0 + small) };
        gradient.push(((probability - f64::from(u8::from(label))) / count) as f32);
    }
    (sum / count, gradient)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cross_entropy_and_its_derivative() {
        let (logits, labels) = ([0.3f32, -2.0, 1.5, 90.0, -90.0], [true, true, false, true, true]);
        let (loss, gradient) = cross_entropy(&logits, &labels);
        let term = |x: f64, label: bool| libm::log1p(libm::exp(if label { -x } else { x }));
        let want: f64 = logits.iter().zip(labels).map(|(&x, label)| term(f64::from(x), label)).sum();
        assert!((loss - want / 5.0).abs() < 1e-9, "{loss}");
        for index in 0..3 {
            let shifted = |by: f32| {
                let mut logits = logits;
                logits[index] += by;
                cross_entropy(&logits, &labels).0
            };
            let slope = (shifted(1e-2) - shifted(-1e-2)) / 2e-2;
            assert!((slope - f64::from(gradient[index])).abs() < 1e-5, "{index}");
        }
        assert_eq!(cross_entropy(&[1e30], &[true]).0, 0.0);
        assert!(cross_entropy(&[f32::NAN], &[true]).0.is_nan());
    }
}
