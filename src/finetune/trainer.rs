//! The training step: targets, predictions, loss, gradients, update.
#![forbid(unsafe_code)]

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use super::config::{AlignConfig, Objective};
use super::ema::Ema;
use super::images::Images;
use super::loss::Loss;
use super::masks::{MaskSampler, Masks};
use super::optimiser::Optimiser;
use super::parameters::{Gradients, Parameters};
use super::rng::Rng;
use super::student::Student;
use super::teacher::{Teacher, Variance};
use crate::backend::{Matrix, Train};
use crate::error::{Error, Result};
use crate::weights::Loader;

/// A run of locality alignment between two updates.
pub struct Trainer<B: Train> {
    pub(super) config: AlignConfig,
    pub(super) teacher: Teacher<B>,
    student: Student<B>,
    pub(super) parameters: Parameters<B>,
    pub(super) optimiser: Optimiser<B>,
    pub(super) ema: Option<Ema<B>>,
    pub(super) rng: Rng,
    sampler: MaskSampler,
    gradients: Option<Gradients<B>>,
}

/// What an update did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Update {
    /// Norm of the whole gradient before clipping.
    pub norm: f64,
    /// Learning rate.
    pub rate: f64,
    /// Number of updates so far, this one included.
    pub updates: u64,
}

impl<B: Train> Trainer<B> {
    /// A new run: teacher and encoder from their weights, all else drawn from `seed`.
    ///
    /// # Errors
    /// [`Error::Input`] naming a field of the configuration; [`Error::Tensor`] naming a missing or misshapen tensor.
    pub fn new(
        backend: &B,
        config: AlignConfig,
        teacher: &Loader<B>,
        encoder: &Loader<B>,
        seed: u64,
    ) -> Result<Trainer<B>> {
        Trainer::start(backend, config, teacher, encoder, None, seed)
    }

    /// A run whose parameters are those of `state`, under `encoder.` and `decoder.`, with an optimiser that has seen nothing;
    /// a frozen encoder comes from `encoder`.
    ///
    /// # Errors
    /// As [`Trainer::new`].
    pub fn with_parameters(
        backend: &B,
        config: AlignConfig,
        teacher: &Loader<B>,
        encoder: &Loader<B>,
        state: &Loader<B>,
        seed: u64,
    ) -> Result<Trainer<B>> {
        Trainer::start(backend, config, teacher, encoder, Some(state), seed)
    }

    fn start(
        backend: &B,
        config: AlignConfig,
        teacher: &Loader<B>,
        encoder: &Loader<B>,
        state: Option<&Loader<B>>,
        seed: u64,
    ) -> Result<Trainer<B>> {
        config.check()?;
        let (skip_blocks, prefix_only) = match config.objective {
            Objective::MaskEmbed { skip_blocks, prefix_only, .. } => (skip_blocks, prefix_only),
            Objective::Mim => (0, false),
        };
        let teacher = Teacher::load(teacher, &config.teacher, skip_blocks, prefix_only)?;
        let (mut parameters, mut rng) = (Parameters::default(), Rng::new(seed));
        let student = Student::build(backend, &config, encoder, state, &mut parameters, &mut rng)?;
        let optimiser = Optimiser::new(backend, &parameters)?;
        let ema = config.ema.map(|ema| Ema::new(ema, &parameters));
        let sampler = config.sampler()?;
        Ok(Trainer { config, teacher, student, parameters, optimiser, ema, rng, sampler, gradients: None })
    }

    /// The configuration.
    pub fn config(&self) -> &AlignConfig {
        &self.config
    }

    /// What is trained.
    pub fn parameters(&self) -> &Parameters<B> {
        &self.parameters
    }

    /// The teacher.
    pub fn teacher(&self) -> &Teacher<B> {
        &self.teacher
    }

    /// Updates so far.
    pub fn updates(&self) -> u64 {
        self.optimiser.updates
    }

    /// Draws masks for `images` pictures from the run's own random numbers.
    pub fn sample(&mut self, images: usize) -> Masks {
        self.sampler.sample(images, &mut self.rng)
    }

    /// Draws the masks of batch `index` of a validation set, the same ones every time.
    pub fn validation_masks(&self, images: usize, index: u64) -> Masks {
        self.sampler.sample(images, &mut Rng::new(index))
    }

    /// Scales the teacher's targets to unit variance over `batches` of validation pictures with their masks, where the loss
    /// is [`Loss::Mse`]; returns the variance before.
    ///
    /// # Errors
    /// As [`Teacher::targets`]; [`Error::Input`] where the targets do not vary at all.
    pub fn calibrate<'i>(
        &mut self,
        backend: &B,
        batches: impl IntoIterator<Item = (Images<'i>, Masks)>,
    ) -> Result<Option<f64>> {
        if self.config.loss != Loss::Mse {
            return Ok(None);
        }
        self.teacher.set_factor(1.0);
        let mut variance = Variance::default();
        for (images, masks) in batches {
            let targets = self.targets(backend, images, &masks)?;
            variance.add(&backend.download(targets.view())?);
        }
        let variance = variance.get();
        if variance.is_nan() || variance <= 0.0 {
            let reason = format!("the teacher's targets have a variance of {variance} over them");
            return Err(Error::Input { field: "validation", reason });
        }
        self.teacher.set_factor((1.0 / libm::sqrt(variance)) as f32);
        Ok(Some(variance))
    }

