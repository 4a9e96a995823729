//! The kernels: their names, their texts, and which text is for which device.
#![forbid(unsafe_code)]

use alloc::format;
use alloc::string::String;

use super::signature::Signature;
use super::{
    activate, add, attention, conv2d, copy, embedding, group_norm, is_finite, layer_norm, linear,
    linear_group, linear_runs, mask_pixels, matmul, prepare, quantised, resize, rms_norm, rope, select_token,
};

/// A kernel, named as its file in `cuda/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kernel {
    /// A rectangle, or the elements of a stored tensor.
    Copy,
    /// Rows of a table.
    Embedding,
    /// Sum of two matrices.
    Add,
    /// An elementwise function, and the product with another matrix.
    Activate,
    /// Whether every element is finite.
    IsFinite,
    /// Rotary positions.
    Rope,
    /// A feature map at another size.
    Resize,
    /// Layer normalisation.
    LayerNorm,
    /// Normalisation by the root of the mean square.
    RmsNorm,
    /// Group normalisation.
    GroupNorm,
    /// Product with a stored weight, and what comes after it.
    Linear,
    /// As [`Kernel::Linear`] on tensor cores, where the device has them.
    LinearTensor,
    /// As [`Kernel::Linear`] by products of warp groups, where the device has them.
    LinearGroup,
    /// A weight laid out for [`Kernel::LinearGroup`].
    LinearPack,
    /// The sums of runs of inputs of [`Kernel::LinearTensor`] and [`Kernel::LinearGroup`], and what comes after them.
    LinearMerge,
    /// As [`Kernel::Linear`], for few rows.
    LinearRow,
    /// Product of two matrices.
    Matmul,
    /// Convolution, and what comes after it.
    Conv2d,
    /// Convolution with a filter of its own for each channel.
    Depthwise,
    /// Softmax attention.
    Attention,
    /// As [`Kernel::Attention`] on tensor cores, where the device has them.
    AttentionTensor,
    /// The parts of an attention whose keys were split.
    AttentionMerge,
    /// A matrix in integers as the numbers that it stands for.
    Dequantise,
    /// As [`Kernel::LinearRow`] with a weight in integers.
    LinearRowQuantised,
    /// Choice of a token from logits.
    SelectToken,
    /// What the log-probability of the choice is made of.
    LogProbability,
    /// Which pixels of a picture its maps have above a threshold.
    MaskPixels,
    /// A picture's rows, resized.
    PrepareAcross,
    /// Its columns, resized, cut and normalised.
    PrepareDown,
}

/// A file of `cuda/`: its name without the ending, and its text.
#[derive(Clone, Copy)]
pub(super) struct Text {
    pub(super) name: &'static str,
    text: &'static str,
}

impl Kernel {
    /// Every kernel.
    pub const ALL: [Kernel; 29] = [
        Kernel::Copy,
        Kernel::Embedding,
        Kernel::Add,
        Kernel::Activate,
        Kernel::IsFinite,
        Kernel::Rope,
        Kernel::Resize,
        Kernel::LayerNorm,
        Kernel::RmsNorm,
        Kernel::GroupNorm,
        Kernel::Linear,
        Kernel::LinearTensor,
        Kernel::LinearGroup,
        Kernel::LinearPack,
        Kernel::LinearMerge,
        Kernel::LinearRow,
        Kernel::Matmul,
        Kernel::Conv2d,
        Kernel::Depthwise,
        Kernel::Attention,
        Kernel::AttentionTensor,
        Kernel::AttentionMerge,
        Kernel::Dequantise,
        Kernel::LinearRowQuantised,
        Kernel::SelectToken,
        Kernel::LogProbability,
        Kernel::MaskPixels,
        Kernel::PrepareAcross,
        Kernel::PrepareDown,
    ];

