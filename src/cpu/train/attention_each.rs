//! Attention of many short sequences: every thread takes whole ones, so that nobody waits inside.
#![forbid(unsafe_code)]

use alloc::vec::Vec;

use super::super::Cpu;
use super::super::attention;
use super::super::cache::Held;
use super::super::mat::Mat;
use super::super::threads::Threads;
use crate::backend::{Attention, CacheType, Matrix, View};
use crate::error::Result;

/// The operands of every run of `tokens` rows.
pub(super) fn sequences<'a, const N: usize>(
    operands: [View<'a, Cpu>; N],
    tokens: usize,
) -> Result<Vec<[Mat<'a>; N]>> {
    let rows = operands.first().map_or(0, View::rows);
    let mut sequences = Vec::with_capacity(rows / tokens.max(1));
    for first in (0..rows).step_by(tokens.max(1)) {
        let mut parts = Vec::with_capacity(N);
        for operand in operands {
            parts.push(Mat::new(operand.row_range(first..first + tokens)?)?);
        }
        sequences.extend(<[Mat<'a>; N]>::try_from(parts).ok());
    }
    Ok(sequences)
}

/// [`Train::attention_each`](crate::backend::Train::attention_each) of checked operands.
pub(super) fn attention_each(
    cpu: &Cpu,
    [q, k, v]: [View<Cpu>; 3],
    attention: &Attention,
    tokens: usize,
) -> Result<Matrix<Cpu>> {
    let (d, e) = (q.cols() / attention.heads, v.cols() / attention.kv_heads);
    let cols = e * attention.heads;
    let sequences = sequences([q, k, v], tokens)?;
    let alone = Cpu { threads: Threads::new(1), ..cpu.clone() };
    let held = |x| Held::plain(x, attention.kv_heads);
    let need = |cpu: &Cpu| attention::scratch(cpu, [tokens; 2], [d, e], CacheType::F32, attention);
    // Few sequences are shared out head by head.
    let shared = sequences.len() < 2 * cpu.threads.workers();
    let scratch = if shared { need(cpu) } else { need(&alone) * cpu.threads.workers() };
    cpu.matrix("attention_each", [q.rows(), cols], scratch, |out, scratch| {
        if shared {
            for (out, [q, k, v]) in out.chunks_mut((tokens * cols).max(1)).zip(sequences) {
                attention::attention(cpu, q, held(k), held(v), attention, scratch, out);
            }
            return Ok(());
        }
        let cost = q.rows().saturating_mul(tokens).saturating_mul(attention.heads).saturating_mul(d + e);
        cpu.threads.blocks(cost, out, cols, [tokens, cols], scratch, |scratch, [first, _], mut out| {
            let [q, k, v] = sequences[first / tokens];
            attention::attention(&alone, q, held(k), held(v), attention, scratch, out.whole());
        });
        Ok(())
    })
}
