//! Depthwise convolution: vectors run over channels, one chain of multiply-adds over the taps inside the map.
#![forbid(unsafe_code)]

use alloc::vec;
use alloc::vec::Vec;

use super::Cpu;
use super::conv2d::Windows;
use super::finish::Finish;
use super::isa::Op;
use super::lanes::Lanes;
use super::mat::Elements;

/// Depthwise convolution of checked operands into `out [output cells, channels]`.
pub(super) fn depthwise(
    cpu: &Cpu,
    windows: &Windows<'_>,
    weight: Elements,
    finish: &Finish,
    out: &mut [f32],
) {
    let channels = windows.x.cols;
    let taps = windows.kernel.cells();
    // The filters as [tap][channel].
    let stored = weight.to_vec(cpu.isa);
    let mut filters = vec![0.0; stored.len()];
    for (channel, filter) in stored.chunks_exact(taps.max(1)).enumerate() {
        for (tap, &weight) in filter.iter().enumerate() {
            filters[tap * channels + channel] = weight;
        }
    }
    let filters = &filters;
    cpu.threads.rows(taps + 8, out, channels, |first, out| {
        cpu.isa.run(Run { windows, filters, first, finish, out });
    });
}

struct Run<'a> {
    windows: &'a Windows<'a>,
    filters: &'a [f32],
    first: usize,
    finish: &'a Finish<'a>,
    out: &'a mut [f32],
}

impl Op for Run<'_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Run { windows, filters, first, finish, out } = self;
        let channels = windows.x.cols;
        let kernel = windows.kernel;
        let mut taps: Vec<(&[f32], &[f32])> = Vec::with_capacity(kernel.cells());
        for (i, out) in out.chunks_exact_mut(channels).enumerate() {
            taps.clear();
            for y in 0..kernel.height {
                for x in 0..kernel.width {
                    if let Some(cell) = windows.cell(first + i, y, x) {
                        let filter = &filters[(y * kernel.width + x) * channels..][..channels];
                        taps.push((windows.x.row(cell), filter));
                    }
                }
            }
            let whole = channels / L::N * L::N;
            for at in (0..whole).step_by(L::N) {
                let mut sum = lanes.splat(0.0);
                for (x, filter) in &taps {
                    sum = lanes.mul_add(lanes.load(&x[at..]), lanes.load(&filter[at..]), sum);
                }
                lanes.store(sum, &mut out[at..]);
            }
            if whole < channels {
                let mut sum = lanes.splat(0.0);
                for (x, filter) in &taps {
                    let (x, filter) = (lanes.load_partial(&x[whole..]), lanes.load_partial(&filter[whole..]));
                    sum = lanes.mul_add(x, filter, sum);
                }
                lanes.store_partial(sum, &mut out[whole..]);
            }
            finish.apply(lanes, first + i, 0, out);
        }
    }
}
