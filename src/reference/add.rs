//! Sum with repetition: `out[i] = a[i] + b[i mod len b]`.
#![forbid(unsafe_code)]

use alloc::vec::Vec;

use super::Tolerance;

/// One rounding.
pub const TOLERANCE: Tolerance = Tolerance::EXACT;

/// `b` repeated over `a`; the length of `b` divides that of `a`.
pub fn add(a: &[f32], b: &[f32]) -> Vec<f64> {
    a.iter().zip(b.iter().cycle()).map(|(&a, &b)| f64::from(a) + f64::from(b)).collect()
}
