//! What a cache of keys and values makes of the numbers that it is given.
#![forbid(unsafe_code)]

use alloc::vec;
use alloc::vec::Vec;

use half::f16;

use super::SMALLEST;
use crate::backend::CacheType;

/// The numbers that a cache of `kind` stands for after rows of heads of `d` numbers each were written to it: the rounding is
/// that of [`CacheType`], in `f32`, and so is the product of an integer and its scale.
pub fn cached(x: &[f32], d: usize, kind: CacheType) -> Vec<f32> {
    match kind {
        CacheType::F32 => x.to_vec(),
        CacheType::F16 => x.iter().map(|&x| f16::from_f32(x).to_f32()).collect(),
        CacheType::Int8 => x.chunks(d.max(1)).flat_map(eight_bits).collect(),
    }
}

/// One head in eight bits and back.
fn eight_bits(head: &[f32]) -> Vec<f32> {
    let largest = head.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    if head.iter().any(|x| !x.is_finite()) {
        return vec![f32::NAN; head.len()];
    }
    if largest < SMALLEST {
        return vec![0.0; head.len()];
    }
    let (scale, inverse) = (largest / 127.0, 127.0 / largest);
    head.iter().map(|x| scale * libm::rintf(x * inverse)).collect()
}
