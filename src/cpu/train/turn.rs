//! Blocks turned on their side: columns become left rows of the register tile.
#![forbid(unsafe_code)]

use super::super::lanes::{K_BLOCK, Lanes};

/// `to[col * K_BLOCK + row]` from `rows` rows of `cols` numbers, `stride` bytes apart in `from`; at most [`K_BLOCK`] rows. `to`
/// has `cols * K_BLOCK` elements, of which those past the rows hold anything afterwards; `room` has `cols * PANEL`.
#[inline(always)]
pub(super) fn turn<L: Lanes>(
    lanes: L,
    (from, stride): (&[u8], usize),
    [rows, cols]: [usize; 2],
    room: &mut [f32],
    to: &mut [f32],
) {
    for first in (0..rows).step_by(L::PANEL) {
        let from = from.get(first * stride..).unwrap_or(&[]);
        lanes.pack(from, stride, L::PANEL.min(rows - first), cols, room);
        let turned = room.chunks_exact(L::PANEL).take(cols);
        for (cells, to) in turned.zip(to.chunks_exact_mut(K_BLOCK)) {
            // A call of `memmove` for so few costs more than the copy.
            let to = to[first..first + L::PANEL].chunks_exact_mut(L::N);
            cells.chunks_exact(L::N).zip(to).for_each(|(from, to)| lanes.store(lanes.load(from), to));
        }
    }
}
