//! Configuration of the visual prompt encoder: the reference's `VPTEncoderConfig`.
#![forbid(unsafe_code)]

use alloc::format;

use super::projector::ProjectorConfig;
use crate::checked::Size;
use crate::config::Fields;
use crate::error::Result;
use crate::words::Quoted;

/// How a region becomes tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromptStrategy {
    /// Masked mean over contiguous runs of the flattened grid.
    Pooling,
    /// Strided convolution over the masked features.
    Embedding,
}

/// Fields of the reference's `VPTEncoderConfig`.
#[derive(Clone, Debug)]
pub struct VisualPromptConfig {
    /// Channels of the visual features and of a token.
    pub visual_hidden_size: usize,
    /// Tokens per region without the mask token; a square number.
    pub num_patches: usize,
    /// Side and stride of the convolution, cells; strategy `embedding` alone.
    pub patch_size: usize,
    /// How a region becomes tokens.
    pub strategy: PromptStrategy,
    /// Whether one more token embeds the region's mask.
    pub use_mask_token: bool,
    /// The encoder's own projector, where tokens do not go through the model's.
    pub projector: Option<ProjectorConfig>,
}

impl VisualPromptConfig {
    /// Reads `visual_hidden_size`, `num_patches` (9), `patch_size` (8), `strategy` ("pooling"), `use_mask_token`
    /// (false), `use_projector` (false) and the projector's fields.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) naming the field. `legacy` prompts are not supported.
    pub fn from_fields(fields: &Fields) -> Result<VisualPromptConfig> {
        if fields.bool_or("legacy", false)? {
            return Err(fields.error("legacy", "only false is supported"));
        }
        let strategy = match fields.str_or("strategy", "pooling")? {
            "pooling" => PromptStrategy::Pooling,
            "embedding" => PromptStrategy::Embedding,
            other => return Err(fields.error("strategy", format!("unknown strategy {}", Quoted(other)))),
        };
        let num_patches = fields.usize_or("num_patches", 9)?;
        let side = num_patches.isqrt();
        if num_patches == 0 || Size::new(side).times(side)?.get() != num_patches {
            return Err(fields.error("num_patches", format!("is {num_patches}, which is no square number")));
        }
        let patch_size = fields.usize_or("patch_size", 8)?;
        if patch_size == 0 {
            return Err(fields.error("patch_size", "must be above 0"));
        }
        let use_mask_token = fields.bool_or("use_mask_token", false)?;
        let projector = match fields.bool_or("use_projector", false)? {
            true => Some(ProjectorConfig::from_fields(fields)?),
            false => None,
        };
        let visual_hidden_size = fields.usize("visual_hidden_size")?;
        if let Some(projector) = &projector
            && use_mask_token
            && projector.llm_hidden_size != visual_hidden_size
        {
            // The stored mask embedding then has the language model's width, but joins tokens of the visual width.
            let reason = format!(
                "with use_mask_token needs equal visual_hidden_size {visual_hidden_size} and llm_hidden_size {}",
                projector.llm_hidden_size
            );
            return Err(fields.error("use_projector", reason));
        }
        Ok(VisualPromptConfig {
            visual_hidden_size,
            num_patches,
            patch_size,
            strategy,
            use_mask_token,
            projector,
        })
    }

    /// Tokens per region.
    pub fn tokens(&self) -> usize {
        self.num_patches.saturating_add(usize::from(self.use_mask_token))
    }
}
