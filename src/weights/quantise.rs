//! From numbers to the integers of a quantised matrix and back.
#![forbid(unsafe_code)]

use alloc::vec::Vec;

use half::f16;

use super::{GROUP, Scheme};

/// The integers of a matrix of rows of `k` numbers, and its scales.
#[derive(Clone, Debug, PartialEq)]
pub struct Integers {
    /// `X.weight`, as it is stored.
    pub bytes: Vec<u8>,
    /// `X.weight_scale`; those of [`Scheme::Int4`] can be stored in f16 without loss.
    pub scales: Vec<f32>,
}

/// Rounds the numbers of a matrix of rows of `k` elements to the nearest of its integers. With [`Scheme::Int4`] the
/// caller sees to it that [`GROUP`] divides `k`; what is left over is dropped.
///
/// `Int8`: the scale is the largest magnitude of a row over 127. `Int4`: the scale is the element of largest magnitude of a
/// group over -8 (so that it is met exactly, whichever sign it has), rounded to f16.
pub fn quantise(numbers: &[f32], k: usize, scheme: Scheme) -> Integers {
    let mut integers = Integers { bytes: Vec::new(), scales: Vec::new() };
    for row in numbers.chunks_exact(k.max(1)) {
        match scheme {
            Scheme::Int8 => {
                let scale = row.iter().fold(0.0f32, |most, x| most.max(x.abs())) / 127.0;
                let inverse = inverse(scale);
                let round = |x: &f32| libm::rintf(x * inverse).clamp(-127.0, 127.0) as i8 as u8;
                integers.scales.push(scale);
                integers.bytes.extend(row.iter().map(round));
            }
            Scheme::Int4 => {
                for group in row.chunks_exact(GROUP) {
                    let largest = |most: f32, &x: &f32| if x.abs() > most.abs() { x } else { most };
                    let scale = f16::from_f32(group.iter().fold(0.0, largest) / -8.0).to_f32();
                    let inverse = inverse(scale);
                    let round = |x: f32| (libm::rintf(x * inverse).clamp(-8.0, 7.0) + 8.0) as u8;
                    integers.scales.push(scale);
                    let pairs = group.as_chunks::<2>().0.iter();
                    integers.bytes.extend(pairs.map(|&[low, high]| round(low) | round(high) << 4));
                }
            }
        }
    }
    integers
}

/// `1 / scale`, 0 where that is not finite.
fn inverse(scale: f32) -> f32 {
    Some(1.0 / scale).filter(|inverse| inverse.is_finite()).unwrap_or(0.0)
}

/// The numbers that a row's integers stand for. `scales` are the row's own.
pub fn dequantise(bytes: &[u8], scales: &[f32], scheme: Scheme, out: &mut [f32]) {
    match scheme {
        Scheme::Int8 => {
            let scale = scales.first().copied().unwrap_or(0.0);
            out.iter_mut().zip(bytes).for_each(|(out, &byte)| *out = scale * f32::from(byte as i8));
        }
        Scheme::Int4 => {
            let groups = out.chunks_mut(GROUP).zip(bytes.chunks(GROUP / 2)).zip(scales);
            for ((out, bytes), scale) in groups {
                for (pair, byte) in out.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
                    *pair = [byte & 15, byte >> 4].map(|nibble| scale * (f32::from(nibble) - 8.0));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::uniform;
    use alloc::vec;

    #[test]
    fn what_comes_back_is_within_half_a_step() {
        for (scheme, steps) in [(Scheme::Int8, 127.0), (Scheme::Int4, 8.0)] {
            let (n, k) = (5, 96);
            let numbers = uniform(n * k, 1);
            let integers = quantise(&numbers, k, scheme);
            assert_eq!(integers.bytes.len(), n * scheme.row_bytes(k));
            assert_eq!(integers.scales.len(), n * scheme.row_scales(k));
            let scales = integers.scales.chunks_exact(scheme.row_scales(k));
            let rows = integers.bytes.chunks_exact(scheme.row_bytes(k)).zip(scales);
            for (row, (bytes, scales)) in numbers.chunks_exact(k).zip(rows) {
                let mut back = vec![f32::NAN; k];
                dequantise(bytes, scales, scheme, &mut back);
                for (x, y) in row.iter().zip(&back) {
                    // The far end of a group of sixteen steps has seven on its other side: a whole step there.
                    let step = if scheme == Scheme::Int4 { 1.01 } else { 0.501 };
                    assert!((x - y).abs() <= step / steps, "{scheme:?}: {x} came back as {y}");
                }
                let error: f32 = row.iter().zip(&back).map(|(x, y)| (x - y).powi(2)).sum();
                let size: f32 = row.iter().map(|x| x * x).sum();
                assert!((error / size).sqrt() < 0.75 / steps, "{scheme:?}: {}", (error / size).sqrt());
            }
        }
    }

    #[test]
    fn zeros_and_tiny_numbers_give_zeros() {
        for scheme in [Scheme::Int8, Scheme::Int4] {
            for x in [0.0, 1e-42] {
                let integers = quantise(&[x; 64], 64, scheme);
                let mut back = [f32::NAN; 64];
                dequantise(&integers.bytes, &integers.scales, scheme, &mut back);
                assert!(back.iter().all(|y| y.abs() <= 2.0 * x), "{scheme:?} {x}: {:?}", &back[..2]);
            }
        }
    }
}