    /// What it takes.
    pub fn signature(self) -> &'static Signature {
        match self {
            Kernel::Copy => &copy::SIGNATURE,
            Kernel::Embedding => &embedding::SIGNATURE,
            Kernel::Add => &add::SIGNATURE,
            Kernel::Activate => &activate::SIGNATURE,
            Kernel::IsFinite => &is_finite::SIGNATURE,
            Kernel::Rope => &rope::SIGNATURE,
            Kernel::Resize => &resize::SIGNATURE,
            Kernel::LayerNorm => &layer_norm::SIGNATURE,
            Kernel::RmsNorm => &rms_norm::SIGNATURE,
            Kernel::GroupNorm => &group_norm::SIGNATURE,
            Kernel::Linear => &linear::SIGNATURE,
            Kernel::LinearTensor => &linear::TENSOR,
            Kernel::LinearGroup => &linear_group::SIGNATURE,
            Kernel::LinearPack => &linear_group::PACK,
            Kernel::LinearMerge => &linear_runs::MERGE,
            Kernel::LinearRow => &linear::ROW,
            Kernel::Matmul => &matmul::SIGNATURE,
            Kernel::Conv2d => &conv2d::SIGNATURE,
            Kernel::Depthwise => &conv2d::DEPTHWISE,
            Kernel::Attention => &attention::SIGNATURE,
            Kernel::AttentionTensor => &attention::TENSOR,
            Kernel::AttentionMerge => &attention::MERGE,
            Kernel::Dequantise => &quantised::DEQUANTISE,
            Kernel::LinearRowQuantised => &quantised::LINEAR_ROW,
            Kernel::SelectToken => &select_token::SIGNATURE,
            Kernel::LogProbability => &select_token::LOG_PROBABILITY,
            Kernel::MaskPixels => &mask_pixels::SIGNATURE,
            Kernel::PrepareAcross => &prepare::ACROSS,
            Kernel::PrepareDown => &prepare::DOWN,
        }
    }

    /// Whether a device may be without it: another kernel then does its work.
    pub(super) fn is_optional(self) -> bool {
        matches!(
            self,
            Kernel::LinearTensor
                | Kernel::LinearGroup
                | Kernel::LinearPack
                | Kernel::LinearMerge
                | Kernel::AttentionTensor
        )
    }

    /// Bytes of dynamic shared memory that its blocks may take beyond what needs no asking.
    pub(super) fn shared(self) -> u32 {
        if self == Kernel::LinearGroup { linear_group::SHARED } else { 0 }
    }

    /// Names of its variants, the fastest first; the last is for every device, unless the kernel needs tensor cores.
    pub fn variants(self) -> impl DoubleEndedIterator<Item = &'static str> {
        self.texts().iter().map(|text| text.name)
    }

    /// Its variants, the fastest first; the last runs on every device that has the kernel.
    pub(super) fn texts(self) -> &'static [Text] {
        match self {
            Kernel::Copy => &[Text { name: "copy", text: include_str!("../../cuda/copy.ptx") }],
            Kernel::Embedding => {
                &[Text { name: "embedding", text: include_str!("../../cuda/embedding.ptx") }]
            }
            Kernel::Add => &[Text { name: "add", text: include_str!("../../cuda/add.ptx") }],
            Kernel::Activate => &[Text { name: "activate", text: include_str!("../../cuda/activate.ptx") }],
            Kernel::IsFinite => &[Text { name: "is_finite", text: include_str!("../../cuda/is_finite.ptx") }],
            Kernel::Rope => &[Text { name: "rope", text: include_str!("../../cuda/rope.ptx") }],
            Kernel::Resize => &[Text { name: "resize", text: include_str!("../../cuda/resize.ptx") }],
            Kernel::LayerNorm => {
                &[Text { name: "layer_norm", text: include_str!("../../cuda/layer_norm.ptx") }]
            }
            Kernel::RmsNorm => &[Text { name: "rms_norm", text: include_str!("../../cuda/rms_norm.ptx") }],
            Kernel::GroupNorm => {
                &[Text { name: "group_norm", text: include_str!("../../cuda/group_norm.ptx") }]
            }
            Kernel::Linear => &[Text { name: "linear", text: include_str!("../../cuda/linear.ptx") }],
            Kernel::LinearTensor => &[
                Text { name: "linear_sm80", text: include_str!("../../cuda/linear_sm80.ptx") },
                Text { name: "linear_sm75", text: include_str!("../../cuda/linear_sm75.ptx") },
            ],
            Kernel::LinearGroup => {
                &[Text { name: "linear_sm90a", text: include_str!("../../cuda/linear_sm90a.ptx") }]
            }
            Kernel::LinearPack => {
                &[Text { name: "linear_pack", text: include_str!("../../cuda/linear_pack.ptx") }]
            }
            Kernel::LinearMerge => {
                &[Text { name: "linear_merge", text: include_str!("../../cuda/linear_merge.ptx") }]
            }
            Kernel::LinearRow => {
                &[Text { name: "linear_row", text: include_str!("../../cuda/linear_row.ptx") }]
            }
            Kernel::Matmul => &[Text { name: "matmul", text: include_str!("../../cuda/matmul.ptx") }],
            Kernel::Conv2d => &[Text { name: "conv2d", text: include_str!("../../cuda/conv2d.ptx") }],
            Kernel::Depthwise => {
                &[Text { name: "depthwise", text: include_str!("../../cuda/depthwise.ptx") }]
            }
            Kernel::Attention => {
                &[Text { name: "attention", text: include_str!("../../cuda/attention.ptx") }]
            }
            Kernel::AttentionTensor => &[
                Text { name: "attention_sm80", text: include_str!("../../cuda/attention_sm80.ptx") },
                Text { name: "attention_sm75", text: include_str!("../../cuda/attention_sm75.ptx") },
            ],
            Kernel::AttentionMerge => {
                &[Text { name: "attention_merge", text: include_str!("../../cuda/attention_merge.ptx") }]
            }
            Kernel::Dequantise => {
                &[Text { name: "dequantise", text: include_str!("../../cuda/dequantise.ptx") }]
            }
            Kernel::LinearRowQuantised => {
                const TEXT: &str = include_str!("../../cuda/linear_row_quantised.ptx");
                &[Text { name: "linear_row_quantised", text: TEXT }]
            }
            Kernel::SelectToken => {
                &[Text { name: "select_token", text: include_str!("../../cuda/select_token.ptx") }]
            }
            Kernel::LogProbability => {
                &[Text { name: "log_probability", text: include_str!("../../cuda/log_probability.ptx") }]
            }
            Kernel::MaskPixels => {
                &[Text { name: "mask_pixels", text: include_str!("../../cuda/mask_pixels.ptx") }]
            }
            Kernel::PrepareAcross => {
                &[Text { name: "prepare_across", text: include_str!("../../cuda/prepare_across.ptx") }]
            }
            Kernel::PrepareDown => {
                &[Text { name: "prepare_down", text: include_str!("../../cuda/prepare_down.ptx") }]
            }
        }
    }
}

