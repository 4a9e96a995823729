//! What a run computes: everything that its bits depend on beside weights and pictures.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::finetune::{
    AdamwConfig, AlignConfig, Decay, DecoderConfig, EmaConfig, HeadKind, Loss, MaskKind, Objective, Schedule,
};
use crate::vision::VitConfig;

/// The hyperparameters of a run.
#[derive(Clone, Debug)]
pub struct RunConfig {
    /// Fixes fresh weights, masks, order and augmentation.
    pub seed: u64,
    /// Updates in all.
    pub updates: u64,
    /// Pictures of an update.
    pub batch: usize,
    /// Forward passes that the pictures of an update are spread over; divides `batch`.
    pub parts: usize,
    /// Largest learning rate; it falls to a tenth along half a cosine.
    pub rate: f64,
    /// Updates over which the rate rises from a tenth.
    pub warmup: u64,
    /// Whether pictures are augmented.
    pub augment: bool,
    /// Soft cap of the student's attention logits, of a frozen one too; `None` leaves the student as its model is.
    pub soft_cap: Option<f32>,
    /// Masked image modelling in place of locality alignment.
    pub mim: bool,
    /// Last blocks of the teacher that are left out.
    pub skip_blocks: usize,
    /// Whether the target is the teacher's pooled vector, predicted at the prefix token; then `skip_blocks` must be 0.
    pub prefix_only: bool,
    /// Whether the encoder stays as it is and the decoder learns alone; then there is nothing to export.
    pub freeze_encoder: bool,
    /// Blocks of the decoder.
    pub decoder_layers: usize,
    /// The student's new head.
    pub head: HeadKind,
    /// How masks are drawn.
    pub masks: MaskKind,
    /// The loss.
    pub loss: Loss,
    /// Weight decay.
    pub decay: f64,
    /// What decays.
    pub decays: Decay,
    /// A moving average of the parameters; the export takes it where there is one.
    pub ema: Option<EmaConfig>,
    /// Most pictures that validation looks at.
    pub validation: usize,
    /// Updates between two validations; there is one before the first update and one after the last.
    pub validate_every: u64,
}

impl RunConfig {
    /// The published recipe over `updates` updates, for one machine: 32 pictures an update.
    pub fn recipe(updates: u64) -> RunConfig {
        RunConfig {
            seed: 1,
            updates,
            batch: 32,
            parts: 4,
            rate: 3e-4,
            warmup: 0,
            augment: true,
            soft_cap: Some(30.0),
            mim: false,
            skip_blocks: 1,
            prefix_only: false,
            freeze_encoder: false,
            decoder_layers: 2,
            head: HeadKind::Linear,
            masks: MaskKind::Uniform,
            loss: Loss::Mse,
            decay: 0.01,
            decays: Decay::All,
            ema: None,
            validation: 128,
            validate_every: (updates / 10).max(1),
        }
    }

    /// Every field by name, as a checkpoint keeps it.
    pub(super) fn options(&self) -> BTreeMap<String, String> {
        let RunConfig {
            seed,
            updates,
            batch,
            parts,
            rate,
            warmup,
            augment,
            soft_cap,
            mim,
            skip_blocks,
            prefix_only,
            freeze_encoder,
            decoder_layers,
            head,
            masks,
            loss,
            decay,
            decays,
            ema,
            validation,
            validate_every,
        } = self;
        [
            ("seed", seed.to_string()),
            ("updates", updates.to_string()),
            ("batch", batch.to_string()),
            ("parts", parts.to_string()),
            ("rate", rate.to_string()),
            ("warmup", warmup.to_string()),
            ("augment", augment.to_string()),
            ("soft_cap", format!("{soft_cap:?}")),
            ("mim", mim.to_string()),
            ("skip_blocks", skip_blocks.to_string()),
            ("prefix_only", prefix_only.to_string()),
            ("freeze_encoder", freeze_encoder.to_string()),
            ("decoder_layers", decoder_layers.to_string()),
            ("head", format!("{head:?}")),
            ("masks", format!("{masks:?}")),
            ("loss", format!("{loss:?}")),
            ("decay", decay.to_string()),
            ("decays", format!("{decays:?}")),
            ("ema", format!("{ema:?}")),
            ("validation", validation.to_string()),
            ("validate_every", validate_every.to_string()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_string(), value))
        .collect()
    }

    /// The trainer's configuration for an encoder. `checkpointing` saves memory and changes no bit.
    ///
    /// # Errors
    /// [`Error::Input`] naming the field.
    pub(super) fn align(&self, vit: &VitConfig, checkpointing: bool) -> Result<AlignConfig> {
        let error = |field, reason: String| Err(Error::Input { field, reason });
        if self.batch == 0 || self.parts == 0 || !self.batch.is_multiple_of(self.parts) {
            return error(
                "parts",
                format!("{} parts do not divide a batch of {} pictures", self.parts, self.batch),
            );
        }
        if self.mim && (self.prefix_only || self.freeze_encoder) {
            let reason = "has no decoder: it goes with neither prefix_only nor freeze_encoder".to_string();
            return error("mim", reason);
        }
        if self.soft_cap.is_some_and(|cap| !(cap > 0.0 && cap.is_finite())) {
            return error("soft_cap", "must be above 0 and finite".to_string());
        }
        if self.updates == 0 {
            return error("updates", "must be above 0".to_string());
        }
        if self.validation == 0 || self.validate_every == 0 {
            return error("validation", "must look at a picture at least, now and then".to_string());
        }
        let schedule = Schedule { warmup: self.warmup, ..Schedule::cosine(self.rate, self.updates) };
        let recipe = AlignConfig::recipe(vit, schedule);
        let mut student = recipe.student;
        student.soft_cap = self.soft_cap.or(vit.soft_cap);
        let objective = match recipe.objective {
            _ if self.mim => Objective::Mim,
            Objective::MaskEmbed { decoder, .. } => Objective::MaskEmbed {
                skip_blocks: self.skip_blocks,
                prefix_only: self.prefix_only,
                freeze_encoder: self.freeze_encoder,
                decoder: DecoderConfig { layers: self.decoder_layers, ..decoder },
            },
            Objective::Mim => Objective::Mim,
        };
        Ok(AlignConfig {
            student,
            objective,
            head: self.head,
            // The file that the export is loaded with has one number for all norms.
            fresh_eps: vit.eps,
            masks: self.masks,
            loss: self.loss,
            optimiser: AdamwConfig { decay: self.decay, decays: self.decays, ..AdamwConfig::RECIPE },
            ema: self.ema,
            checkpointing,
            ..recipe
        })
    }
}
