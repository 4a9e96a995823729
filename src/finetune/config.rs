//! What a run of locality alignment is made of.
#![forbid(unsafe_code)]

use alloc::format;
use alloc::string::ToString;

use super::decoder::DecoderConfig;
use super::ema::EmaConfig;
use super::encoder::HeadKind;
use super::loss::Loss;
use super::masks::{MaskKind, MaskSampler};
use super::optimiser::AdamwConfig;
use super::schedule::Schedule;
use crate::error::{Error, Result};
use crate::vision::VitConfig;

/// What the student learns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Objective {
    /// Locality alignment: the student sees the whole picture once; the decoder masks its tokens and predicts what the
    /// teacher makes of the masked picture.
    MaskEmbed {
        /// Last blocks of the teacher that are left out.
        skip_blocks: usize,
        /// Whether the target is the teacher's pooled vector, predicted at the prefix token.
        prefix_only: bool,
        /// Whether the encoder stays as it is, without a new norm and head, and the decoder learns alone.
        freeze_encoder: bool,
        /// The decoder.
        decoder: DecoderConfig,
    },
    /// Masked image modelling, the ablation: the student sees the masked picture, the teacher the whole one.
    Mim,
}

/// A run of locality alignment.
#[derive(Clone, Debug)]
pub struct AlignConfig {
    /// The teacher's architecture.
    pub teacher: VitConfig,
    /// The student's architecture; it has the teacher's patches and prefix tokens.
    pub student: VitConfig,
    /// What is learnt.
    pub objective: Objective,
    /// The student's new head.
    pub head: HeadKind,
    /// Added to the variance in the student's new norm.
    pub fresh_eps: f32,
    /// How masks are drawn.
    pub masks: MaskKind,
    /// Whether every mask comes with its complement.
    pub antithetical: bool,
    /// Whether every picture has the full mask too.
    pub full_mask: bool,
    /// The loss.
    pub loss: Loss,
    /// The optimiser.
    pub optimiser: AdamwConfig,
    /// The learning rate.
    pub schedule: Schedule,
    /// A moving average of the parameters, where wanted.
    pub ema: Option<EmaConfig>,
    /// Whether blocks keep their inputs alone and compute the rest again in the backward pass.
    pub checkpointing: bool,
}

impl AlignConfig {
    /// The published recipe for a model: the student's attention soft-capped at 30, the teacher without its last block, a
    /// decoder of two blocks with LayerScale 1e-6, uniform masks with complement and full mask.
    pub fn recipe(vit: &VitConfig, schedule: Schedule) -> AlignConfig {
        AlignConfig {
            teacher: vit.clone(),
            student: VitConfig { soft_cap: Some(30.0), ..vit.clone() },
            objective: Objective::MaskEmbed {
                skip_blocks: 1,
                prefix_only: false,
                freeze_encoder: false,
                decoder: DecoderConfig {
                    layers: 2,
                    width: vit.hidden_size,
                    heads: vit.heads,
                    qkv_bias: vit.qkv_bias,
                    qk_norm: vit.qk_norm,
                    layer_scale: Some(1e-6),
                    activation: vit.activation,
                    eps: 1e-6,
                },
            },
            head: HeadKind::Linear,
            fresh_eps: 1e-6,
            masks: MaskKind::Uniform,
            antithetical: true,
            full_mask: true,
            loss: Loss::Mse,
            optimiser: AdamwConfig::RECIPE,
            schedule,
            ema: None,
            checkpointing: false,
        }
    }

    /// Patches along a side of the student's pictures.
    pub(super) fn side(&self) -> usize {
        self.student.image_size / self.student.patch_size.max(1)
    }

    /// The sampler of the masks.
    ///
    /// # Errors
    /// As [`MaskSampler::new`].
    pub fn sampler(&self) -> Result<MaskSampler> {
        MaskSampler::new(self.masks, self.side(), self.antithetical, self.full_mask)
    }

    /// Numbers of a token that the student's head gives.
    pub(super) fn head_width(&self) -> usize {
        match self.objective {
            Objective::MaskEmbed { decoder, .. } => decoder.width,
            Objective::Mim => self.student.hidden_size,
        }
    }

    /// # Errors
    /// [`Error::Input`] naming the field.
    pub(super) fn check(&self) -> Result<()> {
        let (teacher, student) = (&self.teacher, &self.student);
        let error = |field, reason| Err(Error::Input { field, reason });
        if teacher.image_size != student.image_size || teacher.patch_size != student.patch_size {
            let sizes = [teacher.image_size, teacher.patch_size, student.image_size, student.patch_size];
            return error(
                "student",
                format!("teacher and student differ in picture or patch size: {sizes:?}"),
            );
        }
        if teacher.prefix() != student.prefix() {
            let (a, b) = (teacher.prefix(), student.prefix());
            return error("student", format!("has {b} prefix tokens, the teacher {a}"));
        }
        match self.objective {
            Objective::Mim if teacher.hidden_size != student.hidden_size => {
                let (a, b) = (teacher.hidden_size, student.hidden_size);
                return error(
                    "student",
                    format!("is {b} wide, the teacher {a}; there is no decoder between them"),
                );
            }
            Objective::MaskEmbed { freeze_encoder: true, decoder, .. }
                if decoder.width != student.hidden_size =>
            {
                let (a, b) = (decoder.width, student.hidden_size);
                return error(
                    "decoder.width",
                    format!("is {a}, but a frozen encoder gives {b} numbers a token"),
                );
            }
            _ => {}
        }
        if self.ema.is_some_and(|ema| !(0.0..1.0).contains(&ema.decay)) {
            return error("ema.decay", "must lie in [0, 1)".to_string());
        }
        self.schedule.check()?;
        self.optimiser.check()?;
        self.sampler().map(drop)
    }
}
