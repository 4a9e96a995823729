//! What looks at the picture: vision transformers, the ConvNeXt tower, the projector and the visual prompt encoder.
#![forbid(unsafe_code)]

mod config;
mod convnext;
mod pixels;
mod pool;
mod position;
mod projector;
mod select;
mod visual_prompt;
mod vit;
mod vit_names;
mod vpt_config;

#[cfg(feature = "finetune")]
pub(crate) use position::resample;
#[cfg(feature = "finetune")]
pub(crate) use vit::{descend, load_positions, position_prefix};
#[cfg(feature = "finetune")]
pub(crate) use vit_names::{AttentionTable, names};

pub use config::{NameTable, PoolKind, PositionScope, Resampling, VitConfig};
pub use convnext::{ConvNext, ConvNextConfig, ConvNextOutput};
pub use projector::{Projector, ProjectorConfig};
pub use select::{FeatureMap, select_layer};
pub use visual_prompt::{VisualPromptEncoder, VisualPrompts};
pub use vit::{Vit, VitOutput};
pub use vpt_config::{PromptStrategy, VisualPromptConfig};
