//! Choice of a token from logits.
#![forbid(unsafe_code)]

use alloc::vec::Vec;

use super::kernel::Kernel;
use super::operand::{Operand, size};
use super::queue::Item;
use super::signature::Parameter::{F32, F64, U32, U64};
use super::signature::{Argument, Signature};
use super::{Cuda, is_finite};
use crate::backend::{Backend, SelectToken, Selected, View, select};
use crate::error::Result;

/// `cuda/select_token.ptx`
pub(super) const SIGNATURE: Signature = Signature {
    entry: "triplet_select_token",
    parameters: &[
        (U64, "out"),
        (U64, "logits"),
        (U64, "mask"),
        (U32, "n"),
        (U32, "top_k"),
        (F32, "temperature"),
        (F32, "top_p"),
        (F64, "uniform"),
    ],
    threads: 1024,
};

/// `cuda/log_probability.ptx`
pub(super) const LOG_PROBABILITY: Signature = Signature {
    entry: "triplet_log_probability",
    parameters: &[(U64, "out"), (U64, "logits"), (U64, "chosen"), (U32, "n")],
    threads: 1024,
};

/// Most tokens among which the device draws.
const MOST_CANDIDATES: usize = 64;

/// Bytes of what comes back: an id, whether a logit is not finite, the two numbers that make the log-probability, whether a
/// hidden state is not finite.
const ANSWER: usize = 5 * size_of::<u32>();

/// Chooses a token where `hidden` is finite, `None` where it is not. Greedily, and among at most [`MOST_CANDIDATES`], the device
/// does, and 20 bytes come back; a draw from more is the host's.
pub(super) fn select_token(
    cuda: &Cuda,
    hidden: Option<View<Cuda>>,
    logits: View<Cuda>,
    select: &mut SelectToken,
) -> Result<Option<Selected>> {
    let n = logits.cols();
    let on_host = select.temperature != 0.0 && !(1..=MOST_CANDIDATES).contains(&select.top_k);
    if n == 0 || on_host {
        if let Some(hidden) = hidden
            && !cuda.is_finite(hidden)?
        {
            return Ok(None);
        }
        return if n == 0 { Ok(Selected::Nothing) } else { select::on_host(cuda, logits, select) }.map(Some);
    }
    let from = Operand::new(cuda, logits)?;
    let words = select.allowed.iter().copied().chain(core::iter::repeat(0));
    let mask: Vec<u64> = words.take(n.div_ceil(64)).collect();
    let mask = cuda.early("select_token", bytemuck::cast_slice(&mask))?;
    let out = cuda.shared.pool.take("select_token", ANSWER)?;
    if cuda.poison {
        cuda.fill(&out, 0xFF)?;
    }
    let chosen = Argument::Pointer(out.pointer());
    let word = |index: u64| out.pointer().offset(index * size_of::<u32>() as u64);
    match hidden {
        Some(hidden) => is_finite::look(cuda, word(4), hidden)?,
        None => cuda.push(Item::Fill(word(4), is_finite::FLAG, 0))?,
    }
    let top_k = if select.temperature == 0.0 { 1 } else { select.top_k };
    let arguments = [
        chosen,
        from.pointer,
        Argument::Pointer(mask.pointer()),
        size(n)?,
        size(top_k)?,
        Argument::F32(select.temperature),
        Argument::F32(select.top_p),
        Argument::F64(select.uniform),
    ];
    let shape = [[1, 1, 1], [1024, 1, 1]];
    cuda.launch(Kernel::SelectToken, shape, 0, &arguments)?;
    cuda.launch(
        Kernel::LogProbability,
        shape,
        0,
        &[Argument::Pointer(word(2)), from.pointer, chosen, size(n)?],
    )?;
    let mut answer = [0u32; ANSWER / size_of::<u32>()];
    cuda.downloaded(&out, 0, bytemuck::cast_slice_mut(&mut answer))?;
    cuda.keep_early(mask);
    let [id, not_finite, below, sum, hidden_not_finite] = answer;
    if hidden_not_finite != 0 {
        return Ok(None);
    }
    Ok(Some(match id {
        _ if not_finite != 0 => Selected::NotFinite,
        u32::MAX => Selected::Nothing,
        id => {
            let log_sum = libm::log(f64::from(f32::from_bits(sum)));
            let log_probability = (f64::from(f32::from_bits(below)) - log_sum) as f32;
            Selected::Token { id, log_probability }
        }
    }))
}