impl Text {
    /// Name of its entry.
    pub(super) fn entry(self) -> String {
        format!("triplet_{}", self.name)
    }

    /// Whether the variant is for devices of a compute capability: `_sm75` and `_sm80` for 7.5 and 8.0 and what is later,
    /// `_sm90a` for 9.0 alone, the rest for all.
    pub(super) fn suits(self, compute: u32) -> bool {
        match self.name.rsplit_once("_sm") {
            Some((_, "90a")) => compute == 90,
            Some((_, least)) => least.parse::<u32>().is_ok_and(|least| compute >= least),
            None => true,
        }
    }

    /// The text as the driver gets it: `// include NAME` on a line of its own stands for the text of `cuda/NAME.inc`.
    pub(super) fn whole(self) -> String {
        let mut whole = String::new();
        append(self.text, &mut whole, 0);
        whole
    }
}

/// Most includes within each other.
const DEPTH: usize = 8;

fn append(text: &str, whole: &mut String, depth: usize) {
    for line in text.lines() {
        let name = line.trim().strip_prefix("// include ").filter(|_| depth < DEPTH);
        match name.and_then(|name| INCLUDES.iter().find(|(other, _)| *other == name)) {
            Some((_, include)) => append(include, whole, depth + 1),
            None => {
                whole.push_str(line);
                whole.push('\n');
            }
        }
    }
}

