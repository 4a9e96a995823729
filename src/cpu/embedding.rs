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
    let cols = out.len().clamp(1, 1 << 14);
    cpu.threads.rows(1, out, cols, |first, out| {
        cpu.isa.run(Convert { from: elements.from(first * cols), dtype: elements.dtype, out });
    });
}