    /// The loss on pictures, without learning from them.
    ///
    /// # Errors
    /// As [`Trainer::accumulate`].
    pub fn validate(&self, backend: &B, images: Images, masks: &Masks) -> Result<f64> {
        let patch = self.config.student.patch_size;
        let targets = self.repeated_targets(backend, images, masks)?;
        let (out, _) = self.student.forward(backend, &self.parameters, images, masks, patch, false)?;
        Ok(self.loss(backend, &out, &targets, masks)?.0)
    }

    /// Adds the gradients of one of the `parts` parts of a batch; returns the loss of the part.
    ///
    /// # Errors
    /// [`Error::Input`] where pictures and masks do not fit the model; [`Error::NonFinite`] for a loss that is not finite:
    /// the gradients so far are dropped, the parameters are those of the last update.
    pub fn accumulate(&mut self, backend: &B, images: Images, masks: &Masks, parts: usize) -> Result<f64> {
        let patch = self.config.student.patch_size;
        let targets = self.repeated_targets(backend, images, masks)?;
        let all = !self.config.checkpointing;
        let (out, kept) = self.student.forward(backend, &self.parameters, images, masks, patch, all)?;
        let (loss, mut gradient) = self.loss(backend, &out, &targets, masks)?;
        if !loss.is_finite() {
            self.gradients = None;
            return Err(Error::NonFinite { module: "loss".to_string() });
        }
        if parts > 1 {
            let share = 1.0 / parts as f32;
            gradient.iter_mut().for_each(|x| *x *= share);
        }
        let gradient = backend.upload(out.rows(), out.cols(), &gradient)?;
        drop((out, targets));
        let mut gradients = match self.gradients.take() {
            Some(gradients) => gradients,
            None => Gradients::zeros(backend, &self.parameters)?,
        };
        self.student.backward(backend, &self.parameters, &mut gradients, kept, gradient)?;
        self.gradients = Some(gradients);
        Ok(loss)
    }

    /// Takes a step along the gradients since the last update, and follows it with the moving average.
    ///
    /// # Errors
    /// [`Error::Input`] where there are none; [`Error::NonFinite`] where they are not finite, and nothing is changed then.
    pub fn update(&mut self, backend: &B) -> Result<Update> {
        let Some(gradients) = self.gradients.take() else {
            return Err(Error::Input { field: "update", reason: "there are no gradients".to_string() });
        };
        let rate = self.config.schedule.at(self.optimiser.updates);
        let parameters = &mut self.parameters;
        let norm = self.optimiser.update(backend, parameters, &gradients, &self.config.optimiser, rate)?;
        let updates = self.optimiser.updates;
        if let Some(ema) = &mut self.ema {
            ema.update(backend, &self.parameters, updates)?;
        }
        Ok(Update { norm, rate, updates })
    }

    /// The gradients since the last update, where there are any.
    pub fn gradients(&self) -> Option<&Gradients<B>> {
        self.gradients.as_ref()
    }

    /// The teacher's targets: of the masked pictures, or of the whole ones for masked image modelling.
    fn targets(&self, backend: &B, images: Images, masks: &Masks) -> Result<Matrix<B>> {
        let side = self.config.side();
        if masks.images() != images.count() || side.checked_mul(side) != Some(masks.patches()) {
            let (a, b, count) = (masks.images(), masks.patches(), images.count());
            let reason =
                format!("are for {a} pictures of {b} patches, but there are {count} of {side}x{side}");
            return Err(Error::Input { field: "masks", reason });
        }
        images.check(&self.config.student)?;
        let masks = (self.config.objective != Objective::Mim).then_some(masks);
        self.teacher.targets(backend, images, masks)
    }

    /// The targets with a row for every row of the predictions.
    fn repeated_targets(&self, backend: &B, images: Images, masks: &Masks) -> Result<Matrix<B>> {
        let targets = self.targets(backend, images, masks)?;
        if self.config.objective != Objective::Mim {
            return Ok(targets);
        }
        let tokens = targets.rows() / images.count().max(1);
        let rows: Vec<usize> = (0..images.count() * masks.per_image())
            .flat_map(|index| {
                let first = index / masks.per_image() * tokens;
                first..first + tokens
            })
            .collect();
        backend.gather(targets.view(), &rows)
    }

    /// Loss and derivative of predictions.
    fn loss(
        &self,
        backend: &B,
        out: &Matrix<B>,
        targets: &Matrix<B>,
        masks: &Masks,
    ) -> Result<(f64, Vec<f32>)> {
        let prefix = core::iter::repeat_n(None, self.config.student.prefix());
        let prefix_only = matches!(self.config.objective, Objective::MaskEmbed { prefix_only: true, .. });
        let mut kept = Vec::with_capacity(out.rows());
        for mask in masks.rows() {
            kept.extend(prefix.clone());
            if !prefix_only {
                kept.extend(mask.iter().map(|&keep| Some(keep)));
            }
        }
        let (out_numbers, targets) = (backend.download(out.view())?, backend.download(targets.view())?);
        self.config.loss.evaluate(&out_numbers, &targets, out.cols(), &kept)
    }
}
