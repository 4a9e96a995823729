//! Rows of a stored table, converted to `f32`.
#![forbid(unsafe_code)]

use super::Cpu;
use super::mat::{Convert, Elements};

/// `out[i] = table[ids[i]]` for ids that were checked; `out` has `cols` columns.
pub(super) fn embedding(cpu: &Cpu, table: Elements, ids: &[u32], cols: usize, out: &mut [f32]) {
    if cols == 0 {
        return;
    }
    for (out, &id) in out.chunks_exact_mut(cols).zip(ids) {
        cpu.isa.run(Convert { from: table.from(id as usize * cols), dtype: table.dtype, out });
    }
}

/// All elements in order.
pub(super) fn read(cpu: &Cpu, elements: Elements, out: &mut [f32]) {
    /// Elements of one piece of work.
    const PIECE: usize = 1 << 14;
    let len = out.len();
    cpu.threads.blocks(len, out, len, [1, PIECE], &mut [], |_, [_, first], mut out| {
        cpu.isa.run(Convert { from: elements.from(first), dtype: elements.dtype, out: out.row(0) });
    });
}
