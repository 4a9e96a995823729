//! Softmax attention.
#![forbid(unsafe_code)]

use super::Cuda;
use super::driver::DevicePointer;
use super::kernel::Kernel;
use super::operand::{ELEMENT, Operand, blocks, elements, narrow, one_each, size};
use super::signature::Parameter::{F32, U32, U64};
use super::signature::{Argument, Signature};
use crate::backend::{Attention, AttentionMask, Matrix, View};
use crate::checked::{Size, quotient};
use crate::error::{Error, Result};

/// `cuda/attention.ptx`
pub(super) const SIGNATURE: Signature = Signature {
    entry: "triplet_attention",
    parameters: &[
        (U64, "out"),
        (U64, "q"),
        (U64, "k"),
        (U64, "v"),
        (U64, "partial"),
        (U32, "queries"),
        (U32, "keys"),
        (U32, "heads"),
        (U32, "kv_heads"),
        (U32, "d"),
        (U32, "e"),
        (U32, "q_stride"),
        (U32, "k_stride"),
        (U32, "v_stride"),
        (U32, "causal"),
        (U32, "first"),
        (U32, "window"),
        (F32, "scale"),
        (F32, "soft_cap"),
    ],
    threads: 128,
};

/// `cuda/attention_sm80.ptx` and `cuda/attention_sm75.ptx`
pub(super) const TENSOR: Signature = Signature { entry: "triplet_attention_sm80", ..SIGNATURE };

/// Widest head that [`Kernel::AttentionTensor`] takes, and the rows of its blocks.
const TENSOR_COLUMNS: usize = 64;

/// `cuda/attention_merge.ptx`
pub(super) const MERGE: Signature = Signature {
    entry: "triplet_attention_merge",
    parameters: &[(U64, "out"), (U64, "partial"), (U32, "rows"), (U32, "e"), (U32, "splits")],
    threads: 256,
};

/// Widest head.
const MOST_COLUMNS: usize = 256;

/// Keys of a part, where keys are split.
const PART: usize = 128;

/// Blocks that keep a device busy; with fewer, keys are split.
const BUSY: usize = 64;

/// Softmax attention with `cols` columns of output.
pub(super) fn attention(
    cuda: &Cuda,
    q: View<Cuda>,
    k: View<Cuda>,
    v: View<Cuda>,
    attention: &Attention,
    cols: usize,
) -> Result<Matrix<Cuda>> {
    let Attention { heads, kv_heads, scale, soft_cap, mask, .. } = *attention;
    let (queries, keys) = (q.rows(), k.rows());
    let (d, e) = (quotient(q.cols(), heads), quotient(v.cols(), kv_heads));
    let out = cuda.matrix("attention", queries, cols)?;
    if queries * cols == 0 {
        return Ok(out);
    }
    if keys == 0 {
        cuda.fill(out.buffer(), 0)?;
        return Ok(out);
    }
    if d == 0 || d.max(e) > MOST_COLUMNS {
        let got = d.max(e) as u64;
        return Err(Error::Limit { limit: "cuda.head_dim", max: MOST_COLUMNS as u64, got });
    }
    // As cuda/README.md says: a block of T threads takes T / 8 rows, a row being a query of one of the heads that share keys.
    let width = d.max(e).next_multiple_of(32);
    let threads: u32 = if width <= 128 { 128 } else { 64 };
    let per_block = threads as usize / 8;
    let rows = elements(queries, quotient(heads, kv_heads))?.div_ceil(per_block);
    let shared = narrow(4 * ((per_block + 32) * width + 32 * per_block))?;
    let splits = if keys > PART && rows * kv_heads < BUSY { keys.div_ceil(PART) } else { 1 };
    // A query at a time is no work for them.
    let tensor =
        queries > 1 && splits == 1 && d.max(e) <= TENSOR_COLUMNS && cuda.uses(Kernel::AttentionTensor);
    let all_rows = Size::new(queries).times(heads)?;
    let partial = match splits {
        1 => None,
        _ => Some(
            cuda.shared
                .pool
                .take("attention", all_rows.times(splits)?.times(e + 2)?.times(ELEMENT)?.get())?,
        ),
    };
    let partial_pointer =
        Argument::Pointer(partial.as_ref().map_or(DevicePointer::NULL, |partial| partial.pointer()));
    let (causal, first, window) = match mask {
        AttentionMask::Full => (0, 0, None),
        AttentionMask::Causal { first, window } => (1, first, window),
    };
    let (q, k, v) = (Operand::new(cuda, q)?, Operand::new(cuda, k)?, Operand::new(cuda, v)?);
    let out_pointer = Argument::Pointer(out.buffer().pointer());
    let arguments = [
        out_pointer,
        q.pointer,
        k.pointer,
        v.pointer,
        partial_pointer,
        size(queries)?,
        size(keys)?,
        size(heads)?,
        size(kv_heads)?,
        size(d)?,
        size(e)?,
        q.stride,
        k.stride,
        v.stride,
        Argument::U32(causal),
        size(first)?,
        // A window as long as all positions is none.
        Argument::U32(window.and_then(|window| u32::try_from(window).ok()).unwrap_or(u32::MAX)),
        Argument::F32(scale),
        Argument::F32(soft_cap.unwrap_or(0.0)),
    ];
    if tensor {
        let rows = elements(queries, quotient(heads, kv_heads))?.div_ceil(TENSOR_COLUMNS);
        let grid = [narrow(rows)?, blocks(kv_heads, 1)?, 1];
        cuda.launch(Kernel::AttentionTensor, [grid, [128, 1, 1]], 0, &arguments)?;
        return Ok(out);
    }
    let grid = [narrow(rows)?, blocks(kv_heads, 1)?, blocks(splits, 1)?];
    cuda.launch(Kernel::Attention, [grid, [threads, 1, 1]], shared, &arguments)?;
    if splits > 1 {
        let rows = all_rows.get();
        let arguments = [out_pointer, partial_pointer, size(rows)?, size(e)?, size(splits)?];
        cuda.launch(Kernel::AttentionMerge, one_each(elements(rows, e)?)?, 0, &arguments)?;
    }
    Ok(out)
}
