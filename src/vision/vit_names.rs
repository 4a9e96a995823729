//! Tensor names of vision transformers, one table per family.
#![forbid(unsafe_code)]

use super::config::NameTable;
use crate::nn::AttentionNames;

/// Where a family keeps its tensors; names are relative to the root, those of a block to the block.
pub(crate) struct VitNames {
    /// Prefixes under which the model may lie, tried in order; the first that has the patch embedding counts.
    pub roots: &'static [&'static str],
    /// Patch embedding, without `.weight` and `.bias`.
    pub patch: &'static str,
    /// Class token.
    pub class: &'static str,
    /// Shape of the class token before its channels: a row of ones.
    pub class_ones: usize,
    /// Register tokens.
    pub registers: &'static str,
    /// Learned positions.
    pub positions: &'static str,
    /// Whether the positions have a leading dimension of 1.
    pub positions_batched: bool,
    /// Norm before the first block.
    pub pre_norm: &'static str,
    /// Norm after the last block.
    pub final_norm: &'static str,
    /// Norm of the pooled vector.
    pub pool_norm: &'static str,
    /// Blocks, without their number.
    pub blocks: &'static str,
    /// Norm before the attention.
    pub norm1: &'static str,
    /// Attention.
    pub attention: AttentionTable,
    /// Scale of the attention's output.
    pub scale1: &'static str,
    /// Norm before the feed-forward part.
    pub norm2: &'static str,
    /// Scale of its output.
    pub scale2: &'static str,
}

/// Names of the attention, relative to the block.
pub(crate) enum AttentionTable {
    /// Four layers.
    Separate(AttentionNames),
    /// `attn.qkv`, `attn.q_norm`, `attn.k_norm`, `attn.proj`.
    Fused,
}

const PROJ: AttentionTable = AttentionTable::Separate(AttentionNames {
    q: "self_attn.q_proj",
    k: "self_attn.k_proj",
    v: "self_attn.v_proj",
    out: "self_attn.out_proj",
});

const CLIP: VitNames = VitNames {
    roots: &["vision_model", ""],
    patch: "embeddings.patch_embedding",
    class: "embeddings.class_embedding",
    class_ones: 0,
    registers: "embeddings.register_tokens",
    positions: "embeddings.position_embedding.weight",
    positions_batched: false,
    pre_norm: "pre_layrnorm",
    final_norm: "post_layernorm",
    pool_norm: "",
    blocks: "encoder.layers",
    norm1: "layer_norm1",
    attention: PROJ,
    scale1: "",
    norm2: "layer_norm2",
    scale2: "",
};

const DINOV2: VitNames = VitNames {
    roots: &["", "dinov2", "dinov2_with_registers"],
    patch: "embeddings.patch_embeddings.projection",
    class: "embeddings.cls_token",
    class_ones: 2,
    registers: "embeddings.register_tokens",
    positions: "embeddings.position_embeddings",
    positions_batched: true,
    pre_norm: "",
    final_norm: "layernorm",
    pool_norm: "",
    blocks: "encoder.layer",
    norm1: "norm1",
    attention: AttentionTable::Separate(AttentionNames {
        q: "attention.attention.query",
        k: "attention.attention.key",
        v: "attention.attention.value",
        out: "attention.output.dense",
    }),
    scale1: "layer_scale1.lambda1",
    norm2: "norm2",
    scale2: "layer_scale2.lambda1",
};

const TIMM: VitNames = VitNames {
    // A checkpoint of locality alignment keeps its ViT under `encoder`.
    roots: &["", "encoder"],
    patch: "patch_embed.proj",
    class: "cls_token",
    class_ones: 2,
    registers: "reg_token",
    positions: "pos_embed",
    positions_batched: true,
    pre_norm: "norm_pre",
    final_norm: "norm",
    pool_norm: "fc_norm",
    blocks: "blocks",
    norm1: "norm1",
    attention: AttentionTable::Fused,
    scale1: "ls1.gamma",
    norm2: "norm2",
    scale2: "ls2.gamma",
};

/// The table of a family. SigLIP's encoder has CLIP's names.
pub(crate) fn names(table: NameTable) -> &'static VitNames {
    match table {
        NameTable::Clip | NameTable::Siglip => &CLIP,
        NameTable::Dinov2 => &DINOV2,
        NameTable::Timm => &TIMM,
    }
}
