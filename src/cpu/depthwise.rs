//! Depthwise convolution: vectors run over channels, one chain of multiply-adds over the taps inside the map.
#![forbid(unsafe_code)]

use super::Cpu;
use super::blocks::Block;
use super::conv2d::Windows;
use super::finish::Finish;
use super::isa::Op;
use super::lanes::Lanes;
use super::mat::Elements;
use crate::arena::Room;

/// Elements of scratch that [`depthwise`] takes: the filters twice, and for every worker the taps of a cell.
pub(super) fn scratch(cpu: &Cpu, taps: usize, channels: usize) -> usize {
    taps.saturating_mul(channels).saturating_mul(2).saturating_add(cpu.threads.workers() * 2 * taps)
}

/// Depthwise convolution of checked operands into `out [output cells, channels]`.
pub(super) fn depthwise(
    cpu: &Cpu,
    windows: &Windows<'_>,
    weight: Elements,
    finish: &Finish,
    mut room: Room,
    out: &mut [f32],
) {
    let channels = windows.x.cols;
    let taps = windows.kernel.cells();
    // The filters as [tap][channel].
    let stored = room.elements(weight, cpu.isa);
    let filters = room.take(stored.len());
    for (channel, filter) in stored.chunks_exact(taps.max(1)).enumerate() {
        for (tap, &weight) in filter.iter().enumerate() {
            filters[tap * channels + channel] = weight;
        }
    }
    let filters = &*filters;
    cpu.threads.rows_with(taps + 8, out, channels, room.rest(), |scratch, first, out| {
        cpu.isa.run(Run { windows, filters, first, scratch, out: &mut *out });
        finish.block(cpu.isa, [first, 0], &mut Block::of(out, channels));
    });
}

struct Run<'a> {
    windows: &'a Windows<'a>,
    filters: &'a [f32],
    first: usize,
    scratch: &'a mut [f32],
    out: &'a mut [f32],
}

impl Op for Run<'_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Run { windows, filters, first, scratch, out } = self;
        let channels = windows.x.cols;
        let kernel = windows.kernel;
        // Cell and tap of every filter element that lies in the map.
        let taps: &mut [[u32; 2]] = bytemuck::cast_slice_mut(&mut scratch[..2 * kernel.cells()]);
        for (i, out) in out.chunks_exact_mut(channels).enumerate() {
            let mut count = 0;
            for y in 0..kernel.height {
                for x in 0..kernel.width {
                    if let Some(cell) = windows.cell(first + i, y, x) {
                        taps[count] = [cell as u32, (y * kernel.width + x) as u32];
                        count += 1;
                    }
                }
            }
            let taps = taps[..count].iter().map(|&[cell, tap]| {
                (windows.x.row(cell as usize), &filters[tap as usize * channels..][..channels])
            });
            let whole = channels / L::N * L::N;
            for at in (0..whole).step_by(L::N) {
                let mut sum = lanes.splat(0.0);
                for (x, filter) in taps.clone() {
                    sum = lanes.mul_add(lanes.load(&x[at..]), lanes.load(&filter[at..]), sum);
                }
                lanes.store(sum, &mut out[at..]);
            }
            if whole < channels {
                let mut sum = lanes.splat(0.0);
                for (x, filter) in taps.clone() {
                    let (x, filter) = (lanes.load_partial(&x[whole..]), lanes.load_partial(&filter[whole..]));
                    sum = lanes.mul_add(x, filter, sum);
                }
                lanes.store_partial(sum, &mut out[whole..]);
            }
        }
    }
}