/// Texts that kernels share.
const INCLUDES: &[(&str, &str)] = &[
    ("activation", include_str!("../../cuda/activation.inc")),
    ("attention_bring", include_str!("../../cuda/attention_bring.inc")),
    ("attention_cap_tensor", include_str!("../../cuda/attention_cap_tensor.inc")),
    ("attention_join", include_str!("../../cuda/attention_join.inc")),
    ("attention_line_sm75", include_str!("../../cuda/attention_line_sm75.inc")),
    ("attention_queries", include_str!("../../cuda/attention_queries.inc")),
    ("attention_scores_sm75", include_str!("../../cuda/attention_scores_sm75.inc")),
    ("attention_scores_sm80", include_str!("../../cuda/attention_scores_sm80.inc")),
    ("attention_values", include_str!("../../cuda/attention_values.inc")),
    ("attention_values_sm75", include_str!("../../cuda/attention_values_sm75.inc")),
    ("attention_values_sm80", include_str!("../../cuda/attention_values_sm80.inc")),
    ("attention_weights", include_str!("../../cuda/attention_weights.inc")),
    ("attention_weights_tensor", include_str!("../../cuda/attention_weights_tensor.inc")),
    ("attention_write", include_str!("../../cuda/attention_write.inc")),
    ("attention_write_tensor", include_str!("../../cuda/attention_write_tensor.inc")),
    ("block_sum", include_str!("../../cuda/block_sum.inc")),
    ("element", include_str!("../../cuda/element.inc")),
    ("linear_finish_sm90a", include_str!("../../cuda/linear_finish_sm90a.inc")),
    ("linear_fold_sm75", include_str!("../../cuda/linear_fold_sm75.inc")),
    ("linear_fold_sm90a", include_str!("../../cuda/linear_fold_sm90a.inc")),
    ("linear_parts_sm90a", include_str!("../../cuda/linear_parts_sm90a.inc")),
    ("linear_partial", include_str!("../../cuda/linear_partial.inc")),
    ("linear_partial_sm90a", include_str!("../../cuda/linear_partial_sm90a.inc")),
    ("linear_products_single_sm90a", include_str!("../../cuda/linear_products_single_sm90a.inc")),
    ("linear_products_sm90a", include_str!("../../cuda/linear_products_sm90a.inc")),
    ("linear_run", include_str!("../../cuda/linear_run.inc")),
    ("linear_split_sm75", include_str!("../../cuda/linear_split_sm75.inc")),
    ("linear_stage_sm90a", include_str!("../../cuda/linear_stage_sm90a.inc")),
    ("mask_tap", include_str!("../../cuda/mask_tap.inc")),
    ("most_sm75", include_str!("../../cuda/most_sm75.inc")),
    ("prepare_round", include_str!("../../cuda/prepare_round.inc")),
    ("resize_axis", include_str!("../../cuda/resize_axis.inc")),
    ("resize_weight", include_str!("../../cuda/resize_weight.inc")),
    ("split_left_sm80", include_str!("../../cuda/split_left_sm80.inc")),
    ("split_right_sm80", include_str!("../../cuda/split_right_sm80.inc")),
    ("split_sm75", include_str!("../../cuda/split_sm75.inc")),
    ("tile_finish", include_str!("../../cuda/tile_finish.inc")),
    ("tile_fold", include_str!("../../cuda/tile_fold.inc")),
    ("tile_gather", include_str!("../../cuda/tile_gather.inc")),
    ("tile_product", include_str!("../../cuda/tile_product.inc")),
    ("tile_start", include_str!("../../cuda/tile_start.inc")),
    ("unit_sm75", include_str!("../../cuda/unit_sm75.inc")),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_include_is_put_in_its_place() {
        for kernel in Kernel::ALL {
            for text in kernel.texts() {
                let whole = text.whole();
                let left = whole.lines().find(|line| line.trim().starts_with("// include "));
                assert_eq!(left, None, "{}", text.name);
                assert!(whole.contains(&format!(".entry {}(", text.entry())), "{}", text.name);
            }
        }
    }
}
