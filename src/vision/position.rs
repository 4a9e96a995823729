//! Learned positions, resampled to another grid where the configuration allows it.
#![forbid(unsafe_code)]

use alloc::vec;
use alloc::vec::Vec;

use super::config::Resampling;
use crate::backend::{Backend, Grid, Matrix, View};
use crate::checked::Size;
use crate::error::Result;

/// The positions `table [from.cells, channels]` at the cells of `to`.
pub(crate) fn resample<B: Backend>(
    backend: &B,
    table: View<B>,
    from: Grid,
    to: Grid,
    resampling: Resampling,
) -> Result<Matrix<B>> {
    let antialias = resampling == Resampling::BicubicAntialias;
    let channels = table.cols();
    let samples = backend.download(table)?;
    let tall = mix(&samples, &weights(from.height, to.height, antialias), from.width * channels);
    let wide = weights(from.width, to.width, antialias);
    let mut out = Vec::with_capacity(Size::product(&[to.height, to.width, channels])?.get());
    for row in tall.chunks_exact((from.width * channels).max(1)) {
        out.extend(mix(row, &wide, channels));
    }
    backend.upload(to.cells(), channels, &out)
}

/// `out[i] = sum_j weights[i][j] * samples[j]`, every sample a run of `length` numbers.
fn mix(samples: &[f32], weights: &[Vec<f64>], length: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(weights.len().saturating_mul(length));
    for line in weights {
        let mut sum = vec![0.0; length];
        for (&weight, sample) in line.iter().zip(samples.chunks_exact(length.max(1))) {
            if weight != 0.0 {
                sum.iter_mut().zip(sample).for_each(|(sum, &x)| *sum += weight * f64::from(x));
            }
        }
        out.extend(sum.iter().map(|&sum| sum as f32));
    }
    out
}

/// Weights of `from` samples in each of `to` outputs of a line, by cubic convolution at half-pixel centres: with
/// `antialias` a = -0.5, widened by the scale when the line shrinks, samples outside left out and the weights
/// normalised; otherwise a = -0.75 and samples outside are the nearest ones (PyTorch's `interpolate`).
fn weights(from: usize, to: usize, antialias: bool) -> Vec<Vec<f64>> {
    let scale = from as f64 / to.max(1) as f64;
    let support = if antialias { scale.max(1.0) } else { 1.0 };
    let a = if antialias { -0.5 } else { -0.75 };
    let last = from.saturating_sub(1) as isize;
    let line = |output: usize| {
        let centre = (output as f64 + 0.5) * scale - 0.5;
        let mut line = vec![0.0; from];
        let first = libm::floor(centre - 2.0 * support) as isize;
        let end = libm::ceil(centre + 2.0 * support) as isize;
        for index in first..=end {
            let weight = cubic((index as f64 - centre) / support, a);
            let inside = (0..=last).contains(&index);
            if antialias && !inside {
                continue;
            }
            if let Some(slot) = line.get_mut(index.clamp(0, last.max(0)) as usize) {
                *slot += weight;
            }
        }
        let sum: f64 = line.iter().sum();
        if antialias && sum != 0.0 {
            line.iter_mut().for_each(|weight| *weight /= sum);
        }
        line
    };
    (0..to).map(line).collect()
}

/// Keys' cubic convolution kernel.
fn cubic(x: f64, a: f64) -> f64 {
    let x = x.abs();
    if x < 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * a
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_sum_to_one_and_keep_an_equal_grid() {
        for (from, to) in [(4, 4), (4, 7), (7, 3), (1, 5), (16, 5)] {
            for antialias in [false, true] {
                for line in weights(from, to, antialias) {
                    assert!((line.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{from} {to} {antialias}");
                }
            }
        }
        for (output, line) in weights(5, 5, true).iter().enumerate() {
            assert!((line[output] - 1.0).abs() < 1e-12);
        }
    }
}
